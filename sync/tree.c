// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/tree-private.h"

#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/xattr.h>

#include <gio/gio.h>

/* Opening a share's directory. Three questions, in this order, before anything in it is believed or changed:
 *
 *   Is it the share's? The root bears the share's id. An empty mount point doesn't.
 *   Is it ours alone? The lock file is locked as long as this process lives.
 *   Is it the same one? The index knows the root's inode and birth time. A copy of the directory, or a restored backup,
 *   has the mark and the index too, but its inodes are others. */

#define MARK_PERSONAL "user.nearfs.share"
#define MARK_ROOT "trusted.nearfs.share"
#define MARK_FILE "share"
#define INDEX_FILE "index"
#define LOCK_FILE "lock"
#define ANEW_FILE "anew"

static void
set_errno_error (GError **error, int err, const char *what, const char *path)
{
  g_set_error (error, G_IO_ERROR, g_io_error_from_errno (err), "%s %s: %s", what, path,
               g_strerror (err));
}

/* A share id from TEXT, which need not be terminated; 0 if it is none. */
static guint64
parse_share (const char *text, gsize len)
{
  char copy[NF_FID_HEX_LEN + 1] = { 0 };
  char *end;
  guint64 share;

  if (len < NF_FID_HEX_LEN)
    return 0;
  memcpy (copy, text, NF_FID_HEX_LEN);
  share = g_ascii_strtoull (copy, &end, 16);
  return *end == '\0' ? share : 0;
}

static guint64
read_mark_file (int root_fd)
{
  char text[NF_FID_HEX_LEN + 1] = { 0 };
  ssize_t len = -1;
  int fd = nf_tree_openat (root_fd, NF_HIDDEN_DIR "/" MARK_FILE, O_RDONLY);

  if (fd >= 0)
    {
      len = read (fd, text, NF_FID_HEX_LEN);
      close (fd);
    }
  return len == NF_FID_HEX_LEN ? parse_share (text, NF_FID_HEX_LEN) : 0;
}

/* The share that the directory is marked for, 0 if none. A daemon may have run with more or less privilege before, so
 * all marks count. */
static guint64
read_mark (int root_fd)
{
  static const char *const marks[] = { MARK_ROOT, MARK_PERSONAL };

  for (gsize i = 0; i < G_N_ELEMENTS (marks); i++)
    {
      char text[NF_FID_HEX_LEN + 1];
      ssize_t len = fgetxattr (root_fd, marks[i], text, sizeof text);

      if (len >= NF_FID_HEX_LEN)
        return parse_share (text, (gsize)len);
    }
  return read_mark_file (root_fd);
}

static int
write_mark_file (NfTree *tree, const char *text)
{
  int rc = 0;
  int fd = openat (tree->hidden_fd, MARK_FILE, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

  if (fd < 0)
    return -errno;
  if (write (fd, text, NF_FID_HEX_LEN) != NF_FID_HEX_LEN || fsync (fd) != 0)
    rc = errno != 0 ? -errno : -EIO;
  close (fd);
  return rc;
}

static int
write_mark (NfTree *tree)
{
  char text[NF_FID_HEX_LEN + 1];
  const char *name = tree->options.personal ? MARK_PERSONAL : MARK_ROOT;

  g_snprintf (text, sizeof text, "%016" G_GINT64_MODIFIER "x", tree->options.share);
  if (fsetxattr (tree->root_fd, name, text, NF_FID_HEX_LEN, 0) == 0)
    return fsync (tree->root_fd) == 0 ? 0 : -errno;
  if (errno != ENOTSUP && errno != EPERM && errno != EACCES)
    return -errno;
  return write_mark_file (tree, text);
}

static gboolean
check_mark (NfTree *tree, guint64 *ret_mark, GError **error)
{
  guint64 mark = read_mark (tree->root_fd);

  if (mark == 0 && !tree->options.mark)
    {
      g_set_error (error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND,
                   "%s isn't marked as a directory of this share: is its disk mounted? "
                   "(If it is to be taken into use, run nearfs with --mark once.)",
                   tree->path);
      return FALSE;
    }
  if (mark != 0 && mark != tree->options.share)
    {
      g_set_error (error, G_IO_ERROR, G_IO_ERROR_EXISTS,
                   "%s is marked as a directory of another share (%016" G_GINT64_MODIFIER
                   "x): is the right disk mounted there?",
                   tree->path, mark);
      return FALSE;
    }
  *ret_mark = mark;
  return TRUE;
}

/* Opens directory NAME in DIR_FD, making it first where it isn't. */
static int
open_or_make_dir (int dir_fd, const char *name)
{
  int fd;

  if (mkdirat (dir_fd, name, 0700) != 0 && errno != EEXIST)
    return -errno;
  fd = nf_tree_openat (dir_fd, name, O_RDONLY | O_DIRECTORY);
  if (fd < 0)
    return fd;
  /* What is made here must not inherit a group or an ACL from the share's root. */
  if (fchmod (fd, 0700) != 0
      || (fremovexattr (fd, "system.posix_acl_default") != 0 && errno != ENODATA
          && errno != ENOTSUP))
    {
      int rc = -errno;

      close (fd);
      return rc;
    }
  return fd;
}

static gboolean
open_hidden (NfTree *tree, GError **error)
{
  static const struct
  {
    NfPlace place;
    const char *name;
  } places[] = {
    { NF_PLACE_STAGING, "staging" },
    { NF_PLACE_LIMBO, "limbo" },
    { NF_PLACE_ORPHANS, "orphans" },
  };

  tree->hidden_fd = open_or_make_dir (tree->root_fd, NF_HIDDEN_DIR);
  if (tree->hidden_fd < 0)
    {
      set_errno_error (error, -tree->hidden_fd, "Can't make " NF_HIDDEN_DIR " in", tree->path);
      return FALSE;
    }
  tree->quarantine_fd = open_or_make_dir (tree->hidden_fd, "quarantine");
  for (gsize i = 0; i < G_N_ELEMENTS (places); i++)
    {
      NfTreeDir *dir = &tree->place_dirs[places[i].place];

      dir->fid = NF_FID_LIMIT + places[i].place;
      dir->fd = open_or_make_dir (tree->hidden_fd, places[i].name);
      if (dir->fd < 0 || tree->quarantine_fd < 0)
        {
          set_errno_error (error, dir->fd < 0 ? -dir->fd : -tree->quarantine_fd,
                           "Can't make directories in " NF_HIDDEN_DIR " of", tree->path);
          return FALSE;
        }
    }
  return TRUE;
}

static gboolean
take_lock (NfTree *tree, GError **error)
{
  char pid[32] = { 0 };

  tree->lock_fd
      = openat (tree->hidden_fd, LOCK_FILE, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (tree->lock_fd < 0)
    {
      set_errno_error (error, errno, "Can't open the lock file of", tree->path);
      return FALSE;
    }
  if (flock (tree->lock_fd, LOCK_EX | LOCK_NB) != 0)
    {
      if (errno != EWOULDBLOCK)
        set_errno_error (error, errno, "Can't lock", tree->path);
      else
        {
          ssize_t len = pread (tree->lock_fd, pid, sizeof pid - 1, 0);

          g_set_error (error, G_IO_ERROR, G_IO_ERROR_BUSY,
                       "%s is in use by another nearfs, process %s", tree->path,
                       len > 0 ? g_strchomp (pid) : "unknown");
        }
      return FALSE;
    }
  g_snprintf (pid, sizeof pid, "%d\n", (int)getpid ());
  if (ftruncate (tree->lock_fd, 0) != 0 || pwrite (tree->lock_fd, pid, strlen (pid), 0) < 0)
    return TRUE; /* the number is only there for the message above; the lock is held */
  return TRUE;
}

/* ---- beginning anew ---- */

int
nf_tree_start_anew (NfTree *tree, guint64 epoch)
{
  g_autofree char *text = g_strdup_printf ("%" G_GUINT64_FORMAT "\n", epoch);
  ssize_t len = (ssize_t)strlen (text);
  int fd = openat (tree->hidden_fd, ANEW_FILE,
                   O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
  int err = 0;

  if (fd < 0)
    return -errno;
  errno = ENOSPC;
  if (write (fd, text, (gsize)len) != len || fsync (fd) != 0 || fsync (tree->hidden_fd) != 0)
    err = -errno;
  close (fd);
  return err;
}

guint64
nf_tree_is_anew (NfTree *tree)
{
  char text[32] = "";
  int fd = openat (tree->hidden_fd, ANEW_FILE, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

  if (fd < 0)
    return 0;
  ssize_t len = read (fd, text, sizeof text - 1);
  close (fd);
  text[MAX (len, 0)] = '\0';
  return MAX (g_ascii_strtoull (text, NULL, 10), 1);
}

int
nf_tree_anew_done (NfTree *tree)
{
  return unlinkat (tree->hidden_fd, ANEW_FILE, 0) == 0 ? 0 : -errno;
}

/* With the lock, before the index is opened. */
static void
forget_all (NfTree *tree)
{
  static const char *const known[]
      = { INDEX_FILE, INDEX_FILE ".safe", INDEX_FILE ".boot", INDEX_FILE "-lock" };

  if (nf_tree_is_anew (tree) == 0)
    return;
  for (gsize i = 0; i < G_N_ELEMENTS (known); i++)
    (void)unlinkat (tree->hidden_fd, known[i], 0);
}

/* ---- the root ---- */

/* The index's root is this root, or the index is new. */
static gboolean
check_root (NfTree *tree, GError **error)
{
  NfTreeStat stat;
  NfObject root;
  int rc = nf_tree_statx (tree, tree->root_fd, "", &stat);

  if (rc == 0 && !nf_index_get (tree->index, NF_FID_ROOT, &root))
    {
      root = (NfObject){ .fid = NF_FID_ROOT, .ident = stat.ident, .mode = S_IFDIR };
      rc = nf_index_put (tree->index, &root);
    }
  if (rc != 0)
    {
      set_errno_error (error, -rc, "Can't take in the root of", tree->path);
      return FALSE;
    }
  if (nf_tree_ident_equal (root.ident, stat.ident))
    return TRUE;
  g_set_error (error, G_IO_ERROR, G_IO_ERROR_FAILED,
               "%s isn't the directory that it was: another disk, a copy or a restored backup? "
               "(If it is to be used from now on, remove %s/" NF_HIDDEN_DIR
               ": everything in it will be compared.)",
               tree->path, tree->path);
  return FALSE;
}

static gboolean
open_root (NfTree *tree, GError **error)
{
  struct statx stx;

  tree->root_fd = open (tree->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (tree->root_fd < 0 || statx (tree->root_fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &stx) != 0)
    {
      set_errno_error (error, errno, "Can't open", tree->path);
      return FALSE;
    }
  tree->dev_major = stx.stx_dev_major;
  tree->dev_minor = stx.stx_dev_minor;
  tree->root_dir = (NfTreeDir){ .fid = NF_FID_ROOT, .fd = tree->root_fd };
  return TRUE;
}

static NfTree *
tree_new (const char *dir, const NfTreeOptions *options)
{
  NfTree *tree = g_new0 (NfTree, 1);

  tree->path = g_strdup (dir);
  tree->options = *options;
  tree->lock_fd = tree->root_fd = tree->hidden_fd = tree->quarantine_fd = -1;
  for (gsize i = 0; i < G_N_ELEMENTS (tree->place_dirs); i++)
    tree->place_dirs[i].fd = -1;
  tree->dirs = g_hash_table_new (g_int64_hash, g_int64_equal);
  g_queue_init (&tree->lru);
  pthread_mutex_init (&tree->dirs_lock, NULL);
  pthread_mutex_init (&tree->changes_lock, NULL);
  pthread_cond_init (&tree->changes_cond, NULL);
  return tree;
}

NfTree *
nf_tree_open (const char *dir, const NfTreeOptions *options, GError **error)
{
  g_autoptr (NfTree) tree = tree_new (dir, options);
  g_autofree char *hidden = NULL;
  guint64 mark;
  int rc;

  if (!open_root (tree, error) || !check_mark (tree, &mark, error) || !open_hidden (tree, error)
      || !take_lock (tree, error))
    return NULL;
  forget_all (tree);
  hidden = g_strdup_printf ("/proc/self/fd/%d", tree->hidden_fd);
  tree->index = nf_index_open (hidden, INDEX_FILE, error);
  if (tree->index == NULL)
    {
      g_prefix_error (error, "%s: ", tree->path);
      return NULL;
    }
  if (!check_root (tree, error))
    return NULL;
  rc = mark == 0 ? write_mark (tree) : 0;
  if (rc != 0)
    {
      set_errno_error (error, -rc, "Can't mark", tree->path);
      return NULL;
    }
  return g_steal_pointer (&tree);
}

static void
close_if_open (int fd)
{
  if (fd >= 0)
    close (fd);
}

void
nf_tree_close (NfTree *tree)
{
  if (tree == NULL)
    return;
  nf_tree_dirs_clear (tree);
  g_hash_table_destroy (tree->dirs);
  nf_index_close (tree->index);
  for (gsize i = 0; i < G_N_ELEMENTS (tree->place_dirs); i++)
    close_if_open (tree->place_dirs[i].fd);
  close_if_open (tree->quarantine_fd);
  close_if_open (tree->hidden_fd);
  close_if_open (tree->root_fd);
  close_if_open (tree->lock_fd); /* the last: until here nobody else may open it */
  pthread_mutex_destroy (&tree->dirs_lock);
  pthread_mutex_destroy (&tree->changes_lock);
  pthread_cond_destroy (&tree->changes_cond);
  g_free (tree->path);
  g_free (tree);
}

NfIndex *
nf_tree_index (NfTree *tree)
{
  return tree->index;
}

int
nf_tree_root_fd (NfTree *tree)
{
  return tree->root_fd;
}

int
nf_tree_hidden_fd (NfTree *tree)
{
  return tree->hidden_fd;
}

gboolean
nf_tree_personal (NfTree *tree)
{
  return tree->options.personal;
}

int
nf_tree_check (NfTree *tree)
{
  NfTreeStat ours, there;
  int fd = open (tree->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  int rc;

  if (fd < 0)
    return -errno;
  rc = nf_tree_statx (tree, fd, "", &there);
  if (rc == 0)
    rc = nf_tree_statx (tree, tree->root_fd, "", &ours);
  if (rc == -EXDEV || (rc == 0 && !nf_tree_ident_equal (ours.ident, there.ident)))
    rc = -ENODEV;
  else if (rc == 0 && read_mark (fd) != tree->options.share)
    rc = -ENODEV;
  close (fd);
  return rc;
}

int
nf_tree_statvfs (NfTree *tree, struct statvfs *ret_vfs)
{
  return fstatvfs (tree->root_fd, ret_vfs) == 0 ? 0 : -errno;
}
