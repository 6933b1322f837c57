// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sync/journal.h"

static const NfJournalLimits roomy = { 1 << 30, G_MAXINT64, 1 << 30 };
/* A few records a segment. */
static const NfJournalLimits tight = { 4096, G_MAXINT64, 1024 };

static char *dir;
static int dir_fd;

/* Warnings of torn tails are what these tests are about. */
static GLogWriterOutput
discard_log (GLogLevelFlags level, const GLogField *fields, gsize n_fields, gpointer data)
{
  return G_LOG_WRITER_HANDLED;
}

static void
set_up (void)
{
  g_log_set_writer_func (discard_log, NULL, NULL);
  dir = g_dir_make_tmp ("nf-journal-XXXXXX", NULL);
  cr_assert_not_null (dir);
  dir_fd = open (dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void
remove_journal (const char *name)
{
  g_autofree char *path = g_build_filename (dir, name, NULL);
  GDir *list = g_dir_open (path, 0, NULL);
  const char *file;

  if (list == NULL)
    return;
  while ((file = g_dir_read_name (list)) != NULL)
    {
      g_autofree char *full = g_build_filename (path, file, NULL);

      g_unlink (full);
    }
  g_dir_close (list);
  g_rmdir (path);
}

static void
tear_down (void)
{
  remove_journal ("j");
  remove_journal ("j.new");
  close (dir_fd);
  cr_assert_eq (g_rmdir (dir), 0);
  g_free (dir);
}

TestSuite (journal, .init = set_up, .fini = tear_down);

static NfJournal *
open_with (const NfJournalLimits *limits)
{
  g_autoptr (GError) error = NULL;
  NfJournal *journal = nf_journal_open (dir_fd, "j", limits, (NfPosition){ 1, 0, 77 }, &error);

  cr_assert_not_null (journal, "%s", error == NULL ? "" : error->message);
  return journal;
}

static NfPosition
append_with (NfJournal *journal, guint64 epoch, NfFid fid, gint64 time)
{
  NfRecord record = { .epoch = epoch, .time = time, .kind = NF_OP_DATA, .fid = fid, .length = 10 };
  NfPosition position;

  cr_assert_eq (nf_journal_append (journal, &record, &position, NULL), 0);
  return position;
}

static NfPosition
append (NfJournal *journal, NfFid fid)
{
  return append_with (journal, 1, fid, 1000);
}

static gboolean
count (NfPosition position, NfSlice bytes, gpointer data)
{
  guint64 *next = data;
  NfRecord record;

  cr_assert (nf_record_decode (bytes, &record));
  cr_assert_eq (record.seq, position.seq);
  cr_assert_eq (position.seq, ++*next);
  return TRUE;
}

/* All after FROM can be read in order, up to LAST. */
static void
assert_reads (NfJournal *journal, guint64 from, guint64 last)
{
  guint64 seq = from;
  NfPosition position;

  cr_assert_eq (nf_journal_read (journal, from, count, &seq), 0);
  cr_assert_eq (seq, last, "%lu", (unsigned long)seq);
  for (seq = from; seq < last; seq++)
    {
      g_autoptr (GBytes) bytes = nf_journal_get (journal, seq, &position);

      cr_assert_not_null (bytes, "after %lu", (unsigned long)seq);
      cr_assert_eq (position.seq, seq + 1);
    }
  cr_assert_null (nf_journal_get (journal, last, &position));
}

static char *
segment_path (guint64 first)
{
  return g_strdup_printf ("%s/j/%016lx", dir, (unsigned long)first);
}

static guint
n_segments (void)
{
  g_autofree char *path = g_build_filename (dir, "j", NULL);
  GDir *list = g_dir_open (path, 0, NULL);
  guint n = 0;

  while (g_dir_read_name (list) != NULL)
    n++;
  g_dir_close (list);
  return n;
}

Test (journal, begins_after_its_start)
{
  NfJournal *journal = open_with (&roomy);
  NfPosition last = nf_journal_last (journal);

  cr_assert_eq (last.seq, 0);
  cr_assert_eq (last.chain, 77);
  cr_assert_eq (append (journal, 5).seq, 1);
  nf_journal_close (journal);
}

Test (journal, is_there_after_reopening)
{
  NfJournal *journal = open_with (&tight);
  NfPosition last = { 0 }, at;

  for (guint i = 0; i < 500; i++)
    last = append (journal, 5 + i);
  nf_journal_close (journal);
  journal = open_with (&tight);
  at = nf_journal_last (journal);
  cr_assert_eq (at.seq, 500);
  cr_assert_eq (at.chain, last.chain);
  cr_assert_gt (n_segments (), 10);
  assert_reads (journal, 0, 500);
  assert_reads (journal, 123, 500);
  cr_assert_eq (append (journal, 1).seq, 501);
  assert_reads (journal, 490, 501);
  nf_journal_close (journal);
}

Test (journal, survives_the_death_of_the_process)
{
  pid_t child = fork ();
  NfJournal *journal;
  int status;

  if (child == 0)
    {
      journal = open_with (&tight);
      for (guint i = 0; i < 100; i++)
        append (journal, 5);
      kill (getpid (), SIGKILL);
    }
  cr_assert_eq (waitpid (child, &status, 0), child);
  cr_assert (WIFSIGNALED (status));
  journal = open_with (&tight);
  assert_reads (journal, 0, 100);
  nf_journal_close (journal);
}

Test (journal, torn_tail_is_cut_at_every_byte)
{
  NfJournal *journal = open_with (&roomy);
  g_autofree char *path = segment_path (1);
  g_autofree char *whole = NULL;
  NfPosition positions[6] = { nf_journal_last (journal) };
  gsize ends[6] = { nf_journal_bytes (journal) };
  gsize len;

  for (guint i = 1; i <= 5; i++)
    {
      positions[i] = append (journal, i);
      ends[i] = nf_journal_bytes (journal);
    }
  nf_journal_close (journal);
  cr_assert (g_file_get_contents (path, &whole, &len, NULL));
  cr_assert_eq (len, ends[5]);
  for (gsize cut = ends[0]; cut <= len; cut++)
    {
      guint expected = 0;
      NfPosition last;

      while (expected < 5 && ends[expected + 1] <= cut)
        expected++;
      cr_assert (g_file_set_contents (path, whole, (gssize)cut, NULL));
      journal = open_with (&roomy);
      last = nf_journal_last (journal);
      cr_assert_eq (last.seq, expected, "cut at %zu", cut);
      cr_assert_eq (last.chain, positions[expected].chain);
      cr_assert_eq (nf_journal_bytes (journal), ends[expected]);
      cr_assert_eq (append (journal, 9).seq, expected + 1);
      assert_reads (journal, 0, expected + 1);
      nf_journal_close (journal);
    }
}

Test (journal, torn_bytes_of_any_value_are_cut)
{
  NfJournal *journal = open_with (&roomy);
  g_autofree char *path = segment_path (1);
  g_autofree char *whole = NULL;
  gsize len, end;

  append (journal, 1);
  end = nf_journal_bytes (journal);
  append (journal, 2);
  nf_journal_close (journal);
  cr_assert (g_file_get_contents (path, &whole, &len, NULL));
  for (gsize i = end; i < len; i++)
    {
      g_autofree char *bad = g_memdup2 (whole, len);

      bad[i] ^= 0x41;
      cr_assert (g_file_set_contents (path, bad, (gssize)len, NULL));
      journal = open_with (&roomy);
      /* The padding isn't checked: nothing is in it. */
      if (nf_journal_last (journal).seq != 1)
        cr_assert_gt (i, len - 8, "byte %zu", i);
      nf_journal_close (journal);
    }
}

Test (journal, segment_without_a_whole_header_is_dropped)
{
  for (gsize len = 0; len < 64; len++)
    {
      g_autofree char *last = NULL;
      g_autofree char *zeros = g_malloc0 (64);
      NfJournal *journal = open_with (&tight);
      NfPosition end;

      for (guint i = 0; i < 50; i++)
        append (journal, 1);
      end = nf_journal_last (journal);
      nf_journal_close (journal);
      last = segment_path (end.seq + 1);
      cr_assert (g_file_set_contents (last, zeros, (gssize)len, NULL));
      journal = open_with (&tight);
      cr_assert_eq (nf_journal_last (journal).chain, end.chain);
      append (journal, 2);
      assert_reads (journal, 0, end.seq + 1);
      nf_journal_close (journal);
      remove_journal ("j");
    }
}

Test (journal, torn_middle_segment_that_was_never_synced_ends_the_journal)
{
  NfJournal *journal = open_with (&tight);
  g_autofree char *first = segment_path (1);

  for (guint i = 0; i < 100; i++)
    append (journal, 1);
  nf_journal_close (journal);
  cr_assert_eq (truncate (first, 64 + 20), 0);
  journal = open_with (&tight);
  cr_assert_eq (nf_journal_last (journal).seq, 0);
  cr_assert_eq (n_segments (), 1);
  cr_assert_eq (append (journal, 1).seq, 1);
  nf_journal_close (journal);
}

Test (journal, damage_in_what_was_durable_is_an_error_that_says_where)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *path = NULL;
  NfJournal *journal = open_with (&tight);
  NfPosition start = { 1, 0, 77 };
  guint64 first;
  int fd;

  for (guint i = 0; i < 40; i++)
    append (journal, 1);
  cr_assert_eq (nf_journal_sync (journal), 0);
  while (n_segments () < 8)
    append (journal, 2);
  first = nf_journal_last (journal).seq; /* the first of the last segment */
  nf_journal_close (journal);
  /* In the segment before what the last header says is durable. */
  path = segment_path (1);
  for (guint64 seq = 40; seq > 0 && !g_file_test (path, G_FILE_TEST_EXISTS); seq--)
    {
      g_free (path);
      path = segment_path (seq);
    }
  for (guint64 seq = 40; seq > 1; seq--)
    {
      g_autofree char *there = segment_path (seq);

      if (g_file_test (there, G_FILE_TEST_EXISTS))
        {
          g_free (path);
          path = g_steal_pointer (&there);
          break;
        }
    }
  fd = open (path, O_WRONLY);
  cr_assert_eq (pwrite (fd, "\x7f", 1, 64 + 20), 1);
  close (fd);
  cr_assert_gt (first, 40);
  cr_assert_null (nf_journal_open (dir_fd, "j", &tight, start, &error));
  cr_assert_not_null (strstr (error->message, "damaged at offset 64"), "%s", error->message);
}

Test (journal, damage_in_an_old_segment_is_found_when_read)
{
  NfJournal *journal = open_with (&tight);
  g_autofree char *path = segment_path (1);
  guint64 seq = 0;
  int fd;

  for (guint i = 0; i < 40; i++)
    append (journal, 1);
  cr_assert_eq (nf_journal_sync (journal), 0);
  for (guint i = 0; i < 400; i++)
    append (journal, 1);
  cr_assert_eq (nf_journal_sync (journal), 0);
  for (guint i = 0; i < 40; i++)
    append (journal, 1);
  nf_journal_close (journal);
  fd = open (path, O_WRONLY);
  cr_assert_eq (pwrite (fd, "\x7f", 1, 64 + 20), 1);
  close (fd);
  journal = open_with (&tight);
  cr_assert_eq (nf_journal_read (journal, 0, count, &seq), -EBADMSG);
  cr_assert_eq (seq, 0);
  seq = 100;
  cr_assert_eq (nf_journal_read (journal, 100, count, &seq), 0);
  cr_assert_eq (seq, 480);
  nf_journal_close (journal);
}

Test (journal, bytes_from_the_primary_must_follow)
{
  NfJournal *journal = open_with (&roomy);
  g_auto (NfBuf) buf = NF_BUF_INIT;
  NfRecord record = { .epoch = 1, .seq = 2, .kind = NF_OP_DATA, .fid = 3 };
  NfPosition position;

  nf_record_encode (&record, &buf);
  cr_assert_eq (nf_journal_append_bytes (journal, nf_buf_slice (&buf), &position), -EINVAL);
  append (journal, 1);
  cr_assert_eq (nf_journal_append_bytes (journal, nf_buf_slice (&buf), &position), 0);
  cr_assert_eq (position.seq, 2);
  cr_assert_eq (nf_journal_append_bytes (journal, nf_buf_slice (&buf), &position), -EINVAL);
  cr_assert_eq (nf_journal_append_bytes (journal, nf_slice_str ("junk"), &position), -EINVAL);
  append_with (journal, 5, 1, 1000);
  record.seq = 4;
  record.epoch = 4;
  buf.len = 0;
  nf_record_encode (&record, &buf);
  cr_assert_eq (nf_journal_append_bytes (journal, nf_buf_slice (&buf), &position), -EINVAL,
                "an older epoch");
  nf_journal_close (journal);
}

Test (journal, same_records_give_the_same_chain)
{
  NfJournal *journal = open_with (&roomy);
  NfJournal *copy;
  NfPosition a, b;

  for (guint i = 0; i < 10; i++)
    append (journal, i + 1);
  copy = nf_journal_open (dir_fd, "j.new", &tight, (NfPosition){ 1, 0, 77 }, NULL);
  for (guint64 seq = 0; seq < 10; seq++)
    {
      g_autoptr (GBytes) bytes = nf_journal_get (journal, seq, &a);

      cr_assert_eq (
          nf_journal_append_bytes (
              copy, nf_slice (g_bytes_get_data (bytes, NULL), g_bytes_get_size (bytes)), &b),
          0);
      cr_assert_eq (a.chain, b.chain);
    }
  nf_journal_close (copy);
  nf_journal_close (journal);
}

/* Records 1 to N of FROM, whose bytes are RET_OWNERS'. */
static void
get_records (NfJournal *from, guint n, NfSlice *ret_records, GPtrArray *ret_owners)
{
  for (guint i = 0; i < n; i++)
    {
      NfPosition position;
      GBytes *bytes = nf_journal_get (from, i, &position);

      ret_records[i] = nf_slice (g_bytes_get_data (bytes, NULL), g_bytes_get_size (bytes));
      g_ptr_array_add (ret_owners, bytes);
    }
}

Test (journal, several_are_as_if_appended_one_by_one)
{
  g_autoptr (GPtrArray) owners = g_ptr_array_new_with_free_func ((GDestroyNotify)g_bytes_unref);
  NfJournal *journal = open_with (&roomy);
  NfPosition one_by_one[60], several[60];
  NfSlice records[60];

  for (guint i = 0; i < 60; i++)
    one_by_one[i] = append_with (journal, 1 + i / 50, i + 1, 1000 + i);
  get_records (journal, 60, records, owners);
  nf_journal_close (journal);
  remove_journal ("j");
  journal = open_with (&tight);
  for (guint i = 0, n = 1; i < 60; i += n, n = MIN (n + 3, 60 - i))
    cr_assert_eq (nf_journal_append_several (journal, records + i, n, several + i), 0);
  for (guint turn = 0; turn < 2; turn++)
    {
      assert_reads (journal, 0, 60);
      for (guint i = 0; i < 60; i++)
        {
          NfPosition at;
          cr_assert (nf_journal_position_at (journal, i + 1, &at));
          cr_assert_eq (at.chain, one_by_one[i].chain);
          cr_assert_eq (at.epoch, one_by_one[i].epoch);
          cr_assert_eq (several[i].chain, one_by_one[i].chain);
        }
      nf_journal_close (journal);
      journal = open_with (&tight);
    }
  cr_assert_gt (n_segments (), 2);
  nf_journal_close (journal);
}

Test (journal, of_several_all_follow_or_none_is_appended)
{
  g_autoptr (GPtrArray) owners = g_ptr_array_new_with_free_func ((GDestroyNotify)g_bytes_unref);
  NfJournal *journal = open_with (&roomy);
  NfSlice records[4];
  NfPosition positions[4];

  for (guint i = 0; i < 4; i++)
    append_with (journal, i == 2 ? 2 : 2 + i / 3, i + 1, 1000);
  get_records (journal, 4, records, owners);
  nf_journal_close (journal);
  remove_journal ("j");
  journal = open_with (&roomy);
  const NfSlice gap[] = { records[0], records[2] }, twice[] = { records[0], records[0] };
  const NfSlice junk[] = { records[0], nf_slice_str ("junk") };
  cr_assert_eq (nf_journal_append_several (journal, gap, 2, positions), -EINVAL);
  cr_assert_eq (nf_journal_append_several (journal, twice, 2, positions), -EINVAL);
  cr_assert_eq (nf_journal_append_several (journal, junk, 2, positions), -EINVAL);
  cr_assert_eq (nf_journal_last (journal).seq, 0);
  cr_assert_eq (nf_journal_append_several (journal, records, 4, positions), 0);
  assert_reads (journal, 0, 4);
  nf_journal_close (journal);
}

Test (journal, position_is_known_at_every_seq)
{
  NfPosition positions[1001];
  NfJournal *journal = open_with (&tight);
  NfPosition at;

  positions[0] = nf_journal_last (journal);
  for (guint i = 1; i <= 1000; i++)
    positions[i] = append (journal, i);
  nf_journal_close (journal);
  journal = open_with (&tight);
  for (guint i = 0; i <= 1000; i++)
    {
      cr_assert (nf_journal_position_at (journal, i, &at), "%u", i);
      cr_assert_eq (at.seq, i);
      cr_assert_eq (at.chain, positions[i].chain, "%u", i);
    }
  cr_assert_not (nf_journal_position_at (journal, 1001, &at));
  nf_journal_close (journal);
}

/* More records than places are remembered for, twice over. */
Test (journal, position_is_known_anywhere_in_a_long_segment)
{
  enum
  {
    LAST = 50000,
    STEP = 61
  };
  g_autofree NfPosition *positions = g_new0 (NfPosition, LAST + 1);
  NfJournal *journal = open_with (&roomy);
  NfPosition at;

  positions[0] = nf_journal_last (journal);
  for (guint i = 1; i <= LAST; i++)
    positions[i] = append (journal, i);
  for (guint opening = 0; opening < 2; opening++)
    {
      for (guint i = 0; i <= LAST; i += STEP)
        {
          cr_assert (nf_journal_position_at (journal, i, &at), "%u", i);
          cr_assert_eq (at.seq, i);
          cr_assert_eq (at.chain, positions[i].chain, "%u", i);
        }
      nf_journal_close (journal);
      journal = open_with (&roomy);
    }
  cr_assert_eq (nf_journal_cut (journal, LAST / 3), 0);
  for (guint i = LAST / 3 + 1; i <= LAST; i++)
    cr_assert_eq (append (journal, i).chain, positions[i].chain);
  cr_assert (nf_journal_position_at (journal, LAST / 2, &at));
  cr_assert_eq (at.chain, positions[LAST / 2].chain);
  nf_journal_close (journal);
}

Test (journal, is_trimmed_by_size_but_not_what_somebody_needs)
{
  NfJournal *journal = open_with (&tight);
  NfPosition first, at;
  guint64 seq;

  for (guint i = 0; i < 40; i++)
    append (journal, 1);
  cr_assert_gt (nf_journal_bytes (journal), 4096);
  cr_assert_leq (nf_journal_bytes (journal), 8192);
  nf_journal_trim (journal, 0);
  cr_assert_eq (nf_journal_first (journal).seq, 0, "spared up to twice the limit");
  nf_journal_trim (journal, 40);
  first = nf_journal_first (journal);
  cr_assert_gt (first.seq, 0);
  cr_assert_leq (nf_journal_bytes (journal), 4096);
  cr_assert_not (nf_journal_position_at (journal, first.seq - 1, &at));
  seq = first.seq - 1;
  cr_assert_eq (nf_journal_read (journal, first.seq - 1, count, &seq), -ENOENT);
  cr_assert_null (nf_journal_get (journal, first.seq - 1, &at));
  assert_reads (journal, first.seq, 40);
  for (guint i = 0; i < 200; i++)
    append (journal, 1);
  nf_journal_trim (journal, 0);
  cr_assert_leq (nf_journal_bytes (journal), 8192, "but no further");
  nf_journal_close (journal);
  journal = open_with (&tight);
  assert_reads (journal, nf_journal_first (journal).seq, 240);
  nf_journal_close (journal);
}

Test (journal, is_trimmed_by_age)
{
  NfJournalLimits limits = { 1 << 30, 1000, 1024 };
  NfJournal *journal = open_with (&limits);

  for (guint i = 0; i < 50; i++)
    append_with (journal, 1, 1, 100);
  nf_journal_trim (journal, 50);
  cr_assert_eq (nf_journal_first (journal).seq, 0);
  append_with (journal, 1, 1, 1200);
  nf_journal_trim (journal, 51);
  cr_assert_gt (nf_journal_first (journal).seq, 0);
  nf_journal_close (journal);
}

Test (journal, can_be_cut_anywhere)
{
  for (guint64 seq = 0; seq <= 60; seq++)
    {
      NfPosition positions[61];
      NfJournal *journal = open_with (&tight);

      positions[0] = nf_journal_last (journal);
      for (guint i = 1; i <= 60; i++)
        positions[i] = append (journal, i);
      assert_reads (journal, 0, 60);
      cr_assert_eq (nf_journal_cut (journal, seq), 0);
      cr_assert_eq (nf_journal_last (journal).seq, seq);
      cr_assert_eq (nf_journal_last (journal).chain, positions[seq].chain);
      append (journal, 1000);
      assert_reads (journal, 0, seq + 1);
      nf_journal_close (journal);
      journal = open_with (&tight);
      assert_reads (journal, 0, seq + 1);
      nf_journal_close (journal);
      remove_journal ("j");
    }
}

Test (journal, restart_begins_anew)
{
  NfJournal *journal = open_with (&tight);
  NfPosition start = { 9, 5000, 1234 };

  for (guint i = 0; i < 100; i++)
    append (journal, 1);
  cr_assert_eq (nf_journal_restart (journal, start), 0);
  cr_assert_eq (nf_journal_last (journal).seq, 5000);
  cr_assert_eq (nf_journal_first (journal).chain, 1234);
  cr_assert_eq (append_with (journal, 9, 1, 1).seq, 5001);
  assert_reads (journal, 5000, 5001);
  cr_assert_eq (nf_journal_sync (journal), 0);
  nf_journal_close (journal);
  journal = open_with (&tight);
  assert_reads (journal, 5000, 5001);
  cr_assert_eq (n_segments (), 1);
  /* Backwards as well. */
  cr_assert_eq (nf_journal_restart (journal, (NfPosition){ 9, 3, 8 }), 0);
  cr_assert_eq (append_with (journal, 9, 1, 1).seq, 4);
  nf_journal_close (journal);
}

Test (journal, restart_that_a_crash_cut_short_is_settled)
{
  g_autofree char *old = g_build_filename (dir, "j", NULL);
  g_autofree char *new = g_build_filename (dir, "j.new", NULL);
  NfJournal *journal = open_with (&tight);

  append (journal, 1);
  nf_journal_close (journal);
  cr_assert_eq (g_mkdir (new, 0700), 0);
  journal = open_with (&tight);
  assert_reads (journal, 0, 1);
  cr_assert_not (g_file_test (new, G_FILE_TEST_EXISTS));
  nf_journal_close (journal);
  cr_assert_eq (g_rename (old, new), 0);
  journal = open_with (&tight);
  assert_reads (journal, 0, 1);
  nf_journal_close (journal);
}

Test (journal, no_space_leaves_nothing_half_appended)
{
  NfJournal *journal = open_with (&roomy);
  NfRecord record = { .epoch = 1, .kind = NF_OP_XATTR, .fid = 1, .xname = nf_slice_str ("user.x") };
  g_autofree char *value = g_malloc0 (5000);
  struct rlimit limit = { 4096, 4096 };
  NfPosition position;

  append (journal, 1);
  signal (SIGXFSZ, SIG_IGN);
  cr_assert_eq (setrlimit (RLIMIT_FSIZE, &limit), 0);
  record.value = nf_slice (value, 5000);
  cr_assert_eq (nf_journal_append (journal, &record, &position, NULL), -EFBIG);
  cr_assert_eq (nf_journal_last (journal).seq, 1);
  cr_assert_eq (append (journal, 2).seq, 2);
  assert_reads (journal, 0, 2);
  /* Of several, too: the first would fit. */
  g_auto (NfBuf) small = NF_BUF_INIT;
  g_auto (NfBuf) large = NF_BUF_INIT;
  NfPosition positions[2];
  NfRecord next = { .epoch = 1, .seq = 3, .kind = NF_OP_DATA, .fid = 1 };
  nf_record_encode (&next, &small);
  record.seq = 4;
  nf_record_encode (&record, &large);
  const NfSlice both[] = { nf_buf_slice (&small), nf_buf_slice (&large) };
  cr_assert_eq (nf_journal_append_several (journal, both, 2, positions), -EFBIG);
  cr_assert_eq (nf_journal_last (journal).seq, 2);
  assert_reads (journal, 0, 2);
  nf_journal_close (journal);
  journal = open_with (&roomy);
  assert_reads (journal, 0, 2);
  nf_journal_close (journal);
}

#define THREADS 4
#define EACH 2000

static void *
append_and_sync (void *data)
{
  NfJournal *journal = data;

  for (guint i = 0; i < EACH; i++)
    {
      append (journal, i + 1);
      if (i % 100 == 0)
        cr_assert_eq (nf_journal_sync (journal), 0);
    }
  return NULL;
}

static void *
follow (void *data)
{
  NfJournal *journal = data;
  guint64 seq = 0;

  while (seq < THREADS * EACH)
    {
      NfPosition position;
      g_autoptr (GBytes) bytes = nf_journal_get (journal, seq, &position);

      if (bytes != NULL)
        cr_assert_eq (position.seq, ++seq);
      else
        sched_yield ();
    }
  return NULL;
}

Test (journal, many_append_while_others_read)
{
  NfJournalLimits limits = { 1 << 30, G_MAXINT64, 64 * 1024 };
  NfJournal *journal = open_with (&limits);
  pthread_t writers[THREADS], readers[2];

  for (guint i = 0; i < THREADS; i++)
    cr_assert_eq (pthread_create (&writers[i], NULL, append_and_sync, journal), 0);
  for (guint i = 0; i < 2; i++)
    cr_assert_eq (pthread_create (&readers[i], NULL, follow, journal), 0);
  for (guint i = 0; i < THREADS; i++)
    pthread_join (writers[i], NULL);
  for (guint i = 0; i < 2; i++)
    pthread_join (readers[i], NULL);
  assert_reads (journal, 0, THREADS * EACH);
  nf_journal_close (journal);
  journal = open_with (&limits);
  assert_reads (journal, 0, THREADS * EACH);
  nf_journal_close (journal);
}
