// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sync/share-internal.h"

/* A primary whose machine went down is first a replica: of the site that has the most of its history (source.c there).
 * For that time the share at the primary is opened as a replica whose primary is that site; when it is in step it says
 * that it wants to be opened again (nf_share_wants_reopen()), and is the primary then, of a new reign. With no site to
 * take from it does that with what it has. */

/* What the index remembers, in meta "restore". */
typedef enum
{
  NF_RESTORE_NONE = 0,
  NF_RESTORE_UNDER_WAY = 1,
  NF_RESTORE_DONE = 2,  /* all that the source had is here */
  NF_RESTORE_ALONE = 3, /* there was nobody to take from */
  NF_RESTORE_MIXED
  = 4, /* the source was lost on the way, or hadn't got all: all sites have to compare */
  NF_RESTORE_DEMANDED = 5, /* a member has been where this site hasn't */
  NF_RESTORE_STRANGE
  = 6, /* the data isn't what the state speaks of: what it has otherwise is kept */
} NfRestoreState;

/* SHARE is the primary's, and its store open. Is it to be restored first? */
gboolean nf_restore_is_due (NfShare *share);
NfRestoreState nf_restore_state (NfShare *share);
int nf_restore_set_state (NfShare *share, NfRestoreState state);
/* With DONE and MIXED: the op up to which all is as the source had it; later ones in the journal are our own. */
guint64 nf_restore_upto (NfShare *share);

/* A member stands at THEIRS, where we, the primary, haven't been: this directory has gone back to an earlier state, as a
 * restored backup or a snapshot does, or has lost its state. */
gboolean nf_restore_is_behind (NfShare *share, const NfHelloShare *theirs);
/* If all that the site knew of the share was of another history than the members', it has been removed with the opening of
 * the tree: notes that the share is to be restored. 0 or -errno. */
int nf_restore_begin_anew (NfShare *share);
/* If it is behind it is to be opened again, and restored first. Nothing more is to be done with it. Thread: any. */
void nf_restore_demand (NfShare *share, const char *site, const NfHelloShare *theirs);

/* SHARE is a replica from now on, of nobody yet. */
NfRestore *nf_restore_new (NfShare *share);
/* The share's replica is open. */
void nf_restore_start (NfRestore *restore);
void nf_restore_free (NfRestore *restore);
/* Thread: any. */
void nf_restore_peer_up (NfRestore *restore, const char *site, const NfHelloShare *theirs);
void nf_restore_peer_down (NfRestore *restore, const char *site);
/* The source can't give anything now. Thread: any. */
void nf_restore_refused (NfRestore *restore);
/* The source hasn't got FID's content, or FID, either: it stays as it is here, and is said to the others. */
void nf_restore_keep (NfRestore *restore, NfFid fid);
/* What our own journal names after the source's position is our own, and never taken from there: an object's content and
 * attributes, what a name is. */
gboolean nf_restore_is_own (NfRestore *restore, NfFid fid);
gboolean nf_restore_is_own_name (NfRestore *restore, NfFid parent, NfSlice name);
/* What is our own by the records after FROM up to LAST: adds fids, and keys of names (nf_key_name(); NULL: not wanted).
 * 0 or -errno. */
GHashTable *nf_restore_keys_new (void);
int nf_restore_read_own (NfShare *share, guint64 from, guint64 last, GHashTable *fids,
                         GHashTable *names);
/* The same, and what was kept. */
int nf_restore_read_kept (NfShare *share, guint64 from, guint64 last, GHashTable *fids);
/* Is the content of FID, of which the source has these attributes, what it was at the last checkpoint, and what the source
 * has? */
gboolean nf_restore_trusts (NfRestore *restore, NfFid fid, const NfAttr *there);
/* Whatever content is replaced is to be kept. */
gboolean nf_restore_keeps_all (NfRestore *restore);
gboolean nf_restore_is_over (NfRestore *restore);
/* For people. */
void nf_restore_describe (NfRestore *restore, char *ret_text, gsize size);
