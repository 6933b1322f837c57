// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/point.h"
#include "fs/pool.h"

/* Far above what a loaded machine needs, as only a broken pool takes so long. */
#define PATIENCE_S 30

/* A counter that can be waited for. */
typedef struct
{
  pthread_mutex_t lock;
  pthread_cond_t changed;
  guint count;
  gboolean open; /* the gate of blocked tasks */
  GArray *order; /* of guint */
} Seen;

#define SEEN_INIT                                                       \
  {                                                                     \
    PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, FALSE, NULL \
  }

static void
count_one (gpointer data)
{
  Seen *seen = data;

  pthread_mutex_lock (&seen->lock);
  seen->count++;
  pthread_cond_broadcast (&seen->changed);
  pthread_mutex_unlock (&seen->lock);
}

static void
count_and_block (gpointer data)
{
  Seen *seen = data;

  pthread_mutex_lock (&seen->lock);
  seen->count++;
  pthread_cond_broadcast (&seen->changed);
  while (!seen->open)
    pthread_cond_wait (&seen->changed, &seen->lock);
  pthread_mutex_unlock (&seen->lock);
}

static void
open_gate (Seen *seen)
{
  pthread_mutex_lock (&seen->lock);
  seen->open = TRUE;
  pthread_cond_broadcast (&seen->changed);
  pthread_mutex_unlock (&seen->lock);
}

/* Whether COUNT is reached. */
static gboolean
wait_for (Seen *seen, guint count)
{
  struct timespec until;
  int err = 0;

  clock_gettime (CLOCK_REALTIME, &until);
  until.tv_sec += PATIENCE_S;
  pthread_mutex_lock (&seen->lock);
  while (seen->count < count && err == 0)
    err = pthread_cond_timedwait (&seen->changed, &seen->lock, &until);
  gboolean reached = seen->count >= count;
  pthread_mutex_unlock (&seen->lock);
  return reached;
}

Test (pool, everything_posted_runs_before_free_returns)
{
  Seen seen = SEEN_INIT;
  NfPool *pool = nf_pool_new ();

  for (guint i = 0; i < 10000; i++)
    nf_pool_post (pool, count_one, &seen);
  nf_pool_free (pool);
  cr_assert_eq (seen.count, 10000);
}

Test (pool, nothing_runs_within_post)
{
  Seen seen = SEEN_INIT;
  NfPool *pool = nf_pool_new ();

  /* With the lock held, a task run here would not return. */
  pthread_mutex_lock (&seen.lock);
  nf_pool_post (pool, count_one, &seen);
  cr_assert_eq (seen.count, 0);
  pthread_mutex_unlock (&seen.lock);
  cr_assert (wait_for (&seen, 1));
  nf_pool_free (pool);
}

Test (pool, blocked_tasks_get_more_workers)
{
  Seen blocked = SEEN_INIT;
  Seen other = SEEN_INIT;
  NfPool *pool = nf_pool_new ();

  for (guint i = 0; i < NF_POOL_THREADS_MAX - 1; i++)
    nf_pool_post (pool, count_and_block, &blocked);
  nf_pool_post (pool, count_one, &other);
  cr_assert (wait_for (&other, 1), "a task waits behind blocked ones");
  cr_assert (wait_for (&blocked, NF_POOL_THREADS_MAX - 1));
  cr_assert_leq (nf_pool_threads (pool), NF_POOL_THREADS_MAX);
  open_gate (&blocked);
  nf_pool_free (pool);
}

Test (pool, workers_are_bounded)
{
  Seen blocked = SEEN_INIT;
  NfPool *pool = nf_pool_new ();

  for (guint i = 0; i < 2 * NF_POOL_THREADS_MAX; i++)
    nf_pool_post (pool, count_and_block, &blocked);
  cr_assert (wait_for (&blocked, NF_POOL_THREADS_MAX));
  usleep (100 * 1000); /* longer than a stalled queue waits for one more */
  cr_assert_eq (nf_pool_threads (pool), NF_POOL_THREADS_MAX);
  open_gate (&blocked);
  nf_pool_free (pool);
  cr_assert_eq (blocked.count, 2 * NF_POOL_THREADS_MAX);
}

/* Timers. */

typedef struct
{
  Seen *seen;
  gint64 due_ms;
  guint number;
  gboolean early;
  gint64 latest_ms; /* when it is due if this thread was held up before it was posted */
} Timed;

static void
note_timed (gpointer data)
{
  Timed *timed = data;

  timed->early = nf_clock_boottime_ms () < timed->due_ms;
  pthread_mutex_lock (&timed->seen->lock);
  g_array_append_val (timed->seen->order, timed->number);
  pthread_mutex_unlock (&timed->seen->lock);
  count_one (timed->seen);
}

Test (pool, timers_run_in_the_order_of_their_times_and_never_early)
{
  static const guint delays[] = { 150, 50, 250, 100, 200, 0 };
  Seen seen = SEEN_INIT;
  Timed timed[G_N_ELEMENTS (delays)];
  const Timed *before = NULL;
  NfPool *pool = nf_pool_new ();

  seen.order = g_array_new (FALSE, FALSE, sizeof (guint));
  for (guint i = 0; i < G_N_ELEMENTS (delays); i++)
    {
      timed[i] = (Timed){ &seen, nf_clock_boottime_ms () + delays[i], i, FALSE, 0 };
      nf_pool_post_after (pool, delays[i], note_timed, &timed[i]);
      timed[i].latest_ms = nf_clock_boottime_ms () + delays[i];
    }
  cr_assert (wait_for (&seen, G_N_ELEMENTS (delays)));
  for (guint i = 0; i < G_N_ELEMENTS (delays); i++)
    {
      cr_assert_not (timed[i].early, "timer %u", i);
      const Timed *one = &timed[g_array_index (seen.order, guint, i)];
      cr_assert (i == 0 || before->due_ms <= one->latest_ms, "place %u", i);
      before = one;
    }
  nf_pool_free (pool);
  g_array_unref (seen.order);
}

Test (pool, many_timers_all_run)
{
  Seen seen = SEEN_INIT;
  NfPool *pool = nf_pool_new ();

  for (guint i = 0; i < 2000; i++)
    nf_pool_post_after (pool, (i * 7919) % 50, count_one, &seen);
  cr_assert (wait_for (&seen, 2000));
  nf_pool_free (pool);
}

Test (pool, timers_that_are_not_due_run_when_it_is_freed)
{
  Seen seen = SEEN_INIT;
  NfPool *pool = nf_pool_new ();

  nf_pool_post_after (pool, G_MAXINT32, count_one, &seen);
  nf_pool_free (pool);
  cr_assert_eq (seen.count, 1);
}

typedef struct
{
  NfPool *pool;
  Seen seen;
  guint left;
} Chain;

static void
post_next (gpointer data)
{
  Chain *chain = data;
  guint left = --chain->left; /* the next task may run at once, elsewhere */

  if (left > 0)
    nf_pool_post (chain->pool, post_next, chain);
  if (left > 0 && left % 2 == 0)
    nf_pool_post_after (chain->pool, G_MAXINT32, count_one, &chain->seen);
}

Test (pool, what_tasks_post_while_it_is_freed_runs_too)
{
  Chain chain = { .seen = SEEN_INIT, .left = 1000 };

  chain.pool = nf_pool_new ();
  nf_pool_post (chain.pool, post_next, &chain);
  nf_pool_free (chain.pool);
  cr_assert_eq (chain.left, 0);
  cr_assert_eq (chain.seen.count, 499);
}

/* Fail-points. */

static int
run_to_point (const char *value, guint times)
{
  pid_t child = fork ();
  int status;

  if (child == 0)
    {
      g_setenv ("NEARFS_POINT", value, TRUE);
      if (!nf_point_init ())
        _exit (2);
      for (guint i = 0; i < times; i++)
        {
          nf_point ("elsewhere");
          nf_point ("here");
        }
      _exit (0);
    }
  cr_assert_eq (waitpid (child, &status, 0), child);
  return WIFSIGNALED (status) ? WTERMSIG (status) : -WEXITSTATUS (status);
}

Test (point, the_process_is_killed_when_its_count_is_reached)
{
  cr_expect_eq (run_to_point ("here", 1), SIGKILL);
  cr_expect_eq (run_to_point ("here:3", 2), 0);
  cr_expect_eq (run_to_point ("here:3:kill", 3), SIGKILL);
  cr_expect_eq (run_to_point ("nowhere", 10), 0);
}

Test (point, without_the_variable_there_is_none)
{
  g_unsetenv ("NEARFS_POINT");
  cr_assert_not (nf_point_init ());
}
