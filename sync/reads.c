// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/share-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* The calls that change nothing, on the tree: at the primary and, where it has what is asked for, at a replica. */

/* What an entry of READDIR's answer takes beside its name; a little more than it does. */
#define ENTRY_SIZE 144
/* XATTR_LIST_MAX of the kernel. */
/* Most are shorter, and the kernel clears as much as it is asked for. */
#define SHORT_XATTR 256
#define XATTR_LIST_SIZE 65536

static void
give_data (NfMsg *answer, gpointer data, gsize len)
{
  answer->owner = g_bytes_new_take (data, len);
  answer->answer.data = nf_slice (g_bytes_get_data (answer->owner, NULL), len);
}

/* An object that the index doesn't know, or, of one with several names, a name. */
static int
adopt_found (NfShare *share, NfAdoptFunc adopt, NfFid parent, NfSlice name, NfIdent ident,
             NfAttr *attr)
{
  gboolean known = attr->fid != NF_FID_NONE;

  if (known && (attr->nlink < 2 || S_ISDIR (attr->mode) || !adopt))
    return 0;
  return adopt ? adopt (share, parent, name, ident, attr) : -ESTALE;
}

static int
read_lookup (NfShare *share, const NfMsg *call, NfAdoptFunc adopt, NfMsg *answer)
{
  NfFid parent = call->lookup.parent;
  NfSlice name = call->lookup.name;
  NfIdent ident;
  int err = nf_tree_lookup (share->tree, parent, name, &answer->answer.attr, &ident);

  return err != 0 ? err : adopt_found (share, adopt, parent, name, ident, &answer->answer.attr);
}

static int
read_getattr (NfShare *share, const NfMsg *call, int fd, NfMsg *answer)
{
  NfFid fid = call->getattr.fid;

  if (fd >= 0)
    return nf_tree_fstat (share->tree, fd, fid, &answer->answer.attr);
  return nf_tree_stat (share->tree, fid, &answer->answer.attr);
}

static int
read_readlink (NfShare *share, const NfMsg *call, NfMsg *answer)
{
  char target[NF_PATH_LEN_MAX + 1];
  int len = nf_tree_readlink (share->tree, call->readlink.fid, target, sizeof target);

  if (len < 0)
    return len;
  give_data (answer, g_memdup2 (target, (gsize)len), (gsize)len);
  return 0;
}

/* ---- directories ---- */

typedef struct
{
  gsize name_at;
  gsize name_len;
  NfAttr attr;
  NfIdent ident;
  guint64 cookie;
} Entry;

typedef struct
{
  gsize max;
  gsize size;
  GArray *entries;
  GByteArray *names;
  guint64 taken_over; /* at a replica, before the tree was read */
} Listing;

static gboolean
take_entry (NfSlice name, const NfAttr *attr, const NfIdent *ident, guint64 cookie, gpointer data)
{
  Listing *listing = data;
  Entry entry = { listing->names->len, name.len, *attr, *ident, cookie };

  listing->size += ENTRY_SIZE + name.len;
  if (listing->size > listing->max && listing->entries->len > 0)
    return FALSE;
  g_byte_array_append (listing->names, name.data, (guint)name.len);
  g_array_append_val (listing->entries, entry);
  return TRUE;
}

static int
encode_entries (NfShare *share, NfFid fid, Listing *listing, NfAdoptFunc adopt, NfBuf *buf)
{
  for (guint i = 0; i < listing->entries->len; i++)
    {
      Entry *entry = &g_array_index (listing->entries, Entry, i);
      NfDirEntry out = {
        .name = nf_slice (listing->names->data + entry->name_at, entry->name_len),
        .cookie = entry->cookie,
      };
      int err = adopt_found (share, adopt, fid, out.name, entry->ident, &entry->attr);
      if (err == -ENOENT)
        continue; /* gone meanwhile */
      if (err != 0)
        return err;
      if (share->forward && entry->attr.fid != NF_FID_NONE)
        nf_forward_overlay_attr (share->forward, listing->taken_over, -1, &entry->attr);
      out.attr = entry->attr;
      nf_dir_entry_encode (&out, buf);
    }
  return 0;
}

static int
read_readdir (NfShare *share, const NfMsg *call, NfAdoptFunc adopt, NfMsg *answer)
{
  g_autoptr (GArray) entries = g_array_new (FALSE, FALSE, sizeof (Entry));
  g_autoptr (GByteArray) names = g_byte_array_new ();
  Listing listing = { MIN (call->readdir.max, NF_LIST_MAX), 0, entries, names, 0 };
  NfFid fid = call->readdir.fid;
  g_auto (NfBuf) buf = NF_BUF_INIT;
  if (share->forward)
    listing.taken_over = nf_forward_taken_over (share->forward);
  int err = nf_tree_readdir (share->tree, fid, call->readdir.cookie, TRUE, take_entry, &listing);

  if (err == 0)
    err = encode_entries (share, fid, &listing, adopt, &buf);
  if (err != 0)
    return err;
  answer->owner = nf_buf_steal_bytes (&buf);
  answer->answer.data
      = nf_slice (g_bytes_get_data (answer->owner, NULL), g_bytes_get_size (answer->owner));
  return 0;
}

/* ---- content ---- */

/* A descriptor to read FID from: FD if there is one, else one to be closed (RET_OWN). */
static int
reading_fd (NfShare *share, NfFid fid, int fd, int *ret_own)
{
  *ret_own = -1;
  if (fd >= 0)
    return fd;
  fd = nf_opens_fd (share->opens, fid, FALSE);
  if (fd < 0)
    fd = nf_tree_open_fid (share->tree, fid, O_RDONLY);
  *ret_own = fd;
  return fd;
}

static void
close_own (int own)
{
  if (own >= 0)
    close (own);
}

static int
read_read (NfShare *share, const NfMsg *call, int fd, NfMsg *answer)
{
  gsize size = MIN (call->read.size, NF_DATA_MAX);
  int own;

  if (call->read.offset > G_MAXINT64 - size)
    return -EINVAL;
  fd = reading_fd (share, call->read.fid, fd, &own);
  if (fd < 0)
    return fd;
  g_autofree guint8 *buffer = g_malloc (size);
  ssize_t got = pread (fd, buffer, size, (off_t)call->read.offset);
  int err = got < 0 ? -errno : 0;
  close_own (own);
  if (err == 0)
    give_data (answer, g_steal_pointer (&buffer), (gsize)got);
  return err;
}

static int
read_lseek (NfShare *share, const NfMsg *call, int fd, NfMsg *answer)
{
  int whence = (int)call->lseek.whence;
  int own;

  if (whence != SEEK_DATA && whence != SEEK_HOLE && whence != SEEK_END && whence != SEEK_SET)
    return -EINVAL;
  fd = reading_fd (share, call->lseek.fid, fd, &own);
  if (fd < 0)
    return fd;
  /* Moves the descriptor's offset, which nobody uses. */
  off_t at = lseek (fd, (off_t)call->lseek.offset, whence);
  int err = at < 0 ? -errno : 0;
  close_own (own);
  if (err == 0)
    answer->answer.value = (guint64)at;
  return err;
}

/* ---- xattrs and the filesystem ---- */

static int
read_getxattr (NfShare *share, const NfMsg *call, NfMsg *answer)
{
  g_autofree char *name = nf_slice_dup (call->getxattr.name);
  g_autofree char *longer = NULL;
  char value[SHORT_XATTR];

  if (!nf_tree_xattr_shown (name))
    return -ENODATA;
  int len = nf_tree_getxattr (share->tree, call->getxattr.fid, name, value, sizeof value);
  if (len == -ERANGE)
    {
      longer = g_malloc (NF_XATTR_MAX);
      len = nf_tree_getxattr (share->tree, call->getxattr.fid, name, longer, NF_XATTR_MAX);
    }
  if (len < 0)
    return len;
  give_data (answer, g_memdup2 (longer ? longer : value, (gsize)len), (gsize)len);
  return 0;
}

static int
read_listxattr (NfShare *share, const NfMsg *call, NfMsg *answer)
{
  g_autofree char *list = g_malloc (XATTR_LIST_SIZE);
  int len = nf_tree_listxattr (share->tree, call->listxattr.fid, list, XATTR_LIST_SIZE);

  if (len < 0)
    return len;
  give_data (answer, g_memdup2 (list, (gsize)len), (gsize)len);
  return 0;
}

static int
read_statfs (NfShare *share, NfMsg *answer)
{
  struct statvfs vfs;
  g_auto (NfBuf) buf = NF_BUF_INIT;
  int err = nf_tree_statvfs (share->tree, &vfs);

  if (err != 0)
    return err;
  nf_statfs_encode (&vfs, &buf);
  answer->owner = nf_buf_steal_bytes (&buf);
  answer->answer.data
      = nf_slice (g_bytes_get_data (answer->owner, NULL), g_bytes_get_size (answer->owner));
  return 0;
}

int
nf_reads_call (NfShare *share, const NfMsg *call, int fd, NfAdoptFunc adopt, NfMsg *ret_answer)
{
  ret_answer->type = NF_MSG_ANSWER;
  switch (call->type)
    {
    case NF_MSG_LOOKUP:
      return read_lookup (share, call, adopt, ret_answer);
    case NF_MSG_GETATTR:
      return read_getattr (share, call, fd, ret_answer);
    case NF_MSG_READLINK:
      return read_readlink (share, call, ret_answer);
    case NF_MSG_READDIR:
      return read_readdir (share, call, adopt, ret_answer);
    case NF_MSG_READ:
      return read_read (share, call, fd, ret_answer);
    case NF_MSG_GETXATTR:
      return read_getxattr (share, call, ret_answer);
    case NF_MSG_LISTXATTR:
      return read_listxattr (share, call, ret_answer);
    case NF_MSG_STATFS:
      return read_statfs (share, ret_answer);
    case NF_MSG_LSEEK:
      return read_lseek (share, call, fd, ret_answer);
    default:
      return -ENOSYS;
    }
}
