// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/serve-internal.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* LIST: an object's own state and, of a directory, its entries.
 *
 * Which names there are is read whole under the directory's lock, at the stamp. The entries' states are read after
 * it, frame by frame: one that is newer than the stamp is as good, since the ops that made it so come again and say
 * the same; and what was removed meanwhile is left out, as its op says, too. */

/* Frames end soon after this; the largest entry then still fits. */
#define FRAME_SIZE (256 * 1024)
/* Of one object in all. An object with more is sent without the rest. */
#define XATTRS_MAX (192 * 1024)
#define XATTR_LIST_SIZE 65536

/* ---- one object ---- */

static void
put_xattr (NfTree *tree, NfFid fid, const char *name, NfBuf *buf)
{
  g_autofree char *value = g_malloc (NF_XATTR_MAX);
  int len = nf_tree_getxattr (tree, fid, name, value, NF_XATTR_MAX);

  if (len < 0 || buf->len + (gsize)len > XATTRS_MAX)
    return;
  nf_buf_put_slice (buf, nf_slice_str (name));
  nf_buf_put_slice (buf, nf_slice (value, (gsize)len));
}

static void
put_xattrs (NfTree *tree, NfFid fid, NfBuf *buf)
{
  char small[1024];
  g_autofree char *large = NULL;
  const char *list = small;
  int len = nf_tree_listxattr (tree, fid, small, sizeof small);

  if (len == -ERANGE)
    {
      list = large = g_malloc (XATTR_LIST_SIZE);
      len = nf_tree_listxattr (tree, fid, large, XATTR_LIST_SIZE);
    }
  for (int at = 0; at < len; at += (int)strlen (list + at) + 1)
    put_xattr (tree, fid, list + at, buf);
}

/* The content of a small file, and its attributes at the same moment. */
static void
read_content (NfServeJob *job, NfDirEntry *entry, guint8 *buffer)
{
  int fd = nf_serve_open (job, entry->attr.fid);
  NfAttr attr;

  if (fd < 0)
    return;
  if (nf_tree_fstat (job->primary->share->tree, fd, entry->attr.fid, &attr) == 0
      && S_ISREG (attr.mode) && attr.size <= NF_SERVE_INLINE
      && pread (fd, buffer, attr.size, 0) == (ssize_t)attr.size)
    {
      entry->attr = attr;
      entry->has_data = TRUE;
      entry->data = nf_slice (buffer, attr.size);
    }
  close (fd);
}

/* Completes ENTRY (with attr, under the object's lock) and encodes it. */
static void
put_entry (NfServeJob *job, NfDirEntry *entry, NfBuf *buf)
{
  NfTree *tree = job->primary->share->tree;
  g_auto (NfBuf) xattrs = NF_BUF_INIT;
  char target[NF_PATH_LEN_MAX + 1];
  guint8 content[NF_SERVE_INLINE];

  if (S_ISLNK (entry->attr.mode))
    {
      int len = nf_tree_readlink (tree, entry->attr.fid, target, sizeof target);
      entry->target = nf_slice (target, len > 0 ? (gsize)len : 0);
    }
  put_xattrs (tree, entry->attr.fid, &xattrs);
  entry->xattrs = nf_buf_slice (&xattrs);
  if (S_ISREG (entry->attr.mode) && entry->attr.size <= NF_SERVE_INLINE
      && !nf_primary_lacks_content (job->primary, entry->attr.fid))
    read_content (job, entry, content);
  nf_dir_entry_encode (entry, buf);
}

/* The entry NAME, if it is still there. 0 or -errno. */
static int
put_named (NfServeJob *job, NfSlice name, NfBuf *buf)
{
  NfPrimary *primary = job->primary;
  NfShare *share = primary->share;
  NfDirEntry entry = { .name = name };
  NfLockSet locks;
  NfIdent ident;
  int err = nf_tree_lookup (share->tree, job->fid, name, &entry.attr, &ident);

  if (err == 0 && primary->source_seq != 0 && entry.attr.fid == NF_FID_NONE)
    err = -ENOENT; /* somebody's own, and not the share's */
  if (err == 0 && primary->source_seq == 0
      && (entry.attr.fid == NF_FID_NONE || (entry.attr.nlink > 1 && !S_ISDIR (entry.attr.mode))))
    err = nf_primary_adopt (share, job->fid, name, ident, &entry.attr);
  if (err != 0)
    return err;
  NfFid fid = entry.attr.fid;
  nf_locks_take (&primary->locks, &fid, 1, &locks);
  /* By fid now: if the name has gone to another object since, the op that did it says so. */
  err = nf_tree_stat (share->tree, fid, &entry.attr);
  if (err == 0)
    put_entry (job, &entry, buf);
  nf_locks_give (&primary->locks, &locks);
  return err;
}

/* ---- frames ---- */

static gboolean
send_listed (NfServeJob *job, int err, gboolean last, NfSlice entries)
{
  NfMsg msg = { .type = NF_MSG_LISTED };

  msg.listed.share = job->primary->share->conf.id;
  msg.listed.id = job->id;
  msg.listed.fid = job->fid;
  msg.listed.seq = job->seq;
  msg.listed.status = nf_status_from_errno (err);
  msg.listed.flags = last ? NF_FLAG_LAST : 0;
  msg.listed.entries = entries;
  return nf_serve_send (job, &msg) && !last;
}

static gboolean
take_name (NfSlice name, const NfAttr *attr, const NfIdent *ident, guint64 cookie, gpointer data)
{
  GByteArray *names = data;
  guint8 len = (guint8)name.len;

  (void)attr, (void)ident, (void)cookie;
  g_byte_array_append (names, &len, 1);
  g_byte_array_append (names, name.data, len);
  return TRUE;
}

/* The object itself and the names, at the stamp. */
static int
begin (NfServeJob *job, NfBuf *buf)
{
  NfPrimary *primary = job->primary;
  NfShare *share = primary->share;
  NfDirEntry self = { 0 };
  NfLockSet locks;

  nf_locks_take (&primary->locks, &job->fid, 1, &locks);
  job->seq = nf_primary_stamp (primary);
  job->names = g_byte_array_new ();
  job->listed = TRUE;
  int err = nf_tree_stat (share->tree, job->fid, &self.attr);
  if (err == 0 && S_ISDIR (self.attr.mode))
    err = nf_tree_readdir (share->tree, job->fid, 0, FALSE, take_name, job->names);
  if (err == 0)
    put_entry (job, &self, buf);
  nf_locks_give (&primary->locks, &locks);
  return err;
}

static NfSlice
next_name (NfServeJob *job)
{
  const guint8 *at = job->names->data + job->next_name;

  job->next_name += 1 + (gsize)at[0];
  return nf_slice (at + 1, at[0]);
}

/* Gone, or a foreign mount: not the share's. */
static gboolean
is_no_entry (int err)
{
  return err == -ENOENT || err == -ESTALE || err == -EXDEV;
}

gboolean
nf_serve_list (NfServeJob *job)
{
  g_auto (NfBuf) buf = NF_BUF_INIT;
  int err = job->listed ? 0 : begin (job, &buf);

  while (err == 0 && job->next_name < job->names->len && buf.len < FRAME_SIZE)
    {
      err = put_named (job, next_name (job), &buf);
      if (is_no_entry (err))
        err = 0;
    }
  gboolean last = err != 0 || job->next_name >= job->names->len;
  return send_listed (job, err, last, err == 0 ? nf_buf_slice (&buf) : NF_SLICE_NONE);
}
