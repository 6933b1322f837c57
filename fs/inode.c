// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/handle.h"
#include "fs/inode.h"

/* A million files looked at are a million nodes. */
G_STATIC_ASSERT (sizeof (NfNode) <= 200);

/* A node that takes another's place is made by one look-up, may be forgotten and made again by a second before the
 * kernel opens it. So what is known of it is kept for longer, but not for ever. */
#define PLAIN_MAX 1024

struct NfNodes
{
  pthread_mutex_t lock; /* innermost */
  GHashTable *by_fid;   /* of NfNode, by volume and fid; those that aren't detached */
  GHashTable *all;      /* of NfNode, those with lookups */
  GHashTable *plain;    /* of NfNode, keys only: whose nodes are made with `read_write` */
  GQueue plain_order;   /* of the same, the oldest first */
  guint64 generation;
};

static guint
node_hash (gconstpointer key)
{
  const NfNode *node = key;
  guint64 mixed = (node->fid ^ (guint64)GPOINTER_TO_SIZE (node->volume) << 20)
                  * G_GUINT64_CONSTANT (0x9e3779b97f4a7c15);

  return (guint)(mixed >> 32);
}

static gboolean
node_equal (gconstpointer a, gconstpointer b)
{
  const NfNode *x = a;
  const NfNode *y = b;

  return x->fid == y->fid && x->volume == y->volume;
}

NfNodes *
nf_nodes_new (void)
{
  NfNodes *nodes = g_new0 (NfNodes, 1);

  pthread_mutex_init (&nodes->lock, NULL);
  nodes->by_fid = g_hash_table_new (node_hash, node_equal);
  nodes->all = g_hash_table_new (NULL, NULL);
  nodes->plain = g_hash_table_new_full (node_hash, node_equal, g_free, NULL);
  return nodes;
}

void
nf_nodes_free (NfNodes *nodes)
{
  GHashTableIter iter;
  gpointer node;

  g_hash_table_iter_init (&iter, nodes->all);
  while (g_hash_table_iter_next (&iter, &node, NULL))
    {
      nf_handles_drop (node);
      nf_node_unref (node);
    }
  g_queue_clear (&nodes->plain_order);
  g_hash_table_unref (nodes->plain);
  g_hash_table_unref (nodes->all);
  g_hash_table_unref (nodes->by_fid);
  pthread_mutex_destroy (&nodes->lock);
  g_free (nodes);
}

NfNode *
nf_node_ref (NfNode *node)
{
  g_atomic_int_inc (&node->refs);
  return node;
}

void
nf_node_unref (NfNode *node)
{
  if (!g_atomic_int_dec_and_test (&node->refs))
    return;
  g_assert (!node->handles);
  if (node->volume)
    nf_volume_unref (node->volume);
  g_free (node->gone);
  g_free (node);
}

void
nf_node_set_gone (NfNode *node, const NfAttr *attr)
{
  NfAttr *copy = g_memdup2 (attr, sizeof *attr);

  if (!g_atomic_pointer_compare_and_exchange (&node->gone, NULL, copy))
    g_free (copy);
}

static NfNode *
node_new (NfNodes *nodes, NfVolume *volume, NfFid fid)
{
  NfNode *node = g_new0 (NfNode, 1);

  node->volume = volume ? nf_volume_ref (volume) : NULL;
  node->fid = fid;
  node->generation = ++nodes->generation;
  node->refs = 1;
  node->read_write = g_hash_table_contains (nodes->plain, node);
  g_hash_table_add (nodes->by_fid, node);
  g_hash_table_add (nodes->all, node);
  return node;
}

static NfNode *
find (NfNodes *nodes, const NfVolume *volume, NfFid fid)
{
  NfNode key = { .volume = (NfVolume *)volume, .fid = fid };

  return g_hash_table_lookup (nodes->by_fid, &key);
}

NfNode *
nf_nodes_lookup (NfNodes *nodes, NfVolume *volume, NfFid fid)
{
  pthread_mutex_lock (&nodes->lock);
  NfNode *node = find (nodes, volume, fid);
  if (!node)
    node = node_new (nodes, volume, fid);
  node->lookups++;
  pthread_mutex_unlock (&nodes->lock);
  return node;
}

/* With the lock. */
static void
detach (NfNodes *nodes, NfNode *node)
{
  if (node->detached)
    return;
  g_atomic_int_set (&node->detached, TRUE);
  g_hash_table_remove (nodes->by_fid, node);
}

void
nf_nodes_forget (NfNodes *nodes, NfNode *node, guint64 n)
{
  pthread_mutex_lock (&nodes->lock);
  g_assert (n <= node->lookups);
  node->lookups -= n;
  gboolean gone = node->lookups == 0;
  if (gone)
    {
      if (!node->detached)
        g_hash_table_remove (nodes->by_fid, node);
      g_hash_table_remove (nodes->all, node);
    }
  pthread_mutex_unlock (&nodes->lock);
  if (gone)
    nf_node_unref (node);
}

NfNode *
nf_nodes_find (NfNodes *nodes, const NfVolume *volume, NfFid fid)
{
  pthread_mutex_lock (&nodes->lock);
  NfNode *node = find (nodes, volume, fid);
  if (node)
    nf_node_ref (node);
  pthread_mutex_unlock (&nodes->lock);
  return node;
}

void
nf_nodes_detach (NfNodes *nodes, NfNode *node)
{
  pthread_mutex_lock (&nodes->lock);
  if (node->lookups > 0)
    detach (nodes, node);
  pthread_mutex_unlock (&nodes->lock);
}

/* With the lock. */
static void
note_plain (NfNodes *nodes, const NfNode *node)
{
  NfNode *key;

  if (g_hash_table_contains (nodes->plain, node))
    return;
  key = g_new0 (NfNode, 1);
  key->volume = node->volume; /* only compared */
  key->fid = node->fid;
  g_hash_table_add (nodes->plain, key);
  g_queue_push_tail (&nodes->plain_order, key);
  if (nodes->plain_order.length > PLAIN_MAX)
    g_hash_table_remove (nodes->plain, g_queue_pop_head (&nodes->plain_order));
}

void
nf_nodes_detach_to_plain (NfNodes *nodes, NfNode *node)
{
  pthread_mutex_lock (&nodes->lock);
  note_plain (nodes, node); /* before it can be made */
  if (node->lookups > 0)
    detach (nodes, node);
  pthread_mutex_unlock (&nodes->lock);
}

void
nf_nodes_detach_volume (NfNodes *nodes, const NfVolume *volume)
{
  GHashTableIter iter;
  gpointer key;

  pthread_mutex_lock (&nodes->lock);
  g_hash_table_iter_init (&iter, nodes->all);
  while (g_hash_table_iter_next (&iter, &key, NULL))
    if (((NfNode *)key)->volume == volume)
      detach (nodes, key);
  pthread_mutex_unlock (&nodes->lock);
}

GArray *
nf_nodes_ids (NfNodes *nodes, const NfVolume *volume)
{
  GArray *ids = g_array_new (FALSE, FALSE, sizeof (guint64));
  GHashTableIter iter;
  gpointer key;

  pthread_mutex_lock (&nodes->lock);
  g_hash_table_iter_init (&iter, nodes->all);
  while (g_hash_table_iter_next (&iter, &key, NULL))
    if (((NfNode *)key)->volume == volume)
      {
        guint64 id = nf_node_id (key);
        g_array_append_val (ids, id);
      }
  pthread_mutex_unlock (&nodes->lock);
  return ids;
}

gboolean
nf_nodes_is_backing (NfNodes *nodes, NfNode *node, guint64 backing)
{
  pthread_mutex_lock (&nodes->lock);
  if (node->backing == 0)
    node->backing = backing;
  gboolean same = node->backing == backing;
  pthread_mutex_unlock (&nodes->lock);
  return same;
}

guint
nf_nodes_count (NfNodes *nodes)
{
  pthread_mutex_lock (&nodes->lock);
  guint count = g_hash_table_size (nodes->all);
  pthread_mutex_unlock (&nodes->lock);
  return count;
}

guint64
nf_node_id (const NfNode *node)
{
  return GPOINTER_TO_SIZE (node);
}
