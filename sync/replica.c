// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/check-private.h"
#include "sync/checkpoint.h"
#include "sync/claims.h"
#include "sync/replica-internal.h"

#include <errno.h>
#include <malloc.h>
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
  nf_at_hand_let_go (&replica->at_hand);
  g_queue_clear_full (&replica->incoming, (GDestroyNotify)nf_msg_free);
  nf_replica_gate_clear (replica);
  nf_replica_drop_undone (replica);
  nf_heal_free (replica->heal);
  nf_transfers_free (replica->transfers);
  nf_blocked_free (replica->blocked);
  g_hash_table_unref (replica->touched);
  g_hash_table_unref (replica->content);
  g_hash_table_unref (replica->aborted);
  g_hash_table_unref (replica->stamps);
  g_hash_table_unref (replica->copied);
  g_hash_table_unref (replica->redo_undone);
  g_hash_table_unref (replica->undone_seqs);
  g_hash_table_unref (replica->unsure);
  nf_replica_marks_clear (replica);
  g_array_unref (replica->lost);
  g_array_unref (replica->dying);
  pthread_mutex_destroy (&replica->checkpoint_lock);
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
                 || replica->received.seq < replica->last_seq
             ? STATE_CATCHING_UP
             : STATE_IN_STEP;
}

/* A fill's many buffers came from all threads' arenas, and libc keeps there what was freed: of a million small files
 * 130 MiB. */
static void
give_memory_back (gpointer unused)
{
  (void)unused;
  malloc_trim (0);
}

static void
publish (NfReplica *replica)
{
  NfShare *share = replica->share;
  NfMsg msg = { .type = NF_MSG_POSITION };

  replica->published_ms = nf_replica_now_ms (replica);
  nf_at_hand_let_go (&replica->at_hand);
  if (share->tree && !replica->fresh)
    nf_replica_checkpoint_soon (replica, replica->unpublished);
  replica->unpublished = 0;
  if (share->journal && replica->published_ms - replica->trimmed_ms >= NF_TRIM_MS)
    {
      replica->trimmed_ms = replica->published_ms;
      nf_journal_trim (share->journal, nf_replica_position (replica).seq);
    }
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
  if (msg.position.suspects == 0 && !replica->published_whole)
    share->host->post (share->host->data, give_memory_back, NULL);
  replica->published_whole = msg.position.suspects == 0;
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

void
nf_replica_tell_readers (NfReplica *replica)
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
  g_strlcpy (replica->state, replica->subscribed || replica->no_space ? state : "cut off",
             sizeof replica->state);
  if (replica->share->tree)
    nf_heal_progress (replica->heal, &replica->filled, &replica->fill_total);
  pthread_mutex_unlock (&replica->lock);
}

void
nf_replica_settle (NfReplica *replica)
{
  nf_claims_check (replica->share->claims);
  if (!replica->share->tree)
    {
      publish_soon (replica);
      return;
    }
  if (replica->frozen)
    return;
  gboolean room;
  do
    {
      nf_replica_run_ready (replica);
      nf_replica_load_more (replica);
      nf_replica_run_ready (replica);
      nf_check_pump (replica->check);
      nf_heal_pump (replica->heal);
      /* What ended may have been the last that anybody sends a message for: what waits for its place begins now. */
      room
          = nf_transfers_pump (replica->transfers) && nf_index_suspects (replica->share->index) > 0;
    }
  while (room || (replica->ready.length > 0 && !nf_replica_gated (replica)));
  nf_claims_check (replica->share->claims);
  nf_replica_sweep_stamps (replica);
  nf_replica_bury (replica);
  if (replica->parted && nf_index_suspects (replica->share->index) == 0)
    nf_replica_set_parted (replica, FALSE);
  nf_replica_tell_readers (replica);
  /* Who waits for this site to be in step hears of the end of healing, too. */
  if ((nf_index_suspects (replica->share->index) == 0) != replica->published_whole)
    replica->unpublished++;
  publish_soon (replica);
}

void
nf_replica_set_parted (NfReplica *replica, gboolean parted)
{
  if (replica->parted == parted)
    return;
  replica->parted = parted;
  g_hash_table_remove_all (replica->copied);
  /* If it can't be recorded, less is kept after a crash than could have been; the comparison itself doesn't need it. */
  (void)nf_index_set_meta (replica->share->index, "parted",
                           parted ? nf_slice_str ("1") : NF_SLICE_NONE);
}

/* Content is refused while the reserve is spent: that is for the ops, which may bring removals. */
gboolean
nf_replica_has_room (NfReplica *replica)
{
  return !replica->share->reserve
         || nf_reserve_held (replica->share->reserve, nf_replica_now_ms (replica));
}

static void
retry (gpointer data)
{
  NfReplica *replica = data;

  pthread_mutex_lock (&replica->work);
  replica->retry_due = FALSE;
  if (!replica->closed)
    {
      NfOp *op;
      replica->no_space = !nf_replica_has_room (replica);
      if (replica->no_space)
        nf_replica_retry_later (replica);
      else
        nf_replica_trouble (replica, NULL);
      nf_transfers_retry (replica->transfers);
      nf_heal_start (replica->heal);
      while ((op = g_queue_pop_head (&replica->stalled)))
        g_queue_push_tail (&replica->ready, op);
      if (!replica->subscribed)
        nf_replica_subscribe (replica);
      nf_replica_settle (replica);
    }
  pthread_mutex_unlock (&replica->work);
  nf_replica_unref (replica);
}

gboolean
nf_replica_is_no_space (int err)
{
  return err == -ENOSPC || err == -EDQUOT || err == -ENOMEM || err == -EMFILE || err == -ENFILE;
}

void
nf_replica_failed (NfReplica *replica, int err)
{
  g_autofree char *text
      = g_strdup_printf ("the broadcast directory can't be written: %s", g_strerror (-err));

  replica->no_space = nf_replica_is_no_space (err);
  if (!replica->no_space)
    nf_replica_trouble (replica, text);
  if (!replica->no_space && replica->failed != err)
    g_warning ("share %s: %s; it is tried again", replica->share->conf.name, text);
  replica->failed = err;
  nf_replica_retry_later (replica);
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
  gboolean spent
      = replica->no_space && replica->share->reserve && nf_reserve_spend (replica->share->reserve);
  nf_replica_after (replica, spent ? 0 : NF_RETRY_MS, retry);
}

/* ---- beginning and end ---- */

static void
content_free (gpointer data)
{
  g_queue_free (data);
}

NfReplica *
nf_replica_new (NfShare *share, GError **error)
{
  NfReplica *replica = g_new0 (NfReplica, 1);

  replica->share = share;
  replica->refs = 1;
  pthread_mutex_init (&replica->checkpoint_lock, NULL);
  pthread_mutex_init (&replica->work, NULL);
  pthread_mutex_init (&replica->lock, NULL);
  replica->fresh = TRUE;
  replica->blocked = nf_blocked_new ();
  replica->content = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, content_free);
  replica->touched = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, g_free);
  replica->aborted = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
  replica->copied = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
  replica->stamps = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, g_free);
  replica->redo_undone = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
  replica->undone_seqs = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
  replica->unsure = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
  replica->lost = g_array_new (FALSE, FALSE, sizeof (NfFid));
  replica->dying = g_array_new (FALSE, FALSE, sizeof (NfFid));
  nf_replica_marks_init (replica);
  replica->transfers = nf_transfers_new (replica);
  replica->heal = nf_heal_new (replica);
  g_strlcpy (replica->state, "cut off", sizeof replica->state);
  if (share->tree)
    {
      pthread_mutex_lock (&replica->work);
      gboolean recovered = nf_replica_recover (replica, error);
      replica->closed = !recovered; /* for the timers that hold it, when the share is no more */
      if (!recovered)
        nf_transfers_drop_all (replica->transfers);
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
  pthread_mutex_lock (&replica->checkpoint_lock);
  pthread_mutex_lock (&replica->work);
  gboolean again = replica->closed;
  replica->closed = TRUE;
  replica->subscribed = FALSE;
  nf_at_hand_let_go (&replica->at_hand);
  if (!again)
    {
      nf_check_end (replica->check);
      nf_heal_stop (replica->heal);
      /* Else the next start compares more than it needs to. */
      if (replica->share->tree && !replica->fresh && nf_replica_save (replica) == 0
          && syncfs (nf_tree_root_fd (replica->share->tree)) == 0
          && nf_index_set_meta (replica->share->index, "clean", nf_slice_str ("1")) == 0)
        (void)nf_checkpoint_make_copy (replica->share);
      nf_transfers_drop_all (replica->transfers);
    }
  pthread_mutex_unlock (&replica->work);
  pthread_mutex_unlock (&replica->checkpoint_lock);
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

gboolean
nf_replica_knows_names (NfReplica *replica)
{
  NfIndex *index = replica->share->index;
  NfObject object = { 0 };

  if (!replica->share->tree || replica->fresh || replica->ahead_seq > replica->received.seq)
    return FALSE;
  while (nf_index_suspects (index) > 0 && nf_index_next_suspect (index, object.fid, &object))
    if (object.suspect & (NF_SUSPECT_NAMES | NF_SUSPECT_TREE))
      return FALSE;
  return TRUE;
}

NfPosition
nf_replica_position_to_trust (NfReplica *replica)
{
  NfPosition position = { 0 };

  pthread_mutex_lock (&replica->work);
  if (nf_replica_knows_names (replica))
    position = replica->received;
  pthread_mutex_unlock (&replica->work);
  return position;
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
