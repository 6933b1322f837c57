// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "net/proto.h"

/* The index of a share at one site: which backing inode is which fid, under which names, and what
 * of it is suspect. It is an LMDB database in the share's hidden directory. It survives kill -9 as
 * of the last commit (MDB_NOSYNC: the page cache does), and can be rebuilt from the tree and the
 * primary.
 *
 * Names of objects are kept as (parent fid, name), so that a fid can be resolved to a path from the
 * root; what is in a directory is asked of the directory itself.
 *
 * Thread: any. A change of several entries that must go together is put between nf_index_begin() and
 * nf_index_commit(); the thread that is between them reads what it wrote, others the last commit, without waiting. */

typedef struct NfIndex NfIndex;

/* Identity of a backing object: inode numbers are used again, so the birth time goes with it. */
typedef struct
{
  guint64 ino;
  gint64 btime; /* ns; 0 where the filesystem doesn't know */
} NfIdent;

/* What may differ from the primary's (DESIGN 1: suspect). */
enum
{
  NF_SUSPECT_NAMES = 1, /* which names a directory holds */
  NF_SUSPECT_ATTR = 2,  /* attributes and xattrs */
  NF_SUSPECT_DATA = 4,  /* content */
  NF_SUSPECT_TREE = 8,  /* with NAMES: everything below, too */
};

/* Where an object without a name lies in the hidden directory, under its fid in 16 hexadecimal digits. */
typedef enum
{
  NF_PLACE_NAMED = 0, /* at its names */
  NF_PLACE_STAGING = 1,
  NF_PLACE_LIMBO = 2,
  NF_PLACE_ORPHANS = 3,
} NfPlace;

/* Fids of objects are below this; what is above stands for directories that are in no share. */
#define NF_FID_LIMIT (G_GUINT64_CONSTANT (1) << 62)
#define NF_FID_STAGING (NF_FID_LIMIT + NF_PLACE_STAGING)
#define NF_FID_LIMBO (NF_FID_LIMIT + NF_PLACE_LIMBO)
#define NF_FID_ORPHANS (NF_FID_LIMIT + NF_PLACE_ORPHANS)

typedef struct
{
  NfFid fid;
  NfIdent ident;   /* ino 0: known, but not here */
  guint32 mode;    /* type bits only */
  guint32 suspect; /* NF_SUSPECT_* */
  NfPlace place;
  guint32 n_names;
  gboolean extra; /* has recorded attributes */
} NfObject;

/* Opens or creates the database file NAME in directory DIR (a path, may be /proc/self/fd/N/…). A
 * database that isn't ours or is damaged is an error. */
NfIndex *nf_index_open (const char *dir, const char *name, GError **error);
void nf_index_close (NfIndex *index);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (NfIndex, nf_index_close)

/* Begin and commit nest: only the outermost commit writes. An abort within makes it fail with -ECANCELED. */
int nf_index_begin (NfIndex *index);
int nf_index_commit (NfIndex *index); /* 0 or -errno; on failure nothing of it holds */
void nf_index_abort (NfIndex *index);
/* This thread is between begin and commit. */
gboolean nf_index_held (NfIndex *index);
/* Waits until a transaction that is under way in another thread has ended. For whoever found disk and index at odds,
 * and looks again. */
void nf_index_settle (NfIndex *index);
/* How many there were since opening. */
guint64 nf_index_commits (NfIndex *index);
/* Everything committed is durable afterwards if the index is closed in order. After a power cut it is as it was at some
 * sync before, at the first after opening or later (index-safe.c). Not between begin and commit. */
int nf_index_sync (NfIndex *index);
/* The same, but if a new copy is made for power cuts, FUNC is called between its making and its taking the place of the
 * former: what the index says of anything can so be brought to the disk before the copy counts. 0, -errno, or what FUNC
 * returned, with the former copy still in place. */
typedef int (*NfIndexBetween) (gpointer data);
int nf_index_sync_after (NfIndex *index, NfIndexBetween func, gpointer data);
/* Would a sync make a new copy now? Never waits. Thread: any. */
gboolean nf_index_sync_is_due (NfIndex *index);
/* The system went down while it was in use, and it is that copy. */
gboolean nf_index_is_restored (NfIndex *index);

/* A fid that was never given before, nor will be (ranges are reserved durably in blocks). */
int nf_index_mint (NfIndex *index, NfFid *ret_fid);
/* Says that FID is in use (a replica: so that it could be primary later). */
int nf_index_note_fid (NfIndex *index, NfFid fid);

/* All that were given so far, or noted, are below. */
NfFid nf_index_fid_limit (NfIndex *index);

gboolean nf_index_get (NfIndex *index, NfFid fid, NfObject *ret_object);
/* By identity; the fid, or NF_FID_NONE if unknown or if the inode's birth time differs. */
NfFid nf_index_by_ident (NfIndex *index, NfIdent ident);
/* Both in one: the object that has this identity. */
gboolean nf_index_find (NfIndex *index, NfIdent ident, NfObject *ret_object);
/* By inode number alone: for hints, never to be believed. */
gboolean nf_index_find_ino (NfIndex *index, guint64 ino, NfObject *ret_object);
/* Adds or changes an object (`n_names` and `extra` are ignored). The old identity's entry is dropped; another object
 * that was known by this identity is no longer here (ino 0). */
int nf_index_put (NfIndex *index, const NfObject *object);
/* Drops the object with its names, recorded attributes and suspicion. */
int nf_index_remove (NfIndex *index, NfFid fid);
int nf_index_set_suspect (NfIndex *index, NfFid fid, guint32 set, guint32 clear);

int nf_index_add_name (NfIndex *index, NfFid fid, NfFid parent, NfSlice name);
/* RET_LEFT: how many names remain. -ENOENT if it wasn't there. */
int nf_index_drop_name (NfIndex *index, NfFid fid, NfFid parent, NfSlice name, guint32 *ret_left);
/* The name of FID at FROM is at TO now. That it wasn't known at FROM, or is known at TO already, is no error. */
int nf_index_move_name (NfIndex *index, NfFid fid, NfFid from_parent, NfSlice from, NfFid to_parent,
                        NfSlice to);
typedef gboolean (*NfIndexNameFunc) (NfFid parent, NfSlice name, gpointer data);
/* Calls FUNC for each name of FID until it returns FALSE. FUNC must not call back into the index.
 */
void nf_index_names (NfIndex *index, NfFid fid, NfIndexNameFunc func, gpointer data);
/* The first name of FID into RET_NAME (NF_NAME_LEN_MAX + 1 bytes, zero-terminated). FALSE if it has none. */
gboolean nf_index_first_name (NfIndex *index, NfFid fid, NfFid *ret_parent, char *ret_name);
gboolean nf_index_has_name (NfIndex *index, NfFid fid, NfFid parent, NfSlice name);
/* The path of FID from the share's root without leading slash ("" for the root), by its first name.
 * NULL if it has none or hangs loose. May be longer than PATH_MAX. Owned by the caller. */
char *nf_index_path (NfIndex *index, NfFid fid);

/* Suspects in order of fid: the first with fid > AFTER. FALSE if there is none. */
gboolean nf_index_next_suspect (NfIndex *index, NfFid after, NfObject *ret_object);
guint64 nf_index_suspects (NfIndex *index); /* how many, as of the last commit; one atomic load */
guint64 nf_index_count (NfIndex *index);    /* objects */
/* All objects, by fid; as next_suspect. */
gboolean nf_index_next (NfIndex *index, NfFid after, NfObject *ret_object);
/* The highest fid; NF_FID_NONE if there is none. */
NfFid nf_index_last_fid (NfIndex *index);

/* Attributes that the backing filesystem can't hold (owner, device, setuid, xattrs), recorded
 * beside the object. KEY is free ("attr", "x:user.foo"). VALUE NULL-slice removes. */
int nf_index_set_extra (NfIndex *index, NfFid fid, const char *key, NfSlice value);
/* A copy, or NULL. */
GBytes *nf_index_get_extra (NfIndex *index, NfFid fid, const char *key);
/* Keys that begin with PREFIX; NULL-terminated, g_strfreev(). */
char **nf_index_list_extra (NfIndex *index, NfFid fid, const char *prefix);

/* Small facts of the share itself: "position", "epoch", "share", "boot" …; a slice with NULL data removes. Keys are
 * of printable characters. */
int nf_index_set_meta (NfIndex *index, const char *key, NfSlice value);
GBytes *nf_index_get_meta (NfIndex *index, const char *key);
