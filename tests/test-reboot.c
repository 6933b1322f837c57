// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sync/boot.h"
#include "sync/index.h"
#include "tests/sim.h"

/* The replica "b" loses power: what had been changed since its last checkpoint is compared, and the rest is not. */

#define BEFORE "00000000-0000-0000-0000-00000000000b"
#define AFTER "00000000-0000-0000-0000-00000000000a"
#define FILE_LEN 3000
#define FILES 200 /* enough for the index to be copied */
#define SUSPECTS_MAX 8

typedef struct
{
  NfSim *sim;
  NfSimSite *a;
  NfSimSite *b;
  char *dirs[2];
} World;

static void
open_both (World *world, guint32 seed, const char *boot_of_b)
{
  static const char *const of_a[] = { "b", NULL };
  static const char *const of_b[] = { "a", NULL };
  g_autoptr (GError) error = NULL;

  world->sim = nf_sim_new (seed);
  world->a = nf_sim_site (world->sim, "a");
  world->b = nf_sim_site (world->sim, "b");
  nf_boot_pretend (BEFORE);
  cr_assert (nf_sim_open (world->a, NF_ROLE_PRIMARY, world->dirs[0], "a", of_a, &error), "%s",
             error ? error->message : "?");
  nf_boot_pretend (boot_of_b);
  cr_assert (nf_sim_open (world->b, NF_ROLE_REPLICA, world->dirs[1], "a", of_b, &error), "%s",
             error ? error->message : "?");
}

static NfFid
create (World *world, NfMsgType type, NfFid parent, const char *name)
{
  NfMsg msg = { .type = type };
  g_auto (NfMsg) answer = { 0 };

  if (type == NF_MSG_MKDIR)
    {
      msg.mkdir.parent = parent;
      msg.mkdir.name = nf_slice_str (name);
      msg.mkdir.mode = S_IFDIR | 0755;
    }
  else
    {
      msg.create.parent = parent;
      msg.create.name = nf_slice_str (name);
      msg.create.mode = S_IFREG | 0644;
    }
  cr_assert_eq (nf_sim_call (world->a, &msg, &answer), 0);
  return answer.answer.attr.fid;
}

static void
write_file (World *world, NfFid fid, char byte)
{
  NfMsg msg = { .type = NF_MSG_WRITE };
  guint8 content[FILE_LEN];

  memset (content, byte, sizeof content);
  msg.write.fid = fid;
  msg.write.data = nf_slice (content, sizeof content);
  cr_assert_eq (nf_sim_call (world->a, &msg, NULL), 0);
}

static void
move (World *world, NfFid parent, const char *name, const char *newname)
{
  NfMsg msg = { .type = NF_MSG_RENAME };

  msg.rename.parent = msg.rename.newparent = parent;
  msg.rename.name = nf_slice_str (name);
  msg.rename.newname = nf_slice_str (newname);
  cr_assert_eq (nf_sim_call (world->a, &msg, NULL), 0);
}

static void
live (World *world)
{
  NfFid fid = NF_FID_NONE;

  open_both (world, 1, BEFORE);
  nf_sim_connect (world->sim, "a", "b");
  nf_sim_run (world->sim, 5000);
  NfFid dir = create (world, NF_MSG_MKDIR, NF_FID_ROOT, "dir");
  NfFid still = create (world, NF_MSG_MKDIR, NF_FID_ROOT, "still");
  for (guint i = 0; i < FILES; i++)
    {
      g_autofree char *name = g_strdup_printf ("file%u", i);
      fid = create (world, NF_MSG_CREATE, i < 3 ? dir : still, name);
      write_file (world, fid, 'x');
    }
  nf_sim_run (world->sim, 60000); /* a checkpoint */
  g_usleep (20000);               /* ctimes have the grain of a tick */
  write_file (world, fid, 'y');
  move (world, dir, "file0", "moved");
  write_file (world, create (world, NF_MSG_CREATE, dir, "new"), 'n');
  nf_sim_run (world->sim, 5000);
}

static char *
path_in (World *world, guint site, const char *name)
{
  return g_build_filename (world->dirs[site], name, NULL);
}

static World *
world_after_power_cut (void)
{
  World *world = g_new0 (World, 1);
  int status;

  for (guint i = 0; i < 2; i++)
    world->dirs[i] = nf_sim_make_dir ();
  pid_t pid = fork ();
  if (pid == 0)
    {
      live (world);
      _exit (0);
    }
  cr_assert_eq (waitpid (pid, &status, 0), pid);
  cr_assert (WIFEXITED (status) && WEXITSTATUS (status) == 0);
  return world;
}

static void
world_free (World *world)
{
  nf_sim_free (world->sim);
  for (guint i = 0; i < 2; i++)
    nf_sim_remove_dir (world->dirs[i]);
  g_free (world);
}

static guint64
suspects (World *world)
{
  NfShareStatus status;

  nf_share_status (world->b->share, &status);
  return status.suspects;
}

static void
expect_equal (World *world)
{
  nf_sim_connect (world->sim, "a", "b");
  nf_sim_run (world->sim, 20000);
  cr_assert_eq (suspects (world), 0);
  g_autofree char *wanted = nf_sim_describe_dir (world->dirs[0]);
  g_autofree char *is = nf_sim_describe_dir (world->dirs[1]);
  cr_assert_str_eq (is, wanted);
}

/* Of the name that was given, and of the content that was written last, the disk has nothing. */
static void
lose_last (World *world)
{
  g_autofree char *name = g_strdup_printf ("still/file%d", FILES - 1);
  g_autofree char *last = path_in (world, 1, name);
  g_autofree char *from = path_in (world, 1, "dir/moved");
  g_autofree char *to = path_in (world, 1, "dir/file0");
  g_autofree char *new = path_in (world, 1, "dir/new");
  char content[FILE_LEN];
  struct stat st;

  memset (content, 'x', sizeof content);
  cr_assert_eq (stat (last, &st), 0);
  int fd = open (last, O_WRONLY);
  cr_assert_eq (pwrite (fd, content, sizeof content, 0), (ssize_t)sizeof content);
  const struct timespec times[] = { st.st_atim, st.st_mtim };
  cr_assert_eq (futimens (fd, times), 0);
  close (fd);
  cr_assert_eq (rename (from, to), 0);
  cr_assert_eq (unlink (new), 0);
}

Test (reboot, only_what_is_newer_than_the_checkpoint_is_compared, .timeout = 60)
{
  World *world = world_after_power_cut ();

  lose_last (world);
  open_both (world, 2, AFTER);
  cr_assert_gt (suspects (world), 0);
  cr_assert_leq (suspects (world), SUSPECTS_MAX, "%lu", (gulong)suspects (world));
  expect_equal (world);
  world_free (world);
}

/* The machine is started, and loses power again before anything is put right. */
Test (reboot, twice, .timeout = 60)
{
  World *world = world_after_power_cut ();
  int status;

  lose_last (world);
  pid_t pid = fork ();
  if (pid == 0)
    {
      open_both (world, 2, AFTER);
      _exit (0);
    }
  cr_assert_eq (waitpid (pid, &status, 0), pid);
  open_both (world, 3, "00000000-0000-0000-0000-00000000000c");
  cr_assert_leq (suspects (world), SUSPECTS_MAX, "%lu", (gulong)suspects (world));
  expect_equal (world);
  world_free (world);
}

/* What an index that went back may have: an object that is nowhere, in a directory that isn't known either. */
Test (reboot, what_is_nowhere_is_forgotten, .timeout = 60)
{
  World *world = world_after_power_cut ();
  g_autofree char *hidden = path_in (world, 1, ".nearfs");
  g_autoptr (GError) error = NULL;

  open_both (world, 2, BEFORE);
  expect_equal (world);
  nf_sim_close (world->b);
  NfIndex *index = nf_index_open (hidden, "index", &error);
  const NfObject lost = { .fid = 5000, .ident = { 999999, 1 }, .mode = S_IFREG };
  cr_assert (index, "%s", error ? error->message : "?");
  cr_assert_eq (nf_index_put (index, &lost), 0);
  cr_assert_eq (nf_index_add_name (index, lost.fid, 4999, nf_slice_str ("x")), 0);
  cr_assert_eq (nf_index_set_suspect (index, lost.fid, NF_SUSPECT_ATTR, 0), 0);
  nf_index_close (index);
  nf_sim_free (world->sim);
  open_both (world, 3, BEFORE);
  expect_equal (world);
  world_free (world);
}

/* Without a copy of the index that says since when, everything is compared. */
Test (reboot, without_a_checkpoint_all_is_compared, .timeout = 60)
{
  World *world = world_after_power_cut ();
  g_autofree char *safe = path_in (world, 1, ".nearfs/index.safe");

  lose_last (world);
  cr_assert_eq (unlink (safe), 0);
  open_both (world, 2, AFTER);
  expect_equal (world);
  world_free (world);
}
