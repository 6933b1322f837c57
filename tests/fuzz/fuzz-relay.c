// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <errno.h>
#include <string.h>

#include "net/link-private.h"

/* Any stream: a link reads it from a transport that is nothing but these bytes, with two lanes
 * between which the first byte of each piece chooses. What is delivered is well-formed, and what
 * is kept is within the credit. */

int LLVMFuzzerTestOneInput (const guint8 *data, size_t size);

/* Pieces: u8 lane and length, then that many bytes (0: 64 bytes). */
typedef struct
{
  NfTransport base;
  NfSlice left;
  NfSlice piece;
  guint lane;
} Bytes;

static void
next_piece (Bytes *self)
{
  guint8 head;
  gsize len;

  if (self->piece.len > 0 || self->left.len == 0)
    return;
  head = self->left.data[0];
  len = (head & 127) == 0 ? 64 : head & 127;
  self->lane = head >> 7;
  len = MIN (len, self->left.len - 1);
  self->piece = nf_slice (self->left.data + 1, len);
  self->left = nf_slice (self->left.data + 1 + len, self->left.len - 1 - len);
}

static guint
bytes_prepare (NfTransport *transport, guint want_write, struct pollfd *fds, gboolean *ret_now)
{
  *ret_now = TRUE;
  return 0;
}

static gboolean
bytes_dispatch (NfTransport *transport, const struct pollfd *fds, guint n_fds, GError **error)
{
  return TRUE;
}

static gssize
bytes_read (NfTransport *transport, guint lane, void *buffer, gsize size)
{
  Bytes *self = (Bytes *)transport;
  gsize n;

  next_piece (self);
  if (self->piece.len == 0)
    return self->left.len == 0 ? 0 : -EAGAIN;
  if (self->lane != lane)
    return -EAGAIN;
  n = MIN (size, self->piece.len);
  memcpy (buffer, self->piece.data, n);
  self->piece = nf_slice (self->piece.data + n, self->piece.len - n);
  return (gssize)n;
}

static gssize
bytes_write (NfTransport *transport, guint lane, const void *data, gsize len)
{
  return (gssize)len;
}

static char *
bytes_explain (NfTransport *transport, guint lane)
{
  return NULL;
}

static void
bytes_free (NfTransport *transport, gboolean dead)
{
}

static const NfTransportOps bytes_ops = { .prepare = bytes_prepare,
                                          .dispatch = bytes_dispatch,
                                          .read = bytes_read,
                                          .write = bytes_write,
                                          .explain = bytes_explain,
                                          .free = bytes_free };

/* Every other message is kept to the end, as a slow receiver would. */
static void
on_message (gpointer data, NfMsg *msg)
{
  GPtrArray *kept = data;

  g_assert_true (nf_msg_flags ((int)msg->type) >= 0);
  if (kept->len % 2 == 0)
    g_ptr_array_add (kept, msg);
  else
    nf_msg_free (msg);
}

static void
on_drained (gpointer data)
{
}

static guint
on_tick (gpointer data, gint64 now_us)
{
  return 1000;
}

int
LLVMFuzzerTestOneInput (const guint8 *data, size_t size)
{
  static const NfLinkEvents events = { on_message, on_drained, on_tick };
  Bytes bytes = { .base = { &bytes_ops }, .left = { data, size } };
  NfLinkOptions options
      = { .kind = NF_LINK_BULK, .dialling = TRUE, .lanes = 2, .heartbeat_ms = 1000, .who = "fuzz" };
  g_autoptr (GPtrArray) kept = g_ptr_array_new_with_free_func ((GDestroyNotify)nf_msg_free);
  g_autoptr (NfLink) link = nf_link_new (&options, &bytes.base, 2, &events, kept, NULL);
  g_autoptr (GError) error = NULL;

  g_assert_nonnull (link);
  error = nf_link_run (link);
  g_assert_true (error != NULL && error->domain == NF_NET_ERROR);
  g_assert_true (link->may_receive <= NF_LINK_CREDIT_BULK);
  return 0;
}
