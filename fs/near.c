// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/near.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The scheduler moves callers, too: so often it is seen where he is. Asking takes some 10 µs. */
#define LOOK_NS (50 * 1000 * 1000)
/* And so often when it seems that he has gone; half as often after each time that he hadn't, as a slow machine isn't quick
 * when he is here, either. */
#define LOOK_DOUBTED_NS (100 * 1000)
/* Of proc_pid_stat(5), counted behind the name, which may have blanks and parentheses in it. */
#define FIELD_STATE 3
#define FIELD_PROCESSOR 39
/* "(name) " has at most 64 bytes, each of 50 numbers at most 21. */
#define STAT_MAX 2048

/* Where a caller is, is looked up by a thread of its own: the kernel holds /proc/PID/stat while the caller is in execve(2), and
 * that may wait for an answer of ours. */
struct NfNear
{
  gboolean can;
  cpu_set_t cpus;
  int policy;
  pid_t tid; /* atomic: who was brought somewhere; 0: nobody */

  int refs;             /* atomic: the owner's and the looking thread's */
  pthread_mutex_t lock; /* guards what follows */
  pthread_cond_t asked;
  gboolean stopped;
  guint32 wanted;      /* whose place is to be looked up; 0: nobody's */
  gboolean looking;    /* it is being done */
  guint32 seen_caller; /* the last that was, and where */
  int seen_cpu;
};

/* What the calling thread knows, if it is the one. */
typedef struct
{
  pid_t tid; /* its own; 0: not asked for yet */
  guint32 caller;
  int cpu;
  gint64 looked;
  gboolean doubted;  /* since then */
  gint64 doubted_ns; /* then he is looked for so much later */
  gboolean behind;   /* in the background; it may have been let loose from there */
} Place;
static __thread Place place;

/* ---- what is allowed ---- */

static gboolean
has_sys_nice (void)
{
  struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
  struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

  return syscall (SYS_capget, &header, data) == 0
         && (data[CAP_TO_INDEX (CAP_SYS_NICE)].effective & CAP_TO_MASK (CAP_SYS_NICE));
}

/* Leaving SCHED_IDLE is to the kernel what being nicer no longer is: see setrlimit(2). */
static gboolean
may_leave_idle (void)
{
  struct rlimit limit;
  int nice = getpriority (PRIO_PROCESS, 0);

  return has_sys_nice ()
         || (getrlimit (RLIMIT_NICE, &limit) == 0 && (rlim_t)(20 - nice) <= limit.rlim_cur);
}

/* ---- where ---- */

/* The processor a thread last ran on, or -1. */
static int
cpu_of (guint32 tid)
{
  char path[32], text[STAT_MAX];
  ssize_t len;

  (void)g_snprintf (path, sizeof path, "/proc/%u/stat", tid);
  int fd = open (path, O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return -1;
  len = read (fd, text, sizeof text - 1);
  (void)close (fd); /* was only read */
  if (len <= 0)
    return -1;
  text[len] = '\0';
  const char *at = strrchr (text, ')');
  for (guint field = FIELD_STATE; at && field <= FIELD_PROCESSOR; field++)
    at = strchr (at + 1, ' ');
  return at ? (int)g_ascii_strtoll (at, NULL, 10) : -1;
}

static void
near_unref (NfNear *near)
{
  if (!g_atomic_int_dec_and_test (&near->refs))
    return;
  pthread_cond_destroy (&near->asked);
  pthread_mutex_destroy (&near->lock);
  g_free (near);
}

static void *
look (void *data)
{
  NfNear *near = data;

  pthread_mutex_lock (&near->lock);
  while (!near->stopped)
    {
      guint32 caller = near->wanted;

      if (caller == 0)
        {
          pthread_cond_wait (&near->asked, &near->lock);
          continue;
        }
      near->wanted = 0;
      near->looking = TRUE;
      pthread_mutex_unlock (&near->lock);
      int cpu = cpu_of (caller);
      pthread_mutex_lock (&near->lock);
      near->looking = FALSE;
      near->seen_caller = caller;
      near->seen_cpu = cpu;
    }
  pthread_mutex_unlock (&near->lock);
  near_unref (near);
  return NULL;
}

/* Not joined: it may be held until the kernel knows that nobody answers any more. */
static gboolean
start_looking (NfNear *near)
{
  pthread_attr_t attr;
  pthread_t thread;

  pthread_attr_init (&attr);
  pthread_attr_setdetachstate (&attr, PTHREAD_CREATE_DETACHED);
  g_atomic_int_inc (&near->refs);
  gboolean started = pthread_create (&thread, &attr, look, near) == 0;
  if (!started)
    near_unref (near);
  pthread_attr_destroy (&attr);
  return started;
}

NfNear *
nf_near_new (void)
{
  NfNear *near = g_new0 (NfNear, 1);

  near->refs = 1;
  pthread_mutex_init (&near->lock, NULL);
  pthread_cond_init (&near->asked, NULL);
  near->policy = sched_getscheduler (0);
  near->can = sched_getaffinity (0, sizeof near->cpus, &near->cpus) == 0
              && CPU_COUNT (&near->cpus) > 1
              && (near->policy == SCHED_OTHER || near->policy == SCHED_BATCH) && may_leave_idle ()
              && start_looking (near);
  return near;
}

void
nf_near_free (NfNear *near)
{
  pthread_mutex_lock (&near->lock);
  near->stopped = TRUE;
  pthread_cond_signal (&near->asked);
  pthread_mutex_unlock (&near->lock);
  near_unref (near);
}

/* Asks for the place of CALLER. Returns what was seen since it was asked for the last time, -2 if nothing was. */
static int
ask (NfNear *near, guint32 caller)
{
  int cpu = -2;

  pthread_mutex_lock (&near->lock);
  if (near->seen_caller == caller)
    cpu = near->seen_cpu;
  near->seen_caller = 0;
  if (!near->looking && cpu == -2)
    {
      near->wanted = caller;
      pthread_cond_signal (&near->asked);
    }
  pthread_mutex_unlock (&near->lock);
  return cpu;
}

gboolean
nf_near_is_looking (NfNear *near)
{
  pthread_mutex_lock (&near->lock);
  gboolean is = near->wanted != 0 || near->looking;
  pthread_mutex_unlock (&near->lock);
  return is;
}

static void
set_policy (pid_t tid, int policy)
{
  const struct sched_param none = { 0 };

  (void)sched_setscheduler (tid, policy, &none); /* allowed: that was seen before */
}

void
nf_near_come_forward (NfNear *near)
{
  if (place.behind)
    set_policy (0, near->policy);
  place.behind = FALSE;
}

static gboolean
pin (int cpu)
{
  cpu_set_t one;

  CPU_ZERO (&one);
  CPU_SET ((size_t)cpu, &one);
  return sched_setaffinity (0, sizeof one, &one) == 0;
}

/* TID may have ended; then there is nobody to let loose. */
static void
loosen (const NfNear *near, pid_t tid)
{
  (void)sched_setaffinity (tid, sizeof near->cpus, &near->cpus);
}

gboolean
nf_near_is (NfNear *near)
{
  return place.tid != 0 && __atomic_load_n (&near->tid, __ATOMIC_RELAXED) == place.tid;
}

gboolean
nf_near_is_used (NfNear *near)
{
  return __atomic_load_n (&near->tid, __ATOMIC_RELAXED) != 0;
}

gboolean
nf_near_go (NfNear *near, guint32 caller, gint64 now)
{
  gboolean is = nf_near_is (near);

  if (!is)
    nf_near_come_forward (near); /* it was let loose */
  if (!near->can || caller == 0)
    return is;
  if (is && caller == place.caller
      && now - place.looked < (place.doubted ? place.doubted_ns : LOOK_NS))
    return TRUE;
  int cpu = ask (near, caller);
  if (cpu == -2)
    return is; /* soon */
  if (cpu < 0 || cpu >= CPU_SETSIZE || !CPU_ISSET ((size_t)cpu, &near->cpus)
      || (!(is && cpu == place.cpu) && !pin (cpu)))
    {
      nf_near_leave (near);
      return FALSE;
    }
  if (place.tid == 0)
    place.tid = (pid_t)syscall (SYS_gettid);
  place.doubted_ns = is && caller == place.caller && cpu == place.cpu && place.doubted
                         ? MIN (place.doubted_ns * 2, LOOK_NS)
                         : LOOK_DOUBTED_NS;
  place.caller = caller;
  place.cpu = cpu;
  place.looked = now;
  place.doubted = FALSE;
  __atomic_store_n (&near->tid, place.tid, __ATOMIC_RELEASE);
  return TRUE;
}

void
nf_near_doubt (void)
{
  place.doubted = TRUE;
}

void
nf_near_leave (NfNear *near)
{
  pid_t tid = place.tid;

  nf_near_come_forward (near);
  if (tid != 0
      && __atomic_compare_exchange_n (&near->tid, &tid, 0, FALSE, __ATOMIC_ACQ_REL,
                                      __ATOMIC_RELAXED))
    loosen (near, 0);
}

void
nf_near_loose (NfNear *near)
{
  pid_t tid = __atomic_exchange_n (&near->tid, 0, __ATOMIC_ACQ_REL);

  if (tid == 0)
    return;
  loosen (near, tid);
  set_policy (tid, near->policy);
}

ssize_t
nf_near_writev (NfNear *near, int fd, const struct iovec *iov, int count)
{
  if (!nf_near_is (near))
    return writev (fd, iov, count);
  if (!place.behind)
    set_policy (0, SCHED_IDLE);
  place.behind = TRUE;
  ssize_t n = writev (fd, iov, count);
  int err = errno;
  /* Let loose meanwhile, and perhaps before it went to the background, where nobody would look for it any more. */
  if (!nf_near_is (near))
    nf_near_come_forward (near);
  errno = err;
  return n;
}
