// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <glib.h>

/* How long the way there and back takes, by the answers to pings. A single answer may have waited in a queue, so the
 * least of several counts; but a path may become another one, so it's the least of the last few. Thread: the caller's. */

typedef struct
{
  guint64 last_us; /* 0: not measured yet, as the others */
  guint64 min_us;  /* ever */
  guint64 recent_us;
  guint64 round_us; /* of the round that goes on */
  guint n;          /* answers in it */
} NfRtt;

/* US: more than 0. */
void nf_rtt_note (NfRtt *rtt, guint64 us);
