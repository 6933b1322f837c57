// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/request.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>

#include "sync/lock-wire.h"

/* fcntl(2)'s and flock(2)'s locks. The kernel tells us of each, but not of the unlocks that a close(2) brings:
 *
 * - A process' ranges on a file go when it closes any descriptor of it: FLUSH has the process as lock owner.
 * - An open file description's locks (flock's, and F_OFD_SETLK's, which look like a process' ranges) go with it: RELEASE.
 *
 * So a handle remembers who has asked for locks through it, and what FLUSH hasn't taken off that list goes with RELEASE.
 *
 * Who waits is answered when the lock is his, or when he is interrupted; no thread waits with him. Directories' locks are
 * the local kernel's, which doesn't tell us of them. */

static void
fill_range (NfMsg *call, guint64 owner, const struct flock *range)
{
  /* Who is told of as the holder. The request itself names the thread. */
  if (range->l_pid != 0)
    call->head.pid = (guint32)range->l_pid;
  call->lock.kind = NF_LOCK_RANGE;
  call->lock.owner = owner;
  call->lock.type = range->l_type == F_RDLCK   ? NF_LOCK_READ
                    : range->l_type == F_WRLCK ? NF_LOCK_WRITE
                                               : NF_LOCK_NONE;
  call->lock.start = (guint64)range->l_start;
  call->lock.end = range->l_len == 0 ? G_MAXINT64 : (guint64)(range->l_start + range->l_len - 1);
}

static NfRequest *
begin (fuse_req_t req, fuse_ino_t ino, const struct fuse_file_info *fi, NfMsg *ret_call)
{
  NfRequest *request = nf_request_begin_file (req, ino, fi, NF_MSG_LOCK, ENOLCK, ret_call);

  if (request)
    ret_call->lock.fid = request->fid;
  return request;
}

static void
op_setlk (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *range, int wait)
{
  NfMsg call;
  NfRequest *request = begin (req, ino, fi, &call);

  if (!request)
    return;
  fill_range (&call, fi->lock_owner, range);
  call.lock.how = wait ? NF_LOCK_WAIT : NF_LOCK_TRY;
  if (wait)
    nf_request_restarts (request);
  if (call.lock.type != NF_LOCK_NONE)
    nf_handle_add_owner (request->handle, NF_LOCK_RANGE, fi->lock_owner);
  nf_request_call (request, &call, nf_reply_done);
}

static void
op_flock (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, int op)
{
  NfMsg call;
  NfRequest *request = begin (req, ino, fi, &call);

  if (!request)
    return;
  call.lock.kind = NF_LOCK_FLOCK;
  call.lock.owner = fi->lock_owner;
  call.lock.type = (op & LOCK_UN) ? NF_LOCK_NONE : (op & LOCK_EX) ? NF_LOCK_WRITE : NF_LOCK_READ;
  call.lock.end = G_MAXINT64;
  call.lock.how = (op & LOCK_NB) ? NF_LOCK_TRY : NF_LOCK_WAIT;
  if (call.lock.how == NF_LOCK_WAIT)
    nf_request_restarts (request);
  if (call.lock.type != NF_LOCK_NONE)
    nf_handle_add_owner (request->handle, NF_LOCK_FLOCK, fi->lock_owner);
  nf_request_call (request, &call, nf_reply_done);
}

static void
reply_holder (NfRequest *request, int status, const NfMsg *answer)
{
  struct flock range = { .l_type = F_UNLCK, .l_whence = SEEK_SET };
  NfLock holder;

  if (status != 0)
    {
      nf_reply_status (request, status);
      return;
    }
  NfReader reader = nf_reader (answer->answer.data);
  if (nf_lock_decode (&reader, &holder))
    {
      range.l_type = holder.type == NF_LOCK_WRITE ? F_WRLCK : F_RDLCK;
      range.l_start = (off_t)holder.start;
      range.l_len = holder.end == G_MAXINT64 ? 0 : (off_t)(holder.end - holder.start + 1);
      range.l_pid = (pid_t)holder.pid;
    }
  (void)fuse_reply_lock (request->req, &range);
  nf_request_end (request);
}

static void
op_getlk (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *range)
{
  NfMsg call;
  NfRequest *request = begin (req, ino, fi, &call);

  if (!request)
    return;
  fill_range (&call, fi->lock_owner, range);
  call.lock.how = NF_LOCK_TEST;
  nf_request_call (request, &call, reply_holder);
}

void
nf_op_lock_init (struct fuse_lowlevel_ops *ops)
{
  ops->getlk = op_getlk;
  ops->setlk = op_setlk;
  ops->flock = op_flock;
}
