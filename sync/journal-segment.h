// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sync/record.h"

/* One file of a journal, as nearfs-journal(5) describes it: a header and framed records. Not locked: what can change
 * is guarded by the journal's lock. */

#define NF_SEGMENT_HEADER_LEN 64
#define NF_SEGMENT_FRAME_LEN 16
/* Places that are remembered, evenly from the first record on: of every so many at first, and of fewer when there are
 * too many. Going on from one means reading past some 100 KiB at most; all of a long journal's would be megabytes. */
#define NF_SEGMENT_STRIDE 64
#define NF_SEGMENT_MARKS 256
#define NF_SEGMENT_NAME_LEN 16

typedef struct
{
  NfPosition before; /* the last record's before the first one here */
  guint64 synced;    /* records up to this seq were durable when the segment was begun */
  gint64 created;    /* time of its first record */
} NfSegmentHeader;

/* A record that is somewhere. */
typedef struct
{
  guint64 offset;    /* of its frame */
  NfPosition before; /* the position before it */
} NfSegmentMark;

typedef struct
{
  int refs; /* atomic */
  int fd;
  NfSegmentHeader header;
  guint64 size;  /* up to here there are whole records */
  GArray *marks; /* of NfSegmentMark: of the records 0, stride, 2 * stride, … as far as known */
  guint64 stride;
  gboolean dirty; /* appended to since the last sync */
} NfJournalSegment;

void nf_segment_name (guint64 first_seq, char ret_name[NF_SEGMENT_NAME_LEN + 1]);
/* The first seq from a file's name; 0 if it isn't a segment's. */
guint64 nf_segment_parse_name (const char *name);

/* Makes the file in DIR_FD and writes its header. -EEXIST if there is one. */
int nf_segment_create (int dir_fd, const NfSegmentHeader *header, NfJournalSegment **ret_segment);
/* Opens the file and reads its header; `size` is the file's. -EBADMSG if the header isn't one. */
int nf_segment_open (int dir_fd, guint64 first_seq, NfJournalSegment **ret_segment);
NfJournalSegment *nf_segment_ref (NfJournalSegment *segment);
void nf_segment_unref (NfJournalSegment *segment);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (NfJournalSegment, nf_segment_unref)

/* The bytes that a record takes in the file. */
gsize nf_segment_frame_size (gsize record_len);
/* Writes N records at the end. On failure the file ends where it did. */
int nf_segment_append (NfJournalSegment *segment, const NfSlice *records, guint n);
int nf_segment_truncate (NfJournalSegment *segment, guint64 size);
/* Notes the place of a record if it is the next one to be noted. */
void nf_segment_mark (NfJournalSegment *segment, const NfSegmentMark *mark);
/* The last known place at or before the record after SEQ. */
NfSegmentMark nf_segment_find (const NfJournalSegment *segment, guint64 seq);

/* A place in one segment, read in chunks. */
typedef struct
{
  NfJournalSegment *segment;
  guint64 offset;
  NfPosition position; /* of the record before `offset` */
  guint8 *chunk;
  guint64 chunk_offset;
  gsize chunk_len;
} NfSegmentCursor;

void nf_segment_cursor_init (NfSegmentCursor *cursor, NfJournalSegment *segment,
                             const NfSegmentMark *mark);
void nf_segment_cursor_clear (NfSegmentCursor *cursor);
/* The next record, of those before LIMIT (the segment's size when that was read under the lock). RET_RECORD points into
 * the chunk. 1, 0 at the end, -EBADMSG if there is no valid record at `offset`, or another failure. */
int nf_segment_cursor_next (NfSegmentCursor *cursor, guint64 limit, NfSlice *ret_record);
