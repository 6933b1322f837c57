// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/order.h"

#include <pthread.h>
#include <string.h>

/* A ring of flags, one for each seq above the watermark. Its length is bounded by the number of ops under way, which
 * is bounded by the threads. */

#define FIRST_LENGTH 256 /* a power of two, as every later length */

struct NfOrder
{
  pthread_mutex_t lock;
  guint64 watermark; /* written under the lock, read without */
  guint8 *done;      /* guarded by lock: at seq & (length - 1) */
  guint64 length;
};

NfOrder *
nf_order_new (guint64 watermark)
{
  NfOrder *order = g_new0 (NfOrder, 1);

  pthread_mutex_init (&order->lock, NULL);
  order->watermark = watermark;
  order->length = FIRST_LENGTH;
  order->done = g_malloc0 (order->length);
  return order;
}

void
nf_order_free (NfOrder *order)
{
  pthread_mutex_destroy (&order->lock);
  g_free (order->done);
  g_free (order);
}

guint64
nf_order_watermark (NfOrder *order)
{
  return __atomic_load_n (&order->watermark, __ATOMIC_ACQUIRE);
}

static guint8 *
flag_of (NfOrder *order, guint64 seq)
{
  return &order->done[seq & (order->length - 1)];
}

static gboolean
is_among (guint64 seq, const guint64 *seqs, guint n_seqs)
{
  for (guint i = 0; i < n_seqs; i++)
    if (seqs[i] == seq)
      return TRUE;
  return FALSE;
}

guint64
nf_order_peek (NfOrder *order, const guint64 *seqs, guint n_seqs)
{
  pthread_mutex_lock (&order->lock);
  guint64 seq = order->watermark;
  while (is_among (seq + 1, seqs, n_seqs)
         || (seq + 1 - order->watermark < order->length && *flag_of (order, seq + 1)))
    seq++;
  pthread_mutex_unlock (&order->lock);
  return seq;
}

static void
grow_for (NfOrder *order, guint64 seq)
{
  guint64 old_length = order->length;
  g_autofree guint8 *old = order->done;

  while (seq - order->watermark >= order->length)
    order->length *= 2;
  order->done = g_malloc0 (order->length);
  for (guint64 i = 1; i < old_length; i++)
    *flag_of (order, order->watermark + i) = old[(order->watermark + i) & (old_length - 1)];
}

static void
set_done (NfOrder *order, guint64 seq)
{
  g_assert (seq > order->watermark);
  if (seq - order->watermark >= order->length)
    grow_for (order, seq);
  *flag_of (order, seq) = TRUE;
}

void
nf_order_done (NfOrder *order, const guint64 *seqs, guint n_seqs)
{
  pthread_mutex_lock (&order->lock);
  for (guint i = 0; i < n_seqs; i++)
    set_done (order, seqs[i]);
  guint64 seq = order->watermark;
  while (*flag_of (order, seq + 1))
    *flag_of (order, ++seq) = FALSE;
  __atomic_store_n (&order->watermark, seq, __ATOMIC_RELEASE);
  pthread_mutex_unlock (&order->lock);
}
