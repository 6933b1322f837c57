// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "net/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/hub.h"

/* 0 or an errno. */
static int
spawn (const char *const *args, int stream_fd, int text_fd, pid_t *ret_pid)
{
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attr;
  sigset_t none, all;
  int err;

  sigemptyset (&none);
  sigfillset (&all);
  posix_spawn_file_actions_init (&actions);
  posix_spawn_file_actions_adddup2 (&actions, stream_fd, STDIN_FILENO);
  posix_spawn_file_actions_adddup2 (&actions, stream_fd, STDOUT_FILENO);
  if (text_fd >= 0)
    posix_spawn_file_actions_adddup2 (&actions, text_fd, STDERR_FILENO);
  else
    posix_spawn_file_actions_addopen (&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  posix_spawnattr_init (&attr);
  posix_spawnattr_setsigmask (&attr, &none);
  posix_spawnattr_setsigdefault (&attr, &all);
  posix_spawnattr_setflags (&attr,
                            POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
  err = posix_spawnp (ret_pid, args[0], &actions, &attr, (char *const *)args, environ);
  posix_spawnattr_destroy (&attr);
  posix_spawn_file_actions_destroy (&actions);
  return err;
}

static void
close_pair (int *fds)
{
  for (int i = 0; i < 2; i++)
    if (fds[i] >= 0)
      close (fds[i]);
}

gboolean
nf_spawn (const char *const *args, gboolean want_text, NfFdLane *ret_lane, GError **error)
{
  int stream[2] = { -1, -1 };
  int text[2] = { -1, -1 };
  pid_t pid = 0;
  int err = 0;

  if (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, stream) < 0
      || (want_text && pipe2 (text, O_CLOEXEC) < 0))
    err = errno;
  else
    err = spawn (args, stream[1], text[1], &pid);
  if (err != 0)
    {
      close_pair (stream);
      close_pair (text);
      g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_FAILED, "starting %s: %s", args[0],
                   g_strerror (err));
      return FALSE;
    }
  close (stream[1]);
  if (want_text)
    close (text[1]);
  *ret_lane
      = (NfFdLane){ .in = stream[0], .out = stream[0], .hold = -1, .text = text[0], .pid = pid };
  return TRUE;
}
