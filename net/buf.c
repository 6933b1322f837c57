// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "net/buf.h"

#include <string.h>

/* Room for a small message without growing. */
#define BUF_FIRST_SIZE 256

NfSlice
nf_slice (const void *data, gsize len)
{
  return (NfSlice){ data, len };
}

NfSlice
nf_slice_str (const char *str)
{
  return str == NULL ? NF_SLICE_NONE : nf_slice (str, strlen (str));
}

char *
nf_slice_dup (NfSlice slice)
{
  char *copy = g_malloc (slice.len + 1);

  if (slice.len > 0)
    memcpy (copy, slice.data, slice.len);
  copy[slice.len] = '\0';
  return copy;
}

gboolean
nf_slice_equal (NfSlice a, NfSlice b)
{
  return a.len == b.len && (a.len == 0 || memcmp (a.data, b.data, a.len) == 0);
}

void
nf_buf_clear (NfBuf *buf)
{
  g_free (buf->data);
  *buf = NF_BUF_INIT;
}

/* LEN more bytes at the end, for the caller to fill. */
static guint8 *
buf_grow (NfBuf *buf, gsize len)
{
  guint8 *start;

  if (len > buf->allocated - buf->len)
    {
      gsize wanted;

      g_assert (len <= G_MAXSIZE / 2 - buf->len);
      wanted = MAX (buf->len + len, MAX (buf->allocated * 2, BUF_FIRST_SIZE));
      buf->data = g_realloc (buf->data, wanted);
      buf->allocated = wanted;
    }
  start = buf->data + buf->len;
  buf->len += len;
  return start;
}

static void
store (guint8 *to, guint64 value, guint width)
{
  for (guint i = 0; i < width; i++)
    to[i] = (guint8)(value >> (8 * i));
}

static guint64
fetch (const guint8 *from, guint width)
{
  guint64 value = 0;

  for (guint i = 0; i < width; i++)
    value |= (guint64)from[i] << (8 * i);
  return value;
}

void
nf_buf_put_u8 (NfBuf *buf, guint8 value)
{
  *buf_grow (buf, 1) = value;
}

void
nf_buf_put_u16 (NfBuf *buf, guint16 value)
{
  store (buf_grow (buf, 2), value, 2);
}

void
nf_buf_put_u32 (NfBuf *buf, guint32 value)
{
  store (buf_grow (buf, 4), value, 4);
}

void
nf_buf_put_u64 (NfBuf *buf, guint64 value)
{
  store (buf_grow (buf, 8), value, 8);
}

void
nf_buf_put_raw (NfBuf *buf, const void *data, gsize len)
{
  if (len > 0)
    memcpy (buf_grow (buf, len), data, len);
}

void
nf_buf_put_slice (NfBuf *buf, NfSlice slice)
{
  g_assert (slice.len <= G_MAXUINT32);
  nf_buf_put_u32 (buf, (guint32)slice.len);
  nf_buf_put_raw (buf, slice.data, slice.len);
}

void
nf_buf_set_u32 (NfBuf *buf, gsize offset, guint32 value)
{
  g_assert (offset <= buf->len && buf->len - offset >= 4);
  store (buf->data + offset, value, 4);
}

void
nf_buf_set_u64 (NfBuf *buf, gsize offset, guint64 value)
{
  g_assert (offset <= buf->len && buf->len - offset >= 8);
  store (buf->data + offset, value, 8);
}

NfSlice
nf_buf_slice (const NfBuf *buf)
{
  return nf_slice (buf->data, buf->len);
}

GBytes *
nf_buf_steal_bytes (NfBuf *buf)
{
  GBytes *bytes = g_bytes_new_take (buf->data, buf->len);

  *buf = NF_BUF_INIT;
  return bytes;
}

NfReader
nf_reader (NfSlice slice)
{
  return (NfReader){ .data = slice.data, .len = slice.len };
}

/* LEN bytes, or NULL with `failed` set. */
static const guint8 *
reader_take (NfReader *reader, gsize len)
{
  const guint8 *start;

  if (reader->failed || len > reader->len - reader->pos)
    {
      reader->failed = TRUE;
      return NULL;
    }
  /* An empty reader has no data to point into. */
  start = reader->data == NULL ? (const guint8 *)"" : reader->data + reader->pos;
  reader->pos += len;
  return start;
}

static guint64
reader_number (NfReader *reader, guint width)
{
  const guint8 *from = reader_take (reader, width);

  return from == NULL ? 0 : fetch (from, width);
}

guint8
nf_reader_u8 (NfReader *reader)
{
  return (guint8)reader_number (reader, 1);
}

guint16
nf_reader_u16 (NfReader *reader)
{
  return (guint16)reader_number (reader, 2);
}

guint32
nf_reader_u32 (NfReader *reader)
{
  return (guint32)reader_number (reader, 4);
}

guint64
nf_reader_u64 (NfReader *reader)
{
  return reader_number (reader, 8);
}

NfSlice
nf_reader_raw (NfReader *reader, gsize len)
{
  const guint8 *start = reader_take (reader, len);

  return start == NULL ? NF_SLICE_NONE : nf_slice (start, len);
}

NfSlice
nf_reader_slice (NfReader *reader, gsize max)
{
  gsize len = nf_reader_u32 (reader);

  if (len > max)
    {
      reader->failed = TRUE;
      return NF_SLICE_NONE;
    }
  return nf_reader_raw (reader, len);
}

gsize
nf_reader_left (const NfReader *reader)
{
  return reader->failed ? 0 : reader->len - reader->pos;
}

gboolean
nf_reader_done (const NfReader *reader)
{
  return !reader->failed && reader->pos == reader->len;
}
