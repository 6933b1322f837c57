// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <glib.h>

#include "net/frame.h"
#include "net/transport.h"

/* One stream of a link: what is read from it and what waits to be written to it. Thread: the
 * link's. */

/* A frame of the link's order that has arrived. */
typedef struct
{
  NfFrameHead head;
  NfPayload *payload;
  gsize cost;
} NfLaneFrame;

void nf_lane_frame_free (NfLaneFrame *frame);

typedef struct
{
  gboolean open;
  NfFrameReader reader;
  GQueue arrived; /* of NfLaneFrame, in the order of their numbers */
  guint64 last_number;
  gboolean numbered; /* last_number is valid */
  NfBuf out;
  gsize out_done;
  gint64 opened_us;
  gint64 heard_us;
} NfLane;

/* SKIP_MAGIC: the peer's magic has been read already. Ours is put first. */
void nf_lane_open (NfLane *lane, gboolean skip_magic, gint64 now_us);
void nf_lane_clear (NfLane *lane);

void nf_lane_put (NfLane *lane, guint8 flags, guint64 number, NfSlice payload);
/* Bytes put and not yet taken by the transport. */
gsize nf_lane_pending (const NfLane *lane);
/* Writes what the transport takes; *RET_BYTES is added to. FALSE: the lane is broken. */
gboolean nf_lane_flush (NfLane *lane, NfTransport *transport, guint index, guint64 *ret_bytes,
                        GError **error);
