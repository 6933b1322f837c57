// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "map/map.h"

#include <stdlib.h>
#include <string.h>

#include "map/map-private.h"
#include "map/path.h"

G_DEFINE_QUARK (nf - map - error - quark, nf_map_error)

const char *const nf_map_transport_names[] = { "default", "libssh", "ssh", NULL };
const char *const nf_map_reads_names[] = { "local", "fresh", NULL };
const char *const nf_map_offline_names[] = { "error", "wait", NULL };
const char *const nf_map_replica_names[] = { "full", "on-demand", "none", NULL };

static void
share_free (gpointer data)
{
  NfMapShare *share = data;

  g_free ((gpointer)share->broadcast);
  g_free ((gpointer)share->writers);
  g_free ((gpointer)share->users);
  g_free ((gpointer)share->local_only);
  g_free (share);
}

NfMap *
nf_map_new (const char *filename)
{
  NfMap *map = g_new0 (NfMap, 1);

  atomic_init (&map->refs, 1);
  map->filename = g_strdup (filename);
  map->sites = g_ptr_array_new_with_free_func (g_free);
  map->shares = g_ptr_array_new_with_free_func (share_free);
  map->by_id = g_hash_table_new (g_int64_hash, g_int64_equal);
  map->by_mount = g_hash_table_new (g_str_hash, g_str_equal);
  map->warnings = g_ptr_array_new_with_free_func (g_free);
  map->strings = g_string_chunk_new (4096);
  return map;
}

NfMap *
nf_map_ref (NfMap *map)
{
  (void)atomic_fetch_add_explicit (&map->refs, 1, memory_order_relaxed);
  return map;
}

void
nf_map_unref (NfMap *map)
{
  if (atomic_fetch_sub_explicit (&map->refs, 1, memory_order_acq_rel) != 1)
    return;
  g_free (map->filename);
  g_hash_table_unref (map->by_id);
  g_hash_table_unref (map->by_mount);
  g_ptr_array_unref (map->sites);
  g_ptr_array_unref (map->shares);
  g_ptr_array_unref (map->warnings);
  g_string_chunk_free (map->strings);
  g_free (map);
}

const char *
nf_map_intern (NfMap *map, const char *text)
{
  return g_string_chunk_insert_const (map->strings, text);
}

const char *const *
nf_map_warnings (const NfMap *map)
{
  return (const char *const *)map->warnings->pdata;
}

const char *
nf_map_filename (const NfMap *map)
{
  return map->filename;
}

guint64
nf_map_serial (const NfMap *map)
{
  return map->serial;
}

const guint8 *
nf_map_digest (const NfMap *map)
{
  return map->digest;
}

/* Sites and shares. */

static int
compare_site (const void *name, const void *element)
{
  const NfMapSite *const *site = element;

  return strcmp (name, (*site)->name);
}

static int
compare_share (const void *name, const void *element)
{
  const NfMapShare *const *share = element;

  return strcmp (name, (*share)->name);
}

static gpointer
find (const GPtrArray *array, const char *name, int (*compare) (const void *, const void *))
{
  gpointer *found = NULL;

  if (array->len > 0)
    found = bsearch (name, array->pdata, array->len, sizeof (gpointer), compare);
  return found != NULL ? *found : NULL;
}

guint
nf_map_n_sites (const NfMap *map)
{
  return map->sites->len;
}

const NfMapSite *
nf_map_site_at (const NfMap *map, guint index)
{
  g_assert (index < map->sites->len);
  return g_ptr_array_index (map->sites, index);
}

const NfMapSite *
nf_map_site (const NfMap *map, const char *name)
{
  return find (map->sites, name, compare_site);
}

guint
nf_map_n_shares (const NfMap *map)
{
  return map->shares->len;
}

const NfMapShare *
nf_map_share_at (const NfMap *map, guint index)
{
  g_assert (index < map->shares->len);
  return g_ptr_array_index (map->shares, index);
}

const NfMapShare *
nf_map_share (const NfMap *map, const char *name)
{
  return find (map->shares, name, compare_share);
}

const NfMapShare *
nf_map_share_by_id (const NfMap *map, guint64 id)
{
  return g_hash_table_lookup (map->by_id, &id);
}

/* FNV-1a.  The id is on disk and on the wire: this can't be changed. */
guint64
nf_map_share_id (const char *name)
{
  guint64 hash = G_GUINT64_CONSTANT (0xcbf29ce484222325);

  for (; *name != '\0'; name++)
    hash = (hash ^ (guchar)*name) * G_GUINT64_CONSTANT (0x100000001b3);
  return hash != 0 ? hash : 1;
}

const NfMapShare *
nf_map_share_of_path (const NfMap *map, const char *path, const char **ret_rest)
{
  g_autofree char *head = NULL;
  const NfMapShare *share = NULL;
  gsize len = strlen (path);

  if (*path != '/')
    return NULL;
  head = g_strdup (path);
  /* From the whole path upwards: shares don't nest, so the first found is the only one. */
  for (;;)
    {
      share = g_hash_table_lookup (map->by_mount, head);
      if (share != NULL || len == 1)
        break;
      while (head[--len] != '/')
        ;
      len = MAX (len, 1);
      head[len] = '\0';
    }
  if (share != NULL && ret_rest != NULL)
    *ret_rest = path + len + (path[len] == '/');
  return share;
}

/* Roles and rights. */

static int
compare_place (const void *name, const void *element)
{
  const NfMapPlace *place = element;

  return strcmp (name, place->site);
}

int
nf_map_find_broadcast (const NfMapShare *share, const char *site)
{
  const NfMapPlace *found = NULL;

  if (share->n_broadcast > 0)
    found = bsearch (site, share->broadcast, share->n_broadcast, sizeof *found, compare_place);
  return found != NULL ? (int)(found - share->broadcast) : -1;
}

NfMapRole
nf_map_role (const NfMap *map, const NfMapShare *share, const char *site)
{
  (void)map; /* a role by the map's defaults for all sites must stay possible */
  if (strcmp (share->local.site, site) == 0)
    return NF_ROLE_PRIMARY;
  if (nf_map_find_broadcast (share, site) >= 0)
    return NF_ROLE_REPLICA;
  if (share->writers != NULL && g_strv_contains (share->writers, site))
    return NF_ROLE_NONE;
  return NF_ROLE_STRANGER;
}

const char *
nf_map_role_to_string (NfMapRole role)
{
  switch (role)
    {
    case NF_ROLE_PRIMARY:
      return "primary";
    case NF_ROLE_REPLICA:
      return "replica";
    case NF_ROLE_NONE:
      return "no replica";
    case NF_ROLE_STRANGER:
      return "stranger";
    }
  return "unknown";
}

/* The primary's site always may: the directory is its own, and keeping it from writing through the
 * mount would only make it write behind the mount. */
gboolean
nf_map_may_write (const NfMap *map, const NfMapShare *share, const char *site)
{
  NfMapRole role = nf_map_role (map, share, site);

  if (role == NF_ROLE_STRANGER || role == NF_ROLE_PRIMARY)
    return role == NF_ROLE_PRIMARY;
  return share->writers == NULL || g_strv_contains (share->writers, site);
}

gboolean
nf_map_may_use (const NfMapShare *share, const char *user)
{
  if (g_strv_contains (share->users, user))
    return strcmp (user, "*") != 0;
  return strcmp (user, "root") != 0 && g_strv_contains (share->users, "*");
}

char *
nf_map_dir (const NfMap *map, const NfMapShare *share, const char *site, const char *home)
{
  const char *dir = NULL;
  int index = nf_map_find_broadcast (share, site);

  (void)map; /* as for nf_map_role() */
  if (strcmp (share->local.site, site) == 0)
    dir = share->local.dir;
  else if (index >= 0)
    dir = share->broadcast[index].dir;
  if (dir == NULL || *dir == '/')
    return g_strdup (dir);
  return home != NULL ? g_build_filename (home, dir + strlen ("~/"), NULL) : NULL;
}

gboolean
nf_map_dials (const NfMap *map, const char *a, const char *b)
{
  const NfMapSite *from = nf_map_site (map, a);
  const NfMapSite *to = nf_map_site (map, b);

  if (from == NULL || to == NULL || from == to || to->ssh == NULL)
    return FALSE;
  return from->ssh == NULL || strcmp (a, b) > 0;
}

static gboolean
share_something (const NfMap *map, const char *a, const char *b)
{
  for (guint i = 0; i < map->shares->len; i++)
    {
      const NfMapShare *share = g_ptr_array_index (map->shares, i);

      if (nf_map_role (map, share, a) != NF_ROLE_STRANGER
          && nf_map_role (map, share, b) != NF_ROLE_STRANGER)
        return TRUE;
    }
  return FALSE;
}

GPtrArray *
nf_map_peers (const NfMap *map, const char *site)
{
  GPtrArray *peers = g_ptr_array_new ();

  for (guint i = 0; i < map->sites->len; i++)
    {
      NfMapSite *other = g_ptr_array_index (map->sites, i);

      if ((nf_map_dials (map, site, other->name) || nf_map_dials (map, other->name, site))
          && share_something (map, site, other->name))
        g_ptr_array_add (peers, other);
    }
  return peers;
}
