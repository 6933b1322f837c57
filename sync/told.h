// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sync/share.h"

/* Answers that wait until the kernel here has been told of everything that has changed so far: who gets a lock must not
 * find in its caches what was there before. */

typedef struct NfTold NfTold;

NfTold *nf_told_new (NfShare *share);
/* What still waits is answered with -EHOSTUNREACH. */
void nf_told_free (NfTold *told);
/* DONE (DATA, STATUS, an empty answer): at once, in this thread, if there is nothing to tell; else from a job that
 * nf_told_run() posts. */
void nf_told_answer (NfTold *told, int status, NfCallDone done, gpointer data);
/* The kernel has been told. Cheap if nobody waits. Thread: any. */
void nf_told_run (NfTold *told);
