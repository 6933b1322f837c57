// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "map/check.h"
#include "map/name.h"
#include "map/parse.h"
#include "map/path.h"

/* [share NAME]: where it is. */

static const char *const share_keys[]
    = { "mount",   "local", "broadcast", "writers", "users",      "reads", "max-stale",
        "offline", "via",   "durable",   "replica", "local-only", NULL };

static gboolean
parse_mount (NfParse *parse, const NfConfGroup *group, NfMapShare *share, GError **error)
{
  const NfConfKey *key = nf_conf_need (parse->conf, group, "mount", "/PATH", error);
  const char *value = key != NULL ? nf_conf_string (parse->conf, key, error) : NULL;
  const char *expected;
  NfPlaced placed;

  if (value == NULL)
    return FALSE;
  expected = nf_path_fault (value);
  if (expected != NULL)
    return nf_parse_fail (parse, key, value, expected, error);
  share->mount = nf_map_intern (parse->map, value);
  placed = (NfPlaced){ .path = share->mount, .share = share->name, .line = key->line };
  g_array_append_val (parse->mounts, placed);
  return TRUE;
}

/* "SITE:/DIR" or "SITE:~/DIR". */
static gboolean
parse_place (NfParse *parse, const NfConfKey *key, const char *value, const NfMapShare *share,
             NfMapPlace *ret_place, GError **error)
{
  const char *colon = strchr (value, ':');
  g_autofree char *name = NULL;
  const char *dir;
  const char *expected;
  NfPlaced placed;

  if (colon == NULL)
    return nf_parse_fail (parse, key, value, "SITE:/DIRECTORY", error);
  name = g_strndup (value, (gsize)(colon - value));
  ret_place->site = nf_parse_site_of (parse, key, name, error);
  if (ret_place->site == NULL)
    return FALSE;
  dir = colon + 1;
  expected = nf_path_fault (g_str_has_prefix (dir, "~/") ? dir + 1 : dir);
  if (expected != NULL)
    return nf_parse_fail (parse, key, dir, expected, error);
  if (strcmp (dir, "/") == 0 || strcmp (dir, "~/") == 0)
    return nf_parse_fail (parse, key, dir, "a directory below it", error);
  ret_place->dir = nf_map_intern (parse->map, dir);
  placed = (NfPlaced){ ret_place->site, ret_place->dir, share->name, key->line };
  g_array_append_val (parse->dirs, placed);
  return TRUE;
}

static gboolean
parse_local (NfParse *parse, const NfConfGroup *group, NfMapShare *share, GError **error)
{
  const NfConfKey *key = nf_conf_need (parse->conf, group, "local", "SITE:/DIRECTORY", error);
  g_autoptr (GPtrArray) list = key != NULL ? nf_conf_list (parse->conf, key, error) : NULL;

  if (list == NULL)
    return FALSE;
  if (list->len != 1)
    return nf_conf_fail (error, NF_MAP_ERROR_VALUE, parse->conf, key->line,
                         "local has %u directories; expected exactly one SITE:/DIRECTORY, the "
                         "others belong into broadcast",
                         list->len);
  return parse_place (parse, key, g_ptr_array_index (list, 0), share, &share->local, error);
}

static int
compare_places (gconstpointer a, gconstpointer b)
{
  return strcmp (((const NfMapPlace *)a)->site, ((const NfMapPlace *)b)->site);
}

static gboolean
check_broadcast (NfParse *parse, const NfConfKey *key, const NfMapShare *share, GError **error)
{
  for (guint i = 0; i < share->n_broadcast; i++)
    {
      const char *site = share->broadcast[i].site;

      if (strcmp (site, share->local.site) == 0)
        return nf_conf_fail (error, NF_MAP_ERROR_CONFLICT, parse->conf, key->line,
                             "broadcast: site '%s' has the local directory of share '%s'; "
                             "expected another site",
                             site, share->name);
      if (i > 0 && strcmp (site, share->broadcast[i - 1].site) == 0)
        return nf_conf_fail (error, NF_MAP_ERROR_CONFLICT, parse->conf, key->line,
                             "broadcast: site '%s' is named twice; expected once", site);
    }
  return TRUE;
}

static gboolean
parse_broadcast (NfParse *parse, const NfConfGroup *group, NfMapShare *share, GError **error)
{
  const NfConfKey *key = nf_conf_key (group, "broadcast");
  g_autoptr (GPtrArray) list = NULL;
  NfMapPlace *places;

  if (key == NULL)
    return TRUE;
  list = nf_conf_list (parse->conf, key, error);
  if (list == NULL)
    return FALSE;
  places = g_new0 (NfMapPlace, list->len);
  share->broadcast = places;
  for (guint i = 0; i < list->len; i++)
    if (!parse_place (parse, key, g_ptr_array_index (list, i), share, &places[i], error))
      return FALSE;
  share->n_broadcast = list->len;
  qsort (places, list->len, sizeof *places, compare_places);
  return check_broadcast (parse, key, share, error);
}

static gboolean
parse_writers (NfParse *parse, const NfConfGroup *group, NfMapShare *share, GError **error)
{
  const NfConfKey *key = nf_conf_key (group, "writers");

  if (key == NULL)
    return TRUE;
  share->writers = nf_parse_names (parse, key, NF_MAP_SITES_MAX, error);
  for (guint i = 0; share->writers != NULL && share->writers[i] != NULL; i++)
    if (nf_parse_site_of (parse, key, share->writers[i], error) == NULL)
      return FALSE;
  return share->writers != NULL;
}

static gboolean
add_share (NfParse *parse, NfMapShare *share, GError **error)
{
  const NfMapShare *other;

  share->id = nf_map_share_id (share->name);
  other = nf_map_share_by_id (parse->map, share->id);
  if (other != NULL)
    return nf_conf_fail (error, NF_MAP_ERROR_CONFLICT, parse->conf, share->line,
                         "share '%s' has the same id as share '%s'; expected another name",
                         share->name, other->name);
  g_hash_table_insert (parse->map->by_id, &share->id, share);
  g_hash_table_insert (parse->map->by_mount, (gpointer)share->mount, share);
  return nf_check_reach (parse->conf, parse->map, share, error);
}

gboolean
nf_parse_share (NfParse *parse, const NfConfGroup *group, GError **error)
{
  NfMapShare *share;

  if (!nf_name_is_share (group->name))
    return nf_conf_fail (error, NF_MAP_ERROR_VALUE, parse->conf, group->line,
                         "share '%s'; expected a name of letters, digits, '-', '_' and '.', at "
                         "most %d, beginning with a letter or digit",
                         group->name, NF_MAP_NAME_MAX);
  if (parse->map->shares->len == NF_MAP_SHARES_MAX)
    return nf_conf_fail (error, NF_MAP_ERROR_VALUE, parse->conf, group->line,
                         "expected at most %d shares", NF_MAP_SHARES_MAX);
  if (!nf_conf_check_keys (parse->conf, group, share_keys, error))
    return FALSE;
  share = g_new0 (NfMapShare, 1);
  g_ptr_array_add (parse->map->shares, share);
  share->name = nf_map_intern (parse->map, group->name);
  share->line = group->line;
  if (!parse_mount (parse, group, share, error) || !parse_local (parse, group, share, error)
      || !parse_broadcast (parse, group, share, error)
      || !parse_writers (parse, group, share, error)
      || !nf_parse_options (parse, group, share, error))
    return FALSE;
  return add_share (parse, share, error);
}
