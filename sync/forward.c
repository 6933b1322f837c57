// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/forward-internal.h"

#include <errno.h>
#include <string.h>

#include "sync/claims.h"

#define FIRST_ID_CHANCE_BITS 31

/* Calls of this site that the primary carries out.
 *
 * A call is kept until its answer is here, and sent again with its id whenever the link is new; the
 * primary carries it out once. A write is told to the caller as done when it lies in the buffer;
 * flush (close, fsync) collects the outcome. What is in the buffer is laid over the replica for
 * readers of this site until the replica has applied it (G3).
 *
 * Deadlines: with the link up a call waits for its answer, since heartbeats find a dead link. With the link down a call
 * fails with EHOSTUNREACH call_timeout after it was made (the link having had a moment to come back), and when the
 * link has been down for call_timeout everything does, and every later call at once.
 *
 * Lock order: `lock` is innermost but for the opens'; `done` callbacks, sends and calls to the
 * replica are made without it. */

GArray *
nf_forward_due_new (void)
{
  return g_array_new (FALSE, FALSE, sizeof (NfForwardDue));
}

void
nf_forward_due_add (GArray *due, NfCallDone done, gpointer arg, int status, guint64 value)
{
  NfForwardDue item = { done, arg, status, value };

  if (done)
    g_array_append_val (due, item);
}

/* Without the lock. */
void
nf_forward_due_run (GArray *due)
{
  for (guint i = 0; i < due->len; i++)
    {
      NfForwardDue *item = &g_array_index (due, NfForwardDue, i);
      NfMsg answer = { .type = NF_MSG_ANSWER };
      answer.answer.value = item->value;
      item->done (item->arg, item->status, &answer);
    }
  g_array_unref (due);
}

/* The primary takes an id that it knows for a call that comes once more, so those of former lives must not come again.
 * The time keeps them growing, by which the primary forgets them; chance keeps them apart where a clock was set back. */
static guint64
first_id (NfHost *host)
{
  guint64 seconds = (guint64)host->realtime_ns (host->data) / 1000000000;

  return seconds << FIRST_ID_CHANCE_BITS | host->random (host->data) >> (32 - FIRST_ID_CHANCE_BITS);
}

NfForward *
nf_forward_new (NfShare *share)
{
  NfForward *forward = g_new0 (NfForward, 1);
  NfHost *host = share->host;

  forward->share = share;
  pthread_mutex_init (&forward->lock, NULL);
  pthread_cond_init (&forward->drained, NULL);
  nf_pending_calls_init (&forward->calls, first_id (host));
  forward->lost_upto = forward->calls.next_id - 1;
  g_queue_init (&forward->stalled);
  g_queue_init (&forward->parked);
  forward->holds = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
  forward->unsynced = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, g_free);
  forward->down_since_ms = host->monotonic_ms (host->data);
  return forward;
}
void
nf_forward_send_pending (NfForward *forward, NfPending *pending)
{
  NfShare *share = forward->share;

  if (pending->msg->type == NF_MSG_FSYNC)
    nf_forward_fill_fsync (forward, pending->msg);
  NfMsg msg = *pending->msg;
  if (pending->data)
    msg.write.data = nf_slice (pending->data->data, pending->data->len);
  msg.head.epoch = forward->epoch;
  msg.head.acked = nf_pending_acked (&forward->calls);
  nf_pending_mark_sent (&forward->calls, pending);
  if (!share->host->send (share->host->data, share->conf.primary, pending->bulk, &msg))
    forward->up = FALSE; /* peer_down follows; it is sent again when the link is back */
}

/* Fills what the caller's head doesn't have. */
void
nf_forward_complete_head (NfForward *forward, NfMsg *msg)
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

  nf_forward_complete_head (forward, &msg);
  msg.fsync.fid = fid;
  msg.fsync.datasync = flush->datasync;
  NfPending *sync = nf_pending_new (&forward->calls, &msg, flush->file, flush->done, flush->arg);
  sync->since_ms = flush->since_ms;
  if (forward->up)
    nf_forward_send_pending (forward, sync);
}

int
nf_forward_take_file_error (NfFile *file)
{
  int error = file ? file->error : 0;

  if (file)
    file->error = 0;
  return error;
}

static void
settle_flush (NfForward *forward, NfPending *flush, NfFid fid, GArray *due)
{
  int error = nf_forward_take_file_error (flush->file);

  if (error == 0 && flush->sync && nf_forward_given_up (forward))
    error = -EHOSTUNREACH;
  if (error == 0 && flush->sync)
    begin_sync (forward, flush, fid);
  else
    nf_forward_due_add (due, flush->done, flush->arg, error, 0);
  nf_pending_settle (&forward->calls, flush, FALSE);
}

/* Sends what of FID may be sent. With the lock. */
void
nf_forward_pump_file (NfForward *forward, NfFid fid, GArray *due)
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
        nf_forward_send_pending (forward, next);
      else
        return;
    }
}

void
nf_forward_pump_all (NfForward *forward, GArray *due)
{
  g_autofree guint64 *fids = g_new0 (guint64, g_hash_table_size (forward->calls.by_fid) + 1);
  guint n = 0;
  GHashTableIter iter;
  gpointer key;

  g_hash_table_iter_init (&iter, forward->calls.by_fid);
  while (g_hash_table_iter_next (&iter, &key, NULL))
    fids[n++] = *(guint64 *)key;
  for (guint i = 0; i < n; i++)
    nf_forward_pump_file (forward, fids[i], due);
}
gint64
nf_forward_now_ms (NfForward *forward)
{
  NfHost *host = forward->share->host;

  return host->monotonic_ms (host->data);
}

gboolean
nf_forward_given_up (NfForward *forward)
{
  return !forward->up
         && nf_forward_now_ms (forward) - forward->down_since_ms
                >= (gint64)forward->share->conf.call_timeout_ms;
}

static void
inval_clear (gpointer data)
{
  NfInval *inval = data;

  g_free ((gpointer)inval->name.data);
}

GArray *
nf_forward_invals_new (void)
{
  GArray *invals = g_array_new (FALSE, FALSE, sizeof (NfInval));

  g_array_set_clear_func (invals, inval_clear);
  return invals;
}

/* PENDING comes to nothing, as far as is known here. A buffered write's error waits for the next flush of its handle.
 * What the kernel has cached may not be so, now or when the op comes that is PENDING's after all. With the lock. */
void
nf_forward_fail_pending (NfForward *forward, NfPending *pending, int error, GArray *due,
                         GArray *ret_invals)
{
  const NfMsg none = { .type = NF_MSG_ANSWER };

  if (nf_msg_flags (pending->msg->type) & NF_MSG_CHANGES)
    {
      nf_forward_add_touched (ret_invals, pending->msg, &none);
      forward->lost_upto = MAX (forward->lost_upto, pending->id);
    }
  if (pending->buffered && pending->file)
    pending->file->error = error;
  nf_forward_due_add (due, pending->done, pending->arg, error, 0);
  nf_pending_settle (&forward->calls, pending, FALSE);
}

void
nf_forward_invalidate_all (NfForward *forward, GArray *invals)
{
  for (guint i = 0; i < invals->len; i++) /* with none, the share may be gone already */
    forward->share->host->invalidate (forward->share->host->data, forward->share,
                                      &g_array_index (invals, NfInval, i));
  g_array_unref (invals);
}

static void
fail_stalled (NfForward *forward, int error, GArray *due)
{
  NfStalled *stalled;

  while ((stalled = g_queue_pop_head (&forward->stalled)))
    {
      nf_forward_due_add (due, stalled->done, stalled->arg, error, 0);
      nf_msg_free (stalled->call);
      g_free (stalled);
    }
}

static void
fail_everything (NfForward *forward, int error)
{
  GArray *due = nf_forward_due_new ();
  GArray *invals = nf_forward_invals_new ();
  NfPending *pending;

  pthread_mutex_lock (&forward->lock);
  while ((pending = g_queue_peek_head (&forward->calls.order)))
    nf_forward_fail_pending (forward, pending, error, due, invals);
  nf_forward_pump_all (forward, due); /* the flushes behind them */
  fail_stalled (forward, error, due);
  pthread_cond_broadcast (&forward->drained);
  pthread_mutex_unlock (&forward->lock);
  nf_forward_invalidate_all (forward, invals);
  nf_forward_due_run (due);
}

void
nf_forward_unref (NfForward *forward)
{
  pthread_mutex_lock (&forward->lock);
  gboolean last = --forward->refs < 0;
  pthread_mutex_unlock (&forward->lock);
  if (!last)
    return;
  nf_pending_calls_clear (&forward->calls);
  g_hash_table_unref (forward->holds);
  g_hash_table_unref (forward->unsynced);
  pthread_mutex_destroy (&forward->lock);
  pthread_cond_destroy (&forward->drained);
  g_free (forward);
}

/* A link that breaks gets this long to come back, however long the call has waited before. */
#define GRACE_MS 1000
/* How often what waits for the link is looked at while it is down. */
#define CHECK_MS 200

/* A caller waits for PENDING: until call_timeout after it came. (What nobody waits for, the buffered, is given
 * call_timeout from when the link broke.) With the lock. */
static gboolean
is_due (NfForward *forward, const NfPending *pending, gint64 now_ms)
{
  gint64 timeout_ms = (gint64)forward->share->conf.call_timeout_ms;

  return now_ms - pending->since_ms >= timeout_ms
         && now_ms - forward->down_since_ms >= MIN (GRACE_MS, timeout_ms);
}

/* The flush in FILE's queue that has waited too long, or NULL. */
static NfPending *
overdue_flush (NfForward *forward, NfPendingFile *file, gint64 now_ms)
{
  for (GList *l = file->queue.head; l; l = l->next)
    {
      NfPending *pending = l->data;
      if (!pending->msg && is_due (forward, pending, now_ms))
        return pending;
    }
  return NULL;
}

/* A close() or fsync() that fails says that the file's writes failed: so they do. With the lock. */
static void
fail_file (NfForward *forward, NfPending *flush, GArray *due, GArray *invals)
{
  NfPendingFile *file = flush->queue;
  NfPending *first;

  while ((first = g_queue_peek_head (&file->queue)) && first != flush)
    {
      if (first->msg)
        nf_forward_fail_pending (forward, first, -EHOSTUNREACH, due, invals);
      else
        {
          nf_forward_due_add (due, first->done, first->arg, -EHOSTUNREACH, 0);
          nf_pending_settle (&forward->calls, first, FALSE);
        }
    }
  nf_forward_due_add (due, flush->done, flush->arg, -EHOSTUNREACH, 0);
  nf_pending_settle (&forward->calls, flush, FALSE);
}

static void
fail_overdue (NfForward *forward, gint64 now_ms, GArray *due, GArray *invals)
{
  g_autoptr (GPtrArray) over = g_ptr_array_new ();
  GHashTableIter iter;
  gpointer value;

  for (GList *l = forward->calls.order.head; l; l = l->next)
    {
      NfPending *pending = l->data;
      if (!pending->buffered && is_due (forward, pending, now_ms))
        g_ptr_array_add (over, pending);
    }
  for (guint i = 0; i < over->len; i++)
    nf_forward_fail_pending (forward, over->pdata[i], -EHOSTUNREACH, due, invals);
  g_ptr_array_set_size (over, 0);
  g_hash_table_iter_init (&iter, forward->calls.by_fid);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    {
      NfPending *flush = overdue_flush (forward, value, now_ms);
      if (flush)
        g_ptr_array_add (over, flush);
    }
  for (guint i = 0; i < over->len; i++)
    fail_file (forward, over->pdata[i], due, invals);
  nf_forward_pump_all (forward, due);
}

static gboolean
anything_waits (NfForward *forward)
{
  return !g_queue_is_empty (&forward->calls.order) || !g_queue_is_empty (&forward->stalled)
         || g_hash_table_size (forward->calls.by_fid) > 0;
}

static void check_deadlines (gpointer arg);

/* With the lock, after every change that makes something wait or the link go. */
void
nf_forward_watch (NfForward *forward)
{
  NfHost *host = forward->share->host;

  if (forward->up || forward->closing || forward->watched || !anything_waits (forward))
    return;
  forward->watched = TRUE;
  forward->refs++;
  host->post_after (host->data, CHECK_MS, check_deadlines, forward);
}

static void
check_deadlines (gpointer arg)
{
  NfForward *forward = arg;
  GArray *due = nf_forward_due_new ();
  GArray *invals = nf_forward_invals_new ();
  gboolean over = FALSE;

  pthread_mutex_lock (&forward->lock);
  forward->watched = FALSE;
  if (!forward->closing && !forward->up)
    {
      over = nf_forward_given_up (forward);
      if (!over)
        fail_overdue (forward, nf_forward_now_ms (forward), due, invals);
      if (!over)
        nf_forward_watch (forward);
    }
  pthread_cond_broadcast (&forward->drained);
  pthread_mutex_unlock (&forward->lock);
  nf_forward_invalidate_all (forward, invals);
  nf_forward_due_run (due);
  if (over)
    fail_everything (forward, -EHOSTUNREACH);
  nf_forward_unref (forward);
}

void
nf_forward_free (NfForward *forward)
{
  pthread_mutex_lock (&forward->lock);
  forward->closing = TRUE;
  forward->up = FALSE;
  pthread_mutex_unlock (&forward->lock);
  nf_forward_unpark_all (forward);
  fail_everything (forward, -EHOSTUNREACH);
  nf_forward_unref (forward);
}
void
nf_forward_peer_up (NfForward *forward)
{
  GArray *due = nf_forward_due_new ();
  GArray *invals = nf_forward_invals_new ();
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
  nf_claims_peer_up (forward->share->claims); /* what is sent again may be under locks */
  nf_forward_forget_answered (forward, seq,
                              invals); /* they were applied, or are compared instead */
  g_hash_table_iter_init (&iter, forward->holds);
  while (g_hash_table_iter_next (&iter, &key, NULL))
    nf_forward_send_hold (forward, NF_MSG_HOLD, *(guint64 *)key);
  /* In the order of their ids; those in a file's queue go by that queue, which has the same order.
   */
  for (GList *l = forward->calls.order.head; l; l = l->next)
    {
      NfPending *pending = l->data;
      if (!pending->queue && !pending->sent)
        nf_forward_send_pending (forward, pending);
    }
  nf_forward_pump_all (forward, due);
  nf_forward_admit_stalled (forward, due);
  pthread_mutex_unlock (&forward->lock);
  nf_forward_invalidate_all (forward, invals);
  nf_forward_due_run (due);
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
  nf_forward_watch (forward);
  pthread_mutex_unlock (&forward->lock);
}
