// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/index-private.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

/* How the index's file is written, and room for it.
 *
 * LMDB writes a commit's pages with pwrite(2), or stores them through its map. A commit of one op is eight to a dozen pages
 * all over the file; as calls they were a fifth of all the time an op takes at its primary. But a store for which the disk
 * has no space raises SIGBUS, where pwrite() fails with ENOSPC and leaves the last commit as it was. So the map is used only
 * where space that was taken with fallocate(2) is there for whatever is written to it, again and again: on filesystems that
 * leave blocks where they are. And it is taken before anything is stored.
 *
 * Either way a commit that found no space would be too late, as what it stands for has been done on the disk by then. So a
 * transaction begins only with room for one of an op. A longer one takes more as it goes on: each change may dirty a path in
 * each of the trees, but no page is dirtied twice; so it is never much more than the file, and what new entries fill.
 *
 * A disk that refuses a store nevertheless is gone for the index (map-guard.h): what is committed is read on, and every
 * transaction fails with EIO until it is opened again.
 *
 * With the map the file is made as long as the map while it is open, as a sparse one; it ends where its pages end afterwards.
 */

/* Address space, not memory nor disk: so much that it needn't be grown in practice. */
#if GLIB_SIZEOF_VOID_P >= 8
#define MAP_SIZE_FIRST ((gsize)64 << 30)
/* Whoever copies the file of a running daemon and doesn't know holes copies as much: not more than needed. The copy for power
 * cuts keeps pages from being used again while it is made, so that the file grows fast meanwhile. */
#define MAP_SIZE_MAPPED ((gsize)1 << 30)
#define CAN_BE_MAPPED TRUE
#else
#define MAP_SIZE_FIRST ((gsize)512 << 20)
#define MAP_SIZE_MAPPED MAP_SIZE_FIRST
#define CAN_BE_MAPPED FALSE
#endif
#define MAP_TIMES_USED 16
/* Where address space is limited (ulimit -v). */
#define MAP_SIZE_SMALL ((gsize)256 << 20)

/* Taken on the disk ahead of the file's end; and how much of it a commit may need that is written. */
#define DISK_AHEAD (2 * 1024 * 1024)
#define DISK_COMMIT (256 * 1024)
/* A change by itself: a path of four pages in four trees. Of many: new entries, some of them on pages of their own. */
#define CHANGE_ALONE (16 * 4096)
#define CHANGE_OF_MANY 2048
/* And its share of the list of free pages: eight bytes for each. */
#define FREE_LIST_SHARE 256
/* LMDB 0.9.24: a header and 126 readers, 64 bytes each, rounded up to pages; and room to spare. */
#define LOCK_BYTES (16 * 1024)

/* ---- opening ---- */

/* Takes the bytes of FD from FROM to END. */
static int
allocate (int fd, guint64 from, guint64 end)
{
  int rc;

  while ((rc = fallocate (fd, FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(end - from))) != 0
         && errno == EINTR)
    ;
  if (rc == 0)
    return 0;
  return errno == EDQUOT ? -ENOSPC : -errno;
}

/* LMDB stores into its lock file through a map, whatever the flags: a full disk would raise SIGBUS. */
static int
take_lock_file (const char *index)
{
  g_autofree char *path = g_strconcat (index, "-lock", NULL);
  int fd = open (path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
  int rc = fd >= 0 ? allocate (fd, 0, LOCK_BYTES) : -errno;

  if (fd >= 0)
    (void)close (fd); /* nothing was written */
  return rc == -EOPNOTSUPP ? 0 : rc;
}

static int
open_env (NfIndex *index, gsize map_size, unsigned flags)
{
  int rc = mdb_env_create (&index->env);

  if (rc == 0)
    rc = mdb_env_set_maxdbs (index->env, 8);
  if (rc == 0)
    rc = mdb_env_set_mapsize (index->env, map_size);
  if (rc == 0)
    rc = mdb_env_open (index->env, index->path,
                       flags | MDB_NOSYNC | MDB_NOTLS | MDB_NOSUBDIR | MDB_NOMEMINIT, 0600);
  if (rc != 0 && index->env != NULL)
    {
      mdb_env_close (index->env);
      index->env = NULL;
    }
  return nf_index_error (rc);
}

/* Blocks of FD's filesystem stay where they are. */
static gboolean
overwrites_in_place (int fd)
{
  struct statfs fs;

  return fstatfs (fd, &fs) == 0
         && (fs.f_type == EXT4_SUPER_MAGIC || fs.f_type == XFS_SUPER_MAGIC
             || fs.f_type == TMPFS_MAGIC);
}

/* Files of any size may be made: a limit would raise SIGXFSZ when the file becomes as long as its map. */
static gboolean
is_unlimited (void)
{
  struct rlimit limit;

  return getrlimit (RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur == RLIM_INFINITY;
}

/* How large a map the file ought to have to be written through it; 0: it can't be. Also sees that space can be taken. */
static gsize
size_to_map (const char *path)
{
  gsize size = 0;
  struct stat st;
  int fd = CAN_BE_MAPPED ? open (path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600) : -1;

  if (fd < 0)
    return 0; /* LMDB will say what is wrong */
  if (overwrites_in_place (fd) && is_unlimited () && fstat (fd, &st) == 0
      && allocate (fd, 0, DISK_AHEAD) == 0)
    for (size = MAP_SIZE_MAPPED; size < (gsize)st.st_blocks * 512 * MAP_TIMES_USED;)
      size *= 2;
  (void)close (fd); /* nothing was written */
  return size;
}

guint64
nf_index_bytes_used (NfIndex *index)
{
  MDB_envinfo info;
  MDB_stat stat;

  if (mdb_env_info (index->env, &info) != 0 || mdb_env_stat (index->env, &stat) != 0)
    return 0;
  return (guint64)(info.me_last_pgno + 1) * stat.ms_psize;
}

/* All that the file has, holes too, and what comes next. */
static gboolean
take_all (NfIndex *index)
{
  guint64 end = nf_index_bytes_used (index) + DISK_AHEAD;
  int fd;

  if (mdb_env_get_fd (index->env, &fd) != 0 || allocate (fd, 0, end) != 0)
    return FALSE;
  index->guard = nf_map_guard_new (fd);
  index->disk_end = end;
  return index->guard != NULL;
}

static gboolean
open_mapped (NfIndex *index)
{
  gsize size = size_to_map (index->path);

  if (size == 0 || open_env (index, size, MDB_WRITEMAP) != 0)
    return FALSE;
  index->mapped = take_all (index);
  if (!index->mapped)
    nf_index_close_file (index);
  return index->mapped;
}

int
nf_index_open_file (NfIndex *index)
{
  int rc = take_lock_file (index->path);

  if (rc != 0)
    return rc;
  rc = open_mapped (index) ? 0 : open_env (index, MAP_SIZE_FIRST, 0);
  return rc == -ENOMEM ? open_env (index, MAP_SIZE_SMALL, 0) : rc;
}

void
nf_index_close_file (NfIndex *index)
{
  guint64 used = nf_index_bytes_used (index);

  nf_map_guard_free (g_steal_pointer (&index->guard));
  mdb_env_close (index->env);
  index->env = NULL;
  index->disk_end = 0;
  if (used > 0)
    (void)truncate (index->path, (off_t)used); /* otherwise it is longer than it need be */
}

/* ---- growing ---- */

/* No transaction may be open in this process meanwhile. */
static int
double_map (NfIndex *index, gsize size)
{
  int rc;

  if (pthread_mutex_trylock (&index->copy_lock) != 0)
    return 0; /* a copy is being made: the next transaction does it */
  pthread_mutex_lock (&index->read_lock);
  if (index->read_live)
    mdb_txn_reset (index->read);
  index->read_live = FALSE;
  rc = mdb_env_set_mapsize (index->env, size * 2);
  pthread_mutex_unlock (&index->read_lock);
  pthread_mutex_unlock (&index->copy_lock);
  return nf_index_error (rc);
}

/* Space up to END; and beyond, so that it isn't asked for each time, if there is any. */
static int
take_disk (NfIndex *index, guint64 end)
{
  guint64 from = MIN (index->used, end);
  guint64 beyond = end + DISK_AHEAD / 2;
  int fd;

  if (mdb_env_get_fd (index->env, &fd) != 0)
    return -EIO;
  int err = allocate (fd, from, beyond);
  if (err == -ENOSPC)
    {
      beyond = end;
      err = allocate (fd, from, beyond);
    }
  if ((err == -EOPNOTSUPP || err == -ENOSYS) && !index->mapped)
    {
      beyond = G_MAXUINT64; /* never asked again: the commit will fail */
      err = 0;
    }
  if (err == 0)
    index->disk_end = beyond;
  return err;
}

static int
keep_disk (NfIndex *index)
{
  if (G_LIKELY (index->used + DISK_AHEAD / 2 <= index->disk_end))
    return 0;
  int err = take_disk (index, index->used + DISK_AHEAD / 2);
  if (err != -ENOSPC || index->mapped)
    return err;
  /* What is written needn't be there for each change by itself. */
  return index->used + DISK_COMMIT <= index->disk_end
             ? 0
             : take_disk (index, index->used + DISK_COMMIT);
}

int
nf_index_keep_room (NfIndex *index)
{
  MDB_envinfo info;
  MDB_stat stat;

  if (nf_map_guard_is_broken (index->guard) || mdb_env_info (index->env, &info) != 0
      || mdb_env_stat (index->env, &stat) != 0)
    return -EIO;
  /* In the middle of a transaction it would be too late. */
  if (info.me_last_pgno >= info.me_mapsize / stat.ms_psize / 2)
    {
      int err = double_map (index, info.me_mapsize);
      if (err != 0)
        return err;
    }
  index->used = (guint64)(info.me_last_pgno + 1) * stat.ms_psize;
  index->n_changes = 0;
  index->value_bytes = 0;
  return keep_disk (index);
}

int
nf_index_need_room (NfIndex *index, gsize value_len)
{
  if (!index->mapped)
    return 0; /* the commit would fail */
  index->n_changes++;
  index->value_bytes += value_len;
  guint64 alone = index->n_changes * CHANGE_ALONE;
  guint64 together
      = index->used + index->used / FREE_LIST_SHARE + index->n_changes * CHANGE_OF_MANY;
  guint64 end = index->used + DISK_COMMIT + MIN (alone, together) + 2 * index->value_bytes;
  return G_LIKELY (end <= index->disk_end) ? 0 : take_disk (index, end);
}
