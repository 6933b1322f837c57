// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/tree-private.h"

#include <string.h>

#include <gio/gio.h>

/* Looking at objects. */

/* As in tree-dir.c. */
#define SETTLE_TRIES 1024

void
nf_tree_merge (NfTree *tree, const NfObject *object, NfAttr *attr)
{
  NfTreeRecorded recorded;

  attr->fid = object->fid;
  if (object->place != NF_PLACE_NAMED)
    attr->nlink = 0;
  else if (object->fid == NF_FID_ROOT && attr->nlink > 2)
    attr->nlink--; /* the hidden directory's ".." */
  if (!object->extra)
    return;
  nf_tree_recorded_load (tree, object, &recorded);
  if (recorded.mask & NF_TREE_RDEV)
    {
      /* A device that couldn't be made is an empty file on the disk. */
      attr->mode = (attr->mode & ~(guint32)S_IFMT) | object->mode;
      attr->rdev = recorded.rdev;
    }
  if (recorded.mask & NF_SET_MODE)
    attr->mode = (attr->mode & S_IFMT) | (recorded.mode & 07777);
  if (recorded.mask & NF_SET_UID)
    attr->uid = recorded.uid;
  if (recorded.mask & NF_SET_GID)
    attr->gid = recorded.gid;
}

int
nf_tree_lookup (NfTree *tree, NfFid parent, NfSlice name, NfAttr *ret_attr, NfIdent *ret_ident)
{
  NfTreeName str;
  NfTreeDir *dir;
  NfTreeStat stat;
  NfObject object;
  int rc = nf_tree_name (parent, name, &str);

  if (rc == 0)
    rc = nf_tree_dir (tree, parent, &dir);
  if (rc != 0)
    return rc;
  rc = nf_tree_statx (tree, dir->fd, str.str, &stat);
  nf_tree_dir_put (tree, dir);
  if (rc != 0)
    return rc;
  if (nf_tree_find (tree, stat.ident, &object))
    nf_tree_merge (tree, &object, &stat.attr);
  *ret_attr = stat.attr;
  if (ret_ident != NULL)
    *ret_ident = stat.ident;
  return 0;
}

/* What looking where the index says leads to when it isn't there. */
static gboolean
means_stale (int rc)
{
  return rc == -ENOENT || rc == -ENOTDIR || rc == -ELOOP || rc == -ESTALE;
}

static int
try_object (NfTree *tree, NfFid fid, NfTreeObjectFunc func, gpointer data)
{
  NfObject object;
  NfTreeDir *dir = NULL;
  NfTreeName name;
  int rc;

  if (!nf_index_get (tree->index, fid, &object))
    return -ESTALE;
  if (S_ISDIR (object.mode))
    dir = nf_tree_dir_cached (tree, fid);
  if (dir != NULL)
    name.str[0] = '\0';
  else
    {
      rc = nf_tree_locate (tree, &object, &dir, &name);
      if (rc != 0)
        return rc;
    }
  rc = func (tree, &object, dir->fd, name.str, data);
  nf_tree_dir_put (tree, dir);
  return rc;
}

int
nf_tree_with_object (NfTree *tree, NfFid fid, NfTreeObjectFunc func, gpointer data)
{
  NfTreeMoment moment = nf_tree_moment (tree);
  int rc = -ESTALE;

  for (guint i = 0; i < SETTLE_TRIES; i++)
    {
      rc = try_object (tree, fid, func, data);
      if (!means_stale (rc))
        return rc;
      if (!nf_tree_unsettled (tree, &moment))
        break;
    }
  return -ESTALE;
}

static int
statx_verified (NfTree *tree, const NfObject *object, int dir_fd, const char *name,
                NfTreeStat *ret_stat)
{
  int rc = nf_tree_statx (tree, dir_fd, name, ret_stat);

  if (rc != 0)
    return rc;
  if (!nf_tree_ident_equal (ret_stat->ident, object->ident) || ret_stat->attr.nlink == 0)
    return -ESTALE;
  return 0;
}

static int
stat_object (NfTree *tree, const NfObject *object, int dir_fd, const char *name, gpointer data)
{
  NfTreeStat stat;
  NfAttr *ret_attr = data;
  int rc = statx_verified (tree, object, dir_fd, name, &stat);

  if (rc != 0)
    return rc;
  nf_tree_merge (tree, object, &stat.attr);
  *ret_attr = stat.attr;
  return 0;
}

int
nf_tree_stat (NfTree *tree, NfFid fid, NfAttr *ret_attr)
{
  return nf_tree_with_object (tree, fid, stat_object, ret_attr);
}

int
nf_tree_fstat (NfTree *tree, int fd, NfFid fid, NfAttr *ret_attr)
{
  NfTreeStat stat;
  NfObject object;
  int rc = nf_tree_statx (tree, fd, "", &stat);

  if (rc != 0)
    return rc;
  stat.attr.fid = fid;
  if (nf_index_get (tree->index, fid, &object))
    nf_tree_merge (tree, &object, &stat.attr);
  *ret_attr = stat.attr;
  return 0;
}

int
nf_tree_open_verified (NfTree *tree, const NfObject *object, int dir_fd, const char *name,
                       int flags, NfTreeStat *ret_stat)
{
  int fd = nf_tree_openat (dir_fd, name[0] == '\0' ? "." : name, flags);
  int rc;

  if (fd < 0)
    return fd;
  rc = statx_verified (tree, object, fd, "", ret_stat);
  if (rc == 0)
    return fd;
  close (fd);
  return rc;
}

typedef struct
{
  int flags;
  int refusal; /* of what was found: looking again wouldn't help */
} OpenCall;

static int
open_object (NfTree *tree, const NfObject *object, int dir_fd, const char *name, gpointer data)
{
  OpenCall *call = data;
  int flags = call->flags;
  NfTreeStat stat;

  call->refusal = 0;
  if ((flags & O_PATH) == 0)
    {
      /* Opening a device or a fifo does things to others, and may wait for them. */
      if (S_ISLNK (object->mode))
        call->refusal = -ELOOP;
      else if (!S_ISREG (object->mode) && !S_ISDIR (object->mode))
        call->refusal = -ENXIO;
      flags |= O_NONBLOCK;
    }
  if (call->refusal != 0)
    return 0;
  return nf_tree_open_verified (tree, object, dir_fd, name, flags, &stat);
}

int
nf_tree_open_fid (NfTree *tree, NfFid fid, int flags)
{
  OpenCall call = { flags & ~(O_CREAT | O_EXCL | O_TRUNC), 0 };
  int fd = nf_tree_with_object (tree, fid, open_object, &call);

  return call.refusal != 0 ? call.refusal : fd;
}

int
nf_tree_name_of (NfTree *tree, NfFid fid, NfFid *ret_parent, char **ret_name)
{
  NfTreeName name;

  if (!nf_index_first_name (tree->index, fid, ret_parent, name.str))
    {
      NfObject object;

      if (!nf_index_get (tree->index, fid, &object) || object.place == NF_PLACE_NAMED)
        return -ESTALE;
      *ret_parent = NF_FID_LIMIT + object.place;
      nf_tree_fid_hex (fid, &name);
    }
  *ret_name = g_strdup (name.str);
  return 0;
}

typedef struct
{
  char *target;
  gsize size;
} ReadlinkCall;

static int
readlink_object (NfTree *tree, const NfObject *object, int dir_fd, const char *name, gpointer data)
{
  ReadlinkCall *call = data;
  NfTreeStat stat;
  ssize_t len;
  int fd;

  if (!S_ISLNK (object->mode))
    return -EINVAL;
  fd = nf_tree_open_verified (tree, object, dir_fd, name, O_PATH, &stat);
  if (fd < 0)
    return fd;
  len = readlinkat (fd, "", call->target, call->size);
  if (len < 0)
    len = -errno;
  close (fd);
  return (int)len;
}

int
nf_tree_readlink (NfTree *tree, NfFid fid, char *target, gsize size)
{
  ReadlinkCall call = { target, size };

  return nf_tree_with_object (tree, fid, readlink_object, &call);
}
