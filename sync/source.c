// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/source.h"

#include "sync/primary-internal.h"
#include "sync/replica-internal.h"

/* The parts of a primary that only read, on a replica that stands still with all ops carried out that it has received.
 * Content that hasn't come here is suspect, and not given. */

static void
refuse (NfShare *share, const char *reason)
{
  NfMsg msg = { .type = NF_MSG_SUBSCRIBED };

  msg.subscribed.share = share->conf.id;
  msg.subscribed.verdict = NF_VERDICT_REFUSED;
  msg.subscribed.reason = nf_slice_str (reason);
  (void)share->host->send (share->host->data, share->conf.primary, FALSE, &msg);
}

/* NULL, or why not. */
static const char *
stand_still (NfReplica *replica, NfPosition *ret_position)
{
  const char *why = NULL;

  pthread_mutex_lock (&replica->work);
  if (replica->subscribed)
    why = "this site has a primary";
  else if (!nf_replica_knows_names (replica))
    why = "this site isn't in step itself";
  else if (!nf_replica_finish_all (replica))
    why = "this site isn't ready yet";
  else if (!nf_replica_knows_names (replica)) /* the ops have told of what never came here */
    why = "this site isn't in step itself";
  else
    replica->frozen = TRUE;
  *ret_position = replica->received;
  pthread_mutex_unlock (&replica->work);
  return why;
}

static void
begin (NfShare *share)
{
  NfPosition position;
  const char *why = stand_still (share->replica, &position);

  if (why)
    {
      refuse (share, why);
      return;
    }
  NfPrimary *source = nf_primary_new_source (share, position);
  pthread_mutex_lock (&share->lock);
  share->source = source;
  pthread_mutex_unlock (&share->lock);
  g_message ("share %s: %s takes back what it lost from here, up to op %" G_GUINT64_FORMAT,
             share->conf.name, share->conf.primary, position.seq);
}

gboolean
nf_source_message (NfShare *share, const NfMsg *msg)
{
  switch (msg->type)
    {
    case NF_MSG_SUBSCRIBE:
      if (!share->source)
        begin (share);
      break;
    case NF_MSG_POSITION:
    case NF_MSG_FETCH:
    case NF_MSG_LIST:
    case NF_MSG_HASH:
      break;
    default:
      return FALSE;
    }
  if (share->source)
    nf_primary_message (share->source, share->conf.primary, FALSE, msg);
  return TRUE;
}

void
nf_source_end (NfShare *share)
{
  pthread_mutex_lock (&share->lock);
  NfPrimary *source = g_steal_pointer (&share->source);
  pthread_mutex_unlock (&share->lock);
  if (!source)
    return;
  nf_primary_free_source (source);
  pthread_mutex_lock (&share->replica->work);
  share->replica->frozen = FALSE;
  pthread_mutex_unlock (&share->replica->work);
}

void
nf_source_drained (NfShare *share, gboolean bulk)
{
  pthread_mutex_lock (&share->lock);
  NfLife *life = share->source ? nf_life_ref (share->source->life) : NULL;
  pthread_mutex_unlock (&share->lock);
  NfPrimary *source = life ? nf_life_enter (life) : NULL;

  if (source)
    {
      nf_primary_drained (source, share->conf.primary, bulk);
      nf_life_leave (life);
    }
  if (life)
    nf_life_unref (life);
}
