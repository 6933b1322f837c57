// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/request.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Content. */

/* Where a page cache of the kernel's reads into. */
#define BUFFER_ALIGNMENT 4096
/* What a copy may do before it is answered; the caller asks for the rest. */
#define COPY_MAX (64 * 1024 * 1024)

/* A buffer of NF_DATA_MAX for this worker, kept: mapping a fresh one takes longer than reading into
 * it. */
static GPrivate read_buffer = G_PRIVATE_INIT (free);

static void *
thread_buffer (void)
{
  void *buffer = g_private_get (&read_buffer);

  if (buffer)
    return buffer;
  if (posix_memalign (&buffer, BUFFER_ALIGNMENT, NF_DATA_MAX) != 0)
    return NULL;
  g_private_set (&read_buffer, buffer);
  return buffer;
}

/* FALSE: it can't be read right here. */
static gboolean
read_here (NfRequest *request, gsize size, off_t offset)
{
  void *buffer = size <= NF_DATA_MAX ? thread_buffer () : NULL;
  gssize n = buffer ? nf_file_read (request->handle->file, buffer, size, (guint64)offset) : -EAGAIN;

  if (n == -EAGAIN)
    return FALSE;
  nf_reply_data (request, n < 0 ? (int)n : 0, nf_slice (buffer, n < 0 ? 0 : (gsize)n));
  return TRUE;
}

static void
reply_read (NfRequest *request, int status, const NfMsg *answer)
{
  nf_reply_data (request, status, status == 0 ? answer->answer.data : NF_SLICE_NONE);
}

static void
op_read (fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
  NfMsg call;
  NfRequest *request = nf_request_begin_file (req, ino, fi, NF_MSG_READ, EISDIR, &call);

  if (!request)
    return;
  nf_pass_count_read (request->mount->pass);
  if (request->handle->file && read_here (request, size, offset))
    return;
  call.read.fid = request->fid;
  call.read.offset = (guint64)offset;
  call.read.size = (guint32)MIN (size, NF_DATA_MAX);
  nf_request_call (request, &call, reply_read);
}

/* ---- writing ---- */

/* The kernel put the data where it took the end of the file to be; if others have appended, the
 * primary put it elsewhere, and the page cache is wrong in both volumes. */
static void
check_appended (NfRequest *request, const NfMsg *answer)
{
  guint64 end = answer->answer.attr.size;
  guint64 start = end - MIN (end, answer->answer.value);
  NfInval inval = { .kind = NF_INVAL_DATA, .fid = request->fid };

  if (end == 0 || start == request->offset)
    return;
  inval.offset = MIN (start, request->offset);
  nf_invals_queue (request->mount->invals, request->volume, &inval);
}

static void
reply_synced (NfRequest *request, int status, const NfMsg *answer)
{
  (void)answer;
  if (status != 0)
    {
      nf_reply_status (request, status);
      return;
    }
  (void)fuse_reply_write (request->req, request->size);
  nf_request_end (request);
}

static void
reply_write (NfRequest *request, int status, const NfMsg *answer)
{
  int flags = request->handle->flags;

  if (status != 0)
    {
      nf_reply_status (request, status);
      return;
    }
  request->size = answer->answer.value;
  if (flags & O_APPEND)
    check_appended (request, answer);
  if (flags & O_DSYNC) /* part of O_SYNC */
    nf_request_flush (request, TRUE, (flags & O_SYNC) != O_SYNC, reply_synced);
  else
    reply_synced (request, 0, NULL);
}

static void
op_write (fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset,
          struct fuse_file_info *fi)
{
  NfMsg call;
  NfRequest *request = nf_request_begin_file (req, ino, fi, NF_MSG_WRITE, EISDIR, &call);

  if (!request)
    return;
  request->offset = (guint64)offset;
  call.write.fid = request->fid;
  call.write.offset = (guint64)offset;
  call.write.data = nf_slice (data, size);
  /* What the kernel writes back of a mapping belongs where it lies, and to no caller. */
  if (fi->writepage)
    call.write.flags |= NF_WRITE_OF_MAPPING;
  if (!fi->writepage && (request->handle->flags & O_APPEND))
    call.write.flags |= NF_WRITE_APPEND;
  if (!fi->writepage && fuse_req_ctx (req)->uid != 0)
    {
      call.write.flags |= NF_WRITE_KILL_PRIV;
      /* Whether the setgid bit stays depends on them, if the group may not execute it. */
      if (g_atomic_int_get (&request->node->mode) & S_ISGID)
        nf_request_add_groups (req, &call.head);
    }
  nf_request_call (request, &call, reply_write);
}

/* ---- the rest ---- */

static void
op_fallocate (fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
              struct fuse_file_info *fi)
{
  NfMsg call;
  NfRequest *request = nf_request_begin_file (req, ino, fi, NF_MSG_FALLOCATE, EISDIR, &call);

  if (!request)
    return;
  call.fallocate.fid = request->fid;
  call.fallocate.mode = (guint32)mode;
  call.fallocate.offset = (guint64)offset;
  call.fallocate.length = (guint64)length;
  nf_request_call (request, &call, nf_reply_done);
}

static void
reply_lseek (NfRequest *request, int status, const NfMsg *answer)
{
  if (status != 0)
    {
      nf_reply_status (request, status);
      return;
    }
  (void)fuse_reply_lseek (request->req, (off_t)answer->answer.value);
  nf_request_end (request);
}

static void
op_lseek (fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, struct fuse_file_info *fi)
{
  NfMsg call;
  NfRequest *request = nf_request_begin_file (req, ino, fi, NF_MSG_LSEEK, EINVAL, &call);

  if (!request)
    return;
  if (whence != SEEK_DATA && whence != SEEK_HOLE)
    {
      nf_reply_status (request, -EINVAL); /* the kernel does the others itself */
      return;
    }
  call.lseek.fid = request->fid;
  call.lseek.offset = (guint64)offset;
  call.lseek.whence = (guint32)whence;
  nf_request_call (request, &call, reply_lseek);
}

static void
reply_copy (NfRequest *request, int status, const NfMsg *answer)
{
  if (status == 0)
    request->size = answer->answer.value;
  /* The source is open here for reading only, and another site has taken its name: the primary doesn't have it any more. */
  if (status == -ESTALE)
    status = -EXDEV; /* whereupon the kernel copies itself */
  reply_synced (request, status, NULL);
}

static void
op_copy_file_range (fuse_req_t req, fuse_ino_t from, off_t from_offset,
                    struct fuse_file_info *from_fi, fuse_ino_t ino, off_t offset,
                    struct fuse_file_info *fi, size_t length, int flags)
{
  NfMsg call;
  NfFid from_fid = NF_FID_NONE;
  NfRequest *request = nf_request_begin_file (req, ino, fi, NF_MSG_COPY, EISDIR, &call);

  (void)from_fi;
  if (!request)
    return;
  int err = flags != 0 ? -EINVAL : !nf_request_same_share (request, from, &from_fid) ? -EXDEV : 0;
  if (err != 0)
    {
      nf_reply_status (request, err); /* after EXDEV the kernel copies itself */
      return;
    }
  call.copy.from = from_fid;
  call.copy.from_offset = (guint64)from_offset;
  call.copy.fid = request->fid;
  call.copy.offset = (guint64)offset;
  call.copy.length = MIN (length, COPY_MAX);
  nf_request_call (request, &call, reply_copy);
}

void
nf_op_file_init (struct fuse_lowlevel_ops *ops)
{
  ops->read = op_read;
  ops->write = op_write;
  ops->fallocate = op_fallocate;
  ops->lseek = op_lseek;
  ops->copy_file_range = op_copy_file_range;
}
