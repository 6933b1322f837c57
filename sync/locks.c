// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/locks.h"

/* `taken` counts how many hold locks or are about to; above that, how often any were taken. */
#define HOLDERS 0xFFFF
#define TAKES 0x10000

void
nf_locks_init (NfLocks *locks)
{
  locks->taken = 0;
  for (guint i = 0; i < NF_LOCKS_STRIPES; i++)
    {
      pthread_mutex_init (&locks->stripes[i], NULL);
      pthread_mutex_init (&locks->turnstiles[i], NULL);
    }
}

void
nf_locks_clear (NfLocks *locks)
{
  for (guint i = 0; i < NF_LOCKS_STRIPES; i++)
    {
      pthread_mutex_destroy (&locks->stripes[i]);
      pthread_mutex_destroy (&locks->turnstiles[i]);
    }
}

/* Fids count up, so their low bits are as good as any hash; the multiplication parts parents and children that
 * were made in step. */
static guint8
stripe_of (NfFid fid)
{
  return (guint8)((fid * G_GUINT64_CONSTANT (0x9E3779B97F4A7C15)) >> 56);
}

static void
insert_sorted (NfLockSet *set, guint8 stripe)
{
  guint at = 0;

  while (at < set->n && set->stripes[at] < stripe)
    at++;
  if (at < set->n && set->stripes[at] == stripe)
    return;
  for (guint i = set->n; i > at; i--)
    set->stripes[i] = set->stripes[i - 1];
  set->stripes[at] = stripe;
  set->n++;
}

/* Mutexes aren't fair: who lets one go and wants it again at once gets it, while those whom it wakes are still on
 * their way, and a busy local writer would keep other sites' calls out for seconds. The next in turn holds the
 * turnstile while he waits. */
static void
lock_fairly (NfLocks *locks, guint8 stripe)
{
  pthread_mutex_lock (&locks->turnstiles[stripe]);
  pthread_mutex_lock (&locks->stripes[stripe]);
  pthread_mutex_unlock (&locks->turnstiles[stripe]);
}

void
nf_locks_take (NfLocks *locks, const NfFid *fids, guint n_fids, NfLockSet *ret_set)
{
  NfLockSet set = { 0 };

  g_assert (n_fids <= NF_LOCKS_SET_MAX);
  for (guint i = 0; i < n_fids; i++)
    if (fids[i] != NF_FID_NONE)
      insert_sorted (&set, stripe_of (fids[i]));
  if (set.n > 0)
    __atomic_add_fetch (&locks->taken, TAKES + 1, __ATOMIC_SEQ_CST);
  for (guint i = 0; i < set.n; i++)
    lock_fairly (locks, set.stripes[i]);
  *ret_set = set;
}

void
nf_locks_give (NfLocks *locks, NfLockSet *set)
{
  if (set->n == 0)
    return;
  for (guint i = set->n; i > 0; i--)
    pthread_mutex_unlock (&locks->stripes[set->stripes[i - 1]]);
  __atomic_sub_fetch (&locks->taken, 1, __ATOMIC_SEQ_CST);
  set->n = 0;
}

guint64
nf_locks_look (NfLocks *locks)
{
  return __atomic_load_n (&locks->taken, __ATOMIC_SEQ_CST);
}

gboolean
nf_locks_saw (NfLocks *locks, guint64 looked)
{
  return (looked & HOLDERS) == 0
         && __atomic_load_n (&locks->taken, __ATOMIC_SEQ_CST) == looked + TAKES + 1;
}
