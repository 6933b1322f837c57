// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "map/check.h"

#include <string.h>

#include "map/path.h"

static int
compare_placed (gconstpointer first, gconstpointer second)
{
  const NfPlaced *a = first;
  const NfPlaced *b = second;
  int order = g_strcmp0 (a->site, b->site);

  if (order == 0)
    order = nf_path_compare (a->path, b->path);
  return order != 0 ? order : (a->line > b->line) - (a->line < b->line);
}

static gboolean
fail_nested (const NfConf *conf, const NfPlaced *outer, const NfPlaced *inner, GError **error)
{
  const char *what = inner->site != NULL ? "directory" : "mount";
  g_autofree char *at
      = inner->site != NULL ? g_strdup_printf (" at site '%s'", inner->site) : g_strdup ("");

  if (strcmp (outer->path, inner->path) == 0)
    return nf_conf_fail (error, NF_MAP_ERROR_CONFLICT, conf, inner->line,
                         "%s %s of share '%s'%s is that of share '%s' too (line %u); expected one "
                         "of its own",
                         what, inner->path, inner->share, at, outer->share, outer->line);
  return nf_conf_fail (error, NF_MAP_ERROR_CONFLICT, conf, inner->line,
                       "%s %s of share '%s'%s lies in %s of share '%s' (line %u); expected one "
                       "outside of it, as shares don't nest",
                       what, inner->path, inner->share, at, outer->path, outer->share, outer->line);
}

/* In nf_path_compare() order a directory is followed at once by what lies in it, so neighbours are
 * all that needs to be compared. */
gboolean
nf_check_nesting (const NfConf *conf, GArray *placed, GError **error)
{
  g_array_sort (placed, compare_placed);
  for (guint i = 1; i < placed->len; i++)
    {
      const NfPlaced *outer = &g_array_index (placed, NfPlaced, i - 1);
      const NfPlaced *inner = &g_array_index (placed, NfPlaced, i);

      if (g_strcmp0 (outer->site, inner->site) == 0 && nf_path_within (outer->path, inner->path))
        return fail_nested (conf, outer, inner, error);
    }
  return TRUE;
}

static gboolean
check_pair (const NfConf *conf, const NfMap *map, const NfMapShare *share, const char *site,
            GError **error)
{
  const char *primary = share->local.site;

  if (strcmp (site, primary) == 0 || nf_map_dials (map, site, primary)
      || nf_map_dials (map, primary, site))
    return TRUE;
  return nf_conf_fail (error, NF_MAP_ERROR_CONFLICT, conf, share->line,
                       "share '%s': sites '%s' and '%s' can't reach each other, both have "
                       "ssh = none; expected ssh = USER@HOST for one of them",
                       share->name, primary, site);
}

gboolean
nf_check_reach (const NfConf *conf, const NfMap *map, const NfMapShare *share, GError **error)
{
  for (guint i = 0; i < share->n_broadcast; i++)
    if (!check_pair (conf, map, share, share->broadcast[i].site, error))
      return FALSE;
  for (guint i = 0; share->writers != NULL && share->writers[i] != NULL; i++)
    if (!check_pair (conf, map, share, share->writers[i], error))
      return FALSE;
  return TRUE;
}
