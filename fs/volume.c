// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/volume.h"

NfVolume *
nf_volume_new (guint32 number, NfShare *share)
{
  NfVolume *volume = g_new0 (NfVolume, 1);

  volume->refs = 1;
  volume->number = number;
  volume->share = share;
  pthread_mutex_init (&volume->lock, NULL);
  pthread_cond_init (&volume->left, NULL);
  return volume;
}

NfVolume *
nf_volume_ref (NfVolume *volume)
{
  g_atomic_int_inc (&volume->refs);
  return volume;
}

void
nf_volume_unref (NfVolume *volume)
{
  if (!g_atomic_int_dec_and_test (&volume->refs))
    return;
  g_assert (volume->handles.length == 0);
  pthread_cond_destroy (&volume->left);
  pthread_mutex_destroy (&volume->lock);
  g_free (volume);
}

/* Counts first and asks then: a remover sets `removed` first and counts then, so that one of the
 * two sees the other. */
gboolean
nf_volume_enter (NfVolume *volume)
{
  g_atomic_int_inc (&volume->calls);
  if (!g_atomic_int_get (&volume->removed))
    return TRUE;
  nf_volume_leave (volume);
  return FALSE;
}

void
nf_volume_leave (NfVolume *volume)
{
  if (!g_atomic_int_dec_and_test (&volume->calls) || !g_atomic_int_get (&volume->removed))
    return;
  /* Under the lock, or it could fall between a remover's look at the count and his wait. */
  pthread_mutex_lock (&volume->lock);
  pthread_cond_broadcast (&volume->left);
  pthread_mutex_unlock (&volume->lock);
}

gboolean
nf_volume_removed (NfVolume *volume)
{
  return g_atomic_int_get (&volume->removed);
}

void
nf_volume_remove (NfVolume *volume)
{
  g_atomic_int_set (&volume->removed, TRUE);
}

void
nf_volume_wait (NfVolume *volume)
{
  pthread_mutex_lock (&volume->lock);
  while (g_atomic_int_get (&volume->calls) > 0)
    pthread_cond_wait (&volume->left, &volume->lock);
  pthread_mutex_unlock (&volume->lock);
}

guint64
nf_volume_ino (const NfVolume *volume, NfFid fid)
{
  return (guint64)volume->number << NF_VOLUME_FID_BITS
         | (fid & ((G_GUINT64_CONSTANT (1) << NF_VOLUME_FID_BITS) - 1));
}
