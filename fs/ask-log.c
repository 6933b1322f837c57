// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "fs/asks.h"

/* How often a followed journal is looked at. A journal tells nobody that it has grown, as that
 * would be on the way of every change; a person reads this. */
#define FOLLOW_MS 200

typedef struct
{
  NfDaemon *daemon;
  NfSlot *slot;
  NfAsk *ask;
  guint64 seq; /* the last that was sent */
} Log;

/* A record's line begins with its epoch, a dot, and its seq. */
static guint64
seq_of (const char *line, guint64 fallback)
{
  guint64 seq;

  return sscanf (line, "%*u.%" G_GUINT64_FORMAT, &seq) == 1 ? seq : fallback;
}

static gboolean
send_line (const char *line, gpointer data)
{
  Log *log = data;

  log->seq = seq_of (line, log->seq + 1);
  return nf_ask_line (log->ask, "line", line) && !nf_slot_is_wanted (log->daemon, log->slot);
}

static gboolean
stop_at_first (const char *line, gpointer data)
{
  (void)line;
  (void)data;
  return FALSE;
}

/* After which seq the journal's oldest record comes. */
static guint64
oldest (NfSlot *slot)
{
  NfShareStatus status;
  guint64 low = 0;
  guint64 high;

  nf_share_status (slot->share, &status);
  high = status.position.seq;
  while (low < high)
    {
      guint64 middle = low + (high - low) / 2;
      if (nf_share_log (slot->share, middle, stop_at_first, NULL) == -ENOENT)
        low = middle + 1;
      else
        high = middle;
    }
  return low;
}

static gboolean
wait_for_more (Log *log)
{
  const struct timespec tick = { .tv_nsec = FOLLOW_MS * 1000 * 1000 };
  NfShareStatus status;

  do
    {
      if (nf_ask_is_over (log->ask) || nf_slot_is_wanted (log->daemon, log->slot))
        return FALSE;
      (void)nanosleep (&tick, NULL); /* woken early it only looks early */
      nf_share_status (log->slot->share, &status);
    }
  while (status.position.seq <= log->seq);
  return TRUE;
}

void
nf_asks_log (gpointer data, NfAsk *ask)
{
  Log log = { .daemon = data, .ask = ask };
  gint64 since = nf_ask_number (ask, "since", -1);
  int err;

  log.slot = nf_asks_share (log.daemon, ask);
  if (!log.slot)
    return;
  log.seq = since >= 0 ? (guint64)since : oldest (log.slot);
  do
    err = nf_share_log (log.slot->share, log.seq, send_line, &log);
  while (err == 0 && nf_ask_flag (ask, "follow") && wait_for_more (&log));
  if (err == -ENOENT)
    nf_ask_fail (ask, "the journal of share %s doesn't reach back to %" G_GUINT64_FORMAT,
                 log.slot->name, log.seq);
  else if (err == -EOPNOTSUPP)
    nf_ask_fail (ask, "share %s has no replica here, so no journal", log.slot->name);
  else if (err != 0)
    nf_ask_fail (ask, "the journal of share %s can't be read: %s", log.slot->name,
                 g_strerror (-err));
  else
    nf_ask_done (ask);
  nf_slot_put (log.daemon, log.slot);
}
