// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/broadcast.h"

#include <errno.h>
#include <string.h>

#include "sync/recent.h"

typedef struct
{
  NfBroadcast *broadcast;
  char *site;
  gint again; /* atomic: somebody asked for a pump */

  pthread_mutex_t
      lock; /* guards what follows; held while ops are sent, so that they keep their order */
  gboolean connected;
  gboolean subscribed;
  gboolean want_data;
  guint64 sent; /* the last op sent */
  NfPosition position;
  gboolean whole; /* as NfSubscriberState has it; it says so itself after subscribing */
} Subscriber;

struct NfBroadcast
{
  NfShare *share;
  NfOrder *order;
  NfRecent *recent;
  guint64
      lossy_epoch; /* the last reign that began with something lost; set before anybody subscribes */
  gint n_subscribed; /* atomic */
  gint
      keeps_data; /* atomic: some site wants the bytes of writes, now or when its link is up again */

  pthread_mutex_t lock;    /* guards what follows; innermost but for the journal's */
  GHashTable *subscribers; /* site → Subscriber, owning; never shrinks (members are few) */
  GPtrArray *list;         /* the same */
  GHashTable *aborted;     /* seqs of aborted ops… */
  guint64 aborted_from;    /* …as far as they are above this */
};

static void
subscriber_free (gpointer data)
{
  Subscriber *subscriber = data;

  pthread_mutex_destroy (&subscriber->lock);
  g_free (subscriber->site);
  g_free (subscriber);
}

NfBroadcast *
nf_broadcast_new (NfShare *share, NfOrder *order)
{
  NfBroadcast *broadcast = g_new0 (NfBroadcast, 1);

  broadcast->share = share;
  broadcast->order = order;
  broadcast->recent = nf_recent_new ();
  pthread_mutex_init (&broadcast->lock, NULL);
  broadcast->subscribers = g_hash_table_new_full (g_str_hash, g_str_equal, NULL, subscriber_free);
  broadcast->list = g_ptr_array_new ();
  broadcast->aborted = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
  broadcast->aborted_from = nf_journal_last (share->journal).seq;
  return broadcast;
}

void
nf_broadcast_free (NfBroadcast *broadcast)
{
  g_ptr_array_unref (broadcast->list);
  g_hash_table_unref (broadcast->subscribers);
  g_hash_table_unref (broadcast->aborted);
  nf_recent_free (broadcast->recent);
  pthread_mutex_destroy (&broadcast->lock);
  g_free (broadcast);
}

gboolean
nf_broadcast_wanted (NfBroadcast *broadcast)
{
  return g_atomic_int_get (&broadcast->n_subscribed) > 0;
}

void
nf_broadcast_data (NfBroadcast *broadcast, guint64 seq, NfSlice data)
{
  /* Those whose link is down count too: what they miss meanwhile is to come in order as well. */
  if (data.len == 0 || data.len > NF_RECENT_ITEM_MAX || !g_atomic_int_get (&broadcast->keeps_data))
    return;
  if (data.len == 1 && data.data[0] == NF_BROADCAST_ABORTED[0])
    return;
  nf_recent_put (broadcast->recent, seq, g_bytes_new (data.data, data.len));
}

void
nf_broadcast_set_lossy (NfBroadcast *broadcast, guint64 epoch)
{
  broadcast->lossy_epoch = epoch;
}

/* ---- aborted ops ---- */

static void
add_aborted (NfBroadcast *broadcast, guint64 seq)
{
  g_hash_table_add (broadcast->aborted, g_memdup2 (&seq, sizeof seq));
}

void
nf_broadcast_aborted (NfBroadcast *broadcast, guint64 seq)
{
  pthread_mutex_lock (&broadcast->lock);
  add_aborted (broadcast, seq);
  pthread_mutex_unlock (&broadcast->lock);
}

static gboolean
is_before (gpointer key, gpointer value, gpointer data)
{
  (void)value;
  return *(const guint64 *)key <= *(const guint64 *)data;
}

void
nf_broadcast_trimmed (NfBroadcast *broadcast)
{
  guint64 first = nf_journal_first (broadcast->share->journal).seq;

  pthread_mutex_lock (&broadcast->lock);
  g_hash_table_foreach_remove (broadcast->aborted, is_before, &first);
  pthread_mutex_unlock (&broadcast->lock);
}

static gboolean
is_aborted (NfBroadcast *broadcast, guint64 seq)
{
  pthread_mutex_lock (&broadcast->lock);
  gboolean aborted = g_hash_table_size (broadcast->aborted) > 0
                     && g_hash_table_contains (broadcast->aborted, &seq);
  pthread_mutex_unlock (&broadcast->lock);
  return aborted;
}

static gboolean
collect_aborted (NfPosition position, NfSlice bytes, gpointer data)
{
  NfBroadcast *broadcast = data;
  NfRecord record;

  /* The kind is the first byte (record.c): the rest needn't be decoded for what isn't one. */
  if (bytes.len == 0 || bytes.data[0] != NF_OP_ABORT || !nf_record_decode (bytes, &record))
    return TRUE;
  nf_broadcast_aborted (broadcast, record.aborted);
  (void)position;
  return TRUE;
}

/* A cursor goes back to SEQ, before what this process has appended: which ops there were aborted stands further on
 * in the journal. */
static void
look_ahead (NfBroadcast *broadcast, guint64 seq)
{
  pthread_mutex_lock (&broadcast->lock);
  gboolean needed = seq < broadcast->aborted_from;
  pthread_mutex_unlock (&broadcast->lock);
  if (!needed)
    return;
  if (nf_journal_read (broadcast->share->journal, seq, collect_aborted, broadcast) != 0)
    return; /* trimmed or damaged: the cursor finds out */
  pthread_mutex_lock (&broadcast->lock);
  broadcast->aborted_from = MIN (broadcast->aborted_from, seq);
  pthread_mutex_unlock (&broadcast->lock);
}

/* ---- sending ---- */

static Subscriber *
find (NfBroadcast *broadcast, const char *site, gboolean add)
{
  pthread_mutex_lock (&broadcast->lock);
  Subscriber *subscriber = g_hash_table_lookup (broadcast->subscribers, site);
  if (!subscriber && add)
    {
      subscriber = g_new0 (Subscriber, 1);
      subscriber->broadcast = broadcast;
      subscriber->site = g_strdup (site);
      pthread_mutex_init (&subscriber->lock, NULL);
      g_hash_table_insert (broadcast->subscribers, subscriber->site, subscriber);
      g_ptr_array_add (broadcast->list, subscriber);
    }
  pthread_mutex_unlock (&broadcast->lock);
  return subscriber;
}

/* With the subscriber's lock. */
static void
set_subscribed (Subscriber *subscriber, gboolean subscribed)
{
  NfBroadcast *broadcast = subscriber->broadcast;

  if (subscriber->subscribed == subscribed)
    return;
  subscriber->subscribed = subscribed;
  (void)g_atomic_int_add (&broadcast->n_subscribed, subscribed ? 1 : -1);
}

/* The bytes to go with RECORD, to be unreffed. */
static GBytes *
data_for (Subscriber *subscriber, const NfRecord *record)
{
  NfBroadcast *broadcast = subscriber->broadcast;

  if (record->kind != NF_OP_DATA || record->range != NF_RANGE_DATA || !subscriber->want_data)
    return NULL;
  if (nf_slice_equal (record->site, nf_slice_str (subscriber->site)))
    return NULL; /* it has them itself */
  return nf_recent_get (broadcast->recent, record->seq);
}

static gboolean
send_op (Subscriber *subscriber, NfPosition position, GBytes *bytes)
{
  NfShare *share = subscriber->broadcast->share;
  NfMsg msg = { .type = NF_MSG_OP };
  NfRecord record;
  gsize len;
  const guint8 *raw = g_bytes_get_data (bytes, &len);
  g_autoptr (GBytes) data = NULL;

  msg.op.share = share->conf.id;
  msg.op.record = nf_slice (raw, len);
  if (is_aborted (subscriber->broadcast, position.seq))
    {
      /* Whoever is told so keeps the op as one without effect. After a power cut here the record that says it must be there
       * still, or others would be sent the op as if it had had one. */
      (void)nf_journal_sync (share->journal);
      msg.op.data = nf_slice_str (NF_BROADCAST_ABORTED);
    }
  else if (nf_record_decode (msg.op.record, &record) && (data = data_for (subscriber, &record)))
    msg.op.data = nf_slice (g_bytes_get_data (data, NULL), g_bytes_get_size (data));
  if (!share->host->send (share->host->data, subscriber->site, FALSE, &msg))
    return FALSE;
  nf_host_point (share->host, "broadcast-sent");
  return TRUE;
}

static void
send_subscribed (Subscriber *subscriber, NfPosition position, guint8 verdict, const char *reason)
{
  NfShare *share = subscriber->broadcast->share;
  NfMsg msg = { .type = NF_MSG_SUBSCRIBED };

  msg.subscribed.share = share->conf.id;
  msg.subscribed.position = position;
  msg.subscribed.verdict = verdict;
  msg.subscribed.reason = nf_slice_str (reason);
  msg.subscribed.last = nf_journal_last (share->journal).seq;
  (void)share->host->send (share->host->data, subscriber->site, FALSE, &msg);
}

/* FROM isn't a point of our history. Was it of another, or of ours as far as can be told? */
static gboolean
has_parted (NfBroadcast *broadcast, NfPosition from)
{
  guint64 last = nf_order_watermark (broadcast->order);
  NfPosition ours;

  if (from.seq == 0 || from.seq == G_MAXUINT64)
    return FALSE; /* it has none */
  if (from.seq > last)
    return TRUE;
  return nf_journal_position_at (broadcast->share->journal, from.seq, &ours)
         && (ours.epoch != from.epoch || ours.chain != from.chain);
}

/* The site begins at the present end and compares the rest; it stands at FROM. With the subscriber's lock. */
static void
begin_comparing (Subscriber *subscriber, NfPosition from)
{
  NfShare *share = subscriber->broadcast->share;
  gboolean lost
      = from.epoch < subscriber->broadcast->lossy_epoch || has_parted (subscriber->broadcast, from);
  NfPosition position;

  if (!nf_journal_position_at (share->journal, nf_order_watermark (subscriber->broadcast->order),
                               &position))
    {
      set_subscribed (subscriber, FALSE);
      send_subscribed (subscriber, (NfPosition){ 0 }, NF_VERDICT_REFUSED,
                       "the primary can't read its journal");
      return;
    }
  subscriber->sent = position.seq;
  set_subscribed (subscriber, TRUE);
  send_subscribed (subscriber, position, lost ? NF_VERDICT_COMPARE_AND_KEEP : NF_VERDICT_COMPARE,
                   "");
}

/* With the subscriber's lock. */
static void
send_ops (Subscriber *subscriber)
{
  NfBroadcast *broadcast = subscriber->broadcast;
  NfShare *share = broadcast->share;
  NfHost *host = share->host;

  while (subscriber->subscribed && subscriber->sent < nf_order_watermark (broadcast->order)
         && host->queued (host->data, subscriber->site, FALSE) < NF_BROADCAST_QUEUE)
    {
      NfPosition position;
      g_autoptr (GBytes) bytes = nf_journal_get (share->journal, subscriber->sent, &position);
      if (!bytes || position.seq != subscriber->sent + 1)
        begin_comparing (subscriber, subscriber->position); /* trimmed away meanwhile */
      else if (send_op (subscriber, position, bytes))
        subscriber->sent = position.seq;
      else
        return; /* no link: peer_down follows */
    }
}

/* Whoever finds the lock taken leaves the work to its holder, who therefore looks again after letting go. */
static void
pump_one (Subscriber *subscriber)
{
  g_atomic_int_set (&subscriber->again, TRUE);
  while (g_atomic_int_get (&subscriber->again) && pthread_mutex_trylock (&subscriber->lock) == 0)
    {
      g_atomic_int_set (&subscriber->again, FALSE);
      send_ops (subscriber);
      pthread_mutex_unlock (&subscriber->lock);
    }
}

static void
let_go (Subscriber *subscriber)
{
  pthread_mutex_unlock (&subscriber->lock);
  if (g_atomic_int_get (&subscriber->again))
    pump_one (subscriber);
}

void
nf_broadcast_pump (NfBroadcast *broadcast, const char *site)
{
  if (!nf_broadcast_wanted (broadcast))
    return;
  if (site)
    {
      Subscriber *subscriber = find (broadcast, site, FALSE);
      if (subscriber)
        pump_one (subscriber);
      return;
    }
  for (guint i = 0;; i++)
    {
      pthread_mutex_lock (&broadcast->lock);
      Subscriber *subscriber = i < broadcast->list->len ? broadcast->list->pdata[i] : NULL;
      pthread_mutex_unlock (&broadcast->lock);
      if (!subscriber)
        return;
      pump_one (subscriber);
    }
}

/* ---- subscribers ---- */

/* Is POSITION a point in our own history? The very beginning is not: what was there before is in no journal. */
static gboolean
is_ours (NfBroadcast *broadcast, NfPosition position)
{
  NfPosition ours;

  return position.seq > 0 && position.seq <= nf_order_watermark (broadcast->order)
         && nf_journal_position_at (broadcast->share->journal, position.seq, &ours)
         && ours.epoch == position.epoch && ours.chain == position.chain;
}

void
nf_broadcast_subscribe (NfBroadcast *broadcast, const char *site, const NfMsg *msg)
{
  Subscriber *subscriber = find (broadcast, site, TRUE);
  NfPosition position = msg->subscribe.position;
  gboolean known = is_ours (broadcast, position);

  if (known)
    look_ahead (broadcast, position.seq);
  pthread_mutex_lock (&subscriber->lock);
  subscriber->connected = TRUE;
  subscriber->whole = FALSE;
  subscriber->want_data = msg->subscribe.want_data;
  if (subscriber->want_data)
    g_atomic_int_set (&broadcast->keeps_data, TRUE);
  if (known)
    {
      subscriber->position = position;
      subscriber->sent = position.seq;
      set_subscribed (subscriber, TRUE);
      send_subscribed (subscriber, position, NF_VERDICT_CONTINUE, "");
    }
  else
    {
      subscriber->position = (NfPosition){ 0 };
      begin_comparing (subscriber, position);
    }
  pthread_mutex_unlock (&subscriber->lock);
  pump_one (subscriber);
}

void
nf_broadcast_peer_up (NfBroadcast *broadcast, const char *site)
{
  Subscriber *subscriber = find (broadcast, site, TRUE);

  pthread_mutex_lock (&subscriber->lock);
  subscriber->connected = TRUE;
  set_subscribed (subscriber, FALSE); /* a new link begins with SUBSCRIBE */
  let_go (subscriber);
}

void
nf_broadcast_peer_down (NfBroadcast *broadcast, const char *site)
{
  Subscriber *subscriber = find (broadcast, site, FALSE);

  if (!subscriber)
    return;
  pthread_mutex_lock (&subscriber->lock);
  subscriber->connected = FALSE;
  set_subscribed (subscriber, FALSE);
  let_go (subscriber);
}

/* What all have that were ever heard of needn't be kept for them. */
static void
forget_recent (NfBroadcast *broadcast)
{
  guint64 seq = G_MAXUINT64;

  for (guint i = 0; seq > 0; i++)
    {
      pthread_mutex_lock (&broadcast->lock);
      Subscriber *subscriber = i < broadcast->list->len ? broadcast->list->pdata[i] : NULL;
      pthread_mutex_unlock (&broadcast->lock);
      if (!subscriber)
        break;
      pthread_mutex_lock (&subscriber->lock);
      seq = MIN (seq, subscriber->position.seq);
      let_go (subscriber);
    }
  nf_recent_forget (broadcast->recent, seq);
}

void
nf_broadcast_position (NfBroadcast *broadcast, const char *site, NfPosition position,
                       guint64 suspects)
{
  Subscriber *subscriber = find (broadcast, site, TRUE);

  pthread_mutex_lock (&subscriber->lock);
  subscriber->position = position;
  subscriber->whole = suspects == 0;
  let_go (subscriber);
  forget_recent (broadcast);
}

void
nf_broadcast_state (NfBroadcast *broadcast, const char *site, NfSubscriberState *ret_state)
{
  Subscriber *subscriber = find (broadcast, site, FALSE);
  NfSubscriberState state = { 0 };

  if (subscriber)
    {
      pthread_mutex_lock (&subscriber->lock);
      state = (NfSubscriberState){ subscriber->position, subscriber->whole, subscriber->connected,
                                   subscriber->subscribed };
      let_go (subscriber);
    }
  *ret_state = state;
}
