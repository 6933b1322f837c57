// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/primary-internal.h"

#include <errno.h>
#include <linux/falloc.h>
#include <unistd.h>

#include "sync/creds.h"
#include "sync/intents.h"

/* Changes of a range that carry no data: FALLOCATE and COPY. */

/* One COPY, so that the locks aren't held for long; the caller goes on from where it ended. */
#define COPY_MAX (64 * 1024 * 1024)
#define COPY_BUFFER (256 * 1024)

static int
append_range (NfExec *exec, NfFid fid, NfRangeKind range, guint64 offset, guint64 length,
              const NfAttr *attr)
{
  NfRecord record = {
    .kind = NF_OP_DATA,
    .fid = fid,
    .range = range,
    .offset = offset,
    .length = length,
    .attr = *attr,
  };

  record.path = nf_exec_path_of (exec, fid);
  return nf_exec_append (exec, &record, TRUE);
}

static void
finish (NfExec *exec, int fd, guint64 offset, guint64 length, const NfAttr *attr)
{
  nf_host_point (exec->share->host, "primary-executed");
  nf_exec_put_mtime (exec, fd, attr->fid, attr->mtime);
  exec->answer->answer.attr = *attr;
  nf_exec_inval (
      exec,
      &(NfInval){ .kind = NF_INVAL_DATA, .fid = attr->fid, .offset = offset, .length = length });
}

static int
look (NfExec *exec, NfFid fid, int fd, NfAttr *ret_attr, gint64 *ret_former_mtime)
{
  struct stat st;

  if (fstat (fd, &st) != 0)
    return -errno;
  if (!S_ISREG (st.st_mode))
    return -EINVAL;
  nf_exec_attr (&st, fid, ret_attr);
  *ret_former_mtime = ret_attr->mtime;
  ret_attr->mtime = nf_exec_mtime (exec, ret_attr->mtime);
  return exec->site ? nf_exec_judge (exec, fid, fd, W_OK) : 0;
}

/* ---- FALLOCATE ---- */

/* What the range will be and how large the file. */
static int
foretell (const NfMsg *call, guint64 size, NfRangeKind *ret_range, guint64 *ret_length,
          guint64 *ret_size)
{
  guint32 mode = call->fallocate.mode;
  guint64 offset = call->fallocate.offset;
  guint64 length = call->fallocate.length;
  guint64 end = offset + length;

  if (length == 0 || offset > G_MAXINT64 || length > G_MAXINT64 - offset)
    return -EINVAL;
  *ret_length = length;
  *ret_size = (mode & FALLOC_FL_KEEP_SIZE) ? size : MAX (size, end);
  switch (mode & ~(guint32)FALLOC_FL_KEEP_SIZE)
    {
    case 0:
      *ret_range = NF_RANGE_ALLOC;
      return 0;
    case FALLOC_FL_PUNCH_HOLE:
      *ret_range = NF_RANGE_HOLE;
      return mode & FALLOC_FL_KEEP_SIZE ? 0 : -EOPNOTSUPP;
    case FALLOC_FL_ZERO_RANGE:
      *ret_range = NF_RANGE_ZERO;
      return 0;
    case FALLOC_FL_COLLAPSE_RANGE:
      if (mode & FALLOC_FL_KEEP_SIZE || end >= size)
        return -EINVAL;
      *ret_size = size - length;
      break;
    case FALLOC_FL_INSERT_RANGE:
      if (mode & FALLOC_FL_KEEP_SIZE || offset >= size || size > G_MAXINT64 - length)
        return -EINVAL;
      *ret_size = size + length;
      break;
    default:
      return -EOPNOTSUPP;
    }
  /* All behind has moved: at the replicas it is new content. */
  *ret_range = NF_RANGE_DATA;
  *ret_length = *ret_size - offset;
  return 0;
}

static int
call_fallocate (NfExec *exec, int fd)
{
  const NfMsg *call = exec->call;
  int rc;

  if (!nf_exec_assume (exec, FALSE))
    return -EPERM;
  do
    rc = fallocate (fd, (int)call->fallocate.mode, (off_t)call->fallocate.offset,
                    (off_t)call->fallocate.length);
  while (rc != 0 && errno == EINTR);
  int err = rc == 0 ? 0 : -errno;
  nf_creds_leave ();
  return err;
}

static int
fallocate_locked (NfExec *exec, int fd)
{
  const NfMsg *call = exec->call;
  NfFid fid = call->fallocate.fid;
  guint64 offset = call->fallocate.offset;
  NfRangeKind range = NF_RANGE_DATA;
  guint64 length = 0, size = 0;
  NfAttr attr = { 0 };
  gint64 former_mtime = 0;
  int err = look (exec, fid, fd, &attr, &former_mtime);
  guint64 former = attr.size;

  if (err == 0)
    err = foretell (call, attr.size, &range, &length, &size);
  attr.size = size;
  if (err == 0)
    err = nf_intents_note (exec->share->intents, fid);
  if (err == 0)
    err = append_range (exec, fid, range, offset, length, &attr);
  if (err != 0)
    return err;
  err = call_fallocate (exec, fd);
  if (err != 0)
    {
      struct stat st;
      nf_exec_abort (exec, exec->seq);
      /* Space that was found before it ran out may have made the file longer. */
      if (fstat (fd, &st) == 0 && (guint64)st.st_size != former)
        (void)!ftruncate (fd, (off_t)former);
      nf_exec_put_mtime (exec, fd, fid, former_mtime); /* the kernel may have set it */
      return err;
    }
  finish (exec, fd, offset, length, &attr);
  return 0;
}

int
nf_exec_fallocate (NfExec *exec)
{
  NfFid fid = exec->call->fallocate.fid;
  g_auto (NfExecRw) rw = { -1, NULL };

  nf_exec_lock (exec, &fid, 1);
  int err = nf_exec_rw (exec, fid, &rw);
  if (err == 0)
    err = fallocate_locked (exec, rw.fd);
  nf_exec_end (exec);
  return err;
}

/* ---- COPY ---- */

typedef struct
{
  int from;
  int to;
  guint64 from_offset;
  guint64 offset;
  guint64 length;
} Copying;

/* By hand, where the kernel can't. */
static ssize_t
copy_piece (const Copying *copying, guint64 done)
{
  g_autofree guint8 *buffer = g_malloc (COPY_BUFFER);
  gsize size = MIN (copying->length - done, COPY_BUFFER);
  ssize_t got = pread (copying->from, buffer, size, (off_t)(copying->from_offset + done));

  if (got <= 0)
    return got;
  return pwrite (copying->to, buffer, (gsize)got, (off_t)(copying->offset + done));
}

static ssize_t
copy_some (const Copying *copying, guint64 done)
{
  off_t from = (off_t)(copying->from_offset + done);
  off_t to = (off_t)(copying->offset + done);
  ssize_t n = copy_file_range (copying->from, &from, copying->to, &to, copying->length - done, 0);

  if (n < 0 && (errno == EXDEV || errno == ENOSYS || errno == EOPNOTSUPP || errno == EINVAL))
    return copy_piece (copying, done);
  return n;
}

static guint64
call_copy (NfExec *exec, const Copying *copying, int *ret_err)
{
  guint64 done = 0;

  *ret_err = 0;
  if (!nf_exec_assume (exec, FALSE))
    {
      *ret_err = -EPERM;
      return 0;
    }
  while (done < copying->length)
    {
      ssize_t n = copy_some (copying, done);
      if (n > 0)
        done += (guint64)n;
      else if (n == 0)
        break;
      else if (errno != EINTR)
        {
          *ret_err = -errno;
          break;
        }
    }
  nf_creds_leave ();
  return done;
}

/* Cuts the request to what there is. */
static int
limit (NfExec *exec, Copying *copying)
{
  const NfMsg *call = exec->call;
  struct stat from;

  if (fstat (copying->from, &from) != 0)
    return -errno;
  if (!S_ISREG (from.st_mode))
    return -EINVAL;
  copying->from_offset = call->copy.from_offset;
  copying->offset = call->copy.offset;
  guint64 size = (guint64)from.st_size;
  guint64 left = copying->from_offset < size ? size - copying->from_offset : 0;
  copying->length = MIN (MIN (call->copy.length, left), COPY_MAX);
  if (copying->offset > (guint64)G_MAXINT64 - copying->length)
    return -EFBIG;
  /* As copy_file_range(2). */
  if (call->copy.from == call->copy.fid && copying->from_offset < copying->offset + copying->length
      && copying->offset < copying->from_offset + copying->length)
    return -EINVAL;
  return 0;
}

/* What was copied in fact is said, then what was said first is not so. */
static int
copied_less (NfExec *exec, Copying *copying, guint64 done, guint64 size, NfAttr *attr)
{
  NfFid fid = exec->call->copy.fid;
  guint64 first = exec->seq;

  attr->size = MAX (size, copying->offset + done);
  int err = append_range (exec, fid, NF_RANGE_DATA, copying->offset, done, attr);
  if (err == 0)
    nf_exec_abort (exec, first);
  else
    nf_exec_abort_in_part (exec, first, fid, copying->offset, copying->offset + done);
  return err;
}

static int
copy_locked (NfExec *exec, Copying *copying)
{
  NfFid fid = exec->call->copy.fid;
  NfAttr attr = { 0 };
  gint64 former_mtime = 0;
  int err = look (exec, fid, copying->to, &attr, &former_mtime);
  guint64 size = attr.size;

  if (err == 0)
    err = limit (exec, copying);
  if (err != 0 || copying->length == 0)
    return err;
  attr.size = MAX (size, copying->offset + copying->length);
  if (copying->offset < size)
    err = nf_intents_note (exec->share->intents, fid);
  if (err != 0)
    return err;
  err = append_range (exec, fid, NF_RANGE_DATA, copying->offset, copying->length, &attr);
  if (err != 0)
    return err;
  guint64 done = call_copy (exec, copying, &err);
  if (done == 0 && copying->length > 0)
    {
      nf_exec_abort (exec, exec->seq);
      nf_exec_put_mtime (exec, copying->to, fid, former_mtime);
      return err;
    }
  if (done < copying->length)
    err = copied_less (exec, copying, done, size, &attr);
  finish (exec, copying->to, copying->offset, done, &attr);
  exec->answer->answer.value = done;
  return err;
}

int
nf_exec_copy (NfExec *exec)
{
  NfFid from = exec->call->copy.from;
  NfFid fid = exec->call->copy.fid;
  NfFid fids[2] = { from, fid };
  g_auto (NfExecRw) rw = { -1, NULL };
  Copying copying = { 0 };

  nf_exec_lock (exec, fids, 2);
  copying.from = nf_opens_fd (exec->share->opens, from, FALSE);
  if (copying.from < 0)
    copying.from = nf_tree_open_fid (exec->share->tree, from, O_RDONLY);
  int err = copying.from < 0 ? copying.from : nf_exec_rw (exec, fid, &rw);
  if (err == 0)
    {
      copying.to = rw.fd;
      err = copy_locked (exec, &copying);
    }
  if (copying.from >= 0)
    close (copying.from);
  nf_exec_end (exec);
  return err;
}
