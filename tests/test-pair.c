// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sync/check.h"
#include "tests/sim.h"

/* A real primary ("a") and two real replicas ("b", "c") in one process, with everything left to chance: what is
 * called where, how long messages take, when links are cut and sites restarted. At the end all three directories must
 * be the same. NF_SIM_SEED=n runs that seed alone, NF_SIM_SEEDS=n so many of them, from NF_SIM_FIRST on. */

#define SEEDS 12
#define STEPS 400
#define FIDS_MAX 48
#define BIG (300 * 1024)
#define DAY_MS (24 * 3600 * 1000)

static const char *const names[] = { "a", "b", "c", "d", "e", "f" };
static const char *const site_names[] = { "a", "b", "c" };

typedef struct
{
  NfSim *sim;
  NfSimSite *sites[3];
  char *dirs[3];
  NfFid dirs_known[FIDS_MAX];
  guint n_dirs;
  NfFid files_known[FIDS_MAX];
  guint n_files;
  guint under_way;
  guint lives;
} World;

typedef struct
{
  World *world;
  NfMsgType type;
} Made;

static void
open_site (World *world, guint i)
{
  static const char *const others[3][3]
      = { { "b", "c", NULL }, { "a", "c", NULL }, { "a", "b", NULL } };
  g_autoptr (GError) error = NULL;

  cr_assert (nf_sim_open (world->sites[i], i == 0 ? NF_ROLE_PRIMARY : NF_ROLE_REPLICA,
                          world->dirs[i], "a", others[i], &error),
             "%s", error ? error->message : "?");
}

/* Opens all sites on the world's directories. Each life begins a day after the one before. */
static void
begin_life (World *world, guint32 seed)
{
  world->sim = nf_sim_new (seed);
  nf_sim_run (world->sim, DAY_MS * ++world->lives);
  for (guint i = 0; i < 3; i++)
    {
      world->sites[i] = nf_sim_site (world->sim, site_names[i]);
      open_site (world, i);
    }
}

/* In memory that children share, so that what one life learns the next one knows. */
static World *
world_alloc (void)
{
  World *world
      = mmap (NULL, sizeof *world, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

  cr_assert (world != MAP_FAILED);
  for (guint i = 0; i < 3; i++)
    world->dirs[i] = nf_sim_make_dir ();
  world->dirs_known[world->n_dirs++] = NF_FID_ROOT;
  return world;
}

static World *
world_new (guint32 seed)
{
  World *world = world_alloc ();

  begin_life (world, seed);
  return world;
}

static void
world_free (World *world)
{
  nf_sim_free (world->sim);
  for (guint i = 0; i < 3; i++)
    nf_sim_remove_dir (world->dirs[i]);
  munmap (world, sizeof *world);
}

static void
connect_all (World *world)
{
  nf_sim_connect (world->sim, "a", "b");
  nf_sim_connect (world->sim, "a", "c");
}

/* ---- calls by chance ---- */

static guint32
chance (World *world, guint32 below)
{
  return nf_sim_random (world->sim, below);
}

static NfSlice
any_name (World *world)
{
  return nf_slice_str (names[chance (world, G_N_ELEMENTS (names))]);
}

static NfFid
any_dir (World *world)
{
  return world->dirs_known[chance (world, world->n_dirs)];
}

static NfFid
any_file (World *world)
{
  return world->n_files > 0 ? world->files_known[chance (world, world->n_files)] : NF_FID_ROOT;
}

static void
know (World *world, NfFid fid, gboolean dir)
{
  NfFid *table = dir ? world->dirs_known : world->files_known;
  guint *n = dir ? &world->n_dirs : &world->n_files;

  if (*n < FIDS_MAX)
    table[(*n)++] = fid;
  else
    table[1 + chance (world, FIDS_MAX - 1)] = fid;
}

static void
made (gpointer data, int status, const NfMsg *answer)
{
  Made *call = data;

  call->world->under_way--;
  if (status == 0 && (call->type == NF_MSG_CREATE || call->type == NF_MSG_MKDIR))
    know (call->world, answer->answer.attr.fid, call->type == NF_MSG_MKDIR);
  g_free (call);
}

static void
fill_write (World *world, NfMsg *msg, guint8 *buffer)
{
  gsize len = chance (world, 4) == 0 ? 1 + chance (world, BIG) : 1 + chance (world, 5000);

  memset (buffer, 'a' + (int)chance (world, 26), len);
  msg->type = NF_MSG_WRITE;
  msg->write.fid = any_file (world);
  msg->write.offset = chance (world, 100000);
  msg->write.flags = chance (world, 8) == 0 ? NF_WRITE_APPEND : 0;
  msg->write.data = nf_slice (buffer, len);
}

static void
fill_setattr (World *world, NfMsg *msg)
{
  msg->type = NF_MSG_SETATTR;
  msg->setattr.fid = any_file (world);
  switch (chance (world, 3))
    {
    case 0:
      msg->setattr.mask = NF_SET_SIZE;
      msg->setattr.attr.size = chance (world, 200000);
      break;
    case 1:
      msg->setattr.mask = NF_SET_MODE;
      msg->setattr.attr.mode = 0600 | chance (world, 0200);
      break;
    default:
      msg->setattr.mask = NF_SET_MTIME;
      msg->setattr.attr.mtime
          = G_GINT64_CONSTANT (1500000000000000000) + (gint64)chance (world, 1000000);
      break;
    }
}

static void
fill_rename (World *world, NfMsg *msg)
{
  msg->type = NF_MSG_RENAME;
  msg->rename.parent = any_dir (world);
  msg->rename.name = any_name (world);
  msg->rename.newparent = any_dir (world);
  msg->rename.newname = any_name (world);
  msg->rename.flags = chance (world, 6) == 0 ? 2 : 0; /* RENAME_EXCHANGE */
}

static void
fill_call (World *world, NfMsg *msg, guint8 *buffer)
{
  switch (chance (world, 14))
    {
    case 0:
    case 1:
    case 2:
      msg->type = NF_MSG_CREATE;
      msg->create.parent = any_dir (world);
      msg->create.name = any_name (world);
      msg->create.mode = 0644;
      break;
    case 3:
      msg->type = NF_MSG_MKDIR;
      msg->mkdir.parent = any_dir (world);
      msg->mkdir.name = any_name (world);
      msg->mkdir.mode = 0755;
      break;
    case 4:
      msg->type = NF_MSG_SYMLINK;
      msg->symlink.parent = any_dir (world);
      msg->symlink.name = any_name (world);
      msg->symlink.target = any_name (world);
      break;
    case 5:
      msg->type = NF_MSG_LINK;
      msg->link.fid = any_file (world);
      msg->link.parent = any_dir (world);
      msg->link.name = any_name (world);
      break;
    case 6:
      msg->type = NF_MSG_UNLINK;
      msg->unlink.parent = any_dir (world);
      msg->unlink.name = any_name (world);
      break;
    case 7:
      msg->type = NF_MSG_RMDIR;
      msg->rmdir.parent = any_dir (world);
      msg->rmdir.name = any_name (world);
      break;
    case 8:
    case 9:
      fill_rename (world, msg);
      break;
    case 10:
      fill_setattr (world, msg);
      break;
    default:
      fill_write (world, msg, buffer);
      break;
    }
}

static void
call_something (World *world, guint8 *buffer)
{
  NfSimSite *site = world->sites[chance (world, 3)];
  NfMsg msg = { 0 };

  fill_call (world, &msg, buffer);
  msg.head.share = 7;
  msg.head.uid = getuid ();
  msg.head.gid = getgid ();
  msg.head.umask = 022;
  Made *call = g_new (Made, 1);
  *call = (Made){ world, msg.type };
  world->under_way++;
  nf_share_call (site->share, &msg, made, call, NULL);
}

/* Somebody works in a replica's directory while no proxy runs there, and its index is lost. */
static void
vandalize (World *world, guint i)
{
  static const char *const lost[] = { "index", "index.boot", "index.safe", "journal" };

  nf_sim_close (world->sites[i]);
  for (guint n = 0; n < G_N_ELEMENTS (lost); n++)
    {
      g_autofree char *path = g_build_filename (world->dirs[i], ".nearfs", lost[n], NULL);
      if (g_file_test (path, G_FILE_TEST_IS_DIR))
        nf_sim_remove_dir (g_steal_pointer (&path));
      else
        (void)unlink (path);
    }
  for (guint n = 0; n < G_N_ELEMENTS (names); n++)
    {
      g_autofree char *path = g_build_filename (world->dirs[i], names[n], NULL);
      switch (chance (world, 6))
        {
        case 0:
          (void)unlink (path);
          break;
        case 1:
          (void)truncate (path, (off_t)chance (world, 100000));
          break;
        case 2:
          (void)mkdir (path, 0700);
          break;
        case 3:
          (void)symlink ("nowhere", path);
          break;
        default:
          break;
        }
    }
  open_site (world, i);
}

static void
disturb (World *world)
{
  guint i = 1 + chance (world, 2);

  switch (chance (world, 5))
    {
    case 4:
      if (chance (world, 3) == 0)
        vandalize (world, i);
      break;
    case 0:
      nf_sim_cut (world->sim, "a", site_names[i]);
      break;
    case 1:
      nf_sim_close (world->sites[i]);
      open_site (world, i);
      break;
    case 2:
      if (chance (world, 4) == 0)
        {
          nf_sim_close (world->sites[0]);
          open_site (world, 0);
        }
      break;
    default:
      connect_all (world);
      break;
    }
}

/* ---- the end ---- */

static void
compare_dirs (World *world, guint32 seed)
{
  g_autofree char *expected = nf_sim_describe_dir (world->dirs[0]);

  for (guint i = 1; i < 3; i++)
    {
      g_autofree char *is = nf_sim_describe_dir (world->dirs[i]);
      NfShareStatus status;
      nf_share_status (world->sites[i]->share, &status);
      cr_assert_eq (status.suspects, 0, "seed %u: %s still has suspects (%s: %s)", seed,
                    site_names[i], status.state, status.trouble);
      cr_assert_eq (status.position.seq, status.known.seq,
                    "seed %u: %s is at %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT, seed,
                    site_names[i], status.position.seq, status.known.seq);
      if (strcmp (is, expected) != 0)
        {
          g_file_set_contents ("pair-expected.txt", expected, -1, NULL);
          g_file_set_contents ("pair-is.txt", is, -1, NULL);
        }
      cr_assert (strcmp (is, expected) == 0,
                 "seed %u: %s differs: compare pair-expected.txt, pair-is.txt", seed,
                 site_names[i]);
    }
}

static void
live (World *world, guint steps, gboolean disturbed)
{
  g_autofree guint8 *buffer = g_malloc (BIG + 1);

  nf_sim_delays (world->sim, chance (world, 60));
  connect_all (world);
  for (guint step = 0; step < steps; step++)
    {
      call_something (world, buffer);
      if (disturbed && chance (world, 25) == 0)
        disturb (world);
      for (guint n = chance (world, 30); n > 0; n--)
        if (!nf_sim_step (world->sim))
          break;
    }
}

static void
settle (World *world, guint32 seed)
{
  connect_all (world);
  nf_sim_run (world->sim, 120 * 1000);
  cr_assert_eq (world->under_way, 0, "seed %u: %u calls were never answered", seed,
                world->under_way);
  compare_dirs (world, seed);
}

static void
run_undisturbed (guint32 seed)
{
  World *world = world_new (seed);

  live (world, STEPS, FALSE);
  settle (world, seed);
  world_free (world);
}

static void
run_disturbed (guint32 seed)
{
  World *world = world_new (seed);

  live (world, STEPS, TRUE);
  settle (world, seed);
  world_free (world);
}

/* A life that ends, at one of the steps that are named in the code, as kill -9 ends it: nothing is closed. */
static void
live_until_killed (World *world, guint32 seed)
{
  pid_t pid = fork ();
  int status;

  cr_assert (pid >= 0);
  if (pid == 0)
    {
      begin_life (world, seed);
      nf_sim_kill_after (world->sim, 1 + chance (world, 1500));
      live (world, STEPS, TRUE);
      _exit (0);
    }
  cr_assert_eq (waitpid (pid, &status, 0), pid);
  cr_assert (WIFEXITED (status) && WEXITSTATUS (status) == 0, "seed %u: a life failed", seed);
}

static void
run_killed (guint32 seed)
{
  World *world = world_alloc ();

  for (guint life = 0; life < 4; life++)
    live_until_killed (world, seed * 10 + life);
  world->under_way = 0;
  begin_life (world, seed * 10 + 9);
  live (world, STEPS / 4, FALSE);
  settle (world, seed);
  world_free (world);
}

static void
run_seeds (void (*run) (guint32 seed))
{
  const char *only = g_getenv ("NF_SIM_SEED");
  const char *many = g_getenv ("NF_SIM_SEEDS");
  const char *from = g_getenv ("NF_SIM_FIRST");
  guint32 first = from ? (guint32)atoi (from) : 1;
  guint32 n = many ? (guint32)atoi (many) : SEEDS;

  if (only)
    run ((guint32)atoi (only));
  else
    for (guint32 seed = first; seed < first + n; seed++)
      run (seed);
}

Test (pair, replicas_become_what_the_primary_is)
{
  run_seeds (run_undisturbed);
}

Test (pair, replicas_converge_through_cuts_and_restarts)
{
  run_seeds (run_disturbed);
}

Test (pair, replicas_converge_after_kills)
{
  run_seeds (run_killed);
}

/* ---- what is seen on the way ---- */

static NfFid
make_file (World *world, NfSimSite *site, const char *name)
{
  NfMsg msg = { .type = NF_MSG_CREATE };
  NfMsg answer;

  msg.head.share = 7;
  msg.head.uid = getuid ();
  msg.head.gid = getgid ();
  msg.create.parent = NF_FID_ROOT;
  msg.create.name = nf_slice_str (name);
  msg.create.mode = 0644;
  cr_assert_eq (nf_sim_call (site, &msg, &answer), 0);
  NfFid fid = answer.answer.attr.fid;
  nf_msg_clear (&answer);
  (void)world;
  return fid;
}

static void
write_file (NfSimSite *site, NfFid fid, const guint8 *data, gsize len)
{
  NfMsg msg = { .type = NF_MSG_WRITE };

  msg.head.share = 7;
  msg.write.fid = fid;
  msg.write.data = nf_slice (data, len);
  cr_assert_eq (nf_sim_call (site, &msg, NULL), 0);
}

static void
rename_file (NfSimSite *site, const char *old, const char *name)
{
  NfMsg msg = { .type = NF_MSG_RENAME };

  msg.head.share = 7;
  msg.head.uid = getuid ();
  msg.rename.parent = msg.rename.newparent = NF_FID_ROOT;
  msg.rename.name = nf_slice_str (old);
  msg.rename.newname = nf_slice_str (name);
  cr_assert_eq (nf_sim_call (site, &msg, NULL), 0);
}

/* The file is not there yet, or all of one version. Returns which. */
static guint8
expect_one_version (const char *dir)
{
  g_autofree char *path = g_build_filename (dir, "doc", NULL);
  g_autofree char *content = NULL;
  gsize len;

  if (!g_file_get_contents (path, &content, &len, NULL))
    return 0;
  cr_assert_eq (len, BIG, "a file of %zu bytes is seen", len);
  for (gsize i = 1; i < len; i++)
    cr_assert_eq (content[i], content[0], "two versions are mixed at %zu", i);
  return (guint8)content[0];
}

Test (pair, a_save_by_rename_is_seen_whole_or_not_at_all)
{
  World *world = world_new (3);
  g_autofree guint8 *buffer = g_malloc (BIG);
  guint8 newest = 0;

  nf_sim_delays (world->sim, 20);
  connect_all (world);
  nf_sim_run (world->sim, 1000);
  for (int version = 'A'; version <= 'F'; version++)
    {
      memset (buffer, version, BIG);
      NfFid fid = make_file (world, world->sites[0], "doc~");
      write_file (world->sites[0], fid, buffer, BIG);
      rename_file (world->sites[0], "doc~", "doc");
      for (guint i = 0; i < 60 && nf_sim_step (world->sim); i++)
        {
          guint8 seen = expect_one_version (world->dirs[1]);
          cr_assert_geq (seen, newest, "an older version came back");
          newest = seen;
        }
    }
  nf_sim_run (world->sim, 10000);
  cr_assert_eq (expect_one_version (world->dirs[1]), 'F');
  world_free (world);
}

/* Each write is too large to travel with its op, and there is always one under way. */
Test (pair, a_file_that_is_written_to_all_the_time_does_not_hold_up_the_position)
{
  World *world = world_new (4);
  g_autofree guint8 *buffer = g_malloc0 (BIG);
  NfShareStatus status;

  nf_sim_delays (world->sim, 40);
  connect_all (world);
  nf_sim_run (world->sim, 1000);
  NfFid fid = make_file (world, world->sites[0], "image");
  for (guint i = 0; i < 1000; i++)
    {
      NfMsg msg = { .type = NF_MSG_WRITE };
      memset (buffer, 'a' + (int)chance (world, 26), 70000);
      msg.head.share = 7;
      msg.write.fid = fid;
      msg.write.offset = chance (world, 500000);
      msg.write.data = nf_slice (buffer, 70000);
      cr_assert_eq (nf_sim_call (world->sites[0], &msg, NULL), 0);
      nf_sim_run (world->sim, 10);
    }
  nf_share_status (world->sites[1]->share, &status);
  cr_assert_lt (status.lag_ops, 400, "%" G_GUINT64_FORMAT " ops behind", status.lag_ops);
  nf_sim_run (world->sim, 20000);
  compare_dirs (world, 4);
  world_free (world);
}

/* ---- comparing ---- */

typedef struct
{
  gboolean ended;
  guint n_found;
  guint64 entries;
} Comparison;

static void
found_something (gpointer data, const NfFinding *finding)
{
  ((Comparison *)data)->n_found++;
  g_printerr ("/%s: %s (%#x)\n", finding->path, finding->detail, finding->what);
}

static void
comparison_ended (gpointer data, int status, const NfCheckCounts *counts)
{
  Comparison *comparison = data;

  cr_assert_eq (status, 0);
  comparison->ended = TRUE;
  comparison->entries += counts->entries;
}

Test (pair, a_comparison_takes_no_work_in_flight_for_damage)
{
  const NfCheckOptions options = { .repair = FALSE, .content = TRUE };
  const NfCheckEvents events = { found_something, comparison_ended };
  g_autofree guint8 *buffer = g_malloc (BIG + 1);

  for (guint32 seed = 1; seed <= 10; seed++)
    {
      World *world = world_new (seed);
      Comparison comparison = { .ended = TRUE };
      guint n_begun = 0;

      nf_sim_delays (world->sim, 30);
      connect_all (world);
      nf_sim_run (world->sim, 2000);
      for (guint step = 0; step < STEPS; step++)
        {
          call_something (world, buffer);
          nf_sim_run (world->sim, chance (world, 30));
          if (!comparison.ended)
            continue;
          comparison.ended = FALSE;
          n_begun++;
          cr_assert_eq (nf_share_check (world->sites[1]->share, "", &options, &events, &comparison),
                        0);
        }
      for (guint i = 0; i < 100 && !comparison.ended; i++)
        nf_sim_run (world->sim, 1000);
      cr_assert (comparison.ended && n_begun > 3, "seed %u: %u comparisons", seed, n_begun);
      cr_assert_eq (comparison.n_found, 0, "seed %u", seed);
      cr_assert_gt (comparison.entries, 0);
      settle (world, seed);
      world_free (world);
    }
}

/* ---- read your writes ---- */

/* What NAME in the root is at SITE: its fid, or 0; RET_SIZE its size. */
static NfFid
look_up (NfSimSite *site, const char *name, guint64 *ret_size)
{
  NfMsg msg = { .type = NF_MSG_LOOKUP };
  NfMsg answer;

  msg.head.share = 7;
  msg.lookup.parent = NF_FID_ROOT;
  msg.lookup.name = nf_slice_str (name);
  int status = nf_sim_call (site, &msg, &answer);
  cr_assert (status == 0 || status == -ENOENT, "%s: %d", name, status);
  NfFid fid = status == 0 ? answer.answer.attr.fid : NF_FID_NONE;
  *ret_size = answer.answer.attr.size;
  nf_msg_clear (&answer);
  return fid;
}

static void
expect_content (NfSimSite *site, NfFid fid, guint8 value, gsize len)
{
  NfMsg msg = { .type = NF_MSG_READ };
  NfMsg answer;

  msg.head.share = 7;
  msg.read.fid = fid;
  msg.read.size = BIG;
  cr_assert_eq (nf_sim_call (site, &msg, &answer), 0);
  cr_assert_eq (answer.answer.data.len, len, "%zu of %zu bytes", answer.answer.data.len, len);
  for (gsize i = 0; i < len; i++)
    cr_assert_eq (answer.answer.data.data[i], value, "at %zu", i);
  nf_msg_clear (&answer);
}

/* The root's listing bears the attributes, which the kernel keeps. */
static void
expect_listed (NfSimSite *site, const char *name, NfFid fid, gsize len)
{
  NfMsg msg = { .type = NF_MSG_READDIR };
  NfMsg answer;
  NfDirEntry entry;
  guint n_found = 0;

  msg.head.share = 7;
  msg.readdir.fid = NF_FID_ROOT;
  msg.readdir.max = NF_LIST_MAX;
  cr_assert_eq (nf_sim_call (site, &msg, &answer), 0);
  NfReader reader = nf_reader (answer.answer.data);
  while (nf_dir_entry_decode (&reader, &entry))
    if (nf_slice_equal (entry.name, nf_slice_str (name)))
      {
        n_found++;
        cr_assert_eq (entry.attr.fid, fid);
        cr_assert_eq (entry.attr.size, len, "%s: listed with %" G_GUINT64_FORMAT " of %zu bytes",
                      name, entry.attr.size, len);
      }
  cr_assert_eq (n_found, 1, "%s: listed %u times", name, n_found);
  nf_msg_clear (&answer);
}

static void
expect_own_work (World *world, guint round)
{
  NfSimSite *site = world->sites[1];
  g_autofree guint8 *buffer = g_malloc (BIG);
  gsize len = 1 + chance (world, chance (world, 3) == 0 ? BIG - 1 : 3000);
  g_autofree char *old = g_strdup_printf ("old%u", round % 7);
  g_autofree char *name = g_strdup_printf ("file%u", round % 5);
  guint8 value = (guint8)('A' + round % 26);
  guint64 size;

  memset (buffer, value, len);
  NfFid fid = make_file (world, site, old);
  cr_assert_eq (look_up (site, old, &size), fid);
  write_file (site, fid, buffer, len);
  if (round % 2)
    expect_listed (site, old, fid, len); /* before a call that waits for the write's end */
  expect_content (site, fid, value, len);
  cr_assert_eq (look_up (site, old, &size), fid);
  cr_assert_eq (size, len);
  rename_file (site, old, name);
  cr_assert_eq (look_up (site, old, &size), NF_FID_NONE);
  cr_assert_eq (look_up (site, name, &size), fid);
  cr_assert_eq (size, len);
  expect_content (site, fid, value, len);
  expect_listed (site, name, fid, len);
}

Test (pair, a_site_sees_its_own_changes_at_once)
{
  for (guint32 seed = 1; seed <= 5; seed++)
    {
      World *world = world_new (seed);
      g_autofree guint8 *buffer = g_malloc (BIG + 1);

      /* Something to be filled with meanwhile, and others' work. */
      for (guint i = 0; i < 300; i++)
        {
          call_something (world, buffer);
          nf_sim_run (world->sim, 1);
        }
      nf_sim_delays (world->sim, 30);
      connect_all (world);
      while (!nf_sim_connected (world->sim, "a", "b"))
        nf_sim_run (world->sim, 10);
      for (guint round = 0; round < 60; round++)
        {
          expect_own_work (world, round);
          call_something (world, buffer);
        }
      settle (world, seed);
      world_free (world);
    }
}
