// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "fs/daemon-private.h"

/* The requests that take time, and what all of them need. */

/* The share that ASK names as "share" or "path", to be given back by nf_slot_put(). NULL: ASK
 * has been answered. */
NfSlot *nf_asks_share (NfDaemon *daemon, NfAsk *ask);
/* NfControlVerb.run of "fsck", "wait" and "log". */
void nf_asks_fsck (gpointer daemon, NfAsk *ask);
void nf_asks_wait (gpointer daemon, NfAsk *ask);
void nf_asks_log (gpointer daemon, NfAsk *ask);
