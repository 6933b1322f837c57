// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "map/path.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "map/map.h"

const char *
nf_path_fault (const char *path)
{
  if (*path != '/')
    return "an absolute path";
  if (strlen (path) > NF_MAP_PATH_MAX)
    return "a path of at most " G_STRINGIFY (NF_MAP_PATH_MAX) " bytes";
  if (path[1] == '\0')
    return NULL;
  while (*path == '/')
    {
      gsize len = strcspn (++path, "/");

      if (len == 0)
        return "a path without '//' or a '/' at its end";
      if ((len == 1 && path[0] == '.') || (len == 2 && path[0] == '.' && path[1] == '.'))
        return "a path without '.' and '..'";
      if (len > NF_MAP_COMPONENT_MAX)
        return "names of at most " G_STRINGIFY (NF_MAP_COMPONENT_MAX) " bytes in the path";
      path += len;
    }
  return NULL;
}

gboolean
nf_path_within (const char *outer, const char *inner)
{
  gsize len = strlen (outer);

  if (strncmp (outer, inner, len) != 0)
    return FALSE;
  return inner[len] == '\0' || inner[len] == '/' || (len > 0 && outer[len - 1] == '/');
}

static int
rank (char c)
{
  return c == '\0' ? 0 : c == '/' ? 1 : (guchar)c + 1;
}

int
nf_path_compare (const char *a, const char *b)
{
  while (*a != '\0' && *a == *b)
    a++, b++;
  return rank (*a) - rank (*b);
}

char *
nf_path_resolve (const char *path, int *ret_errno)
{
  g_autofree char *head = g_strdup (path);
  const char *rest;
  char *real;
  char *resolved;

  while ((real = realpath (head, NULL)) == NULL)
    {
      struct stat st;
      char *slash = strrchr (head, '/');

      /* A dangling symlink exists: what it points to could be made later, anywhere. */
      *ret_errno = errno;
      if (errno != ENOENT || slash == NULL || slash[1] == '\0' || lstat (head, &st) == 0)
        return NULL;
      if (slash == head)
        slash++;
      *slash = '\0';
    }
  rest = path + strlen (head);
  while (*rest == '/')
    rest++;
  resolved = *rest == '\0' ? g_strdup (real) : g_build_filename (real, rest, NULL);
  free (real);
  return resolved;
}
