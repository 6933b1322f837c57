// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <glib.h>
#include <sys/types.h>
#include <sys/uio.h>

/* On which processor a worker runs.
 *
 * A caller and the worker that serves him take turns: one sleeps while the other is at it. On two processors each turn
 * wakes one that sleeps, which on a virtual machine is an interrupt through its host: 25 µs. On the same one it is a
 * switch of 2 µs. But the scheduler wakes everybody where nobody runs, so it keeps the two apart.
 *
 * So the worker that serves a single caller goes to where he last ran, and stays there. The answer that wakes him is
 * sent under SCHED_IDLE: a processor that has nothing else to do but that is as good as free to the scheduler, so he
 * goes on there, and before the worker does. When he waits again, the worker reads what he asks. It comes forward again, to run
 * as anybody does, before whatever takes long or holds a lock that others wait for; for the rest it needn't, as changing
 * twice a request takes a third of the time that looking a name up does.
 *
 * Both are guesses that can be wrong: he may compute now, or somebody else on that processor. Then the worker
 * doesn't come to itself, or isn't woken soon. So there is one such worker at a time, and another thread that sees it lag
 * lets it loose.
 *
 * It takes CAP_SYS_NICE (or RLIMIT_NICE) to leave SCHED_IDLE. Without, or on one processor, nothing is done. */

typedef struct NfNear NfNear;

/* The processors and the scheduling policy of the calling thread are everybody's. */
NfNear *nf_near_new (void);
void nf_near_free (NfNear *near);

/* Brings the calling thread to where CALLER (a thread's id, 0: nobody known) runs, or sees whether it still is there.
 * Where that is, is found out meanwhile: a later call goes there. NOW: nanoseconds of CLOCK_MONOTONIC. FALSE: it isn't
 * there, and is as free as before. */
gboolean nf_near_go (NfNear *near, guint32 caller, gint64 now);
/* It seems that the caller isn't where the calling thread is: he is looked for sooner. */
void nf_near_doubt (void);
/* The calling thread was brought somewhere, and not let loose since. */
gboolean nf_near_is (NfNear *near);
/* Some thread was, and not let loose since. Thread: any. */
gboolean nf_near_is_used (NfNear *near);
/* Somebody is being looked for now. Thread: any. */
gboolean nf_near_is_looking (NfNear *near);
/* Ends it, if the calling thread is the one. */
void nf_near_leave (NfNear *near);
/* Lets loose whoever was brought somewhere. Thread: any. */
void nf_near_loose (NfNear *near);

/* As writev(2), for an answer: whoever waits for it goes on first if the calling thread is near him. It stays in the
 * background then. */
ssize_t nf_near_writev (NfNear *near, int fd, const struct iovec *iov, int count);
/* The calling thread runs as anybody does, if it was in the background. Ending what was begun by nf_near_go() does it, too. */
void nf_near_come_forward (NfNear *near);
