// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "sync/tree.h"

/* What the tree's files know of each other.
 *
 * Lock order: nothing is held while a system call on the tree runs. `dirs_lock` and `changes_lock` are innermost, the
 * index's own mutex too: an index transaction of ours begins after the system calls of a change are done. Between them
 * index and disk are at odds; `changing` says so, and a reader who stumbles over it waits for the end and looks again
 * (nf_tree_unsettled()). */

#define NF_FID_HEX_LEN 16
/* A zero-terminated name on the stack. */
typedef struct
{
  char str[NF_NAME_LEN_MAX + 1];
} NfTreeName;

struct NfTreeDir
{
  NfFid fid;
  int fd;
  guint refs;      /* guarded by dirs_lock; the cache's own is one */
  gboolean cached; /* guarded by dirs_lock */
  GList link;
};

struct NfTree
{
  char *path;
  NfTreeOptions options;
  NfIndex *index;
  int lock_fd;
  int root_fd;
  int hidden_fd;
  int quarantine_fd;
  guint32 dev_major;
  guint32 dev_minor;

  /* Not in the cache and never closed: the root and, by NfPlace, the hidden directories. */
  NfTreeDir root_dir;
  NfTreeDir place_dirs[NF_PLACE_ORPHANS + 1];

  pthread_mutex_t dirs_lock;
  GHashTable *dirs; /* by fid; guarded by dirs_lock */
  GQueue lru;       /* the most recently used first; guarded by dirs_lock */

  pthread_mutex_t changes_lock;
  pthread_cond_t changes_cond;
  guint changing;    /* guarded by changes_lock */
  guint64 n_changes; /* guarded by changes_lock */
  guint64 serial;    /* atomic: for names in limbo that need only be unique */
};

/* What statx tells, and whose it is. */
typedef struct
{
  NfIdent ident;
  NfAttr attr; /* as on disk, without fid */
  guint32 type;
} NfTreeStat;

/* tree-dir.c */
void nf_tree_fid_hex (NfFid fid, NfTreeName *ret_name);
/* The fid that a name in a hidden directory stands for; NF_FID_NONE if it stands for none. */
NfFid nf_tree_parse_hex (const char *name);
/* A single component that may be looked up: -ENAMETOOLONG, -EINVAL; the hidden directory isn't there (-ENOENT). */
int nf_tree_name (NfFid parent, NfSlice name, NfTreeName *ret_name);
/* As openat2(2), within the share: one component or a path below DIR_FD, with O_CLOEXEC and O_NOFOLLOW. */
int nf_tree_openat (int dir_fd, const char *path, int flags);
/* statx of NAME in DIR_FD ("" for DIR_FD itself), not followed. -EXDEV if something is mounted there. */
int nf_tree_statx (NfTree *tree, int dir_fd, const char *name, NfTreeStat *ret_stat);
gboolean nf_tree_ident_equal (NfIdent a, NfIdent b);
/* Directory FID if its descriptor is cached, to be put back; else NULL. */
NfTreeDir *nf_tree_dir_cached (NfTree *tree, NfFid fid);
/* Where OBJECT is: a directory to be put back, and the name in it. -ESTALE if nowhere. */
int nf_tree_locate (NfTree *tree, const NfObject *object, NfTreeDir **ret_dir,
                    NfTreeName *ret_name);
/* Disk and index may be at odds while names change. Whoever finds them so looks again if that may have been why. */
typedef struct
{
  guint64 changes;
  guint64 commits;
} NfTreeMoment;
NfTreeMoment nf_tree_moment (NfTree *tree);
/* Waits for the changes that are under way. TRUE if there were any since *MOMENT, which is now. */
gboolean nf_tree_unsettled (NfTree *tree, NfTreeMoment *moment);
/* As nf_index_find(), for an object just seen on disk. */
gboolean nf_tree_find (NfTree *tree, NfIdent ident, NfObject *ret_object);
void nf_tree_dirs_clear (NfTree *tree);

/* tree-read.c */
/* Finds FID in the index and on the disk and calls FUNC with what was found, again if names changed meanwhile and FUNC
 * found something else there (-ENOENT, -ESTALE, …). FUNC must verify the identity where that matters. */
typedef int (*NfTreeObjectFunc) (NfTree *tree, const NfObject *object, int dir_fd, const char *name,
                                 gpointer data);
int nf_tree_with_object (NfTree *tree, NfFid fid, NfTreeObjectFunc func, gpointer data);
/* An O_PATH descriptor of OBJECT at (DIR_FD, NAME), verified. */
int nf_tree_open_verified (NfTree *tree, const NfObject *object, int dir_fd, const char *name,
                           int flags, NfTreeStat *ret_stat);
/* Lays what is recorded of OBJECT over ATTR. */
void nf_tree_merge (NfTree *tree, const NfObject *object, NfAttr *attr);

/* tree-readdir.c: adds the names in directory DIR_FD, read from its beginning, MAX at most. */
int nf_tree_list_names (int dir_fd, guint max, GPtrArray *names);

/* tree-attr.c: attributes, set where they can be, else recorded. */
#define NF_TREE_RDEV (1u << 31)
typedef struct
{
  guint32 mask; /* NF_SET_MODE, NF_SET_UID, NF_SET_GID, NF_TREE_RDEV */
  guint32 mode; /* permission and special bits */
  guint32 uid;
  guint32 gid;
  guint64 rdev;
} NfTreeRecorded;
/* What the attributes are set of. */
typedef struct
{
  int fd;
  gboolean is_path;       /* an O_PATH descriptor */
  guint32 type;           /* on disk */
  const NfTreeStat *stat; /* before; NULL if unknown */
  NfTreeRecorded recorded;
  gboolean changed; /* `recorded` must be stored */
} NfTreeTarget;
void nf_tree_recorded_load (NfTree *tree, const NfObject *object, NfTreeRecorded *ret_recorded);
int nf_tree_recorded_store (NfTree *tree, NfFid fid, const NfTreeRecorded *recorded);
int nf_tree_apply_attr (NfTree *tree, NfTreeTarget *target, guint32 mask, const NfAttr *attr);
/* The mode that an object gets on disk for MODE: in personal mode the daemon must be able to get at it, and bits that
 * would act as the daemon's own user stay off. */
guint32 nf_tree_disk_mode (NfTree *tree, guint32 type, guint32 mode);
/* A path to what FD is, for calls that take no O_PATH descriptor. */
typedef struct
{
  char str[32];
} NfTreeProcPath;
void nf_tree_proc_path (int fd, NfTreeProcPath *ret_path);
/* RC is a refusal by the filesystem or for want of privilege, after which an attribute is recorded. */
gboolean nf_tree_is_refusal (int rc);

/* tree-stage.c: an object made in staging. */
typedef struct
{
  NfObject object; /* place NF_PLACE_STAGING */
  NfTreeRecorded recorded;
  int fd; /* a file's, for reading and writing, the caller's to close; else -1 */
} NfTreeStaged;
/* -EEXIST if FID is here already, -EINVAL if no object can have it. */
int nf_tree_may_stage (NfTree *tree, NfFid fid);
/* Makes it on disk only; the index is the caller's. */
int nf_tree_stage_on_disk (NfTree *tree, const NfAttr *attr, NfSlice target,
                           NfTreeStaged *ret_staged);
/* Enters it, within a transaction. */
int nf_tree_enter_staged (NfTree *tree, const NfTreeStaged *staged);

/* tree-names.c */
static inline int
nf_tree_place_fd (NfTree *tree, NfPlace place)
{
  return tree->place_dirs[place].fd;
}
/* How many names OBJECT has besides (PARENT, NAME). */
guint32 nf_tree_other_names (NfTree *tree, const NfObject *object, NfFid parent, NfSlice name);
/* Within a transaction: FID is at PLACE; it loses a name and is at PLACE if that was the last; it loses all. */
int nf_tree_put_place (NfTree *tree, NfFid fid, NfPlace place);
int nf_tree_lose_name (NfTree *tree, NfFid fid, NfFid parent, NfSlice name, NfPlace place);
int nf_tree_drop_all_names (NfTree *tree, NfFid fid);
/* Commits if RC is 0, else aborts. Returns RC or the commit's failure. */
int nf_tree_end_transaction (NfTree *tree, int rc);
/* Transactions of their own: OBJECT has lost or got a name. */
int nf_tree_follow_loss (NfTree *tree, const NfObject *object, NfFid parent, NfSlice name,
                         NfPlace place);
int nf_tree_follow_gain (NfTree *tree, const NfObject *object, NfFid parent, NfSlice name);

/* tree-bury.c */
/* As renameat(), but what TO_NAME may be is removed first. For the hidden directories. */
int nf_tree_rename_hidden (NfTree *tree, int from_fd, const char *from, int to_fd, const char *to);
/* The same for a second link to a file. */
int nf_tree_link_hidden (NfTree *tree, int from_fd, const char *from, int to_fd, const char *to);
/* Removes NAME in DIR_FD with all that is in it. Directories are dropped from the index, and files below as they lose
 * their last name; not a file NAME itself. */
int nf_tree_destroy (NfTree *tree, int dir_fd, const char *name);

/* FID lies at PLACE although the index says otherwise, because of a crash between the two. Settled, it says so. */
gboolean nf_tree_is_stranded (NfTree *tree, NfPlace place, NfFid fid);
int nf_tree_settle_stranded (NfTree *tree, NfPlace place, NfFid fid);

/* tree-quarantine.c: as nf_tree_quarantine(), with the parent at hand. */
int nf_tree_quarantine_at (NfTree *tree, NfTreeDir *dir, const NfTreeName *name, const char *why,
                           char **ret_where);
