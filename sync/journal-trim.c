// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/journal-private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* Taking away: old segments, an end that parted from the primary's history, or everything. */

/* With the lock: may the oldest segment go? */
static gboolean
may_trim (const NfJournal *journal, guint64 keep)
{
  const NfJournalLimits *limits = &journal->limits;
  const NfJournalSegment *next;
  gint64 age;

  if (journal->segments->len < 2)
    return FALSE;
  next = g_ptr_array_index (journal->segments, 1);
  age = journal->last_time - next->header.created;
  if (next->header.before.seq <= keep)
    return journal->bytes > limits->max_bytes || age > limits->max_age_ns;
  return journal->bytes > 2 * limits->max_bytes || age / 2 > limits->max_age_ns;
}

static int
remove_segment_at (NfJournal *journal, guint number)
{
  NfJournalSegment *segment = g_ptr_array_index (journal->segments, number);
  char name[NF_SEGMENT_NAME_LEN + 1];

  nf_segment_name (segment->header.before.seq + 1, name);
  if (unlinkat (journal->dir_fd, name, 0) != 0 && errno != ENOENT)
    return -errno;
  journal->bytes -= segment->size;
  journal->dir_dirty = TRUE;
  g_ptr_array_remove_index (journal->segments, number);
  return 0;
}

/* Nothing recent may lie before the first segment. With the lock. */
static void
forget_recent_before (NfJournal *journal, guint64 seq)
{
  while (journal->recent_first < seq && journal->recent_first <= journal->last.seq)
    {
      NfJournalRecent *oldest = &journal->recent[journal->recent_first % NF_JOURNAL_RING];

      journal->recent_bytes -= g_bytes_get_size (oldest->bytes);
      g_clear_pointer (&oldest->bytes, g_bytes_unref);
      journal->recent_first++;
    }
}

void
nf_journal_trim (NfJournal *journal, guint64 keep)
{
  const NfJournalSegment *first;

  pthread_mutex_lock (&journal->lock);
  /* What can't be removed now is tried again the next time. */
  while (may_trim (journal, keep) && remove_segment_at (journal, 0) == 0)
    ;
  first = g_ptr_array_index (journal->segments, 0);
  forget_recent_before (journal, first->header.before.seq + 1);
  nf_journal_check (journal);
  pthread_mutex_unlock (&journal->lock);
}

/* With both locks: the journal ends at END, which is the place of a record in its last segment but those removed. */
static int
cut_at (NfJournal *journal, const NfSegmentCursor *end)
{
  int rc = 0;

  nf_journal_forget_cursors (journal);
  nf_journal_clear_recent (journal);
  journal->generation++;
  while (rc == 0 && nf_journal_last_segment (journal) != end->segment)
    {
      NfPosition before = nf_journal_last_segment (journal)->header.before;

      rc = remove_segment_at (journal, journal->segments->len - 1);
      if (rc == 0)
        journal->last = before;
    }
  if (rc == 0)
    {
      journal->bytes -= end->segment->size - end->offset;
      rc = nf_segment_truncate (end->segment, end->offset);
    }
  if (rc == 0)
    journal->last = end->position;
  journal->synced = MIN (journal->synced, journal->last.seq);
  journal->recent_first = journal->last.seq + 1;
  nf_journal_check (journal);
  return rc;
}

int
nf_journal_cut (NfJournal *journal, guint64 seq)
{
  NfSegmentCursor end = { 0 };
  NfJournalSegment *segment;
  NfSlice record;
  int rc = 1;

  pthread_mutex_lock (&journal->cursors_lock);
  pthread_mutex_lock (&journal->lock);
  segment = nf_journal_segment_at (journal, seq);
  if (segment == NULL)
    rc = -ENOENT;
  else
    {
      NfSegmentMark mark = nf_segment_find (segment, seq);

      nf_segment_cursor_init (&end, segment, &mark);
      while (rc > 0 && end.position.seq < seq)
        rc = nf_segment_cursor_next (&end, segment->size, &record);
      if (rc > 0)
        rc = cut_at (journal, &end);
      else if (rc == 0)
        rc = -EBADMSG; /* it ends before the journal says that it does */
      nf_segment_cursor_clear (&end);
    }
  pthread_mutex_unlock (&journal->lock);
  pthread_mutex_unlock (&journal->cursors_lock);
  return rc;
}

/* A directory with an empty segment after START. */
static int
make_new_dir (NfJournal *journal, const char *name, NfPosition start, NfJournalSegment **ret_first,
              int *ret_fd)
{
  NfSegmentHeader header = { .before = start };
  int rc = nf_journal_remove_dir (journal->parent_fd, name);
  int fd;

  if (rc != 0)
    return rc;
  if (mkdirat (journal->parent_fd, name, 0700) != 0)
    return -errno;
  fd = openat (journal->parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0)
    return -errno;
  rc = nf_segment_create (fd, &header, ret_first);
  if (rc == 0 && (fdatasync ((*ret_first)->fd) != 0 || fsync (fd) != 0))
    {
      rc = -errno;
      nf_segment_unref (*ret_first);
    }
  if (rc == 0)
    *ret_fd = fd;
  else
    close (fd);
  return rc;
}

/* NEW_NAME takes the journal's name. Where names can't be exchanged, an opening finds it if a crash comes in between.*/
static int
swap_dirs (NfJournal *journal, const char *new_name)
{
  int rc;

  if (renameat2 (journal->parent_fd, new_name, journal->parent_fd, journal->name, RENAME_EXCHANGE)
      == 0)
    return 0;
  if (errno != EINVAL && errno != ENOSYS)
    return -errno;
  rc = nf_journal_remove_dir (journal->parent_fd, journal->name);
  if (rc != 0)
    return rc;
  return renameat (journal->parent_fd, new_name, journal->parent_fd, journal->name) == 0 ? 0
                                                                                         : -errno;
}

/* With both locks. Takes FIRST and DIR_FD. */
static void
begin_anew (NfJournal *journal, NfJournalSegment *first, int dir_fd)
{
  nf_journal_forget_cursors (journal);
  nf_journal_clear_recent (journal);
  g_ptr_array_set_size (journal->segments, 0);
  g_ptr_array_add (journal->segments, first);
  close (journal->dir_fd);
  journal->dir_fd = dir_fd;
  journal->dir_dirty = TRUE;
  journal->generation++;
  journal->bytes = first->size;
  journal->last = first->header.before;
  journal->recent_first = journal->last.seq + 1;
  journal->synced = 0;
  nf_journal_check (journal);
}

int
nf_journal_restart (NfJournal *journal, NfPosition start)
{
  g_autofree char *new_name = g_strconcat (journal->name, ".new", NULL);
  NfJournalSegment *first;
  int dir_fd = -1;
  int rc;

  pthread_mutex_lock (&journal->cursors_lock);
  pthread_mutex_lock (&journal->lock);
  rc = make_new_dir (journal, new_name, start, &first, &dir_fd);
  if (rc == 0)
    {
      rc = swap_dirs (journal, new_name);
      if (rc == 0)
        {
          begin_anew (journal, first, dir_fd);
          /* The old one; what stays is removed at the next opening. */
          (void)nf_journal_remove_dir (journal->parent_fd, new_name);
        }
      else
        {
          nf_segment_unref (first);
          close (dir_fd);
        }
    }
  pthread_mutex_unlock (&journal->lock);
  pthread_mutex_unlock (&journal->cursors_lock);
  return rc;
}
