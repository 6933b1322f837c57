// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>
#include <string.h>
#include <sys/stat.h>

#include "sync/record.h"

static const NfAttr some_attr = {
  .fid = 7,
  .mode = S_IFREG | 0640,
  .nlink = 1,
  .uid = 1000,
  .gid = 100,
  .size = 12345,
  .atime = -5,
  .mtime = G_GINT64_CONSTANT (1700000000123456789),
  .ctime = 3,
};

static NfRecord
head (NfOpKind kind)
{
  return (NfRecord){
    .epoch = 3,
    .seq = 42,
    .time = G_GINT64_CONSTANT (1700000000987654321),
    .kind = kind,
    .site = nf_slice_str ("london"),
    .reqid = 99,
    .path = nf_slice_str ("a/b"),
    .fid = 7,
  };
}

static NfRecord
creation (void)
{
  NfRecord record = head (NF_OP_NAMES);

  record.n_names = 1;
  record.names[0] = (NfNameIs){ 5, nf_slice_str ("b"), 7, S_IFREG };
  record.creates = TRUE;
  record.attr = some_attr;
  return record;
}

static NfRecord
renaming (void)
{
  NfRecord record = head (NF_OP_NAMES);

  record.n_names = 2;
  record.names[0] = (NfNameIs){ 5, nf_slice_str ("\xff\xfe"), NF_FID_NONE, 0 };
  record.names[1] = (NfNameIs){ 6, nf_slice_str ("new"), 7, S_IFDIR };
  return record;
}

static NfRecord
of_kind (guint i)
{
  NfRecord record;

  switch (i)
    {
    case 0:
      return creation ();
    case 1:
      return renaming ();
    case 2:
      record = creation ();
      record.names[0].mode = S_IFLNK;
      record.attr.mode = S_IFLNK | 0777;
      record.target = nf_slice_str ("../somewhere");
      return record;
    case 3:
      record = head (NF_OP_ATTR);
      record.mask = NF_SET_MODE | NF_SET_MTIME;
      record.attr = some_attr;
      return record;
    case 4:
      record = head (NF_OP_XATTR);
      record.xname = nf_slice_str ("user.note");
      record.value = nf_slice ("\0\1\2", 3);
      return record;
    case 5:
      record = head (NF_OP_XATTR);
      record.xname = nf_slice_str ("user.note");
      record.removes = TRUE;
      return record;
    case 6:
      record = head (NF_OP_DATA);
      record.offset = 4096;
      record.length = 8192;
      record.range = NF_RANGE_HOLE;
      record.attr = some_attr;
      return record;
    case 7:
      record = head (NF_OP_ABORT);
      record.aborted = 41;
      return record;
    default:
      record = head (NF_OP_EPOCH);
      record.fid = NF_FID_NONE;
      return record;
    }
}

#define N_KINDS 9

static gboolean
decodes (const NfRecord *record)
{
  g_auto (NfBuf) buf = NF_BUF_INIT;
  NfRecord decoded;

  nf_record_encode (record, &buf);
  return nf_record_decode (nf_buf_slice (&buf), &decoded);
}

Test (record, every_kind_comes_back_as_it_was)
{
  for (guint i = 0; i < N_KINDS; i++)
    {
      g_auto (NfBuf) first = NF_BUF_INIT;
      g_auto (NfBuf) second = NF_BUF_INIT;
      NfRecord record = of_kind (i);
      NfRecord decoded;

      nf_record_encode (&record, &first);
      cr_assert (nf_record_decode (nf_buf_slice (&first), &decoded), "kind %u", i);
      cr_assert_eq (decoded.kind, record.kind);
      cr_assert_eq (decoded.seq, 42);
      cr_assert_eq (decoded.epoch, 3);
      cr_assert_eq (decoded.time, record.time);
      cr_assert_eq (decoded.reqid, 99);
      cr_assert (nf_slice_equal (decoded.site, record.site));
      nf_record_encode (&decoded, &second);
      cr_assert (nf_slice_equal (nf_buf_slice (&first), nf_buf_slice (&second)), "kind %u", i);
    }
}

Test (record, names_that_are_not_text_survive)
{
  g_auto (NfBuf) buf = NF_BUF_INIT;
  NfRecord record = renaming ();
  NfRecord decoded;
  char name[NF_NAME_LEN_MAX];

  memset (name, 0x80, sizeof name);
  record.names[1].name = nf_slice (name, sizeof name);
  nf_record_encode (&record, &buf);
  cr_assert (nf_record_decode (nf_buf_slice (&buf), &decoded));
  cr_assert (nf_slice_equal (decoded.names[0].name, nf_slice_str ("\xff\xfe")));
  cr_assert (nf_slice_equal (decoded.names[1].name, nf_slice (name, sizeof name)));
}

Test (record, cut_or_lengthened_bytes_are_refused)
{
  for (guint i = 0; i < N_KINDS; i++)
    {
      g_auto (NfBuf) buf = NF_BUF_INIT;
      NfRecord record = of_kind (i);
      NfRecord decoded;

      nf_record_encode (&record, &buf);
      for (gsize len = 0; len < buf.len; len++)
        cr_assert_not (nf_record_decode (nf_slice (buf.data, len), &decoded), "kind %u cut at %zu",
                       i, len);
      nf_buf_put_u8 (&buf, 0);
      cr_assert_not (nf_record_decode (nf_buf_slice (&buf), &decoded));
    }
}

Test (record, bad_names_are_refused)
{
  static const char *const names[] = { "", ".", "..", "a/b" };
  NfRecord record;

  for (gsize i = 0; i < G_N_ELEMENTS (names); i++)
    {
      record = creation ();
      record.names[0].name = nf_slice_str (names[i]);
      cr_assert_not (decodes (&record), "\"%s\"", names[i]);
    }
  record = creation ();
  record.names[0].name = nf_slice ("a\0b", 3);
  cr_assert_not (decodes (&record));
}

Test (record, what_contradicts_itself_is_refused)
{
  NfRecord record = creation ();

  record.attr.mode = S_IFDIR | 0755;
  cr_assert_not (decodes (&record), "another type in the attributes");
  record = creation ();
  record.fid = 8;
  cr_assert_not (decodes (&record), "another fid");
  record = creation ();
  record.names[0].fid = NF_FID_NONE;
  cr_assert_not (decodes (&record), "creates nothing");
  record = creation ();
  record.target = nf_slice_str ("x");
  cr_assert_not (decodes (&record), "a file with a target");
  record = of_kind (2);
  record.target = NF_SLICE_NONE;
  cr_assert_not (decodes (&record), "a symlink without");
  record = of_kind (6);
  record.length = G_MAXINT64;
  cr_assert_not (decodes (&record), "past what a file can hold");
  record = of_kind (7);
  record.aborted = 42;
  cr_assert_not (decodes (&record), "aborts itself");
  record = of_kind (3);
  record.mask = 1u << 30;
  cr_assert_not (decodes (&record), "unknown mask");
  record = of_kind (3);
  record.seq = 0;
  cr_assert_not (decodes (&record), "no seq");
}

Test (record, a_path_too_long_keeps_its_end)
{
  g_auto (NfBuf) buf = NF_BUF_INIT;
  g_autofree char *path = g_strnfill (10000, 'a');
  NfRecord record = creation ();
  NfRecord decoded;

  path[9999] = 'z';
  record.path = nf_slice_str (path);
  nf_record_encode (&record, &buf);
  cr_assert (nf_record_decode (nf_buf_slice (&buf), &decoded));
  cr_assert_eq (decoded.path.len, NF_PATH_LEN_MAX);
  cr_assert_eq (decoded.path.data[decoded.path.len - 1], 'z');
}

Test (record, chain_depends_on_bytes_and_on_what_came_before)
{
  guint64 a = nf_record_chain (1, nf_slice_str ("x"));

  cr_assert_eq (a, nf_record_chain (1, nf_slice_str ("x")));
  cr_assert_neq (a, nf_record_chain (2, nf_slice_str ("x")));
  cr_assert_neq (a, nf_record_chain (1, nf_slice_str ("y")));
}

Test (record, a_description_is_one_line_whatever_the_names_are)
{
  for (guint i = 0; i < N_KINDS; i++)
    {
      NfRecord record = of_kind (i);
      g_autofree char *line = NULL;

      if (record.n_names > 0)
        record.names[0].name = nf_slice_str ("line\nbreak\x1b[m");
      line = nf_record_describe (&record);
      cr_assert_null (strpbrk (line, "\n\x1b"), "%s", line);
      cr_assert_not_null (strstr (line, "3.42 2023-11-14T22:13:20.987654Z "), "%s", line);
      cr_assert_not_null (strstr (line, "by london #99"), "%s", line);
    }
}
