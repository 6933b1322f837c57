// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/check-private.h"
#include "sync/replica-internal.h"

#include <errno.h>
#include <sys/stat.h>

/* An op's way from the journal to the tree.
 *
 * Most ops find nothing deferred and have all they need: they are applied as they come. An op whose content isn't
 * here is attached to its file's transfer; an op that touches what an earlier deferred one touches waits for it
 * (blocked.c). `undone` holds these in order; the position is just before its head.
 * What an op says that is known newer already is left out before (replica-narrow.c). */

gboolean
nf_op_is_content (const NfOp *op)
{
  return op->record.kind == NF_OP_DATA
         || (op->record.kind == NF_OP_ATTR && (op->record.mask & NF_SET_SIZE));
}

gboolean
nf_op_lacks_bytes (const NfOp *op)
{
  return op->record.kind == NF_OP_DATA && op->record.range == NF_RANGE_DATA && op->record.length > 0
         && op->data.len != op->record.length;
}

gboolean
nf_op_is_told (NfReplica *replica, const NfOp *op)
{
  return op->own && nf_forward_told (replica->share->forward, op->record.reqid);
}

/* ---- keys ---- */

static void
hold_names (NfReplica *replica, NfOp *op)
{
  const NfRecord *record = &op->record;
  NfShare *share = replica->share;

  for (guint i = 0; i < record->n_names; i++)
    {
      const NfNameIs *name = &record->names[i];
      NfAttr attr;

      nf_holds_add (&op->holds, nf_key_name (name->parent, name->name), TRUE);
      nf_holds_add (&op->holds, nf_key_fid (name->parent), FALSE);
      if (name->fid != NF_FID_NONE)
        nf_holds_add (&op->holds, nf_key_fid (name->fid), TRUE);
      /* What has the name now is displaced. If an earlier op is still to change that, the name's key holds us. */
      if (nf_tree_lookup (share->tree, name->parent, name->name, &attr, NULL) == 0
          && attr.fid != NF_FID_NONE)
        nf_holds_add (&op->holds, nf_key_fid (attr.fid), TRUE);
    }
}

static void
hold (NfReplica *replica, NfOp *op)
{
  op->holds.owner = op;
  if (op->record.kind == NF_OP_NAMES)
    hold_names (replica, op);
  if (op->record.fid != NF_FID_NONE)
    nf_holds_add (&op->holds, nf_key_fid (op->record.fid), TRUE);
}

/* ---- the end of an op ---- */

void
nf_replica_op_free (NfOp *op)
{
  g_clear_pointer (&op->owner, g_bytes_unref);
  g_clear_pointer (&op->own_data, g_bytes_unref);
  g_free (op);
}

static void
add_content_op (NfReplica *replica, NfOp *op)
{
  NfFid fid = op->record.fid;
  GQueue *ops = g_hash_table_lookup (replica->content, &fid);

  if (!nf_op_is_content (op))
    return;
  if (!ops)
    {
      ops = g_queue_new ();
      g_hash_table_insert (replica->content, g_memdup2 (&fid, sizeof fid), ops);
    }
  g_queue_push_tail (ops, op);
}

static void
drop_content_op (NfReplica *replica, NfOp *op)
{
  NfFid fid = op->record.fid;
  GQueue *ops = nf_op_is_content (op) ? g_hash_table_lookup (replica->content, &fid) : NULL;

  if (!ops)
    return;
  (void)g_queue_remove (ops, op); /* it is the first, or near it */
  if (ops->length == 0)
    g_hash_table_remove (replica->content, &fid);
}

const GQueue *
nf_replica_content_ops (NfReplica *replica, NfFid fid)
{
  return g_hash_table_lookup (replica->content, &fid);
}

static gsize
cost_of (const NfOp *op)
{
  return sizeof *op + (op->owner ? g_bytes_get_size (op->owner) : 0);
}

/* The position may have moved: tells the readers. */
static void
move_position (NfReplica *replica, guint64 done_seq, gboolean deferred)
{
  const NfOp *head = g_queue_peek_head (&replica->undone);

  pthread_mutex_lock (&replica->lock);
  replica->applied = head ? head->before : replica->loaded;
  replica->oldest_ms = head ? head->since_ms : 0;
  replica->taken_seq = MAX (replica->taken_seq, done_seq);
  if (deferred)
    g_hash_table_remove (replica->undone_seqs, &done_seq);
  nf_replica_unmark (replica, done_seq, FALSE);
  pthread_mutex_unlock (&replica->lock);
  replica->unpublished++;
}

static void
finish (NfReplica *replica, NfOp *op)
{
  gboolean deferred = op->link != NULL;

  if (deferred)
    {
      g_queue_delete_link (&replica->undone, op->link);
      op->link = NULL;
      drop_content_op (replica, op);
      replica->undone_cost -= cost_of (op);
      nf_blocked_leave (replica->blocked, &op->holds, &replica->ready);
    }
  move_position (replica, op->position.seq, deferred);
  if (op->own && op->record.reqid != 0)
    nf_forward_applied (replica->share->forward, op->record.reqid);
  nf_forward_unpark (replica->share->forward);
  if (deferred)
    nf_replica_op_free (op);
}

/* ---- carrying out ---- */

static int
or_not_here (int err)
{
  return err == -ENOENT ? 0 : err;
}

/* That something isn't right has to be recorded, or the next life would believe it. */
static int
suspect_touched (NfReplica *replica, const NfRecord *record)
{
  NfIndex *index = replica->share->index;
  int err = 0;

  for (guint i = 0; err == 0 && i < record->n_names; i++)
    {
      err = or_not_here (
          nf_index_set_suspect (index, record->names[i].parent, NF_SUSPECT_NAMES, 0));
      nf_heal_add (replica->heal, record->names[i].parent);
    }
  if (err == 0
      && (record->kind == NF_OP_DATA
          || (record->kind == NF_OP_ATTR && (record->mask & NF_SET_SIZE))))
    err = or_not_here (nf_dirty_whole (replica->share, record->fid));
  if (err == 0 && record->kind != NF_OP_NAMES)
    err = or_not_here (nf_index_set_suspect (index, record->fid, NF_SUSPECT_ATTR, 0));
  nf_heal_add (replica->heal, record->fid);
  return err;
}

/* What couldn't be carried out becomes suspect: then it isn't served, and the healing puts it right. */
static int
give_up (NfReplica *replica, const NfRecord *record, int err)
{
  g_autofree char *line = nf_record_describe (record);
  g_autofree char *text
      = g_strdup_printf ("op %" G_GUINT64_FORMAT " couldn't be applied (%s): what it touches is "
                         "compared with the primary's",
                         record->seq, g_strerror (-err));

  g_warning ("share %s: %s: %s", replica->share->conf.name, text, line);
  return suspect_touched (replica, record);
}

/* Placeholders and files that are still to be filled came in. */
static void
note_suspects (NfReplica *replica, const NfRecord *record)
{
  /* One may have gone with the same op, so that counting before and after tells nothing. */
  if (nf_index_suspects (replica->share->index) == 0)
    return;
  for (guint i = 0; i < record->n_names; i++)
    {
      nf_heal_add (replica->heal, record->names[i].parent);
      if (record->names[i].fid != NF_FID_NONE)
        nf_heal_add (replica->heal, record->names[i].fid);
    }
}

static void
debug_op (NfReplica *replica, const NfRecord *record, gboolean left)
{
  if (g_log_writer_default_would_drop (G_LOG_LEVEL_DEBUG, G_LOG_DOMAIN))
    return;
  g_autofree char *line = nf_record_describe (record);
  g_debug ("share %s: %s%s", replica->share->conf.name, line, left ? "" : " (known already)");
}

/* 0, or -errno if it can't be now. */
static int
carry_out (NfReplica *replica, NfOp *op)
{
  NfRecord record = op->record;
  guint flags = nf_op_is_told (replica, op) ? NF_APPLY_OWN : 0;

  gboolean left = nf_replica_narrow (replica, op, &record, &flags);
  debug_op (replica, &op->record, left);
  nf_replica_note_touched (replica, &op->record);
  if (!left)
    return 0;
  int err
      = nf_apply_with (replica->share, &replica->at_hand, &record, op->data, flags, replica->lost);
  if (nf_replica_is_no_space (err))
    return err;
  if (err != 0)
    err = give_up (replica, &record, err);
  else
    nf_replica_note_times (replica, &record);
  if (err != 0)
    return err;
  if (record.kind == NF_OP_DATA || (record.kind == NF_OP_ATTR && (record.mask & NF_SET_MTIME)))
    nf_transfers_timed (replica->transfers, record.fid, record.seq);
  if (record.kind == NF_OP_NAMES)
    note_suspects (replica, &record);
  return 0;
}

/* The file's content isn't trusted anyway: the range is fetched when that is put right. 0 or -errno. */
static int
only_note_range (NfReplica *replica, const NfOp *op, gboolean *ret_noted)
{
  NfObject object;
  guint64 start = op->record.offset;

  *ret_noted = TRUE;
  if (!nf_index_get (replica->share->index, op->record.fid, &object) || object.ident.ino == 0)
    return 0; /* gone, or not here yet */
  *ret_noted = (object.suspect & NF_SUSPECT_DATA) || op->redone;
  if (!*ret_noted)
    return 0;
  nf_heal_add (replica->heal, op->record.fid);
  return nf_dirty_add (replica->share, op->record.fid, start, start + op->record.length);
}

/* Content that isn't here: OP waits for it (RET_WAITS), or it is noted as to be fetched. 0 or -errno. */
static int
see_to_content (NfReplica *replica, NfOp *op, gboolean *ret_waits)
{
  NfTransfer *transfer = nf_transfers_find (replica->transfers, op->record.fid);
  gboolean noted = FALSE;
  int err = 0;

  *ret_waits = FALSE;
  if (transfer && transfer->heals)
    return nf_transfers_note (replica->transfers, transfer, op);
  if (!transfer && !nf_op_lacks_bytes (op))
    return 0;
  if (!transfer)
    err = only_note_range (replica, op, &noted);
  *ret_waits = err == 0 && !noted;
  if (*ret_waits)
    nf_transfers_attach (replica->transfers, op);
  return err;
}

/* Once only: OP is freed when it is over. */
static void
run_again (NfOp *op, GQueue *queue)
{
  if (op->queued)
    return;
  op->queued = TRUE;
  g_queue_push_tail (queue, op);
}

/* OP's turn has come. TRUE: it is over. */
static gboolean
step (NfReplica *replica, NfOp *op)
{
  gboolean waits = FALSE;
  int err = 0;

  if (op->transfer)
    return FALSE;
  if (nf_op_is_content (op) && !op->noted
      && nf_replica_stamp (replica, op->record.fid)->data < op->position.seq)
    err = see_to_content (replica, op, &waits);
  if (waits)
    return FALSE;
  if (err == 0)
    err = carry_out (replica, op);
  if (err != 0)
    {
      run_again (op, &replica->stalled);
      nf_replica_failed (replica, err);
      return FALSE;
    }
  nf_host_point (replica->share->host, "replica-applied");
  return TRUE;
}

void
nf_replica_run (NfReplica *replica, NfOp *op)
{
  op->turn = TRUE;
  op->queued = FALSE;
  if (step (replica, op))
    finish (replica, op);
}

void
nf_replica_resume (NfReplica *replica, NfOp *op)
{
  op->transfer = NULL;
  if (op->turn)
    run_again (op, &replica->ready);
}

/* Each op whose turn it is gets it once more, and notes what content it lacks. */
static void
run_without_content (NfReplica *replica)
{
  nf_transfers_drop_all (replica->transfers);
  g_queue_clear (&replica->ready);
  g_queue_clear (&replica->stalled);
  for (GList *l = replica->undone.head; l; l = l->next)
    {
      NfOp *op = l->data;
      op->redone = TRUE;
      op->queued = FALSE;
      if (op->holds.waits == 0)
        run_again (op, &replica->ready);
    }
  nf_replica_run_ready (replica);
}

gboolean
nf_replica_finish_all (NfReplica *replica)
{
  guint64 loaded;
  guint left;

  replica->redo_end = replica->received.seq; /* those that are still to be read in, too */
  do
    {
      left = replica->undone.length;
      loaded = replica->loaded.seq;
      run_without_content (replica);
      nf_replica_load_more (replica);
    }
  while (!replica->no_space && (replica->undone.length != left || replica->loaded.seq != loaded));
  return replica->undone.length == 0 && replica->loaded.seq == replica->received.seq;
}

/* ---- taking in ---- */

static void
defer (NfReplica *replica, NfOp *op)
{
  op->link = g_list_alloc ();
  op->link->data = op;
  g_queue_push_tail_link (&replica->undone, op->link);
  replica->undone_cost += cost_of (op);
  add_content_op (replica, op);
  pthread_mutex_lock (&replica->lock);
  g_hash_table_add (replica->undone_seqs, g_memdup2 (&op->position.seq, sizeof op->position.seq));
  replica->taken_seq = op->position.seq;
  if (replica->oldest_ms == 0)
    replica->oldest_ms = op->since_ms;
  pthread_mutex_unlock (&replica->lock);
}

/* Can it be carried out right now, without any bookkeeping? */
static gboolean
is_plain (NfReplica *replica, const NfOp *op)
{
  if (!nf_blocked_empty (replica->blocked) || replica->stalled.length > 0)
    return FALSE;
  return !nf_op_is_content (op)
         || (!nf_op_lacks_bytes (op) && !nf_transfers_find (replica->transfers, op->record.fid));
}

/* Content that is missing is asked for at once, even if the op's turn is far off. */
static void
ask_early (NfReplica *replica, NfOp *op, gboolean free)
{
  if (!nf_op_is_content (op)
      || nf_replica_stamp (replica, op->record.fid)->data >= op->position.seq)
    return;
  NfObject object;
  gboolean here
      = nf_index_get (replica->share->index, op->record.fid, &object) && object.ident.ino != 0;
  NfTransfer *transfer = nf_transfers_find (replica->transfers, op->record.fid);
  gboolean under_way = transfer != NULL;

  if (transfer && transfer->heals)
    {
      (void)nf_transfers_note (replica->transfers, transfer, op); /* else when its turn comes */
      return;
    }
  if (!under_way && (!nf_op_lacks_bytes (op) || (free && op->redone)))
    return;
  /* A file that isn't here comes with an op before this one; one that isn't trusted is somebody else's care. */
  if (!under_way && (here ? (object.suspect & NF_SUSPECT_DATA) != 0 : free))
    return;
  nf_transfers_attach (replica->transfers, op);
}

static void
take_op (NfReplica *replica, NfOp *op)
{
  if (is_plain (replica, op))
    {
      int err = carry_out (replica, op);
      if (err == 0)
        {
          nf_host_point (replica->share->host, "replica-applied");
          finish (replica, op);
          return;
        }
      nf_replica_failed (replica, err);
    }
  NfOp *kept = g_memdup2 (op, sizeof *op);
  kept->owner = op->owner ? g_bytes_ref (op->owner) : NULL;
  op->own_data = NULL; /* is the copy's now */
  hold (replica, kept);
  defer (replica, kept);
  gboolean free = nf_blocked_enter (replica->blocked, &kept->holds);
  ask_early (replica, kept, free);
  if (free && replica->no_space && !kept->transfer)
    {
      kept->turn = TRUE;
      run_again (kept, &replica->stalled);
    }
  else if (free)
    g_queue_push_tail (&replica->ready, kept);
}

/* Was OP carried out in the last life already, beyond the position? */
static gboolean
is_dealt_with (NfReplica *replica, const NfOp *op)
{
  guint64 seq = op->position.seq;

  return op->redone && seq <= replica->redo_upto
         && !g_hash_table_contains (replica->redo_undone, &seq);
}

void
nf_replica_take (NfReplica *replica, NfPosition position, GBytes *owner, NfSlice record,
                 NfSlice data)
{
  NfShare *share = replica->share;
  NfOp op = { .position = position,
              .before = replica->loaded,
              .owner = owner,
              .data = data,
              .since_ms = nf_replica_now_ms (replica),
              .redone = position.seq <= replica->redo_end };
  gboolean known = nf_record_decode (record, &op.record);

  replica->loaded = position;
  if (known)
    nf_check_note (replica->check, &op.record);
  /* The journal took it, so it can only be a kind of record that this version doesn't know. */
  if (!known || op.record.kind == NF_OP_EPOCH || op.record.kind == NF_OP_ABORT
      || g_hash_table_contains (replica->aborted, &position.seq) || is_dealt_with (replica, &op))
    {
      move_position (replica, position.seq, FALSE);
      return;
    }
  if (op.redone && g_hash_table_contains (replica->redo_undone, &position.seq))
    op.redone = FALSE;
  op.own = nf_slice_equal (op.record.site, nf_slice_str (share->conf.site));
  if (op.own && nf_op_lacks_bytes (&op) && op.record.reqid != 0)
    {
      op.own_data = nf_forward_written (share->forward, op.record.reqid);
      if (op.own_data)
        op.data = nf_slice (g_bytes_get_data (op.own_data, NULL), g_bytes_get_size (op.own_data));
      if (nf_op_lacks_bytes (&op)) /* more or less was written than it was asked to */
        op.data = NF_SLICE_NONE;
    }
  take_op (replica, &op);
  g_clear_pointer (&op.own_data, g_bytes_unref);
}

void
nf_replica_drop_undone (NfReplica *replica)
{
  NfOp *op;

  g_queue_clear (&replica->ready);
  g_queue_clear (&replica->stalled);
  while ((op = g_queue_peek_head (&replica->undone)))
    {
      g_queue_delete_link (&replica->undone, op->link);
      nf_blocked_leave (replica->blocked, &op->holds, NULL);
      nf_replica_op_free (op);
    }
  g_hash_table_remove_all (replica->content);
  replica->undone_cost = 0;
  pthread_mutex_lock (&replica->lock);
  g_hash_table_remove_all (replica->undone_seqs);
  replica->oldest_ms = 0;
  pthread_mutex_unlock (&replica->lock);
}

/* ---- objects without a name ---- */

static void
bury_due (gpointer data)
{
  NfReplica *replica = data;

  pthread_mutex_lock (&replica->work);
  replica->bury_due = FALSE;
  if (!replica->closed)
    nf_replica_settle (replica); /* with the last suspects, the site may be in step */
  pthread_mutex_unlock (&replica->work);
  nf_replica_unref (replica);
}

static void
bury_later (NfReplica *replica)
{
  if (replica->bury_due)
    return;
  replica->bury_due = TRUE;
  nf_replica_after (replica, NF_BURY_MS, bury_due);
}

/* FALSE: not now. */
static gboolean
bury (NfReplica *replica, NfFid fid)
{
  NfShare *share = replica->share;
  NfObject object;

  if (!nf_index_get (share->index, fid, &object) || object.place != NF_PLACE_LIMBO)
    return TRUE; /* has a name again */
  /* Read by a handle of this site, or about to get content. */
  return !nf_opens_held (share->opens, fid) && !nf_transfers_find (replica->transfers, fid)
         && nf_tree_bury (share->tree, fid) == 0;
}

/* FIDS (of NfFid), from FIRST up to END, in one transaction: it costs more than a removal. Those that aren't gone are dying
 * still. */
static void
bury_some (NfReplica *replica, const GArray *fids, guint first, guint end)
{
  NfIndex *index = replica->share->index;
  guint dying = replica->dying->len;
  gboolean begun = nf_index_begin (index) == 0;

  for (guint i = first; i < end; i++)
    if (!begun || !bury (replica, g_array_index (fids, NfFid, i)))
      g_array_append_val (replica->dying, g_array_index (fids, NfFid, i));
  if (!begun || nf_index_commit (index) == 0)
    return;
  g_array_set_size (replica->dying, dying);
  g_array_append_vals (replica->dying, &g_array_index (fids, NfFid, first), end - first);
}

/* An object is buried a while after it has lost its last name: who has just looked it up can still open it, as it
 * could on a local disk. Those that can't be buried yet are looked at when another comes. */
void
nf_replica_bury (NfReplica *replica)
{
  gint64 now_ms = nf_replica_now_ms (replica);

  /* While names are compared, or gone over again, what has no name may still get one. */
  if ((replica->lost->len == 0 && replica->dying->len == 0)
      || !nf_heal_names_settled (replica->heal) || replica->loaded.seq < replica->redo_end)
    return;
  if (now_ms - replica->buried_ms < NF_BURY_MS)
    {
      if (replica->lost->len > 0)
        bury_later (replica);
      return;
    }
  g_autoptr (GArray) dying = replica->dying;
  replica->buried_ms = now_ms;
  replica->dying = replica->lost;
  replica->lost = g_array_new (FALSE, FALSE, sizeof (NfFid));
  if (replica->dying->len > 0)
    bury_later (replica);
  for (guint i = 0; i < dying->len; i += NF_BURY_BATCH)
    bury_some (replica, dying, i, MIN (i + NF_BURY_BATCH, dying->len));
}
