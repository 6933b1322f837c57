// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sync/tree.h"

/* A directory's entry as sites tell each other of it, and what they compare before one lists a directory to the other. */

/* Content of files up to this size goes with a listing; where the other site has none of them, up to the next. Else what
 * is larger is fetched by itself, which is three round trips through staging for each. */
#define NF_ENTRY_INLINE 8192
#define NF_ENTRY_INLINE_NEW 65536
/* And of files up to this one it goes into a digest. */
#define NF_ENTRY_DIGESTED 65536

/* What an entry's slices point into. */
typedef struct
{
  NfBuf xattrs;
  char target[NF_PATH_LEN_MAX + 1];
  guint8 *content; /* of NF_ENTRY_DIGESTED bytes, when it is needed */
} NfEntryParts;
void nf_entry_parts_init (NfEntryParts *parts);
void nf_entry_parts_clear (NfEntryParts *parts);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (NfEntryParts, nf_entry_parts_clear)

/* ENTRY has name and attr; a symlink's target and the xattrs come to it. */
void nf_entry_fill (NfTree *tree, NfDirEntry *entry, NfEntryParts *parts);
/* Of a regular file of MAX bytes at most, by descriptor FD: its content, and its attributes at the same moment. */
void nf_entry_fill_content (NfTree *tree, int fd, gsize max, NfDirEntry *entry,
                            NfEntryParts *parts);

/* A digest is a sum of hashes, in whatever order the entries come, of what must be the same everywhere. Of a file that is
 * its size, and its content only if that was filled in. Begins with 0. */
void nf_entry_digest (guint64 *digest, const NfDirEntry *entry);
/* What is sent: never 0, which stands for none. */
guint64 nf_entry_digest_value (guint64 digest);
