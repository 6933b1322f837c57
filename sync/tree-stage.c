// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/tree-private.h"

#include <string.h>
#include <sys/xattr.h>

/* Making objects and content out of sight. An object gets all its attributes in staging, so that what appears under a
 * name is complete; a crash before that leaves only something in staging, which nf_tree_sweep() removes. */

/* The name of the staged content of a file, which is no object. */
static void
content_name (NfFid fid, NfTreeName *ret_name)
{
  nf_tree_fid_hex (fid, ret_name);
  memcpy (ret_name->str + NF_FID_HEX_LEN, ".data", sizeof ".data");
}

static int
staging_fd (NfTree *tree)
{
  return tree->place_dirs[NF_PLACE_STAGING].fd;
}

/* Makes NAME in staging. Returns a descriptor to set its attributes through, O_PATH but for a file. */
static int
make_file (NfTree *tree, const char *name, guint32 mode)
{
  int fd = openat (staging_fd (tree), name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                   nf_tree_disk_mode (tree, S_IFREG, mode) & 0777);

  return fd < 0 ? -errno : fd;
}

static int
make_special (NfTree *tree, const NfAttr *attr, NfSlice target, const char *name)
{
  int fd = staging_fd (tree);
  guint32 type = attr->mode & S_IFMT;
  int rc;

  if (type == S_IFDIR)
    rc = mkdirat (fd, name, 0700);
  else if (type == S_IFLNK)
    {
      g_autofree char *to = nf_slice_dup (target);

      rc = symlinkat (to, fd, name);
    }
  else
    rc = mknodat (fd, name, type | 0600, attr->rdev);
  if (rc != 0)
    return -errno;
  return nf_tree_openat (fd, name, O_PATH);
}

static int
make_node (NfTree *tree, const NfAttr *attr, NfSlice target, const char *name,
           NfTreeTarget *ret_made)
{
  guint32 type = attr->mode & S_IFMT;
  gboolean device = type == S_IFCHR || type == S_IFBLK;
  NfTreeTarget made = { .is_path = TRUE, .type = type };

  made.fd = -EPERM;
  if (type != S_IFREG && !(device && tree->options.personal))
    made.fd = make_special (tree, attr, target, name);
  if (type == S_IFREG || (device && nf_tree_is_refusal (made.fd)))
    {
      made.fd = make_file (tree, name, attr->mode);
      made.is_path = FALSE;
      made.type = S_IFREG;
      if (device)
        {
          made.recorded.mask = NF_TREE_RDEV;
          made.recorded.rdev = attr->rdev;
        }
    }
  if (made.fd < 0)
    return made.fd;
  *ret_made = made;
  return 0;
}

/* Sets what isn't so already: most objects need only their times and a mode. */
static int
dress (NfTree *tree, const NfAttr *attr, NfTreeTarget *made, NfTreeStat *stat)
{
  guint32 mask = NF_SET_ATIME | NF_SET_MTIME;
  int rc = nf_tree_statx (tree, made->fd, "", stat);

  if (rc != 0)
    return rc;
  made->stat = stat;
  if (stat->attr.uid != attr->uid)
    mask |= NF_SET_UID;
  if (stat->attr.gid != attr->gid)
    mask |= NF_SET_GID;
  /* A new owner may clear bits of the mode. */
  if ((mask & (NF_SET_UID | NF_SET_GID)) != 0 || ((stat->attr.mode ^ attr->mode) & 07777) != 0)
    mask |= NF_SET_MODE;
  return nf_tree_apply_attr (tree, made, mask, attr);
}

int
nf_tree_stage_on_disk (NfTree *tree, const NfAttr *attr, NfSlice target, NfTreeStaged *ret_staged)
{
  NfTreeTarget made;
  NfTreeStat stat;
  NfTreeName name;
  int rc;

  nf_tree_fid_hex (attr->fid, &name);
  rc = make_node (tree, attr, target, name.str, &made);
  if (rc == -EEXIST)
    {
      rc = nf_tree_destroy (tree, staging_fd (tree), name.str);
      if (rc == 0)
        rc = make_node (tree, attr, target, name.str, &made);
    }
  if (rc != 0)
    return rc;
  rc = dress (tree, attr, &made, &stat);
  gboolean kept = rc == 0 && S_ISREG (attr->mode);
  if (!kept)
    close (made.fd);
  if (rc != 0)
    {
      (void)nf_tree_destroy (tree, staging_fd (tree), name.str); /* else the next sweep does it */
      return rc;
    }
  ret_staged->object = (NfObject){
    .fid = attr->fid,
    .ident = stat.ident,
    .mode = attr->mode & S_IFMT,
    .place = NF_PLACE_STAGING,
  };
  ret_staged->recorded = made.recorded;
  ret_staged->fd = kept ? made.fd : -1;
  return 0;
}

int
nf_tree_enter_staged (NfTree *tree, const NfTreeStaged *staged)
{
  const NfObject *object = &staged->object;
  NfObject before;
  int rc = 0;

  /* It may be known without being here, or have been staged before. */
  if (nf_index_get (tree->index, object->fid, &before))
    rc = nf_index_remove (tree->index, object->fid);
  if (rc == 0)
    rc = nf_index_note_fid (tree->index, object->fid);
  if (rc == 0)
    rc = nf_index_put (tree->index, object);
  if (rc == 0 && staged->recorded.mask != 0)
    rc = nf_tree_recorded_store (tree, object->fid, &staged->recorded);
  return rc;
}

int
nf_tree_may_stage (NfTree *tree, NfFid fid)
{
  NfObject before;

  if (fid == NF_FID_NONE || fid == NF_FID_ROOT || fid >= NF_FID_LIMIT)
    return -EINVAL;
  if (nf_index_get (tree->index, fid, &before) && before.ident.ino != 0
      && before.place != NF_PLACE_STAGING)
    return -EEXIST;
  return 0;
}

int
nf_tree_stage (NfTree *tree, const NfAttr *attr, NfSlice target)
{
  NfTreeStaged staged;
  int rc = nf_tree_may_stage (tree, attr->fid);

  if (rc == 0)
    rc = nf_tree_stage_on_disk (tree, attr, target, &staged);
  if (rc != 0)
    return rc;
  if (staged.fd >= 0)
    close (staged.fd);
  rc = nf_index_begin (tree->index);
  if (rc != 0)
    return rc;
  return nf_tree_end_transaction (tree, nf_tree_enter_staged (tree, &staged));
}

int
nf_tree_stage_file (NfTree *tree, NfFid fid, int *ret_fd)
{
  NfTreeName name;
  int fd;

  content_name (fid, &name);
  fd = openat (staging_fd (tree), name.str, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC,
               0600);
  if (fd < 0)
    return -errno;
  *ret_fd = fd;
  return 0;
}

void
nf_tree_drop_staged_file (NfTree *tree, NfFid fid)
{
  NfTreeName name;

  content_name (fid, &name);
  (void)unlinkat (staging_fd (tree), name.str, 0); /* else the next sweep does it */
}

/* All xattrs, shown or not, from the file at path FROM to descriptor TO. */
static int
copy_xattrs (const char *from, int to)
{
  g_autofree char *list = g_malloc (XATTR_LIST_MAX);
  g_autofree guint8 *value = NULL;
  ssize_t list_len = listxattr (from, list, XATTR_LIST_MAX);

  if (list_len < 0)
    return errno == ENOTSUP ? 0 : -errno;
  if (list_len > 0)
    value = g_malloc (NF_XATTR_MAX);
  for (ssize_t pos = 0; pos < list_len; pos += (ssize_t)strlen (list + pos) + 1)
    {
      ssize_t len = getxattr (from, list + pos, value, NF_XATTR_MAX);

      /* security.selinux and the like are the system's: it labels the new file itself. */
      if (len >= 0 && nf_tree_xattr_shown (list + pos)
          && fsetxattr (to, list + pos, value, (size_t)len, 0) != 0)
        return -errno;
    }
  return 0;
}

/* The staged content gets what the file has on disk. */
static int
dress_like (int old_fd, const NfTreeStat *old, int new_fd)
{
  NfTreeProcPath path;

  if (fchown (new_fd, old->attr.uid, old->attr.gid) != 0
      && (geteuid () == 0 || !nf_tree_is_refusal (-errno)))
    return -errno;
  if (fchmod (new_fd, old->attr.mode & 07777) != 0)
    return -errno;
  nf_tree_proc_path (old_fd, &path);
  return copy_xattrs (path.str, new_fd);
}

typedef struct
{
  int fd; /* of the staged content */
  NfTreeName name;
} SwitchCall;

static int
switch_on_object (NfTree *tree, const NfObject *object, int dir_fd, const char *name, gpointer data)
{
  SwitchCall *call = data;
  NfTreeStat old;
  int rc;
  int old_fd = nf_tree_open_verified (tree, object, dir_fd, name, O_PATH, &old);

  if (old_fd < 0)
    return old_fd;
  if (old.type != S_IFREG)
    rc = -EINVAL;
  else if (old.attr.nlink > 1)
    rc = -EMLINK;
  else
    rc = dress_like (old_fd, &old, call->fd);
  close (old_fd);
  if (rc != 0)
    return rc;
  nf_tree_changing (tree); /* ended by the caller, when the index has followed */
  if (renameat (staging_fd (tree), call->name.str, dir_fd, name) == 0)
    return 0;
  rc = -errno;
  nf_tree_changed (tree);
  return rc;
}

static int
follow_switch (NfTree *tree, NfFid fid, NfIdent ident)
{
  NfObject object;
  int rc = nf_index_begin (tree->index);

  if (rc != 0)
    return rc;
  if (!nf_index_get (tree->index, fid, &object))
    return nf_tree_end_transaction (tree, -ESTALE);
  object.ident = ident;
  return nf_tree_end_transaction (tree, nf_index_put (tree->index, &object));
}

int
nf_tree_switch_file (NfTree *tree, NfFid fid)
{
  SwitchCall call;
  NfTreeStat stat;
  int rc;

  content_name (fid, &call.name);
  call.fd = nf_tree_openat (staging_fd (tree), call.name.str, O_RDWR);
  if (call.fd < 0)
    return call.fd;
  rc = nf_tree_statx (tree, call.fd, "", &stat);
  if (rc == 0)
    {
      rc = nf_tree_with_object (tree, fid, switch_on_object, &call);
      if (rc == 0)
        {
          rc = follow_switch (tree, fid, stat.ident);
          nf_tree_changed (tree);
        }
    }
  close (call.fd);
  return rc;
}
