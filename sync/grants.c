// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/grants-internal.h"

#include <errno.h>

#include "sync/lock-wire.h"

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
 * A file on which one site alone has locks is given to it as a whole: it decides all further requests of its own for
 * itself, at no cost, until somebody else asks. Then it is recalled (RECALL), and comes back with what is held by then
 * (RETURN), behind the writes that were made under locks which the site has given back since. Who asked waits meanwhile,
 * as long as a lease at most. A site never lets anybody wait by itself, or a deadlock over several sites would go unseen:
 * it returns the file first.
 *
 * Locks: `lock` is taken inside those of objects, never with them of the journal; messages are sent under it, so that they
 * leave in order (sending only queues); callers here are answered without it. */

/* Files that one site has to itself: it says them all over each new link. Further ones it asks for lock by lock. */
#define ALONE_MAX 1024
/* Requests that wait for a site to say what it has, or to return a file. */
#define QUEUED_MAX NF_LOCKS_SITE_MAX

NfGrantsSite *
nf_grants_site (NfGrants *grants, const char *name)
{
  NfGrantsSite *site = g_hash_table_lookup (grants->sites, name);

  if (site)
    return site;
  site = g_new0 (NfGrantsSite, 1);
  site->name = g_intern_string (name);
  g_hash_table_insert (grants->sites, (gpointer)site->name, site);
  return site;
}

static void
site_free (gpointer data)
{
  NfGrantsSite *site = data;

  if (site->incoming)
    g_array_unref (site->incoming);
  g_free (site);
}

/* ---- answers ---- */

void
nf_grants_send (NfGrants *grants, const char *site, NfMsg *msg)
{
  NfHost *host = grants->primary->share->host;

  (void)host->send (host->data, site, FALSE, msg); /* without a link it says what it has, later */
}

void
nf_grants_answer (NfGrants *grants, const char *site, guint64 reqid, int status, guint64 value)
{
  NfMsg msg = { .type = NF_MSG_ANSWER };

  msg.answer.share = grants->primary->share->conf.id;
  msg.answer.reqid = reqid;
  msg.answer.status = nf_status_from_errno (status);
  msg.answer.value = value;
  msg.answer.seq = nf_primary_stamp (grants->primary);
  nf_grants_send (grants, site, &msg);
}

static void
send_granted (NfGrants *grants, const char *site, guint64 reqid, int status)
{
  NfMsg msg = { .type = NF_MSG_GRANTED };

  msg.granted.share = grants->primary->share->conf.id;
  msg.granted.reqid = reqid;
  msg.granted.status = nf_status_from_errno (status);
  msg.granted.seq = nf_primary_stamp (grants->primary);
  nf_grants_send (grants, site, &msg);
}

/* Without the lock. */
void
nf_grants_run_due (NfGrants *grants, GArray *due)
{
  for (guint i = 0; i < due->len; i++)
    {
      const NfGrantsDue *item = &g_array_index (due, NfGrantsDue, i);
      NfMsg answer = { .type = NF_MSG_ANSWER };
      if (item->holder)
        answer.answer.data
            = nf_slice (g_bytes_get_data (item->holder, NULL), g_bytes_get_size (item->holder));
      if (item->given)
        nf_told_answer (grants->told, 0, item->done, item->data);
      else
        item->done (item->data, item->status, &answer);
      if (item->holder)
        g_bytes_unref (item->holder);
    }
  g_array_unref (due);
}

GArray *
nf_grants_due_new (void)
{
  return g_array_new (FALSE, FALSE, sizeof (NfGrantsDue));
}

static void
add_due (GArray *due, const NfGrantsRequest *request, int status)
{
  NfGrantsDue item = { request->done, request->data, status,
                       status == 0 && request->lock.type != NF_LOCK_NONE, NULL };

  g_array_append_val (due, item);
}

/* ---- giving ---- */

void
nf_grants_tell (NfGrants *grants, const GArray *granted, GArray *due)
{
  for (guint i = 0; i < granted->len; i++)
    {
      const NfLock *lock = &g_array_index (granted, NfLock, i);
      (void)nf_grants_note_held (grants, lock->site); /* was noted when it asked */
      if (lock->site)
        {
          send_granted (grants, lock->site, lock->id, 0);
          continue;
        }
      NfGrantsRequest *request = g_hash_table_lookup (grants->waiting, &lock->id);
      g_assert (request != NULL);
      add_due (due, request, 0);
      g_hash_table_remove (grants->waiting, &lock->id);
    }
}

GArray *
nf_grants_granted_new (void)
{
  return g_array_new (FALSE, FALSE, sizeof (NfLock));
}

/* 0, -EINPROGRESS (it waits in the table) or another -errno. */
static int
set (NfGrants *grants, const NfGrantsRequest *request, GArray *due)
{
  g_autoptr (GArray) granted = nf_grants_granted_new ();
  gboolean takes = request->site && request->lock.type != NF_LOCK_NONE;

  /* Before it has the lock: a next life that doesn't know of it would give it to others. */
  if (takes && nf_grants_note_held (grants, request->site) != 0)
    return -ENOLCK;
  int status
      = nf_lock_table_set (grants->table, &request->lock, request->how == NF_LOCK_WAIT, granted);
  if (takes && status != 0 && status != -EINPROGRESS)
    nf_grants_note_gone (grants, nf_grants_site (grants, request->site));
  nf_grants_tell (grants, granted, due);
  return status;
}

/* HOLDER: what excludes it, or NULL. */
static void
answer_test (NfGrants *grants, const NfGrantsRequest *request, const NfLock *holder, GArray *due)
{
  g_auto (NfBuf) buf = NF_BUF_INIT;
  NfMsg msg = { .type = NF_MSG_ANSWER };

  if (holder)
    nf_lock_encode (holder, &buf);
  if (!request->site)
    {
      NfGrantsDue item = { request->done, request->data, 0, FALSE, nf_buf_steal_bytes (&buf) };
      g_array_append_val (due, item);
      return;
    }
  msg.answer.share = grants->primary->share->conf.id;
  msg.answer.reqid = request->id;
  msg.answer.data = nf_slice (buf.data, buf.len);
  nf_grants_send (grants, request->site, &msg);
}

static void
test (NfGrants *grants, const NfGrantsRequest *request, GArray *due)
{
  NfLock holder;
  gboolean any = nf_lock_table_test (grants->table, &request->lock, &holder);

  /* Another site's process has no number here. */
  if (any && g_strcmp0 (holder.site, request->site) != 0)
    holder.pid = 0;
  answer_test (grants, request, any ? &holder : NULL, due);
}

/* The site that has just been given a lock on FID may have the file to itself. */
static gboolean
give_alone (NfGrants *grants, const char *site, NfFid fid)
{
  if (!nf_lock_table_is_sole (grants->table, fid, site)
      || nf_grants_count_alone (grants, site) >= ALONE_MAX)
    return FALSE;
  nf_lock_table_clear_file (grants->table, fid);
  g_hash_table_insert (grants->alone, g_memdup2 (&fid, sizeof fid), (gpointer)site);
  return TRUE;
}

static void
answer_site (NfGrants *grants, const NfGrantsRequest *request, int status)
{
  guint64 value = NF_LOCK_GIVEN;

  if (request->waits)
    {
      if (status != -EINPROGRESS)
        send_granted (grants, request->site, request->id, status);
      return;
    }
  if (status == -EINPROGRESS)
    value = NF_LOCK_WAITS;
  else if (status == 0 && request->lock.type != NF_LOCK_NONE
           && give_alone (grants, request->site, request->lock.fid))
    value = NF_LOCK_GIVEN_ALL;
  nf_grants_answer (grants, request->site, request->id, status == -EINPROGRESS ? 0 : status, value);
}

/* Takes REQUEST. */
static void
carry_out (NfGrants *grants, NfGrantsRequest *request, GArray *due)
{
  if (request->how == NF_LOCK_TEST)
    {
      test (grants, request, due);
      g_free (request);
      return;
    }
  int status = set (grants, request, due);
  if (request->site)
    answer_site (grants, request, status);
  else if (status == -EINPROGRESS)
    {
      g_hash_table_insert (grants->waiting, &request->id, request);
      return;
    }
  else
    add_due (due, request, status);
  g_free (request);
}

static void
send_recall (NfGrants *grants, const char *site, NfFid fid)
{
  NfMsg msg = { .type = NF_MSG_RECALL };

  msg.recall.share = grants->primary->share->conf.id;
  msg.recall.fid = fid;
  nf_grants_send (grants, site, &msg);
}

/* Takes REQUEST. */
static void
refuse (NfGrants *grants, NfGrantsRequest *request, int error, GArray *due)
{
  if (request->how == NF_LOCK_TEST)
    answer_test (grants, request, &(NfLock){ .type = NF_LOCK_WRITE, .end = G_MAXINT64 }, due);
  else if (!request->site)
    add_due (due, request, error);
  else if (request->waits)
    send_granted (grants, request->site, request->id, error);
  else
    nf_grants_answer (grants, request->site, request->id, error, 0);
  g_free (request);
}

/* Takes REQUEST. */
static void
queue (NfGrants *grants, GQueue *requests, NfGrantsRequest *request, GArray *due)
{
  if (requests->length >= QUEUED_MAX)
    refuse (grants, request, -ENOLCK, due);
  else
    g_queue_push_tail (requests, request);
}

/* SITE has the file to itself. What it can't be asked for now is as if it were locked. Takes REQUEST. */
static void
recall_for (NfGrants *grants, NfGrantsRequest *request, const char *site, GArray *due)
{
  NfFid fid = request->lock.fid;

  if (request->how != NF_LOCK_WAIT && !nf_grants_site (grants, site)->up)
    {
      refuse (grants, request, -EAGAIN, due);
      return;
    }
  queue (grants, &grants->recalling, request, due);
  send_recall (grants, site, fid);
}

/* Takes REQUEST. What is given back is taken at any time. */
void
nf_grants_begin (NfGrants *grants, NfGrantsRequest *request, GArray *due)
{
  const char *alone = g_hash_table_lookup (grants->alone, &request->lock.fid);
  gboolean unlocks = request->lock.type == NF_LOCK_NONE && request->how != NF_LOCK_TEST;

  if (grants->awaited && !unlocks)
    queue (grants, &grants->deferred, request, due);
  else if (alone && alone == request->site
           && !request->waits) /* else its own RETURN is on its way */
    {
      nf_grants_answer (grants, request->site, request->id, 0, NF_LOCK_YOURS);
      g_free (request);
    }
  else if (alone && !unlocks)
    recall_for (grants, request, alone, due);
  else
    carry_out (grants, request, due);
}

/* Some of the files that sites had to themselves are so no more. */
void
nf_grants_begin_recalled (NfGrants *grants, GArray *due)
{
  GQueue requests = grants->recalling;
  NfGrantsRequest *request;

  g_queue_init (&grants->recalling);
  while ((request = g_queue_pop_head (&requests)))
    nf_grants_begin (grants, request, due);
}

/* ---- calls ---- */

static NfGrantsRequest *
request_new (const NfMsg *call, const char *site, guint64 id)
{
  NfGrantsRequest *request = g_new0 (NfGrantsRequest, 1);

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

gboolean
nf_grants_may_have (NfGrants *grants, const char *site, const NfLock *lock)
{
  const NfShareConf *conf = &grants->primary->share->conf;

  return lock->kind != NF_LOCK_RANGE || lock->type != NF_LOCK_WRITE || !conf->may_write
         || conf->may_write (conf->policy, site);
}

/* To test takes no right. */
static gboolean
may_ask (NfGrants *grants, const char *site, const NfMsg *call)
{
  const NfLock lock = { .kind = call->lock.kind, .type = call->lock.type };

  return call->lock.how == NF_LOCK_TEST || nf_grants_may_have (grants, site, &lock);
}

void
nf_grants_call (NfGrants *grants, const NfMsg *call, NfCallDone done, gpointer data,
                guint64 *ret_id)
{
  GArray *due = nf_grants_due_new ();

  pthread_mutex_lock (&grants->lock);
  guint64 id = ++grants->next_id;
  NfGrantsRequest *request = request_new (call, NULL, id);
  request->done = done;
  request->data = data;
  if (ret_id) /* before it can be answered, after which the caller's memory may be gone */
    *ret_id = id;
  nf_grants_begin (grants, request, due);
  pthread_mutex_unlock (&grants->lock);
  nf_grants_run_due (grants, due);
}

static NfGrantsRequest *
take_from (GQueue *queue, const char *site, guint64 id)
{
  for (GList *l = queue->head; l; l = l->next)
    {
      NfGrantsRequest *request = l->data;
      if (request->id != id || g_strcmp0 (request->site, site) != 0)
        continue;
      g_queue_delete_link (queue, l);
      return request;
    }
  return NULL;
}

static NfGrantsRequest *
take_queued (NfGrants *grants, const char *site, guint64 id)
{
  NfGrantsRequest *request = take_from (&grants->deferred, site, id);

  return request ? request : take_from (&grants->recalling, site, id);
}

static void
interrupt (NfGrants *grants, NfGrantsRequest *request, GArray *due)
{
  add_due (due, request, -EINTR);
  g_free (request);
}

void
nf_grants_interrupt (NfGrants *grants, guint64 id)
{
  GArray *due = nf_grants_due_new ();

  pthread_mutex_lock (&grants->lock);
  NfGrantsRequest *request = g_hash_table_lookup (grants->waiting, &id);
  if (request)
    {
      g_hash_table_steal (grants->waiting, &id);
      (void)nf_lock_table_cancel (grants->table, NULL, id);
      interrupt (grants, request, due);
    }
  request = take_queued (grants, NULL, id);
  if (request)
    interrupt (grants, request, due);
  pthread_mutex_unlock (&grants->lock);
  nf_grants_run_due (grants, due);
}

/* A request that is sent once more, or taken back, doesn't wait as what it was. */
static gboolean
forget_request (NfGrants *grants, const char *site, guint64 reqid)
{
  NfGrantsRequest *request = take_queued (grants, site, reqid);

  if (!request)
    return nf_lock_table_cancel (grants->table, site, reqid);
  g_free (request);
  return TRUE;
}

void
nf_grants_take (NfGrants *grants, const char *name, const NfMsg *call)
{
  GArray *due = nf_grants_due_new ();
  guint64 reqid = call->head.reqid;

  pthread_mutex_lock (&grants->lock);
  const char *site = nf_grants_site (grants, name)->name;
  if (!is_valid (call) || reqid == 0)
    nf_grants_answer (grants, site, reqid, -EINVAL, 0);
  else if (!may_ask (grants, site, call))
    nf_grants_answer (grants, site, reqid, -EROFS, 0);
  else
    {
      (void)forget_request (grants, site, reqid);
      nf_grants_begin (grants, request_new (call, site, reqid), due);
    }
  pthread_mutex_unlock (&grants->lock);
  nf_grants_run_due (grants, due);
}

/* Of what isn't found the answer is on its way. */
void
nf_grants_cancel (NfGrants *grants, const char *site, guint64 reqid)
{
  pthread_mutex_lock (&grants->lock);
  NfGrantsRequest *request = take_queued (grants, site, reqid);
  if (request && !request->waits)
    nf_grants_answer (grants, site, reqid, -EINTR, 0);
  else if (request || nf_lock_table_cancel (grants->table, site, reqid))
    send_granted (grants, site, reqid, -EINTR);
  g_free (request);
  pthread_mutex_unlock (&grants->lock);
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
  gboolean has
      = nf_lock_table_has (grants->table, fid) || g_hash_table_contains (grants->alone, &fid);
  pthread_mutex_unlock (&grants->lock);
  return has;
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
  grants->alone = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
  grants->waiting = g_hash_table_new_full (g_int64_hash, g_int64_equal, NULL, g_free);
  nf_grants_await (grants);
  return grants;
}

void
nf_grants_free (NfGrants *grants)
{
  GArray *due = nf_grants_due_new ();
  GHashTableIter iter;
  gpointer value;
  NfGrantsRequest *request;

  pthread_mutex_lock (&grants->lock);
  g_hash_table_iter_init (&iter, grants->waiting);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    add_due (due, value, -EHOSTUNREACH);
  while ((request = g_queue_pop_head (&grants->deferred))
         || (request = g_queue_pop_head (&grants->recalling)))
    {
      if (!request->site)
        add_due (due, request, -EHOSTUNREACH);
      g_free (request);
    }
  pthread_mutex_unlock (&grants->lock);
  nf_grants_run_due (grants, due);
  nf_told_free (grants->told);
  g_clear_pointer (&grants->awaited, g_hash_table_unref);
  g_hash_table_unref (grants->waiting);
  g_hash_table_unref (grants->alone);
  nf_lock_table_free (grants->table);
  g_hash_table_unref (grants->sites);
  pthread_mutex_destroy (&grants->lock);
  g_free (grants);
}
