// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/primary-recover.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

/* The records above the watermark, one by one.
 *
 * A record is *finished* if a later one concerns one of its objects: that was appended under the same lock, so that
 * the effect of the former was there (or its ABORT). Only of the last record of each object it has to be found out.
 * For names the tree says it: either the effect is there and the index is brought up to date, or an ABORT is appended.
 * For attributes, xattrs and ranges, which may be half done, a new record says how they stand now. So it does of one
 * that was aborted: an effect that was undone again has left other times, which may not have been said any more.
 *
 * After a reboot nothing counts as finished: whatever a record names is stated anew where the disk has it otherwise. */

typedef struct
{
  guint64 seq;
  GBytes *bytes;
  NfRecord record; /* slices into bytes */
  gboolean aborted;
  gboolean finished;
} Item;

typedef struct
{
  NfPrimary *primary;
  gboolean reboot;
  guint64 on_disk;     /* after a reboot: ops up to here can't be lost */
  guint64 last;        /* the end of the last reign */
  GArray *items;       /* of Item */
  GHashTable *aborted; /* seqs */
  NfExec exec;
  int err;
} Redo;

static void
item_clear (gpointer data)
{
  g_bytes_unref (((Item *)data)->bytes);
}

static gboolean
take_item (NfPosition position, NfSlice bytes, gpointer data)
{
  Redo *redo = data;
  Item item = { .seq = position.seq };

  if (position.seq > redo->last)
    return FALSE;
  item.bytes = g_bytes_new (bytes.data, bytes.len);
  if (!nf_record_decode (nf_slice (g_bytes_get_data (item.bytes, NULL), bytes.len), &item.record))
    {
      g_bytes_unref (item.bytes);
      redo->err = -EBADMSG;
      return FALSE;
    }
  if (item.record.kind == NF_OP_ABORT)
    g_hash_table_add (redo->aborted, g_memdup2 (&item.record.aborted, sizeof (guint64)));
  g_array_append_val (redo->items, item);
  return TRUE;
}

/* ---- what is finished ---- */

/* The objects whose locks the record's change held, as far as it names them. */
static guint
objects_of (const NfRecord *record, NfFid *ret_fids)
{
  guint n = 0;

  if (record->fid != NF_FID_NONE)
    ret_fids[n++] = record->fid;
  for (guint i = 0; i < record->n_names; i++)
    {
      ret_fids[n++] = record->names[i].parent;
      if (record->names[i].fid != NF_FID_NONE)
        ret_fids[n++] = record->names[i].fid;
    }
  return n;
}

static void
find_finished (Redo *redo)
{
  g_autoptr (GHashTable) later = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);

  for (guint i = redo->items->len; i > 0; i--)
    {
      Item *item = &g_array_index (redo->items, Item, i - 1);
      NfFid fids[5];
      guint n = objects_of (&item->record, fids);
      item->aborted = g_hash_table_contains (redo->aborted, &item->seq);
      item->finished = redo->reboot && item->seq <= redo->on_disk;
      for (guint j = 0; j < n; j++)
        if (g_hash_table_contains (later, &fids[j]))
          item->finished = item->finished || !redo->reboot;
      for (guint j = 0; j < n; j++)
        g_hash_table_add (later, g_memdup2 (&fids[j], sizeof (NfFid)));
    }
}

/* ---- names ---- */

/* Does a later record say what this name is? */
static gboolean
is_superseded (Redo *redo, guint at, const NfNameIs *is)
{
  for (guint i = at + 1; i < redo->items->len; i++)
    {
      const Item *item = &g_array_index (redo->items, Item, i);
      for (guint j = 0; !item->aborted && j < item->record.n_names; j++)
        if (item->record.names[j].parent == is->parent
            && nf_slice_equal (item->record.names[j].name, is->name))
          return TRUE;
    }
  return FALSE;
}

typedef struct
{
  int err; /* 0: there is something */
  NfAttr attr;
  NfIdent ident;
} Found;

static void
look (Redo *redo, const NfNameIs *is, Found *ret_found)
{
  ret_found->err = nf_tree_lookup (redo->primary->share->tree, is->parent, is->name,
                                   &ret_found->attr, &ret_found->ident);
}

static gboolean
is_so (const NfRecord *record, const NfNameIs *is, const Found *found)
{
  if (is->fid == NF_FID_NONE)
    return found->err == -ENOENT || found->err == -ESTALE;
  if (found->err != 0)
    return FALSE;
  if (found->attr.fid == NF_FID_NONE)
    return record->creates && (found->attr.mode & S_IFMT) == is->mode;
  return found->attr.fid == is->fid;
}

/* The effect is there: the index follows. */
static void
follow_name (Redo *redo, const NfRecord *record, const NfNameIs *is, const Found *found)
{
  NfIndex *index = redo->primary->share->index;

  if (is->fid == NF_FID_NONE)
    {
      (void)nf_index_drop_name (index, record->fid, is->parent, is->name, NULL);
      return;
    }
  if (found->attr.fid == NF_FID_NONE)
    redo->err = nf_tree_adopt (redo->primary->share->tree, is->parent, is->name, found->ident,
                               is->fid, is->mode);
  else if (!nf_index_has_name (index, is->fid, is->parent, is->name))
    redo->err = nf_index_add_name (index, is->fid, is->parent, is->name);
}

/* Each of the two had the other's name. */
static void
follow_exchange (Redo *redo, const NfRecord *record)
{
  NfIndex *index = redo->primary->share->index;

  for (guint i = 0; i < 2; i++)
    {
      const NfNameIs *is = &record->names[i];
      (void)nf_index_drop_name (index, record->names[1 - i].fid, is->parent, is->name, NULL);
    }
}

/* A rename may have displaced an object that the record doesn't name. */
static void
drop_displaced (Redo *redo, const NfNameIs *is)
{
  NfIndex *index = redo->primary->share->index;
  NfObject object = { 0 };

  while (nf_index_next (index, object.fid, &object))
    {
      guint32 left = 0;
      if (object.fid == is->fid || !nf_index_has_name (index, object.fid, is->parent, is->name))
        continue;
      if (nf_index_drop_name (index, object.fid, is->parent, is->name, &left) == 0 && left == 0
          && object.place == NF_PLACE_NAMED)
        (void)nf_index_remove (index, object.fid);
    }
}

static void append (Redo *redo, NfRecord *record);
static guint32 settable (const NfAttr *attr);

/* Of an op that is there, but may have been stopped before its times were set and its corrections said. */
static void
complete_effect (Redo *redo, const NfRecord *record)
{
  NfTree *tree = redo->primary->share->tree;
  NfAttr times = { .mtime = record->time };
  NfRecord correction = { .kind = NF_OP_ATTR, .fid = record->fid };

  if (!redo->reboot)
    for (guint i = 0; i < record->n_names; i++)
      (void)nf_tree_set_attr (tree, record->names[i].parent, -1, NF_SET_MTIME, &times);
  if (!redo->reboot && record->creates)
    (void)nf_tree_set_attr (tree, record->fid, -1, NF_SET_ATIME | NF_SET_MTIME, &record->attr);
  if (!record->creates || nf_tree_stat (tree, record->fid, &correction.attr) != 0)
    return;
  correction.mask = settable (&correction.attr);
  append (redo, &correction);
}

static void
follow_record (Redo *redo, const Item *item, const Found *found)
{
  const NfRecord *record = &item->record;
  NfIndex *index = redo->primary->share->index;
  NfObject object;

  redo->err = nf_index_begin (index);
  if (redo->err != 0)
    return;
  for (guint i = 0; i < record->n_names && redo->err == 0; i++)
    follow_name (redo, record, &record->names[i], &found[i]);
  if (record->n_names == 2 && record->names[0].fid != NF_FID_NONE)
    follow_exchange (redo, record);
  else if (record->n_names == 2)
    drop_displaced (redo, &record->names[1]);
  if (nf_index_get (index, record->fid, &object) && object.n_names == 0
      && object.place == NF_PLACE_NAMED && record->fid != NF_FID_ROOT)
    (void)nf_index_remove (index, record->fid);
  if (redo->err == 0)
    redo->err = nf_index_commit (index);
  else
    nf_index_abort (index);
}

/* An orphan was made, but its name is still there. */
static void
take_back_orphan (Redo *redo, const NfRecord *record, const Found *found)
{
  NfShare *share = redo->primary->share;
  NfObject object;

  for (guint i = 0; i < record->n_names; i++)
    if (found[i].err == 0 && nf_index_get (share->index, found[i].attr.fid, &object)
        && object.place == NF_PLACE_ORPHANS)
      (void)nf_tree_unorphan (share->tree, object.fid, record->names[i].parent,
                              record->names[i].name);
}

static void
append (Redo *redo, NfRecord *record)
{
  redo->err = nf_exec_append (&redo->exec, record, FALSE);
  nf_exec_flush (&redo->exec);
}

/* After a reboot: what the disk has at this name. What the index doesn't know is adopted later, as a new object. */
static void
restate_name (Redo *redo, const NfNameIs *is, const Found *found, NfFid fid)
{
  NfRecord record = {
    .kind = NF_OP_NAMES,
    .n_names = 1,
    .names = { { .parent = is->parent, .name = is->name } },
    .fid = fid,
  };

  gint64 now = redo->exec.time;
  NfAttr parent;

  if (found->err == 0 && found->attr.fid != NF_FID_NONE)
    {
      record.fid = record.names[0].fid = found->attr.fid;
      record.names[0].mode = found->attr.mode & S_IFMT;
    }
  if (nf_tree_stat (redo->primary->share->tree, is->parent, &parent) == 0)
    redo->exec.time = parent.mtime;
  append (redo, &record);
  redo->exec.time = now;
}

/* A name was there for a moment, or gone: the times of the directories tell. */
static void
restate_parents (Redo *redo, const NfRecord *was)
{
  for (guint i = 0; i < was->n_names && redo->err == 0; i++)
    {
      NfRecord record = { .kind = NF_OP_ATTR, .fid = was->names[i].parent, .mask = NF_SET_MTIME };
      if (nf_tree_stat (redo->primary->share->tree, record.fid, &record.attr) == 0)
        append (redo, &record);
    }
}

static void
abort_item (Redo *redo, const Item *item)
{
  NfRecord record = { .kind = NF_OP_ABORT, .aborted = item->seq };

  nf_broadcast_aborted (redo->primary->broadcast, item->seq);
  append (redo, &record);
  restate_parents (redo, &item->record);
}

static void
redo_names (Redo *redo, guint at)
{
  Item *item = &g_array_index (redo->items, Item, at);
  const NfRecord *record = &item->record;
  Found found[2] = { 0 };
  gboolean so = TRUE;

  for (guint i = 0; i < record->n_names; i++)
    {
      if (is_superseded (redo, at, &record->names[i]))
        return;
      look (redo, &record->names[i], &found[i]);
      so = so && is_so (record, &record->names[i], &found[i]);
    }
  if (so)
    {
      follow_record (redo, item, found);
      if (redo->err == 0 && !item->finished)
        complete_effect (redo, record);
      return;
    }
  take_back_orphan (redo, record, found);
  if (!redo->reboot)
    {
      /* A finished one that isn't so any more was changed behind the proxy: it is found as such. */
      if (!item->finished)
        abort_item (redo, item);
      return;
    }
  for (guint i = 0; i < record->n_names && redo->err == 0; i++)
    restate_name (redo, &record->names[i], &found[i], record->fid);
}

/* ---- attributes, xattrs, ranges ---- */

static guint32
settable (const NfAttr *attr)
{
  return NF_SET_MODE | NF_SET_UID | NF_SET_GID | NF_SET_MTIME
         | (S_ISREG (attr->mode) ? NF_SET_SIZE : 0);
}

static void
restate_range (Redo *redo, const NfRecord *was, const NfAttr *now, guint64 offset, guint64 end)
{
  NfRecord record = { .kind = NF_OP_DATA, .fid = was->fid, .attr = *now, .offset = offset };

  /* A file that is longer than the record would have it may have kept what lies behind. */
  if (now->size > was->attr.size)
    end = MAX (end, now->size);
  end = MIN (end, now->size);
  record.length = end > offset ? end - offset : 0;
  append (redo, &record);
}

static void
restate_attr (Redo *redo, const NfRecord *was, const NfAttr *now)
{
  NfRecord record = { .kind = NF_OP_ATTR, .fid = was->fid, .mask = settable (now), .attr = *now };

  append (redo, &record);
  if (redo->err == 0 && (was->mask & NF_SET_SIZE) && now->size > was->attr.size)
    restate_range (redo, was, now, was->attr.size, now->size);
}

static void
restate_xattr (Redo *redo, const NfRecord *was)
{
  NfTree *tree = redo->primary->share->tree;
  g_autofree char *name = nf_slice_dup (was->xname);
  g_autofree char *value = g_malloc (NF_XATTR_MAX);
  int len = nf_tree_getxattr (tree, was->fid, name, value, NF_XATTR_MAX);
  NfRecord record
      = { .kind = NF_OP_XATTR, .fid = was->fid, .xname = was->xname, .removes = len < 0 };

  if (len < 0 && len != -ENODATA)
    return; /* not here any more */
  if (len > 0)
    record.value = nf_slice (value, (gsize)len);
  append (redo, &record);
}

static void
redo_object (Redo *redo, const Item *item)
{
  const NfRecord *record = &item->record;
  NfAttr now;

  if (item->finished || nf_tree_stat (redo->primary->share->tree, record->fid, &now) != 0)
    return;
  if (record->kind == NF_OP_DATA)
    restate_range (redo, record, &now, record->offset, record->offset + record->length);
  else if (record->kind == NF_OP_ATTR)
    restate_attr (redo, record, &now);
  else
    restate_xattr (redo, record);
}

/* ---- the whole ---- */

/* Its abort was written, perhaps only the next time: it is known to the broadcast as such. */
static void
redo_aborted (Redo *redo, const Item *item)
{
  nf_broadcast_aborted (redo->primary->broadcast, item->seq);
  if (item->record.kind == NF_OP_NAMES && !item->finished)
    restate_parents (redo, &item->record);
  else if (item->record.kind != NF_OP_NAMES)
    redo_object (redo, item);
}

static void
redo_item (Redo *redo, guint at)
{
  Item *item = &g_array_index (redo->items, Item, at);

  if (item->aborted)
    {
      redo_aborted (redo, item);
      return;
    }
  switch (item->record.kind)
    {
    case NF_OP_NAMES:
      redo_names (redo, at);
      break;
    case NF_OP_ATTR:
    case NF_OP_XATTR:
    case NF_OP_DATA:
      redo_object (redo, item);
      break;
    case NF_OP_ABORT:
    case NF_OP_EPOCH:
      break;
    }
}

int
nf_primary_redo (NfPrimary *primary, guint64 from, guint64 last, gboolean reboot, guint64 on_disk)
{
  static const NfCallHead nobody;
  g_autoptr (GArray) items = g_array_new (FALSE, TRUE, sizeof (Item));
  g_autoptr (GHashTable) aborted
      = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
  Redo redo = { .primary = primary,
                .last = last,
                .reboot = reboot,
                .on_disk = on_disk,
                .items = items,
                .aborted = aborted };

  g_array_set_clear_func (items, item_clear);
  int err = nf_journal_read (primary->share->journal, from, take_item, &redo);
  if (err != 0 || redo.err != 0)
    return err != 0 ? err : redo.err;
  find_finished (&redo);
  nf_exec_init (&redo.exec, primary, NULL, NULL, NULL, &nobody, NULL);
  nf_exec_lock (&redo.exec, NULL, 0);
  for (guint i = 0; i < items->len && redo.err == 0; i++)
    {
      redo_item (&redo, i);
      nf_order_done (primary->order, &g_array_index (items, Item, i).seq, 1);
    }
  nf_exec_end (&redo.exec);
  return redo.err;
}
