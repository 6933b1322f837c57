// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/tree-private.h"
#include "sync/times.h"

#include <limits.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include <linux/openat2.h>

/* From fid to descriptor. The index has a parent and a name for each fid; the walk goes up until it meets a directory
 * whose descriptor is cached (the root's always is), then down again with openat2, in pieces that the kernel takes.
 *
 * A descriptor is the directory, whatever its path: it is checked against the identity in the index when it's opened,
 * and stays good when the directory, or one above it, is moved. */

/* As index-names.c has it: a ring of parents ends somewhere. */
#define DEPTH_MAX 65536
/* How often a look at index and disk is repeated when names change meanwhile. Each time a change has ended, so only a
 * storm of changes to the very same names could use this up. */
#define SETTLE_TRIES 1024

void
nf_tree_fid_hex (NfFid fid, NfTreeName *ret_name)
{
  static const char digits[] = "0123456789abcdef";

  for (guint i = 0; i < NF_FID_HEX_LEN; i++)
    ret_name->str[i] = digits[(fid >> (60 - 4 * i)) & 15];
  ret_name->str[NF_FID_HEX_LEN] = '\0';
}

int
nf_tree_name (NfFid parent, NfSlice name, NfTreeName *ret_name)
{
  if (name.len > NF_NAME_LEN_MAX)
    return -ENAMETOOLONG;
  if (name.len == 0 || memchr (name.data, '/', name.len) != NULL
      || memchr (name.data, '\0', name.len) != NULL)
    return -EINVAL;
  memcpy (ret_name->str, name.data, name.len);
  ret_name->str[name.len] = '\0';
  if (ret_name->str[0] != '.')
    return 0;
  if (strcmp (ret_name->str, ".") == 0 || strcmp (ret_name->str, "..") == 0)
    return -EINVAL;
  if (parent == NF_FID_ROOT && strcmp (ret_name->str, NF_HIDDEN_DIR) == 0)
    return -ENOENT;
  return 0;
}

int
nf_tree_openat (int dir_fd, const char *path, int flags)
{
  struct open_how how = {
    .flags = (guint64)(unsigned)(flags | O_CLOEXEC | O_NOFOLLOW),
    .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
  };
  long fd;

  /* The kernel asks for a repetition if a rename made it unsure whether the path stayed beneath. */
  do
    fd = syscall (SYS_openat2, dir_fd, path, &how, sizeof how);
  while (fd < 0 && (errno == EAGAIN || errno == EINTR));
  return fd < 0 ? -errno : (int)fd;
}

static gint64
to_ns (const struct statx_timestamp *time)
{
  return nf_time_ns ((struct timespec){ time->tv_sec, time->tv_nsec });
}

int
nf_tree_statx (NfTree *tree, int dir_fd, const char *name, NfTreeStat *ret_stat)
{
  struct statx stx;
  int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (name[0] == '\0' ? AT_EMPTY_PATH : 0);

  if (statx (dir_fd, name, flags, STATX_BASIC_STATS | STATX_BTIME, &stx) != 0)
    return -errno;
  if (stx.stx_dev_major != tree->dev_major || stx.stx_dev_minor != tree->dev_minor)
    return -EXDEV;
  ret_stat->ident = (NfIdent){
    stx.stx_ino,
    (stx.stx_mask & STATX_BTIME) != 0 ? to_ns (&stx.stx_btime) : 0,
  };
  ret_stat->type = stx.stx_mode & S_IFMT;
  ret_stat->attr = (NfAttr){
    .mode = stx.stx_mode,
    .nlink = stx.stx_nlink,
    .uid = stx.stx_uid,
    .gid = stx.stx_gid,
    .rdev = makedev (stx.stx_rdev_major, stx.stx_rdev_minor),
    .size = stx.stx_size,
    .blocks = stx.stx_blocks,
    .atime = to_ns (&stx.stx_atime),
    .mtime = to_ns (&stx.stx_mtime),
    .ctime = to_ns (&stx.stx_ctime),
  };
  return 0;
}

gboolean
nf_tree_ident_equal (NfIdent a, NfIdent b)
{
  return a.ino == b.ino && a.btime == b.btime;
}

/* The cache. */

static NfTreeDir *
fixed_dir (NfTree *tree, NfFid fid)
{
  if (fid == NF_FID_ROOT)
    return &tree->root_dir;
  if (fid > NF_FID_LIMIT && fid <= NF_FID_LIMIT + NF_PLACE_ORPHANS)
    return &tree->place_dirs[fid - NF_FID_LIMIT];
  return NULL;
}

static NfTreeDir *
take_cached (NfTree *tree, NfFid fid)
{
  NfTreeDir *dir = fixed_dir (tree, fid);

  if (dir != NULL)
    return dir;
  pthread_mutex_lock (&tree->dirs_lock);
  dir = g_hash_table_lookup (tree->dirs, &fid);
  if (dir != NULL)
    {
      dir->refs++;
      if (tree->lru.head != &dir->link)
        {
          g_queue_unlink (&tree->lru, &dir->link);
          g_queue_push_head_link (&tree->lru, &dir->link);
        }
    }
  pthread_mutex_unlock (&tree->dirs_lock);
  return dir;
}

NfTreeDir *
nf_tree_dir_cached (NfTree *tree, NfFid fid)
{
  return take_cached (tree, fid);
}

/* With dirs_lock. What is dropped for good is closed by the caller, after unlocking: close may take long. */
static int
unref_dir (NfTreeDir *dir)
{
  int fd = dir->fd;

  if (--dir->refs > 0)
    return -1;
  g_free (dir);
  return fd;
}

static int
uncache_dir (NfTree *tree, NfTreeDir *dir)
{
  g_hash_table_remove (tree->dirs, &dir->fid);
  g_queue_unlink (&tree->lru, &dir->link);
  dir->cached = FALSE;
  return unref_dir (dir);
}

/* Takes FD. If another thread was faster, its descriptor is as good. */
static NfTreeDir *
insert_dir (NfTree *tree, NfFid fid, int fd)
{
  NfTreeDir *dir;
  int to_close = -1;

  pthread_mutex_lock (&tree->dirs_lock);
  dir = g_hash_table_lookup (tree->dirs, &fid);
  if (dir != NULL)
    {
      dir->refs++;
      to_close = fd;
    }
  else
    {
      dir = g_new0 (NfTreeDir, 1);
      dir->fid = fid;
      dir->fd = fd;
      dir->refs = 2;
      dir->cached = TRUE;
      dir->link.data = dir;
      g_hash_table_insert (tree->dirs, &dir->fid, dir);
      g_queue_push_head_link (&tree->lru, &dir->link);
      if (tree->lru.length > NF_TREE_DIRS_MAX)
        to_close = uncache_dir (tree, tree->lru.tail->data);
    }
  pthread_mutex_unlock (&tree->dirs_lock);
  if (to_close >= 0)
    close (to_close);
  return dir;
}

int
nf_tree_dir_fd (NfTreeDir *dir)
{
  return dir->fd;
}

void
nf_tree_dir_put (NfTree *tree, NfTreeDir *dir)
{
  int to_close;

  if (dir == NULL || fixed_dir (tree, dir->fid) == dir)
    return;
  pthread_mutex_lock (&tree->dirs_lock);
  to_close = unref_dir (dir);
  pthread_mutex_unlock (&tree->dirs_lock);
  if (to_close >= 0)
    close (to_close);
}

void
nf_tree_forget (NfTree *tree, NfFid fid)
{
  NfTreeDir *dir;
  int to_close = -1;

  pthread_mutex_lock (&tree->dirs_lock);
  dir = g_hash_table_lookup (tree->dirs, &fid);
  if (dir != NULL)
    to_close = uncache_dir (tree, dir);
  pthread_mutex_unlock (&tree->dirs_lock);
  if (to_close >= 0)
    close (to_close);
}

void
nf_tree_dirs_clear (NfTree *tree)
{
  while (tree->lru.tail != NULL)
    {
      int fd = uncache_dir (tree, tree->lru.tail->data);

      if (fd >= 0)
        close (fd);
    }
}

/* Changes of names. */

void
nf_tree_changing (NfTree *tree)
{
  pthread_mutex_lock (&tree->changes_lock);
  tree->changing++;
  pthread_mutex_unlock (&tree->changes_lock);
}

void
nf_tree_changed (NfTree *tree)
{
  pthread_mutex_lock (&tree->changes_lock);
  g_assert (tree->changing > 0);
  tree->changing--;
  tree->n_changes++;
  pthread_cond_broadcast (&tree->changes_cond);
  pthread_mutex_unlock (&tree->changes_lock);
}

NfTreeMoment
nf_tree_moment (NfTree *tree)
{
  NfTreeMoment moment;

  pthread_mutex_lock (&tree->changes_lock);
  moment.changes = tree->n_changes;
  pthread_mutex_unlock (&tree->changes_lock);
  moment.commits = nf_index_commits (tree->index);
  return moment;
}

gboolean
nf_tree_unsettled (NfTree *tree, NfTreeMoment *moment)
{
  NfTreeMoment before = *moment;

  /* Who changes names waits for the index in the end, so who has that mustn't wait for him; nor has he to wait for
   * himself. */
  if (!nf_index_held (tree->index))
    {
      pthread_mutex_lock (&tree->changes_lock);
      while (tree->changing > 0 && tree->n_changes == before.changes)
        pthread_cond_wait (&tree->changes_cond, &tree->changes_lock);
      pthread_mutex_unlock (&tree->changes_lock);
      /* A change may be part of a larger transaction. */
      nf_index_settle (tree->index);
    }
  *moment = nf_tree_moment (tree);
  return moment->changes != before.changes || moment->commits != before.commits;
}

gboolean
nf_tree_find (NfTree *tree, NfIdent ident, NfObject *ret_object)
{
  NfTreeMoment moment;

  if (nf_index_find (tree->index, ident, ret_object))
    return TRUE;
  moment = nf_tree_moment (tree);
  (void)nf_tree_unsettled (tree, &moment);
  return nf_index_find (tree->index, ident, ret_object);
}

/* The walk. */

/* The names from FID up to a directory that has a descriptor, the lowest first. Returns that, or NULL. */
static NfTreeDir *
climb (NfTree *tree, NfFid fid, GPtrArray *names)
{
  NfTreeDir *dir = NULL;

  while (names->len < DEPTH_MAX)
    {
      NfTreeName name;
      NfFid parent;

      if (!nf_index_first_name (tree->index, fid, &parent, name.str))
        {
          NfObject object;

          if (!nf_index_get (tree->index, fid, &object) || object.place == NF_PLACE_NAMED)
            return NULL;
          nf_tree_fid_hex (fid, &name);
          parent = NF_FID_LIMIT + object.place;
        }
      g_ptr_array_add (names, g_strdup (name.str));
      dir = take_cached (tree, parent);
      if (dir != NULL)
        return dir;
      fid = parent;
    }
  return NULL;
}

/* The next piece of the path: as many names as fit. */
static void
next_piece (GPtrArray *names, guint *left, GString *piece)
{
  g_string_truncate (piece, 0);
  while (*left > 0)
    {
      const char *name = g_ptr_array_index (names, *left - 1);

      if (piece->len > 0 && piece->len + 1 + strlen (name) >= PATH_MAX)
        return;
      if (piece->len > 0)
        g_string_append_c (piece, '/');
      g_string_append (piece, name);
      (*left)--;
    }
}

static int
descend (int from_fd, GPtrArray *names)
{
  g_autoptr (GString) piece = g_string_sized_new (256);
  guint left = names->len;
  int fd = from_fd;

  while (left > 0)
    {
      int next;

      next_piece (names, &left, piece);
      next = nf_tree_openat (fd, piece->str, O_PATH | O_DIRECTORY);
      if (fd != from_fd)
        close (fd);
      if (next < 0)
        return next;
      fd = next;
    }
  return fd;
}

/* Opens directory OBJECT and sees that it is the one. -ESTALE if it isn't. */
static int
open_dir (NfTree *tree, const NfObject *object)
{
  g_autoptr (GPtrArray) names = g_ptr_array_new_with_free_func (g_free);
  NfTreeDir *from = climb (tree, object->fid, names);
  NfTreeStat stat;
  int fd, rc;

  if (from == NULL)
    return -ESTALE;
  fd = descend (from->fd, names);
  nf_tree_dir_put (tree, from);
  if (fd < 0)
    return fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP ? -ESTALE : fd;
  rc = nf_tree_statx (tree, fd, "", &stat);
  if (rc == 0 && !nf_tree_ident_equal (stat.ident, object->ident))
    rc = -ESTALE;
  if (rc == 0)
    return fd;
  close (fd);
  return rc;
}

int
nf_tree_dir (NfTree *tree, NfFid fid, NfTreeDir **ret_dir)
{
  NfTreeDir *dir = take_cached (tree, fid);
  NfTreeMoment moment;
  int fd = -ESTALE;

  if (dir != NULL)
    {
      *ret_dir = dir;
      return 0;
    }
  moment = nf_tree_moment (tree);
  for (guint i = 0; i < SETTLE_TRIES; i++)
    {
      NfObject object;

      if (!nf_index_get (tree->index, fid, &object))
        fd = -ESTALE;
      else if (!S_ISDIR (object.mode))
        return -ENOTDIR;
      else
        fd = open_dir (tree, &object);
      if (fd != -ESTALE || !nf_tree_unsettled (tree, &moment))
        break;
    }
  if (fd < 0)
    return fd;
  *ret_dir = insert_dir (tree, fid, fd);
  return 0;
}

int
nf_tree_locate (NfTree *tree, const NfObject *object, NfTreeDir **ret_dir, NfTreeName *ret_name)
{
  NfFid parent;

  if (object->place != NF_PLACE_NAMED)
    {
      nf_tree_fid_hex (object->fid, ret_name);
      *ret_dir = &tree->place_dirs[object->place];
      return 0;
    }
  if (!nf_index_first_name (tree->index, object->fid, &parent, ret_name->str))
    return -ESTALE;
  return nf_tree_dir (tree, parent, ret_dir);
}
