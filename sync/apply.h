// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sync/at-hand.h"
#include "sync/share-internal.h"

/* One record on the tree. */

enum
{
  NF_APPLY_OWN = 1,           /* the op is this site's: its kernel knows already */
  NF_APPLY_KEEP_MTIME = 2,    /* DATA: the file's mtime is newer than the op */
  NF_APPLY_KEEP_PARENT_0 = 4, /* NAMES: the same of the parent of names[0] */
  NF_APPLY_KEEP_PARENT_1 = 8, /* … and names[1] */
};

/* Carries out RECORD; DATA_BYTES: the content of a DATA record. Tells the host what to invalidate unless NF_APPLY_OWN (the
 * kernel here knows already). Files that it works on are in HAND afterwards. Objects that have lost their last name are appended to LOST (of NfFid); they lie in limbo until
 * somebody buries them. 0 or -errno; what was done of it then is no harm, as it may be applied again. */
int nf_apply_with (NfShare *share, NfAtHand *hand, const NfRecord *record, NfSlice data_bytes,
                   guint flags, GArray *lost);
int nf_apply_names (NfShare *share, NfAtHand *hand, const NfRecord *record, guint flags,
                    GArray *lost);

/* Is FID an object of this tree? */
gboolean nf_apply_here (NfShare *share, NfFid fid);
/* Gives FID the name, wherever it is now. A directory leaves the place where it was, whose mtime stays: the op that
 * moves it from there will set that. */
int nf_apply_place (NfShare *share, NfFid fid, NfFid parent, NfSlice name);
/* FID has been found at the name: the index is to know it under that name, too (after it was lost it is built up again
 * from what is found). */
int nf_apply_confirm (NfShare *share, NfFid fid, NfFid parent, NfSlice name);
/* Opens FID for reading and writing, whatever its mode says. */
int nf_apply_open (NfShare *share, NfFid fid);
/* Content of a range, without size and times. */
int nf_apply_range (int fd, NfRangeKind range, guint64 offset, guint64 length, NfSlice bytes);
int nf_apply_write (int fd, guint64 offset, NfSlice bytes);

void nf_apply_invalidate (NfShare *share, NfInvalKind kind, NfFid fid, guint64 offset,
                          guint64 length);
/* The content of FID from OFFSET on was replaced, and the file FD may have grown by it. */
void nf_apply_invalidate_content (NfShare *share, NfFid fid, int fd, guint64 offset,
                                  guint64 length);
void nf_apply_invalidate_name (NfShare *share, NfFid parent, NfSlice name);
