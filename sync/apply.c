// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/apply.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sync/intents.h"
#include "sync/times.h"

/* One record on the tree. Ops are assignments, so that each function here asks what is, and changes it to what the
 * record says, whether the tree is older or newer than the op: a redo goes over ops that were applied already. */

/* No system has smaller pages. */
#define PAGE_BYTES 4096
/* Zeros are written in pieces of this size where the filesystem can't punch. */
#define ZEROS_SIZE (64 * 1024)

static void
tell (NfShare *share, const NfInval *inval)
{
  if (share->host->invalidate)
    share->host->invalidate (share->host->data, share, inval);
}

void
nf_apply_invalidate (NfShare *share, NfInvalKind kind, NfFid fid, guint64 offset, guint64 length)
{
  const NfInval inval = { .kind = kind, .fid = fid, .offset = offset, .length = length };

  tell (share, &inval);
}

void
nf_apply_invalidate_content (NfShare *share, NfFid fid, int fd, guint64 offset, guint64 length)
{
  NfInval inval = { .kind = NF_INVAL_DATA, .fid = fid, .offset = offset, .length = length };
  struct stat st;

  /* Without the last byte the kernel finds out a little later how long the file is: see fs/inval-tell.c. */
  if (fstat (fd, &st) == 0 && st.st_size > 0 && pread (fd, &inval.last, 1, st.st_size - 1) == 1)
    inval.end = (guint64)st.st_size;
  tell (share, &inval);
}

void
nf_apply_invalidate_name (NfShare *share, NfFid parent, NfSlice name)
{
  const NfInval inval = { .kind = NF_INVAL_NAME, .parent = parent, .name = name };

  tell (share, &inval);
}

gboolean
nf_apply_here (NfShare *share, NfFid fid)
{
  NfObject object;

  return nf_index_get (share->index, fid, &object) && object.ident.ino != 0;
}

/* A personal proxy owns the file, but its mode may forbid even the owner to write. */
static int
open_forbidden (NfShare *share, NfFid fid)
{
  char path[64];
  struct stat st;
  int path_fd = nf_tree_open_fid (share->tree, fid, O_PATH);

  if (path_fd < 0)
    return path_fd;
  g_snprintf (path, sizeof path, "/proc/self/fd/%d", path_fd);
  int fd = -EACCES;
  if (fstat (path_fd, &st) == 0 && S_ISREG (st.st_mode)
      && fchmodat (AT_FDCWD, path, (st.st_mode & 07777) | 0600, 0) == 0)
    {
      fd = open (path, O_RDWR | O_CLOEXEC);
      if (fd < 0)
        fd = -errno;
      if (fchmodat (AT_FDCWD, path, st.st_mode & 07777, 0) != 0 && fd >= 0)
        {
          int err = -errno;
          (void)close (fd);
          fd = err;
        }
    }
  (void)close (path_fd);
  return fd;
}

int
nf_apply_open (NfShare *share, NfFid fid)
{
  int fd = nf_tree_open_fid (share->tree, fid, O_RDWR);

  return fd == -EACCES ? open_forbidden (share, fid) : fd;
}

int
nf_apply_write (int fd, guint64 offset, NfSlice bytes)
{
  while (bytes.len > 0)
    {
      ssize_t n = pwrite (fd, bytes.data, bytes.len, (off_t)offset);
      if (n < 0 && errno == EINTR)
        continue;
      if (n <= 0)
        return n < 0 ? -errno : -EIO;
      bytes = nf_slice (bytes.data + n, bytes.len - (gsize)n);
      offset += (guint64)n;
    }
  return 0;
}

static int
write_zeros (int fd, guint64 offset, guint64 length)
{
  static const guint8 zeros[ZEROS_SIZE];
  struct stat st;

  if (fstat (fd, &st) != 0)
    return -errno;
  /* Past the end there is nothing but zeros: the size is set by the caller. */
  guint64 end = MIN (offset + length, (guint64)st.st_size);
  while (offset < end)
    {
      gsize n = MIN (end - offset, ZEROS_SIZE);
      int err = nf_apply_write (fd, offset, nf_slice (zeros, n));
      if (err != 0)
        return err;
      offset += n;
    }
  return 0;
}

int
nf_apply_range (int fd, NfRangeKind range, guint64 offset, guint64 length, NfSlice bytes)
{
  int mode = FALLOC_FL_KEEP_SIZE;

  if (range == NF_RANGE_DATA)
    return nf_apply_write (fd, offset, bytes);
  if (length == 0)
    return 0;
  if (range == NF_RANGE_HOLE)
    mode |= FALLOC_FL_PUNCH_HOLE;
  else if (range == NF_RANGE_ZERO)
    mode |= FALLOC_FL_ZERO_RANGE;
  if (fallocate (fd, mode, (off_t)offset, (off_t)length) == 0 || range == NF_RANGE_ALLOC)
    return 0; /* space reserved ahead is no part of what a file is */
  if (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL)
    return -errno;
  return write_zeros (fd, offset, length);
}

static gint64
mtime_of (const struct stat *st)
{
  return nf_time_ns (st->st_mtim);
}

/* A descriptor of file OBJECT that stays HAND's. */
static int
open_at_hand (NfShare *share, NfAtHand *hand, const NfObject *object)
{
  int fd = nf_at_hand_find (hand, object);

  if (fd >= 0)
    return fd;
  fd = nf_apply_open (share, object->fid);
  if (fd >= 0)
    nf_at_hand_take (hand, object->fid, object->ident, fd);
  return fd;
}

/* Does the kernel write these bytes and then say in one step how long the file is? */
static gboolean
grows_in_one_step (const NfRecord *record)
{
  return record->range == NF_RANGE_DATA && record->length > 0
         && record->offset + record->length == record->attr.size
         && record->offset / PAGE_BYTES == (record->attr.size - 1) / PAGE_BYTES;
}

/* The range, and the size afterwards. The file has BEFORE bytes.
 *
 * A file grows first, at once, and then gets its bytes, under the lock that readers take: a stat in between must not see
 * how far the kernel has come with a write that reaches over pages. Who reads past us takes no lock, and would see zeros:
 * for him the bytes come first. */
static int
put_range (NfShare *share, int fd, const NfRecord *record, NfSlice bytes, guint64 before)
{
  guint64 size = before;
  int err = 0;

  if (before < record->attr.size && !grows_in_one_step (record)
      && !nf_opens_passed (share->opens, record->fid))
    {
      err = ftruncate (fd, (off_t)record->attr.size) != 0 ? -errno : 0;
      size = record->attr.size;
    }
  if (err == 0)
    err = nf_apply_range (fd, record->range, record->offset, record->length, bytes);
  if (err != 0 && before < record->attr.size)
    (void)ftruncate (
        fd, (off_t)before); /* no space: it is done again, and until then nothing of it is seen */
  if (err == 0 && record->range == NF_RANGE_DATA)
    size = MAX (size, record->offset + record->length);
  if (err == 0 && size != record->attr.size && ftruncate (fd, (off_t)record->attr.size) != 0)
    err = -errno;
  return err;
}

/* RECORD has been carried out on a file that had BEFORE bytes. */
static void
invalidate_range (NfShare *share, int fd, const NfRecord *record, NfSlice bytes, guint64 before)
{
  NfInval inval = {
    .kind = NF_INVAL_DATA, .fid = record->fid, .offset = record->offset, .length = record->length
  };
  gboolean whole = record->range == NF_RANGE_DATA && bytes.len == record->length;

  if (before < record->attr.size && whole && bytes.len > 0
      && record->offset + record->length == record->attr.size)
    {
      inval.last = bytes.data[bytes.len - 1];
      inval.end = record->attr.size;
      tell (share, &inval);
    }
  else if (before < record->attr.size)
    nf_apply_invalidate_content (share, record->fid, fd, record->offset, record->length);
  else if (before != record->attr.size && record->attr.size < record->offset + record->length)
    nf_apply_invalidate (share, NF_INVAL_DATA, record->fid, 0, 0);
  else
    tell (share, &inval);
}

static int
apply_data (NfShare *share, NfAtHand *hand, const NfRecord *record, NfSlice bytes, guint flags)
{
  NfObject object;
  struct stat st;

  if (!nf_index_get (share->index, record->fid, &object) || object.ident.ino == 0)
    return 0; /* gone meanwhile, or not here yet: whoever brings it brings the content */
  int fd = open_at_hand (share, hand, &object);
  if (fd < 0)
    return fd;
  if (fstat (fd, &st) != 0)
    return -errno;
  guint64 before = (guint64)st.st_size;
  const NfAttr was = { .fid = record->fid, .mtime = mtime_of (&st) };
  int err = record->offset < before ? nf_intents_note (share->intents, record->fid) : 0;
  if (err == 0)
    err = put_range (share, fd, record, bytes, before);
  /* Writing has set it to the present. */
  if (err == 0)
    err = nf_tree_set_attr (share->tree, record->fid, fd, NF_SET_MTIME,
                            flags & NF_APPLY_KEEP_MTIME ? &was : &record->attr);
  else
    (void)nf_tree_set_attr (share->tree, record->fid, fd, NF_SET_MTIME, &was);
  if (err == 0 && !(flags & NF_APPLY_OWN))
    invalidate_range (share, fd, record, bytes, before);
  return err;
}

/* With the size the kernel sets the mtime to the present; what is known newer is put back. */
static int
apply_size (NfShare *share, int fd, const NfRecord *record)
{
  struct stat st;

  if (fstat (fd, &st) != 0)
    return -errno;
  int err
      = record->attr.size < (guint64)st.st_size ? nf_intents_note (share->intents, record->fid) : 0;
  if (err != 0)
    return err;
  if (ftruncate (fd, (off_t)record->attr.size) != 0)
    return -errno;
  if (record->mask & NF_SET_MTIME)
    return 0;
  const NfAttr was = { .fid = record->fid, .mtime = mtime_of (&st) };
  return nf_tree_set_attr (share->tree, record->fid, fd, NF_SET_MTIME, &was);
}

static int
apply_attr (NfShare *share, NfAtHand *hand, const NfRecord *record, guint flags)
{
  guint32 mask = record->mask
                 & (NF_SET_MODE | NF_SET_UID | NF_SET_GID | NF_SET_SIZE | NF_SET_ATIME
                    | NF_SET_MTIME | NF_SET_CTIME_ONLY);
  NfObject object;
  int err = 0;

  if (mask == 0 || !nf_index_get (share->index, record->fid, &object) || object.ident.ino == 0)
    return 0;
  if (mask & NF_SET_SIZE)
    {
      /* By our own descriptor: the mode may forbid it to all others. */
      int fd = open_at_hand (share, hand, &object);
      if (fd < 0)
        return fd;
      err = apply_size (share, fd, record);
    }
  if (err == 0 && (mask & ~(guint32)NF_SET_SIZE))
    err = nf_tree_set_attr (share->tree, record->fid, nf_at_hand_find (hand, &object),
                            mask & ~(guint32)NF_SET_SIZE, &record->attr);
  if (err == 0 && !(flags & NF_APPLY_OWN))
    {
      if (mask & NF_SET_SIZE)
        nf_apply_invalidate (share, NF_INVAL_DATA, record->fid, 0, 0);
      else
        nf_apply_invalidate (share, NF_INVAL_ATTR, record->fid, 0, 0);
    }
  return err;
}

static int
apply_xattr (NfShare *share, const NfRecord *record, guint flags)
{
  g_autofree char *name = nf_slice_dup (record->xname);
  int err;

  if (!nf_apply_here (share, record->fid) || !nf_tree_xattr_shown (name))
    return 0;
  if (record->removes)
    err = nf_tree_removexattr (share->tree, record->fid, name);
  else
    err = nf_tree_setxattr (share->tree, record->fid, name, record->value, 0);
  if (err == -ENODATA)
    err = 0;
  if (err == 0 && !(flags & NF_APPLY_OWN))
    nf_apply_invalidate (share, NF_INVAL_ATTR, record->fid, 0, 0);
  return err;
}

static int
apply_one (NfShare *share, NfAtHand *hand, const NfRecord *record, NfSlice data_bytes, guint flags,
           GArray *lost)
{
  switch (record->kind)
    {
    case NF_OP_NAMES:
      return nf_apply_names (share, hand, record, flags, lost);
    case NF_OP_ATTR:
      return apply_attr (share, hand, record, flags);
    case NF_OP_XATTR:
      return apply_xattr (share, record, flags);
    case NF_OP_DATA:
      return apply_data (share, hand, record, data_bytes, flags);
    case NF_OP_ABORT:
    case NF_OP_EPOCH:
      return 0;
    }
  return -EINVAL;
}

int
nf_apply_with (NfShare *share, NfAtHand *hand, const NfRecord *record, NfSlice data_bytes,
               guint flags, GArray *lost)
{
  gboolean content = record->kind == NF_OP_DATA || record->kind == NF_OP_ATTR;
  pthread_rwlock_t *lock = content ? nf_share_content_lock (share, record->fid) : NULL;

  if (lock)
    pthread_rwlock_wrlock (lock); /* what reaches over pages isn't seen by halves */
  int err = apply_one (share, hand, record, data_bytes, flags, lost);
  if (lock)
    pthread_rwlock_unlock (lock);
  return err;
}
