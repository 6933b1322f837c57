// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/claims-internal.h"

#include <errno.h>

#include "sync/lock-wire.h"

/* The other side of grants.c.
 *
 * A request goes to the primary as any call does, behind the writes to its file that are under way. A lock is told as
 * given when the replica has applied all that its last holder can have done, and the kernel knows. An unlock is done when
 * the primary says so, and can't fail: with the link gone it is made up for.
 *
 * A file on which nobody else has locks the primary gives to this site as a whole (`alone`). Then requests are decided
 * here, at no cost, until it is recalled. What would have to wait isn't decided here: the file is returned first. While it is on
 * its way back, behind what was written under locks that were given back here, requests go to the primary behind it.
 *
 * What is held is remembered here, since the primary is told all of it over each new link: as of the answers, so that a lock
 * whose return is under way stays until what was written under it has come to the primary.
 *
 * Without a link for the lease less a margin all locks are lost: the session ends, the handles through which they were
 * taken fail (EIO) from then on, and who waits is answered EHOSTUNREACH. */

typedef struct
{
  NfCallDone done;
  gpointer data;
  int status;
  gboolean given; /* a lock */
} Due;

/* ---- answers ---- */

GArray *
nf_claims_due_new (void)
{
  return g_array_new (FALSE, FALSE, sizeof (Due));
}

/* REQUEST is over. */
static void
finish (NfClaims *claims, NfClaim *request, int status, GArray *due)
{
  Due item
      = { request->done, request->data, status, status == 0 && request->lock.type != NF_LOCK_NONE };

  g_array_append_val (due, item);
  if (request->state == NF_CLAIM_ARRIVING)
    (void)g_atomic_int_dec_and_test (&claims->n_arriving);
  (void)g_hash_table_remove (claims->cancelled, &request->known_id);
  (void)g_ptr_array_remove_fast (claims->requests, request);
  if (claims->requests->len == 0)
    g_hash_table_remove_all (claims->cancelled);
  g_free (request);
}

/* Without the lock. */
void
nf_claims_run_due (NfClaims *claims, GArray *due)
{
  for (guint i = 0; i < due->len; i++)
    {
      const Due *item = &g_array_index (due, Due, i);
      NfMsg answer = { .type = NF_MSG_ANSWER };
      if (item->given)
        nf_told_answer (claims->told, 0, item->done, item->data);
      else
        item->done (item->data, item->status, &answer);
    }
  g_array_unref (due);
}

void
nf_claims_unref (NfClaims *claims)
{
  if (!g_atomic_int_dec_and_test (&claims->refs))
    return;
  g_assert (claims->requests->len == 0);
  nf_told_free (claims->told);
  nf_lock_table_free (claims->held);
  g_ptr_array_unref (claims->requests);
  g_hash_table_unref (claims->alone);
  g_hash_table_unref (claims->cancelled);
  g_array_unref (claims->through);
  pthread_mutex_destroy (&claims->lock);
  g_free (claims);
}

/* ---- what is held ---- */

static void
note (NfClaims *claims, const NfLock *lock)
{
  g_autoptr (GArray) none = g_array_new (FALSE, FALSE, sizeof (NfLock));

  /* Nothing of another owner of this site excludes it, or the primary wouldn't have given it. But what was given back
   * by that owner, and isn't known to be back, may seem to: it is gone. */
  while (nf_lock_table_set (claims->held, lock, FALSE, none) == -EAGAIN)
    {
      NfLock holder;
      if (!nf_lock_table_test (claims->held, lock, &holder))
        return;
      holder.type = NF_LOCK_NONE;
      (void)nf_lock_table_set (claims->held, &holder, FALSE, none);
    }
}

static NfClaimsThrough *
find_through (NfClaims *claims, const NfFile *file)
{
  for (guint i = 0; file && i < claims->through->len; i++)
    if (g_array_index (claims->through, NfClaimsThrough, i).file == file)
      return &g_array_index (claims->through, NfClaimsThrough, i);
  return NULL;
}

static void
note_through (NfClaims *claims, NfFile *file)
{
  NfClaimsThrough *through = find_through (claims, file);
  NfClaimsThrough added = { file, claims->session };

  if (through)
    through->session = claims->session;
  else if (file)
    {
      g_array_append_val (claims->through, added);
      g_atomic_int_set (&file->locked, TRUE);
    }
}

guint64
nf_claims_session (NfClaims *claims, const NfFile *file)
{
  pthread_mutex_lock (&claims->lock);
  const NfClaimsThrough *through = find_through (claims, file);
  guint64 session = through ? through->session : 0;
  pthread_mutex_unlock (&claims->lock);
  return session;
}

void
nf_claims_forget_file (NfClaims *claims, NfFile *file)
{
  pthread_mutex_lock (&claims->lock);
  NfClaimsThrough *through = find_through (claims, file);
  if (through)
    g_array_remove_index_fast (
        claims->through, (guint)(through - (NfClaimsThrough *)(gpointer)claims->through->data));
  for (guint i = 0; i < claims->requests->len; i++)
    if (((NfClaim *)claims->requests->pdata[i])->file == file)
      ((NfClaim *)claims->requests->pdata[i])->file = NULL;
  pthread_mutex_unlock (&claims->lock);
}

gboolean
nf_claims_has (NfClaims *claims, NfFid fid)
{
  pthread_mutex_lock (&claims->lock);
  gboolean has = nf_lock_table_has (claims->held, fid);
  for (guint i = 0; i < claims->requests->len && !has; i++)
    has = ((NfClaim *)claims->requests->pdata[i])->lock.fid == fid;
  pthread_mutex_unlock (&claims->lock);
  return has;
}

/* ---- asking ---- */

static void
send_cancel (NfClaims *claims, guint64 id)
{
  NfShare *share = claims->share;
  NfMsg msg = { .type = NF_MSG_CANCEL };

  msg.cancel.share = share->conf.id;
  msg.cancel.reqid = id;
  (void)share->host->send (share->host->data, share->conf.primary, FALSE, &msg);
}

/* It is ours: noted, though its caller has to wait for the replica. */
static void
given (NfClaims *claims, NfClaim *request, guint64 seq)
{
  note (claims, &request->lock);
  if (request->lock.type == NF_LOCK_NONE)
    return;
  note_through (claims, request->file);
  if (request->state != NF_CLAIM_ARRIVING)
    (void)g_atomic_int_add (&claims->n_arriving, 1);
  request->state = NF_CLAIM_ARRIVING;
  request->seq = seq;
}

/* Those for whom the replica has come far enough. */
static void
finish_arrived (NfClaims *claims, GArray *due)
{
  guint64 applied = nf_replica_position (claims->share->replica).seq;

  for (guint i = claims->requests->len; i > 0; i--)
    {
      NfClaim *request = claims->requests->pdata[i - 1];
      if (request->state == NF_CLAIM_ARRIVING && request->seq <= applied)
        finish (claims, request, 0, due);
    }
}

/* ---- files that are ours to decide ---- */

typedef struct
{
  NfClaims *claims;
  NfFid fid;
  guint64 session;
} Return;

/* It is back; or it couldn't be said, and with the next link it isn't among what this site has. */
static void
came_back (gpointer data, int status, const NfMsg *answer)
{
  Return *back = data;
  NfClaims *claims = back->claims;

  (void)status, (void)answer;
  pthread_mutex_lock (&claims->lock);
  const NfClaimsAlone *alone = g_hash_table_lookup (claims->alone, &back->fid);
  if (alone && alone->returning && back->session == claims->session)
    g_hash_table_remove (claims->alone, &back->fid);
  pthread_mutex_unlock (&claims->lock);
  nf_claims_unref (claims);
  g_free (back);
}

static void
encode_held (const NfLock *lock, gpointer data)
{
  NfLock held = *lock;

  held.id = 0;
  nf_lock_encode (&held, data);
}

/* Marks the file as on its way back, and fills CALL, whose locks live in BUF. FALSE: it is so already, or isn't ours. */
static gboolean
begin_return (NfClaims *claims, NfFid fid, NfBuf *buf, NfMsg *call)
{
  NfClaimsAlone *alone = g_hash_table_lookup (claims->alone, &fid);

  if (!alone || alone->returning)
    return FALSE;
  alone->returning = TRUE;
  nf_lock_table_each_of (claims->held, fid, encode_held, buf);
  call->type = NF_MSG_RETURN;
  call->head.session = claims->session; /* it may come when that is over */
  call->returned.fid = fid;
  call->returned.locks = nf_slice (buf->data, buf->len);
  return TRUE;
}

/* Without the lock. */
static void
send_return (NfClaims *claims, const NfMsg *call)
{
  Return back = { claims, call->returned.fid, call->head.session };

  g_atomic_int_inc (&claims->refs);
  nf_forward_call (claims->share->forward, NULL, call, came_back, g_memdup2 (&back, sizeof back),
                   NULL);
}

/* TRUE: REQUEST has been answered, or waits for the replica only. FALSE: it is for the primary, after RETURN if that is
 * filled. */
static gboolean
decide_here (NfClaims *claims, NfClaim *request, NfBuf *buf, NfMsg *back, GArray *due)
{
  g_autoptr (GArray) none = g_array_new (FALSE, FALSE, sizeof (NfLock));
  const NfClaimsAlone *alone = g_hash_table_lookup (claims->alone, &request->lock.fid);

  if (!alone || alone->returning)
    return FALSE;
  guint64 seq = alone->seq;
  int status = nf_lock_table_set (claims->held, &request->lock, FALSE, none);
  if (status == -EAGAIN && request->how == NF_LOCK_WAIT)
    {
      (void)begin_return (claims, request->lock.fid, buf, back);
      return FALSE;
    }
  if (status != 0 || request->lock.type == NF_LOCK_NONE)
    finish (claims, request, status, due);
  else
    {
      given (claims, request, seq);
      finish_arrived (claims, due);
    }
  return TRUE;
}

static void answered (gpointer data, int status, const NfMsg *answer);

/* Asks the primary (once more). Without the lock. */
static void
ask (NfClaims *claims, NfClaim *request, guint64 *ret_id)
{
  NfMsg call = { .type = NF_MSG_LOCK };

  call.head.pid = request->lock.pid;
  call.lock.fid = request->lock.fid;
  call.lock.owner = request->lock.owner;
  call.lock.kind = (guint8)request->lock.kind;
  call.lock.type = (guint8)request->lock.type;
  call.lock.how = request->how;
  call.lock.start = request->lock.start;
  call.lock.end = request->lock.end;
  /* What is given back isn't interrupted. */
  nf_forward_call (claims->share->forward, request->file, &call, answered, request,
                   request->lock.type == NF_LOCK_NONE ? NULL : ret_id);
}

/* Here if it can be, else by the primary. Without the lock. */
static void
decide (NfClaims *claims, NfClaim *request, guint64 *ret_id)
{
  GArray *due = nf_claims_due_new ();
  g_auto (NfBuf) buf = NF_BUF_INIT;
  NfMsg back = { 0 };

  pthread_mutex_lock (&claims->lock);
  gboolean decided = decide_here (claims, request, &buf, &back, due);
  pthread_mutex_unlock (&claims->lock);
  if (back.type != 0)
    send_return (claims, &back);
  if (!decided)
    ask (claims, request, ret_id);
  nf_claims_run_due (claims, due);
}

static void
take_alone (NfClaims *claims, NfFid fid, guint64 seq)
{
  NfClaimsAlone alone = { seq, FALSE };

  g_hash_table_insert (claims->alone, g_memdup2 (&fid, sizeof fid),
                       g_memdup2 (&alone, sizeof alone));
}

/* ---- answers of the primary's ---- */

/* FALSE: it is to be decided here. */
static gboolean
take_answer (NfClaims *claims, NfClaim *request, int status, const NfMsg *answer, GArray *due)
{
  if (status == 0 && answer->answer.value == NF_LOCK_YOURS)
    return FALSE;
  if (request->lock.type == NF_LOCK_NONE)
    {
      /* Even if it couldn't be said: with the next link it isn't among what this site has. */
      note (claims, &request->lock);
      finish (claims, request, 0, due);
    }
  else if (status != 0)
    finish (claims, request, status, due);
  else if (answer->answer.value == NF_LOCK_WAITS)
    {
      request->state = NF_CLAIM_WAITING;
      if (claims->up && g_hash_table_contains (claims->cancelled, &request->known_id))
        send_cancel (claims, request->lock.id);
    }
  else
    {
      if (answer->answer.value == NF_LOCK_GIVEN_ALL)
        take_alone (claims, request->lock.fid, answer->answer.seq);
      given (claims, request, answer->answer.seq);
    }
  return TRUE;
}

static void
answered (gpointer data, int status, const NfMsg *answer)
{
  NfClaim *request = data;
  NfClaims *claims = request->claims;
  GArray *due = nf_claims_due_new ();

  pthread_mutex_lock (&claims->lock);
  request->lock.id = answer->answer.reqid;
  if (request->known_id == 0)
    request->known_id = request->lock.id;
  gboolean taken = take_answer (claims, request, status, answer, due);
  finish_arrived (claims, due);
  pthread_mutex_unlock (&claims->lock);
  if (!taken)
    decide (claims, request, NULL);
  nf_claims_run_due (claims, due);
}

static NfClaim *
request_new (NfClaims *claims, NfFile *file, const NfMsg *call, NfCallDone done, gpointer data)
{
  NfClaim *request = g_new0 (NfClaim, 1);

  request->claims = claims;
  request->file = file;
  request->done = done;
  request->data = data;
  request->how = call->lock.how;
  request->lock = (NfLock){ .fid = call->lock.fid,
                            .kind = call->lock.kind,
                            .type = call->lock.type,
                            .start = call->lock.kind == NF_LOCK_FLOCK ? 0 : call->lock.start,
                            .end = call->lock.kind == NF_LOCK_FLOCK ? G_MAXINT64 : call->lock.end,
                            .owner = call->lock.owner,
                            .pid = call->head.pid };
  return request;
}

/* FALSE: the primary has to be asked. */
static gboolean
test_here (NfClaims *claims, const NfLock *lock, NfBuf *buf)
{
  NfLock holder;

  pthread_mutex_lock (&claims->lock);
  const NfClaimsAlone *alone = g_hash_table_lookup (claims->alone, &lock->fid);
  gboolean here = alone && !alone->returning;
  if (here && nf_lock_table_test (claims->held, lock, &holder))
    nf_lock_encode (&holder, buf);
  pthread_mutex_unlock (&claims->lock);
  return here;
}

static void
test (NfClaims *claims, NfFile *file, const NfMsg *call, NfCallDone done, gpointer data,
      guint64 *ret_id)
{
  g_auto (NfBuf) buf = NF_BUF_INIT;
  NfMsg answer = { .type = NF_MSG_ANSWER };
  g_autofree NfClaim *request = request_new (claims, file, call, done, data);

  if (!test_here (claims, &request->lock, &buf))
    {
      nf_forward_call (claims->share->forward, file, call, done, data, ret_id);
      return;
    }
  answer.answer.data = nf_slice (buf.data, buf.len);
  done (data, 0, &answer);
}

void
nf_claims_call (NfClaims *claims, NfFile *file, const NfMsg *call, NfCallDone done, gpointer data,
                guint64 *ret_id)
{
  if (call->lock.how == NF_LOCK_TEST)
    {
      test (claims, file, call, done, data, ret_id);
      return;
    }
  NfClaim *request = request_new (claims, file, call, done, data);
  pthread_mutex_lock (&claims->lock);
  g_ptr_array_add (claims->requests, request);
  pthread_mutex_unlock (&claims->lock);
  decide (claims, request, ret_id);
}

/* BY_CALLER: ID is that by which its caller knows it, not that of the last call. */
static NfClaim *
find_waiting (NfClaims *claims, guint64 id, gboolean by_caller)
{
  for (guint i = 0; i < claims->requests->len; i++)
    {
      NfClaim *request = claims->requests->pdata[i];
      if (request->state == NF_CLAIM_WAITING
          && (by_caller ? request->known_id : request->lock.id) == id)
        return request;
    }
  return NULL;
}

/* Whether the lock was given meanwhile is for the primary to say: it does so at once. */
void
nf_claims_interrupt (NfClaims *claims, guint64 id)
{
  GArray *due = nf_claims_due_new ();

  pthread_mutex_lock (&claims->lock);
  NfClaim *request = find_waiting (claims, id, TRUE);
  if (request && !claims->up)
    finish (claims, request, -EINTR, due);
  else if (claims->requests->len > 0) /* ID may be that of one whose answer is just coming in */
    {
      g_hash_table_add (claims->cancelled, g_memdup2 (&id, sizeof id));
      if (claims->up)
        send_cancel (claims, request ? request->lock.id : id);
    }
  pthread_mutex_unlock (&claims->lock);
  nf_claims_run_due (claims, due);
}

/* ---- what the primary says of itself ---- */

static void
take_granted (NfClaims *claims, const NfMsg *msg, GArray *due)
{
  NfClaim *request = find_waiting (claims, msg->granted.reqid, FALSE);
  int status = -nf_status_to_errno (msg->granted.status);

  if (!request)
    return; /* of another life, or sent twice */
  if (status != 0)
    finish (claims, request, status, due);
  else
    given (claims, request, msg->granted.seq);
  finish_arrived (claims, due);
}

/* Nothing of this session's is ours any more. */
void
nf_claims_lose_all (NfClaims *claims, GArray *due)
{
  NfHost *host = claims->share->host;

  nf_lock_table_clear_site (claims->held, NULL, FALSE);
  g_hash_table_remove_all (claims->alone);
  claims->session++;
  for (guint i = 0; i < claims->through->len; i++)
    {
      NfFile *file = g_array_index (claims->through, NfClaimsThrough, i).file;
      const NfInval inval = { .kind = NF_INVAL_DATA, .fid = file->fid };
      g_atomic_int_set (&file->lost, TRUE);
      host->invalidate (host->data, claims->share, &inval);
    }
  g_array_set_size (claims->through, 0);
  for (guint i = claims->requests->len; i > 0; i--)
    {
      NfClaim *request = claims->requests->pdata[i - 1];
      if (request->state != NF_CLAIM_ASKED) /* those are answered by the forwarder */
        finish (claims, request, request->state == NF_CLAIM_WAITING ? -EHOSTUNREACH : -EIO, due);
    }
}

void
nf_claims_message (NfClaims *claims, const NfMsg *msg)
{
  GArray *due = nf_claims_due_new ();
  g_auto (NfBuf) buf = NF_BUF_INIT;
  NfMsg back = { 0 };

  pthread_mutex_lock (&claims->lock);
  if (msg->type == NF_MSG_RECALL)
    (void)begin_return (claims, msg->recall.fid, &buf, &back);
  else if (msg->type == NF_MSG_GRANTED)
    take_granted (claims, msg, due);
  else if (msg->lost.session == claims->session)
    nf_claims_lose_all (claims, due);
  pthread_mutex_unlock (&claims->lock);
  if (back.type != 0)
    send_return (claims, &back);
  nf_claims_run_due (claims, due);
}

/* ---- the replica ---- */

typedef struct
{
  NfClaims *claims;
  GArray *due;
} Job;

static void
answer_arrived (gpointer data)
{
  Job *job = data;

  nf_claims_run_due (job->claims, job->due);
  nf_claims_unref (job->claims);
  g_free (job);
}

void
nf_claims_check (NfClaims *claims)
{
  NfHost *host = claims->share->host;

  if (g_atomic_int_get (&claims->n_arriving) == 0)
    return;
  GArray *due = nf_claims_due_new ();
  pthread_mutex_lock (&claims->lock);
  if (!claims->stopped)
    finish_arrived (claims, due);
  pthread_mutex_unlock (&claims->lock);
  if (due->len == 0)
    {
      g_array_unref (due);
      return;
    }
  Job job = { claims, due };
  g_atomic_int_inc (&claims->refs);
  host->post (host->data, answer_arrived, g_memdup2 (&job, sizeof job));
}

void
nf_claims_told (NfClaims *claims)
{
  nf_told_run (claims->told);
}

/* ---- the whole ---- */

NfClaims *
nf_claims_new (NfShare *share)
{
  NfClaims *claims = g_new0 (NfClaims, 1);
  NfHost *host = share->host;

  claims->share = share;
  claims->refs = 1;
  claims->told = nf_told_new (share);
  pthread_mutex_init (&claims->lock, NULL);
  claims->held = nf_lock_table_new ();
  claims->requests = g_ptr_array_new ();
  claims->alone = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, g_free);
  claims->cancelled = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
  claims->through = g_array_new (FALSE, FALSE, sizeof (NfClaimsThrough));
  /* Another one than any life before, and never 0. */
  claims->session = (guint64)host->realtime_ns (host->data) / 1000000000 << 32
                    | (host->random (host->data) | 1);
  return claims;
}

void
nf_claims_stop (NfClaims *claims)
{
  GArray *due = nf_claims_due_new ();

  pthread_mutex_lock (&claims->lock);
  claims->stopped = TRUE;
  claims->up = FALSE;
  nf_claims_lose_all (claims, due);
  pthread_mutex_unlock (&claims->lock);
  nf_claims_run_due (claims, due);
}

void
nf_claims_free (NfClaims *claims)
{
  nf_claims_unref (claims);
}
