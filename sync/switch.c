// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/reconcile.h"
#include "sync/replica-internal.h"
#include "sync/intents.h"
#include "sync/times.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

/* Switching in what a transfer has gathered, as the file stood at one seq.
 *
 * Each segment is as of its own stamp, which is at most that seq; each of the ops that wait, up to that seq, is newer
 * than some segments and older than others. So the ops go over what is older than they are: over the staging file
 * where a segment was staged before them, over the file itself where nothing was fetched. What was fetched after them
 * has them in it.
 *
 * Then the staging file becomes the file, if it has all of it: readers see the new content at once, and those who
 * have it open keep the old. Otherwise what is staged is copied into the file, which is suspect until that is done. */

#define COPY_SIZE (256 * 1024)

typedef struct
{
  NfReplica *replica;
  NfTransfer *transfer;
  guint64 seq;
  int file;       /* descriptor of the file itself */
  struct stat st; /* of it, before */
  guint64 size;   /* afterwards */
  gint64 mtime;
  gboolean foreign; /* something that the local kernel doesn't know */
} Switch;

/* ---- what the file is to be ---- */

static void
find_attributes (Switch *sw)
{
  const NfTransfer *transfer = sw->transfer;
  guint64 known = transfer->attr_seq;
  gboolean keep_mtime = nf_replica_stamp (sw->replica, transfer->fid)->attr >= sw->seq;

  sw->size = known > 0 ? transfer->attr.size : (guint64)sw->st.st_size;
  sw->mtime = nf_time_ns (sw->st.st_mtim);
  if (known > 0 && known >= transfer->timed_seq && !keep_mtime)
    sw->mtime = transfer->attr.mtime;
  if (transfer->hash_seq > known)
    {
      known = transfer->hash_seq;
      sw->size = transfer->hash_size;
    }
  if (transfer->noted_seq > known)
    {
      known = transfer->noted_seq;
      sw->size = transfer->noted_size;
    }
  sw->foreign = transfer->heals;
  for (GList *l = transfer->ops.head; l; l = l->next)
    {
      const NfOp *op = l->data;
      if (op->position.seq > sw->seq)
        break;
      sw->foreign |= !nf_op_is_told (sw->replica, op);
      if (op->position.seq <= known)
        continue;
      sw->size = op->record.attr.size;
      if (op->record.kind == NF_OP_DATA && !keep_mtime)
        sw->mtime = op->record.attr.mtime;
    }
}

/* ---- ops over segments ---- */

/* PART of OP to FD. */
static int
write_part (int fd, const NfOp *op, guint64 start, guint64 end)
{
  const NfRecord *record = &op->record;

  if (record->kind != NF_OP_DATA)
    return nf_apply_range (fd, NF_RANGE_HOLE, start, end - start, NF_SLICE_NONE);
  if (record->range == NF_RANGE_DATA)
    return nf_apply_write (fd, start,
                           nf_slice (op->data.data + (start - record->offset), end - start));
  return nf_apply_range (fd, record->range, start, end - start, NF_SLICE_NONE);
}

static int
write_over_segment (Switch *sw, const NfOp *op, const NfSegment *segment, guint64 start,
                    guint64 end)
{
  if (segment->stamp >= op->position.seq)
    return 0;
  /* What is still wanted is wanted by later ops, and will have this one in it. */
  if (segment->state == NF_SEG_LOCAL || segment->state == NF_SEG_NONE)
    return write_part (sw->file, op, start, end);
  /* A hole with something over it is a staged part with holes. */
  ((NfSegment *)segment)->state = NF_SEG_STAGED;
  return write_part (sw->transfer->staging, op, start, end);
}

static int
write_op (Switch *sw, const NfOp *op)
{
  NfSegments *segments = &sw->transfer->segments;
  gboolean resize = op->record.kind != NF_OP_DATA;
  guint64 offset = resize ? op->record.attr.size : op->record.offset;
  /* A change of size makes zeros of all that lies behind it. */
  guint64 end = resize ? MAX (sw->size, (guint64)sw->st.st_size) : offset + op->record.length;
  int err = 0;

  for (guint i = 0; err == 0 && offset < end && i < nf_segments_count (segments); i++)
    {
      const NfSegment *segment = nf_segments_at (segments, i);
      if (segment->end <= offset)
        continue;
      if (segment->start >= end)
        break;
      if (segment->start > offset)
        err = write_part (sw->file, op, offset, segment->start);
      offset = MAX (offset, segment->start);
      guint64 until = MIN (end, segment->end);
      if (err == 0)
        err = write_over_segment (sw, op, segment, offset, until);
      offset = until;
    }
  if (err == 0 && offset < end)
    err = write_part (sw->file, op, offset, end);
  return err;
}

static int
write_ops (Switch *sw)
{
  int err = 0;

  for (GList *l = sw->transfer->ops.head; err == 0 && l; l = l->next)
    {
      const NfOp *op = l->data;
      if (op->position.seq > sw->seq)
        break;
      if (!nf_op_lacks_bytes (op)) /* else its range is staged, at least as new */
        err = write_op (sw, op);
    }
  return err;
}

/* ---- in place ---- */

static int
copy_by_hand (int from, int to, guint64 offset, guint64 end)
{
  g_autofree guint8 *buffer = g_malloc (COPY_SIZE);

  while (offset < end)
    {
      ssize_t n = pread (from, buffer, MIN (end - offset, COPY_SIZE), (off_t)offset);
      if (n < 0 && errno == EINTR)
        continue;
      if (n < 0)
        return -errno;
      if (n == 0) /* the staging file ends in a hole */
        return nf_apply_range (to, NF_RANGE_HOLE, offset, end - offset, NF_SLICE_NONE);
      int err = nf_apply_write (to, offset, nf_slice (buffer, (gsize)n));
      if (err != 0)
        return err;
      offset += (guint64)n;
    }
  return 0;
}

static int
copy_segment (int from, int to, guint64 offset, guint64 end)
{
  while (offset < end)
    {
      off_t in = (off_t)offset, out = (off_t)offset;
      ssize_t n = copy_file_range (from, &in, to, &out, end - offset, 0);
      if (n < 0 && errno == EINTR)
        continue;
      if (n <= 0)
        return copy_by_hand (from, to, offset, end);
      offset += (guint64)n;
    }
  return 0;
}

/* What there is of FROM to UNTIL, as far as the file goes. */
static int
copy_segments (Switch *sw, guint64 from, guint64 until)
{
  NfTransfer *transfer = sw->transfer;
  int err = 0;

  for (guint i = 0; err == 0 && i < nf_segments_count (&transfer->segments); i++)
    {
      const NfSegment *segment = nf_segments_at (&transfer->segments, i);
      guint64 start = MAX (segment->start, from);
      guint64 end = MIN (MIN (segment->end, sw->size), until);
      if (start >= end || segment->state == NF_SEG_LOCAL || segment->state == NF_SEG_NONE)
        continue;
      if (segment->state == NF_SEG_STAGED)
        err = copy_segment (transfer->staging, sw->file, start, end);
      else
        err = nf_apply_range (sw->file, NF_RANGE_HOLE, start, end - start, NF_SLICE_NONE);
    }
  return err;
}

static int
set_size_and_time (Switch *sw, int fd)
{
  NfAttr attr = { .fid = sw->transfer->fid, .mtime = sw->mtime };
  const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, nf_time_spec (sw->mtime) };

  if (ftruncate (fd, (off_t)sw->size) != 0)
    return -errno;
  if (fd == sw->file)
    return nf_tree_set_attr (sw->replica->share->tree, attr.fid, fd, NF_SET_MTIME, &attr);
  /* Not yet the object itself. */
  return futimens (fd, times) == 0 ? 0 : -errno;
}

/* If this life ends before the switch does, these ranges of the file are some of each. */
static int
mark_half_done (Switch *sw)
{
  NfShare *share = sw->replica->share;
  NfSegments *segments = &sw->transfer->segments;
  int err = nf_index_begin (share->index);

  if (err != 0)
    return err;
  for (guint i = 0; err == 0 && i < nf_segments_count (segments); i++)
    {
      const NfSegment *segment = nf_segments_at (segments, i);
      err = nf_dirty_add (share, sw->transfer->fid, segment->start, segment->end);
    }
  for (GList *l = sw->transfer->ops.head; err == 0 && l; l = l->next)
    {
      const NfOp *op = l->data;
      gboolean resize = op->record.kind != NF_OP_DATA;
      guint64 start = resize ? op->record.attr.size : op->record.offset;
      guint64 end = resize ? MAX (sw->size, (guint64)sw->st.st_size) : start + op->record.length;
      if (op->position.seq <= sw->seq && !nf_op_lacks_bytes (op) && start < end)
        err = nf_dirty_add (share, sw->transfer->fid, start, end);
    }
  int committed = nf_index_commit (share->index);
  return err != 0 ? err : committed;
}

static int
switch_in_place (Switch *sw)
{
  NfIntents *intents = sw->replica->share->intents;
  int err = nf_intents_concern (&sw->st) ? nf_intents_note (intents, sw->transfer->fid) : 0;

  if (err == 0)
    err = mark_half_done (sw);
  if (err == 0)
    err = write_ops (sw);
  if (err == 0)
    err = copy_segments (sw, 0, G_MAXUINT64);
  if (err == 0)
    err = set_size_and_time (sw, sw->file);
  return err;
}

/* ---- as a whole ---- */

/* Who has the file open keeps what he has, but for what his own site has done to it: that he is to see. */
static gboolean
may_replace (const Switch *sw)
{
  const NfTransfer *transfer = sw->transfer;
  NfOpens *opens = sw->replica->share->opens;

  return transfer->staging >= 0 && sw->size > 0 && sw->st.st_nlink == 1
         && nf_segments_whole (&transfer->segments, sw->size)
         && !nf_opens_writers (opens, transfer->fid)
         && !(transfer->own && nf_opens_held (opens, transfer->fid));
}

/* Puts the staging file in the file's place, which is no change of the directory that anybody is to see. */
static int
switch_file (NfShare *share, NfFid fid)
{
  char name[NF_NAME_LEN_MAX + 1];
  NfFid parent = NF_FID_NONE;
  NfAttr attr;

  if (!nf_index_first_name (share->index, fid, &parent, name)
      || nf_tree_stat (share->tree, parent, &attr) != 0)
    parent = NF_FID_NONE;
  int err = nf_tree_switch_file (share->tree, fid);
  if (err == 0 && parent != NF_FID_NONE)
    err = nf_tree_set_attr (share->tree, parent, -1, NF_SET_MTIME, &attr);
  return err;
}

static int
replace (Switch *sw)
{
  NfShare *share = sw->replica->share;
  int err = write_ops (sw);

  if (err == 0)
    err = set_size_and_time (sw, sw->transfer->staging);
  if (err == 0)
    err = switch_file (share, sw->transfer->fid);
  if (err != 0)
    return err;
  nf_opens_switched (share->opens, sw->transfer->fid);
  nf_apply_invalidate (share, NF_INVAL_SWITCH, sw->transfer->fid, 0, 0);
  return 0;
}

/* ---- both ---- */

static void
ignore_range (guint64 start, guint64 end, gpointer data)
{
  (void)start, (void)end, (void)data;
}

/* Was it to put certain ranges right, and meanwhile the whole file has become suspect? */
static gboolean
is_too_little (const Switch *sw)
{
  return sw->transfer->heals && !sw->transfer->whole
         && !nf_dirty_each (sw->replica->share, sw->transfer->fid, ignore_range, NULL);
}

static int
carry_out (Switch *sw, gboolean suspect)
{
  NfShare *share = sw->replica->share;
  NfFid fid = sw->transfer->fid;
  gboolean replaced = may_replace (sw);
  gboolean heals = sw->transfer->heals && !is_too_little (sw);
  int err = replaced ? replace (sw) : switch_in_place (sw);

  if (err != 0)
    return err;
  /* A suspicion that was there before goes only if this transfer was to heal it; and one that covers no more than
   * has just been put right would have been wanted along with it. */
  if (heals || replaced || !suspect)
    err = nf_dirty_clear (share, fid);
  if (err == 0 && !replaced && sw->foreign)
    nf_apply_invalidate_content (share, fid, sw->file, 0, 0);
  return err;
}

static int
open_switch (Switch *sw)
{
  NfShare *share = sw->replica->share;
  NfTransfer *transfer = sw->transfer;
  int err = 0;

  sw->file = nf_apply_open (share, transfer->fid);
  if (sw->file < 0)
    return sw->file;
  /* Ops with bytes may have to go over what is staged, even if nothing was. */
  if (transfer->staging < 0)
    err = nf_tree_stage_file (share->tree, transfer->fid, &transfer->staging);
  if (err == 0 && fstat (sw->file, &sw->st) != 0)
    err = -errno;
  if (err != 0)
    (void)close (sw->file);
  return err;
}

static int
switch_op (Switch *sw, const NfOp *op)
{
  gboolean resize = op->record.kind != NF_OP_DATA;
  guint64 start = resize ? op->record.attr.size : op->record.offset;
  guint64 end
      = resize ? MAX (start, (guint64)sw->st.st_size) : op->record.offset + op->record.length;
  int err = nf_dirty_add (sw->replica->share, sw->transfer->fid, start, end);

  sw->size = op->record.attr.size;
  sw->mtime = nf_time_ns (sw->st.st_mtim); /* the op itself sets it, in its turn */
  if (err == 0 && !nf_op_lacks_bytes (op))
    err = write_op (sw, op);
  if (err == 0)
    err = copy_segments (sw, start, end);
  return err != 0 ? err : set_size_and_time (sw, sw->file);
}

/* A stat, which takes no lock, must not see how far a write over several pages has come: see apply_data(). */
static int
grow_first (Switch *sw)
{
  struct stat st;

  if (fstat (sw->file, &st) != 0)
    return -errno;
  if ((guint64)st.st_size >= sw->size
      || nf_opens_passed (sw->replica->share->opens, sw->transfer->fid))
    return 0;
  return ftruncate (sw->file, (off_t)sw->size) == 0 ? 0 : -errno;
}

/* It failed, for lack of space as a rule, and is done again: what is new of it isn't seen until then. */
static void
shrink_back (Switch *sw)
{
  struct stat st;

  if (fstat (sw->file, &st) == 0 && st.st_size > sw->st.st_size)
    (void)ftruncate (sw->file, sw->st.st_size);
}

int
nf_transfer_switch_op (NfReplica *replica, NfTransfer *transfer, const NfOp *op)
{
  Switch sw = { .replica = replica, .transfer = transfer, .seq = op->position.seq };
  NfObject object;

  if (!nf_index_get (replica->share->index, transfer->fid, &object) || object.ident.ino == 0)
    return 0;
  int err = open_switch (&sw);
  if (err != 0)
    return err;
  pthread_rwlock_t *lock = nf_share_content_lock (replica->share, transfer->fid);
  pthread_rwlock_wrlock (lock);
  sw.size = op->record.attr.size;
  err = grow_first (&sw);
  if (err == 0)
    err = switch_op (&sw, op);
  if (err != 0)
    shrink_back (&sw);
  pthread_rwlock_unlock (lock);
  if (err == 0 && !(object.suspect & NF_SUSPECT_DATA))
    err = nf_dirty_clear (replica->share, transfer->fid);
  if (err == 0 && !nf_op_is_told (replica, op))
    nf_apply_invalidate_content (replica->share, transfer->fid, sw.file, 0, 0);
  (void)close (sw.file);
  return err;
}

int
nf_transfer_switch (NfReplica *replica, NfTransfer *transfer, guint64 seq)
{
  Switch sw = { .replica = replica, .transfer = transfer, .seq = seq };
  NfObject object;
  int err;

  if (!nf_index_get (replica->share->index, transfer->fid, &object) || object.ident.ino == 0)
    return 0; /* it went, or never came */
  err = open_switch (&sw);
  if (err != 0)
    return err;
  find_attributes (&sw);
  if (transfer->heals && nf_segments_count (&transfer->segments) > 0)
    err = nf_reconcile_keep_copy (replica, transfer->fid);
  if (err != 0)
    {
      (void)close (sw.file);
      return err;
    }
  nf_host_point (replica->share->host, "replica-switch");
  pthread_rwlock_t *lock = nf_share_content_lock (replica->share, transfer->fid);
  pthread_rwlock_wrlock (lock); /* readers see it before or after */
  err = grow_first (&sw);
  if (err == 0)
    err = carry_out (&sw, object.suspect & NF_SUSPECT_DATA);
  if (err != 0)
    shrink_back (&sw);
  pthread_rwlock_unlock (lock);
  (void)close (sw.file);
  return err;
}
