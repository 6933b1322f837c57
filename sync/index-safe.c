// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/index-private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "sync/boot.h"

/* Power cuts. Commits aren't synced: the page cache keeps them when the process dies, but not when the machine does;
 * then the file may have any mixture of its pages, which LMDB can't tell. So there is a second file, INDEX.safe, a
 * copy as of some nf_index_sync(), complete on disk before it got its name; and INDEX.boot says under which boot of the
 * system the index was last open, or that it was closed in order. If that was another boot, the index isn't even
 * looked at: the copy takes its place. What the owner keeps in it (its position) is as old as the rest of it, so its
 * redo starts from there.
 *
 * The same goes for an index whose last commit isn't wholly in the file, as the disk refused a store (index-room.c).
 *
 * Copying costs as much as the index is large, so it is done only after a number of commits in proportion; but always
 * by the first sync after opening, since that is to outdate what the last clean end had said. */

#define CLOSED "closed"
/* No boot is called so. */
#define BROKEN "broken"
/* Bytes of the index per commit before a copy is worth it. */
#define COPY_BYTES_PER_COMMIT 4096
/* An index of so many bytes is copied as it is.  To leave out its free pages LMDB starts a thread and clears 2 MiB of
 * buffers, each time: half of what a simulated history took, and far more than the few free pages are worth. */
#define COMPACT_BYTES (4 << 20)
/* Fids that may have been given between the copy and the power cut, with room to spare: 62 bits last. */
#define LOST_FIDS (1 << 20)

static int
sync_dir (const char *path)
{
  g_autofree char *dir = g_path_get_dirname (path);
  int fd = open (dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  int rc;

  if (fd < 0)
    return -errno;
  rc = fsync (fd) == 0 ? 0 : -errno;
  close (fd);
  return rc;
}

/* What is written to FD gets the name TO, durably. Takes FD. */
static int
settle_file (int fd, const char *from, const char *to)
{
  int rc = fdatasync (fd) == 0 ? 0 : -errno;

  close (fd);
  if (rc == 0 && rename (from, to) != 0)
    rc = -errno;
  return rc == 0 ? sync_dir (to) : rc;
}

static int
write_boot (const char *path, const char *text)
{
  g_autofree char *boot = g_strconcat (path, ".boot", NULL);
  g_autofree char *tmp = g_strconcat (boot, ".tmp", NULL);
  ssize_t len = (ssize_t)strlen (text);
  int fd = open (tmp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
  int rc;

  if (fd < 0)
    return -errno;
  errno = ENOSPC;
  if (write (fd, text, (gsize)len) == len)
    return settle_file (fd, tmp, boot);
  rc = -errno;
  close (fd);
  return rc;
}

/* At most SIZE - 1 bytes; the empty string if there is no such file. */
static void
read_text (const char *path, char *text, gsize size)
{
  int fd = open (path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
  ssize_t len = -1;

  if (fd >= 0)
    {
      len = read (fd, text, size - 1);
      close (fd);
    }
  text[MAX (len, 0)] = '\0';
}

static int
copy_content (int from, int to)
{
  g_autofree guint8 *chunk = g_malloc (1 << 20);
  ssize_t len;

  while ((len = read (from, chunk, 1 << 20)) > 0)
    for (ssize_t done = 0; done < len;)
      {
        ssize_t written = write (to, chunk + done, (gsize)(len - done));

        if (written < 0)
          return -errno;
        done += written;
      }
  return len < 0 ? -errno : 0;
}

static int
copy_file (const char *from, const char *to)
{
  g_autofree char *tmp = g_strconcat (to, ".tmp", NULL);
  int from_fd = open (from, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
  int to_fd, rc;

  if (from_fd < 0)
    return -errno;
  to_fd = open (tmp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
  rc = to_fd < 0 ? -errno : copy_content (from_fd, to_fd);
  close (from_fd);
  if (rc == 0)
    return settle_file (to_fd, tmp, to);
  if (to_fd >= 0)
    close (to_fd);
  return rc;
}

static int
restore (NfIndex *index)
{
  g_autofree char *safe = g_strconcat (index->path, ".safe", NULL);
  int rc = copy_file (safe, index->path);

  index->restored = TRUE;
  if (rc != -ENOENT)
    return rc;
  /* It was never synced since it was made: there is nothing in it that anything durable depends on. */
  return unlink (index->path) == 0 || errno == ENOENT ? 0 : -errno;
}

int
nf_index_make_safe (NfIndex *index)
{
  g_autofree char *boot = g_strconcat (index->path, ".boot", NULL);
  const NfBootId now = nf_boot_id ();
  NfBootId then;
  int rc = 0;

  read_text (boot, then.str, sizeof then.str);
  if (then.str[0] != '\0' && strcmp (then.str, CLOSED) != 0 && strcmp (then.str, now.str) != 0)
    {
      rc = restore (index);
      if (rc == 0)
        g_warning (
            "%s: system or disk went down while it was in use: went back to the last safe copy",
            index->path);
    }
  if (rc == 0 && strcmp (then.str, now.str) != 0)
    rc = write_boot (index->path, now.str);
  return rc;
}

int
nf_index_skip_lost_fids (NfIndex *index)
{
  NfFid limit;
  int rc;

  if (!index->restored)
    return 0;
  limit = index->fid_limit + LOST_FIDS;
  if (limit >= NF_FID_LIMIT)
    return -EOVERFLOW;
  rc = nf_index_note_fid (index, limit);
  return rc == 0 ? nf_index_sync (index) : rc;
}

/* With copy_lock. */
static int
make_copy (NfIndex *index, NfIndexBetween func, gpointer data)
{
  g_autofree char *safe = g_strconcat (index->path, ".safe", NULL);
  g_autofree char *tmp = g_strconcat (safe, ".tmp", NULL);
  guint flags = nf_index_bytes_used (index) < COMPACT_BYTES ? 0 : MDB_CP_COMPACT;
  int fd = open (tmp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
  int rc;

  if (fd < 0)
    return -errno;
  rc = nf_index_error (mdb_env_copyfd2 (index->env, fd, flags));
  if (rc == 0 && func)
    rc = func (data);
  if (rc == 0)
    return settle_file (fd, tmp, safe);
  close (fd);
  return rc;
}

static gboolean
copy_is_due (NfIndex *index, guint64 commits)
{
  if (!index->copied)
    return TRUE;
  return commits != index->copied_commits
         && (commits - index->copied_commits) * COPY_BYTES_PER_COMMIT
                >= nf_index_bytes_used (index);
}

gboolean
nf_index_sync_is_due (NfIndex *index)
{
  if (pthread_mutex_trylock (&index->copy_lock) != 0)
    return FALSE; /* it is being made */
  gboolean due = copy_is_due (index, __atomic_load_n (&index->n_commits, __ATOMIC_ACQUIRE));
  pthread_mutex_unlock (&index->copy_lock);
  return due;
}

gboolean
nf_index_is_restored (NfIndex *index)
{
  return index->restored;
}

int
nf_index_sync (NfIndex *index)
{
  return nf_index_sync_after (index, NULL, NULL);
}

int
nf_index_sync_after (NfIndex *index, NfIndexBetween func, gpointer data)
{
  guint64 commits;
  int rc;

  g_assert (!nf_index_held (index)); /* the copy would wait for the transaction */
  pthread_mutex_lock (&index->copy_lock);
  commits = __atomic_load_n (&index->n_commits, __ATOMIC_ACQUIRE);
  rc = nf_index_error (mdb_env_sync (index->env, 1));
  if (rc == 0 && copy_is_due (index, commits))
    {
      rc = make_copy (index, func, data);
      if (rc == 0)
        {
          index->copied = TRUE;
          index->copied_commits = commits;
        }
    }
  pthread_mutex_unlock (&index->copy_lock);
  return rc;
}

void
nf_index_note_closed (NfIndex *index)
{
  /* Otherwise the next opening after a boot goes back to the copy, which is only slower. */
  if (mdb_env_sync (index->env, 1) == 0)
    (void)write_boot (index->path, CLOSED);
}

void
nf_index_note_broken (NfIndex *index)
{
  g_autofree char *boot = g_strconcat (index->path, ".boot", NULL);
  int fd = open (boot, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);

  if (fd < 0)
    return;
  /* In place: there may be no room for another. Where the disk refuses this too, it takes no more of the index either. */
  if (pwrite (fd, BROKEN, strlen (BROKEN), 0) == (ssize_t)strlen (BROKEN))
    (void)fdatasync (fd);
  (void)close (fd);
}
