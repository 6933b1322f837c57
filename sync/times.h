// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <glib.h>
#include <time.h>

/* Times of objects are nanoseconds since 1970 in 64 bits, which reach from 1677 to 2262. A disk may hold others: what lies
 * beyond counts as the last that there is. */

#define NF_TIME_SECOND G_GINT64_CONSTANT (1000000000)

static inline gint64
nf_time_ns (struct timespec time)
{
  gint64 seconds = time.tv_sec;

  if (seconds >= G_MAXINT64 / NF_TIME_SECOND)
    return G_MAXINT64;
  /* The lowest stands for "none". */
  if (seconds <= G_MININT64 / NF_TIME_SECOND)
    return G_MININT64 + 1;
  return seconds * NF_TIME_SECOND + time.tv_nsec;
}

static inline struct timespec
nf_time_spec (gint64 ns)
{
  gint64 seconds = ns / NF_TIME_SECOND;
  gint64 rest = ns % NF_TIME_SECOND;

  if (rest < 0)
    {
      seconds--;
      rest += NF_TIME_SECOND;
    }
  return (struct timespec){ .tv_sec = seconds, .tv_nsec = rest };
}
