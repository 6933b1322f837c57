// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "fs/inode.h"

/* Tells the kernel what in its caches is no longer so. What is queued for one directory or file is
 * told in order, from a thread that holds no lock: the kernel may block it until a request on that
 * directory or file is answered. */

typedef struct NfInvals NfInvals;
typedef struct NfMount NfMount;

/* One thread that is blocked doesn't hold up what the others have to tell. */
#define NF_INVAL_THREADS 4
/* Per thread. Past it all of the share is invalidated instead. */
#define NF_INVAL_QUEUE_MAX 25000

NfInvals *nf_invals_new (NfMount *mount);
/* Ends the threads; what is queued is dropped, as is all that comes later. The kernel must go on
 * being served until this returns. */
void nf_invals_stop (NfInvals *invals);
void nf_invals_free (NfInvals *invals);

/* Only queues. Thread: any. */
void nf_invals_queue (NfInvals *invals, NfVolume *volume, const NfInval *inval);
/* NAME in the namespace's directory DIR; NULL: the directory itself. */
void nf_invals_queue_dir (NfInvals *invals, guint64 dir, const char *name);
/* The nodes (guint64) in IDS, which is taken. */
void nf_invals_queue_ids (NfInvals *invals, GArray *ids);
/* Is there something queued or being told? TOLD is called, from the thread that told the last, when
 * there is nothing any more. */
gboolean nf_invals_telling (NfInvals *invals);
void nf_invals_on_told (NfInvals *invals, void (*told) (gpointer data), gpointer data);
/* Waits until all that was queued before is told, or the threads are stopped. */
void nf_invals_flush (NfInvals *invals);

/* A point in time, for nf_invals_since(): may anything of FID have been invalidated after MARK? */
guint64 nf_invals_mark (NfInvals *invals);
gboolean nf_invals_since (NfInvals *invals, const NfVolume *volume, NfFid fid, guint64 mark);
