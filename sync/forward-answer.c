// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/forward-internal.h"

#include <errno.h>

/* What a call that was carried out has changed, for nf_replica_mark(). */
typedef struct
{
  NfFid fids[3];
  guint n_fids;
  NfNameRef names[2];
  guint n_names;
} Touched;

static void
touch_fid (Touched *touched, NfFid fid)
{
  if (fid != NF_FID_NONE)
    touched->fids[touched->n_fids++] = fid;
}

static void
touch_name (Touched *touched, NfFid parent, NfSlice name)
{
  touched->names[touched->n_names++] = (NfNameRef){ parent, name };
}

static void
touched_by (const NfMsg *call, const NfMsg *answer, Touched *ret_touched)
{
  Touched touched = { 0 };

  switch (call->type)
    {
    case NF_MSG_CREATE:
      touch_name (&touched, call->create.parent, call->create.name);
      break;
    case NF_MSG_MKDIR:
      touch_name (&touched, call->mkdir.parent, call->mkdir.name);
      break;
    case NF_MSG_MKNOD:
      touch_name (&touched, call->mknod.parent, call->mknod.name);
      break;
    case NF_MSG_SYMLINK:
      touch_name (&touched, call->symlink.parent, call->symlink.name);
      break;
    case NF_MSG_LINK:
      touch_name (&touched, call->link.parent, call->link.name);
      break;
    case NF_MSG_UNLINK:
      touch_name (&touched, call->unlink.parent, call->unlink.name);
      break;
    case NF_MSG_RMDIR:
      touch_name (&touched, call->rmdir.parent, call->rmdir.name);
      break;
    case NF_MSG_RENAME:
      touch_name (&touched, call->rename.parent, call->rename.name);
      touch_name (&touched, call->rename.newparent, call->rename.newname);
      break;
    case NF_MSG_SETATTR:
      touch_fid (&touched, call->setattr.fid);
      break;
    case NF_MSG_WRITE: /* an O_APPEND one; others are overlaid */
      touch_fid (&touched, call->write.fid);
      break;
    case NF_MSG_FALLOCATE:
      touch_fid (&touched, call->fallocate.fid);
      break;
    case NF_MSG_COPY:
      touch_fid (&touched, call->copy.fid);
      break;
    case NF_MSG_SETXATTR:
      touch_fid (&touched, call->setxattr.fid);
      break;
    case NF_MSG_REMOVEXATTR:
      touch_fid (&touched, call->removexattr.fid);
      break;
    default:
      break;
    }
  if (call->type != NF_MSG_WRITE)
    touch_fid (&touched, answer->answer.attr.fid);
  *ret_touched = touched;
}

void
nf_forward_add_touched (GArray *invals, const NfMsg *call, const NfMsg *answer)
{
  Touched touched;

  touched_by (call, answer, &touched);
  for (guint i = 0; i < touched.n_names; i++)
    {
      NfInval inval = { .kind = NF_INVAL_NAME, .parent = touched.names[i].parent };
      inval.name = nf_slice (nf_slice_dup (touched.names[i].name), touched.names[i].name.len);
      g_array_append_val (invals, inval);
    }
  for (guint i = 0; i < touched.n_fids; i++)
    {
      NfInval inval = { .kind = NF_INVAL_DATA, .fid = touched.fids[i] };
      g_array_append_val (invals, inval);
    }
}

void
nf_forward_uncover (NfForward *forward, NfFid fid, GArray *invals)
{
  const NfInval inval = { .kind = NF_INVAL_DATA, .fid = fid };

  forward->taken_over++;
  g_array_append_val (invals, inval);
}

/* After a settled write: what stood behind it, or behind the window, may go now. With the lock. */
static void
go_on (NfForward *forward, NfFid fid, gboolean window, GArray *due)
{
  nf_forward_pump_file (forward, fid, due);
  if (window)
    nf_forward_pump_all (forward, due);
  nf_forward_admit_stalled (forward, due);
  pthread_cond_broadcast (&forward->drained);
}

/* The replica's own attributes are what the kernel will be told later; so they are what it is told
 * now (ctime and blocks differ from the primary's). */
static void
prefer_local_attr (NfShare *share, NfMsg *answer)
{
  guint64 before = nf_forward_taken_over (share->forward);
  NfAttr attr;

  if (share->tree && answer->answer.attr.fid != NF_FID_NONE
      && nf_tree_stat (share->tree, answer->answer.attr.fid, &attr) == 0)
    {
      nf_forward_overlay_attr (share->forward, before, -1, &attr);
      answer->answer.attr = attr;
    }
}

/* With the lock. */
static void
lay_over_attr (NfForward *forward, guint64 seq, NfAttr *attr)
{
  NfPendingFile *file = nf_pending_file (&forward->calls, attr->fid);

  if (file)
    nf_pending_overlay_attr (file, seq, attr);
}

/* What this site has written may not have come to the primary before ANSWER left it. With the lock; RET_LISTING keeps
 * the new listing. */
static void
lay_over_answer (NfForward *forward, const NfPending *pending, NfMsg *answer, GBytes **ret_listing)
{
  NfReader reader = nf_reader (answer->answer.data);
  g_auto (NfBuf) buf = NF_BUF_INIT;
  NfDirEntry entry;

  if (answer->answer.attr.fid != NF_FID_NONE)
    lay_over_attr (forward, answer->answer.seq, &answer->answer.attr);
  if (pending->msg->type != NF_MSG_READDIR || g_hash_table_size (forward->calls.by_fid) == 0)
    return;
  while (nf_dir_entry_decode (&reader, &entry))
    {
      lay_over_attr (forward, answer->answer.seq, &entry.attr);
      nf_dir_entry_encode (&entry, &buf);
    }
  *ret_listing = nf_buf_steal_bytes (&buf);
  answer->owner = *ret_listing;
  answer->answer.data
      = nf_slice (g_bytes_get_data (*ret_listing, NULL), g_bytes_get_size (*ret_listing));
}

/* A CREATE that nobody waits for any more may have left a hold. */
static void
drop_abandoned (NfForward *forward, NfPending *pending, const NfMsg *answer)
{
  if (pending->msg->type == NF_MSG_CREATE && !pending->done
      && (pending->msg->create.flags & NF_CREATE_HOLD) && answer->answer.status == 0
      && !g_hash_table_contains (forward->holds, &answer->answer.attr.fid))
    nf_forward_send_hold (forward, NF_MSG_DROP, answer->answer.attr.fid);
}

/* For the fsync() that may follow. With the lock. */
static void
note_touched (NfForward *forward, const NfMsg *call, const NfMsg *answer, const Touched *touched)
{
  if (call->type == NF_MSG_FSYNC)
    nf_forward_note_synced (forward, call);
  if (!(nf_msg_flags (call->type) & NF_MSG_CHANGES) || answer->answer.status != 0)
    return;
  for (guint i = 0; i < touched->n_fids; i++)
    nf_forward_note_unsynced (forward, touched->fids[i], answer->answer.seq);
  for (guint i = 0; i < touched->n_names; i++)
    nf_forward_note_unsynced (forward, touched->names[i].parent, answer->answer.seq);
}

static gboolean
epoch_is_old (const NfMsg *answer)
{
  return answer->answer.value == 1 && nf_status_to_errno (answer->answer.status) == ESTALE;
}

/* Did the primary do something else than the caller of a buffered call was told? (It takes our clock for a write only
 * where that is near its own, which it isn't when the write was sent again after a cut.) */
static gboolean
differs (const NfPending *pending, const NfAttr *attr)
{
  const NfMsg *msg = pending->msg;
  guint32 mask = msg->type == NF_MSG_SETATTR ? msg->setattr.mask : 0;

  if (msg->type == NF_MSG_WRITE)
    return attr->mtime != msg->head.clock;
  return ((mask & NF_SET_MODE) && ((attr->mode ^ msg->setattr.attr.mode) & 07777) != 0)
         || ((mask & NF_SET_MTIME_NOW) && attr->mtime != msg->head.clock);
}

/* What the primary did is what the overlay shows until the op comes. With the lock. */
static void
take_over_answer (NfPending *pending, const NfAttr *attr)
{
  NfMsg *msg = pending->msg;

  if (msg->type == NF_MSG_WRITE || (msg->setattr.mask & NF_SET_MTIME_NOW))
    msg->head.clock = attr->mtime;
  if (msg->type == NF_MSG_SETATTR && (msg->setattr.mask & NF_SET_MODE))
    msg->setattr.attr.mode = attr->mode;
}

/* APPLIED: the replica's position. An op up to there doesn't come any more; if PENDING's wasn't applied, it was compared. */
static void
answer_buffered (NfForward *forward, NfPending *pending, const NfMsg *answer, guint64 applied,
                 GArray *due, GArray *invals)
{
  NfFid fid = nf_pending_fid (pending);
  gboolean window = pending->data && !pending->bulk;
  int error = nf_status_to_errno (answer->answer.status);

  if (error != 0)
    nf_forward_fail_pending (forward, pending, -error, due, invals);
  else
    {
      NfInval inval = { .kind = NF_INVAL_ATTR, .fid = fid };
      gboolean comes = forward->share->tree && answer->answer.seq > applied;
      if (differs (pending, &answer->answer.attr))
        {
          take_over_answer (pending, &answer->answer.attr);
          g_array_append_val (invals, inval);
        }
      if (!comes && !pending->applied && forward->share->tree)
        nf_forward_uncover (forward, fid, invals);
      nf_forward_note_unsynced (forward, fid, answer->answer.seq);
      pending->seq = answer->answer.seq;
      nf_pending_settle (&forward->calls, pending, comes);
    }
  go_on (forward, fid, window, due);
}

void
nf_forward_answer (NfForward *forward, const NfMsg *message)
{
  NfShare *share = forward->share;
  GArray *due = nf_forward_due_new ();
  GArray *invals = nf_forward_invals_new ();
  NfMsg answer = *message;
  NfCallDone done = NULL;
  gpointer arg = NULL;
  gboolean changes = FALSE;
  NfPending *kept = NULL;
  g_autoptr (GBytes) listing = NULL;
  Touched touched = { 0 };
  guint64 applied = nf_replica_position (share->replica).seq;

  pthread_mutex_lock (&forward->lock);
  NfPending *pending = g_hash_table_lookup (forward->calls.by_id, &answer.answer.reqid);
  if (pending && !pending->answered && epoch_is_old (&answer))
    pending = NULL; /* it is sent again when this site has subscribed to the new reign */
  if (pending && !pending->answered && pending->buffered)
    answer_buffered (forward, pending, &answer, applied, due, invals);
  else if (pending && !pending->answered)
    {
      NfFid fid = pending->queue ? pending->queue->fid : NF_FID_NONE;
      drop_abandoned (forward, pending, &answer);
      kept = nf_pending_ref (pending); /* the names in `touched` are its own */
      done = pending->done;
      arg = pending->arg;
      changes = nf_msg_flags (pending->msg->type) & NF_MSG_CHANGES;
      touched_by (pending->msg, &answer, &touched);
      note_touched (forward, pending->msg, &answer, &touched);
      if (answer.answer.status == 0)
        lay_over_answer (forward, pending, &answer, &listing);
      nf_pending_settle (&forward->calls, pending, FALSE);
      go_on (forward, fid, FALSE, due);
    }
  pthread_mutex_unlock (&forward->lock);

  int status = -nf_status_to_errno (answer.answer.status);
  if (status == 0 && changes
      && nf_replica_mark (share->replica, answer.answer.seq, touched.fids, touched.n_fids,
                          touched.names, touched.n_names))
    prefer_local_attr (share, &answer);
  if (status == 0 && changes && !done) /* he was interrupted, and told so */
    nf_forward_add_touched (invals, kept->msg, &answer);
  if (kept && !changes)
    nf_replica_mark_read (share->replica, kept->msg, status, message);
  if (done && kept && status == 0 && changes
      && nf_forward_park (forward, kept->id, kept->msg, &answer, done, arg))
    done = NULL;
  if (done)
    done (arg, status, &answer);
  if (kept)
    {
      pthread_mutex_lock (&forward->lock);
      nf_pending_unref (kept);
      pthread_mutex_unlock (&forward->lock);
    }
  nf_forward_invalidate_all (forward, invals);
  nf_forward_due_run (due);
}
