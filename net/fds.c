// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "net/fds.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net/hub.h"

/* How long a child may take to say why it ended, and to end when told to. */
#define EXPLAIN_MS 500
#define CHILD_END_MS 500

typedef struct
{
  NfFdLane fds;
  gboolean used;
  gboolean readable; /* poll() said so, and no read has come up short since */
  gboolean hung_up;
  GString *text; /* what the command printed; NULL if nothing */
} Lane;

typedef struct
{
  NfTransport base;
  Lane lanes[NF_LANES_MAX];
} Fds;

char *
nf_transport_one_line (const char *text, gsize len)
{
  g_autofree char *copy = g_strndup (text, MIN (len, NF_TRANSPORT_TEXT_MAX));

  for (char *p = copy; *p != '\0'; p++)
    if ((guchar)*p < ' ' || *p == 0x7f)
      *p = ' ';
  g_strstrip (copy);
  return *copy == '\0' ? NULL : g_steal_pointer (&copy);
}

static void
close_fd (int *fd)
{
  if (*fd >= 0)
    close (*fd);
  *fd = -1;
}

/* The descriptors are closed by now, so a sound child is about to end by itself. */
static void
end_child (pid_t pid)
{
  for (int waited = 0; waited < CHILD_END_MS; waited += 10)
    {
      if (waitpid (pid, NULL, WNOHANG) != 0)
        return;
      if (waited == 100)
        (void)kill (pid, SIGTERM);
      g_usleep (10 * 1000);
    }
  (void)kill (pid, SIGKILL);
  (void)waitpid (pid, NULL, 0);
}

void
nf_fd_lane_clear (NfFdLane *lane)
{
  if (lane->out == lane->in)
    lane->out = -1;
  close_fd (&lane->in);
  close_fd (&lane->out);
  close_fd (&lane->hold);
  close_fd (&lane->text);
  if (lane->pid > 0)
    end_child (lane->pid);
  *lane = NF_FD_LANE_INIT;
}

void
nf_fd_lane_enlarge (const NfFdLane *lane, int size)
{
  /* Sockets refuse, and so do pipes when the user has many: then they stay as they are. */
  (void)fcntl (lane->in, F_SETPIPE_SZ, size);
  (void)fcntl (lane->out, F_SETPIPE_SZ, size);
}

static void
set_nonblocking (int fd)
{
  int flags = fd < 0 ? -1 : fcntl (fd, F_GETFL);

  /* If this fails the descriptor is no stream at all, and reading it will tell. */
  if (flags >= 0)
    (void)fcntl (fd, F_SETFL, flags | O_NONBLOCK);
}

static guint
fds_prepare (NfTransport *transport, guint want_write, struct pollfd *fds, gboolean *ret_now)
{
  Fds *self = (Fds *)transport;
  guint n = 0;

  for (guint i = 0; i < NF_LANES_MAX; i++)
    {
      Lane *lane = &self->lanes[i];
      short want = (want_write & (1u << i)) ? POLLOUT : 0;

      if (!lane->used)
        continue;
      if (lane->readable)
        *ret_now = TRUE;
      if (lane->fds.in == lane->fds.out)
        fds[n++] = (struct pollfd){ lane->fds.in, (short)(POLLIN | want), 0 };
      else
        {
          fds[n++] = (struct pollfd){ lane->fds.in, POLLIN, 0 };
          fds[n++] = (struct pollfd){ lane->fds.out, want, 0 };
        }
      if (lane->fds.hold >= 0)
        fds[n++] = (struct pollfd){ lane->fds.hold, POLLIN, 0 };
      if (lane->fds.text >= 0)
        fds[n++] = (struct pollfd){ lane->fds.text, POLLIN, 0 };
    }
  return n;
}

static void
read_text (Lane *lane)
{
  char buffer[512];
  ssize_t n = read (lane->fds.text, buffer, sizeof buffer);

  if (n > 0)
    {
      if (lane->text == NULL)
        lane->text = g_string_new (NULL);
      if (lane->text->len < NF_TRANSPORT_TEXT_MAX)
        g_string_append_len (lane->text, buffer, n);
    }
  else if (n == 0 || (errno != EAGAIN && errno != EINTR))
    close_fd (&lane->fds.text);
}

static gboolean
fds_dispatch (NfTransport *transport, const struct pollfd *fds, guint n_fds, GError **error)
{
  Fds *self = (Fds *)transport;

  for (guint i = 0; i < NF_LANES_MAX; i++)
    {
      Lane *lane = &self->lanes[i];

      if (!lane->used)
        continue;
      for (guint k = 0; k < n_fds; k++)
        {
          if (fds[k].revents == 0 || fds[k].fd < 0)
            continue;
          if (fds[k].fd == lane->fds.in)
            lane->readable = TRUE;
          else if (fds[k].fd == lane->fds.text)
            read_text (lane);
          else if (fds[k].fd == lane->fds.hold
                   || (fds[k].fd == lane->fds.out
                       && (fds[k].revents & (POLLERR | POLLHUP | POLLNVAL))))
            lane->hung_up = TRUE;
        }
    }
  return TRUE;
}

static gssize
fds_read (NfTransport *transport, guint index, void *buffer, gsize size)
{
  Lane *lane = &((Fds *)transport)->lanes[index];
  ssize_t n;

  if (!lane->used)
    return -EAGAIN;
  /* What had come before the hang-up is read first: it may say why. */
  if (!lane->readable && lane->hung_up)
    return 0;
  if (!lane->readable)
    return -EAGAIN;
  n = read (lane->fds.in, buffer, size);
  if (n < 0 && errno == EINTR)
    return -EAGAIN;
  if (n < 0)
    {
      int err = errno;

      if (err != EAGAIN)
        return err == ECONNRESET ? 0 : -err;
      lane->readable = FALSE;
      return lane->hung_up ? 0 : -EAGAIN;
    }
  if ((gsize)n < size && n > 0)
    lane->readable = lane->hung_up; /* what comes next, poll() will tell */
  return n;
}

static gssize
fds_write (NfTransport *transport, guint index, const void *data, gsize len)
{
  Lane *lane = &((Fds *)transport)->lanes[index];
  ssize_t n;

  if (!lane->used)
    return -EAGAIN;
  n = write (lane->fds.out, data, len);
  if (n >= 0)
    return n;
  if (errno == EINTR || errno == EAGAIN)
    return -EAGAIN;
  /* The reader's end tells the reason, if there is one. */
  lane->hung_up = TRUE;
  lane->readable = TRUE;
  return -EAGAIN;
}

static char *
exit_text (pid_t pid, int status)
{
  if (WIFEXITED (status) && WEXITSTATUS (status) == 127)
    return g_strdup ("the command isn't found there (exit status 127)");
  if (WIFEXITED (status) && WEXITSTATUS (status) != 0)
    return g_strdup_printf ("exit status %d", WEXITSTATUS (status));
  if (WIFSIGNALED (status))
    return g_strdup_printf ("ssh (%d) was ended by signal %d", (int)pid, WTERMSIG (status));
  return NULL;
}

static char *
fds_explain (NfTransport *transport, guint index)
{
  Lane *lane = &((Fds *)transport)->lanes[index];
  int status = 0;
  int waited = 0;

  while (lane->fds.text >= 0 && waited < EXPLAIN_MS)
    {
      struct pollfd fd = { lane->fds.text, POLLIN, 0 };

      if (poll (&fd, 1, 50) > 0)
        read_text (lane);
      else
        waited += 50;
    }
  if (lane->text != NULL)
    return nf_transport_one_line (lane->text->str, lane->text->len);
  for (; lane->fds.pid > 0 && waited < EXPLAIN_MS; waited += 10)
    {
      pid_t pid = lane->fds.pid;

      if (waitpid (pid, &status, WNOHANG) == pid)
        {
          lane->fds.pid = 0;
          return exit_text (pid, status);
        }
      g_usleep (10 * 1000);
    }
  return NULL;
}

static void
fds_free (NfTransport *transport, gboolean dead)
{
  Fds *self = (Fds *)transport;

  for (guint i = 0; i < NF_LANES_MAX; i++)
    {
      if (self->lanes[i].used)
        nf_fd_lane_clear (&self->lanes[i].fds);
      if (self->lanes[i].text != NULL)
        g_string_free (self->lanes[i].text, TRUE);
    }
  g_free (self);
}

static const NfTransportOps fds_ops = {
  .prepare = fds_prepare,
  .dispatch = fds_dispatch,
  .read = fds_read,
  .write = fds_write,
  .explain = fds_explain,
  .free = fds_free,
};

NfTransport *
nf_fds_new (void)
{
  Fds *self = g_new0 (Fds, 1);

  self->base.ops = &fds_ops;
  return &self->base;
}

void
nf_fds_add (NfTransport *transport, guint lane, NfFdLane *fds)
{
  Fds *self = (Fds *)transport;

  g_assert (transport->ops == &fds_ops && lane < NF_LANES_MAX && !self->lanes[lane].used);
  set_nonblocking (fds->in);
  set_nonblocking (fds->out);
  set_nonblocking (fds->text);
  self->lanes[lane].fds = *fds;
  self->lanes[lane].used = TRUE;
  *fds = NF_FD_LANE_INIT;
}
