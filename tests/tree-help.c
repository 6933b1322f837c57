// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "tests/tree-help.h"

#include <ftw.h>
#include <stdio.h>

char *tree_dir;
NfTree *tree;
NfIndex *tree_index;
static gboolean personal;

void
tree_reopen (void)
{
  g_autoptr (GError) error = NULL;
  NfTreeOptions options = { .personal = personal, .mark = TRUE, .share = 0x1234 };

  nf_tree_close (tree);
  tree = nf_tree_open (tree_dir, &options, &error);
  cr_assert_not_null (tree, "%s", error == NULL ? "" : error->message);
  tree_index = nf_tree_index (tree);
}

void
tree_set_up (void)
{
  personal = geteuid () != 0;
  tree_dir = g_dir_make_tmp ("nf-tree-XXXXXX", NULL);
  cr_assert_not_null (tree_dir);
  tree_reopen ();
}

void
tree_set_up_personal (void)
{
  tree_set_up ();
  personal = TRUE;
  tree_reopen ();
}

static int
remove_one (const char *path, const struct stat *st, int type, struct FTW *ftw)
{
  return remove (path);
}

void
tree_tear_down (void)
{
  nf_tree_close (tree);
  tree = NULL;
  (void)nftw (tree_dir, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_CHDIR);
  g_free (tree_dir);
}

char *
tree_path (const char *path)
{
  return g_build_filename (tree_dir, path, NULL);
}

gboolean
tree_has (const char *path)
{
  g_autofree char *full = tree_path (path);
  struct stat st;

  return lstat (full, &st) == 0;
}

guint
tree_hidden_count (const char *name)
{
  g_autofree char *path = g_build_filename (tree_dir, NF_HIDDEN_DIR, name, NULL);
  GDir *list = g_dir_open (path, 0, NULL);
  guint n = 0;

  while (g_dir_read_name (list) != NULL)
    n++;
  g_dir_close (list);
  return n;
}

NfFid
tree_mint (void)
{
  NfFid fid;

  cr_assert_eq (nf_index_mint (tree_index, &fid), 0);
  return fid;
}

NfAttr
tree_attr (NfFid fid, guint32 mode)
{
  return (NfAttr){
    .fid = fid,
    .mode = mode,
    .uid = getuid (),
    .gid = getgid (),
    .atime = G_GINT64_CONSTANT (1600000000000000001),
    .mtime = G_GINT64_CONSTANT (1600000000123456789),
  };
}

NfFid
tree_make (NfFid parent, const char *name, guint32 mode)
{
  NfAttr attr = tree_attr (tree_mint (), mode);
  NfSlice target = S_ISLNK (mode) ? N ("some/target") : NF_SLICE_NONE;

  cr_assert_eq (nf_tree_create (tree, &attr, target, parent, N (name), NULL), 0, "%s", name);
  return attr.fid;
}

NfFid
tree_at (NfFid parent, const char *name)
{
  NfAttr attr;
  int rc = nf_tree_lookup (tree, parent, N (name), &attr, NULL);

  cr_assert (rc == 0 || rc == -ENOENT, "%s: %d", name, rc);
  return rc == 0 ? attr.fid : NF_FID_NONE;
}

NfAttr
tree_stat (NfFid fid)
{
  NfAttr attr;
  int rc = nf_tree_stat (tree, fid, &attr);

  cr_assert_eq (rc, 0, "%lu: %d", (unsigned long)fid, rc);
  return attr;
}

NfObject
tree_object (NfFid fid)
{
  NfObject object;

  cr_assert (nf_index_get (tree_index, fid, &object));
  return object;
}
