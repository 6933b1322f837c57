// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/primary-help.h"

/* What a primary does with the calls of its own mount: data, attributes, xattrs. */

#define ROOT NF_FID_ROOT

static World *world;

static void
set_up (void)
{
  world = world_new ();
  world_open (world);
}

static void
tear_down (void)
{
  world_free (world);
}

TestSuite (primary_data, .init = set_up, .fini = tear_down, .timeout = 60);

#define assert_log(from, expected)                     \
  do                                                   \
    {                                                  \
      g_autofree char *text = log_after (world, from); \
      cr_assert_str_eq (text, expected);               \
    }                                                  \
  while (0)

/* ---- data ---- */

Test (primary_data, appends_go_to_the_end_and_sizes_are_told)
{
  NfFid file;

  cr_assert_eq (do_create (world, ROOT, "f", 0644, 0, &file), 0);
  cr_assert_eq (do_write (world, file, 10, 0, "abc", 3), 0);
  cr_assert_eq (world->answer.answer.value, 3);
  cr_assert_eq (world->answer.answer.attr.size, 13);
  cr_assert_eq (do_write (world, file, 0, NF_WRITE_APPEND, "def", 3), 0);
  cr_assert_eq (world->answer.answer.attr.size, 16);
  cr_assert_eq (mtime_of (stat_behind (world, "f")), world->answer.answer.attr.mtime);
  cr_assert_eq (do_read (world, file, 10, 100), 0);
  cr_assert (nf_slice_equal (world->answer.answer.data, nf_slice_str ("abcdef")));
}

Test (primary_data, a_short_write_is_recorded_as_far_as_it_went)
{
  struct rlimit limit = { 4 * 1024 * 1024, 4 * 1024 * 1024 };
  guint8 data[8192] = { 1 };
  NfFid file;

  signal (SIGXFSZ, SIG_IGN);
  cr_assert_eq (do_create (world, ROOT, "f", 0644, 0, &file), 0);
  cr_assert_eq (setrlimit (RLIMIT_FSIZE, &limit), 0);
  guint64 seq = last_seq (world);
  guint64 offset = limit.rlim_cur - 4096;
  cr_assert_eq (do_write (world, file, offset, 0, data, sizeof data), 0);
  cr_assert_eq (world->answer.answer.value, 4096);
  g_autofree char *expected = g_strdup_printf (
      "data %" G_GUINT64_FORMAT " data %" G_GUINT64_FORMAT "+8192 size 4198400 (f)\n"
      "data %" G_GUINT64_FORMAT " data %" G_GUINT64_FORMAT "+4096 size 4194304 (f)\n"
      "abort of %" G_GUINT64_FORMAT "\n",
      file, offset, file, offset, seq + 1);
  assert_log (seq, expected);
  cr_assert_eq (do_write (world, file, limit.rlim_cur, 0, data, sizeof data), -EFBIG);
  cr_assert_eq (stat_behind (world, "f").st_size, (off_t)limit.rlim_cur);
}

Test (primary_data, a_write_takes_set_id_bits_away)
{
  NfFid file;
  NfAttr attr = { .mode = 06755, .uid = 1234, .gid = 1234 };

  cr_assert_eq (do_create (world, ROOT, "f", 0755, 0, &file), 0);
  cr_assert_eq (do_setattr (world, file, NF_SET_UID | NF_SET_GID, &attr), 0);
  cr_assert_eq (do_setattr (world, file, NF_SET_MODE, &attr), 0);
  cr_assert_eq (stat_behind (world, "f").st_mode & 07777, 06755);
  guint64 seq = last_seq (world);
  cr_assert_eq (do_write (world, file, 0, NF_WRITE_KILL_PRIV, "x", 1), 0);
  cr_assert_eq (stat_behind (world, "f").st_mode & 07777, 0755);
  g_autofree char *text = log_after (world, seq);
  cr_assert_not_null (strstr (text, "mode 0755"), "%s", text);
}

static int
do_fallocate (NfFid fid, guint32 mode, guint64 offset, guint64 length)
{
  NfMsg call = { .type = NF_MSG_FALLOCATE, .fallocate = { fid, mode, offset, length } };

  return do_call (world, &call);
}

Test (primary_data, ranges_are_punched_zeroed_and_reserved)
{
  g_autofree guint8 *data = g_malloc (65536);
  NfFid file;

  memset (data, 'x', 65536);
  cr_assert_eq (do_create (world, ROOT, "f", 0644, 0, &file), 0);
  cr_assert_eq (do_write (world, file, 0, 0, data, 65536), 0);
  guint64 seq = last_seq (world);
  cr_assert_eq (do_fallocate (file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 8192), 0);
  cr_assert_eq (do_fallocate (file, FALLOC_FL_ZERO_RANGE, 60000, 10000), 0);
  cr_assert_eq (do_fallocate (file, FALLOC_FL_KEEP_SIZE, 65536, 65536), 0);
  cr_assert_eq (do_fallocate (file, 0, 0, 80000), 0);
  cr_assert_eq (do_fallocate (file, FALLOC_FL_COLLAPSE_RANGE, 0, 4096), 0);
  cr_assert_eq (do_fallocate (file, FALLOC_FL_INSERT_RANGE, 4096, 4096), 0);
  g_autofree char *text = log_after (world, seq);
  const char *expected[] = { " hole 4096+8192 size 65536", " zero 60000+10000 size 70000",
                             " 65536+65536 size 70000",    " 0+80000 size 80000",
                             " data 0+75904 size 75904",   " data 4096+75904 size 80000" };
  for (guint i = 0; i < G_N_ELEMENTS (expected); i++)
    cr_assert_not_null (strstr (text, expected[i]), "%s in %s", expected[i], text);
  cr_assert_eq (stat_behind (world, "f").st_size, 80000);
  cr_assert_eq (do_fallocate (file, FALLOC_FL_COLLAPSE_RANGE, 0, 1000), -EINVAL); /* not aligned */
  cr_assert_eq (stat_behind (world, "f").st_size, 80000);
}

static int
do_copy (NfFid from, guint64 from_offset, NfFid fid, guint64 offset, guint64 length)
{
  NfMsg call = { .type = NF_MSG_COPY, .copy = { from, from_offset, fid, offset, length } };

  return do_call (world, &call);
}

Test (primary_data, copies_are_made_at_the_primary)
{
  NfFid one, two;

  cr_assert_eq (do_create (world, ROOT, "one", 0644, 0, &one), 0);
  cr_assert_eq (do_create (world, ROOT, "two", 0644, 0, &two), 0);
  cr_assert_eq (do_write (world, one, 0, 0, "0123456789", 10), 0);
  cr_assert_eq (do_copy (one, 5, two, 2, 100), 0);
  cr_assert_eq (world->answer.answer.value, 5);
  cr_assert_eq (do_read (world, two, 0, 100), 0);
  cr_assert (nf_slice_equal (world->answer.answer.data, nf_slice ("\0\0"
                                                                  "56789",
                                                                  7)));
  cr_assert_eq (do_copy (one, 10, two, 0, 100), 0);
  cr_assert_eq (world->answer.answer.value, 0);
  cr_assert_eq (do_copy (one, 0, one, 5, 10), -EINVAL);
}

/* ---- attributes ---- */

Test (primary_data, attributes_come_out_as_recorded_or_are_corrected)
{
  NfFid file;
  NfAttr attr = { .mode = 04755,
                  .size = 5000,
                  .uid = 1234,
                  .gid = 99,
                  .atime = 1,
                  .mtime = G_GINT64_CONSTANT (-1500000000) };

  cr_assert_eq (do_create (world, ROOT, "f", 0644, 0, &file), 0);
  cr_assert_eq (do_setattr (world, file, NF_SET_SIZE, &attr), 0);
  cr_assert_eq (world->answer.answer.attr.size, 5000);
  cr_assert_eq (do_setattr (world, file, NF_SET_ATIME | NF_SET_MTIME, &attr), 0);
  cr_assert_eq (world->answer.answer.attr.mtime, attr.mtime);
  cr_assert_eq (do_setattr (world, file, NF_SET_MODE, &attr), 0);
  cr_assert_eq (world->answer.answer.attr.mode & 07777, 04755);
  guint64 seq = last_seq (world);
  cr_assert_eq (do_setattr (world, file, NF_SET_UID | NF_SET_GID, &attr), 0);
  cr_assert_eq (world->answer.answer.attr.mode & 07777, 0755); /* a chown takes the bit away */
  g_autofree char *text = log_after (world, seq);
  cr_assert_not_null (strstr (text, "mode 0755"), "%s", text);
  seq = last_seq (world);
  cr_assert_eq (do_setattr (world, file, NF_SET_CTIME_ONLY, &attr), 0);
  cr_assert_eq (last_seq (world), seq + 1, "replicas touch their ctime, too");
  g_autofree char *touched = log_after (world, seq);
  cr_assert_not_null (strstr (touched, " ctime"), "%s", touched);
  cr_assert_eq (do_setattr (world, ROOT, NF_SET_SIZE, &attr), -EISDIR);
}

Test (primary_data, a_symlinks_own_attributes_are_set)
{
  NfFid link;
  NfAttr attr = { .uid = 55, .gid = 66, .mtime = 77, .mode = 0600 };

  write_behind (world, "target", "text");
  cr_assert_eq (do_symlink (world, ROOT, "l", "target", &link), 0);
  cr_assert_eq (do_setattr (world, link, NF_SET_UID | NF_SET_GID | NF_SET_MTIME, &attr), 0);
  cr_assert_eq (do_setattr (world, link, NF_SET_MODE, &attr), -EOPNOTSUPP);
  cr_assert_eq (stat_behind (world, "l").st_uid, 55);
  cr_assert_eq (mtime_of (stat_behind (world, "l")), 77);
  cr_assert_eq (stat_behind (world, "target").st_uid, 0);
}

Test (primary_data, xattrs_are_set_shown_and_removed)
{
  NfFid file;
  NfMsg get = { .type = NF_MSG_GETXATTR };
  NfMsg list = { .type = NF_MSG_LISTXATTR };
  NfMsg remove = { .type = NF_MSG_REMOVEXATTR };

  cr_assert_eq (do_create (world, ROOT, "f", 0644, 0, &file), 0);
  get.getxattr.fid = list.listxattr.fid = remove.removexattr.fid = file;
  get.getxattr.name = remove.removexattr.name = nf_slice_str ("user.one");
  cr_assert_eq (do_setxattr (world, file, "user.one", "value", 5), 0);
  cr_assert_eq (do_setxattr (world, file, "user.empty", "", 0), 0);
  cr_assert_eq (do_call (world, &get), 0);
  cr_assert (nf_slice_equal (world->answer.answer.data, nf_slice_str ("value")));
  cr_assert_eq (do_call (world, &list), 0);
  cr_assert_eq (world->answer.answer.data.len, sizeof "user.one" + sizeof "user.empty");
  cr_assert_eq (do_call (world, &remove), 0);
  guint64 seq = last_seq (world);
  cr_assert_eq (do_call (world, &remove), -ENODATA);
  cr_assert_eq (do_call (world, &get), -ENODATA);
  cr_assert_eq (do_setxattr (world, file, "trusted.nearfs.share", "x", 1), -EOPNOTSUPP);
  cr_assert_eq (do_setxattr (world, file, "user.nearfs.share", "x", 1), -EOPNOTSUPP);
  world->uid = 1234;
  cr_assert_eq (do_setxattr (world, file, "trusted.other", "x", 1), -EPERM);
  cr_assert_eq (last_seq (world), seq);
}
