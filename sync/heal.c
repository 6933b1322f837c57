// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/reconcile.h"
#include "sync/restore.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/* Healing: names first, from the root down as the listings bring the directories, then content.
 *
 * A directory that is being listed holds its key in the table of blocked ops, from the moment it is asked for: an op on
 * its names that comes meanwhile waits until the listing is in place, and is left out if the listing had it in. One that
 * came before, and was waiting for something else, may get its turn between two frames: it is left out where the frames so
 * far have told of its names. */

typedef struct
{
  guint64 id;
  NfHolds holds;
  NfReconcile reconcile;
} Job;

struct NfHeal
{
  NfReplica *replica;
  GHashTable *jobs;    /* id → Job, owning */
  GHashTable *active;  /* fid → Job */
  GQueue todo;         /* of fid: to be listed */
  GHashTable *queued;  /* the same as a set, owning the keys */
  GQueue files;        /* of fid: content became suspect */
  GHashTable *put_off; /* of fid: not before the next start */
  gboolean scanned;    /* `todo` has all there are */
  NfFid cursor;        /* files up to here have been taken, or have failed */
  gboolean at_end;
  guint64 next_id;
  guint64 total; /* how many there were at most, since there were none */
};

static void
job_free (gpointer data)
{
  Job *job = data;

  nf_reconcile_clear (&job->reconcile);
  g_free (job);
}

NfHeal *
nf_heal_new (NfReplica *replica)
{
  NfHeal *heal = g_new0 (NfHeal, 1);

  heal->replica = replica;
  heal->jobs = g_hash_table_new_full (g_int64_hash, g_int64_equal, NULL, job_free);
  heal->active = g_hash_table_new (g_int64_hash, g_int64_equal);
  heal->queued = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
  heal->put_off = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
  heal->next_id = 1;
  return heal;
}

void
nf_heal_free (NfHeal *heal)
{
  g_hash_table_unref (heal->active);
  g_hash_table_unref (heal->jobs);
  g_queue_clear (&heal->todo);
  g_queue_clear_full (&heal->files, g_free);
  g_hash_table_unref (heal->queued);
  g_hash_table_unref (heal->put_off);
  g_free (heal);
}

/* ---- what there is to do ---- */

static void
queue_listing (NfHeal *heal, NfFid fid)
{
  if (g_hash_table_contains (heal->queued, &fid))
    return;
  NfFid *key = g_memdup2 (&fid, sizeof fid);
  g_hash_table_add (heal->queued, key);
  g_queue_push_tail (&heal->todo, key);
}

static NfFid
next_listing (NfHeal *heal)
{
  NfFid *key = g_queue_pop_head (&heal->todo);
  NfFid fid = *key;

  g_hash_table_remove (heal->queued, &fid);
  return fid;
}

void
nf_heal_add (NfHeal *heal, NfFid fid)
{
  NfObject object;

  if (!nf_index_get (heal->replica->share->index, fid, &object))
    return;
  if (object.suspect & (NF_SUSPECT_NAMES | NF_SUSPECT_ATTR))
    queue_listing (heal, fid);
  if ((object.suspect & NF_SUSPECT_DATA) && heal->at_end)
    g_queue_push_tail (&heal->files, g_memdup2 (&fid, sizeof fid));
}

void
nf_heal_start (NfHeal *heal)
{
  g_hash_table_remove_all (heal->put_off);
  heal->scanned = FALSE;
  heal->cursor = NF_FID_NONE;
  heal->at_end = FALSE;
}

static void
scan (NfHeal *heal)
{
  NfIndex *index = heal->replica->share->index;
  NfObject object = { 0 };

  heal->scanned = TRUE;
  if (nf_index_suspects (index) == 0)
    return;
  while (nf_index_next_suspect (index, object.fid, &object))
    if (object.suspect & (NF_SUSPECT_NAMES | NF_SUSPECT_ATTR))
      queue_listing (heal, object.fid);
}

static void
put_off (NfHeal *heal, NfFid fid)
{
  g_hash_table_add (heal->put_off, g_memdup2 (&fid, sizeof fid));
  nf_replica_retry_later (heal->replica);
}

void
nf_heal_gone (NfHeal *heal, NfFid fid)
{
  NfIndex *index = heal->replica->share->index;
  char name[NF_NAME_LEN_MAX + 1];
  NfFid parent;

  /* What the site that a primary takes back from hasn't got either stays as it is here. */
  if (heal->replica->share->restore)
    {
      (void)nf_index_set_suspect (index, fid, 0,
                                  NF_SUSPECT_NAMES | NF_SUSPECT_ATTR | NF_SUSPECT_TREE);
      (void)nf_dirty_clear (heal->replica->share, fid);
      nf_restore_keep (heal->replica->share->restore, fid);
      return;
    }
  put_off (heal, fid);
  if (!nf_index_first_name (index, fid, &parent, name)
      || g_hash_table_contains (heal->put_off, &parent))
    return;
  (void)nf_index_set_suspect (index, parent, NF_SUSPECT_NAMES, 0);
  nf_heal_add (heal, parent);
}

gboolean
nf_heal_names_settled (NfHeal *heal)
{
  return nf_index_suspects (heal->replica->share->index) == 0
         || (heal->scanned && heal->todo.length == 0 && g_hash_table_size (heal->jobs) == 0);
}

/* ---- listings ---- */

static void
end_job (NfHeal *heal, Job *job)
{
  nf_blocked_leave (heal->replica->blocked, &job->holds, &heal->replica->ready);
  g_hash_table_remove (heal->active, &job->reconcile.fid);
  g_hash_table_remove (heal->jobs, &job->id);
}

void
nf_heal_stop (NfHeal *heal)
{
  GHashTableIter iter;
  gpointer value;

  g_hash_table_remove_all (heal->active);
  g_hash_table_iter_init (&iter, heal->jobs);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    {
      Job *job = value;
      queue_listing (heal, job->reconcile.fid);
      nf_blocked_leave (heal->replica->blocked, &job->holds, &heal->replica->ready);
      g_hash_table_iter_remove (&iter);
    }
}

static gboolean
note_entry (NfSlice name, const NfAttr *attr, const NfIdent *ident, guint64 cookie, gpointer data)
{
  gboolean *empty = data;

  (void)name, (void)attr, (void)ident, (void)cookie;
  *empty = FALSE;
  return FALSE;
}

static gboolean
is_empty_here (NfReplica *replica, NfFid dir)
{
  gboolean empty = TRUE;

  return nf_tree_readdir (replica->share->tree, dir, 0, FALSE, note_entry, &empty) == 0 && empty;
}

/* FALSE: nothing can be sent now. */
static gboolean
list (NfHeal *heal, NfFid fid)
{
  NfReplica *replica = heal->replica;
  NfMsg msg = { .type = NF_MSG_LIST };
  NfObject object;

  if (!nf_index_get (replica->share->index, fid, &object)
      || !(object.suspect & (NF_SUSPECT_NAMES | NF_SUSPECT_ATTR)) || object.place != NF_PLACE_NAMED
      || g_hash_table_contains (heal->active, &fid) || g_hash_table_contains (heal->put_off, &fid))
    return TRUE;
  Job *job = g_new0 (Job, 1);
  job->id = heal->next_id++;
  nf_reconcile_init (&job->reconcile, replica, fid, (object.suspect & NF_SUSPECT_TREE) != 0);
  job->holds.owner = NULL; /* goes on by its answer, not by its turn */
  nf_holds_add (&job->holds, nf_key_fid (fid), TRUE);
  (void)nf_blocked_enter (replica->blocked, &job->holds);
  g_hash_table_insert (heal->jobs, &job->id, job);
  g_hash_table_insert (heal->active, &job->reconcile.fid, job);
  msg.list.share = replica->share->conf.id;
  msg.list.id = job->id;
  msg.list.fid = fid;
  msg.list.flags = S_ISDIR (object.mode) && is_empty_here (replica, fid) ? NF_LIST_ALL_NEW : 0;
  if (nf_replica_send (replica, TRUE, &msg))
    return TRUE;
  end_job (heal, job);
  queue_listing (heal, fid);
  nf_replica_retry_later (replica);
  return FALSE;
}

/* FID isn't at the primary. If it isn't here either, no listing will come by it. */
static void
forget_nowhere (NfReplica *replica, NfFid fid)
{
  if (fid == NF_FID_ROOT || nf_reconcile_forget_lost (replica, fid)
      || nf_apply_here (replica->share, fid))
    return;
  (void)nf_index_remove (replica->share->index, fid);
}

static void
fail_job (NfHeal *heal, Job *job, int err)
{
  NfFid fid = job->reconcile.fid;
  g_autofree char *path = nf_index_path (heal->replica->share->index, fid);

  end_job (heal, job);
  if (err == -ENOENT || err == -ESTALE)
    {
      nf_heal_gone (heal, fid);
      forget_nowhere (heal->replica, fid);
      return;
    }
  if (err == -ENOSPC || err == -EDQUOT)
    heal->replica->no_space = TRUE;
  else
    {
      g_autofree char *text = g_strdup_printf ("/%s can't be compared with the primary's: %s",
                                               path ? path : "?", g_strerror (-err));
      g_warning ("share %s: %s", heal->replica->share->conf.name, text);
      nf_replica_trouble (heal->replica, text);
    }
  put_off (heal, fid);
}

void
nf_heal_listed (NfHeal *heal, const NfMsg *msg)
{
  guint64 id = msg->listed.id;
  Job *job = g_hash_table_lookup (heal->jobs, &id);

  if (!job)
    return; /* of a link that is gone */
  int err = -nf_status_to_errno (msg->listed.status);
  job->reconcile.seq = msg->listed.seq;
  if (err == 0)
    err = nf_replica_note_ahead (heal->replica, msg->listed.seq);
  if (err == 0)
    err = nf_reconcile_frame (&job->reconcile, msg->listed.entries);
  gboolean last = msg->listed.flags & NF_FLAG_LAST;
  if (err == 0 && last)
    err = nf_reconcile_end (&job->reconcile);
  if (err != 0)
    fail_job (heal, job, err);
  else if (last)
    {
      NfFid fid = job->reconcile.fid;
      if (job->reconcile.failed)
        put_off (heal, fid);
      end_job (heal, job);
      nf_heal_add (heal, fid); /* a file's content may have turned out to be suspect */
    }
}

static void
pump_listings (NfHeal *heal)
{
  while (heal->todo.length > 0 && g_hash_table_size (heal->jobs) < NF_HEAL_LISTS_MAX)
    if (!list (heal, next_listing (heal)))
      return;
}

/* ---- content ---- */

static gboolean
next_file (NfHeal *heal, NfFid *ret_fid)
{
  NfObject object;
  NfFid *queued = g_queue_pop_head (&heal->files);

  if (queued)
    {
      *ret_fid = *queued;
      g_free (queued);
      return TRUE;
    }
  while (!heal->at_end)
    {
      if (!nf_index_next_suspect (heal->replica->share->index, heal->cursor, &object))
        {
          heal->at_end = TRUE;
          return FALSE;
        }
      heal->cursor = object.fid;
      if (object.suspect & NF_SUSPECT_DATA)
        {
          *ret_fid = object.fid;
          return TRUE;
        }
    }
  return FALSE;
}

static void
heal_file (NfHeal *heal, NfFid fid)
{
  NfReplica *replica = heal->replica;
  NfObject object;

  if (!nf_index_get (replica->share->index, fid, &object) || !(object.suspect & NF_SUSPECT_DATA))
    return;
  /* It could be made, but not be given its name, and isn't there any more by now: else it would have been once more. */
  if (object.place == NF_PLACE_STAGING && nf_heal_names_settled (heal))
    (void)nf_tree_bury (replica->share->tree, fid); /* if it can't be: when it is looked at again */
  if (object.place != NF_PLACE_NAMED || g_hash_table_contains (heal->put_off, &fid))
    return;
  if (!S_ISREG (object.mode) || object.ident.ino == 0)
    {
      (void)nf_dirty_clear (replica->share, fid); /* has no content */
      return;
    }
  if (nf_transfers_heal (replica->transfers, fid) == 0)
    return;
  nf_heal_gone (heal, fid);
  (void)nf_reconcile_forget_lost (replica, fid);
}

static void
pump_files (NfHeal *heal)
{
  NfReplica *replica = heal->replica;
  NfFid fid;

  while (nf_transfers_inflight (replica->transfers) < NF_TRANSFERS_MAX
         && nf_transfers_healing (replica->transfers) < NF_HEAL_FILES_MAX && next_file (heal, &fid))
    heal_file (heal, fid);
}

static gboolean
is_idle (NfHeal *heal)
{
  return heal->todo.length == 0 && g_hash_table_size (heal->jobs) == 0 && heal->files.length == 0
         && heal->at_end && nf_transfers_healing (heal->replica->transfers) == 0;
}

void
nf_heal_pump (NfHeal *heal)
{
  NfReplica *replica = heal->replica;

  if (!replica->subscribed || nf_index_suspects (replica->share->index) == 0)
    return;
  if (!heal->scanned)
    scan (heal);
  pump_listings (heal);
  pump_files (heal);
  /* Whatever nobody has told us of is found by looking through all once more. */
  if (is_idle (heal))
    nf_replica_retry_later (replica);
}

gboolean
nf_heal_has_listed (NfHeal *heal, NfFid parent, NfSlice name, guint64 seq)
{
  const Job *job = g_hash_table_lookup (heal->active, &parent);
  guint64 key = nf_key_name (parent, name);

  return job && job->reconcile.seq >= seq && g_hash_table_contains (job->reconcile.seen, &key);
}

void
nf_heal_progress (NfHeal *heal, guint64 *ret_filled, guint64 *ret_total)
{
  guint64 left = nf_index_suspects (heal->replica->share->index);

  heal->total = left == 0 ? 0 : MAX (heal->total, left);
  *ret_total = heal->total;
  *ret_filled = heal->total - left;
}
