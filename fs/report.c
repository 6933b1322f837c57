// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <unistd.h>

#include "fs/daemon-private.h"

/* What `nearfs status --json` prints. Names of members stay as they are: others read them. */

#define NS_PER_S 1e9
#define US_PER_MS 1e3
#define US_PER_S 1e6

static void
add_text (JsonBuilder *builder, const char *name, const char *text)
{
  g_autofree char *valid = text ? g_utf8_make_valid (text, -1) : NULL;

  json_builder_set_member_name (builder, name);
  if (valid)
    json_builder_add_string_value (builder, valid);
  else
    json_builder_add_null_value (builder);
}

/* JSON's numbers are signed here; none of these reaches 2^63. */
static void
add_number (JsonBuilder *builder, const char *name, guint64 number)
{
  json_builder_set_member_name (builder, name);
  json_builder_add_int_value (builder, (gint64)MIN (number, G_MAXINT64));
}

static void
add_real (JsonBuilder *builder, const char *name, double number)
{
  json_builder_set_member_name (builder, name);
  json_builder_add_double_value (builder, number);
}

static void
add_flag (JsonBuilder *builder, const char *name, gboolean flag)
{
  json_builder_set_member_name (builder, name);
  json_builder_add_boolean_value (builder, flag);
}

/* Ids are shown as 16 digits: a script's JSON reader may take numbers for floating point. */
static void
add_id (JsonBuilder *builder, guint64 id)
{
  g_autofree char *text = g_strdup_printf ("%016" G_GINT64_MODIFIER "x", id);

  json_builder_add_string_value (builder, text);
}

typedef struct
{
  JsonBuilder *builder;
  NfDaemon *daemon;
  const NfSlot *slot;
} Context;

static void
add_member (const char *site, NfPosition position, guint64 lag_ops, gboolean connected,
            gpointer data)
{
  Context *context = data;
  JsonBuilder *builder = context->builder;

  json_builder_begin_object (builder);
  add_text (builder, "site", site);
  add_number (builder, "epoch", position.epoch);
  add_number (builder, "seq", position.seq);
  add_number (builder, "lag_ops", lag_ops);
  add_flag (builder, "connected", connected);
  json_builder_end_object (builder);
}

static void
add_standing (JsonBuilder *builder, const NfShareStatus *status)
{
  add_flag (builder, "connected", status->connected);
  add_number (builder, "epoch", status->position.epoch);
  add_number (builder, "seq", status->position.seq);
  add_number (builder, "known_seq", status->known.seq);
  add_number (builder, "lag_ops", status->lag_ops);
  add_number (builder, "lag_bytes", status->lag_bytes);
  add_real (builder, "lag_seconds", (double)status->lag_ns / NS_PER_S);
  add_number (builder, "suspects", status->suspects);
  add_number (builder, "objects", status->objects);
  add_number (builder, "filled", status->filled);
  add_number (builder, "fill_total", status->fill_total);
  add_number (builder, "pending_calls", status->pending_calls);
  add_number (builder, "pending_bytes", status->pending_bytes);
  add_number (builder, "journal_bytes", status->journal_bytes);
}

/* A replica that works here, while the primary has it refused, is cut off in a way that no link
 * shows. */
static char *
trouble_of (NfDaemon *daemon, const NfSlot *slot, const NfShareStatus *status)
{
  const char *primary = slot->primary;

  if (!slot->share)
    return g_strdup (slot->trouble ? slot->trouble : "is being opened");
  if (status->trouble[0] != '\0')
    return g_strdup (status->trouble);
  if (slot->role != NF_ROLE_PRIMARY && nf_hub_is_up (daemon->hub, primary)
      && !nf_peer_has_share (daemon, primary, slot->id))
    return g_strdup_printf (
        "%s, its primary, doesn't have it open: see \"nearfs status\" there, and compare "
        "the maps",
        primary);
  return NULL;
}

static void
add_share (JsonBuilder *builder, NfDaemon *daemon, const NfSlot *slot)
{
  NfShareStatus status = { .state = "refused" };
  Context context = { builder, daemon, slot };
  g_autofree char *trouble = NULL;

  if (slot->share)
    nf_share_status (slot->share, &status);
  trouble = trouble_of (daemon, slot, &status);
  json_builder_begin_object (builder);
  add_text (builder, "name", slot->name);
  json_builder_set_member_name (builder, "id");
  add_id (builder, slot->id);
  add_text (builder, "mount", slot->entry->mount);
  add_text (builder, "role", nf_map_role_to_string (slot->role));
  add_text (builder, "primary", slot->primary);
  add_text (builder, "dir", slot->dir);
  add_text (builder, "state", status.state);
  add_text (builder, "trouble", trouble);
  add_standing (builder, &status);
  json_builder_set_member_name (builder, "members");
  json_builder_begin_array (builder);
  if (slot->share)
    nf_share_members (slot->share, add_member, &context);
  json_builder_end_array (builder);
  json_builder_end_object (builder);
}

/* What is open at one of the two sites only. With slots_lock. */
static void
add_differences (JsonBuilder *builder, NfDaemon *daemon, const char *site, gboolean up)
{
  g_autoptr (GArray) strange = g_array_new (FALSE, FALSE, sizeof (guint64));

  json_builder_set_member_name (builder, "shares_only_here");
  json_builder_begin_array (builder);
  for (guint i = 0; up && i < daemon->slots->len; i++)
    {
      const NfSlot *slot = daemon->slots->pdata[i];
      if (slot->share && nf_map_role (slot->map, slot->entry, site) != NF_ROLE_STRANGER
          && !nf_peer_has_share (daemon, site, slot->id))
        json_builder_add_string_value (builder, slot->name);
    }
  json_builder_end_array (builder);

  json_builder_set_member_name (builder, "shares_only_there");
  json_builder_begin_array (builder);
  nf_peer_strange_shares (daemon, site, strange);
  for (guint i = 0; i < strange->len; i++)
    add_id (builder, g_array_index (strange, guint64, i));
  json_builder_end_array (builder);
}

static void
add_peer (const NfPeerInfo *info, gpointer data)
{
  Context *context = data;
  JsonBuilder *builder = context->builder;
  gboolean up = info->state == NF_PEER_UP;

  json_builder_begin_object (builder);
  add_text (builder, "site", info->site);
  add_text (builder, "state", nf_peer_state_name (info->state));
  add_flag (builder, "we_dial", info->we_dial);
  add_flag (builder, "bulk_up", info->bulk_up);
  add_real (builder, "rtt_ms", (double)info->rtt_last_us / US_PER_MS);
  add_real (builder, "rtt_min_ms", (double)info->rtt_min_us / US_PER_MS);
  add_number (builder, "queued_ops_bytes", info->queued[NF_LINK_OPS]);
  add_number (builder, "queued_bulk_bytes", info->queued[NF_LINK_BULK]);
  add_number (builder, "bytes_in", info->bytes_in);
  add_number (builder, "bytes_out", info->bytes_out);
  add_real (builder, "since", (double)info->since_us / US_PER_S);
  add_real (builder, "redial_in_seconds",
            info->redial_at_us == 0
                ? 0
                : MAX (0, (double)(info->redial_at_us - g_get_monotonic_time ()) / US_PER_S));
  add_text (builder, "last_error", info->last_error);
  add_text (builder, "software", info->software);
  add_number (builder, "map_serial", info->map_serial);
  add_flag (builder, "map_differs", info->map_differs);
  add_differences (builder, context->daemon, info->site, up);
  json_builder_end_object (builder);
}

static void
add_map (JsonBuilder *builder, NfDaemon *daemon)
{
  const guint8 *digest = nf_map_digest (daemon->map);
  GString *hex = g_string_new (NULL);

  for (guint i = 0; i < NF_MAP_DIGEST_SIZE; i++)
    g_string_append_printf (hex, "%02x", digest[i]);
  json_builder_set_member_name (builder, "map");
  json_builder_begin_object (builder);
  add_text (builder, "file", daemon->conf->map);
  add_number (builder, "serial", nf_map_serial (daemon->map));
  add_text (builder, "digest", hex->str);
  add_text (builder, "trouble", daemon->map_trouble);
  json_builder_end_object (builder);
  g_string_free (hex, TRUE);
}

static void
add_pass (JsonBuilder *builder, NfDaemon *daemon)
{
  NfPassStatus status = { .why_not = "not mounted" };

  pthread_rwlock_rdlock (&daemon->mount_lock);
  if (daemon->mount)
    nf_mount_pass_status (daemon->mount, &status);
  pthread_rwlock_unlock (&daemon->mount_lock);
  json_builder_set_member_name (builder, "passthrough");
  json_builder_begin_object (builder);
  add_flag (builder, "on", status.on);
  add_text (builder, "why_not", status.why_not);
  add_number (builder, "opens", status.opens);
  add_number (builder, "inodes", status.inodes);
  add_number (builder, "reads", status.reads);
  json_builder_end_object (builder);
}

JsonNode *
nf_daemon_report (NfDaemon *daemon)
{
  g_autoptr (JsonBuilder) builder = json_builder_new ();
  Context context = { builder, daemon, NULL };

  pthread_rwlock_rdlock (&daemon->slots_lock);
  json_builder_begin_object (builder);
  add_text (builder, "site", daemon->conf->name);
  add_text (builder, "version", PACKAGE_VERSION);
  add_number (builder, "pid", (guint64)getpid ());
  add_text (builder, "mountpoint", daemon->mountpoint);
  add_map (builder, daemon);
  add_pass (builder, daemon);
  json_builder_set_member_name (builder, "shares");
  json_builder_begin_array (builder);
  for (guint i = 0; i < daemon->slots->len; i++)
    add_share (builder, daemon, daemon->slots->pdata[i]);
  json_builder_end_array (builder);
  json_builder_set_member_name (builder, "peers");
  json_builder_begin_array (builder);
  nf_hub_each (daemon->hub, add_peer, &context);
  json_builder_end_array (builder);
  json_builder_end_object (builder);
  pthread_rwlock_unlock (&daemon->slots_lock);
  return json_builder_get_root (builder);
}
