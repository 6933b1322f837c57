// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/tree-private.h"
#include "sync/times.h"

/* Attributes. As root they are set on the object, and only what the filesystem refuses (an owner on vfat, a device in
 * a container) is recorded in the index. In personal mode owner, special bits and device numbers are always recorded,
 * and the mode on disk keeps the daemon's own access. The record says what differs from the disk, nothing more: a file
 * that is on disk as it should be has none. */

#define KEY_ATTR "attr"

void
nf_tree_recorded_load (NfTree *tree, const NfObject *object, NfTreeRecorded *ret_recorded)
{
  g_autoptr (GBytes) bytes = NULL;
  NfTreeRecorded recorded;
  NfReader reader;

  *ret_recorded = (NfTreeRecorded){ 0 };
  if (!object->extra)
    return;
  bytes = nf_index_get_extra (tree->index, object->fid, KEY_ATTR);
  if (bytes == NULL)
    return;
  reader = nf_reader (nf_slice (g_bytes_get_data (bytes, NULL), g_bytes_get_size (bytes)));
  recorded.mask = nf_reader_u32 (&reader);
  recorded.mode = nf_reader_u32 (&reader);
  recorded.uid = nf_reader_u32 (&reader);
  recorded.gid = nf_reader_u32 (&reader);
  recorded.rdev = nf_reader_u64 (&reader);
  if (nf_reader_done (&reader))
    *ret_recorded = recorded;
}

int
nf_tree_recorded_store (NfTree *tree, NfFid fid, const NfTreeRecorded *recorded)
{
  g_auto (NfBuf) buf = NF_BUF_INIT;

  if (recorded->mask == 0)
    return nf_index_set_extra (tree->index, fid, KEY_ATTR, NF_SLICE_NONE);
  nf_buf_put_u32 (&buf, recorded->mask);
  nf_buf_put_u32 (&buf, recorded->mode);
  nf_buf_put_u32 (&buf, recorded->uid);
  nf_buf_put_u32 (&buf, recorded->gid);
  nf_buf_put_u64 (&buf, recorded->rdev);
  return nf_index_set_extra (tree->index, fid, KEY_ATTR, nf_buf_slice (&buf));
}

guint32
nf_tree_disk_mode (NfTree *tree, guint32 type, guint32 mode)
{
  if (!tree->options.personal)
    return mode & 07777;
  return (mode & 0777) | (type == S_IFDIR ? 0700 : 0600);
}

void
nf_tree_proc_path (int fd, NfTreeProcPath *ret_path)
{
  g_snprintf (ret_path->str, sizeof ret_path->str, "/proc/self/fd/%d", fd);
}

gboolean
nf_tree_is_refusal (int rc)
{
  return rc == -EPERM || rc == -EACCES || rc == -ENOTSUP || rc == -EOPNOTSUPP || rc == -EINVAL
         || rc == -ENOSYS;
}

/* FIELD of the record is VALUE if DIFFERS, else not recorded. */
static void
record_field (NfTreeTarget *target, guint32 bit, guint32 *field, guint32 value, gboolean differs)
{
  guint32 mask = differs ? target->recorded.mask | bit : target->recorded.mask & ~bit;
  guint32 now = differs ? value : 0;

  target->changed |= mask != target->recorded.mask || now != *field;
  target->recorded.mask = mask;
  *field = now;
}

static int
set_size (const NfTreeTarget *target, guint64 size)
{
  NfTreeProcPath path;

  if (!target->is_path && ftruncate (target->fd, (off_t)size) == 0)
    return 0;
  /* A descriptor that wasn't opened for writing gives EINVAL or EBADF. */
  if (!target->is_path && errno != EINVAL && errno != EBADF)
    return -errno;
  nf_tree_proc_path (target->fd, &path);
  return truncate (path.str, (off_t)size) == 0 ? 0 : -errno;
}

static int
set_owner (NfTree *tree, NfTreeTarget *target, guint32 mask, const NfAttr *attr)
{
  uid_t uid = (mask & NF_SET_UID) != 0 ? attr->uid : (uid_t)-1;
  gid_t gid = (mask & NF_SET_GID) != 0 ? attr->gid : (gid_t)-1;
  gboolean refused = tree->options.personal;
  const NfTreeStat *was = target->stat;
  NfTreeStat stat;

  if (!refused && fchownat (target->fd, "", uid, gid, AT_EMPTY_PATH) != 0)
    {
      if (!nf_tree_is_refusal (-errno))
        return -errno;
      refused = TRUE;
    }
  if (refused && was == NULL)
    {
      int rc = nf_tree_statx (tree, target->fd, "", &stat);

      if (rc != 0)
        return rc;
      was = &stat;
    }
  if ((mask & NF_SET_UID) != 0)
    record_field (target, NF_SET_UID, &target->recorded.uid, uid, refused && was->attr.uid != uid);
  if ((mask & NF_SET_GID) != 0)
    record_field (target, NF_SET_GID, &target->recorded.gid, gid, refused && was->attr.gid != gid);
  return 0;
}

static int
chmod_fd (const NfTreeTarget *target, guint32 mode)
{
  NfTreeProcPath path;

  if (!target->is_path)
    return fchmod (target->fd, mode) == 0 ? 0 : -errno;
  nf_tree_proc_path (target->fd, &path);
  return chmod (path.str, mode) == 0 ? 0 : -errno;
}

static int
set_mode (NfTree *tree, NfTreeTarget *target, guint32 mode)
{
  guint32 on_disk = nf_tree_disk_mode (tree, target->type, mode);
  int rc;

  if (target->type == S_IFLNK)
    return 0;
  rc = chmod_fd (target, on_disk);
  if (rc != 0 && !nf_tree_is_refusal (rc))
    return rc;
  record_field (target, NF_SET_MODE, &target->recorded.mode, mode & 07777,
                rc != 0 || on_disk != (mode & 07777));
  return 0;
}

static int
set_times (const NfTreeTarget *target, guint32 mask, const NfAttr *attr)
{
  struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_nsec = UTIME_OMIT } };
  NfTreeProcPath path;

  if ((mask & (NF_SET_ATIME | NF_SET_ATIME_NOW)) != 0)
    times[0] = nf_time_spec (attr->atime);
  if ((mask & (NF_SET_MTIME | NF_SET_MTIME_NOW)) != 0)
    times[1] = nf_time_spec (attr->mtime);
  if (!target->is_path)
    return futimens (target->fd, times) == 0 ? 0 : -errno;
  if (utimensat (target->fd, "", times, AT_EMPTY_PATH) == 0)
    return 0;
  if (errno != EINVAL)
    return -errno;
  /* Kernels before 5.8 don't know AT_EMPTY_PATH here. */
  nf_tree_proc_path (target->fd, &path);
  return utimensat (AT_FDCWD, path.str, times, 0) == 0 ? 0 : -errno;
}

/* The order matters: truncation and a new owner clear bits of the mode, everything touches the times. */
int
nf_tree_apply_attr (NfTree *tree, NfTreeTarget *target, guint32 mask, const NfAttr *attr)
{
  int rc = 0;

  if ((mask & NF_SET_SIZE) != 0 && target->type == S_IFREG)
    rc = set_size (target, attr->size);
  if (rc == 0 && (mask & (NF_SET_UID | NF_SET_GID)) != 0)
    rc = set_owner (tree, target, mask, attr);
  if (rc == 0 && (mask & NF_SET_MODE) != 0)
    rc = set_mode (tree, target, attr->mode);
  if (rc == 0 && (mask & (NF_SET_ATIME | NF_SET_ATIME_NOW | NF_SET_MTIME | NF_SET_MTIME_NOW)) != 0)
    rc = set_times (target, mask, attr);
  if (rc == 0 && mask == NF_SET_CTIME_ONLY
      && fchownat (target->fd, "", (uid_t)-1, (gid_t)-1, AT_EMPTY_PATH) != 0)
    rc = -errno;
  return rc;
}

typedef struct
{
  guint32 mask;
  const NfAttr *attr;
} SetCall;

static int
set_on_fd (NfTree *tree, const NfObject *object, int fd, gboolean is_path, const SetCall *call,
           const NfTreeStat *known)
{
  const guint32 recordable = NF_SET_MODE | NF_SET_UID | NF_SET_GID;
  NfTreeTarget target = { .fd = fd, .is_path = is_path, .stat = known };
  NfTreeStat stat;
  int rc = 0;

  if ((call->mask & recordable) != 0)
    {
      nf_tree_recorded_load (tree, object, &target.recorded);
      /* A file is one on the disk, too; what isn't may be a device that couldn't be made. */
      if (target.stat == NULL && !S_ISREG (object->mode))
        {
          rc = nf_tree_statx (tree, fd, "", &stat);
          target.stat = &stat;
        }
    }
  if (rc != 0)
    return rc;
  target.type = target.stat != NULL ? target.stat->type : object->mode;
  rc = nf_tree_apply_attr (tree, &target, call->mask, call->attr);
  if (rc == 0 && target.changed)
    rc = nf_tree_recorded_store (tree, object->fid, &target.recorded);
  return rc;
}

static int
set_on_object (NfTree *tree, const NfObject *object, int dir_fd, const char *name, gpointer data)
{
  const SetCall *call = data;
  NfTreeStat stat;
  int fd, rc;

  if (name[0] == '\0') /* a directory's own descriptor */
    return set_on_fd (tree, object, dir_fd, TRUE, call, NULL);
  fd = nf_tree_open_verified (tree, object, dir_fd, name, O_PATH, &stat);
  if (fd < 0)
    return fd;
  rc = set_on_fd (tree, object, fd, TRUE, call, &stat);
  close (fd);
  return rc;
}

int
nf_tree_set_attr (NfTree *tree, NfFid fid, int fd_or_minus_1, guint32 mask, const NfAttr *attr)
{
  SetCall call = { mask, attr };
  NfObject object;

  if (fd_or_minus_1 < 0)
    return nf_tree_with_object (tree, fid, set_on_object, &call);
  if (!nf_index_get (tree->index, fid, &object))
    return -ESTALE;
  return set_on_fd (tree, &object, fd_or_minus_1, FALSE, &call, NULL);
}
