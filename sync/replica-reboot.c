// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/replica-internal.h"

#include <errno.h>
#include <sys/stat.h>

#include "sync/boot.h"
#include "sync/checkpoint.h"
#include "sync/intents.h"
#include "sync/listing.h"
#include "sync/rebind.h"
#include "sync/sample.h"

/* Power cuts at a replica. From time to time the index is copied and then the tree brought to the disk, before the copy
 * counts: so all that it says of the tree is true after a power cut, but for what was changed since. What is left then is
 * as after a kill at the moment of the copy, and goes on as that does (replica-redo.c), with two things beside: objects
 * that were made or moved since are found by the journal's records, and whatever has a ctime since then is compared,
 * since the journal's end may be lost. */

/* How often, at most, and after how many ops in any case, if the index has changed enough for a copy. */
#define CHECKPOINT_MS (30 * 1000)
#define CHECKPOINT_OPS 16384

/* ---- before ---- */

static void
checkpoint (gpointer data)
{
  NfReplica *replica = data;
  NfShare *share = replica->share;

  /* Else a power cut costs more to look at. While this runs nf_replica_stop() waits. */
  pthread_mutex_lock (&replica->checkpoint_lock);
  if (!replica->closed && nf_index_sync_is_due (share->index))
    (void)nf_checkpoint_make_copy (share);
  pthread_mutex_unlock (&replica->checkpoint_lock);
  pthread_mutex_lock (&replica->work);
  replica->checkpoint_posted = FALSE;
  pthread_mutex_unlock (&replica->work);
  nf_replica_unref (replica);
}

void
nf_replica_checkpoint_soon (NfReplica *replica, guint ops)
{
  NfHost *host = replica->share->host;

  replica->checkpoint_ops += ops;
  if (replica->checkpoint_posted)
    return;
  replica->checkpoint_posted = TRUE;
  if (replica->checkpoint_ops < CHECKPOINT_OPS)
    {
      nf_replica_after (replica, CHECKPOINT_MS, checkpoint);
      return;
    }
  replica->checkpoint_ops = 0;
  host->post (host->data, checkpoint, nf_replica_ref (replica));
}

/* ---- after ---- */

gboolean
nf_replica_is_whole (NfReplica *replica, int *ret_err)
{
  NfShare *share = replica->share;
  NfIndex *index = share->index;
  const NfBootId boot = nf_boot_id ();
  g_autoptr (GBytes) then = nf_index_get_meta (index, "boot");
  g_autoptr (GBytes) clean = nf_index_get_meta (index, "clean");
  NfSlice id = nf_slice_str (boot.str);
  gboolean same
      = then && id.len > 0
        && nf_slice_equal (id, nf_slice (g_bytes_get_data (then, NULL), g_bytes_get_size (then)));

  *ret_err = 0;
  if (!clean && same)
    return TRUE;
  gboolean whole = clean && !nf_sample_is_another (share, nf_checkpoint_copy_time (share));
  *ret_err = nf_index_set_meta (index, "boot", id);
  if (*ret_err == 0)
    *ret_err = nf_index_set_meta (index, "clean", NF_SLICE_NONE);
  /* Or a power cut would bring "clean" back. Where it isn't whole the copy says what the former one did. */
  if (*ret_err == 0)
    *ret_err = whole ? nf_checkpoint_make_copy (share) : nf_index_sync (index);
  return whole;
}

static int
suspect (NfShare *share, const NfAttr *attr)
{
  guint32 what = NF_SUSPECT_ATTR;

  if (S_ISDIR (attr->mode))
    what |= NF_SUSPECT_NAMES;
  int err = nf_index_set_suspect (share->index, attr->fid, what, 0);
  return err == 0 && S_ISREG (attr->mode) ? nf_dirty_whole (share, attr->fid) : err;
}

/* The entries of DIR, whose directories come to DIRS. */
static int
suspect_in (NfShare *share, NfFid dir, gint64 since, GArray *dirs)
{
  g_auto (NfListing) listing = { 0 };
  int err = nf_listing_read (share->tree, dir, &listing);

  if (err == 0)
    err = nf_index_begin (share->index);
  if (err != 0)
    return err;
  for (guint i = 0; err == 0 && i < listing.entries->len; i++)
    {
      const NfAttr *attr = &nf_listing_at (&listing, i)->attr;
      if (attr->fid == NF_FID_NONE)
        continue; /* then the directory is newer, and its listing tells */
      if (attr->ctime >= since)
        err = suspect (share, attr);
      if (err == 0 && S_ISDIR (attr->mode)) /* moved since, perhaps */
        err = MIN (nf_rebind_follow (share, attr->fid, attr->mode, dir,
                                     nf_listing_name (&listing, nf_listing_at (&listing, i))),
                   0);
      if (S_ISDIR (attr->mode))
        g_array_append_val (dirs, attr->fid);
    }
  int committed = nf_index_commit (share->index);
  return err != 0 ? err : committed;
}

static int
suspect_newer (NfShare *share, gint64 since)
{
  g_autoptr (GArray) dirs = g_array_new (FALSE, FALSE, sizeof (NfFid));
  NfFid dir = NF_FID_ROOT;
  NfAttr root;
  int err = nf_tree_stat (share->tree, NF_FID_ROOT, &root);

  if (err == 0 && root.ctime >= since)
    err = suspect (share, &root);
  g_array_append_val (dirs, dir);
  while (err == 0 && dirs->len > 0)
    {
      dir = g_array_index (dirs, NfFid, dirs->len - 1);
      g_array_set_size (dirs, dirs->len - 1);
      err = suspect_in (share, dir, since, dirs);
    }
  return err;
}

/* Written over since then: no time need tell of it. */
static int
suspect_written_over (NfShare *share)
{
  g_autoptr (GArray) fids = nf_intents_list (share->intents);
  int err = 0;

  for (guint i = 0; err == 0 && i < fids->len; i++)
    {
      err = nf_dirty_whole (share, g_array_index (fids, NfFid, i));
      if (err == -ENOENT)
        err = 0; /* gone meanwhile */
    }
  return err;
}

int
nf_replica_forget_unnamed (NfReplica *replica)
{
  NfIndex *index = replica->share->index;
  NfObject object = { 0 };
  int err = nf_tree_sweep (replica->share->tree);

  if (err == 0)
    err = nf_index_begin (index);
  if (err != 0)
    return err;
  while (err == 0 && nf_index_next (index, object.fid, &object))
    if (object.place == NF_PLACE_LIMBO || object.place == NF_PLACE_STAGING)
      err = nf_index_remove (index, object.fid);
  if (err == 0)
    return nf_index_commit (index);
  nf_index_abort (index);
  return err;
}

int
nf_replica_rebind (NfReplica *replica, guint64 from)
{
  guint64 first = nf_journal_first (replica->share->journal).seq;
  guint n;

  return nf_rebind (replica->share, MAX (from, first), &n);
}

gboolean
nf_replica_goes_on (NfReplica *replica)
{
  NfShare *share = replica->share;
  gint64 since = nf_checkpoint_copy_time (share);

  return nf_index_is_restored (share->index) && since != G_MININT64
         && suspect_newer (share, since) == 0 && suspect_written_over (share) == 0
         && nf_replica_forget_unnamed (replica) == 0;
}
