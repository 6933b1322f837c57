// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sync/replica-internal.h"

/* A listing of one object at the primary, as of one seq, against what is here. Everything returns 0 or -errno; what
 * was done then is no harm, and comparing again goes on from there. With the replica's `work` lock. */

typedef struct
{
  NfReplica *replica;
  NfFid fid;
  guint64 seq;
  gboolean tree; /* what is below is to be compared, too */
  gboolean self_seen;
  gboolean self_ours; /* left as it is here */
  NfAttr self;        /* as it is at the primary */
  GHashTable *seen;   /* keys of the names listed so far */
  gboolean failed;    /* something couldn't be put right: it stays suspect */
} NfReconcile;

void nf_reconcile_init (NfReconcile *reconcile, NfReplica *replica, NfFid fid, gboolean tree);
void nf_reconcile_clear (NfReconcile *reconcile);
/* The entries of one frame. -EBADMSG if they can't be read. */
int nf_reconcile_frame (NfReconcile *reconcile, NfSlice entries);
/* The listing is complete: what it doesn't name goes. */
int nf_reconcile_end (NfReconcile *reconcile);

/* FID isn't where the index has it (-ESTALE from the tree), nor anywhere: its identity is forgotten, and where its names
 * lead is to be compared. FALSE: it is there, or wasn't known to be. */
gboolean nf_reconcile_forget_lost (NfReplica *replica, NfFid fid);

/* reconcile-attr.c: attributes, xattrs and target of FID. RET_CHANGED is set if anything was different. */
int nf_reconcile_attr (NfReplica *replica, NfFid fid, const NfDirEntry *entry,
                       gboolean *ret_changed);
int nf_reconcile_xattrs (NfReplica *replica, NfFid fid, NfSlice xattrs, gboolean *ret_changed);
/* Is the file of descriptor FD just DATA? */
gboolean nf_reconcile_is_content (int fd, NfSlice data);
/* Content of a file that came with its entry. */
int nf_reconcile_content (NfReplica *replica, NfFid fid, NfSlice data, gboolean *ret_changed);
/* Before content of FID is replaced that isn't as the primary has it: once, and only where that is to be kept. 0 or -errno:
 * then nothing may be done. */
int nf_reconcile_keep_copy (NfReplica *replica, NfFid fid);
/* The size, where the content is still to be compared. */
int nf_reconcile_size (NfReplica *replica, NfFid fid, guint64 size);
