// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/forward-internal.h"

/* What this site changed and the primary carried out, but perhaps not to its disk. If the primary's machine loses power in
 * between, it may be lost, and an fsync() that comes afterwards would find nothing left to sync and succeed. So FSYNC says
 * in which reign, and by which op, the last change was answered, and the primary knows whether it lost it.
 *
 * Entries go when they are old: a primary brings everything to its disk much sooner. If there are too many before that,
 * they become one that stands for all objects, which at worst makes an fsync() after a power cut fail for nothing. */

#define OLD_MS (10 * 60 * 1000)
#define ENTRIES_MAX 65536

static gboolean
is_old (const NfUnsynced *unsynced, gint64 now_ms)
{
  return now_ms - unsynced->ms > OLD_MS;
}

static gboolean
entry_is_old (gpointer key, gpointer value, gpointer data)
{
  (void)key;
  return is_old (value, *(gint64 *)data);
}

/* Both are of one object, or of many. */
static void
join (NfUnsynced *unsynced, const NfUnsynced *other)
{
  if (unsynced->seq == 0 || other->epoch < unsynced->epoch)
    {
      guint64 later = unsynced->seq == 0 ? other->later : MAX (unsynced->seq, unsynced->later);
      *unsynced = (NfUnsynced){ other->epoch, other->seq, MAX (later, other->later), other->ms };
    }
  else if (other->epoch == unsynced->epoch)
    {
      unsynced->seq = MAX (unsynced->seq, other->seq);
      unsynced->later = MAX (unsynced->later, other->later);
    }
  else
    unsynced->later = MAX (unsynced->later, MAX (other->seq, other->later));
  unsynced->ms = MAX (unsynced->ms, other->ms);
}

static void
make_room (NfForward *forward, gint64 now_ms)
{
  GHashTableIter iter;
  gpointer value;

  if (g_hash_table_size (forward->unsynced) < ENTRIES_MAX)
    return;
  g_hash_table_foreach_remove (forward->unsynced, entry_is_old, &now_ms);
  if (g_hash_table_size (forward->unsynced) < ENTRIES_MAX / 2)
    return;
  g_hash_table_iter_init (&iter, forward->unsynced);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    join (&forward->unsynced_rest, value);
  g_hash_table_remove_all (forward->unsynced);
}

void
nf_forward_note_unsynced (NfForward *forward, NfFid fid, guint64 seq)
{
  gint64 now_ms = nf_forward_now_ms (forward);
  const NfUnsynced change = { forward->epoch, seq, 0, now_ms };
  NfUnsynced *unsynced = g_hash_table_lookup (forward->unsynced, &fid);

  if (fid == NF_FID_NONE || seq == 0)
    return;
  if (!unsynced)
    {
      make_room (forward, now_ms);
      unsynced = g_new0 (NfUnsynced, 1);
      g_hash_table_insert (forward->unsynced, g_memdup2 (&fid, sizeof fid), unsynced);
    }
  join (unsynced, &change);
}

void
nf_forward_fill_fsync (NfForward *forward, NfMsg *msg)
{
  const NfUnsynced *unsynced = g_hash_table_lookup (forward->unsynced, &msg->fsync.fid);
  NfUnsynced both = { 0 };

  if (unsynced)
    both = *unsynced;
  if (forward->unsynced_rest.seq != 0
      && !is_old (&forward->unsynced_rest, nf_forward_now_ms (forward)))
    join (&both, &forward->unsynced_rest);
  msg->fsync.since_epoch = both.seq != 0 ? both.epoch : 0;
  msg->fsync.since_seq = both.seq;
}

void
nf_forward_note_synced (NfForward *forward, const NfMsg *fsync)
{
  NfFid fid = fsync->fsync.fid;
  NfUnsynced *unsynced = g_hash_table_lookup (forward->unsynced, &fid);

  /* What was answered while it was under way isn't in it. */
  if (!unsynced || unsynced->epoch > fsync->fsync.since_epoch
      || (unsynced->epoch == fsync->fsync.since_epoch && unsynced->seq > fsync->fsync.since_seq))
    return;
  if (unsynced->later == 0)
    g_hash_table_remove (forward->unsynced, &fid);
  else
    *unsynced = (NfUnsynced){ forward->epoch, unsynced->later, 0, unsynced->ms };
}
