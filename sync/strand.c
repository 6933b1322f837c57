// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/strand.h"

#include <pthread.h>

typedef struct
{
  NfFunc func;
  gpointer arg;
} Task;

struct NfStrand
{
  NfHost *host;
  pthread_mutex_t lock;
  pthread_cond_t idle;
  GArray *queue;    /* of Task; guarded by lock */
  gboolean running; /* a worker has it or is about to; guarded by lock */
};

/* How many tasks one turn on a worker runs before others get theirs: long enough to cost nothing,
 * short enough for a strand under load to leave the workers to the rest. */
#define TURN_MAX 64

/* What is left of the turn that this thread runs, after the task that it is at. */
static __thread const Task *next_task;
static __thread guint n_next;

static void run_turn (gpointer data);

NfStrand *
nf_strand_new (NfHost *host)
{
  NfStrand *strand = g_new0 (NfStrand, 1);

  strand->host = host;
  strand->queue = g_array_new (FALSE, FALSE, sizeof (Task));
  pthread_mutex_init (&strand->lock, NULL);
  pthread_cond_init (&strand->idle, NULL);
  return strand;
}

/* Takes up to TURN_MAX tasks off the queue. An empty array means that the strand is idle now. */
static GArray *
take_turn (NfStrand *strand)
{
  GArray *turn = g_array_new (FALSE, FALSE, sizeof (Task));

  pthread_mutex_lock (&strand->lock);
  guint n = MIN (strand->queue->len, TURN_MAX);
  if (n > 0)
    {
      g_array_append_vals (turn, strand->queue->data, n);
      g_array_remove_range (strand->queue, 0, n);
    }
  pthread_mutex_unlock (&strand->lock);
  return turn;
}

static void
run_turn (gpointer data)
{
  NfStrand *strand = data;
  g_autoptr (GArray) turn = take_turn (strand);

  for (guint i = 0; i < turn->len; i++)
    {
      const Task *task = &g_array_index (turn, Task, i);
      next_task = task + 1;
      n_next = turn->len - i - 1;
      task->func (task->arg);
    }
  n_next = 0;

  pthread_mutex_lock (&strand->lock);
  gboolean more = strand->queue->len > 0;
  strand->running = more;
  if (!more)
    pthread_cond_broadcast (
        &strand->idle); /* the strand may be freed as soon as the lock is let go */
  NfHost *host = strand->host;
  pthread_mutex_unlock (&strand->lock);
  if (more)
    host->post (host->data, run_turn, strand);
}

gboolean
nf_strand_next (NfFunc *ret_func, gpointer *ret_arg)
{
  if (n_next == 0)
    return FALSE;
  *ret_func = next_task->func;
  *ret_arg = next_task->arg;
  return TRUE;
}

void
nf_strand_post (NfStrand *strand, NfFunc func, gpointer arg)
{
  Task task = { func, arg };

  pthread_mutex_lock (&strand->lock);
  g_array_append_val (strand->queue, task);
  gboolean start = !strand->running;
  strand->running = TRUE;
  pthread_mutex_unlock (&strand->lock);
  if (start)
    strand->host->post (strand->host->data, run_turn, strand);
}

void
nf_strand_free (NfStrand *strand)
{
  pthread_mutex_lock (&strand->lock);
  while (strand->running)
    pthread_cond_wait (&strand->idle, &strand->lock);
  pthread_mutex_unlock (&strand->lock);
  g_array_unref (strand->queue);
  pthread_mutex_destroy (&strand->lock);
  pthread_cond_destroy (&strand->idle);
  g_free (strand);
}
