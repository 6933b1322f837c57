// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <pthread.h>

#include <lmdb.h>

#include "sync/index.h"
#include "sync/map-guard.h"

/* What index.c, index-names.c and index-extra.c share. Keys that are numbers and the values' structs are in the
 * machine's own layout: the file never leaves it. */

struct NfIndex
{
  MDB_env *env;
  MDB_dbi objects;  /* fid → StoredObject */
  MDB_dbi idents;   /* ino → StoredIdent */
  MDB_dbi names;    /* fid → parent and name, many */
  MDB_dbi extras;   /* fid (big-endian) and key → value */
  MDB_dbi suspects; /* fid → nothing */
  MDB_dbi meta;     /* key → value */

  pthread_mutex_t lock; /* recursive; guards what follows; held between begin and commit */
  const void *writer;   /* atomic: whose thread is between begin and commit; NULL if none */
  MDB_txn *write;       /* that thread's */
  guint depth;
  gboolean failed;
  gboolean mapped; /* LMDB stores through its map; set at opening, as `guard` is */
  NfMapGuard *guard;
  guint64 disk_end;    /* the disk has room for the file up to here */
  guint64 used;        /* bytes of the file when the transaction began */
  guint64 n_changes;   /* since then, */
  guint64 value_bytes; /* and of values that needn't fit into a page */
  NfFid next_fid;
  NfFid fid_limit; /* reserved up to here */

  pthread_mutex_t read_lock; /* after `lock`; guards what follows */
  MDB_txn *read;
  gboolean read_live;   /* `read` shows a commit, which it keeps LMDB from reusing the pages of */
  guint64 read_commits; /* n_commits then */

  guint64 n_suspects; /* atomic */
  guint64 n_commits;  /* atomic; counted when the commit is done */

  pthread_mutex_t copy_lock; /* guards what follows; before `lock` */
  gboolean copied;           /* since opening */
  guint64 copied_commits;    /* n_commits then */
  gboolean restored;         /* set at opening */
  gboolean open;             /* likewise */
  char *path;
};

typedef struct
{
  guint64 ino;
  gint64 btime;
  guint32 mode;
  guint32 suspect;
  guint32 n_names;
  guint16 place;
  guint16 extra;
} StoredObject;

typedef struct
{
  gint64 btime;
  guint64 fid;
} StoredIdent;

/* LMDB's errors as -errno. */
int nf_index_error (int rc);

/* index-room.c. Opens LMDB's environment, or ends it and gives back what was only taken ahead. */
int nf_index_open_file (NfIndex *index);
void nf_index_close_file (NfIndex *index);
/* Of the file, by pages that are in use or once were; 0: it can't be told. */
guint64 nf_index_bytes_used (NfIndex *index);
/* Before a transaction begins: there is room for one of an op. With `lock`. -ENOSPC; -EIO: the disk has refused a store. */
int nf_index_keep_room (NfIndex *index);
/* In a transaction, before another change, or for a value of VALUE_LEN bytes: there is room for that, too. -ENOSPC. */
int nf_index_need_room (NfIndex *index, gsize value_len);

static inline MDB_val
index_key (const guint64 *number)
{
  return (MDB_val){ sizeof *number, (void *)number };
}

/* A transaction to read in until nf_index_read_end(): the thread's own, if it is between begin and commit, else one that
 * shows the last commit. NULL (and nothing to end) if there is none to be had, which only a damaged file or a lack of
 * memory causes. */
MDB_txn *nf_index_read_begin (NfIndex *index);
void nf_index_read_end (NfIndex *index);
/* Ends what nf_index_begin() began, RC being how it went: a failure of the caller's own making (-ENOENT, -EINVAL)
 * that changed nothing leaves an outer transaction valid. Returns RC or the commit's failure. */
int nf_index_finish (NfIndex *index, int rc);

int nf_index_load (NfIndex *index, MDB_txn *txn, NfFid fid, StoredObject *ret_stored);
int nf_index_store (NfIndex *index, NfFid fid, const StoredObject *stored);
/* Drops all recorded attributes of FID. */
int nf_index_drop_extras (NfIndex *index, NfFid fid);

/* index-safe.c. Before the file is opened: puts the safe copy in its place if the system went down meanwhile. */
int nf_index_make_safe (NfIndex *index);
/* When it is open: fids that were given after that copy are never given again. */
int nf_index_skip_lost_fids (NfIndex *index);
void nf_index_note_closed (NfIndex *index);
/* Its last commit isn't wholly in the file. */
void nf_index_note_broken (NfIndex *index);
