// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/tree-private.h"

#include <string.h>

/* Removing for good. A tree is taken down without recursion and with one descriptor, however deep it is: each directory
 * met is first moved into limbo under a name of its own, then emptied there. A crash leaves the rest in limbo, where
 * nf_tree_sweep() finds it. */

/* Names read, and dropped from the index in one transaction, at a time. */
#define BATCH 1024

static int
limbo_fd (NfTree *tree)
{
  return tree->place_dirs[NF_PLACE_LIMBO].fd;
}

/* The work list: names of directories in limbo. */
typedef struct
{
  NfTree *tree;
  GQueue dirs;
} Demolition;

static int
move_to_limbo (Demolition *work, int dir_fd, const char *name)
{
  guint64 serial = __atomic_fetch_add (&work->tree->serial, 1, __ATOMIC_RELAXED);
  g_autofree char *limbo_name = g_strdup_printf ("x-%d-%" G_GUINT64_FORMAT, (int)getpid (), serial);

  if (renameat (dir_fd, name, limbo_fd (work->tree), limbo_name) != 0)
    return -errno;
  g_queue_push_tail (&work->dirs, g_steal_pointer (&limbo_name));
  return 0;
}

static int
remove_entry (Demolition *work, int dir_fd, const char *name)
{
  if (unlinkat (dir_fd, name, 0) == 0 || errno == ENOENT)
    return 0;
  if (errno != EISDIR && errno != EPERM)
    return -errno;
  return move_to_limbo (work, dir_fd, name);
}

/* The object loses NAME in directory PARENT in the index. It goes with its last one; a directory not before it is taken
 * down itself, as what is in it is found through it. */
static int
drop_from_index (NfTree *tree, NfFid parent, NfIdent ident, const char *name)
{
  NfObject object;
  guint32 left = 0;
  int rc;

  if (!nf_index_find (tree->index, ident, &object) || object.place != NF_PLACE_NAMED)
    return 0;
  rc = nf_index_drop_name (tree->index, object.fid, parent, nf_slice_str (name), &left);
  if (rc == -ENOENT) /* known elsewhere only: that isn't ours to decide */
    return 0;
  if (rc == 0 && left == 0 && !S_ISDIR (object.mode))
    rc = nf_index_remove (tree->index, object.fid);
  return rc;
}

static int
drop_entries (NfTree *tree, NfFid parent, int dir_fd, GPtrArray *names)
{
  g_autofree NfIdent *idents = g_new0 (NfIdent, names->len);
  int rc;

  for (guint i = 0; i < names->len; i++)
    {
      NfTreeStat stat;

      if (nf_tree_statx (tree, dir_fd, g_ptr_array_index (names, i), &stat) == 0)
        idents[i] = stat.ident;
    }
  rc = nf_index_begin (tree->index);
  if (rc != 0)
    return rc;
  for (guint i = 0; rc == 0 && i < names->len; i++)
    if (idents[i].ino != 0)
      rc = drop_from_index (tree, parent, idents[i], g_ptr_array_index (names, i));
  return nf_tree_end_transaction (tree, rc);
}

/* Takes out some of what is in the directory in limbo at DIR_FD. Nobody else works in it. */
static int
empty_some (Demolition *work, NfFid fid, int dir_fd, gboolean *ret_empty)
{
  g_autoptr (GPtrArray) names = g_ptr_array_new_with_free_func (g_free);
  int rc = nf_tree_list_names (dir_fd, BATCH, names);

  if (rc == 0 && fid != NF_FID_NONE) /* else its entries aren't known either */
    rc = drop_entries (work->tree, fid, dir_fd, names);
  for (guint i = 0; rc == 0 && i < names->len; i++)
    rc = remove_entry (work, dir_fd, g_ptr_array_index (names, i));
  if (rc == 0)
    *ret_empty = names->len == 0;
  return rc;
}

static int
remove_dir (Demolition *work, const char *limbo_name)
{
  int parent = limbo_fd (work->tree);
  NfTreeStat stat;
  NfObject object = { .fid = NF_FID_NONE };
  gboolean empty = FALSE;
  int rc;
  int fd = nf_tree_openat (parent, limbo_name, O_RDONLY | O_DIRECTORY);

  if (fd < 0)
    return fd;
  rc = nf_tree_statx (work->tree, fd, "", &stat);
  if (rc == 0)
    (void)nf_index_find (work->tree->index, stat.ident, &object);
  while (rc == 0 && !empty)
    rc = empty_some (work, object.fid, fd, &empty);
  close (fd);
  if (rc == 0 && unlinkat (parent, limbo_name, AT_REMOVEDIR) != 0)
    rc = -errno;
  if (rc != 0 || object.fid == NF_FID_NONE)
    return rc;
  nf_tree_forget (work->tree, object.fid);
  return nf_index_remove (work->tree->index, object.fid);
}

int
nf_tree_destroy (NfTree *tree, int dir_fd, const char *name)
{
  Demolition work = { .tree = tree, .dirs = G_QUEUE_INIT };
  int rc = remove_entry (&work, dir_fd, name);

  while (rc == 0 && work.dirs.length > 0)
    {
      g_autofree char *dir = g_queue_pop_head (&work.dirs);

      rc = remove_dir (&work, dir);
    }
  g_queue_clear_full (&work.dirs, g_free);
  return rc;
}

int
nf_tree_rename_hidden (NfTree *tree, int from_fd, const char *from, int to_fd, const char *to)
{
  int rc;

  /* Plain rename does nothing if both are links to one inode, and can't put a file over a directory. */
  if (renameat2 (from_fd, from, to_fd, to, RENAME_NOREPLACE) == 0)
    return 0;
  if (errno != EEXIST && errno != EINVAL)
    return -errno;
  rc = nf_tree_destroy (tree, to_fd, to);
  if (rc != 0)
    return rc;
  return renameat (from_fd, from, to_fd, to) == 0 ? 0 : -errno;
}

int
nf_tree_link_hidden (NfTree *tree, int from_fd, const char *from, int to_fd, const char *to)
{
  int rc;

  if (linkat (from_fd, from, to_fd, to, 0) == 0)
    return 0;
  if (errno != EEXIST)
    return -errno;
  rc = nf_tree_destroy (tree, to_fd, to);
  if (rc != 0)
    return rc;
  return linkat (from_fd, from, to_fd, to, 0) == 0 ? 0 : -errno;
}

int
nf_tree_bury (NfTree *tree, NfFid fid)
{
  NfObject object;
  NfTreeName name;
  int rc = 0;

  if (!nf_index_get (tree->index, fid, &object))
    return 0;
  if (object.place == NF_PLACE_ORPHANS || (object.place == NF_PLACE_NAMED && object.n_names > 0))
    return -EBUSY;
  if (object.place != NF_PLACE_NAMED)
    {
      nf_tree_fid_hex (fid, &name);
      rc = nf_tree_destroy (tree, tree->place_dirs[object.place].fd, name.str);
    }
  if (rc == 0)
    rc = nf_index_remove (tree->index, fid);
  nf_tree_forget (tree, fid);
  return rc == -ENOENT ? 0 : rc; /* a directory's went with it */
}

NfFid
nf_tree_parse_hex (const char *name)
{
  char *end;
  NfFid fid;

  if (strlen (name) != NF_FID_HEX_LEN)
    return NF_FID_NONE;
  fid = g_ascii_strtoull (name, &end, 16);
  return *end == '\0' ? fid : NF_FID_NONE;
}

gboolean
nf_tree_is_stranded (NfTree *tree, NfPlace place, NfFid fid)
{
  NfTreeName hex;
  NfTreeStat stat;
  NfObject object;
  NfAttr attr;

  nf_tree_fid_hex (fid, &hex);
  return nf_index_get (tree->index, fid, &object) && object.place != place
         && nf_tree_statx (tree, tree->place_dirs[place].fd, hex.str, &stat) == 0
         && nf_tree_ident_equal (stat.ident, object.ident)
         && nf_tree_stat (tree, fid, &attr) == -ESTALE;
}

int
nf_tree_settle_stranded (NfTree *tree, NfPlace place, NfFid fid)
{
  int rc = nf_index_begin (tree->index);

  if (rc == 0)
    {
      rc = nf_tree_drop_all_names (tree, fid);
      if (rc == 0)
        rc = nf_tree_put_place (tree, fid, place);
      rc = nf_tree_end_transaction (tree, rc);
    }
  return rc;
}

/* An entry that isn't where the index has its object is only a leftover link. */
static int
sweep_entry (NfTree *tree, NfPlace place, const char *name)
{
  NfFid fid = nf_tree_parse_hex (name);
  NfObject object;
  int rc = 0;

  if (fid != NF_FID_NONE && nf_tree_is_stranded (tree, place, fid))
    rc = nf_tree_settle_stranded (tree, place, fid);
  if (rc != 0)
    return rc;
  if (fid != NF_FID_NONE && nf_index_get (tree->index, fid, &object) && object.place == place)
    return nf_tree_bury (tree, fid);
  return nf_tree_destroy (tree, tree->place_dirs[place].fd, name);
}

int
nf_tree_sweep (NfTree *tree)
{
  static const NfPlace places[] = { NF_PLACE_STAGING, NF_PLACE_LIMBO };
  int rc = 0;

  for (gsize i = 0; rc == 0 && i < G_N_ELEMENTS (places); i++)
    {
      g_autoptr (GPtrArray) names = g_ptr_array_new_with_free_func (g_free);

      rc = nf_tree_list_names (tree->place_dirs[places[i]].fd, G_MAXUINT, names);
      for (guint j = 0; rc == 0 && j < names->len; j++)
        rc = sweep_entry (tree, places[i], g_ptr_array_index (names, j));
    }
  return rc;
}
