// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "sync/grants.h"
#include "tests/sim-world.h"

/* Locks between real sites in the simulator. The main test has processes at three sites that add one to a number under a
 * lock, while links are cut, for shorter and for longer than the lease, and sites restarted: no number that was written and
 * flushed may have been written twice. NF_SIM_SEED=n runs one seed, NF_SIM_SEEDS=n so many. */

#define SEEDS 40
#define STEPS 1500
#define PROCESSES 6

typedef struct
{
  NfWorld *world;
  NfFid fid;
  GHashTable *written; /* the numbers that were; a direct hash */
  guint n_done;
  guint n_failed;
} Game;

/* One that opens, locks, reads, writes, flushes, unlocks, closes. */
typedef struct Process Process;
struct Process
{
  Game *game;
  guint site;
  guint step;
  gboolean waiting;
  int status;
  NfFile *file;
  guint64 owner;
  guint64 id; /* of the lock that it waits for */
  guint number;
};

static void
answered (gpointer data, int status, const NfMsg *answer)
{
  Process *process = data;

  process->waiting = FALSE;
  process->status = status;
  process->id = 0;
  if (status == 0 && process->step == 3) /* READ */
    {
      g_autofree char *text = nf_slice_dup (answer->answer.data);
      process->number = (guint)atoi (text);
    }
}

static void
opened (gpointer data, int status, NfFile *file)
{
  Process *process = data;

  process->waiting = FALSE;
  process->status = status;
  process->file = file;
}

static NfShare *
share_of (const Process *process)
{
  return process->game->world->sites[process->site]->share;
}

static void
lock (Process *process, NfLockType type)
{
  NfMsg msg = { .type = NF_MSG_LOCK };

  msg.head.share = 7;
  msg.lock.fid = process->game->fid;
  msg.lock.owner = process->owner;
  msg.lock.type = (guint8)type;
  msg.lock.how = NF_LOCK_WAIT;
  msg.lock.end = G_MAXINT64;
  nf_file_call (process->file, &msg, answered, process, &process->id);
}

static void
read_number (Process *process)
{
  NfMsg msg = { .type = NF_MSG_READ };

  msg.read.fid = process->game->fid;
  msg.read.size = 32;
  nf_file_call (process->file, &msg, answered, process, NULL);
}

static void
write_number (Process *process)
{
  NfMsg msg = { .type = NF_MSG_WRITE };
  char text[32];

  g_snprintf (text, sizeof text, "%08u", process->number + 1);
  msg.head.uid = getuid ();
  msg.head.gid = getgid ();
  msg.write.fid = process->game->fid;
  msg.write.data = nf_slice_str (text);
  nf_file_call (process->file, &msg, answered, process, NULL);
}

static void
note_written (Process *process)
{
  gpointer key = GUINT_TO_POINTER (process->number + 1);

  if (!g_hash_table_add (process->game->written, key))
    nf_world_fail ("%u was written twice under a lock", process->number + 1);
  process->game->n_done++;
}

/* Whatever failed: the file is closed, which lets go of all. */
static void
close_file (Process *process)
{
  if (process->file)
    {
      lock (process, NF_LOCK_NONE); /* as the mount does */
      nf_file_close (g_steal_pointer (&process->file));
    }
  process->step = 0;
}

static void
go_on (Process *process)
{
  if (process->status != 0)
    {
      process->status = 0;
      process->game->n_failed++;
      if (process->file && process->step < 7)
        {
          process->waiting = TRUE;
          process->step = 7;
          lock (process, NF_LOCK_NONE);
          return;
        }
    }
  process->waiting = TRUE;
  switch (++process->step)
    {
    case 1:
      process->owner += PROCESSES;
      nf_share_open_file (share_of (process), process->game->fid, O_RDWR, FALSE, opened, process);
      break;
    case 2:
      lock (process, NF_LOCK_WRITE);
      break;
    case 3:
      read_number (process);
      break;
    case 4:
      write_number (process);
      break;
    case 5:
      nf_share_flush (share_of (process), process->game->fid, process->file, FALSE, FALSE, answered,
                      process);
      break;
    case 6:
      note_written (process);
      lock (process, NF_LOCK_NONE);
      break;
    default:
      process->waiting = FALSE;
      if (process->file)
        nf_file_close (g_steal_pointer (&process->file));
      process->step = 0;
      break;
    }
}

static NfFid
make_number (NfWorld *world)
{
  NfMsg create = { .type = NF_MSG_CREATE };
  g_auto (NfMsg) answer = { 0 };

  create.head.uid = getuid ();
  create.head.gid = getgid ();
  create.create.parent = NF_FID_ROOT;
  create.create.name = nf_slice_str ("number");
  create.create.mode = 0666;
  if (nf_sim_call (world->sites[0], &create, &answer) != 0)
    nf_world_fail ("no file");
  return answer.answer.attr.fid;
}

/* Links come and go; now and then one is away for longer than a lease. */
static void
disturb (NfWorld *world)
{
  guint site = 1 + nf_world_chance (world, NF_WORLD_SITES - 1);

  if (nf_world_chance (world, 3) > 0)
    {
      nf_world_connect (world);
      return;
    }
  nf_sim_cut (world->sim, "a", nf_world_sites[site]);
  if (nf_world_chance (world, 4) == 0)
    nf_sim_run (world->sim, nf_world_chance (world, 2 * NF_LEASE_MS));
}

static void
step (Process *processes, NfWorld *world)
{
  Process *process = &processes[nf_world_chance (world, PROCESSES)];

  if (!process->waiting)
    go_on (process);
  else if (process->step == 2 && process->id != 0 && nf_world_chance (world, 100) == 0)
    nf_share_cancel (share_of (process), process->id);
  (void)nf_sim_step (world->sim);
}

/* What is under way ends; all is closed. */
static void
end (Process *processes, NfWorld *world)
{
  nf_world_connect (world);
  for (guint i = 0; i < PROCESSES; i++)
    {
      Process *process = &processes[i];
      for (guint n = 0; process->waiting || process->step != 0; n++)
        {
          if (n > 200000)
            nf_world_fail ("a process at %s hangs in step %u", nf_world_sites[process->site],
                           process->step);
          for (guint k = 0; k < PROCESSES; k++)
            if (!processes[k].waiting && processes[k].step != 0)
              go_on (&processes[k]);
          (void)nf_sim_step (world->sim);
        }
      close_file (process);
    }
}

static void
play (guint32 seed)
{
  NfWorld *world = nf_world_new (seed);
  Game game = { .world = world, .fid = 0 };
  Process processes[PROCESSES] = { 0 };

  nf_sim_use_locks (world->sim);
  nf_sim_delays (world->sim, 30);
  game.written = g_hash_table_new (NULL, NULL);
  nf_world_connect (world);
  nf_sim_run (world->sim, 2000);
  game.fid = make_number (world);
  nf_sim_run (world->sim, 2000);
  for (guint i = 0; i < PROCESSES; i++)
    processes[i] = (Process){ .game = &game, .site = i % NF_WORLD_SITES, .owner = 1 + i };
  for (guint i = 0; i < STEPS; i++)
    {
      step (processes, world);
      if (nf_world_chance (world, 60) == 0)
        disturb (world);
    }
  end (processes, world);
  nf_world_settle (world, seed);
  cr_assert_gt (game.n_done, 3, "seed %u", seed);
  g_hash_table_unref (game.written);
  nf_world_free (world);
}

Test (locks, no_number_is_written_twice)
{
  const char *only = g_getenv ("NF_SIM_SEED");
  const char *many = g_getenv ("NF_SIM_SEEDS");
  guint32 n = many ? (guint32)atoi (many) : SEEDS;

  if (only)
    play ((guint32)atoi (only));
  else
    for (guint32 seed = 1; seed <= n; seed++)
      play (seed);
}

/* ---- one thing at a time ---- */

typedef struct
{
  gboolean over;
  int status;
} Asked;

static void
note_answer (gpointer data, int status, const NfMsg *answer)
{
  Asked *asked = data;

  (void)answer;
  asked->over = TRUE;
  asked->status = status;
}

static NfMsg
lock_msg (NfFid fid, guint64 owner, NfLockType type, guint8 how)
{
  NfMsg msg = { .type = NF_MSG_LOCK };

  msg.head.share = 7;
  msg.lock.fid = fid;
  msg.lock.owner = owner;
  msg.lock.type = (guint8)type;
  msg.lock.how = how;
  msg.lock.end = G_MAXINT64;
  return msg;
}

static int
ask (NfSimSite *site, NfFid fid, NfLockType type)
{
  NfMsg msg = lock_msg (fid, 1, type, NF_LOCK_TRY);

  return nf_sim_call (site, &msg, NULL);
}

static NfWorld *
world_with_file (NfFid *ret_fid)
{
  NfWorld *world = nf_world_new (1);

  nf_sim_use_locks (world->sim);
  nf_world_connect (world);
  nf_sim_run (world->sim, 2000);
  *ret_fid = make_number (world);
  nf_sim_run (world->sim, 2000);
  return world;
}

Test (locks, a_cut_shorter_than_the_lease_loses_nothing)
{
  NfFid fid;
  NfWorld *world = world_with_file (&fid);

  cr_assert_eq (ask (world->sites[1], fid, NF_LOCK_WRITE), 0);
  nf_sim_cut (world->sim, "a", "b");
  nf_sim_run (world->sim, NF_LEASE_MS - NF_LEASE_MARGIN_MS - 1000);
  cr_assert_eq (ask (world->sites[2], fid, NF_LOCK_READ), -EAGAIN);
  nf_world_connect (world);
  nf_sim_run (world->sim, 2 * NF_LEASE_MS);
  cr_assert_eq (ask (world->sites[2], fid, NF_LOCK_READ), -EAGAIN);
  cr_assert_eq (ask (world->sites[1], fid, NF_LOCK_NONE), 0);
  cr_assert_eq (ask (world->sites[2], fid, NF_LOCK_READ), 0);
  nf_world_free (world);
}

Test (locks, the_lease_ends_sooner_at_the_holder)
{
  NfFid fid;
  NfWorld *world = world_with_file (&fid);
  NfFile *file = NULL;
  Process process = { .waiting = TRUE };
  Asked asked = { 0 };
  NfMsg take = lock_msg (0, 1, NF_LOCK_WRITE, NF_LOCK_TRY);
  NfMsg stat = { .type = NF_MSG_GETATTR };

  nf_share_open_file (world->sites[1]->share, fid, O_RDWR, FALSE, opened, &process);
  nf_sim_run (world->sim, 1000);
  file = process.file;
  take.lock.fid = stat.getattr.fid = fid;
  nf_file_call (file, &take, note_answer, &asked, NULL);
  nf_sim_run (world->sim, 1000);
  cr_assert (asked.over && asked.status == 0);
  nf_sim_cut (world->sim, "a", "b");
  nf_sim_run (world->sim, NF_LEASE_MS - NF_LEASE_MARGIN_MS + 1000);
  cr_assert_eq (ask (world->sites[2], fid, NF_LOCK_READ), -EAGAIN, "not before its time");
  asked = (Asked){ 0 };
  nf_file_call (file, &stat, note_answer, &asked, NULL);
  cr_assert (asked.over && asked.status == -EIO, "%d", asked.status);
  nf_sim_run (world->sim, NF_LEASE_MARGIN_MS);
  cr_assert_eq (ask (world->sites[2], fid, NF_LOCK_READ), 0);
  nf_world_connect (world);
  nf_sim_run (world->sim, 2000);
  asked = (Asked){ 0 };
  nf_file_call (file, &stat, note_answer, &asked, NULL);
  cr_assert (asked.over && asked.status == -EIO, "the link is back, the lock isn't");
  nf_file_close (file);
  nf_world_free (world);
}

Test (locks, what_a_restarted_primary_gave_it_does_not_give_again)
{
  NfFid fid;
  NfWorld *world = world_with_file (&fid);

  cr_assert_eq (ask (world->sites[1], fid, NF_LOCK_WRITE), 0);
  nf_sim_close (world->sites[0]);
  nf_world_open_site (world, 0);
  /* c is there first, and b's lock isn't known yet. */
  nf_sim_connect (world->sim, "a", "c");
  Asked asked = { 0 };
  NfMsg msg = lock_msg (fid, 1, NF_LOCK_WRITE, NF_LOCK_TRY);
  nf_sim_run (world->sim, 3000);
  nf_share_call (world->sites[2]->share, &msg, note_answer, &asked, NULL);
  nf_sim_run (world->sim, 3000);
  cr_assert_not (asked.over, "it was answered %d before b has said what it has", asked.status);
  nf_world_connect (world);
  nf_sim_run (world->sim, 3000);
  cr_assert (asked.over && asked.status == -EAGAIN, "%d", asked.status);
  cr_assert_eq (ask (world->sites[1], fid, NF_LOCK_NONE), 0);
  nf_world_free (world);
}

/* The next life couldn't know of it, and would give it to others. */
Test (locks, what_cannot_be_recorded_is_not_given)
{
  struct rlimit before, none;
  NfFid fid;

  (void)signal (SIGXFSZ, SIG_IGN);
  cr_assert_eq (getrlimit (RLIMIT_FSIZE, &before), 0);
  before.rlim_cur = (rlim_t)1 << 40; /* a limit: so that the index isn't written through its map */
  cr_assert_eq (setrlimit (RLIMIT_FSIZE, &before), 0);
  NfWorld *world = world_with_file (&fid);
  none = before;
  none.rlim_cur = 1;
  cr_assert_eq (setrlimit (RLIMIT_FSIZE, &none), 0);
  cr_assert_eq (ask (world->sites[1], fid, NF_LOCK_WRITE), -ENOLCK);
  cr_assert_eq (ask (world->sites[0], fid, NF_LOCK_WRITE), 0, "its own end with it");
  cr_assert_eq (ask (world->sites[0], fid, NF_LOCK_NONE), 0);
  cr_assert_eq (setrlimit (RLIMIT_FSIZE, &before), 0);
  cr_assert_eq (ask (world->sites[1], fid, NF_LOCK_WRITE), 0);
  cr_assert_eq (ask (world->sites[2], fid, NF_LOCK_WRITE), -EAGAIN);
  nf_world_free (world);
}

Test (locks, a_site_opened_again_has_none)
{
  NfFid fid;
  NfWorld *world = world_with_file (&fid);

  cr_assert_eq (ask (world->sites[1], fid, NF_LOCK_WRITE), 0);
  nf_sim_close (world->sites[1]);
  nf_world_open_site (world, 1);
  nf_world_connect (world);
  nf_sim_run (world->sim, 3000);
  cr_assert_eq (ask (world->sites[2], fid, NF_LOCK_WRITE), 0);
  nf_world_free (world);
}

Test (locks, a_file_that_it_has_to_itself_a_site_locks_without_asking)
{
  NfFid fid;
  NfWorld *world = world_with_file (&fid);

  cr_assert_eq (ask (world->sites[1], fid, NF_LOCK_WRITE), 0);
  nf_sim_cut (world->sim, "a", "b");
  cr_assert_eq (ask (world->sites[1], fid, NF_LOCK_NONE), 0);
  cr_assert_eq (ask (world->sites[1], fid, NF_LOCK_READ), 0);
  cr_assert_eq (ask (world->sites[1], fid, NF_LOCK_NONE), 0);
  nf_world_connect (world);
  nf_sim_run (world->sim, 3000);
  cr_assert_eq (ask (world->sites[2], fid, NF_LOCK_WRITE), 0, "it is recalled");
  cr_assert_eq (ask (world->sites[1], fid, NF_LOCK_READ), -EAGAIN);
  cr_assert_eq (ask (world->sites[0], fid, NF_LOCK_READ), -EAGAIN);
  nf_world_free (world);
}

/* b has the file to itself, and can't be asked for it. */
Test (locks, who_waits_for_a_recall_can_be_interrupted)
{
  NfFid fid;
  NfWorld *world = world_with_file (&fid);
  NfMsg msg;
  Asked asked = { 0 };
  guint64 id = 0;

  cr_assert_eq (ask (world->sites[1], fid, NF_LOCK_WRITE), 0);
  msg = lock_msg (fid, 1, NF_LOCK_WRITE, NF_LOCK_WAIT);
  nf_sim_cut (world->sim, "a", "b");
  nf_share_call (world->sites[2]->share, &msg, note_answer, &asked, &id);
  nf_sim_run (world->sim, 1000);
  cr_assert_not (asked.over);
  nf_share_cancel (world->sites[2]->share, id);
  nf_sim_run (world->sim, 1000);
  cr_assert (asked.over && asked.status == -EINTR);
  nf_world_free (world);
}

/* The second is asked for before the answer to the first says that the file is b's to decide; so it is asked for once more. */
Test (locks, who_was_asked_for_twice_can_be_interrupted)
{
  NfFid fid;
  NfWorld *world = world_with_file (&fid);
  NfShare *share = world->sites[1]->share;
  NfMsg first, second;
  Asked asked[2] = { 0 };
  guint64 id = 0;

  first = lock_msg (fid, 1, NF_LOCK_WRITE, NF_LOCK_TRY);
  second = lock_msg (fid, 2, NF_LOCK_WRITE, NF_LOCK_WAIT);
  nf_share_call (share, &first, note_answer, &asked[0], NULL);
  nf_share_call (share, &second, note_answer, &asked[1], &id);
  nf_sim_run (world->sim, 3000);
  cr_assert (asked[0].over && asked[0].status == 0);
  cr_assert_not (asked[1].over);
  nf_share_cancel (share, id);
  nf_sim_run (world->sim, 1000);
  cr_assert (asked[1].over && asked[1].status == -EINTR);
  cr_assert_eq (ask (world->sites[1], fid, NF_LOCK_NONE), 0);
  cr_assert_eq (ask (world->sites[2], fid, NF_LOCK_WRITE), 0);
  nf_world_free (world);
}
