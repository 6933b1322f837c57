// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/primary-internal.h"

#include <errno.h>
#include <string.h>

#include "sync/creds.h"

/* What all changes have in common.
 *
 * A change takes the locks of its objects, sees that it can be done, appends its record, makes its system calls with
 * the caller's credentials, brings the index up to date, and is done. At each point the process may be killed:
 *
 *   before the record    nothing has happened
 *   before the calls     recovery finds no effect and appends ABORT
 *   before the index     recovery finds the effect and repairs the index
 *   after the index      the index has the watermark, so that recovery needn't look
 *
 * The caller has no answer then, and asks again with the same request id: what is in the journal isn't done twice. */

/* Changes of data alone don't touch the index; so many of them may lie above the watermark that it has. Recovery
 * sends their ranges again. */
#define UNSAVED_MAX 256

void
nf_exec_init (NfExec *exec, NfPrimary *primary, const char *site, NfFile *file, const NfMsg *call,
              const NfCallHead *head, NfMsg *answer)
{
  memset (exec, 0, offsetof (NfExec, path));
  exec->primary = primary;
  exec->share = primary->share;
  exec->site = site;
  exec->file = file;
  exec->call = call;
  exec->head = head;
  exec->answer = answer;
}

void
nf_exec_lock (NfExec *exec, const NfFid *fids, guint n_fids)
{
  NfHost *host = exec->share->host;

  g_assert (exec->locks.n == 0);
  nf_locks_take (&exec->primary->locks, fids, n_fids, &exec->locks);
  exec->time = host->realtime_ns (host->data);
}

void
nf_exec_unlock (NfExec *exec)
{
  nf_locks_give (&exec->primary->locks, &exec->locks);
}

/* ---- the journal ---- */

int
nf_exec_append (NfExec *exec, NfRecord *record, gboolean asked)
{
  NfPrimary *primary = exec->primary;
  NfPosition position;
  int err = 0;

  g_assert (exec->n_seqs < NF_EXEC_SEQS_MAX);
  if (G_UNLIKELY (g_atomic_int_get (&primary->broken)))
    return -EIO;
  if (G_UNLIKELY (g_atomic_int_get (&primary->n_late) > 0))
    err = nf_late_append (primary, exec->time);
  if (err != 0)
    return err;
  record->epoch = primary->epoch;
  record->time = exec->time;
  if (asked && exec->site)
    {
      record->site = nf_slice_str (exec->site);
      record->reqid = exec->head->reqid;
    }
  err = nf_journal_append (exec->share->journal, record, &position, NULL);
  if (err != 0)
    return err;
  exec->seq = exec->seqs[exec->n_seqs++] = position.seq;
  nf_host_point (exec->share->host, "primary-appended");
  return 0;
}

/* SEQ isn't done with this change. */
static void
forget_seq (NfExec *exec, guint64 seq)
{
  for (guint i = 0; i < exec->n_seqs; i++)
    if (exec->seqs[i] == seq)
      exec->seqs[i] = exec->seqs[--exec->n_seqs];
}

static void
abort_late (NfExec *exec, const NfLate *late)
{
  nf_late_add (exec->primary, late);
  forget_seq (exec, late->aborted);
}

void
nf_exec_say_late (NfExec *exec, NfFid fid, guint32 mask)
{
  NfLate late = { .held = exec->n_seqs > 0 ? exec->seqs[0] : 0, .fid = fid, .mask = mask };

  if (late.held != 0)
    forget_seq (exec, late.held);
  nf_late_add (exec->primary, &late);
}

void
nf_exec_abort (NfExec *exec, guint64 aborted)
{
  NfPrimary *primary = exec->primary;
  NfLate late = { .aborted = aborted };
  guint64 seq;

  g_assert (exec->n_seqs < NF_EXEC_SEQS_MAX);
  nf_broadcast_aborted (primary->broadcast, aborted);
  if (exec->seq == aborted)
    exec->seq = 0;
  if (nf_late_append_abort (primary, exec->time, aborted, &seq) == 0)
    exec->seqs[exec->n_seqs++] = seq;
  else
    abort_late (exec, &late);
}

void
nf_exec_abort_in_part (NfExec *exec, guint64 aborted, NfFid fid, guint64 offset, guint64 end)
{
  NfLate late = { .aborted = aborted, .fid = fid, .offset = offset, .end = end };

  nf_broadcast_aborted (exec->primary->broadcast, aborted);
  if (exec->seq == aborted)
    exec->seq = 0;
  abort_late (exec, &late);
}

/* ---- the index ---- */

int
nf_exec_index_begin (NfExec *exec)
{
  return nf_index_begin (exec->share->index);
}

int
nf_exec_index_commit (NfExec *exec)
{
  NfPrimary *primary = exec->primary;
  guint64 mark = nf_order_peek (primary->order, exec->seqs, exec->n_seqs);
  int err;

  nf_host_point (exec->share->host, "primary-executed");
  (void)nf_primary_set_meta (primary, "done", mark); /* an old one only means more to look at */
  err = nf_index_commit (exec->share->index);
  if (err != 0)
    return err;
  __atomic_store_n (&primary->saved, mark, __ATOMIC_RELAXED);
  nf_host_point (exec->share->host, "primary-indexed");
  return 0;
}

void
nf_exec_broken (NfExec *exec, const char *what, int err)
{
  g_atomic_int_set (&exec->primary->broken, TRUE);
  exec->n_seqs = 0; /* never done: the next start looks at them */
  g_log_structured (
      G_LOG_DOMAIN, G_LOG_LEVEL_CRITICAL, "NF_SHARE", exec->share->conf.name, "MESSAGE",
      "Share %s: the index couldn't follow a %s (%s). No more changes are taken; make room, then "
      "restart nearfs",
      exec->share->conf.name, what, g_strerror (-err));
}

/* ---- the end ---- */

/* With nothing but data written for long, the watermark is brought to the index by itself. */
static void
save_watermark (NfPrimary *primary)
{
  guint64 mark = nf_order_watermark (primary->order);
  NfIndex *index = primary->share->index;

  if (mark < __atomic_load_n (&primary->saved, __ATOMIC_RELAXED) + UNSAVED_MAX)
    return;
  __atomic_store_n (&primary->saved, mark, __ATOMIC_RELAXED);
  if (nf_index_begin (index) != 0)
    return;
  (void)nf_primary_set_meta (primary, "done", mark);
  (void)nf_index_commit (index);
}

void
nf_exec_flush (NfExec *exec)
{
  if (exec->n_seqs > 0)
    nf_order_done (exec->primary->order, exec->seqs, exec->n_seqs);
  exec->n_seqs = 0;
}

void
nf_exec_end (NfExec *exec)
{
  NfPrimary *primary = exec->primary;
  NfHost *host = exec->share->host;
  gboolean appended = exec->n_seqs > 0;

  g_assert (!exec->changing);
  nf_exec_flush (exec);
  nf_exec_unlock (exec);
  if (appended)
    {
      save_watermark (primary);
      nf_primary_checkpoint_soon (primary);
      nf_primary_tell (primary, exec->site);
    }
  for (guint i = 0; exec->site && i < exec->n_invals; i++)
    host->invalidate (host->data, exec->share, &exec->invals[i]);
}

void
nf_exec_inval (NfExec *exec, const NfInval *inval)
{
  g_assert (exec->n_invals < NF_EXEC_INVALS_MAX);
  exec->invals[exec->n_invals++] = *inval;
}

void
nf_exec_inval_name (NfExec *exec, NfFid parent, NfSlice name, NfFid fid)
{
  nf_exec_inval (exec,
                 &(NfInval){ .kind = NF_INVAL_NAME, .fid = fid, .parent = parent, .name = name });
}

void
nf_exec_changing (NfExec *exec)
{
  nf_tree_changing (exec->share->tree);
  exec->changing = TRUE;
}

void
nf_exec_changed (NfExec *exec)
{
  nf_tree_changed (exec->share->tree);
  exec->changing = FALSE;
}

gboolean
nf_exec_assume (NfExec *exec, gboolean with_umask)
{
  return nf_creds_assume (exec->head, exec->share->conf.personal, with_umask);
}
