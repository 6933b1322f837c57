// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "nf-bench.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB (1024 * 1024)
#define PAGE 4096

double
nf_bench_sequential (const char *path)
{
  g_autofree char *buffer = g_malloc (MIB);
  int fd = nf_bench_open (path, O_RDONLY);
  double bytes = 0;
  ssize_t n;

  while ((n = read (fd, buffer, MIB)) > 0)
    bytes += (double)n;
  if (n < 0)
    nf_bench_stop (path);
  close (fd);
  return bytes / 1e6;
}

double
nf_bench_random (const char *path, guint n)
{
  char buffer[PAGE];
  int fd = nf_bench_open (path, O_RDONLY);
  off_t blocks = lseek (fd, 0, SEEK_END) / PAGE;
  g_autoptr (GRand) rand = g_rand_new_with_seed (n);

  for (guint i = 0; i < n; i++)
    {
      off_t block = g_rand_int_range (rand, 0, (gint32)blocks);
      if (pread (fd, buffer, sizeof buffer, block * PAGE) != sizeof buffer)
        nf_bench_stop (path);
    }
  close (fd);
  return n;
}

/* Copied out page by page, as a program that looks at all of it would. */
double
nf_bench_map (const char *path)
{
  char buffer[PAGE];
  int fd = nf_bench_open (path, O_RDONLY);
  struct stat st;

  if (fstat (fd, &st) != 0)
    nf_bench_stop (path);
  gsize size = (gsize)st.st_size;
  const char *map = mmap (NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (map == MAP_FAILED)
    nf_bench_stop (path);
  for (gsize at = 0; at + PAGE <= size; at += PAGE)
    {
      memcpy (buffer, map + at, PAGE);
      __asm__ volatile("" : : "r"(buffer) : "memory"); /* or the copy would be left out */
    }
  (void)munmap ((void *)map, size);
  close (fd);
  return (double)size / 1e6;
}

double
nf_bench_open_files (const char *dir, guint n)
{
  char buffer[4 * PAGE];

  for (guint i = 0; i < n; i++)
    {
      g_autofree char *path = nf_bench_numbered (dir, "new", i);
      int fd = nf_bench_open (path, O_RDONLY);
      if (read (fd, buffer, sizeof buffer) <= 0)
        nf_bench_stop (path);
      close (fd);
    }
  return n;
}
