// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/blocked.h"

#include <xxhash.h>

struct NfBlockedKey
{
  guint64 key;
  GQueue queue; /* of NfHolds */
};

struct NfBlocked
{
  GHashTable *keys; /* key → NfBlockedKey, owning */
};

guint64
nf_key_fid (NfFid fid)
{
  return XXH3_64bits (&fid, sizeof fid);
}

guint64
nf_key_name (NfFid parent, NfSlice name)
{
  /* Another seed than a fid's key, which has none; an equal hash would only make somebody wait in vain. */
  return XXH3_64bits_withSeed (name.data, name.len, nf_key_fid (parent));
}

void
nf_holds_add (NfHolds *holds, guint64 key, gboolean write)
{
  for (guint i = 0; i < holds->n; i++)
    if (holds->holds[i].key == key)
      {
        holds->holds[i].write |= write;
        return;
      }
  g_assert (holds->n < NF_HOLDS_MAX);
  holds->holds[holds->n].key = key;
  holds->holds[holds->n].write = write;
  holds->n++;
}

static void
key_free (gpointer data)
{
  NfBlockedKey *key = data;

  g_queue_clear (&key->queue);
  g_free (key);
}

NfBlocked *
nf_blocked_new (void)
{
  NfBlocked *blocked = g_new0 (NfBlocked, 1);

  blocked->keys = g_hash_table_new_full (g_int64_hash, g_int64_equal, NULL, key_free);
  return blocked;
}

void
nf_blocked_free (NfBlocked *blocked)
{
  g_hash_table_unref (blocked->keys);
  g_free (blocked);
}

gboolean
nf_blocked_empty (const NfBlocked *blocked)
{
  return g_hash_table_size (blocked->keys) == 0;
}

gboolean
nf_blocked_has (const NfBlocked *blocked, guint64 key)
{
  return g_hash_table_contains (blocked->keys, &key);
}

static guint
hold_of (const NfHolds *holds, const NfBlockedKey *key)
{
  for (guint i = 0; i < holds->n; i++)
    if (holds->holds[i].queue == key)
      return i;
  g_assert_not_reached ();
}

/* Lets those go whose turn at KEY it is now. */
static void
grant (NfBlockedKey *key, GQueue *ready)
{
  for (GList *l = key->queue.head; l; l = l->next)
    {
      NfHolds *holds = l->data;
      guint i = hold_of (holds, key);

      if (holds->holds[i].write && l != key->queue.head)
        return;
      if (!holds->holds[i].granted)
        {
          holds->holds[i].granted = TRUE;
          if (--holds->waits == 0 && ready)
            g_queue_push_tail (ready, holds->owner);
        }
      if (holds->holds[i].write)
        return;
    }
}

static NfBlockedKey *
ensure_key (NfBlocked *blocked, guint64 number)
{
  NfBlockedKey *key = g_hash_table_lookup (blocked->keys, &number);

  if (!key)
    {
      key = g_new0 (NfBlockedKey, 1);
      key->key = number;
      g_queue_init (&key->queue);
      g_hash_table_insert (blocked->keys, &key->key, key);
    }
  return key;
}

gboolean
nf_blocked_enter (NfBlocked *blocked, NfHolds *holds)
{
  holds->waits = holds->n;
  for (guint i = 0; i < holds->n; i++)
    {
      NfBlockedKey *key = ensure_key (blocked, holds->holds[i].key);

      g_queue_push_tail (&key->queue, holds);
      holds->holds[i].queue = key;
      holds->holds[i].link = key->queue.tail;
      holds->holds[i].granted = FALSE;
      /* It goes if it is first, or if all that stand before it are readers that go, as it is itself. */
      GList *before = key->queue.tail->prev;
      gboolean turn = !before;
      if (before && !holds->holds[i].write)
        {
          NfHolds *other = before->data;
          guint j = hold_of (other, key);
          turn = other->holds[j].granted && !other->holds[j].write;
        }
      if (turn)
        {
          holds->holds[i].granted = TRUE;
          holds->waits--;
        }
    }
  return holds->waits == 0;
}

void
nf_blocked_leave (NfBlocked *blocked, NfHolds *holds, GQueue *ready)
{
  for (guint i = 0; i < holds->n; i++)
    {
      NfBlockedKey *key = holds->holds[i].queue;

      g_queue_delete_link (&key->queue, holds->holds[i].link);
      holds->holds[i].queue = NULL;
      if (key->queue.length == 0)
        g_hash_table_remove (blocked->keys, &key->key);
      else
        grant (key, ready);
    }
  holds->n = 0;
}
