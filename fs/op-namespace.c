// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/request.h"

#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>

/* The directories above the shares: read-only, owned by root (by us, if we aren't), of the mount's
 * own number 0. */

#define DIR_MODE (S_IFDIR | 0555)

/* NODE's number in the namespace, or 0. */
static guint64
dir_of (NfMount *mount, NfNode *node)
{
  if (node->volume)
    return 0;
  g_autoptr (NfVolume) volume = nf_namespace_volume (mount->ns, node->fid);
  return volume ? 0 : node->fid;
}

gboolean
nf_namespace_is_dir (NfMount *mount, NfNode *node)
{
  return dir_of (mount, node) != 0;
}

gboolean
nf_namespace_has (NfMount *mount, NfNode *node, const char *name)
{
  guint64 dir = dir_of (mount, node);
  guint64 child;
  g_autoptr (NfVolume) volume = NULL;

  return dir != 0
         && nf_namespace_lookup (mount->ns, dir, nf_slice_str (name), &child, &volume) == 0;
}

static int
fill_stat (NfMount *mount, guint64 dir, struct stat *ret_st)
{
  NfNamespaceStat stat;
  int err = nf_namespace_stat (mount->ns, dir, &stat);

  if (err != 0)
    return err;
  memset (ret_st, 0, sizeof *ret_st);
  ret_st->st_ino = dir;
  ret_st->st_mode = DIR_MODE;
  ret_st->st_nlink = 2 + stat.n_children;
  ret_st->st_uid = mount->personal ? mount->uid : 0;
  ret_st->st_gid = mount->personal ? mount->gid : 0;
  ret_st->st_mtim.tv_sec = stat.changed_ns / 1000000000;
  ret_st->st_mtim.tv_nsec = stat.changed_ns % 1000000000;
  ret_st->st_atim = ret_st->st_ctim = ret_st->st_mtim;
  return 0;
}

gboolean
nf_namespace_op_getattr (NfMount *mount, fuse_req_t req, NfNode *node)
{
  guint64 dir = dir_of (mount, node);
  struct stat st;

  if (dir == 0)
    return FALSE;
  int err = fill_stat (mount, dir, &st);
  if (err != 0)
    (void)fuse_reply_err (req, -err);
  else
    (void)fuse_reply_attr (req, &st, NF_CACHE_TIMEOUT);
  return TRUE;
}

/* ---- lookup ---- */

static void
reply_dir (NfMount *mount, fuse_req_t req, guint64 dir)
{
  struct fuse_entry_param entry
      = { .entry_timeout = mount->name_timeout, .attr_timeout = NF_CACHE_TIMEOUT };
  int err = fill_stat (mount, dir, &entry.attr);

  if (err != 0)
    {
      (void)fuse_reply_err (req, -err);
      return;
    }
  NfNode *node = nf_nodes_lookup (mount->nodes, NULL, dir);
  entry.ino = nf_node_id (node);
  entry.generation = node->generation;
  if (fuse_reply_entry (req, &entry) == -ENOENT)
    nf_nodes_forget (mount->nodes, node, 1);
}

/* A share's root has no name within the share, by which it could be looked up. */
static void
lookup_share (NfMount *mount, fuse_req_t req, NfNode *parent, NfVolume *volume)
{
  NfMsg call;
  /* For the request to be about the root, which has no node yet. */
  NfNode *root = nf_nodes_lookup (mount->nodes, volume, NF_FID_ROOT);
  NfRequest *request = nf_request_begin (req, nf_node_id (root), NF_MSG_GETATTR, ESTALE, &call);

  nf_nodes_forget (mount->nodes, root, 1); /* the request has a reference */
  if (!request)
    return;
  nf_node_unref (request->node);
  request->node = nf_node_ref (parent);
  call.getattr.fid = NF_FID_ROOT;
  nf_request_call (request, &call, nf_reply_entry);
}

gboolean
nf_namespace_op_lookup (NfMount *mount, fuse_req_t req, NfNode *node, const char *name)
{
  guint64 dir = dir_of (mount, node);
  struct fuse_entry_param none = { .entry_timeout = mount->name_timeout };
  g_autoptr (NfVolume) volume = NULL;
  guint64 child;

  if (dir == 0)
    return FALSE;
  int err = nf_namespace_lookup (mount->ns, dir, nf_slice_str (name), &child, &volume);
  if (err == 0 && volume)
    lookup_share (mount, req, node, volume);
  else if (err == 0)
    reply_dir (mount, req, child);
  else if (err == -ENOENT)
    (void)fuse_reply_entry (req, &none);
  else
    (void)fuse_reply_err (req, -err);
  return TRUE;
}

/* ---- listing ---- */

typedef struct
{
  fuse_req_t req;
  gboolean plus;
  char buffer[4096];
  gsize size;
  gsize used;
  off_t next;
} Listing;

static gboolean
add_entry (Listing *listing, const char *name, guint64 ino)
{
  struct fuse_entry_param entry = { .attr.st_ino = ino, .attr.st_mode = DIR_MODE };
  char *at = listing->buffer + listing->used;
  gsize left = listing->size - listing->used;
  /* No lookups: a share's root would have to be asked for. */
  gsize needed = listing->plus
                     ? fuse_add_direntry_plus (listing->req, at, left, name, &entry, listing->next)
                     : fuse_add_direntry (listing->req, at, left, name, &entry.attr, listing->next);
  if (needed > left)
    return FALSE;
  listing->used += needed;
  listing->next++;
  return TRUE;
}

static gboolean
add_child (const char *name, guint64 dir, const NfVolume *volume, gpointer data)
{
  return add_entry (data, name, volume ? nf_volume_ino (volume, NF_FID_ROOT) : dir);
}

gboolean
nf_namespace_op_readdir (NfMount *mount, fuse_req_t req, NfNode *node, gsize size, off_t offset,
                         gboolean plus)
{
  guint64 dir = dir_of (mount, node);
  Listing listing = { .req = req, .plus = plus };
  NfNamespaceStat stat;

  if (dir == 0)
    return FALSE;
  listing.size = MIN (size, sizeof listing.buffer);
  listing.next = MIN (offset, G_MAXINT32) + 1;
  int err = nf_namespace_stat (mount->ns, dir, &stat);
  if (err == 0 && offset == 0)
    (void)add_entry (&listing, ".", dir);
  if (err == 0 && offset <= 1)
    (void)add_entry (&listing, "..", stat.parent);
  if (err == 0)
    err = nf_namespace_list (mount->ns, dir, offset < 2 ? 0 : (guint64)offset - 2, add_child,
                             &listing);
  if (err != 0)
    (void)fuse_reply_err (req, -err);
  else
    (void)fuse_reply_buf (req, listing.buffer, listing.used);
  return TRUE;
}

gboolean
nf_namespace_op_statfs (NfMount *mount, fuse_req_t req, NfNode *node)
{
  struct statvfs vfs = { .f_bsize = 4096, .f_frsize = 4096, .f_namemax = NF_NAME_LEN_MAX };

  if (dir_of (mount, node) == 0)
    return FALSE;
  (void)fuse_reply_statfs (req, &vfs);
  return TRUE;
}
