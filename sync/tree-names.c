// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/tree-private.h"

/* Names that go or change places, and how the index follows. As in tree-place.c: disk first, then the index. */

/* OBJECT in the index with another place. Within a transaction. */
int
nf_tree_put_place (NfTree *tree, NfFid fid, NfPlace place)
{
  NfObject object;

  if (!nf_index_get (tree->index, fid, &object))
    return -ESTALE;
  if (object.place == place)
    return 0;
  object.place = place;
  return nf_index_put (tree->index, &object);
}

/* Within a transaction. The object may have been known without this name. */
int
nf_tree_lose_name (NfTree *tree, NfFid fid, NfFid parent, NfSlice name, NfPlace place)
{
  NfObject object;
  int rc = nf_index_drop_name (tree->index, fid, parent, name, NULL);

  if (rc != 0 && rc != -ENOENT)
    return rc;
  if (!nf_index_get (tree->index, fid, &object))
    return -ESTALE;
  return object.n_names == 0 ? nf_tree_put_place (tree, fid, place) : 0;
}

int
nf_tree_end_transaction (NfTree *tree, int rc)
{
  if (rc == 0)
    return nf_index_commit (tree->index);
  nf_index_abort (tree->index);
  return rc;
}

int
nf_tree_follow_loss (NfTree *tree, const NfObject *object, NfFid parent, NfSlice name,
                     NfPlace place)
{
  int rc = nf_index_begin (tree->index);

  if (rc != 0)
    return rc;
  return nf_tree_end_transaction (tree, nf_tree_lose_name (tree, object->fid, parent, name, place));
}

int
nf_tree_follow_gain (NfTree *tree, const NfObject *object, NfFid parent, NfSlice name)
{
  int rc = nf_index_begin (tree->index);

  if (rc != 0)
    return rc;
  rc = nf_tree_put_place (tree, object->fid, NF_PLACE_NAMED);
  if (rc == 0)
    rc = nf_index_add_name (tree->index, object->fid, parent, name);
  return nf_tree_end_transaction (tree, rc);
}

/* How many names OBJECT has besides (PARENT, NAME). */
guint32
nf_tree_other_names (NfTree *tree, const NfObject *object, NfFid parent, NfSlice name)
{
  guint32 here = nf_index_has_name (tree->index, object->fid, parent, name) ? 1 : 0;

  return object->n_names > here ? object->n_names - here : 0;
}

/* A directory has one name, whatever the index says. Within a transaction. */
int
nf_tree_drop_all_names (NfTree *tree, NfFid fid)
{
  NfTreeName name;
  NfFid parent;
  int rc = 0;

  while (rc == 0 && nf_index_first_name (tree->index, fid, &parent, name.str))
    rc = nf_index_drop_name (tree->index, fid, parent, nf_slice_str (name.str), NULL);
  return rc;
}

static int
take_away (NfTree *tree, const NfObject *object, NfTreeDir *dir, const char *name,
           const NfTreeStat *stat)
{
  NfTreeName hex;

  if (nf_tree_other_names (tree, object, dir->fid, nf_slice_str (name)) > 0
      && stat->type != S_IFDIR)
    return unlinkat (dir->fd, name, 0) == 0 ? 0 : -errno;
  nf_tree_fid_hex (object->fid, &hex);
  return nf_tree_rename_hidden (tree, dir->fd, name, nf_tree_place_fd (tree, NF_PLACE_LIMBO),
                                hex.str);
}

static int
unplace_in (NfTree *tree, NfTreeDir *dir, const NfTreeName *name)
{
  NfTreeStat stat;
  NfObject object;
  int rc = nf_tree_statx (tree, dir->fd, name->str, &stat);

  if (rc == -ENOENT)
    return 0;
  if (rc != 0)
    return rc;
  if (!nf_index_find (tree->index, stat.ident, &object))
    return nf_tree_quarantine_at (tree, dir, name,
                                  "Its name was removed in the share, but it was unknown.", NULL);
  rc = take_away (tree, &object, dir, name->str, &stat);
  if (rc != 0)
    return rc;
  return nf_tree_follow_loss (tree, &object, dir->fid, nf_slice_str (name->str), NF_PLACE_LIMBO);
}

int
nf_tree_unplace (NfTree *tree, NfFid parent, NfSlice name)
{
  NfTreeName str;
  NfTreeDir *dir;
  int rc = nf_tree_name (parent, name, &str);

  if (rc == -ENOENT)
    return -EPERM;
  if (rc == 0)
    rc = nf_tree_dir (tree, parent, &dir);
  if (rc != 0)
    return rc;
  nf_tree_changing (tree);
  rc = unplace_in (tree, dir, &str);
  nf_tree_changed (tree);
  nf_tree_dir_put (tree, dir);
  return rc;
}

/* Exchange. */

typedef struct
{
  NfFid parent;
  NfSlice name;
  NfTreeName str;
  NfTreeDir *dir;
  NfObject object;
} Side;

static int
find_side (NfTree *tree, Side *side)
{
  NfTreeStat stat;
  int rc = nf_tree_name (side->parent, side->name, &side->str);

  if (rc == 0)
    rc = nf_tree_dir (tree, side->parent, &side->dir);
  if (rc == 0)
    rc = nf_tree_statx (tree, side->dir->fd, side->str.str, &stat);
  if (rc == 0 && !nf_index_find (tree->index, stat.ident, &side->object))
    rc = -ESTALE;
  return rc;
}

/* Where RENAME_EXCHANGE isn't known: A steps aside. */
static int
exchange_in_steps (NfTree *tree, const Side *a, const Side *b)
{
  int staging = nf_tree_place_fd (tree, NF_PLACE_STAGING);
  NfTreeName hex;
  int rc;

  nf_tree_fid_hex (a->object.fid, &hex);
  rc = nf_tree_rename_hidden (tree, a->dir->fd, a->str.str, staging, hex.str);
  if (rc != 0)
    return rc;
  if (renameat (b->dir->fd, b->str.str, a->dir->fd, a->str.str) == 0)
    return renameat (staging, hex.str, b->dir->fd, b->str.str) == 0 ? 0 : -errno;
  rc = -errno;
  (void)renameat (staging, hex.str, a->dir->fd, a->str.str); /* the first failure counts */
  return rc;
}

/* FROM's object has TO's name now. */
static int
follow_side (NfTree *tree, const Side *from, const Side *to)
{
  return nf_index_move_name (tree->index, from->object.fid, from->parent, from->name, to->parent,
                             to->name);
}

static int
exchange_sides (NfTree *tree, const Side *a, const Side *b)
{
  int rc = 0;

  if (renameat2 (a->dir->fd, a->str.str, b->dir->fd, b->str.str, RENAME_EXCHANGE) != 0)
    rc = -errno;
  if (rc == -EINVAL)
    rc = exchange_in_steps (tree, a, b);
  if (rc == 0)
    rc = nf_index_begin (tree->index);
  if (rc != 0)
    return rc;
  rc = follow_side (tree, a, b);
  if (rc == 0)
    rc = follow_side (tree, b, a);
  return nf_tree_end_transaction (tree, rc);
}

int
nf_tree_exchange (NfTree *tree, NfFid parent_a, NfSlice name_a, NfFid parent_b, NfSlice name_b)
{
  Side a = { .parent = parent_a, .name = name_a };
  Side b = { .parent = parent_b, .name = name_b };
  int rc = find_side (tree, &a);

  if (rc == 0)
    rc = find_side (tree, &b);
  if (rc == 0 && a.object.fid != b.object.fid)
    {
      nf_tree_changing (tree);
      rc = exchange_sides (tree, &a, &b);
      nf_tree_changed (tree);
    }
  nf_tree_dir_put (tree, a.dir);
  nf_tree_dir_put (tree, b.dir);
  return rc;
}

int
nf_tree_adopt (NfTree *tree, NfFid parent, NfSlice name, NfIdent ident, NfFid fid, guint32 mode)
{
  NfObject object = { 0 };
  NfTreeName str;
  int rc = nf_tree_name (parent, name, &str);

  if (rc == 0)
    rc = nf_index_begin (tree->index);
  if (rc != 0)
    return rc;
  (void)nf_index_get (tree->index, fid, &object); /* its suspicion stays */
  object.fid = fid;
  object.ident = ident;
  object.mode = mode & S_IFMT;
  object.place = NF_PLACE_NAMED;
  rc = nf_index_note_fid (tree->index, fid);
  if (rc == 0)
    rc = nf_index_put (tree->index, &object);
  if (rc == 0)
    rc = nf_index_add_name (tree->index, fid, parent, name);
  return nf_tree_end_transaction (tree, rc);
}
