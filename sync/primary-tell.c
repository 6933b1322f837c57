// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/primary-internal.h"

/* When the other sites get an op.
 *
 * One that comes alone, and what somebody does who saves a file, at once. Of a stream of them (a file copied, an archive
 * unpacked) each would wake some ten threads at three machines one after another; so after some it is done in rounds, and
 * a round brings all there is. */

/* Below what anybody notices; a thousand rounds a second cost next to nothing. */
#define ROUND_MS 1
/* So many may go at once after a pause as long as so many rounds: a few files that are made, written and renamed. */
#define AT_ONCE 24

static gint64
now_ms (NfPrimary *primary)
{
  NfHost *host = primary->share->host;

  return host->monotonic_ms (host->data);
}

/* Who counts at the same time may be lost: it is a matter of load, not of order. */
static void
count_round (NfPrimary *primary)
{
  gint64 due = __atomic_load_n (&primary->round_due_ms, __ATOMIC_RELAXED);

  __atomic_store_n (&primary->round_due_ms, MAX (due, now_ms (primary)) + ROUND_MS,
                    __ATOMIC_RELAXED);
}

static gboolean
goes_at_once (NfPrimary *primary)
{
  gint64 due = __atomic_load_n (&primary->round_due_ms, __ATOMIC_RELAXED);

  return due - now_ms (primary) < AT_ONCE * ROUND_MS;
}

static void
tell (NfPrimary *primary)
{
  /* In this order: what is done from here on either is in this round, or begins another. */
  count_round (primary);
  g_atomic_int_set (&primary->tell_due, FALSE);
  nf_broadcast_pump (primary->broadcast, NULL);
}

static void
round_due (gpointer data)
{
  NfLife *life = data;
  NfPrimary *primary = nf_life_enter (life);

  if (primary)
    {
      tell (primary);
      nf_life_leave (life);
    }
  nf_life_unref (life);
}

void
nf_primary_tell (NfPrimary *primary, const char *site)
{
  NfHost *host = primary->share->host;

  if (!nf_broadcast_wanted (primary->broadcast))
    return;
  if (site)
    nf_broadcast_pump (primary->broadcast, site);
  if (!g_atomic_int_compare_and_exchange (&primary->tell_due, FALSE, TRUE))
    return;
  if (goes_at_once (primary))
    tell (primary);
  else
    host->post_after (host->data, ROUND_MS, round_due, nf_life_ref (primary->life));
}
