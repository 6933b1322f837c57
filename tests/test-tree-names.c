// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <glib/gstdio.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "tests/tree-help.h"

/* Names come, go and change places; the index follows. */

TestSuite (tree_names, .init = tree_set_up, .fini = tree_tear_down);

static NfFid
file (const char *name)
{
  return tree_make (NF_FID_ROOT, name, S_IFREG | 0644);
}

static NfFid
dir (const char *name)
{
  return tree_make (NF_FID_ROOT, name, S_IFDIR | 0755);
}

static void
assert_limbo (NfFid fid)
{
  cr_assert_eq (tree_object (fid).place, NF_PLACE_LIMBO);
  cr_assert_eq (tree_object (fid).n_names, 0);
  cr_assert_eq (tree_stat (fid).nlink, 0);
}

static int
move (NfFid fid, const char *from, NfFid parent, const char *to)
{
  NfNameRef old = { NF_FID_ROOT, N (from) };

  return nf_tree_place (tree, fid, parent, N (to), &old);
}

Test (tree_names, staged_object_has_no_name_until_placed)
{
  NfAttr attr = tree_attr (tree_mint (), S_IFREG | 0640);
  NfFid parent = NF_FID_NONE;
  g_autofree char *name = NULL;

  cr_assert_eq (nf_tree_stage (tree, &attr, NF_SLICE_NONE), 0);
  cr_assert_eq (tree_object (attr.fid).place, NF_PLACE_STAGING);
  cr_assert_eq (tree_stat (attr.fid).nlink, 0);
  cr_assert_eq (nf_tree_name_of (tree, attr.fid, &parent, &name), 0);
  cr_assert_eq (parent, NF_FID_STAGING);
  cr_assert_eq (nf_tree_stage (tree, &attr, NF_SLICE_NONE), 0, "again is fine");
  cr_assert_eq (nf_tree_place (tree, attr.fid, NF_FID_ROOT, N ("f"), NULL), 0);
  cr_assert_eq (tree_at (NF_FID_ROOT, "f"), attr.fid);
  cr_assert_eq (tree_stat (attr.fid).nlink, 1);
  cr_assert_eq (nf_tree_stage (tree, &attr, NF_SLICE_NONE), -EEXIST, "it is here");
  cr_assert_eq (nf_tree_place (tree, attr.fid, NF_FID_ROOT, N ("f"), NULL), 0, "again is fine");
  cr_assert_eq (tree_object (attr.fid).n_names, 1);
}

Test (tree_names, file_is_renamed_or_linked)
{
  NfFid fid = file ("a");
  NfFid sub = dir ("sub");

  cr_assert_eq (move (fid, "a", sub, "b"), 0);
  cr_assert_eq (tree_at (NF_FID_ROOT, "a"), NF_FID_NONE);
  cr_assert_eq (tree_at (sub, "b"), fid);
  cr_assert_eq (tree_object (fid).n_names, 1);
  cr_assert_eq (nf_tree_place (tree, fid, NF_FID_ROOT, N ("c"), NULL), 0);
  cr_assert_eq (tree_at (sub, "b"), fid);
  cr_assert_eq (tree_at (NF_FID_ROOT, "c"), fid);
  cr_assert_eq (tree_object (fid).n_names, 2);
  cr_assert_eq (tree_stat (fid).nlink, 2);
}

Test (tree_names, rename_done_twice_is_done_once)
{
  NfFid fid = file ("a");
  NfFid over = file ("b");

  cr_assert_eq (move (fid, "a", NF_FID_ROOT, "b"), 0);
  cr_assert_eq (move (fid, "a", NF_FID_ROOT, "b"), 0);
  cr_assert_eq (tree_at (NF_FID_ROOT, "a"), NF_FID_NONE);
  cr_assert_eq (tree_at (NF_FID_ROOT, "b"), fid);
  assert_limbo (over);
}

Test (tree_names, rename_onto_a_link_to_the_same_file_removes_the_old_name)
{
  NfFid fid = file ("a");

  cr_assert_eq (nf_tree_place (tree, fid, NF_FID_ROOT, N ("b"), NULL), 0);
  cr_assert_eq (move (fid, "a", NF_FID_ROOT, "b"), 0);
  cr_assert_eq (tree_at (NF_FID_ROOT, "a"), NF_FID_NONE);
  cr_assert_eq (tree_stat (fid).nlink, 1);
  cr_assert_eq (tree_object (fid).n_names, 1);
}

Test (tree_names, displaced_file_goes_to_limbo_and_can_come_back)
{
  NfFid a = file ("a");
  NfFid b = file ("b");

  cr_assert_eq (move (a, "a", NF_FID_ROOT, "b"), 0);
  assert_limbo (b);
  cr_assert_eq (nf_tree_place (tree, b, NF_FID_ROOT, N ("c"), NULL), 0);
  cr_assert_eq (tree_at (NF_FID_ROOT, "c"), b);
  cr_assert_eq (tree_object (b).place, NF_PLACE_NAMED);
  cr_assert_eq (tree_stat (b).nlink, 1);
  cr_assert_eq (tree_hidden_count ("limbo"), 0);
}

Test (tree_names, displaced_file_with_other_names_just_loses_one)
{
  NfFid a = file ("a");
  NfFid b = file ("b");

  cr_assert_eq (nf_tree_place (tree, b, NF_FID_ROOT, N ("b2"), NULL), 0);
  cr_assert_eq (move (a, "a", NF_FID_ROOT, "b"), 0);
  cr_assert_eq (tree_at (NF_FID_ROOT, "b2"), b);
  cr_assert_eq (tree_object (b).n_names, 1);
  cr_assert_eq (tree_hidden_count ("limbo"), 0);
}

Test (tree_names, link_replaces_another_file)
{
  NfFid a = file ("a");
  NfFid b = file ("b");

  cr_assert_eq (nf_tree_place (tree, a, NF_FID_ROOT, N ("b"), NULL), 0);
  cr_assert_eq (tree_at (NF_FID_ROOT, "a"), a);
  cr_assert_eq (tree_at (NF_FID_ROOT, "b"), a);
  assert_limbo (b);
  cr_assert_eq (tree_hidden_count ("staging"), 0);
}

Test (tree_names, created_file_replaces_another)
{
  NfFid old = file ("a");
  NfFid new = file ("a");

  cr_assert_eq (tree_at (NF_FID_ROOT, "a"), new);
  assert_limbo (old);
}

Test (tree_names, directory_moves_with_what_is_in_it)
{
  NfFid a = dir ("a");
  NfFid in_a = tree_make (a, "x", S_IFREG | 0644);
  NfFid b = dir ("b");

  cr_assert_eq (nf_tree_place (tree, a, b, N ("a"), NULL), 0);
  cr_assert_eq (tree_at (NF_FID_ROOT, "a"), NF_FID_NONE);
  cr_assert_eq (tree_at (a, "x"), in_a);
  cr_assert_eq (tree_object (a).n_names, 1);
  cr_assert_eq (nf_tree_place (tree, b, a, N ("b"), NULL), -EINVAL, "not below itself");
  cr_assert_eq (tree_at (NF_FID_ROOT, "b"), b);
}

Test (tree_names, directory_replaces_an_empty_one)
{
  NfFid a = dir ("a");
  NfFid b = dir ("b");
  NfObject object;

  tree_make (a, "x", S_IFREG | 0644);
  cr_assert_eq (nf_tree_place (tree, a, NF_FID_ROOT, N ("b"), NULL), 0);
  cr_assert_eq (tree_at (NF_FID_ROOT, "b"), a);
  cr_assert_not (nf_index_get (tree_index, b, &object));
  cr_assert_eq (nf_tree_bury (tree, b), 0, "nothing to do");
}

Test (tree_names, directory_replaces_a_full_one_which_goes_to_limbo)
{
  NfFid a = dir ("a");
  NfFid b = dir ("b");
  NfFid in_b = tree_make (b, "y", S_IFREG | 0644);

  tree_make (a, "x", S_IFREG | 0644);
  cr_assert_eq (nf_tree_place (tree, a, NF_FID_ROOT, N ("b"), NULL), 0);
  cr_assert_eq (tree_at (NF_FID_ROOT, "b"), a);
  cr_assert_eq (tree_at (NF_FID_ROOT, "a"), NF_FID_NONE);
  assert_limbo (b);
  cr_assert_eq (tree_at (b, "y"), in_b);
  cr_assert_eq (nf_tree_place (tree, in_b, NF_FID_ROOT, N ("saved"), &(NfNameRef){ b, N ("y") }), 0,
                "out of limbo");
  cr_assert_eq (nf_tree_bury (tree, b), 0);
  cr_assert_eq (tree_at (NF_FID_ROOT, "saved"), in_b);
  cr_assert_eq (tree_hidden_count ("limbo"), 0);
  cr_assert_eq (tree_hidden_count ("staging"), 0);
}

Test (tree_names, objects_of_different_types_replace_each_other)
{
  NfFid f = file ("f");
  NfFid d = dir ("d");

  tree_make (d, "x", S_IFREG | 0644);
  cr_assert_eq (move (f, "f", NF_FID_ROOT, "d"), 0);
  cr_assert_eq (tree_at (NF_FID_ROOT, "d"), f);
  assert_limbo (d);
  cr_assert_eq (nf_tree_place (tree, d, NF_FID_ROOT, N ("d"), NULL), 0);
  cr_assert_eq (tree_at (NF_FID_ROOT, "d"), d);
  assert_limbo (f);
}

Test (tree_names, unknown_object_in_the_way_goes_to_quarantine)
{
  g_autofree char *path = tree_path ("a");
  NfFid fid;

  cr_assert (g_file_set_contents (path, "precious", 8, NULL));
  fid = file ("a");
  cr_assert_eq (tree_at (NF_FID_ROOT, "a"), fid);
  cr_assert_eq (tree_hidden_count ("quarantine"), 2, "a directory and a note");
}

Test (tree_names, unplaced_file_goes_to_limbo)
{
  NfFid fid = file ("a");
  NfObject object;

  cr_assert_eq (nf_tree_unplace (tree, NF_FID_ROOT, N ("a")), 0);
  cr_assert_eq (tree_at (NF_FID_ROOT, "a"), NF_FID_NONE);
  assert_limbo (fid);
  cr_assert_eq (nf_tree_unplace (tree, NF_FID_ROOT, N ("a")), 0, "again is fine");
  cr_assert_eq (nf_tree_bury (tree, fid), 0);
  cr_assert_not (nf_index_get (tree_index, fid, &object));
  cr_assert_eq (tree_hidden_count ("limbo"), 0);
}

Test (tree_names, unplaced_name_of_several_leaves_the_others)
{
  NfFid fid = file ("a");

  cr_assert_eq (nf_tree_place (tree, fid, NF_FID_ROOT, N ("b"), NULL), 0);
  cr_assert_eq (nf_tree_unplace (tree, NF_FID_ROOT, N ("a")), 0);
  cr_assert_eq (tree_object (fid).place, NF_PLACE_NAMED);
  cr_assert_eq (tree_stat (fid).nlink, 1);
  cr_assert_eq (nf_tree_bury (tree, fid), -EBUSY);
}

Test (tree_names, buried_directory_takes_all_with_it_but_links_from_outside)
{
  NfFid a = dir ("a");
  NfFid deep = a;
  NfFid linked = tree_make (a, "linked", S_IFREG | 0644);

  cr_assert_eq (nf_tree_place (tree, linked, NF_FID_ROOT, N ("outside"), NULL), 0);
  for (guint i = 0; i < 30; i++)
    {
      deep = tree_make (deep, "sub", S_IFDIR | 0755);
      tree_make (deep, "f", S_IFREG | 0644);
    }
  for (guint i = 0; i < 2500; i++)
    {
      g_autofree char *name = g_strdup_printf ("f%u", i);

      tree_make (a, name, S_IFREG | 0644);
    }
  cr_assert_eq (nf_tree_unplace (tree, NF_FID_ROOT, N ("a")), 0);
  assert_limbo (a);
  cr_assert_neq (tree_at (deep, "f"), NF_FID_NONE, "still there");
  cr_assert_eq (nf_tree_bury (tree, a), 0);
  cr_assert_eq (nf_index_count (tree_index), 2, "the root and the linked file");
  cr_assert_eq (tree_at (NF_FID_ROOT, "outside"), linked);
  cr_assert_eq (tree_object (linked).n_names, 1);
  cr_assert_eq (tree_hidden_count ("limbo"), 0);
}

Test (tree_names, two_names_change_places)
{
  NfFid a = file ("a");
  NfFid sub = dir ("sub");
  NfFid b = tree_make (sub, "b", S_IFDIR | 0755);
  NfFid in_b = tree_make (b, "x", S_IFREG | 0644);

  cr_assert_eq (nf_tree_exchange (tree, NF_FID_ROOT, N ("a"), sub, N ("b")), 0);
  cr_assert_eq (tree_at (NF_FID_ROOT, "a"), b);
  cr_assert_eq (tree_at (sub, "b"), a);
  cr_assert_eq (tree_at (b, "x"), in_b);
  cr_assert_eq (tree_stat (a).fid, a);
  cr_assert_eq (tree_stat (b).fid, b);
  cr_assert_eq (tree_object (a).n_names, 1);
  cr_assert_eq (nf_tree_exchange (tree, NF_FID_ROOT, N ("a"), sub, N ("nothing")), -ENOENT);
}

Test (tree_names, quarantine_keeps_a_thing_and_says_where_it_was)
{
  NfFid sub = dir ("sub");
  NfFid known = tree_make (sub, "odd \xff name", S_IFDIR | 0755);
  NfFid inner = tree_make (known, "x", S_IFREG | 0644);
  g_autofree char *where = NULL;
  g_autofree char *dirname = NULL;
  g_autofree char *note = NULL;
  g_autofree char *text = NULL;
  g_autofree char *in = NULL;
  NfObject object;

  cr_assert_eq (nf_tree_quarantine (tree, sub, N ("odd \xff name"), "It parted.", &where), 0);
  cr_assert (g_str_has_prefix (where, tree_dir), "%s", where);
  in = g_build_filename (where, "x", NULL);
  cr_assert (g_file_test (in, G_FILE_TEST_EXISTS));
  dirname = g_path_get_dirname (where);
  note = g_strconcat (dirname, ".txt", NULL);
  cr_assert (g_file_get_contents (note, &text, NULL, NULL));
  cr_assert_not_null (strstr (text, "Was: sub/odd \xff name\n"), "%s", text);
  cr_assert_not_null (strstr (text, "Why: It parted.\n"), "%s", text);
  cr_assert_not (nf_index_get (tree_index, known, &object));
  cr_assert_not (nf_index_get (tree_index, inner, &object));
  cr_assert_eq (nf_tree_quarantine (tree, sub, N ("odd \xff name"), "", &where), -ENOENT);
}

/* A quarantined name may be one of several: what is done to the object later mustn't reach what was kept. */
Test (tree_names, what_lies_in_quarantine_is_no_link_to_what_is_live)
{
  NfFid fid = file ("live");
  g_autofree char *live = tree_path ("live");
  g_autofree char *link_path = tree_path ("surplus");
  g_autofree char *where = NULL;
  g_autofree char *kept = NULL;
  int fd = open (live, O_WRONLY);

  cr_assert_eq (write (fd, "before", 6), 6);
  cr_assert_eq (link (live, link_path), 0);
  cr_assert_eq (nf_tree_quarantine (tree, NF_FID_ROOT, N ("surplus"), "", &where), 0);
  cr_assert_eq (pwrite (fd, "later!", 6, 0), 6);
  close (fd);
  cr_assert_eq (tree_stat (fid).nlink, 1);
  cr_assert (g_file_get_contents (where, &kept, NULL, NULL));
  cr_assert_str_eq (kept, "before");
}

static void
collect_orphan (NfFid fid, gpointer data)
{
  *(NfFid *)data = fid;
}

Test (tree_names, orphan_lives_on_without_a_name)
{
  NfFid fid = file ("a");
  NfFid found = NF_FID_NONE;
  NfObject object;
  int fd;

  cr_assert_eq (nf_tree_orphan (tree, fid, NF_FID_ROOT, N ("a"), FALSE), 0);
  cr_assert_eq (tree_at (NF_FID_ROOT, "a"), NF_FID_NONE);
  cr_assert_eq (tree_stat (fid).nlink, 0);
  tree_reopen ();
  fd = nf_tree_open_fid (tree, fid, O_RDWR);
  cr_assert_geq (fd, 0);
  close (fd);
  cr_assert_eq (nf_tree_each_orphan (tree, collect_orphan, &found), 0);
  cr_assert_eq (found, fid);
  cr_assert_eq (nf_tree_bury (tree, fid), -EBUSY);
  cr_assert_eq (nf_tree_drop_orphan (tree, fid), 0);
  cr_assert_not (nf_index_get (tree_index, fid, &object));
  cr_assert_eq (tree_hidden_count ("orphans"), 0);
}

Test (tree_names, orphan_of_a_rename_keeps_its_name_until_the_rename)
{
  NfFid fid = file ("a");
  g_autofree char *a = tree_path ("a");
  g_autofree char *b = tree_path ("b");

  cr_assert_eq (nf_tree_orphan (tree, fid, NF_FID_ROOT, N ("a"), TRUE), 0);
  cr_assert (tree_has ("a"));
  cr_assert_eq (nf_tree_unorphan (tree, fid, NF_FID_ROOT, N ("a")), 0);
  cr_assert_eq (tree_stat (fid).nlink, 1);
  cr_assert_eq (tree_hidden_count ("orphans"), 0);
  cr_assert_eq (nf_tree_orphan (tree, fid, NF_FID_ROOT, N ("a"), TRUE), 0);
  file ("b");
  cr_assert_eq (g_rename (b, a), 0);
  cr_assert_eq (tree_stat (fid).fid, fid);
  cr_assert_eq (nf_tree_unorphan (tree, fid, NF_FID_ROOT, N ("a")), -EEXIST);
  cr_assert_eq (nf_tree_drop_orphan (tree, fid), 0);
}

Test (tree_names, switched_file_keeps_its_fid_and_attributes)
{
  NfFid fid = file ("a");
  guint64 ino = tree_object (fid).ident.ino;
  NfAttr attr = tree_stat (fid);
  char text[8] = { 0 };
  int fd;

  cr_assert_eq (nf_tree_setxattr (tree, fid, "user.note", N ("kept"), 0), 0);
  cr_assert_eq (nf_tree_stage_file (tree, fid, &fd), 0);
  cr_assert_eq (pwrite (fd, "content", 7, 0), 7);
  cr_assert_eq (nf_tree_set_attr (tree, fid, fd, NF_SET_MTIME, &attr), 0);
  close (fd);
  cr_assert_eq (nf_tree_switch_file (tree, fid), 0);
  cr_assert_neq (tree_object (fid).ident.ino, ino);
  cr_assert_eq (tree_at (NF_FID_ROOT, "a"), fid);
  cr_assert_eq (tree_stat (fid).mode, attr.mode);
  cr_assert_eq (tree_stat (fid).mtime, attr.mtime);
  cr_assert_eq (tree_stat (fid).size, 7);
  cr_assert_eq (nf_tree_getxattr (tree, fid, "user.note", text, sizeof text), 4);
  cr_assert_str_eq (text, "kept");
  cr_assert_eq (nf_tree_place (tree, fid, NF_FID_ROOT, N ("b"), NULL), 0);
  cr_assert_eq (nf_tree_stage_file (tree, fid, &fd), 0);
  close (fd);
  cr_assert_eq (nf_tree_switch_file (tree, fid), -EMLINK);
  nf_tree_drop_staged_file (tree, fid);
  cr_assert_eq (tree_hidden_count ("staging"), 0);
}

Test (tree_names, sweep_buries_what_a_crash_left)
{
  NfFid gone = file ("gone");
  NfFid kept = file ("kept");
  NfFid stranded = file ("stranded");
  NfAttr staged = tree_attr (tree_mint (), S_IFDIR | 0755);
  g_autofree char *hex = g_strdup_printf ("%016lx", (unsigned long)stranded);
  g_autofree char *kept_hex = g_strdup_printf ("%016lx", (unsigned long)kept);
  g_autofree char *limbo = g_build_filename (tree_dir, NF_HIDDEN_DIR, "limbo", hex, NULL);
  g_autofree char *kept_limbo = g_build_filename (tree_dir, NF_HIDDEN_DIR, "limbo", kept_hex, NULL);
  g_autofree char *stranded_path = tree_path ("stranded");
  g_autofree char *kept_path = tree_path ("kept");
  NfObject object;
  int fd;

  cr_assert_eq (nf_tree_unplace (tree, NF_FID_ROOT, N ("gone")), 0);
  cr_assert_eq (nf_tree_stage (tree, &staged, NF_SLICE_NONE), 0);
  cr_assert_eq (nf_tree_stage_file (tree, kept, &fd), 0);
  close (fd);
  /* Between disk and index. */
  cr_assert_eq (g_rename (stranded_path, limbo), 0);
  cr_assert_eq (link (kept_path, kept_limbo), 0);
  tree_reopen ();
  cr_assert_eq (nf_tree_sweep (tree), 0);
  cr_assert_eq (tree_hidden_count ("limbo"), 0);
  cr_assert_eq (tree_hidden_count ("staging"), 0);
  cr_assert_not (nf_index_get (tree_index, gone, &object));
  cr_assert_not (nf_index_get (tree_index, staged.fid, &object));
  cr_assert_not (nf_index_get (tree_index, stranded, &object));
  cr_assert_eq (tree_at (NF_FID_ROOT, "kept"), kept);
  cr_assert_eq (nf_index_count (tree_index), 2);
}

/* Each operation is done by a child that is killed at some time in it; then it is done again. Whatever the moment, the
 * tree and the index are as if it had been done once. */
#define ROUNDS 150

static void
churn (guint from)
{
  for (guint i = from;; i++)
    {
      NfAttr attr = tree_attr (1000 + i, S_IFREG | 0644);
      int rc = nf_tree_create (tree, &attr, NF_SLICE_NONE, NF_FID_ROOT, N ("new"), NULL);

      if (rc == 0 || rc == -EEXIST)
        rc = nf_tree_place (tree, attr.fid, NF_FID_ROOT, N ("new"), NULL);
      if (rc == 0 || rc == -ESTALE) /* the move was done, but not yet in the index */
        rc = move (attr.fid, "new", NF_FID_ROOT, "current");
      if (rc == 0 && i > 0)
        (void)nf_tree_bury (tree, attr.fid - 1);
      if (rc != 0)
        _exit (1);
    }
}

static guint
newest (void)
{
  NfObject object;
  NfFid after = 999;

  while (nf_index_next (tree_index, after, &object))
    after = object.fid;
  return after < 1000 ? 0 : (guint)(after - 1000);
}

Test (tree_names, killed_at_any_time_it_goes_on_where_it_was, .timeout = 120)
{
  guint from = 0;

  for (guint round = 0; round < ROUNDS; round++)
    {
      pid_t child;
      int status, open_now[2];
      char byte = 0;

      nf_tree_close (g_steal_pointer (&tree));
      cr_assert_eq (pipe (open_now), 0);
      child = fork ();
      if (child == 0)
        {
          tree_reopen ();
          if (write (open_now[1], &byte, 1) == 1)
            churn (from);
          _exit (1);
        }
      cr_assert_eq (read (open_now[0], &byte, 1), 1);
      close (open_now[0]);
      close (open_now[1]);
      g_usleep ((gulong)g_random_int_range (2000, 6000)); /* the moment is what is tried */
      kill (child, SIGKILL);
      cr_assert_eq (waitpid (child, &status, 0), child);
      cr_assert (WIFSIGNALED (status), "round %u: an operation failed", round);
      tree_reopen ();
      cr_assert_geq (newest (), from);
      from = newest ();
    }
  cr_assert_gt (from, 0);
  cr_assert_eq (tree_hidden_count ("quarantine"), 0, "nothing of ours was taken for foreign");
  cr_assert_eq (nf_tree_sweep (tree), 0);
  cr_assert_leq (nf_index_count (tree_index), 3, "the root, \"new\" and \"current\" at most");
  cr_assert_eq (tree_hidden_count ("limbo"), 0);
  cr_assert_eq (tree_hidden_count ("staging"), 0);
}

static int stop;

static void *
replace_all_the_time (void *data)
{
  while (!g_atomic_int_get (&stop))
    {
      NfFid old = tree_at (NF_FID_ROOT, "target");
      NfFid new = file ("next");

      cr_assert_eq (move (new, "next", NF_FID_ROOT, "target"), 0);
      cr_assert_eq (nf_tree_bury (tree, old), 0);
    }
  return NULL;
}

Test (tree_names, replaced_name_is_never_missing)
{
  pthread_t thread;
  g_autofree char *path = tree_path ("target");

  file ("target");
  cr_assert_eq (pthread_create (&thread, NULL, replace_all_the_time, NULL), 0);
  for (guint i = 0; i < 100000; i++)
    cr_assert_eq (access (path, F_OK), 0);
  g_atomic_int_set (&stop, 1);
  pthread_join (thread, NULL);
}

static void *
look_up_new (void *data)
{
  cr_assert_eq (tree_at (NF_FID_ROOT, "new"), *(NfFid *)data);
  return NULL;
}

Test (tree_names, object_of_an_unfinished_transaction_is_waited_for, .timeout = 20)
{
  pthread_t thread;
  NfFid fid;

  cr_assert_eq (nf_index_begin (tree_index), 0);
  fid = file ("new");
  cr_assert_eq (pthread_create (&thread, NULL, look_up_new, &fid), 0);
  cr_assert_eq (nf_index_commit (tree_index), 0);
  pthread_join (thread, NULL);
}
