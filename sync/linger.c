// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/linger.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sync/life.h"

/* Descriptors; more than that, and whoever removes files does it himself, as nobody else is fast enough. */
#define KEPT_MAX 64
/* To free much takes long, and somebody may be waiting for that space. */
#define SIZE_MAX_KEPT (1024 * 1024)

struct NfLinger
{
  NfHost *host;
  NfLife *life; /* close_all()'s */

  pthread_mutex_t lock; /* guards what follows */
  int fds[KEPT_MAX];
  guint n_fds;
  gboolean posted; /* close_all() will come */

  pthread_mutex_t closing; /* held while descriptors are closed; outermost */
};

NfLinger *
nf_linger_new (NfHost *host)
{
  NfLinger *linger = g_new0 (NfLinger, 1);

  linger->host = host;
  linger->life = nf_life_new (linger);
  pthread_mutex_init (&linger->lock, NULL);
  pthread_mutex_init (&linger->closing, NULL);
  return linger;
}

/* What somebody else is closing is closed when it returns, too. */
gboolean
nf_linger_end (NfLinger *linger)
{
  int fds[KEPT_MAX];
  gboolean waited = pthread_mutex_trylock (&linger->closing) != 0;

  if (waited)
    pthread_mutex_lock (&linger->closing);
  pthread_mutex_lock (&linger->lock);
  guint n = linger->n_fds;
  for (guint i = 0; i < n; i++)
    fds[i] = linger->fds[i];
  linger->n_fds = 0;
  pthread_mutex_unlock (&linger->lock);
  for (guint i = 0; i < n; i++)
    (void)close (fds[i]); /* nothing was written through it */
  pthread_mutex_unlock (&linger->closing);
  return waited || n > 0;
}

void
nf_linger_free (NfLinger *linger)
{
  nf_life_end (linger->life);
  (void)nf_linger_end (linger); /* whether there was something is no matter */
  nf_life_unref (linger->life);
  pthread_mutex_destroy (&linger->closing);
  pthread_mutex_destroy (&linger->lock);
  g_free (linger);
}

static void close_all (gpointer data);

static void
close_later (NfLinger *linger)
{
  NfHost *host = linger->host;

  host->post_after (host->data, host->linger_ms, close_all, nf_life_ref (linger->life));
}

/* As long as more comes. */
static void
close_all (gpointer data)
{
  NfLife *life = data;
  NfLinger *linger = nf_life_enter (life);

  if (linger)
    {
      (void)nf_linger_end (linger); /* likewise */
      pthread_mutex_lock (&linger->lock);
      gboolean more = linger->posted = linger->n_fds > 0;
      pthread_mutex_unlock (&linger->lock);
      if (more)
        close_later (linger);
      nf_life_leave (life);
    }
  nf_life_unref (life);
}

int
nf_linger_keep (NfLinger *linger, const NfAttr *attr, int dir_fd, const char *name)
{
  return linger->host->linger_ms > 0 && S_ISREG (attr->mode) && attr->nlink == 1
                 && attr->size <= SIZE_MAX_KEPT
             ? openat (dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC)
             : -1;
}

void
nf_linger_leave (NfLinger *linger, int fd)
{
  gboolean posts = FALSE, kept = FALSE;

  if (fd < 0)
    return;
  pthread_mutex_lock (&linger->lock);
  kept = linger->n_fds < KEPT_MAX;
  if (kept)
    {
      linger->fds[linger->n_fds++] = fd;
      posts = !linger->posted;
      linger->posted = TRUE;
    }
  pthread_mutex_unlock (&linger->lock);
  if (!kept)
    (void)close (fd); /* nothing was written through it */
  if (posts)
    close_later (linger);
}
