// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/tree-private.h"

/* Files without a name that somebody has open. A daemon that dies leaves them; the next one drops those that nobody
 * holds any more (nf_tree_each_orphan()). */

int
nf_tree_orphan (NfTree *tree, NfFid fid, NfFid parent, NfSlice name, gboolean keep_name)
{
  int orphans = tree->place_dirs[NF_PLACE_ORPHANS].fd;
  NfTreeName str, hex;
  NfTreeDir *dir;
  NfTreeStat stat;
  NfObject object;
  int rc = nf_tree_name (parent, name, &str);

  if (rc != 0)
    return rc;
  if (!nf_index_get (tree->index, fid, &object))
    return -ESTALE;
  if (object.n_names > 1 || S_ISDIR (object.mode))
    return S_ISDIR (object.mode) ? -EISDIR : -EMLINK;
  rc = nf_tree_dir (tree, parent, &dir);
  if (rc != 0)
    return rc;
  nf_tree_fid_hex (fid, &hex);
  nf_tree_changing (tree);
  rc = nf_tree_statx (tree, dir->fd, str.str, &stat);
  if (rc == 0 && !nf_tree_ident_equal (stat.ident, object.ident))
    rc = -ESTALE;
  if (rc == 0)
    rc = keep_name ? nf_tree_link_hidden (tree, dir->fd, str.str, orphans, hex.str)
                   : nf_tree_rename_hidden (tree, dir->fd, str.str, orphans, hex.str);
  if (rc == 0)
    rc = nf_tree_follow_loss (tree, &object, parent, name, NF_PLACE_ORPHANS);
  nf_tree_changed (tree);
  nf_tree_dir_put (tree, dir);
  return rc;
}

/* ORPHAN gets its name back, where that is free or already its. */
static int
give_back (NfTree *tree, const NfObject *object, int dir_fd, const char *name)
{
  int orphans = tree->place_dirs[NF_PLACE_ORPHANS].fd;
  NfTreeName hex;
  NfTreeStat stat;
  int rc = nf_tree_statx (tree, dir_fd, name, &stat);

  nf_tree_fid_hex (object->fid, &hex);
  if (rc == -ENOENT)
    return renameat (orphans, hex.str, dir_fd, name) == 0 ? 0 : -errno;
  if (rc != 0)
    return rc;
  if (!nf_tree_ident_equal (stat.ident, object->ident))
    return -EEXIST;
  return unlinkat (orphans, hex.str, 0) == 0 ? 0 : -errno;
}

int
nf_tree_unorphan (NfTree *tree, NfFid fid, NfFid parent, NfSlice name)
{
  NfTreeName str;
  NfTreeDir *dir;
  NfObject object;
  int rc = nf_tree_name (parent, name, &str);

  if (rc != 0)
    return rc;
  if (!nf_index_get (tree->index, fid, &object) || object.place != NF_PLACE_ORPHANS)
    return -ESTALE;
  rc = nf_tree_dir (tree, parent, &dir);
  if (rc != 0)
    return rc;
  nf_tree_changing (tree);
  rc = give_back (tree, &object, dir->fd, str.str);
  if (rc == 0)
    rc = nf_tree_follow_gain (tree, &object, parent, name);
  nf_tree_changed (tree);
  nf_tree_dir_put (tree, dir);
  return rc;
}

int
nf_tree_drop_orphan (NfTree *tree, NfFid fid)
{
  NfObject object;
  NfTreeName hex;

  nf_tree_fid_hex (fid, &hex);
  if (unlinkat (tree->place_dirs[NF_PLACE_ORPHANS].fd, hex.str, 0) != 0 && errno != ENOENT)
    return -errno;
  /* With names of its own it was only a leftover link. */
  if (!nf_index_get (tree->index, fid, &object) || object.place != NF_PLACE_ORPHANS)
    return 0;
  return nf_index_remove (tree->index, fid);
}

int
nf_tree_each_orphan (NfTree *tree, NfTreeOrphanFunc func, gpointer data)
{
  g_autoptr (GPtrArray) names = g_ptr_array_new_with_free_func (g_free);
  int rc = nf_tree_list_names (tree->place_dirs[NF_PLACE_ORPHANS].fd, G_MAXUINT, names);

  for (guint i = 0; rc == 0 && i < names->len; i++)
    {
      NfFid fid = nf_tree_parse_hex (g_ptr_array_index (names, i));

      if (fid == NF_FID_NONE)
        continue;
      /* A crash may have come before the index followed. */
      if (nf_tree_is_stranded (tree, NF_PLACE_ORPHANS, fid))
        rc = nf_tree_settle_stranded (tree, NF_PLACE_ORPHANS, fid);
      if (rc == 0)
        func (fid, data);
    }
  return rc;
}
