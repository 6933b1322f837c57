// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/primary-internal.h"

/* A change has set an mtime beside what it was about, and its record says which. Where the disk refuses that one, another
 * op says what it is instead: at a replica it would be the record's. */

static void
say (NfExec *exec, int fd, NfFid fid, gboolean unless, gint64 mtime)
{
  NfAttr attr;

  if (nf_tree_fstat (exec->share->tree, fd, fid, &attr) != 0 || (unless && attr.mtime == mtime))
    return;
  nf_exec_correct (exec, fid, NF_SET_MTIME, &attr);
}

void
nf_exec_say_mtime (NfExec *exec, int fd, NfFid fid)
{
  say (exec, fd, fid, FALSE, 0);
}

void
nf_exec_put_mtime (NfExec *exec, int fd, NfFid fid, gint64 mtime)
{
  if (G_UNLIKELY (nf_exec_set_times (fd, G_MININT64, mtime) != 0))
    say (exec, fd, fid, TRUE, mtime);
}
