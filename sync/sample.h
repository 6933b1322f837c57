// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sync/share-internal.h"

/* Is this the data that the state speaks of? SHARE was closed in order, when the sentinel's ctime was SINCE (ns). TRUE if
 * at least half of some objects, taken from all over, have gone or been changed since: so much isn't somebody's work, but a
 * backup of the data that was put in its place, or another disk's content. Less is fsck's to find. */
gboolean nf_sample_is_another (NfShare *share, gint64 since);
