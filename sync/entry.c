// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/entry.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

/* Of one object in all. An object with more is sent without the rest. */
#define XATTRS_MAX (192 * 1024)
#define XATTR_LIST_SIZE 65536

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

/* ---- an entry ---- */

void
nf_entry_parts_init (NfEntryParts *parts)
{
  parts->xattrs = NF_BUF_INIT;
  parts->content = NULL;
}

void
nf_entry_parts_clear (NfEntryParts *parts)
{
  nf_buf_clear (&parts->xattrs);
  g_clear_pointer (&parts->content, g_free);
}

void
nf_entry_fill (NfTree *tree, NfDirEntry *entry, NfEntryParts *parts)
{
  if (S_ISLNK (entry->attr.mode))
    {
      int len = nf_tree_readlink (tree, entry->attr.fid, parts->target, sizeof parts->target);
      entry->target = nf_slice (parts->target, len > 0 ? (gsize)len : 0);
    }
  put_xattrs (tree, entry->attr.fid, &parts->xattrs);
  entry->xattrs = nf_buf_slice (&parts->xattrs);
}

void
nf_entry_fill_content (NfTree *tree, int fd, gsize max, NfDirEntry *entry, NfEntryParts *parts)
{
  NfAttr attr;

  if (!parts->content)
    parts->content = g_malloc (NF_ENTRY_DIGESTED);
  if (nf_tree_fstat (tree, fd, entry->attr.fid, &attr) != 0 || !S_ISREG (attr.mode)
      || attr.size > MIN (max, NF_ENTRY_DIGESTED)
      || pread (fd, parts->content, attr.size, 0) != (ssize_t)attr.size)
    return;
  entry->attr = attr;
  entry->has_data = TRUE;
  entry->data = nf_slice (parts->content, attr.size);
}

/* ---- digests ---- */

/* In whatever order the filesystem has them. */
static guint64
sum_xattrs (NfSlice xattrs)
{
  NfReader reader = nf_reader (xattrs);
  guint64 sum = 0;

  while (nf_reader_left (&reader) > 0)
    {
      NfSlice name = nf_reader_slice (&reader, NF_NAME_LEN_MAX);
      NfSlice value = nf_reader_slice (&reader, NF_XATTR_MAX);
      if (reader.failed)
        break;
      g_autofree char *text = nf_slice_dup (name);
      if (nf_tree_xattr_shown (text))
        sum += XXH3_64bits_withSeed (value.data, value.len, XXH3_64bits (name.data, name.len));
    }
  return sum;
}

void
nf_entry_digest (guint64 *digest, const NfDirEntry *entry)
{
  const NfAttr *attr = &entry->attr;
  g_auto (NfBuf) buf = NF_BUF_INIT;

  nf_buf_put_slice (&buf, entry->name);
  nf_buf_put_u64 (&buf, attr->fid);
  nf_buf_put_u32 (&buf, S_ISLNK (attr->mode) ? attr->mode & S_IFMT : attr->mode);
  nf_buf_put_u32 (&buf, attr->uid);
  nf_buf_put_u32 (&buf, attr->gid);
  nf_buf_put_u64 (&buf, (guint64)attr->mtime);
  nf_buf_put_u64 (&buf, S_ISREG (attr->mode) ? attr->size : 0);
  nf_buf_put_u64 (&buf, S_ISLNK (attr->mode) || S_ISDIR (attr->mode) ? 0 : attr->rdev);
  nf_buf_put_slice (&buf, S_ISLNK (attr->mode) ? entry->target : NF_SLICE_NONE);
  nf_buf_put_u64 (&buf, sum_xattrs (entry->xattrs));
  nf_buf_put_u8 (&buf, entry->unsure ? 2 : entry->has_data);
  nf_buf_put_u64 (&buf, entry->has_data ? XXH3_64bits (entry->data.data, entry->data.len) : 0);
  *digest += XXH3_64bits (buf.data, buf.len);
}

guint64
nf_entry_digest_value (guint64 digest)
{
  return digest != 0 ? digest : 1;
}
