// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/busy.h"

#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "map/path.h"

/* Enough to act on; a shell loop in the mount may be hundreds. */
#define BUSY_MAX 20

/* Only links are read, and nothing is looked up: looking would go through the mount. */
static char *
read_link (const char *path)
{
  char target[PATH_MAX];
  ssize_t len = readlink (path, target, sizeof target - 1);

  if (len < 0)
    return NULL;
  target[len] = '\0';
  if (g_str_has_suffix (target, " (deleted)"))
    target[(gsize)len - strlen (" (deleted)")] = '\0';
  return g_strdup (target);
}

static char *
inside (const char *link, const char *mountpoint)
{
  g_autofree char *target = read_link (link);

  return target && *target == '/' && nf_path_within (mountpoint, target) ? g_steal_pointer (&target)
                                                                         : NULL;
}

static char *
find_mapping (const char *process, const char *mountpoint)
{
  g_autofree char *path = g_build_filename (process, "maps", NULL);
  g_autofree char *text = NULL;
  g_auto (GStrv) lines = NULL;

  if (!g_file_get_contents (path, &text, NULL, NULL))
    return NULL;
  lines = g_strsplit (text, "\n", -1);
  for (char **line = lines; *line; line++)
    {
      const char *name = strchr (*line, '/');
      if (name && nf_path_within (mountpoint, name))
        return g_strdup (name);
    }
  return NULL;
}

static char *
find_open (const char *process, const char *mountpoint)
{
  g_autofree char *fds = g_build_filename (process, "fd", NULL);
  g_autoptr (GDir) dir = g_dir_open (fds, 0, NULL);
  const char *name;

  while (dir && (name = g_dir_read_name (dir)))
    {
      g_autofree char *link = g_build_filename (fds, name, NULL);
      char *found = inside (link, mountpoint);
      if (found)
        return found;
    }
  return NULL;
}

/* What PROCESS, a directory of /proc, has there. */
static char *
find_use (const char *process, const char *mountpoint)
{
  static const char *const links[] = { "cwd", "root", "exe" };
  char *found = NULL;

  for (gsize i = 0; i < G_N_ELEMENTS (links) && !found; i++)
    {
      g_autofree char *link = g_build_filename (process, links[i], NULL);
      found = inside (link, mountpoint);
    }
  if (!found)
    found = find_open (process, mountpoint);
  return found ? found : find_mapping (process, mountpoint);
}

char *
nf_busy_list (const char *mountpoint)
{
  g_autoptr (GDir) proc = g_dir_open ("/proc", 0, NULL);
  GString *list = g_string_new (NULL);
  guint n = 0;
  const char *pid;

  while (proc && n < BUSY_MAX && (pid = g_dir_read_name (proc)))
    {
      g_autofree char *process = g_build_filename ("/proc", pid, NULL);
      g_autofree char *comm_path = g_build_filename (process, "comm", NULL);
      g_autofree char *comm = NULL;
      g_autofree char *use = g_ascii_isdigit (*pid) ? find_use (process, mountpoint) : NULL;
      if (!use || !g_file_get_contents (comm_path, &comm, NULL, NULL))
        continue;
      g_string_append_printf (list, "%7s %s: %s\n", pid, g_strchomp (comm), use);
      n++;
    }
  return g_string_free (list, FALSE);
}
