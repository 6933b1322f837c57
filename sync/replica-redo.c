// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/replica-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <gio/gio.h>

#include "sync/checkpoint.h"
#include "sync/restore.h"

/* What a life leaves to the next one. In the index:
 *
 *   position  epoch, seq, chain of the last op before which none is missing; then the seq up to which ops had been
 *             dealt with, and those of them that were deferred
 *   stamps    what of the tree is newer than those deferred (see replica-narrow.c)
 *   aborted   ops known to have had no effect at the primary
 *   boot      the system's boot; "clean" while nothing is running
 *
 * After kill -9 what was written is there, so only ops after the recorded position, less those known to be dealt
 * with, are gone over again: names and attributes are applied, and where content was perhaps half-written the range is
 * suspect until it has been fetched. After a power cut see replica-reboot.c. */

#define DIRTY_KEY "dirty"
/* Ranges of one file that are remembered singly. */
#define DIRTY_MAX 1024

/* Stamps that are recorded; where there are more, all after the position is gone over again instead. */
#define STAMPS_MAX 1024

/* ---- the recorded position ---- */

static void
put_stamp (NfFid fid, const NfStamp *stamp, NfBuf *buf)
{
  nf_buf_put_u64 (buf, fid);
  nf_buf_put_u64 (buf, stamp->names);
  nf_buf_put_u64 (buf, stamp->attr);
  nf_buf_put_u64 (buf, stamp->data);
  nf_buf_put_u64 (buf, stamp->placed);
  nf_buf_put_u64 (buf, stamp->times);
  nf_buf_put_u64 (buf, stamp->gone);
}

/* A deferred op may be known newer than it is, as those after it are that have been dealt with. The next life has to
 * know that, too: it carries out the one and not the others. FALSE: there are too many. GONE_ONLY: of what nobody has any
 * more, to which no name may be moved even if all is carried out again. */
static gboolean
put_stamps (NfReplica *replica, gboolean gone_only, NfBuf *buf)
{
  guint64 applied = nf_replica_position (replica).seq;
  GHashTableIter iter;
  gpointer key, value;
  guint n = 0;

  nf_buf_clear (buf);
  if (gone_only && replica->stamps_gone == 0)
    return TRUE;
  g_hash_table_iter_init (&iter, replica->stamps);
  while (g_hash_table_iter_next (&iter, &key, &value))
    {
      const NfStamp *stamp = value;
      const NfStamp gone = { .gone = stamp->gone };
      if (gone_only)
        stamp = &gone;
      if (nf_stamp_is_past (stamp, applied))
        continue;
      if (n++ == STAMPS_MAX)
        return FALSE;
      put_stamp (*(NfFid *)key, stamp, buf);
    }
  return TRUE;
}

static void
read_stamps (NfReplica *replica, NfReader *reader)
{
  while (nf_reader_left (reader) >= 7 * 8)
    {
      NfFid fid = nf_reader_u64 (reader);
      NfStamp *stamp = nf_replica_stamp_edit (replica, fid);
      stamp->names = nf_reader_u64 (reader);
      stamp->attr = nf_reader_u64 (reader);
      stamp->data = nf_reader_u64 (reader);
      stamp->placed = nf_reader_u64 (reader);
      stamp->times = nf_reader_u64 (reader);
      nf_replica_stamp_gone (replica, fid, nf_reader_u64 (reader));
    }
}

static int
put_position (NfReplica *replica, NfSlice position, NfSlice stamps)
{
  NfIndex *index = replica->share->index;
  gboolean any = stamps.len > 0;
  int err = nf_index_begin (index);

  if (err != 0)
    return err;
  err = nf_index_set_meta (index, "position", position);
  if (err == 0 && (any || replica->stamps_saved))
    err = nf_index_set_meta (index, "stamps", stamps);
  int committed = nf_index_commit (index);
  if (err == 0 && committed == 0)
    replica->stamps_saved = any;
  return err != 0 ? err : committed;
}

int
nf_replica_save (NfReplica *replica)
{
  g_auto (NfBuf) buf = NF_BUF_INIT;
  g_auto (NfBuf) stamps = NF_BUF_INIT;
  NfPosition position = nf_replica_position (replica);
  gboolean known = put_stamps (replica, FALSE, &stamps);
  guint64 upto = known ? replica->loaded.seq : position.seq;
  guint n = 0;

  nf_buf_put_u64 (&buf, position.epoch);
  nf_buf_put_u64 (&buf, position.seq);
  nf_buf_put_u64 (&buf, position.chain);
  gsize upto_at = buf.len;
  nf_buf_put_u64 (&buf, upto);
  for (GList *l = replica->undone.head; l && known; l = l->next)
    {
      const NfOp *op = l->data;
      if (n++ == NF_DEFERRED_MAX)
        {
          nf_buf_set_u64 (&buf, upto_at, op->before.seq);
          break;
        }
      nf_buf_put_u64 (&buf, op->position.seq);
    }
  if (!known && !put_stamps (replica, TRUE, &stamps))
    nf_buf_clear (&stamps);
  return put_position (replica, nf_buf_slice (&buf), nf_buf_slice (&stamps));
}

static void
read_seqs (NfReader *reader, GHashTable *set)
{
  while (nf_reader_left (reader) >= 8)
    {
      guint64 seq = nf_reader_u64 (reader);
      g_hash_table_add (set, g_memdup2 (&seq, sizeof seq));
    }
}

static NfReader
reader_of (GBytes *bytes)
{
  gsize len;
  const guint8 *data = g_bytes_get_data (bytes, &len);

  return nf_reader (nf_slice (data, len));
}

/* The seq of the position that the index has recorded, whether it fits the journal or not. */
static guint64
recorded_seq (NfReplica *replica)
{
  g_autoptr (GBytes) bytes = nf_index_get_meta (replica->share->index, "position");

  if (!bytes)
    return 0;
  NfReader reader = reader_of (bytes);
  (void)nf_reader_u64 (&reader); /* the epoch */
  return nf_reader_u64 (&reader);
}

/* FALSE if there is none, or none that fits the journal. */
static gboolean
restore_position (NfReplica *replica)
{
  NfIndex *index = replica->share->index;
  g_autoptr (GBytes) bytes = nf_index_get_meta (index, "position");
  g_autoptr (GBytes) aborted = nf_index_get_meta (index, "aborted");
  g_autoptr (GBytes) stamps = nf_index_get_meta (index, "stamps");
  NfPosition position, at;

  if (!bytes)
    return FALSE;
  NfReader reader = reader_of (bytes);
  position.epoch = nf_reader_u64 (&reader);
  position.seq = nf_reader_u64 (&reader);
  position.chain = nf_reader_u64 (&reader);
  replica->redo_upto = nf_reader_u64 (&reader);
  if (reader.failed || !nf_journal_position_at (replica->share->journal, position.seq, &at)
      || at.chain != position.chain)
    return FALSE;
  read_seqs (&reader, replica->redo_undone);
  if (aborted)
    {
      reader = reader_of (aborted);
      read_seqs (&reader, replica->aborted);
    }
  if (stamps)
    {
      reader = reader_of (stamps);
      read_stamps (replica, &reader);
    }
  replica->stamps_saved = stamps != NULL;
  replica->applied = replica->loaded = position;
  return TRUE;
}

static gboolean
collect_aborted (NfPosition position, NfSlice bytes, gpointer data)
{
  NfReplica *replica = data;
  NfRecord record;

  (void)position;
  if (nf_record_decode (bytes, &record) && record.kind == NF_OP_ABORT)
    g_hash_table_add (replica->aborted, g_memdup2 (&record.aborted, sizeof record.aborted));
  return TRUE;
}

/* Directories' times of ops that have been dealt with beyond the position: those before them that weren't, and are
 * applied now, must not set them back. */
static gboolean
collect_times (NfPosition position, NfSlice bytes, gpointer data)
{
  NfReplica *replica = data;
  NfRecord record;

  if (position.seq > replica->redo_upto)
    return FALSE;
  if (!g_hash_table_contains (replica->redo_undone, &position.seq)
      && !g_hash_table_contains (replica->aborted, &position.seq)
      && nf_record_decode (bytes, &record) && record.kind == NF_OP_NAMES)
    for (guint i = 0; i < record.n_names; i++)
      {
        NfStamp *stamp = nf_replica_stamp_edit (replica, record.names[i].parent);
        stamp->times = MAX (stamp->times, position.seq);
      }
  return TRUE;
}

/* ---- ahead of the position ---- */

/* What a listing has brought, or that something is gone, may be lost again with the primary's power, before the ops have come that say so. */
int
nf_replica_note_ahead (NfReplica *replica, guint64 seq)
{
  g_auto (NfBuf) buf = NF_BUF_INIT;
  guint64 epoch = nf_replica_epoch (replica);

  if (seq <= replica->received.seq || (epoch == replica->ahead_epoch && seq <= replica->ahead_seq))
    return 0;
  nf_buf_put_u64 (&buf, epoch);
  nf_buf_put_u64 (&buf, seq);
  int err = nf_index_set_meta (replica->share->index, "ahead", nf_buf_slice (&buf));
  if (err == 0)
    {
      replica->ahead_epoch = epoch;
      replica->ahead_seq = seq;
    }
  return err;
}

static void
read_ahead (NfReplica *replica)
{
  g_autoptr (GBytes) bytes = nf_index_get_meta (replica->share->index, "ahead");

  if (!bytes)
    return;
  NfReader reader = reader_of (bytes);
  replica->ahead_epoch = nf_reader_u64 (&reader);
  replica->ahead_seq = nf_reader_u64 (&reader);
}

/* ---- opening ---- */

static int
compare_all (NfReplica *replica)
{
  replica->fresh = TRUE;
  g_hash_table_remove_all (replica->stamps);
  replica->applied = replica->loaded = replica->received
      = nf_journal_last (replica->share->journal);
  replica->redo_upto = replica->redo_end = 0;
  g_hash_table_remove_all (replica->redo_undone);
  int err = nf_replica_suspect_all (replica);
  return err != 0 ? err : nf_replica_forget_unnamed (replica);
}

/* Where content was being put in place, the file's times may be those of that. */
static int
suspect_times (NfReplica *replica)
{
  NfIndex *index = replica->share->index;
  NfObject object = { 0 };
  int err = nf_index_suspects (index) > 0 ? nf_index_begin (index) : 0;

  if (err != 0 || nf_index_suspects (index) == 0)
    return err;
  while (err == 0 && nf_index_next_suspect (index, object.fid, &object))
    if (object.suspect & NF_SUSPECT_DATA)
      err = nf_index_set_suspect (index, object.fid, NF_SUSPECT_ATTR, 0);
  int committed = nf_index_commit (index);
  return err != 0 ? err : committed;
}

static int
redo (NfReplica *replica)
{
  NfJournal *journal = replica->share->journal;
  int err = suspect_times (replica);

  if (err != 0)
    return err;
  replica->received = nf_journal_last (journal);
  replica->redo_end = replica->received.seq;
  if (nf_journal_read (journal, replica->applied.seq, collect_aborted, replica) != 0
      || nf_journal_read (journal, replica->applied.seq, collect_times, replica) != 0)
    return compare_all (replica);
  replica->fresh = FALSE;
  nf_replica_settle (replica);
  /* What lost its name in the redo and got none again is gone for good; nothing is being staged yet. */
  return replica->loaded.seq == replica->received.seq ? nf_tree_sweep (replica->share->tree) : 0;
}

static int
go_on_after_reboot (NfReplica *replica)
{
  int err = nf_replica_rebind (replica, recorded_seq (replica));

  if (err != 0)
    return err;
  return restore_position (replica) && nf_replica_goes_on (replica) ? redo (replica)
                                                                    : compare_all (replica);
}

/* A primary's: the history is our own, and goes on at the source, but what is here of it isn't certain. */
static int
begin_restoring (NfReplica *replica)
{
  int err = nf_replica_rebind (replica, nf_checkpoint_index_mark (replica->share));

  if (err == 0)
    err = compare_all (replica);
  replica->fresh = FALSE;
  if (nf_restore_keeps_all (replica->share->restore))
    nf_replica_set_parted (replica, TRUE);
  return err;
}

static int
begin (NfReplica *replica)
{
  g_autoptr (GBytes) parted = nf_index_get_meta (replica->share->index, "parted");
  int err;
  gboolean whole = nf_replica_is_whole (replica, &err);

  replica->parted = parted != NULL;
  if (err != 0)
    return err;
  read_ahead (replica);
  if (!whole)
    return go_on_after_reboot (replica);
  return restore_position (replica) ? redo (replica) : compare_all (replica);
}

gboolean
nf_replica_recover (NfReplica *replica, GError **error)
{
  int err = replica->share->restore ? begin_restoring (replica) : begin (replica);

  if (err == 0)
    return TRUE;
  if (err == -EBADMSG)
    g_set_error (error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, "the journal is damaged");
  else
    g_set_error (error, G_FILE_ERROR, g_file_error_from_errno (-err),
                 "recover the replica in %s: %s", replica->share->conf.dir, g_strerror (-err));
  return FALSE;
}

/* ---- reading on in the journal ---- */

static gboolean
has_room (NfReplica *replica)
{
  /* A complete transfer waits for the ops up to its stamp: those come in whatever there is. */
  return (replica->undone.length < NF_UNDONE_MAX && replica->undone_cost < NF_UNDONE_COST_MAX)
         || nf_transfers_needs (replica->transfers) > replica->loaded.seq;
}

void
nf_replica_load_more (NfReplica *replica)
{
  while (replica->loaded.seq < replica->received.seq && has_room (replica)
         && !nf_replica_gated (replica))
    {
      if (nf_replica_take_arrived (replica))
        {
          nf_replica_run_ready (replica);
          continue;
        }
      NfPosition position;
      g_autoptr (GBytes) bytes
          = nf_journal_get (replica->share->journal, replica->loaded.seq, &position);
      if (!bytes)
        {
          g_warning ("share %s: the journal can't be read after %" G_GUINT64_FORMAT
                     ": all is compared",
                     replica->share->conf.name, replica->loaded.seq);
          replica->fresh = TRUE;
          replica->loaded = replica->received;
          (void)nf_replica_suspect_all (replica);
          nf_replica_retry_later (replica);
          replica->subscribed = FALSE;
          return;
        }
      gsize len;
      const guint8 *data = g_bytes_get_data (bytes, &len);
      nf_replica_take (replica, position, bytes, nf_slice (data, len), NF_SLICE_NONE);
      nf_replica_run_ready (replica);
    }
}

/* ---- ranges that can't be trusted ---- */

static int
put_ranges (NfShare *share, NfFid fid, NfSlice ranges)
{
  int err = nf_index_begin (share->index);

  if (err != 0)
    return err;
  err = nf_index_set_suspect (share->index, fid, NF_SUSPECT_DATA, 0);
  if (err == 0)
    err = nf_index_set_extra (share->index, fid, DIRTY_KEY, ranges);
  int committed = nf_index_commit (share->index);
  return err != 0 ? err : committed;
}

int
nf_dirty_add (NfShare *share, NfFid fid, guint64 start, guint64 end)
{
  g_auto (NfBuf) buf = NF_BUF_INIT;
  g_autoptr (GBytes) old = nf_index_get_extra (share->index, fid, DIRTY_KEY);
  NfObject object;

  if (!nf_index_get (share->index, fid, &object))
    return 0;
  if (old)
    nf_buf_put_raw (&buf, g_bytes_get_data (old, NULL), g_bytes_get_size (old));
  else if (object.suspect & NF_SUSPECT_DATA)
    return 0; /* the whole file is suspect already */
  if (buf.len / 16 >= DIRTY_MAX)
    return nf_dirty_whole (share, fid);
  nf_buf_put_u64 (&buf, start);
  nf_buf_put_u64 (&buf, end);
  return put_ranges (share, fid, nf_buf_slice (&buf));
}

int
nf_dirty_whole (NfShare *share, NfFid fid)
{
  return put_ranges (share, fid, NF_SLICE_NONE);
}

int
nf_dirty_clear (NfShare *share, NfFid fid)
{
  int err = nf_index_begin (share->index);

  if (err != 0)
    return err;
  err = nf_index_set_suspect (share->index, fid, 0, NF_SUSPECT_DATA);
  if (err == 0)
    err = nf_index_set_extra (share->index, fid, DIRTY_KEY, NF_SLICE_NONE);
  int committed = nf_index_commit (share->index);
  return err != 0 ? err : committed;
}

gboolean
nf_dirty_each (NfShare *share, NfFid fid, NfSegmentFunc func, gpointer data)
{
  g_autoptr (GBytes) ranges = nf_index_get_extra (share->index, fid, DIRTY_KEY);

  if (!ranges)
    return FALSE;
  NfReader reader = reader_of (ranges);
  while (nf_reader_left (&reader) >= 16)
    {
      guint64 start = nf_reader_u64 (&reader);
      guint64 end = nf_reader_u64 (&reader);
      func (start, end, data);
    }
  return TRUE;
}
