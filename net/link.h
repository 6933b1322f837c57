// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <glib.h>

#include "net/fds.h"
#include "net/hub.h"
#include "net/rtt.h"
#include "net/transport.h"

/* A link: messages to and from one peer, in order, over one lane or several.
 *
 * A link is run by one thread, from nf_link_run() to its end; messages are queued and the link
 * is closed by any. It keeps the credit, the order of frames over the lanes, heartbeats,
 * compression. It knows nothing of who the peer is and what may be said: that's the hub's. */

typedef struct _NfLink NfLink;

/* All are called in the link's thread with no lock held. */
typedef struct
{
  /* In order; MSG is the callee's. Messages of the link's own (PING, CREDIT …) don't come here,
   * SWITCH does. */
  void (*message) (gpointer data, NfMsg *msg);
  /* The queue has fallen below the low water. */
  void (*drained) (gpointer data);
  /* Now and then; returns after how many milliseconds it wants to be called again at the latest. */
  guint (*tick) (gpointer data, gint64 now_us);
} NfLinkEvents;

typedef struct
{
  NfLinkKind kind;
  gboolean dialling; /* sends LANE first on each lane */
  guint lanes;
  guint64 id
      [2]; /* random; the first half is the same for a peer's ops link and the bulk link beside it */
  guint heartbeat_ms;
  const char *who; /* for messages: "london", "the login shell of nearfs@london" */
} NfLinkOptions;

typedef struct
{
  NfRtt rtt;
  guint64 bytes_in;
  guint64 bytes_out;
  gint64 heard_us; /* g_get_monotonic_time() when anything last came */
} NfLinkStats;

/* TRANSPORT becomes the link's, and so do its first N_OPEN lanes; others come by
 * nf_link_add_lane(). NULL if no descriptor is to be had (TRANSPORT is freed). The caller owns a
 * reference. */
NfLink *nf_link_new (const NfLinkOptions *options, NfTransport *transport, guint n_open,
                     const NfLinkEvents *events, gpointer data, GError **error);
NfLink *nf_link_ref (NfLink *link);
void nf_link_unref (NfLink *link);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (NfLink, nf_link_unref)

/* Runs the link in this thread until it ends, and frees the transport. Returns why; never NULL. */
GError *nf_link_run (NfLink *link);

/* Queues PAYLOAD (from nf_msg_to_bytes()), which is taken. FALSE if the link is closed. Thread:
 * any. */
gboolean nf_link_send (NfLink *link, GBytes *payload);
gsize nf_link_queued (NfLink *link);
/* Ends the link with an error of CODE, telling the peer REASON. What is queued is dropped.
 * Thread: any. */
void nf_link_close (NfLink *link, NfNetError code, const char *reason);
/* A lane of an accepted link, whose magic and LANE have been read. Takes FDS. FALSE if the link
 * is closed or has that lane. Thread: any. */
gboolean nf_link_add_lane (NfLink *link, guint lane, NfFdLane *fds);
/* While held, messages after the first aren't delivered but kept, as far as the credit goes.
 * Thread: any. */
void nf_link_hold (NfLink *link, gboolean hold);
/* Asks the peer for a sign of life. Thread: any. */
void nf_link_ping (NfLink *link);
void nf_link_stats (NfLink *link, NfLinkStats *ret_stats);
const guint64 *nf_link_id (const NfLink *link);
