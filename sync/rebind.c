// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/rebind.h"

#include <sys/stat.h>

/* Objects made since have no fid; those moved since have another name. The last record that names something is looked at first: an earlier one may speak of what has another name by now, and
 * something else may have its former name. Directories come to light before what is in them, so it is gone over the
 * names until nothing more is found. */

typedef struct
{
  NfFid parent;
  NfFid fid;
  guint32 type;
  GBytes *name;
} Named;

typedef struct
{
  NfShare *share;
  GArray *named;       /* of Named, as the records come */
  GHashTable *by_time; /* mtime of a file → its fid; NF_FID_NONE: of several */
  GHashTable *times;   /* key_of(): which mtimes a file has had */
} Rebind;

static void
named_clear (gpointer data)
{
  g_bytes_unref (((Named *)data)->name);
}

static guint64
key_of (NfFid fid, gint64 mtime)
{
  return fid * G_GUINT64_CONSTANT (0x9e3779b97f4a7c15) ^ (guint64)mtime;
}

static void
note_time (Rebind *rebind, NfFid fid, gint64 mtime)
{
  guint64 key = key_of (fid, mtime);
  const NfFid *known = g_hash_table_lookup (rebind->by_time, &mtime);
  NfFid is = known && *known != fid ? NF_FID_NONE : fid;

  g_hash_table_insert (rebind->by_time, g_memdup2 (&mtime, sizeof mtime),
                       g_memdup2 (&is, sizeof is));
  g_hash_table_add (rebind->times, g_memdup2 (&key, sizeof key));
}

static gboolean
collect (NfPosition position, NfSlice bytes, gpointer data)
{
  Rebind *rebind = data;
  NfRecord record;

  (void)position;
  if (!nf_record_decode (bytes, &record))
    return TRUE;
  if (record.creates || record.kind == NF_OP_DATA
      || (record.kind == NF_OP_ATTR && (record.mask & NF_SET_MTIME)))
    note_time (rebind, record.fid, record.attr.mtime);
  for (guint i = 0; i < record.n_names; i++)
    {
      const NfNameIs *is = &record.names[i];
      Named named = { is->parent, is->fid, is->mode & S_IFMT, NULL };
      if (is->fid == NF_FID_NONE)
        continue;
      named.name = g_bytes_new (is->name.data, is->name.len);
      g_array_append_val (rebind->named, named);
    }
  return TRUE;
}

int
nf_rebind_follow (NfShare *share, NfFid fid, guint32 mode, NfFid parent, NfSlice name)
{
  NfIndex *index = share->index;
  char old[NF_NAME_LEN_MAX + 1];
  NfFid from;

  if (nf_index_has_name (index, fid, parent, name))
    return 0;
  int err = nf_index_begin (index);
  if (err != 0)
    return err;
  if (S_ISDIR (mode) && nf_index_first_name (index, fid, &from, old))
    err = nf_index_drop_name (index, fid, from, nf_slice_str (old), NULL);
  if (err == 0)
    err = nf_index_add_name (index, fid, parent, name);
  if (err != 0)
    {
      nf_index_abort (index);
      return err;
    }
  err = nf_index_commit (index);
  if (err == 0 && S_ISDIR (mode))
    nf_tree_forget (share->tree, fid);
  return err != 0 ? err : 1;
}

/* Which object is it that is at a name that NAMED had once? The tree may be newer than the end of the journal, and another
 * file there; what tells them apart is the mtime. */
static NfFid
identify (Rebind *rebind, const Named *named, const NfAttr *attr)
{
  guint64 key = key_of (named->fid, attr->mtime);
  const NfFid *other;

  if (named->type == S_IFDIR || g_hash_table_contains (rebind->times, &key))
    return named->fid;
  other = g_hash_table_lookup (rebind->by_time, &attr->mtime);
  return other ? *other : NF_FID_NONE;
}

/* 0, -errno, or 1: it is bound now. */
static int
bind_one (Rebind *rebind, const Named *named)
{
  NfShare *share = rebind->share;
  gsize len;
  const guint8 *data = g_bytes_get_data (named->name, &len);
  NfSlice name = nf_slice (data, len);
  NfObject object;
  NfIdent ident;
  NfAttr attr;

  if ((named->type != S_IFREG && named->type != S_IFDIR)
      || nf_tree_lookup (share->tree, named->parent, name, &attr, &ident) != 0
      || (attr.mode & S_IFMT) != named->type)
    return 0;
  if (attr.fid != NF_FID_NONE)
    return attr.fid == named->fid
               ? nf_rebind_follow (share, named->fid, named->type, named->parent, name)
               : 0;
  NfFid fid = identify (rebind, named, &attr);
  if (fid == NF_FID_NONE || nf_index_get (share->index, fid, &object))
    return 0;
  int err = nf_tree_adopt (share->tree, named->parent, name, ident, fid, named->type);
  return err != 0 ? err : 1;
}

int
nf_rebind (NfShare *share, guint64 from, guint *ret_n)
{
  g_autoptr (GArray) named = g_array_new (FALSE, FALSE, sizeof (Named));
  g_autoptr (GHashTable) by_time
      = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, g_free);
  g_autoptr (GHashTable) times = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
  Rebind rebind = { share, named, by_time, times };
  guint before;

  *ret_n = 0;
  g_array_set_clear_func (named, named_clear);
  int err = nf_journal_read (share->journal, from, collect, &rebind);
  do
    {
      before = *ret_n;
      for (guint i = named->len; err == 0 && i > 0; i--)
        {
          int bound = bind_one (&rebind, &g_array_index (named, Named, i - 1));
          err = MIN (bound, 0);
          *ret_n += bound == 1;
        }
    }
  while (err == 0 && *ret_n > before);
  return err;
}
