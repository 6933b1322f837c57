// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/primary-internal.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "sync/creds.h"

/* RENAME, with its two names in one op. */

#define TRIES_MAX 64
/* As in the tree: a ring of parents, which can't be, ends somewhere. */
#define DEPTH_MAX 65536

typedef struct
{
  NfFid parent;
  NfSlice slice;
  char name[NF_NAME_LEN_MAX + 1];
  NfAttr attr; /* of the object there; fid NF_FID_NONE: there is none */
  NfTreeDir *dir;
} End;

typedef struct
{
  End from;
  End to;
  guint32 flags;
  gboolean across; /* a directory changes its parent */
  gboolean orphan; /* the displaced file is open somewhere */
} Renaming;

static gboolean
exchanges (const Renaming *renaming)
{
  return (renaming->flags & RENAME_EXCHANGE) != 0;
}

static int
parse (NfExec *exec, Renaming *renaming)
{
  const NfMsg *call = exec->call;
  guint32 flags = call->rename.flags;
  int err;

  renaming->flags = flags;
  renaming->across = renaming->orphan = FALSE;
  renaming->from.parent = call->rename.parent;
  renaming->from.slice = call->rename.name;
  renaming->from.dir = NULL;
  renaming->to.parent = call->rename.newparent;
  renaming->to.slice = call->rename.newname;
  renaming->to.dir = NULL;
  if ((flags & ~(guint32)(RENAME_NOREPLACE | RENAME_EXCHANGE)) != 0
      || flags == (RENAME_NOREPLACE | RENAME_EXCHANGE))
    return -EINVAL;
  err = nf_exec_name (renaming->from.parent, renaming->from.slice, renaming->from.name);
  if (err == 0)
    err = nf_exec_name (renaming->to.parent, renaming->to.slice, renaming->to.name);
  return err;
}

static int
look (NfExec *exec, Renaming *renaming)
{
  int err = nf_exec_find (exec, renaming->from.parent, renaming->from.slice, &renaming->from.attr);

  if (err != 0)
    return err;
  err = nf_exec_find (exec, renaming->to.parent, renaming->to.slice, &renaming->to.attr);
  if (err == -ENOENT && !exchanges (renaming))
    {
      renaming->to.attr = (NfAttr){ 0 };
      return 0;
    }
  if (err == 0 && (renaming->flags & RENAME_NOREPLACE))
    return -EEXIST;
  return err;
}

static gboolean
is_dir (const End *end)
{
  return end->attr.fid != NF_FID_NONE && S_ISDIR (end->attr.mode);
}

static void
lock (NfExec *exec, Renaming *renaming)
{
  NfFid fids[4] = { renaming->from.parent, renaming->to.parent, renaming->from.attr.fid,
                    renaming->to.attr.fid };

  renaming->across
      = renaming->from.parent != renaming->to.parent
        && (is_dir (&renaming->from) || (exchanges (renaming) && is_dir (&renaming->to)));
  if (renaming->across)
    pthread_mutex_lock (&exec->primary->rename_lock);
  nf_exec_lock (exec, fids, 4);
}

static void
unlock_across (NfExec *exec, Renaming *renaming)
{
  if (renaming->across)
    pthread_mutex_unlock (&exec->primary->rename_lock);
  renaming->across = FALSE;
}

static gboolean
still (NfExec *exec, End *end)
{
  return nf_exec_still (exec, end->parent, end->slice, end->attr.fid, &end->attr);
}

static int
look_and_lock (NfExec *exec, Renaming *renaming)
{
  for (guint i = 0; i < TRIES_MAX; i++)
    {
      guint64 looked = nf_locks_look (&exec->primary->locks);
      int err = look (exec, renaming);
      if (err != 0)
        return err;
      lock (exec, renaming);
      if (nf_locks_saw (&exec->primary->locks, looked)
          || (still (exec, &renaming->from) && still (exec, &renaming->to)))
        return 0;
      nf_exec_unlock (exec);
      unlock_across (exec, renaming);
    }
  return -EBUSY;
}

/* Is FID the directory ANCESTOR or anywhere below it? */
static gboolean
lies_below (NfExec *exec, NfFid fid, NfFid ancestor)
{
  char name[NF_NAME_LEN_MAX + 1];

  for (guint i = 0; i < DEPTH_MAX && fid != NF_FID_ROOT; i++)
    if (fid == ancestor || !nf_index_first_name (exec->share->index, fid, &fid, name))
      return fid == ancestor;
  return FALSE;
}

static int
check_dirs (NfExec *exec, const Renaming *renaming)
{
  if (!renaming->across)
    return 0;
  if (is_dir (&renaming->from) && lies_below (exec, renaming->to.parent, renaming->from.attr.fid))
    return -EINVAL;
  if (is_dir (&renaming->to) && lies_below (exec, renaming->from.parent, renaming->to.attr.fid))
    return exchanges (renaming) ? -EINVAL : -ENOTEMPTY;
  return 0;
}

static int
check (NfExec *exec, const Renaming *renaming)
{
  int err = check_dirs (exec, renaming);

  if (err != 0 || renaming->to.attr.fid == NF_FID_NONE || exchanges (renaming))
    return err;
  if (is_dir (&renaming->from) && !is_dir (&renaming->to))
    return -ENOTDIR;
  if (!is_dir (&renaming->from) && is_dir (&renaming->to))
    return -EISDIR;
  return is_dir (&renaming->to) ? nf_exec_empty (exec, renaming->to.attr.fid) : 0;
}

static int
append (NfExec *exec, const Renaming *renaming)
{
  const End *from = &renaming->from;
  const End *to = &renaming->to;
  NfRecord record = {
    .kind = NF_OP_NAMES,
    .n_names = 2,
    .names = {
      { .parent = from->parent, .name = from->slice },
      { to->parent, to->slice, from->attr.fid, from->attr.mode & S_IFMT },
    },
    .fid = from->attr.fid,
  };

  if (exchanges (renaming))
    {
      record.names[0].fid = to->attr.fid;
      record.names[0].mode = to->attr.mode & S_IFMT;
    }
  record.path = nf_exec_path_in (exec, from->parent, from->slice);
  return nf_exec_append (exec, &record, TRUE);
}

static gboolean
displaces (const Renaming *renaming)
{
  return renaming->to.attr.fid != NF_FID_NONE && !exchanges (renaming);
}

static void
save_orphan (NfExec *exec, Renaming *renaming)
{
  const End *to = &renaming->to;

  renaming->orphan
      = displaces (renaming) && !is_dir (to) && to->attr.nlink == 1
        && nf_opens_held (exec->share->opens, to->attr.fid)
        && nf_tree_orphan (exec->share->tree, to->attr.fid, to->parent, to->slice, TRUE) == 0;
}

static int
call_rename (NfExec *exec, const Renaming *renaming)
{
  if (!nf_exec_assume (exec, FALSE))
    return -EPERM;
  int rc = renameat2 (nf_tree_dir_fd (renaming->from.dir), renaming->from.name,
                      nf_tree_dir_fd (renaming->to.dir), renaming->to.name, renaming->flags);
  int err = rc == 0 ? 0 : -errno;
  nf_creds_leave ();
  return err;
}

/* Object of END has its name at OTHER now. */
static int
move_name (NfIndex *index, const End *end, const End *other)
{
  return nf_index_move_name (index, end->attr.fid, end->parent, end->slice, other->parent,
                             other->slice);
}

static int
drop_displaced (NfIndex *index, const Renaming *renaming)
{
  const End *to = &renaming->to;
  guint32 left = 0;

  if (!displaces (renaming) || renaming->orphan)
    return 0;
  int err = nf_index_drop_name (index, to->attr.fid, to->parent, to->slice, &left);
  if (left == 0 && (err == 0 || to->attr.nlink == 1 || is_dir (to)))
    err = nf_index_remove (index, to->attr.fid);
  return err == -ENOENT ? 0 : err;
}

static int
rename_in_index (NfExec *exec, const Renaming *renaming)
{
  NfIndex *index = exec->share->index;
  int err = nf_exec_index_begin (exec);

  if (err != 0)
    return err;
  err = drop_displaced (index, renaming);
  if (err == 0)
    err = move_name (index, &renaming->from, &renaming->to);
  if (err == 0 && exchanges (renaming))
    err = move_name (index, &renaming->to, &renaming->from);
  if (err == 0)
    return nf_exec_index_commit (exec);
  nf_index_abort (index);
  return err;
}

static void
put_mtimes (NfExec *exec, const Renaming *renaming)
{
  NfFid from = renaming->from.parent, to = renaming->to.parent;

  nf_exec_put_mtime (exec, nf_tree_dir_fd (renaming->from.dir), from, exec->time);
  if (from != to)
    nf_exec_put_mtime (exec, nf_tree_dir_fd (renaming->to.dir), to, exec->time);
}

static int
keep_displaced (NfExec *exec, const Renaming *renaming)
{
  const End *to = &renaming->to;

  return displaces (renaming) && !renaming->orphan
             ? nf_linger_keep (exec->primary->linger, &to->attr, nf_tree_dir_fd (to->dir), to->name)
             : -1;
}

static int
carry_out (NfExec *exec, const Renaming *renaming)
{
  int kept = keep_displaced (exec, renaming);

  nf_exec_changing (exec);
  int err = call_rename (exec, renaming);
  if (err == 0)
    {
      put_mtimes (exec, renaming);
      int index_err = rename_in_index (exec, renaming);
      /* What was displaced is gone: there is no way back. */
      if (index_err != 0)
        nf_exec_broken (exec, "rename", index_err);
    }
  nf_exec_changed (exec);
  nf_linger_leave (exec->primary->linger, kept);
  return err;
}

static void
forget_displaced (NfExec *exec, const Renaming *renaming)
{
  NfFid fid = renaming->to.attr.fid;

  if (is_dir (&renaming->to))
    nf_tree_forget (exec->share->tree, fid);
  if (!renaming->orphan && renaming->to.attr.nlink == 1)
    nf_opens_forget (exec->share->opens, fid);
  gboolean stays = !is_dir (&renaming->to) && renaming->to.attr.nlink > 1;
  nf_exec_inval (exec, &(NfInval){ .kind = stays ? NF_INVAL_ATTR : NF_INVAL_GONE, .fid = fid });
}

static void
renamed (NfExec *exec, const Renaming *renaming)
{
  __atomic_add_fetch (&exec->primary->names_changed, 1, __ATOMIC_RELAXED);
  nf_exec_inval_name (exec, renaming->from.parent, renaming->from.slice,
                      exchanges (renaming) ? renaming->to.attr.fid : NF_FID_NONE);
  nf_exec_inval_name (exec, renaming->to.parent, renaming->to.slice, renaming->from.attr.fid);
  if (displaces (renaming))
    forget_displaced (exec, renaming);
}

static int
rename_locked (NfExec *exec, Renaming *renaming)
{
  NfTree *tree = exec->share->tree;
  int err;

  /* Two names of one object: rename(2) leaves both. */
  if (renaming->to.attr.fid == renaming->from.attr.fid)
    return 0;
  err = check (exec, renaming);
  if (err == 0)
    err = nf_tree_dir (tree, renaming->from.parent, &renaming->from.dir);
  if (err == 0)
    err = nf_tree_dir (tree, renaming->to.parent, &renaming->to.dir);
  if (err == 0)
    err = append (exec, renaming);
  if (err != 0)
    return err;
  save_orphan (exec, renaming);
  err = carry_out (exec, renaming);
  if (err == 0)
    {
      renamed (exec, renaming);
      return 0;
    }
  if (renaming->orphan)
    (void)nf_tree_unorphan (tree, renaming->to.attr.fid, renaming->to.parent, renaming->to.slice);
  nf_exec_abort (exec, exec->seq);
  return err;
}

int
nf_exec_rename (NfExec *exec)
{
  Renaming renaming;
  int err = parse (exec, &renaming);

  if (err == 0)
    err = look_and_lock (exec, &renaming);
  if (err != 0)
    return err;
  err = rename_locked (exec, &renaming);
  if (err == 0 && displaces (&renaming) && is_dir (&renaming.to))
    nf_exec_tell_gone (exec, &renaming.to.attr);
  else if (err == 0 && displaces (&renaming))
    nf_exec_tell_lost_name (exec, renaming.to.attr.fid);
  if (renaming.from.dir)
    nf_tree_dir_put (exec->share->tree, renaming.from.dir);
  if (renaming.to.dir)
    nf_tree_dir_put (exec->share->tree, renaming.to.dir);
  nf_exec_end (exec);
  unlock_across (exec, &renaming);
  return err;
}
