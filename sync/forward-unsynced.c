// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/forward-internal.h"

/* What this site changed and the primary carried out, but perhaps not to its disk. If the primary's machine loses power in
 * between, it may be lost, and an fsync() that comes afterwards would find nothing left to sync and succeed. So FSYNC says
 * in which reign, and by which op, the last change was answered, and the primary knows whether it lost it.
 *
 * Entries go when they are old: a primary brings everything to its disk much sooner. */

#define OLD_MS (10 * 60 * 1000)
#define LOOK_EVERY 4096

typedef struct
{
  guint64 epoch;
  guint64 seq; /* 0: synced */
  gint64 ms;
} Unsynced;

static gboolean
is_old (gpointer key, gpointer value, gpointer data)
{
  (void)key;
  return *(gint64 *)data - ((Unsynced *)value)->ms > OLD_MS;
}

static void
drop_old (NfForward *forward, gint64 now_ms)
{
  if (g_hash_table_size (forward->unsynced) % LOOK_EVERY == LOOK_EVERY - 1)
    g_hash_table_foreach_remove (forward->unsynced, is_old, &now_ms);
}

void
nf_forward_note_unsynced (NfForward *forward, NfFid fid, guint64 seq)
{
  gint64 now_ms = nf_forward_now_ms (forward);
  Unsynced *unsynced = g_hash_table_lookup (forward->unsynced, &fid);

  if (fid == NF_FID_NONE || seq == 0)
    return;
  if (!unsynced)
    {
      drop_old (forward, now_ms);
      unsynced = g_new0 (Unsynced, 1);
      g_hash_table_insert (forward->unsynced, g_memdup2 (&fid, sizeof fid), unsynced);
    }
  unsynced->ms = now_ms;
  /* What an older reign may have lost stays on record until it has been told. */
  if (unsynced->seq != 0 && unsynced->epoch < forward->epoch)
    return;
  unsynced->epoch = forward->epoch;
  unsynced->seq = MAX (unsynced->seq, seq);
}

void
nf_forward_fill_fsync (NfForward *forward, NfMsg *msg)
{
  const Unsynced *unsynced = g_hash_table_lookup (forward->unsynced, &msg->fsync.fid);

  msg->fsync.since_epoch = unsynced && unsynced->seq != 0 ? unsynced->epoch : 0;
  msg->fsync.since_seq = unsynced ? unsynced->seq : 0;
}

void
nf_forward_note_synced (NfForward *forward, NfFid fid)
{
  g_hash_table_remove (forward->unsynced, &fid);
}
