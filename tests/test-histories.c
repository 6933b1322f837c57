// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "tests/history.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/own-mounts.h"

/* Many histories (history.h), by several workers.
 *
 * One that fails is made smaller, as long as it fails, and its line printed; that line in `found` below makes it a
 * test. NF_HISTORY=LINE runs that alone and shows what it says (all of it in NF_HISTORY_LOG=FILE, with NF_WORLD_KEEP=DIR
 * the directories that differ). */

/* What failed once. */
static const NfHistory found[] = {
  { 18, 3, 60, 0xd00 },        { 31, 2, 40, 0x300 },        { 34, 2, 60, 0xf01 },
  { 49, 2, 60, 0x300 },        { 139, 1, 60, 0xb00 },       { 647, 4, 60, 0xf00 },
  { 2070, 3, 300, 0xf07 },     { 2228, 1, 60, 0x300 },      { 2620, 1, 200, 0xf03 },
  { 3035, 4, 60, 0xf03 },      { 3211, 4, 60, 0xf01 },      { 3271, 4, 60, 0xf00 },
  { 3511, 4, 60, 0xf02 },      { 3743, 2, 60, 0xf00 },      { 3890, 3, 300, 0xf07 },
  { 4427, 4, 60, 0xf03 },      { 4663, 4, 60, 0xf01 },      { 11809, 3, 200, 0xd00 },
  { 33746, 1, 200, 0x300 },    { 39599, 1, 17, 0x400 },     { 71562, 3, 60, 0xe00 },
  { 690, 3, 300, 0xf07 },      { 16528, 3, 300, 0x700 },    { 1150, 3, 300, 0xf07 },
  { 83442, 1, 300, 0xb01 },    { 20090, 3, 300, 0xf07 },    { 30039, 4, 60, 0xf07 },
  { 20222, 3, 60, 0xf07 },     { 235, 4, 60, 0xf01 },       { 21283, 4, 60, 0xf02 },
  { 51150, 3, 300, 0xf07 },    { 492, 1, 60, 0x1f00 },      { 680, 1, 300, 0x1f00 },
  { 1065270, 3, 300, 0x907 },  { 1071070, 3, 300, 0x907 },  { 3004695, 4, 60, 0x907 },
  { 4805088, 1, 60, 0x1f07 },  { 4816096, 1, 60, 0x1f07 },  { 4808272, 1, 60, 0x1f07 },
  { 6400784, 1, 60, 0x1f07 },  { 6407856, 1, 60, 0x1f07 },  { 6403872, 1, 60, 0x1f07 },
  { 4020512, 1, 60, 0x1f07 },  { 4029680, 1, 300, 0x1f07 }, { 20002784, 1, 60, 0x1f07 },
  { 30039320, 1, 300, 0xf07 }, { 60551, 3, 60, 0x2905 },    { 135751, 1, 300, 0x3100 },
};

/* NF_HISTORIES, and with NF_LONG=1; as NF_JOBS workers, or one a processor. */
#define COUNT 3000
#define COUNT_LONG 100000
/* Where NF_HISTORIES and NF_LONG don't say how many: no more are begun after so many seconds. */
#define SECONDS 400
#define FAILURES_MAX 5
#define NICENESS 10
/* Power cuts need a disk each, which is five times as dear as a directory: so many histories have them. */
#define DISK_EACH 8
/* Where the directories lie if it has so much room: a worker has a few MiB at a time. */
#define MEMORY "/dev/shm"
#define MEMORY_BYTES (512 << 20)
#define EIO_EACH (2 * DISK_EACH)

/* ---- making a failure smaller ---- */

static gboolean
fails_still (NfHistory *history, const NfHistory *smaller, NfSimDisk **disks)
{
  NfHistoryCounts ignored = { 0 };

  /* Another history has other chances: one of some neighbours will do. */
  for (guint i = 0; i < 12; i++)
    {
      NfHistory tried = *smaller;
      tried.seed += i * 7919;
      if (nf_history_run (&tried, disks, &ignored))
        continue;
      *history = tried;
      return TRUE;
    }
  return FALSE;
}

static void
minimise (NfHistory *history, NfSimDisk **disks)
{
  gboolean smaller = TRUE;

  while (smaller)
    {
      smaller = FALSE;
      for (guint bit = 1; bit <= NF_KIND_REVIVE; bit <<= 1)
        {
          NfHistory tried = *history;
          tried.kinds &= ~bit;
          if ((history->kinds & bit) && fails_still (history, &tried, disks))
            smaller = TRUE;
        }
      NfHistory shorter = *history;
      shorter.steps = shorter.steps * 2 / 3;
      if (shorter.steps > 4 && fails_still (history, &shorter, disks))
        smaller = TRUE;
      NfHistory fewer = *history;
      fewer.lives--;
      if (fewer.lives > 0 && fails_still (history, &fewer, disks))
        smaller = TRUE;
    }
}

/* ---- all ---- */

static void
print_history (const char *text, const NfHistory *history)
{
  printf ("%s NF_HISTORY=%u:%u:%u:%#x\n", text, history->seed, history->lives, history->steps,
          history->kinds);
  (void)fflush (stdout);
}

static void
try_one (const NfHistory *history, NfSimDisk **disks, NfHistoryCounts *sum)
{
  sum->n_histories++;
  if (nf_history_run (history, disks, sum))
    return;
  sum->n_failures++;
  print_history ("FAILED:", history);
  if (!g_getenv ("NF_HISTORY"))
    {
      NfHistory smaller = *history;
      minimise (&smaller, disks);
      print_history ("as small as it gets:", &smaller);
    }
}

static guint
number (const char *name, guint otherwise)
{
  const char *text = g_getenv (name);

  return text ? (guint)g_ascii_strtoull (text, NULL, 0) : otherwise;
}

static gboolean
make_disks (NfSimDisk **disks)
{
  if (!nf_own_mounts ())
    return FALSE;
  for (guint i = 0; i < NF_WORLD_SITES; i++)
    {
      disks[i] = nf_sim_disk_new ();
      if (!disks[i])
        return FALSE;
    }
  return TRUE;
}

/* Most are short: what goes wrong at all goes wrong soon. */
static NfHistory
history_of (guint32 seed)
{
  NfHistory history = { seed, 1 + seed % 4, seed % 10 == 0 ? 300 : 60, NF_KINDS_ALL };

  /* What fails in so many places leaves little else to be seen. */
  if (seed % EIO_EACH != 0)
    history.kinds &= ~NF_KIND_EIO;
  if (seed % DISK_EACH != 0)
    history.kinds &= ~NF_KINDS_DISK;
  return history;
}

/* What the workers have in common. */
typedef struct
{
  gint64 end;     /* of drawing more, monotonic; those of `found` are run in any case */
  guint next;     /* that nobody has taken yet, those of `found` first; atomic */
  gboolean ended; /* by the time, some left */
  NfHistoryCounts sums[];
} Campaign;

/* One after the other, as long as there are any: some take a hundred times as long as others. */
static void
run_some (Campaign *campaign, NfSimDisk **disks, NfHistoryCounts *sum)
{
  guint first = number ("NF_HISTORY_FIRST", 1);
  guint count = number ("NF_HISTORIES",
                        (number ("NF_LONG", 0) ? COUNT_LONG : COUNT) / number ("NF_SLOW", 1));

  while (sum->n_failures < FAILURES_MAX)
    {
      guint i = __atomic_fetch_add (&campaign->next, 1, __ATOMIC_RELAXED);
      if (i >= G_N_ELEMENTS (found) + count)
        return;
      if (i >= G_N_ELEMENTS (found) && g_get_monotonic_time () > campaign->end)
        {
          campaign->ended = TRUE;
          return;
        }
      NfHistory history = i < G_N_ELEMENTS (found)
                              ? found[i]
                              : history_of (first + i - (guint)G_N_ELEMENTS (found));
      try_one (&history, disks, sum);
    }
}

/* The one of NF_HISTORY, or some of all. */
static void
work (Campaign *campaign, guint worker)
{
  const char *one = g_getenv ("NF_HISTORY");
  NfHistoryCounts *sum = &campaign->sums[worker];
  NfSimDisk *disks[NF_WORLD_SITES] = { 0 };
  NfSimDisk **have = make_disks (disks) ? disks : NULL;
  NfHistory history;

  if (!have && worker == 0)
    printf ("without disks of their own: no power cuts, full disks and EIO\n");
  if (!one)
    run_some (campaign, have, sum);
  else if (sscanf (one, "%u:%u:%u:%i", &history.seed, &history.lives, &history.steps,
                   (int *)&history.kinds)
           == 4)
    try_one (&history, have, sum);
  else
    g_error ("NF_HISTORY is SEED:LIVES:STEPS:KINDS");
  for (guint i = 0; i < NF_WORLD_SITES; i++)
    if (disks[i])
      nf_sim_disk_free (disks[i]);
}

static gboolean
work_in_children (Campaign *campaign, guint jobs)
{
  gboolean fine = TRUE;

  for (guint worker = 0; worker < jobs; worker++)
    {
      pid_t pid = fork ();
      if (pid < 0)
        g_error ("can't fork: %s", g_strerror (errno));
      if (pid == 0)
        {
          work (campaign, worker);
          exit (0);
        }
    }
  for (guint worker = 0; worker < jobs; worker++)
    {
      int status;
      fine = wait (&status) > 0 && WIFEXITED (status) && WEXITSTATUS (status) == 0 && fine;
    }
  return fine;
}

/* A disk that has just deleted many files takes ten times as long to make new ones. Power cuts have disks of their
 * own. */
static void
prefer_memory (void)
{
  struct statvfs space;

  if (!g_getenv ("TMPDIR") && access (MEMORY, W_OK) == 0 && statvfs (MEMORY, &space) == 0
      && (guint64)space.f_bavail * space.f_frsize >= MEMORY_BYTES)
    g_setenv ("TMPDIR", MEMORY, TRUE);
}

int
main (void)
{
  guint jobs = g_getenv ("NF_HISTORY") ? 1 : number ("NF_JOBS", g_get_num_processors ());
  Campaign *campaign = mmap (NULL, sizeof *campaign + jobs * sizeof *campaign->sums,
                             PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

  prefer_memory ();
  campaign->end = g_getenv ("NF_HISTORIES") || g_getenv ("NF_LONG")
                      ? G_MAXINT64
                      : g_get_monotonic_time () + SECONDS * G_TIME_SPAN_SECOND;
  /* Other tests, which run beside it, have deadlines. */
  if (!g_getenv ("NF_HISTORY"))
    (void)!nice (NICENESS);
  gboolean fine = work_in_children (campaign, jobs);
  NfHistoryCounts sum = { 0 };

  for (guint i = 0; i < jobs; i++)
    nf_history_add_counts (&sum, &campaign->sums[i]);
  printf ("%u histories, %u failed: %u kills (%u came back), %u power cuts, %u full disks, "
          "%u clock steps, %u EIO; %u files closed, %u fsynced, %u reads checked\n",
          sum.n_histories, sum.n_failures, sum.n_kills, sum.n_revived, sum.n_power, sum.n_full,
          sum.n_clock, sum.n_eio, sum.n_acked, sum.n_synced, sum.n_reads);
  if (campaign->ended)
    printf ("(%u s were over before all were run)\n", SECONDS);
  return fine && sum.n_failures == 0 ? 0 : 1;
}
