// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sync/intents.h"
#include "tests/sim.h"

static char *dir;
static int dir_fd;
static NfIndex *known;
static NfIntents *intents;

static void
setup (void)
{
  dir = nf_sim_make_dir ();
  dir_fd = open (dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  known = nf_index_open (dir, "index", NULL);
  cr_assert (known != NULL);
  intents = nf_intents_open (dir_fd, known);
  cr_assert (intents != NULL);
}

static void
teardown (void)
{
  nf_intents_free (intents);
  nf_index_close (known);
  close (dir_fd);
  nf_sim_remove_dir (dir);
}

static void
open_again (void)
{
  nf_intents_free (intents);
  intents = nf_intents_open (dir_fd, known);
  cr_assert (intents != NULL);
}

static int
intents_fd (void)
{
  return openat (dir_fd, "intents", O_RDWR | O_CLOEXEC);
}

TestSuite (intents, .init = setup, .fini = teardown);

Test (intents, what_is_noted_the_next_life_knows)
{
  cr_assert_eq (nf_intents_note (intents, 5), 0);
  cr_assert_eq (nf_intents_note (intents, 7), 0);
  open_again ();
  cr_assert (nf_intents_has (intents, 5));
  cr_assert (nf_intents_has (intents, 7));
  cr_assert_not (nf_intents_has (intents, 6));
  g_autoptr (GArray) fids = nf_intents_list (intents);
  cr_assert_eq (fids->len, 2);
}

Test (intents, a_checkpoint_forgets_what_was_noted_before_it_began)
{
  cr_assert_eq (nf_intents_note (intents, 5), 0);
  nf_intents_begin (intents, 1000);
  cr_assert_eq (nf_intents_note (intents, 6), 0);
  cr_assert_eq (nf_intents_end (intents), 0);
  cr_assert_not (nf_intents_has (intents, 5));
  cr_assert (nf_intents_has (intents, 6));
  open_again ();
  cr_assert_not (nf_intents_has (intents, 5));
  cr_assert (nf_intents_has (intents, 6));
}

/* 5 is written while the checkpoint is under way, too. */
Test (intents, who_writes_on_during_a_checkpoint_is_noted_again)
{
  cr_assert_eq (nf_intents_note (intents, 5), 0);
  nf_intents_begin (intents, 1000);
  cr_assert_eq (nf_intents_note (intents, 5), 0);
  cr_assert_eq (nf_intents_end (intents), 0);
  open_again ();
  cr_assert (nf_intents_has (intents, 5));
}

static void
make_file (NfFid fid, gint64 born)
{
  const NfObject object = { .fid = fid, .ident = { .ino = fid, .btime = born }, .mode = S_IFREG };

  cr_assert_eq (nf_index_put (known, &object), 0);
}

static gboolean
is_noted (NfFid fid)
{
  cr_assert_eq (nf_intents_note (intents, fid), 0);
  return nf_intents_has (intents, fid);
}

static void
checkpoint (gint64 time)
{
  nf_intents_begin (intents, time);
  cr_assert_eq (nf_intents_end (intents), 0);
}

Test (intents, files_made_since_the_checkpoint_need_no_note)
{
  make_file (100, 900);
  checkpoint (1000);
  make_file (101, 1001);
  cr_assert_not (is_noted (101));
  cr_assert (is_noted (100));
  checkpoint (2000);
  cr_assert (is_noted (101));
}

Test (intents, files_made_in_this_life_need_no_note_before_its_first_checkpoint)
{
  make_file (100, 900);
  open_again ();
  make_file (101, g_get_real_time () * 1000);
  cr_assert_not (is_noted (101));
  cr_assert (is_noted (100));
}

Test (intents, an_old_file_that_gets_a_new_fid_is_noted)
{
  checkpoint (1000);
  make_file (101, 999);
  make_file (102, 0);
  cr_assert (is_noted (101));
  cr_assert (is_noted (102), "a filesystem that knows no births");
}

Test (intents, a_file_born_under_a_clock_that_ran_ahead_is_noted)
{
  make_file (100, 5000);
  checkpoint (1000);
  cr_assert (is_noted (100));
}

Test (intents, a_file_that_is_all_hole_needs_no_note)
{
  int fd = openat (dir_fd, "file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  struct stat st;

  cr_assert_eq (ftruncate (fd, 100000), 0);
  cr_assert_eq (fstat (fd, &st), 0);
  cr_assert_not (nf_intents_concern (&st));
  cr_assert_eq (pwrite (fd, "x", 1, 50000), 1);
  cr_assert_eq (fstat (fd, &st), 0);
  cr_assert (nf_intents_concern (&st));
  close (fd);
}

Test (intents, while_held_nothing_is_forgotten)
{
  cr_assert_eq (nf_intents_note (intents, 5), 0);
  open_again ();
  nf_intents_hold (intents, TRUE);
  nf_intents_begin (intents, 1000);
  cr_assert_eq (nf_intents_end (intents), 0);
  open_again ();
  cr_assert (nf_intents_has (intents, 5));
}

Test (intents, a_torn_entry_does_not_count)
{
  cr_assert_eq (nf_intents_note (intents, 5), 0);
  cr_assert_eq (nf_intents_note (intents, 6), 0);
  int fd = intents_fd ();
  cr_assert_eq (pwrite (fd, "\0", 1, 4096 + 16), 1);
  close (fd);
  open_again ();
  cr_assert (nf_intents_has (intents, 5));
  cr_assert_not (nf_intents_has (intents, 6));
}

Test (intents, the_file_does_not_grow_with_checkpoints)
{
  struct stat st;
  int fd = intents_fd ();

  cr_assert_eq (fstat (fd, &st), 0);
  off_t before = st.st_size;
  for (guint i = 0; i < 200; i++)
    {
      for (NfFid fid = 1; fid <= 30; fid++)
        cr_assert_eq (nf_intents_note (intents, fid), 0);
      nf_intents_begin (intents, 1000);
      cr_assert_eq (nf_intents_end (intents), 0);
    }
  cr_assert_eq (fstat (fd, &st), 0);
  cr_assert_eq (st.st_size, before);
  close (fd);
  open_again ();
  cr_assert_not (nf_intents_has (intents, 1));
}
