// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/lock-table.h"

#include <errno.h>

/* A file has two lists, what is held and who waits, in the order in which they came. Files with a thousand locks are
 * rare, so lists are searched; tables with a thousand files are not, so files are found by fid.
 *
 * As on Linux who waits is given the lock when nothing that is held excludes it, whoever else waits longer; and what an
 * owner has of a range is replaced, split or joined by what he asks for next. */

typedef struct
{
  NfFid fid;
  GArray *held;    /* of NfLock */
  GArray *waiting; /* of NfLock */
} File;

typedef struct
{
  guint count;
} Site;

struct NfLockTable
{
  GHashTable *files; /* fid → File, owning */
  GHashTable *sites; /* name (of NULL: "") → Site, owning */
};

static void
file_free (gpointer data)
{
  File *file = data;

  g_array_unref (file->held);
  g_array_unref (file->waiting);
  g_free (file);
}

NfLockTable *
nf_lock_table_new (void)
{
  NfLockTable *table = g_new0 (NfLockTable, 1);

  table->files = g_hash_table_new_full (g_int64_hash, g_int64_equal, NULL, file_free);
  table->sites = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
  return table;
}

void
nf_lock_table_free (NfLockTable *table)
{
  g_hash_table_unref (table->files);
  g_hash_table_unref (table->sites);
  g_free (table);
}

static File *
file_of (NfLockTable *table, NfFid fid)
{
  return g_hash_table_lookup (table->files, &fid);
}

static File *
file_ensure (NfLockTable *table, NfFid fid)
{
  File *file = file_of (table, fid);

  if (file)
    return file;
  file = g_new0 (File, 1);
  file->fid = fid;
  file->held = g_array_new (FALSE, FALSE, sizeof (NfLock));
  file->waiting = g_array_new (FALSE, FALSE, sizeof (NfLock));
  g_hash_table_insert (table->files, &file->fid, file);
  return file;
}

static void
file_release (NfLockTable *table, File *file)
{
  if (file->held->len == 0 && file->waiting->len == 0)
    g_hash_table_remove (table->files, &file->fid);
}

static guint *
count_of (NfLockTable *table, const char *site)
{
  const char *name = site ? site : "";
  Site *entry = g_hash_table_lookup (table->sites, name);

  if (!entry)
    {
      entry = g_new0 (Site, 1);
      g_hash_table_insert (table->sites, g_strdup (name), entry);
    }
  return &entry->count;
}

static NfLock *
at (GArray *list, guint i)
{
  return &g_array_index (list, NfLock, i);
}

static void
add (NfLockTable *table, GArray *list, const NfLock *lock)
{
  g_array_append_val (list, *lock);
  ++*count_of (table, lock->site);
}

static void
drop (NfLockTable *table, GArray *list, guint i)
{
  --*count_of (table, at (list, i)->site);
  g_array_remove_index (list, i);
}

/* ---- two locks ---- */

static gboolean
same_owner (const NfLock *a, const NfLock *b)
{
  return a->owner == b->owner && g_strcmp0 (a->site, b->site) == 0;
}

static gboolean
meet (const NfLock *a, const NfLock *b)
{
  return a->kind == b->kind && a->start <= b->end && b->start <= a->end;
}

static gboolean
exclude (const NfLock *a, const NfLock *b)
{
  return meet (a, b) && !same_owner (a, b)
         && (a->type == NF_LOCK_WRITE || b->type == NF_LOCK_WRITE);
}

static const NfLock *
first_excluding (const File *file, const NfLock *lock)
{
  for (guint i = 0; file && i < file->held->len; i++)
    if (exclude (at (file->held, i), lock))
      return at (file->held, i);
  return NULL;
}

/* ---- setting what nothing excludes ---- */

/* What its owner has of the range before is cut out of the others of his. */
static void
cut_out (NfLockTable *table, File *file, const NfLock *range)
{
  for (guint i = 0; i < file->held->len;)
    {
      NfLock old = *at (file->held, i);
      if (!same_owner (&old, range) || !meet (&old, range))
        {
          i++;
          continue;
        }
      drop (table, file->held, i);
      NfLock before = old, after = old;
      if (old.start < range->start)
        {
          before.end = range->start - 1;
          add (table, file->held, &before);
        }
      if (old.end > range->end)
        {
          after.start = range->end + 1;
          add (table, file->held, &after);
        }
    }
}

/* Neighbours of one owner and type are one lock: the table doesn't grow with the steps in which it came to be. */
static void
join (NfLockTable *table, File *file, NfLock lock)
{
  for (guint i = 0; i < file->held->len;)
    {
      const NfLock *old = at (file->held, i);
      gboolean touches = old->kind == lock.kind && same_owner (old, &lock) && old->type == lock.type
                         && (old->end == G_MAXINT64 || old->end + 1 >= lock.start)
                         && (lock.end == G_MAXINT64 || lock.end + 1 >= old->start);
      if (!touches)
        {
          i++;
          continue;
        }
      lock.start = MIN (lock.start, old->start);
      lock.end = MAX (lock.end, old->end);
      drop (table, file->held, i);
      i = 0;
    }
  add (table, file->held, &lock);
}

static void
put (NfLockTable *table, File *file, const NfLock *lock)
{
  cut_out (table, file, lock);
  if (lock->type != NF_LOCK_NONE)
    join (table, file, *lock);
}

/* Somebody may have let go of something: who can have his lock now? */
static void
grant_waiting (NfLockTable *table, File *file, GArray *granted)
{
  for (guint i = 0; i < file->waiting->len;)
    {
      NfLock lock = *at (file->waiting, i);
      if (first_excluding (file, &lock))
        {
          i++;
          continue;
        }
      drop (table, file->waiting, i);
      put (table, file, &lock);
      g_array_append_val (granted, lock);
      i = 0; /* he may have had a stronger one that others waited for */
    }
}

/* ---- waiting ---- */

/* Does OWNER, by what it waits for, wait for WHOM? SEEN: owners asked about already. */
static gboolean
waits_for (NfLockTable *table, const NfLock *owner, const NfLock *whom, GArray *seen)
{
  GHashTableIter iter;
  gpointer value;

  for (guint i = 0; i < seen->len; i++)
    if (same_owner (at (seen, i), owner))
      return FALSE;
  g_array_append_val (seen, *owner);
  g_hash_table_iter_init (&iter, table->files);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    {
      const File *file = value;
      for (guint i = 0; i < file->waiting->len; i++)
        {
          const NfLock *wait = at (file->waiting, i);
          if (wait->kind != NF_LOCK_RANGE || !same_owner (wait, owner))
            continue;
          for (guint k = 0; k < file->held->len; k++)
            if (exclude (at (file->held, k), wait)
                && (same_owner (at (file->held, k), whom)
                    || waits_for (table, at (file->held, k), whom, seen)))
              return TRUE;
        }
    }
  return FALSE;
}

/* Would LOCK, waiting, wait for itself? (flock(2) has no such detection.) */
static gboolean
is_deadlock (NfLockTable *table, const File *file, const NfLock *lock)
{
  g_autoptr (GArray) seen = g_array_new (FALSE, FALSE, sizeof (NfLock));

  if (lock->kind != NF_LOCK_RANGE)
    return FALSE;
  for (guint i = 0; i < file->held->len; i++)
    if (exclude (at (file->held, i), lock) && waits_for (table, at (file->held, i), lock, seen))
      return TRUE;
  return FALSE;
}

static int
set_in (NfLockTable *table, File *file, const NfLock *lock, gboolean wait, GArray *granted)
{
  if (lock->kind == NF_LOCK_FLOCK && lock->type != NF_LOCK_NONE)
    {
      for (guint i = 0; i < file->held->len; i++)
        if (same_owner (at (file->held, i), lock) && meet (at (file->held, i), lock)
            && at (file->held, i)->type == lock->type)
          return 0;
      cut_out (table, file, lock); /* a change of type isn't atomic */
    }
  if (lock->type == NF_LOCK_NONE || !first_excluding (file, lock))
    {
      /* A lock can be split in two by any request. */
      if (lock->type != NF_LOCK_NONE && *count_of (table, lock->site) >= NF_LOCKS_SITE_MAX)
        return -ENOLCK;
      put (table, file, lock);
      grant_waiting (table, file, granted);
      return 0;
    }
  grant_waiting (table, file, granted); /* of a flock something was let go */
  if (!wait)
    return -EAGAIN;
  if (is_deadlock (table, file, lock))
    return -EDEADLK;
  if (*count_of (table, lock->site) >= NF_LOCKS_SITE_MAX)
    return -ENOLCK;
  add (table, file->waiting, lock);
  return -EINPROGRESS;
}

int
nf_lock_table_set (NfLockTable *table, const NfLock *lock, gboolean wait, GArray *granted)
{
  File *file = file_ensure (table, lock->fid);
  NfLock normal = *lock;

  if (lock->kind == NF_LOCK_FLOCK)
    {
      normal.start = 0;
      normal.end = G_MAXINT64;
    }
  int err = set_in (table, file, &normal, wait, granted);
  file_release (table, file);
  return err;
}

gboolean
nf_lock_table_test (NfLockTable *table, const NfLock *lock, NfLock *ret_holder)
{
  const NfLock *holder = first_excluding (file_of (table, lock->fid), lock);

  if (holder)
    *ret_holder = *holder;
  return holder != NULL;
}

gboolean
nf_lock_table_cancel (NfLockTable *table, const char *site, guint64 id)
{
  GHashTableIter iter;
  gpointer value;

  g_hash_table_iter_init (&iter, table->files);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    {
      File *file = value;
      for (guint i = 0; i < file->waiting->len; i++)
        if (at (file->waiting, i)->id == id && g_strcmp0 (at (file->waiting, i)->site, site) == 0)
          {
            drop (table, file->waiting, i);
            file_release (table, file); /* the iteration ends here */
            return TRUE;
          }
    }
  return FALSE;
}

static void
clear_list (NfLockTable *table, GArray *list, const char *site)
{
  for (guint i = 0; i < list->len;)
    if (g_strcmp0 (at (list, i)->site, site) == 0)
      drop (table, list, i);
    else
      i++;
}

void
nf_lock_table_clear_site (NfLockTable *table, const char *site, gboolean waiting_only)
{
  GHashTableIter iter;
  gpointer value;

  if (*count_of (table, site) == 0)
    return;
  g_hash_table_iter_init (&iter, table->files);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    {
      File *file = value;
      clear_list (table, file->waiting, site);
      if (!waiting_only)
        clear_list (table, file->held, site);
      if (file->held->len == 0 && file->waiting->len == 0)
        g_hash_table_iter_remove (&iter);
    }
}

void
nf_lock_table_grant (NfLockTable *table, GArray *granted)
{
  GHashTableIter iter;
  gpointer value;

  g_hash_table_iter_init (&iter, table->files);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    grant_waiting (table, value, granted);
}

gboolean
nf_lock_table_restore (NfLockTable *table, const NfLock *lock)
{
  File *file = file_ensure (table, lock->fid);
  gboolean free
      = !first_excluding (file, lock) && *count_of (table, lock->site) < NF_LOCKS_SITE_MAX;

  if (free)
    put (table, file, lock);
  file_release (table, file);
  return free;
}

/* ---- looking ---- */

void
nf_lock_table_each_held (NfLockTable *table, NfLockFunc func, gpointer data)
{
  GHashTableIter iter;
  gpointer value;

  g_hash_table_iter_init (&iter, table->files);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    {
      const File *file = value;
      for (guint i = 0; i < file->held->len; i++)
        func (at (file->held, i), data);
    }
}

void
nf_lock_table_each_waiting (NfLockTable *table, NfLockFunc func, gpointer data)
{
  GHashTableIter iter;
  gpointer value;

  g_hash_table_iter_init (&iter, table->files);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    {
      const File *file = value;
      for (guint i = 0; i < file->waiting->len; i++)
        func (at (file->waiting, i), data);
    }
}

guint
nf_lock_table_count (NfLockTable *table, const char *site)
{
  return *count_of (table, site);
}

gboolean
nf_lock_table_has (NfLockTable *table, NfFid fid)
{
  const File *file = file_of (table, fid);

  return file && file->held->len > 0;
}

gboolean
nf_lock_table_is_sole (NfLockTable *table, NfFid fid, const char *site)
{
  const File *file = file_of (table, fid);

  if (!file)
    return TRUE;
  for (guint i = 0; i < file->held->len; i++)
    if (g_strcmp0 (at (file->held, i)->site, site) != 0)
      return FALSE;
  return file->waiting->len == 0;
}

void
nf_lock_table_clear_file (NfLockTable *table, NfFid fid)
{
  File *file = file_of (table, fid);

  if (!file)
    return;
  while (file->held->len > 0)
    drop (table, file->held, 0);
  while (file->waiting->len > 0)
    drop (table, file->waiting, 0);
  file_release (table, file);
}

void
nf_lock_table_each_of (NfLockTable *table, NfFid fid, NfLockFunc func, gpointer data)
{
  const File *file = file_of (table, fid);

  for (guint i = 0; file && i < file->held->len; i++)
    func (at (file->held, i), data);
}
