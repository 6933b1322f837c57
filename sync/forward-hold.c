// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/forward-internal.h"

/* Which files the primary is to keep for this site, because they are open here.
 *
 * A file that is open for writing is held from its opening on, and one that can't be read here, too. One that is only
 * read costs the primary nothing until this site itself takes its last name: before that call goes out, it is held. (When
 * another site does it, who reads goes on reading what is here.) The primary carries out one site's messages in their order. */

/* A call that no reqid waits for: HOLD and DROP. With the lock. */
void
nf_forward_send_hold (NfForward *forward, NfMsgType type, NfFid fid)
{
  NfShare *share = forward->share;
  NfMsg msg = { .type = type };

  msg.head.share = share->conf.id;
  msg.head.epoch = forward->epoch;
  msg.head.acked = nf_pending_acked (&forward->calls);
  msg.hold.fid = fid; /* DROP has the same one field */
  if (type == NF_MSG_DROP)
    msg.drop.fid = fid;
  if (forward->up)
    (void)share->host->send (share->host->data, share->conf.primary, FALSE,
                             &msg); /* said again when up */
}

/* With the lock. */
static void
hold (NfForward *forward, NfFile *file, gboolean told)
{
  NfFid fid = file->fid;
  guint count = GPOINTER_TO_UINT (g_hash_table_lookup (forward->holds, &fid));

  if (file->held || file->closing)
    return;
  file->held = TRUE;
  g_hash_table_insert (forward->holds, g_memdup2 (&fid, sizeof fid), GUINT_TO_POINTER (count + 1));
  if (count == 0 && !told)
    nf_forward_send_hold (forward, NF_MSG_HOLD, fid);
}

void
nf_forward_hold (NfForward *forward, NfFile *file, gboolean told)
{
  pthread_mutex_lock (&forward->lock);
  hold (forward, file, told);
  pthread_mutex_unlock (&forward->lock);
}

static void
hold_one (NfFile *file, gpointer data)
{
  hold (data, file, FALSE);
}

void
nf_forward_hold_open (NfForward *forward, NfFid fid)
{
  pthread_mutex_lock (&forward->lock);
  nf_opens_each (forward->share->opens, fid, hold_one, forward);
  pthread_mutex_unlock (&forward->lock);
}

void
nf_forward_release (NfForward *forward, NfFile *file)
{
  pthread_mutex_lock (&forward->lock);
  for (GList *l = forward->calls.order.head; l; l = l->next)
    if (((NfPending *)l->data)->file == file)
      ((NfPending *)l->data)->file = NULL;
  guint count
      = file->held ? GPOINTER_TO_UINT (g_hash_table_lookup (forward->holds, &file->fid)) : 0;
  file->closing = TRUE;
  if (count > 1)
    g_hash_table_insert (forward->holds, g_memdup2 (&file->fid, sizeof file->fid),
                         GUINT_TO_POINTER (count - 1));
  else if (count == 1)
    {
      g_hash_table_remove (forward->holds, &file->fid);
      nf_forward_send_hold (forward, NF_MSG_DROP, file->fid);
    }
  pthread_mutex_unlock (&forward->lock);
}
