// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/replica-internal.h"

#include <sys/stat.h>

/* What a listing or a fetch has brought is as of a seq of its own, often ahead of the position. Stamps remember it, and
 * an op up to there is narrowed to what it says of other things. */

/* ---- stamps ---- */

const NfStamp *
nf_replica_stamp (NfReplica *replica, NfFid fid)
{
  static const NfStamp none;
  const NfStamp *stamp = g_hash_table_lookup (replica->stamps, &fid);

  return stamp ? stamp : &none;
}

NfStamp *
nf_replica_stamp_edit (NfReplica *replica, NfFid fid)
{
  NfStamp *stamp = g_hash_table_lookup (replica->stamps, &fid);

  if (!stamp)
    {
      stamp = g_new0 (NfStamp, 1);
      g_hash_table_insert (replica->stamps, g_memdup2 (&fid, sizeof fid), stamp);
    }
  return stamp;
}

gboolean
nf_stamp_is_past (const NfStamp *stamp, guint64 applied)
{
  return stamp->names <= applied && stamp->attr <= applied && stamp->gone <= applied
         && stamp->data <= applied && stamp->placed <= applied && stamp->times <= applied;
}

/* A walk over all stamps is worth it when none can say anything any more, when as many ops were applied since the last
 * one as there are stamps, or when these have doubled. (A million files that are filled leave a million stamps ahead of
 * the position.) */
static gboolean
is_sweep_due (NfReplica *replica, guint64 applied)
{
  guint n = g_hash_table_size (replica->stamps);

  return applied >= MAX (replica->received.seq, replica->ahead_seq)
         || applied >= replica->swept_seq + n || n >= 2 * replica->stamps_swept + 1024;
}

static gboolean
sweep_one (gpointer key, gpointer value, gpointer data)
{
  NfReplica *replica = data;
  const NfStamp *stamp = value;

  (void)key;
  if (!nf_stamp_is_past (stamp, replica->swept_seq))
    return FALSE;
  replica->stamps_gone -= stamp->gone > 0 ? 1 : 0;
  return TRUE;
}

void
nf_replica_sweep_stamps (NfReplica *replica)
{
  guint64 applied = replica->undone.length > 0 ? ((NfOp *)replica->undone.head->data)->before.seq
                                               : replica->loaded.seq;

  if (g_hash_table_size (replica->touched) > 0 && nf_heal_names_settled (replica->heal))
    g_hash_table_remove_all (replica->touched);
  if (g_hash_table_size (replica->stamps) == 0 || !is_sweep_due (replica, applied))
    return;
  replica->swept_seq = applied;
  g_hash_table_foreach_remove (replica->stamps, sweep_one, replica);
  replica->stamps_swept = g_hash_table_size (replica->stamps);
}

void
nf_replica_stamp_gone (NfReplica *replica, NfFid fid, guint64 seq)
{
  NfStamp *stamp = nf_replica_stamp_edit (replica, fid);

  if (stamp->gone == 0 && seq > 0)
    replica->stamps_gone++;
  stamp->gone = MAX (stamp->gone, seq);
}

void
nf_replica_forget_stamps (NfReplica *replica)
{
  g_hash_table_remove_all (replica->stamps);
  replica->stamps_gone = replica->stamps_swept = 0;
  replica->swept_seq = 0;
}

/* ---- leaving out ---- */

/* Leaves out of RECORD what is known newer. FALSE: nothing is left. */
static gboolean
narrow_names (NfReplica *replica, NfRecord *record, guint *flags)
{
  static const guint keep[] = { NF_APPLY_KEEP_PARENT_0, NF_APPLY_KEEP_PARENT_1 };
  guint n = 0;

  for (guint i = 0; i < record->n_names; i++)
    {
      const NfStamp *stamp = nf_replica_stamp (replica, record->names[i].parent);
      /* Nobody has the content any more that was shown under this name. What is there stays until the op comes that
       * has taken it away: an older content, but a whole one. */
      gboolean gone = record->names[i].fid != NF_FID_NONE
                      && nf_replica_stamp (replica, record->names[i].fid)->gone >= record->seq;
      if (stamp->names >= record->seq || gone
          || nf_heal_has_listed (replica->heal, record->names[i].parent, record->names[i].name,
                                 record->seq))
        {
          if (i == 0)
            record->creates = FALSE;
          continue;
        }
      if (stamp->attr >= record->seq || stamp->times > record->seq)
        *flags |= keep[n];
      record->names[n] = record->names[i];
      /* A directory has one place only, and a listing has told where that is now: not here any more. */
      if (S_ISDIR (record->names[n].mode)
          && nf_replica_stamp (replica, record->names[n].fid)->placed >= record->seq)
        {
          record->names[n].fid = NF_FID_NONE;
          record->creates = FALSE;
        }
      n++;
    }
  record->n_names = n;
  return n > 0;
}

static gboolean
narrow_attr (NfReplica *replica, const NfOp *op, NfRecord *record)
{
  const NfStamp *stamp = nf_replica_stamp (replica, record->fid);

  if (stamp->attr >= record->seq)
    record->mask &= NF_SET_SIZE;
  if (stamp->data >= record->seq || op->noted)
    record->mask &= ~(guint32)NF_SET_SIZE;
  return record->mask != 0;
}

/* An op on content that is known newer, or known not to be right, says no more than the mtime (and the size). */
static void
to_attr (NfRecord *record, guint32 mask)
{
  record->kind = NF_OP_ATTR;
  record->mask = mask;
}

static gboolean
narrow_data (NfReplica *replica, const NfOp *op, NfRecord *record, guint *flags)
{
  const NfStamp *stamp = nf_replica_stamp (replica, record->fid);

  if (stamp->data >= record->seq || op->noted)
    to_attr (record, stamp->attr >= record->seq ? 0 : NF_SET_MTIME);
  else if (nf_op_lacks_bytes (op))
    to_attr (record, NF_SET_SIZE | (stamp->attr >= record->seq ? 0 : NF_SET_MTIME));
  else if (stamp->attr >= record->seq)
    *flags |= NF_APPLY_KEEP_MTIME;
  return record->kind == NF_OP_DATA || record->mask != 0;
}

gboolean
nf_replica_narrow (NfReplica *replica, const NfOp *op, NfRecord *record, guint *flags)
{
  switch (record->kind)
    {
    case NF_OP_NAMES:
      return narrow_names (replica, record, flags);
    case NF_OP_ATTR:
      return narrow_attr (replica, op, record);
    case NF_OP_XATTR:
      return nf_replica_stamp (replica, record->fid)->attr < record->seq;
    case NF_OP_DATA:
      return narrow_data (replica, op, record, flags);
    default:
      return FALSE;
    }
}

/* ---- taking note ---- */

/* While ops are deferred, a later one may have set a directory's mtime before an earlier one gets its turn. */
void
nf_replica_note_times (NfReplica *replica, const NfRecord *record)
{
  if (record->kind != NF_OP_NAMES || replica->undone.length == 0)
    return;
  for (guint i = 0; i < record->n_names; i++)
    {
      NfStamp *stamp = nf_replica_stamp_edit (replica, record->names[i].parent);
      stamp->times = MAX (stamp->times, record->seq);
    }
}

/* A listing that was read before this op may be on its way, and tell of the object as it was. */
void
nf_replica_note_touched (NfReplica *replica, const NfRecord *record)
{
  if (record->kind != NF_OP_NAMES && !nf_heal_names_settled (replica->heal))
    g_hash_table_insert (replica->touched, g_memdup2 (&record->fid, sizeof record->fid),
                         g_memdup2 (&record->seq, sizeof record->seq));
}

gboolean
nf_replica_is_newer (NfReplica *replica, NfFid fid, guint64 seq)
{
  const guint64 *touched = g_hash_table_lookup (replica->touched, &fid);

  return touched && *touched > seq;
}
