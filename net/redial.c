// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "net/hub-private.h"

#include <time.h>

#include "net/dial.h"

/* The threads that dial, each for one peer. */

#define BACKOFF_MIN_MS 200
#define BACKOFF_MAX_MS 30000
/* A link that was up is redialled at once, unless it lasted less than this: then somebody hangs
 * up on us. */
#define STABLE_US (5 * G_USEC_PER_SEC)
/* Without the bulk link everything works, only slower. */
#define BULK_BACKOFF_MIN_MS 1000
/* A channel each; the windows of four fill 100 MB/s at 50 ms, and sshd allows ten a session. */
#define BULK_LANES_LIBSSH 4
/* A process and a TCP connection each. */
#define BULK_LANES_SSH 2

/* The bulk link takes as many round trips as the ops link, so it isn't begun only when that stands. */
static void
accepted (gpointer data)
{
  NfPeer *peer = data;
  guint64 id;

  pthread_mutex_lock (&peer->lock);
  id = peer->ops_id;
  pthread_mutex_unlock (&peer->lock);
  nf_redial_bulk (peer, id);
}

static NfTransport *
dial (NfPeer *peer, NfLinkKind kind, guint64 session, NfLinkOptions *ret_options, GError **error)
{
  NfDialTarget target = { .site = peer->name, .conf = peer->hub->conf, .kind = kind, .lanes = 1 };
  g_autofree char *ssh = NULL;
  NfMapTransport transport;

  pthread_mutex_lock (&peer->lock);
  ssh = g_strdup (peer->ssh);
  target.port = peer->port;
  transport = peer->transport;
  pthread_mutex_unlock (&peer->lock);

  target.ssh = ssh;
  target.cancel_fd = peer->hub->stop_fd;
  if (kind == NF_LINK_OPS)
    {
      target.accepted = accepted;
      target.data = peer;
    }
  else
    target.lanes = transport == NF_TRANSPORT_SSH ? BULK_LANES_SSH : BULK_LANES_LIBSSH;
  *ret_options = (NfLinkOptions){ .kind = kind,
                                  .dialling = TRUE,
                                  .lanes = target.lanes,
                                  .heartbeat_ms = peer->hub->conf->heartbeat_ms,
                                  .who = peer->name };
  ret_options->id[0] = session;
  ret_options->id[1] = nf_hub_random ();
  return transport == NF_TRANSPORT_SSH ? nf_sshcmd_dial (&target, error)
                                       : nf_ssh_dial (&target, error);
}

/* Runs SESSION, NULL if there was ERROR, and returns whether it was up. */
static gboolean
run (NfPeer *peer, NfSession *session, const GError *error)
{
  /* A stop between the attempt and here has closed the links that it saw. */
  if (session != NULL && nf_hub_stopping (peer->hub))
    nf_link_close (session->link, NF_NET_ERROR_CLOSED, "shutting down");
  if (session != NULL)
    return nf_session_run (session);
  if (error != NULL && !nf_hub_stopping (peer->hub))
    nf_peer_failed (peer, error->message);
  return FALSE;
}

/* One attempt, and the session if it succeeds; ID is the first half of its link's id. Returns
 * whether that was up. */
static gboolean
dial_and_run (NfPeer *peer, guint64 id)
{
  g_autoptr (GError) error = NULL;
  NfLinkOptions options;
  NfTransport *transport = dial (peer, NF_LINK_OPS, id, &options, &error);
  NfSession *session = NULL;

  pthread_mutex_lock (&peer->lock);
  peer->dialling = FALSE;
  if (transport != NULL)
    session = nf_session_new (peer, &options, transport, options.lanes, TRUE, &error);
  pthread_mutex_unlock (&peer->lock);
  return run (peer, session, error);
}

/* MS, give or take a quarter, so that all peers of a site that comes back don't call at one
 * time. */
static gint64
jittered_us (guint ms)
{
  return (gint64)ms * g_random_int_range (750, 1250);
}

/* Waits until UNTIL_US, or until somebody wants it sooner; with the peer's lock held. */
static void
wait_until (NfPeer *peer, gint64 until_us)
{
  struct timespec until = { until_us / G_USEC_PER_SEC, (until_us % G_USEC_PER_SEC) * 1000 };

  while (peer->in_map && !peer->redial_now && !nf_hub_stopping (peer->hub)
         && g_get_monotonic_time () < until_us)
    if (pthread_cond_timedwait (&peer->changed, &peer->lock, &until) != 0)
      break;
}

/* With the peer's lock held. */
static gboolean
still_ours (NfPeer *peer)
{
  return peer->in_map && peer->we_dial && !nf_hub_stopping (peer->hub);
}

static void
dial_thread (gpointer data)
{
  NfPeer *peer = data;
  guint backoff_ms = BACKOFF_MIN_MS;

  pthread_mutex_lock (&peer->lock);
  while (still_ours (peer))
    {
      gint64 began = g_get_monotonic_time ();
      guint64 id = nf_hub_random ();
      gboolean was_up;

      peer->dialling = TRUE;
      peer->redial_now = FALSE;
      peer->redial_at_us = 0;
      peer->ops_id = id;
      pthread_mutex_unlock (&peer->lock);
      was_up = dial_and_run (peer, id);
      pthread_mutex_lock (&peer->lock);
      peer->ops_id = 0;
      pthread_cond_broadcast (&peer->changed);

      if (was_up && g_get_monotonic_time () - began > STABLE_US)
        {
          backoff_ms = BACKOFF_MIN_MS;
          continue;
        }
      peer->redial_at_us = g_get_monotonic_time () + jittered_us (backoff_ms);
      backoff_ms = MIN (backoff_ms * 2, BACKOFF_MAX_MS);
      wait_until (peer, peer->redial_at_us);
    }
  peer->dial_thread = FALSE;
  peer->redial_at_us = 0;
  pthread_mutex_unlock (&peer->lock);
}

void
nf_redial_start (NfPeer *peer)
{
  gboolean start;

  pthread_mutex_lock (&peer->lock);
  start = still_ours (peer) && !peer->dial_thread;
  peer->dial_thread |= start;
  pthread_mutex_unlock (&peer->lock);
  if (start && !nf_hub_run (peer->hub, dial_thread, peer))
    {
      pthread_mutex_lock (&peer->lock);
      peer->dial_thread = FALSE;
      pthread_mutex_unlock (&peer->lock);
    }
}

/* The bulk link of one ops link, which is told from a later one by the first half of its id. */
typedef struct
{
  NfPeer *peer;
  guint64 id;
  gboolean stood; /* the ops link was up */
} Bulk;

/* With the peer's lock held. */
static gboolean
ops_stands (const Bulk *bulk)
{
  NfPeer *peer = bulk->peer;

  return peer->usable && peer->current->was_up && nf_link_id (peer->current->link)[0] == bulk->id;
}

/* It stands, or may come to that; with the peer's lock held. */
static gboolean
ops_goes_on (Bulk *bulk)
{
  gboolean stands = ops_stands (bulk);

  bulk->stood |= stands;
  return bulk->peer->ops_id == bulk->id && stands == bulk->stood
         && !nf_hub_stopping (bulk->peer->hub);
}

/* The session on TRANSPORT as soon as the ops link stands; with the peer's lock held. */
static NfSession *
join_ops (Bulk *bulk, const NfLinkOptions *options, NfTransport *transport, GError **error)
{
  NfPeer *peer = bulk->peer;

  while (ops_goes_on (bulk) && !bulk->stood)
    pthread_cond_wait (&peer->changed, &peer->lock);
  if (ops_goes_on (bulk))
    return nf_session_new (peer, options, transport, options->lanes, FALSE, error);
  transport->ops->free (
      transport, TRUE); /* silently: a goodbye might wait for the network, with the lock held */
  return NULL;
}

static void
dial_and_run_bulk (Bulk *bulk)
{
  g_autoptr (GError) error = NULL;
  NfLinkOptions options;
  NfTransport *transport = dial (bulk->peer, NF_LINK_BULK, bulk->id, &options, &error);
  NfSession *session = NULL;

  if (transport != NULL)
    {
      pthread_mutex_lock (&bulk->peer->lock);
      session = join_ops (bulk, &options, transport, &error);
      pthread_mutex_unlock (&bulk->peer->lock);
    }
  (void)run (bulk->peer, session, error); /* what became of it, ops_goes_on() tells */
}

static void
bulk_thread (gpointer data)
{
  Bulk *bulk = data;
  NfPeer *peer = bulk->peer;
  guint backoff_ms = BULK_BACKOFF_MIN_MS;

  pthread_mutex_lock (&peer->lock);
  while (ops_goes_on (bulk))
    {
      gint64 until_us;
      struct timespec until;

      pthread_mutex_unlock (&peer->lock);
      dial_and_run_bulk (bulk);
      pthread_mutex_lock (&peer->lock);

      until_us = g_get_monotonic_time () + jittered_us (backoff_ms);
      until = (struct timespec){ until_us / G_USEC_PER_SEC, (until_us % G_USEC_PER_SEC) * 1000 };
      backoff_ms = MIN (backoff_ms * 2, BACKOFF_MAX_MS);
      while (ops_goes_on (bulk) && g_get_monotonic_time () < until_us)
        if (pthread_cond_timedwait (&peer->changed, &peer->lock, &until) != 0)
          break;
    }
  pthread_mutex_unlock (&peer->lock);
  g_free (bulk);
}

void
nf_redial_bulk (NfPeer *peer, guint64 id)
{
  gboolean start;

  pthread_mutex_lock (&peer->lock);
  start = peer->bulk_id != id;
  peer->bulk_id = id;
  pthread_mutex_unlock (&peer->lock);
  if (!start)
    return;

  Bulk *bulk = g_new (Bulk, 1);
  *bulk = (Bulk){ .peer = peer, .id = id };
  if (nf_hub_run (peer->hub, bulk_thread, bulk))
    return;
  g_free (bulk);
  pthread_mutex_lock (&peer->lock);
  peer->bulk_id = 0;
  pthread_mutex_unlock (&peer->lock);
}
