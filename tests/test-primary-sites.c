// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sync/lock-wire.h"
#include "tests/primary-help.h"

/* What a primary does with the messages of other sites: "b", which the test plays. */

#define ROOT NF_FID_ROOT
#define SHARE 7

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

TestSuite (sites, .init = set_up, .fini = tear_down, .timeout = 60);

/* A subscriber as a replica that has never been here; ops begin after what there is. */
static NfPosition
begin (void)
{
  g_autoptr (NfMsg) msg = subscribe (world, (NfPosition){ 0 });

  cr_assert_eq (msg->subscribed.verdict, NF_VERDICT_COMPARE);
  return msg->subscribed.position;
}

/* The next op; its chain must follow. */
static NfMsg *
next_op (NfPosition *position, NfRecord *ret_record)
{
  NfMsg *msg = expect (world, NF_MSG_OP);

  cr_assert (nf_record_decode (msg->op.record, ret_record));
  cr_assert_eq (ret_record->seq, position->seq + 1);
  position->seq++;
  position->epoch = ret_record->epoch;
  position->chain = nf_record_chain (position->chain, msg->op.record);
  return msg;
}

static void
say_position (NfPosition position)
{
  NfMsg msg = { .type = NF_MSG_POSITION, .position = { SHARE, position, position.seq, 0, 0 } };

  nf_sim_send (world->sim, "b", "a", FALSE, &msg);
}

/* ---- broadcast ---- */

Test (sites, ops_come_in_order_with_small_data)
{
  NfPosition position = begin ();
  NfRecord record;
  NfFid file;

  cr_assert_eq (do_create (world, ROOT, "f", 0644, 0, &file), 0);
  cr_assert_eq (do_write (world, file, 5, 0, "bytes", 5), 0);
  g_autoptr (NfMsg) create = next_op (&position, &record);
  cr_assert_eq (record.kind, NF_OP_NAMES);
  cr_assert (record.creates);
  cr_assert_eq (create->op.data.len, 0);
  g_autoptr (NfMsg) data = next_op (&position, &record);
  cr_assert_eq (record.kind, NF_OP_DATA);
  cr_assert_eq (record.attr.size, 10);
  cr_assert (nf_slice_equal (data->op.data, nf_slice_str ("bytes")));
  cr_assert_eq (position.chain, nf_journal_last (world->a->share->journal).chain);
}

static guint
n_arrived (guint ms)
{
  GPtrArray *inbox = world->b->inbox;
  guint n = 0;

  nf_sim_run (world->sim, ms);
  for (guint i = 0; i < inbox->len; i++)
    n += ((const NfMsg *)inbox->pdata[i])->type == NF_MSG_OP;
  return n;
}

static void
make_dirs (guint from, guint to)
{
  for (guint i = from; i < to; i++)
    {
      g_autofree char *name = g_strdup_printf ("d%u", i);
      cr_assert_eq (do_mkdir (world, ROOT, name, 0755, NULL), 0);
    }
}

Test (sites, what_follows_a_pause_goes_at_once_and_a_stream_in_rounds)
{
  (void)begin ();
  cr_assert_eq (n_arrived (100), 0);
  make_dirs (0, 10);
  cr_assert_eq (n_arrived (0), 10);
  make_dirs (10, 100);
  cr_assert_lt (n_arrived (0), 100);
  cr_assert_eq (n_arrived (2), 100);
}

static gsize
journal_size (void)
{
  g_autofree char *path = path_of (world, ".nearfs/journal/0000000000000001");
  struct stat st;

  cr_assert_eq (stat (path, &st), 0);
  return (gsize)st.st_size;
}

/* Neither file may grow beyond LIMIT, nor be written there, as on a full disk. */
static void
limit_files (gsize limit, struct rlimit *before)
{
  struct rlimit less;

  (void)signal (SIGXFSZ, SIG_IGN);
  cr_assert_eq (getrlimit (RLIMIT_FSIZE, before), 0);
  less = *before;
  less.rlim_cur = limit;
  cr_assert_eq (setrlimit (RLIMIT_FSIZE, &less), 0);
}

/* The journal has room for one record more, and what that says can be done in part. */
Test (sites, a_write_over_old_data_that_ran_out_is_said_when_there_is_room)
{
  g_autofree guint8 *data = g_malloc0 (65536);
  NfPosition position = begin ();
  struct rlimit before;
  NfRecord record;
  NfFid file;

  cr_assert_eq (do_create (world, ROOT, "f", 0644, 0, &file), 0);
  cr_assert_eq (do_write (world, file, 0, 0, data, 65536), 0);
  nf_msg_free (next_op (&position, &record));
  gsize was = journal_size ();
  nf_msg_free (next_op (&position, &record));
  gsize limit = was + 240;
  memset (data, 'm', 1000);
  limit_files (limit, &before);
  cr_assert_eq (do_write (world, file, limit - 100, 0, data, 1000), -EFBIG);
  cr_assert_eq (setrlimit (RLIMIT_FSIZE, &before), 0);
  cr_assert_gt (journal_size (), was, "the first record fitted");
  cr_assert_eq (do_mkdir (world, ROOT, "d", 0755, NULL), 0);
  nf_msg_free (next_op (&position, &record)); /* what wasn't done; it says so itself */
  guint64 aborted = record.seq;
  nf_msg_free (next_op (&position, &record));
  cr_assert_eq (record.kind, NF_OP_DATA);
  cr_assert_eq (record.fid, file);
  cr_assert_eq (record.offset, limit - 100);
  cr_assert_eq (record.length, 100);
  nf_msg_free (next_op (&position, &record));
  cr_assert_eq (record.kind, NF_OP_ABORT);
  cr_assert_eq (record.aborted, aborted);
}

Test (sites, a_write_of_the_mark_alone_comes_without_data)
{
  NfPosition position = begin ();
  NfRecord record;
  NfFid file;

  cr_assert_eq (do_create (world, ROOT, "f", 0644, 0, &file), 0);
  cr_assert_eq (do_write (world, file, 0, 0, "A", 1), 0);
  nf_msg_free (next_op (&position, &record));
  g_autoptr (NfMsg) data = next_op (&position, &record);
  cr_assert_eq (record.kind, NF_OP_DATA);
  cr_assert_eq (data->op.data.len, 0);
}

Test (sites, aborted_ops_are_marked_also_when_they_are_read_back_after_a_restart)
{
  NfPosition start = begin ();
  NfPosition position = start;
  NfRecord record;

  world->uid = world->gid = 1234;
  cr_assert_eq (do_create (world, ROOT, "f", 0644, 0, NULL), -EACCES);
  for (guint round = 0; round < 2; round++)
    {
      g_autoptr (NfMsg) create = next_op (&position, &record);
      cr_assert_eq (record.kind, NF_OP_NAMES);
      cr_assert (nf_slice_equal (create->op.data, nf_slice_str ("A")));
      g_autoptr (NfMsg) abort = next_op (&position, &record);
      cr_assert_eq (record.kind, NF_OP_ABORT);
      cr_assert_eq (abort->op.data.len, 0);
      if (round == 1)
        return;
      nf_sim_cut (world->sim, "a", "b");
      world_close (world);
      world_open (world);
      position = start;
      g_autoptr (NfMsg) again = subscribe (world, start);
      cr_assert_eq (again->subscribed.verdict, NF_VERDICT_CONTINUE);
    }
}

Test (sites, a_site_doesnt_get_its_own_bytes_back)
{
  NfPosition position = begin ();
  NfRecord record;
  NfFid file;

  cr_assert_eq (do_create (world, ROOT, "f", 0666, 0, &file), 0);
  nf_msg_free (next_op (&position, &record));
  NfAttr attr = { .mode = 0666 };
  cr_assert_eq (do_setattr (world, file, NF_SET_MODE, &attr), 0);
  nf_msg_free (next_op (&position, &record));
  world->site = "b";
  cr_assert_eq (do_write (world, file, 0, 0, "mine", 4), 0);
  cr_assert_eq (world->answer.answer.value, 4);
  g_autoptr (NfMsg) data = next_op (&position, &record);
  cr_assert (nf_slice_equal (record.site, nf_slice_str ("b")));
  cr_assert_eq (record.reqid, world->reqid);
  cr_assert_eq (world->answer.answer.seq, record.seq);
  cr_assert_eq (data->op.data.len, 0);
}

Test (sites, a_position_of_another_history_is_compared)
{
  NfPosition position = begin ();
  NfRecord record;

  cr_assert_eq (do_mkdir (world, ROOT, "d", 0755, NULL), 0);
  nf_msg_free (next_op (&position, &record));
  nf_sim_cut (world->sim, "a", "b");
  g_autoptr (NfMsg) same = subscribe (world, position);
  cr_assert_eq (same->subscribed.verdict, NF_VERDICT_CONTINUE);
  nf_sim_cut (world->sim, "a", "b");
  position.chain++;
  g_autoptr (NfMsg) other = subscribe (world, position);
  cr_assert_eq (other->subscribed.verdict, NF_VERDICT_COMPARE_AND_KEEP);
}

/* ---- calls ---- */

Test (sites, a_call_that_is_sent_again_is_carried_out_once)
{
  NfPosition position = begin ();
  NfRecord record;

  (void)position, (void)record;
  cr_assert_eq (do_mkdir (world, ROOT, "open", 0777, NULL), 0);
  NfAttr open = { .mode = 0777 };
  NfFid dir = world->answer.answer.attr.fid, made;
  cr_assert_eq (do_setattr (world, dir, NF_SET_MODE, &open), 0);
  world->site = "b";
  cr_assert_eq (do_mkdir (world, dir, "d", 0755, &made), 0);
  guint64 seq = last_seq (world);
  guint64 reqid = world->reqid;
  for (guint round = 0; round < 3; round++)
    {
      world->reqid = reqid - 1;
      cr_assert_eq (do_mkdir (world, dir, "d", 0755, NULL), 0, "round %u", round);
      cr_assert_eq (world->answer.answer.attr.fid, made);
      cr_assert_eq (world->answer.answer.seq, seq);
      cr_assert (S_ISDIR (world->answer.answer.attr.mode));
      cr_assert_eq (last_seq (world), seq);
      if (round == 1)
        {
          nf_sim_cut (world->sim, "a", "b");
          world_close (world);
          world_open (world);
          nf_sim_connect (world->sim, "a", "b");
        }
    }
  cr_assert_eq (do_mkdir (world, dir, "d", 0755, NULL), -EEXIST); /* a new one */
}

Test (sites, rights_and_epochs_are_checked)
{
  NfMsg call = { .type = NF_MSG_MKDIR, .mkdir = { ROOT, nf_slice_str ("d"), 0755 } };

  nf_sim_connect (world->sim, "a", "b");
  world->site = "b";
  cr_assert_eq (do_mkdir (world, ROOT, "d", 0755, NULL), -EACCES); /* b's root is nobody here */
  call.head = (NfCallHead){ .share = SHARE, .epoch = world->a->share->epoch - 1, .reqid = 5 };
  nf_sim_send (world->sim, "b", "a", FALSE, &call);
  g_autoptr (NfMsg) stale = expect (world, NF_MSG_ANSWER);
  cr_assert_eq (nf_status_to_errno (stale->answer.status), ESTALE);
  cr_assert_eq (stale->answer.value, 1);
  (void)nf_sim_site (world->sim, "c");
  nf_sim_connect (world->sim, "a", "c");
  call.head.epoch++;
  nf_sim_send (world->sim, "c", "a", FALSE, &call);
  nf_sim_run (world->sim, 10);
  const NfMsg *refused = nf_sim_site (world->sim, "c")->inbox->pdata[0];
  cr_assert_eq (nf_status_to_errno (refused->answer.status), EROFS);
}

/* As C, which may only read. */
static int
ask_lock (NfFid fid, guint64 reqid, guint8 kind, guint8 type, guint8 how)
{
  NfMsg call = { .type = NF_MSG_LOCK,
                 .lock = { fid, 1, kind, type, how, 0, kind == NF_LOCK_RANGE ? 9 : 0 } };
  GPtrArray *inbox = nf_sim_site (world->sim, "c")->inbox;
  guint before = inbox->len;

  call.head = (NfCallHead){
    .share = SHARE, .epoch = world->a->share->epoch, .reqid = reqid, .session = 7
  };
  nf_sim_send (world->sim, "c", "a", FALSE, &call);
  nf_sim_run (world->sim, 10);
  cr_assert_eq (inbox->len, before + 1);
  const NfMsg *answer = inbox->pdata[before];
  cr_assert_eq (answer->type, NF_MSG_ANSWER);
  return -nf_status_to_errno (answer->answer.status);
}

Test (sites, who_may_only_read_locks_no_range_for_writing)
{
  NfMsg locks = { .type = NF_MSG_LOCKS, .locks = { SHARE, 7, NF_LOCKS_LAST, NF_SLICE_NONE } };
  const NfLock claimed = { .kind = NF_LOCK_RANGE, .type = NF_LOCK_WRITE, .owner = 3, .end = 9 };
  g_auto (NfBuf) buf = NF_BUF_INIT;
  NfFid file;

  cr_assert_eq (do_create (world, ROOT, "f", 0644, 0, &file), 0);
  NfLock said = claimed;
  said.fid = file;
  nf_lock_encode (&said, &buf);
  locks.locks.locks = nf_buf_slice (&buf);
  (void)nf_sim_site (world->sim, "c");
  nf_sim_connect (world->sim, "a", "c");
  nf_sim_send (world->sim, "c", "a", FALSE, &locks); /* that it has one already */
  nf_sim_run (world->sim, 10);
  cr_assert_eq (ask_lock (file, 5, NF_LOCK_RANGE, NF_LOCK_WRITE, NF_LOCK_TRY), -EROFS);
  cr_assert_eq (ask_lock (file, 6, NF_LOCK_RANGE, NF_LOCK_WRITE, NF_LOCK_TEST), 0);
  NfMsg ours = { .type = NF_MSG_LOCK,
                 .lock = { file, 1, NF_LOCK_RANGE, NF_LOCK_WRITE, NF_LOCK_TRY, 0, 9 } };
  cr_assert_eq (do_call (world, &ours), 0, "nobody has it");
  ours.lock.type = NF_LOCK_NONE;
  cr_assert_eq (do_call (world, &ours), 0);
  cr_assert_eq (ask_lock (file, 7, NF_LOCK_RANGE, NF_LOCK_READ, NF_LOCK_TRY), 0);
  cr_assert_eq (ask_lock (file, 8, NF_LOCK_FLOCK, NF_LOCK_WRITE, NF_LOCK_TRY), 0);
}

Test (sites, the_hidden_directories_arent_objects)
{
  NfMsg list = { .type = NF_MSG_LIST, .list = { SHARE, 3, NF_FID_ORPHANS } };

  nf_sim_connect (world->sim, "a", "b");
  world->site = "b";
  cr_assert_eq (do_mkdir (world, NF_FID_STAGING, "d", 0777, NULL), -ESTALE);
  cr_assert_eq (do_lookup (world, NF_FID_LIMBO, "x", NULL), -ESTALE);
  nf_sim_send (world->sim, "b", "a", TRUE, &list);
  nf_sim_run (world->sim, 10);
  cr_assert_eq (world->b->inbox->len, 0);
}

Test (sites, what_is_adopted_leaves_its_parents_time)
{
  NfPosition position = begin ();
  NfRecord record;
  NfAttr parent;

  g_autofree char *behind = path_of (world, "unknown");
  cr_assert (g_file_set_contents (behind, "content", 7, NULL));
  cr_assert_eq (do_getattr (world, ROOT, &parent), 0);
  cr_assert_eq (do_lookup (world, ROOT, "unknown", NULL), 0);
  nf_msg_free (next_op (&position, &record));
  cr_assert_eq (record.time, parent.mtime);
  cr_assert (record.creates);
  cr_assert_eq (record.attr.size, 7);
}

Test (sites, writes_need_the_callers_right_or_a_hold_that_was_judged)
{
  NfFid file;
  NfAttr attr = { .uid = 1234, .gid = 1234, .mode = 0444 };
  NfMsg hold = { .type = NF_MSG_HOLD };

  cr_assert_eq (do_create (world, ROOT, "f", 0644, 0, &file), 0);
  cr_assert_eq (do_setattr (world, file, NF_SET_UID | NF_SET_GID, &attr), 0);
  nf_sim_connect (world->sim, "a", "b");
  world->site = "b";
  world->uid = world->gid = 99;
  cr_assert_eq (do_write (world, file, 0, 0, "x", 1), -EACCES);
  hold.hold.fid = file;
  cr_assert_eq (do_call (world, &hold), 0);
  cr_assert_eq (do_write (world, file, 0, 0, "x", 1), -EACCES); /* saying so isn't enough */
  world->uid = world->gid = 1234;
  cr_assert_eq (do_write (world, file, 0, 0, "x", 1), 0);
  world->site = NULL;
  world->uid = 0;
  cr_assert_eq (do_setattr (world, file, NF_SET_MODE, &attr), 0);
  world->site = "b";
  world->uid = 0; /* the kernel writes a mapping back as nobody knows who */
  cr_assert_eq (do_write (world, file, 1, 0, "y", 1), 0);
}

Test (sites, the_origins_clock_counts_while_it_is_near)
{
  NfFid file;
  NfAttr attr = { .mode = 0666 };
  NfMsg call = { .type = NF_MSG_WRITE };
  gint64 now, base;

  cr_assert_eq (do_create (world, ROOT, "f", 0666, 0, &file), 0);
  cr_assert_eq (do_setattr (world, file, NF_SET_MODE, &attr), 0);
  nf_sim_connect (world->sim, "a", "b");
  world->site = "b";
  call.write.fid = file;
  call.write.data = nf_slice_str ("x");
  base = world->a->host.realtime_ns (world->a->host.data);
  call.head.clock = base + 500000000;
  cr_assert_eq (do_call (world, &call), 0);
  cr_assert_eq (world->answer.answer.attr.mtime, base + 500000000);
  call.head.clock = base + 400000000; /* would run backwards */
  cr_assert_eq (do_call (world, &call), 0);
  now = world->a->host.realtime_ns (world->a->host.data);
  cr_assert_leq (world->answer.answer.attr.mtime, now);
  call.head.clock = base + G_GINT64_CONSTANT (5000000000); /* not near */
  cr_assert_eq (do_call (world, &call), 0);
  cr_assert_lt (world->answer.answer.attr.mtime, base + G_GINT64_CONSTANT (3000000000));
}

Test (sites, a_held_file_outlives_its_name_until_it_is_dropped)
{
  NfFid dir, file;
  NfAttr attr = { .mode = 0777 };
  NfMsg drop = { .type = NF_MSG_DROP };

  cr_assert_eq (do_mkdir (world, ROOT, "d", 0777, &dir), 0);
  cr_assert_eq (do_setattr (world, dir, NF_SET_MODE, &attr), 0);
  nf_sim_connect (world->sim, "a", "b");
  world->site = "b";
  world->uid = world->gid = 1234;
  cr_assert_eq (do_create (world, dir, "f", 0400, NF_CREATE_HOLD, &file), 0);
  cr_assert_eq (do_unlink (world, dir, "f"), 0);
  cr_assert_eq (do_write (world, file, 0, 0, "late", 4), 0);
  cr_assert_eq (do_read (world, file, 0, 10), 0);
  cr_assert_eq (world->answer.answer.data.len, 4);
  drop.drop.fid = file;
  cr_assert_eq (do_call (world, &drop), 0);
  cr_assert_eq (do_read (world, file, 0, 10), -ESTALE);
}

Test (sites, holds_that_arent_said_again_end)
{
  NfFid file;
  NfAttr attr;
  NfMsg hold = { .type = NF_MSG_HOLD };

  cr_assert_eq (do_create (world, ROOT, "f", 0644, 0, &file), 0);
  nf_sim_connect (world->sim, "a", "b");
  world->site = "b";
  hold.hold.fid = file;
  cr_assert_eq (do_call (world, &hold), 0);
  world->site = NULL;
  cr_assert_eq (do_unlink (world, ROOT, "f"), 0);
  nf_sim_cut (world->sim, "a", "b");
  nf_sim_run (world->sim, 300 * 1000);
  cr_assert_eq (do_getattr (world, file, &attr), 0); /* its link may come back */
  nf_sim_connect (world->sim, "a", "b");
  nf_sim_run (world->sim, 300 * 1000);
  cr_assert_eq (do_getattr (world, file, &attr), -ESTALE);
}

Test (sites, others_changes_invalidate_this_sites_kernel)
{
  NfFid dir;
  NfAttr attr = { .mode = 0777 };

  cr_assert_eq (do_mkdir (world, ROOT, "d", 0777, &dir), 0);
  cr_assert_eq (do_setattr (world, dir, NF_SET_MODE, &attr), 0);
  world->a->keep_invals = TRUE;
  cr_assert_eq (do_create (world, dir, "own", 0644, 0, NULL), 0);
  cr_assert_eq (world->a->invals->len, 0);
  nf_sim_connect (world->sim, "a", "b");
  world->site = "b";
  world->uid = 1234;
  cr_assert_eq (do_create (world, dir, "other", 0644, 0, NULL), 0);
  cr_assert_eq (world->a->invals->len, 1);
  cr_assert_eq (g_array_index (world->a->invals, NfInval, 0).kind, NF_INVAL_NAME);
}

/* ---- waiting ---- */

Test (sites, waits_end_with_the_position_or_with_time)
{
  NfPosition position = begin ();
  NfMsg wait = { .type = NF_MSG_WAIT };
  NfRecord record;

  cr_assert_eq (do_mkdir (world, ROOT, "d", 0755, NULL), 0);
  nf_msg_free (next_op (&position, &record));
  world->site = "b";
  wait.head = (NfCallHead){ .share = SHARE, .epoch = world->a->share->epoch, .reqid = 77 };
  wait.wait.seq = position.seq;
  wait.wait.sites = nf_slice_str ("a,b");
  nf_sim_send (world->sim, "b", "a", FALSE, &wait);
  nf_sim_run (world->sim, 100);
  for (guint i = 0; i < world->b->inbox->len; i++)
    cr_assert_neq (((NfMsg *)world->b->inbox->pdata[i])->type, NF_MSG_ANSWER);
  say_position (position);
  g_autoptr (NfMsg) answer = expect (world, NF_MSG_ANSWER);
  cr_assert_eq (answer->answer.reqid, 77);
  cr_assert_eq (answer->answer.status, 0);
  wait.wait.sites = nf_slice_str ("nowhere");
  cr_assert_eq (do_call (world, &wait), -EINVAL);
}

static void
note_status (gpointer data, int status, const NfMsg *answer)
{
  (void)answer;
  *(int *)data = status;
}

Test (sites, a_wait_of_this_site_times_out)
{
  int status = 1;

  nf_share_wait (world->a->share, "all", 500, note_status, &status);
  nf_sim_run (world->sim, 400);
  cr_assert_eq (status, 1);
  nf_sim_run (world->sim, 200);
  cr_assert_eq (status, -ETIMEDOUT);
}

/* ---- slow sites ---- */

/* More than its connection takes: the rest waits in the journal and comes when there is room. */
Test (sites, ops_for_a_slow_site_wait_in_the_journal)
{
  NfPosition position = begin ();
  g_autofree guint8 *data = g_malloc0 (60000);
  NfRecord record;
  NfFid file;

  cr_assert_eq (do_create (world, ROOT, "f", 0644, 0, &file), 0);
  for (guint i = 0; i < 40; i++)
    cr_assert_eq (do_write (world, file, i * 60000, 0, data, 60000), 0);
  cr_assert_leq (world->a->host.queued (world->a, "b", FALSE), 512 * 1024);
  for (guint i = 0; i < 41; i++)
    nf_msg_free (next_op (&position, &record));
}
