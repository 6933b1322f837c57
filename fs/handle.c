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

void
nf_handle_release (NfHandle *handle)
{
  g_autoptr (NfVolume) volume = nf_volume_ref (handle->node->volume);
  gboolean entered = nf_volume_enter (volume);

  if (!entered)
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
