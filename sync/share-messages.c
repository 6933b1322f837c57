// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/share-internal.h"

#include "sync/claims.h"
#include "sync/restore.h"
#include "sync/source.h"

/* What comes from other sites, each message to the part that it is for, on a strand. */

/* The primary's strands: one for each site and connection, so that one site's requests keep their
 * order and don't wait for another's. */
typedef struct
{
  NfShare *share;
  char *site;
  gboolean bulk;
  NfMsg *msg;
} Delivery;

static void
delivery_free (Delivery *delivery)
{
  g_free (delivery->site);
  if (delivery->msg)
    nf_msg_free (delivery->msg);
  g_free (delivery);
}

static void deliver (gpointer arg);

/* Does this thread deliver another op right after the one that it is at? */
static gboolean
op_is_next (void)
{
  NfFunc func;
  gpointer arg;

  return nf_strand_next (&func, &arg) && func == deliver
         && ((const Delivery *)arg)->msg->type == NF_MSG_OP;
}

static void
deliver (gpointer arg)
{
  Delivery *delivery = arg;
  NfShare *share = delivery->share;

  if (share->primary)
    nf_primary_message (share->primary, delivery->site, delivery->bulk, delivery->msg);
  else if (delivery->msg->type == NF_MSG_ANSWER)
    nf_forward_answer (share->forward, delivery->msg);
  else if (delivery->msg->type == NF_MSG_GRANTED || delivery->msg->type == NF_MSG_LOST
           || delivery->msg->type == NF_MSG_RECALL)
    nf_claims_message (share->claims, delivery->msg);
  else if (share->restore || !nf_source_message (share, delivery->msg))
    {
      gboolean more = delivery->msg->type == NF_MSG_OP && op_is_next ();
      nf_replica_message (share->replica, g_steal_pointer (&delivery->msg), more);
    }
  delivery_free (delivery);
}

static void
deliver_up (gpointer arg)
{
  Delivery *delivery = arg;

  if (delivery->share->primary)
    nf_primary_peer_up (delivery->share->primary, delivery->site);
  else
    nf_replica_peer_up (delivery->share->replica);
  delivery_free (delivery);
}

static void
deliver_down (gpointer arg)
{
  Delivery *delivery = arg;
  NfShare *share = delivery->share;

  if (share->primary)
    nf_primary_peer_down (share->primary, delivery->site);
  else
    {
      pthread_mutex_lock (&share->lock);
      share->connected = FALSE;
      pthread_mutex_unlock (&share->lock);
      nf_source_end (share);
      nf_replica_peer_down (share->replica);
      nf_forward_peer_down (share->forward);
      nf_claims_peer_down (share->claims);
    }
  delivery_free (delivery);
}

/* The strand for SITE's messages: at the primary one for each connection, elsewhere one for all
 * (the primary's ops and what is fetched for them belong together). With the lock. */
static NfStrand *
strand_for (NfShare *share, const char *site, gboolean bulk)
{
  g_autofree char *key = share->primary ? g_strdup_printf ("%s%s", bulk ? "bulk " : "ops ", site)
                                        : g_strdup ("primary");
  NfStrand *strand = g_hash_table_lookup (share->strands, key);

  if (!strand)
    {
      strand = nf_strand_new (share->host);
      g_hash_table_insert (share->strands, g_steal_pointer (&key), strand);
    }
  return strand;
}

static void
post_delivery (NfShare *share, const char *site, gboolean bulk, NfMsg *msg, NfFunc func)
{
  Delivery *delivery = g_new0 (Delivery, 1);

  *delivery = (Delivery){ share, g_strdup (site), bulk, msg };
  pthread_mutex_lock (&share->lock);
  gboolean closing = share->closing;
  if (!closing)
    nf_strand_post (strand_for (share, site, bulk), func, delivery);
  pthread_mutex_unlock (&share->lock);
  if (closing)
    delivery_free (delivery);
}

/* Only the primary matters to the others, and the members to it. */
static gboolean
concerns (NfShare *share, const char *site)
{
  return share->primary || g_str_equal (site, share->conf.primary);
}

void
nf_share_follow (NfShare *share, const char *site)
{
  const char *primary = g_strdup (site);

  __atomic_store_n (&share->conf.primary, primary, __ATOMIC_RELEASE);
  post_delivery (share, site, FALSE, NULL, deliver_up);
}

void
nf_share_peer_up (NfShare *share, const char *site, const NfHelloShare *theirs)
{
  /* Else the position comes again in SUBSCRIBE, when it counts. */
  if (share->restore)
    nf_restore_peer_up (share->restore, site, theirs);
  if (nf_restore_is_behind (share, theirs))
    nf_restore_demand (share, site, theirs);
  if (concerns (share, site))
    post_delivery (share, site, FALSE, NULL, deliver_up);
}

void
nf_share_peer_down (NfShare *share, const char *site)
{
  if (share->restore)
    nf_restore_peer_down (share->restore, site);
  if (concerns (share, site))
    post_delivery (share, site, FALSE, NULL, deliver_down);
}

void
nf_share_message (NfShare *share, const char *site, gboolean bulk, NfMsg *msg)
{
  if (concerns (share, site) && !g_atomic_int_get (&share->goes_back))
    post_delivery (share, site, bulk, msg, deliver);
  else
    nf_msg_free (msg);
}

static void
deliver_told (gpointer arg)
{
  Delivery *delivery = arg;

  nf_replica_told (delivery->share->replica);
  delivery_free (delivery);
}

void
nf_share_told (NfShare *share)
{
  if (share->replica && nf_replica_wants_told (share->replica))
    post_delivery (share, share->conf.primary, FALSE, NULL, deliver_told);
  if (share->claims)
    nf_claims_told (share->claims);
  if (share->primary)
    nf_primary_told (share->primary);
}

void
nf_share_drained (NfShare *share, const char *site, gboolean bulk)
{
  if (share->primary)
    nf_primary_drained (share->primary, site, bulk);
  else if (g_str_equal (site, share->conf.primary))
    nf_source_drained (share, bulk);
}
