// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "tests/sim.h"

/* Files of a replica that the kernel reads past us (nf_file_pass()). */

#define YEAR_NS (365 * 24 * 3600 * G_GINT64_CONSTANT (1000000000))

typedef struct
{
  NfSimPair pair;
  NfFid fid;
  NfFile *reader;
  NfFile *writer;
} World;

static gboolean gated;

static gboolean
is_telling (gpointer data, NfShare *share)
{
  (void)data, (void)share;
  return gated;
}

static void
open_gate (World *world)
{
  gated = FALSE;
  nf_share_told (world->pair.replica->share);
}

static NfMsg
write_of (World *world, guint64 offset, const char *text)
{
  NfMsg call = nf_sim_msg (NF_MSG_WRITE);

  call.write.fid = world->fid;
  call.write.offset = offset;
  call.write.data = nf_slice_str (text);
  return call;
}

/* The replica's clock shows so much more than the disk's does. */
static void
set_clock (World *world, gint64 ahead_ns)
{
  NfHost *host = &world->pair.replica->host;

  world->pair.replica->clock_step_ns
      += g_get_real_time () * 1000 + ahead_ns - host->realtime_ns (host->data);
}

/* /file, with "before" in it, at rest. */
static void
begin (World *world)
{
  NfMsg call = nf_sim_msg (NF_MSG_CREATE), answer;

  gated = FALSE;
  nf_sim_pair_begin (&world->pair);
  world->pair.replica->host.telling = is_telling;
  nf_sim_connect (world->pair.sim, "a", "b");
  call.create.parent = NF_FID_ROOT;
  call.create.name = nf_slice_str ("file");
  call.create.mode = 0644;
  cr_assert_eq (nf_sim_call (world->pair.primary, &call, &answer), 0);
  world->fid = answer.answer.attr.fid;
  nf_msg_clear (&answer);
  call = write_of (world, 0, "before");
  cr_assert_eq (nf_sim_call (world->pair.primary, &call, NULL), 0);
  nf_sim_run (world->pair.sim, 5000);
  set_clock (world, YEAR_NS); /* the file was changed long ago then */
  world->reader = nf_sim_open_file (world->pair.replica, world->fid, O_RDONLY, FALSE);
}

static void
end (World *world)
{
  nf_file_close (world->reader);
  if (world->writer)
    nf_file_close (world->writer);
  nf_sim_pair_end (&world->pair);
}

static gboolean
has (int fd, const char *text)
{
  char buffer[64];
  gsize len = strlen (text);

  return pread (fd, buffer, len, 0) == (ssize_t)len && memcmp (buffer, text, len) == 0;
}

static void
answered (gpointer data, int status, const NfMsg *answer)
{
  (void)answer;
  *(int *)data = status;
}

/* An own write begins; UNDER_WAY until it is answered. */
#define UNDER_WAY 1
static guint64
begin_write (World *world, const char *text, guint32 flags, int *ret_status)
{
  NfMsg call = write_of (world, 0, text);
  guint64 id;

  call.write.flags = flags;
  *ret_status = UNDER_WAY;
  world->writer = world->writer
                      ? world->writer
                      : nf_sim_open_file (world->pair.replica, world->fid, O_WRONLY, FALSE);
  nf_file_call (world->writer, &call, answered, ret_status, &id);
  return id;
}

Test (passed, a_write_is_answered_at_once_where_all_read_through_us)
{
  World world = { 0 };
  int status;

  begin (&world);
  (void)begin_write (&world, "after", 0, &status);
  cr_assert_eq (status, 0);
  end (&world);
}

Test (passed, a_write_is_answered_when_it_is_in_the_file)
{
  World world = { 0 };
  int status;

  begin (&world);
  int fd = nf_file_pass (world.reader, TRUE);
  cr_assert (fd >= 0 && has (fd, "before"));
  gated = TRUE; /* its op comes, and isn't applied */
  (void)begin_write (&world, "after", 0, &status);
  nf_sim_run (world.pair.sim, 5000);
  cr_assert_eq (status, UNDER_WAY);
  cr_assert (has (fd, "before"));
  open_gate (&world);
  nf_sim_run (world.pair.sim, 1000);
  cr_assert_eq (status, 0);
  cr_assert (has (fd, "after"));
  end (&world);
}

Test (passed, no_write_waits_longer_than_a_call_may)
{
  World world = { 0 };
  int status;

  begin (&world);
  cr_assert (nf_file_pass (world.reader, TRUE) >= 0);
  gated = TRUE;
  (void)begin_write (&world, "after", 0, &status);
  nf_sim_run (world.pair.sim, 12000);
  cr_assert_eq (status, 0);
  end (&world);
}

Test (passed, an_interrupted_writer_does_not_wait)
{
  World world = { 0 };
  int status;

  begin (&world);
  cr_assert (nf_file_pass (world.reader, TRUE) >= 0);
  gated = TRUE;
  guint64 id = begin_write (&world, "after", 0, &status);
  nf_sim_run (world.pair.sim, 2000);
  cr_assert_eq (status, UNDER_WAY);
  nf_share_cancel (world.pair.replica->share, id);
  cr_assert_eq (status, 0); /* it was carried out */
  end (&world);
}

/* The kernel keeps its pages until it is answered, and may have to be told of them before the gate opens. */
Test (passed, what_is_written_back_of_a_mapping_does_not_wait)
{
  World world = { 0 };
  int status;

  begin (&world);
  cr_assert (nf_file_pass (world.reader, TRUE) >= 0);
  gated = TRUE;
  (void)begin_write (&world, "after", NF_WRITE_OF_MAPPING, &status);
  cr_assert_eq (status, 0);
  end (&world);
}

Test (passed, a_share_that_is_closed_answers_who_waits)
{
  World world = { 0 };
  int status;

  begin (&world);
  cr_assert (nf_file_pass (world.reader, TRUE) >= 0);
  gated = TRUE;
  (void)begin_write (&world, "after", 0, &status);
  nf_sim_run (world.pair.sim, 2000);
  cr_assert_eq (status, UNDER_WAY);
  nf_file_close (world.writer);
  nf_file_close (world.reader);
  nf_sim_close (world.pair.replica);
  cr_assert_eq (status, 0);
  nf_sim_pair_end (&world.pair);
}

Test (passed, what_lies_over_the_file_or_is_written_is_read_through_us)
{
  World world = { 0 };
  int status;

  begin (&world);
  nf_sim_cut (world.pair.sim, "a", "b");
  nf_sim_run (world.pair.sim, 100);
  (void)begin_write (&world, "after", 0, &status);
  cr_assert_eq (nf_file_pass (world.reader, TRUE), -1);
  cr_assert_eq (nf_file_pass (world.reader, FALSE), -1);
  nf_sim_connect (world.pair.sim, "a", "b");
  nf_sim_run (world.pair.sim, 5000);
  cr_assert_eq (nf_file_pass (world.reader, TRUE), -1); /* there is still the writer */
  cr_assert (nf_file_pass (world.reader, FALSE) >= 0);
  nf_file_unpass (world.reader);
  nf_file_close (g_steal_pointer (&world.writer));
  cr_assert (nf_file_pass (world.reader, TRUE) >= 0);
  end (&world);
}

Test (passed, what_has_just_been_changed_is_read_through_us)
{
  World world = { 0 };

  begin (&world);
  set_clock (&world, 0);
  cr_assert_eq (nf_file_pass (world.reader, TRUE), -1);
  cr_assert (nf_file_pass (world.reader, FALSE) >= 0);
  end (&world);
}
