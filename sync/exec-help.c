// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/primary-internal.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "sync/creds.h"
#include "sync/times.h"

/* What several changes need: finding, paths, attributes and their corrections, descriptors and who may write. */

/* How far a site's clock may be from ours to count. */
#define CLOCK_NEAR_NS G_GINT64_CONSTANT (1000000000)

/* ---- names ---- */

int
nf_exec_name (NfFid parent, NfSlice name, char *ret_name)
{
  if (name.len > NF_NAME_LEN_MAX)
    return -ENAMETOOLONG;
  if (name.len == 0 || memchr (name.data, '/', name.len) || memchr (name.data, '\0', name.len))
    return -EINVAL;
  memcpy (ret_name, name.data, name.len);
  ret_name[name.len] = '\0';
  if (ret_name[0] != '.')
    return 0;
  if (g_str_equal (ret_name, ".") || g_str_equal (ret_name, ".."))
    return -EINVAL;
  return parent == NF_FID_ROOT && g_str_equal (ret_name, NF_HIDDEN_DIR) ? -EPERM : 0;
}

int
nf_exec_find (NfExec *exec, NfFid parent, NfSlice name, NfAttr *ret_attr)
{
  NfIdent ident;
  int err = nf_tree_lookup (exec->share->tree, parent, name, ret_attr, &ident);

  if (err == 0
      && (ret_attr->fid == NF_FID_NONE || (ret_attr->nlink > 1 && !S_ISDIR (ret_attr->mode))))
    err = nf_primary_adopt (exec->share, parent, name, ident, ret_attr);
  return err;
}

gboolean
nf_exec_still (NfExec *exec, NfFid parent, NfSlice name, NfFid fid, NfAttr *ret_attr)
{
  int err = nf_tree_lookup (exec->share->tree, parent, name, ret_attr, NULL);

  if (fid == NF_FID_NONE)
    return err == -ENOENT;
  return err == 0 && ret_attr->fid == fid;
}

static gboolean
not_empty (NfSlice name, const NfAttr *attr, const NfIdent *ident, guint64 cookie, gpointer data)
{
  (void)name, (void)attr, (void)ident, (void)cookie;
  *(gboolean *)data = TRUE;
  return FALSE;
}

int
nf_exec_empty (NfExec *exec, NfFid dir)
{
  gboolean found = FALSE;
  int err = nf_tree_readdir (exec->share->tree, dir, 0, FALSE, not_empty, &found);

  return err == 0 && found ? -ENOTEMPTY : err;
}

/* ---- paths, for readers of the journal ---- */

/* Of the last object or directory that this thread asked for. What the kernel does comes in runs, so one is enough. */
typedef struct
{
  const NfPrimary *primary;
  guint64 epoch; /* another primary may lie at the same address later */
  guint64 names_changed;
  NfFid fid;
  gsize len;
  char path[NF_EXEC_PATH_MAX];
} PathCache;

static __thread PathCache path_cache;

static void
fill_path_cache (NfPrimary *primary, NfFid fid, guint64 names_changed)
{
  PathCache *cache = &path_cache;
  g_autofree char *path = nf_index_path (primary->share->index, fid);
  gsize len = path ? strlen (path) : 0;
  gsize skip = len > sizeof cache->path ? len - sizeof cache->path : 0;

  cache->primary = primary;
  cache->epoch = primary->epoch;
  cache->names_changed = names_changed;
  cache->fid = fid;
  cache->len = len - skip;
  if (path)
    memcpy (cache->path, path + skip, cache->len);
}

static NfSlice
cached_path (NfPrimary *primary, NfFid fid)
{
  PathCache *cache = &path_cache;
  guint64 names_changed = __atomic_load_n (&primary->names_changed, __ATOMIC_RELAXED);

  if (cache->primary != primary || cache->epoch != primary->epoch || cache->fid != fid
      || cache->names_changed != names_changed)
    fill_path_cache (primary, fid, names_changed);
  return nf_slice (cache->path, cache->len);
}

NfSlice
nf_exec_path_of (NfExec *exec, NfFid fid)
{
  return cached_path (exec->primary, fid);
}

NfSlice
nf_exec_path_in (NfExec *exec, NfFid parent, NfSlice name)
{
  NfSlice dir = parent == NF_FID_ROOT ? NF_SLICE_NONE : cached_path (exec->primary, parent);
  gsize len = 0;

  if (dir.len > 0)
    {
      memcpy (exec->path, dir.data, dir.len);
      len = dir.len;
      exec->path[len++] = '/';
    }
  memcpy (exec->path + len, name.data, name.len);
  return nf_slice (exec->path, len + name.len);
}

/* ---- attributes ---- */

NfProcPath
nf_exec_proc_path (int fd)
{
  NfProcPath path;

  g_snprintf (path.str, sizeof path.str, "/proc/self/fd/%d", fd);
  return path;
}

int
nf_exec_set_times (int fd, gint64 atime, gint64 mtime)
{
  struct timespec times[2] = { { 0, UTIME_OMIT }, { 0, UTIME_OMIT } };

  if (atime != G_MININT64)
    times[0] = nf_time_spec (atime);
  if (mtime != G_MININT64)
    times[1] = nf_time_spec (mtime);
  return utimensat (fd, "", times, AT_EMPTY_PATH) == 0 ? 0 : -errno;
}

gint64
nf_exec_mtime (const NfExec *exec, gint64 present)
{
  gint64 theirs = exec->head->clock;

  if (exec->site && theirs >= present && theirs > exec->time - CLOCK_NEAR_NS
      && theirs < exec->time + CLOCK_NEAR_NS)
    return theirs;
  return exec->time;
}

void
nf_exec_attr (const struct stat *st, NfFid fid, NfAttr *ret_attr)
{
  *ret_attr = (NfAttr){
    .fid = fid,
    .mode = st->st_mode,
    .nlink = (guint32)st->st_nlink,
    .uid = st->st_uid,
    .gid = st->st_gid,
    .rdev = st->st_rdev,
    .size = (guint64)st->st_size,
    .blocks = (guint64)st->st_blocks,
    .atime = nf_time_ns (st->st_atim),
    .mtime = nf_time_ns (st->st_mtim),
    .ctime = nf_time_ns (st->st_ctim),
  };
}

guint32
nf_exec_differs (const NfAttr *said, const NfAttr *after, guint32 mask)
{
  guint32 differs = 0;

  if (((said->mode ^ after->mode) & 07777) != 0)
    differs |= NF_SET_MODE;
  if (said->uid != after->uid)
    differs |= NF_SET_UID;
  if (said->gid != after->gid)
    differs |= NF_SET_GID;
  if ((mask & NF_SET_SIZE) && said->size != after->size)
    differs |= NF_SET_SIZE;
  if ((mask & NF_SET_MTIME) && said->mtime != after->mtime)
    differs |= NF_SET_MTIME;
  if ((mask & NF_SET_ATIME) && said->atime != after->atime)
    differs |= NF_SET_ATIME;
  return differs;
}

void
nf_exec_correct (NfExec *exec, NfFid fid, guint32 mask, const NfAttr *after)
{
  NfRecord record = { .kind = NF_OP_ATTR, .fid = fid, .mask = mask, .attr = *after };

  if (nf_exec_append (exec, &record, FALSE) != 0)
    nf_exec_say_late (exec, fid, mask);
}

int
nf_exec_correct_xattr (NfExec *exec, NfFid fid, const char *path, const char *name)
{
  NfRecord record = { .kind = NF_OP_XATTR, .fid = fid, .xname = nf_slice_str (name) };
  g_autofree char *value = NULL;
  ssize_t len = lgetxattr (path, name, NULL, 0); /* mostly there is none */

  if (len >= 0)
    {
      value = g_malloc (NF_XATTR_MAX);
      len = lgetxattr (path, name, value, NF_XATTR_MAX);
    }
  if (len < 0)
    return errno == ENODATA || errno == EOPNOTSUPP ? 0 : -errno;
  record.value = nf_slice (value, (gsize)len);
  return nf_exec_append (exec, &record, FALSE);
}

/* ---- who may write ---- */

int
nf_exec_open (NfShare *share, NfFid fid, int flags)
{
  int fd = nf_tree_open_fid (share->tree, fid, flags);
  struct stat st;

  if (fd != -EACCES || !share->conf.personal)
    return fd;
  int path_fd = nf_tree_open_fid (share->tree, fid, O_PATH);
  if (path_fd < 0)
    return path_fd;
  NfProcPath path = nf_exec_proc_path (path_fd);
  if (fstat (path_fd, &st) == 0 && S_ISREG (st.st_mode)
      && chmod (path.str, (st.st_mode & 07777) | S_IRUSR | S_IWUSR) == 0)
    {
      fd = nf_tree_open_fid (share->tree, fid, flags);
      (void)chmod (path.str,
                   st.st_mode & 07777); /* as the owner this can't fail after it could be changed */
    }
  close (path_fd);
  return fd;
}

int
nf_exec_rw (NfExec *exec, NfFid fid, NfExecRw *ret_rw)
{
  NfOpens *opens = exec->share->opens;
  NfFile *file = exec->file;
  NfExecRw rw = { -1, NULL };

  if (file && file->fid == fid && file->fd >= 0 && (file->flags & O_ACCMODE) != O_RDONLY)
    rw.fd = file->fd;
  else if ((rw.open_fd = nf_opens_kept (opens, fid)))
    rw.fd = rw.open_fd->fd;
  else
    {
      int fd = nf_opens_fd (opens, fid, TRUE);
      if (fd < 0)
        fd = nf_exec_open (exec->share, fid, O_RDWR);
      if (fd < 0)
        return fd;
      rw.open_fd = nf_opens_keep (opens, fid, fd);
      rw.fd = fd;
    }
  *ret_rw = rw;
  return 0;
}

void
nf_exec_rw_clear (NfExecRw *rw)
{
  nf_open_fd_unref (rw->open_fd);
  rw->open_fd = NULL;
}

int
nf_exec_judge (NfExec *exec, NfFid fid, int fd, int access_mask)
{
  gboolean judged = FALSE;
  gboolean holds = FALSE;

  if (exec->share->conf.personal)
    return 0;
  if (exec->site)
    holds = nf_opens_holds (exec->share->opens, exec->site, fid, &judged);
  if (judged)
    return 0;
  if (!nf_exec_assume (exec, FALSE))
    return -EPERM;
  int err
      = syscall (SYS_faccessat2, fd, "", access_mask, AT_EMPTY_PATH | AT_EACCESS) == 0 ? 0 : -errno;
  struct stat st;
  nf_creds_leave ();
  /* The owner could give himself the right, and often has opened the file before he took it away. */
  if (err == -EACCES && fstat (fd, &st) == 0 && st.st_uid == exec->head->uid)
    err = 0;
  if (err == 0 && holds && (access_mask & W_OK))
    nf_opens_set_judged (exec->share->opens, exec->site, fid);
  return err;
}

void
nf_exec_tell_gone (NfExec *exec, const NfAttr *attr)
{
  NfAttr *told = &exec->answer->answer.attr;

  *told = *attr;
  told->nlink = 0;
  told->ctime = exec->time;
}

void
nf_exec_tell_lost_name (NfExec *exec, NfFid fid)
{
  exec->answer->answer.attr = (NfAttr){ .fid = fid };
}
