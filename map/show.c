// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <string.h>

#include "map/map-private.h"

void
nf_map_append_list (GString *text, const char *const *list)
{
  for (guint i = 0; list[i] != NULL; i++)
    g_string_append_printf (text, "%s%s", i > 0 ? "; " : "", list[i]);
}

/* The digest is over fields, each ended by a NUL, which no field contains; a list begins with its
 * length.  Two maps of one meaning have one digest, so every field goes in by its value and not as
 * it was written.  A change here makes all sites report different maps: the first field is its
 * version. */

static void
add_text (GChecksum *sum, const char *text)
{
  g_checksum_update (sum, (const guchar *)text, (gssize)strlen (text) + 1);
}

static void
add_number (GChecksum *sum, guint64 number)
{
  g_autofree char *text = g_strdup_printf ("%" G_GUINT64_FORMAT, number);

  add_text (sum, text);
}

static void
add_list (GChecksum *sum, const char *const *list)
{
  add_number (sum, g_strv_length ((char **)list));
  for (; *list != NULL; list++)
    add_text (sum, *list);
}

static void
add_site (GChecksum *sum, const NfMapSite *site)
{
  add_text (sum, site->name);
  add_text (sum, site->ssh != NULL ? site->ssh : "none");
  add_number (sum, site->port);
  add_number (sum, site->transport);
}

static void
add_place (GChecksum *sum, const NfMapPlace *place)
{
  add_text (sum, place->site);
  add_text (sum, place->dir);
}

static void
add_share (GChecksum *sum, const NfMapShare *share)
{
  static const char *const nobody[] = { NULL };

  add_text (sum, share->name);
  add_text (sum, share->mount);
  add_place (sum, &share->local);
  add_number (sum, share->n_broadcast);
  for (guint i = 0; i < share->n_broadcast; i++)
    add_place (sum, &share->broadcast[i]);
  add_number (sum, share->writers != NULL);
  add_list (sum, share->writers != NULL ? share->writers : nobody);
  add_list (sum, share->users);
  add_list (sum, share->local_only);
  add_number (sum, share->reads);
  add_number (sum, share->max_stale_s);
  add_number (sum, share->offline);
  add_number (sum, share->durable);
  add_number (sum, share->replica);
  add_text (sum, share->via != NULL ? share->via : "");
}

void
nf_map_make_digest (NfMap *map)
{
  GChecksum *sum = g_checksum_new (G_CHECKSUM_SHA256);
  guint8 digest[32];
  gsize len = sizeof digest;

  add_text (sum, "nearfs-map-1");
  add_number (sum, map->serial);
  add_number (sum, map->sites->len);
  for (guint i = 0; i < map->sites->len; i++)
    add_site (sum, g_ptr_array_index (map->sites, i));
  add_number (sum, map->shares->len);
  for (guint i = 0; i < map->shares->len; i++)
    add_share (sum, g_ptr_array_index (map->shares, i));
  g_checksum_get_digest (sum, digest, &len);
  memcpy (map->digest, digest, sizeof map->digest);
  g_checksum_free (sum);
}

/* For people. */

static void
show_site (GString *text, const NfMapSite *site)
{
  g_string_append_printf (text, "site %s", site->name);
  if (site->ssh == NULL)
    g_string_append (text, ": dials out only");
  else
    g_string_append_printf (text, ": ssh %s", site->ssh);
  if (site->port != 0)
    g_string_append_printf (text, ", port %u", site->port);
  if (site->transport != NF_TRANSPORT_DEFAULT)
    g_string_append_printf (text, ", transport %s", nf_map_transport_names[site->transport]);
  g_string_append_c (text, '\n');
}

static void
show_options (GString *text, const NfMapShare *share)
{
  g_string_append (text, "  users    ");
  nf_map_append_list (text, share->users);
  g_string_append_c (text, '\n');
  if (share->reads != NF_READS_LOCAL)
    g_string_append_printf (text, "  reads    %s\n", nf_map_reads_names[share->reads]);
  if (share->max_stale_s != 0)
    g_string_append_printf (text, "  max-stale %u s\n", share->max_stale_s);
  if (share->offline != NF_OFFLINE_ERROR)
    g_string_append_printf (text, "  offline  %s\n", nf_map_offline_names[share->offline]);
  if (share->durable != 0)
    g_string_append_printf (text, "  durable  at %u further sites\n", share->durable);
  if (share->replica != NF_REPLICA_FULL)
    g_string_append_printf (text, "  replica  %s\n", nf_map_replica_names[share->replica]);
  if (share->via != NULL)
    g_string_append_printf (text, "  via      %s\n", share->via);
  if (share->local_only[0] != NULL)
    {
      g_string_append (text, "  local-only ");
      nf_map_append_list (text, share->local_only);
      g_string_append_c (text, '\n');
    }
}

static void
show_member (GString *text, const NfMap *map, const NfMapShare *share, const char *site)
{
  NfMapRole role = nf_map_role (map, share, site);
  g_autofree char *dir = nf_map_dir (map, share, site, "~");

  if (role == NF_ROLE_STRANGER)
    return;
  g_string_append_printf (text, "  %-10s %s", nf_map_role_to_string (role), site);
  if (dir != NULL)
    g_string_append_printf (text, ":%s", dir);
  g_string_append (text, nf_map_may_write (map, share, site) ? "\n" : ", reads only\n");
}

static void
show_share (GString *text, const NfMap *map, const NfMapShare *share)
{
  g_string_append_printf (text, "share %s on %s, id %016" G_GINT64_MODIFIER "x\n", share->name,
                          share->mount, share->id);
  show_member (text, map, share, share->local.site);
  for (guint i = 0; i < share->n_broadcast; i++)
    show_member (text, map, share, share->broadcast[i].site);
  for (guint i = 0; share->writers != NULL && share->writers[i] != NULL; i++)
    if (nf_map_role (map, share, share->writers[i]) == NF_ROLE_NONE)
      show_member (text, map, share, share->writers[i]);
  show_options (text, share);
}

static void
show_at (GString *text, const NfMap *map, const char *site)
{
  g_string_append_printf (text, "this site is %s%s\n", site,
                          nf_map_site (map, site) != NULL ? "" : ", which isn't in the map");
  for (guint i = 0; i < map->shares->len; i++)
    {
      const NfMapShare *share = g_ptr_array_index (map->shares, i);
      NfMapRole role = nf_map_role (map, share, site);
      g_autofree char *dir = nf_map_dir (map, share, site, "~");

      g_string_append_printf (text, "  %-10s of %s on %s", nf_map_role_to_string (role),
                              share->name, share->mount);
      if (dir != NULL)
        g_string_append_printf (text, ", directory %s", dir);
      if (role != NF_ROLE_STRANGER && !nf_map_may_write (map, share, site))
        g_string_append (text, ", reads only");
      g_string_append_c (text, '\n');
    }
}

static void
show_peers (GString *text, const NfMap *map, const char *site)
{
  g_autoptr (GPtrArray) peers = nf_map_peers (map, site);

  for (guint i = 0; i < peers->len; i++)
    {
      const NfMapSite *peer = g_ptr_array_index (peers, i);

      g_string_append_printf (text, "  %s %s\n",
                              nf_map_dials (map, site, peer->name) ? "dials" : "is dialled by",
                              peer->name);
    }
}

char *
nf_map_to_text (const NfMap *map, const char *site)
{
  GString *text = g_string_new (NULL);

  g_string_append_printf (text, "map %s, serial %" G_GUINT64_FORMAT ", digest ", map->filename,
                          map->serial);
  for (gsize i = 0; i < sizeof map->digest; i++)
    g_string_append_printf (text, "%02x", map->digest[i]);
  g_string_append_c (text, '\n');
  for (guint i = 0; i < map->sites->len; i++)
    show_site (text, g_ptr_array_index (map->sites, i));
  for (guint i = 0; i < map->shares->len; i++)
    show_share (text, map, g_ptr_array_index (map->shares, i));
  if (site != NULL)
    {
      show_at (text, map, site);
      show_peers (text, map, site);
    }
  return g_string_free (text, FALSE);
}
