// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/request.h"

#include <errno.h>
#include <linux/fs.h>
#include <string.h>

/* Changes of names. The directories above the shares are nobody's to change: what is there is busy,
 * and nothing can be made beside it. */

#define RENAME_FLAGS_KNOWN (RENAME_NOREPLACE | RENAME_EXCHANGE)

/* 0, or why NAME can't be made in the directory that REQUEST is about, or removed from it
 * (REMOVES). */
static int
check_name (const NfRequest *request, NfFid dir, const char *name, gboolean removes)
{
  (void)request;
  if (strlen (name) > NF_NAME_LEN_MAX)
    return -ENAMETOOLONG;
  if (dir == NF_FID_ROOT && strcmp (name, NF_HIDDEN_DIR) == 0)
    return removes ? -ENOENT : -EPERM;
  return 0;
}

/* Begins a request that makes NAME in PARENT, or replies. */
static NfRequest *
begin_make (fuse_req_t req, fuse_ino_t parent, const char *name, NfMsgType type, NfMsg *ret_call)
{
  NfRequest *request = nf_request_begin (req, parent, type, EPERM, ret_call);
  int err = request ? check_name (request, request->fid, name, FALSE) : 0;

  if (err == 0)
    return request;
  nf_reply_status (request, err);
  return NULL;
}

static void
op_mkdir (fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
  NfMsg call;
  NfRequest *request = begin_make (req, parent, name, NF_MSG_MKDIR, &call);

  if (!request)
    return;
  call.mkdir.parent = request->fid;
  call.mkdir.name = nf_slice_str (name);
  call.mkdir.mode = mode;
  nf_request_call (request, &call, nf_reply_entry);
}

static void
op_mknod (fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
  NfMsg call;
  NfRequest *request = begin_make (req, parent, name, NF_MSG_MKNOD, &call);

  if (!request)
    return;
  call.mknod.parent = request->fid;
  call.mknod.name = nf_slice_str (name);
  call.mknod.mode = mode;
  call.mknod.rdev = rdev;
  nf_request_call (request, &call, nf_reply_entry);
}

static void
op_symlink (fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
  NfMsg call;
  NfRequest *request = begin_make (req, parent, name, NF_MSG_SYMLINK, &call);

  if (!request)
    return;
  if (strlen (target) > NF_PATH_LEN_MAX)
    {
      nf_reply_status (request, -ENAMETOOLONG);
      return;
    }
  call.symlink.parent = request->fid;
  call.symlink.name = nf_slice_str (name);
  call.symlink.target = nf_slice_str (target);
  nf_request_call (request, &call, nf_reply_entry);
}

static void
op_link (fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
  NfMsg call;
  NfRequest *request = begin_make (req, parent, name, NF_MSG_LINK, &call);
  NfFid fid;

  if (!request)
    return;
  if (!nf_request_same_share (request, ino, &fid))
    {
      nf_reply_status (request, -EXDEV);
      return;
    }
  call.link.fid = fid;
  call.link.parent = request->fid;
  call.link.name = nf_slice_str (name);
  nf_request_call (request, &call, nf_reply_entry);
}

/* What is removed from one of the directories above the shares is a share or leads to one. */
static int
fixed_error (fuse_req_t req, fuse_ino_t parent, const char *name)
{
  NfMount *mount = fuse_req_userdata (req);

  return nf_namespace_has (mount, nf_mount_node (mount, parent), name) ? EBUSY : ENOENT;
}

static void
op_unlink (fuse_req_t req, fuse_ino_t parent, const char *name)
{
  NfMsg call;
  NfRequest *request
      = nf_request_begin (req, parent, NF_MSG_UNLINK, fixed_error (req, parent, name), &call);

  if (!request)
    return;
  int err = check_name (request, request->fid, name, TRUE);
  call.unlink.parent = request->fid;
  call.unlink.name = nf_slice_str (name);
  if (err != 0)
    nf_reply_status (request, err);
  else
    nf_request_call (request, &call, nf_reply_done);
}

/* The answer tells of a directory that is gone with it. */
static void
reply_removed (NfRequest *request, int status, const NfMsg *answer)
{
  g_autoptr (NfNode) node
      = status == 0 && S_ISDIR (answer->answer.attr.mode)
            ? nf_nodes_find (request->mount->nodes, request->volume, answer->answer.attr.fid)
            : NULL;

  if (node)
    nf_node_set_gone (node, &answer->answer.attr);
  nf_reply_status (request, status);
}

static void
op_rmdir (fuse_req_t req, fuse_ino_t parent, const char *name)
{
  NfMsg call;
  NfRequest *request
      = nf_request_begin (req, parent, NF_MSG_RMDIR, fixed_error (req, parent, name), &call);

  if (!request)
    return;
  int err = check_name (request, request->fid, name, TRUE);
  call.rmdir.parent = request->fid;
  call.rmdir.name = nf_slice_str (name);
  if (err != 0)
    nf_reply_status (request, err);
  else
    nf_request_call (request, &call, reply_removed);
}

static int
check_rename (NfRequest *request, const char *name, fuse_ino_t newparent, const char *newname,
              unsigned flags, NfFid *ret_newfid)
{
  NfNode *newnode = nf_mount_node (request->mount, newparent);

  if (flags & ~(unsigned)RENAME_FLAGS_KNOWN)
    return -EINVAL;
  if (nf_namespace_has (request->mount, newnode, newname))
    return -EBUSY;
  if (!nf_request_same_share (request, newparent, ret_newfid))
    return -EXDEV;
  int err = check_name (request, request->fid, name, TRUE);
  return err != 0 ? err : check_name (request, *ret_newfid, newname, FALSE);
}

static void
op_rename (fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
           const char *newname, unsigned flags)
{
  NfMsg call;
  NfFid newfid = NF_FID_NONE;
  NfRequest *request
      = nf_request_begin (req, parent, NF_MSG_RENAME, fixed_error (req, parent, name), &call);

  if (!request)
    return;
  int err = check_rename (request, name, newparent, newname, flags, &newfid);
  call.rename.parent = request->fid;
  call.rename.name = nf_slice_str (name);
  call.rename.newparent = newfid;
  call.rename.newname = nf_slice_str (newname);
  call.rename.flags = flags;
  if (err != 0)
    nf_reply_status (request, err);
  else
    nf_request_call (request, &call, reply_removed);
}

void
nf_op_name_init (struct fuse_lowlevel_ops *ops)
{
  ops->mkdir = op_mkdir;
  ops->mknod = op_mknod;
  ops->symlink = op_symlink;
  ops->link = op_link;
  ops->unlink = op_unlink;
  ops->rmdir = op_rmdir;
  ops->rename = op_rename;
}
