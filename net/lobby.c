// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "net/hub-private.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "net/lane.h"

/* Accepted streams, until it's known which lane of which link each is. Each has a thread, which
 * becomes the session's if the stream is the first of its link. Exactly the magic and one frame
 * are read here: the rest is the link's. */

/* A user without privileges may have 64 MiB of pipes. */
#define PIPE_SIZE_OPS (128 * 1024)
#define PIPE_SIZE_BULK (512 * 1024)
#define FIRST_WORDS_MS 10000
/* No version's magic is longer. */
#define MAGIC_LINE_MAX 32

typedef struct
{
  NfPeer *peer;
  NfFdLane fds;
  int err_fd;
} Visitor;

static void
visitor_free (Visitor *visitor)
{
  nf_fd_lane_clear (&visitor->fds);
  if (visitor->err_fd >= 0)
    close (visitor->err_fd);
  g_free (visitor);
}

static void
write_some (int fd, const void *data, gsize len)
{
  int flags = fd < 0 ? -1 : fcntl (fd, F_GETFL);

  /* Whoever doesn't read goes without. */
  if (flags >= 0 && fcntl (fd, F_SETFL, flags | O_NONBLOCK) == 0)
    (void)!write (fd, data, len);
}

/* Tells the peer why, in the protocol and on its command's standard error: another version shows
 * that at least. */
static void
turn_away (const NfFdLane *fds, int err_fd, const char *reason)
{
  NfMsg msg = { .type = NF_MSG_GOODBYE, .goodbye = { nf_slice_str (reason) } };
  g_auto (NfBuf) payload = NF_BUF_INIT;
  g_autofree char *line = g_strdup_printf ("nearfs: %s\n", reason);
  NfLane lane = { 0 };

  nf_msg_encode (&msg, &payload);
  nf_lane_open (&lane, TRUE, 0);
  nf_lane_put (&lane, NF_FRAME_CONTROL, 0, nf_buf_slice (&payload));
  write_some (fds->out, lane.out.data, lane.out.len);
  write_some (err_fd, line, strlen (line));
  nf_lane_clear (&lane);
}

/* Reads LEN bytes exactly. *RET_GOT tells how many came. */
static gboolean
read_exactly (Visitor *visitor, guint8 *buffer, gsize len, gint64 until_us, gsize *ret_got,
              GError **error)
{
  gsize got = 0;

  while (got < len)
    {
      struct pollfd fds[]
          = { { visitor->fds.in, POLLIN, 0 }, { visitor->peer->hub->stop_fd, POLLIN, 0 } };
      gint64 left_ms = (until_us - g_get_monotonic_time ()) / 1000;
      int ready = left_ms <= 0 ? 0 : poll (fds, G_N_ELEMENTS (fds), (int)left_ms);
      ssize_t n;

      if (ready < 0 && errno == EINTR)
        continue;
      if (ready <= 0 || fds[1].revents != 0)
        {
          g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_CLOSED,
                       ready <= 0 ? "no greeting came" : "shutting down");
          return FALSE;
        }
      n = read (visitor->fds.in, buffer + got, len - got);
      if (n < 0 && (errno == EINTR || errno == EAGAIN))
        continue;
      if (n <= 0)
        {
          g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_CLOSED, "hung up before its greeting");
          return FALSE;
        }
      got += (gsize)n;
      *ret_got = got;
    }
  return TRUE;
}

/* What else has come by now, to quote it. */
static gsize
read_rest (Visitor *visitor, guint8 *buffer, gsize size)
{
  struct pollfd fd = { visitor->fds.in, POLLIN, 0 };
  ssize_t n = poll (&fd, 1, 0) > 0 ? read (visitor->fds.in, buffer, size) : 0;

  return n < 0 ? 0 : (gsize)n;
}

/* Byte by byte, so that what can't be the magic is found without waiting for more. */
static gboolean
read_magic (Visitor *visitor, gint64 until_us, GError **error)
{
  guint8 line[160];
  gsize len = 0;

  do
    {
      gsize got = 0;

      if (!read_exactly (visitor, line + len, 1, until_us, &got, error))
        return FALSE;
      len++;
    }
  while (line[len - 1] != '\n' && len < MAGIC_LINE_MAX
         && (len > strlen (NF_MAGIC_WORD) || line[len - 1] == (guint8)NF_MAGIC[len - 1]));
  if (len == NF_MAGIC_LEN && memcmp (line, NF_MAGIC, len) == 0)
    return TRUE;
  if (line[len - 1] != '\n')
    len += read_rest (visitor, line + len, sizeof line - len);
  nf_frame_magic_error (nf_slice (line, len), error);
  return FALSE;
}

static gboolean
check_lane (const NfMsg *msg, GError **error)
{
  gboolean ok = msg->type == NF_MSG_LANE && msg->lane.kind < NF_LINK_N_KINDS && msg->lane.lanes >= 1
                && msg->lane.lanes <= NF_LANES_MAX && msg->lane.lane < msg->lane.lanes
                && (msg->lane.kind == NF_LINK_BULK || msg->lane.lanes == 1);

  if (!ok)
    g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_PROTOCOL,
                 "the stream doesn't begin with a proper LANE");
  return ok;
}

static gboolean
read_lane_message (Visitor *visitor, gint64 until_us, NfMsg *ret_msg, GError **error)
{
  guint8 bytes[NF_FRAME_HEAD_LEN];
  guint8 payload[64];
  g_autoptr (GBytes) copy = NULL;
  NfFrameHead head;
  gsize got = 0;

  if (!read_exactly (visitor, bytes, sizeof bytes, until_us, &got, error)
      || !nf_frame_head_decode (bytes, &head, error))
    return FALSE;
  if (head.flags != NF_FRAME_CONTROL || head.len > sizeof payload)
    {
      g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_PROTOCOL,
                   "the stream doesn't begin with LANE");
      return FALSE;
    }
  if (!read_exactly (visitor, payload, head.len, until_us, &got, error))
    return FALSE;
  copy = g_bytes_new (payload, head.len);
  return nf_msg_decode (copy, ret_msg, error) && check_lane (ret_msg, error);
}

/* Adds the stream to its link, or makes the link; *RET_SESSION is to be run then. */
static gboolean
find_place (Visitor *visitor, const NfMsg *msg, NfSession **ret_session, GError **error)
{
  NfPeer *peer = visitor->peer;
  NfLinkOptions options = { .kind = (NfLinkKind)msg->lane.kind,
                            .lanes = msg->lane.lanes,
                            .id = { msg->lane.link_hi, msg->lane.link_lo },
                            .heartbeat_ms = peer->hub->conf->heartbeat_ms,
                            .who = peer->name };
  NfLink *link = NULL;
  gboolean ok = TRUE;

  nf_fd_lane_enlarge (&visitor->fds, options.kind == NF_LINK_BULK ? PIPE_SIZE_BULK : PIPE_SIZE_OPS);
  pthread_mutex_lock (&peer->lock);
  for (guint i = 0; i < peer->links->len && link == NULL; i++)
    {
      const guint64 *id = nf_link_id (g_ptr_array_index (peer->links, i));

      if (id[0] == msg->lane.link_hi && id[1] == msg->lane.link_lo)
        link = g_ptr_array_index (peer->links, i);
    }
  if (link == NULL)
    {
      *ret_session = nf_session_new (peer, &options, nf_fds_new (), 0, FALSE, error);
      link = *ret_session == NULL ? NULL : (*ret_session)->link;
    }
  ok = link != NULL;
  if (ok && !nf_link_add_lane (link, msg->lane.lane, &visitor->fds))
    {
      g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_PROTOCOL,
                   "a lane comes twice, or after its link's end");
      ok = FALSE;
    }
  pthread_mutex_unlock (&peer->lock);
  return ok;
}

static void
leave_lobby (NfHub *hub)
{
  pthread_mutex_lock (&hub->lock);
  hub->n_lobby--;
  pthread_mutex_unlock (&hub->lock);
}

static void
visitor_thread (gpointer data)
{
  Visitor *visitor = data;
  NfPeer *peer = visitor->peer;
  NfHub *hub = peer->hub;
  gint64 until_us = g_get_monotonic_time () + FIRST_WORDS_MS * 1000;
  g_autoptr (GError) error = NULL;
  g_auto (NfMsg) msg = { 0 };
  NfSession *session = NULL;
  gboolean ok;

  ok = read_magic (visitor, until_us, &error) && read_lane_message (visitor, until_us, &msg, &error)
       && find_place (visitor, &msg, &session, &error);
  leave_lobby (hub);
  if (!ok)
    {
      turn_away (&visitor->fds, visitor->err_fd, error->message);
      if (!nf_hub_stopping (hub))
        nf_peer_failed (peer, error->message);
    }
  visitor_free (visitor);
  if (session != NULL && nf_hub_stopping (hub))
    nf_link_close (session->link, NF_NET_ERROR_CLOSED, "shutting down");
  if (session != NULL)
    (void)nf_session_run (session);
}

/* Why SITE can't come in; NULL if it can. The caller frees it. */
static char *
why_not (NfHub *hub, NfPeer *peer, const char *site)
{
  g_autoptr (NfMap) map = nf_hub_map (hub);
  gboolean in_map = FALSE;

  if (peer != NULL)
    {
      pthread_mutex_lock (&peer->lock);
      in_map = peer->in_map;
      pthread_mutex_unlock (&peer->lock);
    }
  if (in_map)
    return NULL;
  if (strcmp (site, hub->conf->name) == 0)
    return g_strdup_printf ("the key is that of site %s itself", site);
  if (nf_map_site (map, site) == NULL)
    return g_strdup_printf ("site %s isn't in the map of %s", site, hub->conf->name);
  return g_strdup_printf ("site %s shares nothing with %s", site, hub->conf->name);
}

static gboolean
enter_lobby (NfHub *hub)
{
  gboolean ok;

  pthread_mutex_lock (&hub->lock);
  ok = hub->n_lobby < NF_HUB_LOBBY_MAX;
  hub->n_lobby += ok ? 1 : 0;
  pthread_mutex_unlock (&hub->lock);
  return ok;
}

void
nf_hub_accept (NfHub *hub, const char *site, int in_fd, int out_fd, int err_fd, int hold_fd)
{
  NfPeer *peer = nf_hub_peer (hub, site);
  g_autofree char *reason = why_not (hub, peer, site);
  NfFdLane fds = { .in = in_fd, .out = out_fd, .hold = hold_fd, .text = -1 };
  Visitor *visitor = g_new (Visitor, 1);

  *visitor = (Visitor){ peer, fds, err_fd };
  if (reason == NULL && !enter_lobby (hub))
    reason = g_strdup ("too many connections at one time");
  if (reason == NULL)
    {
      if (nf_hub_run (hub, visitor_thread, visitor))
        return;
      leave_lobby (hub);
      reason = g_strdup ("shutting down");
    }
  nf_hub_log (G_LOG_LEVEL_WARNING, site, "%s is refused: %s", site, reason);
  turn_away (&visitor->fds, err_fd, reason);
  visitor_free (visitor);
}
