// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/open-mode.h"
#include "fs/request.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

/* Opening and closing. */

/* The share's file is there: make it a handle of NODE's. An inode whose backing object was replaced
 * while this was going on must not lend its page cache to the new one: -ESTALE makes the kernel
 * look the name up again, and the next lookup makes a new node. (So it does where the handles that
 * are open stand in the way; then an old node still takes handles of their kind.) */
static int
adopt_file (NfRequest *request, NfNode *node, NfFile *file, gboolean by_create)
{
  NfMount *mount = request->mount;
  int fd = nf_file_read_fd (file, 0, 0);
  gboolean sure = FALSE;
  struct stat st;

  if (fd >= 0 && fstat (fd, &st) == 0)
    {
      sure = nf_nodes_is_backing (mount->nodes, node, st.st_ino);
      if (!sure)
        nf_nodes_detach (mount->nodes, node);
    }
  NfHandle *handle = nf_handle_new (node, mount->pass, file, request->fi.flags);
  int status = nf_open_mode_choose (mount, handle, by_create, sure);
  /* Who detaches it looks for handles afterwards. */
  if (status == 0 && g_atomic_int_get (&node->detached) && !(sure && nf_open_mode_passes (handle)))
    status = -ESTALE;
  if (status != 0)
    {
      nf_handle_drop (handle);
      return status;
    }
  request->fi.fh = GPOINTER_TO_SIZE (handle);
  request->fi.keep_cache = 1;
  request->fi.direct_io = handle->mode == NF_OPEN_DIRECT || handle->mode == NF_OPEN_PASS_DIRECT;
  return 0;
}

static void
drop_handle (const NfRequest *request)
{
  nf_handle_drop (GSIZE_TO_POINTER (request->fi.fh));
}

static int
send_open (NfRequest *request)
{
  const NfHandle *handle = GSIZE_TO_POINTER (request->fi.fh);

  /* The number stays as long as there is this handle. */
  return nf_open_mode_passes (handle)
             ? nf_pass_reply_open (request->req, &request->fi, handle->node->passed_to)
             : fuse_reply_open (request->req, &request->fi);
}

static void
reply_open (gpointer data, int status, NfFile *file)
{
  NfRequest *request = data;

  if (status == 0)
    status = adopt_file (request, request->node, file, FALSE);
  if (status != 0)
    {
      nf_reply_status (request, status);
      return;
    }
  if (send_open (request) == -ENOENT)
    drop_handle (request);
  nf_request_end (request);
}

static void
open_file (NfRequest *request, int status, const NfMsg *answer)
{
  (void)answer;
  if (status != 0)
    nf_reply_status (request, status);
  else
    nf_share_open_file (request->volume->share, request->fid, request->fi.flags & O_ACCMODE, FALSE,
                        reply_open, request);
}

static void
op_open (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
  NfMsg call;
  NfRequest *request = nf_request_begin (req, ino, NF_MSG_SETATTR, EISDIR, &call);

  if (!request)
    return;
  request->fi = *fi;
  if (g_atomic_int_get (&request->node->detached)
      && !g_atomic_pointer_get (&request->node->handles))
    {
      nf_reply_status (request, -ESTALE);
      return;
    }
  if (!(fi->flags & O_TRUNC))
    {
      open_file (request, 0, NULL);
      return;
    }
  call.setattr.fid = request->fid;
  call.setattr.mask = NF_SET_SIZE | (fuse_req_ctx (req)->uid != 0 ? NF_SET_KILL_PRIV : 0);
  nf_request_call (request, &call, open_file);
}

static void
reply_create (gpointer data, int status, NfFile *file)
{
  NfRequest *request = data;
  struct fuse_entry_param entry;
  NfNode *node = NULL;

  if (status == 0)
    {
      nf_reply_fill_entry (request, &request->attr, &entry, &node);
      status = adopt_file (request, node, file, TRUE);
    }
  if (status != 0)
    {
      if (node)
        nf_reply_drop_entry (request, node);
      nf_reply_status (request, status);
      return;
    }
  if (fuse_reply_create (request->req, &entry, &request->fi) == -ENOENT)
    {
      drop_handle (request);
      nf_reply_drop_entry (request, node);
    }
  nf_request_end (request);
}

static void
open_created (NfRequest *request, int status, const NfMsg *answer)
{
  if (status != 0)
    {
      nf_reply_status (request, status);
      return;
    }
  request->attr = answer->answer.attr;
  nf_share_open_file (request->volume->share, request->attr.fid, request->fi.flags & O_ACCMODE,
                      TRUE, reply_create, request);
}

static void
op_create (fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
           struct fuse_file_info *fi)
{
  NfMsg call;
  NfRequest *request = nf_request_begin (req, parent, NF_MSG_CREATE, EPERM, &call);

  if (!request)
    return;
  if (strlen (name) > NF_NAME_LEN_MAX
      || (request->fid == NF_FID_ROOT && strcmp (name, NF_HIDDEN_DIR) == 0))
    {
      nf_reply_status (request, strlen (name) > NF_NAME_LEN_MAX ? -ENAMETOOLONG : -EPERM);
      return;
    }
  request->fi = *fi;
  call.create.parent = request->fid;
  call.create.name = nf_slice_str (name);
  call.create.mode = mode;
  if (fi->flags & O_EXCL)
    call.create.flags |= NF_CREATE_EXCL;
  if (fi->flags & O_TRUNC)
    call.create.flags |= NF_CREATE_TRUNC;
  if ((fi->flags & O_ACCMODE) != O_RDONLY)
    call.create.flags |= NF_CREATE_HOLD;
  nf_request_call (request, &call, open_created);
}

static void
op_release (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
  (void)ino;
  nf_handle_release (GSIZE_TO_POINTER (fi->fh));
  (void)fuse_reply_err (req, 0); /* nobody waits for it */
}

static void
collect_writes (NfRequest *request, int status, const NfMsg *answer)
{
  (void)status, (void)answer; /* of the unlock: it can't fail */
  if (nf_handle_writable (request->handle))
    nf_request_flush (request, FALSE, FALSE, nf_reply_done);
  else
    nf_reply_status (request, 0);
}

/* close(2): takes a process' locks, and says what became of writes that were told to be done before they were. */
static void
op_flush (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
  NfMsg call;
  const NfHandle *handle = GSIZE_TO_POINTER (fi->fh);

  if (!nf_handle_writable (handle) && !g_atomic_int_get (&handle->node->volume->locks))
    {
      (void)fuse_reply_err (req, 0);
      return;
    }
  NfRequest *request = nf_request_begin_file (req, ino, fi, NF_MSG_LOCK, EIO, &call);
  if (request && nf_handle_closed_by (request->handle, fi->lock_owner, &call))
    nf_request_call (request, &call, collect_writes);
  else if (request)
    collect_writes (request, 0, NULL);
}

static void
op_fsync (fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
  NfMsg call;
  NfRequest *request = nf_request_begin_file (req, ino, fi, NF_MSG_FSYNC, EIO, &call);

  if (request)
    nf_request_flush (request, TRUE, datasync != 0, nf_reply_done);
}

void
nf_op_open_init (struct fuse_lowlevel_ops *ops)
{
  ops->open = op_open;
  ops->create = op_create;
  ops->release = op_release;
  ops->flush = op_flush;
  ops->fsync = op_fsync;
}
