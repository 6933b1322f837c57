// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sync/share-internal.h"

/* Suspects, taken one after the other while the primary can be reached: filling a new replica, catching up after a
 * parted history, repair. Names and attributes are compared with a listing, content by hashes and transfers.
 *
 * Everything here runs with the replica's `work` lock. */

/* Directories that are compared at the same time: enough to fill a long line with small listings. They come one after
 * the other. */
#define NF_HEAL_LISTS_MAX 128
/* Files whose content is healed at the same time; each costs a descriptor. */
#define NF_HEAL_FILES_MAX 128

typedef struct NfHeal NfHeal;

NfHeal *nf_heal_new (NfReplica *replica);
void nf_heal_free (NfHeal *heal);
/* Something of FID has become suspect. */
void nf_heal_add (NfHeal *heal, NfFid fid);
/* The primary is there: look through all suspects. */
void nf_heal_start (NfHeal *heal);
void nf_heal_stop (NfHeal *heal);
void nf_heal_pump (NfHeal *heal);
void nf_heal_listed (NfHeal *heal, const NfMsg *msg);
/* FID isn't at the primary: an op, or its directory's listing, will take it away here. */
void nf_heal_gone (NfHeal *heal, NfFid fid);
/* No names are being compared: what has no name now will not get one by a listing. */
gboolean nf_heal_names_settled (NfHeal *heal);
/* NAME in PARENT has been put in place by a listing that isn't through yet, as of SEQ or later. */
gboolean nf_heal_has_listed (NfHeal *heal, NfFid parent, NfSlice name, guint64 seq);
void nf_heal_progress (NfHeal *heal, guint64 *ret_filled, guint64 *ret_total);
