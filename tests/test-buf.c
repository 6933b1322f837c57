// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>

#include "net/buf.h"

Test (buf, numbers_are_little_endian_and_come_back)
{
  g_auto (NfBuf) buf = NF_BUF_INIT;
  NfReader reader;

  nf_buf_put_u8 (&buf, 0x12);
  nf_buf_put_u16 (&buf, 0x1234);
  nf_buf_put_u32 (&buf, 0x12345678);
  nf_buf_put_u64 (&buf, G_GUINT64_CONSTANT (0x123456789abcdef0));
  cr_assert_eq (buf.len, 15);
  cr_assert_eq (buf.data[1], 0x34);
  cr_assert_eq (buf.data[3], 0x78);
  cr_assert_eq (buf.data[7], 0xf0);
  reader = nf_reader (nf_buf_slice (&buf));
  cr_assert_eq (nf_reader_u8 (&reader), 0x12);
  cr_assert_eq (nf_reader_u16 (&reader), 0x1234);
  cr_assert_eq (nf_reader_u32 (&reader), 0x12345678);
  cr_assert_not (nf_reader_done (&reader));
  cr_assert_eq (nf_reader_u64 (&reader), G_GUINT64_CONSTANT (0x123456789abcdef0));
  cr_assert (nf_reader_done (&reader));
}

Test (buf, a_get_past_the_end_fails_and_so_do_all_after_it)
{
  const guint8 bytes[] = { 1, 2, 3 };
  NfReader reader = nf_reader (nf_slice (bytes, sizeof bytes));

  cr_assert_eq (nf_reader_u32 (&reader), 0);
  cr_assert (reader.failed);
  cr_assert_eq (nf_reader_u8 (&reader), 0);
  cr_assert_eq (nf_reader_left (&reader), 0);
  cr_assert_not (nf_reader_done (&reader));
}

Test (buf, a_slice_has_bounds)
{
  g_auto (NfBuf) buf = NF_BUF_INIT;
  NfReader reader;

  nf_buf_put_slice (&buf, nf_slice_str ("hello"));
  reader = nf_reader (nf_buf_slice (&buf));
  cr_assert (nf_slice_equal (nf_reader_slice (&reader, 5), nf_slice_str ("hello")));
  cr_assert (nf_reader_done (&reader));
  reader = nf_reader (nf_buf_slice (&buf));
  cr_assert_eq (nf_reader_slice (&reader, 4).len, 0);
  cr_assert (reader.failed);
  /* A length that says more than there is. */
  nf_buf_set_u32 (&buf, 0, G_MAXUINT32);
  reader = nf_reader (nf_buf_slice (&buf));
  cr_assert_eq (nf_reader_slice (&reader, G_MAXSIZE).len, 0);
  cr_assert (reader.failed);
}

Test (buf, an_empty_reader_is_done)
{
  NfReader reader = nf_reader (NF_SLICE_NONE);

  cr_assert (nf_reader_done (&reader));
  cr_assert_eq (nf_reader_raw (&reader, 0).len, 0);
  cr_assert (nf_reader_done (&reader));
}

Test (buf, grows_and_can_be_stolen)
{
  g_auto (NfBuf) buf = NF_BUF_INIT;
  g_autoptr (GBytes) bytes = NULL;

  for (guint i = 0; i < 10000; i++)
    nf_buf_put_u32 (&buf, i);
  nf_buf_set_u32 (&buf, 4 * 77, 1234567);
  nf_buf_set_u64 (&buf, 0, 7);
  bytes = nf_buf_steal_bytes (&buf);
  cr_assert_eq (g_bytes_get_size (bytes), 40000);
  cr_assert_eq (buf.len, 0);
  cr_assert_null (buf.data);
  cr_assert_eq (((const guint32 *)g_bytes_get_data (bytes, NULL))[77], GUINT32_TO_LE (1234567));
}

Test (buf, slices_compare_and_copy)
{
  g_autofree char *copy = nf_slice_dup (nf_slice_str ("abc"));
  g_autofree char *empty = nf_slice_dup (NF_SLICE_NONE);

  cr_assert_str_eq (copy, "abc");
  cr_assert_str_eq (empty, "");
  cr_assert (nf_slice_equal (NF_SLICE_NONE, nf_slice_str ("")));
  cr_assert_not (nf_slice_equal (nf_slice_str ("a"), nf_slice_str ("b")));
  cr_assert_eq (nf_slice_str (NULL).len, 0);
}
