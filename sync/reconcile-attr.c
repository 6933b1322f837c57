// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/reconcile.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sync/intents.h"
#include "sync/times.h"

int
nf_reconcile_attr (NfReplica *replica, NfFid fid, const NfDirEntry *entry, gboolean *ret_changed)
{
  NfTree *tree = replica->share->tree;
  const NfAttr *there = &entry->attr;
  guint32 mask = 0;
  NfAttr here;
  int err = nf_tree_stat (tree, fid, &here);

  if (err != 0)
    return err;
  if (!S_ISLNK (there->mode) && ((here.mode ^ there->mode) & 07777))
    mask |= NF_SET_MODE;
  if (here.uid != there->uid)
    mask |= NF_SET_UID;
  if (here.gid != there->gid)
    mask |= NF_SET_GID;
  if (here.mtime != there->mtime)
    mask |= NF_SET_MTIME;
  if (mask & (NF_SET_UID | NF_SET_GID))
    mask |= NF_SET_MODE; /* a change of owner may have cleared bits of it */
  if (S_ISLNK (there->mode))
    mask &= ~(guint32)NF_SET_MODE;
  if (mask == 0)
    return 0;
  *ret_changed = TRUE;
  return nf_tree_set_attr (tree, fid, -1, mask, there);
}

/* ---- xattrs ---- */

static int
set_if_different (NfTree *tree, NfFid fid, const char *name, NfSlice value, gboolean *ret_changed)
{
  g_autofree guint8 *here = g_malloc (NF_XATTR_MAX);
  int len = nf_tree_getxattr (tree, fid, name, here, NF_XATTR_MAX);

  if (len >= 0 && nf_slice_equal (nf_slice (here, (gsize)len), value))
    return 0;
  *ret_changed = TRUE;
  return nf_tree_setxattr (tree, fid, name, value, 0);
}

static int
remove_others (NfTree *tree, NfFid fid, GHashTable *wanted, gboolean *ret_changed)
{
  g_autofree char *list = g_malloc (NF_XATTR_MAX);
  int len = nf_tree_listxattr (tree, fid, list, NF_XATTR_MAX);
  int err = 0;

  if (len == -ENOTSUP)
    return 0;
  if (len < 0)
    return len;
  for (int pos = 0; err == 0 && pos < len; pos += (int)strlen (list + pos) + 1)
    if (!g_hash_table_contains (wanted, list + pos))
      {
        err = nf_tree_removexattr (tree, fid, list + pos);
        if (err == -ENODATA)
          err = 0;
        *ret_changed = TRUE;
      }
  return err;
}

int
nf_reconcile_xattrs (NfReplica *replica, NfFid fid, NfSlice xattrs, gboolean *ret_changed)
{
  NfTree *tree = replica->share->tree;
  g_autoptr (GHashTable) wanted = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  NfReader reader = nf_reader (xattrs);
  int err = 0;

  while (err == 0 && nf_reader_left (&reader) > 0)
    {
      NfSlice name_slice = nf_reader_slice (&reader, NF_NAME_LEN_MAX);
      NfSlice value = nf_reader_slice (&reader, NF_XATTR_MAX);
      if (reader.failed)
        return -EBADMSG;
      char *name = nf_slice_dup (name_slice);
      g_hash_table_add (wanted, name);
      if (nf_tree_xattr_shown (name))
        err = set_if_different (tree, fid, name, value, ret_changed);
    }
  return err != 0 ? err : remove_others (tree, fid, wanted, ret_changed);
}

/* ---- content ---- */

gboolean
nf_reconcile_is_content (int fd, NfSlice data)
{
  g_autofree guint8 *here = g_malloc (data.len + 1);
  gsize done = 0;

  while (done <= data.len)
    {
      ssize_t n = pread (fd, here + done, data.len + 1 - done, (off_t)done);
      if (n < 0 && errno == EINTR)
        continue;
      if (n < 0)
        return FALSE;
      if (n == 0)
        break;
      done += (gsize)n;
    }
  return nf_slice_equal (nf_slice (here, done), data);
}

/* G6: where histories have parted, content that the primary has otherwise may be what only this site had. */
int
nf_reconcile_keep_copy (NfReplica *replica, NfFid fid)
{
  NfShare *share = replica->share;
  char name[NF_NAME_LEN_MAX + 1];
  NfFid parent;

  if (!replica->parted || g_hash_table_contains (replica->copied, &fid)
      || !nf_index_first_name (share->index, fid, &parent, name))
    return 0;
  int err = nf_tree_quarantine_copy (share->tree, parent, nf_slice_str (name),
                                     "not as the primary has it", NULL);
  if (err == 0)
    g_hash_table_add (replica->copied, g_memdup2 (&fid, sizeof fid));
  return err == -ENOENT || err == -ESTALE ? 0 : err;
}

static int
write_content (NfReplica *replica, NfFid fid, int fd, NfSlice data)
{
  struct stat st;
  int err = nf_reconcile_keep_copy (replica, fid);

  if (err == 0 && fstat (fd, &st) != 0)
    err = -errno;
  if (err == 0 && nf_intents_concern (&st))
    err = nf_intents_note (replica->share->intents, fid);
  if (err == 0)
    err = nf_dirty_whole (replica->share, fid); /* until it is whole */
  if (err != 0)
    return err;
  const NfAttr attr = { .fid = fid, .mtime = nf_time_ns (st.st_mtim) };
  err = nf_apply_write (fd, 0, data);
  if (err == 0 && (guint64)st.st_size > data.len && ftruncate (fd, (off_t)data.len) != 0)
    err = -errno;
  return err != 0 ? err : nf_tree_set_attr (replica->share->tree, fid, fd, NF_SET_MTIME, &attr);
}

int
nf_reconcile_content (NfReplica *replica, NfFid fid, NfSlice data, gboolean *ret_changed)
{
  int fd = nf_apply_open (replica->share, fid);
  int err = 0;

  if (fd < 0)
    return fd;
  if (!nf_reconcile_is_content (fd, data))
    {
      *ret_changed = TRUE;
      err = write_content (replica, fid, fd, data);
    }
  (void)close (fd);
  return err != 0 ? err : nf_dirty_clear (replica->share, fid);
}

int
nf_reconcile_size (NfReplica *replica, NfFid fid, guint64 size)
{
  struct stat st;
  int err = nf_dirty_whole (replica->share, fid);
  int fd = err == 0 ? nf_apply_open (replica->share, fid) : err;

  if (fd < 0)
    return fd;
  if (fstat (fd, &st) != 0)
    err = -errno;
  if (err == 0 && (guint64)st.st_size != size)
    err = nf_reconcile_keep_copy (replica, fid);
  if (err == 0 && (guint64)st.st_size != size && ftruncate (fd, (off_t)size) != 0)
    err = -errno;
  (void)close (fd);
  return err;
}
