// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "map/site.h"

/* Any text: it is refused with a message that begins with the file, or the map keeps its promises. */

int LLVMFuzzerTestOneInput (const guint8 *data, size_t size);

static void
check_error (const GError *error)
{
  g_assert_nonnull (error);
  g_assert_true (error->domain == NF_MAP_ERROR);
  g_assert_true (g_str_has_prefix (error->message, "f:"));
  g_assert_true (g_utf8_validate (error->message, -1, NULL));
}

static void
check_share (const NfMap *map, const NfMapShare *share)
{
  const char *rest = NULL;

  g_assert_true (nf_map_share (map, share->name) == share);
  g_assert_true (nf_map_share_by_id (map, share->id) == share);
  g_assert_true (nf_map_share_of_path (map, share->mount, &rest) == share && *rest == '\0');
  for (guint i = 0; i < nf_map_n_sites (map); i++)
    {
      const char *site = nf_map_site_at (map, i)->name;
      NfMapRole role = nf_map_role (map, share, site);
      g_autofree char *dir = nf_map_dir (map, share, site, "/home/u");

      g_assert_true ((role >= NF_ROLE_REPLICA) == (dir != NULL && *dir == '/'));
      g_assert_true (role != NF_ROLE_STRANGER || !nf_map_may_write (map, share, site));
      if (role == NF_ROLE_REPLICA || role == NF_ROLE_NONE)
        g_assert_true (nf_map_dials (map, site, share->local.site)
                       != nf_map_dials (map, share->local.site, site));
    }
}

static void
check_map (const NfMap *map)
{
  g_autofree char *text = nf_map_to_text (map, "a");
  g_autoptr (GPtrArray) changes = nf_map_diff (map, map);

  g_assert_true (g_utf8_validate (text, -1, NULL));
  g_assert_cmpuint (changes->len, ==, 0);
  for (guint i = 0; i < nf_map_n_shares (map); i++)
    check_share (map, nf_map_share_at (map, i));
}

int
LLVMFuzzerTestOneInput (const guint8 *data, size_t size)
{
  g_autoptr (GError) map_error = NULL;
  g_autoptr (GError) conf_error = NULL;
  g_autoptr (NfMap) map = nf_map_parse ((const char *)data, size, "f", &map_error);
  g_autoptr (NfSiteConf) conf = nf_site_conf_parse ((const char *)data, size, "f", &conf_error);

  if (map != NULL)
    check_map (map);
  else
    check_error (map_error);
  if (conf != NULL)
    g_assert_true (conf->roots[0] != NULL && conf->heartbeat_ms <= conf->call_timeout_ms);
  else
    check_error (conf_error);
  return 0;
}
