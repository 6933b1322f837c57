// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/journal-segment.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#define MAGIC "NFJOURN1"
#define SEGMENT_VERSION 1
#define CHUNK_LEN (64 * 1024)
/* Any frame and what follows it. */
#define CHUNK_LEN_MAX (NF_RECORD_MAX + 2 * NF_SEGMENT_FRAME_LEN + CHUNK_LEN)

static gsize
padded (gsize len)
{
  return (len + 7) & ~(gsize)7;
}

gsize
nf_segment_frame_size (gsize record_len)
{
  return NF_SEGMENT_FRAME_LEN + padded (record_len);
}

void
nf_segment_name (guint64 first_seq, char ret_name[NF_SEGMENT_NAME_LEN + 1])
{
  g_snprintf (ret_name, NF_SEGMENT_NAME_LEN + 1, "%016" G_GINT64_MODIFIER "x", first_seq);
}

guint64
nf_segment_parse_name (const char *name)
{
  if (strlen (name) != NF_SEGMENT_NAME_LEN
      || strspn (name, "0123456789abcdef") != NF_SEGMENT_NAME_LEN)
    return 0;
  return g_ascii_strtoull (name, NULL, 16);
}

/* Files. */

static NfJournalSegment *
segment_new (int fd, const NfSegmentHeader *header, guint64 size)
{
  NfJournalSegment *segment = g_new0 (NfJournalSegment, 1);
  NfSegmentMark first = { NF_SEGMENT_HEADER_LEN, header->before };

  segment->refs = 1;
  segment->fd = fd;
  segment->header = *header;
  segment->size = size;
  segment->marks = g_array_new (FALSE, FALSE, sizeof (NfSegmentMark));
  g_array_append_val (segment->marks, first);
  segment->stride = NF_SEGMENT_STRIDE;
  return segment;
}

NfJournalSegment *
nf_segment_ref (NfJournalSegment *segment)
{
  g_atomic_int_inc (&segment->refs);
  return segment;
}

void
nf_segment_unref (NfJournalSegment *segment)
{
  if (segment == NULL || !g_atomic_int_dec_and_test (&segment->refs))
    return;
  close (segment->fd);
  g_array_unref (segment->marks);
  g_free (segment);
}

static void
encode_header (const NfSegmentHeader *header, NfBuf *buf)
{
  nf_buf_put_raw (buf, MAGIC, strlen (MAGIC));
  nf_buf_put_u32 (buf, SEGMENT_VERSION);
  nf_buf_put_u32 (buf, NF_SEGMENT_HEADER_LEN);
  nf_buf_put_u64 (buf, header->before.epoch);
  nf_buf_put_u64 (buf, header->before.seq);
  nf_buf_put_u64 (buf, header->before.chain);
  nf_buf_put_u64 (buf, header->synced);
  nf_buf_put_u64 (buf, (guint64)header->created);
  nf_buf_put_u64 (buf, XXH3_64bits (buf->data, buf->len));
}

static gboolean
decode_header (NfSlice bytes, NfSegmentHeader *ret_header)
{
  NfReader reader = nf_reader (bytes);
  NfSlice magic = nf_reader_raw (&reader, strlen (MAGIC));
  guint32 version = nf_reader_u32 (&reader);
  guint32 len = nf_reader_u32 (&reader);
  NfSegmentHeader header;

  header.before.epoch = nf_reader_u64 (&reader);
  header.before.seq = nf_reader_u64 (&reader);
  header.before.chain = nf_reader_u64 (&reader);
  header.synced = nf_reader_u64 (&reader);
  header.created = (gint64)nf_reader_u64 (&reader);
  if (nf_reader_u64 (&reader) != XXH3_64bits (bytes.data, NF_SEGMENT_HEADER_LEN - 8)
      || !nf_reader_done (&reader) || !nf_slice_equal (magic, nf_slice_str (MAGIC))
      || version != SEGMENT_VERSION || len != NF_SEGMENT_HEADER_LEN)
    return FALSE;
  *ret_header = header;
  return TRUE;
}

/* All of it, or a failure. */
static int
write_all (int fd, NfSlice bytes, guint64 offset)
{
  while (bytes.len > 0)
    {
      ssize_t len = pwrite (fd, bytes.data, bytes.len, (off_t)offset);

      if (len < 0 && errno == EINTR)
        continue;
      if (len <= 0)
        return len < 0 ? -errno : -EIO;
      bytes = nf_slice (bytes.data + len, bytes.len - (gsize)len);
      offset += (guint64)len;
    }
  return 0;
}

int
nf_segment_create (int dir_fd, const NfSegmentHeader *header, NfJournalSegment **ret_segment)
{
  g_auto (NfBuf) buf = NF_BUF_INIT;
  char name[NF_SEGMENT_NAME_LEN + 1];
  int fd, rc;

  nf_segment_name (header->before.seq + 1, name);
  fd = openat (dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0)
    return -errno;
  encode_header (header, &buf);
  rc = write_all (fd, nf_buf_slice (&buf), 0);
  if (rc != 0)
    {
      close (fd);
      (void)unlinkat (dir_fd, name, 0); /* without a header it is dropped at the next opening */
      return rc;
    }
  *ret_segment = segment_new (fd, header, NF_SEGMENT_HEADER_LEN);
  (*ret_segment)->dirty = TRUE;
  return 0;
}

static int
read_header (int fd, guint64 first_seq, NfSegmentHeader *ret_header)
{
  guint8 bytes[NF_SEGMENT_HEADER_LEN];
  NfSegmentHeader header;
  ssize_t len = pread (fd, bytes, sizeof bytes, 0);

  if (len < 0)
    return -errno;
  if (len != sizeof bytes || !decode_header (nf_slice (bytes, sizeof bytes), &header)
      || header.before.seq + 1 != first_seq || header.synced > header.before.seq)
    return -EBADMSG;
  *ret_header = header;
  return 0;
}

int
nf_segment_open (int dir_fd, guint64 first_seq, NfJournalSegment **ret_segment)
{
  char name[NF_SEGMENT_NAME_LEN + 1];
  NfSegmentHeader header;
  struct stat st;
  int fd, rc;

  nf_segment_name (first_seq, name);
  fd = openat (dir_fd, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0)
    return -errno;
  rc = fstat (fd, &st) == 0 ? read_header (fd, first_seq, &header) : -errno;
  if (rc == 0)
    *ret_segment = segment_new (fd, &header, (guint64)st.st_size);
  else
    close (fd);
  return rc;
}

int
nf_segment_truncate (NfJournalSegment *segment, guint64 size)
{
  if (ftruncate (segment->fd, (off_t)size) != 0)
    return -errno;
  segment->size = size;
  segment->dirty = TRUE;
  while (segment->marks->len > 1
         && g_array_index (segment->marks, NfSegmentMark, segment->marks->len - 1).offset >= size)
    g_array_set_size (segment->marks, segment->marks->len - 1);
  return 0;
}

static void
put_frame (NfBuf *buf, NfSlice record)
{
  static const guint8 zeros[8];

  nf_buf_put_u32 (buf, (guint32)record.len);
  nf_buf_put_u32 (buf, 0);
  nf_buf_put_u64 (buf, XXH3_64bits (record.data, record.len));
  nf_buf_put_raw (buf, record.data, record.len);
  nf_buf_put_raw (buf, zeros, padded (record.len) - record.len);
}

int
nf_segment_append (NfJournalSegment *segment, const NfSlice *records, guint n)
{
  g_auto (NfBuf) frames = NF_BUF_INIT;
  int rc;

  for (guint i = 0; i < n; i++)
    put_frame (&frames, records[i]);
  rc = write_all (segment->fd, nf_buf_slice (&frames), segment->size);
  if (rc != 0)
    {
      /* If even this fails, the next record overwrites what was begun, and an opening cuts it off. */
      (void)!ftruncate (segment->fd, (off_t)segment->size);
      return rc;
    }
  segment->size += frames.len;
  segment->dirty = TRUE;
  return 0;
}

/* Places. */

/* Every second one goes. */
static void
thin_out (NfJournalSegment *segment)
{
  NfSegmentMark *marks = (NfSegmentMark *)(void *)segment->marks->data;
  guint n_kept = (segment->marks->len + 1) / 2;

  for (guint i = 1; i < n_kept; i++)
    marks[i] = marks[2 * i];
  g_array_set_size (segment->marks, n_kept);
  segment->stride *= 2;
}

void
nf_segment_mark (NfJournalSegment *segment, const NfSegmentMark *mark)
{
  guint64 n = mark->before.seq - segment->header.before.seq;

  if (n != segment->marks->len * segment->stride)
    return;
  if (segment->marks->len == NF_SEGMENT_MARKS)
    thin_out (segment);
  g_array_append_val (segment->marks, *mark);
}

NfSegmentMark
nf_segment_find (const NfJournalSegment *segment, guint64 seq)
{
  guint64 n = (seq - segment->header.before.seq) / segment->stride;

  g_assert (seq >= segment->header.before.seq);
  return g_array_index (segment->marks, NfSegmentMark, MIN (n, segment->marks->len - 1));
}

void
nf_segment_cursor_init (NfSegmentCursor *cursor, NfJournalSegment *segment,
                        const NfSegmentMark *mark)
{
  *cursor = (NfSegmentCursor){
    .segment = nf_segment_ref (segment),
    .offset = mark->offset,
    .position = mark->before,
  };
}

void
nf_segment_cursor_clear (NfSegmentCursor *cursor)
{
  nf_segment_unref (cursor->segment);
  g_free (cursor->chunk);
  *cursor = (NfSegmentCursor){ 0 };
}

/* Makes LEN bytes at the cursor available. 0, -EBADMSG if they aren't there, or a failure. */
static int
fill (NfSegmentCursor *cursor, guint64 limit, gsize len, const guint8 **ret_bytes)
{
  guint64 begin = cursor->offset - cursor->chunk_offset;
  ssize_t got;

  if (len > limit - cursor->offset)
    return -EBADMSG;
  if (cursor->offset >= cursor->chunk_offset && begin <= cursor->chunk_len
      && len <= cursor->chunk_len - begin)
    {
      *ret_bytes = cursor->chunk + begin;
      return 0;
    }
  if (cursor->chunk == NULL)
    cursor->chunk = g_malloc (CHUNK_LEN_MAX);
  cursor->chunk_len = 0;
  got = pread (cursor->segment->fd, cursor->chunk, MIN (limit - cursor->offset, len + CHUNK_LEN),
               (off_t)cursor->offset);
  if (got < 0)
    return -errno;
  cursor->chunk_offset = cursor->offset;
  cursor->chunk_len = (gsize)got;
  if ((gsize)got < len)
    return -EBADMSG;
  *ret_bytes = cursor->chunk;
  return 0;
}

/* The record in a frame, checked: whole, unaltered, and the one that follows. */
static gboolean
check_record (const NfSegmentCursor *cursor, NfSlice bytes, guint64 check, NfPosition *ret_position)
{
  NfRecord record;

  if (XXH3_64bits (bytes.data, bytes.len) != check || !nf_record_decode (bytes, &record)
      || record.seq != cursor->position.seq + 1 || record.epoch < cursor->position.epoch)
    return FALSE;
  *ret_position = (NfPosition){
    record.epoch,
    record.seq,
    nf_record_chain (cursor->position.chain, bytes),
  };
  return TRUE;
}

int
nf_segment_cursor_next (NfSegmentCursor *cursor, guint64 limit, NfSlice *ret_record)
{
  const guint8 *bytes;
  NfReader reader;
  NfSlice record;
  guint32 len, zero;
  guint64 check;
  int rc;

  if (cursor->offset >= limit)
    return 0;
  rc = fill (cursor, limit, NF_SEGMENT_FRAME_LEN, &bytes);
  if (rc != 0)
    return rc;
  reader = nf_reader (nf_slice (bytes, NF_SEGMENT_FRAME_LEN));
  len = nf_reader_u32 (&reader);
  zero = nf_reader_u32 (&reader);
  check = nf_reader_u64 (&reader);
  if (len == 0 || len > NF_RECORD_MAX || zero != 0)
    return -EBADMSG;
  rc = fill (cursor, limit, nf_segment_frame_size (len), &bytes);
  if (rc != 0)
    return rc;
  record = nf_slice (bytes + NF_SEGMENT_FRAME_LEN, len);
  if (!check_record (cursor, record, check, &cursor->position))
    return -EBADMSG;
  cursor->offset += nf_segment_frame_size (len);
  *ret_record = record;
  return 1;
}
