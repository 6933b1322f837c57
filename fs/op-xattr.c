// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/request.h"

#include <errno.h>
#include <string.h>

/* Extended attributes, ACLs among them (system.posix_acl_access and _default). SIZE 0 asks how much
 * there is. */

static void
reply_xattr (NfRequest *request, int status, const NfMsg *answer)
{
  NfSlice data = status == 0 ? answer->answer.data : NF_SLICE_NONE;

  if (status == 0 && request->size > 0 && data.len > request->size)
    status = -ERANGE;
  if (status != 0 || request->size > 0)
    {
      nf_reply_data (request, status, data);
      return;
    }
  (void)fuse_reply_xattr (request->req, data.len);
  nf_request_end (request);
}

static void
op_getxattr (fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
  NfMsg call;
  NfRequest *request = nf_request_begin_file (req, ino, NULL, NF_MSG_GETXATTR, ENODATA, &call);

  if (!request)
    return;
  request->size = size;
  call.getxattr.fid = request->fid;
  call.getxattr.name = nf_slice_str (name);
  nf_request_call (request, &call, reply_xattr);
}

static void
reply_nothing (fuse_req_t req, size_t size)
{
  if (size == 0)
    (void)fuse_reply_xattr (req, 0);
  else
    (void)fuse_reply_buf (req, NULL, 0);
}

static void
op_listxattr (fuse_req_t req, fuse_ino_t ino, size_t size)
{
  NfMount *mount = fuse_req_userdata (req);
  NfMsg call;

  if (nf_namespace_is_dir (mount, nf_mount_node (mount, ino)))
    {
      reply_nothing (req, size);
      return;
    }
  NfRequest *request = nf_request_begin_file (req, ino, NULL, NF_MSG_LISTXATTR, ESTALE, &call);
  if (!request)
    return;
  request->size = size;
  call.listxattr.fid = request->fid;
  nf_request_call (request, &call, reply_xattr);
}

static void
op_setxattr (fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size,
             int flags)
{
  NfMsg call;
  NfRequest *request = nf_request_begin_file (req, ino, NULL, NF_MSG_SETXATTR, EPERM, &call);

  if (!request)
    return;
  if (size > NF_XATTR_MAX)
    {
      nf_reply_status (request, -E2BIG);
      return;
    }
  call.setxattr.fid = request->fid;
  call.setxattr.name = nf_slice_str (name);
  call.setxattr.value = nf_slice (value, size);
  call.setxattr.flags = (guint32)flags;
  nf_request_call (request, &call, nf_reply_done);
}

static void
op_removexattr (fuse_req_t req, fuse_ino_t ino, const char *name)
{
  NfMsg call;
  NfRequest *request = nf_request_begin_file (req, ino, NULL, NF_MSG_REMOVEXATTR, EPERM, &call);

  if (!request)
    return;
  call.removexattr.fid = request->fid;
  call.removexattr.name = nf_slice_str (name);
  nf_request_call (request, &call, nf_reply_done);
}

void
nf_op_xattr_init (struct fuse_lowlevel_ops *ops)
{
  ops->getxattr = op_getxattr;
  ops->listxattr = op_listxattr;
  ops->setxattr = op_setxattr;
  ops->removexattr = op_removexattr;
}
