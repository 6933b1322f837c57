// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "tests/sim.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

/* Directories of the simulated sites, made, compared and removed. */

char *
nf_sim_make_dir (void)
{
  char *dir = g_build_filename (g_get_tmp_dir (), "nearfs-test-XXXXXX", NULL);

  if (!g_mkdtemp (dir))
    g_error ("can't make %s: %s", dir, g_strerror (errno));
  return dir;
}

static int
remove_one (const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
  (void)st;
  (void)flag;
  (void)ftw;
  return remove (path);
}

void
nf_sim_remove_dir (char *dir)
{
  if (nftw (dir, remove_one, 64, FTW_DEPTH | FTW_PHYS) != 0)
    g_printerr ("can't remove %s: %s\n", dir, g_strerror (errno));
  g_free (dir);
}

static int
compare_names (gconstpointer a, gconstpointer b)
{
  return strcmp (*(const char *const *)a, *(const char *const *)b);
}

static void
describe_xattrs (const char *path, GString *text)
{
  g_autofree char *list = g_malloc (65536);
  g_autoptr (GPtrArray) names = g_ptr_array_new ();
  ssize_t len = llistxattr (path, list, 65536);
  char value[4096];

  for (ssize_t pos = 0; pos < len; pos += (ssize_t)strlen (list + pos) + 1)
    if (!strstr (list + pos, ".nearfs.") && !g_str_has_prefix (list + pos, "security."))
      g_ptr_array_add (names, list + pos);
  g_ptr_array_sort (names, compare_names);
  for (guint i = 0; i < names->len; i++)
    {
      ssize_t n = lgetxattr (path, names->pdata[i], value, sizeof value);
      g_string_append_printf (text, " %s=%.*s", (char *)names->pdata[i], (int)MAX (n, 0), value);
    }
}

static void
describe_content (const char *path, const struct stat *st, GString *text)
{
  g_autofree char *content = NULL;
  gsize len = 0;

  if (S_ISLNK (st->st_mode))
    {
      g_autofree char *target = g_file_read_link (path, NULL);
      g_string_append_printf (text, " -> %s", target);
    }
  else if (S_ISREG (st->st_mode) && g_file_get_contents (path, &content, &len, NULL))
    {
      g_autofree char *sum = g_compute_checksum_for_data (G_CHECKSUM_MD5, (guchar *)content, len);
      g_string_append_printf (text, " %s", sum);
    }
}

/* Hard links: the first path under which the inode was met stands for it. */
static void
describe (const char *path, const char *shown, GHashTable *inodes, GString *text)
{
  struct stat st;

  if (lstat (path, &st) != 0)
    g_error ("can't stat %s: %s", path, g_strerror (errno));
  g_string_append_printf (text, "%s %o %u:%u %" G_GINT64_FORMAT ".%09ld", shown, st.st_mode,
                          st.st_uid, st.st_gid, (gint64)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
  if (!S_ISDIR (st.st_mode))
    {
      guint64 ino = st.st_ino;
      const char *first = g_hash_table_lookup (inodes, &ino);
      if (!first)
        g_hash_table_insert (inodes, g_memdup2 (&ino, sizeof ino), g_strdup (shown));
      g_string_append_printf (text, " size %" G_GINT64_FORMAT " is %s", (gint64)st.st_size,
                              first ? first : "itself");
    }
  describe_content (path, &st, text);
  describe_xattrs (path, text);
  g_string_append_c (text, '\n');
}

static void
walk (const char *path, const char *shown, GHashTable *inodes, GString *text)
{
  g_autoptr (GPtrArray) names = g_ptr_array_new_with_free_func (g_free);
  DIR *dir = opendir (path);
  struct dirent *entry;

  describe (path, shown, inodes, text);
  while (dir && (entry = readdir (dir)))
    if (strcmp (entry->d_name, ".") != 0 && strcmp (entry->d_name, "..") != 0
        && strcmp (entry->d_name, ".nearfs") != 0)
      g_ptr_array_add (names, g_strdup (entry->d_name));
  if (dir)
    closedir (dir);
  g_ptr_array_sort (names, compare_names);
  for (guint i = 0; i < names->len; i++)
    {
      g_autofree char *child = g_build_filename (path, names->pdata[i], NULL);
      g_autofree char *child_shown = g_build_filename (shown, names->pdata[i], NULL);
      struct stat st;
      if (lstat (child, &st) == 0 && S_ISDIR (st.st_mode))
        walk (child, child_shown, inodes, text);
      else
        describe (child, child_shown, inodes, text);
    }
}

char *
nf_sim_describe_dir (const char *dir)
{
  g_autoptr (GHashTable) inodes
      = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, g_free);
  GString *text = g_string_new (NULL);

  walk (dir, ".", inodes, text);
  return g_string_free (text, FALSE);
}
