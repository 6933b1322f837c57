// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/check-private.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "sync/reconcile.h"

#define HASH_SIZE 16
#define WHY "not what the primary has; found by nearfs fsck"

/* One name under comparison. */
typedef struct
{
  NfCheck *check;
  NfFid dir;
  NfSlice name; /* of length 0: the directory itself */
  NfFid fid;    /* NF_FID_NONE: not known */
  guint32 what;
  GString *detail;
} Look;

static void differs (Look *look, guint32 what, const char *format, ...) G_GNUC_PRINTF (3, 4);

static void
differs (Look *look, guint32 what, const char *format, ...)
{
  va_list args;

  look->what |= what;
  if (look->detail->len > 0)
    g_string_append (look->detail, ", ");
  va_start (args, format);
  g_string_append_vprintf (look->detail, format, args);
  va_end (args);
}

/* ---- one object ---- */

static guint
count_xattrs (NfTree *tree, NfFid fid)
{
  g_autofree char *list = g_malloc (NF_XATTR_MAX);
  int len = nf_tree_listxattr (tree, fid, list, NF_XATTR_MAX);
  guint n = 0;

  for (int at = 0; at < len; at += (int)strlen (list + at) + 1)
    n++;
  return n;
}

static gboolean
has_xattr (NfTree *tree, NfFid fid, const char *name, NfSlice value)
{
  g_autofree guint8 *here = g_malloc (NF_XATTR_MAX);
  int len = nf_tree_getxattr (tree, fid, name, here, NF_XATTR_MAX);

  return len >= 0 && nf_slice_equal (nf_slice (here, (gsize)len), value);
}

static void
compare_xattrs (Look *look, NfSlice xattrs)
{
  NfTree *tree = look->check->replica->share->tree;
  NfReader reader = nf_reader (xattrs);
  guint n = 0;

  while (nf_reader_left (&reader) > 0)
    {
      NfSlice name_slice = nf_reader_slice (&reader, NF_NAME_LEN_MAX);
      NfSlice value = nf_reader_slice (&reader, NF_XATTR_MAX);
      if (reader.failed)
        return;
      g_autofree char *name = nf_slice_dup (name_slice);
      if (!nf_tree_xattr_shown (name))
        continue;
      n++;
      if (!has_xattr (tree, look->fid, name, value))
        differs (look, NF_FIND_XATTR, "%s", name);
    }
  if (!(look->what & NF_FIND_XATTR) && count_xattrs (tree, look->fid) != n)
    differs (look, NF_FIND_XATTR, "one that the primary doesn't have");
}

static void
compare_target (Look *look, NfSlice target)
{
  g_autofree char *here = g_malloc (NF_PATH_LEN_MAX + 1);
  int len
      = nf_tree_readlink (look->check->replica->share->tree, look->fid, here, NF_PATH_LEN_MAX + 1);

  if (len < 0 || !nf_slice_equal (nf_slice (here, (gsize)len), target))
    differs (look, NF_FIND_TARGET, "leads elsewhere");
}

static void
compare_inline (Look *look, const NfDirEntry *entry)
{
  int fd = nf_tree_open_fid (look->check->replica->share->tree, look->fid, O_RDONLY);

  if (fd < 0 || !nf_reconcile_is_content (fd, entry->data))
    differs (look, NF_FIND_CONTENT, "other bytes");
  if (fd >= 0)
    (void)close (fd);
}

static void
compare_attr (Look *look, const NfDirEntry *entry, const NfAttr *here)
{
  const NfAttr *there = &entry->attr;
  gboolean regular = S_ISREG (there->mode);

  if (regular && here->size != there->size)
    differs (look, NF_FIND_SIZE, "%" G_GUINT64_FORMAT " bytes instead of %" G_GUINT64_FORMAT,
             here->size, there->size);
  else if (regular && entry->has_data)
    compare_inline (look, entry);
  if (here->mtime != there->mtime)
    differs (look, NF_FIND_MTIME, "%.3f s %s", ABS (here->mtime - there->mtime) / 1e9,
             here->mtime > there->mtime ? "too new" : "too old");
  if (!S_ISLNK (there->mode) && ((here->mode ^ there->mode) & 07777))
    differs (look, NF_FIND_MODE, "%04o instead of %04o", here->mode & 07777, there->mode & 07777);
  if (here->uid != there->uid || here->gid != there->gid)
    differs (look, NF_FIND_OWNER, "%u:%u instead of %u:%u", here->uid, here->gid, there->uid,
             there->gid);
  if (S_ISLNK (there->mode))
    compare_target (look, entry->target);
  compare_xattrs (look, entry->xattrs);
}

static const char *
type_name (guint32 mode)
{
  return S_ISREG (mode)   ? "a file"
         : S_ISDIR (mode) ? "a directory"
         : S_ISLNK (mode) ? "a symbolic link"
                          : "a special file";
}

static void
compare_named (Look *look, const NfDirEntry *entry)
{
  NfAttr here;
  int err = nf_tree_lookup (look->check->replica->share->tree, look->dir, entry->name, &here, NULL);

  if (err != 0)
    differs (look, NF_FIND_MISSING, "%s",
             err == -ENOENT ? type_name (entry->attr.mode) : g_strerror (-err));
  else if ((here.mode ^ entry->attr.mode) & S_IFMT)
    differs (look, NF_FIND_TYPE, "%s instead of %s", type_name (here.mode),
             type_name (entry->attr.mode));
  else if (here.fid != entry->attr.fid)
    differs (look, NF_FIND_IDENTITY, "%s",
             here.fid == NF_FID_NONE ? "replaced by another object"
                                     : "another of the share's objects");
  else
    compare_attr (look, entry, &here);
}

/* ---- findings ---- */

static char *
path_of (Look *look)
{
  g_autofree char *dir = nf_index_path (look->check->replica->share->index, look->dir);
  g_autofree char *name = nf_slice_dup (look->name);

  if (look->name.len == 0)
    return g_strdup (dir ? dir : "?");
  return dir && *dir ? g_strconcat (dir, "/", name, NULL) : g_strdup (name);
}

static void
queue_repair (Look *look, guint64 seq)
{
  NfCheckRepair *repair = g_new (NfCheckRepair, 1);

  *repair = (NfCheckRepair){ look->dir, look->fid, g_bytes_new (look->name.data, look->name.len),
                             look->what, seq };
  g_queue_push_tail (&look->check->repairs, repair);
}

/* It is wrong as of SEQ. */
static void
report (Look *look, guint64 seq)
{
  NfCheck *check = look->check;
  g_autofree char *path = path_of (look);
  gboolean verifying = check->phase == NF_CHECK_VERIFYING;

  if (!verifying)
    check->counts.found++;
  if (!verifying && check->options.repair)
    queue_repair (look, seq);
  if (verifying || !check->options.repair)
    check->counts.left++;
  const NfFinding finding = { look->what, path, look->detail->str, verifying };
  check->events.found (check->data, &finding);
}

/* Is it as certain as it can be? ENTRY: a hash of what the primary has. */
static gboolean
is_certain (Look *look, NfCheckDir *dir, guint64 key, guint64 entry)
{
  guint64 *before = g_hash_table_lookup (dir->doubts, &key);
  gboolean same = before && *before == entry;

  if (same && !nf_check_is_touched (look->check, look->dir, dir->seq)
      && !nf_check_is_touched (look->check, look->fid, dir->seq))
    return TRUE;
  g_hash_table_insert (dir->doubts, g_memdup2 (&key, sizeof key), g_memdup2 (&entry, sizeof entry));
  return FALSE;
}

/* LOOK is through. TRUE: it has to be looked at again. */
static gboolean
judge (Look *look, NfCheckDir *dir, guint64 entry)
{
  guint64 key = nf_key_name (look->dir, look->name);

  if (g_hash_table_contains (dir->told, &key))
    return FALSE;
  if (look->what != 0 && !is_certain (look, dir, key, entry))
    return TRUE;
  if (look->what != 0)
    {
      g_hash_table_add (dir->told, g_memdup2 (&key, sizeof key));
      report (look, dir->seq);
    }
  g_hash_table_remove (dir->doubts, &key);
  return FALSE;
}

/* ---- a directory ---- */

static guint64
hash_of (const NfDirEntry *entry)
{
  g_auto (NfBuf) buf = NF_BUF_INIT;
  NfDirEntry stable = *entry;

  /* They are each site's own. */
  stable.attr.atime = stable.attr.ctime = 0;
  stable.attr.blocks = 0;
  nf_dir_entry_encode (&stable, &buf);
  return XXH3_64bits (buf.data, buf.len);
}

static gboolean
compare_entry (NfCheck *check, NfCheckDir *dir, const NfDirEntry *entry, gboolean first)
{
  g_autoptr (GString) detail = g_string_new (NULL);
  Look look = { check, dir->fid, entry->name, entry->attr.fid, 0, detail };
  NfAttr here;

  if (entry->name.len > 0)
    compare_named (&look, entry);
  else if (nf_tree_stat (check->replica->share->tree, dir->fid, &here) == 0)
    compare_attr (&look, entry, &here);
  if (first && entry->name.len > 0 && check->phase == NF_CHECK_COMPARING)
    check->counts.entries++;
  gboolean again = judge (&look, dir, hash_of (entry));
  if (first && look.what == 0 && entry->name.len > 0 && S_ISDIR (entry->attr.mode))
    nf_check_queue_below (check, entry->attr.fid);
  else if (first && look.what == 0 && check->options.content && S_ISREG (entry->attr.mode)
           && !entry->has_data && entry->attr.size > 0)
    nf_check_queue_file (check, dir->fid, entry);
  else if (look.what != 0 && !(look.what & (NF_FIND_MISSING | NF_FIND_TYPE | NF_FIND_IDENTITY))
           && !again && entry->name.len > 0 && S_ISDIR (entry->attr.mode))
    nf_check_queue_below (check, entry->attr.fid);
  return again;
}

typedef struct
{
  GHashTable *seen;
  NfFid fid;
  GPtrArray *names; /* of GBytes */
} Surplus;

static gboolean
find_surplus (NfSlice name, const NfAttr *attr, const NfIdent *ident, guint64 cookie, gpointer data)
{
  Surplus *surplus = data;
  guint64 key = nf_key_name (surplus->fid, name);

  (void)attr, (void)ident, (void)cookie;
  if (!g_hash_table_contains (surplus->seen, &key))
    g_ptr_array_add (surplus->names, g_bytes_new (name.data, name.len));
  return TRUE;
}

static gboolean
is_asked_for (const NfCheckDir *dir, NfSlice name)
{
  gsize len;
  const guint8 *only = dir->only ? g_bytes_get_data (dir->only, &len) : NULL;

  return !only || nf_slice_equal (nf_slice (only, len), name);
}

static gboolean
compare_surplus (NfCheck *check, NfCheckDir *dir, GHashTable *seen)
{
  g_autoptr (GPtrArray) names = g_ptr_array_new_with_free_func ((GDestroyNotify)g_bytes_unref);
  Surplus surplus = { seen, dir->fid, names };
  gboolean again = FALSE;

  (void)nf_tree_readdir (check->replica->share->tree, dir->fid, 0, FALSE, find_surplus, &surplus);
  for (guint i = 0; i < names->len; i++)
    {
      g_autoptr (GString) detail = g_string_new (NULL);
      gsize len;
      const guint8 *name = g_bytes_get_data (names->pdata[i], &len);
      Look look = { check, dir->fid, nf_slice (name, len), NF_FID_NONE, 0, detail };
      NfAttr attr;

      if (!is_asked_for (dir, look.name)
          || nf_tree_lookup (check->replica->share->tree, dir->fid, look.name, &attr, NULL) != 0)
        continue;
      look.fid = attr.fid;
      differs (&look, NF_FIND_SURPLUS, "%s", type_name (attr.mode));
      again |= judge (&look, dir, 0);
    }
  return again;
}

gboolean
nf_check_compare_dir (NfCheck *check, NfCheckDir *dir)
{
  g_autoptr (GHashTable) seen = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
  gboolean is_dir = FALSE;
  gboolean again = FALSE;

  for (guint i = 0; i < dir->frames->len; i++)
    {
      gsize len;
      const guint8 *data = g_bytes_get_data (dir->frames->pdata[i], &len);
      NfReader reader = nf_reader (nf_slice (data, len));
      NfDirEntry entry;

      while (nf_dir_entry_decode (&reader, &entry))
        {
          guint64 key = nf_key_name (dir->fid, entry.name);
          is_dir |= entry.name.len == 0 && S_ISDIR (entry.attr.mode);
          g_hash_table_add (seen, g_memdup2 (&key, sizeof key));
          if (entry.name.len > 0 ? is_asked_for (dir, entry.name) : !dir->only && !dir->below)
            again |= compare_entry (check, dir, &entry, dir->tries == 0);
        }
    }
  if (is_dir)
    again |= compare_surplus (check, dir, seen);
  return again;
}

/* ---- content ---- */

/* How many bytes from file->offset on are as the primary's; RET_SPAN: of how many that were compared. */
static guint64
equal_bytes (int fd, const NfCheckFile *file, guint64 *ret_span)
{
  g_autofree guint8 *buffer = g_malloc (NF_HASH_BLOCK);
  gsize len;
  const guint8 *hashes = g_bytes_get_data (file->hashes, &len);
  guint64 offset = file->offset;
  gboolean equal = TRUE;
  guint64 same = 0;

  for (gsize i = 0; i + HASH_SIZE <= len && offset < file->size; i += HASH_SIZE)
    {
      guint64 length = MIN (NF_HASH_BLOCK, file->size - offset);
      XXH128_canonical_t here;
      ssize_t n = equal ? pread (fd, buffer, length, (off_t)offset) : 0;
      if (n == (ssize_t)length)
        XXH128_canonicalFromHash (&here, XXH3_128bits (buffer, length));
      equal = equal && n == (ssize_t)length && memcmp (here.digest, hashes + i, HASH_SIZE) == 0;
      same += equal ? length : 0;
      offset += length;
    }
  *ret_span = offset - file->offset;
  return same;
}

NfCheckNext
nf_check_compare_file (NfCheck *check, NfCheckFile *file)
{
  g_autoptr (GString) detail = g_string_new (NULL);
  gsize len;
  const guint8 *name = g_bytes_get_data (file->name, &len);
  Look look = { check, file->parent, nf_slice (name, len), file->fid, 0, detail };
  int fd = nf_tree_open_fid (check->replica->share->tree, file->fid, O_RDONLY);
  guint64 span = 0;
  guint64 same = fd >= 0 ? equal_bytes (fd, file, &span) : 0;

  if (fd < 0)
    return NF_CHECK_DONE; /* its directory's listing says so */
  (void)close (fd);
  if (nf_check_is_touched (check, file->fid, file->seq))
    return NF_CHECK_AGAIN;
  check->counts.bytes += same;
  if (same < span)
    {
      differs (&look, NF_FIND_CONTENT, "other bytes from %" G_GUINT64_FORMAT " on",
               file->offset + same);
      report (&look, file->seq);
      return NF_CHECK_DONE;
    }
  file->offset += span;
  return span > 0 && file->offset < file->size ? NF_CHECK_MORE : NF_CHECK_DONE;
}

/* ---- repair ---- */

/* What is here, and nowhere else, is kept. FALSE: it can't be, so that nothing may be done. */
static gboolean
keep_what_is_here (NfCheck *check, const NfCheckRepair *repair, NfSlice name)
{
  const guint32 replaced = NF_FIND_SURPLUS | NF_FIND_IDENTITY | NF_FIND_TYPE | NF_FIND_TARGET;
  NfShare *share = check->replica->share;
  int err = 0;

  if (repair->what & replaced)
    err = nf_tree_quarantine (share->tree, repair->dir, name, WHY, NULL);
  else if (repair->what & (NF_FIND_SIZE | NF_FIND_CONTENT))
    err = nf_tree_quarantine_copy (share->tree, repair->dir, name, WHY, NULL);
  if (err == 0 || err == -ENOENT)
    return TRUE;
  g_warning ("share %s: what differs from the primary can't be put into quarantine, so it isn't "
             "repaired: %s",
             share->conf.name, g_strerror (-err));
  return FALSE;
}

void
nf_check_repair (NfCheck *check, const NfCheckRepair *repair)
{
  const guint32 names
      = NF_FIND_MISSING | NF_FIND_SURPLUS | NF_FIND_IDENTITY | NF_FIND_TYPE | NF_FIND_TARGET;
  NfReplica *replica = check->replica;
  NfIndex *index = replica->share->index;
  gsize len;
  const guint8 *data = g_bytes_get_data (repair->name, &len);
  NfSlice name = nf_slice (data, len);

  g_hash_table_add (check->again, g_memdup2 (&repair->dir, sizeof repair->dir));
  /* An op has come since: what it made of it is looked at in the end. */
  if (nf_check_is_touched (check, repair->dir, repair->seq)
      || nf_check_is_touched (check, repair->fid, repair->seq)
      || !keep_what_is_here (check, repair, name))
    return;
  if (repair->what & names)
    {
      (void)nf_index_set_suspect (index, repair->dir, NF_SUSPECT_NAMES, 0);
      nf_heal_add (replica->heal, repair->dir);
      nf_apply_invalidate_name (replica->share, repair->dir, name);
      return;
    }
  if (repair->what & (NF_FIND_SIZE | NF_FIND_CONTENT))
    (void)nf_dirty_whole (replica->share, repair->fid);
  (void)nf_index_set_suspect (index, repair->fid, NF_SUSPECT_ATTR, 0);
  nf_heal_add (replica->heal, repair->fid);
}
