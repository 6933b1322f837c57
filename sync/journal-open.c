// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/journal-private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gio/gio.h>

/* Opening. What is known to be durable is said by the last segment's header (`synced`); only what comes after that may
 * be torn, by a power cut in any segment, by the death of the process nowhere but at the end. So the segments are read
 * from there on and cut at the first record that isn't whole, with a warning. What is damaged before it was durable
 * once: that isn't a torn tail but a broken disk, and an error. Older segments are checked as they are read. */

static void
set_error (GError **error, const NfJournal *journal, int rc, const char *what)
{
  g_set_error (error, G_IO_ERROR, g_io_error_from_errno (-rc), "Journal %s: %s: %s", journal->name,
               what, g_strerror (-rc));
}

static int
list_dir (int parent_fd, const char *name, GPtrArray *ret_names)
{
  int fd = openat (parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  DIR *dir = fd < 0 ? NULL : fdopendir (fd);
  struct dirent *entry;
  int rc;

  if (dir == NULL)
    {
      rc = -errno;
      if (fd >= 0)
        close (fd);
      return rc;
    }
  errno = 0;
  while ((entry = readdir (dir)) != NULL)
    if (strcmp (entry->d_name, ".") != 0 && strcmp (entry->d_name, "..") != 0)
      g_ptr_array_add (ret_names, g_strdup (entry->d_name));
  rc = -errno;
  closedir (dir);
  return rc;
}

int
nf_journal_remove_dir (int parent_fd, const char *name)
{
  g_autoptr (GPtrArray) names = g_ptr_array_new_with_free_func (g_free);
  int rc = list_dir (parent_fd, name, names);

  if (rc == -ENOENT)
    return 0;
  for (guint i = 0; rc == 0 && i < names->len; i++)
    {
      g_autofree char *path = g_strconcat (name, "/", g_ptr_array_index (names, i), NULL);

      if (unlinkat (parent_fd, path, 0) != 0 && errno != ENOENT)
        rc = -errno;
    }
  if (rc == 0 && unlinkat (parent_fd, name, AT_REMOVEDIR) != 0)
    rc = -errno;
  return rc;
}

int
nf_journal_set_aside (int parent_fd, const char *name)
{
  g_autofree char *aside = g_strconcat (name, ".damaged", NULL);
  int rc = nf_journal_remove_dir (parent_fd, aside);

  if (rc == 0 && renameat (parent_fd, name, parent_fd, aside) != 0)
    rc = -errno;
  return rc;
}

/* A restart puts a new directory in place of the old one in one step. What a crash leaves is the other of the two
 * under the second name. */
static int
settle_dir (NfJournal *journal)
{
  g_autofree char *new_name = g_strconcat (journal->name, ".new", NULL);
  struct stat st;

  if (fstatat (journal->parent_fd, journal->name, &st, AT_SYMLINK_NOFOLLOW) == 0)
    return nf_journal_remove_dir (journal->parent_fd, new_name);
  if (renameat (journal->parent_fd, new_name, journal->parent_fd, journal->name) == 0)
    return 0;
  if (errno != ENOENT)
    return -errno;
  return mkdirat (journal->parent_fd, journal->name, 0700) == 0 ? 0 : -errno;
}

int
nf_journal_open_dir (NfJournal *journal)
{
  int rc = settle_dir (journal);

  if (rc != 0)
    return rc;
  journal->dir_fd
      = openat (journal->parent_fd, journal->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  journal->dir_dirty = TRUE;
  return journal->dir_fd < 0 ? -errno : 0;
}

static int
compare_seqs (gconstpointer a, gconstpointer b)
{
  guint64 x = *(const guint64 *)a, y = *(const guint64 *)b;

  return x < y ? -1 : x > y;
}

static int
list_segments (NfJournal *journal, GArray *ret_seqs)
{
  g_autoptr (GPtrArray) names = g_ptr_array_new_with_free_func (g_free);
  int rc = list_dir (journal->dir_fd, ".", names);

  for (guint i = 0; i < names->len; i++)
    {
      guint64 seq = nf_segment_parse_name (g_ptr_array_index (names, i));

      if (seq != 0)
        g_array_append_val (ret_seqs, seq);
    }
  g_array_sort (ret_seqs, compare_seqs);
  return rc;
}

static int
remove_segment (NfJournal *journal, guint64 first_seq)
{
  char name[NF_SEGMENT_NAME_LEN + 1];

  nf_segment_name (first_seq, name);
  journal->dir_dirty = TRUE;
  return unlinkat (journal->dir_fd, name, 0) == 0 ? 0 : -errno;
}

/* A last file without a valid header was never synced. */
static gboolean
open_segments (NfJournal *journal, const GArray *seqs, GError **error)
{
  for (guint i = 0; i < seqs->len; i++)
    {
      guint64 first = g_array_index (seqs, guint64, i);
      NfJournalSegment *segment;
      int rc = nf_segment_open (journal->dir_fd, first, &segment);

      if (rc == -EBADMSG && i + 1 == seqs->len)
        {
          g_warning ("Journal %s: dropped segment %016" G_GINT64_MODIFIER
                     "x, which hasn't even a whole header",
                     journal->name, first);
          rc = remove_segment (journal, first);
          if (rc == 0)
            return TRUE;
        }
      if (rc != 0)
        {
          g_set_error (
              error, G_IO_ERROR, rc == -EBADMSG ? G_IO_ERROR_INVALID_DATA : G_IO_ERROR_FAILED,
              "Journal %s: segment %016" G_GINT64_MODIFIER "x can't be read: %s", journal->name,
              first, rc == -EBADMSG ? "its header is damaged" : g_strerror (-rc));
          return FALSE;
        }
      g_ptr_array_add (journal->segments, segment);
    }
  return TRUE;
}

/* Reads SEGMENT to its end or to its first bad record. */
static int
scan_segment (NfJournal *journal, NfJournalSegment *segment, NfSegmentCursor *cursor)
{
  NfSegmentMark mark = nf_segment_find (segment, segment->header.before.seq);
  NfSlice bytes;
  int rc;

  segment->dirty = TRUE; /* what the page cache had may not be on disk yet */
  nf_segment_cursor_init (cursor, segment, &mark);
  while ((rc = nf_segment_cursor_next (cursor, segment->size, &bytes)) > 0)
    {
      NfRecord record;

      mark.offset = cursor->offset - nf_segment_frame_size (bytes.len);
      nf_segment_mark (segment, &mark);
      mark.before = cursor->position;
      if (nf_record_decode (bytes, &record))
        journal->last_time = record.time;
    }
  return rc;
}

/* Ends the journal in segment NUMBER at OFFSET. */
static int
cut_tail (NfJournal *journal, guint number, guint64 offset)
{
  NfJournalSegment *segment = g_ptr_array_index (journal->segments, number);
  guint64 lost = segment->size - offset;
  int rc = 0;

  while (rc == 0 && journal->segments->len > number + 1)
    {
      NfJournalSegment *last = g_ptr_array_index (journal->segments, journal->segments->len - 1);

      lost += last->size - NF_SEGMENT_HEADER_LEN;
      rc = remove_segment (journal, last->header.before.seq + 1);
      g_ptr_array_set_size (journal->segments, (int)journal->segments->len - 1);
    }
  if (rc == 0)
    rc = nf_segment_truncate (segment, offset);
  g_warning ("Journal %s: cut %" G_GUINT64_FORMAT
             " bytes that weren't whole at the end (segment %016" G_GINT64_MODIFIER
             "x, offset %" G_GUINT64_FORMAT ")",
             journal->name, lost, segment->header.before.seq + 1, offset);
  return rc;
}

/* Is the segment after NUMBER the one that follows POSITION? */
static gboolean
continues (const NfJournal *journal, guint number, const NfPosition *position)
{
  const NfJournalSegment *next;

  if (number + 1 >= journal->segments->len)
    return TRUE;
  next = g_ptr_array_index (journal->segments, number + 1);
  return next->header.before.seq == position->seq && next->header.before.chain == position->chain;
}

static gboolean
scan_from (NfJournal *journal, guint number, guint64 synced, GError **error)
{
  for (; number < journal->segments->len; number++)
    {
      NfJournalSegment *segment = g_ptr_array_index (journal->segments, number);
      NfSegmentCursor cursor;
      guint64 offset;
      int rc = scan_segment (journal, segment, &cursor);

      journal->last = cursor.position;
      offset = cursor.offset;
      nf_segment_cursor_clear (&cursor);
      if (rc == 0 && !continues (journal, number, &journal->last))
        rc = -EBADMSG;
      if (rc == -EBADMSG && journal->last.seq >= synced)
        {
          rc = cut_tail (journal, number, offset);
          if (rc != 0)
            set_error (error, journal, rc, "can't cut the torn end");
          return rc == 0;
        }
      if (rc != 0)
        {
          g_set_error (error, G_IO_ERROR,
                       rc == -EBADMSG ? G_IO_ERROR_INVALID_DATA : G_IO_ERROR_FAILED,
                       "Journal %s: segment %016" G_GINT64_MODIFIER
                       "x is damaged at offset %" G_GUINT64_FORMAT ": %s",
                       journal->name, segment->header.before.seq + 1, offset, g_strerror (-rc));
          return FALSE;
        }
    }
  return TRUE;
}

static gboolean
scan (NfJournal *journal, GError **error)
{
  NfJournalSegment *last = g_ptr_array_index (journal->segments, journal->segments->len - 1);
  guint number = journal->segments->len - 1;

  while (number > 0)
    {
      NfJournalSegment *segment = g_ptr_array_index (journal->segments, number);

      if (segment->header.before.seq <= last->header.synced)
        break;
      number--;
    }
  journal->synced = last->header.synced;
  return scan_from (journal, number, last->header.synced, error);
}

gboolean
nf_journal_load (NfJournal *journal, NfPosition start, GError **error)
{
  g_autoptr (GArray) seqs = g_array_new (FALSE, FALSE, sizeof (guint64));
  NfJournalSegment *segment;
  int rc = list_segments (journal, seqs);

  if (rc != 0)
    {
      set_error (error, journal, rc, "can't be listed");
      return FALSE;
    }
  if (!open_segments (journal, seqs, error))
    return FALSE;
  if (journal->segments->len == 0)
    {
      rc = nf_segment_create (journal->dir_fd, &(NfSegmentHeader){ .before = start, .synced = 0 },
                              &segment);
      if (rc != 0)
        {
          set_error (error, journal, rc, "can't be begun");
          return FALSE;
        }
      g_ptr_array_add (journal->segments, segment);
      journal->last = start;
    }
  else if (!scan (journal, error))
    return FALSE;
  journal->recent_first = journal->last.seq + 1;
  for (guint i = 0; i < journal->segments->len; i++)
    journal->bytes += ((NfJournalSegment *)g_ptr_array_index (journal->segments, i))->size;
  return TRUE;
}
