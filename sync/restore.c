// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/restore.h"

#include <string.h>

#include "sync/boot.h"
#include "sync/checkpoint.h"
#include "sync/intents.h"
#include "sync/life.h"
#include "sync/replica-internal.h"
#include "sync/sample.h"

/* How long sites are waited for that haven't greeted yet. */
#define WAIT_MS 10000
/* How often it is looked whether all is here. */
#define LOOK_MS 300
/* A source that is there and doesn't bring anything for so long is given up, … */
#define STUCK_MS 15000
/* … one that isn't there, after this: it has what isn't here. */
#define GONE_MS (10 * 60 * 1000)

/* A source that says so often that it can't give anything isn't one. */
#define REFUSALS_MAX 2

/* Paths that are named if something couldn't be taken back. */
#define LEFT_SHOWN 10

typedef struct
{
  char *site;
  NfPosition position;
} Candidate;

struct NfRestore
{
  NfShare *share;
  NfLife *life;
  char *nobody; /* what conf.primary was: others may be reading it */
  pthread_mutex_t
      kept_lock;        /* innermost: taken with the replica's `work`, which is inner to `lock` */
  GHashTable *kept;     /* of fid: what the source hasn't got either; guarded by kept_lock */
  pthread_mutex_t lock; /* guards what follows */
  GArray *candidates;   /* of Candidate: who has greeted */
  gboolean demanded;    /* by a member, not since the machine went down */
  gboolean strange;     /* the data may be anybody's */
  gboolean chosen;
  gboolean gone; /* the source is cut off */
  gint refusals; /* atomic: of the source, one after the other */
  gboolean over;
  NfPosition target;       /* where the source stands */
  GHashTable *own;         /* of fid; not changed any more when there is a source */
  GHashTable *own_names;   /* of nf_key_name() */
  NfCheckpoint checkpoint; /* what hasn't been changed since then is on the disk as it was; … */
  GHashTable *changed;     /* … of fid: what the journal says has been. NULL: that isn't known */
  gint64 moved_ms;         /* the last progress, … */
  guint64 suspects;        /* … which is told by this and the position */
  guint64 seq;
};

/* ---- what the index remembers ---- */

NfRestoreState
nf_restore_state (NfShare *share)
{
  g_autoptr (GBytes) bytes = nf_index_get_meta (share->index, "restore");

  if (!bytes || g_bytes_get_size (bytes) != 1)
    return NF_RESTORE_NONE;
  return *(const guint8 *)g_bytes_get_data (bytes, NULL);
}

int
nf_restore_set_state (NfShare *share, NfRestoreState state)
{
  guint8 byte = (guint8)state;

  return nf_index_set_meta (share->index, "restore",
                            state == NF_RESTORE_NONE ? NF_SLICE_NONE : nf_slice (&byte, 1));
}

static gboolean
is_meta (NfShare *share, const char *key, NfSlice value)
{
  g_autoptr (GBytes) bytes = nf_index_get_meta (share->index, key);
  gsize len;
  const guint8 *data = bytes ? g_bytes_get_data (bytes, &len) : NULL;

  return data && nf_slice_equal (nf_slice (data, len), value);
}

gboolean
nf_restore_is_due (NfShare *share)
{
  NfPosition last = nf_journal_last (share->journal);
  guint64 clean = GUINT64_TO_LE (last.seq);
  const NfBootId boot = nf_boot_id ();

  if (!share->conf.members || !*share->conf.members
      || (last.seq == 0 && nf_restore_state (share) != NF_RESTORE_DEMANDED))
    return FALSE;
  switch (nf_restore_state (share))
    {
    case NF_RESTORE_UNDER_WAY:
    case NF_RESTORE_DEMANDED:
    case NF_RESTORE_STRANGE:
      return TRUE;
    case NF_RESTORE_DONE:
    case NF_RESTORE_ALONE:
    case NF_RESTORE_MIXED:
      return FALSE;
    default:
      break;
    }
  if (is_meta (share, "clean", nf_slice (&clean, sizeof clean)))
    return nf_sample_is_another (share, nf_checkpoint_last (share).time)
           && nf_restore_set_state (share, NF_RESTORE_STRANGE) == 0;
  return !is_meta (share, "boot", nf_slice_str (boot.str));
}

guint64
nf_restore_upto (NfShare *share)
{
  g_autoptr (GBytes) bytes = nf_index_get_meta (share->index, "restore-upto");
  guint64 seq = 0;

  if (bytes && g_bytes_get_size (bytes) == sizeof seq)
    memcpy (&seq, g_bytes_get_data (bytes, NULL), sizeof seq);
  return GUINT64_FROM_LE (seq);
}

static int
set_upto (NfShare *share, guint64 seq)
{
  guint64 stored = GUINT64_TO_LE (seq);

  return nf_index_set_meta (share->index, "restore-upto", nf_slice (&stored, sizeof stored));
}

/* ---- an earlier state ---- */

static gboolean
is_ahead (NfPosition a, NfPosition b)
{
  return a.epoch != b.epoch ? a.epoch > b.epoch : a.seq > b.seq;
}

gboolean
nf_restore_is_behind (NfShare *share, const NfHelloShare *theirs)
{
  return share->primary && theirs->role == NF_ROLE_REPLICA && theirs->position.seq > 0
         && is_ahead (theirs->position, nf_journal_last (share->journal));
}

int
nf_restore_begin_anew (NfShare *share)
{
  guint64 epoch = nf_tree_is_anew (share->tree);

  if (epoch == 0)
    return 0;
  int err = nf_restore_set_state (share, NF_RESTORE_DEMANDED);
  if (err == 0)
    err = nf_primary_set_epoch (share, epoch);
  if (err == 0)
    err = nf_index_sync (share->index);
  return err != 0 ? err : nf_tree_anew_done (share->tree);
}

void
nf_restore_demand (NfShare *share, const char *site, const NfHelloShare *theirs)
{
  NfHost *host = share->host;
  NfPosition last = nf_journal_last (share->journal);

  if (!g_atomic_int_compare_and_exchange (&share->goes_back, FALSE, TRUE))
    return;
  g_warning ("share %s: %s has ops up to %" G_GUINT64_FORMAT " of reign %" G_GUINT64_FORMAT
             ", and %s ends with %" G_GUINT64_FORMAT " of reign %" G_GUINT64_FORMAT
             ": it is an earlier state, perhaps of a backup. What is newer is taken from there",
             share->conf.name, site, theirs->position.seq, theirs->position.epoch, share->conf.dir,
             last.seq, last.epoch);
  int err = nf_restore_set_state (share, NF_RESTORE_DEMANDED);
  /* The next reign is to be newer than any that was (G5). */
  if (err == 0)
    err = nf_primary_raise_epoch (share->primary, theirs->position.epoch);
  if (err == 0 && nf_primary_is_unshared (share->primary))
    err = nf_tree_start_anew (share->tree, theirs->position.epoch);
  if (err != 0)
    g_warning ("share %s: that can't be recorded: %s", share->conf.name, g_strerror (-err));
  if (host->reopen)
    host->reopen (host->data, share);
}

/* ---- what is our own ---- */

void
nf_restore_keep (NfRestore *restore, NfFid fid)
{
  pthread_mutex_lock (&restore->kept_lock);
  g_hash_table_add (restore->kept, g_memdup2 (&fid, sizeof fid));
  pthread_mutex_unlock (&restore->kept_lock);
}

static int
set_kept (NfRestore *restore)
{
  g_auto (NfBuf) buf = NF_BUF_INIT;
  GHashTableIter iter;
  gpointer key;

  pthread_mutex_lock (&restore->kept_lock);
  g_hash_table_iter_init (&iter, restore->kept);
  while (g_hash_table_iter_next (&iter, &key, NULL))
    nf_buf_put_u64 (&buf, *(NfFid *)key);
  pthread_mutex_unlock (&restore->kept_lock);
  return nf_index_set_meta (restore->share->index, "restore-kept", nf_buf_slice (&buf));
}

static void
read_kept (NfShare *share, GHashTable *fids)
{
  g_autoptr (GBytes) bytes = nf_index_get_meta (share->index, "restore-kept");
  gsize len = 0;
  const guint8 *data = bytes ? g_bytes_get_data (bytes, &len) : NULL;
  NfReader reader = nf_reader (nf_slice (data, len));

  while (nf_reader_left (&reader) >= sizeof (NfFid))
    {
      NfFid fid = nf_reader_u64 (&reader);
      g_hash_table_add (fids, g_memdup2 (&fid, sizeof fid));
    }
}

typedef struct
{
  guint64 last;
  GHashTable *fids;
  GHashTable *names; /* may be NULL */
} Own;

GHashTable *
nf_restore_keys_new (void)
{
  return g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
}

static void
add_key (GHashTable *keys, guint64 key)
{
  if (keys && key != NF_FID_NONE)
    g_hash_table_add (keys, g_memdup2 (&key, sizeof key));
}

static gboolean
note_own (NfPosition position, NfSlice bytes, gpointer data)
{
  Own *own = data;
  NfRecord record;

  if (position.seq > own->last)
    return FALSE;
  if (!nf_record_decode (bytes, &record))
    return TRUE;
  /* A file that was only renamed is what it was. */
  if (record.kind != NF_OP_NAMES || record.creates)
    add_key (own->fids, record.fid);
  for (guint i = 0; i < record.n_names; i++)
    {
      add_key (own->fids, record.names[i].parent);
      add_key (own->names, nf_key_name (record.names[i].parent, record.names[i].name));
    }
  return TRUE;
}

int
nf_restore_read_kept (NfShare *share, guint64 from, guint64 last, GHashTable *fids)
{
  read_kept (share, fids);
  return nf_restore_read_own (share, from, last, fids, NULL);
}

int
nf_restore_read_own (NfShare *share, guint64 from, guint64 last, GHashTable *fids,
                     GHashTable *names)
{
  Own own = { last, fids, names };

  return nf_journal_read (share->journal, from, note_own, &own);
}

gboolean
nf_restore_is_own (NfRestore *restore, NfFid fid)
{
  return restore && g_hash_table_contains (restore->own, &fid);
}

gboolean
nf_restore_is_own_name (NfRestore *restore, NfFid parent, NfSlice name)
{
  guint64 key = nf_key_name (parent, name);

  return restore && g_hash_table_contains (restore->own_names, &key);
}

/* ---- what is certain ---- */

static void
read_changed (NfRestore *restore)
{
  NfJournal *journal = restore->share->journal;
  guint64 mark = restore->checkpoint.mark;

  if (restore->checkpoint.time == G_MININT64 || mark < nf_journal_first (journal).seq)
    return;
  restore->changed = nf_restore_keys_new ();
  if (nf_restore_read_own (restore->share, mark, nf_journal_last (journal).seq, restore->changed,
                           NULL)
      != 0)
    g_clear_pointer (&restore->changed, g_hash_table_unref);
}

gboolean
nf_restore_trusts (NfRestore *restore, NfFid fid, const NfAttr *there)
{
  NfAttr here;

  return restore && restore->changed && !g_hash_table_contains (restore->changed, &fid)
         && !nf_intents_has (restore->share->intents, fid)
         && nf_tree_stat (restore->share->tree, fid, &here) == 0
         && here.ctime < restore->checkpoint.time && here.size == there->size
         && here.mtime == there->mtime;
}

/* ---- the end ---- */

static void
say_what_is_left (NfShare *share)
{
  NfObject object = { 0 };

  for (guint i = 0; i < LEFT_SHOWN && nf_index_next_suspect (share->index, object.fid, &object);
       i++)
    {
      g_autofree char *path = nf_index_path (share->index, object.fid);
      g_warning ("share %s: it isn't known whether /%s is as it was (%" G_GUINT64_FORMAT ", %x)",
                 share->conf.name, path ? path : "?", object.fid, object.suspect);
    }
}

/* What is here is the truth from now on. */
static int
believe_all (NfShare *share)
{
  NfObject object = { 0 };
  int err = nf_index_begin (share->index);

  if (err != 0)
    return err;
  while (err == 0 && nf_index_next_suspect (share->index, object.fid, &object))
    err = nf_index_set_suspect (share->index, object.fid, 0, ~0u);
  if (err == 0)
    return nf_index_commit (share->index);
  nf_index_abort (share->index);
  return err;
}

static gboolean
has_kept (NfRestore *restore)
{
  pthread_mutex_lock (&restore->kept_lock);
  gboolean any = g_hash_table_size (restore->kept) > 0;
  pthread_mutex_unlock (&restore->kept_lock);
  return any;
}

/* With the lock. */
static void
end (NfRestore *restore, NfRestoreState state)
{
  NfShare *share = restore->share;
  NfHost *host = share->host;
  int err;

  if (restore->chosen)
    say_what_is_left (share);
  err = believe_all (share);
  if (err == 0 && state != NF_RESTORE_ALONE)
    err = set_upto (share, restore->target.seq);
  if (err == 0)
    err = set_kept (restore);
  if (err == 0)
    err = nf_restore_set_state (share, state);
  if (err != 0)
    {
      g_warning ("share %s: that it is restored can't be recorded: %s", share->conf.name,
                 g_strerror (-err));
      return; /* tried again */
    }
  restore->over = TRUE;
  if (state != NF_RESTORE_ALONE)
    g_message ("share %s: what was lost has been taken from %s, up to op %" G_GUINT64_FORMAT,
               share->conf.name, share->conf.primary, restore->target.seq);
  else
    g_message ("share %s: no site could give what may be lost: going on with what is here",
               share->conf.name);
  if (host->reopen)
    host->reopen (host->data, share);
}

/* ---- choosing ---- */

static const char *
why (const NfRestore *restore)
{
  return restore->demanded ? "the directory is in an earlier state" : "the machine went down";
}

/* Is it of our history, and is what is missing here there, or the other way round? */
static gboolean
is_usable (NfRestore *restore, NfPosition position)
{
  NfShare *share = restore->share;
  NfPosition ours;

  if (position.seq == 0)
    return FALSE;
  if (!is_ahead (nf_journal_last (share->journal), position))
    return TRUE; /* whether it is of our history the source finds out */
  return nf_journal_position_at (share->journal, position.seq, &ours)
         && ours.epoch == position.epoch && ours.chain == position.chain;
}

/* The source stands at POSITION: of what our own journal has beyond, nothing comes from there. */
static int
go_back (NfRestore *restore, NfPosition position)
{
  NfShare *share = restore->share;
  NfReplica *replica = share->replica;
  NfPosition own = nf_journal_last (share->journal);

  if (!is_ahead (own, position))
    return 0;
  pthread_mutex_lock (&replica->work);
  replica->received = replica->loaded = position;
  pthread_mutex_lock (&replica->lock);
  replica->applied = position;
  pthread_mutex_unlock (&replica->lock);
  pthread_mutex_unlock (&replica->work);
  return nf_restore_read_own (share, position.seq, own.seq, restore->own, restore->own_names);
}

/* With the lock. */
static void
choose (NfRestore *restore)
{
  NfShare *share = restore->share;
  NfPosition own = nf_journal_last (share->journal);
  const Candidate *best = NULL;

  for (guint i = 0; i < restore->candidates->len; i++)
    {
      const Candidate *candidate = &g_array_index (restore->candidates, Candidate, i);
      if (is_usable (restore, candidate->position)
          && (!best || is_ahead (candidate->position, best->position)))
        best = candidate;
    }
  if (!best || go_back (restore, best->position) != 0)
    {
      end (restore, NF_RESTORE_ALONE);
      return;
    }
  restore->chosen = TRUE;
  restore->target = best->position;
  restore->moved_ms = share->host->monotonic_ms (share->host->data);
  g_message ("share %s: %s; what may be lost is taken from %s, which has all up to "
             "op %" G_GUINT64_FORMAT " (here the journal ends with %" G_GUINT64_FORMAT ")",
             share->conf.name, why (restore), best->site, best->position.seq, own.seq);
  nf_share_follow (share, best->site);
}

static guint
n_members (NfShare *share)
{
  return share->conf.members ? g_strv_length ((char **)share->conf.members) : 0;
}

static void
forget (NfRestore *restore, const char *site)
{
  for (guint i = 0; i < restore->candidates->len; i++)
    if (g_str_equal (g_array_index (restore->candidates, Candidate, i).site, site))
      {
        g_free (g_array_index (restore->candidates, Candidate, i).site);
        g_array_remove_index (restore->candidates, i);
        break;
      }
}

/* With the lock. The source is gone, but here is another site that has as much. */
static void
choose_another (NfRestore *restore, const Candidate *candidate)
{
  if (candidate->position.seq == 0 || is_ahead (restore->target, candidate->position))
    return;
  restore->target = candidate->position;
  g_message ("share %s: what may be lost is taken from %s now", restore->share->conf.name,
             candidate->site);
  nf_share_follow (restore->share, candidate->site);
}

void
nf_restore_peer_up (NfRestore *restore, const char *site, const NfHelloShare *theirs)
{
  Candidate candidate = { g_strdup (site), theirs->position };

  pthread_mutex_lock (&restore->lock);
  forget (restore, site);
  g_array_append_val (restore->candidates, candidate);
  if (!restore->chosen && !restore->over && restore->candidates->len == n_members (restore->share))
    choose (restore);
  else if (restore->gone && !restore->over)
    {
      restore->moved_ms = restore->share->host->monotonic_ms (restore->share->host->data);
      restore->gone = FALSE;
      if (!g_str_equal (site, restore->share->conf.primary))
        choose_another (restore, &candidate);
      restore->gone = !g_str_equal (site, restore->share->conf.primary);
    }
  pthread_mutex_unlock (&restore->lock);
}

void
nf_restore_refused (NfRestore *restore)
{
  g_atomic_int_inc (&restore->refusals);
}

/* With the lock. Another site, or none. */
static void
do_without_source (NfRestore *restore)
{
  g_message ("share %s: %s can't give what may be lost", restore->share->conf.name,
             restore->share->conf.primary);
  g_atomic_int_set (&restore->refusals, 0);
  forget (restore, restore->share->conf.primary);
  choose (restore);
}

void
nf_restore_peer_down (NfRestore *restore, const char *site)
{
  pthread_mutex_lock (&restore->lock);
  forget (restore, site);
  if (restore->chosen && g_str_equal (site, restore->share->conf.primary))
    restore->gone = TRUE;
  pthread_mutex_unlock (&restore->lock);
}

/* ---- going on ---- */

static gboolean
is_in_step (NfReplica *replica, guint64 seq)
{
  pthread_mutex_lock (&replica->work);
  gboolean in_step = replica->subscribed && replica->undone.length == 0
                     && replica->received.seq >= seq && replica->loaded.seq == replica->received.seq
                     && nf_index_suspects (replica->share->index) == 0;
  pthread_mutex_unlock (&replica->work);
  return in_step;
}

/* With the lock. */
static gboolean
is_stuck (NfRestore *restore, gint64 now_ms)
{
  guint64 suspects = nf_index_suspects (restore->share->index);
  guint64 seq = nf_journal_last (restore->share->journal).seq;

  if (suspects < restore->suspects || seq != restore->seq)
    {
      restore->moved_ms = now_ms;
      restore->suspects = suspects;
    }
  restore->seq = seq;
  return now_ms - restore->moved_ms > (restore->gone ? GONE_MS : STUCK_MS);
}

static void
look (gpointer data)
{
  NfLife *life = data;
  NfRestore *restore = nf_life_enter (life);

  if (!restore)
    {
      nf_life_unref (life);
      return;
    }
  NfHost *host = restore->share->host;
  gint64 now_ms = host->monotonic_ms (host->data);
  pthread_mutex_lock (&restore->lock);
  if (!restore->over && !restore->chosen && now_ms - restore->moved_ms > WAIT_MS)
    choose (restore);
  else if (!restore->over && restore->chosen)
    {
      if (g_atomic_int_get (&restore->refusals) >= REFUSALS_MAX)
        do_without_source (restore);
      else if (is_in_step (restore->share->replica, restore->target.seq))
        /* What the source hadn't got may be whole at another site, and here it may not be: nobody may throw it away. */
        end (restore, has_kept (restore) ? NF_RESTORE_MIXED : NF_RESTORE_DONE);
      else if (is_stuck (restore, now_ms))
        end (restore, NF_RESTORE_MIXED);
    }
  gboolean over = restore->over;
  pthread_mutex_unlock (&restore->lock);
  nf_life_leave (life);
  if (over)
    nf_life_unref (life);
  else
    host->post_after (host->data, LOOK_MS, look, life);
}

gboolean
nf_restore_keeps_all (NfRestore *restore)
{
  return restore->strange;
}

gboolean
nf_restore_is_over (NfRestore *restore)
{
  pthread_mutex_lock (&restore->lock);
  gboolean over = restore->over;
  pthread_mutex_unlock (&restore->lock);
  return over;
}

void
nf_restore_describe (NfRestore *restore, char *ret_text, gsize size)
{
  pthread_mutex_lock (&restore->lock);
  if (restore->chosen)
    g_snprintf (ret_text, size, "%s: what may be lost is taken from %s", why (restore),
                restore->share->conf.primary);
  else
    g_snprintf (ret_text, size, "%s: waiting for the sites that may have what was lost",
                why (restore));
  pthread_mutex_unlock (&restore->lock);
}

/* ---- beginning and end ---- */

NfRestore *
nf_restore_new (NfShare *share)
{
  NfRestore *restore = g_new0 (NfRestore, 1);
  NfHost *host = share->host;

  restore->share = share;
  restore->life = nf_life_new (restore);
  restore->candidates = g_array_new (FALSE, FALSE, sizeof (Candidate));
  restore->suspects = G_MAXUINT64;
  restore->own = nf_restore_keys_new ();
  restore->own_names = nf_restore_keys_new ();
  restore->kept = nf_restore_keys_new ();
  restore->strange = nf_restore_state (share) == NF_RESTORE_STRANGE;
  restore->demanded = restore->strange || nf_restore_state (share) == NF_RESTORE_DEMANDED;
  restore->checkpoint = nf_checkpoint_last (share);
  if (!restore
           ->demanded) /* else the checkpoint may be of a time that never was, as this directory has it */
    read_changed (restore);
  restore->moved_ms = host->monotonic_ms (host->data);
  pthread_mutex_init (&restore->lock, NULL);
  pthread_mutex_init (&restore->kept_lock, NULL);
  share->conf.role = NF_ROLE_REPLICA;
  restore->nobody = (char *)share->conf.primary;
  restore->nobody[0] = '\0';
  if (!restore->demanded)
    (void)nf_restore_set_state (share, NF_RESTORE_UNDER_WAY);
  return restore;
}

void
nf_restore_start (NfRestore *restore)
{
  NfHost *host = restore->share->host;

  host->post_after (host->data, LOOK_MS, look, nf_life_ref (restore->life));
}

void
nf_restore_free (NfRestore *restore)
{
  nf_life_end (restore->life);
  nf_life_unref (restore->life);
  for (guint i = 0; i < restore->candidates->len; i++)
    g_free (g_array_index (restore->candidates, Candidate, i).site);
  g_array_unref (restore->candidates);
  g_hash_table_unref (restore->own);
  g_hash_table_unref (restore->own_names);
  g_hash_table_unref (restore->kept);
  g_clear_pointer (&restore->changed, g_hash_table_unref);
  if (restore->nobody != restore->share->conf.primary)
    g_free (restore->nobody);
  pthread_mutex_destroy (&restore->lock);
  pthread_mutex_destroy (&restore->kept_lock);
  g_free (restore);
}
