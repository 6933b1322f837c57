// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/segments.h"

void
nf_segments_init (NfSegments *segments)
{
  segments->array = g_array_new (FALSE, FALSE, sizeof (NfSegment));
}

void
nf_segments_clear (NfSegments *segments)
{
  g_clear_pointer (&segments->array, g_array_unref);
}

gboolean
nf_segment_is_wanted (const NfSegment *segment)
{
  return segment->state == NF_SEG_NONE || segment->stamp < segment->need;
}

guint
nf_segments_count (const NfSegments *segments)
{
  return segments->array->len;
}

const NfSegment *
nf_segments_at (const NfSegments *segments, guint index)
{
  return &g_array_index (segments->array, NfSegment, index);
}

static NfSegment *
at (NfSegments *segments, guint index)
{
  return &g_array_index (segments->array, NfSegment, index);
}

/* The first segment that ends after OFFSET. */
static guint
find (const NfSegments *segments, guint64 offset)
{
  guint low = 0, high = segments->array->len;

  while (low < high)
    {
      guint middle = low + (high - low) / 2;
      if (nf_segments_at (segments, middle)->end <= offset)
        low = middle + 1;
      else
        high = middle;
    }
  return low;
}

/* Makes OFFSET a boundary. Returns the index of the first segment that starts at or after it. */
static guint
split (NfSegments *segments, guint64 offset)
{
  guint i = find (segments, offset);

  if (i == segments->array->len || at (segments, i)->start >= offset)
    return i;
  NfSegment right = *at (segments, i);
  right.start = offset;
  at (segments, i)->end = offset;
  g_array_insert_val (segments->array, i + 1, right);
  return i + 1;
}

/* Joins equal neighbours from FIRST - 1 to LAST, so that the number of segments stays small. */
static void
join (NfSegments *segments, guint first, guint last)
{
  guint i = first > 0 ? first - 1 : 0;

  last = MIN (last, segments->array->len);
  while (i + 1 < segments->array->len && i < last)
    {
      NfSegment *a = at (segments, i), *b = a + 1;
      if (a->end == b->start && a->state == b->state && a->asked == b->asked && a->stamp == b->stamp
          && a->need == b->need)
        {
          a->end = b->end;
          g_array_remove_index (segments->array, i + 1);
          last--;
        }
      else
        i++;
    }
}

static void
want_more (NfSegment *segment, guint64 need)
{
  if (!nf_segment_is_wanted (segment) && segment->stamp < need)
    segment->asked = 0;
  segment->need = MAX (segment->need, need);
}

void
nf_segments_want (NfSegments *segments, guint64 start, guint64 end, guint64 need)
{
  if (start >= end)
    return;
  guint first = split (segments, start);
  (void)split (segments, end);
  guint i = first;
  guint64 offset = start;

  while (offset < end)
    {
      if (i < segments->array->len && at (segments, i)->start == offset)
        want_more (at (segments, i), need);
      else
        {
          guint64 next = i < segments->array->len ? MIN (end, at (segments, i)->start) : end;
          NfSegment segment = { .start = offset, .end = next, .need = need };
          g_array_insert_val (segments->array, i, segment);
        }
      offset = at (segments, i)->end;
      i++;
    }
  join (segments, first, i + 1);
}

static gboolean
takes (const NfSegment *segment, guint64 stamp)
{
  return segment->state == NF_SEG_NONE
         || (segment->stamp < segment->need && segment->stamp < stamp);
}

void
nf_segments_taking (const NfSegments *segments, guint64 start, guint64 end, guint64 stamp,
                    NfSegmentFunc func, gpointer data)
{
  for (guint i = find (segments, start); i < segments->array->len; i++)
    {
      const NfSegment *segment = nf_segments_at (segments, i);
      if (segment->start >= end)
        return;
      if (takes (segment, stamp))
        func (MAX (start, segment->start), MIN (end, segment->end), data);
    }
}

void
nf_segments_got (NfSegments *segments, guint64 start, guint64 end, guint64 stamp, NfSegState state)
{
  if (start >= end)
    return;
  guint first = split (segments, start);
  (void)split (segments, end);
  guint i = first;

  for (; i < segments->array->len && at (segments, i)->start < end; i++)
    {
      NfSegment *segment = at (segments, i);
      segment->asked = 0;
      if (!takes (segment, stamp))
        continue;
      segment->state = state;
      segment->stamp = stamp;
      if (stamp >= segment->need)
        segment->need = 0; /* has served its purpose, and neighbours can be joined */
    }
  join (segments, first, i + 1);
}

gboolean
nf_segments_ask (NfSegments *segments, guint64 max, guint64 request, guint64 *ret_start,
                 guint64 *ret_end)
{
  for (guint i = 0; i < segments->array->len; i++)
    {
      if (!nf_segment_is_wanted (at (segments, i)) || at (segments, i)->asked != 0)
        continue;
      guint64 start = at (segments, i)->start;
      if (at (segments, i)->end - start > max)
        (void)split (segments, start + max);
      at (segments, i)->asked = request;
      *ret_start = start;
      *ret_end = at (segments, i)->end;
      return TRUE;
    }
  return FALSE;
}

void
nf_segments_asked (NfSegments *segments, guint64 request, NfSegmentFunc func, gpointer data)
{
  for (guint i = 0; i < segments->array->len; i++)
    {
      const NfSegment *segment = nf_segments_at (segments, i);
      if (nf_segment_is_wanted (segment) && segment->asked == request)
        func (segment->start, segment->end, data);
    }
}

void
nf_segments_unask (NfSegments *segments, guint64 request)
{
  for (guint i = 0; i < segments->array->len; i++)
    if (request == 0 || at (segments, i)->asked == request)
      at (segments, i)->asked = 0;
  join (segments, 0, segments->array->len);
}

gboolean
nf_segments_complete (const NfSegments *segments)
{
  for (guint i = 0; i < segments->array->len; i++)
    if (nf_segment_is_wanted (nf_segments_at (segments, i)))
      return FALSE;
  return TRUE;
}

gboolean
nf_segments_to_ask (const NfSegments *segments)
{
  for (guint i = 0; i < segments->array->len; i++)
    {
      const NfSegment *segment = nf_segments_at (segments, i);
      if (nf_segment_is_wanted (segment) && segment->asked == 0)
        return TRUE;
    }
  return FALSE;
}

guint64
nf_segments_missing (const NfSegments *segments)
{
  guint64 missing = 0;

  for (guint i = 0; i < segments->array->len; i++)
    {
      const NfSegment *segment = nf_segments_at (segments, i);
      if (nf_segment_is_wanted (segment))
        missing += segment->end - segment->start;
    }
  return missing;
}

guint64
nf_segments_newest (const NfSegments *segments)
{
  guint64 newest = 0;

  for (guint i = 0; i < segments->array->len; i++)
    newest = MAX (newest, nf_segments_at (segments, i)->stamp);
  return newest;
}

gboolean
nf_segments_whole (const NfSegments *segments, guint64 end)
{
  guint64 offset = 0;

  for (guint i = 0; i < segments->array->len && offset < end; i++)
    {
      const NfSegment *segment = nf_segments_at (segments, i);
      if (segment->start > offset || nf_segment_is_wanted (segment)
          || segment->state == NF_SEG_LOCAL)
        return FALSE;
      offset = segment->end;
    }
  return offset >= end;
}

gboolean
nf_segments_covered (const NfSegments *segments, guint64 start, guint64 end, guint64 seq)
{
  for (guint i = find (segments, start); start < end && i < segments->array->len; i++)
    {
      const NfSegment *segment = nf_segments_at (segments, i);
      if (segment->start > start || segment->state == NF_SEG_NONE || segment->stamp < seq)
        return FALSE;
      start = segment->end;
    }
  return start >= end;
}
