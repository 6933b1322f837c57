// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/forward-internal.h"

#include <errno.h>
#include <sys/stat.h>

#include "sync/claims.h"

/* Far below the longest file of any filesystem. */
#define NF_WRITE_FAR (G_GUINT64_CONSTANT (1) << 40)

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
    case NF_MSG_LOCK:
      return msg->lock.fid;
    case NF_MSG_RETURN:
      return msg->returned.fid;
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

/* Puts a write, for which there is room, into the buffer: the caller may be told that it is done.
 */
void
nf_forward_buffer_write (NfForward *forward, NfFile *file, const NfMsg *msg)
{
  NfPendingCalls *calls = &forward->calls;
  NfPendingFile *queue = nf_pending_file_ensure (calls, msg->write.fid);

  if (!nf_pending_join (calls, queue, msg, file))
    {
      NfPending *pending = nf_pending_new (calls, msg, file, NULL, NULL);
      pending->buffered = TRUE;
      nf_pending_enqueue (calls, queue, pending);
    }
}

static guint64
stall (NfForward *forward, NfFile *file, const NfMsg *msg, NfCallDone done, gpointer data)
{
  NfStalled *stalled = g_new0 (NfStalled, 1);

  stalled->call = nf_msg_dup (msg);
  stalled->file = file;
  stalled->done = done;
  stalled->arg = data;
  stalled->id = forward->calls.next_id++;
  g_queue_push_tail (&forward->stalled, stalled);
  return stalled->id;
}

gboolean
nf_forward_has_room (NfForward *forward, gsize len)
{
  return forward->calls.buffered == 0
         || forward->calls.buffered + len <= forward->share->conf.write_buffer;
}

/* Lets stalled writes into the buffer as far as there is room. With the lock. */
void
nf_forward_admit_stalled (NfForward *forward, GArray *due)
{
  NfStalled *stalled;

  while ((stalled = g_queue_peek_head (&forward->stalled))
         && nf_forward_has_room (forward, stalled->call->write.data.len))
    {
      g_queue_pop_head (&forward->stalled);
      nf_forward_buffer_write (forward, stalled->file, stalled->call);
      nf_forward_due_add (due, stalled->done, stalled->arg, 0, stalled->call->write.data.len);
      nf_forward_pump_file (forward, stalled->call->write.fid, due);
      nf_msg_free (stalled->call);
      g_free (stalled);
    }
}

static void
call_write (NfForward *forward, NfFile *file, const NfMsg *msg, NfCallDone done, gpointer data,
            guint64 *ret_id, GArray *due)
{
  if (!nf_forward_has_room (forward, msg->write.data.len) || !g_queue_is_empty (&forward->stalled))
    {
      *ret_id = stall (forward, file, msg, done, data);
      return;
    }
  int error = nf_forward_take_file_error (file);
  if (error == 0)
    {
      nf_forward_buffer_write (forward, file, msg);
      nf_forward_pump_file (forward, msg->write.fid, due);
    }
  nf_forward_due_add (due, done, data, error, msg->write.data.len);
}

static void
call_other (NfForward *forward, NfFile *file, const NfMsg *msg, NfFid fid, NfCallDone done,
            gpointer data, guint64 *ret_id, GArray *due)
{
  NfPending *pending = nf_pending_new (&forward->calls, msg, file, done, data);
  NfPendingFile *queue = fid != NF_FID_NONE ? nf_pending_file (&forward->calls, fid) : NULL;

  *ret_id = pending->id;
  pending->since_ms = nf_forward_now_ms (forward);
  if (queue || msg->type == NF_MSG_WRITE)
    {
      nf_pending_enqueue (&forward->calls,
                          queue ? queue : nf_pending_file_ensure (&forward->calls, fid), pending);
      nf_forward_pump_file (forward, fid, due);
    }
  else if (forward->up)
    nf_forward_send_pending (forward, pending);
}

/* A change of attributes of a file that this site has just created and holds open is buffered like a write: unpacking
 * an archive then costs a round trip for the create and one for the close. Those that have side effects at the
 * primary (size, killed setuid bits) aren't, nor is what it may refuse: an owner is only given who is it already. BASE:
 * the attributes here. */
static gboolean
may_buffer_setattr (NfShare *share, const NfFile *file, const NfMsg *msg, NfAttr *ret_base,
                    guint64 *ret_taken_over)
{
  const guint32 plain = NF_SET_MODE | NF_SET_UID | NF_SET_GID | NF_SET_ATIME | NF_SET_MTIME
                        | NF_SET_ATIME_NOW | NF_SET_MTIME_NOW | NF_SET_KILL_PRIV;
  const NfAttr *set = &msg->setattr.attr;
  guint32 mask = msg->setattr.mask;
  NfMsg look = { .type = NF_MSG_GETATTR, .getattr.fid = msg->setattr.fid };

  /* What this site has changed and the replica doesn't have yet would not be in the answer. */
  if (msg->type != NF_MSG_SETATTR || !file || !file->created || (mask & ~plain) != 0
      || !nf_replica_serves (share->replica, &look))
    return FALSE;
  *ret_taken_over = nf_forward_taken_over (share->forward);
  if (nf_tree_stat (share->tree, msg->setattr.fid, ret_base) != 0)
    return FALSE;
  nf_forward_overlay_attr (share->forward, *ret_taken_over, -1, ret_base);
  return !((mask & NF_SET_UID) && set->uid != ret_base->uid)
         && !((mask & NF_SET_GID) && set->gid != ret_base->gid)
         && !((mask & NF_SET_KILL_PRIV) && (ret_base->mode & (S_ISUID | S_ISGID)));
}

/* With the lock. */
static void
buffer_setattr (NfForward *forward, NfFile *file, const NfMsg *msg, GArray *due)
{
  NfPending *pending = nf_pending_new (&forward->calls, msg, file, NULL, NULL);

  pending->buffered = TRUE;
  nf_pending_enqueue (&forward->calls, nf_pending_file_ensure (&forward->calls, msg->setattr.fid),
                      pending);
  nf_forward_pump_file (forward, msg->setattr.fid, due);
}

/* Whether a file may be as long as that is for the primary's filesystem to say, before the caller believes it. */
static gboolean
is_far_out (const NfMsg *write)
{
  return write->write.offset > NF_WRITE_FAR - write->write.data.len;
}

/* Who reads the file past us (nf_file_pass()) sees nothing of the write buffer: the write is done when the file has it.
 * What is written back of a mapping has no caller who waits, and the kernel keeps its pages until it is answered: an
 * op that is applied meanwhile, and is to be told, would wait for them. */
static gboolean
may_buffer_write (NfForward *forward, const NfMsg *msg)
{
  guint32 flags = msg->write.flags;

  return !(flags & NF_WRITE_APPEND) && !is_far_out (msg)
         && ((flags & NF_WRITE_OF_MAPPING)
             || !nf_opens_passed (forward->share->opens, msg->write.fid));
}

/* The hold that goes with a CREATE is counted when the file is opened, at once behind it. */
void
nf_forward_call (NfForward *forward, NfFile *file, const NfMsg *call, NfCallDone done,
                 gpointer data, guint64 *ret_id)
{
  NfShare *share = forward->share;
  GArray *due = nf_forward_due_new ();
  NfMsg msg = *call;
  NfFid fid = ordered_fid (share, call);
  guint64 id = 0;
  NfMsg told = { .type = NF_MSG_ANSWER };
  gboolean tell = FALSE;
  guint64 taken_over = 0;

  nf_forward_complete_head (forward, &msg);
  if (file && g_atomic_int_get (&file->locked))
    msg.head.session = nf_claims_session (share->claims, file);
  if (msg.type == NF_MSG_WRITE)
    msg.write.flags &= ~(guint32)NF_WRITE_OF_MAPPING;
  gboolean buffer = may_buffer_setattr (share, file, &msg, &told.answer.attr, &taken_over);
  pthread_mutex_lock (&forward->lock);
  gboolean down = !forward->up;
  if (nf_forward_given_up (forward) || forward->closing)
    nf_forward_due_add (due, done, data, -EHOSTUNREACH, 0);
  else if (call->type == NF_MSG_WRITE && may_buffer_write (forward, call))
    call_write (forward, file, &msg, done, data, &id, due);
  else if (buffer)
    {
      buffer_setattr (forward, file, &msg, due);
      tell = TRUE;
    }
  else
    {
      if (call->type == NF_MSG_COPY && nf_pending_file (&forward->calls, call->copy.fid))
        fid = call->copy.fid;
      call_other (forward, file, &msg, fid, done, data, &id, due);
    }
  if (ret_id) /* before an answer can come, after which the caller's memory may be gone */
    *ret_id = id;
  nf_forward_watch (forward);
  pthread_mutex_unlock (&forward->lock);
  if (tell)
    {
      /* It may have been answered and applied already: then it is in the tree, and nothing to lay over any more. */
      nf_forward_overlay_attr (forward, taken_over, -1, &told.answer.attr);
      done (data, 0, &told);
    }
  if (down)
    share->host->redial (share->host->data, share->conf.primary);
  nf_forward_due_run (due);
}

static gboolean
cancel_stalled (NfForward *forward, guint64 id, GArray *due)
{
  for (GList *l = forward->stalled.head; l; l = l->next)
    {
      NfStalled *stalled = l->data;
      if (stalled->id != id)
        continue;
      nf_forward_due_add (due, stalled->done, stalled->arg, -EINTR, 0);
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
  GArray *due = nf_forward_due_new ();
  gboolean lock = FALSE; /* whether it is given is for the primary to say */

  pthread_mutex_lock (&forward->lock);
  NfPending *pending = g_hash_table_lookup (forward->calls.by_id, &id);
  if (!pending)
    lock = !cancel_stalled (forward, id, due);
  else if (pending->sent && pending->msg && pending->msg->type == NF_MSG_LOCK)
    lock = TRUE;
  else if (pending->done)
    {
      nf_forward_due_add (due, pending->done, pending->arg, -EINTR, 0);
      pending->done = NULL;
      if (pending->was_sent)
        forward->lost_upto = MAX (forward->lost_upto, id);
      if (!pending->sent)
        {
          NfFid fid = pending->queue ? pending->queue->fid : NF_FID_NONE;
          nf_pending_settle (&forward->calls, pending, FALSE);
          nf_forward_pump_file (forward, fid, due);
        }
    }
  pthread_mutex_unlock (&forward->lock);
  if (lock)
    nf_claims_interrupt (forward->share->claims, id);
  nf_forward_unpark_call (forward, id);
  nf_forward_due_run (due);
}
