// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "nf-bench.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static GPtrArray *
files_of (const char *dir)
{
  GPtrArray *files = g_ptr_array_new_with_free_func (g_free);
  GDir *listing = g_dir_open (dir, 0, NULL);
  const char *name;

  while (listing && (name = g_dir_read_name (listing)))
    g_ptr_array_add (files, g_build_filename (dir, name, NULL));
  if (files->len == 0)
    nf_bench_stop (dir);
  g_dir_close (listing);
  return files;
}

double
nf_bench_stat (const char *dir, guint n)
{
  g_autoptr (GPtrArray) files = files_of (dir);
  struct stat st;

  for (guint i = 0; i < n; i++)
    if (lstat (files->pdata[i % files->len], &st) != 0)
      nf_bench_stop (files->pdata[i % files->len]);
  return n;
}

/* No listing goes before it, as that would bring the attributes along. */
double
nf_bench_stat_new (const char *dir, guint n)
{
  struct stat st;

  for (guint i = 0; i < n; i++)
    {
      g_autofree char *path = nf_bench_numbered (dir, "new", i);
      if (lstat (path, &st) != 0)
        nf_bench_stop (path);
    }
  return n;
}

/* Of a hundred names that aren't there: the first hundred ask the filesystem. */
double
nf_bench_miss (const char *dir, guint n)
{
  struct stat st;

  for (guint i = 0; i < n; i++)
    {
      g_autofree char *path = nf_bench_numbered (dir, "none", i % 100);
      if (lstat (path, &st) == 0 || errno != ENOENT)
        nf_bench_stop (path);
    }
  return n;
}

double
nf_bench_list (const char *dir, guint n)
{
  for (guint i = 0; i < n; i++)
    g_ptr_array_unref (files_of (dir));
  return n;
}

double
nf_bench_find (const char *path)
{
  struct stat st;
  double names = 1;

  if (lstat (path, &st) != 0)
    nf_bench_stop (path);
  if (!S_ISDIR (st.st_mode))
    return names;
  DIR *dir = opendir (path);
  const struct dirent *entry;
  if (!dir)
    nf_bench_stop (path);
  while ((entry = readdir (dir)))
    if (strcmp (entry->d_name, ".") != 0 && strcmp (entry->d_name, "..") != 0)
      {
        g_autofree char *child = g_build_filename (path, entry->d_name, NULL);
        names += nf_bench_find (child);
      }
  closedir (dir);
  return names;
}

double
nf_bench_rename (const char *dir, guint n)
{
  for (guint i = 0; i < n; i++)
    {
      g_autofree char *from = nf_bench_numbered (dir, "new", i);
      g_autofree char *to = nf_bench_numbered (dir, "old", i);
      if (rename (from, to) != 0)
        nf_bench_stop (from);
    }
  return n;
}
