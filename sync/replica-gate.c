// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/replica-internal.h"

#include <string.h>

/* The gate between the journal and the tree: no op is applied before the kernel here has been told of what the ops
 * before it changed. Otherwise a program could find a later op in what it looks up anew and miss an earlier one in what
 * its kernel still has cached, and see a state that never was (G2).
 *
 * Nobody waits for this: ops that come meanwhile lie here, or stay in the journal, and answers to this site's own calls
 * go past them. So a call that the kernel holds a directory's lock for comes to its end, even when telling the
 * kernel waits for that lock. */

/* Ops that lie here rather than only in the journal: with the small data that came beside them. */
#define ARRIVED_MAX 131072
#define ARRIVED_COST_MAX (64 * 1024 * 1024)

typedef struct
{
  NfPosition position;
  GBytes *owner;
  NfSlice record;
  NfSlice data;
} Arrived;

static void
arrived_free (gpointer data)
{
  Arrived *arrived = data;

  g_bytes_unref (arrived->owner);
  g_free (arrived);
}

void
nf_replica_gate_clear (NfReplica *replica)
{
  g_queue_clear_full (&replica->arrived, arrived_free);
  replica->arrived_cost = 0;
}

gboolean
nf_replica_gated (NfReplica *replica)
{
  NfHost *host = replica->share->host;

  if (!host->telling || !host->telling (host->data, replica->share))
    return FALSE;
  /* Said before it is asked again, so that the end of the telling isn't missed. */
  g_atomic_int_set (&replica->wants_told, TRUE);
  return host->telling (host->data, replica->share);
}

void
nf_replica_arrive (NfReplica *replica, NfSlice record, NfSlice data)
{
  NfPosition position = replica->received;
  const Arrived *last = g_queue_peek_tail (&replica->arrived);

  /* What lies here has no gap, though ops before it may have to be read from the journal first. */
  if ((last && last->position.seq + 1 != position.seq) || replica->arrived.length >= ARRIVED_MAX
      || replica->arrived_cost >= ARRIVED_COST_MAX)
    return; /* it comes from the journal in its turn, and its data is fetched */
  /* A copy: the message itself counts against the link's credit as long as it is kept, and answers have to come
   * through however much waits here. */
  guint8 *copy = g_malloc (record.len + data.len);
  memcpy (copy, record.data, record.len);
  if (data.len > 0)
    memcpy (copy + record.len, data.data, data.len);
  Arrived *arrived = g_new (Arrived, 1);
  *arrived = (Arrived){ position, g_bytes_new_take (copy, record.len + data.len),
                        nf_slice (copy, record.len), nf_slice (copy + record.len, data.len) };
  g_queue_push_tail (&replica->arrived, arrived);
  replica->arrived_cost += record.len + data.len;
}

gboolean
nf_replica_take_arrived (NfReplica *replica)
{
  Arrived *arrived = g_queue_peek_head (&replica->arrived);

  if (!arrived || arrived->position.seq != replica->loaded.seq + 1)
    return FALSE;
  g_queue_pop_head (&replica->arrived);
  replica->arrived_cost -= g_bytes_get_size (arrived->owner);
  nf_replica_take (replica, arrived->position, arrived->owner, arrived->record, arrived->data);
  arrived_free (arrived);
  return TRUE;
}

void
nf_replica_run_ready (NfReplica *replica)
{
  NfOp *op;

  while (!nf_replica_gated (replica) && (op = g_queue_pop_head (&replica->ready)))
    nf_replica_run (replica, op);
}

gboolean
nf_replica_wants_told (NfReplica *replica)
{
  return g_atomic_int_compare_and_exchange (&replica->wants_told, TRUE, FALSE);
}

void
nf_replica_told (NfReplica *replica)
{
  pthread_mutex_lock (&replica->work);
  if (!replica->closed)
    nf_replica_settle (replica);
  pthread_mutex_unlock (&replica->work);
}
