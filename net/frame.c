// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "net/frame.h"

#include <string.h>

#include "net/hub.h"

/* Of a stream that isn't nearfs', this much is quoted. */
#define QUOTE_MAX 120

void
nf_frame_head_encode (const NfFrameHead *head, guint8 *ret_bytes)
{
  guint32 len = GUINT32_TO_LE (head->len);
  guint64 number = GUINT64_TO_LE (head->number);

  memset (ret_bytes, 0, NF_FRAME_HEAD_LEN);
  memcpy (ret_bytes, &len, sizeof len);
  ret_bytes[4] = head->flags;
  memcpy (ret_bytes + 8, &number, sizeof number);
}

gboolean
nf_frame_head_decode (const guint8 *bytes, NfFrameHead *ret_head, GError **error)
{
  NfReader reader = nf_reader (nf_slice (bytes, NF_FRAME_HEAD_LEN));
  NfFrameHead head;
  NfSlice reserved;

  head.len = nf_reader_u32 (&reader);
  head.flags = nf_reader_u8 (&reader);
  reserved = nf_reader_raw (&reader, 3);
  head.number = nf_reader_u64 (&reader);

  if (head.len > NF_FRAME_MAX)
    {
      g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_PROTOCOL,
                   "frame of %u bytes, more than the %u allowed", head.len, NF_FRAME_MAX);
      return FALSE;
    }
  if (head.len < 2 || (head.flags & ~NF_FRAME_FLAGS) != 0
      || memcmp (reserved.data, "\0\0\0", 3) != 0
      || ((head.flags & NF_FRAME_CONTROL) && head.number != 0))
    {
      g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_PROTOCOL,
                   "garbage where a frame should begin");
      return FALSE;
    }
  *ret_head = head;
  return TRUE;
}

NfPayload *
nf_payload_new (gsize len)
{
  NfPayload *payload = g_malloc (sizeof *payload + len);

  payload->credit = NULL;
  payload->cost = 0;
  payload->len = len;
  return payload;
}

void
nf_payload_free (NfPayload *payload)
{
  g_free (payload);
}

void
nf_frame_reader_init (NfFrameReader *reader, gboolean skip_magic)
{
  memset (reader, 0, sizeof *reader);
  reader->state = skip_magic ? NF_FRAME_IN_HEAD : NF_FRAME_IN_MAGIC;
}

void
nf_frame_reader_clear (NfFrameReader *reader)
{
  nf_payload_free (g_steal_pointer (&reader->payload));
}

gboolean
nf_frame_reader_greeted (const NfFrameReader *reader)
{
  return reader->state != NF_FRAME_IN_MAGIC;
}

/* BYTES without what a terminal or a log would choke on. */
static char *
quote (NfSlice bytes)
{
  GString *text = g_string_new (NULL);

  for (gsize i = 0; i < MIN (bytes.len, QUOTE_MAX); i++)
    if (g_ascii_isprint ((char)bytes.data[i]))
      g_string_append_c (text, (char)bytes.data[i]);
    else if (bytes.data[i] == '\n' || bytes.data[i] == '\t')
      g_string_append_c (text, ' ');
    else
      g_string_append_printf (text, "\\x%02x", bytes.data[i]);
  if (bytes.len > QUOTE_MAX)
    g_string_append (text, "…");
  return g_strchomp (g_string_free (text, FALSE));
}

void
nf_frame_magic_error (NfSlice bytes, GError **error)
{
  gsize word_len = strlen (NF_MAGIC_WORD);
  g_autofree char *text = quote (bytes);

  if (bytes.len > word_len && memcmp (bytes.data, NF_MAGIC_WORD, word_len) == 0
      && g_ascii_isdigit (bytes.data[word_len]))
    g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_VERSION,
                 "peer speaks protocol %" G_GUINT64_FORMAT ", this is %d",
                 g_ascii_strtoull (text + word_len, NULL, 10), NF_PROTO_VERSION);
  else
    g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_NOISE,
                 "something else than nearfs talks there: \"%s\"", text);
}

/* Where BYTES must go on with the magic. FALSE if they don't. */
static gboolean
feed_magic (NfFrameReader *reader, NfSlice *bytes, GError **error)
{
  gsize n = MIN (bytes->len, NF_MAGIC_LEN - reader->got);

  if (memcmp (bytes->data, &NF_MAGIC[reader->got], n) != 0)
    {
      g_autoptr (GByteArray) all = g_byte_array_new ();

      g_byte_array_append (all, (const guint8 *)NF_MAGIC, (guint)reader->got);
      g_byte_array_append (all, bytes->data, (guint)MIN (bytes->len, 2 * QUOTE_MAX));
      nf_frame_magic_error (nf_slice (all->data, all->len), error);
      return FALSE;
    }
  *bytes = nf_slice (bytes->data + n, bytes->len - n);
  reader->got += n;
  if (reader->got == NF_MAGIC_LEN)
    {
      reader->state = NF_FRAME_IN_HEAD;
      reader->got = 0;
    }
  return TRUE;
}

/* Copies what is there of LEN bytes to TO. */
static gboolean
feed_copy (NfFrameReader *reader, NfSlice *bytes, guint8 *to, gsize len)
{
  gsize n = MIN (bytes->len, len - reader->got);

  memcpy (to + reader->got, bytes->data, n);
  *bytes = nf_slice (bytes->data + n, bytes->len - n);
  reader->got += n;
  if (reader->got < len)
    return FALSE;
  reader->got = 0;
  return TRUE;
}

NfFrameResult
nf_frame_reader_feed (NfFrameReader *reader, NfSlice *bytes, NfFrameHead *ret_head,
                      NfPayload **ret_payload, GError **error)
{
  while (bytes->len > 0)
    switch (reader->state)
      {
      case NF_FRAME_IN_MAGIC:
        if (!feed_magic (reader, bytes, error))
          return NF_FRAME_BAD;
        break;

      case NF_FRAME_IN_HEAD:
        if (!feed_copy (reader, bytes, reader->head_bytes, NF_FRAME_HEAD_LEN))
          break;
        if (!nf_frame_head_decode (reader->head_bytes, &reader->head, error))
          return NF_FRAME_BAD;
        reader->payload = nf_payload_new (reader->head.len);
        reader->state = NF_FRAME_IN_PAYLOAD;
        break;

      case NF_FRAME_IN_PAYLOAD:
        if (!feed_copy (reader, bytes, reader->payload->data, reader->head.len))
          break;
        reader->state = NF_FRAME_IN_HEAD;
        *ret_head = reader->head;
        *ret_payload = g_steal_pointer (&reader->payload);
        return NF_FRAME_READY;
      }
  return NF_FRAME_MORE;
}
