// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <xxhash.h>

#include "sync/journal-segment.h"
#include "sync/journal.h"

/* A segment with a good header and anything behind it: the journal opens, with the records up to the first that isn't
 * whole, and goes on from there. The input is taken as records, u16 length and bytes each, that are framed as they
 * should be; from a length of 0 on it stands in the file as it is. */

int LLVMFuzzerTestOneInput (const guint8 *data, size_t size);

static char *dir;
static int dir_fd;

static void
remove_all (void)
{
  const char *argv[] = { "rm", "-r", dir, NULL };

  (void)g_spawn_sync (NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL,
                      NULL);
}

static GLogWriterOutput
discard_log (GLogLevelFlags level, const GLogField *fields, gsize n_fields, gpointer data)
{
  return level & G_LOG_FLAG_FATAL ? g_log_writer_default (level, fields, n_fields, data)
                                  : G_LOG_WRITER_HANDLED;
}

static void
set_up (void)
{
  g_log_set_writer_func (discard_log, NULL, NULL);
  dir = g_dir_make_tmp ("nf-fuzz-XXXXXX", NULL);
  g_assert_nonnull (dir);
  dir_fd = open (dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  g_assert_cmpint (mkdirat (dir_fd, "j", 0700), ==, 0);
  (void)atexit (remove_all);
}

static void
put_frames (NfReader *input, NfBuf *file)
{
  static const guint8 zeros[8];

  for (;;)
    {
      NfSlice record = nf_reader_raw (input, nf_reader_u16 (input));

      if (record.len == 0)
        break;
      nf_buf_put_u32 (file, (guint32)record.len);
      nf_buf_put_u32 (file, 0);
      nf_buf_put_u64 (file, XXH3_64bits (record.data, record.len));
      nf_buf_put_raw (file, record.data, record.len);
      nf_buf_put_raw (file, zeros, nf_segment_frame_size (record.len) - 16 - record.len);
    }
  if (!input->failed)
    nf_buf_put_raw (file, input->data + input->pos, input->len - input->pos);
}

static void
write_segment (NfSlice input)
{
  g_auto (NfBuf) file = NF_BUF_INIT;
  g_autoptr (NfJournalSegment) segment = NULL;
  NfSegmentHeader header = { .before = { 1, 0, 0 } };
  NfReader reader = nf_reader (input);
  int sub_fd = openat (dir_fd, "j", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

  (void)unlinkat (sub_fd, "0000000000000001", 0);
  g_assert_cmpint (nf_segment_create (sub_fd, &header, &segment), ==, 0);
  close (sub_fd);
  put_frames (&reader, &file);
  g_assert_cmpint (pwrite (segment->fd, file.data, file.len, NF_SEGMENT_HEADER_LEN), ==, file.len);
}

static gboolean
count (NfPosition position, NfSlice bytes, gpointer data)
{
  guint64 *seq = data;

  g_assert_cmpuint (position.seq, ==, ++*seq);
  return TRUE;
}

static guint64
check_journal (guint64 expected)
{
  NfJournalLimits limits = { 1 << 30, G_MAXINT64, 1 << 30 };
  g_autoptr (GError) error = NULL;
  g_autoptr (NfJournal) journal
      = nf_journal_open (dir_fd, "j", &limits, (NfPosition){ 1, 0, 0 }, &error);
  NfPosition last;
  NfRecord record = { .epoch = G_MAXUINT64, .kind = NF_OP_EPOCH };
  guint64 seq = 0;

  g_assert_no_error (error);
  last = nf_journal_last (journal);
  g_assert_true (expected == G_MAXUINT64 || expected == last.seq);
  g_assert_cmpint (nf_journal_read (journal, 0, count, &seq), ==, 0);
  g_assert_cmpuint (seq, ==, last.seq);
  g_assert_cmpint (nf_journal_append (journal, &record, NULL, NULL), ==, 0);
  return last.seq + 1;
}

int
LLVMFuzzerTestOneInput (const guint8 *data, size_t size)
{
  if (dir == NULL)
    set_up ();
  write_segment (nf_slice (data, size));
  (void)check_journal (check_journal (G_MAXUINT64));
  return 0;
}
