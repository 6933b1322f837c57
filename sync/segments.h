// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <glib.h>

/* What is wanted of a file's content, and how far it has come: disjoint segments in order of offset. Content that has
 * become too old while it came is kept until newer comes: it will do for the ops up to its stamp. No I/O here. */

typedef enum
{
  NF_SEG_NONE,   /* not here yet */
  NF_SEG_STAGED, /* in the staging file */
  NF_SEG_HOLE,   /* zeros, or past the end */
  NF_SEG_LOCAL,  /* the file's own content turned out to be right */
} NfSegState;

typedef struct
{
  guint64 start;
  guint64 end;
  guint64 need;  /* content as of this seq at least */
  guint64 stamp; /* as of which it is */
  guint64 asked; /* the request that is to bring it, or 0 */
  NfSegState state;
} NfSegment;

typedef struct
{
  GArray *array; /* of NfSegment */
} NfSegments;

/* It isn't here, or too old. */
gboolean nf_segment_is_wanted (const NfSegment *segment);

void nf_segments_init (NfSegments *segments);
void nf_segments_clear (NfSegments *segments);

/* START to END is wanted as of NEED. What is there with an older stamp is wanted again. */
void nf_segments_want (NfSegments *segments, guint64 start, guint64 end, guint64 need);
typedef void (*NfSegmentFunc) (guint64 start, guint64 end, gpointer data);
/* The parts of START to END that nf_segments_got() would take. */
void nf_segments_taking (const NfSegments *segments, guint64 start, guint64 end, guint64 stamp,
                         NfSegmentFunc func, gpointer data);
/* START to END has come, as of STAMP. What isn't wanted is ignored; what is needed newer is taken and has to be asked for again. */
void nf_segments_got (NfSegments *segments, guint64 start, guint64 end, guint64 stamp,
                      NfSegState state);
/* The first segment that nobody has been asked for, of MAX bytes at most: marks it as asked by REQUEST. */
gboolean nf_segments_ask (NfSegments *segments, guint64 max, guint64 request, guint64 *ret_start,
                          guint64 *ret_end);
/* What REQUEST was to bring and didn't: FUNC for each part. */
void nf_segments_asked (NfSegments *segments, guint64 request, NfSegmentFunc func, gpointer data);
/* REQUEST (0: any) brings nothing any more. */
void nf_segments_unask (NfSegments *segments, guint64 request);

gboolean nf_segments_complete (const NfSegments *segments);
gboolean nf_segments_to_ask (const NfSegments *segments);
/* START to END is here, as of SEQ at least. */
gboolean nf_segments_covered (const NfSegments *segments, guint64 start, guint64 end, guint64 seq);
guint64 nf_segments_missing (const NfSegments *segments); /* bytes */
guint64 nf_segments_newest (const NfSegments *segments);  /* the greatest stamp */
/* Everything from 0 to END is staged or a hole. */
gboolean nf_segments_whole (const NfSegments *segments, guint64 end);
guint nf_segments_count (const NfSegments *segments);
const NfSegment *nf_segments_at (const NfSegments *segments, guint index);
