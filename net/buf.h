// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <glib.h>

/* The only way to touch bytes from outside: what a peer sends and what a journal holds is read
 * through an NfReader, which checks every bound and remembers the first failure; what goes out
 * is put together in an NfBuf. All numbers are little-endian. */

/* Bytes that somebody else owns. */
typedef struct
{
  const guint8 *data;
  gsize len;
} NfSlice;

#define NF_SLICE_NONE ((NfSlice){ NULL, 0 })

NfSlice nf_slice (const void *data, gsize len);
/* STR without its terminating zero. STR may be NULL. */
NfSlice nf_slice_str (const char *str);
/* A zero-terminated copy, to be freed with g_free(). */
char *nf_slice_dup (NfSlice slice);
gboolean nf_slice_equal (NfSlice a, NfSlice b);

/* A growing buffer. Never fails but by running out of memory (then the process ends, as GLib's
 * does). */
typedef struct
{
  guint8 *data;
  gsize len;
  gsize allocated;
} NfBuf;

#define NF_BUF_INIT ((NfBuf){ NULL, 0, 0 })

void nf_buf_clear (NfBuf *buf);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (NfBuf, nf_buf_clear)
void nf_buf_put_u8 (NfBuf *buf, guint8 value);
void nf_buf_put_u16 (NfBuf *buf, guint16 value);
void nf_buf_put_u32 (NfBuf *buf, guint32 value);
void nf_buf_put_u64 (NfBuf *buf, guint64 value);
void nf_buf_put_raw (NfBuf *buf, const void *data, gsize len);
/* Length (u32) and bytes. */
void nf_buf_put_slice (NfBuf *buf, NfSlice slice);
/* Overwrites the u32 at OFFSET, which must lie within what was put. */
void nf_buf_set_u32 (NfBuf *buf, gsize offset, guint32 value);
void nf_buf_set_u64 (NfBuf *buf, gsize offset, guint64 value);
NfSlice nf_buf_slice (const NfBuf *buf);
/* The content as GBytes; BUF is empty afterwards. */
GBytes *nf_buf_steal_bytes (NfBuf *buf);

/* A cursor over bytes from outside. A get that would pass the end, or a bound, sets `failed` and
 * returns zero or an empty slice, as does every later one; so a decoder reads all its fields and
 * asks once. */
typedef struct
{
  const guint8 *data;
  gsize len;
  gsize pos;
  gboolean failed;
} NfReader;

NfReader nf_reader (NfSlice slice);
guint8 nf_reader_u8 (NfReader *reader);
guint16 nf_reader_u16 (NfReader *reader);
guint32 nf_reader_u32 (NfReader *reader);
guint64 nf_reader_u64 (NfReader *reader);
/* Length and bytes, of MAX bytes at most. The slice points into what is read. */
NfSlice nf_reader_slice (NfReader *reader, gsize max);
NfSlice nf_reader_raw (NfReader *reader, gsize len);
gsize nf_reader_left (const NfReader *reader);
/* TRUE if nothing failed and nothing is left over. */
gboolean nf_reader_done (const NfReader *reader);
