// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sync/transfer.h"

/* What transfer.c and fetch.c share. */

typedef struct
{
  guint64 id;
  NfFid fid;
  guint64 left; /* bytes to come */
} NfRequest;

struct NfTransfers
{
  NfReplica *replica;
  GHashTable *by_fid;   /* fid → NfTransfer, owning */
  GHashTable *requests; /* id → NfRequest, owning */
  guint64 next_id;
  guint64 next_order;
  guint64 inflight;
  guint turn;
};

/* Ends TRANSFER; its ops go on. */
void nf_transfer_end (NfTransfers *transfers, NfTransfer *transfer);
/* It can't go on now, for ERR: again later. */
void nf_transfer_pause (NfTransfers *transfers, NfTransfer *transfer, int err);
/* Asks for as much as may be in flight. */
void nf_transfers_ask (NfTransfers *transfers);
