// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sync/host.h"

/* A serial queue: what is posted to one strand runs in order, one at a time, on the host's workers.
 * It is how messages of one peer keep their order without a thread each. */

typedef struct NfStrand NfStrand;

NfStrand *nf_strand_new (NfHost *host);
/* FUNC (ARG) runs after everything posted before. Thread: any. */
void nf_strand_post (NfStrand *strand, NfFunc func, gpointer arg);
/* Within a strand's function: what it runs right after that, on this thread and with nothing in between. FALSE: that isn't
 * known. */
gboolean nf_strand_next (NfFunc *ret_func, gpointer *ret_arg);
/* Waits until everything posted has run and frees it. Nothing may be posted meanwhile. Not from the
 * strand itself. */
void nf_strand_free (NfStrand *strand);
