// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sync/share-internal.h"

/* What a power cut can't take: everything up to a durable checkpoint. What was changed later is known by its ctime, which
 * is that of the sentinel, a file in the hidden directory, or newer. (By the filesystem's own clock: both are set by it.) */

/* Brings journal, tree and index of SHARE to the disk, with MARK as the seq up to which all had been done before. Takes
 * as long as the disk needs. Thread: any. 0 or -errno. */
int nf_checkpoint_make (NfShare *share, guint64 mark);
/* At a replica, when it is worth it (nf_index_sync_is_due()): makes the index's copy for power cuts such that all that it says
 * of the tree is on the disk, as the journal is. Thread: any. 0 or -errno. */
int nf_checkpoint_make_copy (NfShare *share);
/* What was changed since that copy was made has this ctime (ns) or a later one; G_MININT64: may have any. */
gint64 nf_checkpoint_copy_time (NfShare *share);
/* The mark of the last one that the index knows of, as old as the index is; 0 if there is none. */
guint64 nf_checkpoint_index_mark (NfShare *share);

typedef struct
{
  guint64 mark; /* all ops up to this one are on the disk */
  gint64
      time; /* what was changed since then has this ctime (ns) or a later one; G_MININT64: may have any */
} NfCheckpoint;

NfCheckpoint nf_checkpoint_last (NfShare *share);
