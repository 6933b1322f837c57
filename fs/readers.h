// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <glib.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Which of the session's workers reads the next request.
 *
 * A request costs two wake-ups of a sleeping processor, the worker's and then the caller's, which is more than most requests
 * take. So one worker stays at it while a single caller asks one quick thing after another, and goes where he runs
 * (fs/near.h). Where it can't, it helps against the first that it looks for the next request for some microseconds before
 * it sleeps. Either helps only if no other worker sleeps in read(2) as well, whom the kernel would wake in any case.
 *
 * So one worker is the *reader*, and the others stand by. With a request in its hands it lets another be the reader, unless
 * it expects to be back at once. Should it then be held up (a disk, a lock, a processor), one of those who stand by, the
 * *watch*, sees that and takes over within some milliseconds.
 *
 * A RELEASE isn't waited for by who closed the file, and may free a lock that he asks for next. So its worker stays the
 * reader in any case, until it is done.
 *
 * What it expects comes from what was (fs/habit.h). */

typedef struct NfReaders NfReaders;

NfReaders *nf_readers_new (void);
/* When no worker is left. */
void nf_readers_free (NfReaders *readers);

/* For a worker: as read(2) of the session's descriptor. It is dealt with when the same thread calls this again. May wait,
 * and be cancelled. */
ssize_t nf_readers_read (NfReaders *readers, int fd, void *buf, gsize size);

/* For whoever has an answer: as writev(2) on the session's descriptor. */
ssize_t nf_readers_reply (NfReaders *readers, int fd, const struct iovec *iov, int count);

/* Requests whose worker stayed the reader, and those that were taken over. For status and tests. */
void nf_readers_count (NfReaders *readers, guint64 *ret_kept, guint64 *ret_taken_over);
