// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/primary-internal.h"

#include <errno.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "sync/creds.h"
#include "sync/intents.h"

/* WRITE: the path that has to be short. One fstat, the record, the data, the mtime; nothing is looked up, and the
 * index isn't touched. */

#define CAPABILITY "security.capability"
/* The free space is looked at every so many bytes written, and from so little on each time. */
#define SPACE_LOOK (16 * 1024 * 1024)
#define SPACE_LOW (256 * 1024 * 1024)

typedef struct
{
  NfFid fid;
  int fd;
  guint64 offset;
  NfSlice data;
  struct stat before;
  gboolean had_capability;
  NfAttr attr; /* after it */
} Writing;

static int
append (NfExec *exec, const Writing *writing, gsize length)
{
  NfRecord record = {
    .kind = NF_OP_DATA,
    .fid = writing->fid,
    .range = NF_RANGE_DATA,
    .offset = writing->offset,
    .length = length,
    .attr = writing->attr,
  };

  record.path = nf_exec_path_of (exec, writing->fid);
  return nf_exec_append (exec, &record, TRUE);
}

/* Is there so little left that it matters who takes it? Root may have what users may not. */
static gboolean
space_is_low (NfPrimary *primary, gsize len)
{
  struct statvfs vfs;

  if (G_LIKELY (__atomic_sub_fetch (&primary->room, (gint64)len, __ATOMIC_RELAXED) >= 0))
    return FALSE;
  if (nf_tree_statvfs (primary->share->tree, &vfs) != 0
      || vfs.f_bavail < SPACE_LOW / MAX (vfs.f_frsize, 1))
    return TRUE;
  __atomic_store_n (&primary->room, SPACE_LOOK, __ATOMIC_RELAXED);
  return FALSE;
}

/* The right to write was judged when the file was opened, so that the caller's credentials matter only for set-id
 * bits, which his write takes away, and for the last of the space. Else the change of credentials, which costs as
 * much as the write, is spared. */
static gboolean
take_credentials (NfExec *exec, const Writing *writing)
{
  if ((writing->before.st_mode & (S_ISUID | S_ISGID))
      || (exec->head->uid != 0 && space_is_low (exec->primary, writing->data.len)))
    return nf_exec_assume (exec, FALSE);
  nf_creds_prepare ();
  return TRUE;
}

/* Returns how much was written; RET_ERR says why it isn't all. */
static gsize
put_data (NfExec *exec, const Writing *writing, int *ret_err)
{
  gsize written = 0;

  *ret_err = 0;
  if (!take_credentials (exec, writing))
    {
      *ret_err = -EPERM;
      return 0;
    }
  while (written < writing->data.len)
    {
      ssize_t n = pwrite (writing->fd, writing->data.data + written, writing->data.len - written,
                          (off_t)(writing->offset + written));
      if (n > 0)
        written += (gsize)n;
      else if (n == 0 || errno != EINTR)
        {
          *ret_err = n == 0 ? -ENOSPC : -errno;
          break;
        }
    }
  nf_creds_leave ();
  return written;
}

static int
prepare (NfExec *exec, Writing *writing)
{
  const struct stat *st = &writing->before;
  guint32 flags = exec->call->write.flags;

  if (fstat (writing->fd, &writing->before) != 0)
    return -errno;
  if (!S_ISREG (st->st_mode))
    return -EINVAL;
  if (flags & NF_WRITE_APPEND)
    writing->offset = (guint64)st->st_size;
  if (writing->offset > (guint64)G_MAXINT64 - writing->data.len)
    return -EFBIG;
  int err = writing->offset < (guint64)st->st_size
                ? nf_intents_note (exec->share->intents, writing->fid)
                : 0;
  if (err != 0)
    return err;
  nf_exec_attr (st, writing->fid, &writing->attr);
  writing->attr.mtime = nf_exec_mtime (exec, writing->attr.mtime);
  writing->attr.size = MAX (writing->attr.size, writing->offset + writing->data.len);
  writing->had_capability = (flags & NF_WRITE_KILL_PRIV) && (st->st_mode & 0111)
                            && fgetxattr (writing->fd, CAPABILITY, NULL, 0) >= 0;
  return 0;
}

/* The kernel, or the flag, has taken set-id bits and capabilities away with the write. */
static int
correct (NfExec *exec, Writing *writing)
{
  guint32 bits = writing->before.st_mode & (S_ISUID | S_ISGID);
  NfRecord record = { .kind = NF_OP_XATTR, .fid = writing->fid, .removes = TRUE };
  struct stat after;

  if (G_LIKELY (bits == 0 && !writing->had_capability))
    return 0;
  if ((bits & S_ISGID) && !(writing->before.st_mode & S_IXGRP))
    bits &= ~(guint32)S_ISGID; /* mandatory locking's mark, not a right */
  if (bits && (exec->call->write.flags & NF_WRITE_KILL_PRIV))
    (void)fchmod (writing->fd, writing->before.st_mode & 07777 & ~bits);
  if (writing->had_capability && fgetxattr (writing->fd, CAPABILITY, NULL, 0) < 0
      && errno == ENODATA)
    {
      record.xname = nf_slice_str (CAPABILITY);
      int err = nf_exec_append (exec, &record, FALSE);
      if (err != 0)
        return err;
    }
  if (fstat (writing->fd, &after) != 0)
    return -errno;
  if (after.st_mode == writing->before.st_mode)
    return 0;
  writing->attr.mode = after.st_mode;
  nf_exec_correct (exec, writing->fid, NF_SET_MODE, &writing->attr);
  return 0;
}

static void
finish (NfExec *exec, Writing *writing, gsize written)
{
  exec->answer->answer.value = written;
  exec->answer->answer.attr = writing->attr;
  nf_exec_put_mtime (exec, writing->fd, writing->fid, writing->attr.mtime);
  if (!exec->site)
    return;
  NfInval inval = {
    .kind = NF_INVAL_DATA, .fid = writing->fid, .offset = writing->offset, .length = written
  };
  if (written > 0 && writing->offset + written > (guint64)writing->before.st_size)
    {
      inval.end = writing->offset + written;
      inval.last = writing->data.data[written - 1];
    }
  nf_exec_inval (exec, &inval);
}

/* Nothing was written, or it is taken back: the op has no effect. */
static int
write_nothing (NfExec *exec, Writing *writing, int err)
{
  /* The kernel sets the time before it looks for room, but after it has looked at the offset. */
  NfAttr before, after;

  nf_exec_attr (&writing->before, writing->fid, &before);
  nf_exec_abort (exec, exec->seq);
  if (nf_tree_fstat (exec->share->tree, writing->fd, writing->fid, &after) != 0
      || after.mtime != before.mtime)
    nf_exec_put_mtime (exec, writing->fd, writing->fid, before.mtime);
  return err;
}

/* No room, or over the quota: what was written in fact is said, then what was said first is not so. */
static int
write_less (NfExec *exec, Writing *writing, gsize written, int err)
{
  guint64 first = exec->seq;
  guint64 before = (guint64)writing->before.st_size;

  if (written == 0)
    return write_nothing (exec, writing, err);
  writing->attr.size = MAX (before, writing->offset + written);
  int append_err = append (exec, writing, written);
  if (append_err == 0)
    {
      nf_exec_abort (exec, first);
      finish (exec, writing, written);
      /* Another site has told its caller that all is written: it must hear of the failure. */
      return exec->site ? err : 0;
    }
  /* It can't be said now: it is taken back where it is new, else it is said later. */
  if (writing->offset >= before)
    {
      (void)!ftruncate (writing->fd, writing->before.st_size);
      return write_nothing (exec, writing, append_err);
    }
  nf_exec_abort_in_part (exec, first, writing->fid, writing->offset, writing->offset + written);
  return append_err;
}

static int
write_locked (NfExec *exec, Writing *writing)
{
  int err = prepare (exec, writing);

  if (err == 0 && exec->site)
    err = nf_exec_judge (exec, writing->fid, writing->fd, W_OK);
  if (err == 0)
    err = append (exec, writing, writing->data.len);
  if (err != 0)
    return err;
  gsize written = put_data (exec, writing, &err);
  nf_host_point (exec->share->host, "primary-executed");
  if (written < writing->data.len)
    return write_less (exec, writing, written, err);
  nf_broadcast_data (exec->primary->broadcast, exec->seq, writing->data);
  finish (exec, writing, written);
  return correct (exec, writing);
}

int
nf_exec_write (NfExec *exec)
{
  const NfMsg *call = exec->call;
  g_auto (NfExecRw) rw = { -1, NULL };
  Writing writing;
  int err;

  writing.fid = call->write.fid;
  writing.offset = call->write.offset;
  writing.data = call->write.data;
  if (writing.data.len == 0)
    return 0;
  nf_exec_lock (exec, &writing.fid, 1);
  err = nf_exec_rw (exec, writing.fid, &rw);
  if (err == 0)
    {
      writing.fd = rw.fd;
      err = write_locked (exec, &writing);
    }
  nf_exec_end (exec);
  return err;
}
