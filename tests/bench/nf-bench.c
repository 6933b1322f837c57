// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "nf-bench.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Plain file work, timed. Each prints how much of it was done in a second, so more is better:
 *
 *   nf-bench sequential FILE          MB read, in blocks of 1 MiB
 *   nf-bench random FILE N            reads of 4 KiB
 *   nf-bench map FILE                 MB read through a mapping
 *   nf-bench open DIR N               files that "create" made: opened, read and closed
 *   nf-bench stat DIR N               stats of DIR's files, round and round
 *   nf-bench stat-new DIR N           stats of the files that "create" made, each once, with no listing before
 *   nf-bench miss DIR N               stats of names that aren't there
 *   nf-bench list DIR N               listings of DIR
 *   nf-bench find DIR                 names below DIR, listed and statted
 *   nf-bench create DIR N BYTES       files created, written and closed
 *   nf-bench rename|unlink DIR N      of those
 *   nf-bench write FILE BYTES BLOCK   MB written and closed
 *   nf-bench overwrite FILE N         MB written in place, in blocks of 4 KiB here and there
 *
 *   nf-bench cold FILE                nothing is timed: the file leaves the page cache, as far as its owner may do that
 */

void
nf_bench_stop (const char *what)
{
  fprintf (stderr, "nf-bench: %s: %s\n", what, g_strerror (errno));
  exit (1);
}

int
nf_bench_open (const char *path, int flags)
{
  int fd = open (path, flags | O_CLOEXEC, 0644);

  if (fd < 0)
    nf_bench_stop (path);
  return fd;
}

char *
nf_bench_numbered (const char *dir, const char *kind, guint i)
{
  return g_strdup_printf ("%s/%s.%u", dir, kind, i);
}

static double
cold (const char *path)
{
  int fd = nf_bench_open (path, O_RDONLY);

  (void)fsync (fd); /* only clean pages go */
  if (posix_fadvise (fd, 0, 0, POSIX_FADV_DONTNEED) != 0)
    nf_bench_stop (path);
  close (fd);
  return 0;
}

static const struct
{
  const char *name;
  double (*plain) (const char *path);
  double (*counted) (const char *path, guint n);
  double (*sized) (const char *path, guint n, guint size);
} WORKS[] = {
  { "sequential", .plain = nf_bench_sequential },
  { "random", .counted = nf_bench_random },
  { "map", .plain = nf_bench_map },
  { "open", .counted = nf_bench_open_files },
  { "stat", .counted = nf_bench_stat },
  { "stat-new", .counted = nf_bench_stat_new },
  { "miss", .counted = nf_bench_miss },
  { "list", .counted = nf_bench_list },
  { "find", .plain = nf_bench_find },
  { "create", .sized = nf_bench_create },
  { "rename", .counted = nf_bench_rename },
  { "unlink", .counted = nf_bench_unlink },
  { "write", .sized = nf_bench_write },
  { "overwrite", .counted = nf_bench_overwrite },
  { "cold", .plain = cold },
};

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
run (char **argv)
{
  for (gsize i = 0; i < G_N_ELEMENTS (WORKS); i++)
    if (g_str_equal (argv[1], WORKS[i].name))
      {
        if (WORKS[i].plain)
          return WORKS[i].plain (argv[2]);
        if (WORKS[i].counted)
          return WORKS[i].counted (argv[2], number (argv, 3));
        return WORKS[i].sized (argv[2], number (argv, 3), number (argv, 4));
      }
  fprintf (stderr, "nf-bench: unknown work '%s'\n", argv[1]);
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
  double done = run (argv);
  gint64 us = MAX (g_get_monotonic_time () - start, 1);
  printf ("%.3f\n", done / ((double)us / 1e6));
  return 0;
}
