// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/grants.h"

#include <errno.h>

#include "sync/lock-wire.h"
#include "sync/primary-internal.h"
#include "sync/told.h"

/* Locks across sites (DESIGN 7), at the primary.
 *
 * All locks of a share lie in one table here. A site asks by LOCK; what has to wait is answered at once that it does, and
 * GRANTED follows, so that no call stays open and a site's other calls aren't held up. Each grant says the last op that
 * was under way, which the site must have applied before its caller is told: he sees what the last holder has written.
 * An unlock comes behind the holder's writes, in the order in which the site sends.
 *
 * A site's locks are of a session, a number that it chose. With each new link it says all it has (LOCKS), which replaces what
 * lies here of it: so nothing is left of a daemon that was killed, and nothing is lost by a cut. Without a link they are
 * kept for NF_LEASE_MS; then the session is over. The site has begun another one sooner, and what was written under the
 * old one, and comes late, is refused.
 *
 * A primary that was started again knows nothing, so it gives nothing until all sites that had locks (their names are in the
 * index) have said theirs, or their leases are over. This site's own mount has ended with the daemon.
 *
 * Locks: `lock` is taken inside those of objects, never with them of the journal; messages are sent under it, so that they
 * leave in order (sending only queues); callers here are answered without it. */

#define SITES_META "lock-sites"

typedef struct
{
  const char *name; /* interned */
  guint64 session;  /* 0: none */
  gboolean up;      /* it has said its locks over the link that there is */
  gboolean recorded;
  guint serial;     /* of its links */
  GArray *incoming; /* of NfLock: LOCKS so far */
} Site;

/* A request that waits: a caller of this site's, or one that came while nothing was given yet. */
typedef struct
{
  guint64 id;
  const char *site; /* NULL: ours */
  NfLock lock;
  guint8 how;
  NfCallDone done; /* of ours */
  gpointer data;
} Request;

/* What callers of this site's are told, without the lock. */
typedef struct
{
  NfCallDone done;
  gpointer data;
  int status;
  gboolean given; /* a lock */
} Due;

struct NfGrants
{
  NfPrimary *primary;
  NfTold *told;
  pthread_mutex_t lock; /* guards what follows */
  NfLockTable *table;
  GHashTable *sites;   /* name → Site, owning */
  GHashTable *waiting; /* id → Request of ours that is in the table, owning */
  GQueue deferred;     /* of Request */
  GHashTable *awaited; /* name: sites that are to say what they had; NULL: they have */
  guint64 next_id;
};

typedef struct
{
  NfLife *life;
  char *site; /* NULL: all that are awaited */
  guint serial;
} Lease;

static Site *
site_of (NfGrants *grants, const char *name)
{
  Site *site = g_hash_table_lookup (grants->sites, name);

  if (site)
    return site;
  site = g_new0 (Site, 1);
  site->name = g_intern_string (name);
  g_hash_table_insert (grants->sites, (gpointer)site->name, site);
  return site;
}

static void
site_free (gpointer data)
{
  Site *site = data;

  if (site->incoming)
    g_array_unref (site->incoming);
  g_free (site);
}

/* ---- answers ---- */

static void
send (NfGrants *grants, const char *site, NfMsg *msg)
{
  NfHost *host = grants->primary->share->host;

  (void)host->send (host->data, site, FALSE, msg); /* without a link it says what it has, later */
}

static void
send_answer (NfGrants *grants, const char *site, guint64 reqid, int status, guint64 value)
{
  NfMsg msg = { .type = NF_MSG_ANSWER };

  msg.answer.share = grants->primary->share->conf.id;
  msg.answer.reqid = reqid;
  msg.answer.status = nf_status_from_errno (status);
  msg.answer.value = value;
  msg.answer.seq = nf_primary_stamp (grants->primary);
  send (grants, site, &msg);
}

static void
send_granted (NfGrants *grants, const char *site, guint64 reqid, int status)
{
  NfMsg msg = { .type = NF_MSG_GRANTED };

  msg.granted.share = grants->primary->share->conf.id;
  msg.granted.reqid = reqid;
  msg.granted.status = nf_status_from_errno (status);
  msg.granted.seq = nf_primary_stamp (grants->primary);
  send (grants, site, &msg);
}

/* Without the lock. */
static void
run_due (NfGrants *grants, GArray *due)
{
  for (guint i = 0; i < due->len; i++)
    {
      const Due *item = &g_array_index (due, Due, i);
      NfMsg answer = { .type = NF_MSG_ANSWER };
      if (item->given)
        nf_told_answer (grants->told, 0, item->done, item->data);
      else
        item->done (item->data, item->status, &answer);
    }
  g_array_unref (due);
}

static GArray *
due_new (void)
{
  return g_array_new (FALSE, FALSE, sizeof (Due));
}

static void
add_due (GArray *due, const Request *request, int status)
{
  Due item
      = { request->done, request->data, status, status == 0 && request->lock.type != NF_LOCK_NONE };

  g_array_append_val (due, item);
}

/* ---- which sites have locks, for the next life ---- */

static void
record_sites (NfGrants *grants)
{
  g_autoptr (GString) names = g_string_new (NULL);
  GHashTableIter iter;
  gpointer value;

  g_hash_table_iter_init (&iter, grants->sites);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    if (((Site *)value)->recorded)
      g_string_append_printf (names, "%s\n", ((Site *)value)->name);
  /* If that can't be written the next life waits for a site too few: a full disk and a kill at a time. */
  (void)nf_index_set_meta (grants->primary->share->index, SITES_META, nf_slice_str (names->str));
}

static void
note_held (NfGrants *grants, const char *name)
{
  Site *site = name ? site_of (grants, name) : NULL;

  if (!site || site->recorded)
    return;
  site->recorded = TRUE;
  record_sites (grants);
}

static void
note_gone (NfGrants *grants, Site *site)
{
  if (!site->recorded || nf_lock_table_count (grants->table, site->name) > 0)
    return;
  site->recorded = FALSE;
  record_sites (grants);
}

/* ---- giving ---- */

static void
tell_granted (NfGrants *grants, const GArray *granted, GArray *due)
{
  for (guint i = 0; i < granted->len; i++)
    {
      const NfLock *lock = &g_array_index (granted, NfLock, i);
      note_held (grants, lock->site);
      if (lock->site)
        {
          send_granted (grants, lock->site, lock->id, 0);
          continue;
        }
      Request *request = g_hash_table_lookup (grants->waiting, &lock->id);
      g_assert (request != NULL);
      add_due (due, request, 0);
      g_hash_table_remove (grants->waiting, &lock->id);
    }
}

static GArray *
granted_new (void)
{
  return g_array_new (FALSE, FALSE, sizeof (NfLock));
}

/* 0, -EINPROGRESS (it waits in the table) or another -errno. */
static int
set (NfGrants *grants, const Request *request, GArray *due)
{
  g_autoptr (GArray) granted = granted_new ();
  int status
      = nf_lock_table_set (grants->table, &request->lock, request->how == NF_LOCK_WAIT, granted);

  if (status == 0 && request->lock.type != NF_LOCK_NONE)
    note_held (grants, request->site);
  tell_granted (grants, granted, due);
  return status;
}

/* Takes REQUEST. */
static void
carry_out (NfGrants *grants, Request *request, GArray *due)
{
  int status = set (grants, request, due);

  if (request->site)
    {
      gboolean waits = status == -EINPROGRESS;
      send_answer (grants, request->site, request->id, waits ? 0 : status,
                   waits ? NF_LOCK_WAITS : NF_LOCK_GIVEN);
    }
  else if (status == -EINPROGRESS)
    {
      g_hash_table_insert (grants->waiting, &request->id, request);
      return;
    }
  else
    add_due (due, request, status);
  g_free (request);
}

/* Takes REQUEST. What is given back is taken at any time. */
static void
begin (NfGrants *grants, Request *request, GArray *due)
{
  if (grants->awaited && request->lock.type != NF_LOCK_NONE)
    g_queue_push_tail (&grants->deferred, request);
  else
    carry_out (grants, request, due);
}

/* ---- calls ---- */

static Request *
request_new (const NfMsg *call, const char *site, guint64 id)
{
  Request *request = g_new0 (Request, 1);

  request->id = id;
  request->site = site;
  request->how = call->lock.how;
  request->lock = (NfLock){ .fid = call->lock.fid,
                            .kind = call->lock.kind,
                            .type = call->lock.type,
                            .start = call->lock.start,
                            .end = call->lock.end,
                            .site = site,
                            .owner = call->lock.owner,
                            .pid = call->head.pid,
                            .id = id };
  return request;
}

static gboolean
is_valid (const NfMsg *call)
{
  return call->lock.kind <= NF_LOCK_FLOCK && call->lock.type <= NF_LOCK_NONE
         && call->lock.how <= NF_LOCK_TEST && call->lock.start <= call->lock.end
         && call->lock.end <= G_MAXINT64;
}

/* Fills ANSWER, whose data lives in BUF. */
static void
test (NfGrants *grants, const NfLock *lock, NfBuf *buf, NfMsg *answer)
{
  NfLock holder;

  answer->type = NF_MSG_ANSWER;
  if (!nf_lock_table_test (grants->table, lock, &holder))
    return;
  /* Another site's process has no number here. */
  if (g_strcmp0 (holder.site, lock->site) != 0)
    holder.pid = 0;
  nf_lock_encode (&holder, buf);
  answer->answer.data = nf_slice (buf->data, buf->len);
}

void
nf_grants_call (NfGrants *grants, const NfMsg *call, NfCallDone done, gpointer data,
                guint64 *ret_id)
{
  GArray *due = due_new ();
  g_auto (NfBuf) buf = NF_BUF_INIT;
  NfMsg answer = { .type = NF_MSG_ANSWER };
  gboolean testing = call->lock.how == NF_LOCK_TEST;

  pthread_mutex_lock (&grants->lock);
  guint64 id = ++grants->next_id;
  Request *request = request_new (call, NULL, id);
  request->done = done;
  request->data = data;
  if (ret_id) /* before it can be answered, after which the caller's memory may be gone */
    *ret_id = id;
  if (testing)
    {
      test (grants, &request->lock, &buf, &answer);
      g_free (request);
    }
  else
    begin (grants, request, due);
  pthread_mutex_unlock (&grants->lock);
  if (testing)
    done (data, 0, &answer);
  run_due (grants, due);
}

static void
interrupt (NfGrants *grants, Request *request, GArray *due)
{
  add_due (due, request, -EINTR);
  g_free (request);
}

void
nf_grants_interrupt (NfGrants *grants, guint64 id)
{
  GArray *due = due_new ();

  pthread_mutex_lock (&grants->lock);
  Request *request = g_hash_table_lookup (grants->waiting, &id);
  if (request)
    {
      g_hash_table_steal (grants->waiting, &id);
      (void)nf_lock_table_cancel (grants->table, NULL, id);
      interrupt (grants, request, due);
    }
  for (GList *l = grants->deferred.head; l; l = l->next)
    {
      request = l->data;
      if (request->site || request->id != id)
        continue;
      g_queue_delete_link (&grants->deferred, l);
      interrupt (grants, request, due);
      break;
    }
  pthread_mutex_unlock (&grants->lock);
  run_due (grants, due);
}

/* A request that is sent once more, or taken back, doesn't wait as what it was. */
static gboolean
forget_request (NfGrants *grants, const char *site, guint64 reqid)
{
  for (GList *l = grants->deferred.head; l; l = l->next)
    {
      Request *request = l->data;
      if (request->id != reqid || g_strcmp0 (request->site, site) != 0)
        continue;
      g_queue_delete_link (&grants->deferred, l);
      g_free (request);
      return TRUE;
    }
  return nf_lock_table_cancel (grants->table, site, reqid);
}

void
nf_grants_take (NfGrants *grants, const char *name, const NfMsg *call)
{
  GArray *due = due_new ();
  g_auto (NfBuf) buf = NF_BUF_INIT;
  NfMsg answer = { .type = NF_MSG_ANSWER };
  guint64 reqid = call->head.reqid;

  pthread_mutex_lock (&grants->lock);
  const char *site = site_of (grants, name)->name;
  if (!is_valid (call) || reqid == 0)
    send_answer (grants, site, reqid, -EINVAL, 0);
  else if (call->lock.how == NF_LOCK_TEST)
    {
      Request *request = request_new (call, site, reqid);
      test (grants, &request->lock, &buf, &answer);
      answer.answer.share = grants->primary->share->conf.id;
      answer.answer.reqid = reqid;
      send (grants, site, &answer);
      g_free (request);
    }
  else
    {
      (void)forget_request (grants, site, reqid);
      begin (grants, request_new (call, site, reqid), due);
    }
  pthread_mutex_unlock (&grants->lock);
  run_due (grants, due);
}

void
nf_grants_cancel (NfGrants *grants, const char *site, guint64 reqid)
{
  pthread_mutex_lock (&grants->lock);
  if (forget_request (grants, site, reqid)) /* else the answer is on its way */
    send_granted (grants, site, reqid, -EINTR);
  pthread_mutex_unlock (&grants->lock);
}

/* ---- sites come and go ---- */

/* Nothing is awaited any more: what came meanwhile is carried out in its order. */
static void
end_grace (NfGrants *grants, GArray *due)
{
  Request *request;

  g_clear_pointer (&grants->awaited, g_hash_table_unref);
  while ((request = g_queue_pop_head (&grants->deferred)))
    carry_out (grants, request, due);
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

/* Its locks are free. */
static void
end_session (NfGrants *grants, Site *site, GArray *due)
{
  g_autoptr (GArray) granted = granted_new ();

  nf_lock_table_clear_site (grants->table, site->name, FALSE);
  nf_lock_table_grant (grants->table, granted);
  site->session = 0;
  tell_granted (grants, granted, due);
  note_gone (grants, site);
}

/* What it says it holds is in the table, or nothing of it. */
static gboolean
restore_held (NfGrants *grants, Site *site)
{
  for (guint i = 0; i < site->incoming->len; i++)
    {
      const NfLock *lock = &g_array_index (site->incoming, NfLock, i);
      if (lock->id == 0 && !nf_lock_table_restore (grants->table, lock))
        return FALSE;
    }
  return TRUE;
}

static void
restore_waiting (NfGrants *grants, Site *site, GArray *due)
{
  for (guint i = 0; i < site->incoming->len; i++)
    {
      NfLock *lock = &g_array_index (site->incoming, NfLock, i);
      Request request = { .site = site->name, .id = lock->id, .lock = *lock, .how = NF_LOCK_WAIT };
      if (lock->id == 0)
        continue;
      if (grants->awaited)
        {
          g_queue_push_tail (&grants->deferred, g_memdup2 (&request, sizeof request));
          continue;
        }
      int status = set (grants, &request, due);
      if (status != -EINPROGRESS)
        send_granted (grants, site->name, lock->id, status);
    }
}

static void
forget_deferred (NfGrants *grants, const char *site)
{
  for (GList *l = grants->deferred.head, *next; l; l = next)
    {
      Request *request = l->data;
      next = l->next;
      if (g_strcmp0 (request->site, site) != 0)
        continue;
      g_queue_delete_link (&grants->deferred, l);
      g_free (request);
    }
}

/* SITE has said all. What others wait for, and it has no more, is given away last. */
static void
replace (NfGrants *grants, Site *site, guint64 session, GArray *due)
{
  g_autoptr (GArray) granted = granted_new ();
  NfMsg lost = { .type = NF_MSG_LOST };

  forget_deferred (grants, site->name);
  nf_lock_table_clear_site (grants->table, site->name, FALSE);
  site->session = session;
  site->up = TRUE;
  if (restore_held (grants, site))
    restore_waiting (grants, site, due);
  else
    {
      lost.lost.share = grants->primary->share->conf.id;
      lost.lost.session = session;
      send (grants, site->name, &lost);
      nf_lock_table_clear_site (grants->table, site->name, FALSE);
      site->session = 0;
    }
  nf_lock_table_grant (grants->table, granted);
  tell_granted (grants, granted, due);
  if (nf_lock_table_count (grants->table, site->name) > 0)
    note_held (grants, site->name);
  else
    note_gone (grants, site);
}

static gboolean
collect (Site *site, NfSlice data)
{
  NfReader reader = nf_reader (data);
  NfLock lock;

  while (nf_lock_decode (&reader, &lock))
    {
      if (site->incoming->len >= NF_LOCKS_SITE_MAX)
        return FALSE;
      lock.site = site->name;
      g_array_append_val (site->incoming, lock);
    }
  return nf_reader_done (&reader);
}

void
nf_grants_restore (NfGrants *grants, const char *name, const NfMsg *msg)
{
  GArray *due = due_new ();

  pthread_mutex_lock (&grants->lock);
  Site *site = site_of (grants, name);
  if (!site->incoming)
    site->incoming = g_array_new (FALSE, FALSE, sizeof (NfLock));
  gboolean fine = collect (site, msg->locks.locks);
  if (!fine)
    g_array_set_size (site->incoming, 0); /* as if it had none */
  if (msg->locks.flags & NF_LOCKS_LAST)
    {
      replace (grants, site, msg->locks.session, due);
      g_clear_pointer (&site->incoming, g_array_unref);
      has_said (grants, name, due);
    }
  pthread_mutex_unlock (&grants->lock);
  run_due (grants, due);
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
    site_of (grants, key)->recorded = FALSE;
  end_grace (grants, due);
  record_sites (grants);
}

static void
lease_is_over (gpointer data)
{
  Lease *lease = data;
  NfPrimary *primary = nf_life_enter (lease->life);

  if (primary)
    {
      NfGrants *grants = primary->grants;
      GArray *due = due_new ();
      pthread_mutex_lock (&grants->lock);
      Site *site = lease->site ? site_of (grants, lease->site) : NULL;
      if (site && !site->up && site->serial == lease->serial)
        end_session (grants, site, due);
      if (!site)
        give_up_awaited (grants, due);
      pthread_mutex_unlock (&grants->lock);
      run_due (grants, due);
      nf_life_leave (lease->life);
    }
  nf_life_unref (lease->life);
  g_free (lease->site);
  g_free (lease);
}

static void
start_lease (NfGrants *grants, const Site *site)
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
  pthread_mutex_lock (&grants->lock);
  Site *site = site_of (grants, name);
  site->up = FALSE;
  site->serial++;
  g_clear_pointer (&site->incoming, g_array_unref);
  /* A lock isn't given to who may be gone; it says again that it waits. */
  nf_lock_table_clear_site (grants->table, site->name, TRUE);
  forget_deferred (grants, site->name);
  if (nf_lock_table_count (grants->table, site->name) > 0)
    start_lease (grants, site);
  else
    note_gone (grants, site);
  pthread_mutex_unlock (&grants->lock);
}

gboolean
nf_grants_is_current (NfGrants *grants, const char *site, guint64 session)
{
  pthread_mutex_lock (&grants->lock);
  gboolean current = site_of (grants, site)->session == session;
  pthread_mutex_unlock (&grants->lock);
  return current;
}

/* ---- the whole ---- */

void
nf_grants_told (NfGrants *grants)
{
  nf_told_run (grants->told);
}

gboolean
nf_grants_has (NfGrants *grants, NfFid fid)
{
  pthread_mutex_lock (&grants->lock);
  gboolean has = nf_lock_table_has (grants->table, fid);
  pthread_mutex_unlock (&grants->lock);
  return has;
}

/* The sites that had locks when the last life ended. */
static void
await_sites (NfGrants *grants)
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
        Site *site = site_of (grants, *name);
        site->recorded = TRUE;
        g_hash_table_add (grants->awaited, (gpointer)site->name);
      }
  if (grants->awaited)
    start_lease (grants, NULL);
}

NfGrants *
nf_grants_new (NfPrimary *primary)
{
  NfGrants *grants = g_new0 (NfGrants, 1);

  grants->primary = primary;
  grants->told = nf_told_new (primary->share);
  pthread_mutex_init (&grants->lock, NULL);
  grants->table = nf_lock_table_new ();
  grants->sites = g_hash_table_new_full (g_str_hash, g_str_equal, NULL, site_free);
  grants->waiting = g_hash_table_new_full (g_int64_hash, g_int64_equal, NULL, g_free);
  await_sites (grants);
  return grants;
}

void
nf_grants_free (NfGrants *grants)
{
  GArray *due = due_new ();
  GHashTableIter iter;
  gpointer value;
  Request *request;

  pthread_mutex_lock (&grants->lock);
  g_hash_table_iter_init (&iter, grants->waiting);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    add_due (due, value, -EHOSTUNREACH);
  while ((request = g_queue_pop_head (&grants->deferred)))
    {
      if (!request->site)
        add_due (due, request, -EHOSTUNREACH);
      g_free (request);
    }
  pthread_mutex_unlock (&grants->lock);
  run_due (grants, due);
  nf_told_free (grants->told);
  g_clear_pointer (&grants->awaited, g_hash_table_unref);
  g_hash_table_unref (grants->waiting);
  nf_lock_table_free (grants->table);
  g_hash_table_unref (grants->sites);
  pthread_mutex_destroy (&grants->lock);
  g_free (grants);
}
