// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/background.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <sys/wait.h>
#include <unistd.h>

static int ready_fd = -1;

G_GNUC_NORETURN static void
wait_for_child (pid_t child, int fd)
{
  char byte;
  int status;
  ssize_t n;

  do
    n = read (fd, &byte, 1);
  while (n < 0 && errno == EINTR);
  if (n == 1)
    _exit (0);
  while (waitpid (child, &status, 0) < 0 && errno == EINTR)
    ;
  _exit (WIFEXITED (status) && WEXITSTATUS (status) != 0 ? WEXITSTATUS (status) : 1);
}

int
nf_background_start (void)
{
  int fds[2];
  pid_t child;

  if (pipe2 (fds, O_CLOEXEC) != 0)
    return -errno;
  child = fork ();
  if (child < 0)
    {
      int err = -errno;
      close (fds[0]);
      close (fds[1]);
      return err;
    }
  if (child > 0)
    {
      close (fds[1]);
      wait_for_child (child, fds[0]);
    }
  close (fds[0]);
  ready_fd = fds[1];
  (void)setsid (); /* fails only for a group's leader, which a new child isn't */
  return 0;
}

void
nf_background_ready (void)
{
  int null;

  if (ready_fd < 0)
    return;
  if (chdir ("/") != 0)
    {
      /* Then the directory that we were started in can't be unmounted. */
    }
  null = open ("/dev/null", O_RDWR | O_CLOEXEC);
  for (int fd = STDIN_FILENO; null >= 0 && fd <= STDERR_FILENO; fd++)
    (void)dup2 (null, fd); /* the numbers are open or free: both work */
  if (null > STDERR_FILENO)
    close (null);
  if (write (ready_fd, "", 1) < 0)
    {
      /* The parent was killed; nobody waits. */
    }
  close (ready_fd);
  ready_fd = -1;
}
