// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/pool.h"

#include <pthread.h>
#include <time.h>

/* A queue of tasks with a few workers, and one thread for timers.
 *
 * Tasks may block on a disk. So that a few blocked ones don't hold up everything, the timer
 * thread also watches over the queue: if its first task has waited for STALL_MS, another worker
 * is added, up to the limit. Extra workers go when they have had nothing to do for a while.
 *
 * Lock order: there is one lock, and nothing of the caller's is called with it. */

/* Longer than a switch of threads takes on a busy machine, shorter than a person notices. */
#define STALL_MS 20
/* An idle extra worker costs 50 kB; making one 50 µs. */
#define IDLE_MS 5000

#define NS_PER_S G_GINT64_CONSTANT (1000000000)
#define NS_PER_MS G_GINT64_CONSTANT (1000000)

typedef struct
{
  NfFunc func;
  gpointer arg;
  gint64 since_ns; /* when it was posted */
} Task;

typedef struct
{
  gint64 due_ns;
  guint64 order; /* of two due at the same time the one posted first goes first */
  NfFunc func;
  gpointer arg;
} Timer;

struct _NfPool
{
  pthread_mutex_t lock;
  pthread_cond_t work;  /* a task was posted, or closing */
  pthread_cond_t clock; /* the first timer changed, a task waits, or closing */
  pthread_cond_t ended; /* a worker has gone */
  pthread_t timer_thread;
  GQueue tasks;   /* of Task; guarded by lock, as all below */
  GArray *timers; /* of Timer: a heap, the next one first */
  guint64 n_timers_ever;
  guint threads;
  guint idle;        /* of these */
  gboolean watching; /* the timer thread looks after the queue */
  gboolean closing;
  gboolean timers_done; /* the timer thread has posted what was left */
};

static gint64
clock_ns (clockid_t clock)
{
  struct timespec now;

  clock_gettime (clock, &now);
  return now.tv_sec * NS_PER_S + now.tv_nsec;
}

gint64
nf_clock_realtime_ns (void)
{
  return clock_ns (CLOCK_REALTIME);
}

gint64
nf_clock_boottime_ms (void)
{
  return clock_ns (CLOCK_BOOTTIME) / NS_PER_MS;
}

static struct timespec
at (gint64 ns)
{
  return (struct timespec){ .tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S };
}

/* The heap. */

static gboolean
is_before (const Timer *a, const Timer *b)
{
  return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->order < b->order;
}

static void
swap (Timer *a, Timer *b)
{
  Timer kept = *a;

  *a = *b;
  *b = kept;
}

static void
heap_add (GArray *heap, const Timer *timer)
{
  g_array_append_vals (heap, timer, 1);
  Timer *timers = (Timer *)(gpointer)heap->data;
  for (guint i = heap->len - 1; i > 0 && is_before (&timers[i], &timers[(i - 1) / 2]);
       i = (i - 1) / 2)
    swap (&timers[i], &timers[(i - 1) / 2]);
}

static Timer
heap_take (GArray *heap)
{
  Timer *timers = (Timer *)(gpointer)heap->data;
  Timer first = timers[0];
  guint n = heap->len - 1;
  guint i = 0;

  timers[0] = timers[n];
  g_array_set_size (heap, n);
  for (;;)
    {
      guint least = i;
      for (guint child = 2 * i + 1; child <= 2 * i + 2 && child < n; child++)
        if (is_before (&timers[child], &timers[least]))
          least = child;
      if (least == i)
        return first;
      swap (&timers[i], &timers[least]);
      i = least;
    }
}

/* Workers. */

/* Waits for a task, with the lock. FALSE: this worker is to go. */
static gboolean
wait_for_task (NfPool *pool)
{
  struct timespec until = at (clock_ns (CLOCK_MONOTONIC) + IDLE_MS * NS_PER_MS);
  gboolean over = FALSE;

  pool->idle++;
  while (pool->tasks.length == 0 && !(pool->closing && pool->timers_done) && !over)
    if (pool->threads > NF_POOL_THREADS)
      over = pthread_cond_timedwait (&pool->work, &pool->lock, &until) != 0;
    else
      pthread_cond_wait (&pool->work, &pool->lock);
  pool->idle--;
  return pool->tasks.length > 0;
}

static void *
worker (void *data)
{
  NfPool *pool = data;

  pthread_mutex_lock (&pool->lock);
  while (wait_for_task (pool))
    {
      Task *task = g_queue_pop_head (&pool->tasks);
      pthread_mutex_unlock (&pool->lock);
      task->func (task->arg);
      g_free (task);
      pthread_mutex_lock (&pool->lock);
    }
  pool->threads--;
  pthread_cond_signal (&pool->ended); /* the pool may be freed when the lock is let go */
  pthread_mutex_unlock (&pool->lock);
  return NULL;
}

/* With the lock. That a thread can't be made is no error as long as there is one. */
static void
add_worker (NfPool *pool)
{
  pthread_attr_t attributes;
  pthread_t thread;

  pthread_attr_init (&attributes);
  pthread_attr_setdetachstate (&attributes, PTHREAD_CREATE_DETACHED);
  pool->threads++;
  if (pthread_create (&thread, &attributes, worker, pool) != 0)
    pool->threads--;
  pthread_attr_destroy (&attributes);
  if (pool->threads == 0)
    g_error ("no thread can be made");
}

/* With the lock. */
static void
push (NfPool *pool, NfFunc func, gpointer arg)
{
  Task *task = g_new (Task, 1);

  *task = (Task){ func, arg, clock_ns (CLOCK_MONOTONIC) };
  g_queue_push_tail (&pool->tasks, task);
  if (pool->idle > 0)
    pthread_cond_signal (&pool->work);
  if (pool->tasks.length > pool->idle && !pool->watching)
    pthread_cond_signal (&pool->clock); /* to look after it, should it have to wait */
}

/* The timer thread. */

/* With the lock: posts what is due at NOW and adds a worker if the queue doesn't move. Returns
 * when to look again; G_MAXINT64 for not at all. */
static gint64
look_after (NfPool *pool, gint64 now)
{
  gint64 next = G_MAXINT64;
  const Task *first;

  while (pool->timers->len > 0
         && (pool->closing || g_array_index (pool->timers, Timer, 0).due_ns <= now))
    {
      Timer timer = heap_take (pool->timers);
      push (pool, timer.func, timer.arg);
    }
  if (pool->timers->len > 0)
    next = g_array_index (pool->timers, Timer, 0).due_ns;
  first = g_queue_peek_head (&pool->tasks);
  pool->watching = pool->tasks.length > pool->idle && pool->threads < NF_POOL_THREADS_MAX;
  if (!pool->watching)
    return next;
  if (first->since_ns + STALL_MS * NS_PER_MS <= now)
    {
      add_worker (pool);
      return MIN (next, now + STALL_MS * NS_PER_MS);
    }
  return MIN (next, first->since_ns + STALL_MS * NS_PER_MS);
}

static void *
timer_thread (void *data)
{
  NfPool *pool = data;

  pthread_mutex_lock (&pool->lock);
  while (!(pool->closing && pool->threads == 0))
    {
      gint64 next = look_after (pool, clock_ns (CLOCK_MONOTONIC));
      if (pool->closing && pool->timers->len == 0 && !pool->timers_done)
        {
          pool->timers_done = TRUE;
          pthread_cond_broadcast (&pool->work);
        }
      if (next == G_MAXINT64)
        pthread_cond_wait (pool->closing ? &pool->ended : &pool->clock, &pool->lock);
      else
        {
          struct timespec until = at (next);
          pthread_cond_timedwait (&pool->clock, &pool->lock, &until);
        }
    }
  pthread_mutex_unlock (&pool->lock);
  return NULL;
}

static void
cond_init (pthread_cond_t *cond)
{
  pthread_condattr_t attributes;

  pthread_condattr_init (&attributes);
  pthread_condattr_setclock (&attributes, CLOCK_MONOTONIC);
  pthread_cond_init (cond, &attributes);
  pthread_condattr_destroy (&attributes);
}

NfPool *
nf_pool_new (void)
{
  NfPool *pool = g_new0 (NfPool, 1);

  pthread_mutex_init (&pool->lock, NULL);
  cond_init (&pool->work);
  cond_init (&pool->clock);
  cond_init (&pool->ended);
  pool->timers = g_array_new (FALSE, FALSE, sizeof (Timer));
  pthread_mutex_lock (&pool->lock);
  for (guint i = 0; i < NF_POOL_THREADS; i++)
    add_worker (pool);
  pthread_mutex_unlock (&pool->lock);
  if (pthread_create (&pool->timer_thread, NULL, timer_thread, pool) != 0)
    g_error ("no thread can be made");
  return pool;
}

void
nf_pool_free (NfPool *pool)
{
  pthread_mutex_lock (&pool->lock);
  pool->closing = TRUE;
  pthread_cond_broadcast (&pool->clock);
  pthread_mutex_unlock (&pool->lock);
  pthread_join (pool->timer_thread, NULL); /* returns after the last worker's end */
  g_array_unref (pool->timers);
  pthread_cond_destroy (&pool->work);
  pthread_cond_destroy (&pool->clock);
  pthread_cond_destroy (&pool->ended);
  pthread_mutex_destroy (&pool->lock);
  g_free (pool);
}

void
nf_pool_post (NfPool *pool, NfFunc func, gpointer arg)
{
  pthread_mutex_lock (&pool->lock);
  push (pool, func, arg);
  pthread_mutex_unlock (&pool->lock);
}

void
nf_pool_post_after (NfPool *pool, guint delay_ms, NfFunc func, gpointer arg)
{
  Timer timer
      = { .due_ns = clock_ns (CLOCK_MONOTONIC) + delay_ms * NS_PER_MS, .func = func, .arg = arg };

  pthread_mutex_lock (&pool->lock);
  timer.order = pool->n_timers_ever++;
  if (pool->closing)
    push (pool, func, arg);
  else
    heap_add (pool->timers, &timer);
  if (pool->timers->len > 0 && g_array_index (pool->timers, Timer, 0).order == timer.order)
    pthread_cond_signal (&pool->clock);
  pthread_mutex_unlock (&pool->lock);
}

guint
nf_pool_threads (NfPool *pool)
{
  pthread_mutex_lock (&pool->lock);
  guint threads = pool->threads;
  pthread_mutex_unlock (&pool->lock);
  return threads;
}
