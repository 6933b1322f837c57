// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/replica-internal.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* The replica: what the primary broadcasts goes to the journal, from there to the tree, and the primary is told how
 * far it has come. See replica-internal.h for who does what, and for the locks. */

/* POSITION's `state`. */
enum
{
  STATE_IN_STEP = 0,
  STATE_CATCHING_UP = 1,
  STATE_FILLING = 2,
  STATE_NO_SPACE = 3,
};

/* What no journal has: asks for a comparison. */
#define SEQ_NOWHERE G_MAXUINT64

NfReplica *
nf_replica_ref (NfReplica *replica)
{
  g_atomic_int_inc (&replica->refs);
  return replica;
}

void
nf_replica_unref (NfReplica *replica)
{
  if (!g_atomic_int_dec_and_test (&replica->refs))
    return;
  nf_replica_drop_undone (replica);
  nf_heal_free (replica->heal);
  nf_transfers_free (replica->transfers);
  nf_blocked_free (replica->blocked);
  g_hash_table_unref (replica->aborted);
  g_hash_table_unref (replica->stamps);
  g_hash_table_unref (replica->redo_undone);
  g_hash_table_unref (replica->undone_seqs);
  nf_replica_marks_clear (replica);
  g_array_unref (replica->lost);
  pthread_mutex_destroy (&replica->work);
  pthread_mutex_destroy (&replica->lock);
  g_free (replica);
}

gint64
nf_replica_now_ms (NfReplica *replica)
{
  NfHost *host = replica->share->host;

  return host->monotonic_ms (host->data);
}

gboolean
nf_replica_send (NfReplica *replica, gboolean bulk, const NfMsg *msg)
{
  NfShare *share = replica->share;

  return share->host->send (share->host->data, share->conf.primary, bulk, msg);
}

void
nf_replica_after (NfReplica *replica, guint delay_ms, NfFunc func)
{
  NfHost *host = replica->share->host;

  host->post_after (host->data, delay_ms, func, nf_replica_ref (replica));
}

void
nf_replica_trouble (NfReplica *replica, const char *what)
{
  pthread_mutex_lock (&replica->lock);
  g_strlcpy (replica->trouble, what ? what : "", sizeof replica->trouble);
  pthread_mutex_unlock (&replica->lock);
}

/* ---- the position ---- */

static guint8
state_of (NfReplica *replica)
{
  if (replica->no_space)
    return STATE_NO_SPACE;
  if (replica->share->index && nf_index_suspects (replica->share->index) > 0)
    return STATE_FILLING;
  return replica->undone.length > 0 || replica->loaded.seq < replica->received.seq
             ? STATE_CATCHING_UP
             : STATE_IN_STEP;
}

static void
publish (NfReplica *replica)
{
  NfShare *share = replica->share;
  NfMsg msg = { .type = NF_MSG_POSITION };

  replica->published_ms = nf_replica_now_ms (replica);
  replica->unpublished = 0;
  if (share->tree && !replica->fresh && nf_replica_save (replica) != 0)
    nf_replica_retry_later (replica);
  nf_host_point (share->host, "replica-position");
  if (!replica->subscribed)
    return;
  msg.position.share = share->conf.id;
  msg.position.position = nf_replica_position (replica);
  msg.position.suspects = share->index ? nf_index_suspects (share->index) : 0;
  msg.position.state = state_of (replica);
  replica->published = msg.position.position;
  (void)nf_replica_send (replica, FALSE, &msg); /* no link: it goes with the next subscription */
}

static void
publish_due (gpointer data)
{
  NfReplica *replica = data;

  pthread_mutex_lock (&replica->work);
  replica->publish_due = FALSE;
  if (!replica->closed && replica->unpublished > 0)
    publish (replica);
  pthread_mutex_unlock (&replica->work);
  nf_replica_unref (replica);
}

/* At once after a rest; in a stream of ops, once in a while. */
static void
publish_soon (NfReplica *replica)
{
  gint64 rest = nf_replica_now_ms (replica) - replica->published_ms;

  if (replica->unpublished == 0)
    return;
  if (replica->unpublished >= NF_PUBLISH_OPS || rest >= NF_PUBLISH_MS)
    publish (replica);
  else if (!replica->publish_due)
    {
      replica->publish_due = TRUE;
      nf_replica_after (replica, (guint)(NF_PUBLISH_MS - rest), publish_due);
    }
}

/* ---- going on ---- */

static void
update_readers (NfReplica *replica)
{
  pthread_mutex_lock (&replica->lock);
  replica->known = replica->received;
  replica->missing_bytes = nf_transfers_missing (replica->transfers);
  const char *state = "in step";
  switch (state_of (replica))
    {
    case STATE_NO_SPACE:
      state = "no space";
      break;
    case STATE_FILLING:
      state = "filling";
      break;
    case STATE_CATCHING_UP:
      state = "catching up";
      break;
    default:
      break;
    }
  g_strlcpy (replica->state, replica->subscribed ? state : "cut off", sizeof replica->state);
  if (replica->share->tree)
    nf_heal_progress (replica->heal, &replica->filled, &replica->fill_total);
  pthread_mutex_unlock (&replica->lock);
}

static void
run_ready (NfReplica *replica)
{
  NfOp *op;

  while ((op = g_queue_pop_head (&replica->ready)))
    nf_replica_run (replica, op);
}

void
nf_replica_settle (NfReplica *replica)
{
  if (!replica->share->tree)
    {
      publish_soon (replica);
      return;
    }
  do
    {
      run_ready (replica);
      nf_replica_load_more (replica);
      run_ready (replica);
      nf_heal_pump (replica->heal);
      nf_transfers_pump (replica->transfers);
    }
  while (replica->ready.length > 0);
  nf_replica_sweep_stamps (replica);
  nf_replica_bury (replica);
  update_readers (replica);
  publish_soon (replica);
}

static void subscribe (NfReplica *replica);

static void
retry (gpointer data)
{
  NfReplica *replica = data;

  pthread_mutex_lock (&replica->work);
  replica->retry_due = FALSE;
  if (!replica->closed)
    {
      NfOp *op;
      replica->no_space = FALSE;
      nf_replica_trouble (replica, NULL);
      while ((op = g_queue_pop_head (&replica->stalled)))
        g_queue_push_tail (&replica->ready, op);
      nf_transfers_retry (replica->transfers);
      nf_heal_start (replica->heal);
      if (!replica->subscribed)
        subscribe (replica);
      nf_replica_settle (replica);
    }
  pthread_mutex_unlock (&replica->work);
  nf_replica_unref (replica);
}

void
nf_replica_retry_later (NfReplica *replica)
{
  if (replica->no_space)
    nf_replica_trouble (replica,
                        "no space in the broadcast directory: free some, it goes on by itself");
  if (replica->retry_due || replica->closed)
    return;
  replica->retry_due = TRUE;
  nf_replica_after (replica, NF_RETRY_MS, retry);
}

/* ---- subscription ---- */

static void
set_connected (NfReplica *replica, guint64 epoch)
{
  NfShare *share = replica->share;

  pthread_mutex_lock (&share->lock);
  share->connected = TRUE;
  share->epoch = MAX (share->epoch, epoch);
  pthread_mutex_unlock (&share->lock);
}

static void
subscribe (NfReplica *replica)
{
  NfMsg msg = { .type = NF_MSG_SUBSCRIBE };

  replica->subscribed = FALSE;
  nf_transfers_unask (replica->transfers);
  nf_heal_stop (replica->heal);
  msg.subscribe.share = replica->share->conf.id;
  msg.subscribe.position = replica->received;
  if (replica->fresh)
    msg.subscribe.position = (NfPosition){ 0, SEQ_NOWHERE, 0 };
  msg.subscribe.want_data = replica->share->tree != NULL;
  (void)nf_replica_send (replica, FALSE, &msg); /* no link: peer_up comes again */
}

void
nf_replica_peer_up (NfReplica *replica)
{
  pthread_mutex_lock (&replica->work);
  subscribe (replica);
  update_readers (replica);
  pthread_mutex_unlock (&replica->work);
}

void
nf_replica_peer_down (NfReplica *replica)
{
  pthread_mutex_lock (&replica->work);
  replica->subscribed = FALSE;
  nf_transfers_unask (replica->transfers);
  nf_heal_stop (replica->heal);
  if (replica->share->tree)
    nf_replica_settle (replica);
  update_readers (replica);
  pthread_mutex_unlock (&replica->work);
}

int
nf_replica_suspect_all (NfReplica *replica)
{
  guint32 all = NF_SUSPECT_NAMES | NF_SUSPECT_ATTR | NF_SUSPECT_TREE;
  int err = nf_index_set_suspect (replica->share->index, NF_FID_ROOT, all, 0);

  nf_apply_invalidate (replica->share, NF_INVAL_ALL, NF_FID_NONE, 0, 0);
  return err;
}

/* What is received and not applied, and what is under way, is part of what will be compared. */
static int
begin_anew (NfReplica *replica, NfPosition start)
{
  int err = 0;

  nf_transfers_drop_all (replica->transfers);
  nf_heal_stop (replica->heal);
  nf_replica_drop_undone (replica);
  g_hash_table_remove_all (replica->stamps);
  g_hash_table_remove_all (replica->aborted);
  g_hash_table_remove_all (replica->redo_undone);
  replica->redo_end = replica->redo_upto = 0;
  if (replica->share->tree)
    {
      err = nf_replica_suspect_all (replica);
      if (err == 0)
        err = nf_journal_restart (replica->share->journal, start);
    }
  else
    nf_apply_invalidate (replica->share, NF_INVAL_ALL, NF_FID_NONE, 0, 0);
  if (err != 0)
    return err;
  replica->received = replica->loaded = start;
  pthread_mutex_lock (&replica->lock);
  replica->applied = start;
  nf_replica_unmark (replica, start.seq, TRUE);
  pthread_mutex_unlock (&replica->lock);
  replica->fresh = FALSE;
  return replica->share->tree ? nf_replica_save (replica) : 0;
}

/* TRUE: ops come from here on. */
static gboolean
subscribed (NfReplica *replica, const NfMsg *msg)
{
  g_autofree char *reason = NULL;

  if (msg->subscribed.verdict == NF_VERDICT_COMPARE)
    {
      int err = begin_anew (replica, msg->subscribed.position);
      if (err != 0)
        {
          replica->no_space = err == -ENOSPC || err == -EDQUOT;
          nf_replica_retry_later (replica);
          return FALSE;
        }
    }
  else if (msg->subscribed.verdict != NF_VERDICT_CONTINUE)
    {
      reason = nf_slice_dup (msg->subscribed.reason);
      nf_replica_trouble (replica, reason);
      nf_replica_retry_later (replica);
      return FALSE;
    }
  replica->subscribed = TRUE;
  replica
      ->unpublished++; /* the primary is to know where this site stands, even if nothing is new */
  set_connected (replica, msg->subscribed.position.epoch);
  nf_heal_start (replica->heal);
  return TRUE;
}

/* ---- ops ---- */

/* Is the op known to have failed at the primary? Then this byte comes instead of content; content that looks like it
 * isn't sent beside an op, but fetched. */
static gboolean
is_aborted (NfSlice data)
{
  return data.len == 1 && data.data[0] == 'A';
}

/* Survives a crash, since the journal's copy of the op doesn't say so. */
static int
note_aborted (NfReplica *replica, guint64 seq)
{
  g_auto (NfBuf) buf = NF_BUF_INIT;
  GHashTableIter iter;
  gpointer key;

  g_hash_table_add (replica->aborted, g_memdup2 (&seq, sizeof seq));
  g_hash_table_iter_init (&iter, replica->aborted);
  while (g_hash_table_iter_next (&iter, &key, NULL))
    {
      if (*(guint64 *)key <= replica->applied.seq)
        g_hash_table_iter_remove (&iter);
      else
        nf_buf_put_u64 (&buf, *(guint64 *)key);
    }
  return nf_index_set_meta (replica->share->index, "aborted", nf_buf_slice (&buf));
}

/* Without a tree there is nothing to apply to, but the kernel has cached what the primary answered. */
static void
invalidate_only (NfReplica *replica, const NfRecord *record, gboolean own)
{
  NfShare *share = replica->share;

  for (guint i = 0; !own && i < record->n_names; i++)
    nf_apply_invalidate_name (share, record->names[i].parent, record->names[i].name);
  if (!own && record->fid != NF_FID_NONE)
    {
      gboolean resized = record->kind == NF_OP_ATTR && (record->mask & NF_SET_SIZE);
      if (record->kind == NF_OP_DATA)
        nf_apply_invalidate (share, NF_INVAL_DATA, record->fid, record->offset, record->length);
      else
        nf_apply_invalidate (share, resized ? NF_INVAL_DATA : NF_INVAL_ATTR, record->fid, 0, 0);
    }
  if (own && record->reqid != 0)
    nf_forward_applied (share->forward, record->reqid);
}

static void
receive_without_tree (NfReplica *replica, const NfRecord *record, NfSlice bytes)
{
  NfShare *share = replica->share;
  NfPosition position
      = { record->epoch, record->seq, nf_record_chain (replica->received.chain, bytes) };

  if (record->kind == NF_OP_EPOCH)
    set_connected (replica, record->epoch);
  replica->received = replica->loaded = position;
  pthread_mutex_lock (&replica->lock);
  replica->applied = replica->known = position;
  nf_replica_unmark (replica, position.seq, TRUE);
  pthread_mutex_unlock (&replica->lock);
  invalidate_only (replica, record, nf_slice_equal (record->site, nf_slice_str (share->conf.site)));
  replica->unpublished++;
}

/* Appends to the journal. FALSE: it can't follow, and has subscribed again or will. */
static gboolean
keep (NfReplica *replica, const NfRecord *record, NfSlice bytes, NfSlice data)
{
  int err = is_aborted (data) ? note_aborted (replica, record->seq) : 0;
  NfPosition position;

  if (err == 0)
    err = nf_journal_append_bytes (replica->share->journal, bytes, &position);
  if (err == 0)
    {
      replica->received = position;
      nf_host_point (replica->share->host, "replica-journaled");
      return TRUE;
    }
  replica->subscribed = FALSE;
  if (err == -EINVAL)
    {
      g_warning ("share %s: op %" G_GUINT64_FORMAT " doesn't follow what is here: asking anew",
                 replica->share->conf.name, record->seq);
      subscribe (replica);
      return FALSE;
    }
  replica->no_space = err == -ENOSPC || err == -EDQUOT;
  nf_replica_retry_later (replica);
  return FALSE;
}

static void
receive (NfReplica *replica, const NfMsg *msg)
{
  NfSlice bytes = msg->op.record;
  NfSlice data = msg->op.data;
  gboolean behind = replica->loaded.seq != replica->received.seq;
  NfRecord record;

  if (!replica->subscribed)
    return; /* sent before the primary had our subscription */
  if (!nf_record_decode (bytes, &record) || record.seq != replica->received.seq + 1
      || record.epoch < replica->received.epoch) /* G5: of a reign that is over */
    {
      g_warning ("share %s: got a record that can't follow %" G_GUINT64_FORMAT ": asking anew",
                 replica->share->conf.name, replica->received.seq);
      subscribe (replica);
      return;
    }
  if (!replica->share->tree)
    {
      receive_without_tree (replica, &record, bytes);
      return;
    }
  if (!keep (replica, &record, bytes, data))
    return;
  /* When there is a backlog it comes from the journal in its turn. */
  if (!behind && replica->undone.length < NF_UNDONE_MAX
      && replica->undone_cost < NF_UNDONE_COST_MAX)
    nf_replica_take (replica, replica->received, msg->owner, bytes,
                     is_aborted (data) ? NF_SLICE_NONE : data);
}

/* Handles MSG. TRUE if the subscription stands since then. */
static gboolean
handle (NfReplica *replica, const NfMsg *msg)
{
  gboolean up = FALSE;

  switch (msg->type)
    {
    case NF_MSG_SUBSCRIBED:
      up = subscribed (replica, msg);
      break;
    case NF_MSG_OP:
      receive (replica, msg);
      break;
    case NF_MSG_FETCHED:
      nf_transfers_fetched (replica->transfers, msg);
      break;
    case NF_MSG_HASHED:
      nf_transfers_hashed (replica->transfers, msg);
      break;
    case NF_MSG_LISTED:
      nf_heal_listed (replica->heal, msg);
      break;
    default:
      break; /* nothing else is for a replica */
    }
  nf_replica_settle (replica);
  return up;
}

void
nf_replica_message (NfReplica *replica, gboolean bulk, NfMsg *msg)
{
  (void)bulk;
  if (!msg->owner)
    {
      NfMsg *copy = nf_msg_dup (msg); /* what is deferred must own what it points to */
      nf_msg_free (msg);
      msg = copy;
    }
  if (msg->type == NF_MSG_ANSWER)
    nf_forward_answer (replica->share->forward, msg);
  else
    {
      pthread_mutex_lock (&replica->work);
      gboolean up = handle (replica, msg);
      pthread_mutex_unlock (&replica->work);
      if (up)
        nf_forward_peer_up (replica->share->forward);
    }
  nf_msg_free (msg);
}

/* ---- beginning and end ---- */

NfReplica *
nf_replica_new (NfShare *share, GError **error)
{
  NfReplica *replica = g_new0 (NfReplica, 1);

  replica->share = share;
  replica->refs = 1;
  pthread_mutex_init (&replica->work, NULL);
  pthread_mutex_init (&replica->lock, NULL);
  replica->fresh = TRUE;
  replica->blocked = nf_blocked_new ();
  replica->aborted = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
  replica->stamps = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, g_free);
  replica->redo_undone = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
  replica->undone_seqs = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
  replica->lost = g_array_new (FALSE, FALSE, sizeof (NfFid));
  nf_replica_marks_init (replica);
  replica->transfers = nf_transfers_new (replica);
  replica->heal = nf_heal_new (replica);
  g_strlcpy (replica->state, "cut off", sizeof replica->state);
  if (share->tree)
    {
      pthread_mutex_lock (&replica->work);
      gboolean recovered = nf_replica_recover (replica, error);
      pthread_mutex_unlock (&replica->work);
      if (!recovered)
        {
          nf_replica_unref (replica);
          return NULL;
        }
    }
  return replica;
}

void
nf_replica_stop (NfReplica *replica)
{
  pthread_mutex_lock (&replica->work);
  gboolean again = replica->closed;
  replica->closed = TRUE;
  replica->subscribed = FALSE;
  if (!again)
    {
      nf_heal_stop (replica->heal);
      if (replica->share->tree && !replica->fresh && nf_replica_save (replica) == 0
          && syncfs (nf_tree_root_fd (replica->share->tree)) == 0)
        {
          (void)nf_index_set_meta (replica->share->index, "clean", nf_slice_str ("1"));
          (void)nf_index_sync (
              replica->share->index); /* else the next start compares more than it needs to */
        }
      nf_transfers_drop_all (replica->transfers);
    }
  pthread_mutex_unlock (&replica->work);
}

void
nf_replica_free (NfReplica *replica)
{
  nf_replica_stop (replica);
  nf_replica_unref (replica);
}

NfPosition
nf_replica_position (NfReplica *replica)
{
  pthread_mutex_lock (&replica->lock);
  NfPosition applied = replica->applied;
  pthread_mutex_unlock (&replica->lock);
  return applied;
}

void
nf_replica_status (NfReplica *replica, NfShareStatus *ret_status)
{
  gint64 now = nf_replica_now_ms (replica);

  pthread_mutex_lock (&replica->lock);
  ret_status->position = replica->applied;
  ret_status->known = replica->known;
  ret_status->lag_ops
      = replica->known.seq > replica->applied.seq ? replica->known.seq - replica->applied.seq : 0;
  ret_status->lag_ns = replica->oldest_ms != 0 ? (now - replica->oldest_ms) * 1000000 : 0;
  ret_status->lag_bytes = replica->missing_bytes;
  g_strlcpy (ret_status->state, replica->state, sizeof ret_status->state);
  g_strlcpy (ret_status->trouble, replica->trouble, sizeof ret_status->trouble);
  ret_status->filled = replica->filled;
  ret_status->fill_total = replica->fill_total;
  pthread_mutex_unlock (&replica->lock);
}
