// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/reserve.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define RESERVE_NAME "reserve"
/* Some thousands of removals; but no more than that part of the filesystem. */
#define RESERVE_SIZE (4 * 1024 * 1024)
#define RESERVE_PART 64
#define RETRY_MS 500

struct NfReserve
{
  pthread_mutex_t lock; /* guards what follows, but for readers of `held` */
  int fd;               /* -1: the file can't be made */
  gint held;            /* atomic */
  gint64 retry_ms;      /* not before */
};

static off_t
size_for (int fd)
{
  struct statvfs vfs;

  if (fstatvfs (fd, &vfs) != 0)
    return RESERVE_SIZE;
  return (off_t)MIN ((guint64)RESERVE_SIZE, vfs.f_blocks * vfs.f_frsize / RESERVE_PART);
}

/* As much again has to be free before it is put by anew: otherwise the next call would find a full disk again. */
static gboolean
has_room_for (int fd, off_t size)
{
  struct statvfs vfs;

  return fstatvfs (fd, &vfs) != 0 || vfs.f_bavail * vfs.f_frsize >= 2 * (guint64)size;
}

/* With the lock. */
static void
put_by (NfReserve *reserve, gboolean first)
{
  off_t size = size_for (reserve->fd);

  if (!first && !has_room_for (reserve->fd, size))
    return;
  /* A filesystem that can't do this is none that a removal fails on for lack of space, as far as we can help it. */
  if (size == 0 || fallocate (reserve->fd, 0, 0, size) == 0 || errno == EOPNOTSUPP)
    g_atomic_int_set (&reserve->held, TRUE);
  else
    (void)ftruncate (reserve->fd, 0); /* what it got of it */
}

NfReserve *
nf_reserve_new (int dir_fd)
{
  NfReserve *reserve = g_new0 (NfReserve, 1);

  pthread_mutex_init (&reserve->lock, NULL);
  reserve->fd = openat (dir_fd, RESERVE_NAME, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (reserve->fd >= 0)
    put_by (reserve, TRUE);
  return reserve;
}

void
nf_reserve_free (NfReserve *reserve)
{
  if (!reserve)
    return;
  if (reserve->fd >= 0)
    (void)close (reserve->fd);
  pthread_mutex_destroy (&reserve->lock);
  g_free (reserve);
}

gboolean
nf_reserve_spend (NfReserve *reserve)
{
  gboolean spent = FALSE;

  pthread_mutex_lock (&reserve->lock);
  if (reserve->fd >= 0 && g_atomic_int_get (&reserve->held))
    {
      g_atomic_int_set (&reserve->held, FALSE);
      spent = ftruncate (reserve->fd, 0) == 0;
    }
  pthread_mutex_unlock (&reserve->lock);
  return spent;
}

void
nf_reserve_freed (NfReserve *reserve)
{
  if (G_LIKELY (g_atomic_int_get (&reserve->held)))
    return;
  pthread_mutex_lock (&reserve->lock);
  reserve->retry_ms = 0;
  pthread_mutex_unlock (&reserve->lock);
}

gboolean
nf_reserve_held (NfReserve *reserve, gint64 now_ms)
{
  if (G_LIKELY (g_atomic_int_get (&reserve->held)) || reserve->fd < 0)
    return TRUE;
  pthread_mutex_lock (&reserve->lock);
  if (!g_atomic_int_get (&reserve->held) && now_ms >= reserve->retry_ms)
    {
      reserve->retry_ms = now_ms + RETRY_MS;
      put_by (reserve, FALSE);
    }
  gboolean held = g_atomic_int_get (&reserve->held);
  pthread_mutex_unlock (&reserve->lock);
  return held;
}
