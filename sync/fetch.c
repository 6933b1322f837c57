// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/replica-internal.h"
#include "sync/transfer-internal.h"

#include <errno.h>

/* Asking for content and taking what comes. Requests are in flight by id; what they bring is stamped with the seq as
 * of which it was read, and only taken where that is as new as it is needed. A request that brings less than its range
 * has met the file's end: the rest is a hole. */

/* After so many requests for the smallest transfers the oldest gets one, so that nothing starves. */
#define OLDEST_EVERY 4

/* ---- asking ---- */

static NfRequest *
new_request (NfTransfers *transfers, NfTransfer *transfer, guint64 bytes)
{
  NfRequest *request = g_new0 (NfRequest, 1);

  request->id = transfers->next_id++;
  request->fid = transfer->fid;
  request->left = bytes;
  transfer->inflight += bytes;
  transfers->inflight += bytes;
  g_hash_table_insert (transfers->requests, &request->id, request);
  return request;
}

static void
settle_request (NfTransfers *transfers, NfTransfer *transfer, NfRequest *request, guint64 bytes)
{
  bytes = MIN (bytes, request->left);
  request->left -= bytes;
  transfer->inflight -= bytes;
  transfers->inflight -= bytes;
}

static void
end_request (NfTransfers *transfers, NfTransfer *transfer, NfRequest *request)
{
  settle_request (transfers, transfer, request, request->left);
  g_hash_table_remove (transfers->requests, &request->id);
}

static gboolean
may_ask (const NfTransfer *transfer)
{
  return !transfer->paused && transfer->inflight < NF_TRANSFER_MAX
         && nf_segments_to_ask (&transfer->segments);
}

/* The one with the least left, or, once in a while, the oldest. */
static NfTransfer *
choose (NfTransfers *transfers)
{
  gboolean oldest = transfers->turn++ % OLDEST_EVERY == 0;
  NfTransfer *best = NULL;
  guint64 best_rank = 0;
  GHashTableIter iter;
  gpointer value;

  g_hash_table_iter_init (&iter, transfers->by_fid);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    {
      NfTransfer *transfer = value;
      if (!may_ask (transfer))
        continue;
      guint64 rank = oldest ? transfer->order : nf_segments_missing (&transfer->segments);
      if (!best || rank < best_rank || (rank == best_rank && transfer->order < best->order))
        {
          best = transfer;
          best_rank = rank;
        }
    }
  return best;
}

static gboolean
ask (NfTransfers *transfers, NfTransfer *transfer)
{
  NfMsg msg = { .type = NF_MSG_FETCH };
  guint64 start, end_offset;
  guint64 max = MIN (NF_TRANSFER_ASK_MAX, NF_TRANSFER_MAX - transfer->inflight);

  if (!nf_segments_ask (&transfer->segments, max, transfers->next_id, &start, &end_offset))
    return FALSE;
  NfRequest *request = new_request (transfers, transfer, end_offset - start);
  msg.fetch.share = transfers->replica->share->conf.id;
  msg.fetch.id = request->id;
  msg.fetch.fid = transfer->fid;
  msg.fetch.offset = start;
  msg.fetch.length = end_offset - start;
  if (nf_replica_send (transfers->replica, TRUE, &msg))
    return TRUE;
  nf_segments_unask (&transfer->segments, request->id);
  end_request (transfers, transfer, request);
  nf_replica_retry_later (transfers->replica);
  return FALSE;
}

/* Asks for the hashes of the next span. */
static void
ask_hashes (NfTransfers *transfers, NfTransfer *transfer)
{
  NfMsg msg = { .type = NF_MSG_HASH };

  if (transfer->paused || transfer->hash_request != 0 || transfer->hash_next >= transfer->hash_end)
    return;
  NfRequest *request = new_request (transfers, transfer, 0);
  msg.hash.share = transfers->replica->share->conf.id;
  msg.hash.id = request->id;
  msg.hash.fid = transfer->fid;
  msg.hash.offset = transfer->hash_next;
  msg.hash.length = MIN (transfer->hash_end - transfer->hash_next, NF_HASH_SPAN);
  msg.hash.block = NF_HASH_BLOCK;
  if (nf_replica_send (transfers->replica, TRUE, &msg))
    {
      transfer->hash_request = request->id;
      return;
    }
  end_request (transfers, transfer, request);
  nf_replica_retry_later (transfers->replica);
}

void
nf_transfers_ask (NfTransfers *transfers)
{
  GHashTableIter iter;
  gpointer value;
  NfTransfer *transfer;

  g_hash_table_iter_init (&iter, transfers->by_fid);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    ask_hashes (transfers, value);
  while (transfers->inflight < NF_TRANSFERS_MAX && (transfer = choose (transfers)))
    if (!ask (transfers, transfer))
      return;
}

void
nf_transfers_unask (NfTransfers *transfers)
{
  GHashTableIter iter;
  gpointer value;

  g_hash_table_iter_init (&iter, transfers->by_fid);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    {
      NfTransfer *transfer = value;
      nf_segments_unask (&transfer->segments, 0);
      transfer->inflight = 0;
      transfer->hash_request = 0;
    }
  g_hash_table_remove_all (transfers->requests);
  transfers->inflight = 0;
}

void
nf_transfers_retry (NfTransfers *transfers)
{
  GHashTableIter iter;
  gpointer value;

  g_hash_table_iter_init (&iter, transfers->by_fid);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    ((NfTransfer *)value)->paused = FALSE;
}

/* ---- answers ---- */

/* TRANSFER can't go on now. */
void
nf_transfer_pause (NfTransfers *transfers, NfTransfer *transfer, int err)
{
  NfReplica *replica = transfers->replica;

  transfer->paused = TRUE;
  if (err == -ENOSPC || err == -EDQUOT)
    replica->no_space = TRUE;
  else
    {
      g_autofree char *path = nf_index_path (replica->share->index, transfer->fid);
      g_autofree char *text = g_strdup_printf ("the content of %s can't be fetched: %s",
                                               path ? path : "a file", g_strerror (-err));
      nf_replica_trouble (replica, text);
    }
  nf_replica_retry_later (replica);
}

/* The file is gone at the primary as of SEQ: its ops have nothing more to say about content. */
static void
give_up (NfTransfers *transfers, NfTransfer *transfer, guint64 seq)
{
  NfReplica *replica = transfers->replica;
  NfFid fid = transfer->fid;
  gboolean heals = transfer->heals;
  int err = nf_replica_note_ahead (replica, seq);

  if (err != 0)
    {
      nf_transfer_pause (transfers, transfer, err);
      return;
    }
  NfStamp *stamp = nf_replica_stamp_edit (replica, fid);
  stamp->data = MAX (stamp->data, replica->received.seq);
  nf_replica_stamp_gone (replica, fid, MAX (seq, replica->received.seq));
  nf_transfer_end (transfers, transfer);
  if (heals)
    nf_heal_gone (replica->heal, fid);
}

/* TRUE if MSG's status is an error, which is dealt with. */
static gboolean
failed (NfTransfers *transfers, NfTransfer *transfer, NfRequest *request, guint32 status,
        guint64 seq)
{
  int err = nf_status_to_errno (status);

  if (err == 0)
    return FALSE;
  nf_segments_unask (&transfer->segments, request->id);
  if (transfer->hash_request == request->id)
    transfer->hash_request = 0;
  end_request (transfers, transfer, request);
  if (err == ENOENT || err == ESTALE)
    give_up (transfers, transfer, seq);
  else
    nf_transfer_pause (transfers, transfer, -err);
  return TRUE;
}

static int
ensure_staging (NfTransfers *transfers, NfTransfer *transfer)
{
  if (transfer->staging >= 0)
    return 0;
  return nf_tree_stage_file (transfers->replica->share->tree, transfer->fid, &transfer->staging);
}

typedef struct
{
  NfTransfer *transfer;
  guint64 base; /* offset of `data` */
  NfSlice data; /* empty: a hole */
  int err;
} Chunk;

static void
stage_part (guint64 start, guint64 end_offset, gpointer data)
{
  Chunk *chunk = data;
  int fd = chunk->transfer->staging;

  if (chunk->err != 0)
    return;
  if (chunk->data.len == 0)
    chunk->err = nf_apply_range (fd, NF_RANGE_HOLE, start, end_offset - start, NF_SLICE_NONE);
  else
    chunk->err = nf_apply_write (
        fd, start, nf_slice (chunk->data.data + (start - chunk->base), end_offset - start));
}

static int
take_chunk (NfTransfers *transfers, NfTransfer *transfer, guint64 start, guint64 length,
            guint64 seq, NfSlice data)
{
  Chunk chunk = { transfer, start, data, 0 };
  gboolean hole = data.len == 0;

  if (length == 0)
    return 0;
  if (!hole && !nf_replica_has_room (transfers->replica))
    return -ENOSPC; /* asked for all the same: the answer may be that the file is gone, which makes room */
  /* A hole matters only where something was staged before. */
  if (!hole || transfer->staging >= 0)
    {
      chunk.err = ensure_staging (transfers, transfer);
      if (chunk.err == 0)
        nf_segments_taking (&transfer->segments, start, start + length, seq, stage_part, &chunk);
    }
  if (chunk.err != 0)
    return chunk.err;
  nf_segments_got (&transfer->segments, start, start + length, seq,
                   hole ? NF_SEG_HOLE : NF_SEG_STAGED);
  nf_host_point (transfers->replica->share->host, "replica-staged");
  return 0;
}

static void
note_attr (NfTransfer *transfer, const NfAttr *attr, guint64 seq)
{
  if (seq < transfer->attr_seq)
    return;
  transfer->attr = *attr;
  transfer->attr_seq = seq;
  if (!transfer->whole || attr->size <= transfer->whole_end)
    return;
  nf_segments_want (&transfer->segments, transfer->whole_end, attr->size, transfer->need);
  transfer->whole_end = attr->size;
}

typedef struct
{
  GArray *ranges; /* of guint64 pairs */
} Ranges;

static void
add_range (guint64 start, guint64 end_offset, gpointer data)
{
  Ranges *ranges = data;

  g_array_append_val (ranges->ranges, start);
  g_array_append_val (ranges->ranges, end_offset);
}

/* What the request was to bring and didn't lies past the file's end. */
static int
take_rest (NfTransfers *transfers, NfTransfer *transfer, guint64 id, guint64 seq)
{
  Ranges rest = { g_array_new (FALSE, FALSE, sizeof (guint64)) };
  int err = 0;

  nf_segments_asked (&transfer->segments, id, add_range, &rest);
  for (guint i = 0; err == 0 && i < rest.ranges->len; i += 2)
    {
      guint64 start = g_array_index (rest.ranges, guint64, i);
      guint64 end_offset = g_array_index (rest.ranges, guint64, i + 1);
      err = take_chunk (transfers, transfer, start, end_offset - start, seq, NF_SLICE_NONE);
    }
  g_array_unref (rest.ranges);
  return err;
}

void
nf_transfers_fetched (NfTransfers *transfers, const NfMsg *msg)
{
  guint64 id = msg->fetched.id;
  NfRequest *request = g_hash_table_lookup (transfers->requests, &id);
  NfTransfer *transfer = request ? nf_transfers_find (transfers, request->fid) : NULL;

  if (!transfer || failed (transfers, transfer, request, msg->fetched.status, msg->fetched.seq))
    return;
  gboolean hole = msg->fetched.flags & NF_FLAG_HOLE;
  guint64 length = hole ? msg->fetched.length : msg->fetched.data.len;
  /* Not beyond what was asked for, nor around the end of numbers. */
  length = MIN (length, MIN (request->left, G_MAXINT64 - MIN (msg->fetched.offset, G_MAXINT64)));
  int err = take_chunk (transfers, transfer, msg->fetched.offset, length, msg->fetched.seq,
                        hole ? NF_SLICE_NONE : msg->fetched.data);
  note_attr (transfer, &msg->fetched.attr, msg->fetched.seq);
  settle_request (transfers, transfer, request, length);
  if (err == 0 && (msg->fetched.flags & NF_FLAG_LAST))
    err = take_rest (transfers, transfer, id, msg->fetched.seq);
  if (err != 0)
    nf_segments_unask (&transfer->segments, id);
  if (err != 0 || (msg->fetched.flags & NF_FLAG_LAST))
    end_request (transfers, transfer, request);
  if (err != 0)
    nf_transfer_pause (transfers, transfer, err);
}

void
nf_transfers_hashed (NfTransfers *transfers, const NfMsg *msg)
{
  guint64 id = msg->hashed.id;
  NfRequest *request = g_hash_table_lookup (transfers->requests, &id);
  NfTransfer *transfer = request ? nf_transfers_find (transfers, request->fid) : NULL;

  if (!transfer || failed (transfers, transfer, request, msg->hashed.status, msg->hashed.seq)
      || transfer->hash_request != id)
    return;
  transfer->hash_request = 0;
  end_request (transfers, transfer, request);
  int err = nf_transfer_compare (transfers->replica, transfer, msg);
  if (err != 0)
    nf_transfer_pause (transfers, transfer, err);
}
