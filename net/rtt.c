// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "net/rtt.h"

/* A heartbeat's pings: a queue seldom lasts that long. */
#define ROUND 3

static guint64
least (guint64 a, guint64 b)
{
  return a == 0 ? b : MIN (a, b);
}

void
nf_rtt_note (NfRtt *rtt, guint64 us)
{
  rtt->last_us = us;
  rtt->min_us = least (rtt->min_us, us);
  rtt->round_us = least (rtt->round_us, us);
  rtt->recent_us = least (rtt->recent_us, us);
  if (++rtt->n < ROUND)
    return;
  rtt->recent_us = rtt->round_us;
  rtt->round_us = 0;
  rtt->n = 0;
}
