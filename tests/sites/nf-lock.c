// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include <glib.h>

/* A process with files and locks, told line by line what to do:
 *
 *   open N PATH rw|ro        range N r|w|u START LENGTH [wait]      get N r|w START LENGTH
 *   close N                  ofd   N r|w|u START LENGTH [wait]      flock N s|x|u [wait]
 *   read N                   write N TEXT                           (all of the file)
 *
 * It answers each with a line: "ok", an errno's name, or what was asked for. SIGUSR1 and SIGALRM interrupt what waits; SIGWINCH
 * is handled, too, and what waits goes on.
 *
 * And by itself: nf-lock count PATH TIMES HOW adds one to the number in PATH so often, under a lock. */

#define FILES 8

static int files[FILES];

static void
nothing (int number)
{
  (void)number;
}

static void
say (int rc)
{
  puts (rc == 0 ? "ok" : strerrorname_np (errno));
}

static int
ask_range (int fd, int cmd, const char *type, const char *start, const char *length)
{
  struct flock range = { .l_whence = SEEK_SET };

  range.l_type = *type == 'r' ? F_RDLCK : *type == 'w' ? F_WRLCK : F_UNLCK;
  range.l_start = atoll (start);
  range.l_len = atoll (length);
  return fcntl (fd, cmd, &range);
}

static void
get (int fd, const char *type, const char *start, const char *length)
{
  struct flock range = { .l_whence = SEEK_SET };

  range.l_type = *type == 'r' ? F_RDLCK : F_WRLCK;
  range.l_start = atoll (start);
  range.l_len = atoll (length);
  if (fcntl (fd, F_GETLK, &range) != 0)
    say (-1);
  else if (range.l_type == F_UNLCK)
    puts ("free");
  else
    printf ("%s %lld %lld\n", range.l_type == F_RDLCK ? "r" : "w", (long long)range.l_start,
            (long long)range.l_len);
}

static void
read_all (int fd)
{
  char text[4096];
  ssize_t n = pread (fd, text, sizeof text - 1, 0);

  if (n < 0)
    {
      say (-1);
      return;
    }
  text[n] = '\0';
  puts (text);
}

static int
write_all (int fd, const char *text)
{
  ssize_t len = (ssize_t)strlen (text);

  return ftruncate (fd, 0) == 0 && pwrite (fd, text, (size_t)len, 0) == len ? 0 : -1;
}

static int
do_flock (int fd, const char *type, gboolean wait)
{
  int op = *type == 's' ? LOCK_SH : *type == 'x' ? LOCK_EX : LOCK_UN;

  return flock (fd, wait ? op : op | LOCK_NB);
}

static int
do_open (guint n, const char *path, const char *how)
{
  files[n] = open (path, (g_str_equal (how, "ro") ? O_RDONLY : O_RDWR) | O_CLOEXEC);
  return files[n] < 0 ? -1 : 0;
}

/* WORDS end with empty ones. */
static void
carry_out (const char **words)
{
  const char *what = words[0];
  guint n = (guint)atoi (words[1]) % FILES;
  int fd = files[n];
  gboolean ofd = g_str_equal (what, "ofd");
  gboolean wait = g_str_equal (words[5], "wait");

  if (g_str_equal (what, "open"))
    say (do_open (n, words[2], words[3]));
  else if (g_str_equal (what, "close"))
    say (close (fd));
  else if (g_str_equal (what, "range"))
    say (ask_range (fd, wait ? F_SETLKW : F_SETLK, words[2], words[3], words[4]));
  else if (ofd)
    say (ask_range (fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, words[2], words[3], words[4]));
  else if (g_str_equal (what, "flock"))
    say (do_flock (fd, words[2], g_str_equal (words[3], "wait")));
  else if (g_str_equal (what, "get"))
    get (fd, words[2], words[3], words[4]);
  else if (g_str_equal (what, "read"))
    read_all (fd);
  else if (g_str_equal (what, "write"))
    say (write_all (fd, words[2]));
  else
    puts ("?");
}

/* ---- count ---- */

static int
lock_how (int fd, const char *how, gboolean take)
{
  if (g_str_equal (how, "flock"))
    return do_flock (fd, take ? "x" : "u", TRUE);
  return ask_range (fd, g_str_equal (how, "ofd") ? F_OFD_SETLKW : F_SETLKW, take ? "w" : "u", "0",
                    "0");
}

static int
add_one (int fd, const char *how)
{
  char text[32] = "";

  if (lock_how (fd, how, TRUE) != 0)
    return -1;
  ssize_t n = pread (fd, text, sizeof text - 1, 0);
  if (n < 0)
    return -1;
  text[n] = '\0';
  int len = snprintf (text, sizeof text, "%d\n", atoi (text) + 1);
  if (pwrite (fd, text, (size_t)len, 0) != len)
    return -1;
  return lock_how (fd, how, FALSE);
}

static int
count (const char *path, int times, const char *how)
{
  int fd = open (path, O_RDWR | O_CLOEXEC);
  int rc = fd < 0 ? -1 : 0;

  for (int i = 0; i < times && rc == 0; i++)
    rc = add_one (fd, how);
  if (rc != 0)
    perror (path);
  return rc == 0 && close (fd) == 0 ? 0 : 1;
}

int
main (int argc, char **argv)
{
  struct sigaction action = { .sa_handler = nothing };
  struct sigaction restarting = { .sa_handler = nothing, .sa_flags = SA_RESTART };
  char line[4096];

  if (argc == 5 && g_str_equal (argv[1], "count"))
    return count (argv[2], atoi (argv[3]), argv[4]);
  (void)sigaction (SIGUSR1, &action, NULL);
  (void)sigaction (SIGALRM, &action, NULL);
  (void)sigaction (SIGWINCH, &restarting, NULL);
  (void)setvbuf (stdout, NULL, _IOLBF, 0);
  while (fgets (line, sizeof line, stdin))
    {
      const char *words[8] = { "", "", "", "", "", "", "", "" };
      char *rest = NULL;
      guint n = 0;
      for (char *word = strtok_r (line, " \n", &rest); word && n < 7;
           word = strtok_r (NULL, " \n", &rest))
        words[n++] = word;
      carry_out (words);
    }
  return 0;
}
