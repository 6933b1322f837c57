// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "nf-bench.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define BLOCK 4096

static void
write_blocks (const char *path, int flags, guint64 size, gsize block)
{
  g_autofree char *data = g_malloc (block);
  int fd = nf_bench_open (path, flags | O_WRONLY | O_CREAT);

  memset (data, 'x', block);
  for (guint64 done = 0; done < size; done += block)
    {
      gsize len = MIN (block, size - done);
      if (write (fd, data, len) != (ssize_t)len)
        nf_bench_stop (path);
    }
  if (close (fd) != 0)
    nf_bench_stop (path);
}

double
nf_bench_create (const char *dir, guint n, guint size)
{
  for (guint i = 0; i < n; i++)
    {
      g_autofree char *path = nf_bench_numbered (dir, "new", i);
      write_blocks (path, O_EXCL, size, MAX (size, 1));
    }
  return n;
}

double
nf_bench_unlink (const char *dir, guint n)
{
  for (guint i = 0; i < n; i++)
    {
      g_autofree char *path = nf_bench_numbered (dir, "old", i);
      if (unlink (path) != 0)
        nf_bench_stop (path);
    }
  return n;
}

double
nf_bench_write (const char *path, guint size, guint block)
{
  write_blocks (path, O_TRUNC, size, block);
  return size / 1e6;
}

/* In place, in a file that is there. */
double
nf_bench_overwrite (const char *path, guint n)
{
  char data[BLOCK];
  int fd = nf_bench_open (path, O_WRONLY);
  off_t blocks = lseek (fd, 0, SEEK_END) / BLOCK;
  g_autoptr (GRand) rand = g_rand_new_with_seed (n);

  memset (data, 'y', sizeof data);
  for (guint i = 0; i < n; i++)
    {
      off_t block = g_rand_int_range (rand, 0, (gint32)blocks);
      if (pwrite (fd, data, sizeof data, block * BLOCK) != sizeof data)
        nf_bench_stop (path);
    }
  if (close (fd) != 0)
    nf_bench_stop (path);
  return n * (double)BLOCK / 1e6;
}
