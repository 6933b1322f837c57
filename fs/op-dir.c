// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/request.h"

#include <errno.h>
#include <string.h>

/* Directories. A listing has no state here: the kernel's offset says where it goes on. Each request
 * is one call to the share and uses nothing read before it, since the kernel keeps the attributes
 * and names of READDIRPLUS, and what was read before the caller got the directory's lock may have
 * been removed by a local caller since.
 *
 * No handle is kept either: after the first ENOSYS the kernel opens directories by itself, as kept
 * in its cache. */

/* The kernel's offsets: 0 and 1 are before "." and "..", then come the share's cookies, moved by as
 * much unless they are so large that they are hashes. */
#define DOTS 2
#define COOKIE_MOVED_MAX (G_GUINT64_CONSTANT (1) << 62)

/* An entry takes less in the kernel's listing than in the answer. */
#define PLAIN_FACTOR 4

static guint64
cookie_to_offset (guint64 cookie)
{
  return cookie < COOKIE_MOVED_MAX ? cookie + DOTS : cookie;
}

static guint64
offset_to_cookie (guint64 offset)
{
  return offset < COOKIE_MOVED_MAX + DOTS ? offset - DOTS : offset;
}

typedef struct
{
  NfRequest *request;
  gboolean plus;
  char *buffer;
  gsize size;
  gsize used;
  GPtrArray *nodes; /* that got a lookup */
} Listing;

static gsize
add (Listing *listing, const char *name, const struct fuse_entry_param *entry, guint64 next)
{
  fuse_req_t req = listing->request->req;
  char *at = listing->buffer + listing->used;
  gsize left = listing->size - listing->used;

  if (listing->plus)
    return fuse_add_direntry_plus (req, at, left, name, entry, (off_t)next);
  return fuse_add_direntry (req, at, left, name, &entry->attr, (off_t)next);
}

static gboolean
fits (const Listing *listing, const char *name)
{
  fuse_req_t req = listing->request->req;
  gsize needed = listing->plus ? fuse_add_direntry_plus (req, NULL, 0, name, NULL, 0)
                               : fuse_add_direntry (req, NULL, 0, name, NULL, 0);

  return listing->used + needed <= listing->size;
}

/* "." and "..": no lookups of those. The kernel knows where ".." is. */
static void
add_dots (Listing *listing, guint64 offset)
{
  NfRequest *request = listing->request;
  struct fuse_entry_param entry = { .attr.st_mode = S_IFDIR };

  entry.attr.st_ino = nf_volume_ino (request->volume, request->fid);
  if (offset == 0 && fits (listing, "."))
    listing->used += add (listing, ".", &entry, 1);
  entry.attr.st_ino = G_MAXUINT32; /* as libfuse has it for "unknown" */
  if (offset <= 1 && fits (listing, ".."))
    listing->used += add (listing, "..", &entry, DOTS);
}

static void
add_entry (Listing *listing, const char *name, const NfDirEntry *from)
{
  NfRequest *request = listing->request;
  struct fuse_entry_param entry = { 0 };
  NfNode *node;

  if (listing->plus && from->attr.fid != NF_FID_NONE)
    {
      nf_reply_fill_entry (request, &from->attr, &entry, &node);
      g_ptr_array_add (listing->nodes, node);
    }
  else
    nf_reply_stat (request->mount, request->volume, &from->attr, &entry.attr);
  listing->used += add (listing, name, &entry, cookie_to_offset (from->cookie));
}

static int
add_entries (Listing *listing, NfSlice data)
{
  NfReader reader = nf_reader (data);
  NfDirEntry entry;
  char name[NF_NAME_LEN_MAX + 1];

  while (nf_dir_entry_decode (&reader, &entry))
    {
      memcpy (name, entry.name.data, entry.name.len);
      name[entry.name.len] = '\0';
      if (!fits (listing, name))
        return 0;
      add_entry (listing, name, &entry);
    }
  return reader.failed ? -EIO : 0;
}

/* What the kernel doesn't get it has no lookups of. */
static void
reply_listing (Listing *listing, int status)
{
  NfRequest *request = listing->request;
  int err = status != 0 ? fuse_reply_err (request->req, -status)
                        : fuse_reply_buf (request->req, listing->buffer, listing->used);

  for (guint i = 0; (status != 0 || err == -ENOENT) && i < listing->nodes->len; i++)
    nf_reply_drop_entry (request, listing->nodes->pdata[i]);
  nf_request_end (request);
}

static void
reply_readdir (NfRequest *request, int status, const NfMsg *answer)
{
  Listing listing = { .request = request, .plus = request->flag, .size = request->size };

  if (status != 0)
    {
      nf_reply_status (request, status);
      return;
    }
  listing.buffer = g_malloc (listing.size);
  listing.nodes = g_ptr_array_new ();
  add_dots (&listing, request->offset);
  reply_listing (&listing, add_entries (&listing, answer->answer.data));
  g_ptr_array_unref (listing.nodes);
  g_free (listing.buffer);
}

static void
read_dir (fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, gboolean plus)
{
  NfMount *mount = fuse_req_userdata (req);
  NfMsg call;

  if (nf_namespace_op_readdir (mount, req, nf_mount_node (mount, ino), size, offset, plus))
    return;
  NfRequest *request = nf_request_begin (req, ino, NF_MSG_READDIR, ESTALE, &call);
  if (!request)
    return;
  request->size = size;
  request->offset = (guint64)offset;
  request->flag = plus;
  call.readdir.fid = request->fid;
  call.readdir.cookie = offset < DOTS ? 0 : offset_to_cookie ((guint64)offset);
  call.readdir.max = (guint32)MIN (plus ? size : size * PLAIN_FACTOR, NF_LIST_MAX);
  nf_request_call (request, &call, reply_readdir);
}

static void
op_readdir (fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
  (void)fi;
  read_dir (req, ino, size, offset, FALSE);
}

static void
op_readdirplus (fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                struct fuse_file_info *fi)
{
  (void)fi;
  read_dir (req, ino, size, offset, TRUE);
}

static void
op_opendir (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
  (void)ino;
  (void)fi;
  (void)fuse_reply_err (req, ENOSYS);
}

/* Of a directory that was removed from here nothing has to reach the disk. Any other that the primary doesn't know is lost. */
static void
reply_synced (NfRequest *request, int status, const NfMsg *answer)
{
  gboolean removed = g_atomic_pointer_get (&request->node->gone) != NULL;

  (void)answer;
  nf_reply_status (request, status == -ESTALE && removed ? 0 : status);
}

static void
op_fsyncdir (fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
  NfMsg call;
  NfRequest *request = nf_request_begin (req, ino, NF_MSG_FSYNC, 0, &call);

  (void)fi;
  if (request)
    nf_request_flush (request, TRUE, datasync != 0, reply_synced);
}

void
nf_op_dir_init (struct fuse_lowlevel_ops *ops)
{
  ops->opendir = op_opendir;
  ops->readdir = op_readdir;
  ops->readdirplus = op_readdirplus;
  ops->fsyncdir = op_fsyncdir;
}
