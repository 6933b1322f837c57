// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/journal-private.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <gio/gio.h>

/* Appending and syncing. A record, or several at a time, is one pwrite at the end of the last segment: from then on it survives
 * the death of the process. What each crash point leaves:
 *
 *   in the write of records       the first of them, and perhaps a torn one, which the next opening cuts off
 *   after creating a segment      one without a header or without records: dropped, or gone on with
 *   in a trim                     fewer segments than allowed to go
 *   in a cut                      a shorter history that ends later than the cut; whoever cuts does it again
 *   in a restart                  the old journal, or the new one */

/* After each change, with the lock. */
void
nf_journal_check (NfJournal *journal)
{
  const NfJournalSegment *first, *last;

  g_assert (journal->segments->len > 0);
  first = g_ptr_array_index (journal->segments, 0);
  last = g_ptr_array_index (journal->segments, journal->segments->len - 1);
  g_assert (last->header.before.seq <= journal->last.seq);
  g_assert (journal->synced <= journal->last.seq);
  g_assert (journal->recent_first <= journal->last.seq + 1);
  g_assert (journal->recent_first > first->header.before.seq);
  g_assert (journal->bytes >= last->size);
}

void
nf_journal_clear_recent (NfJournal *journal)
{
  for (guint64 seq = journal->recent_first; seq <= journal->last.seq; seq++)
    g_clear_pointer (&journal->recent[seq % NF_JOURNAL_RING].bytes, g_bytes_unref);
  journal->recent_bytes = 0;
}

NfJournal *
nf_journal_open (int dirfd, const char *name, const NfJournalLimits *limits, NfPosition start,
                 GError **error)
{
  g_autoptr (NfJournal) journal = g_new0 (NfJournal, 1);
  int rc;

  journal->name = g_strdup (name);
  journal->limits = *limits;
  journal->dir_fd = -1;
  journal->segments = g_ptr_array_new_with_free_func ((GDestroyNotify)nf_segment_unref);
  journal->recent_first = 1;
  pthread_mutex_init (&journal->lock, NULL);
  pthread_mutex_init (&journal->cursors_lock, NULL);
  pthread_cond_init (&journal->sync_cond, NULL);
  journal->parent_fd = fcntl (dirfd, F_DUPFD_CLOEXEC, 3);
  rc = journal->parent_fd < 0 ? -errno : nf_journal_open_dir (journal);
  if (rc != 0)
    {
      g_set_error (error, G_IO_ERROR, g_io_error_from_errno (-rc), "Can't open the journal %s: %s",
                   name, g_strerror (-rc));
      return NULL;
    }
  return nf_journal_load (journal, start, error) ? g_steal_pointer (&journal) : NULL;
}

void
nf_journal_close (NfJournal *journal)
{
  if (journal == NULL)
    return;
  nf_journal_forget_cursors (journal);
  nf_journal_clear_recent (journal);
  g_ptr_array_unref (journal->segments);
  if (journal->dir_fd >= 0)
    close (journal->dir_fd);
  if (journal->parent_fd >= 0)
    close (journal->parent_fd);
  pthread_mutex_destroy (&journal->lock);
  pthread_mutex_destroy (&journal->cursors_lock);
  pthread_cond_destroy (&journal->sync_cond);
  g_free (journal->name);
  g_free (journal);
}

/* Begins a new segment if frames of LEN bytes, the first of TIME, would make the last one too large. */
static int
make_room (NfJournal *journal, gsize len, gint64 time)
{
  NfJournalSegment *segment = nf_journal_last_segment (journal);
  NfSegmentHeader header = { .before = journal->last, .synced = journal->synced, .created = time };
  int rc;

  if (segment->size <= NF_SEGMENT_HEADER_LEN
      || segment->size + len <= journal->limits.segment_bytes)
    return 0;
  rc = nf_segment_create (journal->dir_fd, &header, &segment);
  if (rc != 0)
    return rc;
  g_ptr_array_add (journal->segments, segment);
  journal->bytes += segment->size;
  journal->dir_dirty = TRUE;
  return 0;
}

static void
remember (NfJournal *journal, NfPosition position, GBytes *bytes)
{
  journal->recent_bytes += g_bytes_get_size (bytes);
  while (journal->recent_first < position.seq
         && (journal->recent_bytes > NF_JOURNAL_RING_BYTES
             || position.seq - journal->recent_first >= NF_JOURNAL_RING))
    {
      NfJournalRecent *oldest = &journal->recent[journal->recent_first % NF_JOURNAL_RING];

      journal->recent_bytes -= g_bytes_get_size (oldest->bytes);
      g_clear_pointer (&oldest->bytes, g_bytes_unref);
      journal->recent_first++;
    }
  journal->recent[position.seq % NF_JOURNAL_RING]
      = (NfJournalRecent){ position, g_bytes_ref (bytes) };
}

/* With the lock: BYTES, which say RECORD, have been written at OFFSET of the last segment. */
static NfPosition
note_appended (NfJournal *journal, const NfRecord *record, GBytes *bytes, guint64 offset)
{
  NfSlice slice = nf_slice (g_bytes_get_data (bytes, NULL), g_bytes_get_size (bytes));
  NfSegmentMark mark = { offset, journal->last };
  NfPosition position
      = { record->epoch, record->seq, nf_record_chain (journal->last.chain, slice) };

  nf_segment_mark (nf_journal_last_segment (journal), &mark);
  journal->bytes += nf_segment_frame_size (slice.len);
  remember (journal, position, bytes);
  journal->last = position;
  journal->last_time = record->time;
  return position;
}

/* Do the records follow the last, each the one before it? */
static gboolean
follows (const NfJournal *journal, const NfRecord *records, guint n)
{
  guint64 epoch = journal->last.epoch;

  for (guint i = 0; i < n; epoch = records[i++].epoch)
    if (records[i].seq != journal->last.seq + 1 + i || records[i].epoch < epoch)
      return FALSE;
  return TRUE;
}

/* With the lock. RECORDS are what BYTES say, both N. */
static int
append (NfJournal *journal, const NfRecord *records, GBytes *const *bytes, guint n,
        NfPosition *ret_positions)
{
  NfSlice slices[NF_JOURNAL_SEVERAL_MAX];
  gsize len = 0;
  int rc;

  g_assert (n >= 1 && n <= NF_JOURNAL_SEVERAL_MAX);
  for (guint i = 0; i < n; i++)
    {
      slices[i] = nf_slice (g_bytes_get_data (bytes[i], NULL), g_bytes_get_size (bytes[i]));
      len += nf_segment_frame_size (slices[i].len);
    }
  if (!follows (journal, records, n))
    return -EINVAL;
  rc = make_room (journal, len, records[0].time);
  if (rc != 0)
    return rc;
  guint64 offset = nf_journal_last_segment (journal)->size;
  rc = nf_segment_append (nf_journal_last_segment (journal), slices, n);
  if (rc != 0)
    return rc;
  for (guint i = 0; i < n; i++)
    {
      NfPosition position = note_appended (journal, &records[i], bytes[i], offset);
      offset += nf_segment_frame_size (slices[i].len);
      if (ret_positions != NULL)
        ret_positions[i] = position;
    }
  nf_journal_check (journal);
  return 0;
}

int
nf_journal_append (NfJournal *journal, NfRecord *record, NfPosition *ret_position,
                   GBytes **ret_bytes)
{
  g_autoptr (GBytes) bytes = NULL;
  g_auto (NfBuf) buf = NF_BUF_INIT;
  NfRecord decoded;
  int rc;

  pthread_mutex_lock (&journal->lock);
  record->seq = journal->last.seq + 1;
  nf_record_encode (record, &buf);
  bytes = nf_buf_steal_bytes (&buf);
  if (nf_record_decode (nf_slice (g_bytes_get_data (bytes, NULL), g_bytes_get_size (bytes)),
                        &decoded))
    rc = append (journal, record, &bytes, 1, ret_position);
  else
    rc = -EINVAL;
  pthread_mutex_unlock (&journal->lock);
  if (rc == 0 && ret_bytes != NULL)
    *ret_bytes = g_steal_pointer (&bytes);
  return rc;
}

int
nf_journal_append_several (NfJournal *journal, const NfSlice *records, guint n,
                           NfPosition *ret_positions)
{
  g_autofree NfRecord *decoded = g_new (NfRecord, n);
  GBytes *copies[NF_JOURNAL_SEVERAL_MAX];
  int rc;

  for (guint i = 0; i < n; i++)
    if (!nf_record_decode (records[i], &decoded[i]))
      return -EINVAL;
  for (guint i = 0; i < n; i++)
    copies[i] = g_bytes_new (records[i].data, records[i].len);
  pthread_mutex_lock (&journal->lock);
  rc = append (journal, decoded, copies, n, ret_positions);
  pthread_mutex_unlock (&journal->lock);
  for (guint i = 0; i < n; i++)
    g_bytes_unref (copies[i]);
  return rc;
}

int
nf_journal_append_bytes (NfJournal *journal, NfSlice bytes, NfPosition *ret_position)
{
  return nf_journal_append_several (journal, &bytes, 1, ret_position);
}

/* Durability. */

/* What must reach the disk, taken over with the lock. */
static GPtrArray *
take_dirty (NfJournal *journal, gboolean *ret_dir)
{
  GPtrArray *dirty = g_ptr_array_new_with_free_func ((GDestroyNotify)nf_segment_unref);

  for (guint i = 0; i < journal->segments->len; i++)
    {
      NfJournalSegment *segment = g_ptr_array_index (journal->segments, i);

      if (segment->dirty)
        g_ptr_array_add (dirty, nf_segment_ref (segment));
      segment->dirty = FALSE;
    }
  *ret_dir = journal->dir_dirty;
  journal->dir_dirty = FALSE;
  return dirty;
}

static int
write_out (int parent_fd, int dir_fd, GPtrArray *dirty)
{
  int rc = 0;

  for (guint i = 0; i < dirty->len; i++)
    if (fdatasync (((NfJournalSegment *)g_ptr_array_index (dirty, i))->fd) != 0)
      rc = -errno;
  if (dir_fd >= 0 && (fsync (dir_fd) != 0 || fsync (parent_fd) != 0))
    rc = -errno;
  return rc;
}

/* With the lock, which is let go meanwhile: one caller writes for all who wait. */
static void
sync_once (NfJournal *journal)
{
  guint64 target = journal->last.seq;
  guint64 generation = journal->generation;
  gboolean dir;
  g_autoptr (GPtrArray) dirty = take_dirty (journal, &dir);
  int dir_fd = dir ? fcntl (journal->dir_fd, F_DUPFD_CLOEXEC, 3) : -1;
  int rc;

  journal->syncing = TRUE;
  pthread_mutex_unlock (&journal->lock);
  rc = dir && dir_fd < 0 ? -EMFILE : write_out (journal->parent_fd, dir_fd, dirty);
  if (dir_fd >= 0)
    close (dir_fd);
  pthread_mutex_lock (&journal->lock);
  journal->syncing = FALSE;
  if (rc != 0)
    journal->sync_error = rc;
  else if (journal->generation == generation)
    journal->synced = MAX (journal->synced, target);
  pthread_cond_broadcast (&journal->sync_cond);
}

void
nf_journal_sync_begin (NfJournal *journal)
{
  pthread_mutex_lock (&journal->lock);
  NfJournalSegment *segment = nf_segment_ref (nf_journal_last_segment (journal));
  gboolean dirty = segment->dirty;
  pthread_mutex_unlock (&journal->lock);
  if (dirty)
    (void)sync_file_range (segment->fd, 0, 0, SYNC_FILE_RANGE_WRITE); /* the sync itself tells */
  nf_segment_unref (segment);
}

int
nf_journal_sync (NfJournal *journal)
{
  guint64 generation, target;
  int rc;

  pthread_mutex_lock (&journal->lock);
  target = journal->last.seq;
  generation = journal->generation;
  while (journal->sync_error == 0 && journal->generation == generation
         && (journal->synced < target || (journal->dir_dirty && !journal->syncing)))
    {
      if (journal->syncing)
        pthread_cond_wait (&journal->sync_cond, &journal->lock);
      else
        sync_once (journal);
    }
  rc = journal->sync_error;
  pthread_mutex_unlock (&journal->lock);
  return rc;
}

/* Ends. */

NfPosition
nf_journal_last (NfJournal *journal)
{
  NfPosition last;

  pthread_mutex_lock (&journal->lock);
  last = journal->last;
  pthread_mutex_unlock (&journal->lock);
  return last;
}

NfPosition
nf_journal_first (NfJournal *journal)
{
  NfPosition first;

  pthread_mutex_lock (&journal->lock);
  first = ((NfJournalSegment *)g_ptr_array_index (journal->segments, 0))->header.before;
  pthread_mutex_unlock (&journal->lock);
  return first;
}

guint64
nf_journal_bytes (NfJournal *journal)
{
  guint64 bytes;

  pthread_mutex_lock (&journal->lock);
  bytes = journal->bytes;
  pthread_mutex_unlock (&journal->lock);
  return bytes;
}
