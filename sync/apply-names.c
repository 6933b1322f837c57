// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/apply.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* NAMES: one or two names are something else. The ways that readers must see as one step (a rename, a rename over
 * something, an exchange) are recognized when the tree is as the primary's was before the op; anything else is put
 * right name by name. */

typedef struct
{
  NfShare *share;
  NfAtHand *hand;
  const NfRecord *record;
  guint flags;
  NfFid touched[4]; /* objects that had or have one of the names */
  guint n_touched;
  gint64 mtimes[2]; /* of the parents */
} Names;

static void
touch (Names *names, NfFid fid)
{
  if (fid == NF_FID_NONE)
    return;
  for (guint i = 0; i < names->n_touched; i++)
    if (names->touched[i] == fid)
      return;
  g_assert (names->n_touched < G_N_ELEMENTS (names->touched));
  names->touched[names->n_touched++] = fid;
}

/* What is at NAME: RET_FID (NF_FID_NONE: nothing). What the index doesn't know is put away: nobody but us writes
 * here. -ESTALE if the parent isn't here. */
static int
look (Names *names, const NfNameIs *name, NfFid *ret_fid)
{
  NfShare *share = names->share;
  g_autofree char *where = NULL;
  NfAttr attr;
  int err = nf_tree_lookup (share->tree, name->parent, name->name, &attr, NULL);

  if (err == -ENOENT)
    {
      *ret_fid = NF_FID_NONE;
      return 0;
    }
  if (err != 0)
    return err;
  *ret_fid = attr.fid;
  if (attr.fid != NF_FID_NONE)
    return 0;
  return nf_tree_quarantine (share->tree, name->parent, name->name, "unknown to the primary",
                             &where);
}

/* A regular file whose content is still at the primary. */
static int
make_room (NfShare *share, const NfAttr *attr)
{
  int fd = nf_apply_open (share, attr->fid);
  int err = 0;

  if (fd < 0)
    return fd;
  if (ftruncate (fd, (off_t)attr->size) != 0)
    err = -errno;
  if (err == 0)
    err = nf_tree_set_attr (share->tree, attr->fid, fd, NF_SET_MTIME, attr);
  (void)close (fd);
  return err != 0 ? err : nf_index_set_suspect (share->index, attr->fid, NF_SUSPECT_DATA, 0);
}

/* What the op makes, at its first name. */
static int
create (Names *names)
{
  const NfRecord *record = names->record;
  const NfNameIs *name = &record->names[0];
  NfTree *tree = names->share->tree;
  NfAttr attr = record->attr;
  NfTreeMade made;

  attr.fid = name->fid;
  if (S_ISREG (attr.mode) && attr.size > 0)
    {
      int err = nf_tree_stage (tree, &attr, record->target);
      if (err == 0)
        err = make_room (names->share, &attr);
      return err != 0 ? err : nf_apply_place (names->share, attr.fid, name->parent, name->name);
    }
  int err = nf_tree_create (tree, &attr, record->target, name->parent, name->name, &made);
  if (err == 0 && made.fd >= 0)
    nf_at_hand_take (names->hand, attr.fid, made.ident, made.fd);
  return err;
}

/* An object that was somewhere this site hasn't seen yet. */
static int
stage_placeholder (Names *names, const NfNameIs *name)
{
  NfShare *share = names->share;
  NfAttr attr = { .fid = name->fid,
                  .mode = name->mode & S_IFMT,
                  .nlink = 1,
                  .atime = names->record->time,
                  .mtime = names->record->time };
  guint32 suspect = NF_SUSPECT_ATTR;

  if (S_ISDIR (name->mode))
    {
      attr.mode |= 0700;
      suspect |= NF_SUSPECT_NAMES | NF_SUSPECT_TREE;
    }
  else if (S_ISREG (name->mode))
    {
      attr.mode |= 0600;
      suspect |= NF_SUSPECT_DATA;
    }
  else /* a symlink or the like is only what it was made as: the listing of the parent makes it */
    return nf_index_set_suspect (share->index, name->parent, NF_SUSPECT_NAMES, 0);
  int err = nf_tree_stage (share->tree, &attr, NF_SLICE_NONE);
  return err != 0 ? err : nf_index_set_suspect (share->index, name->fid, suspect, 0);
}

int
nf_apply_confirm (NfShare *share, NfFid fid, NfFid parent, NfSlice name)
{
  NfObject object;

  if (!nf_index_get (share->index, fid, &object)
      || (object.place == NF_PLACE_NAMED && nf_index_has_name (share->index, fid, parent, name)))
    return 0;
  /* Perhaps it is in limbo, since a name went that was the only one known. */
  return nf_tree_place (share->tree, fid, parent, name, NULL);
}

int
nf_apply_place (NfShare *share, NfFid fid, NfFid parent, NfSlice name)
{
  char old_name[NF_NAME_LEN_MAX + 1];
  NfFid old = NF_FID_NONE;
  NfObject object;
  NfAttr attr;

  if (!nf_index_get (share->index, fid, &object) || !S_ISDIR (object.mode)
      || !nf_index_first_name (share->index, fid, &old, old_name) || old == parent
      || nf_tree_stat (share->tree, old, &attr) != 0)
    old = NF_FID_NONE;
  int err = nf_tree_place (share->tree, fid, parent, name, NULL);
  if (err == 0 && old != NF_FID_NONE)
    err = nf_tree_set_attr (share->tree, old, -1, NF_SET_MTIME, &attr);
  return err;
}

static int
set_name (Names *names, guint i)
{
  const NfNameIs *name = &names->record->names[i];
  NfFid is;
  int err = look (names, name, &is);

  if (err != 0)
    return err == -ESTALE ? 0 : err; /* no such parent here: its listing will tell */
  touch (names, is);
  if (is == name->fid)
    return is == NF_FID_NONE ? 0 : nf_apply_confirm (names->share, is, name->parent, name->name);
  if (name->fid == NF_FID_NONE)
    return nf_tree_unplace (names->share->tree, name->parent, name->name);
  gboolean here = nf_apply_here (names->share, name->fid);
  if (!here && names->record->creates && i == 0)
    {
      touch (names, name->fid);
      return create (names);
    }
  err = here ? 0 : stage_placeholder (names, name);
  if (err != 0 || !nf_apply_here (names->share, name->fid))
    return err;
  touch (names, name->fid);
  return nf_apply_place (names->share, name->fid, name->parent, name->name);
}

/* A rename, if the old name still holds the object and the new one doesn't yet. RET_DONE says whether it was. */
static int
try_rename (Names *names, const NfNameIs *from, const NfNameIs *to, gboolean *ret_done)
{
  NfNameRef old = { from->parent, from->name };
  NfFid at_from, at_to;

  *ret_done = FALSE;
  int err = look (names, from, &at_from);
  if (err == 0 && at_from == to->fid)
    err = look (names, to, &at_to);
  else
    return err == -ESTALE ? 0 : err;
  if (err != 0 || at_to == to->fid)
    return err == -ESTALE ? 0 : err;
  touch (names, at_from);
  touch (names, at_to);
  *ret_done = TRUE;
  return nf_tree_place (names->share->tree, to->fid, to->parent, to->name, &old);
}

static int
try_exchange (Names *names, const NfNameIs *a, const NfNameIs *b, gboolean *ret_done)
{
  NfFid at_a, at_b;

  *ret_done = FALSE;
  int err = look (names, a, &at_a);
  if (err == 0)
    err = look (names, b, &at_b);
  if (err != 0 || at_a != b->fid || at_b != a->fid || at_a == at_b)
    return err == -ESTALE ? 0 : err;
  touch (names, at_a);
  touch (names, at_b);
  *ret_done = TRUE;
  return nf_tree_exchange (names->share->tree, a->parent, a->name, b->parent, b->name);
}

static int
in_one_step (Names *names, gboolean *ret_done)
{
  const NfNameIs *name = names->record->names;

  *ret_done = FALSE;
  if (names->record->n_names != 2)
    return 0;
  if (name[0].fid != NF_FID_NONE && name[1].fid != NF_FID_NONE)
    return try_exchange (names, &name[0], &name[1], ret_done);
  if (name[0].fid == NF_FID_NONE && name[1].fid != NF_FID_NONE)
    return try_rename (names, &name[0], &name[1], ret_done);
  if (name[1].fid == NF_FID_NONE && name[0].fid != NF_FID_NONE)
    return try_rename (names, &name[1], &name[0], ret_done);
  return 0;
}

static int
set_names (Names *names)
{
  gboolean done;
  int err = in_one_step (names, &done);

  /* Names that become something first, so that nothing is without a name in between. */
  for (guint i = 0; err == 0 && !done && i < names->record->n_names; i++)
    if (names->record->names[i].fid != NF_FID_NONE)
      err = set_name (names, i);
  for (guint i = 0; err == 0 && !done && i < names->record->n_names; i++)
    if (names->record->names[i].fid == NF_FID_NONE)
      err = set_name (names, i);
  return err;
}

/* What the parents' mtimes are to be afterwards: the op's time, or, where newer is known, what they are now. */
static void
find_mtimes (Names *names)
{
  static const guint keep[] = { NF_APPLY_KEEP_PARENT_0, NF_APPLY_KEEP_PARENT_1 };
  NfAttr attr;

  for (guint i = 0; i < names->record->n_names; i++)
    {
      names->mtimes[i] = names->record->time;
      if ((names->flags & keep[i])
          && nf_tree_stat (names->share->tree, names->record->names[i].parent, &attr) == 0)
        names->mtimes[i] = attr.mtime;
    }
}

static int
set_mtimes (Names *names)
{
  for (guint i = 0; i < names->record->n_names; i++)
    {
      NfFid parent = names->record->names[i].parent;
      NfAttr attr = { .mtime = names->mtimes[i] };
      gboolean again = i > 0 && names->record->names[0].parent == parent;
      if (again || !nf_apply_here (names->share, parent))
        continue;
      int err = nf_tree_set_attr (names->share->tree, parent, -1, NF_SET_MTIME, &attr);
      if (err != 0)
        return err;
    }
  return 0;
}

static void
find_lost (Names *names, GArray *lost)
{
  for (guint i = 0; i < names->n_touched; i++)
    {
      NfObject object;
      if (nf_index_get (names->share->index, names->touched[i], &object)
          && object.place == NF_PLACE_LIMBO)
        g_array_append_val (lost, names->touched[i]);
    }
}

static void
invalidate (Names *names, const GArray *lost, guint first_lost)
{
  if (names->flags & NF_APPLY_OWN)
    return;
  for (guint i = 0; i < names->record->n_names; i++)
    nf_apply_invalidate_name (names->share, names->record->names[i].parent,
                              names->record->names[i].name);
  for (guint i = 0; i < names->n_touched; i++)
    nf_apply_invalidate (names->share, NF_INVAL_ATTR, names->touched[i], 0, 0);
  for (guint i = first_lost; i < lost->len; i++)
    nf_apply_invalidate (names->share, NF_INVAL_GONE, g_array_index (lost, NfFid, i), 0, 0);
}

int
nf_apply_names (NfShare *share, NfAtHand *hand, const NfRecord *record, guint flags, GArray *lost)
{
  Names names = { .share = share, .hand = hand, .record = record, .flags = flags };
  guint first_lost = lost->len;
  int err = nf_index_begin (share->index);

  if (err != 0)
    return err;
  find_mtimes (&names);
  err = set_names (&names);
  if (err == 0)
    err = set_mtimes (&names);
  find_lost (&names, lost);
  /* What was done of it is on disk, even if something failed after it. */
  int committed = nf_index_commit (share->index);
  if (err == 0)
    err = committed;
  invalidate (&names, lost, first_lost);
  return err;
}
