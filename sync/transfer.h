// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sync/segments.h"
#include "sync/share-internal.h"

/* Content under way. A transfer gathers what is missing of one file in a staging file, with the ops that wait for it;
 * when everything is there, and everything that the primary had done to the file until then is known, the content is
 * switched in as one state. A crash loses it, and the redo asks again.
 *
 * Everything here runs with the replica's `work` lock. */

/* Bytes asked for at once: of one file, and in all. */
#define NF_TRANSFER_MAX (8 * 1024 * 1024)
#define NF_TRANSFERS_MAX (32 * 1024 * 1024)
/* Of one request. */
#define NF_TRANSFER_ASK_MAX (4 * 1024 * 1024)
/* Content that has been waited for so long is put in place op by op as it comes: a file that is written to all the time
 * is never complete. */
#define NF_STARVED_MS 2000
/* Healing compares by hashes of blocks of this size, so many bytes at a time, as it reads them on the strand. */
#define NF_HASH_BLOCK (128 * 1024)
#define NF_HASH_SPAN (4 * 1024 * 1024)

typedef struct NfOp NfOp;
typedef struct NfTransfer NfTransfer;
typedef struct NfTransfers NfTransfers;

struct NfTransfer
{
  NfFid fid;
  NfSegments segments;
  GQueue ops;        /* of NfOp on this file's content, in order */
  int staging;       /* descriptor, or -1 while nothing is staged */
  gboolean heals;    /* when it is over the content isn't suspect any more */
  gboolean whole;    /* heals, and not only certain ranges: follows the file's size */
  gboolean paused;   /* until the next retry */
  gboolean own;      /* this site has changed the file */
  guint64 whole_end; /* up to here, so far */
  guint64 need;      /* a healing one: content as of this seq at least */
  NfAttr attr;       /* as it came with the newest chunk */
  guint64 attr_seq;  /* 0: none has come */
  guint64 hash_next; /* comparing: up to here it is done, … */
  guint64 hash_end;  /* … and this is the end; equal when there is nothing to compare */
  guint64 hash_request;
  guint64 hash_size; /* the file's size as of hash_seq */
  guint64 hash_seq;
  guint64 noted_seq; /* the last op that a healing one has taken note of, and the size it gave */
  guint64 noted_size;
  guint64 timed_seq; /* the last op that has set the file's mtime meanwhile */
  guint64 inflight;
  guint64 order; /* of beginning */
};

NfTransfers *nf_transfers_new (NfReplica *replica);
void nf_transfers_free (NfTransfers *transfers);
NfTransfer *nf_transfers_find (NfTransfers *transfers, NfFid fid);
guint nf_transfers_count (NfTransfers *transfers);
guint nf_transfers_healing (NfTransfers *transfers);
guint64 nf_transfers_inflight (NfTransfers *transfers);
guint64 nf_transfers_missing (NfTransfers *transfers); /* bytes */
/* The greatest stamp that a complete transfer waits for to be received. */
guint64 nf_transfers_needs (NfTransfers *transfers);

/* OP waits for the content of its file from now on: with bytes of its own missing (then a transfer begins if there is
 * none), or because a transfer is under way. */
void nf_transfers_attach (NfTransfers *transfers, NfOp *op);
/* TRANSFER heals: what OP changes is wanted as of it, and OP need not wait. */
int nf_transfers_note (NfTransfers *transfers, NfTransfer *transfer, NfOp *op);
/* Op SEQ has set the mtime of FID. */
void nf_transfers_timed (NfTransfers *transfers, NfFid fid, guint64 seq);
/* The content of FID is suspect and is to be made right. -errno if it can't begin. */
int nf_transfers_heal (NfTransfers *transfers, NfFid fid);

/* FETCHED, HASHED. */
void nf_transfers_fetched (NfTransfers *transfers, const NfMsg *msg);
void nf_transfers_hashed (NfTransfers *transfers, const NfMsg *msg);
/* Asks for more, and switches in what is complete. TRUE if that ended any, so that there is room for others. */
gboolean nf_transfers_pump (NfTransfers *transfers);
/* What was asked for will not come: the link is gone. */
void nf_transfers_unask (NfTransfers *transfers);
/* Those that failed may be tried again. */
void nf_transfers_retry (NfTransfers *transfers);
/* Forgets all of them; their ops stay whose they are. */
void nf_transfers_drop_all (NfTransfers *transfers);

/* switch.c: the content of TRANSFER, complete and as of SEQ, takes the place of the file's. 0 or -errno; the file is
 * suspect while it is half done. */
int nf_transfer_switch (NfReplica *replica, NfTransfer *transfer, guint64 seq);
/* The same for OP alone, the first of TRANSFER's, whose range is complete. */
int nf_transfer_switch_op (NfReplica *replica, NfTransfer *transfer, const NfOp *op);
/* compare.c: compares the hashes of HASHED with the file here. What differs is wanted. */
int nf_transfer_compare (NfReplica *replica, NfTransfer *transfer, const NfMsg *hashed);
