// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/audit.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "sync/apply.h"
#include "sync/listing.h"

/* First the tree from the root down: what the index doesn't know is adopted, a directory that was moved gets its new
 * name, so that what is below it can be found by fid. Then the index: names that lead nowhere are removed, the deepest
 * first. Each is looked at once more under the locks before anything is said of it. */

/* So many entries that are gone may have been removed by somebody. More is a disk that isn't what it was: that has to be
 * confirmed before the other sites remove them, too. */
#define LOST_MAX 1000
#define LOST_PART 100 /* of all: 1 % */
#define RATE_WAIT_MAX_MS 50

typedef struct
{
  NfPrimary *primary;
  const NfAuditOptions *options;
  NfAuditCounts *counts;
  GQueue dirs; /* of NfFid: to be looked through */
  GPtrArray *lost;
  GHashTable *changed; /* of fid: directories */
  int err;
  gint64 begun_ms;
} Audit;

typedef struct
{
  NfFid fid;
  NfFid parent;
  GBytes *name;
  gsize depth;
} Lost;

static void
lost_free (gpointer data)
{
  Lost *lost = data;

  g_bytes_unref (lost->name);
  g_free (lost);
}

static gboolean
is_cancelled (Audit *audit)
{
  if (audit->err == 0 && audit->options->cancelled
      && g_atomic_int_get ((gint *)audit->options->cancelled))
    audit->err = -ECANCELED;
  return audit->err != 0;
}

/* Waits while more was looked at than the rate allows by now. No lock is held. */
static void
keep_to_rate (Audit *audit)
{
  NfHost *host = audit->primary->share->host;
  guint64 rate = audit->options->rate;

  while (rate != 0 && !is_cancelled (audit))
    {
      gint64 ms = host->monotonic_ms (host->data) - audit->begun_ms;
      gint64 due_ms = (gint64)(audit->counts->entries * 1000 / rate);
      if (due_ms <= ms)
        return;
      g_usleep ((gulong)MIN (due_ms - ms, RATE_WAIT_MAX_MS) * 1000);
    }
}

static void
tell (Audit *audit, NfAuditKind kind, NfFid parent, NfSlice name)
{
  if (!audit->options->found)
    return;
  g_autofree char *dir = nf_index_path (audit->primary->share->index, parent);
  g_autofree char *leaf = nf_slice_dup (name);
  g_autofree char *path = dir && *dir ? g_strconcat (dir, "/", leaf, NULL) : g_strdup (leaf);
  audit->options->found (audit->options->data, kind, path);
}

/* Not there any more: somebody else was faster. */
static int
or_gone (int err)
{
  return err == -ENOENT || err == -ESTALE || err == -EXDEV || err == -ENOTDIR ? 0 : err;
}

/* Its mtime is to be said at the end: names were changed in it, at times that nobody knows. */
static void
note_dir (Audit *audit, NfFid dir)
{
  if (dir != NF_FID_NONE)
    g_hash_table_add (audit->changed, g_memdup2 (&dir, sizeof dir));
}

/* This site's own kernel knows nothing of it either. */
static void
tell_kernel_of_name (Audit *audit, NfFid parent, NfSlice name)
{
  nf_apply_invalidate_name (audit->primary->share, parent, name);
}

/* ---- what is being done just now ---- */

/* What differs may be a change under way, which holds the locks until the index has it, too: so it is looked at again
 * under them. FID: NF_FID_NONE for what the index doesn't know. */
static gboolean
is_still_unnamed (Audit *audit, NfFid parent, NfSlice name, NfFid fid)
{
  NfShare *share = audit->primary->share;
  NfFid fids[2] = { parent, fid };
  NfLockSet locks;
  NfAttr attr;

  nf_locks_take (&audit->primary->locks, fids, 2, &locks);
  gboolean still = nf_tree_lookup (share->tree, parent, name, &attr, NULL) == 0 && attr.fid == fid
                   && (fid == NF_FID_NONE || !nf_index_has_name (share->index, fid, parent, name));
  nf_locks_give (&audit->primary->locks, &locks);
  return still;
}

/* ---- what is in the tree ---- */

typedef struct
{
  NfFid parent;
  char name[NF_NAME_LEN_MAX + 1];
} Place;

/* The object of ENTRY is at (PARENT, NAME) now. A directory was at FROM before, which may be another one's place by now;
 * other names that aren't there any more are found in the index. */
static int
say_name (NfExec *exec, const NfAttr *attr, const Place *from, NfFid parent, NfSlice name)
{
  NfIndex *index = exec->share->index;
  NfSlice old = nf_slice_str (from->name);
  NfRecord record = { .kind = NF_OP_NAMES, .fid = attr->fid };
  gboolean leaves = from->parent != NF_FID_NONE;
  NfAttr other;

  if (leaves && nf_tree_lookup (exec->share->tree, from->parent, old, &other, NULL) != 0)
    record.names[record.n_names++] = (NfNameIs){ from->parent, old, NF_FID_NONE, 0 };
  record.names[record.n_names++] = (NfNameIs){ parent, name, attr->fid, attr->mode & S_IFMT };
  record.path = nf_exec_path_in (exec, parent, name);
  int err = nf_exec_append (exec, &record, FALSE);
  if (err == 0)
    err = nf_exec_index_begin (exec);
  if (err != 0)
    return err;
  if (leaves)
    (void)nf_index_drop_name (index, attr->fid, from->parent, old, NULL);
  err = nf_index_add_name (index, attr->fid, parent, name);
  if (err != 0)
    {
      nf_index_abort (index);
      return err;
    }
  return nf_exec_index_commit (exec);
}

static int
take_name_found (Audit *audit, NfFid parent, NfSlice name, const NfAttr *found)
{
  static const NfCallHead nobody;
  NfShare *share = audit->primary->share;
  NfFid fid = found->fid;
  Place from = { .parent = NF_FID_NONE };
  NfAttr attr;
  NfExec exec;

  if (S_ISDIR (found->mode) && !nf_index_first_name (share->index, fid, &from.parent, from.name))
    from.parent = NF_FID_NONE;
  NfFid fids[3] = { parent, fid, from.parent };
  nf_exec_init (&exec, audit->primary, NULL, NULL, NULL, &nobody, NULL);
  nf_exec_lock (&exec, fids, 3);
  int err = nf_tree_lookup (share->tree, parent, name, &attr, NULL);
  if (err == 0 && attr.fid == fid && !nf_index_has_name (share->index, fid, parent, name))
    {
      note_dir (audit, parent);
      note_dir (audit, from.parent);
      err = say_name (&exec, &attr, &from, parent, name);
      nf_tree_forget (share->tree, fid);
    }
  nf_exec_end (&exec);
  tell_kernel_of_name (audit, parent, name);
  if (from.parent != NF_FID_NONE)
    tell_kernel_of_name (audit, from.parent, nf_slice_str (from.name));
  return or_gone (err);
}

static void
say (NfExec *exec, NfRecord *record, int *err)
{
  if (*err != 0)
    return;
  *err = nf_exec_append (exec, record, FALSE);
  nf_exec_flush (exec);
}

static void
say_xattrs (NfExec *exec, NfFid fid, int *err)
{
  g_autofree char *list = g_malloc (NF_XATTR_MAX);
  g_autofree char *value = g_malloc (NF_XATTR_MAX);
  int len = nf_tree_listxattr (exec->share->tree, fid, list, NF_XATTR_MAX);

  for (int at = 0; at < len; at += (int)strlen (list + at) + 1)
    {
      NfRecord record = { .kind = NF_OP_XATTR, .fid = fid, .xname = nf_slice_str (list + at) };
      int size = nf_tree_getxattr (exec->share->tree, fid, list + at, value, NF_XATTR_MAX);
      if (size < 0 || !nf_tree_xattr_shown (list + at))
        continue;
      record.value = nf_slice (value, (gsize)size);
      say (exec, &record, err);
    }
}

int
nf_primary_say_anew (NfPrimary *primary, NfFid fid)
{
  static const NfCallHead nobody;
  NfRecord record = { .kind = NF_OP_DATA, .fid = fid };
  NfExec exec;

  nf_exec_init (&exec, primary, NULL, NULL, NULL, &nobody, NULL);
  nf_exec_lock (&exec, &fid, 1);
  int err = nf_tree_stat (primary->share->tree, fid, &record.attr);
  if (err == 0 && S_ISREG (record.attr.mode))
    {
      record.length = record.attr.size;
      say (&exec, &record, &err);
    }
  if (err == 0)
    say_xattrs (&exec, fid, &err);
  NfRecord attr = { .kind = NF_OP_ATTR, .fid = fid, .attr = record.attr };
  attr.mask = NF_SET_MODE | NF_SET_UID | NF_SET_GID | NF_SET_MTIME
              | (S_ISREG (attr.attr.mode) ? NF_SET_SIZE : 0);
  say (&exec, &attr, &err);
  nf_exec_end (&exec);
  nf_broadcast_pump (primary->broadcast, NULL);
  nf_apply_invalidate (primary->share, NF_INVAL_DATA, fid, 0, 0);
  return or_gone (err);
}

static void
queue_dir (Audit *audit, NfFid fid)
{
  g_queue_push_head (&audit->dirs, g_memdup2 (&fid, sizeof fid));
}

/* Of an object that the index knows. */
static int
look_at_known (Audit *audit, NfFid dir, NfSlice name, NfListed *entry)
{
  NfShare *share = audit->primary->share;
  NfFid fid = entry->attr.fid;
  gboolean is_dir = S_ISDIR (entry->attr.mode);
  int err = 0;

  if (!nf_index_has_name (share->index, fid, dir, name) && is_still_unnamed (audit, dir, name, fid))
    {
      audit->counts->names++;
      tell (audit, NF_AUDIT_NAME, dir, name);
      if (!audit->options->report_only)
        err = take_name_found (audit, dir, name, &entry->attr);
    }
  if (err == 0 && entry->attr.ctime >= audit->options->newer_than)
    {
      audit->counts->newer++;
      if (!audit->options->report_only)
        err = nf_primary_say_anew (audit->primary, fid);
    }
  if (err == 0 && is_dir)
    queue_dir (audit, fid);
  return err;
}

static int
look_at_foreign (Audit *audit, NfFid dir, NfSlice name, NfListed *entry)
{
  int err = 0;

  if (!is_still_unnamed (audit, dir, name, NF_FID_NONE))
    return 0;
  audit->counts->foreign++;
  tell (audit, NF_AUDIT_FOREIGN, dir, name);
  if (audit->options->report_only)
    return 0;
  note_dir (audit, dir);
  err = nf_primary_adopt (audit->primary->share, dir, name, entry->ident, &entry->attr);
  tell_kernel_of_name (audit, dir, name);
  if (err == 0 && S_ISDIR (entry->attr.mode) && entry->attr.fid != NF_FID_NONE)
    queue_dir (audit, entry->attr.fid);
  return or_gone (err);
}

static void
look_through (Audit *audit, NfFid dir)
{
  g_auto (NfListing) listing = { 0 };
  int err = or_gone (nf_listing_read (audit->primary->share->tree, dir, &listing));

  for (guint i = 0; i < listing.entries->len && err == 0 && !is_cancelled (audit); i++)
    {
      NfListed *entry = nf_listing_at (&listing, i);
      NfSlice name = nf_listing_name (&listing, entry);
      keep_to_rate (audit);
      audit->counts->entries++;
      err = entry->attr.fid == NF_FID_NONE ? look_at_foreign (audit, dir, name, entry)
                                           : look_at_known (audit, dir, name, entry);
    }
  if (err != 0 && audit->err == 0)
    audit->err = err;
}

/* ---- what is in the index ---- */

typedef struct
{
  GArray *parents;  /* of NfFid */
  GPtrArray *names; /* of GBytes */
} Names;

static gboolean
take_name (NfFid parent, NfSlice name, gpointer data)
{
  Names *names = data;

  g_array_append_val (names->parents, parent);
  g_ptr_array_add (names->names, g_bytes_new (name.data, name.len));
  return TRUE;
}

/* Is it of what is looked through? */
static gboolean
is_within (Audit *audit, const char *dir, NfSlice name)
{
  const char *path = audit->options->path;

  if (!path || *path == '\0')
    return TRUE;
  if (!dir)
    return FALSE;
  g_autofree char *leaf = nf_slice_dup (name);
  g_autofree char *whole = *dir ? g_strconcat (dir, "/", leaf, NULL) : g_strdup (leaf);
  gsize len = strlen (path);
  return strncmp (whole, path, len) == 0 && (whole[len] == '/' || whole[len] == '\0');
}

static gboolean
is_there (NfShare *share, NfFid parent, NfSlice name, NfFid fid, gboolean *ret_taken)
{
  NfAttr attr;
  int err = nf_tree_lookup (share->tree, parent, name, &attr, NULL);

  *ret_taken = err == 0 && attr.fid != fid;
  /* Whatever else is wrong, it isn't certain that it is lost: something may be mounted over it, say. */
  return err == 0 ? attr.fid == fid : err != -ENOENT && err != -ESTALE && err != -ENOTDIR;
}

static gboolean
is_still_lost (Audit *audit, NfFid parent, NfSlice name, NfFid fid)
{
  NfShare *share = audit->primary->share;
  NfFid fids[2] = { parent, fid };
  NfLockSet locks;
  gboolean taken;

  nf_locks_take (&audit->primary->locks, fids, 2, &locks);
  gboolean still = nf_index_has_name (share->index, fid, parent, name)
                   && !is_there (share, parent, name, fid, &taken);
  nf_locks_give (&audit->primary->locks, &locks);
  return still;
}

static void
look_for (Audit *audit, NfFid fid)
{
  NfShare *share = audit->primary->share;
  g_autoptr (GArray) parents = g_array_new (FALSE, FALSE, sizeof (NfFid));
  g_autoptr (GPtrArray) list = g_ptr_array_new_with_free_func ((GDestroyNotify)g_bytes_unref);
  Names names = { parents, list };
  gboolean taken;

  nf_index_names (share->index, fid, take_name, &names);
  for (guint i = 0; i < list->len; i++)
    {
      gsize len;
      const guint8 *name = g_bytes_get_data (list->pdata[i], &len);
      NfFid parent = g_array_index (parents, NfFid, i);
      if (is_there (share, parent, nf_slice (name, len), fid, &taken)
          || !is_still_lost (audit, parent, nf_slice (name, len), fid))
        continue;
      g_autofree char *dir = nf_index_path (share->index, parent);
      if (!is_within (audit, dir, nf_slice (name, len)))
        continue;
      Lost *lost = g_new (Lost, 1);
      *lost = (Lost){ fid, parent, g_bytes_ref (list->pdata[i]), dir ? strlen (dir) : 0 };
      g_ptr_array_add (audit->lost, lost);
    }
}

static int
say_lost (NfExec *exec, const Lost *lost, NfSlice name, gboolean taken)
{
  NfIndex *index = exec->share->index;
  guint32 left = 1;
  NfObject object;
  NfRecord record = {
    .kind = NF_OP_NAMES,
    .n_names = 1,
    .names = { { .parent = lost->parent, .name = name } },
    .fid = lost->fid,
  };
  int err = 0;

  record.path = nf_exec_path_in (exec, lost->parent, name);
  /* A name that another object has now was said to be that one's. */
  if (!taken)
    err = nf_exec_append (exec, &record, FALSE);
  if (err == 0)
    err = nf_exec_index_begin (exec);
  if (err != 0)
    return err;
  err = nf_index_drop_name (index, lost->fid, lost->parent, name, &left);
  if (err == 0 && left == 0 && nf_index_get (index, lost->fid, &object)
      && object.place == NF_PLACE_NAMED)
    err = nf_index_remove (index, lost->fid);
  if (err != 0)
    {
      nf_index_abort (index);
      return err;
    }
  return nf_exec_index_commit (exec);
}

static int
take_lost (Audit *audit, const Lost *lost)
{
  static const NfCallHead nobody;
  NfShare *share = audit->primary->share;
  NfFid fids[2] = { lost->parent, lost->fid };
  gboolean taken = FALSE;
  gsize len;
  const guint8 *data = g_bytes_get_data (lost->name, &len);
  NfSlice name = nf_slice (data, len);
  NfExec exec;
  int err = 0;

  nf_exec_init (&exec, audit->primary, NULL, NULL, NULL, &nobody, NULL);
  nf_exec_lock (&exec, fids, 2);
  if (nf_index_has_name (share->index, lost->fid, lost->parent, name)
      && !is_there (share, lost->parent, name, lost->fid, &taken))
    {
      note_dir (audit, lost->parent);
      err = say_lost (&exec, lost, name, taken);
      nf_tree_forget (share->tree, lost->fid);
    }
  nf_exec_end (&exec);
  tell_kernel_of_name (audit, lost->parent, name);
  return or_gone (err);
}

static gint
deepest_first (gconstpointer a, gconstpointer b)
{
  const Lost *x = *(const Lost *const *)a;
  const Lost *y = *(const Lost *const *)b;

  return x->depth < y->depth ? 1 : x->depth > y->depth ? -1 : 0;
}

static void
look_through_index (Audit *audit)
{
  NfIndex *index = audit->primary->share->index;
  NfObject object = { 0 };

  while (!is_cancelled (audit) && nf_index_next (index, object.fid, &object))
    if (object.place == NF_PLACE_NAMED && object.fid != NF_FID_ROOT)
      look_for (audit, object.fid);
  g_ptr_array_sort (audit->lost, deepest_first);
  audit->counts->lost = audit->lost->len;
  gboolean keep = audit->options->report_only || audit->lost->len > audit->options->max_lost;
  audit->counts->lost_left = keep ? audit->lost->len : 0;
  for (guint i = 0; i < audit->lost->len && !is_cancelled (audit); i++)
    {
      const Lost *lost = audit->lost->pdata[i];
      gsize len;
      const guint8 *name = g_bytes_get_data (lost->name, &len);
      tell (audit, NF_AUDIT_LOST, lost->parent, nf_slice (name, len));
      if (!keep)
        audit->err = take_lost (audit, lost);
    }
}

static void
say_times (Audit *audit)
{
  static const NfCallHead nobody;
  GHashTableIter iter;
  gpointer key;
  int err = 0;

  g_hash_table_iter_init (&iter, audit->changed);
  /* Also of what was done before it was cancelled. */
  while (g_hash_table_iter_next (&iter, &key, NULL) && err == 0)
    {
      NfFid dir = *(NfFid *)key;
      NfRecord record = { .kind = NF_OP_ATTR, .fid = dir, .mask = NF_SET_MTIME };
      NfExec exec;
      nf_exec_init (&exec, audit->primary, NULL, NULL, NULL, &nobody, NULL);
      nf_exec_lock (&exec, &dir, 1);
      if (nf_tree_stat (audit->primary->share->tree, dir, &record.attr) == 0)
        say (&exec, &record, &err);
      nf_exec_end (&exec);
    }
  if (audit->err == 0)
    audit->err = err;
}

/* The directory at the path, or the one that has what is there. */
static int
begin_at (Audit *audit)
{
  g_auto (GStrv) parts = g_strsplit (audit->options->path ? audit->options->path : "", "/", -1);
  NfFid dir = NF_FID_ROOT;
  int err = 0;

  for (guint i = 0; parts[i] && err == 0; i++)
    {
      NfAttr attr;
      if (parts[i][0] == '\0')
        continue;
      err = nf_tree_lookup (audit->primary->share->tree, dir, nf_slice_str (parts[i]), &attr, NULL);
      if (err != 0 || attr.fid == NF_FID_NONE || !S_ISDIR (attr.mode))
        break;
      dir = attr.fid;
    }
  queue_dir (audit, dir);
  return or_gone (err);
}

guint64
nf_audit_lost_max (NfPrimary *primary)
{
  return MAX (LOST_MAX, nf_index_count (primary->share->index) / LOST_PART);
}

int
nf_primary_audit (NfPrimary *primary, const NfAuditOptions *options, NfAuditCounts *counts)
{
  NfHost *host = primary->share->host;
  Audit audit = { .primary = primary, .options = options, .counts = counts };
  NfFid *fid;

  memset (counts, 0, sizeof *counts);
  audit.begun_ms = host->monotonic_ms (host->data);
  g_queue_init (&audit.dirs);
  audit.changed = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
  audit.lost = g_ptr_array_new_with_free_func (lost_free);
  audit.err = begin_at (&audit);
  while (!is_cancelled (&audit) && (fid = g_queue_pop_head (&audit.dirs)))
    {
      look_through (&audit, *fid);
      g_free (fid);
    }
  if (!is_cancelled (&audit))
    look_through_index (&audit);
  say_times (&audit);
  g_queue_clear_full (&audit.dirs, g_free);
  g_hash_table_unref (audit.changed);
  g_ptr_array_unref (audit.lost);
  nf_broadcast_pump (primary->broadcast, NULL);
  return audit.err;
}
