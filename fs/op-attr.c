// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/request.h"

#include <errno.h>
#include <string.h>

#include "sync/times.h"

/* Attributes, and the filesystem's own. */

static void
reply_getattr (NfRequest *request, int status, const NfMsg *answer)
{
  const NfAttr *gone = g_atomic_pointer_get (&request->node->gone);

  if (status != -ESTALE || !gone)
    {
      nf_reply_attr (request, status, answer);
      return;
    }
  NfMsg kept = { .type = NF_MSG_ANSWER, .answer.attr = *gone };
  nf_reply_attr (request, 0, &kept);
}

static void
op_getattr (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
  NfMount *mount = fuse_req_userdata (req);
  NfMsg call;

  if (nf_namespace_op_getattr (mount, req, nf_mount_node (mount, ino)))
    return;
  /* fstat(2) comes without a handle. Any handle does: it knows the file when its names have gone.
   */
  NfRequest *request = nf_request_begin_file (req, ino, fi, NF_MSG_GETATTR, ESTALE, &call);
  if (!request)
    return;
  if (!request->handle && g_atomic_int_get (&request->node->detached))
    {
      nf_reply_status (request, -ESTALE); /* the kernel looks the name up again */
      return;
    }
  call.getattr.fid = request->fid;
  nf_request_call (request, &call, reply_getattr);
}

/* As a local chown(2) and truncate(2) do: ownership takes the special bits from everybody, content
 * only from those who may not set them. */
static gboolean
kills_privileges (fuse_req_t req, int to_set)
{
  if (to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID))
    return TRUE;
  return (to_set & FUSE_SET_ATTR_SIZE) && fuse_req_ctx (req)->uid != 0;
}

static guint32
setattr_mask (fuse_req_t req, int to_set)
{
  static const struct
  {
    int fuse;
    guint32 ours;
  } map[] = {
    { FUSE_SET_ATTR_MODE, NF_SET_MODE },
    { FUSE_SET_ATTR_UID, NF_SET_UID },
    { FUSE_SET_ATTR_GID, NF_SET_GID },
    { FUSE_SET_ATTR_SIZE, NF_SET_SIZE },
    { FUSE_SET_ATTR_ATIME, NF_SET_ATIME },
    { FUSE_SET_ATTR_MTIME, NF_SET_MTIME },
    { FUSE_SET_ATTR_ATIME_NOW, NF_SET_ATIME_NOW },
    { FUSE_SET_ATTR_MTIME_NOW, NF_SET_MTIME_NOW },
  };
  guint32 mask = 0;

  for (gsize i = 0; i < G_N_ELEMENTS (map); i++)
    if (to_set & map[i].fuse)
      mask |= map[i].ours;
  if (mask & NF_SET_ATIME_NOW)
    mask &= ~(guint32)NF_SET_ATIME;
  if (mask & NF_SET_MTIME_NOW)
    mask &= ~(guint32)NF_SET_MTIME;
  if (mask == 0)
    mask = NF_SET_CTIME_ONLY;
  return kills_privileges (req, to_set) ? mask | NF_SET_KILL_PRIV : mask;
}

/* Before a write that takes a file's special bits the kernel says so with a SETATTR that sets
 * nothing; the bits go with the write itself. (Of a file without any it is a chown(2) that changes
 * nobody.) */
static gboolean
announces_write (fuse_req_t req, fuse_ino_t ino, int to_set)
{
  const int sets = FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID | FUSE_SET_ATTR_SIZE
                   | FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME;
  NfNode *node = nf_mount_node (fuse_req_userdata (req), ino);

  return !(to_set & sets) && fuse_req_ctx (req)->uid != 0
         && (g_atomic_int_get (&node->mode) & (S_ISUID | S_ISGID));
}

static void
op_setattr (fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set, struct fuse_file_info *fi)
{
  /* A truncate(2) by name must not go through somebody's handle for reading. */
  gboolean by_name = !fi && (to_set & FUSE_SET_ATTR_SIZE);
  NfMsg call;

  if (announces_write (req, ino, to_set))
    {
      op_getattr (req, ino, fi);
      return;
    }
  NfRequest *request = by_name ? nf_request_begin (req, ino, NF_MSG_SETATTR, EPERM, &call)
                               : nf_request_begin_file (req, ino, fi, NF_MSG_SETATTR, EPERM, &call);

  if (!request)
    return;
  if (!request->handle && g_atomic_int_get (&request->node->detached))
    {
      nf_reply_status (request, -ESTALE);
      return;
    }
  call.setattr.fid = request->fid;
  call.setattr.mask = setattr_mask (req, to_set);
  call.setattr.attr = (NfAttr){
    .fid = request->fid,
    .mode = st->st_mode & 07777,
    .uid = st->st_uid,
    .gid = st->st_gid,
    .size = (guint64)st->st_size,
    .atime = nf_time_ns (st->st_atim),
    .mtime = nf_time_ns (st->st_mtim),
  };
  nf_request_call (request, &call, nf_reply_attr);
}

static void
reply_statfs (NfRequest *request, int status, const NfMsg *answer)
{
  struct statvfs vfs;

  if (status == 0 && !nf_statfs_decode (answer->answer.data, &vfs))
    status = -EIO;
  if (status != 0)
    {
      nf_reply_status (request, status);
      return;
    }
  (void)fuse_reply_statfs (request->req, &vfs);
  nf_request_end (request);
}

static void
op_statfs (fuse_req_t req, fuse_ino_t ino)
{
  NfMount *mount = fuse_req_userdata (req);
  NfMsg call;

  if (nf_namespace_op_statfs (mount, req, nf_mount_node (mount, ino)))
    return;
  NfRequest *request = nf_request_begin (req, ino, NF_MSG_STATFS, ESTALE, &call);
  if (!request)
    return;
  call.statfs.fid = request->fid;
  nf_request_call (request, &call, reply_statfs);
}

void
nf_op_attr_init (struct fuse_lowlevel_ops *ops)
{
  ops->getattr = op_getattr;
  ops->setattr = op_setattr;
  ops->statfs = op_statfs;
}
