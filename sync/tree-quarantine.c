// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/tree-private.h"

#include <string.h>

/* The quarantine: what nobody may throw away (G6). Each thing lies in a directory of its own, named by time, under its
 * own name; a text file beside says where it was and why it is here. */

#define STAMPS_MAX 1000000
/* Directories below a quarantined one whose objects are dropped from the index. What is deeper stays in it as objects
 * that can't be found, which a comparison repairs. */
#define DISOWN_DEPTH_MAX 256
#define COPY_PIECE (16 * 1024 * 1024)
/* Of a copy until it is complete. */
#define COPY_NAME ".nearfs-copy"

/* Makes a directory that wasn't there. */
static int
make_stamp_dir (NfTree *tree, char **ret_stamp)
{
  g_autoptr (GDateTime) now = g_date_time_new_now_utc ();
  g_autofree char *time = g_date_time_format (now, "%Y%m%d-%H%M%S");

  for (guint i = 1; i < STAMPS_MAX; i++)
    {
      g_autofree char *stamp = g_strdup_printf ("%s-%u", time, i);

      if (mkdirat (tree->quarantine_fd, stamp, 0700) == 0)
        {
          *ret_stamp = g_steal_pointer (&stamp);
          return nf_tree_openat (tree->quarantine_fd, *ret_stamp, O_RDONLY | O_DIRECTORY);
        }
      if (errno != EEXIST)
        return -errno;
    }
  return -EEXIST;
}

static char *
original_path (NfTree *tree, NfFid parent, const char *name)
{
  g_autofree char *dir = nf_index_path (tree->index, parent);

  if (dir == NULL)
    return g_strdup (name);
  return dir[0] == '\0' ? g_strdup (name) : g_strconcat (dir, "/", name, NULL);
}

/* Written before the thing is moved, so that it never lies there unexplained. */
static int
write_note (NfTree *tree, const char *stamp, NfFid parent, const char *name, const char *why)
{
  g_autofree char *file = g_strconcat (stamp, ".txt", NULL);
  g_autofree char *path = original_path (tree, parent, name);
  g_autofree char *text = g_strdup_printf ("Was: %s\nIn:  %s\nWhy: %s\n", path, tree->path, why);
  gsize len = strlen (text);
  ssize_t written;
  int fd = openat (tree->quarantine_fd, file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  int rc = 0;

  if (fd < 0)
    return -errno;
  written = write (fd, text, len);
  if (written != (ssize_t)len)
    rc = written < 0 ? -errno : -ENOSPC;
  close (fd);
  return rc;
}

static void
remove_stamp (NfTree *tree, const char *stamp)
{
  g_autofree char *file = g_strconcat (stamp, ".txt", NULL);

  /* With the thing in it the directory stays, and its note. */
  if (unlinkat (tree->quarantine_fd, stamp, AT_REMOVEDIR) == 0)
    (void)unlinkat (tree->quarantine_fd, file, 0); /* a note without its thing does no harm */
}

static int disown_dir (NfTree *tree, NfFid fid, int dir_fd, guint depth);

/* The object at NAME, which lies in the quarantine now, loses the name that it had in directory PARENT. */
static int
disown (NfTree *tree, NfFid parent, int dir_fd, const char *name, guint depth)
{
  NfTreeStat stat;
  NfObject object;
  guint32 left = 0;
  int rc = nf_tree_statx (tree, dir_fd, name, &stat);

  if (rc != 0 || !nf_index_find (tree->index, stat.ident, &object))
    return 0; /* not known: nothing to forget */
  if (stat.type == S_IFDIR && depth < DISOWN_DEPTH_MAX)
    {
      int fd = nf_tree_openat (dir_fd, name, O_RDONLY | O_DIRECTORY);

      if (fd >= 0)
        {
          rc = disown_dir (tree, object.fid, fd, depth + 1);
          close (fd);
        }
      nf_tree_forget (tree, object.fid);
    }
  if (rc == 0)
    rc = nf_index_drop_name (tree->index, object.fid, parent, nf_slice_str (name), &left);
  if (rc == 0 && left == 0)
    rc = nf_index_remove (tree->index, object.fid);
  return rc == -ENOENT ? 0 : rc;
}

static int
disown_dir (NfTree *tree, NfFid fid, int dir_fd, guint depth)
{
  g_autoptr (GPtrArray) names = g_ptr_array_new_with_free_func (g_free);
  int rc = nf_tree_list_names (dir_fd, G_MAXUINT, names);

  for (guint i = 0; rc == 0 && i < names->len; i++)
    rc = disown (tree, fid, dir_fd, g_ptr_array_index (names, i), depth);
  return rc;
}

/* ---- copies ---- */

static int
copy_bytes (int from, int to)
{
  ssize_t n;

  do
    n = copy_file_range (from, NULL, to, NULL, COPY_PIECE, 0);
  while (n > 0 || (n < 0 && errno == EINTR));
  return n < 0 ? -errno : 0;
}

/* With owner, mode and times, as far as we may. */
static int
copy_in (int from, int stamp_fd, const char *name)
{
  struct stat st;
  int to = openat (stamp_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  int rc = to < 0 ? -errno : fstat (from, &st) != 0 ? -errno : copy_bytes (from, to);

  if (rc == 0)
    {
      const struct timespec times[] = { st.st_atim, st.st_mtim };
      (void)!fchown (to, st.st_uid, st.st_gid);
      (void)fchmod (to, st.st_mode & 0777);
      (void)futimens (to, times);
    }
  if (to >= 0)
    close (to);
  if (rc != 0 && to >= 0)
    (void)unlinkat (stamp_fd, name, 0);
  return rc;
}

/* ---- links ---- */

static void part_all (int dir_fd, guint depth);

/* What lies in the quarantine at NAME may have other names in the tree. Those are the object's; here a copy stays, which
 * no later write to the object can reach. If there is no room for one, the link is better than nothing. */
static void
part (int dir_fd, const char *name, guint depth)
{
  struct stat st;
  int fd = -1;

  if (fstatat (dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
    return;
  if (S_ISDIR (st.st_mode) && depth < DISOWN_DEPTH_MAX)
    {
      fd = nf_tree_openat (dir_fd, name, O_RDONLY | O_DIRECTORY);
      if (fd >= 0)
        part_all (fd, depth + 1);
    }
  else if (S_ISREG (st.st_mode) && st.st_nlink > 1)
    {
      fd = nf_tree_openat (dir_fd, name, O_RDONLY | O_NOFOLLOW);
      if (fd >= 0 && copy_in (fd, dir_fd, COPY_NAME) == 0)
        (void)renameat (dir_fd, COPY_NAME, dir_fd, name);
    }
  else if (!S_ISDIR (st.st_mode) && st.st_nlink > 1)
    {
      (void)unlinkat (dir_fd, name, 0); /* has nothing that its other names haven't */
      return;
    }
  else
    return;
  if (fd >= 0)
    close (fd);
}

static void
part_all (int dir_fd, guint depth)
{
  g_autoptr (GPtrArray) names = g_ptr_array_new_with_free_func (g_free);

  if (nf_tree_list_names (dir_fd, G_MAXUINT, names) != 0)
    return;
  for (guint i = 0; i < names->len; i++)
    part (dir_fd, g_ptr_array_index (names, i), depth);
}

/* ---- moving ---- */

static int
move_in (NfTree *tree, NfTreeDir *dir, const char *name, const char *stamp, int stamp_fd,
         const char *why)
{
  int rc = write_note (tree, stamp, dir->fid, name, why);

  if (rc != 0)
    return rc;
  if (renameat (dir->fd, name, stamp_fd, name) != 0)
    return -errno;
  rc = nf_index_begin (tree->index);
  if (rc != 0)
    return rc;
  rc = nf_tree_end_transaction (tree, disown (tree, dir->fid, stamp_fd, name, 0));
  part (stamp_fd, name, 0);
  return rc;
}

int
nf_tree_quarantine_at (NfTree *tree, NfTreeDir *dir, const NfTreeName *name, const char *why,
                       char **ret_where)
{
  g_autofree char *stamp = NULL;
  int rc;
  int stamp_fd = make_stamp_dir (tree, &stamp);

  if (stamp_fd < 0)
    return stamp_fd;
  rc = move_in (tree, dir, name->str, stamp, stamp_fd, why);
  close (stamp_fd);
  if (rc != 0)
    remove_stamp (tree, stamp);
  else if (ret_where != NULL)
    *ret_where
        = g_strconcat (tree->path, "/" NF_HIDDEN_DIR "/quarantine/", stamp, "/", name->str, NULL);
  return rc;
}

int
nf_tree_quarantine (NfTree *tree, NfFid parent, NfSlice name, const char *why, char **ret_where)
{
  NfTreeName str;
  NfTreeDir *dir;
  int rc = nf_tree_name (parent, name, &str);

  if (rc == 0)
    rc = nf_tree_dir (tree, parent, &dir);
  if (rc != 0)
    return rc;
  nf_tree_changing (tree);
  rc = nf_tree_quarantine_at (tree, dir, &str, why, ret_where);
  nf_tree_changed (tree);
  nf_tree_dir_put (tree, dir);
  return rc;
}

/* ---- a copy of what stays ---- */

int
nf_tree_quarantine_copy (NfTree *tree, NfFid parent, NfSlice name, const char *why,
                         char **ret_where)
{
  g_autofree char *stamp = NULL;
  NfTreeName str;
  NfTreeDir *dir;
  int rc = nf_tree_name (parent, name, &str);

  if (rc == 0)
    rc = nf_tree_dir (tree, parent, &dir);
  if (rc != 0)
    return rc;
  int from = nf_tree_openat (dir->fd, str.str, O_RDONLY | O_NOFOLLOW);
  int stamp_fd = from < 0 ? from : make_stamp_dir (tree, &stamp);
  rc = stamp_fd < 0 ? stamp_fd : write_note (tree, stamp, parent, str.str, why);
  if (rc == 0)
    rc = copy_in (from, stamp_fd, str.str);
  if (from >= 0)
    close (from);
  if (stamp_fd >= 0)
    close (stamp_fd);
  if (rc != 0 && stamp)
    remove_stamp (tree, stamp);
  else if (rc == 0 && ret_where)
    *ret_where
        = g_strconcat (tree->path, "/" NF_HIDDEN_DIR "/quarantine/", stamp, "/", str.str, NULL);
  nf_tree_dir_put (tree, dir);
  return rc;
}
