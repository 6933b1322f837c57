// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/replica-internal.h"

#include <errno.h>

/* What may be served from the tree. With nothing suspect and no marks everything may, and that costs two atomic
 * loads. Otherwise a thing is served if it isn't suspect itself, lies in no tree that still has to be compared, and
 * isn't marked: changed by a call of this site whose op hasn't been applied here.
 *
 * Marks are counted by key (an object's or a name's, as blocked.h has them) and kept by seq, to go with their op. */

/* In a mark's seq: it goes when all ops up to there are applied, not with that op alone. */
#define ALL_UP_TO (G_GUINT64_CONSTANT (1) << 63)
/* With more marks than this a listing isn't searched for marked objects, but read from the primary. */
#define MARKS_SEARCHED_MAX 64
/* A chain of parents longer than this is a loop in a damaged index. */
#define DEPTH_MAX 4096

/* ---- marks ---- */

static void
keys_free (gpointer data)
{
  g_array_unref (data);
}

void
nf_replica_marks_init (NfReplica *replica)
{
  replica->marks = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, g_free);
  replica->mark_fids = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, g_free);
  replica->marks_of = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, keys_free);
}

void
nf_replica_marks_clear (NfReplica *replica)
{
  g_hash_table_unref (replica->marks);
  g_hash_table_unref (replica->mark_fids);
  g_hash_table_unref (replica->marks_of);
}

static gpointer
number (guint64 value)
{
  return g_memdup2 (&value, sizeof value);
}

static void
count_mark (GHashTable *table, guint64 key)
{
  guint64 *count = g_hash_table_lookup (table, &key);

  if (count)
    (*count)++;
  else
    g_hash_table_insert (table, number (key), number (1));
}

static void
drop_mark (GHashTable *table, guint64 key)
{
  guint64 *count = g_hash_table_lookup (table, &key);

  if (count && --*count == 0)
    g_hash_table_remove (table, &key);
}

/* KEY goes with op SEQ; FID if it is an object's. */
static void
add_mark (NfReplica *replica, guint64 seq, guint64 key, NfFid fid)
{
  GArray *keys = g_hash_table_lookup (replica->marks_of, &seq);

  if (!keys)
    {
      keys = g_array_new (FALSE, FALSE, sizeof (guint64));
      g_hash_table_insert (replica->marks_of, number (seq), keys);
    }
  g_array_append_val (keys, key);
  g_array_append_val (keys, fid);
  count_mark (replica->marks, key);
  if (fid != NF_FID_NONE)
    count_mark (replica->mark_fids, fid);
}

static void
drop_marks_of (NfReplica *replica, const GArray *keys)
{
  for (guint i = 0; i < keys->len; i += 2)
    {
      drop_mark (replica->marks, g_array_index (keys, guint64, i));
      drop_mark (replica->mark_fids, g_array_index (keys, guint64, i + 1));
    }
}

/* Those that stand for all ops up to SEQ, and with ALL the others up to there, too. */
static void
unmark_up_to (NfReplica *replica, guint64 seq, gboolean all)
{
  GHashTableIter iter;
  gpointer key, value;

  replica->read_mark = 0;
  g_hash_table_iter_init (&iter, replica->marks_of);
  while (g_hash_table_iter_next (&iter, &key, &value))
    {
      guint64 mark = *(guint64 *)key;
      guint64 until = mark & ~ALL_UP_TO;
      gboolean kind = all || (mark & ALL_UP_TO);
      if (kind && until <= seq)
        {
          drop_marks_of (replica, value);
          g_hash_table_iter_remove (&iter);
        }
      else if ((mark & ALL_UP_TO) && (replica->read_mark == 0 || until < replica->read_mark))
        replica->read_mark = until;
    }
}

void
nf_replica_unmark (NfReplica *replica, guint64 seq, gboolean all)
{
  const GArray *keys;

  if (g_hash_table_size (replica->marks_of) == 0)
    return;
  if (!all && (keys = g_hash_table_lookup (replica->marks_of, &seq)))
    {
      drop_marks_of (replica, keys);
      g_hash_table_remove (replica->marks_of, &seq);
    }
  if (all)
    unmark_up_to (replica, seq, TRUE);
  else if (replica->read_mark != 0 && replica->read_mark <= replica->applied.seq)
    unmark_up_to (replica, replica->applied.seq, FALSE);
  g_atomic_int_set (&replica->n_marks, (gint)g_hash_table_size (replica->marks));
}

static gboolean
is_marked (NfReplica *replica, guint64 key)
{
  if (g_atomic_int_get (&replica->n_marks) == 0)
    return FALSE;
  pthread_mutex_lock (&replica->lock);
  gboolean marked = g_hash_table_contains (replica->marks, &key);
  pthread_mutex_unlock (&replica->lock);
  return marked;
}

typedef struct
{
  NfFid parent;
  gboolean found;
} Search;

static gboolean
is_in (NfFid parent, NfSlice name, gpointer data)
{
  Search *search = data;

  (void)name;
  search->found |= parent == search->parent;
  return !search->found;
}

/* Is any object marked that directory FID lists? */
static gboolean
lists_marked (NfReplica *replica, NfFid fid)
{
  Search search = { fid, FALSE };
  GHashTableIter iter;
  gpointer key;

  if (g_atomic_int_get (&replica->n_marks) == 0)
    return FALSE;
  pthread_mutex_lock (&replica->lock);
  if (g_hash_table_size (replica->mark_fids) > MARKS_SEARCHED_MAX)
    search.found = TRUE;
  g_hash_table_iter_init (&iter, replica->mark_fids);
  while (!search.found && g_hash_table_iter_next (&iter, &key, NULL))
    nf_index_names (replica->share->index, *(NfFid *)key, is_in, &search);
  pthread_mutex_unlock (&replica->lock);
  return search.found;
}

/* ---- suspicion ---- */

/* Is FID here, not suspect in any way of MASK, and in no tree that is still to be compared? */
static gboolean
is_trusted (NfReplica *replica, NfFid fid, guint32 mask)
{
  NfIndex *index = replica->share->index;
  char name[NF_NAME_LEN_MAX + 1];
  NfObject object;

  if (!nf_index_get (index, fid, &object) || object.ident.ino == 0 || (object.suspect & mask))
    return FALSE;
  for (guint depth = 0; fid != NF_FID_ROOT && depth < DEPTH_MAX; depth++)
    {
      NfFid parent;
      if (!nf_index_first_name (index, fid, &parent, name))
        return TRUE; /* without a name, but a handle still has it */
      if (!nf_index_get (index, parent, &object) || (object.suspect & NF_SUSPECT_TREE))
        return FALSE;
      fid = parent;
    }
  return TRUE;
}

/* With `lock`. Of ops taken in, those that aren't applied are in `undone_seqs`; what comes later is above all of them. */
static gboolean
is_applied (NfReplica *replica, guint64 seq)
{
  return seq <= replica->applied.seq
         || (seq <= replica->taken_seq && !g_hash_table_contains (replica->undone_seqs, &seq));
}

gboolean
nf_replica_has_applied (NfReplica *replica, guint64 seq)
{
  pthread_mutex_lock (&replica->lock);
  gboolean applied = is_applied (replica, seq);
  pthread_mutex_unlock (&replica->lock);
  return applied;
}

gboolean
nf_replica_mark (NfReplica *replica, guint64 seq, const NfFid *fids, guint n_fids,
                 const NfNameRef *names, guint n_names)
{
  pthread_mutex_lock (&replica->lock);
  gboolean applied = is_applied (replica, seq);
  if (!applied)
    {
      for (guint i = 0; i < n_fids; i++)
        add_mark (replica, seq, nf_key_fid (fids[i]), fids[i]);
      for (guint i = 0; i < n_names; i++)
        {
          add_mark (replica, seq, nf_key_name (names[i].parent, names[i].name), NF_FID_NONE);
          /* The listing, as if it were the empty name; and the directory's own times. */
          add_mark (replica, seq, nf_key_name (names[i].parent, NF_SLICE_NONE), NF_FID_NONE);
          add_mark (replica, seq, nf_key_fid (names[i].parent), names[i].parent);
        }
      g_atomic_int_set (&replica->n_marks, (gint)g_hash_table_size (replica->marks));
    }
  pthread_mutex_unlock (&replica->lock);
  /* Applied, or within what is still to be compared: that isn't to be shown. */
  for (guint i = 0; applied && replica->share->tree && i < n_fids; i++)
    if (nf_index_suspects (replica->share->index) > 0
        && !is_trusted (replica, fids[i], NF_SUSPECT_ATTR))
      return FALSE;
  return applied;
}

/* Marks what was read as of SEQ: FID (or NF_FID_NONE) and, with NAME, what PARENT has under it. */
static void
mark_as_read (NfReplica *replica, guint64 seq, NfFid fid, NfFid parent, const NfSlice *name)
{
  pthread_mutex_lock (&replica->lock);
  if (seq > replica->applied.seq)
    {
      if (fid != NF_FID_NONE)
        add_mark (replica, seq | ALL_UP_TO, nf_key_fid (fid), fid);
      if (name)
        add_mark (replica, seq | ALL_UP_TO, nf_key_name (parent, *name), NF_FID_NONE);
      if (replica->read_mark == 0 || seq < replica->read_mark)
        replica->read_mark = seq;
      g_atomic_int_set (&replica->n_marks, (gint)g_hash_table_size (replica->marks));
    }
  pthread_mutex_unlock (&replica->lock);
}

/* Has the tree here another object under that name, or the same with other content? */
static gboolean
is_other (NfReplica *replica, NfFid parent, NfSlice name, const NfAttr *attr)
{
  NfAttr here;

  return nf_tree_lookup (replica->share->tree, parent, name, &here, NULL) != 0
         || here.fid != attr->fid || here.size != attr->size || here.mtime != attr->mtime;
}

static void
mark_listed (NfReplica *replica, const NfMsg *call, const NfMsg *answer)
{
  NfReader reader = nf_reader (answer->answer.data);
  NfDirEntry entry;
  NfSlice listing = NF_SLICE_NONE;

  while (nf_dir_entry_decode (&reader, &entry))
    if (is_other (replica, call->readdir.fid, entry.name, &entry.attr))
      mark_as_read (replica, answer->answer.seq, entry.attr.fid, call->readdir.fid, &entry.name);
  mark_as_read (replica, answer->answer.seq, NF_FID_NONE, call->readdir.fid, &listing);
}

void
nf_replica_mark_read (NfReplica *replica, const NfMsg *call, int status, const NfMsg *answer)
{
  guint64 seq = answer->answer.seq;
  NfFid fid = status == 0 ? answer->answer.attr.fid : NF_FID_NONE;

  if (!replica->share->tree || seq <= nf_replica_position (replica).seq)
    return;
  switch (call->type)
    {
    case NF_MSG_LOOKUP:
      if (status == 0 || status == -ENOENT)
        mark_as_read (replica, seq, fid, call->lookup.parent, &call->lookup.name);
      break;
    case NF_MSG_GETATTR:
      mark_as_read (replica, seq, call->getattr.fid, NF_FID_NONE, NULL);
      break;
    case NF_MSG_READ:
      mark_as_read (replica, seq, call->read.fid, NF_FID_NONE, NULL);
      break;
    case NF_MSG_READDIR:
      if (status == 0)
        mark_listed (replica, call, answer);
      break;
    default:
      break; /* nothing that the kernel would put together with content */
    }
}

void
nf_replica_set_unsure (NfReplica *replica, NfFid fid, gboolean unsure)
{
  pthread_mutex_lock (&replica->lock);
  if (unsure)
    g_hash_table_add (replica->unsure, number (fid));
  else
    g_hash_table_remove (replica->unsure, &fid);
  pthread_mutex_unlock (&replica->lock);
}

static gboolean
is_unsure (NfReplica *replica, NfFid fid)
{
  pthread_mutex_lock (&replica->lock);
  gboolean unsure = g_hash_table_contains (replica->unsure, &fid);
  pthread_mutex_unlock (&replica->lock);
  return unsure;
}

static gboolean
serves_object (NfReplica *replica, NfFid fid, guint32 mask)
{
  return !is_unsure (replica, fid) && !is_marked (replica, nf_key_fid (fid))
         && is_trusted (replica, fid, mask);
}

static gboolean
serves_lookup (NfReplica *replica, NfFid parent, NfSlice name)
{
  NfAttr attr;

  if (is_marked (replica, nf_key_name (parent, name))
      || !is_trusted (replica, parent, NF_SUSPECT_NAMES | NF_SUSPECT_TREE))
    return FALSE;
  /* The answer bears the object's attributes, too. */
  if (nf_tree_lookup (replica->share->tree, parent, name, &attr, NULL) != 0)
    return TRUE;
  return attr.fid != NF_FID_NONE && serves_object (replica, attr.fid, NF_SUSPECT_ATTR);
}

static gboolean
serves_listing (NfReplica *replica, NfFid fid)
{
  return !is_marked (replica, nf_key_name (fid, NF_SLICE_NONE)) && !lists_marked (replica, fid)
         && is_trusted (replica, fid, NF_SUSPECT_NAMES | NF_SUSPECT_TREE);
}

gboolean
nf_replica_serves (NfReplica *replica, const NfMsg *call)
{
  if (!replica->share->tree)
    return FALSE;
  if (nf_index_suspects (replica->share->index) == 0 && g_atomic_int_get (&replica->n_marks) == 0)
    return TRUE;
  switch (call->type)
    {
    case NF_MSG_LOOKUP:
      return serves_lookup (replica, call->lookup.parent, call->lookup.name);
    case NF_MSG_READDIR:
      return serves_listing (replica, call->readdir.fid);
    case NF_MSG_GETATTR:
      return serves_object (replica, call->getattr.fid, NF_SUSPECT_ATTR);
    case NF_MSG_READLINK:
      return serves_object (replica, call->readlink.fid, NF_SUSPECT_ATTR);
    case NF_MSG_GETXATTR:
      return serves_object (replica, call->getxattr.fid, NF_SUSPECT_ATTR);
    case NF_MSG_LISTXATTR:
      return serves_object (replica, call->listxattr.fid, NF_SUSPECT_ATTR);
    case NF_MSG_READ:
      return nf_replica_serves_content (replica, call->read.fid);
    case NF_MSG_LSEEK:
      return nf_replica_serves_content (replica, call->lseek.fid);
    case NF_MSG_STATFS:
      return TRUE;
    default:
      return FALSE;
    }
}

gboolean
nf_replica_serves_content (NfReplica *replica, NfFid fid)
{
  if (!replica->share->tree)
    return FALSE;
  if (nf_index_suspects (replica->share->index) == 0 && g_atomic_int_get (&replica->n_marks) == 0)
    return TRUE;
  return serves_object (replica, fid, NF_SUSPECT_DATA);
}
