// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "net/proto.h"

/* Which ops have to wait for which: a table of keys (fids, names), each with a queue of those that hold or want it,
 * in order of arrival. A writer goes when it is first, readers go together when no writer is before them. So two ops
 * keep their order wherever they touch the same thing, and nowhere else.
 *
 * No lock inside. */

/* An op has at most two names, with parent, object and displaced object each, and its own fid. */
#define NF_HOLDS_MAX 10

typedef struct NfBlocked NfBlocked;
typedef struct NfBlockedKey NfBlockedKey;

typedef struct
{
  gpointer owner; /* for nf_blocked_leave()'s list */
  guint n;
  guint waits; /* keys of which it isn't the turn yet */
  struct
  {
    guint64 key;
    gboolean write;
    gboolean granted;
    NfBlockedKey *queue; /* while entered */
    GList *link;
  } holds[NF_HOLDS_MAX];
} NfHolds;

guint64 nf_key_fid (NfFid fid);
guint64 nf_key_name (NfFid parent, NfSlice name);

/* Before entering. A key added twice counts once, as a writer's if one of both is. */
void nf_holds_add (NfHolds *holds, guint64 key, gboolean write);

NfBlocked *nf_blocked_new (void);
void nf_blocked_free (NfBlocked *blocked);
gboolean nf_blocked_empty (const NfBlocked *blocked);
/* Puts HOLDS, which must stay where it is, at the end of its keys' queues. TRUE if nothing is before it. */
gboolean nf_blocked_enter (NfBlocked *blocked, NfHolds *holds);
/* Takes HOLDS out. The owners of those that needn't wait any more by this are appended to READY. */
void nf_blocked_leave (NfBlocked *blocked, NfHolds *holds, GQueue *ready);
/* Does anybody hold or want KEY? */
gboolean nf_blocked_has (const NfBlocked *blocked, guint64 key);
