// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/index-private.h"

#include <errno.h>
#include <string.h>

/* Deeper than any tree that a person makes; ends the walk if parents form a ring, which only damage can cause. */
#define DEPTH_MAX 65536

/* A value of `names`: the parent's fid and the name. */
typedef struct
{
  guint8 bytes[sizeof (NfFid) + NF_NAME_LEN_MAX];
  gsize len;
} StoredName;

static gboolean
to_stored_name (NfFid parent, NfSlice name, StoredName *ret_name)
{
  if (name.len == 0 || name.len > NF_NAME_LEN_MAX)
    return FALSE;
  memcpy (ret_name->bytes, &parent, sizeof parent);
  memcpy (ret_name->bytes + sizeof parent, name.data, name.len);
  ret_name->len = sizeof parent + name.len;
  return TRUE;
}

static gboolean
from_stored_name (const MDB_val *value, NfFid *ret_parent, NfSlice *ret_name)
{
  if (value->mv_size <= sizeof *ret_parent || value->mv_size > sizeof *ret_parent + NF_NAME_LEN_MAX)
    return FALSE;
  memcpy (ret_parent, value->mv_data, sizeof *ret_parent);
  *ret_name = nf_slice ((const guint8 *)value->mv_data + sizeof *ret_parent,
                        value->mv_size - sizeof *ret_parent);
  return TRUE;
}

static int
add_locked (NfIndex *index, NfFid fid, const StoredName *name)
{
  StoredObject stored;
  MDB_val key = index_key (&fid);
  MDB_val value = { name->len, (void *)name->bytes };
  int rc = nf_index_load (index, index->write, fid, &stored);

  if (rc != 0)
    return rc;
  rc = mdb_put (index->write, index->names, &key, &value, MDB_NODUPDATA);
  if (rc == MDB_KEYEXIST)
    return 0;
  if (rc != 0)
    return nf_index_error (rc);
  stored.n_names++;
  return nf_index_store (index, fid, &stored);
}

int
nf_index_add_name (NfIndex *index, NfFid fid, NfFid parent, NfSlice name)
{
  StoredName stored;
  int rc;

  if (!to_stored_name (parent, name, &stored))
    return -EINVAL;
  rc = nf_index_begin (index);
  return rc != 0 ? rc : nf_index_finish (index, add_locked (index, fid, &stored));
}

static int
drop_locked (NfIndex *index, NfFid fid, const StoredName *name, guint32 *ret_left)
{
  StoredObject stored;
  MDB_val key = index_key (&fid);
  MDB_val value = { name->len, (void *)name->bytes };
  int rc = nf_index_load (index, index->write, fid, &stored);

  if (rc == 0)
    rc = nf_index_error (mdb_del (index->write, index->names, &key, &value));
  if (rc != 0)
    return rc;
  if (stored.n_names > 0)
    stored.n_names--;
  rc = nf_index_store (index, fid, &stored);
  if (rc == 0 && ret_left != NULL)
    *ret_left = stored.n_names;
  return rc;
}

int
nf_index_drop_name (NfIndex *index, NfFid fid, NfFid parent, NfSlice name, guint32 *ret_left)
{
  StoredName stored;
  int rc;

  if (!to_stored_name (parent, name, &stored))
    return -EINVAL;
  rc = nf_index_begin (index);
  return rc != 0 ? rc : nf_index_finish (index, drop_locked (index, fid, &stored, ret_left));
}

/* The object is only touched where its names are more or fewer afterwards. */
static int
move_locked (NfIndex *index, NfFid fid, const StoredName *from, const StoredName *to)
{
  StoredObject stored;
  MDB_val key = index_key (&fid);
  MDB_val old = { from->len, (void *)from->bytes };
  MDB_val new = { to->len, (void *)to->bytes };
  int rc = nf_index_load (index, index->write, fid, &stored);
  int more = 0;

  if (rc != 0)
    return rc;
  rc = mdb_del (index->write, index->names, &key, &old);
  if (rc != 0 && rc != MDB_NOTFOUND)
    return nf_index_error (rc);
  more -= rc == 0 && stored.n_names > 0;
  rc = mdb_put (index->write, index->names, &key, &new, MDB_NODUPDATA);
  if (rc != 0 && rc != MDB_KEYEXIST)
    return nf_index_error (rc);
  more += rc == 0;
  stored.n_names += (guint32)more;
  return more == 0 ? 0 : nf_index_store (index, fid, &stored);
}

int
nf_index_move_name (NfIndex *index, NfFid fid, NfFid from_parent, NfSlice from, NfFid to_parent,
                    NfSlice to)
{
  StoredName stored_from, stored_to;
  int rc;

  if (!to_stored_name (from_parent, from, &stored_from)
      || !to_stored_name (to_parent, to, &stored_to))
    return -EINVAL;
  rc = nf_index_begin (index);
  return rc != 0 ? rc : nf_index_finish (index, move_locked (index, fid, &stored_from, &stored_to));
}

void
nf_index_names (NfIndex *index, NfFid fid, NfIndexNameFunc func, gpointer data)
{
  MDB_txn *txn = nf_index_read_begin (index);
  MDB_cursor *cursor;
  MDB_val key = index_key (&fid);
  MDB_val value;
  int rc;

  if (txn == NULL)
    return;
  if (mdb_cursor_open (txn, index->names, &cursor) == 0)
    {
      rc = mdb_cursor_get (cursor, &key, &value, MDB_SET);
      while (rc == 0)
        {
          NfFid parent;
          NfSlice name;

          if (from_stored_name (&value, &parent, &name) && !func (parent, name, data))
            break;
          rc = mdb_cursor_get (cursor, &key, &value, MDB_NEXT_DUP);
        }
      mdb_cursor_close (cursor);
    }
  nf_index_read_end (index);
}

static gboolean
first_name (NfIndex *index, MDB_txn *txn, NfFid fid, NfFid *ret_parent, NfSlice *ret_name)
{
  MDB_val key = index_key (&fid);
  MDB_val value;

  return mdb_get (txn, index->names, &key, &value) == 0
         && from_stored_name (&value, ret_parent, ret_name);
}

gboolean
nf_index_first_name (NfIndex *index, NfFid fid, NfFid *ret_parent, char *ret_name)
{
  MDB_txn *txn = nf_index_read_begin (index);
  NfSlice name;
  gboolean found;

  if (txn == NULL)
    return FALSE;
  found = first_name (index, txn, fid, ret_parent, &name);
  if (found)
    {
      memcpy (ret_name, name.data, name.len);
      ret_name[name.len] = '\0';
    }
  nf_index_read_end (index);
  return found;
}

gboolean
nf_index_has_name (NfIndex *index, NfFid fid, NfFid parent, NfSlice name)
{
  StoredName stored;
  MDB_txn *txn;
  MDB_cursor *cursor;
  MDB_val key = index_key (&fid);
  MDB_val value;
  int rc;

  if (!to_stored_name (parent, name, &stored) || (txn = nf_index_read_begin (index)) == NULL)
    return FALSE;
  value = (MDB_val){ stored.len, stored.bytes };
  rc = mdb_cursor_open (txn, index->names, &cursor);
  if (rc == 0)
    {
      rc = mdb_cursor_get (cursor, &key, &value, MDB_GET_BOTH);
      mdb_cursor_close (cursor);
    }
  nf_index_read_end (index);
  return rc == 0;
}

/* Joins names that were collected from the leaf upwards. */
static char *
join_upwards (GPtrArray *names)
{
  GString *path = g_string_new (NULL);

  for (guint i = names->len; i > 0; i--)
    {
      if (path->len > 0)
        g_string_append_c (path, '/');
      g_string_append (path, g_ptr_array_index (names, i - 1));
    }
  return g_string_free (path, FALSE);
}

char *
nf_index_path (NfIndex *index, NfFid fid)
{
  g_autoptr (GPtrArray) names = g_ptr_array_new_with_free_func (g_free);
  MDB_txn *txn = nf_index_read_begin (index);

  if (txn == NULL)
    return NULL;
  while (fid != NF_FID_ROOT && names->len < DEPTH_MAX)
    {
      NfSlice name;

      if (!first_name (index, txn, fid, &fid, &name))
        break;
      g_ptr_array_add (names, nf_slice_dup (name));
    }
  nf_index_read_end (index);
  return fid == NF_FID_ROOT ? join_upwards (names) : NULL;
}
