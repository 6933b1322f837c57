// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sync/journal.h"
#include "tests/sim.h"

/* The primary's directory goes back to an earlier state, or loses its own: what "b" has is taken from there, and nothing is
 * thrown away. */

typedef struct
{
  NfSim *sim;
  NfSimSite *a;
  NfSimSite *b;
  char *dirs[2];
  char *backup;
} World;

static void
open_site (NfSimSite *site, NfMapRole role, const char *dir)
{
  static const char *const of_a[] = { "b", NULL };
  static const char *const of_b[] = { "a", NULL };
  g_autoptr (GError) error = NULL;

  cr_assert (nf_sim_open (site, role, dir, "a", role == NF_ROLE_PRIMARY ? of_a : of_b, &error),
             "%s", error ? error->message : "?");
}

static void
run (World *world, const char *command)
{
  g_autofree char *line = g_strdup_printf ("A=%s; B=%s; K=%s; %s", world->dirs[0], world->dirs[1],
                                           world->backup, command);

  cr_assert_eq (system (line), 0, "%s", line);
}

static void
write_file (World *world, const char *name, const char *content)
{
  NfMsg create = { .type = NF_MSG_CREATE };
  NfMsg write = { .type = NF_MSG_WRITE };
  g_auto (NfMsg) answer = { 0 };

  create.create.parent = NF_FID_ROOT;
  create.create.name = nf_slice_str (name);
  create.create.mode = S_IFREG | 0644;
  cr_assert_eq (nf_sim_call (world->a, &create, &answer), 0);
  write.write.fid = answer.answer.attr.fid;
  write.write.data = nf_slice_str (content);
  cr_assert_eq (nf_sim_call (world->a, &write, NULL), 0);
}

/* In step, with "old", "changed" and "removed"; both closed in order, and "a" backed up. */
static World *
world_new (void)
{
  World *world = g_new0 (World, 1);

  world->sim = nf_sim_new (1);
  world->a = nf_sim_site (world->sim, "a");
  world->b = nf_sim_site (world->sim, "b");
  for (guint i = 0; i < 2; i++)
    world->dirs[i] = nf_sim_make_dir ();
  world->backup = nf_sim_make_dir ();
  open_site (world->a, NF_ROLE_PRIMARY, world->dirs[0]);
  open_site (world->b, NF_ROLE_REPLICA, world->dirs[1]);
  nf_sim_connect (world->sim, "a", "b");
  nf_sim_run (world->sim, 5000);
  write_file (world, "old", "as it was");
  write_file (world, "changed", "before");
  write_file (world, "removed", "before");
  nf_sim_run (world->sim, 5000);
  nf_sim_close (world->a);
  run (world, "cp -a $A/. $K/");
  return world;
}

/* Since the backup. */
static void
live_on (World *world)
{
  NfMsg unlink = { .type = NF_MSG_UNLINK };

  open_site (world->a, NF_ROLE_PRIMARY, world->dirs[0]);
  nf_sim_connect (world->sim, "a", "b");
  nf_sim_run (world->sim, 5000);
  write_file (world, "changed", "after!");
  write_file (world, "new", "after!");
  unlink.unlink.parent = NF_FID_ROOT;
  unlink.unlink.name = nf_slice_str ("removed");
  cr_assert_eq (nf_sim_call (world->a, &unlink, NULL), 0);
  nf_sim_run (world->sim, 5000);
  nf_sim_close (world->a);
}

static void
reopen_as_often_as_wanted (World *world)
{
  nf_sim_connect (world->sim, "a", "b");
  for (guint i = 0; i < 60; i++)
    {
      nf_sim_run (world->sim, 1000);
      if (!nf_share_wants_reopen (world->a->share))
        continue;
      nf_sim_close (world->a);
      open_site (world->a, NF_ROLE_PRIMARY, world->dirs[0]);
      nf_sim_connect (world->sim, "a", "b");
    }
  cr_assert_not (nf_share_is_recovering (world->a->share));
}

static void
expect_content (World *world, guint site, const char *name, const char *wanted)
{
  g_autofree char *path = g_build_filename (world->dirs[site], name, NULL);
  g_autofree char *is = NULL;

  (void)g_file_get_contents (path, &is, NULL, NULL);
  cr_assert_str_eq (is ? is : "(nothing)", wanted, "%s", path);
}

static void
expect_equal (World *world)
{
  g_autofree char *wanted = nf_sim_describe_dir (world->dirs[0]);
  g_autofree char *is = nf_sim_describe_dir (world->dirs[1]);

  cr_assert_str_eq (is, wanted);
}

static void
expect_latest (World *world)
{
  expect_equal (world);
  expect_content (world, 0, "old", "as it was");
  expect_content (world, 0, "changed", "after!");
  expect_content (world, 0, "new", "after!");
  expect_content (world, 0, "removed", "(nothing)");
}

static const char *looked_for;
static gboolean found;

static int
look_for (const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
  g_autofree char *content = NULL;

  (void)st;
  (void)ftw;
  if (flag == FTW_F && g_file_get_contents (path, &content, NULL, NULL))
    found |= g_str_equal (content, looked_for);
  return 0;
}

static void
expect_in_quarantine (World *world, guint site, const char *content)
{
  g_autofree char *dir = g_build_filename (world->dirs[site], ".nearfs", "quarantine", NULL);

  looked_for = content;
  found = FALSE;
  (void)nftw (dir, look_for, 16, FTW_PHYS);
  cr_assert (found, "%s isn't in %s", content, dir);
}

static void
world_free (World *world)
{
  nf_sim_free (world->sim);
  for (guint i = 0; i < 2; i++)
    nf_sim_remove_dir (world->dirs[i]);
  nf_sim_remove_dir (world->backup);
  g_free (world);
}

#define FLIP                                                                     \
  "first=$(ls .nearfs/journal | sort | head -n 1); ls .nearfs/journal | wc -l; " \
  "printf 'xxxx' | dd of=.nearfs/journal/$first bs=1 seek=8 conv=notrunc status=none"

/* As a snapshot of the filesystem, or of the machine, goes back: with the same inodes. */
#define GO_BACK                                                                              \
  "rm -rf $A/.nearfs/journal $A/.nearfs/index*; cp -a $K/.nearfs/journal $K/.nearfs/index* " \
  "$A/.nearfs/; cat $K/changed >$A/changed; touch -r $K/changed $A/changed; rm -f $A/new; "  \
  "cp -a $K/removed $A/removed"

Test (backup, a_primary_that_went_back_takes_what_is_newer_from_a_member, .timeout = 60)
{
  World *world = world_new ();

  live_on (world);
  run (world, GO_BACK);
  open_site (world->a, NF_ROLE_PRIMARY, world->dirs[0]);
  reopen_as_often_as_wanted (world);
  expect_latest (world);
  world_free (world);
}

/* Somebody worked on before a member was there: both histories are kept, one in the tree. */
Test (backup, what_was_done_since_is_kept, .timeout = 60)
{
  World *world = world_new ();

  live_on (world);
  run (world, GO_BACK);
  open_site (world->a, NF_ROLE_PRIMARY, world->dirs[0]);
  write_file (world, "mine", "meanwhile");
  write_file (world, "changed", "otherwise");
  reopen_as_often_as_wanted (world);
  expect_equal (world);
  expect_content (world, 0, "old", "as it was");
  expect_content (world, 0, "changed", "after!");
  expect_in_quarantine (world, 0, "meanwhile");
  expect_in_quarantine (world, 0, "otherwise");
  world_free (world);
}

/* The same, and so much that its numbers are past those of the member: then it stays, and the member's is kept. */
Test (backup, also_if_it_has_overtaken_the_member, .timeout = 60)
{
  World *world = world_new ();

  live_on (world);
  run (world, GO_BACK);
  open_site (world->a, NF_ROLE_PRIMARY, world->dirs[0]);
  for (guint i = 0; i < 20; i++)
    write_file (world, "changed", "otherwise");
  reopen_as_often_as_wanted (world);
  expect_equal (world);
  expect_content (world, 0, "changed", "otherwise");
  expect_in_quarantine (world, 1, "after!");
  world_free (world);
}

/* The data is there, what nearfs knew of it isn't: all comes from the member, and what it has otherwise is kept. */
Test (backup, data_without_its_state, .timeout = 60)
{
  World *world = world_new ();

  live_on (world);
  run (world, "rm -rf $A/.nearfs; echo -n only here >$A/mine; echo -n other >$A/old");
  open_site (world->a, NF_ROLE_PRIMARY, world->dirs[0]);
  write_file (world, "late", "meanwhile");
  reopen_as_often_as_wanted (world);
  expect_latest (world);
  expect_in_quarantine (world, 0, "only here");
  expect_in_quarantine (world, 0, "other");
  expect_in_quarantine (world, 0, "meanwhile");
  world_free (world);
}

static void
write_many (World *world)
{
  open_site (world->a, NF_ROLE_PRIMARY, world->dirs[0]);
  nf_sim_connect (world->sim, "a", "b");
  nf_sim_run (world->sim, 5000);
  for (guint i = 0; i < 40; i++)
    {
      g_autofree char *name = g_strdup_printf ("file%u", i);
      write_file (world, name, "new");
    }
  nf_sim_run (world->sim, 5000);
  nf_sim_close (world->a);
  nf_sim_close (world->b);
}

/* The state is there, and says that all is in step; the data is of a backup. */
Test (backup, state_without_its_data_at_the_primary, .timeout = 60)
{
  World *world = world_new ();

  write_many (world);
  run (world,
       "sleep 0.02; for f in $A/file*; do echo -n stale >$f.tmp; mv $f.tmp $f; done; rm $A/file1*");
  open_site (world->b, NF_ROLE_REPLICA, world->dirs[1]);
  open_site (world->a, NF_ROLE_PRIMARY, world->dirs[0]);
  cr_assert (nf_share_is_recovering (world->a->share));
  reopen_as_often_as_wanted (world);
  expect_equal (world);
  expect_content (world, 0, "file0", "new");
  expect_content (world, 0, "file19", "new");
  expect_in_quarantine (world, 0, "stale");
  world_free (world);
}

Test (backup, state_without_its_data_at_a_replica, .timeout = 60)
{
  World *world = world_new ();

  write_many (world);
  run (world, "sleep 0.02; for f in $B/file*; do echo -n old >$f; done; rm $B/file1*");
  open_site (world->b, NF_ROLE_REPLICA, world->dirs[1]);
  open_site (world->a, NF_ROLE_PRIMARY, world->dirs[0]);
  reopen_as_often_as_wanted (world);
  expect_equal (world);
  expect_content (world, 1, "file0", "new");
  world_free (world);
}

/* What somebody has done with a few files while nobody looked is none of this. */
Test (backup, some_work_behind_the_proxy_isnt_one, .timeout = 60)
{
  World *world = world_new ();

  write_many (world);
  run (world, "sleep 0.02; echo -n mine >$A/file3; rm $A/file4");
  open_site (world->a, NF_ROLE_PRIMARY, world->dirs[0]);
  cr_assert_not (nf_share_is_recovering (world->a->share));
  expect_content (world, 0, "file3", "mine");
  world_free (world);
}

/* Several segments, the first of which isn't one any more. */
static void
damage_journal (World *world, guint site)
{
  const NfJournalLimits limits
      = { .max_bytes = 1 << 30, .max_age_ns = G_MAXINT64 / 2, .segment_bytes = 4096 };
  g_autofree char *hidden = g_build_filename (world->dirs[site], ".nearfs", NULL);
  g_autoptr (GError) error = NULL;
  int fd = open (hidden, O_RDONLY | O_DIRECTORY);
  NfJournal *journal = nf_journal_open (fd, "journal", &limits, (NfPosition){ 0 }, &error);
  NfRecord record = { .kind = NF_OP_EPOCH };

  cr_assert (journal, "%s", error ? error->message : "?");
  record.epoch = nf_journal_last (journal).epoch;
  for (guint i = 0; i < 200; i++)
    cr_assert_eq (nf_journal_append (journal, &record, NULL, NULL), 0);
  nf_journal_close (journal);
  close (fd);
  run (world, site == 0 ? "cd $A; " FLIP : "cd $B; " FLIP);
}

static void
expect_set_aside (World *world, guint site)
{
  run (world,
       site == 0 ? "test -d $A/.nearfs/journal.damaged" : "test -d $B/.nearfs/journal.damaged");
}

Test (backup, a_damaged_journal_of_a_primary_is_set_aside, .timeout = 60)
{
  World *world = world_new ();

  live_on (world);
  damage_journal (world, 0);
  open_site (world->a, NF_ROLE_PRIMARY, world->dirs[0]);
  reopen_as_often_as_wanted (world);
  expect_set_aside (world, 0);
  expect_latest (world);
  write_file (world, "later", "still works");
  nf_sim_run (world->sim, 5000);
  expect_equal (world);
  world_free (world);
}

Test (backup, a_damaged_journal_of_a_replica_is_set_aside, .timeout = 60)
{
  World *world = world_new ();

  live_on (world);
  nf_sim_close (world->b);
  damage_journal (world, 1);
  open_site (world->b, NF_ROLE_REPLICA, world->dirs[1]);
  open_site (world->a, NF_ROLE_PRIMARY, world->dirs[0]);
  reopen_as_often_as_wanted (world);
  expect_set_aside (world, 1);
  expect_latest (world);
  world_free (world);
}

/* A new share has members that know nothing: nothing is restored. */
Test (backup, a_new_share_isnt_one, .timeout = 60)
{
  World *world = world_new ();

  open_site (world->a, NF_ROLE_PRIMARY, world->dirs[0]);
  nf_sim_connect (world->sim, "a", "b");
  nf_sim_run (world->sim, 10000);
  cr_assert_not (nf_share_wants_reopen (world->a->share));
  expect_equal (world);
  world_free (world);
}
