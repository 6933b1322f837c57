// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/replica-internal.h"

#include <errno.h>

/* Ops as they come: into the journal, and from there on their way to the tree. Those that come together are written
 * together. */

/* Of records: more wouldn't make it cheaper. */
#define SEVERAL_BYTES (64 * 1024)

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

/* The first of what has come, whatever it is. */
static void
take_one (NfReplica *replica)
{
  g_autoptr (NfMsg) msg = g_queue_pop_head (&replica->incoming);
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
    nf_replica_set_connected (replica, record.epoch);
  if (!replica->share->tree)
    receive_without_tree (replica, &record, bytes);
  else if (keep (replica, &record, bytes, data))
    nf_replica_arrive (replica, bytes, is_aborted (data) ? NF_SLICE_NONE : data);
}

/* Is nothing to be done about MSG but to keep it? */
static gboolean
is_plain (NfReplica *replica, const NfMsg *msg)
{
  NfRecord record;

  return nf_record_decode (msg->op.record, &record) && record.kind != NF_OP_EPOCH
         && record.epoch == replica->received.epoch && !is_aborted (msg->op.data);
}

/* As many of the first as can go into the journal with one call to the system. FALSE: there aren't two, or something is
 * wrong with them, and they are looked at one by one. */
static gboolean
take_several (NfReplica *replica)
{
  NfSlice records[NF_JOURNAL_SEVERAL_MAX];
  NfPosition positions[NF_JOURNAL_SEVERAL_MAX];
  gsize len = 0;
  guint n = 0;

  for (GList *l = replica->incoming.head; l && n < NF_JOURNAL_SEVERAL_MAX; l = l->next)
    {
      const NfMsg *msg = l->data;
      len += msg->op.record.len;
      if (len > SEVERAL_BYTES || !is_plain (replica, msg))
        break;
      records[n++] = msg->op.record;
    }
  if (n < 2 || nf_journal_append_several (replica->share->journal, records, n, positions) != 0)
    return FALSE;
  replica->failed = 0;
  for (guint i = 0; i < n; i++)
    {
      g_autoptr (NfMsg) msg = g_queue_pop_head (&replica->incoming);
      replica->received = positions[i];
      nf_host_point (replica->share->host, "replica-journaled");
      nf_replica_arrive (replica, msg->op.record, msg->op.data);
    }
  return TRUE;
}

void
nf_replica_receive (NfReplica *replica, NfMsg *msg)
{
  g_queue_push_tail (&replica->incoming, msg);
}

void
nf_replica_take_in (NfReplica *replica)
{
  while (!g_queue_is_empty (&replica->incoming))
    if (!replica->subscribed || !replica->share->tree || !take_several (replica))
      take_one (replica);
}
