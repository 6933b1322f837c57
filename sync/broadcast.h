// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sync/order.h"
#include "sync/share-internal.h"

/* The primary's ops on their way to the other sites: for each a cursor through the journal, moved on whenever there
 * is something new and its connection takes it. A slow site costs the others nothing but its unread journal.
 *
 * An OP bears as data: nothing; or the bytes of a small write; or, for an op that was aborted, the single byte 'A':
 * it is to be journalled, but not applied. (A write of just that byte goes without it and is fetched.)
 *
 * Thread: any. One lock for the table of subscribers and one for each subscriber, under which ops are sent; no caller
 * waits for the latter. */

#define NF_BROADCAST_ABORTED "A"
/* Ops and small answers queued for a site: enough to fill a connection, few enough for an answer not to wait long
 * behind them. */
#define NF_BROADCAST_QUEUE (256 * 1024)

typedef struct NfBroadcast NfBroadcast;

/* ORDER is borrowed. */
NfBroadcast *nf_broadcast_new (NfShare *share, NfOrder *order);
void nf_broadcast_free (NfBroadcast *broadcast);

/* Is anybody connected? One atomic load. */
gboolean nf_broadcast_wanted (NfBroadcast *broadcast);
/* The content of DATA op SEQ, kept for sending. Before the op is done. Copies: a message that is kept would keep its
 * link's credit. */
void nf_broadcast_data (NfBroadcast *broadcast, guint64 seq, NfSlice data);
/* Op SEQ was aborted. Before it is done. */
void nf_broadcast_aborted (NfBroadcast *broadcast, guint64 seq);
/* Reign EPOCH began with something lost. Before anybody subscribes. */
void nf_broadcast_set_lossy (NfBroadcast *broadcast, guint64 epoch);
/* The journal has lost its oldest records. */
void nf_broadcast_trimmed (NfBroadcast *broadcast);
/* Sends what can be sent, to SITE or (NULL) to all. */
void nf_broadcast_pump (NfBroadcast *broadcast, const char *site);

/* SITE has applied up to POSITION and wants what comes after. Answers SUBSCRIBED and begins. */
void nf_broadcast_subscribe (NfBroadcast *broadcast, const char *site, const NfMsg *subscribe);
void nf_broadcast_peer_up (NfBroadcast *broadcast, const char *site);
void nf_broadcast_peer_down (NfBroadcast *broadcast, const char *site);
/* What SITE says of itself. SUSPECTS: what it still has to compare. */
void nf_broadcast_position (NfBroadcast *broadcast, const char *site, NfPosition position,
                            guint64 suspects);

typedef struct
{
  NfPosition position; /* applied there */
  gboolean whole;      /* and nothing there is suspect */
  gboolean connected;
  gboolean subscribed;
} NfSubscriberState;
/* All zero if SITE was never here. */
void nf_broadcast_state (NfBroadcast *broadcast, const char *site, NfSubscriberState *ret_state);
