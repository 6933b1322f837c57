// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sync/boot.h"
#include "tests/sim.h"

/* The primary "a" loses power: of what it did last, its disk has some and lacks some, and its journal has lost its end.
 * What "b" and "c" had comes back from there. */

#define BEFORE "00000000-0000-0000-0000-00000000000b"
#define AFTER "00000000-0000-0000-0000-00000000000a"
#define FILE_LEN 3000
#define FILES 8

static const char *const site_names[] = { "a", "b", "c" };

typedef struct
{
  NfSim *sim;
  NfSimSite *sites[3];
  char *dirs[3];
} World;

static void
open_site (World *world, guint i, const char *boot)
{
  static const char *const others[3][3]
      = { { "b", "c", NULL }, { "a", "c", NULL }, { "a", "b", NULL } };
  g_autoptr (GError) error = NULL;

  nf_boot_pretend (boot);
  cr_assert (nf_sim_open (world->sites[i], i == 0 ? NF_ROLE_PRIMARY : NF_ROLE_REPLICA,
                          world->dirs[i], "a", others[i], &error),
             "%s", error ? error->message : "?");
}

static void
connect_all (World *world)
{
  nf_sim_connect (world->sim, "a", "b");
  nf_sim_connect (world->sim, "a", "c");
}

static void
begin_life (World *world, guint32 seed, const char *boot_of_a)
{
  world->sim = nf_sim_new (seed);
  nf_sim_delays (world->sim, 20);
  for (guint i = 0; i < 3; i++)
    {
      world->sites[i] = nf_sim_site (world->sim, site_names[i]);
      open_site (world, i, i == 0 ? boot_of_a : BEFORE);
    }
}

static NfFid
make_file (World *world, guint site, NfFid parent, const char *name, char byte)
{
  NfMsg create = { .type = NF_MSG_CREATE };
  NfMsg write = { .type = NF_MSG_WRITE };
  g_auto (NfMsg) answer = { 0 };
  guint8 content[FILE_LEN];

  memset (content, byte, sizeof content);
  create.create.parent = parent;
  create.create.name = nf_slice_str (name);
  create.create.mode = S_IFREG | 0644;
  cr_assert_eq (nf_sim_call (world->sites[site], &create, &answer), 0);
  write.write.fid = answer.answer.attr.fid;
  write.write.data = nf_slice (content, sizeof content);
  cr_assert_eq (nf_sim_call (world->sites[site], &write, NULL), 0);
  return write.write.fid;
}

static NfFid
make_dir (World *world, const char *name)
{
  NfMsg mkdir = { .type = NF_MSG_MKDIR };
  g_auto (NfMsg) answer = { 0 };

  mkdir.mkdir.parent = NF_FID_ROOT;
  mkdir.mkdir.name = nf_slice_str (name);
  mkdir.mkdir.mode = S_IFDIR | 0755;
  cr_assert_eq (nf_sim_call (world->sites[0], &mkdir, &answer), 0);
  return answer.answer.attr.fid;
}

static void
move (World *world, NfFid parent, const char *name, NfFid newparent, const char *newname)
{
  NfMsg rename = { .type = NF_MSG_RENAME };

  rename.rename.parent = parent;
  rename.rename.name = nf_slice_str (name);
  rename.rename.newparent = newparent;
  rename.rename.newname = nf_slice_str (newname);
  cr_assert_eq (nf_sim_call (world->sites[0], &rename, NULL), 0);
}

/* All sites are in step when it ends, without anything being closed. */
static void
live (World *world)
{
  begin_life (world, 1, BEFORE);
  connect_all (world);
  nf_sim_run (world->sim, 5000);
  NfFid old = make_dir (world, "old");
  (void)make_file (world, 0, old, "moved", 'm');
  nf_sim_run (world->sim, 60000); /* a checkpoint */
  NfFid new = make_dir (world, "new");
  for (guint i = 0; i < FILES; i++)
    {
      g_autofree char *name = g_strdup_printf ("file%u", i);
      (void)make_file (world, i % 3, new, name, (char)('0' + i));
    }
  move (world, old, "moved", new, "here");
  nf_sim_run (world->sim, 5000);
}

static char *
path_in (World *world, guint site, const char *name)
{
  return g_build_filename (world->dirs[site], name, NULL);
}

/* The content is gone, and no time tells. */
static void
lose_content (World *world, const char *name, gboolean size_too)
{
  g_autofree char *path = path_in (world, 0, name);
  int fd = open (path, O_WRONLY);
  struct stat st;

  cr_assert (fd >= 0 && fstat (fd, &st) == 0, "%s", path);
  cr_assert_eq (ftruncate (fd, 0), 0);
  if (!size_too)
    cr_assert_eq (ftruncate (fd, st.st_size), 0);
  const struct timespec times[] = { st.st_atim, st.st_mtim };
  cr_assert_eq (futimens (fd, times), 0);
  close (fd);
}

/* The last LEN bytes of the journal. */
static void
lose_journal (World *world, off_t len)
{
  g_autofree char *dir = path_in (world, 0, ".nearfs/journal");
  g_autofree char *last = NULL;
  GDir *listing = g_dir_open (dir, 0, NULL);
  const char *name;
  struct stat st;

  while ((name = g_dir_read_name (listing)))
    if (!last || strcmp (name, last) > 0)
      {
        g_free (last);
        last = g_strdup (name);
      }
  g_dir_close (listing);
  g_autofree char *path = g_build_filename (dir, last, NULL);
  cr_assert_eq (stat (path, &st), 0);
  cr_assert_gt (st.st_size, len + 100);
  cr_assert_eq (truncate (path, st.st_size - len), 0);
}

static void
lose_power (World *world, off_t journal)
{
  g_autofree char *lost = path_in (world, 0, "new/file3");
  g_autofree char *from = path_in (world, 0, "new/here");
  g_autofree char *to = path_in (world, 0, "old/moved");

  lose_content (world, "new/file0", TRUE);
  lose_content (world, "new/file1", FALSE);
  cr_assert_eq (unlink (lost), 0);
  cr_assert_eq (rename (from, to), 0);
  lose_journal (world, journal);
}

/* With "a" opened again as often as it wants. */
static void
recover (World *world)
{
  begin_life (world, 2, AFTER);
  connect_all (world);
  for (guint i = 0; i < 60; i++)
    {
      nf_sim_run (world->sim, 1000);
      if (!nf_share_wants_reopen (world->sites[0]->share))
        continue;
      nf_sim_close (world->sites[0]);
      open_site (world, 0, AFTER);
      connect_all (world);
    }
  cr_assert_not (nf_share_is_recovering (world->sites[0]->share));
}

static World *
world_after_power_cut (off_t journal)
{
  World *world = g_new0 (World, 1);
  int status;

  for (guint i = 0; i < 3; i++)
    world->dirs[i] = nf_sim_make_dir ();
  pid_t pid = fork ();
  if (pid == 0)
    {
      live (world);
      _exit (0);
    }
  cr_assert_eq (waitpid (pid, &status, 0), pid);
  cr_assert (WIFEXITED (status) && WEXITSTATUS (status) == 0);
  lose_power (world, journal);
  return world;
}

static void
expect_equal (World *world, const char *wanted)
{
  for (guint i = 0; i < 3; i++)
    {
      g_autofree char *text = nf_sim_describe_dir (world->dirs[i]);
      cr_assert_str_eq (text, wanted, "%s", site_names[i]);
    }
}

static void
world_free (World *world)
{
  nf_sim_free (world->sim);
  for (guint i = 0; i < 3; i++)
    nf_sim_remove_dir (world->dirs[i]);
  g_free (world);
}

Test (restore, what_the_primary_lost_comes_back_from_a_replica, .timeout = 60)
{
  World *world = world_after_power_cut (600);
  g_autofree char *wanted = nf_sim_describe_dir (world->dirs[1]);

  recover (world);
  expect_equal (world, wanted);
  world_free (world);
}

Test (restore, also_if_the_journal_is_whole, .timeout = 60)
{
  World *world = world_after_power_cut (0);
  g_autofree char *wanted = nf_sim_describe_dir (world->dirs[2]);

  recover (world);
  expect_equal (world, wanted);
  world_free (world);
}

/* Nobody is there: it goes on with what it has after a while, and what the others have more isn't thrown away. */
Test (restore, alone_it_goes_on_with_what_it_has, .timeout = 60)
{
  World *world = world_after_power_cut (600);

  begin_life (world, 2, AFTER);
  nf_sim_run (world->sim, 15000);
  cr_assert (nf_share_wants_reopen (world->sites[0]->share));
  nf_sim_close (world->sites[0]);
  open_site (world, 0, AFTER);
  cr_assert_not (nf_share_is_recovering (world->sites[0]->share));
  g_autofree char *wanted = nf_sim_describe_dir (world->dirs[0]);
  connect_all (world);
  nf_sim_run (world->sim, 60000);
  expect_equal (world, wanted);
  world_free (world);
}

/* The answer to an FSYNC by which "c", whom the test plays, says what it was told before. */
static int
fsync_status (World *world, NfFid fid, guint64 since_epoch, guint64 since_seq)
{
  static guint64 reqid = 1000;
  NfMsg msg = { .type = NF_MSG_FSYNC };
  NfHelloShare hello;
  NfSimSite *site = world->sites[2];

  nf_share_hello (world->sites[0]->share, &hello);
  msg.head.share = 7;
  msg.head.epoch = hello.position.epoch;
  msg.head.reqid = ++reqid;
  msg.fsync.fid = fid;
  msg.fsync.since_epoch = since_epoch;
  msg.fsync.since_seq = since_seq;
  g_ptr_array_set_size (site->inbox, 0);
  nf_sim_send (world->sim, "c", "a", FALSE, &msg);
  nf_sim_run (world->sim, 5000);
  for (guint i = 0; i < site->inbox->len; i++)
    {
      const NfMsg *answer = site->inbox->pdata[i];
      if (answer->type == NF_MSG_ANSWER && answer->answer.reqid == reqid)
        return nf_status_to_errno (answer->answer.status);
    }
  return -1;
}

/* What was written and answered, and lost before an fsync(): that fails. What is done now is another matter. */
Test (restore, fsync_of_what_may_be_lost_fails, .timeout = 60)
{
  World *world = world_after_power_cut (0);

  begin_life (world, 2, AFTER);
  nf_sim_run (world->sim, 15000);
  nf_sim_close (world->sites[0]);
  open_site (world, 0, AFTER);
  nf_sim_close (world->sites[2]);
  connect_all (world);
  nf_sim_run (world->sim, 10000);
  NfFid fid = make_file (world, 0, NF_FID_ROOT, "fine", 'f');
  cr_assert_eq (fsync_status (world, fid, 1, 1000), EIO);
  cr_assert_eq (fsync_status (world, fid, 1, 2), 0, "the checkpoint had that");
  cr_assert_eq (fsync_status (world, fid, 0, 0), 0);
  cr_assert_eq (fsync_status (world, fid, 2, 1000), 0, "of the present reign");
  world_free (world);
}
