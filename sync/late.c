// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/primary-internal.h"

#include <errno.h>

/* What the journal had no room for, or its disk refused: that an op had no effect or only some, and mtimes that came out
 * otherwise. Until it is written these ops hold the watermark, no site gets anything later, and nothing else is appended. */

#define AGAIN_MS 1000

static void try_later (NfPrimary *primary);

int
nf_late_append_abort (NfPrimary *primary, gint64 time, guint64 seq, guint64 *ret_seq)
{
  NfRecord record = { .kind = NF_OP_ABORT, .epoch = primary->epoch, .time = time, .aborted = seq };
  NfPosition position;
  int err = nf_journal_append (primary->share->journal, &record, &position, NULL);

  if (err == 0)
    *ret_seq = position.seq;
  return err;
}

static gboolean
is_gone (int err)
{
  return err == -ENOENT || err == -ESTALE;
}

/* How the range stands that LATE was to change and has changed in part. */
static int
append_range (NfPrimary *primary, gint64 time, const NfLate *late, guint64 *ret_seq)
{
  NfRecord record = { .kind = NF_OP_DATA, .epoch = primary->epoch, .time = time, .fid = late->fid };
  NfPosition position = { 0 };

  *ret_seq = 0;
  int err = nf_tree_stat (primary->share->tree, late->fid, &record.attr);
  if (err != 0)
    return is_gone (err) ? 0 : err;
  record.offset = MIN (late->offset, record.attr.size);
  record.length = MIN (late->end, record.attr.size) - record.offset;
  err = nf_journal_append (primary->share->journal, &record, &position, NULL);
  *ret_seq = position.seq;
  return err;
}

static int
append_attr (NfPrimary *primary, gint64 time, const NfLate *late)
{
  NfRecord record = { .kind = NF_OP_ATTR, .epoch = primary->epoch, .time = time, .fid = late->fid };
  NfPosition position = { 0 };

  record.mask = late->mask;
  int err = nf_tree_stat (primary->share->tree, late->fid, &record.attr);
  gboolean there = err == 0;
  if (is_gone (err))
    err = 0;
  if (there)
    err = nf_journal_append (primary->share->journal, &record, &position, NULL);
  if (err == 0 && there)
    nf_order_done (primary->order, &position.seq, 1);
  if (err == 0 && late->held != 0)
    nf_order_done (primary->order, &late->held, 1);
  return err;
}

static int
append_late_one (NfPrimary *primary, gint64 time, NfLate *late)
{
  guint64 seqs[2] = { late->aborted };
  int err = 0;

  if (late->mask != 0)
    return append_attr (primary, time, late);
  if (late->fid != NF_FID_NONE)
    {
      guint64 seq;
      err = append_range (primary, time, late, &seq);
      if (err == 0 && seq != 0)
        nf_order_done (primary->order, &seq, 1);
      if (err == 0)
        late->fid = NF_FID_NONE;
    }
  if (err == 0)
    err = nf_late_append_abort (primary, time, late->aborted, &seqs[1]);
  if (err == 0)
    nf_order_done (primary->order, seqs, 2);
  return err;
}

/* What the journal had no room for. Until that is written, these ops hold the watermark, and nothing else is appended. */
int
nf_late_append (NfPrimary *primary, gint64 time)
{
  int err = 0;

  pthread_mutex_lock (&primary->late_lock);
  while (primary->late->len > 0 && err == 0)
    {
      err = append_late_one (primary, time,
                             &g_array_index (primary->late, NfLate, primary->late->len - 1));
      if (err == 0)
        g_array_set_size (primary->late, primary->late->len - 1);
    }
  g_atomic_int_set (&primary->n_late, (gint)primary->late->len);
  pthread_mutex_unlock (&primary->late_lock);
  return err;
}

/* If nobody changes anything, the replicas shouldn't wait for it. */
static void
try_again (gpointer data)
{
  NfLife *life = data;
  NfPrimary *primary = nf_life_enter (life);

  if (primary)
    {
      NfHost *host = primary->share->host;
      (void)nf_late_append (primary, host->realtime_ns (host->data)); /* else once more */
      nf_broadcast_pump (primary->broadcast, NULL);
      pthread_mutex_lock (&primary->late_lock);
      primary->late_due = FALSE;
      if (primary->late->len > 0)
        try_later (primary);
      pthread_mutex_unlock (&primary->late_lock);
      nf_life_leave (life);
    }
  nf_life_unref (life);
}

/* With late_lock. */
static void
try_later (NfPrimary *primary)
{
  NfHost *host = primary->share->host;

  if (primary->late_due)
    return;
  primary->late_due = TRUE;
  host->post_after (host->data, AGAIN_MS, try_again, nf_life_ref (primary->life));
}

void
nf_late_add (NfPrimary *primary, const NfLate *late)
{
  pthread_mutex_lock (&primary->late_lock);
  g_array_append_val (primary->late, *late);
  g_atomic_int_set (&primary->n_late, (gint)primary->late->len);
  try_later (primary);
  pthread_mutex_unlock (&primary->late_lock);
}
