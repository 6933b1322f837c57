// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/index-private.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/* Objects and their identities. Invariant: idents[ino] = (btime, fid) exactly if objects[fid] has that ino and btime;
 * suspects has fid exactly if objects[fid].suspect is not 0. */

static int
load_ident (NfIndex *index, MDB_txn *txn, guint64 ino, StoredIdent *ret_ident)
{
  MDB_val key = index_key (&ino);
  MDB_val value;
  int rc = mdb_get (txn, index->idents, &key, &value);

  if (rc != 0)
    return nf_index_error (rc);
  if (value.mv_size != sizeof *ret_ident)
    return -EUCLEAN;
  memcpy (ret_ident, value.mv_data, sizeof *ret_ident);
  return 0;
}

int
nf_index_load (NfIndex *index, MDB_txn *txn, NfFid fid, StoredObject *ret_stored)
{
  MDB_val key = index_key (&fid);
  MDB_val value;
  int rc = mdb_get (txn, index->objects, &key, &value);

  if (rc != 0)
    return nf_index_error (rc);
  if (value.mv_size != sizeof *ret_stored)
    return -EUCLEAN;
  memcpy (ret_stored, value.mv_data, sizeof *ret_stored);
  return 0;
}

int
nf_index_store (NfIndex *index, NfFid fid, const StoredObject *stored)
{
  MDB_val key = index_key (&fid);
  MDB_val value = { sizeof *stored, (void *)stored };

  return nf_index_error (mdb_put (index->write, index->objects, &key, &value, 0));
}

static void
to_object (NfFid fid, const StoredObject *stored, NfObject *ret_object)
{
  *ret_object = (NfObject){
    .fid = fid,
    .ident = { stored->ino, stored->btime },
    .mode = stored->mode,
    .suspect = stored->suspect,
    .place = (NfPlace)stored->place,
    .n_names = stored->n_names,
    .extra = stored->extra != 0,
  };
}

gboolean
nf_index_get (NfIndex *index, NfFid fid, NfObject *ret_object)
{
  MDB_txn *txn = nf_index_read_begin (index);
  StoredObject stored;
  int rc;

  if (txn == NULL)
    return FALSE;
  rc = nf_index_load (index, txn, fid, &stored);
  nf_index_read_end (index);
  if (rc != 0)
    return FALSE;
  to_object (fid, &stored, ret_object);
  return TRUE;
}

NfFid
nf_index_by_ident (NfIndex *index, NfIdent ident)
{
  MDB_txn *txn = nf_index_read_begin (index);
  StoredIdent stored;
  int rc;

  if (txn == NULL)
    return NF_FID_NONE;
  rc = load_ident (index, txn, ident.ino, &stored);
  nf_index_read_end (index);
  return rc == 0 && stored.btime == ident.btime ? stored.fid : NF_FID_NONE;
}

static gboolean
find_locked (NfIndex *index, MDB_txn *txn, guint64 ino, const gint64 *btime, NfObject *ret_object)
{
  StoredIdent found;
  StoredObject stored;

  if (load_ident (index, txn, ino, &found) != 0 || (btime != NULL && found.btime != *btime)
      || nf_index_load (index, txn, found.fid, &stored) != 0)
    return FALSE;
  to_object (found.fid, &stored, ret_object);
  return TRUE;
}

gboolean
nf_index_find (NfIndex *index, NfIdent ident, NfObject *ret_object)
{
  MDB_txn *txn = nf_index_read_begin (index);
  gboolean found;

  if (txn == NULL)
    return FALSE;
  found = find_locked (index, txn, ident.ino, &ident.btime, ret_object);
  nf_index_read_end (index);
  return found;
}

gboolean
nf_index_find_ino (NfIndex *index, guint64 ino, NfObject *ret_object)
{
  MDB_txn *txn = nf_index_read_begin (index);
  gboolean found;

  if (txn == NULL)
    return FALSE;
  found = find_locked (index, txn, ino, NULL, ret_object);
  nf_index_read_end (index);
  return found;
}

/* Removes the identity's entry if it is FID's. */
static int
drop_ident (NfIndex *index, guint64 ino, NfFid fid)
{
  StoredIdent stored;
  MDB_val key = index_key (&ino);
  int rc;

  if (ino == 0)
    return 0;
  rc = load_ident (index, index->write, ino, &stored);
  if (rc == -ENOENT || (rc == 0 && stored.fid != fid))
    return 0;
  return rc != 0 ? rc : nf_index_error (mdb_del (index->write, index->idents, &key, NULL));
}

/* The inode IDENT is FID's now; whose it was before doesn't have it any more. */
static int
take_ident (NfIndex *index, NfIdent ident, NfFid fid)
{
  StoredIdent before;
  StoredIdent now = { ident.btime, fid };
  MDB_val key = index_key (&ident.ino);
  MDB_val value = { sizeof now, &now };
  int rc;

  if (ident.ino == 0)
    return 0;
  rc = load_ident (index, index->write, ident.ino, &before);
  if (rc == 0 && before.fid != fid)
    {
      StoredObject other;

      rc = nf_index_load (index, index->write, before.fid, &other);
      if (rc == 0)
        {
          other.ino = 0;
          other.btime = 0;
          rc = nf_index_store (index, before.fid, &other);
        }
    }
  if (rc != 0 && rc != -ENOENT)
    return rc;
  return nf_index_error (mdb_put (index->write, index->idents, &key, &value, 0));
}

static int
note_suspect (NfIndex *index, NfFid fid, guint32 before, guint32 now)
{
  MDB_val key = index_key (&fid);
  MDB_val value = { 0, NULL };

  if ((before != 0) == (now != 0))
    return 0;
  if (now != 0)
    return nf_index_error (mdb_put (index->write, index->suspects, &key, &value, 0));
  return nf_index_error (mdb_del (index->write, index->suspects, &key, NULL));
}

static int
put_locked (NfIndex *index, const NfObject *object)
{
  StoredObject before = { 0 };
  StoredObject now;
  gboolean moved;
  int rc = nf_index_load (index, index->write, object->fid, &before);

  if (rc != 0 && rc != -ENOENT)
    return rc;
  now = (StoredObject){
    .ino = object->ident.ino,
    .btime = object->ident.btime,
    .mode = object->mode & S_IFMT,
    .suspect = object->suspect,
    .n_names = before.n_names,
    .place = (guint16)object->place,
    .extra = before.extra,
  };
  moved = rc == -ENOENT || now.ino != before.ino || now.btime != before.btime;
  rc = nf_index_store (index, object->fid, &now);
  if (rc == 0 && moved && before.ino != now.ino)
    rc = drop_ident (index, before.ino, object->fid);
  if (rc == 0 && moved)
    rc = take_ident (index, object->ident, object->fid);
  if (rc == 0)
    rc = note_suspect (index, object->fid, before.suspect, now.suspect);
  return rc;
}

int
nf_index_put (NfIndex *index, const NfObject *object)
{
  int rc;

  if (object->fid == NF_FID_NONE || object->fid >= NF_FID_LIMIT)
    return -EINVAL;
  rc = nf_index_begin (index);
  return rc != 0 ? rc : nf_index_finish (index, put_locked (index, object));
}

static int
remove_locked (NfIndex *index, NfFid fid)
{
  StoredObject before;
  MDB_val key = index_key (&fid);
  int rc = nf_index_load (index, index->write, fid, &before);

  if (rc != 0)
    return rc;
  rc = nf_index_error (mdb_del (index->write, index->objects, &key, NULL));
  if (rc == 0)
    rc = drop_ident (index, before.ino, fid);
  if (rc == 0)
    rc = note_suspect (index, fid, before.suspect, 0);
  if (rc == 0 && before.n_names > 0)
    rc = nf_index_error (mdb_del (index->write, index->names, &key, NULL));
  if (rc == 0 && before.extra)
    rc = nf_index_drop_extras (index, fid);
  return rc;
}

int
nf_index_remove (NfIndex *index, NfFid fid)
{
  int rc = nf_index_begin (index);

  return rc != 0 ? rc : nf_index_finish (index, remove_locked (index, fid));
}

int
nf_index_set_suspect (NfIndex *index, NfFid fid, guint32 set, guint32 clear)
{
  StoredObject stored;
  guint32 before;
  int rc = nf_index_begin (index);

  if (rc != 0)
    return rc;
  rc = nf_index_load (index, index->write, fid, &stored);
  if (rc == 0)
    {
      before = stored.suspect;
      stored.suspect = (before & ~clear) | set;
      if (stored.suspect != before)
        {
          rc = nf_index_store (index, fid, &stored);
          if (rc == 0)
            rc = note_suspect (index, fid, before, stored.suspect);
        }
    }
  return nf_index_finish (index, rc);
}

/* The first key of DBI after AFTER that an object has. */
static gboolean
next_in (NfIndex *index, MDB_dbi dbi, NfFid after, NfObject *ret_object)
{
  MDB_txn *txn;
  MDB_cursor *cursor;
  guint64 from = after + 1;
  MDB_val key = index_key (&from);
  MDB_val value;
  StoredObject stored;
  NfFid fid = NF_FID_NONE;
  int rc;

  if (after == G_MAXUINT64 || (txn = nf_index_read_begin (index)) == NULL)
    return FALSE;
  rc = mdb_cursor_open (txn, dbi, &cursor);
  if (rc == 0)
    {
      rc = mdb_cursor_get (cursor, &key, &value, MDB_SET_RANGE);
      if (rc == 0 && key.mv_size == sizeof fid)
        {
          memcpy (&fid, key.mv_data, sizeof fid);
          rc = nf_index_load (index, txn, fid, &stored);
        }
      mdb_cursor_close (cursor);
    }
  nf_index_read_end (index);
  if (rc != 0 || fid == NF_FID_NONE)
    return FALSE;
  to_object (fid, &stored, ret_object);
  return TRUE;
}

gboolean
nf_index_next_suspect (NfIndex *index, NfFid after, NfObject *ret_object)
{
  return next_in (index, index->suspects, after, ret_object);
}

gboolean
nf_index_next (NfIndex *index, NfFid after, NfObject *ret_object)
{
  return next_in (index, index->objects, after, ret_object);
}

NfFid
nf_index_last_fid (NfIndex *index)
{
  MDB_txn *txn = nf_index_read_begin (index);
  MDB_cursor *cursor = NULL;
  MDB_val key, value;
  NfFid fid = NF_FID_NONE;

  if (txn == NULL)
    return NF_FID_NONE;
  if (mdb_cursor_open (txn, index->objects, &cursor) == 0)
    {
      if (mdb_cursor_get (cursor, &key, &value, MDB_LAST) == 0 && key.mv_size == sizeof fid)
        memcpy (&fid, key.mv_data, sizeof fid);
      mdb_cursor_close (cursor);
    }
  nf_index_read_end (index);
  return fid;
}

guint64
nf_index_suspects (NfIndex *index)
{
  return __atomic_load_n (&index->n_suspects, __ATOMIC_ACQUIRE);
}

guint64
nf_index_count (NfIndex *index)
{
  MDB_txn *txn = nf_index_read_begin (index);
  MDB_stat stat = { 0 };

  if (txn == NULL)
    return 0;
  if (mdb_stat (txn, index->objects, &stat) != 0)
    stat.ms_entries = 0;
  nf_index_read_end (index);
  return stat.ms_entries;
}
