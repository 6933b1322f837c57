// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <pthread.h>

#include "net/credit.h"
#include "net/lane.h"
#include "net/link.h"
#include "net/pack.h"

/* Shared by link.c (life, queue, loop), link-in.c and link-out.c. */

typedef struct
{
  guint lane;
  NfFdLane fds;
} NfLinkNewLane;

struct _NfLink
{
  int refs;
  NfLinkOptions options;
  char *who;
  NfLinkEvents events;
  gpointer data;
  NfCredit *credit; /* ours to the peer */
  gsize low_water;

  /* Of the link's thread alone. */
  NfTransport *transport;
  NfLane lanes[NF_LANES_MAX];
  NfPack *pack;
  guint64 next_in;
  guint64 next_out;
  gsize may_send;    /* the peer's credit to us */
  gsize may_receive; /* what the peer may send before we give back more */
  NfLinkStats counted;
  gint64 next_ping_us;     /* on the first lane */
  gint64 next_ping_all_us; /* on all, whatever was heard: that tells the round trip, too */
  guint64 pinged_out;      /* `next_out` when the first lane was last pinged */
  guint n_greeted;         /* lanes, when last pinged */
  gint64 next_tick_us;
  guint8 *read_buffer;
  gboolean peer_left; /* it has said goodbye */

  pthread_mutex_t lock;
  GQueue queue;          /* of GBytes; guarded by lock */
  gsize queued;          /* guarded by lock */
  gboolean was_high;     /* the queue has been above the low water; guarded by lock */
  gboolean asleep;       /* in poll(), must be woken; guarded by lock */
  gboolean ended;        /* nothing is taken any more; guarded by lock */
  gboolean hold;         /* guarded by lock */
  gboolean ping;         /* guarded by lock */
  GError *closing;       /* guarded by lock */
  GSList *new_lanes;     /* of NfLinkNewLane; guarded by lock */
  guint lanes_taken;     /* bits; guarded by lock */
  NfLinkStats published; /* guarded by lock */
};

gsize nf_link_cost (gsize payload_len);
/* Puts a message of the link's own on LANE, ahead of the queue. */
void nf_link_put_control (NfLane *lane, const NfMsg *msg);
/* On the first N lanes, where the peer has shown itself: before, an answer would tell how long the relay
 * took to start. */
void nf_link_put_ping (NfLink *link, guint n);
/* The peer's ping was heard, and he hears the answer: one of the two is enough, while nothing goes out that depends on the
 * round trip. */
void nf_link_ping_later (NfLink *link);

/* Reads all lanes and delivers what is in order. *RET_MORE: there may be more to read. */
gboolean nf_link_pump_in (NfLink *link, gint64 now_us, gboolean *ret_more, GError **error);
/* Announces credit, moves what the credit allows from the queue to the lanes, and writes. */
gboolean nf_link_pump_out (NfLink *link, GError **error);
/* Whether pump_out() would find something to move; with the lock held. */
gboolean nf_link_can_move (NfLink *link);
