// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sync/check.h"
#include "tests/sim-world.h"

/* What must hold in a world by chance (sim-world.h), and on the way. NF_SIM_SEED=n runs that seed alone, NF_SIM_SEEDS=n
 * so many of them, from NF_SIM_FIRST on. */

#define SEEDS 12
#define STEPS 400

static void
run_undisturbed (guint32 seed)
{
  NfWorld *world = nf_world_new (seed);

  nf_world_live (world, STEPS, FALSE);
  nf_world_settle (world, seed);
  nf_world_free (world);
}

static void
run_disturbed (guint32 seed)
{
  NfWorld *world = nf_world_new (seed);

  nf_world_live (world, STEPS, TRUE);
  nf_world_settle (world, seed);
  nf_world_free (world);
}

/* A life that ends, at one of the steps that are named in the code, as kill -9 ends it: nothing is closed. */
static void
live_until_killed (NfWorld *world, guint32 seed)
{
  pid_t pid = fork ();
  int status;

  cr_assert (pid >= 0);
  if (pid == 0)
    {
      nf_world_begin (world, seed);
      nf_sim_kill_after (world->sim, 1 + nf_world_chance (world, 1500));
      nf_world_live (world, STEPS, TRUE);
      _exit (0);
    }
  cr_assert_eq (waitpid (pid, &status, 0), pid);
  cr_assert (WIFEXITED (status) && WEXITSTATUS (status) == 0, "seed %u: a life failed", seed);
}

static void
run_killed (guint32 seed)
{
  NfWorld *world = nf_world_alloc (NULL);

  for (guint life = 0; life < 4; life++)
    live_until_killed (world, seed * 10 + life);
  world->under_way = 0;
  nf_world_begin (world, seed * 10 + 9);
  nf_world_live (world, STEPS / 4, FALSE);
  nf_world_settle (world, seed);
  nf_world_free (world);
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
make_file (NfWorld *world, NfSimSite *site, const char *name)
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
  cr_assert_eq (len, NF_WORLD_BIG, "a file of %zu bytes is seen", len);
  for (gsize i = 1; i < len; i++)
    cr_assert_eq (content[i], content[0], "two versions are mixed at %zu", i);
  return (guint8)content[0];
}

Test (pair, a_save_by_rename_is_seen_whole_or_not_at_all)
{
  NfWorld *world = nf_world_new (3);
  g_autofree guint8 *buffer = g_malloc (NF_WORLD_BIG);
  guint8 newest = 0;

  nf_sim_delays (world->sim, 20);
  nf_world_connect (world);
  nf_sim_run (world->sim, 1000);
  for (int version = 'A'; version <= 'F'; version++)
    {
      memset (buffer, version, NF_WORLD_BIG);
      NfFid fid = make_file (world, world->sites[0], "doc~");
      write_file (world->sites[0], fid, buffer, NF_WORLD_BIG);
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
  nf_world_free (world);
}

/* Each write is too large to travel with its op, and there is always one under way. */
Test (pair, a_file_that_is_written_to_all_the_time_does_not_hold_up_the_position)
{
  NfWorld *world = nf_world_new (4);
  g_autofree guint8 *buffer = g_malloc0 (NF_WORLD_BIG);
  NfShareStatus status;

  nf_sim_delays (world->sim, 40);
  nf_world_connect (world);
  nf_sim_run (world->sim, 1000);
  NfFid fid = make_file (world, world->sites[0], "image");
  for (guint i = 0; i < 1000; i++)
    {
      NfMsg msg = { .type = NF_MSG_WRITE };
      memset (buffer, 'a' + (int)nf_world_chance (world, 26), 70000);
      msg.head.share = 7;
      msg.write.fid = fid;
      msg.write.offset = nf_world_chance (world, 500000);
      msg.write.data = nf_slice (buffer, 70000);
      cr_assert_eq (nf_sim_call (world->sites[0], &msg, NULL), 0);
      nf_sim_run (world->sim, 10);
    }
  nf_share_status (world->sites[1]->share, &status);
  cr_assert_lt (status.lag_ops, 400, "%" G_GUINT64_FORMAT " ops behind", status.lag_ops);
  nf_sim_run (world->sim, 20000);
  nf_world_compare (world, 4);
  nf_world_free (world);
}

static void
ignore_answer (gpointer data, int status, const NfMsg *answer)
{
  (void)data, (void)status, (void)answer;
}

/* The kernel has been told nothing of it, and takes what it has cached for right. */
Test (pair, a_call_interrupted_while_the_link_is_down_is_news_when_its_op_comes)
{
  NfWorld *world = nf_world_new (6);
  NfSimSite *site = world->sites[1];
  NfMsg msg = { .type = NF_MSG_CREATE };
  NfShareStatus before, now;
  gboolean news = FALSE;
  guint64 id;

  nf_world_connect (world);
  nf_sim_run (world->sim, 1000);
  msg.head.share = 7;
  msg.head.uid = getuid ();
  msg.head.gid = getgid ();
  msg.create.parent = NF_FID_ROOT;
  msg.create.name = nf_slice_str ("made");
  msg.create.mode = 0644;
  nf_share_status (world->sites[0]->share, &before);
  nf_share_call (site->share, &msg, ignore_answer, NULL, &id);
  do
    {
      cr_assert (nf_sim_step (world->sim));
      nf_share_status (world->sites[0]->share, &now);
    }
  while (now.position.seq == before.position.seq);
  nf_sim_cut (world->sim, "a", "b");
  nf_sim_run (world->sim, 10);
  nf_share_cancel (site->share, id);
  nf_sim_run (world->sim, 10);
  g_array_set_size (site->invals, 0);
  site->keep_invals = TRUE;
  nf_world_connect (world);
  nf_sim_run (world->sim, 5000);
  for (guint i = 0; i < site->invals->len; i++)
    {
      const NfInval *inval = &g_array_index (site->invals, NfInval, i);
      news = news || (inval->kind == NF_INVAL_NAME && inval->parent == NF_FID_ROOT);
    }
  cr_assert (news);
  nf_world_compare (world, 6);
  nf_world_free (world);
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
  g_autofree guint8 *buffer = g_malloc (NF_WORLD_BIG + 1);

  for (guint32 seed = 1; seed <= 10; seed++)
    {
      NfWorld *world = nf_world_new (seed);
      Comparison comparison = { .ended = TRUE };
      guint n_begun = 0;

      nf_sim_delays (world->sim, 30);
      nf_world_connect (world);
      nf_sim_run (world->sim, 2000);
      for (guint step = 0; step < STEPS; step++)
        {
          nf_world_call_something (world, buffer);
          nf_sim_run (world->sim, nf_world_chance (world, 30));
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
      nf_world_settle (world, seed);
      nf_world_free (world);
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
  msg.read.size = NF_WORLD_BIG;
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
expect_own_work (NfWorld *world, guint round)
{
  NfSimSite *site = world->sites[1];
  g_autofree guint8 *buffer = g_malloc (NF_WORLD_BIG);
  gsize len
      = 1 + nf_world_chance (world, nf_world_chance (world, 3) == 0 ? NF_WORLD_BIG - 1 : 3000);
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
      NfWorld *world = nf_world_new (seed);
      g_autofree guint8 *buffer = g_malloc (NF_WORLD_BIG + 1);

      /* Something to be filled with meanwhile, and others' work. */
      for (guint i = 0; i < 300; i++)
        {
          nf_world_call_something (world, buffer);
          nf_sim_run (world->sim, 1);
        }
      nf_sim_delays (world->sim, 30);
      nf_world_connect (world);
      while (!nf_sim_connected (world->sim, "a", "b"))
        nf_sim_run (world->sim, 10);
      for (guint round = 0; round < 60; round++)
        {
          expect_own_work (world, round);
          nf_world_call_something (world, buffer);
        }
      nf_world_settle (world, seed);
      nf_world_free (world);
    }
}
