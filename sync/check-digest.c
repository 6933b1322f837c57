// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/check-private.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sync/entry.h"

/* A directory is said to the primary by a digest first: where all is equal, nothing needs to be listed. */

/* Ops wait while content is read: not for that of more files. */
#define NAMES_MAX 4096

static gboolean
take_name (NfSlice name, const NfAttr *attr, const NfIdent *ident, guint64 cookie, gpointer data)
{
  (void)attr, (void)ident, (void)cookie;
  g_ptr_array_add (data, g_bytes_new (name.data, name.len));
  return TRUE;
}

static gboolean
is_digested (const NfAttr *attr)
{
  return S_ISREG (attr->mode) && attr->size <= NF_ENTRY_DIGESTED;
}

static void
add (NfCheck *check, NfDirEntry *entry, guint64 *digest)
{
  NfTree *tree = check->replica->share->tree;
  g_auto (NfEntryParts) parts;

  nf_entry_parts_init (&parts);
  nf_entry_fill (tree, entry, &parts);
  int fd = check->options.content && is_digested (&entry->attr)
               ? nf_tree_open_fid (tree, entry->attr.fid, O_RDONLY)
               : -1;
  if (fd >= 0)
    {
      nf_entry_fill_content (tree, fd, NF_ENTRY_DIGESTED, entry, &parts);
      (void)close (fd);
    }
  nf_entry_digest (digest, entry);
}

/* Of GBytes. */
static GPtrArray *
names_of (NfCheck *check, NfFid fid)
{
  GPtrArray *names = g_ptr_array_new_with_free_func ((GDestroyNotify)g_bytes_unref);

  (void)nf_tree_readdir (check->replica->share->tree, fid, 0, FALSE, take_name, names);
  return names;
}

static gboolean
look_up (NfCheck *check, NfFid dir, GBytes *name, NfDirEntry *ret_entry)
{
  gsize len;
  const guint8 *data = g_bytes_get_data (name, &len);

  *ret_entry = (NfDirEntry){ .name = nf_slice (data, len) };
  return nf_tree_lookup (check->replica->share->tree, dir, ret_entry->name, &ret_entry->attr, NULL)
         == 0;
}

guint64
nf_check_digest (NfCheck *check, NfCheckDir *dir)
{
  NfDirEntry self = { 0 };
  guint64 digest = 0;

  if (nf_tree_stat (check->replica->share->tree, dir->fid, &self.attr) != 0
      || !S_ISDIR (self.attr.mode))
    return 0;
  g_autoptr (GPtrArray) names = names_of (check, dir->fid);
  add (check, &self, &digest);
  if (check->options.content && names->len > NAMES_MAX)
    return 0;
  g_array_set_size (dir->below_it, 0);
  dir->n_entries = names->len;
  dir->n_bytes = 0;
  for (guint i = 0; i < names->len; i++)
    {
      NfDirEntry entry;
      if (!look_up (check, dir->fid, names->pdata[i], &entry))
        return 0; /* it changes just now */
      add (check, &entry, &digest);
      dir->n_bytes += entry.has_data ? entry.data.len : 0;
      if (S_ISDIR (entry.attr.mode))
        g_array_append_val (dir->below_it, entry.attr.fid);
    }
  return nf_entry_digest_value (digest);
}

void
nf_check_same_dir (NfCheck *check, NfCheckDir *dir)
{
  if (check->phase == NF_CHECK_COMPARING)
    check->counts.entries += dir->n_entries;
  check->counts.bytes += dir->n_bytes;
  for (guint i = 0; i < dir->below_it->len; i++)
    nf_check_queue_below (check, g_array_index (dir->below_it, NfFid, i));
  if (!check->options.content)
    return;
  g_autoptr (GPtrArray) names = names_of (check, dir->fid);
  for (guint i = 0; i < names->len; i++)
    {
      NfDirEntry entry;
      if (look_up (check, dir->fid, names->pdata[i], &entry) && S_ISREG (entry.attr.mode)
          && !is_digested (&entry.attr))
        nf_check_queue_file (check, dir->fid, &entry);
    }
}
