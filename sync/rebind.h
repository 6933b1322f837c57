// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sync/share-internal.h"

/* After a power cut the index is older than the tree: objects made since are there without their fids. The journal after
 * op FROM tells which of them has which name; what is found there gets its fid back, so that it isn't taken for somebody
 * else's. How it is else is as uncertain as before. RET_N: how many. 0 or -errno. Before anything else works on SHARE. */
int nf_rebind (NfShare *share, guint64 from, guint *ret_n);
/* The directory FID, or a file under one name more, is at NAME in PARENT now, whatever the index has. 0: it has that, 1:
 * it has it now, or -errno. */
int nf_rebind_follow (NfShare *share, NfFid fid, guint32 mode, NfFid parent, NfSlice name);
