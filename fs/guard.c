// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEATH_SIGNAL SIGUSR1

/* The descriptor by which the mount's connection can be ended, or -1. Its number is the minor one of the mount's
 * device; asking for that by stat() would be a request to ourselves. */
static int
open_abort (const char *mountpoint)
{
  g_autofree char *info = NULL;
  int fd = -1;

  if (!g_file_get_contents ("/proc/self/mountinfo", &info, NULL, NULL))
    return -1;
  g_auto (GStrv) lines = g_strsplit (info, "\n", -1);
  for (char **line = lines; *line; line++)
    {
      g_auto (GStrv) fields = g_strsplit (*line, " ", 6);
      if (g_strv_length (fields) < 6)
        continue;
      g_autofree char *where = g_strcompress (fields[4]);
      const char *minor = strchr (fields[2], ':');
      if (!minor || !g_str_equal (where, mountpoint))
        continue;
      g_autofree char *path = g_strdup_printf ("/sys/fs/fuse/connections/%s/abort", minor + 1);
      if (fd >= 0)
        close (fd); /* a later line lies over it */
      fd = open (path, O_WRONLY | O_CLOEXEC);
    }
  return fd;
}

/* In the child of a process with threads: only what signal handlers may do, too. */
static void G_GNUC_NORETURN
guard (pid_t daemon, int abort_fd, const char *mountpoint)
{
  sigset_t all, death;
  int number;

  sigfillset (&all);
  (void)sigprocmask (SIG_SETMASK, &all, NULL);
  sigemptyset (&death);
  sigaddset (&death, DEATH_SIGNAL);
  (void)prctl (PR_SET_NAME, "nearfs-guard");
  /* Whoever kills the daemon's process group, or sends it Ctrl-C, must not get us with it. */
  (void)setsid ();
  /* Not the mount's descriptor above all. */
  if (abort_fd >= 0)
    (void)dup2 (abort_fd, 0);
  (void)close_range (abort_fd >= 0 ? 1 : 0, ~0U, 0);
  (void)chdir ("/");
  /* It dies with the thread that has made us; others of the daemon may not be able to. */
  if (prctl (PR_SET_PDEATHSIG, DEATH_SIGNAL) == 0 && getppid () == daemon)
    while (sigwait (&death, &number) != 0)
      ;
  if (abort_fd < 0 || write (0, "1", 1) != 1)
    (void)umount2 (mountpoint, MNT_FORCE | UMOUNT_NOFOLLOW); /* ends it even if it can't unmount */
  _exit (0);
}

pid_t
nf_guard_start (const char *mountpoint)
{
  int abort_fd = open_abort (mountpoint);
  pid_t daemon = getpid ();
  pid_t child = fork ();

  if (child == 0)
    guard (daemon, abort_fd, mountpoint);
  int err = errno;
  if (abort_fd >= 0)
    close (abort_fd);
  return child > 0 ? child : -err;
}

void
nf_guard_stop (pid_t guard)
{
  if (guard <= 0)
    return;
  (void)kill (guard, SIGKILL);
  while (waitpid (guard, NULL, 0) < 0 && errno == EINTR)
    ;
}
