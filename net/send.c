// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "net/hub-private.h"

#include <string.h>

/* Sending to peers, and what can be asked about them. */

/* The link for messages of KIND; NULL if the peer isn't up. With the peer's lock held. */
static NfLink *
link_for (NfPeer *peer, NfLinkKind kind)
{
  if (!peer->usable)
    return NULL;
  /* After SWITCH there is no way back: if the bulk link is gone, the peer is about to go down. */
  return kind == NF_LINK_BULK && peer->bulk_out ? peer->bulk : peer->current->link;
}

/* PAYLOAD is taken. */
static gboolean
send_payload (NfHub *hub, const char *site, NfLinkKind kind, GBytes *payload)
{
  NfPeer *peer = nf_hub_peer (hub, site);
  NfLink *link = NULL;
  gboolean sent = FALSE;

  if (peer != NULL && g_bytes_get_size (payload) <= NF_FRAME_MAX)
    {
      pthread_mutex_lock (&peer->lock);
      link = link_for (peer, kind);
      sent = link != NULL && nf_link_send (link, g_steal_pointer (&payload));
      pthread_mutex_unlock (&peer->lock);
    }
  else if (peer != NULL)
    g_critical ("a message of %zu bytes, more than a frame may have", g_bytes_get_size (payload));
  g_bytes_unref (payload); /* NULL if it was sent */
  return sent;
}

gboolean
nf_hub_send_bytes (NfHub *hub, const char *site, NfLinkKind kind, GBytes *payload)
{
  return send_payload (hub, site, kind, g_bytes_ref (payload));
}

gboolean
nf_hub_send (NfHub *hub, const char *site, NfLinkKind kind, const NfMsg *msg)
{
  if (!nf_hub_is_up (hub, site))
    return FALSE;
  return send_payload (hub, site, kind, nf_msg_to_bytes (msg));
}

gsize
nf_hub_queued (NfHub *hub, const char *site, NfLinkKind kind)
{
  NfPeer *peer = nf_hub_peer (hub, site);
  NfLink *link;
  gsize queued;

  if (peer == NULL)
    return 0;
  pthread_mutex_lock (&peer->lock);
  link = link_for (peer, kind);
  queued = link == NULL ? 0 : nf_link_queued (link);
  pthread_mutex_unlock (&peer->lock);
  return queued;
}

gboolean
nf_hub_is_up (NfHub *hub, const char *site)
{
  NfPeer *peer = nf_hub_peer (hub, site);
  gboolean up;

  if (peer == NULL)
    return FALSE;
  pthread_mutex_lock (&peer->lock);
  up = peer->usable;
  pthread_mutex_unlock (&peer->lock);
  return up;
}

static NfPeerState
peer_state (const NfPeer *peer)
{
  if (peer->usable)
    return NF_PEER_UP;
  if (peer->greeting > 0)
    return NF_PEER_GREETING;
  return peer->dialling ? NF_PEER_DIALLING : NF_PEER_DOWN;
}

/* Adds what the running links have counted; with the peer's lock held. */
static void
add_links (NfPeer *peer, NfPeerInfo *info)
{
  NfLinkStats stats;

  for (guint i = 0; i < peer->links->len; i++)
    {
      nf_link_stats (g_ptr_array_index (peer->links, i), &stats);
      info->bytes_in += stats.bytes_in;
      info->bytes_out += stats.bytes_out;
    }
  if (!peer->usable)
    return;
  nf_link_stats (peer->current->link, &stats);
  info->rtt_last_us = stats.rtt.last_us;
  info->rtt_min_us = stats.rtt.min_us;
  info->queued[NF_LINK_OPS] = nf_link_queued (peer->current->link);
  if (peer->bulk != NULL)
    info->queued[NF_LINK_BULK] = nf_link_queued (peer->bulk);
}

/* A snapshot of PEER; FALSE if it isn't in the map. The strings are the caller's to free. */
static gboolean
fill_info (NfPeer *peer, const guint8 *digest, NfPeerInfo *info)
{
  gboolean in_map;

  pthread_mutex_lock (&peer->lock);
  in_map = peer->in_map;
  info->site = peer->name;
  info->state = peer_state (peer);
  info->we_dial = peer->we_dial;
  info->bulk_up = peer->bulk != NULL;
  info->rtt_last_us = peer->rtt_last_us;
  info->rtt_min_us = peer->rtt_min_us;
  info->bytes_in = peer->bytes_in;
  info->bytes_out = peer->bytes_out;
  info->since_us = peer->since_us;
  info->redial_at_us = peer->redial_at_us;
  info->last_error = g_strdup (peer->last_error == NULL ? "" : peer->last_error);
  info->software = g_strdup (peer->software == NULL ? "" : peer->software);
  info->incarnation = peer->incarnation;
  info->map_serial = peer->map_serial;
  info->map_differs = peer->greeted && memcmp (peer->map_digest, digest, NF_MAP_DIGEST_SIZE) != 0;
  add_links (peer, info);
  pthread_mutex_unlock (&peer->lock);
  return in_map;
}

void
nf_hub_each (NfHub *hub, NfPeerFunc func, gpointer data)
{
  g_autoptr (NfMap) map = nf_hub_map (hub);
  g_autoptr (GPtrArray) peers = nf_hub_peers (hub);

  for (guint i = 0; i < peers->len; i++)
    {
      NfPeerInfo info = { 0 };

      if (fill_info (g_ptr_array_index (peers, i), nf_map_digest (map), &info))
        func (&info, data);
      g_free ((char *)info.last_error);
      g_free ((char *)info.software);
    }
}

static void
attached_thread (gpointer data)
{
  (void)nf_session_run (data);
}

void
nf_hub_attach_fds (NfHub *hub, const char *site, NfLinkKind kind, int in_fd, int out_fd)
{
  NfPeer *peer = nf_hub_peer (hub, site);
  NfFdLane fds = { .in = in_fd, .out = out_fd, .hold = -1, .text = -1 };
  NfLinkOptions options = { .kind = kind, .dialling = TRUE, .lanes = 1, .who = site };
  NfTransport *transport = nf_fds_new ();
  NfSession *session;

  g_assert (peer != NULL);
  options.heartbeat_ms = hub->conf->heartbeat_ms;
  options.id[0] = options.id[1] = nf_hub_random ();
  nf_fds_add (transport, 0, &fds);
  pthread_mutex_lock (&peer->lock);
  if (kind == NF_LINK_BULK && peer->current != NULL)
    options.id[0] = nf_link_id (peer->current->link)[0];
  session = nf_session_new (peer, &options, transport, 1, FALSE, NULL);
  pthread_mutex_unlock (&peer->lock);
  if (session == NULL || !nf_hub_run (hub, attached_thread, session))
    g_error ("no session for %s", site);
}
