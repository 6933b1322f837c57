// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/primary-recover.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <gio/gio.h>

#include "sync/audit.h"
#include "sync/boot.h"
#include "sync/checkpoint.h"
#include "sync/intents.h"
#include "sync/rebind.h"
#include "sync/restore.h"

/* Opening a primary, and what was under way when the last process died.
 *
 * The index knows the watermark ("done") as of its last commit. After the death of the process everything up to it
 * is on the disk and in the index. After a power cut that holds only for the last checkpoint ("durable"), after which
 * the disk may have any part.
 *
 * A clean end leaves "clean", which is gone as soon as the share is open again: then nothing is looked at, and the
 * reign goes on. Otherwise primary-redo.c settles the records above, and a new reign begins, durable before its first
 * op. */

/* Ops between two checkpoints: what a power cut makes us look at. */
#define CHECKPOINT_OPS 16384
/* Nor does what was changed longer ago than this stay uncertain. */
#define CHECKPOINT_MS (30 * 1000)
/* Records read at the start for the request ids in them; a site has fewer calls under way. */
#define ANSWERS_BACK 65536

static guint64
get_share_meta (NfShare *share, const char *key, guint64 otherwise)
{
  g_autoptr (GBytes) bytes = nf_index_get_meta (share->index, key);
  guint64 value;

  if (!bytes || g_bytes_get_size (bytes) != sizeof value)
    return otherwise;
  memcpy (&value, g_bytes_get_data (bytes, NULL), sizeof value);
  return GUINT64_FROM_LE (value);
}

guint64
nf_primary_get_meta (NfPrimary *primary, const char *key, guint64 otherwise)
{
  return get_share_meta (primary->share, key, otherwise);
}

int
nf_primary_set_meta (NfPrimary *primary, const char *key, guint64 value)
{
  guint64 stored = GUINT64_TO_LE (value);

  return nf_index_set_meta (primary->share->index, key, nf_slice (&stored, sizeof stored));
}

int
nf_primary_set_epoch (NfShare *share, guint64 epoch)
{
  guint64 stored = GUINT64_TO_LE (epoch);

  return nf_index_set_meta (share->index, "epoch", nf_slice (&stored, sizeof stored));
}

int
nf_primary_raise_epoch (NfPrimary *primary, guint64 epoch)
{
  return nf_primary_set_epoch (primary->share, MAX (primary->epoch, epoch));
}

int
nf_primary_forget_journal (NfShare *share, NfPosition *ret_start)
{
  guint64 done = MAX (get_share_meta (share, "done", 0), get_share_meta (share, "clean", 0));
  int err = nf_index_set_meta (share->index, "clean", NF_SLICE_NONE);

  ret_start->epoch = get_share_meta (share, "epoch", 0);
  ret_start->seq = MAX (done, get_share_meta (share, "durable", 0));
  if (err == 0 && nf_restore_state (share) == NF_RESTORE_NONE)
    err = nf_restore_set_state (share, NF_RESTORE_ALONE);
  return err;
}

gboolean
nf_primary_is_unshared (NfPrimary *primary)
{
  return nf_primary_get_meta (primary, "unshared", 0) != 0;
}

void
nf_primary_followed (NfPrimary *primary)
{
  if (g_atomic_int_compare_and_exchange (&primary->unshared, TRUE, FALSE))
    (void)nf_index_set_meta (primary->share->index, "unshared", NF_SLICE_NONE);
}

/* ---- checkpoints ---- */

/* 0 or -errno. */
static int
bring_to_disk (NfPrimary *primary, guint64 mark)
{
  int err = nf_checkpoint_make (primary->share, mark);

  if (err == 0)
    __atomic_store_n (&primary->durable, mark, __ATOMIC_RELAXED);
  return err;
}

static void
checkpoint (gpointer data)
{
  NfLife *life = data;
  NfPrimary *primary = nf_life_enter (life);

  if (primary)
    {
      /* If it fails, the next one says so again, and a power cut costs more to look at. */
      (void)bring_to_disk (primary, nf_order_watermark (primary->order));
      g_atomic_int_set (&primary->checkpointing, FALSE);
      nf_life_leave (life);
    }
  nf_life_unref (life);
}

static void
begin_checkpoint (NfPrimary *primary)
{
  NfHost *host = primary->share->host;

  if (g_atomic_int_compare_and_exchange (&primary->checkpointing, FALSE, TRUE))
    host->post (host->data, checkpoint, nf_life_ref (primary->life));
}

static void
checkpoint_due (gpointer data)
{
  NfLife *life = data;
  NfPrimary *primary = nf_life_enter (life);

  if (primary)
    {
      g_atomic_int_set (&primary->checkpoint_due, FALSE);
      begin_checkpoint (primary);
      nf_life_leave (life);
    }
  nf_life_unref (life);
}

void
nf_primary_checkpoint_soon (NfPrimary *primary)
{
  NfHost *host = primary->share->host;
  guint64 durable = __atomic_load_n (&primary->durable, __ATOMIC_RELAXED);

  if (nf_order_watermark (primary->order) >= durable + CHECKPOINT_OPS)
    begin_checkpoint (primary);
  else if (g_atomic_int_compare_and_exchange (&primary->checkpoint_due, FALSE, TRUE))
    host->post_after (host->data, CHECKPOINT_MS, checkpoint_due, nf_life_ref (primary->life));
}

void
nf_primary_close_clean (NfPrimary *primary)
{
  guint64 last = nf_journal_last (primary->share->journal).seq;
  int err = -EIO;

  if (!g_atomic_int_get (&primary->broken) && nf_order_watermark (primary->order) == last)
    err = nf_primary_set_meta (primary, "done", last);
  if (err == 0)
    err = bring_to_disk (primary, last);
  if (err == 0)
    err = nf_primary_set_meta (primary, "clean", last);
  if (err == 0)
    err = nf_index_sync (primary->share->index);
  if (err != 0)
    g_log_structured (
        G_LOG_DOMAIN, G_LOG_LEVEL_WARNING, "NF_SHARE", primary->share->conf.name, "MESSAGE",
        "Share %s couldn't be closed cleanly: the next start looks at what was under way",
        primary->share->conf.name);
}

/* ---- request ids ---- */

/* What the journal says was asked for is taken for answered, but for one thing: a record that is its object's last before a
 * reign that an unclean end has begun may have been appended and not made, or not all of it (after it there would be another
 * only if it had been). Whoever has no answer to that asks again, however many lives later, and it is made then. Where it
 * can be seen to be so already it isn't: a range never can, and one more write of the same bytes is no harm. */
typedef struct
{
  NfPrimary *primary;
  GHashTable *aborted; /* of seq */
  GHashTable *last;    /* fid → seq: of this reign's records */
  GHashTable *unsure;  /* of seq */
} Answers;

static void
note_last (Answers *answers, NfFid fid, guint64 seq)
{
  if (fid != NF_FID_NONE)
    g_hash_table_insert (answers->last, g_memdup2 (&fid, sizeof fid), g_memdup2 (&seq, sizeof seq));
}

static void
end_of_reign (Answers *answers)
{
  GHashTableIter iter;
  gpointer seq;

  g_hash_table_iter_init (&iter, answers->last);
  while (g_hash_table_iter_next (&iter, NULL, &seq))
    g_hash_table_add (answers->unsure, g_memdup2 (seq, sizeof (guint64)));
  g_hash_table_remove_all (answers->last);
}

static gboolean
note_record (NfPosition position, NfSlice bytes, gpointer data)
{
  Answers *answers = data;
  NfRecord record;

  if (!nf_record_decode (bytes, &record))
    return TRUE;
  if (record.kind == NF_OP_ABORT)
    g_hash_table_add (answers->aborted, g_memdup2 (&record.aborted, sizeof record.aborted));
  else if (record.kind == NF_OP_EPOCH)
    end_of_reign (answers);
  note_last (answers, record.fid, position.seq);
  for (guint i = 0; i < record.n_names; i++)
    {
      note_last (answers, record.names[i].parent, position.seq);
      note_last (answers, record.names[i].fid, position.seq);
    }
  return TRUE;
}

/* Names were looked at by the redo: what wasn't made of them was aborted. */
static gboolean
is_seen_made (NfShare *share, const NfRecord *record)
{
  g_autofree char *name = NULL;
  g_autofree char *value = NULL;
  NfAttr now;

  switch (record->kind)
    {
    case NF_OP_NAMES:
      return TRUE;
    case NF_OP_ATTR:
      return nf_tree_stat (share->tree, record->fid, &now) == 0
             && (nf_exec_differs (&record->attr, &now, record->mask) & record->mask) == 0;
    case NF_OP_XATTR:
      name = nf_slice_dup (record->xname);
      value = g_malloc (NF_XATTR_MAX);
      int len = nf_tree_getxattr (share->tree, record->fid, name, value, NF_XATTR_MAX);
      return record->removes
                 ? len == -ENODATA
                 : len >= 0 && nf_slice_equal (nf_slice (value, (gsize)len), record->value);
    default:
      return FALSE;
    }
}

static gboolean
note_answer (NfPosition position, NfSlice bytes, gpointer data)
{
  Answers *answers = data;
  NfAnswer answer = { .seq = position.seq, .rebuilt = TRUE };
  NfRecord record;

  if (!nf_record_decode (bytes, &record) || record.reqid == 0 || record.site.len == 0
      || g_hash_table_contains (answers->aborted, &position.seq))
    return TRUE;
  answer.unsure = g_hash_table_contains (answers->unsure, &position.seq)
                  && !is_seen_made (answers->primary->share, &record);
  answer.offset = record.offset;
  g_autofree char *site = nf_slice_dup (record.site);
  answer.attr.fid = record.fid;
  answer.value = record.kind == NF_OP_DATA ? record.length : (guint64)record.creates;
  nf_answered_end (answers->primary->answered, site, record.reqid, &answer);
  return TRUE;
}

static void
rebuild_answers (NfPrimary *primary)
{
  NfJournal *journal = primary->share->journal;
  guint64 first = nf_journal_first (journal).seq;
  guint64 last = nf_journal_last (journal).seq;
  guint64 from = MAX (first, last > ANSWERS_BACK ? last - ANSWERS_BACK : 0);
  g_autoptr (GHashTable) aborted
      = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
  g_autoptr (GHashTable) lasts
      = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, g_free);
  g_autoptr (GHashTable) unsure = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
  Answers answers = { primary, aborted, lasts, unsure };

  (void)nf_journal_read (journal, from, note_record, &answers);
  (void)nf_journal_read (journal, from, note_answer, &answers);
}

/* ---- opening ---- */

/* This machine has been started anew since the share was open: BOOT is another one. */
static gboolean
rebooted (NfPrimary *primary, NfSlice boot)
{
  g_autoptr (GBytes) then = nf_index_get_meta (primary->share->index, "boot");

  return !then || boot.len == 0
         || !nf_slice_equal (boot,
                             nf_slice (g_bytes_get_data (then, NULL), g_bytes_get_size (then)));
}

static void
start_order (NfPrimary *primary, guint64 watermark)
{
  primary->order = nf_order_new (watermark);
  primary->broadcast = nf_broadcast_new (primary->share, primary->order);
  primary->saved = watermark;
}

static int
begin_reign (NfPrimary *primary)
{
  static const NfCallHead nobody;
  NfRecord record = { .kind = NF_OP_EPOCH };
  NfExec exec;
  int err;

  primary->epoch++;
  nf_exec_init (&exec, primary, NULL, NULL, NULL, &nobody, NULL);
  nf_exec_lock (&exec, NULL, 0);
  err = nf_exec_append (&exec, &record, FALSE);
  nf_exec_end (&exec);
  if (err == 0)
    err = nf_restore_set_state (primary->share, NF_RESTORE_NONE);
  if (err == 0)
    err = nf_primary_set_meta (primary, "epoch", primary->epoch);
  if (err == 0)
    err = nf_primary_set_meta (primary, "done", nf_order_watermark (primary->order));
  if (err == 0 && primary->lossy_epoch == primary->epoch)
    err = nf_primary_set_meta (primary, "lossy-epoch", primary->lossy_epoch);
  if (err == 0 && primary->lossy_epoch == primary->epoch)
    err = nf_primary_set_meta (primary, "lossy-seq", primary->lossy_seq);
  return err != 0 ? err : bring_to_disk (primary, nf_order_watermark (primary->order));
}

/* After a power cut the index is older than the tree, and the tree may have what no record speaks of any more. */
static int
look_through (NfPrimary *primary, gint64 since)
{
  const NfAuditOptions options = { .newer_than = since, .max_lost = nf_audit_lost_max (primary) };
  NfAuditCounts counts;
  int err = nf_primary_audit (primary, &options, &counts);

  if (err != 0)
    return err;
  g_log_structured (G_LOG_DOMAIN, G_LOG_LEVEL_WARNING, "NF_SHARE", primary->share->conf.name,
                    "MESSAGE",
                    "Share %s: the machine went down while it was in use. Of %" G_GUINT64_FORMAT
                    " entries %" G_GUINT64_FORMAT " were taken in, %" G_GUINT64_FORMAT
                    " had been moved, %" G_GUINT64_FORMAT " are gone, %" G_GUINT64_FORMAT
                    " are said to the other sites as they stand",
                    primary->share->conf.name, counts.entries, counts.foreign, counts.names,
                    counts.lost, counts.newer);
  if (counts.lost_left > 0)
    g_log_structured (
        G_LOG_DOMAIN, G_LOG_LEVEL_WARNING, "NF_SHARE", primary->share->conf.name, "MESSAGE",
        "Share %s: so many entries are gone from %s that the other sites keep theirs. Bring them "
        "back "
        "from there or from a backup; if they are to go, run \"nearfs fsck -y --allow-delete %s\"",
        primary->share->conf.name, primary->share->conf.dir, primary->share->conf.name);
  return bring_to_disk (primary, nf_order_watermark (primary->order));
}

/* What was changed by ops after FROM up to LAST, which the site that all was taken back from doesn't know, may have lost
 * something of earlier ones here that the others have. So may what that site hadn't got either. */
static int
say_own (NfPrimary *primary, guint64 from, guint64 last)
{
  g_autoptr (GHashTable) own = nf_restore_keys_new ();
  int err = nf_restore_read_kept (primary->share, from, last, own);
  GHashTableIter iter;
  gpointer key;

  g_hash_table_iter_init (&iter, own);
  while (err == 0 && g_hash_table_iter_next (&iter, &key, NULL))
    err = nf_primary_say_anew (primary, *(NfFid *)key);
  return err;
}

/* Written over since the last checkpoint: no time need tell of it. */
static int
say_written_over (NfPrimary *primary)
{
  g_autoptr (GArray) fids = nf_intents_list (primary->share->intents);
  int err = 0;

  for (guint i = 0; err == 0 && i < fids->len; i++)
    err = nf_primary_say_anew (primary, g_array_index (fids, NfFid, i));
  return err;
}

static int
open_unclean (NfPrimary *primary, gboolean reboot, NfRestoreState restore)
{
  /* Then all is as another site had it, but for our own later ops. */
  gboolean restored = restore == NF_RESTORE_DONE || restore == NF_RESTORE_MIXED;
  guint64 last = nf_journal_last (primary->share->journal).seq;
  guint64 done = MIN (nf_primary_get_meta (primary, "done", 0), last);
  guint64 durable = nf_checkpoint_index_mark (primary->share);
  NfCheckpoint checkpoint = nf_checkpoint_last (primary->share);
  guint64 from = restored ? MIN (nf_restore_upto (primary->share), last)
                 : reboot ? MIN (durable, done)
                          : done;
  guint64 first = nf_journal_first (primary->share->journal).seq;
  gboolean fresh = last == 0;
  guint rebound;
  int err;

  from = MAX (from, first);
  start_order (primary, from);
  if (fresh && restore == NF_RESTORE_NONE)
    (void)nf_primary_set_meta (primary, "unshared", 1);
  gint64 since = restored ? G_MAXINT64 : checkpoint.time;
  if (reboot && !fresh)
    {
      primary->lossy_epoch = primary->epoch + 1; /* the one that begins here */
      primary->lossy_seq = restored ? from : checkpoint.mark;
    }
  err = reboot ? nf_rebind (primary->share, MAX (durable, first), &rebound) : 0;
  /* The reign begins before anything of it is said: the first record that follows what may be lost tells the others. */
  if (err == 0)
    err = begin_reign (primary);
  if (err == 0)
    err = nf_primary_redo (primary, from, last, reboot, checkpoint.mark);
  if (err == 0 && reboot && !fresh)
    err = look_through (primary, since);
  if (err == 0 && reboot && !fresh && !restored)
    err = say_written_over (primary);
  if (err == 0 && restored)
    err = say_own (primary, from, last);
  if (err == 0 && (fresh || nf_primary_get_meta (primary, "adopting", 0) != 0))
    nf_adopter_scan (primary->adopter, NF_FID_ROOT, TRUE);
  return err;
}

static int
open_clean (NfPrimary *primary, guint64 last)
{
  int err = nf_primary_set_meta (primary, "clean", 0);

  if (err == 0)
    err = nf_index_sync (primary->share->index);
  start_order (primary, last);
  primary->durable = last;
  if (err == 0 && nf_primary_get_meta (primary, "adopting", 0) != 0)
    nf_adopter_scan (primary->adopter, NF_FID_ROOT, TRUE);
  return err;
}

gboolean
nf_primary_recover (NfPrimary *primary, GError **error)
{
  NfShare *share = primary->share;
  NfPosition last = nf_journal_last (share->journal);
  const NfBootId boot = nf_boot_id ();
  NfRestoreState restore = nf_restore_state (share);
  gboolean reboot = rebooted (primary, nf_slice_str (boot.str)) || restore != NF_RESTORE_NONE;
  gboolean clean = restore == NF_RESTORE_NONE && last.seq > 0
                   && nf_primary_get_meta (primary, "clean", 0) == last.seq;
  int err;

  primary->epoch = MAX (nf_primary_get_meta (primary, "epoch", 0), last.epoch);
  primary->lossy_epoch = nf_primary_get_meta (primary, "lossy-epoch", 0);
  primary->lossy_seq = nf_primary_get_meta (primary, "lossy-seq", 0);
  nf_intents_hold (share->intents, reboot && !clean);
  err = clean ? open_clean (primary, last.seq) : open_unclean (primary, reboot, restore);
  if (err != 0)
    {
      /* Not by its own code: that something wasn't found isn't that the share isn't here. */
      g_set_error (error, G_IO_ERROR, err == -EBADMSG ? G_IO_ERROR_INVALID_DATA : G_IO_ERROR_FAILED,
                   "Can't recover the share %s in %s: %s", share->conf.name, share->conf.dir,
                   g_strerror (-err));
      return FALSE;
    }
  primary->unshared = nf_primary_is_unshared (primary);
  rebuild_answers (primary);
  nf_broadcast_set_lossy (primary->broadcast, primary->lossy_epoch);
  /* Who stands at some point of the history would take itself to be in step with what never was, or take what was lost
   * here to have been removed. */
  if (restore == NF_RESTORE_MIXED || restore == NF_RESTORE_ALONE)
    (void)nf_journal_restart (share->journal, nf_journal_last (share->journal));
  /* Only now: whoever is killed before looks once more. */
  (void)nf_index_set_meta (share->index, "boot", nf_slice_str (boot.str));
  nf_intents_hold (share->intents, FALSE);
  pthread_mutex_lock (&share->lock);
  share->epoch = primary->epoch;
  pthread_mutex_unlock (&share->lock);
  return TRUE;
}
