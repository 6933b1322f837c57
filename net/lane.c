// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "net/lane.h"

#include <errno.h>
#include <string.h>

#include "net/hub.h"

void
nf_lane_frame_free (NfLaneFrame *frame)
{
  if (frame == NULL)
    return;
  nf_payload_free (frame->payload);
  g_free (frame);
}

void
nf_lane_open (NfLane *lane, gboolean skip_magic, gint64 now_us)
{
  lane->open = TRUE;
  nf_frame_reader_init (&lane->reader, skip_magic);
  g_queue_init (&lane->arrived);
  lane->opened_us = lane->heard_us = now_us;
  nf_buf_put_raw (&lane->out, NF_MAGIC, NF_MAGIC_LEN);
}

void
nf_lane_clear (NfLane *lane)
{
  NfLaneFrame *frame;

  while ((frame = g_queue_pop_head (&lane->arrived)) != NULL)
    nf_lane_frame_free (frame);
  nf_frame_reader_clear (&lane->reader);
  nf_buf_clear (&lane->out);
  memset (lane, 0, sizeof *lane);
}

void
nf_lane_put (NfLane *lane, guint8 flags, guint64 number, NfSlice payload)
{
  NfFrameHead head = { (guint32)payload.len, flags, number };
  guint8 bytes[NF_FRAME_HEAD_LEN];

  /* Written bytes are dropped when they are the greater part, so each byte is moved at most
   * once. */
  if (lane->out_done > lane->out.len / 2)
    {
      lane->out.len -= lane->out_done;
      memmove (lane->out.data, lane->out.data + lane->out_done, lane->out.len);
      lane->out_done = 0;
    }
  nf_frame_head_encode (&head, bytes);
  nf_buf_put_raw (&lane->out, bytes, sizeof bytes);
  nf_buf_put_raw (&lane->out, payload.data, payload.len);
}

gsize
nf_lane_pending (const NfLane *lane)
{
  return lane->out.len - lane->out_done;
}

gboolean
nf_lane_flush (NfLane *lane, NfTransport *transport, guint index, guint64 *ret_bytes,
               GError **error)
{
  while (nf_lane_pending (lane) > 0)
    {
      gssize n = transport->ops->write (transport, index, lane->out.data + lane->out_done,
                                        nf_lane_pending (lane));

      if (n == -EAGAIN || n == 0)
        return TRUE;
      if (n < 0)
        {
          g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_CLOSED, "the connection broke: %s",
                       g_strerror ((int)-n));
          return FALSE;
        }
      lane->out_done += (gsize)n;
      *ret_bytes += (guint64)n;
    }
  lane->out.len = lane->out_done = 0;
  return TRUE;
}
