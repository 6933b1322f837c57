// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/check-private.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "sync/check-primary.h"

/* Nothing waits for a comparison. A listing is looked at when all ops up to its seq are applied here; what differs
 * then may still be an op's work, since the entries of a listing are read after its seq. So the directory is listed a
 * second time: what differs again, being at the primary what it was, and touched by no op since, is damage.
 *
 * Repair is the healer's: here only what differs is made suspect, when what can't be had again lies in the
 * quarantine. When nothing is suspect any more the directories with findings are compared once more.
 *
 * Everything runs with the replica's `work` lock. */

/* Listings and files under way at one time. */
#define LISTS_MAX 16
#define FILES_MAX 16
/* How often what changes all the time is looked at. */
#define TRIES_MAX 6
/* Healing that comes no further for so long is given up on. */
#define STUCK_MS 60000
#define TICK_MS 1000
#define RATE_TICK_MS 50
/* Ids of ours among those of the healer and of transfers. */
#define ID_BIT (G_GUINT64_CONSTANT (1) << 63)

const char *const nf_find_codes[NF_FIND_N]
    = { "missing", "surplus", "identity", "type",  "target",  "size",  "content",
        "mtime",   "mode",    "owner",    "xattr", "foreign", "moved", "removed" };

/* ---- what there is to do ---- */

static void
dir_free (gpointer data)
{
  NfCheckDir *dir = data;

  g_clear_pointer (&dir->only, g_bytes_unref);
  g_hash_table_unref (dir->doubts);
  g_hash_table_unref (dir->told);
  g_clear_pointer (&dir->frames, g_ptr_array_unref);
  g_array_unref (dir->below_it);
  g_free (dir);
}

static void
file_free (gpointer data)
{
  NfCheckFile *file = data;

  g_bytes_unref (file->name);
  g_clear_pointer (&file->hashes, g_bytes_unref);
  g_free (file);
}

static void
repair_free (gpointer data)
{
  NfCheckRepair *repair = data;

  g_bytes_unref (repair->name);
  g_free (repair);
}

static void
queue_dir (NfCheck *check, NfFid fid, gboolean below)
{
  NfCheckDir *dir = g_new0 (NfCheckDir, 1);

  dir->fid = fid;
  dir->below = below;
  dir->below_it = g_array_new (FALSE, FALSE, sizeof (NfFid));
  dir->only = check->only ? g_bytes_ref (check->only) : NULL;
  dir->told = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
  dir->doubts = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, g_free);
  g_queue_push_head (&check->dirs, dir); /* depth first: fewer wait */
}

void
nf_check_queue_file (NfCheck *check, NfFid parent, const NfDirEntry *entry)
{
  NfCheckFile *file = g_new0 (NfCheckFile, 1);

  file->fid = entry->attr.fid;
  file->parent = parent;
  file->name = g_bytes_new (entry->name.data, entry->name.len);
  g_queue_push_tail (&check->files, file);
}

void
nf_check_queue_below (NfCheck *check, NfFid fid)
{
  if (check->phase == NF_CHECK_COMPARING
      && g_hash_table_add (check->queued, g_memdup2 (&fid, sizeof fid)))
    queue_dir (check, fid, TRUE);
}

gboolean
nf_check_is_touched (NfCheck *check, NfFid fid, guint64 seq)
{
  const guint64 *touched = g_hash_table_lookup (check->touched, &fid);

  return touched && *touched > seq;
}

static void
touch (NfCheck *check, NfFid fid, guint64 seq)
{
  if (fid != NF_FID_NONE)
    g_hash_table_insert (check->touched, g_memdup2 (&fid, sizeof fid),
                         g_memdup2 (&seq, sizeof seq));
}

void
nf_check_note (NfCheck *check, const NfRecord *record)
{
  if (!check)
    return;
  touch (check, record->fid, record->seq);
  for (guint i = 0; i < record->n_names; i++)
    {
      touch (check, record->names[i].parent, record->seq);
      touch (check, record->names[i].fid, record->seq);
    }
}

/* ---- asking ---- */

static guint64
applied_seq (NfCheck *check)
{
  return nf_replica_position (check->replica->share->replica).seq;
}

static gboolean
ask_listing (NfCheck *check, NfCheckDir *dir)
{
  NfMsg msg = { .type = NF_MSG_LIST };

  dir->id = ID_BIT | check->next_id++;
  g_clear_pointer (&dir->frames, g_ptr_array_unref);
  dir->frames = g_ptr_array_new_with_free_func ((GDestroyNotify)g_bytes_unref);
  dir->complete = FALSE;
  msg.list.share = check->replica->share->conf.id;
  msg.list.id = dir->id;
  msg.list.fid = dir->fid;
  msg.list.flags = check->options.content ? 0 : NF_LIST_NO_CONTENT;
  msg.list.digest = dir->tries == 0 && !dir->only ? nf_check_digest (check, dir) : 0;
  g_hash_table_insert (check->listing, &dir->id, dir);
  return nf_replica_send (check->replica, TRUE, &msg);
}

static gboolean
ask_hashes (NfCheck *check, NfCheckFile *file)
{
  NfMsg msg = { .type = NF_MSG_HASH };

  file->id = ID_BIT | check->next_id++;
  g_clear_pointer (&file->hashes, g_bytes_unref);
  msg.hash.share = check->replica->share->conf.id;
  msg.hash.id = file->id;
  msg.hash.fid = file->fid;
  msg.hash.offset = file->offset;
  msg.hash.length = NF_HASH_SPAN;
  msg.hash.block = NF_HASH_BLOCK;
  g_hash_table_insert (check->hashing, &file->id, file);
  return nf_replica_send (check->replica, TRUE, &msg);
}

gboolean
nf_check_listed (NfCheck *check, const NfMsg *msg)
{
  guint64 id = msg->listed.id;
  NfCheckDir *dir = check ? g_hash_table_lookup (check->listing, &id) : NULL;

  if (!dir)
    return (id & ID_BIT) != 0;
  dir->seq = msg->listed.seq;
  dir->status = -nf_status_to_errno (msg->listed.status);
  g_ptr_array_add (dir->frames, g_bytes_new (msg->listed.entries.data, msg->listed.entries.len));
  dir->same = msg->listed.flags & NF_FLAG_SAME;
  dir->complete = dir->status != 0 || (msg->listed.flags & NF_FLAG_LAST);
  return TRUE;
}

gboolean
nf_check_hashed (NfCheck *check, const NfMsg *msg)
{
  guint64 id = msg->hashed.id;
  NfCheckFile *file = check ? g_hash_table_lookup (check->hashing, &id) : NULL;

  if (!file)
    return (id & ID_BIT) != 0;
  file->seq = msg->hashed.seq;
  file->size = msg->hashed.size;
  file->status = -nf_status_to_errno (msg->hashed.status);
  if (msg->hashed.block != NF_HASH_BLOCK || msg->hashed.offset != file->offset)
    file->status = -EBADMSG;
  file->hashes = g_bytes_new (msg->hashed.hashes.data, msg->hashed.hashes.len);
  return TRUE;
}

/* ---- going on ---- */

static void
end (NfCheck *check, int status)
{
  NfReplica *replica = check->replica;

  replica->check = NULL;
  check->events.ended (check->data, status, &check->counts);
  g_hash_table_unref (check->listing);
  g_hash_table_unref (check->hashing);
  g_hash_table_unref (check->touched);
  g_hash_table_unref (check->again);
  g_hash_table_unref (check->queued);
  g_queue_clear_full (&check->dirs, dir_free);
  g_queue_clear_full (&check->files, file_free);
  g_queue_clear_full (&check->repairs, repair_free);
  g_clear_pointer (&check->only, g_bytes_unref);
  g_free (check);
}

/* A listing that told all there is to tell goes; one that left doubts is asked for again. */
static gboolean
settle_dir (NfCheck *check, NfCheckDir *dir)
{
  if (dir->status == 0 && dir->same)
    nf_check_same_dir (check, dir);
  gboolean doubts = dir->status == 0 && !dir->same && nf_check_compare_dir (check, dir);

  if (!doubts)
    {
      dir_free (dir);
      return TRUE;
    }
  if (++dir->tries < TRIES_MAX)
    return ask_listing (check, dir);
  check->counts.busy += g_hash_table_size (dir->doubts);
  dir_free (dir);
  return TRUE;
}

static gboolean
settle_file (NfCheck *check, NfCheckFile *file)
{
  NfCheckNext next = file->status == 0 ? nf_check_compare_file (check, file) : NF_CHECK_DONE;

  if (next == NF_CHECK_AGAIN && ++file->tries >= TRIES_MAX)
    {
      check->counts.busy++;
      next = NF_CHECK_DONE;
    }
  if (next != NF_CHECK_DONE)
    return ask_hashes (check, file);
  file_free (file);
  return TRUE;
}

/* Those whose answers are here, and the ops that they know of, too. FALSE: the link is gone. */
static gboolean
settle_answers (NfCheck *check)
{
  g_autoptr (GPtrArray) dirs = g_ptr_array_new ();
  g_autoptr (GPtrArray) files = g_ptr_array_new ();
  guint64 applied = applied_seq (check);
  gboolean up = TRUE;
  GHashTableIter iter;
  gpointer value;

  g_hash_table_iter_init (&iter, check->listing);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    {
      NfCheckDir *dir = value;
      if (dir->complete && dir->seq <= applied)
        {
          g_hash_table_iter_steal (&iter);
          g_ptr_array_add (dirs, dir);
        }
    }
  g_hash_table_iter_init (&iter, check->hashing);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    {
      NfCheckFile *file = value;
      if (file->hashes && file->seq <= applied)
        {
          g_hash_table_iter_steal (&iter);
          g_ptr_array_add (files, file);
        }
    }
  for (guint i = 0; i < dirs->len; i++)
    up &= settle_dir (check, dirs->pdata[i]);
  for (guint i = 0; i < files->len; i++)
    up &= settle_file (check, files->pdata[i]);
  return up;
}

/* It has come further than the rate allows by now. What is under way isn't counted yet, so that is little then. */
static gboolean
is_ahead_of_rate (NfCheck *check)
{
  guint64 done = check->counts.bytes + check->counts.entries * NF_CHECK_ENTRY_COST;
  gint64 ms = nf_replica_now_ms (check->replica) - check->begun_ms;

  return check->options.rate != 0 && (double)done * 1000 > (double)check->options.rate * (double)ms;
}

static gboolean
ask_more (NfCheck *check)
{
  guint lists = check->options.rate != 0 ? 1 : LISTS_MAX;
  guint files = check->options.rate != 0 ? 1 : FILES_MAX;
  gboolean up = TRUE;

  if (is_ahead_of_rate (check))
    return TRUE; /* tick() goes on */
  while (up && check->dirs.length > 0 && g_hash_table_size (check->listing) < lists)
    up = ask_listing (check, g_queue_pop_head (&check->dirs));
  while (up && check->files.length > 0 && g_hash_table_size (check->hashing) < files)
    up = ask_hashes (check, g_queue_pop_head (&check->files));
  return up;
}

static gboolean
is_compared (NfCheck *check)
{
  return check->dirs.length == 0 && check->files.length == 0
         && g_hash_table_size (check->listing) == 0 && g_hash_table_size (check->hashing) == 0;
}

static void
begin_healing (NfCheck *check)
{
  NfCheckRepair *repair;

  check->phase = NF_CHECK_HEALING;
  while ((repair = g_queue_pop_head (&check->repairs)))
    {
      nf_check_repair (check, repair);
      repair_free (repair);
    }
}

/* All that had findings is compared once more. */
static void
begin_verifying (NfCheck *check)
{
  GHashTableIter iter;
  gpointer key;

  check->phase = NF_CHECK_VERIFYING;
  g_hash_table_iter_init (&iter, check->again);
  while (g_hash_table_iter_next (&iter, &key, NULL))
    queue_dir (check, *(NfFid *)key, FALSE);
}

static gboolean
nothing_suspect (NfCheck *check)
{
  guint64 suspects = nf_index_suspects (check->replica->share->index);

  if (suspects != check->suspects)
    {
      check->suspects = suspects;
      check->moved_ms = nf_replica_now_ms (check->replica);
    }
  return suspects == 0;
}

static void
next_phase (NfCheck *check)
{
  switch (check->phase)
    {
    case NF_CHECK_HEALING_FIRST:
      check->phase = NF_CHECK_COMPARING;
      break;
    case NF_CHECK_COMPARING:
      begin_healing (check);
      break;
    case NF_CHECK_HEALING:
      begin_verifying (check);
      break;
    default:
      check->phase = NF_CHECK_OVER;
      break;
    }
}

static gboolean
phase_is_over (NfCheck *check)
{
  if (check->phase == NF_CHECK_HEALING_FIRST || check->phase == NF_CHECK_HEALING)
    return nothing_suspect (check);
  return is_compared (check);
}

void
nf_check_pump (NfCheck *check)
{
  gboolean up = TRUE;

  if (!check)
    return;
  if (!check->replica->subscribed)
    {
      end (check, -EHOSTUNREACH);
      return;
    }
  up = settle_answers (check);
  while (up && check->phase != NF_CHECK_OVER && phase_is_over (check))
    {
      next_phase (check);
      if (check->phase == NF_CHECK_COMPARING || check->phase == NF_CHECK_VERIFYING)
        up = ask_more (check);
    }
  if (up && check->phase != NF_CHECK_HEALING_FIRST && check->phase != NF_CHECK_HEALING)
    up = ask_more (check);
  if (!up)
    end (check, -EHOSTUNREACH);
  else if (check->phase == NF_CHECK_OVER)
    end (check, 0);
}

static guint
tick_ms (const NfCheck *check)
{
  return check->options.rate != 0 ? RATE_TICK_MS : TICK_MS;
}

/* Healing may stand still, or the rate be reached, and nobody call nf_check_pump() then. */
static void
tick (gpointer data)
{
  NfReplica *replica = data;

  pthread_mutex_lock (&replica->work);
  NfCheck *check = replica->check;
  gboolean healing
      = check && (check->phase == NF_CHECK_HEALING_FIRST || check->phase == NF_CHECK_HEALING);
  if (check && !replica->closed)
    {
      if (healing && !nothing_suspect (check)
          && nf_replica_now_ms (replica) - check->moved_ms > STUCK_MS)
        end (check, -EAGAIN);
      else
        nf_replica_settle (replica);
      if (replica->check)
        nf_replica_after (replica, tick_ms (replica->check), tick);
    }
  pthread_mutex_unlock (&replica->work);
  nf_replica_unref (replica);
}

/* ---- beginning and end ---- */

/* PATH by what is here. */
static int
resolve (NfReplica *replica, const char *path, NfFid *ret_dir, GBytes **ret_only)
{
  g_auto (GStrv) parts = g_strsplit (path, "/", -1);
  NfAttr attr = { .fid = NF_FID_ROOT, .mode = S_IFDIR };
  int err = 0;

  *ret_only = NULL;
  for (guint i = 0; err == 0 && parts[i]; i++)
    {
      if (parts[i][0] == '\0')
        continue;
      *ret_dir = attr.fid;
      err = S_ISDIR (attr.mode) ? nf_tree_lookup (replica->share->tree, *ret_dir,
                                                  nf_slice_str (parts[i]), &attr, NULL)
                                : -ENOTDIR;
      if (err == 0 && !(S_ISDIR (attr.mode) && attr.fid != NF_FID_NONE) && !parts[i + 1])
        *ret_only = g_bytes_new (parts[i], strlen (parts[i]));
    }
  if (err == 0 && !*ret_only)
    *ret_dir = attr.fid;
  return err;
}

int
nf_check_start (NfReplica *replica, const char *path, const NfCheckOptions *options,
                const NfCheckEvents *events, gpointer data)
{
  GBytes *only = NULL;
  NfFid dir = NF_FID_ROOT;
  int err = replica->check ? -EBUSY : !replica->subscribed ? -EHOSTUNREACH : 0;

  if (err == 0)
    err = resolve (replica, path, &dir, &only);
  if (err != 0)
    return err;
  NfCheck *check = replica->check = g_new0 (NfCheck, 1);
  check->replica = replica;
  check->options = *options;
  check->events = *events;
  check->data = data;
  check->next_id = 1;
  check->listing = g_hash_table_new_full (g_int64_hash, g_int64_equal, NULL, dir_free);
  check->hashing = g_hash_table_new_full (g_int64_hash, g_int64_equal, NULL, file_free);
  check->touched = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, g_free);
  check->queued = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
  check->again = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
  check->moved_ms = nf_replica_now_ms (replica);
  check->counts.total = nf_index_count (replica->share->index);
  check->only = only;
  queue_dir (check, dir, FALSE);
  check->begun_ms = check->moved_ms;
  nf_replica_after (replica, tick_ms (check), tick);
  nf_check_pump (check);
  return 0;
}

void
nf_check_end (NfCheck *check)
{
  if (check)
    end (check, -ECANCELED);
}

/* ---- the share's side ---- */

int
nf_share_check (NfShare *share, const char *path, const NfCheckOptions *options,
                const NfCheckEvents *events, gpointer data)
{
  NfReplica *replica = share->replica;
  int err = -EOPNOTSUPP;

  if (share->primary)
    return nf_primary_check (share->primary, path, options, events, data);
  if (!replica || !share->tree)
    return err;
  pthread_mutex_lock (&replica->work);
  err = replica->closed ? -EHOSTUNREACH : nf_check_start (replica, path, options, events, data);
  pthread_mutex_unlock (&replica->work);
  return err;
}

gboolean
nf_share_check_counts (NfShare *share, NfCheckCounts *ret_counts)
{
  NfReplica *replica = share->replica;
  gboolean any = FALSE;

  memset (ret_counts, 0, sizeof *ret_counts);
  if (share->primary)
    return nf_primary_check_counts (share->primary, ret_counts);
  if (!replica)
    return FALSE;
  pthread_mutex_lock (&replica->work);
  if (replica->check)
    {
      *ret_counts = replica->check->counts;
      any = TRUE;
    }
  pthread_mutex_unlock (&replica->work);
  return any;
}

void
nf_share_check_cancel (NfShare *share)
{
  NfReplica *replica = share->replica;

  if (share->primary)
    nf_primary_check_cancel (share->primary);
  if (!replica)
    return;
  pthread_mutex_lock (&replica->work);
  nf_check_end (replica->check);
  pthread_mutex_unlock (&replica->work);
}
