// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/primary-internal.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "sync/creds.h"
#include "sync/intents.h"
#include "sync/times.h"

/* SETATTR: size, owner, mode, times; whatever of them one call sets. The kernel judges each with the caller's
 * credentials. What came out otherwise than recorded (set-id bits that a chown clears, times that the filesystem
 * rounds) is corrected in the same locked section. */

#define CAPABILITY "security.capability"
#define SETTABLE                                                                     \
  (NF_SET_MODE | NF_SET_UID | NF_SET_GID | NF_SET_SIZE | NF_SET_ATIME | NF_SET_MTIME \
   | NF_SET_ATIME_NOW | NF_SET_MTIME_NOW)

typedef struct
{
  NfFid fid;
  guint32 mask; /* as asked */
  NfAttr want;
  int fd;           /* O_PATH */
  guint32 recorded; /* mask of the record */
  NfAttr said;      /* of the record: all attributes as they shall be */
  NfAttr before;
  gboolean had_capability;
  gboolean partly; /* some of it is done */
} Setting;

static void
foretell (NfExec *exec, Setting *setting)
{
  NfAttr said = setting->before;
  guint32 mask = setting->mask;

  setting->recorded = mask
                      & (NF_SET_MODE | NF_SET_UID | NF_SET_GID | NF_SET_SIZE | NF_SET_ATIME
                         | NF_SET_MTIME | NF_SET_CTIME_ONLY);
  if (mask & NF_SET_MODE)
    said.mode = (said.mode & S_IFMT) | (setting->want.mode & 07777);
  if (mask & NF_SET_UID)
    said.uid = setting->want.uid;
  if (mask & NF_SET_GID)
    said.gid = setting->want.gid;
  if (mask & NF_SET_SIZE)
    said.size = setting->want.size;
  if (mask & NF_SET_ATIME)
    said.atime = setting->want.atime;
  if (mask & NF_SET_ATIME_NOW)
    {
      said.atime = exec->time;
      setting->recorded |= NF_SET_ATIME;
    }
  if (mask & NF_SET_MTIME)
    said.mtime = setting->want.mtime;
  else if (mask & (NF_SET_MTIME_NOW | NF_SET_SIZE))
    {
      said.mtime = nf_exec_mtime (exec, said.mtime);
      setting->recorded |= NF_SET_MTIME;
    }
  setting->said = said;
}

static int
append (NfExec *exec, const Setting *setting)
{
  NfRecord record = {
    .kind = NF_OP_ATTR, .fid = setting->fid, .mask = setting->recorded, .attr = setting->said
  };

  record.path = nf_exec_path_of (exec, setting->fid);
  return nf_exec_append (exec, &record, TRUE);
}

/* ---- the system calls ---- */

/* Permission was judged when the caller opened the file, here or at a site that holds it; without a handle the kernel
 * judges now. */
static int
open_to_truncate (NfExec *exec, const Setting *setting, NfExecRw *rw)
{
  NfFile *file = exec->file;
  gboolean judged = FALSE;

  if (file && file->fid == setting->fid && (file->flags & O_ACCMODE) != O_RDONLY)
    return nf_exec_rw (exec, setting->fid, rw);
  if (exec->site && nf_opens_holds (exec->share->opens, exec->site, setting->fid, &judged))
    {
      int err = nf_exec_rw (exec, setting->fid, rw);
      return err != 0 ? err : nf_exec_judge (exec, setting->fid, rw->fd, W_OK);
    }
  NfProcPath path = nf_exec_proc_path (setting->fd);
  if (!nf_exec_assume (exec, FALSE))
    return -EPERM;
  int fd = open (path.str, O_WRONLY | O_CLOEXEC | O_NOCTTY);
  int err = fd < 0 ? -errno : 0;
  nf_creds_leave ();
  if (err != 0)
    return err;
  rw->open_fd = nf_open_fd_new (fd);
  rw->fd = fd;
  return 0;
}

static int
set_size (NfExec *exec, Setting *setting)
{
  g_auto (NfExecRw) rw = { -1, NULL };
  int err = open_to_truncate (exec, setting, &rw);
  int rc;

  if (err != 0)
    return err;
  if (!nf_exec_assume (exec, FALSE))
    return -EPERM;
  do
    rc = ftruncate (rw.fd, (off_t)setting->want.size);
  while (rc != 0 && errno == EINTR);
  err = rc == 0 ? 0 : -errno;
  nf_creds_leave ();
  return err;
}

static int
call_chown (const Setting *setting)
{
  uid_t uid = setting->mask & NF_SET_UID ? setting->want.uid : (uid_t)-1;
  gid_t gid = setting->mask & NF_SET_GID ? setting->want.gid : (gid_t)-1;

  return fchownat (setting->fd, "", uid, gid, AT_EMPTY_PATH) == 0 ? 0 : -errno;
}

static int
call_chmod (const Setting *setting)
{
  NfProcPath path = nf_exec_proc_path (setting->fd);

  return chmod (path.str, setting->want.mode & 07777) == 0 ? 0 : -errno;
}

/* "Now" is judged otherwise than a given time, so the kernel is told which it is; the exact time follows. */
static int
call_utimens (const Setting *setting)
{
  struct timespec times[2] = { { 0, UTIME_OMIT }, { 0, UTIME_OMIT } };

  if (setting->mask & NF_SET_ATIME)
    times[0] = nf_time_spec (setting->want.atime);
  else if (setting->mask & NF_SET_ATIME_NOW)
    times[0].tv_nsec = UTIME_NOW;
  if (setting->mask & NF_SET_MTIME)
    times[1] = nf_time_spec (setting->want.mtime);
  else if (setting->mask & NF_SET_MTIME_NOW)
    times[1].tv_nsec = UTIME_NOW;
  return utimensat (setting->fd, "", times, AT_EMPTY_PATH) == 0 ? 0 : -errno;
}

static int
call_as_caller (NfExec *exec, Setting *setting, guint32 mask, int (*func) (const Setting *))
{
  if ((setting->mask & mask) == 0)
    return 0;
  if (!nf_exec_assume (exec, FALSE))
    return -EPERM;
  int err = func (setting);
  nf_creds_leave ();
  if (err == 0)
    setting->partly = TRUE;
  return err;
}

static int
carry_out (NfExec *exec, Setting *setting)
{
  const guint32 times = NF_SET_ATIME | NF_SET_MTIME | NF_SET_ATIME_NOW | NF_SET_MTIME_NOW;
  int err = 0;

  if (setting->mask & NF_SET_SIZE)
    {
      err = set_size (exec, setting);
      setting->partly = err == 0;
    }
  if (err == 0)
    err = call_as_caller (exec, setting, NF_SET_UID | NF_SET_GID | NF_SET_CTIME_ONLY, call_chown);
  if (err == 0)
    err = call_as_caller (exec, setting, NF_SET_MODE, call_chmod);
  if (err == 0)
    err = call_as_caller (exec, setting, times, call_utimens);
  if (err == 0 && (setting->mask & (NF_SET_SIZE | NF_SET_ATIME_NOW | NF_SET_MTIME_NOW)))
    err = nf_exec_set_times (setting->fd,
                             setting->recorded & NF_SET_ATIME ? setting->said.atime : G_MININT64,
                             setting->recorded & NF_SET_MTIME ? setting->said.mtime : G_MININT64);
  return err;
}

/* Root's calls leave set-id bits alone where the caller's own kernel has said that they go. */
static void
kill_priv (const Setting *setting, guint32 mode)
{
  guint32 bits = S_ISUID | (mode & S_IXGRP ? S_ISGID : 0);
  NfProcPath path = nf_exec_proc_path (setting->fd);

  if ((setting->mask & NF_SET_KILL_PRIV) && !(setting->mask & NF_SET_MODE) && S_ISREG (mode)
      && (mode & bits))
    (void)chmod (path.str, mode & 07777 & ~bits);
}

/* ---- the whole ---- */

static gboolean
has_capability (const Setting *setting)
{
  NfProcPath path = nf_exec_proc_path (setting->fd);

  return getxattr (path.str, CAPABILITY, NULL, 0) >= 0;
}

/* TRUE if the call is one that takes a file's capabilities away, and there are some. */
static gboolean
endangers_capability (const Setting *setting)
{
  return (setting->mask & (NF_SET_SIZE | NF_SET_UID | NF_SET_GID | NF_SET_KILL_PRIV))
         && S_ISREG (setting->before.mode) && (setting->before.mode & 0111)
         && has_capability (setting);
}

static int
correct (NfExec *exec, const Setting *setting, const NfAttr *after)
{
  guint32 differs = nf_exec_differs (&setting->said, after, setting->recorded);
  NfRecord record = { .kind = NF_OP_XATTR, .fid = setting->fid, .removes = TRUE };

  if (differs)
    nf_exec_correct (exec, setting->fid, differs, after);
  if (!setting->had_capability || has_capability (setting))
    return 0;
  record.xname = nf_slice_str (CAPABILITY);
  return nf_exec_append (exec, &record, FALSE);
}

/* Some was done before the rest failed: that much is so. */
static void
abort_setting (NfExec *exec, const Setting *setting)
{
  NfAttr after;

  if (setting->recorded)
    nf_exec_abort (exec, exec->seq);
  if (!setting->partly || nf_tree_fstat (exec->share->tree, setting->fd, setting->fid, &after) != 0)
    return;
  guint32 mask = setting->recorded | nf_exec_differs (&setting->before, &after, 0);
  if (mask)
    nf_exec_correct (exec, setting->fid, mask, &after);
}

static int
set_opened (NfExec *exec, Setting *setting)
{
  NfTree *tree = exec->share->tree;
  NfAttr *after = &exec->answer->answer.attr;
  int err = nf_tree_fstat (tree, setting->fd, setting->fid, &setting->before);

  if (err != 0)
    return err;
  if ((setting->mask & NF_SET_SIZE) && !S_ISREG (setting->before.mode))
    return S_ISDIR (setting->before.mode) ? -EISDIR : -EINVAL;
  if ((setting->mask & NF_SET_SIZE) && setting->want.size < setting->before.size)
    err = nf_intents_note (exec->share->intents, setting->fid);
  if (err != 0)
    return err;
  setting->had_capability = endangers_capability (setting);
  foretell (exec, setting);
  if (setting->recorded)
    err = append (exec, setting);
  if (err != 0)
    return err;
  err = carry_out (exec, setting);
  if (err != 0)
    {
      abort_setting (exec, setting);
      return err;
    }
  nf_host_point (exec->share->host, "primary-executed");
  kill_priv (setting, setting->before.mode);
  err = nf_tree_fstat (tree, setting->fd, setting->fid, after);
  return err != 0 ? err : correct (exec, setting, after);
}

static int
set_attr (NfExec *exec, NfFid fid, guint32 mask, const NfAttr *want)
{
  Setting setting = { .fid = fid, .mask = mask, .want = *want };
  int err;

  if ((mask & NF_SET_SIZE) && want->size > G_MAXINT64)
    return -EFBIG;
  nf_exec_lock (exec, &fid, 1);
  setting.fd = nf_tree_open_fid (exec->share->tree, fid, O_PATH);
  if (setting.fd < 0)
    err = setting.fd;
  else
    {
      err = set_opened (exec, &setting);
      close (setting.fd);
    }
  if (mask & NF_SET_SIZE)
    nf_exec_inval (exec, &(NfInval){ .kind = NF_INVAL_DATA, .fid = fid, .offset = want->size });
  else
    nf_exec_inval (exec, &(NfInval){ .kind = NF_INVAL_ATTR, .fid = fid });
  nf_exec_end (exec);
  return err;
}

int
nf_exec_setattr (NfExec *exec)
{
  const NfMsg *call = exec->call;
  const guint32 known = SETTABLE | NF_SET_CTIME_ONLY | NF_SET_KILL_PRIV;

  if ((call->setattr.mask & ~known) != 0)
    return -EINVAL;
  return set_attr (exec, call->setattr.fid, call->setattr.mask, &call->setattr.attr);
}

int
nf_exec_set_size (NfExec *exec, NfFid fid, guint64 size)
{
  NfAttr want = { .size = size };

  return set_attr (exec, fid, NF_SET_SIZE | NF_SET_KILL_PRIV, &want);
}
