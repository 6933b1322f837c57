// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sync/share-internal.h"

/* A replica from which its primary takes back what it lost (restore.c there). For that time nothing changes here: what the
 * primary reads is as of one position. On the strand of the primary's messages. */

/* TRUE: MSG, from the primary's site, was for the source. */
gboolean nf_source_message (NfShare *share, const NfMsg *msg);
/* The primary is one again, or its link is gone. */
void nf_source_end (NfShare *share);
/* Thread: any. */
void nf_source_drained (NfShare *share, gboolean bulk);
