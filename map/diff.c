// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <string.h>

#include "map/map-private.h"

static const struct
{
  NfMapWhat what;
  const char *text;
} what_texts[] = {
  { NF_MAP_WHAT_SSH, "ssh" },
  { NF_MAP_WHAT_TRANSPORT, "transport" },
  { NF_MAP_WHAT_MOUNT, "mount" },
  { NF_MAP_WHAT_PRIMARY, "local directory" },
  { NF_MAP_WHAT_BROADCAST, "broadcast directories" },
  { NF_MAP_WHAT_WRITERS, "writers" },
  { NF_MAP_WHAT_USERS, "users" },
  { NF_MAP_WHAT_OPTIONS, "options" },
};

static void
change_free (gpointer data)
{
  NfMapChange *change = data;

  g_free (change->name);
  g_free (change->text);
  g_free (change);
}

static gboolean
same_list (const char *const *a, const char *const *b)
{
  if (a == NULL || b == NULL)
    return a == b;
  return g_strv_equal (a, b);
}

static gboolean
same_place (const NfMapPlace *a, const NfMapPlace *b)
{
  return strcmp (a->site, b->site) == 0 && strcmp (a->dir, b->dir) == 0;
}

static gboolean
same_broadcast (const NfMapShare *a, const NfMapShare *b)
{
  if (a->n_broadcast != b->n_broadcast)
    return FALSE;
  for (guint i = 0; i < a->n_broadcast; i++)
    if (!same_place (&a->broadcast[i], &b->broadcast[i]))
      return FALSE;
  return TRUE;
}

static gboolean
same_options (const NfMapShare *a, const NfMapShare *b)
{
  return a->reads == b->reads && a->max_stale_s == b->max_stale_s && a->offline == b->offline
         && a->durable == b->durable && a->replica == b->replica && g_strcmp0 (a->via, b->via) == 0
         && same_list (a->local_only, b->local_only);
}

static unsigned
compare_sites (const NfMapSite *a, const NfMapSite *b)
{
  unsigned what = 0;

  if (g_strcmp0 (a->ssh, b->ssh) != 0 || a->port != b->port)
    what |= NF_MAP_WHAT_SSH;
  if (a->transport != b->transport)
    what |= NF_MAP_WHAT_TRANSPORT;
  return what;
}

static unsigned
compare_shares (const NfMapShare *a, const NfMapShare *b)
{
  unsigned what = 0;

  if (strcmp (a->mount, b->mount) != 0)
    what |= NF_MAP_WHAT_MOUNT;
  if (!same_place (&a->local, &b->local))
    what |= NF_MAP_WHAT_PRIMARY;
  if (!same_broadcast (a, b))
    what |= NF_MAP_WHAT_BROADCAST;
  if (!same_list (a->writers, b->writers))
    what |= NF_MAP_WHAT_WRITERS;
  if (!same_list (a->users, b->users))
    what |= NF_MAP_WHAT_USERS;
  if (!same_options (a, b))
    what |= NF_MAP_WHAT_OPTIONS;
  return what;
}

/* details follow the line after ": "; they may be NULL. */
static void
add_change (GPtrArray *changes, NfMapChangeKind kind, unsigned what, const char *name,
            const char *details)
{
  static const char *const verbs[] = { "added", "removed", "changed" };
  NfMapChange *change = g_new0 (NfMapChange, 1);
  g_autoptr (GString) text = g_string_new (kind < NF_MAP_SHARE_ADDED ? "site" : "share");
  const char *separator = ": ";

  g_string_append_printf (text, " %s %s", name, verbs[kind % G_N_ELEMENTS (verbs)]);
  for (gsize i = 0; i < G_N_ELEMENTS (what_texts); i++)
    if (what & what_texts[i].what)
      {
        g_string_append_printf (text, "%s%s", separator, what_texts[i].text);
        separator = ", ";
      }
  if (details != NULL && *details != '\0')
    g_string_append_printf (text, "%s%s", what != 0 ? "; " : separator, details);
  change->kind = kind;
  change->what = what;
  change->name = g_strdup (name);
  change->text = g_strdup (text->str);
  g_ptr_array_add (changes, change);
}

static char *
site_details (const NfMapSite *a, const NfMapSite *b)
{
  if (g_strcmp0 (a->ssh, b->ssh) == 0)
    return NULL;
  return g_strdup_printf ("ssh was %s, is %s", a->ssh != NULL ? a->ssh : "none",
                          b->ssh != NULL ? b->ssh : "none");
}

static char *
share_details (const NfMapShare *a, const NfMapShare *b)
{
  g_autoptr (GString) text = g_string_new (NULL);

  if (strcmp (a->mount, b->mount) != 0)
    g_string_append_printf (text, "mount was %s, is %s", a->mount, b->mount);
  if (!same_place (&a->local, &b->local))
    g_string_append_printf (text, "%slocal was %s:%s, is %s:%s", text->len > 0 ? "; " : "",
                            a->local.site, a->local.dir, b->local.site, b->local.dir);
  return g_strdup (text->str);
}

/* a is NULL for what is new, b for what is gone. */
static void
diff_site (GPtrArray *changes, const NfMapSite *a, const NfMapSite *b)
{
  g_assert (a != NULL || b != NULL);
  if (a == NULL)
    add_change (changes, NF_MAP_SITE_ADDED, 0, b->name, NULL);
  else if (b == NULL)
    add_change (changes, NF_MAP_SITE_REMOVED, 0, a->name, NULL);
  else if (compare_sites (a, b) != 0)
    {
      g_autofree char *details = site_details (a, b);

      add_change (changes, NF_MAP_SITE_CHANGED, compare_sites (a, b), a->name, details);
    }
}

static void
diff_share (GPtrArray *changes, const NfMapShare *a, const NfMapShare *b)
{
  g_assert (a != NULL || b != NULL);
  if (a == NULL)
    add_change (changes, NF_MAP_SHARE_ADDED, 0, b->name, b->mount);
  else if (b == NULL)
    add_change (changes, NF_MAP_SHARE_REMOVED, 0, a->name, a->mount);
  else if (compare_shares (a, b) != 0)
    {
      g_autofree char *details = share_details (a, b);

      add_change (changes, NF_MAP_SHARE_CHANGED, compare_shares (a, b), a->name, details);
    }
}

/* Both maps are in name order: a merge. */
static void
diff_sites (GPtrArray *changes, const NfMap *before, const NfMap *after)
{
  guint i = 0;
  guint j = 0;

  while (i < before->sites->len || j < after->sites->len)
    {
      const NfMapSite *a = i < before->sites->len ? nf_map_site_at (before, i) : NULL;
      const NfMapSite *b = j < after->sites->len ? nf_map_site_at (after, j) : NULL;
      int order = a == NULL ? 1 : b == NULL ? -1 : strcmp (a->name, b->name);

      diff_site (changes, order <= 0 ? a : NULL, order >= 0 ? b : NULL);
      i += order <= 0;
      j += order >= 0;
    }
}

static void
diff_shares (GPtrArray *changes, const NfMap *before, const NfMap *after)
{
  guint i = 0;
  guint j = 0;

  while (i < before->shares->len || j < after->shares->len)
    {
      const NfMapShare *a = i < before->shares->len ? nf_map_share_at (before, i) : NULL;
      const NfMapShare *b = j < after->shares->len ? nf_map_share_at (after, j) : NULL;
      int order = a == NULL ? 1 : b == NULL ? -1 : strcmp (a->name, b->name);

      diff_share (changes, order <= 0 ? a : NULL, order >= 0 ? b : NULL);
      i += order <= 0;
      j += order >= 0;
    }
}

GPtrArray *
nf_map_diff (const NfMap *before, const NfMap *after)
{
  GPtrArray *changes = g_ptr_array_new_with_free_func (change_free);

  diff_sites (changes, before, after);
  diff_shares (changes, before, after);
  return changes;
}
