// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "tests/sim.h"

/* What a site has changed is what it sees (G3), also while its replica doesn't have it yet. The bytes of a copy come a while
 * after its answer; and ops may wait until the kernel has been told of others. */

typedef struct
{
  NfSimPair pair;
  NfFid from;
  NfFid fid;
} World;

/* So many more ops are applied. */
static gint let_through = G_MAXINT;

static gboolean
is_telling (gpointer data, NfShare *share)
{
  (void)data, (void)share;
  return let_through <= 0;
}

static void
note_applied (gpointer data, NfSimSite *site, const char *name)
{
  (void)data;
  if (g_str_equal (site->name, "b") && g_str_equal (name, "replica-applied"))
    let_through--;
}

static NfFid
create (World *world, NfSimSite *site, const char *name)
{
  NfMsg call = nf_sim_msg (NF_MSG_CREATE), answer;

  call.create.parent = NF_FID_ROOT;
  call.create.name = nf_slice_str (name);
  call.create.mode = 0600;
  cr_assert_eq (nf_sim_call (site, &call, &answer), 0);
  NfFid fid = answer.answer.attr.fid;
  nf_msg_clear (&answer);
  nf_sim_run (world->pair.sim, 1000);
  return fid;
}

static void
write_at (World *world, NfSimSite *site, NfFid fid, const char *text)
{
  NfMsg call = nf_sim_msg (NF_MSG_WRITE);

  call.write.fid = fid;
  call.write.data = nf_slice_str (text);
  cr_assert_eq (nf_sim_call (site, &call, NULL), 0);
  nf_sim_run (world->pair.sim, 1000);
}

/* "from" with content, and "to", which the replica's site has made. Messages take their time. */
static void
begin (World *world)
{
  nf_sim_pair_begin (&world->pair);
  let_through = G_MAXINT;
  world->pair.replica->host.telling = is_telling;
  nf_sim_at_points (world->pair.sim, note_applied, NULL);
  nf_sim_connect (world->pair.sim, "a", "b");
  nf_sim_delays (world->pair.sim, 20);
  world->from = create (world, world->pair.primary, "from");
  write_at (world, world->pair.primary, world->from, "copied");
  world->fid = create (world, world->pair.replica, "to");
}

static void
end (World *world)
{
  nf_sim_pair_end (&world->pair);
}

static void
copy (World *world)
{
  NfMsg call = nf_sim_msg (NF_MSG_COPY);

  call.copy.from = world->from;
  call.copy.fid = world->fid;
  call.copy.length = 6;
  cr_assert_eq (nf_sim_call (world->pair.replica, &call, NULL), 0);
}

typedef struct
{
  gboolean done;
  int status;
  guint64 size; /* the attributes' */
  char text[16];
} Answered;

static void
answered (gpointer data, int status, const NfMsg *answer)
{
  Answered *got = data;

  got->done = TRUE;
  got->status = status;
  got->size = answer->answer.attr.size;
  if (answer->answer.data.len > 0)
    memcpy (got->text, answer->answer.data.data,
            MIN (answer->answer.data.len, sizeof got->text - 1));
}

static Answered
call_file (World *world, NfFile *file, const NfMsg *call)
{
  Answered got = { 0 };

  nf_file_call (file, call, answered, &got, NULL);
  while (!got.done)
    cr_assert (nf_sim_step (world->pair.sim));
  cr_assert_eq (got.status, 0);
  return got;
}

/* As the mount reads: itself where it may, else by a call. */
static void
expect_text (World *world, NfFile *file, const char *text)
{
  NfMsg call = nf_sim_msg (NF_MSG_READ);
  char here[16] = "";

  if (nf_file_read (file, here, sizeof here - 1, 0) >= 0)
    {
      cr_assert_str_eq (here, text);
      return;
    }
  call.read.fid = world->fid;
  call.read.size = 15;
  cr_assert_str_eq (call_file (world, file, &call).text, text);
}

Test (own_changes, what_is_opened_before_the_bytes_are_there_reads_them)
{
  World world = { 0 };

  begin (&world);
  copy (&world);
  NfFile *file = nf_sim_open_file (world.pair.replica, world.fid, O_RDONLY, FALSE);
  nf_sim_run (world.pair.sim, 1000);
  expect_text (&world, file, "copied");
  nf_file_close (file);
  end (&world);
}

Test (own_changes, what_was_open_before_reads_them)
{
  World world = { 0 };

  begin (&world);
  NfFile *file = nf_sim_open_file (world.pair.replica, world.fid, O_RDONLY, FALSE);
  copy (&world);
  expect_text (&world, file, "copied");
  nf_sim_run (world.pair.sim, 1000);
  expect_text (&world, file, "copied");
  nf_file_close (file);
  end (&world);
}

Test (own_changes, attributes_set_afterwards_come_with_the_new_size)
{
  World world = { 0 };
  NfMsg call = nf_sim_msg (NF_MSG_SETATTR);

  begin (&world);
  NfFile *file = nf_sim_open_file (world.pair.replica, world.fid, O_WRONLY, TRUE);
  copy (&world);
  call.setattr.fid = world.fid;
  call.setattr.mask = NF_SET_MODE;
  call.setattr.attr.mode = 0640;
  cr_assert_eq (call_file (&world, file, &call).size, 6);
  nf_file_close (file);
  end (&world);
}

/* Another site's new content is another file: who has the former one open keeps it, whole. */
Test (own_changes, what_another_site_copies_is_for_those_who_open_it_then)
{
  World world = { 0 };
  NfMsg call = nf_sim_msg (NF_MSG_COPY);

  begin (&world);
  write_at (&world, world.pair.primary, world.fid, "before");
  NfFile *file = nf_sim_open_file (world.pair.replica, world.fid, O_RDONLY, FALSE);
  call.copy.from = world.from;
  call.copy.fid = world.fid;
  call.copy.length = 6;
  cr_assert_eq (nf_sim_call (world.pair.primary, &call, NULL), 0);
  nf_sim_run (world.pair.sim, 1000);
  expect_text (&world, file, "before");
  NfFile *later = nf_sim_open_file (world.pair.replica, world.fid, O_RDONLY, FALSE);
  expect_text (&world, later, "copied");
  nf_file_close (file);
  nf_file_close (later);
  end (&world);
}

static NfMsg
mode_of (World *world, guint32 mode)
{
  NfMsg call = nf_sim_msg (NF_MSG_SETATTR);

  call.setattr.fid = world->fid;
  call.setattr.mask = NF_SET_MODE;
  call.setattr.attr.mode = mode;
  return call;
}

static void
expect_mode (World *world, guint32 mode)
{
  NfMsg call = nf_sim_msg (NF_MSG_GETATTR), answer;

  call.getattr.fid = world->fid;
  cr_assert_eq (nf_sim_call (world->pair.replica, &call, &answer), 0);
  cr_assert_eq (answer.answer.attr.mode & 07777, mode, "%o", answer.answer.attr.mode);
  nf_msg_clear (&answer);
}

/* What is read at the primary in between is to be seen until the replica has it; that doesn't end what the change after it asks for. */
Test (own_changes, two_changes_with_a_look_in_between_are_seen_until_both_are_here)
{
  World world = { 0 };

  begin (&world);
  let_through = 0;
  NfMsg call = mode_of (&world, 0640);
  cr_assert_eq (nf_sim_call (world.pair.replica, &call, NULL), 0);
  expect_mode (&world, 0640);
  call = mode_of (&world, 0604);
  cr_assert_eq (nf_sim_call (world.pair.replica, &call, NULL), 0);
  /* The first of them only. */
  let_through = 1;
  nf_share_told (world.pair.replica->share);
  nf_sim_run (world.pair.sim, 1000);
  cr_assert_eq (let_through, 0);
  expect_mode (&world, 0604);
  end (&world);
}

/* "to" has another name, "other", and the replica knows it. */
static void
begin_linked (World *world)
{
  NfMsg call = nf_sim_msg (NF_MSG_LINK);

  begin (world);
  call.link.fid = world->fid;
  call.link.parent = NF_FID_ROOT;
  call.link.name = nf_slice_str ("other");
  cr_assert_eq (nf_sim_call (world->pair.replica, &call, NULL), 0);
  nf_sim_run (world->pair.sim, 1000);
  let_through = 0;
}

static void
expect_links (World *world, guint32 links)
{
  NfMsg call = nf_sim_msg (NF_MSG_GETATTR), answer;

  call.getattr.fid = world->fid;
  cr_assert_eq (nf_sim_call (world->pair.replica, &call, &answer), 0);
  cr_assert_eq (answer.answer.attr.nlink, links);
  nf_msg_clear (&answer);
}

Test (own_changes, a_removed_name_counts_no_more)
{
  World world = { 0 };
  NfMsg call = nf_sim_msg (NF_MSG_UNLINK);

  begin_linked (&world);
  expect_links (&world, 2);
  call.unlink.parent = NF_FID_ROOT;
  call.unlink.name = nf_slice_str ("other");
  cr_assert_eq (nf_sim_call (world.pair.replica, &call, NULL), 0);
  expect_links (&world, 1);
  end (&world);
}

Test (own_changes, a_name_given_to_another_counts_no_more)
{
  World world = { 0 };
  NfMsg call = nf_sim_msg (NF_MSG_RENAME);

  begin_linked (&world);
  call.rename.parent = NF_FID_ROOT;
  call.rename.name = nf_slice_str ("from");
  call.rename.newparent = NF_FID_ROOT;
  call.rename.newname = nf_slice_str ("other");
  cr_assert_eq (nf_sim_call (world.pair.replica, &call, NULL), 0);
  expect_links (&world, 1);
  end (&world);
}

static gint64
mtime_at (NfSimSite *site, NfFid fid)
{
  NfMsg call = nf_sim_msg (NF_MSG_GETATTR), answer;

  call.getattr.fid = fid;
  cr_assert_eq (nf_sim_call (site, &call, &answer), 0);
  gint64 mtime = answer.answer.attr.mtime;
  nf_msg_clear (&answer);
  return mtime;
}

/* The clock of the writer is far from the primary's, who takes its own; its op comes a while later. */
Test (own_changes, a_time_that_was_not_taken_is_not_shown_either)
{
  World world;

  begin (&world);
  world.pair.replica->clock_step_ns = 10 * G_GINT64_CONSTANT (1000000000);
  let_through = 0;
  write_at (&world, world.pair.replica, world.fid, "late");
  cr_assert_eq (mtime_at (world.pair.replica, world.fid), mtime_at (world.pair.primary, world.fid));
  end (&world);
}

/* What was copied before is only at the primary yet, and has no name there any more. */
Test (own_changes, who_reads_a_file_keeps_all_of_it_when_its_name_goes)
{
  World world = { 0 };
  NfMsg call = nf_sim_msg (NF_MSG_UNLINK);

  begin (&world);
  NfFile *reader = nf_sim_open_file (world.pair.replica, world.fid, O_RDONLY, FALSE);
  let_through = 0;
  copy (&world);
  call.unlink.parent = NF_FID_ROOT;
  call.unlink.name = nf_slice_str ("to");
  cr_assert_eq (nf_sim_call (world.pair.replica, &call, NULL), 0);
  call = nf_sim_msg (NF_MSG_GETATTR);
  call.getattr.fid = world.fid;
  cr_assert_eq (call_file (&world, reader, &call).size, 6);
  expect_text (&world, reader, "copied");
  let_through = G_MAXINT;
  nf_share_told (world.pair.replica->share);
  nf_sim_run (world.pair.sim, 1000);
  cr_assert_eq (call_file (&world, reader, &call).size, 6);
  expect_text (&world, reader, "copied");
  nf_file_close (reader);
  end (&world);
}
