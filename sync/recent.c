// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/recent.h"

#include <pthread.h>

/* What an item takes beside its bytes: itself, its places in the table and the queue, the message that it is part of. */
#define ITEM_COST 512

typedef struct
{
  guint64 seq;
  GBytes *bytes;
} Item;

struct NfRecent
{
  pthread_mutex_t lock;
  GHashTable *by_seq; /* seq → Item, owning; guarded by lock */
  GQueue order;       /* of Item, the oldest first; guarded by lock */
  gsize size;         /* guarded by lock */
};

static void
item_free (gpointer data)
{
  Item *item = data;

  g_bytes_unref (item->bytes);
  g_free (item);
}

NfRecent *
nf_recent_new (void)
{
  NfRecent *recent = g_new0 (NfRecent, 1);

  pthread_mutex_init (&recent->lock, NULL);
  recent->by_seq = g_hash_table_new_full (g_int64_hash, g_int64_equal, NULL, item_free);
  return recent;
}

static gsize
cost_of (GBytes *bytes)
{
  return g_bytes_get_size (bytes) + ITEM_COST;
}

static void
drop_oldest (NfRecent *recent)
{
  Item *item = g_queue_pop_head (&recent->order);

  recent->size -= cost_of (item->bytes);
  g_hash_table_remove (recent->by_seq, &item->seq);
}

void
nf_recent_free (NfRecent *recent)
{
  while (recent->order.length > 0)
    drop_oldest (recent);
  g_hash_table_unref (recent->by_seq);
  pthread_mutex_destroy (&recent->lock);
  g_free (recent);
}

void
nf_recent_put (NfRecent *recent, guint64 seq, GBytes *bytes)
{
  Item *item = g_new (Item, 1);

  *item = (Item){ seq, bytes };
  pthread_mutex_lock (&recent->lock);
  recent->size += cost_of (bytes);
  g_hash_table_insert (recent->by_seq, &item->seq, item);
  g_queue_push_tail (&recent->order, item);
  while (recent->size > NF_RECENT_MAX)
    drop_oldest (recent);
  pthread_mutex_unlock (&recent->lock);
}

void
nf_recent_forget (NfRecent *recent, guint64 seq)
{
  const Item *head;

  pthread_mutex_lock (&recent->lock);
  while ((head = g_queue_peek_head (&recent->order)) && head->seq <= seq)
    drop_oldest (recent);
  pthread_mutex_unlock (&recent->lock);
}

GBytes *
nf_recent_get (NfRecent *recent, guint64 seq)
{
  GBytes *bytes = NULL;

  pthread_mutex_lock (&recent->lock);
  Item *item = g_hash_table_lookup (recent->by_seq, &seq);
  if (item)
    bytes = g_bytes_ref (item->bytes);
  pthread_mutex_unlock (&recent->lock);
  return bytes;
}
