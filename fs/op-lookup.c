// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/request.h"

#include <errno.h>
#include <string.h>

/* Names to inodes, and the end of inodes. */

/* The hidden directory in a share's root isn't there. */
static gboolean
is_hidden (const NfRequest *request, const char *name)
{
  return request->fid == NF_FID_ROOT && strcmp (name, NF_HIDDEN_DIR) == 0;
}

/* That there is no such name is kept as well as a name. */
static void
reply_lookup (NfRequest *request, int status, const NfMsg *answer)
{
  struct fuse_entry_param none = { .entry_timeout = request->mount->name_timeout };

  if (status != -ENOENT)
    {
      nf_reply_entry (request, status, answer);
      return;
    }
  (void)fuse_reply_entry (request->req, &none);
  nf_request_end (request);
}

static void
op_lookup (fuse_req_t req, fuse_ino_t parent, const char *name)
{
  NfMount *mount = fuse_req_userdata (req);
  NfNode *node = nf_mount_node (mount, parent);
  NfMsg call;

  if (nf_namespace_op_lookup (mount, req, node, name))
    return;
  NfRequest *request = nf_request_begin (req, parent, NF_MSG_LOOKUP, ENOENT, &call);
  if (!request)
    return;
  if (strlen (name) > NF_NAME_LEN_MAX)
    {
      nf_reply_status (request, -ENAMETOOLONG);
      return;
    }
  if (is_hidden (request, name))
    {
      reply_lookup (request, -ENOENT, NULL);
      return;
    }
  call.lookup.parent = request->fid;
  call.lookup.name = nf_slice_str (name);
  nf_request_call (request, &call, reply_lookup);
}

static void
forget (NfMount *mount, fuse_ino_t ino, guint64 n)
{
  if (ino != FUSE_ROOT_ID)
    nf_nodes_forget (mount->nodes, nf_mount_node (mount, ino), n);
}

static void
op_forget (fuse_req_t req, fuse_ino_t ino, uint64_t n)
{
  forget (fuse_req_userdata (req), ino, n);
  fuse_reply_none (req);
}

static void
op_forget_multi (fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
  for (size_t i = 0; i < count; i++)
    forget (fuse_req_userdata (req), forgets[i].ino, forgets[i].nlookup);
  fuse_reply_none (req);
}

static void
reply_readlink (NfRequest *request, int status, const NfMsg *answer)
{
  char target[NF_PATH_LEN_MAX + 1];

  if (status != 0 || answer->answer.data.len > NF_PATH_LEN_MAX)
    {
      nf_reply_status (request, status != 0 ? status : -EIO);
      return;
    }
  memcpy (target, answer->answer.data.data, answer->answer.data.len);
  target[answer->answer.data.len] = '\0';
  (void)fuse_reply_readlink (request->req, target);
  nf_request_end (request);
}

static void
op_readlink (fuse_req_t req, fuse_ino_t ino)
{
  NfMsg call;
  NfRequest *request = nf_request_begin (req, ino, NF_MSG_READLINK, EINVAL, &call);

  if (!request)
    return;
  call.readlink.fid = request->fid;
  nf_request_call (request, &call, reply_readlink);
}

void
nf_op_lookup_init (struct fuse_lowlevel_ops *ops)
{
  ops->lookup = op_lookup;
  ops->forget = op_forget;
  ops->forget_multi = op_forget_multi;
  ops->readlink = op_readlink;
}
