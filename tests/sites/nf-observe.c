// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "nf-work.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Watching a tree that others change: it may change under the reader's hands, but never fail in a way in which a local
 * disk wouldn't. */

static guint64 seen;

/* What a name that changes between two calls may give. */
static gboolean
is_change (int err)
{
  return err == ENOENT || err == ESTALE || err == ENOTDIR || err == ELOOP || err == EISDIR;
}

static void
check (const char *call, const char *name)
{
  if (is_change (errno))
    return;
  g_autofree char *err = nf_work_errno (errno);
  if (nf_work_may_fail (err))
    return;
  g_autofree char *valid = g_utf8_make_valid (name, -1);
  nf_work_broken ("%s %s: %s", call, valid, err);
}

static void
read_through (int fd, const char *name)
{
  static char buffer[131072];
  struct stat st;
  ssize_t n;

  if (fstat (fd, &st) != 0)
    check ("fstat", name);
  while ((n = read (fd, buffer, sizeof buffer)) > 0)
    ;
  if (n < 0)
    check ("read", name);
}

static void observe_dir (int fd, guint depth);

static void
observe_entry (int dir, const char *name, guint depth)
{
  struct stat st;
  char target[PATH_MAX];

  seen++;
  if (fstatat (dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
    {
      check ("stat", name);
      return;
    }
  if (S_ISLNK (st.st_mode))
    {
      /* EINVAL: it isn't a symlink any more. */
      if (readlinkat (dir, name, target, sizeof target) < 0 && errno != EINVAL)
        check ("readlink", name);
      return;
    }
  if (!S_ISREG (st.st_mode) && !S_ISDIR (st.st_mode))
    return;
  int fd = openat (dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0)
    check ("open", name);
  else if (fstat (fd, &st) == 0 && S_ISDIR (st.st_mode))
    observe_dir (fd, depth + 1); /* takes fd */
  else
    {
      read_through (fd, name);
      close (fd);
    }
}

static void
observe_dir (int fd, guint depth)
{
  DIR *dir = fdopendir (fd);
  const struct dirent *entry;

  if (!dir || depth > 64)
    nf_work_broken ("opendir at depth %u: %s", depth, g_strerror (errno));
  while (errno = 0, (entry = readdir (dir)))
    if (strcmp (entry->d_name, ".") != 0 && strcmp (entry->d_name, "..") != 0)
      observe_entry (dirfd (dir), entry->d_name, depth);
  if (errno != 0)
    check ("readdir", "");
  closedir (dir);
}

int
nf_work_observe (const char *dir, guint seconds)
{
  gint64 until = g_get_monotonic_time () + (gint64)seconds * G_USEC_PER_SEC;
  guint rounds = 0;

  do
    {
      int fd = open (dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
      if (fd < 0)
        check ("open", dir);
      else
        observe_dir (fd, 0);
      rounds++;
    }
  while (g_get_monotonic_time () < until);
  printf ("%u rounds, %" G_GUINT64_FORMAT " entries\n", rounds, seen);
  return 0;
}

/* The subject says who delivered it and as which. A message that isn't whole has another length. */
static void
check_message (const char *path, const char *name)
{
  g_auto (GStrv) parts = g_strsplit (name, ".", -1);
  gsize len;
  g_autofree char *text = nf_work_read (path, &len);

  if (!text || g_strv_length (parts) != 2)
    nf_work_broken ("%s was listed and is gone, or has a strange name", path);
  g_autofree char *expected
      = g_strdup_printf ("From: %s\nSubject: %s\n\nbody\n", parts[0], parts[1]);
  if (!g_str_equal (text, expected))
    nf_work_broken ("%s isn't whole: %zu bytes, expected %zu", path, len, strlen (expected));
}

/* Reads each message as soon as it is listed; names that were there must stay. */
static guint
look_for_messages (const char *new, GHashTable *known)
{
  g_autoptr (GHashTable) now = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  g_autoptr (GError) error = NULL;
  g_autoptr (GDir) dir = g_dir_open (new, 0, &error);
  GHashTableIter iter;
  const char *name;

  if (!dir)
    nf_work_broken ("%s", error->message);
  while ((name = g_dir_read_name (dir)))
    {
      if (!g_hash_table_add (now, g_strdup (name)))
        nf_work_broken ("%s is listed twice in one reading of %s", name, new);
      if (g_hash_table_contains (known, name))
        continue;
      g_autofree char *path = g_build_filename (new, name, NULL);
      check_message (path, name);
      g_hash_table_add (known, g_strdup (name));
    }
  g_hash_table_iter_init (&iter, known);
  while (g_hash_table_iter_next (&iter, (gpointer *)&name, NULL))
    if (!g_hash_table_contains (now, name))
      nf_work_broken ("%s was in %s and isn't any more", name, new);
  return g_hash_table_size (known);
}

int
nf_work_maildir_read (const char *dir, guint n, guint seconds)
{
  g_autoptr (GHashTable) known = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  g_autofree char *new = g_build_filename (dir, "new", NULL);
  gint64 until = g_get_monotonic_time () + (gint64)seconds * G_USEC_PER_SEC;
  guint count, rounds = 0;

  while ((count = look_for_messages (new, known)) < n)
    {
      rounds++;
      if (g_get_monotonic_time () > until)
        nf_work_broken ("only %u of %u messages in %s after %u s", count, n, new, seconds);
    }
  printf ("read %u messages, whole, in %u rounds\n", count, rounds);
  return 0;
}
