// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "net/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/accept.h"

/* The relay copies nothing: the daemon gets sshd's pipes themselves. What is left to do is to
 * stay, as sshd would close them with the command's end, and to keep no copy, as nobody would
 * see an end of file then. */

static gboolean
hand_over (int fd, const char *site)
{
  g_autofree char *line = g_strdup_printf ("relay %s\n", site);
  int fds[] = { STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO };
  struct iovec iov = { line, strlen (line) };
  union
  {
    struct cmsghdr align;
    char bytes[CMSG_SPACE (sizeof fds)];
  } control = { 0 };
  struct msghdr message = { .msg_iov = &iov,
                            .msg_iovlen = 1,
                            .msg_control = &control,
                            .msg_controllen = sizeof control.bytes };
  struct cmsghdr *head = CMSG_FIRSTHDR (&message);
  ssize_t n;

  head->cmsg_level = SOL_SOCKET;
  head->cmsg_type = SCM_RIGHTS;
  head->cmsg_len = CMSG_LEN (sizeof fds);
  memcpy (CMSG_DATA (head), fds, sizeof fds);
  do
    n = sendmsg (fd, &message, MSG_NOSIGNAL);
  while (n < 0 && errno == EINTR);
  return n == (ssize_t)iov.iov_len;
}

/* /dev/null in the place of what was handed over: a stray message then does no harm. */
static void
drop_own_copies (void)
{
  int null = open ("/dev/null", O_RDWR | O_CLOEXEC);

  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
    if (null < 0 || dup2 (null, fd) < 0)
      close (fd);
  if (null > STDERR_FILENO)
    close (null);
}

int
nf_relay_run (const NfSiteConf *conf, const char *site)
{
  g_autoptr (GError) error = NULL;
  char byte;
  ssize_t n;
  int fd;

  if (*site == '\0' || strlen (site) > NF_MAP_NAME_MAX || strpbrk (site, "\n ") != NULL)
    {
      fprintf (stderr, "nearfs relay: \"%s\" can't be the name of a site\n", site);
      return 1;
    }
  fd = nf_accept_connect (conf->runtime, &error);
  if (fd < 0)
    {
      fprintf (stderr, "nearfs relay: %s\n", error->message);
      return 1;
    }
  if (!hand_over (fd, site))
    {
      fprintf (stderr, "nearfs relay: the daemon doesn't take the connection: %s\n",
               g_strerror (errno));
      return 1;
    }
  drop_own_copies ();
  do
    n = read (fd, &byte, 1);
  while (n > 0 || (n < 0 && errno == EINTR));
  return 0;
}
