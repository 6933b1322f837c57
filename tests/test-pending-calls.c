// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/pending-calls.h"

#include <criterion/criterion.h>
#include <string.h>

static NfPendingCalls calls;
static guint8 bytes[NF_DATA_MAX];

static void
setup (void)
{
  nf_pending_calls_init (&calls, 1);
}

static void
teardown (void)
{
  nf_pending_calls_clear (&calls);
}

TestSuite (pending_calls, .init = setup, .fini = teardown);

static NfMsg
write_msg (NfFid fid, guint64 offset, gsize len, guint8 fill)
{
  NfMsg msg = { .type = NF_MSG_WRITE };

  memset (bytes, fill, len);
  msg.write.fid = fid;
  msg.write.offset = offset;
  msg.write.data = nf_slice (bytes, len);
  return msg;
}

static NfPending *
add_write (NfFid fid, guint64 offset, gsize len, guint8 fill)
{
  NfMsg msg = write_msg (fid, offset, len, fill);
  NfPending *pending = nf_pending_new (&calls, &msg, NULL, NULL, NULL);

  pending->buffered = TRUE;
  nf_pending_enqueue (&calls, nf_pending_file_ensure (&calls, fid), pending);
  return pending;
}

static NfPending *
add_setattr (NfFid fid)
{
  NfMsg msg = { .type = NF_MSG_SETATTR };
  NfPending *pending = nf_pending_new (&calls, &msg, NULL, NULL, NULL);

  nf_pending_enqueue (&calls, nf_pending_file_ensure (&calls, fid), pending);
  return pending;
}

static NfPending *
send_next (NfFid fid)
{
  NfPendingFile *file = nf_pending_file (&calls, fid);
  NfPending *next = file ? nf_pending_next (&calls, file) : NULL;

  if (next)
    nf_pending_mark_sent (&calls, next);
  return next;
}

Test (pending_calls, small_writes_and_a_setattr_go_one_behind_the_other_on_the_ops_connection)
{
  NfPending *write = add_write (5, 0, 100, 'a');
  NfPending *set = add_setattr (5);

  cr_assert_eq (send_next (5), write);
  cr_assert_not (write->bulk);
  cr_assert_eq (send_next (5), set);
  cr_assert_null (send_next (5));
}

Test (pending_calls, a_setattr_waits_for_bulk_writes_before_it)
{
  NfPending *write = add_write (5, 0, NF_DATA_MAX, 'a');
  NfPending *set = add_setattr (5);

  cr_assert_eq (send_next (5), write);
  cr_assert (write->bulk);
  cr_assert_null (send_next (5), "it would overtake the write on the other connection");
  nf_pending_settle (&calls, write, TRUE);
  cr_assert_eq (send_next (5), set);
}

Test (pending_calls, the_ops_window_is_bounded_and_opens_with_the_answers)
{
  NfPending *first = add_write (5, 0, 100 * 1024, 'a');
  NfPending *others[3];

  cr_assert_eq (send_next (5), first);
  for (int i = 0; i < 3; i++)
    others[i] = add_write (6 + i, 0, 100 * 1024, 'b');
  cr_assert_eq (send_next (6), others[0]);
  cr_assert_null (send_next (7));
  nf_pending_settle (&calls, first, FALSE);
  cr_assert_eq (send_next (7), others[1]);
  cr_assert_null (send_next (8));
}

Test (pending_calls, contiguous_unsent_writes_are_joined)
{
  NfMsg msg = write_msg (5, 100, 50, 'b');

  add_write (5, 0, 100, 'a');
  NfPendingFile *file = nf_pending_file (&calls, 5);
  cr_assert (nf_pending_join (&calls, file, &msg, NULL));
  msg.write.offset = 149;
  cr_assert_not (nf_pending_join (&calls, file, &msg, NULL));
  cr_assert_eq (calls.buffered, 150);
  send_next (5);
  msg.write.offset = 150;
  cr_assert_not (nf_pending_join (&calls, file, &msg, NULL), "what is on its way stays as it is");
}

Test (pending_calls, a_flush_is_over_when_all_before_it_are_answered)
{
  NfPending *write = add_write (5, 0, 10, 'a');
  NfPending *flush = nf_pending_new_flush (NULL, FALSE, FALSE, NULL, NULL);

  nf_pending_enqueue (&calls, nf_pending_file (&calls, 5), flush);
  cr_assert_eq (send_next (5), write);
  cr_assert_null (send_next (5));
  nf_pending_settle (&calls, write, TRUE);
  NfPendingFile *file = nf_pending_file (&calls, 5);
  cr_assert_not_null (file);
  cr_assert_eq (nf_pending_next (&calls, file), flush);
  nf_pending_settle (&calls, flush, FALSE);
}

Test (pending_calls, the_overlay_shows_later_writes_over_earlier_ones_until_applied)
{
  guint8 buffer[64] = "................";
  NfAttr attr = { .fid = 5, .size = 4 };

  add_write (5, 4, 4, 'a');
  NfPending *second = add_write (5, 6, 4, 'b');
  NfPendingFile *file = nf_pending_file (&calls, 5);
  cr_assert_eq (nf_pending_overlay_read (file, 2, buffer, sizeof buffer, 2), 8);
  cr_assert_eq (memcmp (buffer, "..aabbbb", 8), 0);
  nf_pending_overlay_attr (file, 0, &attr);
  cr_assert_eq (attr.size, 10);

  send_next (5);
  send_next (5);
  second->applied = TRUE;
  nf_pending_forget (&calls, second);
  attr.size = 4;
  nf_pending_overlay_attr (file, 0, &attr);
  cr_assert_eq (attr.size, 8);
}

Test (pending_calls, a_change_is_no_earlier_than_its_mtime)
{
  NfAttr attr = { .fid = 5, .mtime = 100, .ctime = 100 };
  NfPending *write = add_write (5, 0, 3, 'a');

  write->msg->head.clock = 200;
  nf_pending_overlay_attr (nf_pending_file (&calls, 5), 0, &attr);
  cr_assert_eq (attr.mtime, 200);
  cr_assert_eq (attr.ctime, 200);
  cr_assert_eq (attr.blocks, 8);
}

/* While a write is applied, the tree shows the moment at which that happens. */
Test (pending_calls, a_write_has_its_own_time_whatever_the_tree_says)
{
  NfAttr attr = { .fid = 5, .mtime = 300 };
  NfPending *write = add_write (5, 0, 3, 'a');

  write->msg->head.clock = 200;
  nf_pending_overlay_attr (nf_pending_file (&calls, 5), 0, &attr);
  cr_assert_eq (attr.mtime, 200);
}

Test (pending_calls, answered_and_applied_in_either_order_leaves_nothing)
{
  NfPending *one = add_write (5, 0, 10, 'a');
  send_next (5);
  nf_pending_settle (&calls, one, TRUE);
  cr_assert_not_null (nf_pending_file (&calls, 5), "answered, but readers here must still see it");
  one->applied = TRUE;
  nf_pending_forget (&calls, one);
  cr_assert_null (nf_pending_file (&calls, 5));

  NfPending *two = add_write (5, 0, 10, 'a');
  send_next (5);
  two->applied = TRUE;
  nf_pending_forget (&calls, two);
  cr_assert_eq (calls.buffered, 10);
  nf_pending_settle (&calls, two, TRUE);
  cr_assert_null (nf_pending_file (&calls, 5));
  cr_assert_eq (calls.buffered, 0);
  cr_assert_eq (g_hash_table_size (calls.by_id), 0);
}

Test (pending_calls, acked_is_the_id_before_the_oldest_that_waits)
{
  NfPending *one = add_setattr (5);
  NfPending *two = add_setattr (6);

  cr_assert_eq (nf_pending_acked (&calls), one->id - 1);
  nf_pending_settle (&calls, one, FALSE);
  cr_assert_eq (nf_pending_acked (&calls), two->id - 1);
  nf_pending_settle (&calls, two, FALSE);
  cr_assert_eq (nf_pending_acked (&calls), calls.next_id - 1);
}

Test (pending_calls, a_lost_link_makes_all_unsent_again)
{
  NfPending *write = add_write (5, 0, 1000, 'a');

  send_next (5);
  cr_assert_eq (calls.ops_inflight, 1000);
  nf_pending_unsend_all (&calls);
  cr_assert_eq (calls.ops_inflight, 0);
  cr_assert_eq (send_next (5), write);
}
