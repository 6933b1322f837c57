// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "net/hub-private.h"

#include <string.h>

#include "net/dial.h"

/* Peers, and the beginning and end of their sessions. */

NfPeer *
nf_peer_new (NfHub *hub, const char *name)
{
  NfPeer *peer = g_new0 (NfPeer, 1);
  pthread_condattr_t attr;

  peer->hub = hub;
  peer->name = g_strdup (name);
  peer->links = g_ptr_array_new ();
  pthread_mutex_init (&peer->lock, NULL);
  pthread_condattr_init (&attr);
  pthread_condattr_setclock (&attr, CLOCK_MONOTONIC);
  pthread_cond_init (&peer->changed, &attr);
  pthread_condattr_destroy (&attr);
  return peer;
}

void
nf_peer_free (NfPeer *peer)
{
  g_assert (peer->links->len == 0 && peer->current == NULL);
  g_ptr_array_unref (peer->links);
  pthread_cond_destroy (&peer->changed);
  pthread_mutex_destroy (&peer->lock);
  g_free (peer->name);
  g_free (peer->ssh);
  g_free (peer->last_error);
  g_free (peer->software);
  g_free (peer);
}

void
nf_peer_hang_up (NfPeer *peer, NfNetError code, const char *reason)
{
  pthread_mutex_lock (&peer->lock);
  for (guint i = 0; i < peer->links->len; i++)
    nf_link_close (g_ptr_array_index (peer->links, i), code, reason);
  pthread_cond_broadcast (&peer->changed);
  pthread_mutex_unlock (&peer->lock);
}

void
nf_peer_failed (NfPeer *peer, const char *text)
{
  gboolean news;

  pthread_mutex_lock (&peer->lock);
  news = g_strcmp0 (peer->last_error, text) != 0;
  if (news)
    {
      g_free (peer->last_error);
      peer->last_error = g_strdup (text);
    }
  pthread_mutex_unlock (&peer->lock);
  /* A peer that is away for a week is one line, not one per attempt. */
  if (news)
    nf_hub_log (G_LOG_LEVEL_WARNING, peer->name, "%s: %s", peer->name, text);
}

NfSession *
nf_session_new (NfPeer *peer, const NfLinkOptions *options, NfTransport *transport, guint n_open,
                gboolean redialled, GError **error)
{
  NfSession *session = g_new0 (NfSession, 1);

  session->peer = peer;
  session->kind = options->kind;
  session->dialling = options->dialling;
  session->redialled = redialled;
  session->started_us = g_get_monotonic_time ();
  if (peer->links->len >= NF_PEER_LINKS_MAX)
    {
      g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_REFUSED, "%s has %u connections already",
                   peer->name, peer->links->len);
      transport->ops->free (transport, TRUE);
    }
  else
    session->link = nf_link_new (options, transport, n_open, &nf_session_events, session, error);
  if (session->link == NULL)
    {
      g_free (session);
      return NULL;
    }
  g_ptr_array_add (peer->links, session->link);
  peer->greeting++;
  return session;
}

/* What the counters of ended links come to; with the peer's lock held. */
static void
keep_stats (NfPeer *peer, NfLink *link, NfLinkKind kind)
{
  NfLinkStats stats;

  nf_link_stats (link, &stats);
  peer->bytes_in += stats.bytes_in;
  peer->bytes_out += stats.bytes_out;
  if (kind == NF_LINK_OPS && stats.rtt.min_us > 0)
    {
      peer->rtt_last_us = stats.rtt.last_us;
      peer->rtt_min_us = stats.rtt.min_us;
    }
}

/* The end of an ops session that was up. */
static void
go_down (NfSession *session, const char *reason)
{
  NfPeer *peer = session->peer;
  NfHub *hub = peer->hub;

  pthread_mutex_lock (&peer->lock);
  peer->usable = FALSE;
  if (peer->bulk != NULL)
    nf_link_close (peer->bulk, NF_NET_ERROR_CLOSED, "the ops connection is gone");
  while (peer->bulk != NULL)
    pthread_cond_wait (&peer->changed, &peer->lock);
  pthread_mutex_unlock (&peer->lock);

  hub->events.down (hub->data, peer->name, reason);
  nf_hub_log (G_LOG_LEVEL_INFO, peer->name, "%s is disconnected", peer->name);

  pthread_mutex_lock (&peer->lock);
  peer->current = NULL;
  peer->since_us = g_get_real_time ();
  pthread_cond_broadcast (&peer->changed);
  pthread_mutex_unlock (&peer->lock);
}

/* The end of a bulk session that was up. What it had not delivered is lost, so the peer goes
 * down as a whole, and who waits for an answer is told. */
static void
bulk_gone (NfSession *session, const char *reason)
{
  NfPeer *peer = session->peer;
  g_autofree char *text = g_strdup_printf ("the bulk connection broke: %s", reason);

  pthread_mutex_lock (&peer->lock);
  peer->bulk = NULL;
  if (peer->usable)
    nf_link_close (peer->current->link, NF_NET_ERROR_CLOSED, text);
  pthread_cond_broadcast (&peer->changed);
  pthread_mutex_unlock (&peer->lock);
}

/* What the ssh program's words about a host key lack: the command. Empty if they aren't about
 * that. */
static char *
host_key_help (NfPeer *peer, const char *ssh, guint port, const char *words)
{
  const NfSiteConf *conf = peer->hub->conf;
  const char *at = ssh == NULL ? NULL : strrchr (ssh, '@');
  const char *host = at == NULL ? ssh : at + 1;
  g_autofree char *accept = NULL;
  g_autofree char *forget = NULL;

  if (host == NULL || strstr (words, "Host key verification failed") == NULL)
    return g_strdup ("");
  accept = nf_dial_accept_command (conf, host, port);
  if (strstr (words, "HAS CHANGED") == NULL)
    return g_strdup_printf (" If the key is right, accept it with: %s", accept);
  forget = nf_dial_forget_command (conf, host, port);
  return g_strdup_printf (" If the change is right, accept it with: %s && %s", forget, accept);
}

/* The error in words that help at this side. */
static char *
end_text (NfSession *session, const GError *error)
{
  NfPeer *peer = session->peer;
  g_autofree char *ssh = NULL;
  g_autofree char *help = NULL;
  guint port;

  pthread_mutex_lock (&peer->lock);
  ssh = g_strdup (peer->ssh);
  port = peer->port;
  pthread_mutex_unlock (&peer->lock);
  if (session->dialling && g_error_matches (error, NF_NET_ERROR, NF_NET_ERROR_NOISE))
    return g_strdup_printf (
        "the login shell of %s prints text before nearfs relay (its start files must be silent "
        "without a terminal): %s",
        ssh == NULL ? peer->name : ssh, error->message);
  if (session->dialling && !session->was_up
      && g_error_matches (error, NF_NET_ERROR, NF_NET_ERROR_RELAY))
    {
      help = host_key_help (peer, ssh, port, error->message);
      return g_strdup_printf ("%s answers: %s%s", ssh == NULL ? peer->name : ssh, error->message,
                              help);
    }
  return g_strdup (error->message);
}

gboolean
nf_session_run (NfSession *session)
{
  NfPeer *peer = session->peer;
  g_autoptr (GError) error = NULL;
  g_autofree char *text = NULL;
  gboolean was_up;

  if (session->dialling)
    {
      g_auto (NfMsg) hello = { 0 };

      nf_session_fill_hello (peer, session->kind, &hello);
      (void)nf_link_send (
          session->link,
          nf_msg_to_bytes (&hello)); /* fails if it's closed: the run below tells why */
    }
  error = nf_link_run (session->link);
  was_up = session->was_up;
  text = end_text (session, error);

  pthread_mutex_lock (&peer->lock);
  keep_stats (peer, session->link, session->kind);
  g_ptr_array_remove_fast (peer->links, session->link);
  if (!was_up)
    peer->greeting--;
  pthread_mutex_unlock (&peer->lock);
  if (was_up && session->kind == NF_LINK_OPS)
    go_down (session, text);
  else if (was_up)
    bulk_gone (session, text);
  if (!nf_hub_stopping (peer->hub))
    nf_peer_failed (peer, text);

  nf_msg_free (session->hello);
  nf_link_unref (session->link);
  g_free (session);
  return was_up;
}
