// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/primary-internal.h"

/* When the other sites get an op.
 *
 * One that comes alone, at once. Of a stream of them (a file copied, an archive unpacked) each would wake some ten threads
 * at three machines one after another; so what comes soon after another op waits for the next round, and a round brings
 * all there is. */

/* Below what anybody notices; a thousand rounds a second cost next to nothing. */
#define ROUND_MS 1

static void
tell (NfPrimary *primary)
{
  NfHost *host = primary->share->host;

  /* In this order: what is done from here on either is in this round, or begins another. */
  __atomic_store_n (&primary->told_ms, host->monotonic_ms (host->data), __ATOMIC_RELAXED);
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
  if (host->monotonic_ms (host->data) - __atomic_load_n (&primary->told_ms, __ATOMIC_RELAXED)
      > ROUND_MS)
    tell (primary);
  else
    host->post_after (host->data, ROUND_MS, round_due, nf_life_ref (primary->life));
}
