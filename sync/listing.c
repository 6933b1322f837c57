// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/listing.h"

static gboolean
take_entry (NfSlice name, const NfAttr *attr, const NfIdent *ident, guint64 cookie, gpointer data)
{
  NfListing *listing = data;
  NfListed entry = { listing->names->len, name.len, *attr, *ident };

  (void)cookie;
  g_byte_array_append (listing->names, name.data, (guint)name.len);
  g_array_append_val (listing->entries, entry);
  return TRUE;
}

int
nf_listing_read (NfTree *tree, NfFid dir, NfListing *ret_listing)
{
  ret_listing->entries = g_array_new (FALSE, FALSE, sizeof (NfListed));
  ret_listing->names = g_byte_array_new ();
  return nf_tree_readdir (tree, dir, 0, TRUE, take_entry, ret_listing);
}

void
nf_listing_clear (NfListing *listing)
{
  g_clear_pointer (&listing->entries, g_array_unref);
  g_clear_pointer (&listing->names, g_byte_array_unref);
}
