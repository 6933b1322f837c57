// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fs/near.h"

/* Further apart than it looks anew. */
#define LATER_NS ((gint64)100 * 1000 * 1000)
/* Enough for somebody who seems to have gone. */
#define SOON_NS ((gint64)1000 * 1000)
/* Less than the longest that it waits, in all. */
#define DOUBTS 10
/* An answer may be noted before its sender has been itself again. */
#define ROUNDS_MAX 1000

/* A caller sleeps until he is answered, and then notes how the worker runs. */
typedef struct
{
  pid_t worker;
  int answers[2];
  int ready[2];
  int cpu;
  pid_t tid;
  int seen; /* the worker's policy */
  pthread_t thread;
} Caller;

static NfNear *near;
static cpu_set_t all;
static gint64 now;

static void
start (void)
{
  cr_assert_eq (sched_getaffinity (0, sizeof all, &all), 0);
  near = nf_near_new ();
}

static void
stop (void)
{
  nf_near_free (near);
}

TestSuite (near, .init = start, .fini = stop, .timeout = 60);

static void *
call (void *data)
{
  Caller *caller = data;
  cpu_set_t one;
  char byte = 0;

  CPU_ZERO (&one);
  CPU_SET ((size_t)caller->cpu, &one);
  cr_assert_eq (sched_setaffinity (0, sizeof one, &one), 0);
  caller->tid = (pid_t)syscall (SYS_gettid);
  cr_assert_eq (write (caller->ready[1], &byte, 1), 1);
  while (read (caller->answers[0], &byte, 1) == 1)
    {
      caller->seen = sched_getscheduler (caller->worker);
      cr_assert_eq (write (caller->ready[1], &byte, 1), 1);
    }
  return NULL;
}

static void
wait_for (const Caller *caller)
{
  char byte;

  cr_assert_eq (read (caller->ready[0], &byte, 1), 1);
}

static void
begin (Caller *caller, int cpu)
{
  *caller = (Caller){ .worker = (pid_t)syscall (SYS_gettid), .cpu = cpu, .seen = -1 };
  cr_assert_eq (pipe (caller->answers), 0);
  cr_assert_eq (pipe (caller->ready), 0);
  cr_assert_eq (pthread_create (&caller->thread, NULL, call, caller), 0);
  wait_for (caller);
}

static void
end (Caller *caller)
{
  close (caller->answers[1]);
  pthread_join (caller->thread, NULL);
  close (caller->answers[0]);
  close (caller->ready[0]);
  close (caller->ready[1]);
}

static gboolean
is_free (void)
{
  cpu_set_t cpus;

  return sched_getaffinity (0, sizeof cpus, &cpus) == 0 && CPU_EQUAL (&cpus, &all)
         && sched_getscheduler (0) == SCHED_OTHER;
}

static int
nth_cpu (int n)
{
  int cpu = -1;

  for (int i = 0; i <= n; i++)
    do
      cpu++;
    while (!CPU_ISSET ((size_t)cpu, &all));
  return cpu;
}

/* Where the caller is, is looked up by another thread: the call that asks for it, and the one that is told. STEP_NS: how much
 * later the first is; the second is no later. */
static gboolean
look_after (const Caller *caller, gint64 step_ns)
{
  now += step_ns;
  (void)nf_near_go (near, (guint32)caller->tid, now);
  while (nf_near_is_looking (near))
    g_usleep (100);
  return nf_near_go (near, (guint32)caller->tid, now);
}

static gboolean
go_to (const Caller *caller)
{
  return look_after (caller, LATER_NS);
}

/* Root on more than one processor, as in CI; FALSE: then nothing may have changed. */
static gboolean
is_possible (void)
{
  Caller caller;

  begin (&caller, nth_cpu (0));
  gboolean went = go_to (&caller);
  cr_assert_eq (went, nf_near_is (near));
  nf_near_leave (near);
  end (&caller);
  cr_assert (is_free ());
  cr_assert (went || CPU_COUNT (&all) == 1 || geteuid () != 0);
  return went;
}

Test (near, it_goes_where_the_caller_is)
{
  if (!is_possible ())
    return;
  for (int i = 0; i < CPU_COUNT (&all); i++)
    {
      Caller caller;

      begin (&caller, nth_cpu (i));
      cr_assert (go_to (&caller));
      cr_assert_eq (sched_getcpu (), caller.cpu);
      cr_assert (nf_near_is (near));
      end (&caller);
    }
  nf_near_leave (near);
  cr_assert_not (nf_near_is (near));
  cr_assert (is_free ());
}

/* He has run there when it returns. */
static void
move_to (Caller *caller, int cpu)
{
  cpu_set_t one;

  CPU_ZERO (&one);
  CPU_SET ((size_t)cpu, &one);
  cr_assert_eq (sched_setaffinity (caller->tid, sizeof one, &one), 0);
  caller->cpu = cpu;
  cr_assert_eq (write (caller->answers[1], "", 1), 1);
  wait_for (caller);
}

static void
begin_together (Caller *caller)
{
  begin (caller, nth_cpu (0));
  cr_assert (go_to (caller));
  cr_assert_eq (sched_getcpu (), nth_cpu (0));
}

/* The next call, STEP_NS later, finds him where he was, or where he is. */
static void
check_follows (const Caller *caller, gint64 step_ns, gboolean follows)
{
  cr_assert (look_after (caller, step_ns));
  cr_assert_eq (sched_getcpu (), follows ? caller->cpu : nth_cpu (0));
}

Test (near, who_seems_to_have_gone_is_looked_for_soon)
{
  if (!is_possible ())
    return;
  Caller caller;

  begin_together (&caller);
  move_to (&caller, nth_cpu (1));
  check_follows (&caller, SOON_NS, FALSE);
  nf_near_doubt ();
  check_follows (&caller, 0, TRUE);
  end (&caller);
  nf_near_leave (near);
}

Test (near, who_is_doubted_in_vain_is_looked_for_more_seldom)
{
  if (!is_possible ())
    return;
  Caller caller;

  begin_together (&caller);
  for (guint i = 0; i < DOUBTS; i++)
    {
      nf_near_doubt ();
      check_follows (&caller, LATER_NS, FALSE);
    }
  move_to (&caller, nth_cpu (1));
  for (guint i = 0; i < DOUBTS; i++)
    {
      nf_near_doubt ();
      check_follows (&caller, SOON_NS, FALSE);
    }
  check_follows (&caller, LATER_NS, TRUE);
  end (&caller);
  nf_near_leave (near);
}

Test (near, it_is_looked_for_again_only_after_a_while)
{
  if (!is_possible ())
    return;
  Caller caller;

  begin_together (&caller);
  move_to (&caller, nth_cpu (1));
  check_follows (&caller, SOON_NS, FALSE);
  check_follows (&caller, LATER_NS, TRUE);
  end (&caller);
  nf_near_leave (near);
}

Test (near, nobody_to_be_found_leaves_it_free)
{
  Caller caller;

  begin (&caller, nth_cpu (0));
  (void)go_to (&caller);
  end (&caller);
  while (go_to (&caller)) /* joined, it may still be ending */
    g_usleep (100);
  cr_assert_not (nf_near_is (near));
  cr_assert (is_free ());
}

static void *
let_loose (void *data)
{
  nf_near_loose (data);
  return NULL;
}

Test (near, another_thread_lets_it_loose)
{
  if (!is_possible ())
    return;
  Caller caller;
  pthread_t other;

  begin (&caller, nth_cpu (1));
  cr_assert (go_to (&caller));
  cr_assert (nf_near_is_used (near));
  cr_assert_eq (pthread_create (&other, NULL, let_loose, near), 0);
  pthread_join (other, NULL);
  cr_assert_not (nf_near_is (near));
  cr_assert_not (nf_near_is_used (near));
  cr_assert (is_free ());
  cr_assert (go_to (&caller));
  cr_assert_eq (sched_getcpu (), caller.cpu);
  end (&caller);
  nf_near_leave (near);
}

Test (near, whoever_is_answered_goes_on_first)
{
  if (!is_possible ())
    return;
  struct iovec iov = { (void *)"", 1 };
  Caller caller;

  begin (&caller, nth_cpu (1));
  for (guint i = 0; i < ROUNDS_MAX && caller.seen != SCHED_IDLE; i++)
    {
      cr_assert (go_to (&caller));
      cr_assert_eq (nf_near_writev (near, caller.answers[1], &iov, 1), 1);
      cr_assert_eq (sched_getscheduler (0), SCHED_IDLE);
      wait_for (&caller);
    }
  cr_assert_eq (caller.seen, SCHED_IDLE);
  errno = 0;
  cr_assert_eq (nf_near_writev (near, -1, &iov, 1), -1);
  cr_assert_eq (errno, EBADF);
  nf_near_come_forward (near);
  cr_assert_eq (sched_getscheduler (0), SCHED_OTHER);
  end (&caller);
  nf_near_leave (near);
}

/* However that ends. */
Test (near, nobody_stays_in_the_background)
{
  if (!is_possible ())
    return;
  struct iovec iov = { (void *)"", 1 };
  pthread_t thread;
  Caller caller;
  int fds[2];

  cr_assert_eq (pipe (fds), 0);
  begin (&caller, nth_cpu (1));
  cr_assert (go_to (&caller));
  cr_assert_eq (nf_near_writev (near, fds[1], &iov, 1), 1);
  nf_near_leave (near);
  cr_assert_eq (sched_getscheduler (0), SCHED_OTHER);
  cr_assert (go_to (&caller));
  cr_assert_eq (nf_near_writev (near, fds[1], &iov, 1), 1);
  cr_assert_eq (sched_getscheduler (0), SCHED_IDLE);
  cr_assert_eq (pthread_create (&thread, NULL, let_loose, near), 0);
  cr_assert_eq (pthread_join (thread, NULL), 0);
  cr_assert_eq (sched_getscheduler (0), SCHED_OTHER);
  cr_assert_eq (nf_near_writev (near, fds[1], &iov, 1), 1);
  cr_assert_eq (sched_getscheduler (0), SCHED_OTHER);
  cr_assert (go_to (&caller));
  cr_assert_eq (nf_near_writev (near, fds[1], &iov, 1), 1);
  cr_assert_eq (sched_getscheduler (0), SCHED_IDLE);
  nf_near_leave (near);
  end (&caller);
  close (fds[0]);
  close (fds[1]);
}

Test (near, an_answer_of_somebody_who_is_nowhere_is_only_sent)
{
  struct iovec iov = { (void *)"", 1 };
  int fds[2];

  cr_assert_eq (pipe (fds), 0);
  cr_assert_eq (nf_near_writev (near, fds[1], &iov, 1), 1);
  cr_assert (is_free ());
  close (fds[0]);
  close (fds[1]);
}
