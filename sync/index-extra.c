// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/index-private.h"

#include <errno.h>
#include <string.h>

/* Recorded attributes. LMDB's keys end at 511 bytes: a fid, a prefix of the caller's and an xattr's name of up to 255
 * fit. The fid is big-endian in the key, so that an object's lie side by side. */
#define KEY_LEN_MAX 511

typedef struct
{
  guint8 bytes[KEY_LEN_MAX];
  gsize len;
} ExtraKey;

static gboolean
to_extra_key (NfFid fid, const char *key, ExtraKey *ret_key)
{
  guint64 be = GUINT64_TO_BE (fid);
  gsize len = strlen (key);

  if (len > KEY_LEN_MAX - sizeof be)
    return FALSE;
  memcpy (ret_key->bytes, &be, sizeof be);
  memcpy (ret_key->bytes + sizeof be, key, len);
  ret_key->len = sizeof be + len;
  return TRUE;
}

/* The key if it is one of FID's that begins with PREFIX, as a copy without the fid. */
static char *
match_key (const MDB_val *key, const ExtraKey *prefix)
{
  if (key->mv_size < prefix->len || memcmp (key->mv_data, prefix->bytes, prefix->len) != 0)
    return NULL;
  return nf_slice_dup (
      nf_slice ((const guint8 *)key->mv_data + sizeof (NfFid), key->mv_size - sizeof (NfFid)));
}

static GPtrArray *
list_keys (NfIndex *index, MDB_txn *txn, NfFid fid, const char *prefix)
{
  GPtrArray *keys = g_ptr_array_new_with_free_func (g_free);
  MDB_cursor *cursor;
  ExtraKey from;
  MDB_val key, value;
  int rc;

  if (!to_extra_key (fid, prefix, &from) || mdb_cursor_open (txn, index->extras, &cursor) != 0)
    return keys;
  key = (MDB_val){ from.len, from.bytes };
  rc = mdb_cursor_get (cursor, &key, &value, MDB_SET_RANGE);
  while (rc == 0)
    {
      char *found = match_key (&key, &from);

      if (found == NULL)
        break;
      g_ptr_array_add (keys, found);
      rc = mdb_cursor_get (cursor, &key, &value, MDB_NEXT);
    }
  mdb_cursor_close (cursor);
  return keys;
}

static int
delete_key (NfIndex *index, NfFid fid, const char *key)
{
  ExtraKey extra;
  MDB_val k;

  if (!to_extra_key (fid, key, &extra))
    return -EINVAL;
  k = (MDB_val){ extra.len, extra.bytes };
  return nf_index_error (mdb_del (index->write, index->extras, &k, NULL));
}

int
nf_index_drop_extras (NfIndex *index, NfFid fid)
{
  g_autoptr (GPtrArray) keys = list_keys (index, index->write, fid, "");

  for (guint i = 0; i < keys->len; i++)
    {
      int rc = delete_key (index, fid, g_ptr_array_index (keys, i));

      if (rc != 0)
        return rc;
    }
  return 0;
}

static int
set_locked (NfIndex *index, NfFid fid, const char *key, NfSlice value)
{
  StoredObject stored;
  ExtraKey extra;
  gboolean has = TRUE;
  int rc = nf_index_load (index, index->write, fid, &stored);

  if (rc != 0)
    return rc;
  if (!to_extra_key (fid, key, &extra))
    return -EINVAL;
  if (value.data != NULL)
    {
      MDB_val k = { extra.len, extra.bytes };
      MDB_val v = { value.len, (void *)value.data };

      rc = nf_index_need_room (index, value.len);
      if (rc == 0)
        rc = nf_index_error (mdb_put (index->write, index->extras, &k, &v, 0));
    }
  else
    {
      rc = stored.extra ? delete_key (index, fid, key) : 0;
      if (rc == -ENOENT)
        rc = 0;
      if (rc == 0 && stored.extra)
        {
          g_autoptr (GPtrArray) left = list_keys (index, index->write, fid, "");

          has = left->len > 0;
        }
      else
        has = stored.extra;
    }
  if (rc != 0 || has == (stored.extra != 0))
    return rc;
  stored.extra = has;
  return nf_index_store (index, fid, &stored);
}

int
nf_index_set_extra (NfIndex *index, NfFid fid, const char *key, NfSlice value)
{
  int rc = nf_index_begin (index);

  return rc != 0 ? rc : nf_index_finish (index, set_locked (index, fid, key, value));
}

GBytes *
nf_index_get_extra (NfIndex *index, NfFid fid, const char *key)
{
  ExtraKey extra;
  MDB_val k, value;
  GBytes *bytes = NULL;
  MDB_txn *txn;

  if (!to_extra_key (fid, key, &extra) || (txn = nf_index_read_begin (index)) == NULL)
    return NULL;
  k = (MDB_val){ extra.len, extra.bytes };
  if (mdb_get (txn, index->extras, &k, &value) == 0)
    bytes = g_bytes_new (value.mv_data, value.mv_size);
  nf_index_read_end (index);
  return bytes;
}

char **
nf_index_list_extra (NfIndex *index, NfFid fid, const char *prefix)
{
  MDB_txn *txn = nf_index_read_begin (index);
  GPtrArray *keys;

  if (txn == NULL)
    return g_new0 (char *, 1);
  keys = list_keys (index, txn, fid, prefix);
  nf_index_read_end (index);
  g_ptr_array_add (keys, NULL);
  return (char **)g_ptr_array_free (keys, FALSE);
}
