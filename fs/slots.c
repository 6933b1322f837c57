// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <gio/gio.h>
#include <unistd.h>

#include "fs/daemon-private.h"
#include "fs/log.h"
#include "fs/mark.h"

#define NS_PER_S G_GINT64_CONSTANT (1000000000)

/* All other sites of the share. */
static char **
members_of (NfDaemon *daemon, NfMap *map, const NfMapShare *entry)
{
  g_autoptr (GPtrArray) members = g_ptr_array_new ();

  for (guint i = 0; i < nf_map_n_sites (map); i++)
    {
      const char *site = nf_map_site_at (map, i)->name;
      if (!g_str_equal (site, daemon->conf->name)
          && nf_map_role (map, entry, site) != NF_ROLE_STRANGER)
        g_ptr_array_add (members, g_strdup (site));
    }
  g_ptr_array_add (members, NULL);
  return (char **)g_ptr_array_steal (members, NULL);
}

char *
nf_slot_signature (NfDaemon *daemon, NfMap *map, const NfMapShare *entry)
{
  g_autofree char *dir = nf_map_dir (map, entry, daemon->conf->name, daemon->conf->home);
  g_auto (GStrv) members = members_of (daemon, map, entry);
  g_autofree char *joined = g_strjoinv (" ", members);

  return g_strdup_printf ("%d %s %s %s", (int)nf_map_role (map, entry, daemon->conf->name),
                          entry->local.site, joined, dir ? dir : "");
}

NfSlot *
nf_slot_new (NfDaemon *daemon, NfMap *map, const NfMapShare *entry)
{
  NfSlot *slot = g_new0 (NfSlot, 1);

  slot->name = g_strdup (entry->name);
  slot->id = entry->id;
  slot->role = nf_map_role (map, entry, daemon->conf->name);
  slot->primary = g_strdup (entry->local.site);
  slot->dir = nf_map_dir (map, entry, daemon->conf->name, daemon->conf->home);
  slot->signature = nf_slot_signature (daemon, map, entry);
  slot->policy = nf_policy_new (map, entry, daemon->conf->name, daemon->users, geteuid () != 0);
  slot->map = nf_map_ref (map);
  slot->entry = entry;
  return slot;
}

void
nf_slot_free (NfSlot *slot)
{
  g_assert (!slot->share && slot->pins == 0);
  g_free (slot->name);
  g_free (slot->primary);
  g_free (slot->dir);
  g_free (slot->signature);
  g_free (slot->trouble);
  nf_policy_free (slot->policy);
  nf_map_unref (slot->map);
  g_free (slot);
}

/* Opening. */

static NfShare *
open_share (NfDaemon *daemon, NfSlot *slot, gboolean create, GError **error)
{
  const NfSiteConf *conf = daemon->conf;
  g_auto (GStrv) members = members_of (daemon, slot->map, slot->entry);
  NfShareConf share_conf = {
    .id = slot->id,
    .name = slot->name,
    .site = conf->name,
    .primary = slot->primary,
    .role = slot->role,
    .dir = slot->dir,
    .personal = geteuid () != 0,
    .create = create,
    .call_timeout_ms = conf->call_timeout_ms,
    .write_buffer = conf->write_buffer_bytes,
    .journal_bytes = conf->journal_size_bytes,
    .journal_age_ns = (gint64)conf->journal_age_s * NS_PER_S,
    .may_write = nf_policy_may_write,
    .credentials = nf_policy_credentials,
    .name_caller = nf_policy_name_caller,
    .policy = slot->policy,
    .members = (const char *const *)members,
  };

  return nf_share_open (&share_conf, &daemon->host, error);
}

/* A directory without a mark is marked only where that can't be a mistake. */
static NfShare *
open_or_mark (NfDaemon *daemon, NfSlot *slot, gboolean adopt, GError **error)
{
  g_autoptr (GError) open_error = NULL;
  NfShare *share = NULL;

  if (slot->dir && !nf_mark_find_dir (daemon->conf, slot->name, slot->role, slot->dir, error))
    return NULL;
  share = open_share (daemon, slot, adopt && slot->dir, &open_error);
  if (!share && g_error_matches (open_error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND) && slot->dir)
    {
      if (!nf_mark_may (daemon->conf, slot->name, slot->role, slot->dir, error))
        return NULL;
      g_clear_error (&open_error);
      share = open_share (daemon, slot, TRUE, &open_error);
    }
  if (!share)
    g_propagate_error (error, g_steal_pointer (&open_error));
  return share;
}

static void
remember (NfDaemon *daemon, NfSlot *slot)
{
  NfLogAbout about = { .share = slot->name };
  g_autoptr (GError) error = NULL;

  if (slot->dir && !nf_mark_remember (daemon->conf, slot->name, slot->dir, &error))
    nf_log (G_LOG_LEVEL_WARNING, &about,
            "share %s works, but a lost mark of its directory won't be noticed: %s", slot->name,
            error->message);
}

static void
refuse (NfDaemon *daemon, NfSlot *slot, const char *why)
{
  NfLogAbout about = { .share = slot->name };

  if (g_strcmp0 (slot->trouble, why) == 0)
    return;
  nf_log (G_LOG_LEVEL_WARNING, &about,
          "share %s can't be opened: %s. The other shares work; it is tried again every %d s",
          slot->name, why, NF_DAEMON_RETRY_S);
  pthread_rwlock_wrlock (&daemon->slots_lock);
  g_free (slot->trouble);
  slot->trouble = g_strdup (why);
  pthread_rwlock_unlock (&daemon->slots_lock);
}

/* In the mount, if there is one. */
void
nf_slot_show (NfDaemon *daemon, NfSlot *slot)
{
  NfLogAbout about = { .share = slot->name };
  int err = 0;

  pthread_rwlock_rdlock (&daemon->mount_lock);
  if (daemon->mount && slot->share)
    {
      err = nf_mount_add_share (daemon->mount, slot->entry->mount, slot->share);
      slot->mounted = err == 0;
    }
  pthread_rwlock_unlock (&daemon->mount_lock);
  if (err != 0)
    nf_log (G_LOG_LEVEL_WARNING, &about, "share %s isn't shown at %s: %s; other sites still get it",
            slot->name, slot->entry->mount, g_strerror (-err));
}

/* Returns when no call from the mount uses the share any more. */
static void
hide (NfDaemon *daemon, NfSlot *slot)
{
  pthread_rwlock_rdlock (&daemon->mount_lock);
  if (daemon->mount && slot->mounted)
    nf_mount_remove_share (daemon->mount, slot->share);
  slot->mounted = FALSE;
  pthread_rwlock_unlock (&daemon->mount_lock);
}

gboolean
nf_slot_open (NfDaemon *daemon, NfSlot *slot, gboolean adopt)
{
  NfLogAbout about = { .share = slot->name };
  g_autoptr (GError) error = NULL;
  NfShare *share = open_or_mark (daemon, slot, adopt, &error);

  if (!share)
    {
      refuse (daemon, slot, error->message);
      return FALSE;
    }
  nf_log (G_LOG_LEVEL_INFO, &about, "share %s: %s of %s%s%s", slot->name,
          nf_map_role_to_string (slot->role), slot->entry->mount, slot->dir ? " in " : "",
          slot->dir ? slot->dir : "");
  remember (daemon, slot);
  pthread_rwlock_wrlock (&daemon->slots_lock);
  slot->share = share;
  slot->reopening = FALSE;
  g_clear_pointer (&slot->trouble, g_free);
  pthread_rwlock_unlock (&daemon->slots_lock);
  nf_slot_show (daemon, slot);
  nf_peers_regreet (daemon, slot->map, slot->entry, "a share is there now");
  return TRUE;
}

static void
wait_for_users (NfDaemon *daemon, NfSlot *slot)
{
  pthread_mutex_lock (&daemon->pins_lock);
  while (slot->pins > 0)
    pthread_cond_wait (&daemon->pins_changed, &daemon->pins_lock);
  pthread_mutex_unlock (&daemon->pins_lock);
}

/* Closes the share of a slot that stays. */
static void
take_out (NfDaemon *daemon, NfSlot *slot)
{
  pthread_rwlock_wrlock (&daemon->slots_lock);
  slot->leaving = slot->reopening = TRUE;
  pthread_rwlock_unlock (&daemon->slots_lock);
  wait_for_users (daemon, slot);
  hide (daemon, slot);
  pthread_rwlock_wrlock (&daemon->slots_lock);
  NfShare *share = g_steal_pointer (&slot->share);
  slot->leaving = FALSE;
  pthread_rwlock_unlock (&daemon->slots_lock);
  nf_share_close (share);
}

void
nf_slots_retry (NfDaemon *daemon)
{
  /* The table changes only under admin, which the caller has. */
  for (guint i = 0; i < daemon->slots->len; i++)
    {
      NfSlot *slot = daemon->slots->pdata[i];
      /* A primary that has taken back what it lost begins its reign. */
      if (slot->share && nf_share_wants_reopen (slot->share))
        take_out (daemon, slot);
      if (!slot->share)
        (void)nf_slot_open (daemon, slot, FALSE); /* says what is wrong for itself */
    }
}

void
nf_slot_remount (NfDaemon *daemon, NfSlot *slot, NfMap *map, const NfMapShare *entry)
{
  gboolean moves = !g_str_equal (slot->entry->mount, entry->mount);
  NfMap *before = slot->map;

  if (moves && slot->mounted)
    hide (daemon, slot);
  pthread_rwlock_wrlock (&daemon->slots_lock);
  slot->map = nf_map_ref (map);
  slot->entry = entry;
  pthread_rwlock_unlock (&daemon->slots_lock);
  nf_map_unref (before);
  if (!slot->mounted)
    nf_slot_show (daemon, slot);
}

/* Using and closing. */

NfSlot *
nf_slot_get (NfDaemon *daemon, const char *name)
{
  NfSlot *found = NULL;

  pthread_rwlock_rdlock (&daemon->slots_lock);
  for (guint i = 0; i < daemon->slots->len; i++)
    {
      NfSlot *slot = daemon->slots->pdata[i];
      if (slot->share && !slot->leaving && g_str_equal (slot->name, name))
        found = slot;
    }
  if (found)
    {
      pthread_mutex_lock (&daemon->pins_lock);
      found->pins++;
      pthread_mutex_unlock (&daemon->pins_lock);
    }
  pthread_rwlock_unlock (&daemon->slots_lock);
  return found;
}

gboolean
nf_slot_is_recovering (NfDaemon *daemon, const char *name)
{
  gboolean recovering = FALSE;

  pthread_rwlock_rdlock (&daemon->slots_lock);
  for (guint i = 0; i < daemon->slots->len; i++)
    {
      NfSlot *slot = daemon->slots->pdata[i];
      if (g_str_equal (slot->name, name))
        recovering = slot->reopening || (slot->share && nf_share_is_recovering (slot->share));
    }
  pthread_rwlock_unlock (&daemon->slots_lock);
  return recovering;
}

void
nf_slot_put (NfDaemon *daemon, NfSlot *slot)
{
  pthread_mutex_lock (&daemon->pins_lock);
  slot->pins--;
  pthread_cond_broadcast (&daemon->pins_changed);
  pthread_mutex_unlock (&daemon->pins_lock);
}

gboolean
nf_slot_is_wanted (NfDaemon *daemon, NfSlot *slot)
{
  pthread_rwlock_rdlock (&daemon->slots_lock);
  gboolean listed = g_ptr_array_find (daemon->slots, slot, NULL);
  pthread_rwlock_unlock (&daemon->slots_lock);
  return !listed;
}

void
nf_slot_drain (NfSlot *slot, guint timeout_ms, GString *lost)
{
  NfLogAbout about = { .share = slot->name };
  g_autofree char *left = NULL;

  if (!slot->share || nf_share_drain (slot->share, timeout_ms, &left))
    return;
  nf_log (G_LOG_LEVEL_WARNING, &about, "share %s: not written to %s in time, and lost: %s",
          slot->name, slot->primary, left ? left : "(unknown)");
  if (lost)
    g_string_append_printf (lost, "%s: not written to %s: %s\n", slot->name, slot->primary,
                            left ? left : "(unknown)");
}

void
nf_slot_close (NfDaemon *daemon, NfSlot *slot)
{
  NfLogAbout about = { .share = slot->name };

  wait_for_users (daemon, slot);
  if (!slot->share)
    return;
  hide (daemon, slot);
  nf_share_close (g_steal_pointer (&slot->share));
  nf_log (G_LOG_LEVEL_INFO, &about, "share %s is closed", slot->name);
}
