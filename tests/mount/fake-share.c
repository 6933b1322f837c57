// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "tests/mount/fake-share.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

/* Objects are kept open by O_PATH, so that a fid is good for ever. */

typedef struct
{
  NfFid fid;
  guint64 ino;
  int fd;
} Object;

typedef struct
{
  NfShare *share;
  guint64 id;
  NfMsg *call;
  NfFile *file;
  NfCallDone done;
  gpointer data;
} Held;

struct NfShare
{
  pthread_mutex_t lock; /* guards all below */
  pthread_cond_t changed;
  GPtrArray *objects; /* of Object; fid - 1 is the index */
  GHashTable *by_ino;
  gint mode;   /* FakeMode; atomic too */
  GQueue held; /* of Held */
  guint64 last_id;
  guint files;
  guint answering; /* in FAKE_ASYNC */
};

struct NfFile
{
  NfShare *share;
  NfFid fid;
  int fd;
};

typedef struct
{
  char str[64];
} FdPath;

static FdPath
fd_path (int fd)
{
  FdPath path;

  g_snprintf (path.str, sizeof path.str, "/proc/self/fd/%d", fd);
  return path;
}

/* Takes FD. */
static NfFid
object_of (NfShare *share, int fd)
{
  struct stat st;
  int err = fstat (fd, &st);

  g_assert (err == 0);
  pthread_mutex_lock (&share->lock);
  Object *object = g_hash_table_lookup (share->by_ino, &st.st_ino);
  if (object)
    close (fd);
  else
    {
      object = g_new0 (Object, 1);
      *object = (Object){ share->objects->len + 1, st.st_ino, fd };
      g_ptr_array_add (share->objects, object);
      g_hash_table_insert (share->by_ino, &object->ino, object);
    }
  pthread_mutex_unlock (&share->lock);
  return object->fid;
}

static int
fd_of (NfShare *share, NfFid fid)
{
  pthread_mutex_lock (&share->lock);
  int fd
      = fid > 0 && fid <= share->objects->len ? ((Object *)share->objects->pdata[fid - 1])->fd : -1;
  pthread_mutex_unlock (&share->lock);
  return fd;
}

NfShare *
fake_share_new (const char *dir)
{
  NfShare *share = g_new0 (NfShare, 1);
  int fd = open (dir, O_PATH | O_DIRECTORY | O_CLOEXEC);

  g_assert (fd >= 0);
  pthread_mutex_init (&share->lock, NULL);
  pthread_cond_init (&share->changed, NULL);
  share->objects = g_ptr_array_new ();
  share->by_ino = g_hash_table_new (g_int64_hash, g_int64_equal);
  NfFid root = object_of (share, fd);
  g_assert (root == NF_FID_ROOT);
  return share;
}

void
fake_share_free (NfShare *share)
{
  g_assert (share->files == 0 && share->held.length == 0 && share->answering == 0);
  for (guint i = 0; i < share->objects->len; i++)
    {
      Object *object = share->objects->pdata[i];
      close (object->fd);
      g_free (object);
    }
  g_ptr_array_unref (share->objects);
  g_hash_table_unref (share->by_ino);
  g_free (share);
}

guint
fake_share_files (NfShare *share)
{
  return share->files;
}

NfFid
fake_share_fid (NfShare *share, const char *path)
{
  int fd = openat (fd_of (share, NF_FID_ROOT), *path ? path : ".", O_PATH | O_NOFOLLOW | O_CLOEXEC);

  return fd < 0 ? NF_FID_NONE : object_of (share, fd);
}

/* ---- carrying out ---- */

static gint64
ns_of (struct timespec ts)
{
  return (gint64)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static int
attr_of (NfShare *share, NfFid fid, NfAttr *ret_attr)
{
  struct stat st;

  if (fstatat (fd_of (share, fid), "", &st, AT_EMPTY_PATH) != 0)
    return -errno;
  *ret_attr = (NfAttr){ fid,
                        st.st_mode,
                        (guint32)st.st_nlink,
                        st.st_uid,
                        st.st_gid,
                        st.st_rdev,
                        (guint64)st.st_size,
                        (guint64)st.st_blocks,
                        ns_of (st.st_atim),
                        ns_of (st.st_mtim),
                        ns_of (st.st_ctim) };
  return 0;
}

/* By what name an object is found: a fid and a zero-terminated name. */
typedef struct
{
  int dir;
  char name[NF_NAME_LEN_MAX + 1];
} Where;

static Where
where (NfShare *share, NfFid parent, NfSlice name)
{
  Where at = { .dir = fd_of (share, parent) };

  memcpy (at.name, name.data, name.len);
  return at;
}

static int
do_lookup (NfShare *share, Where at, NfAttr *ret_attr)
{
  int fd = openat (at.dir, at.name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

  return fd < 0 ? -errno : attr_of (share, object_of (share, fd), ret_attr);
}

/* The umask doesn't count where the directory says what its files get. */
static guint32
masked (const NfMsg *call, Where at, guint32 mode)
{
  FdPath path = fd_path (at.dir);

  return getxattr (path.str, "system.posix_acl_default", NULL, 0) > 0 ? mode
                                                                      : mode & ~call->head.umask;
}

static int
do_make (NfShare *share, const NfMsg *call, NfAttr *ret_attr, guint64 *ret_value)
{
  Where at = where (share, call->mkdir.parent, call->mkdir.name); /* all begin with these two */
  int fd, rc = 0;

  switch (call->type)
    {
    case NF_MSG_MKDIR:
      rc = mkdirat (at.dir, at.name, masked (call, at, call->mkdir.mode));
      break;
    case NF_MSG_MKNOD:
      rc = mknodat (at.dir, at.name, masked (call, at, call->mknod.mode), call->mknod.rdev);
      break;
    case NF_MSG_SYMLINK:
      {
        g_autofree char *target = nf_slice_dup (call->symlink.target);
        rc = symlinkat (target, at.dir, at.name);
        break;
      }
    default:
      fd = openat (at.dir, at.name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC,
                   masked (call, at, call->create.mode));
      *ret_value = fd >= 0;
      if (fd < 0 && errno == EEXIST && !(call->create.flags & NF_CREATE_EXCL))
        fd = openat (at.dir, at.name,
                     O_RDWR | O_CLOEXEC | (call->create.flags & NF_CREATE_TRUNC ? O_TRUNC : 0));
      rc = fd;
      if (fd >= 0)
        close (fd);
    }
  return rc < 0 ? -errno : do_lookup (share, at, ret_attr);
}

static int
do_setattr (NfShare *share, const NfMsg *call)
{
  const NfAttr *attr = &call->setattr.attr;
  guint32 mask = call->setattr.mask;
  int fd = fd_of (share, call->setattr.fid);
  FdPath path = fd_path (fd);
  struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_nsec = UTIME_OMIT } };
  int rc = 0;

  if (mask & (NF_SET_UID | NF_SET_GID))
    rc |= fchownat (fd, "", mask & NF_SET_UID ? attr->uid : (uid_t)-1,
                    mask & NF_SET_GID ? attr->gid : (gid_t)-1, AT_EMPTY_PATH);
  if (rc == 0 && mask & NF_SET_MODE)
    rc = chmod (path.str, attr->mode);
  if (rc == 0 && mask & NF_SET_SIZE)
    rc = truncate (path.str, (off_t)attr->size);
  if (mask & NF_SET_ATIME)
    times[0] = (struct timespec){ attr->atime / 1000000000, attr->atime % 1000000000 };
  if (mask & NF_SET_MTIME)
    times[1] = (struct timespec){ attr->mtime / 1000000000, attr->mtime % 1000000000 };
  if (mask & NF_SET_ATIME_NOW)
    times[0].tv_nsec = UTIME_NOW;
  if (mask & NF_SET_MTIME_NOW)
    times[1].tv_nsec = UTIME_NOW;
  if (rc == 0 && (times[0].tv_nsec != UTIME_OMIT || times[1].tv_nsec != UTIME_OMIT))
    rc = utimensat (fd, "", times, AT_EMPTY_PATH);
  return rc == 0 ? 0 : -errno;
}

static int
do_rename (NfShare *share, const NfMsg *call)
{
  Where from = where (share, call->rename.parent, call->rename.name);
  Where to = where (share, call->rename.newparent, call->rename.newname);

  return renameat2 (from.dir, from.name, to.dir, to.name, call->rename.flags) == 0 ? 0 : -errno;
}

static int
do_names (NfShare *share, const NfMsg *call)
{
  Where at;

  switch (call->type)
    {
    case NF_MSG_UNLINK:
      at = where (share, call->unlink.parent, call->unlink.name);
      return unlinkat (at.dir, at.name, 0) == 0 ? 0 : -errno;
    case NF_MSG_RMDIR:
      at = where (share, call->rmdir.parent, call->rmdir.name);
      return unlinkat (at.dir, at.name, AT_REMOVEDIR) == 0 ? 0 : -errno;
    case NF_MSG_LINK:
      at = where (share, call->link.parent, call->link.name);
      return linkat (AT_FDCWD, fd_path (fd_of (share, call->link.fid)).str, at.dir, at.name,
                     AT_SYMLINK_FOLLOW)
                     == 0
                 ? 0
                 : -errno;
    default:
      return do_rename (share, call);
    }
}

static void
give (NfMsg *answer, gpointer data, gssize len)
{
  answer->owner = g_bytes_new_take (data, (gsize)MAX (len, 0));
  answer->answer.data = nf_slice (g_bytes_get_data (answer->owner, NULL), (gsize)MAX (len, 0));
}

static int
do_xattr (NfShare *share, const NfMsg *call, NfMsg *answer)
{
  FdPath path = fd_path (fd_of (share, call->getxattr.fid));
  g_autofree char *name
      = call->type == NF_MSG_LISTXATTR ? NULL : nf_slice_dup (call->getxattr.name);
  char *buffer;
  gssize n;

  switch (call->type)
    {
    case NF_MSG_SETXATTR:
      return setxattr (path.str, name, call->setxattr.value.data, call->setxattr.value.len,
                       (int)call->setxattr.flags)
                     == 0
                 ? 0
                 : -errno;
    case NF_MSG_REMOVEXATTR:
      return removexattr (path.str, name) == 0 ? 0 : -errno;
    default:
      buffer = g_malloc (NF_XATTR_MAX);
      n = name ? getxattr (path.str, name, buffer, NF_XATTR_MAX)
               : listxattr (path.str, buffer, NF_XATTR_MAX);
      int err = n < 0 ? -errno : 0;
      give (answer, buffer, n);
      return err;
    }
}

static int
do_readdir (NfShare *share, const NfMsg *call, NfMsg *answer)
{
  int fd = openat (fd_of (share, call->readdir.fid), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *dir = fd < 0 ? NULL : fdopendir (fd);
  NfBuf buf = NF_BUF_INIT;
  struct dirent *entry;

  if (!dir)
    return -errno;
  if (call->readdir.cookie != 0)
    seekdir (dir, (long)call->readdir.cookie);
  while (buf.len < call->readdir.max && (entry = readdir (dir)))
    {
      NfDirEntry ours = { .name = nf_slice_str (entry->d_name), .cookie = (guint64)telldir (dir) };
      Where at = where (share, call->readdir.fid, ours.name);
      if (strcmp (entry->d_name, ".") != 0 && strcmp (entry->d_name, "..") != 0
          && do_lookup (share, at, &ours.attr) == 0)
        nf_dir_entry_encode (&ours, &buf);
    }
  closedir (dir);
  answer->owner = nf_buf_steal_bytes (&buf);
  gsize len;
  const void *data = g_bytes_get_data (answer->owner, &len);
  answer->answer.data = nf_slice (data, len);
  return 0;
}

static int
do_read (NfShare *share, NfFile *file, const NfMsg *call, NfMsg *answer)
{
  char *buffer = g_malloc (call->read.size);
  gssize n = pread (file->fd, buffer, call->read.size, (off_t)call->read.offset);
  int err = n < 0 ? -errno : 0;

  (void)share;
  give (answer, buffer, n);
  return err;
}

static int
do_write (NfShare *share, NfFile *file, const NfMsg *call, NfMsg *answer)
{
  struct stat st;
  off_t offset = (off_t)call->write.offset;

  (void)share;
  if (call->write.flags & NF_WRITE_APPEND && fstat (file->fd, &st) == 0)
    offset = st.st_size;
  gssize n = pwrite (file->fd, call->write.data.data, call->write.data.len, offset);
  if (n < 0)
    return -errno;
  if (call->write.flags & NF_WRITE_KILL_PRIV && fstat (file->fd, &st) == 0)
    (void)fchmod (file->fd, st.st_mode & 0777);
  answer->answer.value = (guint64)n;
  return attr_of (share, file->fid, &answer->answer.attr);
}

static int
do_content (NfShare *share, NfFile *file, const NfMsg *call, NfMsg *answer)
{
  off_t from_offset, offset;
  gssize n;

  switch (call->type)
    {
    case NF_MSG_READ:
      return do_read (share, file, call, answer);
    case NF_MSG_WRITE:
      return do_write (share, file, call, answer);
    case NF_MSG_FALLOCATE:
      return fallocate (file->fd, (int)call->fallocate.mode, (off_t)call->fallocate.offset,
                        (off_t)call->fallocate.length)
                     == 0
                 ? 0
                 : -errno;
    case NF_MSG_LSEEK:
      n = lseek (file->fd, (off_t)call->lseek.offset, (int)call->lseek.whence);
      break;
    default:
      from_offset = (off_t)call->copy.from_offset;
      offset = (off_t)call->copy.offset;
      int from = open (fd_path (fd_of (share, call->copy.from)).str, O_RDONLY | O_CLOEXEC);
      n = copy_file_range (from, &from_offset, file->fd, &offset, call->copy.length, 0);
      if (from >= 0)
        close (from);
    }
  answer->answer.value = (guint64)MAX (n, 0);
  return n < 0 ? -errno : 0;
}

static int
do_readlink (NfShare *share, const NfMsg *call, NfMsg *answer)
{
  char *target = g_malloc (PATH_MAX);
  gssize n = readlinkat (fd_of (share, call->readlink.fid), "", target, PATH_MAX);
  int err = n < 0 ? -errno : 0;

  give (answer, target, n);
  return err;
}

static int
do_statfs (NfShare *share, NfMsg *answer)
{
  struct statvfs vfs;
  NfBuf buf = NF_BUF_INIT;

  if (fstatvfs (fd_of (share, NF_FID_ROOT), &vfs) != 0)
    return -errno;
  nf_statfs_encode (&vfs, &buf);
  answer->owner = nf_buf_steal_bytes (&buf);
  gsize len;
  const void *data = g_bytes_get_data (answer->owner, &len);
  answer->answer.data = nf_slice (data, len);
  return 0;
}

static int
carry_out (NfShare *share, NfFile *file, const NfMsg *call, NfMsg *answer)
{
  int err;

  switch (call->type)
    {
    case NF_MSG_LOOKUP:
      return do_lookup (share, where (share, call->lookup.parent, call->lookup.name),
                        &answer->answer.attr);
    case NF_MSG_GETATTR:
      return attr_of (share, call->getattr.fid, &answer->answer.attr);
    case NF_MSG_READLINK:
      return do_readlink (share, call, answer);
    case NF_MSG_READDIR:
      return do_readdir (share, call, answer);
    case NF_MSG_STATFS:
      return do_statfs (share, answer);
    case NF_MSG_CREATE:
    case NF_MSG_MKDIR:
    case NF_MSG_MKNOD:
    case NF_MSG_SYMLINK:
      return do_make (share, call, &answer->answer.attr, &answer->answer.value);
    case NF_MSG_SETATTR:
      err = do_setattr (share, call);
      return err != 0 ? err : attr_of (share, call->setattr.fid, &answer->answer.attr);
    case NF_MSG_LINK:
      err = do_names (share, call);
      return err != 0 ? err : attr_of (share, call->link.fid, &answer->answer.attr);
    case NF_MSG_UNLINK:
    case NF_MSG_RMDIR:
    case NF_MSG_RENAME:
      return do_names (share, call);
    case NF_MSG_GETXATTR:
    case NF_MSG_LISTXATTR:
    case NF_MSG_SETXATTR:
    case NF_MSG_REMOVEXATTR:
      return do_xattr (share, call, answer);
    default:
      return file ? do_content (share, file, call, answer) : -EBADF;
    }
}

/* As the caller, if we are root. What is done through descriptors isn't judged again. */
static int
carry_out_as (NfShare *share, NfFile *file, const NfMsg *call, NfMsg *answer)
{
  gboolean changes = nf_msg_flags ((int)call->type) & NF_MSG_CHANGES;
  gboolean switches = changes && geteuid () == 0 && call->head.uid != 0
                      && call->type != NF_MSG_WRITE && call->type != NF_MSG_FALLOCATE;

  answer->type = NF_MSG_ANSWER;
  if (switches)
    {
      (void)syscall (SYS_setgroups, (size_t)call->head.n_groups, call->head.groups);
      (void)setfsgid (call->head.gid);
      (void)setfsuid (call->head.uid);
    }
  else if (changes && geteuid () == 0)
    (void)setfsgid (call->head.gid);
  int err = carry_out (share, file, call, answer);
  if (changes && geteuid () == 0)
    {
      (void)setfsuid (0);
      (void)setfsgid (0);
      (void)syscall (SYS_setgroups, (size_t)0, NULL);
    }
  return err;
}

/* ---- answering ---- */

static void
answer_now (NfShare *share, NfFile *file, const NfMsg *call, NfCallDone done, gpointer data)
{
  g_auto (NfMsg) answer = { 0 };
  int err = carry_out_as (share, file, call, &answer);

  done (data, err, &answer);
}

static void
answer_held (Held *held)
{
  answer_now (held->share, held->file, held->call, held->done, held->data);
  nf_msg_free (held->call);
  g_free (held);
}

static void *
answer_late (void *data)
{
  Held *held = data;
  NfShare *share = held->share;

  g_usleep (200); /* so that the call has mostly returned by then, but not always */
  pthread_mutex_lock (&share->lock);
  share->answering--;
  pthread_mutex_unlock (&share->lock);
  answer_held (held);
  return NULL;
}

static void
call (NfShare *share, NfFile *file, const NfMsg *msg, NfCallDone done, gpointer data,
      guint64 *ret_id)
{
  pthread_t thread;
  Held *held;

  pthread_mutex_lock (&share->lock);
  FakeMode mode = (FakeMode)share->mode;
  guint64 id = mode == FAKE_SYNC ? 0 : ++share->last_id;
  *ret_id = id;
  if (mode != FAKE_SYNC)
    {
      held = g_new0 (Held, 1);
      *held = (Held){ share, id, nf_msg_dup (msg), file, done, data };
      if (mode == FAKE_HELD)
        g_queue_push_tail (&share->held, held);
      else
        share->answering++;
    }
  pthread_mutex_unlock (&share->lock);
  if (mode == FAKE_SYNC)
    answer_now (share, file, msg, done, data);
  else if (mode == FAKE_ASYNC)
    {
      int err = pthread_create (&thread, NULL, answer_late, held);
      g_assert (err == 0);
      pthread_detach (thread);
    }
}

void
fake_share_set (NfShare *share, FakeMode mode)
{
  Held *held;

  pthread_mutex_lock (&share->lock);
  g_atomic_int_set (&share->mode, (gint)mode);
  while (mode != FAKE_HELD && (held = g_queue_pop_head (&share->held)))
    {
      pthread_mutex_unlock (&share->lock);
      answer_held (held);
      pthread_mutex_lock (&share->lock);
    }
  pthread_mutex_unlock (&share->lock);
}

guint
fake_share_held (NfShare *share)
{
  pthread_mutex_lock (&share->lock);
  guint n = share->held.length;
  pthread_mutex_unlock (&share->lock);
  return n;
}

/* ---- sync/share.h ---- */

void
nf_share_call (NfShare *share, const NfMsg *msg, NfCallDone done, gpointer data, guint64 *ret_id)
{
  call (share, NULL, msg, done, data, ret_id);
}

void
nf_file_call (NfFile *file, const NfMsg *msg, NfCallDone done, gpointer data, guint64 *ret_id)
{
  call (file->share, file, msg, done, data, ret_id);
}

void
nf_share_cancel (NfShare *share, guint64 id)
{
  Held *found = NULL;

  pthread_mutex_lock (&share->lock);
  for (GList *l = share->held.head; l && !found; l = l->next)
    if (((Held *)l->data)->id == id)
      {
        found = l->data;
        g_queue_delete_link (&share->held, l);
        break;
      }
  pthread_mutex_unlock (&share->lock);
  if (!found)
    return;
  found->done (found->data, -EINTR, NULL);
  nf_msg_free (found->call);
  g_free (found);
}

gboolean
nf_share_has_locks (NfShare *share, NfFid fid)
{
  (void)share;
  (void)fid;
  return FALSE;
}

void
nf_share_open_file (NfShare *share, NfFid fid, int flags, gboolean created, NfOpenDone done,
                    gpointer data)
{
  int fd = open (fd_path (fd_of (share, fid)).str, flags | O_CLOEXEC);
  NfFile *file = NULL;

  (void)created;
  if (fd >= 0)
    {
      file = g_new0 (NfFile, 1);
      *file = (NfFile){ share, fid, fd };
      pthread_mutex_lock (&share->lock);
      share->files++;
      pthread_mutex_unlock (&share->lock);
    }
  done (data, file ? 0 : -errno, file);
}

void
nf_file_close (NfFile *file)
{
  pthread_mutex_lock (&file->share->lock);
  file->share->files--;
  pthread_mutex_unlock (&file->share->lock);
  close (file->fd);
  g_free (file);
}

/* In FAKE_SYNC as at a primary; else the READ call has to be used. */
int
nf_file_read_fd (NfFile *file, guint64 offset, guint64 length)
{
  (void)offset;
  (void)length;
  return g_atomic_int_get (&file->share->mode) == FAKE_SYNC ? file->fd : -1;
}

int
nf_file_pass (NfFile *file, gboolean alone)
{
  (void)alone;
  return nf_file_read_fd (file, 0, 0);
}

void
nf_file_unpass (NfFile *file)
{
  (void)file;
}

gssize
nf_file_read (NfFile *file, void *buffer, gsize size, guint64 offset)
{
  gssize n = -EAGAIN;

  if (g_atomic_int_get (&file->share->mode) == FAKE_SYNC)
    {
      n = pread (file->fd, buffer, size, (off_t)offset);
      n = n < 0 ? -errno : n;
    }
  return n;
}

void
nf_share_flush (NfShare *share, NfFid fid, NfFile *file, gboolean sync, gboolean datasync,
                NfCallDone done, gpointer data)
{
  int err = 0;

  (void)share;
  (void)fid;
  if (sync && file)
    err = (datasync ? fdatasync (file->fd) : fsync (file->fd)) == 0 ? 0 : -errno;
  done (data, err, NULL);
}

void
nf_statfs_encode (const struct statvfs *vfs, NfBuf *buf)
{
  nf_buf_put_raw (buf, vfs, sizeof *vfs);
}

gboolean
nf_statfs_decode (NfSlice data, struct statvfs *ret_vfs)
{
  if (data.len != sizeof *ret_vfs)
    return FALSE;
  memcpy (ret_vfs, data.data, sizeof *ret_vfs);
  return TRUE;
}
