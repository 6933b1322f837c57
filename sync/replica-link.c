// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/check-private.h"
#include "sync/replica-internal.h"
#include "sync/restore.h"
#include "sync/source.h"

#include <errno.h>
#include <string.h>

/* What comes from the primary: the subscription, then ops (replica-receive.c) and what was asked for. */

/* What no journal has: asks for a comparison. */
#define SEQ_NOWHERE G_MAXUINT64

/* ---- subscription ---- */

void
nf_replica_set_connected (NfReplica *replica, guint64 epoch)
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
  nf_replica_set_connected (replica, msg->subscribed.position.epoch);
  nf_heal_start (replica->heal);
  return TRUE;
}

guint64
nf_replica_epoch (NfReplica *replica)
{
  pthread_mutex_lock (&replica->share->lock);
  guint64 epoch = replica->share->epoch;
  pthread_mutex_unlock (&replica->share->lock);
  return epoch;
}

static gboolean
take_message (NfReplica *replica, const NfMsg *msg)
{
  switch (msg->type)
    {
    case NF_MSG_SUBSCRIBED:
      return subscribed (replica, msg);
    case NF_MSG_FETCHED:
      nf_transfers_fetched (replica->transfers, msg);
      return FALSE;
    case NF_MSG_HASHED:
      if (!nf_check_hashed (replica->check, msg))
        nf_transfers_hashed (replica->transfers, msg);
      return FALSE;
    case NF_MSG_LISTED:
      if (!nf_check_listed (replica->check, msg))
        nf_heal_listed (replica->heal, msg);
      return FALSE;
    default:
      return FALSE; /* nothing else is for a replica */
    }
}

/* Handles the ops that have come, and MSG (NULL: only ops have). TRUE if calls can be sent since then, or have to be sent
 * again: the subscription stands, or a new reign has begun. */
static gboolean
handle (NfReplica *replica, const NfMsg *msg)
{
  guint64 epoch = nf_replica_epoch (replica);

  nf_replica_take_in (replica);
  gboolean up = msg && take_message (replica, msg);
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
nf_replica_message (NfReplica *replica, NfMsg *msg, gboolean more)
{
  g_autoptr (NfMsg) own = msg;

  if (!msg->owner)
    {
      own = nf_msg_dup (msg); /* what is deferred must own what it points to */
      nf_msg_free (msg);
    }
  if (own->type == NF_MSG_ANSWER)
    {
      nf_forward_answer (replica->share->forward, own);
      return;
    }
  if (is_primary_again (replica, own))
    nf_source_end (replica->share);
  pthread_mutex_lock (&replica->work);
  if (own->type == NF_MSG_OP)
    nf_replica_receive (replica, g_steal_pointer (&own));
  gboolean up = !more && handle (replica, own);
  pthread_mutex_unlock (&replica->work);
  if (up)
    nf_forward_peer_up (replica->share->forward);
}
