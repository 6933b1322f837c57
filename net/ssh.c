// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "net/ssh.h"

#include <errno.h>
#include <string.h>

#include "net/dial.h"

/* A transport over libssh: one session, a channel for each lane. All of it belongs to one
 * thread.
 *
 * What libssh 0.10 makes one do, found by measuring:
 * - It handles 4 KiB of input a call, so dispatch goes round until nothing is left, or a turn is
 *   over.
 * - Writing is only asked of it when it has written what it had, and never more than the window,
 *   else it blocks.
 * - Its receive window stays at 1.28 MB, which is all that can be under way on a long path;
 *   asking for more in one read makes it larger. Later versions have larger windows of their own, and
 *   there it does no harm.
 * - Whatever is asked of it polls the socket, so nothing is asked in vain: each message is a wake-up of
 *   its own, and a poll costs as much as the message. */

#define DISPATCH_TURNS 64
/* What the command prints is of interest when it ends. Until then it must only be kept from filling the
 * window. */
#define TEXT_EACH 64
#define WRITE_MAX (128 * 1024)
/* libssh's own, and the largest that is asked for. */
#define WINDOW_OWN 1280000
#define WINDOW_MAX (4 * 1024 * 1024)

typedef struct
{
  ssh_channel channel;
  guint32 since_grown; /* bytes read since the window was asked for */
  GString *text;       /* what the command printed on standard error; NULL if nothing */
} Lane;

typedef struct
{
  NfTransport base;
  ssh_session session;
  ssh_event event;
  NfFdLane proxy;
  guint n_lanes;
  gsize window; /* that is asked for; 0: libssh's own */
  gboolean broken;
  gboolean more; /* there may be something that no poll() will tell of */
  guint dispatched;
  Lane lanes[NF_LANES_MAX];
  /* What a read of a whole window brought beyond what was asked for. */
  guint8 *big;
  gsize big_pos;
  gsize big_len;
  guint big_lane;
} Ssh;

static guint
ssh_prepare (NfTransport *transport, guint want_write, struct pollfd *fds, gboolean *ret_now)
{
  Ssh *self = (Ssh *)transport;
  short events = POLLIN;

  if (ssh_get_poll_flags (self->session) & SSH_WRITE_PENDING)
    events |= POLLOUT;
  fds[0] = (struct pollfd){ ssh_get_fd (self->session), events, 0 };
  *ret_now |= self->more;
  self->more = FALSE;
  return 1;
}

static void
read_text (Lane *lane)
{
  char buffer[512];
  int n;

  while ((n = ssh_channel_read_nonblocking (lane->channel, buffer, sizeof buffer, 1)) > 0)
    {
      if (lane->text == NULL)
        lane->text = g_string_new (NULL);
      if (lane->text->len < NF_TRANSPORT_TEXT_MAX)
        g_string_append_len (lane->text, buffer, n);
    }
}

static gboolean
ssh_dispatch (NfTransport *transport, const struct pollfd *fds, guint n_fds, GError **error)
{
  Ssh *self = (Ssh *)transport;

  if (fds[0].revents == 0 || self->broken)
    return TRUE;
  /* Each turn reads 4 KiB at the most. */
  int rc = SSH_OK;
  for (guint turn = 0; turn < DISPATCH_TURNS && rc == SSH_OK; turn++)
    rc = ssh_event_dopoll (self->event, 0);
  if (rc == SSH_ERROR || !ssh_is_connected (self->session))
    self->broken = TRUE; /* what it holds is read first */
  for (guint i = 0; i < self->n_lanes && self->dispatched % TEXT_EACH == 0; i++)
    read_text (&self->lanes[i]);
  self->dispatched++;
  /* Each lane is read now until nothing is left, which may bring something for one before it. */
  self->more = self->n_lanes > 1;
  return TRUE;
}

/* What a channel's end or a session's error means to the link. */
static gssize
ended (Ssh *self, Lane *lane, int n)
{
  if (n == SSH_EOF || ssh_channel_is_eof (lane->channel) || ssh_channel_is_closed (lane->channel))
    return 0;
  if (n == SSH_ERROR || self->broken)
    return -ECONNRESET;
  return -EAGAIN;
}

/* Some of what the last big read brought for this lane. */
static gsize
take_big (Ssh *self, void *buffer, gsize size)
{
  gsize n = MIN (size, self->big_len - self->big_pos);

  memcpy (buffer, self->big + self->big_pos, n);
  self->big_pos += n;
  if (self->big_pos == self->big_len)
    self->big_pos = self->big_len = 0;
  return n;
}

/* Reads as if a whole window were wanted, by which the window becomes that large. */
static int
read_big (Ssh *self, guint index)
{
  Lane *lane = &self->lanes[index];
  int n;

  if (self->big == NULL)
    self->big = g_malloc (WINDOW_MAX);
  n = ssh_channel_read_timeout (lane->channel, self->big, (guint32)self->window, 0, 0);
  lane->since_grown = 0;
  self->big_lane = index;
  self->big_pos = 0;
  self->big_len = n > 0 ? (gsize)n : 0;
  return n;
}

static gssize
ssh_read (NfTransport *transport, guint index, void *buffer, gsize size)
{
  Ssh *self = (Ssh *)transport;
  Lane *lane = &self->lanes[index];
  int n;

  if (self->big_len > 0 && self->big_lane == index)
    n = (int)take_big (self, buffer, size);
  else if (self->window > 0 && self->big_len == 0 && lane->since_grown >= self->window / 2)
    {
      n = read_big (self, index);
      if (n > 0)
        n = (int)take_big (self, buffer, size);
    }
  else
    n = ssh_channel_read_nonblocking (lane->channel, buffer, (guint32)size, 0);
  if (n <= 0)
    return ended (self, lane, n);
  self->more |= self->n_lanes > 1;
  lane->since_grown += (guint32)n;
  return n;
}

static void
ssh_widen (NfTransport *transport, gsize window)
{
  Ssh *self = (Ssh *)transport;

  self->window = window > WINDOW_OWN ? MIN (window, WINDOW_MAX) : 0;
}

static gssize
ssh_write (NfTransport *transport, guint index, const void *data, gsize len)
{
  Ssh *self = (Ssh *)transport;
  Lane *lane = &self->lanes[index];
  gsize window;
  int n;

  if (self->broken || (ssh_get_status (self->session) & SSH_WRITE_PENDING))
    return -EAGAIN;
  window = ssh_channel_window_size (lane->channel);
  if (window == 0 || ssh_channel_is_closed (lane->channel))
    return -EAGAIN;
  n = ssh_channel_write (lane->channel, data, (guint32)MIN (len, MIN (window, WRITE_MAX)));
  if (n == SSH_ERROR)
    {
      self->broken = self->more = TRUE; /* the reading end tells why */
      return -EAGAIN;
    }
  /* It may have read the socket as well: data and windows, also of other lanes, that no poll()
   * will tell of. */
  self->more = TRUE;
  return n <= 0 ? -EAGAIN : n;
}

static char *
ssh_explain (NfTransport *transport, guint index)
{
  Ssh *self = (Ssh *)transport;
  Lane *lane = &self->lanes[index];
  int status = -1;

  for (int waited = 0; waited < 500 && !self->broken && !ssh_channel_is_closed (lane->channel);
       waited += 20)
    if (ssh_event_dopoll (self->event, 20) == SSH_ERROR)
      break;
  read_text (lane);
  if (lane->text != NULL)
    return nf_transport_one_line (lane->text->str, lane->text->len);
  status = ssh_channel_get_exit_status (lane->channel);
  if (status == 127)
    return g_strdup ("the command \"" NF_DIAL_COMMAND "\" isn't found there (exit status 127)");
  if (status > 0)
    return g_strdup_printf ("exit status %d", status);
  return NULL;
}

static void
ssh_free_transport (NfTransport *transport, gboolean dead)
{
  Ssh *self = (Ssh *)transport;

  if (self->event != NULL)
    {
      ssh_event_remove_session (self->event, self->session);
      ssh_event_free (self->event);
    }
  for (guint i = 0; i < self->n_lanes; i++)
    {
      if (self->lanes[i].channel != NULL)
        ssh_channel_free (self->lanes[i].channel);
      if (self->lanes[i].text != NULL)
        g_string_free (self->lanes[i].text, TRUE);
    }
  g_free (self->big);
  if (dead || self->broken)
    ssh_silent_disconnect (self->session);
  else
    ssh_disconnect (self->session);
  ssh_free (self->session);
  nf_fd_lane_clear (&self->proxy);
  g_free (self);
}

static const NfTransportOps ssh_ops = {
  .prepare = ssh_prepare,
  .dispatch = ssh_dispatch,
  .read = ssh_read,
  .write = ssh_write,
  .widen = ssh_widen,
  .explain = ssh_explain,
  .free = ssh_free_transport,
};

NfTransport *
nf_ssh_new (ssh_session session, const ssh_channel *channels, guint n_channels, NfFdLane *proxy)
{
  Ssh *self = g_new0 (Ssh, 1);

  g_assert (n_channels <= NF_LANES_MAX);
  self->base.ops = &ssh_ops;
  self->session = session;
  self->n_lanes = n_channels;
  self->proxy = *proxy;
  *proxy = NF_FD_LANE_INIT;
  self->more = TRUE; /* something may have come while the channels were opened */
  self->event = ssh_event_new ();
  ssh_event_add_session (self->event, session);
  for (guint i = 0; i < n_channels; i++)
    {
      self->lanes[i].channel = channels[i];
      self->lanes[i].since_grown = WINDOW_MAX; /* the first read asks for the large window */
    }
  return &self->base;
}
