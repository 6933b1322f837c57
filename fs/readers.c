// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/readers.h"

#include <errno.h>
#include <linux/fuse.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

#include "fs/habit.h"
#include "fs/near.h"

/* A worker sleeps longer than this anyway if it sleeps at all: waking up costs as much. */
#define SPIN_NS (50 * 1000)
/* The same for a reader that slept: both wake-ups are in it, and that of a worker who took over. */
#define SOON_NS (300 * 1000)
/* What takes longer is nothing to wait for. */
#define QUICK_NS (200 * 1000)
/* The watch looks so often, and no more when nothing was read for so many looks. */
#define LOOK_NS (1000 * 1000)
#define LOOKS_IDLE 10
/* A reader who is near his caller, and on whom he doesn't call for so many looks, stands behind something else there. */
#define LOOK_NEAR_NS (250 * 1000)
#define LOOKS_NEAR 2
/* After so many with something new in a row it needn't be as often: whoever looks wakes a processor, and it takes the caller
 * away if he happens to wait just then. */
#define WELL_ENOUGH 8
/* What a caller on the same processor asks next is there as soon as the reader is awake again. */
#define AT_ONCE_NS (10 * 1000)
/* So many looks a request that isn't to be overtaken has: it waits for nothing but for a processor. */
#define LOOKS_ORDERED 100
/* Every so many requests it is looked whether there is another. */
#define LOOK_FOR_MORE 4
/* So long nobody keeps the processor who only answers a request. */
#define KEPT_OFF_NS (500 * 1000)

/* The state in `word`; above it is counted how often somebody has read. */
enum
{
  FREE,    /* nobody is the reader */
  READING, /* he looks for a request */
  BUSY,    /* he has one, and will be back */
  ORDERED, /* the same, and what comes after it isn't to overtake it */
  STATE_MASK = 3,
  TURN = 4,
};

struct NfReaders
{
  guint64 word;             /* atomic */
  guint n_waiting;          /* atomic, changed under the lock: who stand by */
  gboolean watched;         /* the same; whoever stays at it looks here after he has set the word */
  guint64 kept, taken_over; /* atomic */
  gint64 last_done;         /* atomic: when a request was dealt with */
  guint64 answered; /* atomic: the word of the last request that was answered by its worker */
  NfNear *near;
  NfHabit habit;  /* the reader's */
  gboolean spins; /* there is another processor for the caller */

  pthread_mutex_t lock;
  pthread_cond_t changed; /* there is no reader, or there ought to be a watch */
};

/* What this thread's last request was read under. */
typedef struct
{
  guint64 word;    /* 0: it isn't the reader */
  gint64 got;      /* when */
  gboolean shy;    /* its answer is sent as what it is */
  gint64 kept_off; /* for how long the answer kept it */
} Mine;
static __thread Mine mine;

static gint64
now_ns (void)
{
  struct timespec now;

  (void)clock_gettime (CLOCK_MONOTONIC, &now);
  return (gint64)now.tv_sec * 1000000000 + now.tv_nsec;
}

NfReaders *
nf_readers_new (void)
{
  NfReaders *readers = g_new0 (NfReaders, 1);
  pthread_condattr_t attr;

  pthread_mutex_init (&readers->lock, NULL);
  pthread_condattr_init (&attr);
  pthread_condattr_setclock (&attr, CLOCK_MONOTONIC);
  pthread_cond_init (&readers->changed, &attr);
  pthread_condattr_destroy (&attr);
  readers->near = nf_near_new ();
  nf_habit_init (&readers->habit);
  readers->spins = sysconf (_SC_NPROCESSORS_ONLN) > 1;
  return readers;
}

void
nf_readers_free (NfReaders *readers)
{
  pthread_cond_destroy (&readers->changed);
  pthread_mutex_destroy (&readers->lock);
  nf_near_free (readers->near);
  g_free (readers);
}

static gboolean
change_state (NfReaders *readers, guint64 from, guint64 to)
{
  return __atomic_compare_exchange_n (&readers->word, &from, to, FALSE, __ATOMIC_ACQ_REL,
                                      __ATOMIC_RELAXED);
}

/* ---- standing by ---- */

static gboolean
take (NfReaders *readers, guint64 word)
{
  guint64 reading = (word & ~(guint64)STATE_MASK) | READING;

  if (!change_state (readers, word, reading))
    return FALSE;
  mine.word = reading;
  return TRUE;
}

/* The lock is given back if the thread is cancelled. */
static void
let_go (void *data)
{
  NfReaders *readers = data;

  __atomic_sub_fetch (&readers->n_waiting, 1, __ATOMIC_SEQ_CST);
  pthread_mutex_unlock (&readers->lock);
}

/* With the lock. FALSE: somebody rang before. */
static gboolean
wait_a_look (NfReaders *readers, glong look_ns)
{
  struct timespec until;

  (void)clock_gettime (CLOCK_MONOTONIC, &until);
  until.tv_nsec += look_ns;
  if (until.tv_nsec >= 1000000000)
    {
      until.tv_sec++;
      until.tv_nsec -= 1000000000;
    }
  return pthread_cond_timedwait (&readers->changed, &readers->lock, &until) == ETIMEDOUT;
}

/* The request that was read in this turn has been seen LOOKS times. */
static gboolean
is_held_up (guint64 word, guint looks)
{
  guint state = word & STATE_MASK;

  return (state == BUSY && looks > 0) || (state == ORDERED && looks >= LOOKS_ORDERED);
}

/* With the lock: as long as anything goes on. TRUE: now this is the reader. */
static gboolean
watch (NfReaders *readers)
{
  guint64 word = 0, seen = 0;
  guint looks = 0; /* with nothing new */
  guint well = 0;  /* with something new */

  while (looks < LOOKS_IDLE || (word & STATE_MASK) == ORDERED)
    {
      gboolean closely = nf_near_is_used (readers->near) && (well < WELL_ENOUGH || looks > 0);
      gboolean looked = wait_a_look (readers, closely ? LOOK_NEAR_NS : LOOK_NS);
      word = __atomic_load_n (&readers->word, __ATOMIC_ACQUIRE);
      well = word != seen ? well + 1 : well;
      looks = word != seen ? 0 : looks + looked;
      if (looks >= LOOKS_NEAR)
        {
          nf_near_loose (readers->near);
          well = 0;
        }
      if ((word & STATE_MASK) == FREE && take (readers, word))
        return TRUE;
      if (is_held_up (word, looks) && take (readers, word))
        {
          nf_near_loose (readers->near);
          nf_habit_taken_over (&readers->habit,
                               __atomic_load_n (&readers->answered, __ATOMIC_RELAXED) == word);
          __atomic_add_fetch (&readers->taken_over, 1, __ATOMIC_RELAXED);
          return TRUE;
        }
      seen = word;
    }
  return FALSE;
}

/* With the lock. FALSE: there was nothing to watch any more when nobody watched. */
static gboolean
be_the_watch (NfReaders *readers)
{
  gboolean taken = FALSE;
  guint64 word = 0;

  do
    {
      __atomic_store_n (&readers->watched, TRUE, __ATOMIC_SEQ_CST);
      taken = watch (readers);
      __atomic_store_n (&readers->watched, FALSE, __ATOMIC_SEQ_CST);
      /* Who began just now may have seen that there is a watch, and rings for none. */
      word = __atomic_load_n (&readers->word, __ATOMIC_SEQ_CST);
    }
  while (!taken && (word & STATE_MASK) >= BUSY);
  return taken;
}

static void
stand_by (NfReaders *readers)
{
  gboolean taken = FALSE;

  nf_near_leave (readers->near);
  pthread_mutex_lock (&readers->lock);
  __atomic_add_fetch (&readers->n_waiting, 1, __ATOMIC_SEQ_CST);
  pthread_cleanup_push (let_go, readers);
  while (!taken)
    {
      guint64 word = __atomic_load_n (&readers->word, __ATOMIC_SEQ_CST);
      if ((word & STATE_MASK) == FREE)
        taken = take (readers, word);
      else if (readers->watched)
        pthread_cond_wait (&readers->changed, &readers->lock);
      else
        {
          taken = be_the_watch (readers);
          if (!taken)
            pthread_cond_wait (&readers->changed, &readers->lock);
        }
    }
  pthread_cleanup_pop (TRUE);
}

static void
ring (NfReaders *readers)
{
  pthread_mutex_lock (&readers->lock);
  pthread_cond_signal (&readers->changed);
  pthread_mutex_unlock (&readers->lock);
}

/* ---- reading ---- */

/* The request is dealt with. FALSE: it took so long that another is the reader now, or was in any case. */
static gboolean
come_back (NfReaders *readers, gint64 now)
{
  Mine was = mine;

  mine.word = 0;
  if (was.word == 0)
    return FALSE;
  if ((was.word & STATE_MASK) >= BUSY && !take (readers, was.word))
    return FALSE;
  mine.word = (was.word & ~(guint64)STATE_MASK) | READING;
  if ((was.word & STATE_MASK) >= BUSY)
    nf_habit_done (&readers->habit, now - was.got > QUICK_NS);
  return TRUE;
}

/* Another request is there already. */
static gboolean
has_more (int fd)
{
  struct pollfd poll_fd = { fd, POLLIN, 0 };

  return poll (&poll_fd, 1, 0) > 0;
}

/* Beside somebody who has asked one thing after another for a while, it isn't looked for behind each. Another caller's would
 * come between his soon, and show by whose it is. */
static gboolean
may_have_more (const NfReaders *readers, gboolean near)
{
  return !near || !nf_habit_is_alone (&readers->habit) || mine.word / TURN % LOOK_FOR_MORE == 0;
}

/* Most often the caller waits for this very processor, and asks before he lets it go again: that is what it is yielded
 * for. Somebody who computes keeps it for milliseconds. Returns when it ended. */
static gint64
spin (int fd, gint64 since)
{
  gint64 now = since;

  while (!has_more (fd) && now - since < SPIN_NS)
    {
      (void)sched_yield ();
      now = now_ns ();
    }
  return now;
}

/* Not what the caller goes on without. */
static gboolean
is_forget (const struct fuse_in_header *header)
{
  return header->opcode == FUSE_FORGET || header->opcode == FUSE_BATCH_FORGET;
}

/* Known to wait for a disk. */
static gboolean
is_slow (const struct fuse_in_header *header)
{
  return header->opcode == FUSE_FSYNC || header->opcode == FUSE_FSYNCDIR;
}

/* Whose answer the caller doesn't wait for: what he asks next, a lock perhaps, must find it done. */
static gboolean
is_release (const struct fuse_in_header *header)
{
  return header->opcode == FUSE_RELEASE || header->opcode == FUSE_RELEASEDIR;
}

/* Done in no time, and others don't wait for what it holds meanwhile: it may be done in the background. */
static gboolean
is_light (const struct fuse_in_header *header)
{
  switch (header->opcode)
    {
    case FUSE_LOOKUP:
    case FUSE_GETATTR:
    case FUSE_GETXATTR:
    case FUSE_READLINK:
    case FUSE_ACCESS:
    case FUSE_OPEN:
    case FUSE_FLUSH:
      return TRUE;
    default:
      return FALSE;
    }
}

/* STATE: BUSY or ORDERED. */
static void
stay (NfReaders *readers, gint64 now, guint state)
{
  mine.word += TURN - READING + state;
  mine.got = now;
  __atomic_store_n (&readers->word, mine.word, __ATOMIC_SEQ_CST);
  __atomic_add_fetch (&readers->kept, 1, __ATOMIC_RELAXED);
  if (!__atomic_load_n (&readers->watched, __ATOMIC_SEQ_CST))
    ring (readers);
}

static void
hand_over (NfReaders *readers)
{
  guint64 free = mine.word + TURN - READING + FREE;

  nf_near_leave (readers->near);
  mine.word = 0;
  __atomic_store_n (&readers->word, free, __ATOMIC_SEQ_CST);
  if (__atomic_load_n (&readers->n_waiting, __ATOMIC_SEQ_CST) > 0)
    ring (readers);
}

/* What was read and is to be dealt with next says how. */
static void
dispose (NfReaders *readers, const struct fuse_in_header *header, gint64 now)
{
  gboolean others = __atomic_load_n (&readers->n_waiting, __ATOMIC_RELAXED) > 0;
  gboolean stays = others && nf_habit_stays (&readers->habit) && !is_slow (header);

  if (!stays || !nf_habit_is_alone (&readers->habit))
    nf_near_leave (readers->near);
  else
    (void)nf_near_go (readers->near, header->pid, now); /* else it will spin */
  mine.shy = nf_habit_is_shy (&readers->habit);
  if (mine.shy || !is_light (header))
    nf_near_come_forward (readers->near);
  if (is_release (header))
    stay (readers, now, ORDERED);
  else if (stays)
    stay (readers, now, BUSY);
  else
    hand_over (readers);
}

ssize_t
nf_readers_read (NfReaders *readers, int fd, void *buf, gsize size)
{
  const struct fuse_in_header *header = buf;
  gint64 since = now_ns ();
  gint64 kept_off = mine.kept_off;

  mine.kept_off = 0;
  __atomic_store_n (&readers->last_done, since, __ATOMIC_RELAXED);
  if (!come_back (readers, since))
    {
      stand_by (readers);
      since = now_ns ();
    }
  gboolean near = nf_near_is (readers->near);
  gboolean spins = !near && readers->spins && nf_habit_spins (&readers->habit);
  if (spins)
    nf_habit_looked (&readers->habit, spin (fd, since) - since > KEPT_OFF_NS);
  if (near && kept_off > KEPT_OFF_NS)
    nf_habit_kept_off (&readers->habit);
  ssize_t n = read (fd, buf, size);
  if (n < (ssize_t)sizeof *header)
    return n; /* still the reader */

  gint64 now = now_ns ();
  if (near && now - since > AT_ONCE_NS)
    nf_near_doubt ();
  since = MAX (since, __atomic_load_n (&readers->last_done, __ATOMIC_RELAXED));
  if (is_forget (header))
    nf_habit_forget (&readers->habit);
  else
    nf_habit_next (&readers->habit, header->pid, now - since <= (spins ? SPIN_NS : SOON_NS),
                   may_have_more (readers, near) && has_more (fd));
  dispose (readers, header, now);
  return n;
}

ssize_t
nf_readers_reply (NfReaders *readers, int fd, const struct iovec *iov, int count)
{
  if (mine.word == 0 || !nf_near_is (readers->near))
    return writev (fd, iov, count);

  __atomic_store_n (&readers->answered, mine.word, __ATOMIC_RELAXED);
  if (mine.shy)
    return writev (fd, iov, count);
  gint64 since = now_ns ();
  ssize_t n = nf_near_writev (readers->near, fd, iov, count);
  int err = errno;
  mine.kept_off = now_ns () - since;
  errno = err;
  return n;
}

void
nf_readers_count (NfReaders *readers, guint64 *ret_kept, guint64 *ret_taken_over)
{
  *ret_kept = __atomic_load_n (&readers->kept, __ATOMIC_RELAXED);
  *ret_taken_over = __atomic_load_n (&readers->taken_over, __ATOMIC_RELAXED);
}
