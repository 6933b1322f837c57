// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/primary-internal.h"

#include <errno.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "sync/creds.h"

/* SETXATTR and REMOVEXATTR. */

typedef struct
{
  NfFid fid;
  char name[NF_NAME_LEN_MAX + 1];
  NfSlice value;
  int flags;
  gboolean removes;
  int fd; /* O_PATH */
} Xattr;

static int
parse_name (NfSlice name, Xattr *xattr)
{
  if (name.len == 0 || name.len > NF_NAME_LEN_MAX || memchr (name.data, '\0', name.len))
    return -ERANGE;
  memcpy (xattr->name, name.data, name.len);
  xattr->name[name.len] = '\0';
  return nf_tree_xattr_shown (xattr->name) ? 0 : -EOPNOTSUPP;
}

/* These namespaces ask for capabilities that a change of the filesystem ids leaves to the daemon's thread. */
static int
check_namespace (const NfExec *exec, const Xattr *xattr)
{
  if (exec->head->uid == 0 || exec->share->conf.personal)
    return 0;
  return g_str_has_prefix (xattr->name, "trusted.") || g_str_has_prefix (xattr->name, "security.")
             ? -EPERM
             : 0;
}

/* What would fail for being there, or not, leaves no record. */
static int
check_presence (const Xattr *xattr, const char *path)
{
  if (!xattr->removes && xattr->flags == 0)
    return 0;
  gboolean there = getxattr (path, xattr->name, NULL, 0) >= 0;
  if (!there && errno != ENODATA)
    return -errno;
  if (there && (xattr->flags & XATTR_CREATE))
    return -EEXIST;
  if (!there && (xattr->removes || (xattr->flags & XATTR_REPLACE)))
    return -ENODATA;
  return 0;
}

static int
append (NfExec *exec, const Xattr *xattr)
{
  NfRecord record = {
    .kind = NF_OP_XATTR,
    .fid = xattr->fid,
    .xname = nf_slice_str (xattr->name),
    .value = xattr->value,
    .removes = xattr->removes,
  };

  record.path = nf_exec_path_of (exec, xattr->fid);
  return nf_exec_append (exec, &record, TRUE);
}

static int
call_kernel (NfExec *exec, const Xattr *xattr, const char *path)
{
  int rc;

  if (!nf_exec_assume (exec, FALSE))
    return -EPERM;
  if (xattr->removes)
    rc = removexattr (path, xattr->name);
  else
    rc = setxattr (path, xattr->name, xattr->value.data ? (const void *)xattr->value.data : "",
                   xattr->value.len, xattr->flags);
  int err = rc == 0 ? 0 : -errno;
  nf_creds_leave ();
  return err;
}

static int
change_opened (NfExec *exec, const Xattr *xattr)
{
  NfTree *tree = exec->share->tree;
  NfProcPath path = nf_exec_proc_path (xattr->fd);
  NfAttr before, after;
  int err = check_presence (xattr, path.str);

  if (err == 0)
    err = nf_tree_fstat (tree, xattr->fd, xattr->fid, &before);
  if (err == 0)
    err = append (exec, xattr);
  if (err != 0)
    return err;
  err = call_kernel (exec, xattr, path.str);
  if (err != 0)
    {
      nf_exec_abort (exec, exec->seq);
      return err;
    }
  nf_host_point (exec->share->host, "primary-executed");
  err = nf_tree_fstat (tree, xattr->fd, xattr->fid, &after);
  /* An ACL changes the mode with it. */
  if (err == 0 && after.mode != before.mode)
    nf_exec_correct (exec, xattr->fid, NF_SET_MODE, &after);
  exec->answer->answer.attr = after;
  return err;
}

static int
change (NfExec *exec, Xattr *xattr)
{
  int err = check_namespace (exec, xattr);

  if (err != 0)
    return err;
  nf_exec_lock (exec, &xattr->fid, 1);
  xattr->fd = nf_tree_open_fid (exec->share->tree, xattr->fid, O_PATH);
  if (xattr->fd < 0)
    err = xattr->fd;
  else
    {
      err = change_opened (exec, xattr);
      close (xattr->fd);
    }
  nf_exec_inval (exec, &(NfInval){ .kind = NF_INVAL_ATTR, .fid = xattr->fid });
  nf_exec_end (exec);
  return err;
}

int
nf_exec_setxattr (NfExec *exec)
{
  const NfMsg *call = exec->call;
  Xattr xattr = { .fid = call->setxattr.fid,
                  .value = call->setxattr.value,
                  .flags = (int)call->setxattr.flags };
  int err = parse_name (call->setxattr.name, &xattr);

  if (err == 0 && (xattr.flags & ~(XATTR_CREATE | XATTR_REPLACE)) != 0)
    err = -EINVAL;
  if (err == 0 && xattr.value.len > NF_XATTR_MAX)
    err = -E2BIG;
  return err != 0 ? err : change (exec, &xattr);
}

int
nf_exec_removexattr (NfExec *exec)
{
  const NfMsg *call = exec->call;
  Xattr xattr = { .fid = call->removexattr.fid, .removes = TRUE };
  int err = parse_name (call->removexattr.name, &xattr);

  return err != 0 ? err : change (exec, &xattr);
}
