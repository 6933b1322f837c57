// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <glib.h>

#include "net/frame.h"

/* What outlives a link of a receiver's: the account of the bytes that were delivered and are
 * still being worked on, and the descriptor that wakes the link's thread. Each delivered payload
 * holds a reference, and gives its cost back when its GBytes is freed, in whatever thread and
 * however long after the link's end that is. */

typedef struct _NfCredit NfCredit;

/* WINDOW: what may be under way. NULL if no descriptor is to be had (errno is set). */
NfCredit *nf_credit_new (gsize window);
NfCredit *nf_credit_ref (NfCredit *credit);
void nf_credit_unref (NfCredit *credit);

/* PAYLOAD, now owned by the GBytes, as counted with COST. */
GBytes *nf_credit_wrap (NfCredit *credit, NfPayload *payload, gsize cost);

/* Readable when somebody has woken the link. */
int nf_credit_wake_fd (const NfCredit *credit);
void nf_credit_wake (NfCredit *credit);
void nf_credit_woken (NfCredit *credit);

/* What was given back and should be announced to the peer; 0 while it's too little to be worth a
 * message. */
gsize nf_credit_take (NfCredit *credit);
