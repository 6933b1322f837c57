// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/forward-internal.h"

#include <errno.h>
#include <time.h>

void
nf_forward_flush (NfForward *forward, NfFid fid, NfFile *file, gboolean sync, gboolean datasync,
                  NfCallDone done, gpointer data)
{
  GArray *due = nf_forward_due_new ();

  pthread_mutex_lock (&forward->lock);
  NfPendingFile *queue = nf_pending_file (&forward->calls, fid);
  NfPending *flush = nf_pending_new_flush (file, sync, datasync, done, data);
  flush->since_ms = nf_forward_now_ms (forward);
  if (sync && nf_forward_given_up (forward))
    {
      nf_forward_due_add (due, done, data, -EHOSTUNREACH, 0);
      nf_pending_unref (flush);
    }
  else
    {
      nf_pending_enqueue (&forward->calls,
                          queue ? queue : nf_pending_file_ensure (&forward->calls, fid), flush);
      nf_forward_pump_file (forward, fid, due);
      nf_forward_watch (forward);
    }
  pthread_mutex_unlock (&forward->lock);
  nf_forward_due_run (due);
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
        continue; /* only what somebody wrote and believes written */
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

gboolean
nf_forward_told (NfForward *forward, guint64 reqid)
{
  pthread_mutex_lock (&forward->lock);
  gboolean told = reqid > forward->lost_upto && reqid < forward->calls.next_id;
  pthread_mutex_unlock (&forward->lock);
  return told;
}

void
nf_forward_applied (NfForward *forward, guint64 reqid)
{
  GArray *due = nf_forward_due_new ();

  pthread_mutex_lock (&forward->lock);
  NfPending *pending = g_hash_table_lookup (forward->calls.by_id, &reqid);
  if (pending && (pending->data || pending->buffered))
    {
      pending->applied = TRUE;
      forward->taken_over++;
      nf_pending_forget (&forward->calls, pending);
      nf_forward_admit_stalled (forward, due);
    }
  pthread_mutex_unlock (&forward->lock);
  nf_forward_due_run (due);
}

void
nf_forward_forget_answered (NfForward *forward, guint64 seq, GArray *invals)
{
  g_autoptr (GPtrArray) gone = g_ptr_array_new ();
  GHashTableIter iter;
  gpointer value;

  g_hash_table_iter_init (&iter, forward->calls.by_id);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    {
      NfPending *pending = value;
      if (pending->answered && pending->buffered && pending->seq <= seq)
        g_ptr_array_add (gone, pending);
    }
  for (guint i = 0; i < gone->len; i++)
    {
      nf_forward_uncover (forward, nf_pending_fid (gone->pdata[i]), invals);
      nf_pending_forget (&forward->calls, gone->pdata[i]);
    }
}

void
nf_forward_parted (NfForward *forward)
{
  GArray *due = nf_forward_due_new ();
  GArray *invals = nf_forward_invals_new ();

  pthread_mutex_lock (&forward->lock);
  nf_forward_forget_answered (forward, G_MAXUINT64, invals);
  nf_forward_admit_stalled (forward, due);
  pthread_mutex_unlock (&forward->lock);
  nf_forward_invalidate_all (forward, invals);
  nf_forward_due_run (due);
}

gboolean
nf_forward_overlays (NfForward *forward, NfFid fid)
{
  pthread_mutex_lock (&forward->lock);
  NfPendingFile *file = nf_pending_file (&forward->calls, fid);
  gboolean overlays = file && nf_pending_overlays_content (file);
  pthread_mutex_unlock (&forward->lock);
  return overlays;
}

guint64
nf_forward_taken_over (NfForward *forward)
{
  pthread_mutex_lock (&forward->lock);
  guint64 taken_over = forward->taken_over;
  pthread_mutex_unlock (&forward->lock);
  return taken_over;
}

/* Lays what is under way over ATTR. Returns what nf_forward_taken_over() says at that moment. */
static guint64
lay_over (NfForward *forward, NfAttr *attr)
{
  pthread_mutex_lock (&forward->lock);
  guint64 taken_over = forward->taken_over;
  NfPendingFile *file = nf_pending_file (&forward->calls, attr->fid);
  if (file)
    nf_pending_overlay_attr (file, 0, attr);
  pthread_mutex_unlock (&forward->lock);
  return taken_over;
}

void
nf_forward_overlay_attr (NfForward *forward, guint64 before, int fd, NfAttr *attr)
{
  NfTree *tree = forward->share->tree;
  guint64 now;

  while ((now = lay_over (forward, attr)) != before)
    {
      NfAttr again;
      int err = fd >= 0 ? nf_tree_fstat (tree, fd, attr->fid, &again)
                        : nf_tree_stat (tree, attr->fid, &again);
      if (err != 0)
        return; /* gone meanwhile */
      *attr = again;
      before = now;
    }
}

gssize
nf_forward_overlay_read (NfForward *forward, NfFid fid, guint64 before, guint64 offset,
                         guint8 *buffer, gsize length, gsize got)
{
  pthread_mutex_lock (&forward->lock);
  gboolean again = forward->taken_over != before;
  NfPendingFile *file = again ? NULL : nf_pending_file (&forward->calls, fid);
  if (file)
    got = nf_pending_overlay_read (file, offset, buffer, length, got);
  pthread_mutex_unlock (&forward->lock);
  return again ? -EAGAIN : (gssize)got;
}

void
nf_forward_pending (NfForward *forward, guint64 *ret_calls, guint64 *ret_bytes)
{
  pthread_mutex_lock (&forward->lock);
  *ret_calls = g_queue_get_length (&forward->calls.order);
  *ret_bytes = forward->calls.buffered;
  pthread_mutex_unlock (&forward->lock);
}
int
nf_forward_file_error (NfForward *forward, NfFile *file)
{
  pthread_mutex_lock (&forward->lock);
  int error = nf_forward_take_file_error (file);
  pthread_mutex_unlock (&forward->lock);
  return error;
}
