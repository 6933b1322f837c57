// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "nf-work.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Files of which each name is printed as soon as it was acknowledged: by close(), or fsync() with SYNC. Whatever is
 * killed then, what was printed must be found. */

#define BODY_MAX 20000
/* Between two files, so that a writer at the primary, who waits for nobody, doesn't keep all others busy. */
#define PAUSE_US 5000

static char *
body (const char *name)
{
  guint len = 1 + g_str_hash (name) % BODY_MAX;
  GString *text = g_string_new (name);

  while (text->len < len)
    g_string_append_printf (text, " %zu %s", text->len, name);
  return g_string_free (text, FALSE);
}

static int
write_one (const char *dir, const char *name, gboolean sync)
{
  g_autofree char *path = g_build_filename (dir, name, NULL);
  g_autofree char *text = body (name);
  gsize len = strlen (text);
  int fd = open (path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

  if (fd < 0)
    return -errno;
  ssize_t n = write (fd, text, len);
  int err = n == (ssize_t)len ? 0 : n < 0 ? -errno : -EIO;
  if (err == 0 && sync && fsync (fd) != 0)
    err = -errno;
  if (close (fd) != 0 && err == 0)
    err = -errno;
  return err;
}

/* Until N are acknowledged, or the proxy is gone. */
int
nf_work_acked_write (const char *dir, const char *id, guint n, gboolean sync)
{
  for (guint i = 0; i < n; i++)
    {
      g_autofree char *name = g_strdup_printf ("%s.%u", id, i);
      int err = write_one (dir, name, sync);
      if (err != 0)
        {
          g_autofree char *text = nf_work_errno (-err);
          fprintf (stderr, "%s: %s\n", name, text);
          return 3;
        }
      puts (name);
      (void)fflush (stdout);
      g_usleep (PAUSE_US);
    }
  return 0;
}

int
nf_work_acked_read (const char *dir, const char *list)
{
  g_autofree char *names = NULL;
  g_auto (GStrv) lines = NULL;
  guint found = 0;

  if (!g_file_get_contents (list, &names, NULL, NULL))
    nf_work_broken ("can't read %s", list);
  lines = g_strsplit (names, "\n", -1);
  for (char **name = lines; *name && **name; name++)
    {
      g_autofree char *path = g_build_filename (dir, *name, NULL);
      g_autofree char *expected = body (*name);
      gsize len;
      g_autofree char *text = nf_work_read (path, &len);
      if (!text)
        nf_work_broken ("%s was acknowledged and is lost", *name);
      if (!g_str_equal (text, expected))
        nf_work_broken ("%s was acknowledged with %zu bytes and has %zu, or others", *name,
                        strlen (expected), len);
      found++;
    }
  printf ("all %u acknowledged files are there\n", found);
  return 0;
}
