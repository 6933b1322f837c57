// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/inval-private.h"
#include "fs/mount-private.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

/* How many of the latest invalidations are remembered for nf_invals_since(). A request that has
 * been under way for longer than it takes to fill this gives its attributes no time. */
#define RECENT 4096

typedef struct
{
  NfInvals *invals;
  pthread_t thread;
  gboolean started;
  pthread_cond_t work;
  GQueue items;   /* of NfInvalItem; guarded by the lock, as are: */
  guint64 queued; /* ever */
  guint64 told;   /* of these */
} Queue;

typedef struct
{
  const NfVolume *volume; /* only compared */
  NfFid fid;
} Recent;

struct NfInvals
{
  NfMount *mount;
  pthread_mutex_t lock; /* innermost; guards all below but `serial`, which is atomic too */
  pthread_cond_t progress;
  gboolean stopping;
  Queue queues[NF_INVAL_THREADS];
  gint untold; /* atomic: items in the queues or being told */
  void (*on_told) (gpointer data);
  gpointer on_told_data;
  gsize serial;  /* how many were ever recorded */
  guint64 floor; /* before this, anything may have been invalidated */
  Recent recent[RECENT];
};

/* ---- what was invalidated lately ---- */

/* With the lock. */
static void
record (NfInvals *invals, const NfVolume *volume, NfFid fid)
{
  invals->recent[invals->serial % RECENT] = (Recent){ volume, fid };
  g_atomic_pointer_set (&invals->serial, invals->serial + 1);
}

guint64
nf_invals_mark (NfInvals *invals)
{
  return (gsize)g_atomic_pointer_get (&invals->serial);
}

gboolean
nf_invals_since (NfInvals *invals, const NfVolume *volume, NfFid fid, guint64 mark)
{
  if ((gsize)g_atomic_pointer_get (&invals->serial) == mark)
    return FALSE;
  pthread_mutex_lock (&invals->lock);
  gboolean since = mark < invals->floor || invals->serial - mark > RECENT;
  for (guint64 i = mark; !since && i < invals->serial; i++)
    {
      const Recent *recent = &invals->recent[i % RECENT];
      since = recent->volume == volume && recent->fid == fid;
    }
  pthread_mutex_unlock (&invals->lock);
  return since;
}

/* ---- telling ---- */

static void
item_free (gpointer data)
{
  NfInvalItem *item = data;

  g_clear_pointer (&item->volume, nf_volume_unref);
  g_clear_pointer (&item->ids, g_array_unref);
  g_free ((gpointer)item->inval.name.data);
  g_free (item);
}

static void *
run (void *data)
{
  Queue *queue = data;
  NfInvals *invals = queue->invals;

  pthread_mutex_lock (&invals->lock);
  for (;;)
    {
      while (!invals->stopping && queue->items.length == 0)
        pthread_cond_wait (&queue->work, &invals->lock);
      if (invals->stopping)
        break;
      NfInvalItem *item = g_queue_pop_head (&queue->items);
      pthread_mutex_unlock (&invals->lock);
      nf_inval_tell (invals->mount, item);
      guint told = item->stands_for;
      item_free (item);
      pthread_mutex_lock (&invals->lock);
      queue->told += told;
      pthread_cond_broadcast (&invals->progress);
      if (g_atomic_int_add (&invals->untold, -(gint)told) == (gint)told && invals->on_told)
        {
          pthread_mutex_unlock (&invals->lock);
          invals->on_told (invals->on_told_data);
          pthread_mutex_lock (&invals->lock);
        }
    }
  pthread_mutex_unlock (&invals->lock);
  return NULL;
}

/* ---- queueing ---- */

/* With the lock. FALSE: too late. */
static gboolean
push (NfInvals *invals, guint64 key, NfInvalItem *item)
{
  Queue *queue = &invals->queues[key % NF_INVAL_THREADS];

  if (invals->stopping)
    {
      item_free (item);
      return FALSE;
    }
  item->stands_for = 1;
  g_atomic_int_inc (&invals->untold);
  g_queue_push_tail (&queue->items, item);
  queue->queued++;
  pthread_cond_signal (&queue->work);
  return TRUE;
}

/* One item for the whole share instead of all that its queue has of it. With the lock. */
static void
push_all (NfInvals *invals, guint64 key, NfVolume *volume)
{
  Queue *queue = &invals->queues[key % NF_INVAL_THREADS];
  NfInvalItem *all = g_new0 (NfInvalItem, 1);
  GList *next;
  guint replaced = 0;

  for (GList *l = queue->items.head; l; l = next)
    {
      NfInvalItem *item = l->data;
      next = l->next;
      if (item->kind != NF_INVAL_ITEM_SHARE || item->volume != volume || item->id != 0)
        continue;
      replaced += item->stands_for;
      g_queue_delete_link (&queue->items, l);
      item_free (item);
    }
  all->volume = nf_volume_ref (volume);
  all->inval.kind = NF_INVAL_ALL;
  if (push (invals, key, all))
    all->stands_for += replaced;
}

/* A range that goes on where the last one ended: a file that is being written. With the lock. */
static gboolean
joins_last (Queue *queue, const NfVolume *volume, const NfInval *inval)
{
  NfInvalItem *last = g_queue_peek_tail (&queue->items);

  if (inval->kind != NF_INVAL_DATA || !last || last->kind != NF_INVAL_ITEM_SHARE
      || last->volume != volume || last->inval.kind != NF_INVAL_DATA
      || last->inval.fid != inval->fid || last->inval.length == 0
      || last->inval.offset + last->inval.length != inval->offset)
    return FALSE;
  last->inval.length = inval->length == 0 ? 0 : last->inval.length + inval->length;
  if (inval->end != 0)
    {
      last->inval.end = inval->end;
      last->inval.last = inval->last;
    }
  return TRUE;
}

/* May the kernel have anything cached that INVAL is about? What is being looked up just now is
 * found by nf_invals_since(). */
static gboolean
is_known (NfMount *mount, NfVolume *volume, const NfInval *inval)
{
  switch (inval->kind)
    {
    case NF_INVAL_NAME:
      return nf_mount_node_id (mount, volume, inval->parent, NULL) != 0
             || (inval->fid != NF_FID_NONE
                 && nf_mount_node_id (mount, volume, inval->fid, NULL) != 0);
    case NF_INVAL_ATTR:
    case NF_INVAL_DATA:
    case NF_INVAL_GONE:
      return nf_mount_node_id (mount, volume, inval->fid, NULL) != 0;
    case NF_INVAL_SWITCH: /* but for the node that was detached */
      return inval->name.len > 0 && nf_mount_node_id (mount, volume, inval->parent, NULL) != 0;
    default:
      return TRUE;
    }
}

void
nf_invals_queue (NfInvals *invals, NfVolume *volume, const NfInval *inval)
{
  gboolean named = inval->kind == NF_INVAL_NAME;
  guint64 key = named ? inval->parent : inval->fid;
  Queue *queue = &invals->queues[key % NF_INVAL_THREADS];
  g_autoptr (NfNode) detached = NULL;

  if (inval->kind == NF_INVAL_SWITCH)
    {
      /* At once, so that no later lookup gives out the old node. */
      detached = nf_nodes_find (invals->mount->nodes, volume, inval->fid);
      if (detached)
        nf_nodes_detach (invals->mount->nodes, detached);
    }
  pthread_mutex_lock (&invals->lock);
  record (invals, volume, key);
  if (named && inval->fid != NF_FID_NONE)
    record (invals, volume, inval->fid);
  if (inval->kind == NF_INVAL_ALL)
    invals->floor = invals->serial;
  pthread_mutex_unlock (&invals->lock);
  /* After it is recorded: who makes the node from now on asks nf_invals_since() later still. */
  gboolean known = detached || is_known (invals->mount, volume, inval);
  pthread_mutex_lock (&invals->lock);
  if (!known)
    ;
  else if (queue->items.length >= NF_INVAL_QUEUE_MAX || inval->kind == NF_INVAL_ALL)
    push_all (invals, key, volume);
  else if (!joins_last (queue, volume, inval))
    {
      NfInvalItem *item = g_new0 (NfInvalItem, 1);
      item->volume = nf_volume_ref (volume);
      item->inval = *inval;
      item->inval.name.data
          = inval->name.len > 0 ? (const guint8 *)nf_slice_dup (inval->name) : NULL;
      item->id = detached ? nf_node_id (detached) : 0;
      item->open = detached && g_atomic_pointer_get (&detached->handles);
      (void)push (invals, key, item);
    }
  pthread_mutex_unlock (&invals->lock);
}

void
nf_invals_queue_dir (NfInvals *invals, guint64 dir, const char *name)
{
  NfInvalItem *item = g_new0 (NfInvalItem, 1);

  item->kind = NF_INVAL_ITEM_DIR;
  item->inval.fid = dir;
  item->inval.name.data = (const guint8 *)g_strdup (name);
  pthread_mutex_lock (&invals->lock);
  (void)push (invals, dir, item); /* too late: nothing is cached any more */
  pthread_mutex_unlock (&invals->lock);
}

void
nf_invals_queue_ids (NfInvals *invals, GArray *ids)
{
  NfInvalItem *item = g_new0 (NfInvalItem, 1);

  item->kind = NF_INVAL_ITEM_IDS;
  item->ids = ids;
  pthread_mutex_lock (&invals->lock);
  (void)push (invals, 0, item);
  pthread_mutex_unlock (&invals->lock);
}

gboolean
nf_invals_telling (NfInvals *invals)
{
  return g_atomic_int_get (&invals->untold) != 0;
}

void
nf_invals_on_told (NfInvals *invals, void (*told) (gpointer data), gpointer data)
{
  pthread_mutex_lock (&invals->lock);
  invals->on_told = told;
  invals->on_told_data = data;
  pthread_mutex_unlock (&invals->lock);
}

void
nf_invals_flush (NfInvals *invals)
{
  pthread_mutex_lock (&invals->lock);
  for (guint i = 0; i < NF_INVAL_THREADS; i++)
    {
      Queue *queue = &invals->queues[i];
      guint64 until = queue->queued;
      while (!invals->stopping && queue->told < until)
        pthread_cond_wait (&invals->progress, &invals->lock);
    }
  pthread_mutex_unlock (&invals->lock);
}

NfInvals *
nf_invals_new (NfMount *mount)
{
  NfInvals *invals = g_new0 (NfInvals, 1);
  sigset_t all, before;

  invals->mount = mount;
  pthread_mutex_init (&invals->lock, NULL);
  pthread_cond_init (&invals->progress, NULL);
  sigfillset (&all);
  (void)pthread_sigmask (SIG_BLOCK, &all, &before); /* signals are for other threads */
  for (guint i = 0; i < NF_INVAL_THREADS; i++)
    {
      Queue *queue = &invals->queues[i];
      queue->invals = invals;
      pthread_cond_init (&queue->work, NULL);
      queue->started = pthread_create (&queue->thread, NULL, run, queue) == 0;
      if (!queue->started)
        g_error ("no thread can be made"); /* stale caches would be worse than no mount */
    }
  (void)pthread_sigmask (SIG_SETMASK, &before, NULL);
  return invals;
}

void
nf_invals_stop (NfInvals *invals)
{
  pthread_mutex_lock (&invals->lock);
  invals->stopping = TRUE;
  for (guint i = 0; i < NF_INVAL_THREADS; i++)
    pthread_cond_signal (&invals->queues[i].work);
  pthread_cond_broadcast (&invals->progress);
  pthread_mutex_unlock (&invals->lock);
  for (guint i = 0; i < NF_INVAL_THREADS; i++)
    {
      Queue *queue = &invals->queues[i];
      if (queue->started)
        (void)pthread_join (queue->thread, NULL);
      queue->started = FALSE;
    }
  g_atomic_int_set (&invals->untold, 0);
  if (invals->on_told)
    invals->on_told (invals->on_told_data);
}

void
nf_invals_free (NfInvals *invals)
{
  nf_invals_stop (invals);
  for (guint i = 0; i < NF_INVAL_THREADS; i++)
    {
      g_queue_clear_full (&invals->queues[i].items, item_free);
      pthread_cond_destroy (&invals->queues[i].work);
    }
  pthread_cond_destroy (&invals->progress);
  pthread_mutex_destroy (&invals->lock);
  g_free (invals);
}
