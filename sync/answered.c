// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/answered.h"

#include <pthread.h>

typedef struct
{
  guint64 reqid;
  gboolean done;
  NfAnswer answer;
  GList link; /* in the site's order of arrival */
} Entry;

typedef struct
{
  GHashTable *by_id; /* reqid → Entry, owning */
  GQueue order;
} Site;

struct NfAnswered
{
  pthread_mutex_t lock;
  GHashTable *sites; /* name → Site; guarded by lock */
};

static void
site_free (gpointer data)
{
  Site *site = data;

  g_hash_table_unref (site->by_id);
  g_free (site);
}

NfAnswered *
nf_answered_new (void)
{
  NfAnswered *answered = g_new0 (NfAnswered, 1);

  pthread_mutex_init (&answered->lock, NULL);
  answered->sites = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, site_free);
  return answered;
}

void
nf_answered_free (NfAnswered *answered)
{
  g_hash_table_unref (answered->sites);
  pthread_mutex_destroy (&answered->lock);
  g_free (answered);
}

static Site *
site_of (NfAnswered *answered, const char *name)
{
  Site *site = g_hash_table_lookup (answered->sites, name);

  if (!site)
    {
      site = g_new0 (Site, 1);
      site->by_id = g_hash_table_new_full (g_int64_hash, g_int64_equal, NULL, g_free);
      g_hash_table_insert (answered->sites, g_strdup (name), site);
    }
  return site;
}

static void
drop (Site *site, Entry *entry)
{
  g_queue_unlink (&site->order, &entry->link);
  g_hash_table_remove (site->by_id, &entry->reqid);
}

/* In order of arrival, which is nearly that of the ids: an id that came late waits for those before it. */
static void
drop_acked (Site *site, guint64 acked)
{
  GList *head;

  while ((head = g_queue_peek_head_link (&site->order)))
    {
      Entry *entry = head->data;
      if (!entry->done || (entry->reqid > acked && site->order.length <= NF_ANSWERED_MAX))
        return;
      drop (site, entry);
    }
}

static Entry *
add (Site *site, guint64 reqid)
{
  Entry *entry = g_new0 (Entry, 1);

  entry->reqid = reqid;
  entry->link.data = entry;
  g_queue_push_tail_link (&site->order, &entry->link);
  g_hash_table_insert (site->by_id, &entry->reqid, entry);
  return entry;
}

NfAnsweredState
nf_answered_begin (NfAnswered *answered, const char *site_name, guint64 reqid, guint64 acked,
                   NfAnswer *ret_answer)
{
  NfAnsweredState state = NF_ANSWERED_NEW;

  pthread_mutex_lock (&answered->lock);
  Site *site = site_of (answered, site_name);
  drop_acked (site, acked);
  Entry *entry = g_hash_table_lookup (site->by_id, &reqid);
  if (!entry)
    add (site, reqid);
  else if (!entry->done)
    state = NF_ANSWERED_BUSY;
  else
    {
      state = NF_ANSWERED_KNOWN;
      *ret_answer = entry->answer;
    }
  pthread_mutex_unlock (&answered->lock);
  return state;
}

void
nf_answered_end (NfAnswered *answered, const char *site_name, guint64 reqid, const NfAnswer *answer)
{
  pthread_mutex_lock (&answered->lock);
  Site *site = site_of (answered, site_name);
  Entry *entry = g_hash_table_lookup (site->by_id, &reqid);
  if (!entry)
    entry = add (site, reqid);
  entry->done = TRUE;
  entry->answer = *answer;
  pthread_mutex_unlock (&answered->lock);
}
