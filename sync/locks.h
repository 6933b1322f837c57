// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <pthread.h>

#include "net/proto.h"

/* The locks of a primary's objects: striped mutexes, found by fid. Seq order is order of effect because whoever
 * changes an object holds its lock from before the record is appended until its effect is there.
 *
 * Lock order: rename lock → object locks → journal → index → opens. A thread takes all its object locks at once. */

#define NF_LOCKS_STRIPES 256
#define NF_LOCKS_SET_MAX 4

typedef struct
{
  pthread_mutex_t stripes[NF_LOCKS_STRIPES];
  pthread_mutex_t turnstiles[NF_LOCKS_STRIPES]; /* see locks.c */
  guint64 taken;                                /* atomic: see nf_locks_look() */
} NfLocks;

/* The stripes that are held, in order and each once. */
typedef struct
{
  guint n;
  guint8 stripes[NF_LOCKS_SET_MAX];
} NfLockSet;

void nf_locks_init (NfLocks *locks);
void nf_locks_clear (NfLocks *locks);
/* Locks the objects FIDS (NF_FID_NONE is skipped; NF_LOCKS_SET_MAX at most). RET_SET is for nf_locks_give(). */
void nf_locks_take (NfLocks *locks, const NfFid *fids, guint n_fids, NfLockSet *ret_set);
void nf_locks_give (NfLocks *locks, NfLockSet *set);

/* Which objects to lock is often known only after looking, and then it must be looked again, as others may have been faster:
 * unless nobody held a lock when it began, and nobody but the caller has taken any when he has his. */
guint64 nf_locks_look (NfLocks *locks);
/* LOOKED: what nf_locks_look() gave. TRUE: what was seen since is so still. Thread: the one that looked, with its locks. */
gboolean nf_locks_saw (NfLocks *locks, guint64 looked);
