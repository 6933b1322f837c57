// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/forward-internal.h"

/* Answers that wait for the replica.
 *
 * Elsewhere a call returns on the primary's answer: what its op changes, and isn't applied here yet, is laid over the
 * replica or read from the primary (G3). But where the kernel reads a file past us (nf_file_pass()) there is nothing
 * to lay over. So the answer to a call that changed such a file's content waits until the op is applied, which it nearly
 * always is, since ops come before answers; it isn't while they lie at the gate or wait for content.
 *
 * This is an exception to the rule that no answer waits for an invalidation, for the gate is closed by one. It holds up
 * nobody, because such a call holds nothing that the kernel needs to be told: it is a write past the page cache, or a
 * change of size or of a range, for which the file's own lock is held, and no page's and no directory's. (But a change
 * of size holds up the write-back of a mapping that was stored in; if that has to be told of just then, the timeout
 * below ends it.)
 *
 * An answer waits for the call's timeout at most, and not when its caller is interrupted: it was carried out. A replica
 * that can't apply anything, having no space, shows it late then to those who read past us. */

typedef struct
{
  guint64 id;
  guint64 seq;
  gint64 until_ms;
  NfAttr attr;
  guint64 value;
  NfCallDone done;
  gpointer arg;
} Parked;

typedef enum
{
  APPLIED,
  OVERDUE,
  CALL, /* with that id */
  ANY,
} Which;

/* Without the lock, which isn't held when the replica is asked. */
static gboolean
is_ready (NfForward *forward, const Parked *parked, Which which, guint64 id)
{
  switch (which)
    {
    case APPLIED:
      return nf_replica_has_applied (forward->share->replica, parked->seq);
    case OVERDUE:
      return nf_forward_now_ms (forward) >= parked->until_ms;
    case CALL:
      return parked->id == id;
    case ANY:
      break;
    }
  return TRUE;
}

static void
answer (const Parked *parked)
{
  NfMsg msg = { .type = NF_MSG_ANSWER };

  msg.answer.seq = parked->seq;
  msg.answer.attr = parked->attr;
  msg.answer.value = parked->value;
  parked->done (parked->arg, 0, &msg);
}

static gint
compare_id (gconstpointer parked, gconstpointer id)
{
  return ((const Parked *)parked)->id != *(const guint64 *)id;
}

/* NULL: another thread has taken it. */
static Parked *
take (NfForward *forward, guint64 id)
{
  Parked *parked = NULL;

  pthread_mutex_lock (&forward->lock);
  GList *link = g_queue_find_custom (&forward->parked, &id, compare_id);
  if (link)
    {
      parked = link->data;
      g_queue_delete_link (&forward->parked, link);
      g_atomic_int_set (&forward->n_parked, (gint)forward->parked.length);
    }
  pthread_mutex_unlock (&forward->lock);
  return parked;
}

static void
unpark (NfForward *forward, Which which, guint64 id)
{
  g_autoptr (GArray) all = NULL;

  if (g_atomic_int_get (&forward->n_parked) == 0)
    return;
  all = g_array_new (FALSE, FALSE, sizeof (Parked));
  pthread_mutex_lock (&forward->lock);
  for (GList *l = forward->parked.head; l; l = l->next)
    g_array_append_vals (all, l->data, 1);
  pthread_mutex_unlock (&forward->lock);
  for (guint i = 0; i < all->len; i++)
    {
      const Parked *one = &g_array_index (all, Parked, i);
      g_autofree Parked *parked
          = is_ready (forward, one, which, id) ? take (forward, one->id) : NULL;
      if (parked)
        answer (parked);
    }
}

void
nf_forward_unpark (NfForward *forward)
{
  unpark (forward, APPLIED, 0);
}

void
nf_forward_unpark_call (NfForward *forward, guint64 id)
{
  unpark (forward, CALL, id);
}

void
nf_forward_unpark_all (NfForward *forward)
{
  unpark (forward, ANY, 0);
}

static void
on_timeout (gpointer arg)
{
  unpark (arg, OVERDUE, 0);
  nf_forward_unref (arg);
}

/* The fid whose content CALL changes, or NF_FID_NONE. (A CREATE that truncates a file which the kernel didn't know under
 * that name holds a directory's lock.) */
static NfFid
changed_content (const NfMsg *call)
{
  switch (call->type)
    {
    case NF_MSG_WRITE:
      return call->write.fid;
    case NF_MSG_FALLOCATE:
      return call->fallocate.fid;
    case NF_MSG_COPY:
      return call->copy.fid;
    case NF_MSG_SETATTR:
      return call->setattr.mask & NF_SET_SIZE ? call->setattr.fid : NF_FID_NONE;
    default:
      return NF_FID_NONE;
    }
}

gboolean
nf_forward_park (NfForward *forward, guint64 id, const NfMsg *call, const NfMsg *message,
                 NfCallDone done, gpointer arg)
{
  NfHost *host = forward->share->host;
  guint timeout_ms = forward->share->conf.call_timeout_ms;
  guint64 seq = message->answer.seq;
  NfFid fid = changed_content (call);

  if (fid == NF_FID_NONE || !nf_opens_passed (forward->share->opens, fid)
      || nf_replica_has_applied (forward->share->replica, seq))
    return FALSE;
  Parked *parked = g_new (Parked, 1);
  *parked = (Parked){ .id = id,
                      .seq = seq,
                      .until_ms = nf_forward_now_ms (forward) + timeout_ms,
                      .attr = message->answer.attr,
                      .value = message->answer.value,
                      .done = done,
                      .arg = arg };
  pthread_mutex_lock (&forward->lock);
  gboolean closing = forward->closing;
  if (closing)
    g_free (parked);
  else
    {
      g_queue_push_tail (&forward->parked, parked);
      g_atomic_int_set (&forward->n_parked, (gint)forward->parked.length);
      forward->refs++;
      host->post_after (host->data, timeout_ms, on_timeout, forward);
    }
  pthread_mutex_unlock (&forward->lock);
  if (!closing)
    nf_forward_unpark (forward); /* it may have been applied meanwhile */
  return !closing;
}
