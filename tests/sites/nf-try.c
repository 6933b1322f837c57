// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "nf-work.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

/* One call, or one file written. Prints "RESULT MILLISECONDS", where RESULT is "ok" or "ENAME CALL", and succeeds in
 * either case: what is right is for the script to say. */

static const char *failed_call;

static int
note (const char *call, int result)
{
  if (result < 0)
    failed_call = call;
  return result;
}

/* A pattern by offset, so that what arrived can be told from what didn't. */
static void
fill (char *data, gsize len, guint64 offset)
{
  for (gsize i = 0; i < len; i++)
    data[i] = (char)('a' + (offset + i) / 7 % 26);
}

/* Blocks of BLOCK bytes until SIZE. An error of a write is kept over those of fsync() and close(), which are made all
 * the same. */
static int
write_file (const char *path, int flags, guint64 size, gsize block, gboolean sync)
{
  g_autofree char *data = g_malloc (block);
  int fd = note ("open", open (path, flags | O_WRONLY | O_CLOEXEC, 0644));
  int err = 0;

  if (fd < 0)
    return -1;
  for (guint64 done = 0; done < size && err == 0; done += block)
    {
      gsize len = MIN (block, size - done);
      fill (data, len, done);
      ssize_t n = write (fd, data, len);
      err = n == (ssize_t)len ? 0 : n < 0 ? errno : EIO;
      (void)note ("write", err == 0 ? 0 : -1);
    }
  if (err == 0 && sync && note ("fsync", fsync (fd)) < 0)
    err = errno;
  if (close (fd) < 0 && err == 0)
    {
      failed_call = "close";
      err = errno;
    }
  errno = err;
  return err == 0 ? 0 : -1;
}

static int
read_file (const char *path)
{
  static char buffer[65536];
  int fd = note ("open", open (path, O_RDONLY | O_CLOEXEC));
  ssize_t n;

  if (fd < 0)
    return -1;
  while ((n = read (fd, buffer, sizeof buffer)) > 0)
    ;
  int err = n < 0 ? errno : 0;
  (void)note ("read", (int)n);
  close (fd);
  errno = err;
  return err == 0 ? 0 : -1;
}

/* How much of the file is write_file()'s pattern, as exit status. */
static int
check_file (const char *path, guint64 size)
{
  gsize len;
  g_autofree char *data = nf_work_read (path, &len);
  g_autofree char *expected = g_malloc (len + 1);

  if (!data)
    nf_work_broken ("%s is not there", path);
  fill (expected, len, 0);
  if (memcmp (data, expected, len) != 0)
    nf_work_broken ("%s holds what was never written, in its first %zu bytes", path, len);
  if (len > size)
    nf_work_broken ("%s has %zu bytes, %" G_GUINT64_FORMAT " at most were written", path, len,
                    size);
  printf ("%zu\n", len);
  return 0;
}

static int
one_call (const char *verb, const char *path, const char *arg)
{
  struct stat st;
  guint64 number = arg ? g_ascii_strtoull (arg, NULL, 10) : 0;

  if (g_str_equal (verb, "stat"))
    return note (verb, lstat (path, &st));
  if (g_str_equal (verb, "read"))
    return read_file (path);
  if (g_str_equal (verb, "mkdir"))
    return note (verb, mkdir (path, 0755));
  if (g_str_equal (verb, "rmdir"))
    return note (verb, rmdir (path));
  if (g_str_equal (verb, "unlink"))
    return note (verb, unlink (path));
  if (g_str_equal (verb, "chmod"))
    return note (verb, chmod (path, 0600));
  if (g_str_equal (verb, "rename") && arg)
    return note (verb, rename (path, arg));
  if (g_str_equal (verb, "symlink") && arg)
    return note (verb, symlink (arg, path));
  if (g_str_equal (verb, "link") && arg)
    return note (verb, link (path, arg));
  if (g_str_equal (verb, "truncate") && arg)
    return note (verb, truncate (path, (off_t)number));
  if (g_str_equal (verb, "setxattr") && arg)
    return note (verb, setxattr (path, "user.test", arg, strlen (arg), 0));
  if (g_str_equal (verb, "create"))
    return write_file (path, O_CREAT | O_EXCL, number, 131072, FALSE);
  if (g_str_equal (verb, "write") && arg)
    return write_file (path, O_CREAT | O_TRUNC, number, 131072, FALSE);
  if (g_str_equal (verb, "sync") && arg)
    return write_file (path, O_CREAT | O_TRUNC, number, 131072, TRUE);
  if (g_str_equal (verb, "append") && arg)
    return write_file (path, O_APPEND, number, 131072, FALSE);
  nf_work_broken ("try %s: unknown, or an argument is missing", verb);
}

int
nf_work_try (int argc, char **argv)
{
  const char *arg = argc > 2 ? argv[2] : NULL;

  if (argc < 2)
    nf_work_broken ("try: expected a call and a path");
  if (g_str_equal (argv[0], "check"))
    return check_file (argv[1], arg ? g_ascii_strtoull (arg, NULL, 10) : G_MAXUINT64);
  gint64 start = g_get_monotonic_time ();
  int result = one_call (argv[0], argv[1], arg);
  g_autofree char *name = nf_work_errno (errno);
  long ms = (long)((g_get_monotonic_time () - start) / 1000);
  if (result < 0)
    printf ("%s %s %ld\n", name, failed_call, ms);
  else
    printf ("ok - %ld\n", ms);
  return 0;
}
