// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/handle.h"

#include <fcntl.h>

#include "fs/open-mode.h"

NfHandle *
nf_handle_new (NfNode *node, NfPass *pass, NfFile *file, int flags)
{
  NfHandle *handle = g_new0 (NfHandle, 1);
  NfVolume *volume = node->volume;

  handle->refs = 1;
  handle->node = nf_node_ref (node);
  handle->pass = pass;
  handle->file = file;
  handle->flags = flags;
  handle->volume_link.data = handle;
  pthread_mutex_lock (&volume->lock);
  g_queue_push_tail_link (&volume->handles, &handle->volume_link);
  handle->node_next = node->handles;
  g_atomic_pointer_set (&node->handles, handle);
  pthread_mutex_unlock (&volume->lock);
  return handle;
}

NfHandle *
nf_handle_ref (NfHandle *handle)
{
  g_atomic_int_inc (&handle->refs);
  return handle;
}

void
nf_handle_unref (NfHandle *handle)
{
  if (!g_atomic_int_dec_and_test (&handle->refs))
    return;
  if (handle->file)
    nf_file_close (handle->file);
  if (handle->owners)
    g_array_unref (handle->owners);
  nf_node_unref (handle->node);
  g_free (handle);
}

/* With the volume's lock. Returns what nf_open_mode_leave() does. */
static int
unlink_handle (NfVolume *volume, NfHandle *handle)
{
  NfHandle **link = &handle->node->handles;

  while (*link != handle)
    link = &(*link)->node_next;
  g_atomic_pointer_set (link, handle->node_next);
  g_queue_unlink (&volume->handles, &handle->volume_link);
  return nf_open_mode_leave (handle);
}

void
nf_handle_drop (NfHandle *handle)
{
  NfVolume *volume = handle->node->volume;

  pthread_mutex_lock (&volume->lock);
  int unneeded = unlink_handle (volume, handle);
  pthread_mutex_unlock (&volume->lock);
  if (unneeded != 0)
    nf_pass_unregister (handle->pass, unneeded);
  nf_handle_unref (handle);
}

/* The remover closes the files of what is still linked, and unlinks nothing. */
static void
wait_closed (NfVolume *volume, NfHandle *handle)
{
  pthread_mutex_lock (&volume->lock);
  while (handle->file)
    pthread_cond_wait (&volume->left, &volume->lock);
  pthread_mutex_unlock (&volume->lock);
}

/* ---- locks ---- */

static gint
find_owner (const NfHandle *handle, NfLockKind kind, guint64 owner)
{
  for (guint i = 0; handle->owners && i < handle->owners->len; i++)
    {
      const NfLockOwner *known = &g_array_index (handle->owners, NfLockOwner, i);
      if (known->kind == kind && known->owner == owner)
        return (gint)i;
    }
  return -1;
}

void
nf_handle_add_owner (NfHandle *handle, NfLockKind kind, guint64 owner)
{
  NfVolume *volume = handle->node->volume;
  const NfLockOwner added = { kind, owner };

  g_atomic_int_set (&volume->locks, TRUE);
  pthread_mutex_lock (&volume->lock);
  if (!handle->owners)
    handle->owners = g_array_new (FALSE, FALSE, sizeof (NfLockOwner));
  if (find_owner (handle, kind, owner) < 0)
    g_array_append_val (handle->owners, added);
  pthread_mutex_unlock (&volume->lock);
}

static void
fill_unlock (const NfHandle *handle, NfLockKind kind, guint64 owner, NfMsg *call)
{
  call->type = NF_MSG_LOCK;
  call->lock.fid = handle->node->fid;
  call->lock.kind = (guint8)kind;
  call->lock.owner = owner;
  call->lock.type = NF_LOCK_NONE;
  call->lock.end = G_MAXINT64;
}

gboolean
nf_handle_closed_by (NfHandle *handle, guint64 owner, NfMsg *call)
{
  NfVolume *volume = handle->node->volume;

  if (!handle->file || !g_atomic_int_get (&volume->locks)
      || !nf_share_has_locks (volume->share, handle->node->fid))
    return FALSE;
  pthread_mutex_lock (&volume->lock);
  gint at = find_owner (handle, NF_LOCK_RANGE, owner);
  if (at >= 0)
    g_array_remove_index_fast (handle->owners, (guint)at);
  pthread_mutex_unlock (&volume->lock);
  fill_unlock (handle, NF_LOCK_RANGE, owner, call);
  return TRUE;
}

static void
unlocked (gpointer data, int status, const NfMsg *answer)
{
  (void)data, (void)status, (void)answer; /* with the link gone the primary frees it by itself */
}

static void
unlock_all (NfHandle *handle)
{
  for (guint i = 0; handle->file && handle->owners && i < handle->owners->len; i++)
    {
      const NfLockOwner *known = &g_array_index (handle->owners, NfLockOwner, i);
      NfMsg call = { 0 };
      fill_unlock (handle, known->kind, known->owner, &call);
      nf_file_call (handle->file, &call, unlocked, NULL, NULL);
    }
}

void
nf_handle_release (NfHandle *handle)
{
  g_autoptr (NfVolume) volume = nf_volume_ref (handle->node->volume);
  gboolean entered = nf_volume_enter (volume);

  if (entered)
    unlock_all (handle);
  else
    wait_closed (volume, handle);
  nf_handle_drop (handle);
  if (entered)
    nf_volume_leave (volume);
}

NfHandle *
nf_handle_of_node (NfNode *node, gboolean writable)
{
  NfVolume *volume = node->volume;
  NfHandle *handle = NULL;

  if (!volume || !g_atomic_pointer_get (&node->handles))
    return NULL;
  pthread_mutex_lock (&volume->lock);
  for (NfHandle *h = node->handles; h && !handle; h = h->node_next)
    if (h->file && (!writable || nf_handle_writable (h)))
      handle = nf_handle_ref (h);
  pthread_mutex_unlock (&volume->lock);
  return handle;
}

void
nf_handles_close (NfVolume *volume)
{
  g_autoptr (GPtrArray) files = g_ptr_array_new ();

  pthread_mutex_lock (&volume->lock);
  for (GList *l = volume->handles.head; l; l = l->next)
    {
      NfHandle *handle = l->data;
      if (handle->file)
        g_ptr_array_add (files, g_steal_pointer (&handle->file));
    }
  pthread_cond_broadcast (&volume->left);
  pthread_mutex_unlock (&volume->lock);
  for (guint i = 0; i < files->len; i++)
    nf_file_close (files->pdata[i]);
}

void
nf_handles_drop (NfNode *node)
{
  NfHandle *handle = node->handles;

  while (handle)
    {
      NfHandle *next = handle->node_next;
      (void)unlink_handle (node->volume,
                           handle); /* the session has ended, and with it what it knew */
      nf_handle_unref (handle);
      handle = next;
    }
}

gboolean
nf_handle_writable (const NfHandle *handle)
{
  return (handle->flags & O_ACCMODE) != O_RDONLY;
}
