// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/life.h"

#include <pthread.h>

struct NfLife
{
  gint refs;
  pthread_rwlock_t lock; /* guards object; read-locked by those who use it */
  gpointer object;
};

NfLife *
nf_life_new (gpointer object)
{
  NfLife *life = g_new0 (NfLife, 1);

  life->refs = 1;
  life->object = object;
  pthread_rwlock_init (&life->lock, NULL);
  return life;
}

NfLife *
nf_life_ref (NfLife *life)
{
  g_atomic_int_inc (&life->refs);
  return life;
}

void
nf_life_unref (NfLife *life)
{
  if (!g_atomic_int_dec_and_test (&life->refs))
    return;
  pthread_rwlock_destroy (&life->lock);
  g_free (life);
}

gpointer
nf_life_enter (NfLife *life)
{
  pthread_rwlock_rdlock (&life->lock);
  if (life->object)
    return life->object;
  pthread_rwlock_unlock (&life->lock);
  return NULL;
}

void
nf_life_leave (NfLife *life)
{
  pthread_rwlock_unlock (&life->lock);
}

void
nf_life_end (NfLife *life)
{
  pthread_rwlock_wrlock (&life->lock);
  life->object = NULL;
  pthread_rwlock_unlock (&life->lock);
}
