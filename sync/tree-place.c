// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/tree-private.h"

#include <string.h>

#include <glib/gstdio.h>

/* Names. What a reader must never see is a name missing that was there before and is there afterwards, so what is
 * displaced is taken care of first (a second link in limbo), and then the new object is renamed over it. Only where
 * rename(2) can't do that, with a directory that isn't empty or another type, the two are exchanged.
 *
 * Disk first, then the index in one transaction. What a crash in between leaves:
 *
 *   a second link in limbo, the name still the old object's     swept; the index says NAMED, so the object stays
 *   the name is the new object's, the index says otherwise      the redo finds it there and lets the index follow
 *
 * Everything here may be done again, then: what is already as it should be is no error. */

/* Others may work in the same directory behind the proxy's back. */
#define PLACE_TRIES 16

/* What a displaced object's future is. */
typedef enum
{
  FATE_NONE,      /* nothing was there */
  FATE_OTHERWISE, /* it has other names */
  FATE_LIMBO,
  FATE_DESTROYED, /* an empty directory, gone with the rename over it */
} Fate;

typedef struct
{
  NfTree *tree;
  NfObject object;

  NfFid to_parent;
  NfSlice to_name;
  NfTreeDir *to_dir;
  NfTreeName to;

  gboolean moves;    /* else a further link is made */
  NfFid from_parent; /* a named source, if it moves; NF_FID_NONE if it is in a hidden directory */
  NfTreeDir *from_dir;
  NfTreeName from;

  Fate fate;
  NfObject displaced;
} Placing;

static int
follow_displaced (const Placing *placing)
{
  NfTree *tree = placing->tree;
  NfFid fid = placing->displaced.fid;

  switch (placing->fate)
    {
    case FATE_NONE:
      return 0;
    case FATE_DESTROYED:
      nf_tree_forget (tree, fid);
      return nf_index_remove (tree->index, fid);
    case FATE_LIMBO:
      if (S_ISDIR (placing->displaced.mode))
        {
          int rc = nf_tree_drop_all_names (tree, fid);

          return rc == 0 ? nf_tree_put_place (tree, fid, NF_PLACE_LIMBO) : rc;
        }
      G_GNUC_FALLTHROUGH;
    case FATE_OTHERWISE:
      return nf_tree_lose_name (tree, fid, placing->to_parent, placing->to_name, NF_PLACE_LIMBO);
    }
  return 0;
}

static int
follow_locked (const Placing *placing)
{
  NfTree *tree = placing->tree;
  NfFid fid = placing->object.fid;
  int rc = follow_displaced (placing);

  if (rc == 0)
    rc = nf_tree_put_place (tree, fid, NF_PLACE_NAMED);
  if (rc == 0 && S_ISDIR (placing->object.mode))
    rc = nf_tree_drop_all_names (tree, fid);
  else if (rc == 0 && placing->moves && placing->from_parent != NF_FID_NONE)
    return nf_index_move_name (tree->index, fid, placing->from_parent,
                               nf_slice_str (placing->from.str), placing->to_parent,
                               placing->to_name);
  if (rc == 0)
    rc = nf_index_add_name (tree->index, fid, placing->to_parent, placing->to_name);
  return rc;
}

static int
follow (const Placing *placing)
{
  int rc = nf_index_begin (placing->tree->index);

  if (rc != 0)
    return rc;
  return nf_tree_end_transaction (placing->tree, follow_locked (placing));
}

/* Getting the object to its name. */

/* The name is free. */
static int
put_at_free_name (const Placing *placing)
{
  int rc;

  if (!placing->moves)
    return linkat (placing->from_dir->fd, placing->from.str, placing->to_dir->fd, placing->to.str,
                   0)
                   == 0
               ? 0
               : -errno;
  rc = renameat2 (placing->from_dir->fd, placing->from.str, placing->to_dir->fd, placing->to.str,
                  RENAME_NOREPLACE)
               == 0
           ? 0
           : -errno;
  /* Some filesystems don't know the flag. The name was free a moment ago. */
  if (rc == -EINVAL
      && renameat (placing->from_dir->fd, placing->from.str, placing->to_dir->fd, placing->to.str)
             == 0)
    rc = 0;
  return rc;
}

/* A name in staging for the object on its way, so that rename(2) can be used for a link and for an exchange. */
static void
way_name (const Placing *placing, NfTreeName *ret_name)
{
  nf_tree_fid_hex (placing->object.fid, ret_name);
  memcpy (ret_name->str + NF_FID_HEX_LEN, ".way", sizeof ".way");
}

static int
put_over (const Placing *placing)
{
  int staging = nf_tree_place_fd (placing->tree, NF_PLACE_STAGING);
  NfTreeName way;
  int rc;

  if (placing->moves)
    return renameat (placing->from_dir->fd, placing->from.str, placing->to_dir->fd, placing->to.str)
                   == 0
               ? 0
               : -errno;
  way_name (placing, &way);
  rc = nf_tree_link_hidden (placing->tree, placing->from_dir->fd, placing->from.str, staging,
                            way.str);
  if (rc == 0 && renameat (staging, way.str, placing->to_dir->fd, placing->to.str) != 0)
    {
      rc = -errno;
      (void)unlinkat (staging, way.str, 0); /* else the next sweep does it */
    }
  return rc;
}

/* Takes what was displaced, now at NAME in staging, where it belongs. */
static int
put_displaced_away (const Placing *placing, const char *name)
{
  NfTree *tree = placing->tree;
  NfTreeName hex;

  if (placing->fate == FATE_OTHERWISE)
    return nf_tree_destroy (tree, nf_tree_place_fd (tree, NF_PLACE_STAGING), name);
  nf_tree_fid_hex (placing->displaced.fid, &hex);
  return nf_tree_rename_hidden (tree, nf_tree_place_fd (tree, NF_PLACE_STAGING), name,
                                nf_tree_place_fd (tree, NF_PLACE_LIMBO), hex.str);
}

/* Where rename(2) can't replace: the object goes to staging, changes places with the other there, and that goes to
 * limbo. */
static int
put_by_exchange (const Placing *placing)
{
  NfTree *tree = placing->tree;
  int staging = nf_tree_place_fd (tree, NF_PLACE_STAGING);
  int to_fd = placing->to_dir->fd;
  NfTreeName way;
  int rc;

  way_name (placing, &way);
  if (placing->moves)
    rc = nf_tree_rename_hidden (tree, placing->from_dir->fd, placing->from.str, staging, way.str);
  else
    rc = nf_tree_link_hidden (tree, placing->from_dir->fd, placing->from.str, staging, way.str);
  if (rc != 0)
    return rc;
  if (renameat2 (staging, way.str, to_fd, placing->to.str, RENAME_EXCHANGE) == 0)
    return put_displaced_away (placing, way.str);
  rc = -errno;
  /* Back with it: a directory can't go below itself, say. */
  if (placing->moves)
    (void)renameat2 (staging, way.str, placing->from_dir->fd, placing->from.str,
                     RENAME_NOREPLACE); /* the first failure is the one to report */
  else
    (void)unlinkat (staging, way.str, 0);
  return rc;
}

/* Another object, known to the index, has the name. */
static int
displace (Placing *placing, guint32 type_there)
{
  NfTree *tree = placing->tree;
  gboolean dirs = type_there == S_IFDIR || S_ISDIR (placing->object.mode);
  NfTreeName hex;
  int rc;

  placing->fate = FATE_LIMBO;
  if (type_there != S_IFDIR
      && nf_tree_other_names (tree, &placing->displaced, placing->to_parent, placing->to_name) > 0)
    placing->fate = FATE_OTHERWISE;
  if (dirs && type_there == S_IFDIR && S_ISDIR (placing->object.mode))
    {
      rc = put_over (placing);
      if (rc == 0)
        placing->fate = FATE_DESTROYED;
      return rc == -ENOTEMPTY || rc == -EEXIST ? put_by_exchange (placing) : rc;
    }
  if (dirs)
    return put_by_exchange (placing);
  if (placing->fate == FATE_LIMBO)
    {
      nf_tree_fid_hex (placing->displaced.fid, &hex);
      rc = nf_tree_link_hidden (tree, placing->to_dir->fd, placing->to.str,
                                nf_tree_place_fd (tree, NF_PLACE_LIMBO), hex.str);
      if (rc != 0) /* no hard links here, or too many of them */
        return put_by_exchange (placing);
    }
  return put_over (placing);
}

/* The object already has the name. */
static int
clear_source (const Placing *placing)
{
  NfTreeStat stat;
  gboolean same
      = placing->from_dir == placing->to_dir && strcmp (placing->from.str, placing->to.str) == 0;

  if (!placing->moves || same)
    return 0;
  if (nf_tree_statx (placing->tree, placing->from_dir->fd, placing->from.str, &stat) != 0
      || !nf_tree_ident_equal (stat.ident, placing->object.ident) || stat.type == S_IFDIR)
    return 0;
  return unlinkat (placing->from_dir->fd, placing->from.str, 0) == 0 ? 0 : -errno;
}

static gboolean
is_at (const Placing *placing, NfTreeDir *dir, const NfTreeName *name, int *ret_rc)
{
  NfTreeStat stat;
  int rc = nf_tree_statx (placing->tree, dir->fd, name->str, &stat);

  if (rc == 0 && nf_tree_ident_equal (stat.ident, placing->object.ident))
    return TRUE;
  *ret_rc = rc == 0 || rc == -ENOENT ? -ESTALE : rc;
  return FALSE;
}

/* The source is what the index says; or it is still in staging, if a crash came between the two steps of
 * nf_tree_create(). */
static int
check_source (Placing *placing)
{
  NfTreeDir *staging = &placing->tree->place_dirs[NF_PLACE_STAGING];
  NfTreeName hex;
  int rc, ignored;

  if (is_at (placing, placing->from_dir, &placing->from, &rc))
    return 0;
  nf_tree_fid_hex (placing->object.fid, &hex);
  if (rc != -ESTALE || !is_at (placing, staging, &hex, &ignored))
    return rc;
  nf_tree_dir_put (placing->tree, placing->from_dir);
  placing->from_dir = staging;
  placing->from = hex;
  placing->from_parent = NF_FID_NONE;
  placing->moves = TRUE;
  return 0;
}

static int
put_once (Placing *placing)
{
  NfTree *tree = placing->tree;
  NfTreeStat there;
  int rc = nf_tree_statx (tree, placing->to_dir->fd, placing->to.str, &there);

  placing->fate = FATE_NONE;
  if (rc == 0 && nf_tree_ident_equal (there.ident, placing->object.ident))
    return clear_source (placing);
  if (rc != 0 && rc != -ENOENT)
    return rc;
  if (rc == 0)
    {
      rc = check_source (placing);
      if (rc != 0)
        return rc;
      if (nf_index_find (tree->index, there.ident, &placing->displaced))
        return displace (placing, there.type);
      rc = nf_tree_quarantine_at (tree, placing->to_dir, &placing->to,
                                  "It was in the way of an object of the share, and unknown.",
                                  NULL);
      return rc == 0 ? -EEXIST : rc;
    }
  rc = check_source (placing);
  return rc == 0 ? put_at_free_name (placing) : rc;
}

static int
put (Placing *placing)
{
  int rc = -EEXIST;

  nf_tree_changing (placing->tree);
  for (guint i = 0; rc == -EEXIST && i < PLACE_TRIES; i++)
    rc = put_once (placing);
  if (rc == 0)
    rc = follow (placing);
  nf_tree_changed (placing->tree);
  return rc;
}

/* The name that it is to move from, if it has that, according to the index or (after a crash) the disk. */
static int
find_old_name (Placing *placing, const NfNameRef *old, gboolean *ret_found)
{
  int rc = nf_tree_name (old->parent, old->name, &placing->from);
  int ignored;

  if (rc == 0)
    rc = nf_tree_dir (placing->tree, old->parent, &placing->from_dir);
  if (rc == -ESTALE) /* the directory isn't here, so nothing is in it */
    rc = 0;
  if (rc != 0)
    return rc;
  *ret_found
      = placing->from_dir != NULL
        && (nf_index_has_name (placing->tree->index, placing->object.fid, old->parent, old->name)
            || is_at (placing, placing->from_dir, &placing->from, &ignored));
  if (*ret_found)
    {
      placing->moves = TRUE;
      placing->from_parent = old->parent;
      return 0;
    }
  nf_tree_dir_put (placing->tree, g_steal_pointer (&placing->from_dir));
  return 0;
}

/* Where the object comes from: the hidden directory that it is in, the name given, or any name it has. */
static int
find_source (Placing *placing, const NfNameRef *move_from)
{
  NfTree *tree = placing->tree;
  const NfObject *object = &placing->object;
  gboolean found = FALSE;
  int rc;

  if (object->place == NF_PLACE_NAMED && move_from != NULL)
    {
      rc = find_old_name (placing, move_from, &found);
      if (rc != 0 || found)
        return rc;
    }
  placing->moves = object->place != NF_PLACE_NAMED || S_ISDIR (object->mode);
  if (object->place == NF_PLACE_NAMED
      && !nf_index_first_name (tree->index, object->fid, &placing->from_parent, placing->from.str))
    return -ESTALE;
  return nf_tree_locate (tree, object, &placing->from_dir, &placing->from);
}

static int
find_target (Placing *placing, NfFid parent, NfSlice name)
{
  int rc = nf_tree_name (parent, name, &placing->to);

  if (rc == -ENOENT)
    return -EPERM; /* the hidden directory's name isn't free */
  if (rc != 0)
    return rc;
  placing->to_parent = parent;
  placing->to_name = name;
  return nf_tree_dir (placing->tree, parent, &placing->to_dir);
}

int
nf_tree_place (NfTree *tree, NfFid fid, NfFid parent, NfSlice name, const NfNameRef *move_from)
{
  Placing placing = { .tree = tree };
  int rc;

  if (fid == NF_FID_ROOT)
    return -EBUSY;
  if (!nf_index_get (tree->index, fid, &placing.object))
    return -ESTALE;
  rc = find_target (&placing, parent, name);
  if (rc == 0)
    rc = find_source (&placing, move_from);
  if (rc == 0)
    rc = put (&placing);
  nf_tree_dir_put (tree, placing.from_dir);
  nf_tree_dir_put (tree, placing.to_dir);
  return rc;
}

/* Enters STAGED in the index with its name, or takes it out again. */
static int
enter_named (const Placing *placing, const NfTreeStaged *staged)
{
  NfTree *tree = placing->tree;
  NfTreeStaged named = *staged;
  int rc = nf_index_begin (tree->index);

  if (rc != 0)
    return rc;
  named.object.place = NF_PLACE_NAMED;
  rc = nf_tree_enter_staged (tree, &named);
  if (rc == 0)
    rc = nf_index_add_name (tree->index, named.object.fid, placing->to_parent, placing->to_name);
  return nf_tree_end_transaction (tree, rc);
}

static int
enter_unnamed (NfTree *tree, const NfTreeStaged *staged)
{
  int rc = nf_index_begin (tree->index);

  return rc != 0 ? rc : nf_tree_end_transaction (tree, nf_tree_enter_staged (tree, staged));
}

/* The name is free, as it mostly is: here the index goes first, so that one transaction is enough and the object can
 * be told by its identity after a crash. A reader that comes in between waits. */
static int
create_at_free_name (const Placing *placing, const NfTreeStaged *staged)
{
  NfTree *tree = placing->tree;
  int rc, undone;

  nf_tree_changing (tree);
  rc = enter_named (placing, staged);
  if (rc == 0)
    {
      rc = put_at_free_name (placing);
      undone = rc == 0 ? 0 : enter_unnamed (tree, staged);
      if (undone != 0)
        rc = undone;
    }
  nf_tree_changed (tree);
  return rc;
}

static int
create (Placing *placing, const NfTreeStaged *staged)
{
  NfTreeStat there;
  int rc = nf_tree_statx (placing->tree, placing->to_dir->fd, placing->to.str, &there);

  if (rc == -ENOENT)
    rc = create_at_free_name (placing, staged);
  else if (rc == 0)
    {
      rc = enter_unnamed (placing->tree, staged);
      if (rc == 0)
        rc = -EEXIST;
    }
  return rc == -EEXIST ? put (placing) : rc;
}

int
nf_tree_create (NfTree *tree, const NfAttr *attr, NfSlice target, NfFid parent, NfSlice name,
                NfTreeMade *ret_made)
{
  Placing placing = { .tree = tree, .moves = TRUE };
  NfTreeStaged staged;
  int rc = nf_tree_may_stage (tree, attr->fid);

  if (rc == 0)
    rc = find_target (&placing, parent, name);
  if (rc == 0)
    rc = nf_tree_stage_on_disk (tree, attr, target, &staged);
  if (rc == 0)
    {
      placing.object = staged.object;
      placing.from_dir = &tree->place_dirs[NF_PLACE_STAGING];
      nf_tree_fid_hex (attr->fid, &placing.from);
      rc = create (&placing, &staged);
      if (rc != 0)
        (void)nf_tree_bury (tree, attr->fid); /* else the next sweep does it */
      else if (ret_made != NULL)
        *ret_made = (NfTreeMade){ staged.object.ident, g_steal_fd (&staged.fd) };
      if (staged.fd >= 0)
        close (staged.fd);
    }
  nf_tree_dir_put (tree, placing.to_dir);
  return rc;
}
