// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sync/host.h"

/* Worker threads and timers: what runs strands, answers and deadlines in the daemon. Thread: any
 * function from any thread, but nf_pool_free() not from a worker. */

/* Workers that are always there. Four keep two disks and the crypto of two links busy. */
#define NF_POOL_THREADS 4
/* As many may be blocked in fsync or on a slow disk before work waits. */
#define NF_POOL_THREADS_MAX 16

typedef struct _NfPool NfPool;

/* No more than NF_POOL_THREADS_MAX threads. The caller frees it. */
NfPool *nf_pool_new (void);
/* Ends the threads when everything posted has run, also what that posts. Timers that aren't due
 * yet run too: their functions find out for themselves that nothing is left to do. */
void nf_pool_free (NfPool *pool);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (NfPool, nf_pool_free)

/* Runs FUNC (ARG) on a worker, in the order of posting as far as workers are free. Never within
 * this call. */
void nf_pool_post (NfPool *pool, NfFunc func, gpointer arg);
/* The same, DELAY_MS from now. */
void nf_pool_post_after (NfPool *pool, guint delay_ms, NfFunc func, gpointer arg);
/* Workers right now, for tests and the log. */
guint nf_pool_threads (NfPool *pool);

/* CLOCK_REALTIME, and CLOCK_BOOTTIME: time goes on while the machine sleeps, so leases and
 * deadlines do. */
gint64 nf_clock_realtime_ns (void);
gint64 nf_clock_boottime_ms (void);
