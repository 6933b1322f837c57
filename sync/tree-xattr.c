// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/tree-private.h"

#include <string.h>
#include <sys/xattr.h>

/* Extended attributes: on the object where they can be, else in the index under "x:NAME", which then counts. In
 * personal mode ACLs are always recorded: on disk they would name the wrong users, and could shut the daemon out. */

#define KEY_PREFIX "x:"
#define KEY_SIZE (sizeof KEY_PREFIX + NF_NAME_LEN_MAX)

static gboolean
has_prefix (const char *name, const char *prefix)
{
  return strncmp (name, prefix, strlen (prefix)) == 0;
}

gboolean
nf_tree_xattr_shown (const char *name)
{
  if (has_prefix (name, "user.nearfs.") || has_prefix (name, "trusted.nearfs."))
    return FALSE;
  if (has_prefix (name, "user.") || has_prefix (name, "trusted."))
    return TRUE;
  return strcmp (name, "security.capability") == 0 || strcmp (name, "system.posix_acl_access") == 0
         || strcmp (name, "system.posix_acl_default") == 0;
}

typedef struct
{
  const char *name;
  void *value;
  gsize size;
  NfSlice set;
  int flags;
  char key[KEY_SIZE];
} XattrCall;

static int
init_call (XattrCall *call, const char *name)
{
  if (strlen (name) > NF_NAME_LEN_MAX)
    return -ERANGE;
  call->name = name;
  g_snprintf (call->key, sizeof call->key, KEY_PREFIX "%s", name);
  return 0;
}

/* Opens OBJECT for calls by path. The caller closes the descriptor. */
static int
open_path (NfTree *tree, const NfObject *object, int dir_fd, const char *name,
           NfTreeProcPath *ret_path)
{
  NfTreeStat stat;
  int fd = nf_tree_open_verified (tree, object, dir_fd, name, O_PATH, &stat);

  if (fd >= 0)
    nf_tree_proc_path (fd, ret_path);
  return fd;
}

/* Bytes to a caller that gave SIZE, as getxattr(2) does. */
static int
give (const void *data, gsize len, void *value, gsize size)
{
  if (size == 0)
    return (int)len;
  if (len > size)
    return -ERANGE;
  if (len > 0)
    memcpy (value, data, len);
  return (int)len;
}

static GBytes *
get_recorded (NfTree *tree, const NfObject *object, const char *key)
{
  return object->extra ? nf_index_get_extra (tree->index, object->fid, key) : NULL;
}

static int
get_on_object (NfTree *tree, const NfObject *object, int dir_fd, const char *name, gpointer data)
{
  XattrCall *call = data;
  g_autoptr (GBytes) recorded = get_recorded (tree, object, call->key);
  NfTreeProcPath path;
  ssize_t len;
  int fd;

  if (recorded != NULL)
    return give (g_bytes_get_data (recorded, NULL), g_bytes_get_size (recorded), call->value,
                 call->size);
  fd = open_path (tree, object, dir_fd, name, &path);
  if (fd < 0)
    return fd;
  len = getxattr (path.str, call->name, call->value, call->size);
  if (len < 0) /* where the filesystem has none, the index could have had it */
    len = errno == ENOTSUP ? -ENODATA : -errno;
  close (fd);
  return (int)len;
}

int
nf_tree_getxattr (NfTree *tree, NfFid fid, const char *name, void *value, gsize size)
{
  XattrCall call = { .value = value, .size = size };
  int rc = init_call (&call, name);

  if (rc != 0)
    return rc;
  if (!nf_tree_xattr_shown (name))
    return -ENODATA;
  return nf_tree_with_object (tree, fid, get_on_object, &call);
}

/* All names on the disk that are shown. */
static int
list_disk (const char *path, GPtrArray *names)
{
  g_autofree char *list = g_malloc (XATTR_LIST_MAX);
  ssize_t len = listxattr (path, list, XATTR_LIST_MAX);

  if (len < 0)
    return errno == ENOTSUP ? 0 : -errno;
  for (ssize_t pos = 0; pos < len; pos += (ssize_t)strlen (list + pos) + 1)
    if (nf_tree_xattr_shown (list + pos))
      g_ptr_array_add (names, g_strdup (list + pos));
  return 0;
}

static void
list_recorded (NfTree *tree, const NfObject *object, GPtrArray *names)
{
  g_auto (GStrv) keys = NULL;

  if (!object->extra)
    return;
  keys = nf_index_list_extra (tree->index, object->fid, KEY_PREFIX);
  for (char **key = keys; *key != NULL; key++)
    {
      const char *name = *key + strlen (KEY_PREFIX);

      if (!g_ptr_array_find_with_equal_func (names, name, g_str_equal, NULL))
        g_ptr_array_add (names, g_strdup (name));
    }
}

static int
list_on_object (NfTree *tree, const NfObject *object, int dir_fd, const char *name, gpointer data)
{
  XattrCall *call = data;
  g_autoptr (GPtrArray) names = g_ptr_array_new_with_free_func (g_free);
  g_auto (NfBuf) list = NF_BUF_INIT;
  NfTreeProcPath path;
  int rc;
  int fd = open_path (tree, object, dir_fd, name, &path);

  if (fd < 0)
    return fd;
  rc = list_disk (path.str, names);
  close (fd);
  if (rc != 0)
    return rc;
  list_recorded (tree, object, names);
  for (guint i = 0; i < names->len; i++)
    {
      const char *found = g_ptr_array_index (names, i);

      nf_buf_put_raw (&list, found, strlen (found) + 1);
    }
  return give (list.data, list.len, call->value, call->size);
}

int
nf_tree_listxattr (NfTree *tree, NfFid fid, char *list, gsize size)
{
  XattrCall call = { .value = list, .size = size };

  return nf_tree_with_object (tree, fid, list_on_object, &call);
}

/* An xattr too large for this filesystem may be fine on the primary's. */
static gboolean
is_xattr_refusal (int rc)
{
  return (nf_tree_is_refusal (rc) && rc != -EINVAL) || rc == -E2BIG || rc == -ERANGE
         || rc == -ENOSPC;
}

static int
set_on_disk (NfTree *tree, const NfObject *object, int dir_fd, const char *name,
             const XattrCall *call)
{
  static const guint8 nothing[1];
  NfTreeProcPath path;
  int rc;
  int fd;

  if (tree->options.personal && has_prefix (call->name, "system.posix_acl_"))
    return -ENOTSUP;
  fd = open_path (tree, object, dir_fd, name, &path);
  if (fd < 0)
    return fd;
  rc = setxattr (path.str, call->name, call->set.len > 0 ? call->set.data : nothing, call->set.len,
                 call->flags);
  if (rc != 0)
    rc = -errno;
  close (fd);
  return rc;
}

static int
set_on_object (NfTree *tree, const NfObject *object, int dir_fd, const char *name, gpointer data)
{
  static const guint8 nothing[1];
  const XattrCall *call = data;
  g_autoptr (GBytes) recorded = get_recorded (tree, object, call->key);
  NfSlice value = call->set.len > 0 ? call->set : nf_slice (nothing, 0);

  if (recorded == NULL)
    {
      int rc = set_on_disk (tree, object, dir_fd, name, call);

      if (!is_xattr_refusal (rc))
        return rc;
      if ((call->flags & XATTR_REPLACE) != 0)
        return -ENODATA;
    }
  else if ((call->flags & XATTR_CREATE) != 0)
    return -EEXIST;
  return nf_index_set_extra (tree->index, object->fid, call->key, value);
}

int
nf_tree_setxattr (NfTree *tree, NfFid fid, const char *name, NfSlice value, int flags)
{
  XattrCall call = { .set = value, .flags = flags };
  int rc = init_call (&call, name);

  if (rc != 0)
    return rc;
  if (!nf_tree_xattr_shown (name))
    return -EOPNOTSUPP;
  if (value.len > NF_XATTR_MAX)
    return -E2BIG;
  return nf_tree_with_object (tree, fid, set_on_object, &call);
}

static int
remove_on_object (NfTree *tree, const NfObject *object, int dir_fd, const char *name, gpointer data)
{
  const XattrCall *call = data;
  g_autoptr (GBytes) recorded = get_recorded (tree, object, call->key);
  NfTreeProcPath path;
  int fd, rc;

  if (recorded != NULL)
    return nf_index_set_extra (tree->index, object->fid, call->key, NF_SLICE_NONE);
  fd = open_path (tree, object, dir_fd, name, &path);
  if (fd < 0)
    return fd;
  rc = removexattr (path.str, call->name) == 0 ? 0 : -errno;
  close (fd);
  /* What couldn't have been set on disk isn't there. */
  return is_xattr_refusal (rc) ? -ENODATA : rc;
}

int
nf_tree_removexattr (NfTree *tree, NfFid fid, const char *name)
{
  XattrCall call = { 0 };
  int rc = init_call (&call, name);

  if (rc != 0)
    return rc;
  if (!nf_tree_xattr_shown (name))
    return -ENODATA;
  return nf_tree_with_object (tree, fid, remove_on_object, &call);
}
