// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/tree-private.h"

#include <dirent.h>
#include <string.h>
#include <sys/syscall.h>

/* Reading directories with getdents64 itself: readdir(3) hides where the next entry begins and reads 32 KiB at most. */

#define CHUNK_SIZE (64 * 1024)

/* As the kernel gives it. */
typedef struct
{
  guint64 ino;
  gint64 next;
  guint16 size;
  guint8 type;
  char name[];
} Dirent;

typedef struct
{
  NfTree *tree;
  NfFid fid;
  int fd;
  gboolean stat;
  NfTreeEntryFunc func;
  gpointer data;
} Listing;

static gboolean
is_hidden (const Listing *listing, const char *name)
{
  if (name[0] != '.')
    return FALSE;
  return name[1] == '\0' || strcmp (name, "..") == 0
         || (listing->fid == NF_FID_ROOT && strcmp (name, NF_HIDDEN_DIR) == 0);
}

/* Complete attributes. -ENOENT if the entry has gone meanwhile, -EXDEV if something is mounted over it, which isn't
 * the share's. */
static int
entry_stat (const Listing *listing, const Dirent *entry, NfAttr *ret_attr, NfIdent *ret_ident)
{
  NfTreeStat stat;
  NfObject object;
  int rc = nf_tree_statx (listing->tree, listing->fd, entry->name, &stat);

  if (rc != 0)
    return rc;
  *ret_attr = stat.attr;
  *ret_ident = stat.ident;
  if (nf_tree_find (listing->tree, stat.ident, &object))
    nf_tree_merge (listing->tree, &object, ret_attr);
  return 0;
}

/* What the directory itself says: good for a listing's inode numbers and types. */
static int
entry_hint (const Listing *listing, const Dirent *entry, NfAttr *ret_attr, NfIdent *ret_ident)
{
  NfObject object;

  if (entry->type == DT_UNKNOWN)
    return entry_stat (listing, entry, ret_attr, ret_ident);
  *ret_attr = (NfAttr){ .mode = (guint32)DTTOIF (entry->type) };
  *ret_ident = (NfIdent){ .ino = entry->ino };
  if (nf_index_find_ino (listing->tree->index, entry->ino, &object))
    {
      ret_attr->fid = object.fid;
      ret_ident->btime = object.ident.btime;
      if (object.extra)
        ret_attr->mode = object.mode;
    }
  return 0;
}

/* FALSE with *RET_RC set if the listing ends here. */
static gboolean
give_entry (const Listing *listing, const Dirent *entry, int *ret_rc)
{
  NfAttr attr;
  NfIdent ident;
  int rc;

  if (is_hidden (listing, entry->name))
    return TRUE;
  rc = listing->stat ? entry_stat (listing, entry, &attr, &ident)
                     : entry_hint (listing, entry, &attr, &ident);
  if (rc == -ENOENT || rc == -EXDEV)
    return TRUE;
  *ret_rc = rc;
  if (rc != 0)
    return FALSE;
  return listing->func (nf_slice_str (entry->name), &attr, &ident, (guint64)entry->next,
                        listing->data);
}

static int
give_entries (const Listing *listing)
{
  g_autofree guint8 *chunk = g_malloc (CHUNK_SIZE);
  int rc = 0;

  for (;;)
    {
      long len = syscall (SYS_getdents64, listing->fd, chunk, CHUNK_SIZE);
      long pos = 0;

      if (len <= 0)
        return len < 0 ? -errno : 0;
      while (pos < len)
        {
          const Dirent *entry = (const Dirent *)(const void *)(chunk + pos);

          if (!give_entry (listing, entry, &rc))
            return rc;
          pos += entry->size;
        }
    }
}

int
nf_tree_readdir (NfTree *tree, NfFid fid, guint64 from, gboolean stat, NfTreeEntryFunc func,
                 gpointer data)
{
  Listing listing = { tree, fid, -1, stat, func, data };
  NfTreeDir *dir;
  int rc = nf_tree_dir (tree, fid, &dir);

  if (rc != 0)
    return rc;
  listing.fd = nf_tree_openat (dir->fd, ".", O_RDONLY | O_DIRECTORY);
  nf_tree_dir_put (tree, dir);
  if (listing.fd < 0)
    return listing.fd;
  if (from != 0 && lseek (listing.fd, (off_t)from, SEEK_SET) < 0)
    rc = -errno;
  else
    rc = give_entries (&listing);
  close (listing.fd);
  return rc;
}

int
nf_tree_list_names (int dir_fd, guint max, GPtrArray *names)
{
  g_autofree guint8 *chunk = g_malloc (CHUNK_SIZE);
  /* A descriptor of its own: the position is the descriptor's. */
  int fd = nf_tree_openat (dir_fd, ".", O_RDONLY | O_DIRECTORY);
  long len = 0;

  if (fd < 0)
    return fd;
  while (names->len < max && (len = syscall (SYS_getdents64, fd, chunk, CHUNK_SIZE)) > 0)
    for (long pos = 0; pos < len;)
      {
        const Dirent *entry = (const Dirent *)(const void *)(chunk + pos);

        if (strcmp (entry->name, ".") != 0 && strcmp (entry->name, "..") != 0 && names->len < max)
          g_ptr_array_add (names, g_strdup (entry->name));
        pos += entry->size;
      }
  if (len < 0)
    len = -errno;
  close (fd);
  return len < 0 ? (int)len : 0;
}
