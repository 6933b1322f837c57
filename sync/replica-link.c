// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/check-private.h"
#include "sync/replica-internal.h"
#include "sync/restore.h"
#include "sync/source.h"

#include <errno.h>
#include <string.h>

/* What comes from the primary: the subscription, then ops, which go to the journal first. */

/* What no journal has: asks for a comparison. */
#define SEQ_NOWHERE G_MAXUINT64

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

void
nf_replica_subscribe (NfReplica *replica)
{
  NfMsg msg = { .type = NF_MSG_SUBSCRIBE };

  replica->subscribed = FALSE;
  nf_transfers_unask (replica->transfers);
  nf_heal_stop (replica->heal);
  msg.subscribe.share = replica->share->conf.id;
  msg.subscribe.position = replica->received;
  if (replica->fresh)
    msg.subscribe.position = (NfPosition){ replica->received.epoch, SEQ_NOWHERE, 0 };
  msg.subscribe.want_data = replica->share->tree != NULL;
  (void)nf_replica_send (replica, FALSE, &msg); /* no link: peer_up comes again */
}

void
nf_replica_peer_up (NfReplica *replica)
{
  pthread_mutex_lock (&replica->work);
  nf_replica_subscribe (replica);
  nf_replica_tell_readers (replica);
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
  nf_replica_tell_readers (replica);
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
  nf_replica_gate_clear (replica);
  nf_replica_drop_undone (replica);
  nf_replica_forget_stamps (replica);
  g_hash_table_remove_all (replica->touched);
  g_hash_table_remove_all (replica->aborted);
  g_hash_table_remove_all (replica->redo_undone);
  replica->redo_end = replica->redo_upto = 0;
  nf_forward_parted (replica->share->forward);
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
  replica->taken_seq = start.seq;
  nf_replica_unmark (replica, start.seq, TRUE);
  pthread_mutex_unlock (&replica->lock);
  nf_forward_unpark (replica->share->forward);
  replica->fresh = FALSE;
  replica->ahead_seq = replica->ahead_epoch = 0;
  return replica->share->tree ? nf_replica_save (replica) : 0;
}

/* TRUE: ops come from here on. */
static gboolean
subscribed (NfReplica *replica, const NfMsg *msg)
{
  g_autofree char *reason = NULL;
  gboolean lost = msg->subscribed.verdict == NF_VERDICT_COMPARE_AND_KEEP;

  if (lost || msg->subscribed.verdict == NF_VERDICT_COMPARE)
    {
      /* A primary that takes back: what is here is of no history that the source knows. */
      if ((lost || replica->share->restore) && replica->share->tree)
        nf_replica_set_parted (replica, TRUE);
      if (replica->share->tree && !replica->fresh
          && replica->received.seq > msg->subscribed.position.seq)
        {
          g_warning ("share %s: this site has ops up to %" G_GUINT64_FORMAT
                     ", the primary only up to %" G_GUINT64_FORMAT
                     ": what the primary doesn't have is put into quarantine",
                     replica->share->conf.name, replica->received.seq,
                     msg->subscribed.position.seq);
          nf_replica_set_parted (replica, TRUE);
        }
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
      if (replica->share->restore)
        nf_restore_refused (replica->share->restore);
      nf_replica_retry_later (replica);
      return FALSE;
    }
  replica->subscribed = TRUE;
  replica
      ->unpublished++; /* the primary is to know where this site stands, even if nothing is new */
  replica->last_seq = msg->subscribed.last;
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
  gboolean told = own && nf_forward_told (share->forward, record->reqid);

  for (guint i = 0; !told && i < record->n_names; i++)
    nf_apply_invalidate_name (share, record->names[i].parent, record->names[i].name);
  if (!told && record->fid != NF_FID_NONE)
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

  replica->received = replica->loaded = position;
  pthread_mutex_lock (&replica->lock);
  replica->applied = replica->known = position;
  nf_replica_unmark (replica, position.seq, TRUE);
  pthread_mutex_unlock (&replica->lock);
  invalidate_only (replica, record, nf_slice_equal (record->site, nf_slice_str (share->conf.site)));
  replica->unpublished++;
}

/* A reign begins: the primary may have lost ops that a listing has told of here. */
static int
distrust_ahead (NfReplica *replica, const NfRecord *record)
{
  if (record->kind != NF_OP_EPOCH || record->epoch <= replica->ahead_epoch
      || record->seq > replica->ahead_seq)
    return 0;
  int err = nf_replica_suspect_all (replica);
  if (err == 0)
    nf_heal_start (replica->heal);
  return err;
}

/* Appends to the journal. FALSE: it can't follow, and has subscribed again or will. */
static gboolean
keep (NfReplica *replica, const NfRecord *record, NfSlice bytes, NfSlice data)
{
  int err = is_aborted (data) ? note_aborted (replica, record->seq) : 0;
  NfPosition position;

  if (err == 0)
    err = distrust_ahead (replica, record);
  if (err == 0)
    err = nf_journal_append_bytes (replica->share->journal, bytes, &position);
  if (err == 0)
    {
      replica->received = position;
      replica->failed = 0;
      nf_host_point (replica->share->host, "replica-journaled");
      return TRUE;
    }
  replica->subscribed = FALSE;
  if (err == -EINVAL)
    {
      g_warning ("share %s: op %" G_GUINT64_FORMAT " doesn't follow what is here: asking anew",
                 replica->share->conf.name, record->seq);
      nf_replica_subscribe (replica);
      return FALSE;
    }
  nf_replica_failed (replica, err);
  return FALSE;
}

static void
receive (NfReplica *replica, const NfMsg *msg)
{
  NfSlice bytes = msg->op.record;
  NfSlice data = msg->op.data;
  NfRecord record;

  if (!replica->subscribed)
    return; /* sent before the primary had our subscription */
  if (!nf_record_decode (bytes, &record) || record.seq != replica->received.seq + 1
      || record.epoch < replica->received.epoch) /* G5: of a reign that is over */
    {
      g_warning ("share %s: got a record that can't follow %" G_GUINT64_FORMAT ": asking anew",
                 replica->share->conf.name, replica->received.seq);
      nf_replica_subscribe (replica);
      return;
    }
  if (record.kind == NF_OP_EPOCH)
    set_connected (replica, record.epoch);
  if (!replica->share->tree)
    {
      receive_without_tree (replica, &record, bytes);
      return;
    }
  if (!keep (replica, &record, bytes, data))
    return;
  nf_replica_arrive (replica, bytes, is_aborted (data) ? NF_SLICE_NONE : data);
}

guint64
nf_replica_epoch (NfReplica *replica)
{
  pthread_mutex_lock (&replica->share->lock);
  guint64 epoch = replica->share->epoch;
  pthread_mutex_unlock (&replica->share->lock);
  return epoch;
}

/* Handles MSG. TRUE if calls can be sent since then, or have to be sent again: the subscription stands, or a new reign
 * has begun. */
static gboolean
handle (NfReplica *replica, const NfMsg *msg)
{
  guint64 epoch = nf_replica_epoch (replica);
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
      if (!nf_check_hashed (replica->check, msg))
        nf_transfers_hashed (replica->transfers, msg);
      break;
    case NF_MSG_LISTED:
      if (!nf_check_listed (replica->check, msg))
        nf_heal_listed (replica->heal, msg);
      break;
    default:
      break; /* nothing else is for a replica */
    }
  nf_replica_settle (replica);
  return up || (replica->subscribed && nf_replica_epoch (replica) != epoch);
}

/* Who answers a subscription is the primary, again if he took back from here before. */
static gboolean
is_primary_again (NfReplica *replica, const NfMsg *msg)
{
  return msg->type == NF_MSG_SUBSCRIBED && msg->subscribed.verdict != NF_VERDICT_REFUSED
         && !replica->share->restore;
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
      if (is_primary_again (replica, msg))
        nf_source_end (replica->share);
      pthread_mutex_lock (&replica->work);
      gboolean up = handle (replica, msg);
      pthread_mutex_unlock (&replica->work);
      if (up)
        nf_forward_peer_up (replica->share->forward);
    }
  nf_msg_free (msg);
}
