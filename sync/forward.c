// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/pending-calls.h"

#include <errno.h>
#include <string.h>

/* Calls of this site that the primary carries out.
 *
 * A call is kept until its answer is here, and sent again with its id whenever the link is new; the
 * primary carries it out once. A write is told to the caller as done when it lies in the buffer;
 * flush (close, fsync) collects the outcome. What is in the buffer is laid over the replica for
 * readers of this site until the replica has applied it (G3).
 *
 * Deadlines: with the link up a call waits for its answer, since heartbeats find a dead link. With
 * the link down for call_timeout all that waits fails with EHOSTUNREACH, as does every later call
 * until the link is back.
 *
 * Lock order: `lock` is innermost but for the opens'; `done` callbacks, sends and calls to the
 * replica are made without it. */

/* How many done callbacks can be due at once without allocation. */
typedef struct
{
  NfCallDone done;
  gpointer arg;
  int status;
  guint64 value;
} Due;

struct NfForward
{
  NfShare *share;
  pthread_mutex_t lock;
  pthread_cond_t drained;
  NfPendingCalls calls; /* guarded by lock, as all below */
  GQueue stalled;       /* Stalled: writes that found the buffer full */
  GHashTable *holds;    /* fid → how many files are open for writing here */
  gboolean up;
  guint64 epoch; /* that calls are sent in */
  gint64 down_since_ms;
  gint refs; /* timers under way */
  gboolean closing;
};

typedef struct
{
  NfMsg *call;
  NfFile *file;
  NfCallDone done;
  gpointer arg;
  guint64 id;
} Stalled;

static void pump_file (NfForward *forward, NfFid fid, GArray *due);
static gboolean given_up (NfForward *forward);
static void start_deadline (NfForward *forward);

static GArray *
due_new (void)
{
  return g_array_new (FALSE, FALSE, sizeof (Due));
}

static void
due_add (GArray *due, NfCallDone done, gpointer arg, int status, guint64 value)
{
  Due item = { done, arg, status, value };

  if (done)
    g_array_append_val (due, item);
}

/* Without the lock. */
static void
due_run (GArray *due)
{
  for (guint i = 0; i < due->len; i++)
    {
      Due *item = &g_array_index (due, Due, i);
      NfMsg answer = { .type = NF_MSG_ANSWER };
      answer.answer.value = item->value;
      item->done (item->arg, item->status, &answer);
    }
  g_array_unref (due);
}

NfForward *
nf_forward_new (NfShare *share)
{
  NfForward *forward = g_new0 (NfForward, 1);
  NfHost *host = share->host;

  forward->share = share;
  pthread_mutex_init (&forward->lock, NULL);
  pthread_cond_init (&forward->drained, NULL);
  /* Ids must not come again after a restart: they begin with the time in microseconds. */
  nf_pending_calls_init (&forward->calls, (guint64)host->realtime_ns (host->data) / 1000);
  g_queue_init (&forward->stalled);
  forward->holds = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
  forward->down_since_ms = host->monotonic_ms (host->data);
  start_deadline (forward);
  return forward;
}

/* ---- sending ---- */

static void
send_pending (NfForward *forward, NfPending *pending)
{
  NfShare *share = forward->share;
  NfMsg msg = *pending->msg;

  if (pending->data)
    msg.write.data = nf_slice (pending->data->data, pending->data->len);
  msg.head.epoch = forward->epoch;
  msg.head.acked = nf_pending_acked (&forward->calls);
  nf_pending_mark_sent (&forward->calls, pending);
  if (!share->host->send (share->host->data, share->conf.primary, pending->bulk, &msg))
    forward->up = FALSE; /* peer_down follows; it is sent again when the link is back */
}

/* A call that no reqid waits for: HOLD and DROP. */
static void
send_hold (NfForward *forward, NfMsgType type, NfFid fid)
{
  NfShare *share = forward->share;
  NfMsg msg = { .type = type };

  msg.head.share = share->conf.id;
  msg.head.epoch = forward->epoch;
  msg.head.acked = nf_pending_acked (&forward->calls);
  msg.hold.fid = fid; /* DROP has the same one field */
  if (type == NF_MSG_DROP)
    msg.drop.fid = fid;
  if (forward->up)
    (void)share->host->send (share->host->data, share->conf.primary, FALSE,
                             &msg); /* said again when up */
}

/* Fills what the caller's head doesn't have. */
static void
complete_head (NfForward *forward, NfMsg *msg)
{
  NfShare *share = forward->share;

  msg->head.share = share->conf.id;
  msg->head.clock = share->host->realtime_ns (share->host->data);
  if (share->conf.name_caller)
    share->conf.name_caller (share->conf.policy, &msg->head);
}

/* Sends FSYNC for a flush that has come to the head of its queue, in its place. */
static void
begin_sync (NfForward *forward, NfPending *flush, NfFid fid)
{
  NfMsg msg = { .type = NF_MSG_FSYNC };

  complete_head (forward, &msg);
  msg.fsync.fid = fid;
  msg.fsync.datasync = flush->datasync;
  NfPending *sync = nf_pending_new (&forward->calls, &msg, flush->file, flush->done, flush->arg);
  if (forward->up)
    send_pending (forward, sync);
}

static int
take_file_error (NfFile *file)
{
  int error = file ? file->error : 0;

  if (file)
    file->error = 0;
  return error;
}

static void
settle_flush (NfForward *forward, NfPending *flush, NfFid fid, GArray *due)
{
  int error = take_file_error (flush->file);

  if (error == 0 && flush->sync && given_up (forward))
    error = -EHOSTUNREACH;
  if (error == 0 && flush->sync)
    begin_sync (forward, flush, fid);
  else
    due_add (due, flush->done, flush->arg, error, 0);
  nf_pending_settle (&forward->calls, flush, FALSE);
}

/* Sends what of FID may be sent. With the lock. */
static void
pump_file (NfForward *forward, NfFid fid, GArray *due)
{
  NfPendingFile *file;

  while ((file = nf_pending_file (&forward->calls, fid)))
    {
      NfPending *next = nf_pending_next (&forward->calls, file);
      if (!next)
        return;
      if (!next->msg)
        settle_flush (forward, next, fid, due);
      else if (forward->up)
        send_pending (forward, next);
      else
        return;
    }
}

static void
pump_all (NfForward *forward, GArray *due)
{
  g_autofree guint64 *fids = g_new (guint64, g_hash_table_size (forward->calls.by_fid) + 1);
  guint n = 0;
  GHashTableIter iter;
  gpointer key;

  g_hash_table_iter_init (&iter, forward->calls.by_fid);
  while (g_hash_table_iter_next (&iter, &key, NULL))
    fids[n++] = *(guint64 *)key;
  for (guint i = 0; i < n; i++)
    pump_file (forward, fids[i], due);
}

/* ---- deadlines ---- */

static gboolean
given_up (NfForward *forward)
{
  NfHost *host = forward->share->host;

  return !forward->up
         && host->monotonic_ms (host->data) - forward->down_since_ms
                >= (gint64)forward->share->conf.call_timeout_ms;
}

/* PENDING comes to nothing. A buffered write's error waits for the next flush of its handle, and
 * what the kernel has cached of it isn't so. With the lock. */
static void
fail_pending (NfForward *forward, NfPending *pending, int error, GArray *due, GArray *ret_invals)
{
  if (pending->buffered)
    {
      NfInval inval = { .kind = NF_INVAL_DATA, .fid = pending->msg->write.fid };
      g_array_append_val (ret_invals, inval);
      if (pending->file)
        pending->file->error = error;
    }
  due_add (due, pending->done, pending->arg, error, 0);
  nf_pending_settle (&forward->calls, pending, FALSE);
}

static void
invalidate_all (NfForward *forward, GArray *invals)
{
  NfHost *host = forward->share->host;

  for (guint i = 0; i < invals->len; i++)
    host->invalidate (host->data, forward->share, &g_array_index (invals, NfInval, i));
  g_array_unref (invals);
}

static void
fail_stalled (NfForward *forward, int error, GArray *due)
{
  Stalled *stalled;

  while ((stalled = g_queue_pop_head (&forward->stalled)))
    {
      due_add (due, stalled->done, stalled->arg, error, 0);
      nf_msg_free (stalled->call);
      g_free (stalled);
    }
}

static void
fail_everything (NfForward *forward, int error)
{
  GArray *due = due_new ();
  GArray *invals = g_array_new (FALSE, FALSE, sizeof (NfInval));
  NfPending *pending;

  pthread_mutex_lock (&forward->lock);
  while ((pending = g_queue_peek_head (&forward->calls.order)))
    fail_pending (forward, pending, error, due, invals);
  pump_all (forward, due); /* the flushes behind them */
  fail_stalled (forward, error, due);
  pthread_cond_broadcast (&forward->drained);
  pthread_mutex_unlock (&forward->lock);
  invalidate_all (forward, invals);
  due_run (due);
}

static void
forward_unref (NfForward *forward)
{
  pthread_mutex_lock (&forward->lock);
  gboolean last = --forward->refs < 0;
  pthread_mutex_unlock (&forward->lock);
  if (!last)
    return;
  nf_pending_calls_clear (&forward->calls);
  g_hash_table_unref (forward->holds);
  pthread_mutex_destroy (&forward->lock);
  pthread_cond_destroy (&forward->drained);
  g_free (forward);
}

static void
deadline_reached (gpointer arg)
{
  NfForward *forward = arg;

  pthread_mutex_lock (&forward->lock);
  gboolean over = !forward->closing && given_up (forward);
  pthread_mutex_unlock (&forward->lock);
  if (over)
    fail_everything (forward, -EHOSTUNREACH);
  forward_unref (forward);
}

static void
start_deadline (NfForward *forward)
{
  NfHost *host = forward->share->host;

  pthread_mutex_lock (&forward->lock);
  forward->refs++;
  pthread_mutex_unlock (&forward->lock);
  host->post_after (host->data, forward->share->conf.call_timeout_ms + 1, deadline_reached,
                    forward);
}

void
nf_forward_free (NfForward *forward)
{
  pthread_mutex_lock (&forward->lock);
  forward->closing = TRUE;
  forward->up = FALSE;
  pthread_mutex_unlock (&forward->lock);
  fail_everything (forward, -EHOSTUNREACH);
  forward_unref (forward);
}

/* ---- calls ---- */

/* The object whose writes must have arrived before MSG may be sent; NF_FID_NONE if it doesn't
 * matter. For name changes it is the object that is named: data comes before names. */
static NfFid
ordered_fid (NfShare *share, const NfMsg *msg)
{
  NfAttr attr;

  switch (msg->type)
    {
    case NF_MSG_GETATTR:
      return msg->getattr.fid;
    case NF_MSG_READ:
      return msg->read.fid;
    case NF_MSG_LSEEK:
      return msg->lseek.fid;
    case NF_MSG_SETATTR:
      return msg->setattr.fid;
    case NF_MSG_WRITE:
      return msg->write.fid;
    case NF_MSG_FALLOCATE:
      return msg->fallocate.fid;
    case NF_MSG_COPY:
      return msg->copy.from; /* the target's, see nf_forward_call() */
    case NF_MSG_SETXATTR:
      return msg->setxattr.fid;
    case NF_MSG_LINK:
      return msg->link.fid;
    case NF_MSG_RENAME:
      if (share->tree
          && nf_tree_lookup (share->tree, msg->rename.parent, msg->rename.name, &attr, NULL) == 0)
        return attr.fid;
      return NF_FID_NONE;
    default:
      return NF_FID_NONE;
    }
}

/* Buffers a write, or holds it back if the buffer is full. With the lock; TRUE if the caller may be
 * told at once. */
static gboolean
buffer_write (NfForward *forward, NfFile *file, const NfMsg *msg)
{
  NfPendingCalls *calls = &forward->calls;
  NfPendingFile *queue = nf_pending_file_ensure (calls, msg->write.fid);

  if (!nf_pending_join (calls, queue, msg, file))
    {
      NfPending *pending = nf_pending_new (calls, msg, file, NULL, NULL);
      pending->buffered = TRUE;
      nf_pending_enqueue (calls, queue, pending);
    }
  return TRUE;
}

static guint64
stall (NfForward *forward, NfFile *file, const NfMsg *msg, NfCallDone done, gpointer data)
{
  Stalled *stalled = g_new0 (Stalled, 1);

  stalled->call = nf_msg_dup (msg);
  stalled->file = file;
  stalled->done = done;
  stalled->arg = data;
  stalled->id = forward->calls.next_id++;
  g_queue_push_tail (&forward->stalled, stalled);
  return stalled->id;
}

static gboolean
has_room (NfForward *forward, gsize len)
{
  return forward->calls.buffered == 0
         || forward->calls.buffered + len <= forward->share->conf.write_buffer;
}

static void
call_write (NfForward *forward, NfFile *file, const NfMsg *msg, NfCallDone done, gpointer data,
            guint64 *ret_id, GArray *due)
{
  if (!has_room (forward, msg->write.data.len) || !g_queue_is_empty (&forward->stalled))
    {
      *ret_id = stall (forward, file, msg, done, data);
      return;
    }
  int error = take_file_error (file);
  if (error == 0)
    {
      buffer_write (forward, file, msg);
      pump_file (forward, msg->write.fid, due);
    }
  due_add (due, done, data, error, msg->write.data.len);
}

static void
call_other (NfForward *forward, NfFile *file, const NfMsg *msg, NfFid fid, NfCallDone done,
            gpointer data, guint64 *ret_id, GArray *due)
{
  NfPending *pending = nf_pending_new (&forward->calls, msg, file, done, data);
  NfPendingFile *queue = fid != NF_FID_NONE ? nf_pending_file (&forward->calls, fid) : NULL;

  *ret_id = pending->id;
  if (queue || msg->type == NF_MSG_WRITE)
    {
      nf_pending_enqueue (&forward->calls,
                          queue ? queue : nf_pending_file_ensure (&forward->calls, fid), pending);
      pump_file (forward, fid, due);
    }
  else if (forward->up)
    send_pending (forward, pending);
}

/* The hold that goes with a CREATE is counted when the file is opened, at once behind it. */
void
nf_forward_call (NfForward *forward, NfFile *file, const NfMsg *call, NfCallDone done,
                 gpointer data, guint64 *ret_id)
{
  NfShare *share = forward->share;
  GArray *due = due_new ();
  NfMsg msg = *call;
  NfFid fid = ordered_fid (share, call);
  guint64 id = 0;

  complete_head (forward, &msg);
  pthread_mutex_lock (&forward->lock);
  gboolean down = !forward->up;
  if (given_up (forward) || forward->closing)
    due_add (due, done, data, -EHOSTUNREACH, 0);
  else if (call->type == NF_MSG_WRITE && !(call->write.flags & NF_WRITE_APPEND))
    call_write (forward, file, &msg, done, data, &id, due);
  else
    {
      if (call->type == NF_MSG_COPY && nf_pending_file (&forward->calls, call->copy.fid))
        fid = call->copy.fid;
      call_other (forward, file, &msg, fid, done, data, &id, due);
    }
  pthread_mutex_unlock (&forward->lock);
  if (ret_id)
    *ret_id = due->len > 0 ? 0 : id;
  if (down)
    share->host->redial (share->host->data, share->conf.primary);
  due_run (due);
}

static gboolean
cancel_stalled (NfForward *forward, guint64 id, GArray *due)
{
  for (GList *l = forward->stalled.head; l; l = l->next)
    {
      Stalled *stalled = l->data;
      if (stalled->id != id)
        continue;
      due_add (due, stalled->done, stalled->arg, -EINTR, 0);
      g_queue_delete_link (&forward->stalled, l);
      nf_msg_free (stalled->call);
      g_free (stalled);
      return TRUE;
    }
  return FALSE;
}

void
nf_forward_cancel (NfForward *forward, guint64 id)
{
  GArray *due = due_new ();

  pthread_mutex_lock (&forward->lock);
  NfPending *pending = g_hash_table_lookup (forward->calls.by_id, &id);
  if (pending && pending->done)
    {
      due_add (due, pending->done, pending->arg, -EINTR, 0);
      pending->done = NULL;
      if (!pending->sent)
        {
          NfFid fid = pending->queue ? pending->queue->fid : NF_FID_NONE;
          nf_pending_settle (&forward->calls, pending, FALSE);
          pump_file (forward, fid, due);
        }
    }
  else if (!pending)
    cancel_stalled (forward, id, due);
  pthread_mutex_unlock (&forward->lock);
  due_run (due);
}

/* ---- answers ---- */

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

/* Lets stalled writes into the buffer as far as there is room. With the lock. */
static void
admit_stalled (NfForward *forward, GArray *due)
{
  Stalled *stalled;

  while ((stalled = g_queue_peek_head (&forward->stalled))
         && has_room (forward, stalled->call->write.data.len))
    {
      g_queue_pop_head (&forward->stalled);
      buffer_write (forward, stalled->file, stalled->call);
      due_add (due, stalled->done, stalled->arg, 0, stalled->call->write.data.len);
      pump_file (forward, stalled->call->write.fid, due);
      nf_msg_free (stalled->call);
      g_free (stalled);
    }
}

/* After a settled write: what stood behind it, or behind the window, may go now. With the lock. */
static void
go_on (NfForward *forward, NfFid fid, gboolean window, GArray *due)
{
  pump_file (forward, fid, due);
  if (window)
    pump_all (forward, due);
  admit_stalled (forward, due);
  pthread_cond_broadcast (&forward->drained);
}

/* The replica's own attributes are what the kernel will be told later; so they are what it is told
 * now (ctime and blocks differ from the primary's). */
static void
prefer_local_attr (NfShare *share, NfMsg *answer)
{
  NfAttr attr;

  if (share->tree && answer->answer.attr.fid != NF_FID_NONE
      && nf_tree_stat (share->tree, answer->answer.attr.fid, &attr) == 0)
    {
      nf_forward_overlay_attr (share->forward, &attr);
      answer->answer.attr = attr;
    }
}

/* A CREATE that nobody waits for any more may have left a hold. */
static void
drop_abandoned (NfForward *forward, NfPending *pending, const NfMsg *answer)
{
  if (pending->msg->type == NF_MSG_CREATE && !pending->done
      && (pending->msg->create.flags & NF_CREATE_HOLD) && answer->answer.status == 0
      && !g_hash_table_contains (forward->holds, &answer->answer.attr.fid))
    send_hold (forward, NF_MSG_DROP, answer->answer.attr.fid);
}

static gboolean
epoch_is_old (const NfMsg *answer)
{
  return answer->answer.value == 1 && nf_status_to_errno (answer->answer.status) == ESTALE;
}

static void
answer_write (NfForward *forward, NfPending *pending, const NfMsg *answer, GArray *due,
              GArray *invals)
{
  NfFid fid = pending->msg->write.fid;
  gboolean window = !pending->bulk;
  int error = nf_status_to_errno (answer->answer.status);

  if (error != 0)
    fail_pending (forward, pending, -error, due, invals);
  else
    {
      pending->seq = answer->answer.seq;
      nf_pending_settle (&forward->calls, pending, forward->share->tree != NULL);
    }
  go_on (forward, fid, window, due);
}

void
nf_forward_answer (NfForward *forward, const NfMsg *message)
{
  NfShare *share = forward->share;
  GArray *due = due_new ();
  GArray *invals = g_array_new (FALSE, FALSE, sizeof (NfInval));
  NfMsg answer = *message;
  NfCallDone done = NULL;
  gpointer arg = NULL;
  gboolean changes = FALSE;
  NfPending *kept = NULL;
  Touched touched = { 0 };

  pthread_mutex_lock (&forward->lock);
  NfPending *pending = g_hash_table_lookup (forward->calls.by_id, &answer.answer.reqid);
  if (pending && !pending->answered && epoch_is_old (&answer))
    pending = NULL; /* it is sent again when this site has subscribed to the new reign */
  if (pending && !pending->answered && pending->buffered)
    answer_write (forward, pending, &answer, due, invals);
  else if (pending && !pending->answered)
    {
      NfFid fid = pending->queue ? pending->queue->fid : NF_FID_NONE;
      drop_abandoned (forward, pending, &answer);
      kept = nf_pending_ref (pending); /* the names in `touched` are its own */
      done = pending->done;
      arg = pending->arg;
      changes = nf_msg_flags (pending->msg->type) & NF_MSG_CHANGES;
      touched_by (pending->msg, &answer, &touched);
      nf_pending_settle (&forward->calls, pending, FALSE);
      go_on (forward, fid, FALSE, due);
    }
  pthread_mutex_unlock (&forward->lock);

  int status = -nf_status_to_errno (answer.answer.status);
  if (status == 0 && changes
      && nf_replica_mark (share->replica, answer.answer.seq, touched.fids, touched.n_fids,
                          touched.names, touched.n_names))
    prefer_local_attr (share, &answer);
  if (done)
    done (arg, status, &answer);
  if (kept)
    {
      pthread_mutex_lock (&forward->lock);
      nf_pending_unref (kept);
      pthread_mutex_unlock (&forward->lock);
    }
  invalidate_all (forward, invals);
  due_run (due);
}

/* ---- links ---- */

/* Answered writes whose op the replica has had, or will never see as one (it compares instead).
 * With the lock. */
static void
forget_applied (NfForward *forward, guint64 seq)
{
  g_autoptr (GPtrArray) gone = g_ptr_array_new ();
  GHashTableIter iter;
  gpointer value;

  g_hash_table_iter_init (&iter, forward->calls.by_id);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    {
      NfPending *pending = value;
      if (pending->answered && pending->data && pending->seq <= seq)
        g_ptr_array_add (gone, pending);
    }
  for (guint i = 0; i < gone->len; i++)
    nf_pending_forget (&forward->calls, gone->pdata[i]);
}

void
nf_forward_peer_up (NfForward *forward)
{
  GArray *due = due_new ();
  guint64 seq = nf_replica_position (forward->share->replica).seq;
  GHashTableIter iter;
  gpointer key;

  pthread_mutex_lock (&forward->share->lock);
  guint64 epoch = forward->share->epoch;
  pthread_mutex_unlock (&forward->share->lock);
  pthread_mutex_lock (&forward->lock);
  nf_pending_unsend_all (&forward->calls);
  forward->up = TRUE;
  forward->epoch = epoch;
  forget_applied (forward, seq);
  g_hash_table_iter_init (&iter, forward->holds);
  while (g_hash_table_iter_next (&iter, &key, NULL))
    send_hold (forward, NF_MSG_HOLD, *(guint64 *)key);
  /* In the order of their ids; those in a file's queue go by that queue, which has the same order.
   */
  for (GList *l = forward->calls.order.head; l; l = l->next)
    {
      NfPending *pending = l->data;
      if (!pending->queue && !pending->sent)
        send_pending (forward, pending);
    }
  pump_all (forward, due);
  admit_stalled (forward, due);
  pthread_mutex_unlock (&forward->lock);
  due_run (due);
}

void
nf_forward_peer_down (NfForward *forward)
{
  NfHost *host = forward->share->host;

  pthread_mutex_lock (&forward->lock);
  nf_pending_unsend_all (&forward->calls);
  if (forward->up)
    forward->down_since_ms = host->monotonic_ms (host->data);
  forward->up = FALSE;
  pthread_mutex_unlock (&forward->lock);
  start_deadline (forward);
}

/* ---- flush ---- */

void
nf_forward_flush (NfForward *forward, NfFid fid, NfFile *file, gboolean sync, gboolean datasync,
                  NfCallDone done, gpointer data)
{
  GArray *due = due_new ();

  pthread_mutex_lock (&forward->lock);
  NfPendingFile *queue = nf_pending_file (&forward->calls, fid);
  NfPending *flush = nf_pending_new_flush (file, sync, datasync, done, data);
  if (sync && given_up (forward))
    {
      due_add (due, done, data, -EHOSTUNREACH, 0);
      nf_pending_unref (flush);
    }
  else
    {
      nf_pending_enqueue (&forward->calls,
                          queue ? queue : nf_pending_file_ensure (&forward->calls, fid), flush);
      pump_file (forward, fid, due);
    }
  pthread_mutex_unlock (&forward->lock);
  due_run (due);
}

gboolean
nf_forward_drain (NfForward *forward, guint timeout_ms, char **ret_left)
{
  struct timespec until;

  clock_gettime (CLOCK_REALTIME, &until);
  until.tv_sec += timeout_ms / 1000;
  until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
  if (until.tv_nsec >= 1000000000)
    {
      until.tv_sec++;
      until.tv_nsec -= 1000000000;
    }
  g_autoptr (GString) left = g_string_new (NULL);

  pthread_mutex_lock (&forward->lock);
  int err = 0;
  while (!(g_queue_is_empty (&forward->calls.order) && g_queue_is_empty (&forward->stalled))
         && err != ETIMEDOUT)
    err = pthread_cond_timedwait (&forward->drained, &forward->lock, &until);
  g_autoptr (GHashTable) seen = g_hash_table_new (g_int64_hash, g_int64_equal);
  for (GList *l = forward->calls.order.head; l; l = l->next)
    {
      NfPending *pending = l->data;
      if (!pending->data || !g_hash_table_add (seen, &pending->msg->write.fid))
        continue;
      g_autofree char *path = forward->share->index
                                  ? nf_index_path (forward->share->index, pending->msg->write.fid)
                                  : NULL;
      if (path)
        g_string_append_printf (left, "%s\n", path);
      else
        g_string_append_printf (left, "fid %" G_GUINT64_FORMAT "\n", pending->msg->write.fid);
    }
  pthread_mutex_unlock (&forward->lock);
  if (left->len > 0 && ret_left)
    *ret_left = g_string_free (g_steal_pointer (&left), FALSE);
  return err == 0;
}

/* ---- the overlay, for readers and the replica ---- */

GBytes *
nf_forward_written (NfForward *forward, guint64 reqid)
{
  GBytes *bytes = NULL;

  pthread_mutex_lock (&forward->lock);
  NfPending *pending = g_hash_table_lookup (forward->calls.by_id, &reqid);
  if (pending && pending->data)
    bytes = g_bytes_new_with_free_func (pending->data->data, pending->data->len,
                                        (GDestroyNotify)g_byte_array_unref,
                                        g_byte_array_ref (pending->data));
  pthread_mutex_unlock (&forward->lock);
  return bytes;
}

void
nf_forward_applied (NfForward *forward, guint64 reqid)
{
  GArray *due = due_new ();

  pthread_mutex_lock (&forward->lock);
  NfPending *pending = g_hash_table_lookup (forward->calls.by_id, &reqid);
  if (pending && pending->data)
    {
      pending->applied = TRUE;
      nf_pending_forget (&forward->calls, pending);
      admit_stalled (forward, due);
    }
  pthread_mutex_unlock (&forward->lock);
  due_run (due);
}

gboolean
nf_forward_overlays (NfForward *forward, NfFid fid)
{
  pthread_mutex_lock (&forward->lock);
  NfPendingFile *file = nf_pending_file (&forward->calls, fid);
  gboolean overlays = file && !g_queue_is_empty (&file->overlay);
  pthread_mutex_unlock (&forward->lock);
  return overlays;
}

void
nf_forward_overlay_attr (NfForward *forward, NfAttr *attr)
{
  pthread_mutex_lock (&forward->lock);
  NfPendingFile *file = nf_pending_file (&forward->calls, attr->fid);
  if (file)
    nf_pending_overlay_attr (file, attr);
  pthread_mutex_unlock (&forward->lock);
}

gsize
nf_forward_overlay_read (NfForward *forward, NfFid fid, guint64 offset, guint8 *buffer,
                         gsize length, gsize got)
{
  pthread_mutex_lock (&forward->lock);
  NfPendingFile *file = nf_pending_file (&forward->calls, fid);
  if (file)
    got = nf_pending_overlay_read (file, offset, buffer, length, got);
  pthread_mutex_unlock (&forward->lock);
  return got;
}

void
nf_forward_pending (NfForward *forward, guint64 *ret_calls, guint64 *ret_bytes)
{
  pthread_mutex_lock (&forward->lock);
  *ret_calls = g_queue_get_length (&forward->calls.order);
  *ret_bytes = forward->calls.buffered;
  pthread_mutex_unlock (&forward->lock);
}

/* ---- files ---- */

int
nf_forward_file_error (NfForward *forward, NfFile *file)
{
  pthread_mutex_lock (&forward->lock);
  int error = take_file_error (file);
  pthread_mutex_unlock (&forward->lock);
  return error;
}

void
nf_forward_hold (NfForward *forward, NfFid fid, gboolean told)
{
  pthread_mutex_lock (&forward->lock);
  guint count = GPOINTER_TO_UINT (g_hash_table_lookup (forward->holds, &fid));
  g_hash_table_insert (forward->holds, g_memdup2 (&fid, sizeof fid), GUINT_TO_POINTER (count + 1));
  if (count == 0 && !told)
    send_hold (forward, NF_MSG_HOLD, fid);
  pthread_mutex_unlock (&forward->lock);
}

void
nf_forward_release (NfForward *forward, NfFile *file)
{
  pthread_mutex_lock (&forward->lock);
  for (GList *l = forward->calls.order.head; l; l = l->next)
    if (((NfPending *)l->data)->file == file)
      ((NfPending *)l->data)->file = NULL;
  guint count
      = file->held ? GPOINTER_TO_UINT (g_hash_table_lookup (forward->holds, &file->fid)) : 0;
  if (count > 1)
    g_hash_table_insert (forward->holds, g_memdup2 (&file->fid, sizeof file->fid),
                         GUINT_TO_POINTER (count - 1));
  else if (count == 1)
    {
      g_hash_table_remove (forward->holds, &file->fid);
      send_hold (forward, NF_MSG_DROP, file->fid);
    }
  pthread_mutex_unlock (&forward->lock);
}
