// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sync/share-internal.h"

/* Files that only one site may have open at a time. See sole.c. Thread: any. */

gboolean nf_sole_is (NfShare *share, NfFid fid);
/* At the primary, when SITE (NULL: this one) has FID open: 0, or -EBUSY if another site has it open, too, and may not. */
int nf_sole_check (NfShare *share, NfFid fid, const char *site);
