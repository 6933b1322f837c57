// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/primary-internal.h"

#include <errno.h>
#include <unistd.h>

#include "sync/creds.h"

/* Names of objects that are there: LINK, UNLINK, RMDIR. */

/* How often a name may have become something else between looking and locking before the call gives up. */
#define TRIES_MAX 64

/* ---- UNLINK and RMDIR ---- */

typedef struct
{
  NfFid parent;
  NfSlice name_slice;
  char name[NF_NAME_LEN_MAX + 1];
  gboolean is_dir;
  NfAttr attr;
  gboolean orphan;
  int dir_fd;
} Removal;

static int
lock_removal (NfExec *exec, Removal *removal)
{
  for (guint i = 0; i < TRIES_MAX; i++)
    {
      guint64 looked = nf_locks_look (&exec->primary->locks);
      int err = nf_exec_find (exec, removal->parent, removal->name_slice, &removal->attr);
      if (err != 0)
        return err;
      NfFid fids[2] = { removal->parent, removal->attr.fid };
      nf_exec_lock (exec, fids, 2);
      if (nf_locks_saw (&exec->primary->locks, looked)
          || nf_exec_still (exec, removal->parent, removal->name_slice, fids[1], &removal->attr))
        return 0;
      nf_exec_unlock (exec);
    }
  return -EBUSY;
}

static int
check_removal (NfExec *exec, const Removal *removal)
{
  if (S_ISDIR (removal->attr.mode) != removal->is_dir)
    return removal->is_dir ? -ENOTDIR : -EISDIR;
  return removal->is_dir ? nf_exec_empty (exec, removal->attr.fid) : 0;
}

static int
append_removal (NfExec *exec, const Removal *removal)
{
  NfRecord record = {
    .kind = NF_OP_NAMES,
    .n_names = 1,
    .names = { { .parent = removal->parent, .name = removal->name_slice } },
    .fid = removal->attr.fid,
  };

  record.path = nf_exec_path_in (exec, removal->parent, removal->name_slice);
  return nf_exec_append (exec, &record, TRUE);
}

/* Open somewhere: it gets a name among the orphans before it loses this one. */
static void
save_orphan (NfExec *exec, Removal *removal)
{
  removal->orphan = !removal->is_dir && removal->attr.nlink == 1
                    && nf_opens_held (exec->share->opens, removal->attr.fid)
                    && nf_tree_orphan (exec->share->tree, removal->attr.fid, removal->parent,
                                       removal->name_slice, TRUE)
                           == 0;
}

static int
call_unlink (NfExec *exec, const Removal *removal)
{
  if (!nf_exec_assume (exec, FALSE))
    return -EPERM;
  int rc = unlinkat (removal->dir_fd, removal->name, removal->is_dir ? AT_REMOVEDIR : 0);
  int err = rc == 0 ? 0 : -errno;
  nf_creds_leave ();
  return err;
}

static void
drop_from_index (NfExec *exec, const Removal *removal)
{
  NfIndex *index = exec->share->index;
  NfFid fid = removal->attr.fid;
  guint32 left = 0;
  int err = nf_exec_index_begin (exec);

  if (err == 0)
    {
      if (!removal->orphan)
        {
          err = nf_index_drop_name (index, fid, removal->parent, removal->name_slice, &left);
          if (left == 0 && (err == 0 || removal->attr.nlink == 1 || removal->is_dir))
            (void)nf_index_remove (index, fid); /* a failure shows in the commit */
        }
      err = nf_exec_index_commit (exec);
    }
  /* What remains in the index is a name that leads to nothing: it harms no one until the next start or fsck. */
  if (err != 0)
    g_log_structured (G_LOG_DOMAIN, G_LOG_LEVEL_WARNING, "NF_SHARE", exec->share->conf.name,
                      "MESSAGE", "Share %s: a removed name stays in the index: %s",
                      exec->share->conf.name, g_strerror (-err));
}

static int
carry_out_removal (NfExec *exec, const Removal *removal)
{
  int kept = removal->orphan ? -1
                             : nf_linger_keep (exec->primary->linger, &removal->attr,
                                               removal->dir_fd, removal->name);

  nf_exec_changing (exec);
  int err = call_unlink (exec, removal);
  if (err == 0)
    {
      nf_exec_put_mtime (exec, removal->dir_fd, removal->parent, exec->time);
      drop_from_index (exec, removal);
    }
  nf_exec_changed (exec);
  nf_linger_leave (exec->primary->linger, kept);
  return err;
}

static void
forget_removed (NfExec *exec, const Removal *removal)
{
  NfFid fid = removal->attr.fid;

  __atomic_add_fetch (&exec->primary->names_changed, 1, __ATOMIC_RELAXED);
  nf_exec_inval_name (exec, removal->parent, removal->name_slice, fid);
  if (removal->is_dir)
    nf_tree_forget (exec->share->tree, fid);
  if (!removal->is_dir && removal->attr.nlink > 1)
    nf_exec_inval (exec, &(NfInval){ .kind = NF_INVAL_ATTR, .fid = fid });
  else
    nf_exec_inval (exec, &(NfInval){ .kind = NF_INVAL_GONE, .fid = fid });
  if (!removal->orphan && removal->attr.nlink == 1)
    nf_opens_forget (exec->share->opens, fid);
}

static int
remove_locked (NfExec *exec, Removal *removal)
{
  NfTreeDir *dir;
  int err = check_removal (exec, removal);

  if (err == 0)
    err = nf_tree_dir (exec->share->tree, removal->parent, &dir);
  if (err != 0)
    return err;
  removal->dir_fd = nf_tree_dir_fd (dir);
  err = append_removal (exec, removal);
  if (err == 0)
    {
      save_orphan (exec, removal);
      err = carry_out_removal (exec, removal);
      if (err == 0)
        forget_removed (exec, removal);
      else
        {
          if (removal->orphan)
            (void)nf_tree_unorphan (exec->share->tree, removal->attr.fid, removal->parent,
                                    removal->name_slice);
          nf_exec_abort (exec, exec->seq);
        }
    }
  nf_tree_dir_put (exec->share->tree, dir);
  return err;
}

int
nf_exec_remove (NfExec *exec)
{
  const NfMsg *call = exec->call;
  gboolean is_dir = call->type == NF_MSG_RMDIR;
  Removal removal;
  int err;

  removal.is_dir = is_dir;
  removal.parent = is_dir ? call->rmdir.parent : call->unlink.parent;
  removal.name_slice = is_dir ? call->rmdir.name : call->unlink.name;
  removal.orphan = FALSE;
  err = nf_exec_name (removal.parent, removal.name_slice, removal.name);
  if (err == 0)
    err = lock_removal (exec, &removal);
  if (err != 0)
    return err;
  err = remove_locked (exec, &removal);
  if (err == 0 && is_dir)
    nf_exec_tell_gone (exec, &removal.attr);
  else if (err == 0)
    nf_exec_tell_lost_name (exec, removal.attr.fid);
  nf_exec_end (exec);
  return err;
}

/* ---- LINK ---- */

typedef struct
{
  NfFid fid;
  NfFid parent;
  NfSlice name_slice;
  char name[NF_NAME_LEN_MAX + 1];
  NfObject object;
  int fd; /* O_PATH */
  int dir_fd;
  gboolean undone; /* the name was there for a moment */
} Linking;

static int
check_link (NfExec *exec, Linking *linking)
{
  NfAttr attr;
  int err;

  if (!nf_index_get (exec->share->index, linking->fid, &linking->object))
    return -ESTALE;
  if (linking->object.place != NF_PLACE_NAMED)
    return -ENOENT; /* an orphan doesn't come back */
  if (S_ISDIR (linking->object.mode))
    return -EPERM;
  err = nf_tree_lookup (exec->share->tree, linking->parent, linking->name_slice, &attr, NULL);
  if (err == 0)
    return -EEXIST;
  return err == -ENOENT ? 0 : err;
}

static int
append_link (NfExec *exec, const Linking *linking)
{
  NfRecord record = {
    .kind = NF_OP_NAMES,
    .n_names = 1,
    .names
    = { { linking->parent, linking->name_slice, linking->fid, linking->object.mode & S_IFMT } },
    .fid = linking->fid,
  };

  record.path = nf_exec_path_in (exec, linking->parent, linking->name_slice);
  return nf_exec_append (exec, &record, TRUE);
}

static int
call_link (NfExec *exec, const Linking *linking)
{
  NfProcPath path = nf_exec_proc_path (linking->fd);

  if (!nf_exec_assume (exec, FALSE))
    return -EPERM;
  int rc = linkat (AT_FDCWD, path.str, linking->dir_fd, linking->name, AT_SYMLINK_FOLLOW);
  int err = rc == 0 ? 0 : -errno;
  nf_creds_leave ();
  return err;
}

static int
link_in_index (NfExec *exec, const Linking *linking)
{
  int err = nf_exec_index_begin (exec);

  if (err != 0)
    return err;
  err = nf_index_add_name (exec->share->index, linking->fid, linking->parent, linking->name_slice);
  if (err == 0)
    return nf_exec_index_commit (exec);
  nf_index_abort (exec->share->index);
  return err;
}

static int
carry_out_link (NfExec *exec, Linking *linking)
{
  nf_exec_changing (exec);
  int err = call_link (exec, linking);
  if (err == 0)
    {
      nf_exec_put_mtime (exec, linking->dir_fd, linking->parent, exec->time);
      err = link_in_index (exec, linking);
      linking->undone = err != 0;
      if (err != 0 && unlinkat (linking->dir_fd, linking->name, 0) != 0)
        nf_exec_broken (exec, "link", err);
    }
  nf_exec_changed (exec);
  return err;
}

static int
link_locked (NfExec *exec, Linking *linking)
{
  NfTree *tree = exec->share->tree;
  NfTreeDir *dir;
  int err = check_link (exec, linking);

  if (err == 0)
    err = nf_tree_dir (tree, linking->parent, &dir);
  if (err != 0)
    return err;
  linking->dir_fd = nf_tree_dir_fd (dir);
  linking->fd = nf_tree_open_fid (tree, linking->fid, O_PATH);
  err = linking->fd < 0 ? linking->fd : append_link (exec, linking);
  if (err == 0)
    {
      guint64 seq = exec->seq;
      err = carry_out_link (exec, linking);
      if (err != 0 && !g_atomic_int_get (&exec->primary->broken))
        nf_exec_abort (exec, seq);
      if (linking->undone)
        nf_exec_say_mtime (exec, linking->dir_fd, linking->parent);
    }
  if (err == 0)
    err = nf_tree_fstat (tree, linking->fd, linking->fid, &exec->answer->answer.attr);
  if (linking->fd >= 0)
    close (linking->fd);
  nf_tree_dir_put (tree, dir);
  return err;
}

int
nf_exec_link (NfExec *exec)
{
  Linking linking;
  int err;

  linking.fid = exec->call->link.fid;
  linking.parent = exec->call->link.parent;
  linking.name_slice = exec->call->link.name;
  linking.undone = FALSE;
  err = nf_exec_name (linking.parent, linking.name_slice, linking.name);
  if (err != 0)
    return err;
  NfFid fids[2] = { linking.fid, linking.parent };
  nf_exec_lock (exec, fids, 2);
  err = link_locked (exec, &linking);
  if (err == 0)
    {
      nf_exec_inval_name (exec, linking.parent, linking.name_slice, linking.fid);
      nf_exec_inval (exec, &(NfInval){ .kind = NF_INVAL_ATTR, .fid = linking.fid });
    }
  nf_exec_end (exec);
  return err;
}
