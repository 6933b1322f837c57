// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/opens.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* What is open, by fid: this site's handles, other sites' holds, and a descriptor kept for callers without a handle.
 * The one lock is innermost and no file is opened or closed under it. */

typedef struct
{
  char *site;
  gboolean judged;
  gboolean stale; /* not said again since the site has a new link */
} Hold;

typedef struct
{
  NfFid fid;
  GPtrArray *handles; /* of NfFile */
  GArray *holds;      /* of Hold */
  NfOpenFd *kept;
  GList link; /* in `kept`, if there is one */
} Entry;

struct NfOpens
{
  NfShare *share;
  pthread_mutex_t lock;
  GHashTable *by_fid; /* fid → Entry, owning; guarded by lock */
  GQueue kept;        /* of Entry, the most recently used first; guarded by lock */
  guint64 switches;   /* how often any fid got another backing object; guarded by lock */
  gint passed;        /* how many files; written with lock, atomic */
};

static void
hold_clear (gpointer data)
{
  g_free (((Hold *)data)->site);
}

static void
entry_free (gpointer data)
{
  Entry *entry = data;

  g_ptr_array_unref (entry->handles);
  g_array_unref (entry->holds);
  g_free (entry);
}

NfOpens *
nf_opens_new (NfShare *share)
{
  NfOpens *opens = g_new0 (NfOpens, 1);

  opens->share = share;
  pthread_mutex_init (&opens->lock, NULL);
  opens->by_fid = g_hash_table_new_full (g_int64_hash, g_int64_equal, NULL, entry_free);
  return opens;
}

void
nf_opens_free (NfOpens *opens)
{
  while (opens->kept.tail)
    {
      Entry *entry = opens->kept.tail->data;
      g_queue_unlink (&opens->kept, &entry->link);
      nf_open_fd_unref (g_steal_pointer (&entry->kept));
    }
  g_hash_table_unref (opens->by_fid);
  pthread_mutex_destroy (&opens->lock);
  g_free (opens);
}

/* All below to the next mark: with the lock. */

static Entry *
entry_of (NfOpens *opens, NfFid fid)
{
  return g_hash_table_lookup (opens->by_fid, &fid);
}

static Entry *
entry_ensure (NfOpens *opens, NfFid fid)
{
  Entry *entry = entry_of (opens, fid);

  if (!entry)
    {
      entry = g_new0 (Entry, 1);
      entry->fid = fid;
      entry->handles = g_ptr_array_new ();
      entry->holds = g_array_new (FALSE, FALSE, sizeof (Hold));
      g_array_set_clear_func (entry->holds, hold_clear);
      entry->link.data = entry;
      g_hash_table_insert (opens->by_fid, &entry->fid, entry);
    }
  return entry;
}

static void
release_entry (NfOpens *opens, Entry *entry)
{
  if (entry->handles->len == 0 && entry->holds->len == 0 && !entry->kept)
    g_hash_table_remove (opens->by_fid, &entry->fid);
}

/* The kept descriptor, which the caller unrefs after unlocking. ENTRY may be gone afterwards. */
static NfOpenFd *
take_kept (NfOpens *opens, Entry *entry)
{
  NfOpenFd *kept = g_steal_pointer (&entry->kept);

  if (kept)
    g_queue_unlink (&opens->kept, &entry->link);
  release_entry (opens, entry);
  return kept;
}

/* Nobody holds it any more: a descriptor kept would only stand in the way (ETXTBSY, unmounting, deleted space). */
static NfOpenFd *
take_idle (NfOpens *opens, Entry *entry)
{
  if (entry->handles->len == 0 && entry->holds->len == 0)
    return take_kept (opens, entry);
  return NULL;
}

static Hold *
find_hold (Entry *entry, const char *site, guint *ret_at)
{
  for (guint i = 0; entry && i < entry->holds->len; i++)
    {
      Hold *hold = &g_array_index (entry->holds, Hold, i);
      if (!g_str_equal (hold->site, site))
        continue;
      if (ret_at)
        *ret_at = i;
      return hold;
    }
  return NULL;
}

/* ---- descriptors ---- */

static NfOpenFd *
open_fd_ref (NfOpenFd *open_fd)
{
  g_atomic_int_inc (&open_fd->refs);
  return open_fd;
}

NfOpenFd *
nf_open_fd_new (int fd)
{
  NfOpenFd *open_fd = g_new (NfOpenFd, 1);

  *open_fd = (NfOpenFd){ fd, 1 };
  return open_fd;
}

void
nf_open_fd_unref (NfOpenFd *open_fd)
{
  if (!open_fd || !g_atomic_int_dec_and_test (&open_fd->refs))
    return;
  close (open_fd->fd);
  g_free (open_fd);
}

NfOpenFd *
nf_opens_keep (NfOpens *opens, NfFid fid, int fd)
{
  NfOpenFd *open_fd = open_fd_ref (nf_open_fd_new (fd));
  NfOpenFd *surplus = NULL;

  pthread_mutex_lock (&opens->lock);
  Entry *entry = entry_ensure (opens, fid);
  NfOpenFd *former = g_steal_pointer (&entry->kept);
  if (former)
    g_queue_unlink (&opens->kept, &entry->link);
  entry->kept = open_fd;
  g_queue_push_head_link (&opens->kept, &entry->link);
  if (opens->kept.length > NF_OPENS_KEPT_MAX)
    surplus = take_kept (opens, opens->kept.tail->data);
  pthread_mutex_unlock (&opens->lock);
  nf_open_fd_unref (former);
  nf_open_fd_unref (surplus);
  return open_fd;
}

NfOpenFd *
nf_opens_kept (NfOpens *opens, NfFid fid)
{
  NfOpenFd *kept = NULL;

  pthread_mutex_lock (&opens->lock);
  Entry *entry = entry_of (opens, fid);
  if (entry && entry->kept)
    {
      kept = open_fd_ref (entry->kept);
      g_queue_unlink (&opens->kept, &entry->link);
      g_queue_push_head_link (&opens->kept, &entry->link);
    }
  pthread_mutex_unlock (&opens->lock);
  return kept;
}

void
nf_opens_forget (NfOpens *opens, NfFid fid)
{
  NfOpenFd *kept = NULL;

  pthread_mutex_lock (&opens->lock);
  Entry *entry = entry_of (opens, fid);
  if (entry)
    kept = take_kept (opens, entry);
  pthread_mutex_unlock (&opens->lock);
  nf_open_fd_unref (kept);
}

void
nf_opens_switched (NfOpens *opens, NfFid fid)
{
  pthread_mutex_lock (&opens->lock);
  Entry *entry = entry_of (opens, fid);
  opens->switches++;
  for (guint i = 0; entry && i < entry->handles->len; i++)
    g_atomic_int_set (&((NfFile *)entry->handles->pdata[i])->old, TRUE);
  pthread_mutex_unlock (&opens->lock);
  nf_opens_forget (opens, fid);
}

static gboolean
allows (const NfFile *file, gboolean write)
{
  return file->fd >= 0 && (!write || (file->flags & O_ACCMODE) != O_RDONLY);
}

/* With the lock. */
static int
borrow_fd (NfOpens *opens, NfFid fid, gboolean write)
{
  Entry *entry = entry_of (opens, fid);

  if (!entry || (write && !opens->share->primary)) /* a replica is read only */
    return -1;
  if (entry->kept)
    return entry->kept->fd;
  for (guint i = 0; i < entry->handles->len; i++)
    {
      const NfFile *file = entry->handles->pdata[i];
      if (!file->old && allows (file, write))
        return file->fd;
    }
  return -1;
}

int
nf_opens_fd (NfOpens *opens, NfFid fid, gboolean write)
{
  pthread_mutex_lock (&opens->lock);
  int fd = borrow_fd (opens, fid, write);
  if (fd >= 0)
    fd = fcntl (fd, F_DUPFD_CLOEXEC, 0); /* before another thread closes it */
  pthread_mutex_unlock (&opens->lock);
  return fd;
}

/* ---- handles ---- */

static int
open_here (NfOpens *opens, NfFid fid, int flags, int *ret_fd)
{
  NfShare *share = opens->share;
  gboolean write = (flags & O_ACCMODE) != O_RDONLY;
  int fd = -1;

  *ret_fd = -1;
  if (!share->tree)
    return 0;
  if (!share->primary)
    {
      fd = nf_tree_open_fid (share->tree, fid, O_RDONLY);
      *ret_fd = MAX (fd, -1);
      return 0; /* whatever stands against it: the primary is asked instead */
    }
  if (write)
    fd = nf_opens_fd (opens, fid, TRUE);
  if (fd < 0)
    fd = nf_tree_open_fid (share->tree, fid, write ? O_RDWR : O_RDONLY);
  if (fd < 0)
    return fd;
  *ret_fd = fd;
  return 0;
}

int
nf_opens_add (NfOpens *opens, NfFid fid, int flags, NfFile **ret_file)
{
  pthread_mutex_lock (&opens->lock);
  guint64 switches = opens->switches;
  pthread_mutex_unlock (&opens->lock);
  int fd;
  int err = open_here (opens, fid, flags, &fd);

  if (err != 0)
    return err;
  NfFile *file = g_new0 (NfFile, 1);
  file->share = opens->share;
  file->fid = fid;
  file->flags = flags;
  file->fd = fd;
  pthread_mutex_lock (&opens->lock);
  file->old = switches != opens->switches; /* it may be: nobody had seen this handle */
  g_ptr_array_add (entry_ensure (opens, fid)->handles, file);
  pthread_mutex_unlock (&opens->lock);
  *ret_file = file;
  return 0;
}

void
nf_opens_remove (NfOpens *opens, NfFile *file)
{
  NfOpenFd *idle;

  nf_opens_set_passed (opens, file, FALSE);
  pthread_mutex_lock (&opens->lock);
  Entry *entry = entry_of (opens, file->fid);
  g_assert (entry != NULL);
  g_ptr_array_remove_fast (entry->handles, file);
  idle = take_idle (opens, entry);
  if (!idle && (entry = entry_of (opens, file->fid)))
    release_entry (opens, entry);
  pthread_mutex_unlock (&opens->lock);
  nf_open_fd_unref (idle);
  if (file->fd >= 0)
    close (file->fd);
  g_free (file);
}

void
nf_opens_give_up_fd (NfOpens *opens, NfFile *file)
{
  pthread_mutex_lock (&opens->lock);
  int fd = file->fd;
  file->fd = -1;
  pthread_mutex_unlock (&opens->lock);
  if (fd >= 0)
    close (fd);
}

gboolean
nf_opens_held (NfOpens *opens, NfFid fid)
{
  pthread_mutex_lock (&opens->lock);
  Entry *entry = entry_of (opens, fid);
  gboolean held = entry && (entry->handles->len > 0 || entry->holds->len > 0);
  pthread_mutex_unlock (&opens->lock);
  return held;
}

void
nf_opens_each (NfOpens *opens, NfFid fid, void (*func) (NfFile *file, gpointer data), gpointer data)
{
  pthread_mutex_lock (&opens->lock);
  Entry *entry = entry_of (opens, fid);
  for (guint i = 0; entry && i < entry->handles->len; i++)
    func (entry->handles->pdata[i], data);
  pthread_mutex_unlock (&opens->lock);
}

gboolean
nf_opens_writers (NfOpens *opens, NfFid fid)
{
  gboolean writers = FALSE;

  pthread_mutex_lock (&opens->lock);
  Entry *entry = entry_of (opens, fid);
  for (guint i = 0; entry && i < entry->handles->len; i++)
    if ((((const NfFile *)entry->handles->pdata[i])->flags & O_ACCMODE) != O_RDONLY)
      writers = TRUE;
  pthread_mutex_unlock (&opens->lock);
  return writers;
}

void
nf_opens_set_passed (NfOpens *opens, NfFile *file, gboolean passed)
{
  pthread_mutex_lock (&opens->lock);
  if (file->passed != passed)
    g_atomic_int_add (&opens->passed, passed ? 1 : -1);
  file->passed = passed;
  pthread_mutex_unlock (&opens->lock);
}

gboolean
nf_opens_passed (NfOpens *opens, NfFid fid)
{
  gboolean passed = FALSE;

  if (g_atomic_int_get (&opens->passed) == 0)
    return FALSE;
  pthread_mutex_lock (&opens->lock);
  Entry *entry = entry_of (opens, fid);
  for (guint i = 0; entry && i < entry->handles->len && !passed; i++)
    {
      const NfFile *file = entry->handles->pdata[i];
      passed = file->passed && !file->old; /* an old one's content changes no more */
    }
  pthread_mutex_unlock (&opens->lock);
  return passed;
}

/* ---- other sites' holds ---- */

int
nf_opens_hold (NfOpens *opens, const char *site, NfFid fid)
{
  pthread_mutex_lock (&opens->lock);
  Entry *entry = entry_ensure (opens, fid);
  /* The site counts its own handles; said again after a new link it is the same hold. */
  Hold *known = find_hold (entry, site, NULL);
  if (known)
    known->stale = FALSE;
  else
    {
      Hold hold = { .site = g_strdup (site) };
      g_array_append_val (entry->holds, hold);
    }
  pthread_mutex_unlock (&opens->lock);
  return 0;
}

gboolean
nf_opens_elsewhere (NfOpens *opens, NfFid fid, const char *site)
{
  pthread_mutex_lock (&opens->lock);
  const Entry *entry = entry_of (opens, fid);
  gboolean elsewhere = entry && site && entry->handles->len > 0;
  for (guint i = 0; entry && i < entry->holds->len && !elsewhere; i++)
    elsewhere = g_strcmp0 (g_array_index (entry->holds, Hold, i).site, site) != 0;
  pthread_mutex_unlock (&opens->lock);
  return elsewhere;
}

void
nf_opens_drop (NfOpens *opens, const char *site, NfFid fid)
{
  NfOpenFd *idle = NULL;
  guint at;

  pthread_mutex_lock (&opens->lock);
  Entry *entry = entry_of (opens, fid);
  if (find_hold (entry, site, &at))
    {
      g_array_remove_index_fast (entry->holds, at);
      idle = take_idle (opens, entry);
      if (!idle && (entry = entry_of (opens, fid)))
        release_entry (opens, entry);
    }
  pthread_mutex_unlock (&opens->lock);
  nf_open_fd_unref (idle);
}

/* The fids that SITE holds, or (STALE) of them those that it hasn't said again. MARK: they are stale from now on. */
static GArray *
held_by (NfOpens *opens, const char *site, gboolean stale, gboolean mark)
{
  GArray *fids = g_array_new (FALSE, FALSE, sizeof (NfFid));
  GHashTableIter iter;
  gpointer value;

  pthread_mutex_lock (&opens->lock);
  g_hash_table_iter_init (&iter, opens->by_fid);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    {
      Hold *hold = find_hold (value, site, NULL);
      if (!hold || (stale && !hold->stale))
        continue;
      hold->stale = hold->stale || mark;
      g_array_append_val (fids, ((Entry *)value)->fid);
    }
  pthread_mutex_unlock (&opens->lock);
  return fids;
}

static void
drop_fids (NfOpens *opens, const char *site, GArray *fids)
{
  for (guint i = 0; i < fids->len; i++)
    nf_opens_drop (opens, site, g_array_index (fids, NfFid, i));
}

void
nf_opens_drop_site (NfOpens *opens, const char *site)
{
  g_autoptr (GArray) fids = held_by (opens, site, FALSE, FALSE);

  drop_fids (opens, site, fids);
}

void
nf_opens_make_stale (NfOpens *opens, const char *site)
{
  g_array_unref (held_by (opens, site, FALSE, TRUE));
}

GArray *
nf_opens_drop_stale (NfOpens *opens, const char *site)
{
  GArray *fids = held_by (opens, site, TRUE, FALSE);

  drop_fids (opens, site, fids);
  return fids;
}

gboolean
nf_opens_holds (NfOpens *opens, const char *site, NfFid fid, gboolean *ret_judged)
{
  pthread_mutex_lock (&opens->lock);
  Hold *hold = find_hold (entry_of (opens, fid), site, NULL);
  gboolean holds = hold != NULL;
  *ret_judged = hold && hold->judged;
  pthread_mutex_unlock (&opens->lock);
  return holds;
}

void
nf_opens_set_judged (NfOpens *opens, const char *site, NfFid fid)
{
  pthread_mutex_lock (&opens->lock);
  Hold *hold = find_hold (entry_of (opens, fid), site, NULL);
  if (hold)
    hold->judged = TRUE;
  pthread_mutex_unlock (&opens->lock);
}
