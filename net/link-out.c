// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "net/link-private.h"

/* The sending half of a link. */

/* A lane is given more while less than this waits on it: enough to keep it busy, and little
 * enough for pings and answers to get through soon. Of several lanes the first with room is
 * taken, so that a fast path uses one and a long one, whose windows fill, uses all. */
#define LANE_OUT_HIGH (256 * 1024)
/* Compressing pays below some 200 MB/s; nothing farther away than this is faster. */
#define PACK_RTT_US 1000

gsize
nf_link_cost (gsize payload_len)
{
  return payload_len + NF_FRAME_COST_EXTRA;
}

void
nf_link_put_control (NfLane *lane, const NfMsg *msg)
{
  g_auto (NfBuf) buf = NF_BUF_INIT;

  nf_msg_encode (msg, &buf);
  nf_lane_put (lane, NF_FRAME_CONTROL, 0, nf_buf_slice (&buf));
}

void
nf_link_put_ping (NfLink *link, guint n)
{
  NfMsg ping = { .type = NF_MSG_PING, .ping = { (guint64)g_get_monotonic_time () } };

  for (guint i = 0; i < n; i++)
    if (link->lanes[i].open && nf_frame_reader_greeted (&link->lanes[i].reader)
        && nf_lane_pending (&link->lanes[i]) < NF_FRAME_MAX)
      nf_link_put_control (&link->lanes[i], &ping);
}

static NfLane *
lane_with_room (NfLink *link)
{
  for (guint i = 0; i < link->options.lanes; i++)
    if (link->lanes[i].open && nf_lane_pending (&link->lanes[i]) < LANE_OUT_HIGH)
      return &link->lanes[i];
  return NULL;
}

gboolean
nf_link_can_move (NfLink *link)
{
  GBytes *head = g_queue_peek_head (&link->queue);

  /* Nothing goes out after a close but its reason: a greeting that was queued may be a refusal
   * by now. */
  return head != NULL && link->closing == NULL
         && nf_link_cost (g_bytes_get_size (head)) <= link->may_send
         && lane_with_room (link) != NULL;
}

/* The head of the queue, if the credit and a lane allow. */
static GBytes *
pop_queue (NfLink *link, gboolean *ret_drained)
{
  GBytes *payload = NULL;

  pthread_mutex_lock (&link->lock);
  if (nf_link_can_move (link))
    {
      payload = g_queue_pop_head (&link->queue);
      link->queued -= nf_link_cost (g_bytes_get_size (payload));
      if (link->was_high && link->queued < link->low_water)
        {
          link->was_high = FALSE;
          *ret_drained = TRUE;
        }
    }
  pthread_mutex_unlock (&link->lock);
  return payload;
}

static void
put_payload (NfLink *link, NfLane *lane, GBytes *payload)
{
  gsize len;
  const guint8 *data = g_bytes_get_data (payload, &len);
  NfSlice packed = NF_SLICE_NONE;

  link->may_send -= nf_link_cost (len);
  if (link->counted.rtt.recent_us > PACK_RTT_US)
    packed = nf_pack_squeeze (link->pack, nf_slice (data, len));
  if (packed.len > 0)
    nf_lane_put (lane, NF_FRAME_ZSTD, link->next_out++, packed);
  else
    nf_lane_put (lane, 0, link->next_out++, nf_slice (data, len));
}

/* TRUE if anything was moved. */
static gboolean
move_queue (NfLink *link, gboolean *ret_drained)
{
  gboolean moved = FALSE;
  GBytes *payload;

  while ((payload = pop_queue (link, ret_drained)) != NULL)
    {
      put_payload (link, lane_with_room (link), payload);
      g_bytes_unref (payload);
      moved = TRUE;
    }
  return moved;
}

static void
announce_credit (NfLink *link)
{
  NfMsg msg = { .type = NF_MSG_CREDIT };
  gsize bytes = nf_credit_take (link->credit);

  if (bytes == 0)
    return;
  msg.credit.bytes = bytes;
  link->may_receive += bytes;
  for (guint i = 0; i < link->options.lanes; i++)
    if (link->lanes[i].open)
      {
        nf_link_put_control (&link->lanes[i], &msg);
        return;
      }
}

gboolean
nf_link_pump_out (NfLink *link, GError **error)
{
  gboolean drained = FALSE;
  gboolean moved;

  announce_credit (link);
  do
    {
      moved = move_queue (link, &drained);
      for (guint i = 0; i < link->options.lanes; i++)
        if (link->lanes[i].open
            && !nf_lane_flush (&link->lanes[i], link->transport, i, &link->counted.bytes_out,
                               error))
          return FALSE;
    }
  while (moved && lane_with_room (link) != NULL);
  if (drained)
    link->events.drained (link->data);
  return TRUE;
}
