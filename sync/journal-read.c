// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/journal-private.h"

#include <errno.h>

NfJournalSegment *
nf_journal_segment_at (NfJournal *journal, guint64 seq)
{
  for (guint i = journal->segments->len; i > 0; i--)
    {
      NfJournalSegment *segment = g_ptr_array_index (journal->segments, i - 1);

      if (segment->header.before.seq <= seq)
        return seq <= journal->last.seq ? segment : NULL;
    }
  return NULL;
}

/* The segment after SEGMENT, referenced. 1, 0 if that is the last, -ENOENT if it is no longer part of the journal. */
static int
next_segment (NfJournal *journal, const NfJournalSegment *segment, NfJournalSegment **ret_next)
{
  for (guint i = 0; i < journal->segments->len; i++)
    if (g_ptr_array_index (journal->segments, i) == segment)
      {
        if (i + 1 == journal->segments->len)
          return 0;
        *ret_next = nf_segment_ref (g_ptr_array_index (journal->segments, i + 1));
        return 1;
      }
  return -ENOENT;
}

int
nf_journal_step (NfJournal *journal, NfSegmentCursor *cursor, NfSlice *ret_record)
{
  for (;;)
    {
      g_autoptr (NfJournalSegment) next = NULL;
      NfSegmentMark mark = { cursor->offset, cursor->position };
      guint64 limit;
      int rc = 1;

      pthread_mutex_lock (&journal->lock);
      limit = cursor->segment->size;
      if (cursor->offset >= limit)
        rc = next_segment (journal, cursor->segment, &next);
      else
        nf_segment_mark (cursor->segment, &mark);
      pthread_mutex_unlock (&journal->lock);
      if (rc <= 0)
        return rc;
      if (next == NULL)
        return nf_segment_cursor_next (cursor, limit, ret_record);
      if (next->header.before.seq != cursor->position.seq
          || next->header.before.chain != cursor->position.chain)
        return -EBADMSG;
      mark = (NfSegmentMark){ NF_SEGMENT_HEADER_LEN, next->header.before };
      nf_segment_cursor_clear (cursor);
      nf_segment_cursor_init (cursor, next, &mark);
    }
}

/* A cursor after SEQ. -ENOENT if that is trimmed away or not there yet. */
static int
seek (NfJournal *journal, guint64 seq, NfSegmentCursor *cursor)
{
  NfJournalSegment *segment;
  NfSlice record;
  int rc = 1;

  pthread_mutex_lock (&journal->lock);
  segment = nf_journal_segment_at (journal, seq);
  if (segment != NULL)
    {
      NfSegmentMark mark = nf_segment_find (segment, seq);

      nf_segment_cursor_init (cursor, segment, &mark);
    }
  pthread_mutex_unlock (&journal->lock);
  if (segment == NULL)
    return -ENOENT;
  while (rc > 0 && cursor->position.seq < seq)
    rc = nf_journal_step (journal, cursor, &record);
  if (rc > 0)
    return 0;
  nf_segment_cursor_clear (cursor);
  return rc == 0 ? -EBADMSG : rc; /* it ends before the journal says that it does */
}

int
nf_journal_read (NfJournal *journal, guint64 seq, NfJournalFunc func, gpointer data)
{
  NfSegmentCursor cursor;
  NfSlice record;
  guint64 generation;
  int rc;

  pthread_mutex_lock (&journal->lock);
  generation = journal->generation;
  pthread_mutex_unlock (&journal->lock);
  rc = seek (journal, seq, &cursor);
  if (rc != 0)
    return rc;
  while ((rc = nf_journal_step (journal, &cursor, &record)) > 0)
    {
      gboolean same;

      if (!func (cursor.position, record, data))
        {
          rc = 0;
          break;
        }
      pthread_mutex_lock (&journal->lock);
      same = journal->generation == generation;
      pthread_mutex_unlock (&journal->lock);
      if (!same)
        {
          rc = -ENOENT;
          break;
        }
    }
  nf_segment_cursor_clear (&cursor);
  return rc;
}

/* Cursors that go on. */

static void
free_cursor (NfJournalCursor *cursor)
{
  if (cursor->used != 0)
    nf_segment_cursor_clear (&cursor->at);
  cursor->used = 0;
}

void
nf_journal_forget_cursors (NfJournal *journal)
{
  for (guint i = 0; i < NF_JOURNAL_CURSORS; i++)
    free_cursor (&journal->cursors[i]);
}

/* A cursor that stands after SEQ, from an earlier call or in place of the one longest unused. */
static int
cursor_at (NfJournal *journal, guint64 seq, NfJournalCursor **ret_cursor)
{
  NfJournalCursor *oldest = &journal->cursors[0];
  int rc;

  for (guint i = 0; i < NF_JOURNAL_CURSORS; i++)
    {
      NfJournalCursor *cursor = &journal->cursors[i];

      if (cursor->used != 0 && cursor->at.position.seq == seq)
        {
          cursor->used = ++journal->cursor_uses;
          *ret_cursor = cursor;
          return 0;
        }
      if (cursor->used < oldest->used)
        oldest = cursor;
    }
  free_cursor (oldest);
  rc = seek (journal, seq, &oldest->at);
  if (rc != 0)
    return rc;
  oldest->used = ++journal->cursor_uses;
  *ret_cursor = oldest;
  return 0;
}

static GBytes *
get_from_disk (NfJournal *journal, guint64 seq, NfPosition *ret_position)
{
  NfJournalCursor *cursor;
  GBytes *bytes = NULL;
  NfSlice record;

  pthread_mutex_lock (&journal->cursors_lock);
  if (cursor_at (journal, seq, &cursor) == 0)
    {
      if (nf_journal_step (journal, &cursor->at, &record) > 0)
        {
          bytes = g_bytes_new (record.data, record.len);
          *ret_position = cursor->at.position;
        }
      else
        free_cursor (cursor);
    }
  pthread_mutex_unlock (&journal->cursors_lock);
  return bytes;
}

GBytes *
nf_journal_get (NfJournal *journal, guint64 seq, NfPosition *ret_position)
{
  GBytes *bytes = NULL;
  gboolean there;

  pthread_mutex_lock (&journal->lock);
  there = seq < journal->last.seq;
  if (there && seq + 1 >= journal->recent_first)
    {
      const NfJournalRecent *recent = &journal->recent[(seq + 1) % NF_JOURNAL_RING];

      bytes = g_bytes_ref (recent->bytes);
      *ret_position = recent->position;
    }
  pthread_mutex_unlock (&journal->lock);
  return bytes != NULL || !there ? bytes : get_from_disk (journal, seq, ret_position);
}

/* Without reading: the ends, the segments' borders, and what is in memory. */
static gboolean
known_position (NfJournal *journal, guint64 seq, NfPosition *ret_position)
{
  NfJournalSegment *segment = nf_journal_segment_at (journal, seq);

  if (seq == journal->last.seq)
    *ret_position = journal->last;
  else if (segment != NULL && segment->header.before.seq == seq)
    *ret_position = segment->header.before;
  else if (segment != NULL && seq >= journal->recent_first)
    *ret_position = journal->recent[seq % NF_JOURNAL_RING].position;
  else
    return FALSE;
  return TRUE;
}

gboolean
nf_journal_position_at (NfJournal *journal, guint64 seq, NfPosition *ret_position)
{
  NfSegmentCursor cursor;
  gboolean known;

  pthread_mutex_lock (&journal->lock);
  known = known_position (journal, seq, ret_position);
  pthread_mutex_unlock (&journal->lock);
  if (known)
    return TRUE;
  if (seek (journal, seq, &cursor) != 0)
    return FALSE;
  *ret_position = cursor.position;
  nf_segment_cursor_clear (&cursor);
  return TRUE;
}
