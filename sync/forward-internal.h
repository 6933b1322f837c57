// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sync/pending-calls.h"

/* What the files of the forwarder share: forward.c (sending, links, deadlines), forward-call.c
 * (taking calls), forward-answer.c, forward-overlay.c (what readers of this site see of it). Locks
 * as forward.c says. */

/* A done callback that is due as soon as the lock is let go. */
typedef struct
{
  NfCallDone done;
  gpointer arg;
  int status;
  guint64 value;
} NfForwardDue;

/* The last change of an object that may not be on the primary's disk; see forward-unsynced.c. */
typedef struct
{
  guint64 epoch;
  guint64 seq;   /* in that reign; 0: there is none */
  guint64 later; /* in a reign after that; 0: none */
  gint64 ms;     /* when the last one was answered */
} NfUnsynced;

struct NfForward
{
  NfShare *share;
  pthread_mutex_t lock;
  pthread_cond_t drained;
  NfPendingCalls calls;     /* guarded by lock, as all below */
  GQueue stalled;           /* NfStalled: writes that found the buffer full */
  guint64 taken_over;       /* how often the tree has taken over what was laid over it */
  GHashTable *holds;        /* fid → how many files are open for writing here */
  GHashTable *unsynced;     /* fid → NfUnsynced */
  NfUnsynced unsynced_rest; /* of all that had no place there any more */
  gboolean up;
  gboolean watched; /* a look at the deadlines is due */
  guint64 epoch;    /* that calls are sent in */
  guint64
      lost_upto; /* of calls up to here some were answered with an error, or by a former life's end, and may have
                        been carried out all the same */
  gint64 down_since_ms;
  GQueue parked; /* see forward-park.c, as for: */
  gint n_parked; /* written with the lock, atomic */
  gint refs;     /* timers under way */
  gboolean closing;
};

typedef struct
{
  NfMsg *call;
  NfFile *file;
  NfCallDone done;
  gpointer arg;
  guint64 id;
} NfStalled;

/* What is due is gathered with the lock and run without it. */
GArray *nf_forward_due_new (void);
void nf_forward_due_add (GArray *due, NfCallDone done, gpointer arg, int status, guint64 value);
void nf_forward_due_run (GArray *due);

/* All with the lock. */
void nf_forward_send_pending (NfForward *forward, NfPending *pending);
void nf_forward_send_hold (NfForward *forward, NfMsgType type, NfFid fid);
void nf_forward_complete_head (NfForward *forward, NfMsg *msg);
void nf_forward_pump_file (NfForward *forward, NfFid fid, GArray *due);
void nf_forward_pump_all (NfForward *forward, GArray *due);
gboolean nf_forward_given_up (NfForward *forward);
void nf_forward_watch (NfForward *forward);
gint64 nf_forward_now_ms (NfForward *forward);
/* A timer has been; without the lock. */
void nf_forward_unref (NfForward *forward);
void nf_forward_fail_pending (NfForward *forward, NfPending *pending, int error, GArray *due,
                              GArray *ret_invals);
gboolean nf_forward_has_room (NfForward *forward, gsize len);
void nf_forward_buffer_write (NfForward *forward, NfFile *file, const NfMsg *msg);
void nf_forward_admit_stalled (NfForward *forward, GArray *due);
int nf_forward_take_file_error (NfFile *file);

/* What the kernel can have cached wrongly, of NfInval with names of their own. */
GArray *nf_forward_invals_new (void);
/* All that CALL may have changed (ANSWER is the primary's, or empty): nobody was told that it did. */
void nf_forward_add_touched (GArray *invals, const NfMsg *call, const NfMsg *answer);
/* What lay over FID goes, though it may not be what the tree has now: the kernel is to ask anew. With the lock. */
void nf_forward_uncover (NfForward *forward, NfFid fid, GArray *invals);
/* Answered writes with seqs up to SEQ are no longer laid over the replica. With the lock. */
void nf_forward_forget_answered (NfForward *forward, guint64 seq, GArray *invals);

/* ---- forward-unsynced.c, with the lock ---- */
/* The primary has changed FID for this site, by op SEQ of the present reign. */
void nf_forward_note_unsynced (NfForward *forward, NfFid fid, guint64 seq);
/* Fills what MSG, an FSYNC, says of that. */
void nf_forward_fill_fsync (NfForward *forward, NfMsg *msg);
/* The primary has answered FSYNC, whatever it said. */
void nf_forward_note_synced (NfForward *forward, const NfMsg *fsync);

/* ---- forward-park.c, without the lock ---- */
/* The answer to CALL, number ID, waits until the replica has applied its op, if the content that it changed is read past
 * us here. FALSE: it needn't wait. */
gboolean nf_forward_park (NfForward *forward, guint64 id, const NfMsg *call, const NfMsg *answer,
                          NfCallDone done, gpointer arg);
/* Call ID's caller doesn't want to wait. */
void nf_forward_unpark_call (NfForward *forward, guint64 id);
/* All, applied or not. */
void nf_forward_unpark_all (NfForward *forward);

/* Without the lock: tells the host and frees. */
void nf_forward_invalidate_all (NfForward *forward, GArray *invals);
