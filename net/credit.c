// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "net/credit.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Announced when an eighth of the window was given back: the sender hasn't run dry by then, and
 * a credit message per half megabyte costs nothing. */
#define ANNOUNCE_PART 8

struct _NfCredit
{
  int refs; /* by g_atomic_int_*(), whose macros ThreadSanitizer understands */
  gsize threshold;
  int wake_fd;
  pthread_mutex_t lock;
  gsize returned; /* guarded by lock */
};

NfCredit *
nf_credit_new (gsize window)
{
  int fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  NfCredit *credit;

  if (fd < 0)
    return NULL;
  credit = g_new0 (NfCredit, 1);
  credit->refs = 1;
  credit->threshold = window / ANNOUNCE_PART;
  credit->wake_fd = fd;
  pthread_mutex_init (&credit->lock, NULL);
  return credit;
}

NfCredit *
nf_credit_ref (NfCredit *credit)
{
  g_atomic_int_inc (&credit->refs);
  return credit;
}

void
nf_credit_unref (NfCredit *credit)
{
  if (!g_atomic_int_dec_and_test (&credit->refs))
    return;
  close (credit->wake_fd);
  pthread_mutex_destroy (&credit->lock);
  g_free (credit);
}

static void
give_back (gpointer data)
{
  NfPayload *payload = data;
  NfCredit *credit = payload->credit;
  gboolean wake;

  pthread_mutex_lock (&credit->lock);
  wake = credit->returned < credit->threshold
         && credit->returned + payload->cost >= credit->threshold;
  credit->returned += payload->cost;
  pthread_mutex_unlock (&credit->lock);
  if (wake)
    nf_credit_wake (credit);
  nf_payload_free (payload);
  nf_credit_unref (credit);
}

GBytes *
nf_credit_wrap (NfCredit *credit, NfPayload *payload, gsize cost)
{
  payload->credit = nf_credit_ref (credit);
  payload->cost = cost;
  return g_bytes_new_with_free_func (payload->data, payload->len, give_back, payload);
}

int
nf_credit_wake_fd (const NfCredit *credit)
{
  return credit->wake_fd;
}

void
nf_credit_wake (NfCredit *credit)
{
  guint64 one = 1;

  /* Fails only when the counter is full: then it's readable anyway. */
  (void)!write (credit->wake_fd, &one, sizeof one);
}

void
nf_credit_woken (NfCredit *credit)
{
  guint64 count;

  (void)!read (credit->wake_fd, &count, sizeof count);
}

gsize
nf_credit_take (NfCredit *credit)
{
  gsize taken = 0;

  pthread_mutex_lock (&credit->lock);
  if (credit->returned >= credit->threshold)
    {
      taken = credit->returned;
      credit->returned = 0;
    }
  pthread_mutex_unlock (&credit->lock);
  return taken;
}
