// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sync/index.h"

/* Files that ops were just carried out on, kept open for the next ones: ops on a file mostly come one after the other, and
 * finding it, opening it and seeing that it is the one costs more than a small write.
 *
 * A descriptor is told by the identity that the index gives its fid, which nothing else can have while it is open. So
 * nobody need be told when a fid gets another file, or none. What it costs is that the space of a removed file isn't free
 * before nf_at_hand_let_go(), which is why the replica calls that whenever it comes to rest.
 *
 * Locking: the owner's. */

/* A program that writes, writes to one file or two: sqlite's to the database, its journal and its index. */
#define NF_AT_HAND_MAX 4

typedef struct
{
  guint n_taken; /* ever */
  struct
  {
    NfFid fid; /* NF_FID_NONE: the place is free */
    NfIdent ident;
    int fd;
  } files[NF_AT_HAND_MAX];
} NfAtHand;

/* The descriptor of OBJECT, for reading and writing; it stays HAND's. -1 if there is none. */
int nf_at_hand_find (const NfAtHand *hand, const NfObject *object);
/* HAND takes FD, which is FID's, an object with identity IDENT. The one that has been here for longest may go. */
void nf_at_hand_take (NfAtHand *hand, NfFid fid, NfIdent ident, int fd);
/* Closes all. */
void nf_at_hand_let_go (NfAtHand *hand);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (NfAtHand, nf_at_hand_let_go)
