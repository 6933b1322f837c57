// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "tests/readers-help.h"

#include <linux/fuse.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static const guint32 opcodes[] = {
  [NF_CREW_QUICK] = FUSE_GETATTR,
  [NF_CREW_STUCK] = FUSE_OPENDIR,
  [NF_CREW_STUCK_RELEASE] = FUSE_RELEASE,
};

static void
unlock (void *lock)
{
  pthread_mutex_unlock (lock);
}

static void
be_stuck (NfCrew *crew)
{
  pthread_mutex_lock (&crew->lock);
  pthread_cleanup_push (unlock, &crew->lock);
  crew->n_stuck++;
  pthread_cond_broadcast (&crew->changed);
  while (!crew->released)
    pthread_cond_wait (&crew->changed, &crew->lock);
  crew->n_stuck--;
  pthread_cond_broadcast (&crew->changed);
  pthread_cleanup_pop (TRUE);
}

static void *
work (void *data)
{
  NfCrew *crew = data;
  struct fuse_in_header header;
  struct iovec answer = { (void *)"", 1 };

  while (nf_readers_read (crew->readers, crew->session, &header, sizeof header)
         == (ssize_t)sizeof header)
    {
      if (header.opcode != opcodes[NF_CREW_QUICK])
        be_stuck (crew);
      if (nf_readers_reply (crew->readers, crew->answers[header.unique][0], &answer, 1) != 1)
        break;
    }
  return NULL;
}

gboolean
nf_crew_start (NfCrew *crew)
{
  int fds[2];

  memset (crew, 0, sizeof *crew);
  crew->readers = nf_readers_new ();
  pthread_mutex_init (&crew->lock, NULL);
  pthread_cond_init (&crew->changed, NULL);
  if (socketpair (AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0)
    return FALSE;
  crew->kernel = fds[0];
  crew->session = fds[1];
  for (guint i = 0; i < NF_CREW_CALLERS; i++)
    if (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, crew->answers[i]) != 0)
      return FALSE;
  for (guint i = 0; i < NF_CREW_WORKERS; i++)
    if (pthread_create (&crew->workers[i], NULL, work, crew) != 0)
      return FALSE;
  return TRUE;
}

gboolean
nf_crew_stop (NfCrew *crew)
{
  gboolean cancelled = TRUE;

  for (guint i = 0; i < NF_CREW_WORKERS; i++)
    {
      void *result;
      (void)pthread_cancel (crew->workers[i]); /* not joined yet, so it is there */
      cancelled = pthread_join (crew->workers[i], &result) == 0 && result == PTHREAD_CANCELED
                  && cancelled;
    }
  for (guint i = 0; i < NF_CREW_CALLERS; i++)
    {
      close (crew->answers[i][0]);
      close (crew->answers[i][1]);
    }
  close (crew->kernel);
  close (crew->session);
  nf_readers_free (crew->readers);
  pthread_cond_destroy (&crew->changed);
  pthread_mutex_destroy (&crew->lock);
  return cancelled;
}

gboolean
nf_crew_send (NfCrew *crew, guint caller, NfCrewRequest request)
{
  const struct fuse_in_header header = {
    .len = sizeof header,
    .opcode = opcodes[request],
    .unique = caller,
    .pid = (guint32)syscall (SYS_gettid),
  };

  return write (crew->kernel, &header, sizeof header) == (ssize_t)sizeof header;
}

gboolean
nf_crew_is_answered (NfCrew *crew, guint caller, int timeout_ms)
{
  struct pollfd poll_fd = { crew->answers[caller][1], POLLIN, 0 };
  char byte;

  return poll (&poll_fd, 1, timeout_ms) == 1 && read (poll_fd.fd, &byte, 1) == 1;
}

void
nf_crew_wait_stuck (NfCrew *crew, guint n)
{
  pthread_mutex_lock (&crew->lock);
  while (crew->n_stuck < n)
    pthread_cond_wait (&crew->changed, &crew->lock);
  pthread_mutex_unlock (&crew->lock);
}

void
nf_crew_release (NfCrew *crew)
{
  pthread_mutex_lock (&crew->lock);
  crew->released = TRUE;
  pthread_cond_broadcast (&crew->changed);
  while (crew->n_stuck > 0)
    pthread_cond_wait (&crew->changed, &crew->lock);
  crew->released = FALSE;
  pthread_mutex_unlock (&crew->lock);
}
