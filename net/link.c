// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "net/link-private.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* A stream's first bytes may take this long: a login shell reads its start files, a relay
 * connects. */
#define GREETING_US (15 * G_USEC_PER_SEC)
/* Pings a heartbeat: one may be late in a busy moment before a peer looks dead. They are all that an idle daemon does. */
#define PINGS_A_HEARTBEAT 3
/* Lanes beyond the first go over the same connection, so only what is theirs alone could die: they have so many times as long,
 * and are pinged as seldom. */
#define OTHER_LANES 3
/* Longer than this beyond what was asked for, and we weren't run: the machine stood still, or had too much to do. */
#define STOOD_STILL_US (500 * 1000)
/* How long a goodbye may take to be written. */
#define GOODBYE_US (300 * 1000)

static const gsize credits[NF_LINK_N_KINDS] = { NF_LINK_CREDIT_OPS, NF_LINK_CREDIT_BULK };
static const gsize low_waters[NF_LINK_N_KINDS] = { NF_LINK_LOW_WATER_OPS, NF_LINK_LOW_WATER_BULK };

static void
put_lane_message (NfLink *link, guint lane)
{
  NfMsg msg = { .type = NF_MSG_LANE };

  msg.lane.link_hi = link->options.id[0];
  msg.lane.link_lo = link->options.id[1];
  msg.lane.kind = (guint8)link->options.kind;
  msg.lane.lane = (guint8)lane;
  msg.lane.lanes = (guint8)link->options.lanes;
  nf_link_put_control (&link->lanes[lane], &msg);
}

NfLink *
nf_link_new (const NfLinkOptions *options, NfTransport *transport, guint n_open,
             const NfLinkEvents *events, gpointer data, GError **error)
{
  NfCredit *credit = nf_credit_new (credits[options->kind]);
  gint64 now = g_get_monotonic_time ();
  NfLink *link;

  g_assert (options->lanes >= 1 && options->lanes <= NF_LANES_MAX && n_open <= options->lanes);
  if (credit == NULL)
    {
      g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_FAILED, "eventfd: %s", g_strerror (errno));
      transport->ops->free (transport, TRUE);
      return NULL;
    }
  link = g_new0 (NfLink, 1);
  link->refs = 1;
  link->options = *options;
  link->who = g_strdup (options->who);
  link->options.who = link->who;
  link->events = *events;
  link->data = data;
  link->credit = credit;
  link->low_water = low_waters[options->kind];
  link->transport = transport;
  if (options->kind == NF_LINK_BULK && transport->ops->widen)
    transport->ops->widen (transport, NF_LINK_CREDIT_BULK / options->lanes);
  link->pack = nf_pack_new ();
  link->may_send = link->may_receive = credits[options->kind];
  link->counted.heard_us = link->published.heard_us = now;
  pthread_mutex_init (&link->lock, NULL);
  g_queue_init (&link->queue);
  for (guint i = 0; i < n_open; i++)
    {
      nf_lane_open (&link->lanes[i], !options->dialling, now);
      link->lanes_taken |= 1u << i;
      if (options->dialling)
        put_lane_message (link, i);
    }
  return link;
}

NfLink *
nf_link_ref (NfLink *link)
{
  g_atomic_int_inc (&link->refs);
  return link;
}

static void
new_lane_free (gpointer data)
{
  NfLinkNewLane *lane = data;

  nf_fd_lane_clear (&lane->fds);
  g_free (lane);
}

void
nf_link_unref (NfLink *link)
{
  if (!g_atomic_int_dec_and_test (&link->refs))
    return;
  if (link->transport != NULL)
    link->transport->ops->free (link->transport, TRUE);
  for (guint i = 0; i < NF_LANES_MAX; i++)
    nf_lane_clear (&link->lanes[i]);
  g_queue_clear_full (&link->queue, (GDestroyNotify)g_bytes_unref);
  g_slist_free_full (link->new_lanes, new_lane_free);
  g_clear_error (&link->closing);
  nf_credit_unref (link->credit);
  nf_pack_free (link->pack);
  pthread_mutex_destroy (&link->lock);
  g_free (link->read_buffer);
  g_free (link->who);
  g_free (link);
}

/* With the lock held: whether the caller must wake the thread after unlocking. */
static gboolean
must_wake (NfLink *link)
{
  gboolean wake = link->asleep;

  link->asleep = FALSE;
  return wake;
}

gboolean
nf_link_send (NfLink *link, GBytes *payload)
{
  gsize cost = nf_link_cost (g_bytes_get_size (payload));
  gboolean wake = FALSE;
  gboolean sent = FALSE;
  gboolean overflow = FALSE;

  pthread_mutex_lock (&link->lock);
  if (!link->ended && link->closing == NULL)
    {
      overflow = link->queued + cost > NF_LINK_QUEUE_MAX;
      if (!overflow)
        {
          g_queue_push_tail (&link->queue, g_steal_pointer (&payload));
          link->queued += cost;
          link->was_high |= link->queued >= link->low_water;
          wake = must_wake (link);
          sent = TRUE;
        }
    }
  pthread_mutex_unlock (&link->lock);
  if (wake)
    nf_credit_wake (link->credit);
  g_bytes_unref (payload); /* NULL if it was queued */
  if (overflow)
    nf_link_close (link, NF_NET_ERROR_FAILED,
                   "the peer takes in too little: the queue for it is full");
  return sent;
}

gsize
nf_link_queued (NfLink *link)
{
  gsize queued;

  pthread_mutex_lock (&link->lock);
  queued = link->queued;
  pthread_mutex_unlock (&link->lock);
  return queued;
}

void
nf_link_close (NfLink *link, NfNetError code, const char *reason)
{
  gboolean wake = FALSE;

  pthread_mutex_lock (&link->lock);
  if (link->closing == NULL && !link->ended)
    {
      link->closing = g_error_new_literal (NF_NET_ERROR, (gint)code, reason);
      wake = must_wake (link);
    }
  pthread_mutex_unlock (&link->lock);
  if (wake)
    nf_credit_wake (link->credit);
}

gboolean
nf_link_add_lane (NfLink *link, guint lane, NfFdLane *fds)
{
  gboolean taken = FALSE;
  gboolean wake = FALSE;

  pthread_mutex_lock (&link->lock);
  if (!link->ended && lane < link->options.lanes && !(link->lanes_taken & (1u << lane)))
    {
      NfLinkNewLane *new_lane = g_new (NfLinkNewLane, 1);

      *new_lane = (NfLinkNewLane){ lane, *fds };
      *fds = NF_FD_LANE_INIT;
      link->new_lanes = g_slist_prepend (link->new_lanes, new_lane);
      link->lanes_taken |= 1u << lane;
      taken = TRUE;
      wake = must_wake (link);
    }
  pthread_mutex_unlock (&link->lock);
  if (wake)
    nf_credit_wake (link->credit);
  return taken;
}

void
nf_link_hold (NfLink *link, gboolean hold)
{
  gboolean wake;

  pthread_mutex_lock (&link->lock);
  link->hold = hold;
  wake = must_wake (link);
  pthread_mutex_unlock (&link->lock);
  if (wake)
    nf_credit_wake (link->credit);
}

void
nf_link_ping (NfLink *link)
{
  gboolean wake;

  pthread_mutex_lock (&link->lock);
  link->ping = TRUE;
  wake = must_wake (link);
  pthread_mutex_unlock (&link->lock);
  if (wake)
    nf_credit_wake (link->credit);
}

void
nf_link_stats (NfLink *link, NfLinkStats *ret_stats)
{
  pthread_mutex_lock (&link->lock);
  *ret_stats = link->published;
  pthread_mutex_unlock (&link->lock);
}

const guint64 *
nf_link_id (const NfLink *link)
{
  return link->options.id;
}

/* Takes what other threads have left, and shows them the numbers. */
static gboolean
take_orders (NfLink *link, gint64 now_us, GError **error)
{
  GSList *new_lanes;
  gboolean ping;

  pthread_mutex_lock (&link->lock);
  link->asleep = FALSE;
  new_lanes = g_steal_pointer (&link->new_lanes);
  ping = link->ping;
  link->ping = FALSE;
  link->published = link->counted;
  if (link->closing != NULL && error != NULL && *error == NULL)
    *error = g_error_copy (link->closing);
  pthread_mutex_unlock (&link->lock);

  for (GSList *l = new_lanes; l != NULL; l = l->next)
    {
      NfLinkNewLane *lane = l->data;

      nf_fds_add (link->transport, lane->lane, &lane->fds);
      nf_lane_open (&link->lanes[lane->lane], TRUE, now_us);
    }
  g_slist_free_full (new_lanes, new_lane_free);
  if (ping)
    nf_link_put_ping (link, link->options.lanes);
  return error == NULL || *error == NULL;
}

/* How long LANE may be silent. */
static gint64
life_us (const NfLink *link, guint lane)
{
  return (gint64)link->options.heartbeat_ms * 1000 * (lane == 0 ? 1 : OTHER_LANES);
}

static gboolean
check_life (NfLink *link, gint64 now_us, GError **error)
{
  for (guint i = 0; i < link->options.lanes; i++)
    {
      const NfLane *lane = &link->lanes[i];

      if (!lane->open)
        continue;
      if (!nf_frame_reader_greeted (&lane->reader))
        {
          if (now_us - lane->opened_us <= GREETING_US)
            continue;
          g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_RELAY,
                       "nearfs relay there says nothing for %d s",
                       (int)(GREETING_US / G_USEC_PER_SEC));
          return FALSE;
        }
      if (now_us - lane->heard_us > life_us (link, i))
        {
          g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_DEAD, "nothing was heard for %.1f s",
                       (double)(now_us - lane->heard_us) / G_USEC_PER_SEC);
          return FALSE;
        }
    }
  return TRUE;
}

static guint
count_greeted (const NfLink *link)
{
  guint n = 0;

  for (guint i = 0; i < link->options.lanes; i++)
    if (link->lanes[i].open && nf_frame_reader_greeted (&link->lanes[i].reader))
      n++;
  return n;
}

static gint64
ping_every_us (const NfLink *link)
{
  return (gint64)link->options.heartbeat_ms * 1000 / PINGS_A_HEARTBEAT;
}

void
nf_link_ping_later (NfLink *link)
{
  if (link->next_out == link->pinged_out)
    link->next_ping_us = g_get_monotonic_time () + ping_every_us (link) * 5 / 4;
}

static gboolean
run_timers (NfLink *link, gint64 now_us, GError **error)
{
  guint n_greeted = count_greeted (link);

  if (now_us >= link->next_ping_all_us || n_greeted != link->n_greeted)
    {
      link->n_greeted = n_greeted;
      nf_link_put_ping (link, link->options.lanes);
      link->next_ping_all_us = now_us + ping_every_us (link) * OTHER_LANES;
    }
  else if (now_us >= link->next_ping_us)
    nf_link_put_ping (link, 1);
  if (now_us >= link->next_ping_us)
    {
      link->next_ping_us = now_us + ping_every_us (link);
      link->pinged_out = link->next_out;
    }
  if (now_us >= link->next_tick_us)
    link->next_tick_us = now_us + (gint64)link->events.tick (link->data, now_us) * 1000;
  return check_life (link, now_us, error);
}

/* Milliseconds until a timer is due. */
static int
timer_ms (const NfLink *link, gint64 now_us)
{
  gint64 left_us = MIN (link->next_ping_us, link->next_tick_us) - now_us;

  for (guint i = 0; i < link->options.lanes; i++)
    if (link->lanes[i].open && nf_frame_reader_greeted (&link->lanes[i].reader))
      left_us = MIN (left_us, link->lanes[i].heard_us + life_us (link, i) + 1 - now_us);

  return left_us <= 0 ? 0 : (int)MIN (left_us / 1000 + 1, 60 * 1000);
}

/* Whether the thread may sleep; from then on, who leaves an order wakes it. */
static gboolean
fall_asleep (NfLink *link)
{
  gboolean asleep;

  pthread_mutex_lock (&link->lock);
  asleep
      = link->closing == NULL && link->new_lanes == NULL && !link->ping && !nf_link_can_move (link);
  link->asleep = asleep;
  pthread_mutex_unlock (&link->lock);
  return asleep;
}

static guint
want_write (const NfLink *link)
{
  guint lanes = 0;

  for (guint i = 0; i < link->options.lanes; i++)
    if (link->lanes[i].open && nf_lane_pending (&link->lanes[i]) > 0)
      lanes |= 1u << i;
  return lanes;
}

/* Waits for something to do, MAX_MS at the most. */
static gboolean
wait_and_dispatch (NfLink *link, int max_ms, GError **error)
{
  struct pollfd fds[NF_TRANSPORT_POLL_MAX + 1];
  gboolean now = FALSE;
  guint n = link->transport->ops->prepare (link->transport, want_write (link), fds + 1, &now);

  fds[0] = (struct pollfd){ nf_credit_wake_fd (link->credit), POLLIN, 0 };
  if (poll (fds, n + 1, now ? 0 : max_ms) < 0)
    for (guint i = 0; i <= n; i++)
      fds[i].revents = 0;
  if (fds[0].revents != 0)
    nf_credit_woken (link->credit);
  return link->transport->ops->dispatch (link->transport, fds + 1, n, error);
}

/* For LOST_US nobody here could have heard a peer, nor he us if it was his machine, too: that time doesn't count. */
static void
forgive (NfLink *link, gint64 lost_us)
{
  for (guint i = 0; i < link->options.lanes; i++)
    {
      link->lanes[i].heard_us += lost_us;
      link->lanes[i].opened_us += lost_us;
    }
}

static GError *
loop (NfLink *link)
{
  GError *error = NULL;
  gboolean more = FALSE;
  gint64 now = g_get_monotonic_time ();

  for (;;)
    {
      gint64 before = now;
      int wait_ms = !more && fall_asleep (link) ? timer_ms (link, g_get_monotonic_time ()) : 0;

      if (!wait_and_dispatch (link, wait_ms, &error))
        return error;
      /* Taken before messages are worked on: a peer isn't dead because we were slow. */
      now = g_get_monotonic_time ();
      if (now - before - (gint64)wait_ms * 1000 > STOOD_STILL_US)
        forgive (link, now - before - (gint64)wait_ms * 1000);
      more = FALSE;
      if (!take_orders (link, now, &error) || !nf_link_pump_in (link, now, &more, &error)
          || !run_timers (link, now, &error) || !nf_link_pump_out (link, &error))
        return error;
    }
}

/* Reads and forgets, as a peer that is stuck in writing to us doesn't read. FALSE if it's gone. */
static gboolean
drain (NfLink *link, guint lane)
{
  guint8 buffer[4096];
  gssize n;

  do
    n = link->transport->ops->read (link->transport, lane, buffer, sizeof buffer);
  while (n > 0);
  return n == -EAGAIN;
}

/* Tells the peer why, as well as that can be done in a moment. */
static void
say_goodbye (NfLink *link, const char *reason)
{
  NfMsg msg = { .type = NF_MSG_GOODBYE, .goodbye = { nf_slice_str (reason) } };
  gint64 until = g_get_monotonic_time () + GOODBYE_US;
  guint64 bytes = 0;
  guint lane = 0;

  while (lane < link->options.lanes && !link->lanes[lane].open)
    lane++;
  if (lane == link->options.lanes)
    return;
  nf_link_put_control (&link->lanes[lane], &msg);
  while (nf_lane_flush (&link->lanes[lane], link->transport, lane, &bytes, NULL)
         && nf_lane_pending (&link->lanes[lane]) > 0 && g_get_monotonic_time () < until)
    if (!wait_and_dispatch (link, 20, NULL) || !drain (link, lane))
      return;
}

static gboolean
worth_goodbye (const NfLink *link, const GError *error)
{
  return !link->peer_left && !g_error_matches (error, NF_NET_ERROR, NF_NET_ERROR_CLOSED)
         && !g_error_matches (error, NF_NET_ERROR, NF_NET_ERROR_RELAY);
}

GError *
nf_link_run (NfLink *link)
{
  GError *error = loop (link);
  GSList *new_lanes;
  gboolean ours;

  pthread_mutex_lock (&link->lock);
  ours = link->closing != NULL;
  link->ended = TRUE;
  new_lanes = g_steal_pointer (&link->new_lanes);
  g_queue_clear_full (&link->queue, (GDestroyNotify)g_bytes_unref);
  link->queued = 0;
  pthread_mutex_unlock (&link->lock);

  if (ours || worth_goodbye (link, error))
    say_goodbye (link, error->message);
  g_slist_free_full (new_lanes, new_lane_free);
  link->transport->ops->free (link->transport,
                              g_error_matches (error, NF_NET_ERROR, NF_NET_ERROR_DEAD));
  link->transport = NULL;
  for (guint i = 0; i < NF_LANES_MAX; i++)
    nf_lane_clear (&link->lanes[i]);
  return error;
}
