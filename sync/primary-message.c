// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/primary-internal.h"

#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

/* What other sites send. A site's messages of one connection come one after the other, and so its calls are carried
 * out in the order in which it sent them; only what waits for the disk and changes nothing goes aside. */

/* Answers with more data than this go by the bulk connection. */
#define SMALL_ANSWER (64 * 1024)
/* The journal is trimmed every so many ops. */
#define TRIM_OPS 4096

/* A call that isn't answered on the strand. */
typedef struct
{
  NfLife *life;
  char *site;
  guint64 reqid;
  NfMsg *call;
} Later;

static void
send_answer (NfPrimary *primary, const char *site, guint64 reqid, int status, NfMsg *answer)
{
  NfShare *share = primary->share;
  NfHost *host = share->host;

  if (reqid == 0)
    return;
  answer->type = NF_MSG_ANSWER;
  answer->answer.share = share->conf.id;
  answer->answer.reqid = reqid;
  answer->answer.status = nf_status_from_errno (status);
  gboolean bulk = answer->answer.data.len > SMALL_ANSWER;
  (void)host->send (host->data, site, bulk, answer); /* with no link it is asked for again */
  nf_host_point (host, "primary-answered");
}

/* ---- calls aside ---- */

static void
later_free (Later *later)
{
  nf_life_unref (later->life);
  g_free (later->site);
  if (later->call)
    nf_msg_free (later->call);
  g_free (later);
}

static Later *
later_new (NfPrimary *primary, const char *site, const NfMsg *call)
{
  Later *later = g_new (Later, 1);

  *later = (Later){ nf_life_ref (primary->life), g_strdup (site), call->head.reqid, NULL };
  return later;
}

static void
carry_out_later (gpointer data)
{
  Later *later = data;
  NfPrimary *primary = nf_life_enter (later->life);

  if (primary)
    {
      g_auto (NfMsg) answer = { 0 };
      int status = nf_primary_execute (primary, later->site, NULL, later->call, &later->call->head,
                                       &answer);
      send_answer (primary, later->site, later->reqid, status, &answer);
      nf_life_leave (later->life);
    }
  later_free (later);
}

static void
put_aside (NfPrimary *primary, const char *site, const NfMsg *call)
{
  NfHost *host = primary->share->host;
  Later *later = later_new (primary, site, call);

  later->call = nf_msg_dup (call);
  host->post (host->data, carry_out_later, later);
}

static void
waited (gpointer data, int status, const NfMsg *answer)
{
  Later *later = data;
  NfPrimary *primary = nf_life_enter (later->life);
  NfMsg copy = *answer;

  if (primary)
    {
      send_answer (primary, later->site, later->reqid, status, &copy);
      nf_life_leave (later->life);
    }
  later_free (later);
}

static void
take_wait (NfPrimary *primary, const char *site, const NfMsg *call)
{
  guint64 seq = MIN (call->wait.seq, nf_order_watermark (primary->order));

  /* 0: all that is done now. */
  if (call->wait.seq == 0)
    seq = nf_order_watermark (primary->order);
  nf_waits_add (primary->waits, seq, call->wait.sites, 0, site, call->head.reqid, waited,
                later_new (primary, site, call));
}

/* A read of what lies in the page cache is answered at once. FALSE: it may wait for the disk. */
static gboolean
read_now (NfPrimary *primary, const char *site, const NfMsg *call)
{
  NfShare *share = primary->share;
  gsize size = MIN (call->read.size, NF_DATA_MAX);
  int fd = nf_opens_fd (share->opens, call->read.fid, FALSE);
  gboolean done = FALSE;
  struct stat st;

  if (fd < 0)
    fd = nf_tree_open_fid (share->tree, call->read.fid, O_RDONLY);
  if (fd < 0)
    return FALSE; /* the error is told by the other way */
  guint8 *buffer = g_malloc (size);
  struct iovec iov = { buffer, size };
  ssize_t got = -1;
  if (call->read.offset <= (guint64)G_MAXINT64 - size)
    got = preadv2 (fd, &iov, 1, (off_t)call->read.offset, RWF_NOWAIT);
  if (got == (ssize_t)size
      || (got >= 0 && fstat (fd, &st) == 0
          && call->read.offset + (guint64)got >= (guint64)st.st_size))
    {
      NfMsg answer = { 0 };
      answer.answer.data = nf_slice (buffer, (gsize)got);
      send_answer (primary, site, call->head.reqid, 0, &answer);
      done = TRUE;
    }
  g_free (buffer);
  close (fd);
  return done;
}

/* ---- calls ---- */

static void
answer_known (NfPrimary *primary, const char *site, guint64 reqid, const NfAnswer *known)
{
  NfMsg answer = { 0 };
  NfFid fid = known->attr.fid;

  answer.answer.seq = known->seq;
  answer.answer.value = known->value;
  answer.answer.attr = known->attr;
  /* What it was then isn't known; what it is now is as good, being later in the same order. */
  if (known->rebuilt && fid != NF_FID_NONE
      && nf_tree_stat (primary->share->tree, fid, &answer.answer.attr) != 0)
    answer.answer.attr = (NfAttr){ .fid = fid };
  send_answer (primary, site, reqid, known->status, &answer);
}

/* CALL as it was carried out in the last life: where the end of the file was then is known only by that. */
static NfMsg
as_before (const NfMsg *call, const NfAnswer *known)
{
  NfMsg again = *call;

  if (call->type == NF_MSG_WRITE)
    {
      again.write.offset = known->offset;
      again.write.flags &= ~(guint32)NF_WRITE_APPEND;
    }
  return again;
}

/* Carried out once, however often it is sent. */
static void
take_change (NfPrimary *primary, const char *site, const NfMsg *call, const NfCallHead *head)
{
  guint64 reqid = head->reqid;
  g_auto (NfMsg) answer = { 0 };
  NfAnswer known;
  NfMsg again;

  if (reqid != 0)
    switch (nf_answered_begin (primary->answered, site, reqid, head->acked, &known))
      {
      case NF_ANSWERED_KNOWN:
        if (!known.unsure)
          {
            answer_known (primary, site, reqid, &known);
            return;
          }
        again = as_before (call, &known);
        call = &again;
        break;
      case NF_ANSWERED_BUSY:
        return;
      case NF_ANSWERED_NEW:
        break;
      }
  int status = nf_primary_execute (primary, site, NULL, call, head, &answer);
  if (reqid != 0)
    {
      known = (NfAnswer){ .status = status,
                          .seq = answer.answer.seq,
                          .value = answer.answer.value,
                          .attr = answer.answer.attr };
      nf_answered_end (primary->answered, site, reqid, &known);
    }
  send_answer (primary, site, reqid, status, &answer);
}

static void
refuse (NfPrimary *primary, const char *site, const NfMsg *call, int status, guint64 value)
{
  NfMsg answer = { 0 };

  answer.answer.value = value;
  send_answer (primary, site, call->head.reqid, status, &answer);
}

static void
take_call (NfPrimary *primary, const char *site, const NfMsg *call)
{
  const NfShareConf *conf = &primary->share->conf;
  gboolean changes = (nf_msg_flags (call->type) & NF_MSG_CHANGES) != 0;
  NfCallHead head = call->head;
  g_auto (NfMsg) answer = { 0 };

  if (head.epoch != primary->epoch)
    {
      refuse (primary, site, call, -ESTALE, 1); /* value 1: the epoch, not the object */
      return;
    }
  if (changes && conf->may_write && !conf->may_write (conf->policy, site))
    {
      refuse (primary, site, call, -EROFS, 0);
      return;
    }
  /* Under a lock that the site had: others may have it by now. */
  if (head.session != 0 && changes
      && !(primary->grants && nf_grants_is_current (primary->grants, site, head.session)))
    {
      refuse (primary, site, call, -EIO, 0);
      return;
    }
  if ((call->type == NF_MSG_LOCK || call->type == NF_MSG_RETURN) && !primary->grants)
    {
      refuse (primary, site, call, -EHOSTUNREACH, 0);
      return;
    }
  if (conf->credentials)
    conf->credentials (conf->policy, site, &head);
  if (changes)
    take_change (primary, site, call, &head);
  else if (call->type == NF_MSG_WAIT)
    take_wait (primary, site, call);
  else if (call->type == NF_MSG_LOCK)
    nf_grants_take (primary->grants, site, call);
  else if (call->type == NF_MSG_RETURN)
    nf_grants_returned (primary->grants, site, call);
  else if (call->type == NF_MSG_FSYNC
           || (call->type == NF_MSG_READ && !read_now (primary, site, call)))
    put_aside (primary, site, call);
  else if (call->type != NF_MSG_READ)
    {
      int status = nf_primary_execute (primary, site, NULL, call, &head, &answer);
      send_answer (primary, site, head.reqid, status, &answer);
    }
}

/* ---- what a peer may name ---- */

/* The fids above the limit stand for the hidden directories, which are the daemon's alone (G7). */
static gboolean
is_fid (NfFid fid)
{
  return fid < NF_FID_LIMIT;
}

static gboolean
names_only_objects (const NfMsg *msg)
{
  switch (msg->type)
    {
#define CASE(NAME, condition) \
  case NF_MSG_##NAME:         \
    return condition
      CASE (FETCH, is_fid (msg->fetch.fid));
      CASE (LIST, is_fid (msg->list.fid));
      CASE (HASH, is_fid (msg->hash.fid));
      CASE (LOOKUP, is_fid (msg->lookup.parent));
      CASE (GETATTR, is_fid (msg->getattr.fid));
      CASE (READLINK, is_fid (msg->readlink.fid));
      CASE (READDIR, is_fid (msg->readdir.fid));
      CASE (READ, is_fid (msg->read.fid));
      CASE (GETXATTR, is_fid (msg->getxattr.fid));
      CASE (LISTXATTR, is_fid (msg->listxattr.fid));
      CASE (STATFS, is_fid (msg->statfs.fid));
      CASE (LSEEK, is_fid (msg->lseek.fid));
      CASE (CREATE, is_fid (msg->create.parent));
      CASE (MKDIR, is_fid (msg->mkdir.parent));
      CASE (MKNOD, is_fid (msg->mknod.parent));
      CASE (SYMLINK, is_fid (msg->symlink.parent));
      CASE (LINK, is_fid (msg->link.fid) && is_fid (msg->link.parent));
      CASE (UNLINK, is_fid (msg->unlink.parent));
      CASE (RMDIR, is_fid (msg->rmdir.parent));
      CASE (RENAME, is_fid (msg->rename.parent) && is_fid (msg->rename.newparent));
      CASE (SETATTR, is_fid (msg->setattr.fid));
      CASE (WRITE, is_fid (msg->write.fid));
      CASE (FALLOCATE, is_fid (msg->fallocate.fid));
      CASE (COPY, is_fid (msg->copy.from) && is_fid (msg->copy.fid));
      CASE (SETXATTR, is_fid (msg->setxattr.fid));
      CASE (REMOVEXATTR, is_fid (msg->removexattr.fid));
      CASE (FSYNC, is_fid (msg->fsync.fid));
      CASE (HOLD, is_fid (msg->hold.fid));
      CASE (LOCK, is_fid (msg->lock.fid));
      CASE (RETURN, is_fid (msg->returned.fid));
      CASE (DROP, is_fid (msg->drop.fid));
#undef CASE
    default:
      return TRUE;
    }
}

/* ---- positions ---- */

typedef struct
{
  guint64 seq;
} Least;

static void
take_least (const char *site, NfPosition position, guint64 lag_ops, gboolean connected,
            gpointer data)
{
  Least *least = data;

  (void)site, (void)lag_ops, (void)connected;
  least->seq = MIN (least->seq, position.seq);
}

/* A member that hasn't been heard of since the start counts as being at the very beginning; it is waited for until the
 * journal's limit. */
static void
trim (NfPrimary *primary)
{
  guint64 watermark = nf_order_watermark (primary->order);
  guint64 trimmed = __atomic_load_n (&primary->trimmed, __ATOMIC_RELAXED);
  Least least = { watermark };

  if (watermark < trimmed + TRIM_OPS)
    return;
  __atomic_store_n (&primary->trimmed, watermark, __ATOMIC_RELAXED);
  nf_primary_members (primary, take_least, &least);
  nf_journal_trim (primary->share->journal, least.seq);
  nf_broadcast_trimmed (primary->broadcast);
}

static void
take_position (NfPrimary *primary, const char *site, const NfMsg *msg)
{
  nf_broadcast_position (primary->broadcast, site, msg->position.position, msg->position.suspects);
  if (msg->position.position.epoch == primary->epoch)
    nf_primary_followed (primary);
  nf_waits_check (primary->waits);
  trim (primary);
}

void
nf_primary_message (NfPrimary *primary, const char *site, gboolean bulk, const NfMsg *msg)
{
  (void)bulk;
  if (!names_only_objects (msg))
    {
      if (nf_msg_flags (msg->type) & NF_MSG_CALL)
        refuse (primary, site, msg, -ESTALE, 0);
      return;
    }
  switch (msg->type)
    {
    case NF_MSG_SUBSCRIBE:
      nf_broadcast_subscribe (primary->broadcast, site, msg);
      nf_waits_check (primary->waits);
      return;
    case NF_MSG_POSITION:
      take_position (primary, site, msg);
      return;
    case NF_MSG_FETCH:
    case NF_MSG_LIST:
    case NF_MSG_HASH:
      nf_serve_request (primary->serve, site, msg);
      return;
    case NF_MSG_CANCEL:
      nf_waits_cancel (primary->waits, site, msg->cancel.reqid);
      if (primary->grants)
        nf_grants_cancel (primary->grants, site, msg->cancel.reqid);
      return;
    case NF_MSG_LOCKS:
      if (primary->grants)
        nf_grants_restore (primary->grants, site, msg);
      return;
    default:
      if (nf_msg_flags (msg->type) > 0 && (nf_msg_flags (msg->type) & NF_MSG_CALL))
        take_call (primary, site, msg);
      return;
    }
}

void
nf_primary_peer_up (NfPrimary *primary, const char *site)
{
  nf_broadcast_peer_up (primary->broadcast, site);
  nf_primary_holds_again (primary, site);
}

void
nf_primary_peer_down (NfPrimary *primary, const char *site)
{
  nf_broadcast_peer_down (primary->broadcast, site);
  nf_waits_drop (primary->waits, site);
  nf_serve_peer_down (primary->serve, site);
  if (primary->grants)
    nf_grants_peer_down (primary->grants, site);
}

void
nf_primary_drained (NfPrimary *primary, const char *site, gboolean bulk)
{
  if (bulk)
    nf_serve_drained (primary->serve, site);
  else
    nf_broadcast_pump (primary->broadcast, site);
}
