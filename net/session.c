// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "net/hub-private.h"

#include <string.h>

/* Greetings, and what becomes of a peer by them.
 *
 * The dialling side sends HELLO first; the accepting side answers with its own when it has
 * admitted the peer, so both know by the other's HELLO that the link stands. A refusal is a
 * GOODBYE instead. */

/* Beyond this a greeting isn't waited for; the accepting side may have to find out whether an
 * older session of ours still lives, which takes a heartbeat. */
#define GREETING_US (20 * G_USEC_PER_SEC)
/* How often a session that waits for another looks. */
#define WAIT_TICK_MS 20
#define IDLE_TICK_MS 5000

void
nf_session_fill_hello (NfPeer *peer, NfLinkKind kind, NfMsg *ret_msg)
{
  NfHub *hub = peer->hub;
  g_autoptr (NfMap) map = nf_hub_map (hub);
  NfMsg msg = { .type = NF_MSG_HELLO };
  NfMsg *copy;

  msg.hello.version = NF_PROTO_VERSION;
  msg.hello.site = nf_slice_str (hub->conf->name);
  msg.hello.to = nf_slice_str (peer->name);
  msg.hello.incarnation = hub->incarnation;
  msg.hello.map_serial = nf_map_serial (map);
  msg.hello.map_digest = nf_slice (nf_map_digest (map), NF_MAP_DIGEST_SIZE);
  msg.hello.software = nf_slice_str ("nearfs " PACKAGE_VERSION);
  if (kind == NF_LINK_OPS && hub->events.fill_hello != NULL)
    hub->events.fill_hello (hub->data, peer->name, &msg);
  copy = nf_msg_dup (&msg);
  nf_msg_clear (&msg);
  *ret_msg = *copy;
  g_free (copy);
}

static GBytes *
our_hello (NfPeer *peer, NfLinkKind kind)
{
  g_auto (NfMsg) msg = { 0 };

  nf_session_fill_hello (peer, kind, &msg);
  return nf_msg_to_bytes (&msg);
}

static gboolean refuse (GError **error, const char *format, ...) G_GNUC_PRINTF (2, 3);

static gboolean
refuse (GError **error, const char *format, ...)
{
  va_list args;
  g_autofree char *text = NULL;

  va_start (args, format);
  text = g_strdup_vprintf (format, args);
  va_end (args);
  g_set_error_literal (error, NF_NET_ERROR, NF_NET_ERROR_REFUSED, text);
  return FALSE;
}

gboolean
nf_session_check_hello (NfPeer *peer, const NfMsg *msg, GError **error)
{
  g_autofree char *from = NULL;
  g_autofree char *to = NULL;
  const char *self = peer->hub->conf->name;

  if (msg->type != NF_MSG_HELLO)
    {
      g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_PROTOCOL, "%s instead of a greeting",
                   nf_msg_name (msg->type));
      return FALSE;
    }
  if (msg->hello.version != NF_PROTO_VERSION)
    {
      g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_VERSION, "%s speaks protocol %u, %s speaks %d",
                   peer->name, msg->hello.version, self, NF_PROTO_VERSION);
      return FALSE;
    }
  from = nf_transport_one_line ((const char *)msg->hello.site.data, msg->hello.site.len);
  to = nf_transport_one_line ((const char *)msg->hello.to.data, msg->hello.to.len);
  if (g_strcmp0 (from, peer->name) != 0)
    return refuse (error, "the key of site %s is used by a site that calls itself %s", peer->name,
                   from == NULL ? "nothing" : from);
  if (g_strcmp0 (to, self) != 0)
    return refuse (error, "%s wants to talk to site %s, but this is %s", peer->name,
                   to == NULL ? "nothing" : to, self);
  if (msg->hello.incarnation == peer->hub->incarnation)
    return refuse (error, "%s is this very daemon", peer->name);
  return TRUE;
}

/* What `status` tells of the peer; with the peer's lock held. */
static void
remember_hello (NfPeer *peer, const NfMsg *msg)
{
  NfSlice digest = msg->hello.map_digest;

  g_free (peer->software);
  peer->software
      = nf_transport_one_line ((const char *)msg->hello.software.data, msg->hello.software.len);
  peer->incarnation = msg->hello.incarnation;
  peer->map_serial = msg->hello.map_serial;
  peer->greeted = TRUE;
  memset (peer->map_digest, 0, sizeof peer->map_digest);
  if (digest.len == sizeof peer->map_digest)
    memcpy (peer->map_digest, digest.data, digest.len);
}

/* What to do with an ops session while `current` is another; with the peer's lock held. Returns
 * FALSE with ERROR set if the new one is to be refused, else it goes on waiting. */
static gboolean
face_older (NfSession *session, NfSession *older, GError **error)
{
  gint64 now = g_get_monotonic_time ();
  NfLinkStats stats;

  if (older->dialling != session->dialling)
    return refuse (error, "%s and %s dial each other: their maps differ", session->peer->name,
                   session->peer->hub->conf->name);
  if (older->incarnation == session->incarnation)
    {
      nf_link_close (older->link, NF_NET_ERROR_CLOSED, "replaced by a newer connection");
      return TRUE;
    }
  if (session->asked_us == 0)
    {
      session->asked_us = now;
      nf_link_ping (older->link);
      return TRUE;
    }
  nf_link_stats (older->link, &stats);
  if (stats.heard_us > session->asked_us)
    return refuse (error,
                   "site %s is already connected from elsewhere (incarnation %016" G_GINT64_MODIFIER
                   "x)",
                   session->peer->name, older->incarnation);
  return TRUE;
}

/* Makes SESSION the peer's, with our greeting (NULL on the dialling side) first in its queue.
 * With the peer's lock held. */
static void
install_ops (NfSession *session, GBytes *greeting)
{
  NfPeer *peer = session->peer;

  if (greeting != NULL)
    (void)nf_link_send (session->link,
                        g_bytes_ref (greeting)); /* if it's closed, its end follows */
  nf_link_hold (session->link, FALSE);
  peer->current = session;
  peer->usable = TRUE;
  peer->bulk_out = peer->bulk_in = FALSE;
  session->state = NF_SESSION_UP;
  remember_hello (peer, session->hello);
}

static void
uninstall_ops (NfSession *session)
{
  NfPeer *peer = session->peer;

  pthread_mutex_lock (&peer->lock);
  peer->usable = FALSE;
  peer->current = NULL;
  session->state = NF_SESSION_GREETING;
  pthread_mutex_unlock (&peer->lock);
}

static void
went_up (NfSession *session)
{
  NfPeer *peer = session->peer;
  g_autoptr (NfMap) map = nf_hub_map (peer->hub);
  gboolean differs;

  pthread_mutex_lock (&peer->lock);
  session->was_up = TRUE;
  peer->greeting--;
  peer->since_us = g_get_real_time ();
  g_clear_pointer (&peer->last_error, g_free);
  differs = memcmp (peer->map_digest, nf_map_digest (map), NF_MAP_DIGEST_SIZE) != 0;
  pthread_cond_broadcast (&peer->changed); /* its bulk link may be waiting for it */
  pthread_mutex_unlock (&peer->lock);

  nf_hub_log (G_LOG_LEVEL_INFO, peer->name, "%s is connected%s", peer->name,
              session->dialling ? "" : " (it has dialled)");
  if (differs)
    nf_hub_log (G_LOG_LEVEL_WARNING, peer->name,
                "the map of %s (serial %" G_GUINT64_FORMAT ") isn't ours (serial %" G_GUINT64_FORMAT
                "); each goes by its own",
                peer->name, session->hello->hello.map_serial, nf_map_serial (map));
}

/* Admits an ops session unless another is in its way. FALSE: refused. */
static gboolean
try_ops (NfSession *session, GError **error)
{
  NfPeer *peer = session->peer;
  NfHub *hub = peer->hub;
  g_autoptr (GBytes) greeting = session->dialling ? NULL : our_hello (peer, NF_LINK_OPS);
  gboolean admitted = FALSE;
  gboolean ok = TRUE;

  pthread_mutex_lock (&peer->lock);
  if (!peer->in_map)
    ok = refuse (error, "site %s is no longer in the map of %s", peer->name, hub->conf->name);
  else if (peer->current != NULL)
    ok = face_older (session, peer->current, error);
  else
    {
      install_ops (session, greeting);
      admitted = TRUE;
    }
  pthread_mutex_unlock (&peer->lock);
  if (!admitted)
    return ok;

  if (!hub->events.up (hub->data, peer->name, session->hello, error))
    {
      uninstall_ops (session);
      return FALSE;
    }
  went_up (session);
  nf_msg_free (g_steal_pointer (&session->hello));
  if (session->redialled)
    nf_redial_bulk (peer, nf_link_id (session->link)[0]);
  return TRUE;
}

/* Admits a bulk session: it must belong to the ops session that is up. */
static gboolean
try_bulk (NfSession *session, GError **error)
{
  NfPeer *peer = session->peer;
  NfHub *hub = peer->hub;
  g_autoptr (GBytes) greeting = session->dialling ? NULL : our_hello (peer, NF_LINK_BULK);
  NfMsg msg = { .type = NF_MSG_SWITCH };
  g_autoptr (GBytes) switch_over = nf_msg_to_bytes (&msg);
  gboolean ok = FALSE;

  pthread_mutex_lock (&peer->lock);
  if (!peer->usable || nf_link_id (peer->current->link)[0] != nf_link_id (session->link)[0])
    (void)refuse (error, "a bulk connection without the ops connection that it belongs to");
  else if (peer->bulk != NULL)
    (void)refuse (error, "a second bulk connection");
  else
    {
      if (greeting != NULL)
        (void)nf_link_send (session->link,
                            g_steal_pointer (&greeting)); /* its end follows, if it's closed */
      /* What was sent on the ops link so far comes before what is sent here. */
      (void)nf_link_send (peer->current->link, g_steal_pointer (&switch_over)); /* the same */
      nf_link_hold (session->link, !peer->bulk_in);
      peer->bulk = session->link;
      peer->bulk_out = TRUE;
      session->state = NF_SESSION_UP;
      session->was_up = TRUE;
      peer->greeting--;
      ok = TRUE;
    }
  pthread_mutex_unlock (&peer->lock);
  /* Who waited for room on the ops link has it now. */
  if (ok && hub->events.drained != NULL)
    hub->events.drained (hub->data, peer->name, NF_LINK_BULK);
  return ok;
}

static void
admit (NfSession *session)
{
  g_autoptr (GError) error = NULL;

  if (!(session->kind == NF_LINK_OPS ? try_ops (session, &error) : try_bulk (session, &error)))
    nf_link_close (session->link, NF_NET_ERROR_REFUSED, error == NULL ? "refused" : error->message);
}

static void
take_hello (NfSession *session, NfMsg *msg)
{
  g_autoptr (GError) error = NULL;

  session->hello = msg;
  if (!nf_session_check_hello (session->peer, msg, &error))
    {
      nf_link_close (session->link, (NfNetError)error->code, error->message);
      return;
    }
  session->incarnation = msg->hello.incarnation;
  session->state = NF_SESSION_WAITING;
  nf_link_hold (session->link, TRUE);
  admit (session);
}

static void
take_switch (NfSession *session)
{
  NfPeer *peer = session->peer;

  pthread_mutex_lock (&peer->lock);
  peer->bulk_in = TRUE;
  if (peer->bulk != NULL)
    nf_link_hold (peer->bulk, FALSE);
  pthread_mutex_unlock (&peer->lock);
}

static void
on_message (gpointer data, NfMsg *msg)
{
  NfSession *session = data;
  NfHub *hub = session->peer->hub;

  if (session->state == NF_SESSION_UP && msg->type != NF_MSG_HELLO && msg->type != NF_MSG_SWITCH)
    {
      if (nf_msg_flags ((int)msg->type) & NF_MSG_INTERNAL)
        nf_link_close (session->link, NF_NET_ERROR_PROTOCOL,
                       "a message of the link's out of its place");
      else
        {
          hub->events.message (hub->data, session->peer->name, session->kind, msg);
          return;
        }
    }
  else if (session->state == NF_SESSION_GREETING)
    {
      take_hello (session, msg);
      return;
    }
  else if (session->state == NF_SESSION_UP && msg->type == NF_MSG_SWITCH
           && session->kind == NF_LINK_OPS)
    take_switch (session);
  else
    nf_link_close (session->link, NF_NET_ERROR_PROTOCOL,
                   "a message before the greeting was answered, or a second greeting");
  nf_msg_free (msg);
}

static void
on_drained (gpointer data)
{
  NfSession *session = data;
  NfPeer *peer = session->peer;
  NfHub *hub = peer->hub;
  gboolean both;

  if (hub->events.drained == NULL || session->state != NF_SESSION_UP)
    return;
  pthread_mutex_lock (&peer->lock);
  both = session->kind == NF_LINK_OPS && !peer->bulk_out;
  pthread_mutex_unlock (&peer->lock);
  hub->events.drained (hub->data, peer->name, session->kind);
  if (both)
    hub->events.drained (hub->data, peer->name, NF_LINK_BULK);
}

static guint
on_tick (gpointer data, gint64 now_us)
{
  NfSession *session = data;

  if (session->state == NF_SESSION_UP)
    return IDLE_TICK_MS;
  if (session->state == NF_SESSION_WAITING)
    admit (session);
  if (session->state != NF_SESSION_UP && now_us - session->started_us > GREETING_US)
    nf_link_close (session->link, NF_NET_ERROR_DEAD, "no greeting came");
  return WAIT_TICK_MS;
}

const NfLinkEvents nf_session_events = {
  .message = on_message,
  .drained = on_drained,
  .tick = on_tick,
};
