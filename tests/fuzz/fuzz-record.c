// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <string.h>

#include "sync/record.h"

/* Any bytes: they are refused, or are a record that has just this one encoding, and a description in one line. */

int LLVMFuzzerTestOneInput (const guint8 *data, size_t size);

int
LLVMFuzzerTestOneInput (const guint8 *data, size_t size)
{
  g_auto (NfBuf) buf = NF_BUF_INIT;
  g_autofree char *line = NULL;
  NfRecord record;

  if (!nf_record_decode (nf_slice (data, size), &record))
    return 0;
  nf_record_encode (&record, &buf);
  g_assert_true (nf_slice_equal (nf_buf_slice (&buf), nf_slice (data, size)));
  line = nf_record_describe (&record);
  for (const char *at = line; *at != '\0'; at++)
    g_assert_true ((guint8)*at >= ' ' && *at != 0x7f);
  return 0;
}
