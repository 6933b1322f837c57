// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <errno.h>
#include <string.h>

#include "fs/asks.h"

/* How often the client hears how it goes, and we look whether it is still there. */
#define TICK_NS (500 * 1000 * 1000L)
#define NS_PER_S (1000 * 1000 * 1000L)

typedef struct
{
  guint refs; /* ours and the share's; guarded by lock */
  pthread_mutex_t lock;
  pthread_cond_t changed;
  gboolean done; /* guarded by lock, as what follows */
  int status;
  GBytes *data; /* what the answer had */
} Wait;

static Wait *
wait_new (void)
{
  Wait *wait = g_new0 (Wait, 1);
  pthread_condattr_t attributes;

  wait->refs = 2;
  pthread_mutex_init (&wait->lock, NULL);
  pthread_condattr_init (&attributes);
  pthread_condattr_setclock (&attributes, CLOCK_MONOTONIC);
  pthread_cond_init (&wait->changed, &attributes);
  pthread_condattr_destroy (&attributes);
  return wait;
}

static void
wait_unref (Wait *wait)
{
  pthread_mutex_lock (&wait->lock);
  gboolean last = --wait->refs == 0;
  pthread_mutex_unlock (&wait->lock);
  if (!last)
    return;
  pthread_mutex_destroy (&wait->lock);
  pthread_cond_destroy (&wait->changed);
  g_bytes_unref (wait->data); /* may be NULL */
  g_free (wait);
}

static void
wait_done (gpointer data, int status, const NfMsg *answer)
{
  Wait *wait = data;

  pthread_mutex_lock (&wait->lock);
  wait->done = TRUE;
  wait->status = status;
  if (status == 0)
    wait->data = g_bytes_new (answer->answer.data.data, answer->answer.data.len);
  pthread_cond_signal (&wait->changed);
  pthread_mutex_unlock (&wait->lock);
  wait_unref (wait);
}

static gboolean
wait_tick (Wait *wait, int *ret_status)
{
  struct timespec until;

  clock_gettime (CLOCK_MONOTONIC, &until);
  until.tv_nsec += TICK_NS;
  until.tv_sec += until.tv_nsec / NS_PER_S;
  until.tv_nsec %= NS_PER_S;
  pthread_mutex_lock (&wait->lock);
  while (!wait->done && pthread_cond_timedwait (&wait->changed, &wait->lock, &until) == 0)
    ;
  gboolean done = wait->done;
  *ret_status = wait->status;
  pthread_mutex_unlock (&wait->lock);
  return done;
}

/* Who is behind. */

typedef struct
{
  const char *const *sites; /* NULL: all */
  GString *text;
} Behind;

static void
add_member (const char *site, NfPosition position, guint64 lag_ops, gboolean connected,
            gpointer data)
{
  Behind *behind = data;
  const char *comma = behind->text->len > 0 ? ", " : "";

  (void)position;
  if (behind->sites && !g_strv_contains (behind->sites, site))
    return;
  if (!connected)
    g_string_append_printf (behind->text, "%s%s isn't connected", comma, site);
  else if (lag_ops > 0)
    g_string_append_printf (behind->text, "%s%s is %" G_GUINT64_FORMAT " changes behind", comma,
                            site, lag_ops);
}

/* PEERS's answer: for each member its name, epoch, seq, chain, changes behind, and whether it is
 * connected. */
static void
add_members (GBytes *data, Behind *behind)
{
  gsize len;
  const guint8 *bytes = g_bytes_get_data (data, &len);
  NfReader reader = nf_reader (nf_slice (bytes, len));

  while (nf_reader_left (&reader) > 0 && !reader.failed)
    {
      g_autofree char *site = nf_slice_dup (nf_reader_slice (&reader, NF_MAP_NAME_MAX));
      NfPosition position = { .epoch = nf_reader_u64 (&reader) };
      position.seq = nf_reader_u64 (&reader);
      position.chain = nf_reader_u64 (&reader);
      guint64 lag_ops = nf_reader_u64 (&reader);
      gboolean connected = nf_reader_u8 (&reader) != 0;
      if (!reader.failed)
        add_member (site, position, lag_ops, connected, behind);
    }
}

/* The primary knows where each site stands; it isn't waited for long. */
static void
ask_primary (const NfSlot *slot, Behind *behind)
{
  NfMsg call = { .type = NF_MSG_PEERS };
  Wait *wait = wait_new ();
  int status;

  nf_share_call (slot->share, &call, wait_done, wait, NULL);
  if (wait_tick (wait, &status) && status == 0)
    add_members (wait->data, behind);
  wait_unref (wait);
}

/* "" if nobody is known to be behind. The caller frees it. */
static char *
who_is_behind (const NfSlot *slot, const char *const *sites)
{
  Behind behind = { sites, g_string_new (NULL) };
  NfShareStatus status;

  nf_share_status (slot->share, &status);
  if (slot->role == NF_ROLE_PRIMARY)
    nf_share_members (slot->share, add_member, &behind);
  else if (status.connected)
    ask_primary (slot, &behind);
  else
    g_string_append_printf (behind.text, "%s, the primary, isn't connected", slot->primary);
  return g_string_free (behind.text, FALSE);
}

/* Asking. */

/* NULL for all sites; an error is answered. The caller frees the list. */
static gboolean
parse_sites (NfDaemon *daemon, NfSlot *slot, NfAsk *ask, char ***ret_sites)
{
  const char *text = nf_ask_text (ask, "sites");
  g_auto (GStrv) sites = text && !g_str_equal (text, "all") ? g_strsplit (text, ",", -1) : NULL;

  for (char **site = sites; site && *site; site++)
    {
      pthread_rwlock_rdlock (&daemon->slots_lock);
      NfMapRole role = nf_map_role (slot->map, slot->entry, g_strstrip (*site));
      pthread_rwlock_unlock (&daemon->slots_lock);
      if (role != NF_ROLE_STRANGER)
        continue;
      nf_ask_fail (ask, "%s isn't a site of share %s", **site ? *site : "\"\"", slot->name);
      return FALSE;
    }
  *ret_sites = g_steal_pointer (&sites);
  return TRUE;
}

static void
answer (NfSlot *slot, NfAsk *ask, const char *const *sites, int status)
{
  g_autofree char *behind = who_is_behind (slot, sites);
  const char *colon = *behind ? ": " : "";

  if (status == 0)
    nf_ask_done (ask);
  else if (status == -ETIMEDOUT)
    nf_ask_fail (ask, "share %s: not everywhere in time%s%s", slot->name, colon, behind);
  else
    nf_ask_fail (ask, "share %s: %s%s%s", slot->name, g_strerror (-status), colon, behind);
}

static void
wait_for (NfDaemon *daemon, NfSlot *slot, NfAsk *ask, char **sites)
{
  gint64 timeout_ms = CLAMP (nf_ask_number (ask, "timeout_ms", G_MAXINT32), 0, G_MAXINT32);
  g_autofree char *names = sites ? g_strjoinv (",", sites) : g_strdup ("all");
  Wait *wait = wait_new ();
  gboolean over = FALSE;
  int status;

  nf_share_wait (slot->share, names, (guint)timeout_ms, wait_done, wait);
  while (!over && !wait_tick (wait, &status))
    {
      g_autofree char *behind = who_is_behind (slot, (const char *const *)sites);
      over = nf_ask_is_over (ask) || nf_slot_is_wanted (daemon, slot)
             || !nf_ask_line (ask, "behind", behind);
    }
  if (over)
    nf_ask_fail (ask, "share %s is being closed", slot->name);
  else
    answer (slot, ask, (const char *const *)sites, status);
  wait_unref (wait);
}

void
nf_asks_wait (gpointer data, NfAsk *ask)
{
  NfDaemon *daemon = data;
  NfSlot *slot = nf_asks_share (daemon, ask);
  g_auto (GStrv) sites = NULL;

  if (!slot)
    return;
  if (parse_sites (daemon, slot, ask, &sites))
    wait_for (daemon, slot, ask, sites);
  nf_slot_put (daemon, slot);
}
