// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "sync/check.h"
#include "tests/own-mounts.h"
#include "tests/sim.h"

/* A replica that somebody has been at, compared and repaired. */

#define LARGE (1024 * 1024)

typedef struct
{
  NfSim *sim;
  NfSimSite *primary;
  NfSimSite *replica;
  char *dirs[2];
  GHashTable *found; /* path → codes */
  guint n_left;
  gboolean ended;
  int status;
  NfCheckCounts counts;
} World;

static char *
path_in (const char *dir, const char *name)
{
  return g_build_filename (dir, name, NULL);
}

static void
put_file (const char *dir, const char *name, char byte, gsize len)
{
  g_autofree char *path = path_in (dir, name);
  g_autofree char *content = g_malloc (len + 1);

  memset (content, byte, len);
  cr_assert (g_file_set_contents (path, content, (gssize)len, NULL));
}

static void
make_dir (const char *dir, const char *name)
{
  g_autofree char *path = path_in (dir, name);

  cr_assert_eq (mkdir (path, 0755), 0);
}

static World *
world_new (void)
{
  static const char *const of_a[] = { "b", NULL };
  static const char *const of_b[] = { "a", NULL };
  World *world = g_new0 (World, 1);
  g_autoptr (GError) error = NULL;

  for (int i = 0; i < 2; i++)
    world->dirs[i] = nf_sim_make_dir ();
  make_dir (world->dirs[0], "sub");
  make_dir (world->dirs[0], "sub/deep");
  make_dir (world->dirs[0], "full");
  put_file (world->dirs[0], "full/inner", 'i', 100);
  put_file (world->dirs[0], "sub/one", '1', 100);
  put_file (world->dirs[0], "sub/two", '2', 100);
  put_file (world->dirs[0], "sub/deep/three", '3', 5000);
  put_file (world->dirs[0], "large", 'L', LARGE);
  put_file (world->dirs[0], "plain", 'p', 10);
  g_autofree char *link = path_in (world->dirs[0], "link");
  cr_assert_eq (symlink ("plain", link), 0);
  world->found = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
  world->sim = nf_sim_new (1);
  world->primary = nf_sim_site (world->sim, "a");
  world->replica = nf_sim_site (world->sim, "b");
  cr_assert (nf_sim_open (world->primary, NF_ROLE_PRIMARY, world->dirs[0], "a", of_a, &error));
  cr_assert (nf_sim_open (world->replica, NF_ROLE_REPLICA, world->dirs[1], "a", of_b, &error));
  nf_sim_connect (world->sim, "a", "b");
  nf_sim_run (world->sim, 10000);
  return world;
}

static void
world_free (World *world)
{
  nf_sim_free (world->sim);
  for (int i = 0; i < 2; i++)
    nf_sim_remove_dir (world->dirs[i]);
  g_hash_table_unref (world->found);
  g_free (world);
}

static void
found (gpointer data, const NfFinding *finding)
{
  World *world = data;
  g_autoptr (GString) codes = g_string_new (NULL);

  for (guint i = 0; i < NF_FIND_N; i++)
    if (finding->what & (1u << i))
      g_string_append_printf (codes, "%s%s", codes->len > 0 ? " " : "", nf_find_codes[i]);
  g_printerr ("%s%s: %s: %s\n", finding->left ? "left: " : "", finding->path, codes->str,
              finding->detail);
  if (finding->left)
    world->n_left++;
  else
    g_hash_table_insert (world->found, g_strdup (finding->path), g_strdup (codes->str));
}

static void
ended (gpointer data, int status, const NfCheckCounts *counts)
{
  World *world = data;

  world->ended = TRUE;
  world->status = status;
  world->counts = *counts;
}

static void
check_at (World *world, NfSimSite *site, const char *path, const NfCheckOptions *options)
{
  const NfCheckEvents events = { found, ended };

  g_hash_table_remove_all (world->found);
  world->ended = FALSE;
  world->n_left = 0;
  cr_assert_eq (nf_share_check (site->share, path, options, &events, world), 0);
  for (int i = 0; i < 200 && !world->ended; i++)
    nf_sim_run (world->sim, 1000);
  cr_assert (world->ended, "the comparison doesn't end");
}

static void
check (World *world, const char *path, gboolean repair, gboolean content)
{
  const NfCheckOptions options = { .repair = repair, .content = content };

  check_at (world, world->replica, path, &options);
}

static void
check_primary (World *world, const char *path, gboolean repair, gboolean allow_delete)
{
  const NfCheckOptions options = { .repair = repair, .allow_delete = allow_delete };

  check_at (world, world->primary, path, &options);
}

static void
expect_found (World *world, const char *path, const char *codes)
{
  const char *found_codes = g_hash_table_lookup (world->found, path);

  cr_assert (found_codes != NULL, "%s isn't found", path);
  cr_assert_str_eq (found_codes, codes, "%s: \"%s\" instead of \"%s\"", path, found_codes, codes);
}

static void
expect_equal (World *world)
{
  g_autofree char *there = nf_sim_describe_dir (world->dirs[0]);
  g_autofree char *here = nf_sim_describe_dir (world->dirs[1]);

  cr_assert_str_eq (here, there);
}

/* Bytes are changed, and nothing that a listing shows. */
static void
rot (World *world, const char *name, off_t at)
{
  g_autofree char *path = path_in (world->dirs[1], name);
  struct stat st;
  int fd = open (path, O_WRONLY);

  cr_assert (fd >= 0);
  cr_assert_eq (fstat (fd, &st), 0);
  cr_assert_eq (pwrite (fd, "!", 1, at), 1);
  const struct timespec times[] = { st.st_atim, st.st_mtim };
  cr_assert_eq (futimens (fd, times), 0);
  close (fd);
}

static void
damage (World *world)
{
  const char *dir = world->dirs[1];
  g_autofree char *one = path_in (dir, "sub/one");
  g_autofree char *two = path_in (dir, "sub/two");
  g_autofree char *three = path_in (dir, "sub/deep/three");
  g_autofree char *plain = path_in (dir, "plain");
  g_autofree char *link = path_in (dir, "link");

  cr_assert_eq (unlink (one), 0);
  g_autofree char *inner = path_in (dir, "full/inner");
  g_autofree char *full = path_in (dir, "full");
  cr_assert_eq (unlink (inner), 0);
  cr_assert_eq (rmdir (full), 0);
  put_file (dir, "sub/two", 'x', 50); /* another inode, too */
  cr_assert_eq (chmod (three, 0400), 0);
  cr_assert_eq (setxattr (plain, "user.foreign", "x", 1, 0), 0);
  cr_assert_eq (unlink (link), 0);
  cr_assert_eq (symlink ("elsewhere", link), 0);
  put_file (dir, "sub/stranger", 's', 5);
  rot (world, "large", LARGE - 5);
  (void)two;
}

Test (check, an_equal_replica_is_clean)
{
  World *world = world_new ();

  check (world, "", FALSE, TRUE);
  cr_assert_eq (world->status, 0);
  cr_assert_eq (world->counts.found, 0);
  cr_assert_eq (world->counts.entries, 10);
  cr_assert_geq (world->counts.bytes, LARGE);
  world_free (world);
}

Test (check, it_goes_no_faster_than_asked)
{
  World *world = world_new ();
  const NfCheckOptions slow = { .content = TRUE, .rate = LARGE / 4 };
  gint64 begun = nf_sim_now_ms (world->sim);

  check (world, "", FALSE, TRUE);
  cr_assert_leq (nf_sim_now_ms (world->sim) - begun, 1000);
  begun = nf_sim_now_ms (world->sim);
  check_at (world, world->replica, "", &slow);
  cr_assert_eq (world->counts.found, 0);
  cr_assert_geq (world->counts.bytes, LARGE);
  cr_assert_geq (nf_sim_now_ms (world->sim) - begun, 3000);
  world_free (world);
}

Test (check, what_is_damaged_is_named_and_left_alone)
{
  World *world = world_new ();

  damage (world);
  g_autofree char *before = nf_sim_describe_dir (world->dirs[1]);
  check (world, "", FALSE, TRUE);
  cr_assert_eq (world->status, 0);
  expect_found (world, "sub/one", "missing");
  expect_found (world, "full", "missing");
  expect_found (world, "sub/two", "identity");
  expect_found (world, "sub/deep/three", "mode");
  expect_found (world, "plain", "xattr");
  expect_found (world, "link", "identity");
  expect_found (world, "sub/stranger", "surplus");
  expect_found (world, "large", "content");
  cr_assert_eq (world->counts.left, world->counts.found);
  g_autofree char *after = nf_sim_describe_dir (world->dirs[1]);
  cr_assert_str_eq (after, before);

  check (world, "", FALSE, FALSE);
  cr_assert (!g_hash_table_contains (world->found, "large"), "nobody asked for it");
  world_free (world);
}

static gboolean
lies_in_quarantine (World *world, const char *name)
{
  g_autofree char *pattern = g_strdup_printf (
      "find %s/.nearfs/quarantine -type f -name '%s' | grep -q .", world->dirs[1], name);

  return system (pattern) == 0;
}

Test (check, repair_makes_it_equal_and_keeps_what_was_there)
{
  World *world = world_new ();

  damage (world);
  check (world, "", TRUE, TRUE);
  cr_assert_eq (world->status, 0);
  cr_assert_geq (world->counts.found, 7);
  cr_assert_eq (world->counts.left, 0);
  expect_equal (world);
  cr_assert (lies_in_quarantine (world, "two"));
  cr_assert (lies_in_quarantine (world, "stranger"));
  cr_assert (lies_in_quarantine (world, "large"));
  check (world, "", FALSE, TRUE);
  cr_assert_eq (world->counts.found, 0);
  world_free (world);
}

Test (check, only_what_was_asked_for_is_compared)
{
  World *world = world_new ();

  damage (world);
  check (world, "sub/deep", FALSE, TRUE);
  expect_found (world, "sub/deep/three", "mode");
  cr_assert_eq (world->counts.found, 1);
  check (world, "plain", TRUE, TRUE);
  expect_found (world, "plain", "xattr");
  cr_assert_eq (world->counts.found, 1);
  cr_assert_eq (world->counts.left, 0);
  check (world, "plain", FALSE, TRUE);
  cr_assert_eq (world->counts.found, 0);
  world_free (world);
}

Test (check, what_cannot_be_done_is_refused)
{
  const NfCheckOptions options = { .repair = FALSE };
  const NfCheckEvents events = { found, ended };
  World *world = world_new ();

  cr_assert_eq (nf_share_check (world->replica->share, "sub/none", &options, &events, world),
                -ENOENT);
  cr_assert_eq (nf_share_check (world->replica->share, "", &options, &events, world), 0);
  cr_assert_eq (nf_share_check (world->replica->share, "", &options, &events, world), -EBUSY);
  nf_share_check_cancel (world->replica->share);
  cr_assert (world->ended && world->status == -ECANCELED);
  nf_sim_cut (world->sim, "a", "b");
  nf_sim_run (world->sim, 2000);
  cr_assert_eq (nf_share_check (world->replica->share, "", &options, &events, world),
                -EHOSTUNREACH);
  world_free (world);
}

/* ---- at the primary ---- */

static void
move (const char *dir, const char *from, const char *to)
{
  g_autofree char *a = path_in (dir, from);
  g_autofree char *b = path_in (dir, to);

  cr_assert_eq (rename (a, b), 0, "%s to %s: %s", from, to, g_strerror (errno));
}

static void
drop (const char *dir, const char *name)
{
  g_autofree char *path = path_in (dir, name);

  cr_assert_eq (remove (path), 0);
}

static void
work_behind (const char *dir)
{
  g_autofree char *plain = path_in (dir, "plain");
  g_autofree char *hard = path_in (dir, "hard");

  make_dir (dir, "new");
  put_file (dir, "new/file", 'n', 300);
  move (dir, "sub/deep", "deeper");
  move (dir, "sub/one", "full/uno");
  cr_assert_eq (link (plain, hard), 0);
  drop (dir, "sub/two");
  drop (dir, "full/inner");
  drop (dir, "link");
  /* Each takes the other's name. */
  move (dir, "sub", "sub.tmp");
  move (dir, "full", "sub");
  move (dir, "sub.tmp", "full");
}

Test (check, what_was_done_behind_the_primary_is_taken_over)
{
  World *world = world_new ();
  g_autofree char *before = nf_sim_describe_dir (world->dirs[1]);

  check_primary (world, "", TRUE, FALSE);
  cr_assert_eq (world->counts.found, 0);
  work_behind (world->dirs[0]);
  check_primary (world, "", FALSE, FALSE);
  cr_assert_eq (world->status, 0);
  expect_found (world, "new", "foreign");
  expect_found (world, "deeper", "moved");
  expect_found (world, "hard", "moved");
  cr_assert_geq (world->counts.found, 6);
  cr_assert_eq (world->counts.left, world->counts.found);
  nf_sim_run (world->sim, 5000);
  g_autofree char *untouched = nf_sim_describe_dir (world->dirs[1]);
  cr_assert_str_eq (untouched, before, "it was only to be looked at");

  check_primary (world, "", TRUE, FALSE);
  cr_assert_eq (world->status, 0);
  cr_assert_eq (world->counts.left, 0);
  nf_sim_run (world->sim, 20000);
  expect_equal (world);
  check_primary (world, "", TRUE, FALSE);
  cr_assert_eq (world->counts.found, 0);
  check (world, "", FALSE, TRUE);
  cr_assert_eq (world->counts.found, 0);
  world_free (world);
}

Test (check, only_where_it_was_asked_for_something_is_taken_over)
{
  World *world = world_new ();

  put_file (world->dirs[0], "sub/new", 'n', 5);
  put_file (world->dirs[0], "other", 'n', 5);
  drop (world->dirs[0], "sub/two");
  drop (world->dirs[0], "plain");
  check_primary (world, "sub", TRUE, FALSE);
  expect_found (world, "sub/new", "foreign");
  expect_found (world, "sub/two", "removed");
  cr_assert_eq (world->counts.found, 2);
  world_free (world);
}

/* An emptied disk isn't somebody's wish to empty all others. */
Test (check, much_that_is_gone_goes_elsewhere_only_when_confirmed)
{
  enum
  {
    MANY = 1100
  };
  World *world = world_new ();

  make_dir (world->dirs[0], "many");
  for (int i = 0; i < MANY; i++)
    {
      g_autofree char *name = g_strdup_printf ("many/%d", i);
      put_file (world->dirs[0], name, 'm', 1);
    }
  check_primary (world, "", TRUE, FALSE);
  nf_sim_run (world->sim, 20000);
  expect_equal (world);
  for (int i = 0; i < MANY; i++)
    {
      g_autofree char *name = g_strdup_printf ("many/%d", i);
      drop (world->dirs[0], name);
    }
  g_autofree char *before = nf_sim_describe_dir (world->dirs[1]);
  check_primary (world, "", TRUE, FALSE);
  cr_assert_eq (world->counts.found, MANY);
  cr_assert_eq (world->counts.left, MANY);
  nf_sim_run (world->sim, 20000);
  g_autofree char *after = nf_sim_describe_dir (world->dirs[1]);
  cr_assert_str_eq (after, before);
  check_primary (world, "", TRUE, TRUE);
  cr_assert_eq (world->counts.left, 0);
  nf_sim_run (world->sim, 20000);
  g_autofree char *many = path_in (world->dirs[1], "many/5");
  cr_assert (!g_file_test (many, G_FILE_TEST_EXISTS));
  world_free (world);
}

/* It is there, only not to be seen. */
Test (check, what_something_is_mounted_over_is_not_taken_for_removed)
{
  if (!nf_own_mounts ())
    cr_skip_test ("mounting needs root");
  World *world = world_new ();
  g_autofree char *sub = path_in (world->dirs[0], "sub");

  cr_assert_eq (mount ("none", sub, "tmpfs", 0, NULL), 0);
  check_primary (world, "", TRUE, TRUE);
  cr_assert_eq (world->status, 0);
  cr_assert_eq (world->counts.found, 0);
  cr_assert_eq (umount (sub), 0);
  nf_sim_run (world->sim, 20000);
  expect_equal (world);
  world_free (world);
}
