// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "net/link-private.h"

#include <errno.h>

/* The receiving half of a link. Each lane's frames come with growing numbers, so the next frame
 * in order is at the head of some lane's list or hasn't come yet; what waits there is bounded by
 * the credit. */

#define READ_SIZE (128 * 1024)
/* Of one lane, before others have their turn. */
#define READS_A_TURN 4
/* As fast as ops with their data may come, however long the way is; the credit is a bound, too. On a shorter one more would
 * only wait in queues, and what comes later behind it. */
#define OPS_BYTES_A_US 40
/* A credit above this is no credit but an overflow in the making. */
#define CREDIT_MAX (G_GUINT64_CONSTANT (1) << 30)

static gboolean
protocol_error (GError **error, const char *text)
{
  g_set_error_literal (error, NF_NET_ERROR, NF_NET_ERROR_PROTOCOL, text);
  return FALSE;
}

static gboolean
take_goodbye (NfLink *link, NfSlice reason, GError **error)
{
  g_autofree char *text = nf_transport_one_line ((const char *)reason.data, reason.len);

  link->peer_left = TRUE;
  g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_REFUSED, "the peer hangs up: %s",
               text == NULL ? "no reason" : text);
  return FALSE;
}

static void
take_pong (NfLink *link, guint64 stamp)
{
  guint64 now = (guint64)g_get_monotonic_time ();

  /* Anything else isn't an answer to a ping of ours. */
  if (stamp > now || now - stamp > G_USEC_PER_SEC * G_GUINT64_CONSTANT (3600))
    return;
  nf_rtt_note (&link->counted.rtt, MAX (now - stamp, 1));
  if (link->options.kind == NF_LINK_OPS && link->transport->ops->widen)
    link->transport->ops->widen (
        link->transport, MIN (link->counted.rtt.min_us * OPS_BYTES_A_US, NF_LINK_CREDIT_OPS));
}

/* A message that has no place in the order. */
static gboolean
take_control (NfLink *link, NfLane *lane, const NfMsg *msg, GError **error)
{
  switch ((int)msg->type)
    {
    case NF_MSG_PING:
      {
        NfMsg pong = { .type = NF_MSG_PONG, .pong = { msg->ping.stamp } };

        /* A peer that pings and doesn't read gets no more answers than fit. */
        if (nf_lane_pending (lane) < NF_FRAME_MAX)
          nf_link_put_control (lane, &pong);
        nf_link_ping_later (link);
        return TRUE;
      }
    case NF_MSG_PONG:
      take_pong (link, msg->pong.stamp);
      return TRUE;
    case NF_MSG_CREDIT:
      if (msg->credit.bytes > CREDIT_MAX || link->may_send + msg->credit.bytes > CREDIT_MAX)
        return protocol_error (error, "credit beyond all bounds");
      link->may_send += msg->credit.bytes;
      return TRUE;
    case NF_MSG_GOODBYE:
      return take_goodbye (link, msg->goodbye.reason, error);
    default:
      return protocol_error (error, "an ordinary message out of order");
    }
}

static gboolean
take_control_frame (NfLink *link, NfLane *lane, const NfFrameHead *head, NfPayload *payload,
                    GError **error)
{
  g_autoptr (GBytes) bytes = NULL;
  g_auto (NfMsg) msg = { 0 };

  if (head->flags & NF_FRAME_ZSTD)
    {
      nf_payload_free (payload);
      return protocol_error (error, "a compressed control frame");
    }
  bytes = g_bytes_new_with_free_func (payload->data, payload->len, (GDestroyNotify)nf_payload_free,
                                      payload);
  return nf_msg_decode (bytes, &msg, error) && take_control (link, lane, &msg, error);
}

/* Counts a frame against the credit and puts it in line. PAYLOAD is taken. */
static gboolean
take_frame (NfLink *link, NfLane *lane, const NfFrameHead *head, NfPayload *payload, GError **error)
{
  gsize size = payload->len;
  NfLaneFrame *frame;

  if (head->flags & NF_FRAME_ZSTD)
    size = nf_pack_size (payload, error);
  if (size == 0 || nf_link_cost (size) > link->may_receive || head->number < link->next_in
      || (lane->numbered && head->number <= lane->last_number))
    {
      nf_payload_free (payload);
      if (size == 0)
        return FALSE;
      if (nf_link_cost (size) > link->may_receive)
        return protocol_error (error, "the peer sends beyond its credit");
      return protocol_error (error, "a frame number comes twice");
    }
  lane->numbered = TRUE;
  lane->last_number = head->number;
  frame = g_new (NfLaneFrame, 1);
  *frame = (NfLaneFrame){ *head, payload, nf_link_cost (size) };
  link->may_receive -= frame->cost;
  g_queue_push_tail (&lane->arrived, frame);
  return TRUE;
}

static gboolean
feed (NfLink *link, NfLane *lane, NfSlice bytes, GError **error)
{
  for (;;)
    {
      NfFrameHead head;
      NfPayload *payload;

      switch (nf_frame_reader_feed (&lane->reader, &bytes, &head, &payload, error))
        {
        case NF_FRAME_MORE:
          return TRUE;
        case NF_FRAME_BAD:
          return FALSE;
        case NF_FRAME_READY:
          if (!((head.flags & NF_FRAME_CONTROL)
                    ? take_control_frame (link, lane, &head, payload, error)
                    : take_frame (link, lane, &head, payload, error)))
            return FALSE;
        }
    }
}

/* Why the stream ended, in the best words there are. */
static gboolean
stream_ended (NfLink *link, guint index, GError **error)
{
  gboolean greeted = nf_frame_reader_greeted (&link->lanes[index].reader);
  g_autofree char *text = link->transport->ops->explain (link->transport, index);

  if (text != NULL)
    g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_RELAY, "%s", text);
  else if (greeted)
    g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_CLOSED,
                 "the connection was closed at the other end");
  else
    g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_RELAY,
                 "the connection was closed before nearfs relay there said anything");
  return FALSE;
}

static gboolean
read_lane (NfLink *link, guint index, gint64 now_us, gboolean *ret_more, GError **error)
{
  NfLane *lane = &link->lanes[index];

  if (link->read_buffer == NULL)
    link->read_buffer = g_malloc (READ_SIZE);
  for (guint turn = 0; turn < READS_A_TURN; turn++)
    {
      gssize n = link->transport->ops->read (link->transport, index, link->read_buffer, READ_SIZE);

      if (n == -EAGAIN)
        return TRUE;
      if (n == 0)
        return stream_ended (link, index, error);
      if (n < 0)
        {
          g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_CLOSED, "the connection broke: %s",
                       g_strerror ((int)-n));
          return FALSE;
        }
      lane->heard_us = link->counted.heard_us = now_us;
      link->counted.bytes_in += (guint64)n;
      if (!feed (link, lane, nf_slice (link->read_buffer, (gsize)n), error))
        return FALSE;
    }
  *ret_more = TRUE;
  return TRUE;
}

/* The next frame in order, or NULL. */
static NfLaneFrame *
pop_next (NfLink *link, GError **error)
{
  for (guint i = 0; i < link->options.lanes; i++)
    {
      NfLaneFrame *frame = g_queue_peek_head (&link->lanes[i].arrived);

      if (frame == NULL || frame->head.number > link->next_in)
        continue;
      if (frame->head.number < link->next_in)
        {
          (void)protocol_error (error, "a frame number comes twice");
          return NULL;
        }
      link->next_in++;
      return g_queue_pop_head (&link->lanes[i].arrived);
    }
  return NULL;
}

/* Decompresses, decodes and hands over. FRAME is taken. */
static gboolean
deliver_frame (NfLink *link, NfLaneFrame *frame, GError **error)
{
  g_autoptr (GBytes) bytes = NULL;
  g_autoptr (NfMsg) msg = NULL;

  if (frame->head.flags & NF_FRAME_ZSTD)
    {
      NfPayload *opened = nf_pack_open (link->pack, frame->payload, error);

      nf_payload_free (frame->payload);
      frame->payload = opened;
    }
  if (frame->payload != NULL)
    bytes = nf_credit_wrap (link->credit, frame->payload, frame->cost);
  g_free (frame);
  if (bytes == NULL)
    return FALSE;
  msg = g_new0 (NfMsg, 1);
  if (!nf_msg_decode (bytes, msg, error))
    return FALSE;
  /* From here the message alone keeps the bytes, and so the credit. */
  g_bytes_unref (g_steal_pointer (&bytes));
  link->events.message (link->data, g_steal_pointer (&msg));
  return TRUE;
}

/* Whether the next frame may be delivered: not after a close, nor while held. */
static gboolean
may_deliver (NfLink *link)
{
  gboolean may;

  pthread_mutex_lock (&link->lock);
  may = link->closing == NULL && (!link->hold || link->next_in == 0);
  pthread_mutex_unlock (&link->lock);
  return may;
}

static gboolean
deliver (NfLink *link, GError **error)
{
  GError *local = NULL;

  while (may_deliver (link))
    {
      NfLaneFrame *frame = pop_next (link, &local);

      if (frame == NULL)
        break;
      if (!deliver_frame (link, frame, &local))
        break;
    }
  if (local == NULL)
    return TRUE;
  g_propagate_error (error, local);
  return FALSE;
}

gboolean
nf_link_pump_in (NfLink *link, gint64 now_us, gboolean *ret_more, GError **error)
{
  GError *local = NULL;

  for (guint i = 0; i < link->options.lanes && local == NULL; i++)
    if (link->lanes[i].open)
      (void)read_lane (link, i, now_us, ret_more, &local);
  /* What had come whole before a stream ended or broke is delivered still. */
  if (!deliver (link, local == NULL ? &local : NULL) || local != NULL)
    {
      g_propagate_error (error, local);
      return FALSE;
    }
  return TRUE;
}
