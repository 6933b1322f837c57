// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <string.h>

#include "map/check.h"
#include "map/name.h"
#include "map/parse.h"

/* From the text to an NfMap: [map], then all sites, then all shares, as a share may name a site
 * that comes after it in the file. */

static const char *const map_keys[] = { "serial", NULL };
static const char *const site_keys[] = { "ssh", "port", "transport", NULL };
gboolean
nf_parse_fail (const NfParse *parse, const NfConfKey *key, const char *value, const char *expected,
               GError **error)
{
  return nf_conf_fail (error, NF_MAP_ERROR_VALUE, parse->conf, key->line, "%s: '%s'; expected %s",
                       key->key, value, expected);
}

const char *
nf_parse_site_of (const NfParse *parse, const NfConfKey *key, const char *name, GError **error)
{
  const NfMap *map = parse->map;
  const NfMapSite *site = nf_map_site (map, name);
  g_autoptr (GPtrArray) names = NULL;
  const char *nearest;

  if (site != NULL)
    return site->name;
  names = g_ptr_array_new ();
  for (guint i = 0; i < map->sites->len; i++)
    g_ptr_array_add (names, (gpointer)nf_map_site_at (map, i)->name);
  g_ptr_array_add (names, NULL);
  nearest = nf_conf_nearest (name, (const char *const *)names->pdata);
  if (nearest != NULL)
    nf_conf_fail (error, NF_MAP_ERROR_VALUE, parse->conf, key->line,
                  "%s: unknown site '%s'; did you mean '%s'?", key->key, name, nearest);
  else
    nf_conf_fail (error, NF_MAP_ERROR_VALUE, parse->conf, key->line,
                  "%s: unknown site '%s'; expected one that has a [site NAME]", key->key, name);
  return NULL;
}

static int
compare_strings (gconstpointer a, gconstpointer b)
{
  return strcmp (*(const char *const *)a, *(const char *const *)b);
}

const char **
nf_parse_names (NfParse *parse, const NfConfKey *key, guint max, GError **error)
{
  g_autoptr (GPtrArray) list = nf_conf_list (parse->conf, key, error);

  if (list == NULL)
    return NULL;
  if (list->len > max)
    {
      nf_conf_fail (error, NF_MAP_ERROR_VALUE, parse->conf, key->line,
                    "%s has %u names; expected at most %u", key->key, list->len, max);
      return NULL;
    }
  g_ptr_array_sort (list, compare_strings);
  for (guint i = 0; i < list->len; i++)
    {
      const char *name = nf_map_intern (parse->map, g_ptr_array_index (list, i));

      g_ptr_array_index (list, i) = (gpointer)name;
      if (i > 0 && strcmp (name, g_ptr_array_index (list, i - 1)) == 0)
        {
          nf_conf_fail (error, NF_MAP_ERROR_CONFLICT, parse->conf, key->line,
                        "%s: '%s' is named twice; expected once", key->key, name);
          return NULL;
        }
    }
  g_ptr_array_add (list, NULL);
  return (const char **)g_ptr_array_free (g_steal_pointer (&list), FALSE);
}

/* [map] and [site NAME]. */

static gboolean
parse_head (NfParse *parse, const NfConfGroup *group, GError **error)
{
  const NfConfKey *serial;

  if (!nf_conf_check_keys (parse->conf, group, map_keys, error))
    return FALSE;
  serial = nf_conf_need (parse->conf, group, "serial", "NUMBER", error);
  return serial != NULL
         && nf_conf_uint (parse->conf, serial, 1, G_MAXUINT64, &parse->map->serial, error);
}

static gboolean
parse_ssh (NfParse *parse, const NfConfGroup *group, NfMapSite *site, GError **error)
{
  const char *const expected = "USER@HOST, an alias of ssh_config, or none";
  const NfConfKey *key = nf_conf_need (parse->conf, group, "ssh", expected, error);
  const char *value = key != NULL ? nf_conf_string (parse->conf, key, error) : NULL;

  if (value == NULL)
    return FALSE;
  if (strcmp (value, "none") == 0)
    return TRUE;
  if (!nf_name_is_ssh (value))
    return nf_parse_fail (parse, key, value, expected, error);
  site->ssh = nf_map_intern (parse->map, value);
  return TRUE;
}

static gboolean
parse_dial (NfParse *parse, const NfConfGroup *group, NfMapSite *site, GError **error)
{
  const NfConfKey *port = nf_conf_key (group, "port");
  const NfConfKey *transport = nf_conf_key (group, "transport");
  const NfConfKey *either = port != NULL ? port : transport;
  guint64 number = 0;
  int choice = 0;

  if (either != NULL && site->ssh == NULL)
    return nf_conf_fail (error, NF_MAP_ERROR_CONFLICT, parse->conf, either->line,
                         "%s for a site with ssh = none; expected none, as nobody dials it",
                         either->key);
  if (port != NULL && !nf_conf_uint (parse->conf, port, 1, G_MAXUINT16, &number, error))
    return FALSE;
  if (transport != NULL)
    choice = nf_conf_choice (parse->conf, transport, nf_map_transport_names + 1, error) + 1;
  site->port = (guint16)number;
  site->transport = (NfMapTransport)choice;
  return transport == NULL || choice > 0;
}

static gboolean
parse_site (NfParse *parse, const NfConfGroup *group, GError **error)
{
  NfMapSite *site;

  if (!nf_name_is_site (group->name))
    return nf_conf_fail (error, NF_MAP_ERROR_VALUE, parse->conf, group->line,
                         "site '%s'; expected a name of a-z, 0-9 and '-', at most %d, not "
                         "beginning with '-'",
                         group->name, NF_MAP_NAME_MAX);
  if (parse->map->sites->len == NF_MAP_SITES_MAX)
    return nf_conf_fail (error, NF_MAP_ERROR_VALUE, parse->conf, group->line,
                         "expected at most %d sites", NF_MAP_SITES_MAX);
  if (!nf_conf_check_keys (parse->conf, group, site_keys, error))
    return FALSE;
  site = g_new0 (NfMapSite, 1);
  g_ptr_array_add (parse->map->sites, site);
  site->name = nf_map_intern (parse->map, group->name);
  site->line = group->line;
  return parse_ssh (parse, group, site, error) && parse_dial (parse, group, site, error);
}

/* The whole. */

static gboolean
check_group (const NfParse *parse, const NfConfGroup *group, GError **error)
{
  gboolean named = strcmp (group->kind, "site") == 0 || strcmp (group->kind, "share") == 0;
  g_autofree char *title = NULL;

  if (named ? group->name != NULL : strcmp (group->kind, "map") == 0 && group->name == NULL)
    return TRUE;
  title = nf_conf_group_title (group);
  return nf_conf_fail (error, NF_MAP_ERROR_VALUE, parse->conf, group->line,
                       "unknown group %s; expected [map], [site NAME] or [share NAME]", title);
}

static gboolean
parse_kind (NfParse *parse, const char *kind,
            gboolean (*function) (NfParse *, const NfConfGroup *, GError **), GError **error)
{
  const GPtrArray *groups = parse->conf->groups;

  for (guint i = 0; i < groups->len; i++)
    {
      const NfConfGroup *group = g_ptr_array_index (groups, i);

      if (strcmp (group->kind, kind) == 0 && !function (parse, group, error))
        return FALSE;
    }
  return TRUE;
}

static int
compare_by_name (gconstpointer a, gconstpointer b)
{
  return strcmp ((*(const NfMapSite *const *)a)->name, (*(const NfMapSite *const *)b)->name);
}

static int
compare_share_names (gconstpointer a, gconstpointer b)
{
  return strcmp ((*(const NfMapShare *const *)a)->name, (*(const NfMapShare *const *)b)->name);
}

static gboolean
parse_all (NfParse *parse, GError **error)
{
  const GPtrArray *groups = parse->conf->groups;

  for (guint i = 0; i < groups->len; i++)
    if (!check_group (parse, g_ptr_array_index (groups, i), error))
      return FALSE;
  if (!parse_kind (parse, "map", parse_head, error))
    return FALSE;
  if (parse->map->serial == 0)
    return nf_conf_fail (error, NF_MAP_ERROR_VALUE, parse->conf, 0,
                         "no [map] group; expected one with serial = NUMBER");
  if (!parse_kind (parse, "site", parse_site, error))
    return FALSE;
  g_ptr_array_sort (parse->map->sites, compare_by_name);
  if (!parse_kind (parse, "share", nf_parse_share, error))
    return FALSE;
  g_ptr_array_sort (parse->map->shares, compare_share_names);
  return nf_check_nesting (parse->conf, parse->mounts, error)
         && nf_check_nesting (parse->conf, parse->dirs, error);
}

NfMap *
nf_map_parse (const char *text, gsize len, const char *filename, GError **error)
{
  g_autoptr (NfConf) conf = nf_conf_parse (text, len, NF_MAP_SIZE_MAX, filename, error);
  g_autoptr (NfMap) map = NULL;
  g_autoptr (GArray) mounts = NULL;
  g_autoptr (GArray) dirs = NULL;
  NfParse parse;

  if (conf == NULL)
    return NULL;
  map = nf_map_new (filename);
  mounts = g_array_new (FALSE, FALSE, sizeof (NfPlaced));
  dirs = g_array_new (FALSE, FALSE, sizeof (NfPlaced));
  parse = (NfParse){ conf, map, mounts, dirs };
  if (!parse_all (&parse, error))
    return NULL;
  g_ptr_array_add (map->warnings, NULL);
  nf_map_make_digest (map);
  return g_steal_pointer (&map);
}

NfMap *
nf_map_load (const char *path, GError **error)
{
  gsize len;
  g_autofree char *text = nf_conf_read (path, NF_MAP_SIZE_MAX, &len, error);

  return text != NULL ? nf_map_parse (text, len, path, error) : NULL;
}
