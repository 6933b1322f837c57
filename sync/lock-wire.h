// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sync/lock-table.h"

/* A lock as it stands in LOCKS and in the answer to a test; nearfs-protocol(7) has the format. Without its site. */

void nf_lock_encode (const NfLock *lock, NfBuf *buf);
/* FALSE at the end of READER, or if what comes isn't a lock. */
gboolean nf_lock_decode (NfReader *reader, NfLock *ret_lock);
