// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/namespace.h"

#include <errno.h>
#include <string.h>

typedef struct Dir Dir;
struct Dir
{
  guint64 number;
  char *name;
  Dir *parent;         /* NULL: the root */
  NfVolume *volume;    /* a leaf's share */
  GPtrArray *children; /* of Dir, sorted by name */
  gint64 changed_ns;
};

struct NfNamespace
{
  pthread_mutex_t lock; /* guards all below; innermost */
  Dir *root;
  GHashTable *dirs; /* by number */
  guint64 last;
};

static gint64
now_ns (void)
{
  return g_get_real_time () * 1000;
}

static void
dir_free (gpointer data)
{
  Dir *dir = data;

  g_ptr_array_unref (dir->children);
  g_clear_pointer (&dir->volume, nf_volume_unref);
  g_free (dir->name);
  g_free (dir);
}

static int
compare_names (gconstpointer a, gconstpointer b)
{
  return strcmp ((*(Dir *const *)a)->name, (*(Dir *const *)b)->name);
}

static Dir *
dir_new (NfNamespace *ns, Dir *parent, const char *name)
{
  Dir *dir = g_new0 (Dir, 1);

  dir->number = ++ns->last;
  dir->name = g_strdup (name);
  dir->parent = parent;
  dir->children = g_ptr_array_new_with_free_func (dir_free);
  dir->changed_ns = now_ns ();
  g_hash_table_insert (ns->dirs, &dir->number, dir);
  if (parent)
    {
      g_ptr_array_add (parent->children, dir);
      g_ptr_array_sort (parent->children, compare_names);
      parent->changed_ns = dir->changed_ns;
    }
  return dir;
}

NfNamespace *
nf_namespace_new (void)
{
  NfNamespace *ns = g_new0 (NfNamespace, 1);

  pthread_mutex_init (&ns->lock, NULL);
  ns->dirs = g_hash_table_new (g_int64_hash, g_int64_equal);
  ns->root = dir_new (ns, NULL, "");
  g_assert (ns->root->number == NF_NAMESPACE_ROOT);
  return ns;
}

void
nf_namespace_free (NfNamespace *ns)
{
  g_hash_table_unref (ns->dirs);
  dir_free (ns->root);
  pthread_mutex_destroy (&ns->lock);
  g_free (ns);
}

static Dir *
find_child (Dir *dir, NfSlice name)
{
  for (guint i = 0; i < dir->children->len; i++)
    {
      Dir *child = dir->children->pdata[i];
      if (nf_slice_equal (nf_slice_str (child->name), name))
        return child;
    }
  return NULL;
}

/* The names of PATH; NULL if one of them can't be. */
static char **
split_path (const char *path)
{
  g_auto (GStrv) parts = g_strsplit (path, "/", -1);
  guint n = 0;

  if (path[0] != '/')
    return NULL;
  for (guint i = 0; parts[i]; i++)
    {
      if (parts[i][0] == '\0')
        {
          g_free (parts[i]);
          continue;
        }
      if (g_str_equal (parts[i], ".") || g_str_equal (parts[i], "..")
          || strlen (parts[i]) > NF_NAME_LEN_MAX)
        {
          /* What was moved down already isn't there twice, nor lost. */
          for (guint j = i; parts[j]; j++)
            parts[n++] = parts[j];
          parts[n] = NULL;
          return NULL;
        }
      parts[n++] = parts[i];
    }
  parts[n] = NULL;
  return g_steal_pointer (&parts);
}

/* How far PARTS are there already. NULL if a share is in the way. */
static Dir *
walk (NfNamespace *ns, char **parts, guint *ret_n)
{
  Dir *dir = ns->root;
  guint n = 0;

  while (!dir->volume && parts[n])
    {
      Dir *child = find_child (dir, nf_slice_str (parts[n]));
      if (!child)
        break;
      dir = child;
      n++;
    }
  *ret_n = n;
  return dir->volume || (!parts[n] && dir->children->len > 0) ? NULL : dir;
}

int
nf_namespace_add (NfNamespace *ns, const char *path, NfVolume *volume,
                  NfNamespaceChange *ret_change)
{
  g_auto (GStrv) parts = split_path (path);
  guint n;

  if (!parts)
    return -EINVAL;
  pthread_mutex_lock (&ns->lock);
  Dir *dir = walk (ns, parts, &n);
  if (dir)
    {
      ret_change->dir = dir->number;
      ret_change->name = g_strdup (parts[n]);
      for (; parts[n]; n++)
        dir = dir_new (ns, dir, parts[n]);
      dir->volume = nf_volume_ref (volume);
    }
  pthread_mutex_unlock (&ns->lock);
  return dir ? 0 : -EEXIST;
}

static Dir *
find_volume (Dir *dir, const NfVolume *volume)
{
  if (dir->volume == volume)
    return dir;
  for (guint i = 0; i < dir->children->len; i++)
    {
      Dir *found = find_volume (dir->children->pdata[i], volume);
      if (found)
        return found;
    }
  return NULL;
}

/* Takes DIR out, and those above it that lead to nothing else. */
static void
prune (NfNamespace *ns, Dir *dir, NfNamespaceChange *ret_change)
{
  ret_change->dir = dir->number;
  ret_change->name = NULL;
  while (dir->parent && dir->children->len == 0)
    {
      Dir *parent = dir->parent;
      g_free (ret_change->name);
      ret_change->dir = parent->number;
      ret_change->name = g_strdup (dir->name);
      g_hash_table_remove (ns->dirs, &dir->number);
      g_ptr_array_remove (parent->children, dir);
      parent->changed_ns = now_ns ();
      dir = parent;
    }
}

gboolean
nf_namespace_remove (NfNamespace *ns, NfVolume *volume, NfNamespaceChange *ret_change)
{
  pthread_mutex_lock (&ns->lock);
  Dir *dir = find_volume (ns->root, volume);
  if (dir)
    {
      g_clear_pointer (&dir->volume, nf_volume_unref);
      prune (ns, dir, ret_change);
    }
  pthread_mutex_unlock (&ns->lock);
  return dir != NULL;
}

NfVolume *
nf_namespace_volume (NfNamespace *ns, guint64 number)
{
  NfVolume *volume = NULL;

  pthread_mutex_lock (&ns->lock);
  Dir *dir = g_hash_table_lookup (ns->dirs, &number);
  if (dir && dir->volume)
    volume = nf_volume_ref (dir->volume);
  pthread_mutex_unlock (&ns->lock);
  return volume;
}

int
nf_namespace_lookup (NfNamespace *ns, guint64 number, NfSlice name, guint64 *ret_dir,
                     NfVolume **ret_volume)
{
  pthread_mutex_lock (&ns->lock);
  Dir *dir = g_hash_table_lookup (ns->dirs, &number);
  Dir *child = dir ? find_child (dir, name) : NULL;
  if (child)
    {
      *ret_dir = child->number;
      *ret_volume = child->volume ? nf_volume_ref (child->volume) : NULL;
    }
  pthread_mutex_unlock (&ns->lock);
  return child ? 0 : dir ? -ENOENT : -ESTALE;
}

int
nf_namespace_stat (NfNamespace *ns, guint64 number, NfNamespaceStat *ret_stat)
{
  pthread_mutex_lock (&ns->lock);
  Dir *dir = g_hash_table_lookup (ns->dirs, &number);
  if (dir)
    *ret_stat = (NfNamespaceStat){ dir->parent ? dir->parent->number : dir->number,
                                   dir->children->len, dir->changed_ns };
  pthread_mutex_unlock (&ns->lock);
  return dir ? 0 : -ESTALE;
}

int
nf_namespace_list (NfNamespace *ns, guint64 number, guint64 from, NfNamespaceFunc func,
                   gpointer data)
{
  pthread_mutex_lock (&ns->lock);
  Dir *dir = g_hash_table_lookup (ns->dirs, &number);
  for (guint64 i = from; dir && i < dir->children->len; i++)
    {
      Dir *child = dir->children->pdata[i];
      if (!func (child->name, child->number, child->volume, data))
        break;
    }
  pthread_mutex_unlock (&ns->lock);
  return dir ? 0 : -ESTALE;
}
