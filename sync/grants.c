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
 * A file on which one site alone has locks is given to it as a whole: it decides all further requests of its own for
 * itself, at no cost, until somebody else asks. Then it is recalled (RECALL), and comes back with what is held by then
 * (RETURN), behind the writes that were made under locks which the site has given back since. Who asked waits meanwhile,
 * as long as a lease at most. A site never lets anybody wait by itself, or a deadlock over several sites would go unseen:
 * it returns the file first.
 *
 * Locks: `lock` is taken inside those of objects, never with them of the journal; messages are sent under it, so that they
 * leave in order (sending only queues); callers here are answered without it. */

#define SITES_META "lock-sites"
/* Files that one site has to itself: it says them all over each new link. Further ones it asks for lock by lock. */
#define ALONE_MAX 1024
/* Requests that wait for a site to say what it has, or to return a file. */
#define QUEUED_MAX NF_LOCKS_SITE_MAX

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
  gboolean waits;  /* the site has been told that it waits */
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
  GBytes *holder; /* of a test */
} Due;

struct NfGrants
{
  NfPrimary *primary;
  NfTold *told;
  pthread_mutex_t lock; /* guards what follows */
  NfLockTable *table;
  GHashTable *sites;   /* name → Site, owning */
  GHashTable *waiting; /* id → Request of ours that is in the table, owning */
  GQueue deferred;     /* of Request: until all awaited have said what they had */
  GHashTable *alone;   /* fid, owned → name: files that a site has to itself */
  GQueue recalling;    /* of Request: on such a file, of others */
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

static GArray *
due_new (void)
{
  return g_array_new (FALSE, FALSE, sizeof (Due));
}

static void
add_due (GArray *due, const Request *request, int status)
{
  Due item = { request->done, request->data, status,
               status == 0 && request->lock.type != NF_LOCK_NONE, NULL };

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

static guint
count_alone (NfGrants *grants, const char *site)
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
has_anything (NfGrants *grants, const Site *site)
{
  return nf_lock_table_count (grants->table, site->name) > 0
         || count_alone (grants, site->name) > 0;
}

static void
note_gone (NfGrants *grants, Site *site)
{
  if (!site->recorded || has_anything (grants, site))
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

/* HOLDER: what excludes it, or NULL. */
static void
answer_test (NfGrants *grants, const Request *request, const NfLock *holder, GArray *due)
{
  g_auto (NfBuf) buf = NF_BUF_INIT;
  NfMsg msg = { .type = NF_MSG_ANSWER };

  if (holder)
    nf_lock_encode (holder, &buf);
  if (!request->site)
    {
      Due item = { request->done, request->data, 0, FALSE, nf_buf_steal_bytes (&buf) };
      g_array_append_val (due, item);
      return;
    }
  msg.answer.share = grants->primary->share->conf.id;
  msg.answer.reqid = request->id;
  msg.answer.data = nf_slice (buf.data, buf.len);
  send (grants, request->site, &msg);
}

static void
test (NfGrants *grants, const Request *request, GArray *due)
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
  if (!nf_lock_table_is_sole (grants->table, fid, site) || count_alone (grants, site) >= ALONE_MAX)
    return FALSE;
  nf_lock_table_clear_file (grants->table, fid);
  g_hash_table_insert (grants->alone, g_memdup2 (&fid, sizeof fid), (gpointer)site);
  return TRUE;
}

static void
answer_site (NfGrants *grants, const Request *request, int status)
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
  send_answer (grants, request->site, request->id, status == -EINPROGRESS ? 0 : status, value);
}

/* Takes REQUEST. */
static void
carry_out (NfGrants *grants, Request *request, GArray *due)
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
  send (grants, site, &msg);
}

/* Takes REQUEST. */
static void
refuse (NfGrants *grants, Request *request, int error, GArray *due)
{
  if (request->how == NF_LOCK_TEST)
    answer_test (grants, request, &(NfLock){ .type = NF_LOCK_WRITE, .end = G_MAXINT64 }, due);
  else if (!request->site)
    add_due (due, request, error);
  else if (request->waits)
    send_granted (grants, request->site, request->id, error);
  else
    send_answer (grants, request->site, request->id, error, 0);
  g_free (request);
}

/* Takes REQUEST. */
static void
queue (NfGrants *grants, GQueue *requests, Request *request, GArray *due)
{
  if (requests->length >= QUEUED_MAX)
    refuse (grants, request, -ENOLCK, due);
  else
    g_queue_push_tail (requests, request);
}

/* SITE has the file to itself. What it can't be asked for now is as if it were locked. Takes REQUEST. */
static void
recall_for (NfGrants *grants, Request *request, const char *site, GArray *due)
{
  NfFid fid = request->lock.fid;

  if (request->how != NF_LOCK_WAIT && !site_of (grants, site)->up)
    {
      refuse (grants, request, -EAGAIN, due);
      return;
    }
  queue (grants, &grants->recalling, request, due);
  send_recall (grants, site, fid);
}

/* Takes REQUEST. What is given back is taken at any time. */
static void
begin (NfGrants *grants, Request *request, GArray *due)
{
  const char *alone = g_hash_table_lookup (grants->alone, &request->lock.fid);
  gboolean unlocks = request->lock.type == NF_LOCK_NONE && request->how != NF_LOCK_TEST;

  if (grants->awaited && !unlocks)
    queue (grants, &grants->deferred, request, due);
  else if (alone && alone == request->site
           && !request->waits) /* else its own RETURN is on its way */
    {
      send_answer (grants, request->site, request->id, 0, NF_LOCK_YOURS);
      g_free (request);
    }
  else if (alone && !unlocks)
    recall_for (grants, request, alone, due);
  else
    carry_out (grants, request, due);
}

/* Some of the files that sites had to themselves are so no more. */
static void
begin_recalled (NfGrants *grants, GArray *due)
{
  GQueue requests = grants->recalling;
  Request *request;

  g_queue_init (&grants->recalling);
  while ((request = g_queue_pop_head (&requests)))
    begin (grants, request, due);
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

void
nf_grants_call (NfGrants *grants, const NfMsg *call, NfCallDone done, gpointer data,
                guint64 *ret_id)
{
  GArray *due = due_new ();

  pthread_mutex_lock (&grants->lock);
  guint64 id = ++grants->next_id;
  Request *request = request_new (call, NULL, id);
  request->done = done;
  request->data = data;
  if (ret_id) /* before it can be answered, after which the caller's memory may be gone */
    *ret_id = id;
  begin (grants, request, due);
  pthread_mutex_unlock (&grants->lock);
  run_due (grants, due);
}

static Request *
take_from (GQueue *queue, const char *site, guint64 id)
{
  for (GList *l = queue->head; l; l = l->next)
    {
      Request *request = l->data;
      if (request->id != id || g_strcmp0 (request->site, site) != 0)
        continue;
      g_queue_delete_link (queue, l);
      return request;
    }
  return NULL;
}

static Request *
take_queued (NfGrants *grants, const char *site, guint64 id)
{
  Request *request = take_from (&grants->deferred, site, id);

  return request ? request : take_from (&grants->recalling, site, id);
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
  request = take_queued (grants, NULL, id);
  if (request)
    interrupt (grants, request, due);
  pthread_mutex_unlock (&grants->lock);
  run_due (grants, due);
}

/* A request that is sent once more, or taken back, doesn't wait as what it was. */
static gboolean
forget_request (NfGrants *grants, const char *site, guint64 reqid)
{
  Request *request = take_queued (grants, site, reqid);

  if (!request)
    return nf_lock_table_cancel (grants->table, site, reqid);
  g_free (request);
  return TRUE;
}

void
nf_grants_take (NfGrants *grants, const char *name, const NfMsg *call)
{
  GArray *due = due_new ();
  guint64 reqid = call->head.reqid;

  pthread_mutex_lock (&grants->lock);
  const char *site = site_of (grants, name)->name;
  if (!is_valid (call) || reqid == 0)
    send_answer (grants, site, reqid, -EINVAL, 0);
  else
    {
      (void)forget_request (grants, site, reqid);
      begin (grants, request_new (call, site, reqid), due);
    }
  pthread_mutex_unlock (&grants->lock);
  run_due (grants, due);
}

/* Of what isn't found the answer is on its way. */
void
nf_grants_cancel (NfGrants *grants, const char *site, guint64 reqid)
{
  pthread_mutex_lock (&grants->lock);
  Request *request = take_queued (grants, site, reqid);
  if (request && !request->waits)
    send_answer (grants, site, reqid, -EINTR, 0);
  else if (request || nf_lock_table_cancel (grants->table, site, reqid))
    send_granted (grants, site, reqid, -EINTR);
  g_free (request);
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
    begin (grants, request, due);
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
clear_site (NfGrants *grants, const Site *site)
{
  nf_lock_table_clear_site (grants->table, site->name, FALSE);
  (void)g_hash_table_foreach_remove (grants->alone, is_value, (gpointer)site->name);
}

/* Its locks are free. */
static void
end_session (NfGrants *grants, Site *site, GArray *due)
{
  g_autoptr (GArray) granted = granted_new ();

  clear_site (grants, site);
  nf_lock_table_grant (grants->table, granted);
  site->session = 0;
  tell_granted (grants, granted, due);
  begin_recalled (grants, due);
  note_gone (grants, site);
}

/* FALSE: others have locks on it, or it to themselves. */
static gboolean
restore_alone (NfGrants *grants, const Site *site, NfFid fid)
{
  if (g_hash_table_contains (grants->alone, &fid)
      || !nf_lock_table_is_sole (grants->table, fid, site->name))
    return FALSE;
  g_hash_table_insert (grants->alone, g_memdup2 (&fid, sizeof fid), (gpointer)site->name);
  return TRUE;
}

/* A file that was on its way back may have come. */
static gboolean
restore_all_alone (NfGrants *grants, const Site *site)
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
restore_held (NfGrants *grants, Site *site)
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
restore_waiting (NfGrants *grants, Site *site, GArray *due)
{
  for (guint i = 0; i < site->incoming->len; i++)
    {
      const NfLock *lock = &g_array_index (site->incoming, NfLock, i);
      if (lock->id == 0 || lock->kind == NF_LOCK_ALL)
        continue;
      Request *request = g_new0 (Request, 1);
      *request = (Request){
        .site = site->name, .id = lock->id, .lock = *lock, .how = NF_LOCK_WAIT, .waits = TRUE
      };
      begin (grants, request, due);
    }
}

static void
forget_in (GQueue *queue, const char *site)
{
  for (GList *l = queue->head, *next; l; l = next)
    {
      Request *request = l->data;
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
replace (NfGrants *grants, Site *site, guint64 session, GArray *due)
{
  g_autoptr (GArray) granted = granted_new ();
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
      send (grants, site->name, &lost);
      clear_site (grants, site);
      site->session = 0;
    }
  nf_lock_table_grant (grants->table, granted);
  tell_granted (grants, granted, due);
  begin_recalled (grants, due);
  if (has_anything (grants, site))
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

void
nf_grants_returned (NfGrants *grants, const char *name, const NfMsg *call)
{
  GArray *due = due_new ();
  NfReader reader = nf_reader (call->returned.locks);
  NfFid fid = call->returned.fid;
  NfLock lock;

  pthread_mutex_lock (&grants->lock);
  const Site *entry = site_of (grants, name);
  const char *site = entry->name;
  if (g_hash_table_lookup (grants->alone, &fid) == site && entry->session == call->head.session)
    {
      g_hash_table_remove (grants->alone, &fid);
      while (nf_lock_decode (&reader, &lock))
        if (lock.fid == fid && lock.kind != NF_LOCK_ALL)
          {
            lock.site = site;
            (void)nf_lock_table_restore (grants->table, &lock); /* nobody else has any */
          }
      begin_recalled (grants, due);
    }
  send_answer (grants, site, call->head.reqid, 0, 0);
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
  GArray *due = due_new ();

  pthread_mutex_lock (&grants->lock);
  Site *site = site_of (grants, name);
  site->up = FALSE;
  site->serial++;
  g_clear_pointer (&site->incoming, g_array_unref);
  /* A lock isn't given to who may be gone; it says again that it waits. */
  nf_lock_table_clear_site (grants->table, site->name, TRUE);
  forget_queued (grants, site->name);
  /* Who doesn't want to wait for it is told so. */
  begin_recalled (grants, due);
  if (has_anything (grants, site))
    start_lease (grants, site);
  else
    note_gone (grants, site);
  pthread_mutex_unlock (&grants->lock);
  run_due (grants, due);
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
  gboolean has
      = nf_lock_table_has (grants->table, fid) || g_hash_table_contains (grants->alone, &fid);
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
  grants->alone = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
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
  while ((request = g_queue_pop_head (&grants->deferred))
         || (request = g_queue_pop_head (&grants->recalling)))
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
  g_hash_table_unref (grants->alone);
  nf_lock_table_free (grants->table);
  g_hash_table_unref (grants->sites);
  pthread_mutex_destroy (&grants->lock);
  g_free (grants);
}
