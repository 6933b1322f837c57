// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/reconcile.h"

#include "sync/restore.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/* A listing against the tree, entry by entry as the frames come, so that a directory of any size needs no more memory
 * than the keys of its names.
 *
 * What the listing says is as of its seq, which may be ahead of the position. The stamps of the directory (names) and
 * of each object (attributes, content) say so to the ops that are still to come. */

/* Entries between two commits: readers of the index wait so long at most. */
#define BATCH 64

typedef struct
{
  NfReconcile *reconcile;
  const NfDirEntry *entry;
  gboolean fresh;   /* made just now */
  gboolean placed;  /* has got this name just now */
  gboolean found;   /* was here under no fid */
  gboolean changed; /* attributes or content */
} Item;

void
nf_reconcile_init (NfReconcile *reconcile, NfReplica *replica, NfFid fid, gboolean tree)
{
  memset (reconcile, 0, sizeof *reconcile);
  reconcile->replica = replica;
  reconcile->fid = fid;
  reconcile->tree = tree;
  reconcile->seen = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
}

void
nf_reconcile_clear (NfReconcile *reconcile)
{
  g_clear_pointer (&reconcile->seen, g_hash_table_unref);
}

static void
note_lost (NfReplica *replica, NfFid fid)
{
  NfObject object;

  if (!nf_index_get (replica->share->index, fid, &object) || object.place != NF_PLACE_LIMBO)
    return;
  g_array_append_val (replica->lost, fid);
  nf_apply_invalidate (replica->share, NF_INVAL_GONE, fid, 0, 0);
}

static int
put_away (NfReconcile *reconcile, NfSlice name)
{
  NfShare *share = reconcile->replica->share;
  g_autofree char *where = NULL;
  int err
      = nf_tree_quarantine (share->tree, reconcile->fid, name, "not known to the primary", &where);

  if (err == 0)
    g_warning ("share %s: something that the primary doesn't know was put into quarantine: %s",
               share->conf.name, where);
  return err;
}

static gboolean
collect_parent (NfFid parent, NfSlice name, gpointer data)
{
  GArray *parents = data;

  (void)name;
  g_array_append_val (parents, parent);
  return TRUE;
}

/* A crash between a call and its entry in the index leaves this, or somebody who has been at the directory himself. */
gboolean
nf_reconcile_forget_lost (NfReplica *replica, NfFid fid)
{
  NfShare *share = replica->share;
  g_autoptr (GArray) parents = g_array_new (FALSE, FALSE, sizeof (NfFid));
  NfAttr attr;

  if (fid == NF_FID_ROOT || !nf_apply_here (share, fid)
      || nf_tree_stat (share->tree, fid, &attr) != -ESTALE || nf_index_begin (share->index) != 0)
    return FALSE;
  nf_index_names (share->index, fid, collect_parent, parents);
  int err = nf_index_remove (share->index, fid);
  nf_tree_forget (share->tree, fid); /* a directory that was removed may be open still */
  for (guint i = 0; err == 0 && i < parents->len; i++)
    {
      err = nf_index_set_suspect (share->index, g_array_index (parents, NfFid, i), NF_SUSPECT_NAMES,
                                  0);
      if (err == -ENOENT) /* that has been forgotten before */
        err = 0;
    }
  if (err != 0)
    nf_index_abort (share->index);
  else
    err = nf_index_commit (share->index);
  for (guint i = 0; err == 0 && i < parents->len; i++)
    nf_heal_add (replica->heal, g_array_index (parents, NfFid, i));
  return err == 0;
}

typedef struct
{
  NfFid parent;
  GBytes *name;
} OldName;

static void
old_name_clear (gpointer data)
{
  g_bytes_unref (((OldName *)data)->name);
}

static gboolean
collect_name (NfFid parent, NfSlice name, gpointer data)
{
  OldName old = { parent, g_bytes_new (name.data, name.len) };

  g_array_append_val ((GArray *)data, old);
  return TRUE;
}

/* An object with several names may have lost those that the index names first. RET_LEFT: how many it still has. */
static int
forget_lost_names (NfReplica *replica, NfFid fid, guint *ret_left)
{
  NfShare *share = replica->share;
  g_autoptr (GArray) old = g_array_new (FALSE, FALSE, sizeof (OldName));
  int err = nf_index_begin (share->index);

  g_array_set_clear_func (old, old_name_clear);
  *ret_left = 0;
  if (err != 0)
    return err;
  nf_index_names (share->index, fid, collect_name, old);
  for (guint i = 0; err == 0 && i < old->len; i++)
    {
      const OldName *at = &g_array_index (old, OldName, i);
      gsize len;
      const guint8 *data = g_bytes_get_data (at->name, &len);
      NfAttr attr;
      if (nf_tree_lookup (share->tree, at->parent, nf_slice (data, len), &attr, NULL) == 0
          && attr.fid == fid)
        (*ret_left)++;
      else
        err = nf_index_drop_name (share->index, fid, at->parent, nf_slice (data, len), NULL);
    }
  if (err == 0 && *ret_left == 0)
    {
      err = nf_index_remove (share->index, fid);
      nf_tree_forget (share->tree, fid);
    }
  if (err == 0)
    return nf_index_commit (share->index);
  nf_index_abort (share->index);
  return err;
}

/* ---- objects ---- */

static int
stage_content (Item *item)
{
  NfReplica *replica = item->reconcile->replica;
  const NfDirEntry *entry = item->entry;

  if (!S_ISREG (entry->attr.mode) || entry->attr.size == 0)
    return 0;
  if (!entry->has_data)
    return nf_reconcile_size (replica, entry->attr.fid, entry->attr.size);
  return nf_reconcile_content (replica, entry->attr.fid, entry->data, &item->changed);
}

static int
make (Item *item)
{
  NfReplica *replica = item->reconcile->replica;
  NfTree *tree = replica->share->tree;
  const NfDirEntry *entry = item->entry;
  int err = nf_tree_stage (tree, &entry->attr, entry->target);

  item->fresh = item->placed = TRUE;
  if (err == 0)
    err = stage_content (item);
  if (err == 0 && entry->xattrs.len > 0)
    err = nf_reconcile_xattrs (replica, entry->attr.fid, entry->xattrs, &item->changed);
  if (err == 0)
    err = nf_reconcile_attr (replica, entry->attr.fid, entry, &item->changed);
  return err;
}

/* A symlink is what it was made as, and an object that came out as another type than it has is no use at all. */
static gboolean
is_usable (NfReplica *replica, const NfDirEntry *entry, guint32 mode)
{
  g_autofree char *target = NULL;

  if ((mode ^ entry->attr.mode) & S_IFMT)
    return FALSE;
  if (!S_ISLNK (mode))
    return TRUE;
  target = g_malloc (NF_PATH_LEN_MAX + 1);
  int len = nf_tree_readlink (replica->share->tree, entry->attr.fid, target, NF_PATH_LEN_MAX + 1);
  return len >= 0 && nf_slice_equal (nf_slice (target, (gsize)len), entry->target);
}

/* The fid is bound to an object that can't be made into what it should be. */
static int
discard (NfReplica *replica, NfFid fid, NfFid parent, NfSlice name)
{
  int err = nf_tree_unplace (replica->share->tree, parent, name);

  return err != 0 ? err : nf_tree_bury (replica->share->tree, fid);
}

/* Something is at the name that the index doesn't know: perhaps it is the object, from before the index was lost. */
static int
take_found (Item *item, const NfAttr *attr, NfIdent ident, gboolean *ret_taken)
{
  NfReconcile *reconcile = item->reconcile;
  const NfDirEntry *entry = item->entry;
  NfShare *share = reconcile->replica->share;
  gboolean plain = S_ISREG (attr->mode) || S_ISDIR (attr->mode);

  *ret_taken = plain && !((attr->mode ^ entry->attr.mode) & S_IFMT)
               && !nf_apply_here (share, entry->attr.fid);
  if (!*ret_taken)
    return put_away (reconcile, entry->name);
  item->found = TRUE;
  return nf_tree_adopt (share->tree, reconcile->fid, entry->name, ident, entry->attr.fid,
                        entry->attr.mode & S_IFMT);
}

/* The object isn't where the index has it. */
static int
place_what_is_left (Item *item)
{
  NfReplica *replica = item->reconcile->replica;
  NfFid fid = item->entry->attr.fid;
  guint left = 0;
  int err = forget_lost_names (replica, fid, &left);

  if (err == 0 && left == 0)
    err = make (item);
  return err != 0 ? err
                  : nf_apply_place (replica->share, fid, item->reconcile->fid, item->entry->name);
}

/* FID is at the name. Of a file with several the index may have some that it hasn't any more, and look for it there. */
static int
confirm (NfReplica *replica, NfFid fid, NfFid parent, NfSlice name)
{
  NfShare *share = replica->share;
  NfObject object;
  guint left;
  NfAttr attr;
  int err = nf_apply_confirm (share, fid, parent, name);

  if (err != 0 || !nf_index_get (share->index, fid, &object) || object.n_names < 2
      || nf_tree_stat (share->tree, fid, &attr) != -ESTALE)
    return err;
  return forget_lost_names (replica, fid, &left);
}

/* Makes the entry's name be the entry's object. */
static int
place (Item *item)
{
  NfReconcile *reconcile = item->reconcile;
  NfReplica *replica = reconcile->replica;
  NfTree *tree = replica->share->tree;
  const NfDirEntry *entry = item->entry;
  NfFid fid = entry->attr.fid;
  gboolean taken = FALSE;
  NfIdent ident;
  NfAttr here;
  NfObject object;
  int err = nf_tree_lookup (tree, reconcile->fid, entry->name, &here, &ident);

  if (err != 0 && err != -ENOENT)
    return err;
  NfFid other = err == 0 ? here.fid : NF_FID_NONE;
  if (other != fid)
    (void)nf_reconcile_forget_lost (replica, fid);
  if (err == 0 && other == NF_FID_NONE)
    err = take_found (item, &here, ident, &taken);
  else if (err == 0 && other == fid)
    {
      taken = is_usable (replica, entry, here.mode);
      err = taken ? confirm (replica, fid, reconcile->fid, entry->name)
                  : discard (replica, fid, reconcile->fid, entry->name);
    }
  else
    err = 0;
  if (err != 0 || taken)
    return err;
  item->placed = TRUE;
  if (!nf_index_get (replica->share->index, fid, &object) || object.ident.ino == 0)
    err = make (item);
  if (err == 0)
    err = nf_apply_place (replica->share, fid, reconcile->fid, entry->name);
  if (err == -ESTALE && !item->fresh)
    err = place_what_is_left (item);
  if (other != NF_FID_NONE && other != fid)
    note_lost (replica, other);
  return err;
}

/* Ops before the listing's seq, which are still to come, may be what gave the file its content. */
static gboolean
looks_the_same (NfReplica *replica, const NfDirEntry *entry)
{
  NfAttr here;

  return nf_tree_stat (replica->share->tree, entry->attr.fid, &here) == 0
         && here.size == entry->attr.size && here.mtime == entry->attr.mtime;
}

/* Content of a file that was here before. */
static int
compare_content (Item *item, const NfObject *object)
{
  NfReplica *replica = item->reconcile->replica;
  const NfDirEntry *entry = item->entry;
  NfFid fid = entry->attr.fid;
  NfStamp *stamp = nf_replica_stamp_edit (replica, fid);

  /* Content under way will be the newer; but until then no name may show it that it hasn't got in order. */
  if (nf_transfers_find (replica->transfers, fid))
    return item->placed || item->reconcile->tree ? nf_dirty_whole (replica->share, fid) : 0;
  if (!item->reconcile->tree && !item->found && !(object->suspect & NF_SUSPECT_DATA)
      && (!item->placed || looks_the_same (replica, entry)))
    return 0;
  if (!item->found && !(object->suspect & NF_SUSPECT_DATA)
      && nf_restore_trusts (replica->share->restore, fid, &entry->attr))
    return 0;
  stamp->data = MAX (stamp->data, item->reconcile->seq);
  if (entry->has_data || entry->attr.size == 0)
    return nf_reconcile_content (replica, fid, entry->data, &item->changed);
  return nf_reconcile_size (replica, fid, entry->attr.size);
}

/* Ops newer than the listing have been dealt with: it doesn't tell how the object is now. */
static int
suspect_newer (Item *item)
{
  NfReplica *replica = item->reconcile->replica;
  NfFid fid = item->entry->attr.fid;
  int err = nf_index_set_suspect (replica->share->index, fid, NF_SUSPECT_ATTR, 0);

  if (err == 0 && S_ISREG (item->entry->attr.mode))
    err = nf_dirty_whole (replica->share, fid);
  return err;
}

/* Is the object itself to be compared, and not only its name? */
static gboolean
is_doubtful (Item *item)
{
  NfObject object;

  return item->reconcile->tree || item->found
         || (nf_index_get (item->reconcile->replica->share->index, item->entry->attr.fid, &object)
             && (object.suspect & (NF_SUSPECT_ATTR | NF_SUSPECT_DATA)));
}

/* The size comes with the content that is fetched. Until then the attributes aren't served; when it is there, they are
 * compared again. */
static gboolean
size_is_to_come (NfReplica *replica, const NfAttr *attr)
{
  NfObject object;
  NfAttr here;

  if (!S_ISREG (attr->mode)
      || (!nf_transfers_find (replica->transfers, attr->fid)
          && (!nf_index_get (replica->share->index, attr->fid, &object)
              || !(object.suspect & NF_SUSPECT_DATA))))
    return FALSE; /* most often, and nothing is asked of the disk */
  return nf_tree_stat (replica->share->tree, attr->fid, &here) == 0 && here.size != attr->size;
}

static int
compare (Item *item)
{
  NfReconcile *reconcile = item->reconcile;
  NfReplica *replica = reconcile->replica;
  const NfDirEntry *entry = item->entry;
  NfFid fid = entry->attr.fid;
  NfObject object;
  int err = 0;

  if (!nf_index_get (replica->share->index, fid, &object))
    return -ESTALE;
  /* What gets its name here may be half of what an op was to make. */
  gboolean all
      = reconcile->tree || item->found || item->placed || (object.suspect & NF_SUSPECT_ATTR);
  if (S_ISREG (entry->attr.mode))
    err = compare_content (item, &object);
  if (err == 0 && all)
    err = nf_reconcile_xattrs (replica, fid, entry->xattrs, &item->changed);
  if (err == 0 && all)
    err = nf_reconcile_attr (replica, fid, entry, &item->changed);
  if (err == 0 && all)
    {
      NfStamp *stamp = nf_replica_stamp_edit (replica, fid);
      stamp->attr = MAX (stamp->attr, reconcile->seq);
      if (!size_is_to_come (replica, &entry->attr))
        err = nf_index_set_suspect (replica->share->index, fid, 0, NF_SUSPECT_ATTR);
    }
  return err;
}

static int
settle_item (Item *item)
{
  NfReconcile *reconcile = item->reconcile;
  NfReplica *replica = reconcile->replica;
  const NfDirEntry *entry = item->entry;
  NfFid fid = entry->attr.fid;
  int err = 0;

  if (nf_replica_is_newer (replica, fid, reconcile->seq))
    err = item->fresh || is_doubtful (item) ? suspect_newer (item) : 0;
  else if (item->fresh)
    {
      NfStamp *stamp = nf_replica_stamp_edit (replica, fid);
      stamp->attr = stamp->data = reconcile->seq;
    }
  else
    err = compare (item);
  if (err == 0 && S_ISDIR (entry->attr.mode) && (item->fresh || item->found || reconcile->tree))
    err = nf_index_set_suspect (replica->share->index, fid, NF_SUSPECT_NAMES | NF_SUSPECT_TREE, 0);
  if (err == 0 && S_ISDIR (entry->attr.mode))
    {
      NfStamp *stamp = nf_replica_stamp_edit (replica, fid);
      stamp->placed = MAX (stamp->placed, reconcile->seq);
    }
  nf_heal_add (replica->heal, fid);
  if (item->placed || item->found)
    nf_apply_invalidate_name (replica->share, reconcile->fid, entry->name);
  if (item->changed && !item->fresh)
    nf_apply_invalidate (replica->share, S_ISREG (entry->attr.mode) ? NF_INVAL_DATA : NF_INVAL_ATTR,
                         fid, 0, 0);
  return err;
}

/* ---- entries ---- */

static gboolean
is_no_space (int err)
{
  return err == -ENOSPC || err == -EDQUOT || err == -ENOMEM || err == -EMFILE || err == -ENFILE;
}

/* One entry that can't be put right doesn't hold up the rest. */
static int
shrug (NfReconcile *reconcile, NfSlice name, int err)
{
  if (err == 0 || is_no_space (err))
    return err;
  g_autofree char *text = nf_slice_dup (name);
  g_autofree char *shown = g_utf8_make_valid (text, -1);
  g_warning ("share %s: \"%s\" couldn't be made as it is at the primary: %s",
             reconcile->replica->share->conf.name, shown, g_strerror (-err));
  reconcile->failed = TRUE;
  return 0;
}

/* The source hasn't got all of it either, and what it shows may be anything: what is here is kept, whatever it is. */
static gboolean
is_unsure (const NfReconcile *reconcile, const NfDirEntry *entry)
{
  NfRestore *restore = reconcile->replica->share->restore;

  if (!restore || !entry->unsure)
    return FALSE;
  nf_restore_keep (restore, entry->attr.fid);
  return TRUE;
}

/* A primary that takes back what it lost leaves alone what it knows better (restore.h). But a directory's other names are
 * compared. */
static int
leave_ours (Item *item)
{
  NfReplica *replica = item->reconcile->replica;
  NfFid fid = item->entry->attr.fid;

  if (!S_ISDIR (item->entry->attr.mode) || !nf_apply_here (replica->share, fid))
    return 0;
  int err
      = nf_index_set_suspect (replica->share->index, fid, NF_SUSPECT_NAMES | NF_SUSPECT_TREE, 0);
  nf_heal_add (replica->heal, fid);
  return err;
}

static int
take_entry (NfReconcile *reconcile, const NfDirEntry *entry)
{
  guint64 key = nf_key_name (reconcile->fid, entry->name);
  NfShare *share = reconcile->replica->share;
  Item item = { .reconcile = reconcile, .entry = entry };
  NfFid fid = entry->attr.fid;
  int err = 0;

  g_hash_table_add (reconcile->seen, g_memdup2 (&key, sizeof key));
  if (!nf_restore_is_own_name (share->restore, reconcile->fid, entry->name))
    err = place (&item);
  else if (!nf_apply_here (share, fid))
    return 0;
  gboolean ours = is_unsure (reconcile, entry) || nf_restore_is_own (share->restore, fid);
  if (err == 0 && !item.fresh && ours)
    err = leave_ours (&item);
  else if (err == 0)
    err = settle_item (&item);
  if (err != 0) /* what has been done of it may show in its times */
    (void)nf_index_set_suspect (share->index, fid, NF_SUSPECT_ATTR, 0);
  return shrug (reconcile, entry->name, err);
}

/* The object itself. */
static int
take_self (NfReconcile *reconcile, const NfDirEntry *entry)
{
  NfReplica *replica = reconcile->replica;
  gboolean changed = FALSE;
  NfObject object;

  reconcile->self = entry->attr;
  reconcile->self_seen = TRUE;
  if (nf_reconcile_forget_lost (replica, reconcile->fid)
      || !nf_index_get (replica->share->index, reconcile->fid, &object))
    return -ESTALE;
  if ((object.mode ^ entry->attr.mode) & S_IFMT)
    return shrug (reconcile, NF_SLICE_NONE, -EUCLEAN);
  reconcile->self_ours
      = nf_restore_is_own (replica->share->restore, reconcile->fid) || is_unsure (reconcile, entry);
  if (reconcile->self_ours)
    return 0;
  if (S_ISREG (entry->attr.mode))
    {
      /* Of what size it is tells whether content has got lost here. */
      NfAttr here;
      if (nf_tree_stat (replica->share->tree, reconcile->fid, &here) == 0
          && here.size != entry->attr.size
          && !nf_transfers_find (replica->transfers, reconcile->fid) && replica->undone.length == 0)
        (void)nf_dirty_whole (replica->share, reconcile->fid);
    }
  int err = nf_reconcile_xattrs (replica, reconcile->fid, entry->xattrs, &changed);
  if (err == 0)
    err = nf_reconcile_attr (replica, reconcile->fid, entry, &changed);
  if (changed)
    nf_apply_invalidate (replica->share, NF_INVAL_ATTR, reconcile->fid, 0, 0);
  return shrug (reconcile, NF_SLICE_NONE, err);
}

int
nf_reconcile_frame (NfReconcile *reconcile, NfSlice entries)
{
  NfIndex *index = reconcile->replica->share->index;
  NfReader reader = nf_reader (entries);
  NfDirEntry entry;
  guint n = 0;
  int err = nf_index_begin (index);

  if (err != 0)
    return err;
  while (err == 0 && nf_dir_entry_decode (&reader, &entry))
    {
      if (entry.attr.fid == NF_FID_NONE || entry.attr.fid >= NF_FID_LIMIT
          || (entry.name.len == 0) != !reconcile->self_seen)
        err = -EBADMSG;
      else if (entry.name.len == 0)
        err = take_self (reconcile, &entry);
      else
        err = take_entry (reconcile, &entry);
      if (err == 0 && ++n % BATCH == 0)
        {
          err = nf_index_commit (index);
          if (err == 0)
            err = nf_index_begin (index);
          if (err != 0)
            return err;
        }
    }
  int committed = nf_index_commit (index);
  if (err == 0 && reader.failed)
    err = -EBADMSG;
  return err != 0 ? err : committed;
}

/* ---- the end of a listing ---- */

typedef struct
{
  NfReconcile *reconcile;
  GPtrArray *names; /* of NfBuf-less copies: GBytes */
} Leftovers;

static gboolean
find_leftover (NfSlice name, const NfAttr *attr, const NfIdent *ident, guint64 cookie,
               gpointer data)
{
  Leftovers *left = data;
  guint64 key = nf_key_name (left->reconcile->fid, name);

  (void)attr;
  (void)ident;
  (void)cookie;
  if (!g_hash_table_contains (left->reconcile->seen, &key)
      && !nf_restore_is_own_name (left->reconcile->replica->share->restore, left->reconcile->fid,
                                  name))
    g_ptr_array_add (left->names, g_bytes_new (name.data, name.len));
  return TRUE;
}

static int
remove_leftover (NfReconcile *reconcile, NfSlice name)
{
  NfReplica *replica = reconcile->replica;
  NfTree *tree = replica->share->tree;
  NfAttr attr;
  int err = nf_tree_lookup (tree, reconcile->fid, name, &attr, NULL);

  if (err != 0)
    return err == -ENOENT ? 0 : err;
  if (attr.fid == NF_FID_NONE || replica->parted)
    err = put_away (reconcile, name);
  else
    err = nf_tree_unplace (tree, reconcile->fid, name);
  if (err == 0 && attr.fid != NF_FID_NONE)
    note_lost (replica, attr.fid);
  nf_apply_invalidate_name (replica->share, reconcile->fid, name);
  return shrug (reconcile, name, err);
}

static int
remove_leftovers (NfReconcile *reconcile)
{
  g_autoptr (GPtrArray) names = g_ptr_array_new_with_free_func ((GDestroyNotify)g_bytes_unref);
  Leftovers left = { reconcile, names };
  int err = nf_tree_readdir (reconcile->replica->share->tree, reconcile->fid, 0, FALSE,
                             find_leftover, &left);

  for (guint i = 0; err == 0 && i < names->len; i++)
    {
      gsize len;
      const guint8 *data = g_bytes_get_data (names->pdata[i], &len);
      err = remove_leftover (reconcile, nf_slice (data, len));
    }
  return err;
}

/* What isn't suspect any more. That all below is to be compared may have been found while this listing, which wasn't for
 * that, was under way: then it is listed once more. */
static guint32
compared (const NfReconcile *reconcile)
{
  NfObject object;
  gboolean again = !reconcile->tree
                   && nf_index_get (reconcile->replica->share->index, reconcile->fid, &object)
                   && (object.suspect & NF_SUSPECT_TREE);

  if (size_is_to_come (reconcile->replica, &reconcile->self))
    return 0;
  return again ? NF_SUSPECT_ATTR : NF_SUSPECT_NAMES | NF_SUSPECT_ATTR | NF_SUSPECT_TREE;
}

int
nf_reconcile_end (NfReconcile *reconcile)
{
  NfReplica *replica = reconcile->replica;
  NfIndex *index = replica->share->index;
  gboolean dir = S_ISDIR (reconcile->self.mode);
  int err = nf_index_begin (index);

  if (err != 0)
    return err;
  if (!reconcile->self_seen)
    err = -EBADMSG;
  if (err == 0 && dir)
    err = remove_leftovers (reconcile);
  if (err == 0 && dir && !reconcile->self_ours) /* placing has changed it */
    err = nf_tree_set_attr (replica->share->tree, reconcile->fid, -1, NF_SET_MTIME,
                            &reconcile->self);
  if (err == 0 && !reconcile->failed)
    {
      NfStamp *stamp = nf_replica_stamp_edit (replica, reconcile->fid);
      stamp->attr = MAX (stamp->attr, reconcile->seq);
      if (dir)
        stamp->names = MAX (stamp->names, reconcile->seq);
      err = nf_index_set_suspect (index, reconcile->fid, 0, compared (reconcile));
    }
  int committed = nf_index_commit (index);
  if (dir)
    nf_apply_invalidate (replica->share, NF_INVAL_ATTR, reconcile->fid, 0, 0);
  return err != 0 ? err : committed;
}
