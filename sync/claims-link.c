// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/claims-internal.h"

#include "sync/grants.h"
#include "sync/lock-wire.h"

/* All that this site has is said over each new link, and lost if there is none for too long. See claims.c. */

#define LOST_AFTER_MS (NF_LEASE_MS - NF_LEASE_MARGIN_MS)
/* A LOCKS message's: far below a frame's. */
#define LOCKS_BYTES (512 * 1024)

typedef struct
{
  NfClaims *claims;
  guint serial;
} Lease;

/* ---- links ---- */

typedef struct
{
  NfClaims *claims;
  NfBuf buf;
} Saying;

static void
send_locks (Saying *saying, guint8 flags)
{
  NfShare *share = saying->claims->share;
  NfMsg msg = { .type = NF_MSG_LOCKS };

  msg.locks.share = share->conf.id;
  msg.locks.session = saying->claims->session;
  msg.locks.flags = flags;
  msg.locks.locks = nf_slice (saying->buf.data, saying->buf.len);
  (void)share->host->send (share->host->data, share->conf.primary, FALSE, &msg);
  nf_buf_clear (&saying->buf);
}

static void
say (const NfLock *lock, gpointer data)
{
  Saying *saying = data;

  nf_lock_encode (lock, &saying->buf);
  if (saying->buf.len >= LOCKS_BYTES)
    send_locks (saying, 0);
}

static void
say_held (const NfLock *lock, gpointer data)
{
  NfLock held = *lock;

  held.id = 0;
  say (&held, data);
}

static void
say_alone (Saying *saying)
{
  GHashTableIter iter;
  gpointer key, value;

  g_hash_table_iter_init (&iter, saying->claims->alone);
  while (g_hash_table_iter_next (&iter, &key, &value))
    {
      NfLock lock = { .fid = *(NfFid *)key, .kind = NF_LOCK_ALL };
      lock.type = ((NfClaimsAlone *)value)->returning ? NF_LOCK_WRITE : NF_LOCK_READ;
      say (&lock, saying);
    }
}

void
nf_claims_peer_up (NfClaims *claims)
{
  Saying saying = { claims, NF_BUF_INIT };

  pthread_mutex_lock (&claims->lock);
  claims->up = TRUE;
  claims->serial++;
  say_alone (&saying);
  nf_lock_table_each_held (claims->held, say_held, &saying);
  for (guint i = 0; i < claims->requests->len; i++)
    {
      const NfClaim *request = claims->requests->pdata[i];
      if (request->state == NF_CLAIM_WAITING)
        say (&request->lock, &saying);
    }
  send_locks (&saying, NF_LOCKS_LAST);
  pthread_mutex_unlock (&claims->lock);
}

static void
lease_is_over (gpointer data)
{
  Lease *lease = data;
  NfClaims *claims = lease->claims;
  GArray *due = nf_claims_due_new ();

  pthread_mutex_lock (&claims->lock);
  if (!claims->stopped && !claims->up && claims->serial == lease->serial)
    nf_claims_lose_all (claims, due);
  pthread_mutex_unlock (&claims->lock);
  nf_claims_run_due (claims, due);
  nf_claims_unref (claims);
  g_free (lease);
}

void
nf_claims_peer_down (NfClaims *claims)
{
  NfHost *host = claims->share->host;

  pthread_mutex_lock (&claims->lock);
  gboolean was_up = claims->up;
  claims->up = FALSE;
  Lease lease = { claims, ++claims->serial };
  pthread_mutex_unlock (&claims->lock);
  if (!was_up)
    return;
  g_atomic_int_inc (&claims->refs);
  host->post_after (host->data, LOST_AFTER_MS, lease_is_over, g_memdup2 (&lease, sizeof lease));
}
