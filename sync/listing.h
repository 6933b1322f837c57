// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sync/tree.h"

/* All entries of a directory, in memory: for whoever works on them while the directory may change. */

typedef struct
{
  gsize at; /* of its name in `names` */
  gsize len;
  NfAttr attr;
  NfIdent ident;
} NfListed;

typedef struct
{
  GArray *entries; /* of NfListed */
  GByteArray *names;
} NfListing;

/* 0 or -errno; RET_LISTING is to be cleared in any case. */
int nf_listing_read (NfTree *tree, NfFid dir, NfListing *ret_listing);
void nf_listing_clear (NfListing *listing);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (NfListing, nf_listing_clear)

static inline NfListed *
nf_listing_at (NfListing *listing, guint i)
{
  return &g_array_index (listing->entries, NfListed, i);
}

static inline NfSlice
nf_listing_name (const NfListing *listing, const NfListed *entry)
{
  return nf_slice (listing->names->data + entry->at, entry->len);
}
