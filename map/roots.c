// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <string.h>

#include "map/check.h"
#include "map/map-private.h"
#include "map/path.h"
#include "map/site.h"

/* Which directories a site lets the map use.  The map is written by somebody who may not know this
 * machine; roots keep a wrong or hostile one from making /etc a replica.  The check is for the
 * administrator's sake and before anything is opened: who can change what lies below a root can
 * still swap in a symlink later, so whoever opens the directory opens it without following any. */

static gboolean
below (const char *root, const char *dir)
{
  return strcmp (root, dir) != 0 && nf_path_within (root, dir);
}

static gboolean
below_written (const NfSiteConf *conf, const char *dir)
{
  for (guint i = 0; conf->roots[i] != NULL; i++)
    if (below (conf->roots[i], dir))
      return TRUE;
  return FALSE;
}

static gboolean
below_real (const NfSiteConf *conf, const char *real_dir)
{
  for (guint i = 0; conf->roots[i] != NULL; i++)
    {
      int ignored;
      g_autofree char *real_root = nf_path_resolve (conf->roots[i], &ignored);

      if (real_root != NULL && below (real_root, real_dir))
        return TRUE;
    }
  return FALSE;
}

static gboolean
fail_outside (const NfSiteConf *conf, const char *dir, const char *real, GError **error)
{
  g_autoptr (GString) roots = g_string_new (NULL);
  g_autofree char *really
      = real != NULL ? g_strdup_printf (" is really %s, which", real) : g_strdup ("");

  nf_map_append_list (roots, conf->roots);
  g_set_error (
      error, NF_MAP_ERROR, NF_MAP_ERROR_NOT_ALLOWED,
      "directory %s%s isn't below an allowed root (%s); to allow it, add a directory above "
      "it to 'roots' in [site] of %s",
      dir, really, roots->str, conf->filename);
  return FALSE;
}

/* Sets *ret_real to what dir resolves to. */
static gboolean
check_dir (const NfSiteConf *conf, const char *dir, char **ret_real, GError **error)
{
  const char *expected = nf_path_fault (dir);
  g_autofree char *real = NULL;
  int resolve_errno = 0;

  if (expected != NULL)
    {
      g_set_error (error, NF_MAP_ERROR, NF_MAP_ERROR_VALUE, "directory '%s'; expected %s", dir,
                   expected);
      return FALSE;
    }
  if (!below_written (conf, dir))
    return fail_outside (conf, dir, NULL, error);
  real = nf_path_resolve (dir, &resolve_errno);
  if (real == NULL)
    {
      g_set_error (error, NF_MAP_ERROR, NF_MAP_ERROR_NOT_ALLOWED,
                   "directory %s can't be resolved: %s; expected no dangling symlink in it", dir,
                   g_strerror (resolve_errno));
      return FALSE;
    }
  if (!below_real (conf, real))
    return fail_outside (conf, dir, real, error);
  *ret_real = g_steal_pointer (&real);
  return TRUE;
}

gboolean
nf_site_conf_allows (const NfSiteConf *conf, const char *dir, GError **error)
{
  g_autofree char *real = NULL;

  return check_dir (conf, dir, &real, error);
}

static gboolean
check_share (const NfMap *map, const NfMapShare *share, const NfSiteConf *conf, GArray *dirs,
             GStringChunk *strings, GError **error)
{
  g_autofree char *dir = nf_map_dir (map, share, conf->name, conf->home);
  g_autofree char *real = NULL;
  NfPlaced placed = { .site = conf->name, .share = share->name, .line = share->line };

  if (dir == NULL)
    return TRUE;
  if (!check_dir (conf, dir, &real, error))
    {
      g_prefix_error (error, "%s:%u: share '%s': ", nf_map_filename (map), share->line,
                      share->name);
      return FALSE;
    }
  placed.path = g_string_chunk_insert (strings, real);
  g_array_append_val (dirs, placed);
  return TRUE;
}

static gboolean
check_shares (const NfMap *map, const NfSiteConf *conf, GStringChunk *strings, GError **error)
{
  g_autoptr (GArray) dirs = g_array_new (FALSE, FALSE, sizeof (NfPlaced));
  const NfConf named = { .filename = map->filename };

  for (guint i = 0; i < nf_map_n_shares (map); i++)
    if (!check_share (map, nf_map_share_at (map, i), conf, dirs, strings, error))
      return FALSE;
  return nf_check_nesting (&named, dirs, error);
}

gboolean
nf_map_check_site (const NfMap *map, const NfSiteConf *conf, GError **error)
{
  GStringChunk *strings;
  gboolean ok;

  if (conf->name == NULL || nf_map_site (map, conf->name) == NULL)
    {
      g_set_error (error, NF_MAP_ERROR, NF_MAP_ERROR_NO_SITE,
                   "%s: name = %s; expected the name of a site of the map %s", conf->filename,
                   conf->name != NULL ? conf->name : "(not set)", nf_map_filename (map));
      return FALSE;
    }
  strings = g_string_chunk_new (1024);
  ok = check_shares (map, conf, strings, error);
  g_string_chunk_free (strings);
  return ok;
}
