// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "fs/inode.h"
#include "fs/pass.h"
#include "sync/lock-table.h"

/* Open files. The kernel has one reference, each request that uses the handle another; the share's
 * file is closed with the last, or when the share is taken out. */

/* Whether reads and writes come to us, and through the kernel's page cache or not. */
typedef enum
{
  NF_OPEN_UNDECIDED,
  NF_OPEN_CACHED,
  NF_OPEN_DIRECT,
  NF_OPEN_PASS,        /* reads don't come to us */
  NF_OPEN_PASS_DIRECT, /* writes do, beside handles of the sort above */
} NfOpenMode;

struct NfHandle
{
  gint refs;
  NfNode *node;
  NfFile *file; /* NULL once the share was taken out; stays while the volume is entered */
  int flags;    /* of open(2) */
  NfOpenMode mode;
  NfPass *pass; /* the mount's */
  GList volume_link;
  NfHandle *node_next; /* guarded by the volume's lock */
  GArray *owners; /* of NfLockOwner: of locks asked for through it, or NULL; guarded likewise */
};

typedef struct
{
  NfLockKind kind;
  guint64 owner;
} NfLockOwner;

/* Takes FILE. PASS: the mount's. */
NfHandle *nf_handle_new (NfNode *node, NfPass *pass, NfFile *file, int flags);
NfHandle *nf_handle_ref (NfHandle *handle);
/* Entered. */
void nf_handle_unref (NfHandle *handle);
/* The kernel releases its reference. Not entered. */
void nf_handle_release (NfHandle *handle);
/* The kernel never got its reference. Entered. */
void nf_handle_drop (NfHandle *handle);
/* Some handle of NODE's, a new reference, or NULL. Entered: WRITABLE or, if that is FALSE, any. */
NfHandle *nf_handle_of_node (NfNode *node, gboolean writable);
/* Closes the files of all handles of VOLUME, which was removed and left by all. */
void nf_handles_close (NfVolume *volume);
/* Drops the kernel's references to the handles of NODE: it will never release them. Their files are
 * closed. */
void nf_handles_drop (NfNode *node);
/* Locks are asked for through HANDLE by OWNER: they go with it. */
void nf_handle_add_owner (NfHandle *handle, NfLockKind kind, guint64 owner);
/* OWNER, a process, closes a descriptor of HANDLE's file: all its ranges there go. FALSE if it can have none; else fills the
 * CALL by which they do. Entered. */
gboolean nf_handle_closed_by (NfHandle *handle, guint64 owner, NfMsg *call);
gboolean nf_handle_writable (const NfHandle *handle);
