// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "net/proto.h"

/* Which ops of a primary are done: appended and carried out (or aborted), with the index committed. Ops on different
 * objects end in any order; the watermark is the last seq up to which all are. Only that far is broadcast, and that
 * far the effects needn't be looked at after a crash. Thread: any. */

typedef struct NfOrder NfOrder;

NfOrder *nf_order_new (guint64 watermark);
void nf_order_free (NfOrder *order);
guint64 nf_order_watermark (NfOrder *order);
/* The watermark as it will be when SEQS are done, too. */
guint64 nf_order_peek (NfOrder *order, const guint64 *seqs, guint n_seqs);
void nf_order_done (NfOrder *order, const guint64 *seqs, guint n_seqs);
