// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sync/share-internal.h"

/* Calls under way to the primary, and the order among those that concern one file. No I/O, no lock:
 * forward.c owns both. (The idea: for each file with something under way there is a queue; an item
 * may be sent when all that stand before it were sent on the same connection, since only one
 * connection keeps order.) */

/* Write data that may be in flight on the ops connection, so that small calls never stand behind
 * much. */
#define NF_OPS_WINDOW (256 * 1024)
/* A write, with what was joined to it, goes by the bulk connection from this size on. */
#define NF_BULK_MIN (128 * 1024)

typedef struct NfPendingFile NfPendingFile;

typedef struct
{
  guint64 id;
  gint refs;
  NfMsg *msg;       /* NULL: a flush, which is over when it comes to the head of its queue */
  GByteArray *data; /* of a WRITE */
  NfCallDone done;  /* NULL: told already, or nobody waits */
  gpointer arg;
  NfFile *file;            /* through which it came, for its error; may be NULL */
  NfPendingFile *queue;    /* in which it stands, or NULL */
  gboolean buffered;       /* a WRITE that the caller has been told is done */
  gboolean sync, datasync; /* of a flush: FSYNC follows */
  gboolean sent;
  gboolean was_sent; /* perhaps over a link that is gone: it may have been carried out */
  gboolean bulk;
  gboolean answered;
  gboolean applied; /* to the replica */
  guint64 seq;      /* after the answer */
  gint64 since_ms;
} NfPending;

struct NfPendingFile
{
  NfFid fid;
  GQueue queue; /* NfPending, unanswered, in order */
  GQueue
      overlay; /* NfPending WRITEs not applied to the replica, in order; each holds a reference */
};

typedef struct
{
  GHashTable *by_id;  /* id → NfPending, owning */
  GHashTable *by_fid; /* fid → NfPendingFile, owning */
  GQueue order;       /* NfPending that have an id and no answer, in order of id */
  guint64 next_id;
  gsize buffered;     /* bytes of WRITEs not answered, or answered and not applied */
  gsize ops_inflight; /* bytes of WRITEs sent on the ops connection and not answered */
} NfPendingCalls;

void nf_pending_calls_init (NfPendingCalls *calls, guint64 first_id);
void nf_pending_calls_clear (NfPendingCalls *calls);

/* A call with a deep copy of MSG (whose data, of a WRITE, goes to `data`); gets the next id. */
NfPending *nf_pending_new (NfPendingCalls *calls, const NfMsg *msg, NfFile *file, NfCallDone done,
                           gpointer arg);
/* A flush of what stands in the queue now. */
NfPending *nf_pending_new_flush (NfFile *file, gboolean sync, gboolean datasync, NfCallDone done,
                                 gpointer arg);
NfPending *nf_pending_ref (NfPending *pending);
void nf_pending_unref (NfPending *pending);

NfPendingFile *nf_pending_file (NfPendingCalls *calls, NfFid fid); /* NULL if there is none */
NfPendingFile *nf_pending_file_ensure (NfPendingCalls *calls, NfFid fid);
void nf_pending_file_release (NfPendingCalls *calls,
                              NfPendingFile *file); /* if nothing is left in it */
/* Puts PENDING at the end of FILE's queue; a WRITE into its overlay, too. */
void nf_pending_enqueue (NfPendingCalls *calls, NfPendingFile *file, NfPending *pending);
/* Joins DATA to the last item if that is an unsent WRITE by the same caller that ends where MSG
 * begins. */
gboolean nf_pending_join (NfPendingCalls *calls, NfPendingFile *file, const NfMsg *msg,
                          NfFile *handle);

/* The next item of FILE that may be sent now (its `bulk` is set), or NULL. A flush at the head is
 * returned, too. */
NfPending *nf_pending_next (NfPendingCalls *calls, NfPendingFile *file);
void nf_pending_mark_sent (NfPendingCalls *calls, NfPending *pending);
/* Takes PENDING out of its queue and the order of ids, as answered; it stays in by_id and the
 * overlay if it is a WRITE that isn't applied and KEEP. */
void nf_pending_settle (NfPendingCalls *calls, NfPending *pending, gboolean keep);
/* A settled WRITE needs no longer be laid over the replica. */
void nf_pending_forget (NfPendingCalls *calls, NfPending *pending);
/* The connection is gone: everything unanswered has to be sent again. */
void nf_pending_unsend_all (NfPendingCalls *calls);
/* All ids up to this one have been answered. */
guint64 nf_pending_acked (const NfPendingCalls *calls);

/* The file that PENDING, a WRITE or SETATTR, is about. */
NfFid nf_pending_fid (const NfPending *pending);

/* The overlay. */
gboolean nf_pending_overlays_content (NfPendingFile *file);
/* Of what was carried out up to op SEQ, ATTR knows already. */
void nf_pending_overlay_attr (NfPendingFile *file, guint64 seq, NfAttr *attr);
gsize nf_pending_overlay_read (NfPendingFile *file, guint64 offset, guint8 *buffer, gsize length,
                               gsize got);
