// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/open-mode.h"
#include "fs/request.h"

#include <errno.h>
#include <string.h>

#include "sync/times.h"

/* Replies, and why what they say stays true in the kernel's caches.
 *
 * What a request has read may be changed before the kernel has taken in the reply. The kernel sorts
 * this out by itself for a GETATTR (an invalidation that came meanwhile makes it drop the reply's
 * attributes) and for names (an entry's invalidation waits for the directory's lock, which the
 * caller of a LOOKUP holds until it has taken in the reply). What it can't know is an inode that it
 * hears of for the first time. So for attributes: if an invalidation of this fid was queued since
 * the request began, they are handed out as good for no time. And if one is queued later the node
 * is in the table by then, and inval.c sees to it that the kernel gets it after the reply. */

/* stdio's and cp's buffers follow it: each write is a request. */
#define BLKSIZE (128 * 1024)

void
nf_reply_stat (NfMount *mount, const NfVolume *volume, const NfAttr *attr, struct stat *ret_st)
{
  memset (ret_st, 0, sizeof *ret_st);
  ret_st->st_ino = nf_volume_ino (volume, attr->fid);
  ret_st->st_mode = attr->mode;
  ret_st->st_nlink = attr->nlink;
  ret_st->st_uid = mount->personal ? mount->uid : attr->uid;
  ret_st->st_gid = mount->personal ? mount->gid : attr->gid;
  ret_st->st_rdev = attr->rdev;
  ret_st->st_size = (off_t)attr->size;
  ret_st->st_blksize = BLKSIZE;
  ret_st->st_blocks = (blkcnt_t)attr->blocks;
  ret_st->st_atim = nf_time_spec (attr->atime);
  ret_st->st_mtim = nf_time_spec (attr->mtime);
  ret_st->st_ctim = nf_time_spec (attr->ctime);
}

gdouble
nf_reply_attr_timeout (NfRequest *request, const NfAttr *attr)
{
  /* A write may take these bits, and the kernel doesn't know whether it did. */
  if (S_ISREG (attr->mode) && (attr->mode & (S_ISUID | S_ISGID)))
    return 0;
  return nf_open_mode_is_split (request->volume, attr->fid)
                 || nf_invals_since (request->mount->invals, request->volume, attr->fid,
                                     request->mark)
             ? 0
             : NF_CACHE_TIMEOUT;
}

void
nf_reply_fill_entry (NfRequest *request, const NfAttr *attr, struct fuse_entry_param *ret_entry,
                     NfNode **ret_node)
{
  NfMount *mount = request->mount;
  NfNode *node = nf_nodes_lookup (mount->nodes, request->volume, attr->fid);

  g_atomic_int_set (&node->mode, attr->mode);
  g_atomic_pointer_set (&node->parent,
                        request->node == mount->root ? FUSE_ROOT_ID : nf_node_id (request->node));
  memset (ret_entry, 0, sizeof *ret_entry);
  ret_entry->ino = nf_node_id (node);
  ret_entry->generation = node->generation;
  ret_entry->entry_timeout = mount->name_timeout;
  nf_reply_stat (mount, request->volume, attr, &ret_entry->attr);
  ret_entry->attr_timeout = nf_reply_attr_timeout (request, attr);
  *ret_node = node;
}

void
nf_reply_drop_entry (NfRequest *request, NfNode *node)
{
  nf_nodes_forget (request->mount->nodes, node, 1);
}

void
nf_reply_status (NfRequest *request, int status)
{
  (void)fuse_reply_err (request->req, -status); /* fails only if nobody waits for it any more */
  nf_request_end (request);
}

void
nf_reply_done (NfRequest *request, int status, const NfMsg *answer)
{
  (void)answer;
  nf_reply_status (request, status);
}

void
nf_reply_entry (NfRequest *request, int status, const NfMsg *answer)
{
  struct fuse_entry_param entry;
  NfNode *node;

  if (status != 0)
    {
      nf_reply_status (request, status);
      return;
    }
  nf_reply_fill_entry (request, &answer->answer.attr, &entry, &node);
  if (fuse_reply_entry (request->req, &entry) == -ENOENT)
    nf_reply_drop_entry (request, node);
  nf_request_end (request);
}

void
nf_reply_attr (NfRequest *request, int status, const NfMsg *answer)
{
  struct stat st;
  NfAttr attr;

  if (status != 0)
    {
      nf_reply_status (request, status);
      return;
    }
  attr = answer->answer.attr;
  attr.fid = request->fid;
  g_atomic_int_set (&request->node->mode, attr.mode);
  nf_reply_stat (request->mount, request->volume, &attr, &st);
  /* Of a node that isn't found by its fid any more nobody would tell what changes. */
  gdouble timeout
      = g_atomic_int_get (&request->node->detached) ? 0 : nf_reply_attr_timeout (request, &attr);
  (void)fuse_reply_attr (request->req, &st, timeout);
  nf_request_end (request);
}

void
nf_reply_data (NfRequest *request, int status, NfSlice data)
{
  if (status != 0)
    {
      nf_reply_status (request, status);
      return;
    }
  (void)fuse_reply_buf (request->req, (const char *)data.data, data.len);
  nf_request_end (request);
}
