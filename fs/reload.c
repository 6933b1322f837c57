// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <gio/gio.h>
#include <string.h>

#include "fs/daemon-private.h"
#include "fs/log.h"

/* A new map: read, checked and compared as a whole; then what changed is carried out, share by
 * share. What has not changed goes on undisturbed, links and open files included. */

static gint
compare_slots (gconstpointer a, gconstpointer b)
{
  return g_strcmp0 ((*(NfSlot *const *)a)->name, (*(NfSlot *const *)b)->name);
}

static NfSlot *
find_slot (GPtrArray *slots, const char *name)
{
  for (guint i = 0; i < slots->len; i++)
    if (g_str_equal (((NfSlot *)slots->pdata[i])->name, name))
      return slots->pdata[i];
  return NULL;
}

/* The slots that go on as they are under MAP; the others of daemon->slots are to be closed. */
static GPtrArray *
keep_slots (NfDaemon *daemon, NfMap *map, GPtrArray *ret_closing)
{
  GPtrArray *kept = g_ptr_array_new ();

  for (guint i = 0; i < daemon->slots->len; i++)
    {
      NfSlot *slot = daemon->slots->pdata[i];
      const NfMapShare *entry = nf_map_share (map, slot->name);
      g_autofree char *signature
          = entry && nf_map_role (map, entry, daemon->conf->name) != NF_ROLE_STRANGER
                ? nf_slot_signature (daemon, map, entry)
                : NULL;
      g_ptr_array_add (g_strcmp0 (signature, slot->signature) == 0 ? kept : ret_closing, slot);
    }
  return kept;
}

static void
close_slots (NfDaemon *daemon, GPtrArray *closing)
{
  for (guint i = 0; i < closing->len; i++)
    {
      NfSlot *slot = closing->pdata[i];
      nf_peers_regreet (daemon, slot->map, slot->entry, "a share has changed");
      nf_slot_drain (slot, daemon->conf->call_timeout_ms, NULL);
      nf_slot_close (daemon, slot);
      nf_slot_free (slot);
    }
}

static void
update_slots (GPtrArray *kept, NfDaemon *daemon, NfMap *map)
{
  for (guint i = 0; i < kept->len; i++)
    {
      NfSlot *slot = kept->pdata[i];
      const NfMapShare *entry = nf_map_share (map, slot->name);
      nf_policy_set_map (slot->policy, map, entry);
      nf_slot_remount (daemon, slot, map, entry);
    }
}

/* Slots for the shares that have none, appended to SLOTS. */
static GPtrArray *
add_slots (NfDaemon *daemon, NfMap *map, GPtrArray *slots)
{
  GPtrArray *added = g_ptr_array_new ();

  for (guint i = 0; i < nf_map_n_shares (map); i++)
    {
      const NfMapShare *entry = nf_map_share_at (map, i);
      if (nf_map_role (map, entry, daemon->conf->name) != NF_ROLE_STRANGER
          && !find_slot (slots, entry->name))
        g_ptr_array_add (added, nf_slot_new (daemon, map, entry));
    }
  for (guint i = 0; i < added->len; i++)
    g_ptr_array_add (slots, added->pdata[i]);
  return added;
}

static void
set_slots (NfDaemon *daemon, GPtrArray *slots)
{
  g_ptr_array_sort (slots, compare_slots);
  pthread_rwlock_wrlock (&daemon->slots_lock);
  GPtrArray *before = daemon->slots;
  daemon->slots = slots;
  pthread_rwlock_unlock (&daemon->slots_lock);
  g_ptr_array_unref (before);
}

static void
set_map (NfDaemon *daemon, NfMap *map)
{
  pthread_rwlock_wrlock (&daemon->slots_lock);
  NfMap *before = daemon->map;
  daemon->map = nf_map_ref (map);
  pthread_rwlock_unlock (&daemon->slots_lock);
  nf_map_unref (before);
  nf_hub_set_map (daemon->hub, map);
}

/* Ops, links and greetings of the shares that stay go on during all of this. */
static void
apply_map (NfDaemon *daemon, NfMap *map)
{
  g_autoptr (GPtrArray) closing = g_ptr_array_new ();
  GPtrArray *kept = keep_slots (daemon, map, closing);
  GPtrArray *slots = g_ptr_array_new ();
  g_autoptr (GPtrArray) added = NULL;

  for (guint i = 0; i < kept->len; i++)
    g_ptr_array_add (slots, kept->pdata[i]);
  set_slots (daemon, kept); /* nothing new gets to those that are to be closed */
  close_slots (daemon, closing);
  update_slots (kept, daemon, map);
  set_map (daemon, map);
  added = add_slots (daemon, map, slots);
  set_slots (daemon, slots);
  for (guint i = 0; i < added->len; i++)
    (void)nf_slot_open (daemon, added->pdata[i], FALSE); /* says what is wrong for itself */
}

static void
append_changes (GString *text, const NfMap *before, const NfMap *after)
{
  g_autoptr (GPtrArray) changes = nf_map_diff (before, after);

  for (guint i = 0; i < changes->len; i++)
    {
      const NfMapChange *change = changes->pdata[i];
      g_string_append_printf (text, "%s\n", change->text);
      nf_log (G_LOG_LEVEL_INFO, NULL, "map: %s", change->text);
    }
  if (changes->len == 0)
    g_string_append (text, "nothing has changed\n");
  for (const char *const *warning = nf_map_warnings (after); *warning; warning++)
    {
      g_string_append_printf (text, "warning: %s\n", *warning);
      nf_log (G_LOG_LEVEL_WARNING, NULL, "map: %s", *warning);
    }
}

static void
append_troubles (GString *text, NfDaemon *daemon)
{
  for (guint i = 0; i < daemon->slots->len; i++)
    {
      const NfSlot *slot = daemon->slots->pdata[i];
      if (!slot->share)
        g_string_append_printf (text, "share %s can't be opened: %s\n", slot->name, slot->trouble);
    }
}

static NfMap *
read_map (NfDaemon *daemon, GError **error)
{
  g_autoptr (NfMap) map = nf_map_load (daemon->conf->map, error);

  if (!map || !nf_map_check_site (map, daemon->conf, error))
    return NULL;
  return g_steal_pointer (&map);
}

static void
set_map_trouble (NfDaemon *daemon, const char *trouble)
{
  pthread_rwlock_wrlock (&daemon->slots_lock);
  g_free (daemon->map_trouble);
  daemon->map_trouble = g_strdup (trouble);
  pthread_rwlock_unlock (&daemon->slots_lock);
}

static void
hang_up (const NfPeerInfo *info, gpointer data)
{
  NfDaemon *daemon = data;

  if (info->state == NF_PEER_UP)
    nf_hub_hang_up (daemon->hub, info->site, "a new map was loaded");
}

/* With admin. */
static char *
change_map (NfDaemon *daemon, NfMap *map)
{
  GString *text = g_string_new (NULL);

  gboolean changes
      = memcmp (nf_map_digest (daemon->map), nf_map_digest (map), NF_MAP_DIGEST_SIZE) != 0;

  append_changes (text, daemon->map, map);
  apply_map (daemon, map);
  /* Which map a site has is said in greetings only: without a new one the others would take ours
   * for the old one. A link is back after a moment, and what was under way is sent again. */
  if (changes)
    nf_hub_each (daemon->hub, hang_up, daemon);
  nf_slots_retry (daemon);
  append_troubles (text, daemon);
  return g_string_free (text, FALSE);
}

gboolean
nf_daemon_load_map (NfDaemon *daemon, char **ret_text, GError **error)
{
  g_autoptr (GError) read_error = NULL;
  g_autofree char *text = NULL;

  pthread_mutex_lock (&daemon->admin);
  g_autoptr (NfMap) map = read_map (daemon, &read_error);
  set_map_trouble (daemon, read_error ? read_error->message : NULL);
  if (map)
    text = change_map (daemon, map);
  else if (read_error)
    nf_log (G_LOG_LEVEL_WARNING, NULL,
            "the map is refused, the old one (serial %" G_GUINT64_FORMAT ") stays: %s",
            nf_map_serial (daemon->map), read_error->message);
  pthread_mutex_unlock (&daemon->admin);
  if (!map)
    {
      g_propagate_error (error, g_steal_pointer (&read_error));
      return FALSE;
    }
  if (ret_text)
    *ret_text = g_steal_pointer (&text);
  return TRUE;
}

gboolean
nf_daemon_adopt (NfDaemon *daemon, const char *name, GError **error)
{
  gboolean opened = FALSE;

  pthread_mutex_lock (&daemon->admin);
  NfSlot *slot = find_slot (daemon->slots, name);
  if (!slot)
    g_set_error (error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "this site has no share %s", name);
  else if (slot->share)
    g_set_error (error, G_IO_ERROR, G_IO_ERROR_EXISTS, "share %s is in use already", name);
  else
    {
      opened = nf_slot_open (daemon, slot, TRUE);
      if (!opened)
        g_set_error (error, G_IO_ERROR, G_IO_ERROR_FAILED, "share %s: %s", name, slot->trouble);
    }
  pthread_mutex_unlock (&daemon->admin);
  return opened;
}
