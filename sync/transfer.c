// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/replica-internal.h"
#include "sync/transfer-internal.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

/* The transfers themselves: what is wanted, and when it is complete. fetch.c brings it, switch.c puts it in place. */

static void
transfer_free (gpointer data)
{
  NfTransfer *transfer = data;

  if (transfer->staging >= 0)
    (void)close (transfer->staging); /* nothing in it is wanted any more */
  nf_segments_clear (&transfer->segments);
  g_queue_clear (&transfer->ops);
  g_free (transfer);
}

NfTransfers *
nf_transfers_new (NfReplica *replica)
{
  NfTransfers *transfers = g_new0 (NfTransfers, 1);

  transfers->replica = replica;
  transfers->by_fid = g_hash_table_new_full (g_int64_hash, g_int64_equal, NULL, transfer_free);
  transfers->requests = g_hash_table_new_full (g_int64_hash, g_int64_equal, NULL, g_free);
  transfers->next_id = 1;
  return transfers;
}

void
nf_transfers_free (NfTransfers *transfers)
{
  g_hash_table_unref (transfers->requests);
  g_hash_table_unref (transfers->by_fid);
  g_free (transfers);
}

NfTransfer *
nf_transfers_find (NfTransfers *transfers, NfFid fid)
{
  return g_hash_table_lookup (transfers->by_fid, &fid);
}

guint
nf_transfers_count (NfTransfers *transfers)
{
  return g_hash_table_size (transfers->by_fid);
}

guint
nf_transfers_healing (NfTransfers *transfers)
{
  GHashTableIter iter;
  gpointer value;
  guint n = 0;

  g_hash_table_iter_init (&iter, transfers->by_fid);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    n += ((NfTransfer *)value)->heals ? 1 : 0;
  return n;
}

guint64
nf_transfers_inflight (NfTransfers *transfers)
{
  return transfers->inflight;
}

guint64
nf_transfers_missing (NfTransfers *transfers)
{
  GHashTableIter iter;
  gpointer value;
  guint64 missing = 0;

  g_hash_table_iter_init (&iter, transfers->by_fid);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    missing += nf_segments_missing (&((NfTransfer *)value)->segments);
  return missing;
}

static NfTransfer *
ensure (NfTransfers *transfers, NfFid fid)
{
  NfTransfer *transfer = nf_transfers_find (transfers, fid);

  if (!transfer)
    {
      transfer = g_new0 (NfTransfer, 1);
      transfer->fid = fid;
      transfer->staging = -1;
      transfer->order = transfers->next_order++;
      nf_segments_init (&transfer->segments);
      g_queue_init (&transfer->ops);
      g_hash_table_insert (transfers->by_fid, &transfer->fid, transfer);
    }
  return transfer;
}

static gboolean
is_of (gpointer key, gpointer value, gpointer data)
{
  (void)key;
  return ((NfRequest *)value)->fid == *(NfFid *)data;
}

/* Ends TRANSFER; its ops go on. */
void
nf_transfer_end (NfTransfers *transfers, NfTransfer *transfer)
{
  NfFid fid = transfer->fid;
  NfOp *op;

  while ((op = g_queue_pop_head (&transfer->ops)))
    nf_replica_resume (transfers->replica, op);
  if (transfer->noted_seq > 0)
    nf_replica_set_unsure (transfers->replica, fid, FALSE);
  transfers->inflight -= transfer->inflight;
  g_hash_table_foreach_remove (transfers->requests, is_of, &fid);
  if (transfer->staging >= 0)
    nf_tree_drop_staged_file (transfers->replica->share->tree, fid);
  g_hash_table_remove (transfers->by_fid, &fid);
}

void
nf_transfers_drop_all (NfTransfers *transfers)
{
  GHashTableIter iter;
  gpointer value;

  g_hash_table_iter_init (&iter, transfers->by_fid);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    {
      NfTransfer *transfer = value;
      for (GList *l = transfer->ops.head; l; l = l->next)
        ((NfOp *)l->data)->transfer = NULL;
      if (transfer->staging >= 0)
        nf_tree_drop_staged_file (transfers->replica->share->tree, transfer->fid);
    }
  g_hash_table_remove_all (transfers->requests);
  g_hash_table_remove_all (transfers->by_fid);
  transfers->inflight = 0;
  pthread_mutex_lock (&transfers->replica->lock);
  g_hash_table_remove_all (transfers->replica->unsure);
  pthread_mutex_unlock (&transfers->replica->lock);
}

/* ---- what is wanted ---- */

static void
attach (NfTransfer *transfer, NfOp *op)
{
  if (op->transfer || op->noted)
    return;
  op->transfer = transfer;
  transfer->own |= op->own;
  g_queue_push_tail (&transfer->ops, op);
  if (nf_op_lacks_bytes (op))
    nf_segments_want (&transfer->segments, op->record.offset, op->record.offset + op->record.length,
                      op->position.seq);
}

void
nf_transfers_attach (NfTransfers *transfers, NfOp *op)
{
  NfTransfer *transfer = nf_transfers_find (transfers, op->record.fid);

  if (transfer)
    {
      attach (transfer, op);
      return;
    }
  /* With all that are deferred: those before it belong to the same state. */
  const GQueue *ops = nf_replica_content_ops (transfers->replica, op->record.fid);
  transfer = ensure (transfers, op->record.fid);
  for (GList *l = ops->head; l; l = l->next)
    attach (transfer, l->data);
}

/* The range that OP changes. A change of size makes zeros of all that lies behind it, as far as anything does: here, since
 * the op itself isn't carried out, or in what is under way. */
static void
range_of (NfTransfers *transfers, const NfTransfer *transfer, const NfOp *op, guint64 *ret_start,
          guint64 *ret_end)
{
  NfAttr here = { 0 };
  guint n = nf_segments_count (&transfer->segments);
  guint64 known = n > 0 ? nf_segments_at (&transfer->segments, n - 1)->end : 0;

  if (op->record.kind == NF_OP_DATA)
    {
      *ret_start = op->record.offset;
      *ret_end = op->record.offset + op->record.length;
      return;
    }
  if (nf_tree_stat (transfers->replica->share->tree, transfer->fid, &here) != 0)
    here.size = 0;
  *ret_start = op->record.attr.size;
  *ret_end = MAX (MAX (known, here.size), MAX (transfer->hash_end, *ret_start));
}

int
nf_transfers_note (NfTransfers *transfers, NfTransfer *transfer, NfOp *op)
{
  guint64 start, end;

  range_of (transfers, transfer, op, &start, &end);
  int err = start < end ? nf_dirty_add (transfers->replica->share, transfer->fid, start, end) : 0;
  if (err != 0)
    return err;
  nf_segments_want (&transfer->segments, start, end, op->position.seq);
  transfer->own |= op->own;
  transfer->noted_seq = op->position.seq;
  transfer->noted_size = op->record.attr.size;
  op->noted = TRUE;
  nf_replica_set_unsure (transfers->replica, transfer->fid, TRUE);
  return 0;
}

void
nf_transfers_timed (NfTransfers *transfers, NfFid fid, guint64 seq)
{
  NfTransfer *transfer = nf_transfers_find (transfers, fid);

  if (transfer)
    transfer->timed_seq = MAX (transfer->timed_seq, seq);
}

typedef struct
{
  NfTransfer *transfer;
} WantDirty;

static void
want_dirty (guint64 start, guint64 end_offset, gpointer data)
{
  WantDirty *want = data;

  nf_segments_want (&want->transfer->segments, start, end_offset, want->transfer->need);
}

/* Of a file that has content here, hashes tell what of it is right already. */
static void
begin_whole (NfTransfer *transfer, const NfAttr *attr)
{
  transfer->whole = TRUE;
  /* Of an empty file one byte is asked for: the answer says how large it really is. */
  transfer->whole_end = MAX (attr->size, 1);
  if (attr->blocks > 0 && attr->size > 0)
    transfer->hash_end = attr->size;
  else
    nf_segments_want (&transfer->segments, 0, transfer->whole_end, transfer->need);
}

/* Ops on the content that were deferred before healing began. */
static void
note_deferred (NfTransfers *transfers, NfTransfer *transfer)
{
  const GQueue *ops = nf_replica_content_ops (transfers->replica, transfer->fid);

  for (GList *l = ops ? ops->head : NULL; l; l = l->next)
    if (!((NfOp *)l->data)->noted)
      (void)nf_transfers_note (transfers, transfer, l->data); /* else when its turn comes */
  NfOp *op;
  while ((op = g_queue_pop_head (&transfer->ops)))
    nf_replica_resume (transfers->replica, op);
}

int
nf_transfers_heal (NfTransfers *transfers, NfFid fid)
{
  NfReplica *replica = transfers->replica;
  NfAttr attr;
  int err = nf_tree_stat (replica->share->tree, fid, &attr);

  if (err != 0)
    return err;
  NfTransfer *transfer = ensure (transfers, fid);
  if (transfer->heals)
    return 0;
  WantDirty want = { transfer };
  transfer->heals = TRUE;
  transfer->need = MAX (replica->received.seq, nf_replica_stamp (replica, fid)->data);
  if (!nf_dirty_each (replica->share, fid, want_dirty, &want))
    begin_whole (transfer, &attr);
  note_deferred (transfers, transfer);
  return 0;
}

/* ---- switching in ---- */

/* As of which seq TRANSFER's content is, if it is complete. */
static gboolean
is_complete (const NfTransfer *transfer, guint64 *ret_seq)
{
  if (transfer->hash_next < transfer->hash_end || !nf_segments_complete (&transfer->segments))
    return FALSE;
  guint64 seq = MAX (nf_segments_newest (&transfer->segments), transfer->attr_seq);
  *ret_seq = MAX (seq, MAX (transfer->hash_seq, transfer->need));
  return TRUE;
}

guint64
nf_transfers_needs (NfTransfers *transfers)
{
  GHashTableIter iter;
  gpointer value;
  guint64 seq, needs = 0;

  g_hash_table_iter_init (&iter, transfers->by_fid);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    if (is_complete (value, &seq))
      needs = MAX (needs, seq);
  return needs;
}

/* An op that waits for its turn stands for what has to come before the new content. */
static gboolean
may_switch (NfReplica *replica, NfTransfer *transfer, guint64 *ret_seq)
{
  const NfOp *first = g_queue_peek_head (&transfer->ops);

  return !transfer->paused && is_complete (transfer, ret_seq) && *ret_seq <= replica->loaded.seq
         && (!first || first->turn);
}

static void
switch_in (NfTransfers *transfers, NfTransfer *transfer, guint64 seq)
{
  NfReplica *replica = transfers->replica;
  NfFid fid = transfer->fid;
  int err = nf_transfer_switch (replica, transfer, seq);

  if (err == -ENOSPC || err == -EDQUOT || err == -ENOMEM || err == -EMFILE || err == -ENFILE)
    {
      nf_transfer_pause (transfers, transfer, err);
      return;
    }
  if (err != 0)
    {
      g_autofree char *path = nf_index_path (replica->share->index, fid);
      g_warning ("share %s: the content of %s couldn't be put in place: %s; it is compared with "
                 "the primary's",
                 replica->share->conf.name, path ? path : "a file", g_strerror (-err));
      err = nf_dirty_whole (replica->share, fid);
      if (err == 0) /* its times may be those of what was written */
        err = nf_index_set_suspect (replica->share->index, fid, NF_SUSPECT_ATTR, 0);
      if (err == -ENOENT)
        err = 0;
      if (err != 0)
        {
          nf_transfer_pause (transfers, transfer, err);
          return;
        }
      nf_heal_gone (replica->heal, fid); /* later, not at once again */
    }
  NfStamp *stamp = nf_replica_stamp_edit (replica, fid);
  stamp->data = MAX (stamp->data, seq);
  nf_transfer_end (transfers, transfer);
  nf_heal_add (replica->heal, fid); /* if anything of it is suspect still */
}

/* The first op of TRANSFER has waited for long, and what it needs itself is there. */
static gboolean
is_starved (NfReplica *replica, NfTransfer *transfer)
{
  const NfOp *op = g_queue_peek_head (&transfer->ops);
  guint64 seq;

  if (transfer->heals || transfer->paused || !op || !op->turn
      || nf_replica_now_ms (replica) - op->since_ms < NF_STARVED_MS)
    return FALSE;
  if (is_complete (transfer, &seq) && seq <= replica->loaded.seq)
    return FALSE;
  return !nf_op_lacks_bytes (op)
         || nf_segments_covered (&transfer->segments, op->record.offset,
                                 op->record.offset + op->record.length, op->position.seq);
}

static void
switch_first (NfTransfers *transfers, NfTransfer *transfer)
{
  NfReplica *replica = transfers->replica;
  NfOp *op = g_queue_peek_head (&transfer->ops);
  int err = nf_transfer_switch_op (replica, transfer, op);

  if (err != 0)
    {
      nf_transfer_pause (transfers, transfer, err);
      return;
    }
  g_queue_pop_head (&transfer->ops);
  op->noted = TRUE;
  nf_replica_resume (replica, op);
}

static void
switch_all (NfTransfers *transfers)
{
  g_autoptr (GPtrArray) due = g_ptr_array_new ();
  GHashTableIter iter;
  gpointer value;
  guint64 seq;

  g_hash_table_iter_init (&iter, transfers->by_fid);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    if (may_switch (transfers->replica, value, &seq) || is_starved (transfers->replica, value))
      g_ptr_array_add (due, value);
  for (guint i = 0; i < due->len; i++)
    if (may_switch (transfers->replica, due->pdata[i], &seq))
      switch_in (transfers, due->pdata[i], seq);
    else if (is_starved (transfers->replica, due->pdata[i]))
      switch_first (transfers, due->pdata[i]);
}

gboolean
nf_transfers_pump (NfTransfers *transfers)
{
  guint before = g_hash_table_size (transfers->by_fid);

  if (before == 0)
    return FALSE;
  switch_all (transfers);
  if (transfers->replica->subscribed)
    nf_transfers_ask (transfers);
  return g_hash_table_size (transfers->by_fid) < before;
}
