// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/grants-internal.h"

#include "sync/lock-wire.h"

/* Sites come and go: what they say they have, what they return, and when it is theirs no more. See grants.c. */

#define SITES_META "lock-sites"

typedef struct
{
  NfLife *life;
  char *site; /* NULL: all that are awaited */
  guint serial;
} Lease;

/* ---- which sites have locks, for the next life ---- */

/* 0 or -errno. */
static int
record_sites (NfGrants *grants)
{
  g_autoptr (GString) names = g_string_new (NULL);
  GHashTableIter iter;
  gpointer value;

  g_hash_table_iter_init (&iter, grants->sites);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    if (((NfGrantsSite *)value)->recorded)
      g_string_append_printf (names, "%s\n", ((NfGrantsSite *)value)->name);
  return nf_index_set_meta (grants->primary->share->index, SITES_META, nf_slice_str (names->str));
}

int
nf_grants_note_held (NfGrants *grants, const char *name)
{
  NfGrantsSite *site = name ? nf_grants_site (grants, name) : NULL;

  if (!site || site->recorded)
    return 0;
  site->recorded = TRUE;
  int err = record_sites (grants);
  site->recorded = err == 0;
  return err;
}

guint
nf_grants_count_alone (NfGrants *grants, const char *site)
{
  GHashTableIter iter;
  gpointer value;
  guint n = 0;

  g_hash_table_iter_init (&iter, grants->alone);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    n += value == site;
  return n;
}

static gboolean
has_anything (NfGrants *grants, const NfGrantsSite *site)
{
  return nf_lock_table_count (grants->table, site->name) > 0
         || nf_grants_count_alone (grants, site->name) > 0;
}

void
nf_grants_note_gone (NfGrants *grants, NfGrantsSite *site)
{
  if (!site->recorded || has_anything (grants, site))
    return;
  site->recorded = FALSE;
  (void)record_sites (grants); /* else the next life waits for one too many */
}

/* ---- sites come and go ---- */

/* Nothing is awaited any more: what came meanwhile is carried out in its order. */
static void
end_grace (NfGrants *grants, GArray *due)
{
  NfGrantsRequest *request;

  g_clear_pointer (&grants->awaited, g_hash_table_unref);
  while ((request = g_queue_pop_head (&grants->deferred)))
    nf_grants_begin (grants, request, due);
}

static void
has_said (NfGrants *grants, const char *site, GArray *due)
{
  if (!grants->awaited)
    return;
  g_hash_table_remove (grants->awaited, site);
  if (g_hash_table_size (grants->awaited) == 0)
    end_grace (grants, due);
}

static gboolean
is_value (gpointer key, gpointer value, gpointer data)
{
  (void)key;
  return value == data;
}

/* Nothing of SITE's is left in the table, nor any file that it has to itself. */
static void
clear_site (NfGrants *grants, const NfGrantsSite *site)
{
  nf_lock_table_clear_site (grants->table, site->name, FALSE);
  (void)g_hash_table_foreach_remove (grants->alone, is_value, (gpointer)site->name);
}

/* Its locks are free. */
static void
end_session (NfGrants *grants, NfGrantsSite *site, GArray *due)
{
  g_autoptr (GArray) granted = nf_grants_granted_new ();

  clear_site (grants, site);
  nf_lock_table_grant (grants->table, granted);
  site->session = 0;
  nf_grants_tell (grants, granted, due);
  nf_grants_begin_recalled (grants, due);
  nf_grants_note_gone (grants, site);
}

/* FALSE: others have locks on it, or it to themselves. */
static gboolean
restore_alone (NfGrants *grants, const NfGrantsSite *site, NfFid fid)
{
  if (g_hash_table_contains (grants->alone, &fid)
      || !nf_lock_table_is_sole (grants->table, fid, site->name))
    return FALSE;
  g_hash_table_insert (grants->alone, g_memdup2 (&fid, sizeof fid), (gpointer)site->name);
  return TRUE;
}

/* A file that was on its way back may have come. */
static gboolean
restore_all_alone (NfGrants *grants, const NfGrantsSite *site)
{
  for (guint i = 0; i < site->incoming->len; i++)
    {
      const NfLock *lock = &g_array_index (site->incoming, NfLock, i);
      if (lock->kind == NF_LOCK_ALL && !restore_alone (grants, site, lock->fid)
          && lock->type != NF_LOCK_WRITE)
        return FALSE;
    }
  return TRUE;
}

/* What it says it holds is in the table, or nothing of it. */
static gboolean
restore_held (NfGrants *grants, NfGrantsSite *site)
{
  if (!restore_all_alone (grants, site))
    return FALSE;
  for (guint i = 0; i < site->incoming->len; i++)
    {
      const NfLock *lock = &g_array_index (site->incoming, NfLock, i);
      if (lock->kind == NF_LOCK_ALL || lock->id != 0
          || g_hash_table_lookup (grants->alone, &lock->fid) == site->name)
        continue;
      if (!nf_lock_table_restore (grants->table, lock))
        return FALSE;
    }
  return TRUE;
}

static void
restore_waiting (NfGrants *grants, NfGrantsSite *site, GArray *due)
{
  for (guint i = 0; i < site->incoming->len; i++)
    {
      const NfLock *lock = &g_array_index (site->incoming, NfLock, i);
      if (lock->id == 0 || lock->kind == NF_LOCK_ALL)
        continue;
      NfGrantsRequest *request = g_new0 (NfGrantsRequest, 1);
      *request = (NfGrantsRequest){
        .site = site->name, .id = lock->id, .lock = *lock, .how = NF_LOCK_WAIT, .waits = TRUE
      };
      nf_grants_begin (grants, request, due);
    }
}

static void
forget_in (GQueue *queue, const char *site)
{
  for (GList *l = queue->head, *next; l; l = next)
    {
      NfGrantsRequest *request = l->data;
      next = l->next;
      if (g_strcmp0 (request->site, site) != 0)
        continue;
      g_queue_delete_link (queue, l);
      g_free (request);
    }
}

static void
forget_queued (NfGrants *grants, const char *site)
{
  forget_in (&grants->deferred, site);
  forget_in (&grants->recalling, site);
}

/* SITE has said all. What others wait for, and it has no more, is given away last. */
static void
replace (NfGrants *grants, NfGrantsSite *site, guint64 session, GArray *due)
{
  g_autoptr (GArray) granted = nf_grants_granted_new ();
  NfMsg lost = { .type = NF_MSG_LOST };

  forget_queued (grants, site->name);
  clear_site (grants, site);
  site->session = session;
  site->up = TRUE;
  if (restore_held (grants, site))
    restore_waiting (grants, site, due);
  else
    {
      lost.lost.share = grants->primary->share->conf.id;
      lost.lost.session = session;
      nf_grants_send (grants, site->name, &lost);
      clear_site (grants, site);
      site->session = 0;
    }
  nf_lock_table_grant (grants->table, granted);
  nf_grants_tell (grants, granted, due);
  nf_grants_begin_recalled (grants, due);
  if (has_anything (grants, site))
    (void)nf_grants_note_held (grants,
                               site->name); /* it has them, and asks for more sooner or later */
  else
    nf_grants_note_gone (grants, site);
}

static gboolean
collect (NfGrants *grants, NfGrantsSite *site, NfSlice data)
{
  NfReader reader = nf_reader (data);
  NfLock lock;

  while (nf_lock_decode (&reader, &lock))
    {
      if (site->incoming->len >= NF_LOCKS_SITE_MAX)
        return FALSE;
      lock.site = site->name;
      if (nf_grants_may_have (grants, site->name, &lock))
        g_array_append_val (site->incoming, lock);
    }
  return nf_reader_done (&reader);
}

void
nf_grants_restore (NfGrants *grants, const char *name, const NfMsg *msg)
{
  GArray *due = nf_grants_due_new ();

  pthread_mutex_lock (&grants->lock);
  NfGrantsSite *site = nf_grants_site (grants, name);
  if (!site->incoming)
    site->incoming = g_array_new (FALSE, FALSE, sizeof (NfLock));
  gboolean fine = collect (grants, site, msg->locks.locks);
  if (!fine)
    g_array_set_size (site->incoming, 0); /* as if it had none */
  if (msg->locks.flags & NF_LOCKS_LAST)
    {
      replace (grants, site, msg->locks.session, due);
      g_clear_pointer (&site->incoming, g_array_unref);
      has_said (grants, name, due);
    }
  pthread_mutex_unlock (&grants->lock);
  nf_grants_run_due (grants, due);
}

void
nf_grants_returned (NfGrants *grants, const char *name, const NfMsg *call)
{
  GArray *due = nf_grants_due_new ();
  NfReader reader = nf_reader (call->returned.locks);
  NfFid fid = call->returned.fid;
  NfLock lock;

  pthread_mutex_lock (&grants->lock);
  const NfGrantsSite *entry = nf_grants_site (grants, name);
  const char *site = entry->name;
  if (g_hash_table_lookup (grants->alone, &fid) == site && entry->session == call->head.session)
    {
      g_hash_table_remove (grants->alone, &fid);
      while (nf_lock_decode (&reader, &lock))
        if (lock.fid == fid && lock.kind != NF_LOCK_ALL && nf_grants_may_have (grants, site, &lock))
          {
            lock.site = site;
            (void)nf_lock_table_restore (grants->table, &lock); /* nobody else has any */
          }
      nf_grants_begin_recalled (grants, due);
    }
  nf_grants_answer (grants, site, call->head.reqid, 0, 0);
  pthread_mutex_unlock (&grants->lock);
  nf_grants_run_due (grants, due);
}

/* Whoever of them comes later finds its locks given to others, or not. */
static void
give_up_awaited (NfGrants *grants, GArray *due)
{
  GHashTableIter iter;
  gpointer key;

  if (!grants->awaited)
    return;
  g_hash_table_iter_init (&iter, grants->awaited);
  while (g_hash_table_iter_next (&iter, &key, NULL))
    nf_grants_site (grants, key)->recorded = FALSE;
  end_grace (grants, due);
  (void)record_sites (grants);
}

static void
lease_is_over (gpointer data)
{
  Lease *lease = data;
  NfPrimary *primary = nf_life_enter (lease->life);

  if (primary)
    {
      NfGrants *grants = primary->grants;
      GArray *due = nf_grants_due_new ();
      pthread_mutex_lock (&grants->lock);
      NfGrantsSite *site = lease->site ? nf_grants_site (grants, lease->site) : NULL;
      if (site && !site->up && site->serial == lease->serial)
        end_session (grants, site, due);
      if (!site)
        give_up_awaited (grants, due);
      pthread_mutex_unlock (&grants->lock);
      nf_grants_run_due (grants, due);
      nf_life_leave (lease->life);
    }
  nf_life_unref (lease->life);
  g_free (lease->site);
  g_free (lease);
}

static void
start_lease (NfGrants *grants, const NfGrantsSite *site)
{
  NfHost *host = grants->primary->share->host;
  Lease *lease = g_new (Lease, 1);

  *lease = (Lease){ nf_life_ref (grants->primary->life), site ? g_strdup (site->name) : NULL,
                    site ? site->serial : 0 };
  host->post_after (host->data, NF_LEASE_MS, lease_is_over, lease);
}

void
nf_grants_peer_down (NfGrants *grants, const char *name)
{
  GArray *due = nf_grants_due_new ();

  pthread_mutex_lock (&grants->lock);
  NfGrantsSite *site = nf_grants_site (grants, name);
  site->up = FALSE;
  site->serial++;
  g_clear_pointer (&site->incoming, g_array_unref);
  /* A lock isn't given to who may be gone; it says again that it waits. */
  nf_lock_table_clear_site (grants->table, site->name, TRUE);
  forget_queued (grants, site->name);
  /* Who doesn't want to wait for it is told so. */
  nf_grants_begin_recalled (grants, due);
  if (has_anything (grants, site))
    start_lease (grants, site);
  else
    nf_grants_note_gone (grants, site);
  pthread_mutex_unlock (&grants->lock);
  nf_grants_run_due (grants, due);
}

gboolean
nf_grants_is_current (NfGrants *grants, const char *site, guint64 session)
{
  pthread_mutex_lock (&grants->lock);
  gboolean current = nf_grants_site (grants, site)->session == session;
  pthread_mutex_unlock (&grants->lock);
  return current;
}

/* The sites that had locks when the last life ended. */
void
nf_grants_await (NfGrants *grants)
{
  g_autoptr (GBytes) meta = nf_index_get_meta (grants->primary->share->index, SITES_META);
  gsize len = 0;
  const char *text = meta ? g_bytes_get_data (meta, &len) : NULL;
  g_autofree char *copy = g_strndup (text ? text : "", len);
  g_auto (GStrv) names = g_strsplit (copy, "\n", -1);

  for (char **name = names; *name; name++)
    if (**name)
      {
        if (!grants->awaited)
          grants->awaited = g_hash_table_new (g_str_hash, g_str_equal);
        NfGrantsSite *site = nf_grants_site (grants, *name);
        site->recorded = TRUE;
        g_hash_table_add (grants->awaited, (gpointer)site->name);
      }
  if (grants->awaited)
    start_lease (grants, NULL);
}
