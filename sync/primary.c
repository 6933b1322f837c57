// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/primary-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "sync/check-primary.h"

/* The primary of a share: one order of ops.
 *
 * Threads: this site's mount calls from its own threads, and what it asks for is carried out in them; each other
 * site's messages come on strands of their own. Changes of different objects run side by side under object locks
 * (locks.h has the lock order); those of one object have seqs in the order of their effect. What is done goes out in
 * order of seq (order.h, broadcast.h).
 *
 * Jobs and timers on the host's workers hold an NfLife and find out for themselves whether the share is still open. */

static void
free_parts (NfPrimary *primary)
{
  nf_serve_free (primary->serve);
  nf_adopter_free (primary->adopter);
  nf_linger_free (primary->linger);
  if (primary->broadcast)
    nf_broadcast_free (primary->broadcast);
  if (primary->order)
    nf_order_free (primary->order);
  nf_answered_free (primary->answered);
  g_array_unref (primary->late);
  nf_locks_clear (&primary->locks);
  pthread_mutex_destroy (&primary->rename_lock);
  pthread_mutex_destroy (&primary->late_lock);
  pthread_mutex_destroy (&primary->check_lock);
  nf_life_unref (primary->life);
  g_free (primary);
}

static NfPrimary *
new_parts (NfShare *share)
{
  NfPrimary *primary = g_new0 (NfPrimary, 1);

  primary->share = share;
  primary->life = nf_life_new (primary);
  nf_locks_init (&primary->locks);
  pthread_mutex_init (&primary->rename_lock, NULL);
  pthread_mutex_init (&primary->late_lock, NULL);
  pthread_mutex_init (&primary->check_lock, NULL);
  primary->late = g_array_new (FALSE, FALSE, sizeof (NfLate));
  primary->answered = nf_answered_new ();
  primary->adopter = nf_adopter_new (primary);
  primary->linger = nf_linger_new (share->host);
  primary->serve = nf_serve_new (primary);
  primary->waits = nf_waits_new (primary);
  return primary;
}

guint64
nf_primary_stamp (NfPrimary *primary)
{
  return primary->source_seq != 0 ? primary->source_seq
                                  : nf_journal_last (primary->share->journal).seq;
}

static gboolean
is_suspect (NfPrimary *primary, NfFid fid, guint32 mask)
{
  NfObject object;

  return primary->source_seq != 0
         && (!nf_index_get (primary->share->index, fid, &object) || (object.suspect & mask));
}

gboolean
nf_primary_lacks_content (NfPrimary *primary, NfFid fid)
{
  return is_suspect (primary, fid, NF_SUSPECT_DATA);
}

gboolean
nf_primary_is_unsure (NfPrimary *primary, NfFid fid)
{
  return is_suspect (primary, fid, NF_SUSPECT_DATA | NF_SUSPECT_ATTR);
}

NfPrimary *
nf_primary_new_source (NfShare *share, NfPosition position)
{
  NfPrimary *source = new_parts (share);

  source->epoch = position.epoch;
  source->source_seq = position.seq;
  source->trimmed = position.seq; /* nothing of it */
  source->order = nf_order_new (position.seq);
  source->broadcast = nf_broadcast_new (share, source->order);
  return source;
}

void
nf_primary_free_source (NfPrimary *source)
{
  nf_life_end (source->life); /* waits for the jobs that run */
  nf_waits_free (source->waits);
  free_parts (source);
}

NfPrimary *
nf_primary_new (NfShare *share, GError **error)
{
  NfPrimary *primary = new_parts (share);

  share->primary = primary; /* what adopts on the way asks the share for it */
  if (nf_primary_recover (primary, error))
    {
      primary->grants = nf_grants_new (primary);
      nf_primary_orphans_later (primary);
      return primary;
    }
  share->primary = NULL;
  nf_life_end (primary->life);
  nf_waits_free (primary->waits);
  free_parts (primary);
  return NULL;
}

void
nf_primary_free (NfPrimary *primary)
{
  nf_primary_check_cancel (primary);
  nf_life_end (primary->life); /* waits for the jobs that run */
  nf_broadcast_pump (primary->broadcast, NULL);
  nf_waits_free (primary->waits);
  nf_grants_free (primary->grants);
  nf_primary_close_clean (primary);
  free_parts (primary);
}

/* ---- calls ---- */

int
nf_primary_sync (NfPrimary *primary, NfFid fid, gboolean datasync)
{
  NfShare *share = primary->share;
  int fd = nf_opens_fd (share->opens, fid, FALSE);
  int err = 0;

  if (fd < 0)
    fd = nf_tree_open_fid (share->tree, fid, O_RDONLY);
  nf_journal_sync_begin (share->journal);
  if (fd >= 0)
    {
      int rc = datasync ? fdatasync (fd) : fsync (fd);
      err = rc == 0 ? 0 : -errno;
      close (fd);
    }
  else if (fd != -ENXIO
           && fd != -ELOOP) /* devices, pipes, symlinks have nothing of their own to sync */
    err = fd;
  return err != 0 ? err : nf_journal_sync (share->journal);
}

static int
carry_out (NfExec *exec)
{
  switch (exec->call->type)
    {
    case NF_MSG_CREATE:
    case NF_MSG_MKDIR:
    case NF_MSG_MKNOD:
    case NF_MSG_SYMLINK:
      return nf_exec_make (exec);
    case NF_MSG_LINK:
      return nf_exec_link (exec);
    case NF_MSG_UNLINK:
    case NF_MSG_RMDIR:
      return nf_exec_remove (exec);
    case NF_MSG_RENAME:
      return nf_exec_rename (exec);
    case NF_MSG_SETATTR:
      return nf_exec_setattr (exec);
    case NF_MSG_WRITE:
      return nf_exec_write (exec);
    case NF_MSG_FALLOCATE:
      return nf_exec_fallocate (exec);
    case NF_MSG_COPY:
      return nf_exec_copy (exec);
    case NF_MSG_SETXATTR:
      return nf_exec_setxattr (exec);
    case NF_MSG_REMOVEXATTR:
      return nf_exec_removexattr (exec);
    default:
      return -ENOSYS;
    }
}

/* So often a call that found no space is tried again because removed files were freed: others may remove on and on. */
#define LINGER_TRIES 3

/* May it be what makes room again? */
static gboolean
gives_space (const NfMsg *call)
{
  switch (call->type)
    {
    case NF_MSG_UNLINK:
    case NF_MSG_RMDIR:
    case NF_MSG_RENAME:
      return TRUE;
    case NF_MSG_SETATTR:
      return (call->setattr.mask & NF_SET_SIZE) != 0;
    case NF_MSG_FALLOCATE:
      return (call->fallocate.mode & FALLOC_FL_PUNCH_HOLE) != 0;
    default:
      return FALSE;
    }
}

/* Is there space, though CALL found none? On a full disk the reserve is for what makes room. */
static gboolean
found_space (NfPrimary *primary, const NfMsg *call, int err, guint *tries)
{
  if ((err == -ENOSPC || err == -EDQUOT) && (*tries)++ < LINGER_TRIES
      && nf_linger_end (primary->linger))
    return TRUE;
  return err == -ENOSPC && gives_space (call) && nf_reserve_spend (primary->share->reserve);
}

/* Nothing else has the reserve until there is space again. */
static int
execute_change (NfPrimary *primary, const char *site, NfFile *file, const NfMsg *call,
                const NfCallHead *head, NfMsg *answer)
{
  NfReserve *reserve = primary->share->reserve;
  NfHost *host = primary->share->host;
  NfExec exec;
  guint tries = 0;
  int err = 0;

  if (!gives_space (call) && !nf_reserve_held (reserve, host->monotonic_ms (host->data)))
    return -ENOSPC;
  do
    {
      nf_exec_init (&exec, primary, site, file, call, head, answer);
      err = carry_out (&exec);
    }
  while (found_space (primary, call, err, &tries));
  if (err == 0 && gives_space (call))
    nf_reserve_freed (reserve);
  answer->answer.seq = exec.seq;
  return err;
}

static void
answer_peers (NfPrimary *primary, NfMsg *answer)
{
  NfBuf buf = NF_BUF_INIT;

  nf_primary_encode_members (primary, &buf);
  answer->owner = nf_buf_steal_bytes (&buf);
  answer->answer.data
      = nf_slice (g_bytes_get_data (answer->owner, NULL), g_bytes_get_size (answer->owner));
}

/* What is read may have in it whatever is in the journal by then: so the answer says. */
static int
execute_read (NfPrimary *primary, const char *site, NfFile *file, const NfMsg *call, NfMsg *answer)
{
  if (call->type == NF_MSG_STATFS)
    (void)nf_linger_end (primary->linger); /* whether there was something is no matter */
  int err = nf_reads_call (primary->share, call, file ? file->fd : -1, nf_primary_adopt, answer);

  if (site)
    answer->answer.seq = nf_journal_last (primary->share->journal).seq;
  return err;
}

/* Was what the FSYNC is about carried out before this machine went down, and perhaps not on its disk by then? */
static gboolean
lost_power_since (NfPrimary *primary, const NfMsg *fsync)
{
  return fsync->fsync.since_epoch != 0 && fsync->fsync.since_epoch < primary->lossy_epoch
         && fsync->fsync.since_seq > primary->lossy_seq;
}

int
nf_primary_execute (NfPrimary *primary, const char *site, NfFile *file, const NfMsg *call,
                    const NfCallHead *head, NfMsg *answer)
{
  answer->type = NF_MSG_ANSWER;
  if (nf_msg_flags (call->type) & NF_MSG_CHANGES)
    return execute_change (primary, site, file, call, head, answer);
  switch (call->type)
    {
    case NF_MSG_FSYNC:
      return lost_power_since (primary, call)
                 ? -EIO
                 : nf_primary_sync (primary, call->fsync.fid, call->fsync.datasync);
    case NF_MSG_PEERS:
      answer_peers (primary, answer);
      return 0;
    case NF_MSG_HOLD:
      return site ? nf_primary_hold (primary, site, call, head) : 0;
    case NF_MSG_DROP:
      if (site)
        nf_primary_drop (primary, site, call->drop.fid);
      return 0;
    default:
      return execute_read (primary, site, file, call, answer);
    }
}

void
nf_primary_call (NfPrimary *primary, const char *site, NfFile *file, const NfMsg *call,
                 NfCallDone done, gpointer data)
{
  g_auto (NfMsg) answer = { 0 };

  if (call->type == NF_MSG_WAIT)
    {
      nf_waits_add (primary->waits, call->wait.seq, call->wait.sites, 0, site, call->head.reqid,
                    done, data);
      return;
    }
  int status = nf_primary_execute (primary, site, file, call, &call->head, &answer);
  done (data, status, &answer);
}

void
nf_primary_flush (NfPrimary *primary, NfFid fid, gboolean sync, gboolean datasync, NfCallDone done,
                  gpointer data)
{
  NfMsg answer = { .type = NF_MSG_ANSWER };

  done (data, sync ? nf_primary_sync (primary, fid, datasync) : 0, &answer);
}

void
nf_primary_told (NfPrimary *primary)
{
  if (primary->grants) /* it is there once all else is */
    nf_grants_told (primary->grants);
}

void
nf_primary_close_file (NfPrimary *primary, NfFile *file)
{
  NfFid fid = file->fid;

  nf_opens_remove (primary->share->opens, file);
  nf_primary_released (primary, fid);
}

/* ---- members ---- */

void
nf_primary_members (NfPrimary *primary, NfMemberFunc func, gpointer data)
{
  NfShare *share = primary->share;
  guint64 last = nf_order_watermark (primary->order);

  for (const char *const *site = share->conf.members; site && *site; site++)
    {
      NfSubscriberState state;
      nf_broadcast_state (primary->broadcast, *site, &state);
      func (*site, state.position, last - MIN (last, state.position.seq), state.connected, data);
    }
}

static void
encode_member (const char *site, NfPosition position, guint64 lag_ops, gboolean connected,
               gpointer data)
{
  NfBuf *buf = data;

  nf_buf_put_slice (buf, nf_slice_str (site));
  nf_buf_put_u64 (buf, position.epoch);
  nf_buf_put_u64 (buf, position.seq);
  nf_buf_put_u64 (buf, position.chain);
  nf_buf_put_u64 (buf, lag_ops);
  nf_buf_put_u8 (buf, (guint8)connected);
}

void
nf_primary_encode_members (NfPrimary *primary, NfBuf *buf)
{
  nf_primary_members (primary, encode_member, buf);
}

void
nf_primary_wait (NfPrimary *primary, guint64 seq, const char *sites, guint timeout_ms,
                 NfCallDone done, gpointer data)
{
  nf_waits_add (primary->waits, seq, nf_slice_str (sites), timeout_ms, NULL, 0, done, data);
}
