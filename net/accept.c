// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "net/accept.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define SOCKET_NAME "relay.sock"
/* Connections whose first line is awaited, and how long each may take for it. */
#define GUESTS_MAX 32
#define LINE_MS 5000
#define RELAY_WORD "relay "
#define RELAY_FDS 3

typedef struct
{
  int fd;
  int fds[RELAY_FDS]; /* -1: not received */
  guint n_fds;
  GString *line;
  gint64 until_us;
} Guest;

struct _NfAccept
{
  NfHub *hub;
  NfAcceptControl control;
  gpointer data;
  char *path;
  int listen_fd;
  int stop_fd;
  pthread_t thread;
  GPtrArray *guests; /* of Guest; the thread's */
};

static void
guest_free (gpointer data)
{
  Guest *guest = data;

  if (guest->fd >= 0)
    close (guest->fd);
  for (guint i = 0; i < RELAY_FDS; i++)
    if (guest->fds[i] >= 0)
      close (guest->fds[i]);
  g_string_free (guest->line, TRUE);
  g_free (guest);
}

static gboolean
fill_address (const char *path, struct sockaddr_un *ret_address, GError **error)
{
  memset (ret_address, 0, sizeof *ret_address);
  ret_address->sun_family = AF_UNIX;
  if (strlen (path) < sizeof ret_address->sun_path)
    {
      memcpy (ret_address->sun_path, path, strlen (path));
      return TRUE;
    }
  g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_FAILED,
               "%s: longer than the name of a socket may be (%zu bytes)", path,
               sizeof ret_address->sun_path - 1);
  return FALSE;
}

int
nf_accept_connect (const char *runtime, GError **error)
{
  g_autofree char *path = g_build_filename (runtime, SOCKET_NAME, NULL);
  struct sockaddr_un address;
  int fd;

  if (!fill_address (path, &address, error))
    return -1;
  fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd >= 0 && connect (fd, (struct sockaddr *)&address, sizeof address) == 0)
    return fd;
  if (errno == ENOENT || errno == ECONNREFUSED)
    g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_RELAY, "no nearfs daemon runs here (%s)", path);
  else
    g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_RELAY, "%s: %s", path, g_strerror (errno));
  if (fd >= 0)
    close (fd);
  return -1;
}

/* The directory is what keeps others away, so it must be ours alone. */
static gboolean
check_directory (const char *runtime, GError **error)
{
  struct stat st;

  if (g_mkdir_with_parents (runtime, 0700) < 0 || lstat (runtime, &st) < 0)
    {
      g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_FAILED, "%s: %s", runtime, g_strerror (errno));
      return FALSE;
    }
  if (S_ISDIR (st.st_mode) && st.st_uid == geteuid () && (st.st_mode & 077) == 0)
    return TRUE;
  g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_FAILED,
               "%s must be a directory of uid %u with mode 0700", runtime, geteuid ());
  return FALSE;
}

static int
open_socket (const char *runtime, const char *path, GError **error)
{
  struct sockaddr_un address;
  int fd = nf_accept_connect (runtime, NULL);

  if (fd >= 0)
    {
      close (fd);
      g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_FAILED,
                   "%s: a nearfs daemon runs here already", path);
      return -1;
    }
  if (!fill_address (path, &address, error))
    return -1;
  fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd >= 0 && (unlink (path) == 0 || errno == ENOENT)
      && bind (fd, (struct sockaddr *)&address, sizeof address) == 0 && listen (fd, SOMAXCONN) == 0)
    return fd;
  g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_FAILED, "%s: %s", path, g_strerror (errno));
  if (fd >= 0)
    close (fd);
  return -1;
}

/* Root may, and we ourselves. */
static gboolean
is_welcome (int fd)
{
  struct ucred cred;
  socklen_t len = sizeof cred;

  return getsockopt (fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0
         && (cred.uid == geteuid () || cred.uid == 0);
}

static void
let_in (NfAccept *self)
{
  int fd = accept4 (self->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  Guest *guest;

  if (fd < 0)
    return;
  if (self->guests->len >= GUESTS_MAX || !is_welcome (fd))
    {
      close (fd);
      return;
    }
  guest = g_new0 (Guest, 1);
  guest->fd = fd;
  memset (guest->fds, -1, sizeof guest->fds);
  guest->line = g_string_new (NULL);
  guest->until_us = g_get_monotonic_time () + LINE_MS * 1000;
  g_ptr_array_add (self->guests, guest);
}

/* Keeps up to three descriptors, closes any more. */
static void
take_fds (Guest *guest, struct msghdr *message)
{
  for (struct cmsghdr *c = CMSG_FIRSTHDR (message); c != NULL; c = CMSG_NXTHDR (message, c))
    {
      gsize n = c->cmsg_len < CMSG_LEN (0) ? 0 : (c->cmsg_len - CMSG_LEN (0)) / sizeof (int);

      if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
        continue;
      for (gsize i = 0; i < n; i++)
        {
          int fd;

          memcpy (&fd, CMSG_DATA (c) + i * sizeof fd, sizeof fd);
          if (guest->n_fds < RELAY_FDS)
            guest->fds[guest->n_fds++] = fd;
          else
            close (fd);
        }
    }
}

/* Reads one byte after the other up to the newline, as what follows is somebody else's. A line
 * is short and comes once a connection. Returns 1 when the line is there, 0 to wait, -1 to drop
 * the guest. */
static int
read_line (Guest *guest)
{
  for (;;)
    {
      char byte;
      struct iovec iov = { &byte, 1 };
      union
      {
        struct cmsghdr align;
        char bytes[CMSG_SPACE (sizeof (int) * 16)];
      } control;
      struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control
      };
      ssize_t n = recvmsg (guest->fd, &message, MSG_CMSG_CLOEXEC);

      if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
      if (n <= 0)
        return -1;
      take_fds (guest, &message);
      if (byte == '\n')
        return 1;
      if (byte == '\0' || guest->line->len >= NF_ACCEPT_LINE_MAX)
        return -1;
      g_string_append_c (guest->line, byte);
    }
}

static void
greet_relay (NfAccept *self, Guest *guest)
{
  const char *site = guest->line->str + strlen (RELAY_WORD);

  if (guest->n_fds != RELAY_FDS)
    return;
  nf_hub_accept (self->hub, site, guest->fds[0], guest->fds[1], guest->fds[2], guest->fd);
  guest->fd = -1;
  memset (guest->fds, -1, sizeof guest->fds);
}

static void
greet_control (NfAccept *self, Guest *guest)
{
  int flags = fcntl (guest->fd, F_GETFL);

  if (self->control == NULL || flags < 0 || fcntl (guest->fd, F_SETFL, flags & ~O_NONBLOCK) < 0)
    return;
  self->control (self->data, guest->fd, g_strdup (guest->line->str));
  guest->fd = -1;
}

static void
greet (NfAccept *self, Guest *guest)
{
  if (g_str_has_prefix (guest->line->str, RELAY_WORD))
    greet_relay (self, guest);
  else if (guest->line->str[0] == '{')
    greet_control (self, guest);
}

static void
serve_guests (NfAccept *self, const struct pollfd *fds, guint n_polled)
{
  gint64 now = g_get_monotonic_time ();

  /* From the end, as some are removed. Those who came in just now weren't polled. */
  for (guint i = n_polled; i-- > 0;)
    {
      Guest *guest = g_ptr_array_index (self->guests, i);
      int state = fds[i].revents == 0 ? 0 : read_line (guest);

      if (state == 1)
        greet (self, guest);
      if (state != 0 || now > guest->until_us)
        g_ptr_array_remove_index (self->guests, i);
    }
}

static void *
accept_thread (void *arg)
{
  NfAccept *self = arg;

  for (;;)
    {
      struct pollfd fds[GUESTS_MAX + 2];
      guint n = self->guests->len;

      for (guint i = 0; i < n; i++)
        fds[i] = (struct pollfd){ ((Guest *)g_ptr_array_index (self->guests, i))->fd, POLLIN, 0 };
      fds[n] = (struct pollfd){ self->listen_fd, POLLIN, 0 };
      fds[n + 1] = (struct pollfd){ self->stop_fd, POLLIN, 0 };
      if (poll (fds, n + 2, n > 0 ? 1000 : -1) < 0)
        continue;
      if (fds[n + 1].revents != 0)
        return NULL;
      if (fds[n].revents != 0)
        let_in (self);
      serve_guests (self, fds, n);
    }
}

/* Signals are for the program's own threads. 0 or an errno. */
static int
start_thread (NfAccept *self)
{
  sigset_t all, old;
  int err;

  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &old);
  err = pthread_create (&self->thread, NULL, accept_thread, self);
  pthread_sigmask (SIG_SETMASK, &old, NULL);
  return err;
}

NfAccept *
nf_accept_new (const char *runtime, NfHub *hub, NfAcceptControl control, gpointer data,
               GError **error)
{
  g_autofree char *path = g_build_filename (runtime, SOCKET_NAME, NULL);
  NfAccept *self;
  int fd;
  int err;

  if (!check_directory (runtime, error))
    return NULL;
  fd = open_socket (runtime, path, error);
  if (fd < 0)
    return NULL;
  self = g_new0 (NfAccept, 1);
  self->hub = nf_hub_ref (hub);
  self->control = control;
  self->data = data;
  self->path = g_steal_pointer (&path);
  self->listen_fd = fd;
  self->guests = g_ptr_array_new_with_free_func (guest_free);
  self->stop_fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  err = self->stop_fd < 0 ? errno : start_thread (self);
  if (err == 0)
    return self;
  g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_FAILED, "the relay's thread: %s",
               g_strerror (err));
  self->thread = 0;
  nf_accept_free (self);
  return NULL;
}

void
nf_accept_stop (NfAccept *self)
{
  guint64 one = 1;

  if (self->thread != 0)
    {
      (void)!write (self->stop_fd, &one, sizeof one); /* an eventfd of ours, at zero */
      pthread_join (self->thread, NULL);
    }
  self->thread = 0;
  g_clear_pointer (&self->guests, g_ptr_array_unref);
  g_clear_pointer (&self->hub, nf_hub_unref);
}

void
nf_accept_free (NfAccept *self)
{
  nf_accept_stop (self);
  (void)unlink (self->path); /* the next daemon replaces it anyway */
  close (self->listen_fd);
  if (self->stop_fd >= 0)
    close (self->stop_fd);
  g_free (self->path);
  g_free (self);
}
