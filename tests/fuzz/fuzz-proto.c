// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <string.h>

#include "net/hub.h"

/* Any payload: it is refused, or it's a message that encodes to the very same bytes. Lists
 * within are read to their end. */

int LLVMFuzzerTestOneInput (const guint8 *data, size_t size);

static void
read_entries (NfSlice entries)
{
  NfReader reader = nf_reader (entries);
  NfDirEntry entry;

  while (nf_dir_entry_decode (&reader, &entry))
    g_assert_true (
        entry.name.len <= NF_NAME_LEN_MAX
        && memchr (entry.name.len == 0 ? (const guint8 *)"" : entry.name.data, '/', entry.name.len)
               == NULL);
}

static void
read_shares (NfSlice shares)
{
  NfReader reader = nf_reader (shares);
  NfHelloShare share;

  while (nf_hello_share_decode (&reader, &share))
    ;
}

static void
check_message (const NfMsg *msg, const guint8 *data, size_t size)
{
  g_autoptr (NfMsg) copy = nf_msg_dup (msg);
  g_autoptr (GBytes) again = nf_msg_to_bytes (copy);

  g_assert_true (nf_msg_flags ((int)msg->type) >= 0);
  g_assert_cmpuint (g_bytes_get_size (again), ==, size);
  g_assert_true (memcmp (g_bytes_get_data (again, NULL), data, size) == 0);
  if (msg->type == NF_MSG_LISTED)
    read_entries (msg->listed.entries);
  else if (msg->type == NF_MSG_ANSWER)
    read_entries (msg->answer.data);
  else if (msg->type == NF_MSG_HELLO)
    read_shares (msg->hello.shares);
}

int
LLVMFuzzerTestOneInput (const guint8 *data, size_t size)
{
  g_autoptr (GBytes) payload = g_bytes_new (data, size);
  g_autoptr (GError) error = NULL;
  g_auto (NfMsg) msg = { 0 };

  if (nf_msg_decode (payload, &msg, &error))
    check_message (&msg, data, size);
  else
    g_assert_true (error->domain == NF_NET_ERROR);
  return 0;
}
