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
