// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <glib/gstdio.h>
#include <pthread.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "tests/tree-help.h"

/* Opening and reading. Names are in test-tree-names.c, attributes in test-tree-attr.c. */

TestSuite (tree, .init = tree_set_up, .fini = tree_tear_down);

static NfTree *
try_open (gboolean mark, guint64 share, GError **error)
{
  NfTreeOptions options = { .personal = geteuid () != 0, .mark = mark, .share = share };

  return nf_tree_open (tree_dir, &options, error);
}

Test (tree, unmarked_directory_is_refused_and_left_alone)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *dir = g_dir_make_tmp ("nf-tree-XXXXXX", NULL);
  NfTreeOptions options = { .share = 1, .personal = geteuid () != 0 };

  cr_assert_null (nf_tree_open (dir, &options, &error));
  cr_assert_not_null (strstr (error->message, "isn't marked"), "%s", error->message);
  cr_assert_eq (g_rmdir (dir), 0, "nothing was made in it");
}

Test (tree, directory_of_another_share_is_refused)
{
  g_autoptr (GError) error = NULL;

  nf_tree_close (g_steal_pointer (&tree));
  cr_assert_null (try_open (TRUE, 99, &error));
  cr_assert_not_null (strstr (error->message, "another share (0000000000001234)"), "%s",
                      error->message);
}

Test (tree, second_daemon_is_refused_and_told_who_has_it)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *who = g_strdup_printf ("process %d", (int)getpid ());

  cr_assert_null (try_open (FALSE, 0x1234, &error));
  cr_assert_not_null (strstr (error->message, who), "%s", error->message);
}

Test (tree, copied_directory_is_refused)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *copy = g_strconcat (tree_dir, "-copy", NULL);
  const char *argv[] = { "cp", "-a", tree_dir, copy, NULL };
  NfTreeOptions options = { .share = 0x1234, .personal = geteuid () != 0 };
  int status;

  nf_tree_close (g_steal_pointer (&tree));
  cr_assert (g_spawn_sync (NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL,
                           &status, NULL));
  cr_assert_eq (status, 0);
  cr_assert_null (nf_tree_open (copy, &options, &error));
  cr_assert_not_null (strstr (error->message, "isn't the directory that it was"), "%s",
                      error->message);
  nf_tree_close (try_open (FALSE, 0x1234, NULL));
  argv[0] = "rm";
  argv[1] = "-r";
  argv[2] = copy;
  argv[3] = NULL;
  cr_assert (g_spawn_sync (NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL,
                           &status, NULL));
}

Test (tree, root_that_was_put_elsewhere_is_noticed)
{
  g_autofree char *aside = g_strconcat (tree_dir, "-aside", NULL);

  cr_assert_eq (nf_tree_check (tree), 0);
  cr_assert_eq (g_rename (tree_dir, aside), 0);
  cr_assert_eq (nf_tree_check (tree), -ENOENT);
  cr_assert_eq (g_mkdir (tree_dir, 0700), 0);
  cr_assert_eq (nf_tree_check (tree), -ENODEV);
  cr_assert_eq (g_rmdir (tree_dir), 0);
  cr_assert_eq (g_rename (aside, tree_dir), 0);
  cr_assert_eq (nf_tree_check (tree), 0);
}

Test (tree, created_objects_are_found_by_name_and_by_fid)
{
  static const guint32 types[] = { S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO, S_IFSOCK, S_IFCHR };

  for (gsize i = 0; i < G_N_ELEMENTS (types); i++)
    {
      g_autofree char *name = g_strdup_printf ("\xff%zu", i);
      NfFid fid = tree_make (NF_FID_ROOT, name, types[i] | 0751);
      NfAttr attr = tree_stat (fid);

      cr_assert_eq (tree_at (NF_FID_ROOT, name), fid);
      cr_assert_eq (attr.mode & S_IFMT, types[i]);
      if (types[i] != S_IFLNK)
        cr_assert_eq (attr.mode & 07777, 0751, "%zu: %o", i, attr.mode);
      cr_assert_eq (attr.mtime, G_GINT64_CONSTANT (1600000000123456789));
      cr_assert_eq (tree_object (fid).n_names, 1);
    }
  cr_assert_eq (tree_hidden_count ("staging"), 0);
}

Test (tree, hidden_directory_is_not_there)
{
  NfAttr attr;
  char *where = NULL;

  cr_assert_eq (nf_tree_lookup (tree, NF_FID_ROOT, N (NF_HIDDEN_DIR), &attr, NULL), -ENOENT);
  attr = tree_attr (tree_mint (), S_IFREG | 0600);
  cr_assert_eq (nf_tree_create (tree, &attr, NF_SLICE_NONE, NF_FID_ROOT, N (NF_HIDDEN_DIR), NULL),
                -EPERM);
  cr_assert_eq (nf_tree_unplace (tree, NF_FID_ROOT, N (NF_HIDDEN_DIR)), -EPERM);
  cr_assert_eq (nf_tree_quarantine (tree, NF_FID_ROOT, N (NF_HIDDEN_DIR), "", &where), -ENOENT);
  /* Below the root it is a name like any other. */
  tree_make (tree_make (NF_FID_ROOT, "d", S_IFDIR | 0700), NF_HIDDEN_DIR, S_IFREG | 0600);
}

Test (tree, names_that_would_leave_the_directory_are_refused)
{
  static const char *const names[] = { "", ".", "..", "../x", "a/b", "/etc" };
  char longest[NF_NAME_LEN_MAX + 1];
  NfAttr attr;

  for (gsize i = 0; i < G_N_ELEMENTS (names); i++)
    cr_assert_eq (nf_tree_lookup (tree, NF_FID_ROOT, N (names[i]), &attr, NULL), -EINVAL);
  cr_assert_eq (nf_tree_lookup (tree, NF_FID_ROOT, nf_slice ("a\0b", 3), &attr, NULL), -EINVAL);
  memset (longest, 'x', sizeof longest);
  cr_assert_eq (nf_tree_lookup (tree, NF_FID_ROOT, nf_slice (longest, 256), &attr, NULL),
                -ENAMETOOLONG);
  cr_assert_eq (nf_tree_lookup (tree, NF_FID_ROOT, nf_slice (longest, 255), &attr, NULL), -ENOENT);
}

Test (tree, unknown_object_is_told_by_its_identity)
{
  g_autofree char *path = tree_path ("foreign");
  NfAttr attr;
  NfIdent ident;
  NfFid fid = tree_mint ();

  cr_assert (g_file_set_contents (path, "hello", 5, NULL));
  cr_assert_eq (nf_tree_lookup (tree, NF_FID_ROOT, N ("foreign"), &attr, &ident), 0);
  cr_assert_eq (attr.fid, NF_FID_NONE);
  cr_assert_eq (attr.size, 5);
  cr_assert_neq (ident.ino, 0);
  cr_assert_eq (nf_tree_adopt (tree, NF_FID_ROOT, N ("foreign"), ident, fid, attr.mode), 0);
  cr_assert_eq (tree_at (NF_FID_ROOT, "foreign"), fid);
  cr_assert_eq (tree_stat (fid).size, 5);
}

Test (tree, replaced_object_is_stale)
{
  NfFid fid = tree_make (NF_FID_ROOT, "f", S_IFREG | 0600);
  NfFid dir = tree_make (NF_FID_ROOT, "d", S_IFDIR | 0700);
  g_autofree char *path = tree_path ("f");
  g_autofree char *dir_path = tree_path ("d");
  NfAttr attr;

  g_unlink (path);
  cr_assert_eq (nf_tree_stat (tree, fid, &attr), -ESTALE);
  cr_assert (g_file_set_contents (path, "other", 5, NULL));
  cr_assert_eq (nf_tree_stat (tree, fid, &attr), -ESTALE);
  cr_assert_eq (nf_tree_open_fid (tree, fid, O_RDONLY), -ESTALE);
  cr_assert_eq (tree_at (NF_FID_ROOT, "f"), NF_FID_NONE);
  g_rmdir (dir_path);
  g_mkdir (dir_path, 0700);
  cr_assert_eq (nf_tree_stat (tree, dir, &attr), -ESTALE);
  cr_assert_eq (nf_tree_stat (tree, 4711, &attr), -ESTALE);
}

Test (tree, symlinks_are_never_followed)
{
  NfFid link = tree_make (NF_FID_ROOT, "l", S_IFLNK | 0777);
  g_autofree char *path = tree_path ("out");
  char target[64];
  NfAttr attr;

  cr_assert_eq (nf_tree_readlink (tree, link, target, sizeof target), 11);
  cr_assert_eq (memcmp (target, "some/target", 11), 0);
  cr_assert_eq (nf_tree_open_fid (tree, link, O_RDONLY), -ELOOP);
  cr_assert_eq (symlink ("/", path), 0);
  cr_assert_eq (nf_tree_lookup (tree, NF_FID_ROOT, N ("out"), &attr, NULL), 0);
  cr_assert (S_ISLNK (attr.mode));
}

Test (tree, directory_replaced_by_a_symlink_leads_nowhere)
{
  NfFid outer = tree_make (NF_FID_ROOT, "outer", S_IFDIR | 0700);
  NfFid inner = tree_make (outer, "inner", S_IFDIR | 0700);
  g_autofree char *path = tree_path ("outer");
  g_autofree char *aside = tree_path ("aside");
  NfAttr attr;

  tree_reopen ();
  cr_assert_eq (g_rename (path, aside), 0);
  cr_assert_eq (symlink ("aside", path), 0);
  cr_assert_eq (nf_tree_lookup (tree, inner, N ("x"), &attr, NULL), -ESTALE);
}

Test (tree, devices_and_fifos_are_not_opened)
{
  NfFid fifo = tree_make (NF_FID_ROOT, "fifo", S_IFIFO | 0600);
  int fd;

  cr_assert_eq (nf_tree_open_fid (tree, fifo, O_RDONLY), -ENXIO);
  fd = nf_tree_open_fid (tree, fifo, O_PATH);
  cr_assert_geq (fd, 0);
  close (fd);
}

/* 40 levels of 200 bytes: twice what the kernel takes as one path. */
#define LEVELS 40

Test (tree, is_deeper_than_any_path)
{
  char name[201] = { 0 };
  NfFid fids[LEVELS];
  NfFid parent = NF_FID_ROOT;
  NfAttr attr;
  g_autofree char *path = NULL;

  memset (name, 'n', 200);
  for (guint i = 0; i < LEVELS; i++)
    parent = fids[i] = tree_make (parent, name, S_IFDIR | 0755);
  tree_make (parent, "leaf", S_IFREG | 0644);
  tree_reopen (); /* nothing is cached */
  cr_assert_eq (nf_tree_lookup (tree, parent, N ("leaf"), &attr, NULL), 0);
  cr_assert_eq (attr.mode, S_IFREG | 0644);
  cr_assert_eq (tree_stat (attr.fid).fid, attr.fid);
  path = nf_index_path (tree_index, attr.fid);
  cr_assert_eq (strlen (path), LEVELS * 201 + 4);
  /* The top moves away: what lies below goes on being found, cached or not. */
  cr_assert_eq (nf_tree_place (tree, fids[1], NF_FID_ROOT, N ("moved"), NULL), 0);
  cr_assert_eq (tree_at (parent, "leaf"), attr.fid);
  tree_reopen ();
  cr_assert_eq (tree_at (parent, "leaf"), attr.fid);
  cr_assert_eq (nf_tree_unplace (tree, NF_FID_ROOT, N ("moved")), 0);
  cr_assert_eq (nf_tree_bury (tree, fids[1]), 0);
  cr_assert_eq (nf_index_count (tree_index), 2, "the root and the first level");
  cr_assert_eq (tree_hidden_count ("limbo"), 0);
}

Test (tree, more_directories_than_descriptors)
{
  NfFid fids[NF_TREE_DIRS_MAX + 200];

  for (guint i = 0; i < G_N_ELEMENTS (fids); i++)
    {
      g_autofree char *name = g_strdup_printf ("d%u", i);

      fids[i] = tree_make (NF_FID_ROOT, name, S_IFDIR | 0755);
      tree_make (fids[i], "f", S_IFREG | 0644);
    }
  for (guint i = 0; i < G_N_ELEMENTS (fids); i++)
    cr_assert_neq (tree_at (fids[i], "f"), NF_FID_NONE);
}

typedef struct
{
  guint n;
  guint stop_after;
  guint64 cookie;
  guint unknown;
  GHashTable *names;
} Seen;

static gboolean
see (NfSlice name, const NfAttr *attr, const NfIdent *ident, guint64 cookie, gpointer data)
{
  Seen *seen = data;

  seen->n++;
  seen->cookie = cookie;
  seen->unknown += attr->fid == NF_FID_NONE;
  cr_assert_neq (ident->ino, 0);
  cr_assert_neq (attr->mode & S_IFMT, 0);
  cr_assert (g_hash_table_add (seen->names, nf_slice_dup (name)), "twice");
  return seen->n != seen->stop_after;
}

static Seen
seen_new (void)
{
  return (Seen){ .names = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL) };
}

Test (tree, directory_is_read_in_pieces)
{
  NfFid dir = tree_make (NF_FID_ROOT, "d", S_IFDIR | 0755);
  Seen seen = seen_new ();
  guint before = 0;

  for (guint i = 0; i < 3000; i++)
    {
      g_autofree char *name = g_strdup_printf ("a-rather-long-name-%u", i);
      g_autofree char *path = g_build_filename (tree_dir, "d", name, NULL);

      if (i % 2 == 0)
        tree_make (dir, name, S_IFREG | 0644);
      else
        cr_assert (g_file_set_contents (path, "", 0, NULL));
    }
  do
    {
      before = seen.n;
      seen.stop_after = seen.n + 77;
      cr_assert_eq (nf_tree_readdir (tree, dir, seen.cookie, before % 2 == 0, see, &seen), 0);
    }
  while (seen.n > before);
  cr_assert_eq (seen.n, 3000);
  cr_assert_eq (seen.unknown, 1500);
  g_hash_table_destroy (seen.names);
}

Test (tree, listing_of_the_root_leaves_out_what_is_ours)
{
  Seen seen = seen_new ();

  tree_make (NF_FID_ROOT, "a", S_IFDIR | 0755);
  tree_make (NF_FID_ROOT, "b", S_IFREG | 0755);
  cr_assert_eq (nf_tree_readdir (tree, NF_FID_ROOT, 0, FALSE, see, &seen), 0);
  cr_assert_eq (seen.n, 2);
  cr_assert_eq (seen.unknown, 0);
  cr_assert_eq (tree_stat (NF_FID_ROOT).nlink, 3, "2 and a's");
  g_hash_table_destroy (seen.names);
}

Test (tree, foreign_mount_within_the_share_is_not_entered)
{
  NfFid dir = tree_make (NF_FID_ROOT, "mnt", S_IFDIR | 0755);
  g_autofree char *path = tree_path ("mnt");
  Seen seen = seen_new ();
  NfAttr attr;

  tree_reopen ();
  if (mount ("none", path, "tmpfs", 0, NULL) != 0)
    cr_skip_test ("needs to be root");
  cr_assert_eq (nf_tree_lookup (tree, NF_FID_ROOT, N ("mnt"), &attr, NULL), -EXDEV);
  cr_assert_eq (nf_tree_lookup (tree, dir, N ("x"), &attr, NULL), -EXDEV);
  cr_assert_eq (nf_tree_readdir (tree, NF_FID_ROOT, 0, TRUE, see, &seen), 0);
  cr_assert_eq (seen.n, 0);
  cr_assert_eq (umount (path), 0);
  g_hash_table_destroy (seen.names);
}

static int stop;

static void *
rename_all_the_time (void *data)
{
  NfFid fid = *(NfFid *)data;

  while (!g_atomic_int_get (&stop))
    {
      cr_assert_eq (nf_tree_place (tree, fid, NF_FID_ROOT, N ("b"), NULL), 0);
      cr_assert_eq (nf_tree_place (tree, fid, NF_FID_ROOT, N ("a"), NULL), 0);
    }
  return NULL;
}

Test (tree, object_below_a_directory_that_moves_is_always_found)
{
  NfFid outer = tree_make (NF_FID_ROOT, "a", S_IFDIR | 0755);
  NfFid inner = tree_make (outer, "i", S_IFDIR | 0755);
  NfFid leaf = tree_make (inner, "f", S_IFREG | 0644);
  pthread_t thread;

  cr_assert_eq (pthread_create (&thread, NULL, rename_all_the_time, &outer), 0);
  for (guint i = 0; i < 20000; i++)
    {
      nf_tree_forget (tree, outer);
      nf_tree_forget (tree, inner);
      cr_assert_eq (tree_stat (leaf).fid, leaf);
      cr_assert_eq (tree_stat (outer).fid, outer);
    }
  g_atomic_int_set (&stop, 1);
  pthread_join (thread, NULL);
}
