// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/pending-calls.h"

#include <string.h>
#include <sys/stat.h>

/* What some bytes take up on most disks, in units of 512. */
#define BLOCKS_LEAST 8

static void
pending_file_free (gpointer data)
{
  NfPendingFile *file = data;

  g_queue_clear (&file->queue);
  g_queue_clear_full (&file->overlay, (GDestroyNotify)nf_pending_unref);
  g_free (file);
}

void
nf_pending_calls_init (NfPendingCalls *calls, guint64 first_id)
{
  *calls = (NfPendingCalls){ .next_id = first_id };
  calls->by_id
      = g_hash_table_new_full (g_int64_hash, g_int64_equal, NULL, (GDestroyNotify)nf_pending_unref);
  calls->by_fid = g_hash_table_new_full (g_int64_hash, g_int64_equal, NULL, pending_file_free);
  g_queue_init (&calls->order);
}

void
nf_pending_calls_clear (NfPendingCalls *calls)
{
  g_queue_clear (&calls->order);
  g_hash_table_unref (calls->by_fid);
  g_hash_table_unref (calls->by_id);
}

NfPending *
nf_pending_new (NfPendingCalls *calls, const NfMsg *msg, NfFile *file, NfCallDone done,
                gpointer arg)
{
  NfPending *pending = g_new0 (NfPending, 1);
  NfMsg shallow = *msg;

  pending->refs = 1;
  pending->id = calls->next_id++;
  pending->file = file;
  pending->done = done;
  pending->arg = arg;
  if (msg->type == NF_MSG_WRITE)
    {
      pending->data = g_byte_array_sized_new (msg->write.data.len);
      g_byte_array_append (pending->data, msg->write.data.data, msg->write.data.len);
      shallow.write.data = NF_SLICE_NONE;
      calls->buffered += pending->data->len;
    }
  shallow.head.reqid = pending->id;
  pending->msg = nf_msg_dup (&shallow);
  g_hash_table_insert (calls->by_id, &pending->id, pending);
  g_queue_push_tail (&calls->order, pending);
  return pending;
}

NfPending *
nf_pending_new_flush (NfFile *file, gboolean sync, gboolean datasync, NfCallDone done, gpointer arg)
{
  NfPending *pending = g_new0 (NfPending, 1);

  pending->refs = 1;
  pending->file = file;
  pending->sync = sync;
  pending->datasync = datasync;
  pending->done = done;
  pending->arg = arg;
  return pending;
}

NfPending *
nf_pending_ref (NfPending *pending)
{
  pending->refs++;
  return pending;
}

void
nf_pending_unref (NfPending *pending)
{
  if (--pending->refs > 0)
    return;
  if (pending->msg)
    nf_msg_free (pending->msg);
  if (pending->data)
    g_byte_array_unref (pending->data);
  g_free (pending);
}

NfPendingFile *
nf_pending_file (NfPendingCalls *calls, NfFid fid)
{
  return g_hash_table_lookup (calls->by_fid, &fid);
}

NfPendingFile *
nf_pending_file_ensure (NfPendingCalls *calls, NfFid fid)
{
  NfPendingFile *file = nf_pending_file (calls, fid);

  if (!file)
    {
      file = g_new0 (NfPendingFile, 1);
      file->fid = fid;
      g_queue_init (&file->queue);
      g_queue_init (&file->overlay);
      g_hash_table_insert (calls->by_fid, &file->fid, file);
    }
  return file;
}

void
nf_pending_file_release (NfPendingCalls *calls, NfPendingFile *file)
{
  if (g_queue_is_empty (&file->queue) && g_queue_is_empty (&file->overlay))
    g_hash_table_remove (calls->by_fid, &file->fid);
}

void
nf_pending_enqueue (NfPendingCalls *calls, NfPendingFile *file, NfPending *pending)
{
  (void)calls;
  pending->queue = file;
  g_queue_push_tail (&file->queue, pending);
  if (pending->buffered)
    g_queue_push_tail (&file->overlay, nf_pending_ref (pending));
}

gboolean
nf_pending_join (NfPendingCalls *calls, NfPendingFile *file, const NfMsg *msg, NfFile *handle)
{
  NfPending *last = g_queue_peek_tail (&file->queue);

  if (!last || last->sent || !last->data || !last->buffered || last->file != handle)
    return FALSE;
  if (last->msg->head.uid != msg->head.uid || last->msg->head.gid != msg->head.gid
      || last->msg->write.flags != msg->write.flags)
    return FALSE;
  if (last->msg->write.offset + last->data->len != msg->write.offset
      || last->data->len + msg->write.data.len > NF_DATA_MAX)
    return FALSE;
  g_byte_array_append (last->data, msg->write.data.data, msg->write.data.len);
  last->msg->head.clock = msg->head.clock;
  calls->buffered += msg->write.data.len;
  return TRUE;
}

NfFid
nf_pending_fid (const NfPending *pending)
{
  return pending->msg->type == NF_MSG_SETATTR ? pending->msg->setattr.fid : pending->msg->write.fid;
}

/* How many bytes of writes stand in the queue from LINK on, unsent; counted only as far as it
 * matters. */
static gsize
unsent_bytes (GList *link)
{
  gsize sum = 0;

  for (; link && sum < NF_BULK_MIN; link = link->next)
    {
      NfPending *pending = link->data;
      if (!pending->data)
        break;
      sum += pending->data->len;
    }
  return sum;
}

NfPending *
nf_pending_next (NfPendingCalls *calls, NfPendingFile *file)
{
  NfPending *before = NULL;

  for (GList *l = file->queue.head; l; l = l->next)
    {
      NfPending *pending = l->data;
      if (pending->sent)
        {
          before = pending;
          continue;
        }
      if (!pending->msg)
        return before ? NULL : pending;
      gboolean bulk = before && before->bulk ? pending->buffered
                                             : pending->data && unsent_bytes (l) >= NF_BULK_MIN;
      if (before && before->bulk != bulk)
        return NULL; /* the connections don't keep order between them: wait for the answers */
      if (pending->data && !bulk && calls->ops_inflight > 0
          && calls->ops_inflight + pending->data->len > NF_OPS_WINDOW)
        return NULL;
      pending->bulk = bulk;
      return pending;
    }
  return NULL;
}

void
nf_pending_mark_sent (NfPendingCalls *calls, NfPending *pending)
{
  pending->sent = pending->was_sent = TRUE;
  if (pending->data && !pending->bulk)
    calls->ops_inflight += pending->data->len;
}

static void
unsend (NfPendingCalls *calls, NfPending *pending)
{
  if (pending->sent && pending->data && !pending->bulk)
    calls->ops_inflight -= pending->data->len;
  pending->sent = FALSE;
}

void
nf_pending_settle (NfPendingCalls *calls, NfPending *pending, gboolean keep)
{
  NfPendingFile *file = pending->queue;
  NfFid fid = file ? file->fid : NF_FID_NONE;

  unsend (calls, pending);
  pending->sent = TRUE;
  pending->answered = TRUE;
  if (file)
    g_queue_remove (&file->queue, pending);
  g_queue_remove (&calls->order, pending);
  pending->queue = NULL;
  if (!pending->msg)
    nf_pending_unref (pending); /* a flush: the queue's reference was its only one */
  else if (!pending->buffered)
    nf_pending_forget (calls, pending);
  else if (!keep || pending->applied)
    nf_pending_forget (calls, pending);
  file = nf_pending_file (calls, fid); /* forgetting may have released it */
  if (file)
    nf_pending_file_release (calls, file);
}

void
nf_pending_forget (NfPendingCalls *calls, NfPending *pending)
{
  NfPendingFile *file = nf_pending_file (calls, pending->msg->write.fid);

  gboolean answered = pending->answered;

  if (file && g_queue_remove (&file->overlay, pending))
    nf_pending_unref (pending); /* by_id has another reference */
  if (!answered)
    return;
  if (pending->data)
    calls->buffered -= pending->data->len;
  g_hash_table_remove (calls->by_id, &pending->id);
  if (file)
    nf_pending_file_release (calls, file);
}

void
nf_pending_unsend_all (NfPendingCalls *calls)
{
  for (GList *l = calls->order.head; l; l = l->next)
    unsend (calls, l->data);
}

guint64
nf_pending_acked (const NfPendingCalls *calls)
{
  NfPending *first = g_queue_peek_head ((GQueue *)&calls->order);

  return (first ? first->id : calls->next_id) - 1;
}

static void
overlay_setattr (const NfPending *pending, NfAttr *attr)
{
  guint32 mask = pending->msg->setattr.mask;
  const NfAttr *set = &pending->msg->setattr.attr;

  if (mask & NF_SET_MODE)
    attr->mode = (attr->mode & S_IFMT) | (set->mode & ~(guint32)S_IFMT);
  if (mask & NF_SET_UID)
    attr->uid = set->uid;
  if (mask & NF_SET_GID)
    attr->gid = set->gid;
  if (mask & (NF_SET_ATIME | NF_SET_ATIME_NOW))
    attr->atime = mask & NF_SET_ATIME_NOW ? pending->msg->head.clock : set->atime;
  if (mask & (NF_SET_MTIME | NF_SET_MTIME_NOW))
    attr->mtime = mask & NF_SET_MTIME_NOW ? pending->msg->head.clock : set->mtime;
  attr->ctime = MAX (attr->ctime, pending->msg->head.clock);
}

static void
overlay_write (const NfPending *pending, NfAttr *attr)
{
  attr->size = MAX (attr->size, pending->msg->write.offset + pending->data->len);
  /* Later than that may be the kernel's own time, of bytes that are being applied. */
  attr->mtime = pending->msg->head.clock;
  attr->ctime = MAX (attr->ctime, pending->msg->head.clock);
  attr->blocks = MAX (attr->blocks, BLOCKS_LEAST);
  if (pending->msg->write.flags & NF_WRITE_KILL_PRIV)
    attr->mode &= ~(guint32)(S_ISUID | (attr->mode & S_IXGRP ? S_ISGID : 0));
}

void
nf_pending_overlay_attr (NfPendingFile *file, guint64 seq, NfAttr *attr)
{
  for (GList *l = file->overlay.head; l; l = l->next)
    {
      NfPending *pending = l->data;
      if (pending->answered && pending->seq <= seq)
        continue;
      if (pending->data)
        overlay_write (pending, attr);
      else
        overlay_setattr (pending, attr);
      attr->ctime = MAX (attr->ctime, pending->msg->head.clock);
    }
}

gboolean
nf_pending_overlays_content (NfPendingFile *file)
{
  for (GList *l = file->overlay.head; l; l = l->next)
    if (((NfPending *)l->data)->data)
      return TRUE;
  return FALSE;
}

gsize
nf_pending_overlay_read (NfPendingFile *file, guint64 offset, guint8 *buffer, gsize length,
                         gsize got)
{
  for (GList *l = file->overlay.head; l; l = l->next)
    {
      NfPending *pending = l->data;
      if (!pending->data)
        continue;
      guint64 start = MAX (pending->msg->write.offset, offset);
      guint64 end = MIN (pending->msg->write.offset + pending->data->len, offset + length);
      if (pending->msg->write.offset + pending->data->len > offset + got)
        got = MIN (pending->msg->write.offset + pending->data->len - offset, length);
      if (start < end)
        memcpy (buffer + (start - offset),
                pending->data->data + (start - pending->msg->write.offset), end - start);
    }
  return got;
}
