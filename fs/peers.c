// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/daemon-private.h"
#include "fs/log.h"

/* From the links to the shares.
 *
 * Each greeting names the shares that its sender has open and the receiver is a member of. A
 * share is up with a peer when both have named it. That is found out once a link, so when the
 * set of open shares changes later, the link is ended and greets anew. */

void
nf_peer_note_free (gpointer data)
{
  NfPeerNote *note = data;

  g_array_unref (note->theirs);
  g_free (note);
}

/* With peers_lock. */
static NfPeerNote *
note_of (NfDaemon *daemon, const char *site)
{
  NfPeerNote *note = g_hash_table_lookup (daemon->peers, site);

  if (!note)
    {
      note = g_new0 (NfPeerNote, 1);
      note->theirs = g_array_new (FALSE, FALSE, sizeof (NfHelloShare));
      g_hash_table_insert (daemon->peers, g_strdup (site), note);
    }
  return note;
}

static gboolean
is_member (const NfSlot *slot, const char *site)
{
  return nf_map_role (slot->map, slot->entry, site) != NF_ROLE_STRANGER;
}

/* With slots_lock. */
static NfSlot *
slot_by_id (NfDaemon *daemon, guint64 id)
{
  for (guint i = 0; i < daemon->slots->len; i++)
    {
      NfSlot *slot = daemon->slots->pdata[i];
      if (slot->id == id)
        return slot;
    }
  return NULL;
}

static const NfHelloShare *
find_theirs (GArray *theirs, guint64 id)
{
  for (guint i = 0; i < theirs->len; i++)
    if (g_array_index (theirs, NfHelloShare, i).share == id)
      return &g_array_index (theirs, NfHelloShare, i);
  return NULL;
}

static void
fill_hello (gpointer data, const char *site, NfMsg *hello)
{
  NfDaemon *daemon = data;
  NfBuf buf = NF_BUF_INIT;

  /* Before the shares are looked at: what changes from here on is noticed in up (). */
  pthread_mutex_lock (&daemon->peers_lock);
  note_of (daemon, site)->generation = daemon->generation;
  pthread_mutex_unlock (&daemon->peers_lock);

  pthread_rwlock_rdlock (&daemon->slots_lock);
  for (guint i = 0; i < daemon->slots->len; i++)
    {
      NfSlot *slot = daemon->slots->pdata[i];
      NfHelloShare ours;
      if (!slot->share || !is_member (slot, site))
        continue;
      nf_share_hello (slot->share, &ours);
      nf_hello_share_encode (&ours, &buf);
    }
  pthread_rwlock_unlock (&daemon->slots_lock);
  hello->owner = nf_buf_steal_bytes (&buf);
  hello->hello.shares
      = nf_slice (g_bytes_get_data (hello->owner, NULL), g_bytes_get_size (hello->owner));
}

static gboolean
read_hello (const NfMsg *hello, GArray *ret_theirs)
{
  NfReader reader = nf_reader (hello->hello.shares);
  NfHelloShare share;

  while (nf_reader_left (&reader) > 0 && nf_hello_share_decode (&reader, &share))
    g_array_append_val (ret_theirs, share);
  return nf_reader_done (&reader);
}

static gboolean
peer_up (gpointer data, const char *site, const NfMsg *hello, GError **error)
{
  NfDaemon *daemon = data;
  g_autoptr (GArray) theirs = g_array_new (FALSE, FALSE, sizeof (NfHelloShare));
  gboolean outdated;

  if (!read_hello (hello, theirs))
    {
      g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_PROTOCOL,
                   "the greeting's list of shares can't be read");
      return FALSE;
    }
  pthread_rwlock_rdlock (&daemon->slots_lock);
  for (guint i = 0; i < daemon->slots->len; i++)
    {
      NfSlot *slot = daemon->slots->pdata[i];
      const NfHelloShare *their = find_theirs (theirs, slot->id);
      if (slot->share && their && is_member (slot, site))
        nf_share_peer_up (slot->share, site, their);
    }
  pthread_mutex_lock (&daemon->peers_lock);
  NfPeerNote *note = note_of (daemon, site);
  note->up = TRUE;
  g_array_unref (note->theirs);
  note->theirs = g_steal_pointer (&theirs);
  outdated = note->generation != daemon->generation;
  pthread_mutex_unlock (&daemon->peers_lock);
  pthread_rwlock_unlock (&daemon->slots_lock);
  if (outdated)
    nf_hub_hang_up (daemon->hub, site, "the shares here have just changed");
  return TRUE;
}

static void
peer_down (gpointer data, const char *site, const char *reason)
{
  NfDaemon *daemon = data;

  (void)reason; /* the hub has logged it */
  pthread_rwlock_rdlock (&daemon->slots_lock);
  pthread_mutex_lock (&daemon->peers_lock);
  note_of (daemon, site)->up = FALSE;
  pthread_mutex_unlock (&daemon->peers_lock);
  /* Also where it isn't a member any more: it may have been when it came up. */
  for (guint i = 0; i < daemon->slots->len; i++)
    {
      NfSlot *slot = daemon->slots->pdata[i];
      if (slot->share)
        nf_share_peer_down (slot->share, site);
    }
  pthread_rwlock_unlock (&daemon->slots_lock);
}

/* Why SITE may not send MSG for SLOT (NULL: the share isn't here); NULL if it may. With
 * slots_lock. The right to change things is the primary's to check, as is the epoch. */
static const char *
refusal (NfDaemon *daemon, const NfSlot *slot, const char *site, const NfMsg *msg)
{
  int flags = nf_msg_flags (msg->type);
  gboolean of_primary = slot && g_str_equal (site, slot->primary);

  if (!slot || !slot->share)
    return "the share isn't open here";
  if (!is_member (slot, site))
    return "it isn't a site of that share";
  /* A primary that lost something reads it from a replica; so each is the other then. */
  if ((flags & NF_MSG_TO_PRIMARY) != 0 && slot->role != NF_ROLE_PRIMARY
      && (!of_primary || (flags & NF_MSG_CALL) != 0))
    return "the primary of that share isn't here";
  if ((flags & NF_MSG_FROM_PRIMARY) != 0 && !of_primary && !nf_share_is_recovering (slot->share))
    return "it isn't the primary of that share";
  return NULL;
}

/* The message is dropped; that is said once for each kind. While maps differ such messages are
 * to be expected, so the link stays: other shares use it. */
static void
log_refusal (NfDaemon *daemon, guint64 share, const char *site, const NfMsg *msg, const char *why)
{
  NfLogAbout about = { .peer = site };
  g_autofree char *key
      = g_strdup_printf ("%s %s %016" G_GINT64_MODIFIER "x", site, nf_msg_name (msg->type), share);
  gboolean is_new;

  pthread_mutex_lock (&daemon->peers_lock);
  is_new = g_hash_table_size (daemon->refusals) < NF_DAEMON_REFUSALS_MAX
           && g_hash_table_add (daemon->refusals, g_strdup (key));
  pthread_mutex_unlock (&daemon->peers_lock);
  if (is_new)
    nf_log (G_LOG_LEVEL_WARNING, &about,
            "%s from %s for share %016" G_GINT64_MODIFIER
            "x is refused: %s. (More of these aren't logged)",
            nf_msg_name (msg->type), site, share, why);
}

static void
message (gpointer data, const char *site, NfLinkKind kind, NfMsg *msg)
{
  NfDaemon *daemon = data;
  /* Every message of a share begins with it, but for calls, which have it in their head. */
  guint64 id
      = (nf_msg_flags (msg->type) & NF_MSG_CALL) != 0 ? msg->head.share : msg->subscribe.share;
  NfSlot *slot;
  const char *why;

  pthread_rwlock_rdlock (&daemon->slots_lock);
  slot = slot_by_id (daemon, id);
  why = refusal (daemon, slot, site, msg);
  if (!why)
    nf_share_message (slot->share, site, kind == NF_LINK_BULK, msg);
  pthread_rwlock_unlock (&daemon->slots_lock);
  if (why)
    {
      log_refusal (daemon, id, site, msg, why);
      nf_msg_free (msg);
    }
}

static void
drained (gpointer data, const char *site, NfLinkKind kind)
{
  NfDaemon *daemon = data;

  pthread_rwlock_rdlock (&daemon->slots_lock);
  for (guint i = 0; i < daemon->slots->len; i++)
    {
      NfSlot *slot = daemon->slots->pdata[i];
      if (slot->share && is_member (slot, site))
        nf_share_drained (slot->share, site, kind == NF_LINK_BULK);
    }
  pthread_rwlock_unlock (&daemon->slots_lock);
}

const NfHubEvents nf_daemon_events = {
  .fill_hello = fill_hello,
  .up = peer_up,
  .down = peer_down,
  .message = message,
  .drained = drained,
};

void
nf_peers_regreet (NfDaemon *daemon, NfMap *map, const NfMapShare *share, const char *why)
{
  pthread_mutex_lock (&daemon->peers_lock);
  daemon->generation++;
  pthread_mutex_unlock (&daemon->peers_lock);
  for (guint i = 0; i < nf_map_n_sites (map); i++)
    {
      const char *site = nf_map_site_at (map, i)->name;
      if (!g_str_equal (site, daemon->conf->name)
          && nf_map_role (map, share, site) != NF_ROLE_STRANGER)
        nf_hub_hang_up (daemon->hub, site, why); /* nothing if it isn't up */
    }
}

gboolean
nf_peer_has_share (NfDaemon *daemon, const char *site, guint64 id)
{
  pthread_mutex_lock (&daemon->peers_lock);
  NfPeerNote *note = note_of (daemon, site);
  gboolean has = note->up && find_theirs (note->theirs, id);
  pthread_mutex_unlock (&daemon->peers_lock);
  return has;
}

void
nf_peer_strange_shares (NfDaemon *daemon, const char *site, GArray *ids)
{
  pthread_mutex_lock (&daemon->peers_lock);
  NfPeerNote *note = note_of (daemon, site);
  for (guint i = 0; note->up && i < note->theirs->len; i++)
    {
      guint64 id = g_array_index (note->theirs, NfHelloShare, i).share;
      if (!slot_by_id (daemon, id))
        g_array_append_val (ids, id);
    }
  pthread_mutex_unlock (&daemon->peers_lock);
}
