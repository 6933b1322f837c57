// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/index-private.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include <gio/gio.h>

/* Transactions. LMDB has one writer, and readers that see the last commit and wait for nobody. Writers take `lock` from
 * begin to commit. Readers share one read transaction under `read_lock`, which is never held during a write to the
 * disk: a lookup must not wait for a commit that the kernel throttles. It is renewed after a commit and otherwise just
 * used on, so a read costs the lock and the walk through the B-tree. Whoever is in a transaction reads in that.
 *
 * How the file is written, and that there is room for it: index-room.c. */

/* Fids are reserved in blocks, so that minting costs a commit only once in a block. */
#define FID_BLOCK 1024
#define FORMAT "nearfs index 1"
#define META_FIDS "\001fids"
#define META_FORMAT "\001format"

int
nf_index_error (int rc)
{
  if (rc >= 0)
    return -rc;
  switch (rc)
    {
    case MDB_NOTFOUND:
      return -ENOENT;
    case MDB_MAP_FULL:
      return -ENOSPC;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
      return -EUCLEAN;
    case MDB_KEYEXIST:
      return -EEXIST;
    default:
      return -EIO;
    }
}

static int
open_dbs (NfIndex *index, MDB_txn *txn)
{
  const struct
  {
    const char *name;
    unsigned flags;
    MDB_dbi *dbi;
  } dbs[] = {
    { "objects", MDB_INTEGERKEY, &index->objects },
    { "idents", MDB_INTEGERKEY, &index->idents },
    { "names", MDB_INTEGERKEY | MDB_DUPSORT, &index->names },
    { "extras", 0, &index->extras },
    { "suspects", MDB_INTEGERKEY, &index->suspects },
    { "meta", 0, &index->meta },
  };

  for (gsize i = 0; i < G_N_ELEMENTS (dbs); i++)
    {
      int rc = mdb_dbi_open (txn, dbs[i].name, dbs[i].flags | MDB_CREATE, dbs[i].dbi);

      if (rc != 0)
        return nf_index_error (rc);
    }
  return 0;
}

/* Marks a new file as ours, or sees that it is. */
static int
check_format (NfIndex *index, MDB_txn *txn)
{
  MDB_val key = { strlen (META_FORMAT), (void *)META_FORMAT };
  MDB_val value;
  int rc = mdb_get (txn, index->meta, &key, &value);

  if (rc == MDB_NOTFOUND)
    {
      value = (MDB_val){ strlen (FORMAT), (void *)FORMAT };
      return nf_index_error (mdb_put (txn, index->meta, &key, &value, 0));
    }
  if (rc != 0)
    return nf_index_error (rc);
  if (value.mv_size != strlen (FORMAT) || memcmp (value.mv_data, FORMAT, value.mv_size) != 0)
    return -EUCLEAN;
  return 0;
}

static NfFid
reserved_fids (NfIndex *index, MDB_txn *txn)
{
  MDB_val key = { strlen (META_FIDS), (void *)META_FIDS };
  MDB_val value;
  NfFid limit = NF_FID_ROOT + 1;

  if (mdb_get (txn, index->meta, &key, &value) == 0 && value.mv_size == sizeof limit)
    memcpy (&limit, value.mv_data, sizeof limit);
  return limit;
}

static int
set_up (NfIndex *index)
{
  MDB_txn *txn;
  int rc = mdb_txn_begin (index->env, NULL, 0, &txn);

  if (rc != 0)
    return nf_index_error (rc);
  rc = open_dbs (index, txn);
  if (rc == 0)
    rc = check_format (index, txn);
  if (rc == 0)
    {
      MDB_stat stat;

      index->next_fid = index->fid_limit = reserved_fids (index, txn);
      rc = nf_index_error (mdb_stat (txn, index->suspects, &stat));
      if (rc == 0)
        index->n_suspects = stat.ms_entries;
    }
  if (rc != 0)
    {
      mdb_txn_abort (txn);
      return rc;
    }
  return nf_index_error (mdb_txn_commit (txn));
}

NfIndex *
nf_index_open (const char *dir, const char *name, GError **error)
{
  g_autoptr (NfIndex) index = g_new0 (NfIndex, 1);
  pthread_mutexattr_t attr;
  int rc;

  pthread_mutexattr_init (&attr);
  pthread_mutexattr_settype (&attr, PTHREAD_MUTEX_RECURSIVE);
  pthread_mutex_init (&index->lock, &attr);
  pthread_mutexattr_destroy (&attr);
  pthread_mutex_init (&index->copy_lock, NULL);
  pthread_mutex_init (&index->read_lock, NULL);
  index->path = g_build_filename (dir, name, NULL);
  rc = nf_index_make_safe (index);
  if (rc == 0)
    rc = nf_index_open_file (index);
  if (rc == 0)
    rc = set_up (index);
  if (rc == 0)
    rc = nf_index_skip_lost_fids (index);
  if (rc == -EUCLEAN)
    g_set_error (error, G_IO_ERROR, G_IO_ERROR_FAILED,
                 "%s isn't an index of this version of nearfs, or is damaged", index->path);
  else if (rc != 0)
    g_set_error (error, G_IO_ERROR, g_io_error_from_errno (-rc), "Can't open the index %s: %s",
                 index->path, g_strerror (-rc));
  index->open = rc == 0;
  return rc == 0 ? g_steal_pointer (&index) : NULL;
}

void
nf_index_close (NfIndex *index)
{
  if (index == NULL)
    return;
  g_assert (index->depth == 0);
  if (index->read != NULL)
    mdb_txn_abort (index->read);
  if (index->env != NULL)
    {
      if (index->open && !nf_map_guard_is_broken (index->guard))
        nf_index_note_closed (index);
      nf_index_close_file (index);
    }
  pthread_mutex_destroy (&index->lock);
  pthread_mutex_destroy (&index->copy_lock);
  pthread_mutex_destroy (&index->read_lock);
  g_free (index->path);
  g_free (index);
}

/* What stands for this thread in `writer`. */
static const void *
me (void)
{
  static __thread char here;

  return &here;
}

/* An idle read transaction keeps pages from being used again. One in use is renewed soon. */
static void
drop_read (NfIndex *index)
{
  if (pthread_mutex_trylock (&index->read_lock) != 0)
    return;
  if (index->read_live)
    mdb_txn_reset (index->read);
  index->read_live = FALSE;
  pthread_mutex_unlock (&index->read_lock);
}

int
nf_index_begin (NfIndex *index)
{
  int rc;

  pthread_mutex_lock (&index->lock);
  if (index->depth > 0)
    {
      rc = nf_index_need_room (index, 0);
      if (rc == 0)
        {
          index->depth++;
          return 0;
        }
      index->failed = TRUE; /* whatever its caller makes of it: it isn't whole */
      pthread_mutex_unlock (&index->lock);
      return rc;
    }
  drop_read (index);
  rc = nf_index_keep_room (index);
  if (rc == 0)
    rc = nf_index_error (mdb_txn_begin (index->env, NULL, 0, &index->write));
  if (rc != 0)
    {
      pthread_mutex_unlock (&index->lock);
      return rc;
    }
  index->depth = 1;
  index->failed = FALSE;
  __atomic_store_n (&index->writer, me (), __ATOMIC_RELAXED);
  return 0;
}

/* What was minted stays minted, but the block may not have been recorded. */
static void
forget_reservation (NfIndex *index)
{
  index->fid_limit = index->next_fid;
}

/* RET_SUSPECTS: how many there are then. */
static int
commit (NfIndex *index, MDB_txn *txn, gsize *ret_suspects)
{
  MDB_stat stat;
  int rc = nf_map_guard_is_broken (index->guard) ? EIO : mdb_stat (txn, index->suspects, &stat);

  if (rc != 0)
    mdb_txn_abort (txn);
  else
    rc = mdb_txn_commit (txn);
  if (rc == 0 && nf_map_guard_is_broken (index->guard))
    {
      nf_index_note_broken (index);
      rc = EIO;
    }
  if (rc == 0)
    *ret_suspects = stat.ms_entries;
  return nf_index_error (rc);
}

int
nf_index_commit (NfIndex *index)
{
  MDB_txn *txn = index->write;
  gsize n_suspects = 0;
  int rc = -ECANCELED;

  g_assert (index->depth > 0);
  if (--index->depth > 0)
    {
      pthread_mutex_unlock (&index->lock);
      return 0;
    }
  index->write = NULL;
  __atomic_store_n (&index->writer, NULL, __ATOMIC_RELAXED);
  if (index->failed)
    mdb_txn_abort (txn);
  else
    rc = commit (index, txn, &n_suspects);
  if (rc == 0)
    {
      __atomic_store_n (&index->n_suspects, n_suspects, __ATOMIC_RELEASE);
      __atomic_add_fetch (&index->n_commits, 1, __ATOMIC_RELEASE);
    }
  else
    forget_reservation (index);
  pthread_mutex_unlock (&index->lock);
  return rc;
}

void
nf_index_abort (NfIndex *index)
{
  g_assert (index->depth > 0);
  if (--index->depth > 0)
    index->failed = TRUE;
  else
    {
      mdb_txn_abort (index->write);
      index->write = NULL;
      __atomic_store_n (&index->writer, NULL, __ATOMIC_RELAXED);
      forget_reservation (index);
    }
  pthread_mutex_unlock (&index->lock);
}

gboolean
nf_index_held (NfIndex *index)
{
  return __atomic_load_n (&index->writer, __ATOMIC_RELAXED) == me ();
}

void
nf_index_settle (NfIndex *index)
{
  pthread_mutex_lock (&index->lock);
  pthread_mutex_unlock (&index->lock);
}

guint64
nf_index_commits (NfIndex *index)
{
  return __atomic_load_n (&index->n_commits, __ATOMIC_ACQUIRE);
}

int
nf_index_finish (NfIndex *index, int rc)
{
  if (rc == 0 || (index->depth > 1 && (rc == -ENOENT || rc == -EINVAL)))
    {
      int committed = nf_index_commit (index);

      return rc != 0 ? rc : committed;
    }
  nf_index_abort (index);
  return rc;
}

/* With read_lock. The count is taken first: what is committed meanwhile is then only renewed for a second time. */
static int
renew_read (NfIndex *index)
{
  guint64 commits = nf_index_commits (index);
  int rc;

  if (index->read_live && index->read_commits == commits)
    return 0;
  if (index->read_live)
    mdb_txn_reset (index->read);
  if (index->read == NULL)
    rc = mdb_txn_begin (index->env, NULL, MDB_RDONLY, &index->read);
  else
    rc = mdb_txn_renew (index->read);
  index->read_live = rc == 0;
  index->read_commits = commits;
  return rc;
}

MDB_txn *
nf_index_read_begin (NfIndex *index)
{
  if (nf_index_held (index))
    return index->write;
  pthread_mutex_lock (&index->read_lock);
  if (renew_read (index) == 0)
    return index->read;
  pthread_mutex_unlock (&index->read_lock);
  return NULL;
}

void
nf_index_read_end (NfIndex *index)
{
  if (!nf_index_held (index))
    pthread_mutex_unlock (&index->read_lock);
}

/* Records that fids below LIMIT are given. Within a transaction. */
static int
reserve_fids (NfIndex *index, NfFid limit)
{
  MDB_val key = { strlen (META_FIDS), (void *)META_FIDS };
  MDB_val value = { sizeof limit, &limit };
  int rc;

  limit = MAX (limit, reserved_fids (index, index->write));
  rc = nf_index_error (mdb_put (index->write, index->meta, &key, &value, 0));
  if (rc == 0)
    index->fid_limit = limit;
  return rc;
}

int
nf_index_mint (NfIndex *index, NfFid *ret_fid)
{
  int rc = 0;

  pthread_mutex_lock (&index->lock);
  if (index->next_fid >= NF_FID_LIMIT - FID_BLOCK)
    rc = -EOVERFLOW;
  else if (index->next_fid >= index->fid_limit)
    {
      rc = nf_index_begin (index);
      if (rc == 0)
        rc = nf_index_finish (index, reserve_fids (index, index->next_fid + FID_BLOCK));
    }
  if (rc == 0)
    *ret_fid = index->next_fid++;
  pthread_mutex_unlock (&index->lock);
  return rc;
}

NfFid
nf_index_fid_limit (NfIndex *index)
{
  pthread_mutex_lock (&index->lock);
  NfFid limit = index->next_fid;
  pthread_mutex_unlock (&index->lock);
  return limit;
}

int
nf_index_note_fid (NfIndex *index, NfFid fid)
{
  int rc = 0;

  if (fid == NF_FID_NONE || fid >= NF_FID_LIMIT - FID_BLOCK)
    return -EINVAL;
  pthread_mutex_lock (&index->lock);
  if (fid >= index->fid_limit)
    {
      rc = nf_index_begin (index);
      if (rc == 0)
        rc = nf_index_finish (index, reserve_fids (index, fid + FID_BLOCK));
    }
  if (rc == 0 && fid >= index->next_fid)
    index->next_fid = fid + 1;
  pthread_mutex_unlock (&index->lock);
  return rc;
}

static MDB_val
meta_key (const char *key)
{
  return (MDB_val){ strlen (key), (void *)key };
}

int
nf_index_set_meta (NfIndex *index, const char *key, NfSlice value)
{
  MDB_val k = meta_key (key);
  MDB_val v = { value.len, (void *)value.data };
  int rc = nf_index_begin (index);

  if (rc != 0)
    return rc;
  if (value.data == NULL)
    {
      rc = mdb_del (index->write, index->meta, &k, NULL);
      if (rc == MDB_NOTFOUND)
        rc = 0;
    }
  else
    {
      rc = -nf_index_need_room (index, value.len);
      if (rc == 0)
        rc = mdb_put (index->write, index->meta, &k, &v, 0);
    }
  return nf_index_finish (index, nf_index_error (rc));
}

GBytes *
nf_index_get_meta (NfIndex *index, const char *key)
{
  MDB_val k = meta_key (key);
  MDB_val value;
  GBytes *bytes = NULL;
  MDB_txn *txn = nf_index_read_begin (index);

  if (txn == NULL)
    return NULL;
  if (mdb_get (txn, index->meta, &k, &value) == 0)
    bytes = g_bytes_new (value.mv_data, value.mv_size);
  nf_index_read_end (index);
  return bytes;
}
