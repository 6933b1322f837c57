// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "map/name.h"

#include <string.h>

#include "map/map.h"

static gboolean
is_name (const char *name, const char *others)
{
  if (!g_ascii_isalnum (*name) || strlen (name) > NF_MAP_NAME_MAX)
    return FALSE;
  for (const char *c = name; *c != '\0'; c++)
    if (!g_ascii_isalnum (*c) && strchr (others, *c) == NULL)
      return FALSE;
  return TRUE;
}

gboolean
nf_name_is_site (const char *name)
{
  for (const char *c = name; *c != '\0'; c++)
    if (g_ascii_isupper (*c))
      return FALSE;
  return is_name (name, "-");
}

/* What ssh gets as an argument: nothing that it would take for an option, or a shell for more. */
static gboolean
is_ssh_word (const char *word, gsize len, const char *others)
{
  if (len == 0 || *word == '-')
    return FALSE;
  for (gsize i = 0; i < len; i++)
    if (!g_ascii_isalnum (word[i]) && strchr (others, word[i]) == NULL)
      return FALSE;
  return TRUE;
}

gboolean
nf_name_is_ssh (const char *ssh)
{
  const char *at = strrchr (ssh, '@');
  const char *host = at != NULL ? at + 1 : ssh;

  if (strlen (ssh) > NF_MAP_SSH_MAX)
    return FALSE;
  if (at != NULL && !is_ssh_word (ssh, (gsize)(at - ssh), "._-+@"))
    return FALSE;
  return is_ssh_word (host, strlen (host), "._-:%");
}

gboolean
nf_name_is_user (const char *user)
{
  if (strcmp (user, "*") == 0)
    return TRUE;
  if (*user == '-' || strlen (user) > NF_MAP_COMPONENT_MAX)
    return FALSE;
  return strpbrk (user, " *:/,") == NULL;
}

gboolean
nf_name_is_file (const char *name)
{
  return strlen (name) <= NF_MAP_COMPONENT_MAX && strchr (name, '/') == NULL
         && strcmp (name, ".") != 0 && strcmp (name, "..") != 0;
}

gboolean
nf_name_is_share (const char *name)
{
  return is_name (name, "-_.");
}
