// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Plain file work, timed. Each prints how much of it was done in a second, so more is better:
 *
 *   nf-bench sequential FILE          MB read, in blocks of 1 MiB
 *   nf-bench random FILE N            reads of 4 KiB
 *   nf-bench stat DIR N               stats of DIR's files, round and round
 *   nf-bench list DIR N               listings of DIR
 *   nf-bench mapped FILE              MB read through a mapping
 *   nf-bench find DIR                 names below DIR, listed and statted
 *   nf-bench open DIR N               files opened, read and closed
 *   nf-bench create DIR N BYTES       files created, written and closed
 *   nf-bench rename|unlink DIR N      of those
 *   nf-bench write FILE BYTES BLOCK   MB written and closed
 *
 *   nf-bench cold FILE                nothing is timed: the file leaves the page cache, as far as its owner may do that
 */

#define MIB (1024 * 1024)

static void G_GNUC_NORETURN
stop (const char *what)
{
  fprintf (stderr, "nf-bench: %s: %s\n", what, g_strerror (errno));
  exit (1);
}

static int
open_or_stop (const char *path, int flags)
{
  int fd = open (path, flags | O_CLOEXEC, 0644);

  if (fd < 0)
    stop (path);
  return fd;
}

static double
sequential (const char *path)
{
  g_autofree char *buffer = g_malloc (MIB);
  int fd = open_or_stop (path, O_RDONLY);
  double bytes = 0;
  ssize_t n;

  while ((n = read (fd, buffer, MIB)) > 0)
    bytes += (double)n;
  if (n < 0)
    stop (path);
  close (fd);
  return bytes / 1e6;
}

static double
random_reads (const char *path, guint n)
{
  char buffer[4096];
  int fd = open_or_stop (path, O_RDONLY);
  off_t blocks = lseek (fd, 0, SEEK_END) / (off_t)sizeof buffer;
  g_autoptr (GRand) rand = g_rand_new_with_seed (n);

  for (guint i = 0; i < n; i++)
    {
      off_t block = g_rand_int_range (rand, 0, (gint32)blocks);
      if (pread (fd, buffer, sizeof buffer, block * (off_t)sizeof buffer) != sizeof buffer)
        stop (path);
    }
  close (fd);
  return n;
}

/* All of it, once, where it lies in the page cache. */
static double
mapped (const char *path)
{
  int fd = open_or_stop (path, O_RDONLY);
  struct stat st;
  guint64 sum = 0;

  if (fstat (fd, &st) != 0)
    stop (path);
  const guint64 *map = mmap (NULL, (gsize)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
  if (map == MAP_FAILED)
    stop (path);
  for (gsize i = 0; i < (gsize)st.st_size / sizeof *map; i++)
    sum += map[i];
  volatile guint64 kept = sum; /* or nothing would be read */
  (void)kept;
  (void)munmap ((void *)map, (gsize)st.st_size);
  close (fd);
  return (double)st.st_size / 1e6;
}

static GPtrArray *
files_of (const char *dir)
{
  GPtrArray *files = g_ptr_array_new_with_free_func (g_free);
  GDir *listing = g_dir_open (dir, 0, NULL);
  const char *name;

  while (listing && (name = g_dir_read_name (listing)))
    g_ptr_array_add (files, g_build_filename (dir, name, NULL));
  if (files->len == 0)
    stop (dir);
  g_dir_close (listing);
  return files;
}

static double
stats (const char *dir, guint n)
{
  g_autoptr (GPtrArray) files = files_of (dir);
  struct stat st;

  for (guint i = 0; i < n; i++)
    if (lstat (files->pdata[i % files->len], &st) != 0)
      stop (files->pdata[i % files->len]);
  return n;
}

static double
listings (const char *dir, guint n)
{
  for (guint i = 0; i < n; i++)
    g_ptr_array_unref (files_of (dir));
  return n;
}

static double
find (const char *path)
{
  struct stat st;
  double names = 1;

  if (lstat (path, &st) != 0)
    stop (path);
  if (!S_ISDIR (st.st_mode))
    return names;
  DIR *dir = opendir (path);
  const struct dirent *entry;
  if (!dir)
    stop (path);
  while ((entry = readdir (dir)))
    if (strcmp (entry->d_name, ".") != 0 && strcmp (entry->d_name, "..") != 0)
      {
        g_autofree char *child = g_build_filename (path, entry->d_name, NULL);
        names += find (child);
      }
  closedir (dir);
  return names;
}

static double
opens (const char *dir, guint n)
{
  g_autoptr (GPtrArray) files = files_of (dir);

  for (guint i = 0; i < n; i++)
    (void)sequential (files->pdata[i % files->len]);
  return n;
}

static void
write_blocks (const char *path, int flags, guint64 size, gsize block)
{
  g_autofree char *data = g_malloc (block);
  int fd = open_or_stop (path, flags | O_WRONLY | O_CREAT);

  memset (data, 'x', block);
  for (guint64 done = 0; done < size; done += block)
    {
      gsize len = MIN (block, size - done);
      if (write (fd, data, len) != (ssize_t)len)
        stop (path);
    }
  if (close (fd) != 0)
    stop (path);
}

static char *
numbered (const char *dir, const char *kind, guint i)
{
  return g_strdup_printf ("%s/%s.%u", dir, kind, i);
}

static double
create (const char *dir, guint n, guint size)
{
  for (guint i = 0; i < n; i++)
    {
      g_autofree char *path = numbered (dir, "new", i);
      write_blocks (path, O_EXCL, size, MAX (size, 1));
    }
  return n;
}

static double
rename_all (const char *dir, guint n)
{
  for (guint i = 0; i < n; i++)
    {
      g_autofree char *from = numbered (dir, "new", i);
      g_autofree char *to = numbered (dir, "old", i);
      if (rename (from, to) != 0)
        stop (from);
    }
  return n;
}

static double
unlink_all (const char *dir, guint n)
{
  for (guint i = 0; i < n; i++)
    {
      g_autofree char *path = numbered (dir, "old", i);
      if (unlink (path) != 0)
        stop (path);
    }
  return n;
}

static double
write_one (const char *path, guint size, guint block)
{
  write_blocks (path, O_TRUNC, size, block);
  return size / 1e6;
}

static double
cold (const char *path)
{
  int fd = open_or_stop (path, O_RDONLY);

  (void)fsync (fd); /* only clean pages go */
  if (posix_fadvise (fd, 0, 0, POSIX_FADV_DONTNEED) != 0)
    stop (path);
  close (fd);
  return 0;
}

static guint
number (char **argv, int i)
{
  guint64 value = 0;

  if (!argv[i] || !g_ascii_string_to_unsigned (argv[i], 10, 1, G_MAXUINT32, &value, NULL))
    {
      fprintf (stderr, "nf-bench: a number is missing\n");
      exit (2);
    }
  return (guint)value;
}

static double
run (const char *verb, const char *path, char **argv)
{
  if (g_str_equal (verb, "sequential"))
    return sequential (path);
  if (g_str_equal (verb, "random"))
    return random_reads (path, number (argv, 3));
  if (g_str_equal (verb, "mapped"))
    return mapped (path);
  if (g_str_equal (verb, "stat"))
    return stats (path, number (argv, 3));
  if (g_str_equal (verb, "list"))
    return listings (path, number (argv, 3));
  if (g_str_equal (verb, "find"))
    return find (path);
  if (g_str_equal (verb, "open"))
    return opens (path, number (argv, 3));
  if (g_str_equal (verb, "create"))
    return create (path, number (argv, 3), number (argv, 4));
  if (g_str_equal (verb, "rename"))
    return rename_all (path, number (argv, 3));
  if (g_str_equal (verb, "unlink"))
    return unlink_all (path, number (argv, 3));
  if (g_str_equal (verb, "write"))
    return write_one (path, number (argv, 3), number (argv, 4));
  if (g_str_equal (verb, "cold"))
    return cold (path);
  fprintf (stderr, "nf-bench: unknown work '%s'\n", verb);
  exit (2);
}

int
main (int argc, char **argv)
{
  if (argc < 3)
    {
      fprintf (stderr, "usage: see the head of nf-bench.c\n");
      return 2;
    }
  gint64 start = g_get_monotonic_time ();
  double done = run (argv[1], argv[2], argv);
  gint64 us = MAX (g_get_monotonic_time () - start, 1);
  printf ("%.3f\n", done / ((double)us / 1e6));
  return 0;
}
