// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/primary-internal.h"

#include <errno.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "sync/creds.h"
#include "sync/sole.h"
#include "sync/tree-private.h"
#include "sync/times.h"

/* New objects: CREATE, MKDIR, MKNOD, SYMLINK.
 *
 * What the new object will be is foretold for the record; the kernel decides (set-group-id directories, default ACLs,
 * mount options), and where it came out otherwise a correction follows in the same locked section. */

#define ACL_ACCESS "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default"

typedef struct
{
  NfFid parent;
  NfSlice name_slice;
  char name[NF_NAME_LEN_MAX + 1];
  guint32 mode; /* with type */
  guint64 rdev;
  char target[NF_PATH_LEN_MAX + 1];
  NfSlice target_slice;
  gboolean create; /* CREATE: keep it open */
  NfFid fid;
  NfTreeDir *dir;
  int dir_fd;
  int fd;          /* of a file made by CREATE, or a directory; -1 */
  gboolean unmade; /* it was there for a moment */
  NfTreeStat stat;
} Making;

static int
parse (NfExec *exec, Making *making)
{
  const NfMsg *call = exec->call;

  making->fd = -1;
  making->unmade = FALSE;
  switch (call->type)
    {
    case NF_MSG_CREATE:
      making->parent = call->create.parent;
      making->name_slice = call->create.name;
      making->mode = S_IFREG | (call->create.mode & 07777);
      making->create = TRUE;
      break;
    case NF_MSG_MKDIR:
      making->parent = call->mkdir.parent;
      making->name_slice = call->mkdir.name;
      making->mode = S_IFDIR | (call->mkdir.mode & 01777);
      break;
    case NF_MSG_MKNOD:
      making->parent = call->mknod.parent;
      making->name_slice = call->mknod.name;
      making->mode = call->mknod.mode & (S_IFMT | 07777);
      making->rdev = call->mknod.rdev;
      if ((making->mode & S_IFMT) == 0)
        making->mode |= S_IFREG;
      if (S_ISDIR (making->mode) || S_ISLNK (making->mode))
        return -EPERM;
      break;
    default:
      making->parent = call->symlink.parent;
      making->name_slice = call->symlink.name;
      making->mode = S_IFLNK | 0777;
      making->target_slice = call->symlink.target;
      if (making->target_slice.len == 0)
        return -ENOENT;
      if (making->target_slice.len > NF_PATH_LEN_MAX)
        return -ENAMETOOLONG;
      memcpy (making->target, making->target_slice.data, making->target_slice.len);
      break;
    }
  return nf_exec_name (making->parent, making->name_slice, making->name);
}

/* What the object will be, as far as can be told. */
static int
foretell (NfExec *exec, const Making *making, NfAttr *ret_attr)
{
  struct stat parent;
  guint32 mode = making->mode;

  if (fstat (making->dir_fd, &parent) != 0)
    return -errno;
  if (!S_ISLNK (mode))
    mode &= ~(exec->head->umask & 0777);
  if (S_ISDIR (mode) && (parent.st_mode & S_ISGID))
    mode |= S_ISGID;
  *ret_attr = (NfAttr){
    .fid = making->fid,
    .mode = mode,
    .nlink = S_ISDIR (mode) ? 2 : 1,
    .uid = exec->share->conf.personal ? geteuid () : exec->head->uid,
    .gid = exec->share->conf.personal ? getegid () : exec->head->gid,
    .rdev = S_ISCHR (mode) || S_ISBLK (mode) ? making->rdev : 0,
    .size = making->target_slice.len,
    .atime = exec->time,
    .mtime = exec->time,
    .ctime = exec->time,
  };
  if (parent.st_mode & S_ISGID)
    ret_attr->gid = parent.st_gid;
  return 0;
}

static int
append (NfExec *exec, const Making *making, const NfAttr *attr)
{
  NfRecord record = {
    .kind = NF_OP_NAMES,
    .n_names = 1,
    .names = { { making->parent, making->name_slice, making->fid, making->mode & S_IFMT } },
    .creates = TRUE,
    .fid = making->fid,
    .attr = *attr,
    .target = making->target_slice,
  };

  record.path = nf_exec_path_in (exec, making->parent, making->name_slice);
  return nf_exec_append (exec, &record, TRUE);
}

/* The system call, with the caller's credentials. */
static int
call_kernel (NfExec *exec, Making *making)
{
  const char *name = making->name;
  mode_t mode = making->mode & 07777;
  int rc;

  if (!nf_exec_assume (exec, TRUE))
    return -EPERM;
  if (making->create)
    rc = making->fd
        = openat (making->dir_fd, name, O_CREAT | O_EXCL | O_RDWR | O_NOFOLLOW | O_CLOEXEC, mode);
  else if (S_ISDIR (making->mode))
    rc = mkdirat (making->dir_fd, name, mode);
  else if (S_ISLNK (making->mode))
    rc = symlinkat (making->target, making->dir_fd, name);
  else
    rc = mknodat (making->dir_fd, name, making->mode, (dev_t)making->rdev);
  rc = rc < 0 ? -errno : 0;
  nf_creds_leave ();
  return rc;
}

static int
unmake (const Making *making)
{
  return unlinkat (making->dir_fd, making->name, S_ISDIR (making->mode) ? AT_REMOVEDIR : 0);
}

/* The record's time on the object, and what it is now. */
static int
settle (NfExec *exec, Making *making)
{
  struct timespec time = nf_time_spec (exec->time);
  struct timespec times[2] = { time, time };
  int rc;

  if (making->create)
    rc = futimens (making->fd, times);
  else
    rc = utimensat (making->dir_fd, making->name, times, AT_SYMLINK_NOFOLLOW);
  if (rc != 0)
    return -errno;
  return making->create
             ? nf_tree_statx (exec->share->tree, making->fd, "", &making->stat)
             : nf_tree_statx (exec->share->tree, making->dir_fd, making->name, &making->stat);
}

/* A default ACL of the parent has given the object one; and mode and owner may have come out otherwise. */
static int
correct (NfExec *exec, const Making *making, const NfAttr *said)
{
  guint32 differs = nf_exec_differs (said, &making->stat.attr, NF_SET_MTIME);
  char path[sizeof "/proc/self/fd//" + 20 + NF_NAME_LEN_MAX];

  if (differs)
    nf_exec_correct (exec, making->fid, differs, &making->stat.attr);
  if (S_ISLNK (making->mode))
    return 0;
  if (making->create && fgetxattr (making->fd, ACL_ACCESS, NULL, 0) < 0)
    return 0;
  g_snprintf (path, sizeof path, "/proc/self/fd/%d/%s", making->dir_fd, making->name);
  int err = nf_exec_correct_xattr (exec, making->fid, path, ACL_ACCESS);
  if (err == 0 && S_ISDIR (making->mode))
    err = nf_exec_correct_xattr (exec, making->fid, path, ACL_DEFAULT);
  return err;
}

static int
put_in_index (NfExec *exec, const Making *making)
{
  NfIndex *index = exec->share->index;
  NfObject object = { .fid = making->fid, .ident = making->stat.ident, .mode = making->stat.type };
  int err = nf_exec_index_begin (exec);

  if (err != 0)
    return err;
  err = nf_index_put (index, &object);
  if (err == 0)
    err = nf_index_add_name (index, making->fid, making->parent, making->name_slice);
  if (err == 0)
    return nf_exec_index_commit (exec);
  nf_index_abort (index);
  return err;
}

/* After the record: the object itself. Whatever fails, nothing of it remains. */
static int
carry_out (NfExec *exec, Making *making, const NfAttr *said)
{
  nf_exec_changing (exec);
  int err = call_kernel (exec, making);
  if (err == 0)
    {
      err = settle (exec, making);
      if (err == 0)
        nf_exec_put_mtime (exec, making->dir_fd, making->parent, exec->time);
      if (err == 0)
        err = correct (exec, making, said);
      if (err == 0)
        err = put_in_index (exec, making);
      making->unmade = err != 0;
      if (err != 0 && unmake (making) != 0)
        nf_exec_broken (exec, "new object", err);
    }
  nf_exec_changed (exec);
  return err;
}

/* SEQ is the first of its records; the rest corrects it. */
static void
abort_making (NfExec *exec, const Making *making, guint64 seq)
{
  if (g_atomic_int_get (&exec->primary->broken))
    return;
  /* Corrections concern an object that isn't there at any site, and do nothing. */
  exec->seq = seq;
  nf_exec_abort (exec, seq);
  if (making->unmade)
    nf_exec_say_mtime (exec, making->dir_fd, making->parent);
}

static void
answer (NfExec *exec, Making *making)
{
  NfAttr *attr = &exec->answer->answer.attr;

  *attr = making->stat.attr;
  attr->fid = making->fid;
  exec->answer->answer.value = 1;
  nf_exec_inval_name (exec, making->parent, making->name_slice, making->fid);
  if (!making->create)
    return;
  if (exec->site && (exec->call->create.flags & NF_CREATE_HOLD))
    {
      (void)nf_opens_hold (exec->share->opens, exec->site, making->fid);
      nf_opens_set_judged (exec->share->opens, exec->site, making->fid);
    }
  /* Who creates a file writes it next; its mode need not allow it to be opened once more. */
  nf_open_fd_unref (nf_opens_keep (exec->share->opens, making->fid, making->fd));
  making->fd = -1;
}

/* Under the parent's lock, with nothing at the name. */
static int
make (NfExec *exec, Making *making)
{
  NfAttr said;
  int err = nf_index_mint (exec->share->index, &making->fid);

  if (err == 0)
    err = foretell (exec, making, &said);
  if (err == 0)
    err = append (exec, making, &said);
  if (err != 0)
    return err;
  guint64 seq = exec->seq;
  err = carry_out (exec, making, &said);
  if (err == 0)
    answer (exec, making);
  else
    abort_making (exec, making, seq);
  if (making->fd >= 0)
    close (making->fd);
  return err;
}

/* ---- CREATE of what is there ---- */

/* The kernel takes the answer to CREATE for a new file, and doesn't ask for permission. */
static int
judge_existing (NfExec *exec, NfFid fid, guint32 flags)
{
  gboolean writes = !exec->site || (flags & (NF_CREATE_TRUNC | NF_CREATE_HOLD)) != 0;
  int fd = nf_tree_open_fid (exec->share->tree, fid, O_PATH);

  if (fd < 0)
    return fd;
  int err = nf_exec_judge (exec, fid, fd, writes ? R_OK | W_OK : R_OK);
  close (fd);
  return err;
}

/* Another site was faster: the caller opens what is there, as open(O_CREAT) does. */
static int
use_existing (NfExec *exec, const Making *making)
{
  guint32 flags = exec->call->create.flags;
  NfAttr *attr = &exec->answer->answer.attr;
  int err;

  if (flags & NF_CREATE_EXCL)
    return -EEXIST;
  err = nf_exec_find (exec, making->parent, making->name_slice, attr);
  if (err == -ENOENT)
    return -EAGAIN;
  if (err != 0)
    return err;
  if (!S_ISREG (attr->mode))
    return S_ISDIR (attr->mode) ? -EISDIR : -EEXIST;
  err = judge_existing (exec, attr->fid, flags);
  if (err == 0 && exec->site && (flags & NF_CREATE_HOLD))
    err = nf_opens_hold (exec->share->opens, exec->site, attr->fid);
  if (err == 0)
    err = nf_sole_check (exec->share, attr->fid, exec->site);
  if (err == 0 && (flags & NF_CREATE_TRUNC))
    err = nf_exec_set_size (exec, attr->fid, 0);
  return err;
}

static int
make_locked (NfExec *exec, Making *making)
{
  NfAttr attr;
  int err = nf_tree_lookup (exec->share->tree, making->parent, making->name_slice, &attr, NULL);

  if (err == 0)
    return -EEXIST;
  if (err == -ENOENT)
    err = nf_tree_dir (exec->share->tree, making->parent, &making->dir);
  if (err != 0)
    return err;
  making->dir_fd = nf_tree_dir_fd (making->dir);
  err = make (exec, making);
  nf_tree_dir_put (exec->share->tree, making->dir);
  return err;
}

int
nf_exec_make (NfExec *exec)
{
  Making making;
  int err;

  memset (&making, 0, offsetof (Making, target));
  making.target_slice = NF_SLICE_NONE;
  making.create = FALSE;
  err = parse (exec, &making);
  if (err != 0)
    return err;
  if (making.target_slice.len > 0)
    making.target[making.target_slice.len] = '\0';
  /* Each round somebody else has made or removed the name in between. */
  for (guint i = 0; i < 16; i++)
    {
      nf_exec_lock (exec, &making.parent, 1);
      err = make_locked (exec, &making);
      nf_exec_end (exec);
      if (err == -EEXIST && making.create && exec->seq == 0)
        err = use_existing (exec, &making);
      if (err != -EAGAIN)
        break;
    }
  return err;
}
