// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>

#include "sync/forward-internal.h"

/* What FSYNC says of earlier changes. */

#define MANY 70000

static gint64 now_ms;
static NfForward forward;

static gint64
clock_ms (gpointer data)
{
  (void)data;
  return now_ms;
}

static void
set_up (void)
{
  static NfHost host = { .monotonic_ms = clock_ms };
  static NfShare share = { .host = &host };

  forward.share = &share;
  forward.epoch = 1;
  forward.unsynced = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, g_free);
}

static void
tear_down (void)
{
  g_hash_table_unref (forward.unsynced);
}

static NfMsg
fsync_of (NfFid fid)
{
  NfMsg msg = { .type = NF_MSG_FSYNC };

  msg.fsync.fid = fid;
  nf_forward_fill_fsync (&forward, &msg);
  return msg;
}

static void
expect (NfFid fid, guint64 epoch, guint64 seq)
{
  NfMsg msg = fsync_of (fid);

  cr_assert_eq (msg.fsync.since_epoch, epoch);
  cr_assert_eq (msg.fsync.since_seq, seq);
}

TestSuite (unsynced, .init = set_up, .fini = tear_down);

Test (unsynced, the_last_change_until_it_is_synced)
{
  expect (7, 0, 0);
  nf_forward_note_unsynced (&forward, 7, 10);
  nf_forward_note_unsynced (&forward, 7, 12);
  expect (7, 1, 12);
  expect (8, 0, 0);
  NfMsg msg = fsync_of (7);
  nf_forward_note_synced (&forward, &msg);
  expect (7, 0, 0);
}

Test (unsynced, what_comes_while_an_fsync_is_under_way_is_not_in_it)
{
  nf_forward_note_unsynced (&forward, 7, 10);
  NfMsg msg = fsync_of (7);
  nf_forward_note_unsynced (&forward, 7, 11);
  nf_forward_note_synced (&forward, &msg);
  expect (7, 1, 11);
}

Test (unsynced, what_an_older_reign_may_have_lost_is_told_once)
{
  nf_forward_note_unsynced (&forward, 7, 10);
  forward.epoch = 2;
  nf_forward_note_unsynced (&forward, 7, 5);
  expect (7, 1, 10);
  NfMsg msg = fsync_of (7);
  nf_forward_note_synced (&forward, &msg);
  expect (7, 2, 5);
}

Test (unsynced, there_are_never_too_many)
{
  for (NfFid fid = 1; fid <= MANY; fid++)
    nf_forward_note_unsynced (&forward, fid, fid);
  cr_assert_leq (g_hash_table_size (forward.unsynced), 65536);
  for (NfFid fid = 1; fid <= MANY; fid++)
    {
      NfMsg msg = fsync_of (fid);
      cr_assert_eq (msg.fsync.since_epoch, 1);
      cr_assert_geq (msg.fsync.since_seq, fid);
    }
  now_ms += 11 * 60 * 1000;
  expect (MANY + 1, 0, 0);
}
