// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "tests/history-private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sync/share-internal.h"
#include "tests/sim-eio.h"

/* Nothing ever hangs. */
#define LIFE_MAX_S 300
/* A year, about. */
#define CLOCK_STEP_DAYS 400
#define DAY_NS (G_GINT64_CONSTANT (24) * 3600 * 1000000000)

/* ---- one life ---- */

/* By the last record that it has; what is applied may lag behind it. */
static void
check_epochs (Run *run)
{
  for (guint i = 0; i < NF_WORLD_SITES; i++)
    {
      NfSimSite *site = run->world->sites[i];
      if (site->dead || !site->share->journal)
        continue;
      guint64 epoch = nf_journal_last (site->share->journal).epoch;
      if (epoch != 0 && epoch < run->epochs[i])
        nf_world_fail ("G5: the epoch of %s falls from %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT,
                       nf_world_sites[i], run->epochs[i], epoch);
      run->epochs[i] = MAX (run->epochs[i], epoch);
    }
}

static void
end (Run *run, guint clean)
{
  Ledger *ledger = run->ledger;

  ledger->counts.n_eio += nf_sim_eio_count ();
  for (guint i = 0; i < ledger->n_kept; i++)
    nf_history_lose (run, &ledger->kept[i], ledger->victims, clean);
  _exit (0);
}

/* Those that still live are closed, or not. */
static void
end_life (Run *run)
{
  guint clean = 0;

  for (guint i = 0; i < NF_WORLD_SITES; i++)
    if (!run->world->sites[i]->dead && nf_world_chance (run->world, 4) > 0)
      {
        nf_world_close_site (run->world, i);
        clean |= run->world->sites[i]->dead ? 0 : 1u << i;
      }
  end (run, clean & ~run->killed);
}

static guint
dead_sites (const Run *run)
{
  guint dead = 0;

  for (guint i = 0; i < NF_WORLD_SITES; i++)
    dead |= run->world->sites[i]->dead ? 1u << i : 0;
  return dead;
}

/* Some sites die, right here; with them the power of some machines. */
static void
strike (Run *run, NfSimSite *site, const char *point)
{
  Ledger *ledger = run->ledger;
  guint killed = 1 + nf_world_chance (run->world, (1u << NF_WORLD_SITES) - 1);
  guint victims = 0;

  killed &= ~dead_sites (run);
  if ((run->history.kinds & NF_KIND_POWER) && nf_world_chance (run->world, 3) > 0)
    victims = killed & nf_world_chance (run->world, 1u << NF_WORLD_SITES);
  g_debug ("at %s of %s: sites %x are killed, %x lose power", point, site->name, killed, victims);
  for (guint i = 0; i < NF_WORLD_SITES; i++)
    {
      if (victims & (1u << i))
        nf_sim_disk_cut (run->disks[i]);
      if (killed & (1u << i))
        nf_sim_kill (run->world->sites[i]);
    }
  run->killed |= killed;
  ledger->victims |= victims;
  ledger->counts.n_kills += (guint)__builtin_popcount (killed & ~victims);
  ledger->counts.n_power += (guint)__builtin_popcount (victims);
  /* Whoever dies with the others still does what it was about to do; only so it is cut short exactly here. */
  if (nf_world_chance (run->world, 3) == 0)
    end (run, 0);
}

static void
at_point (gpointer data, NfSimSite *site, const char *name)
{
  Run *run = data;

  if ((run->history.kinds & NF_KIND_POWER) && g_rand_int_range (run->rand, 0, 60) == 0)
    nf_sim_disk_write_back (run->disks[site->name[0] - 'a'], run->rand);
  if (run->left > 0 && --run->left == 0)
    strike (run, site, name);
}

/* Some of the dead come back, and may be killed again. */
static void
revive (Run *run)
{
  guint ready = run->mourned & ~run->ledger->victims;

  for (guint i = 0; i < NF_WORLD_SITES; i++)
    if ((ready & (1u << i)) && nf_world_chance (run->world, 8) == 0)
      {
        nf_sim_bury (run->world->sites[i]);
        run->ledger->counts.n_revived++;
        run->left = 1 + nf_world_chance (run->world, run->history.steps * 6);
        nf_world_open_site (run->world, i);
        nf_world_connect (run->world);
      }
  run->mourned = dead_sites (run); /* by the next time */
}

static void
change_room (Run *run)
{
  guint i = nf_world_chance (run->world, NF_WORLD_SITES);
  gboolean full = nf_world_chance (run->world, 2) == 0;

  g_debug ("%s has %s", nf_world_sites[i], full ? "no room any more" : "room");
  nf_sim_disk_fill (run->disks[i], full);
  run->ledger->counts.n_full += full;
}

static void
set_clock (Run *run)
{
  NfSimSite *site = run->world->sites[nf_world_chance (run->world, NF_WORLD_SITES)];

  site->clock_step_ns
      = ((gint64)nf_world_chance (run->world, CLOCK_STEP_DAYS) - CLOCK_STEP_DAYS / 2) * DAY_NS;
  run->ledger->counts.n_clock++;
}

/* For a while some of what is written to a disk fails. */
static void
change_eio (Run *run)
{
  guint i = nf_world_chance (run->world, NF_WORLD_SITES);
  guint one_in = nf_world_chance (run->world, 2) == 0 ? 2 + nf_world_chance (run->world, 30) : 0;

  g_debug ("the disk of %s fails once in %u", nf_world_sites[i], one_in);
  nf_sim_disk_fail (run->disks[i], one_in, run->rand);
}

static void
disturb (Run *run)
{
  if ((run->history.kinds & NF_KIND_EIO) && nf_world_chance (run->world, 6) == 0)
    change_eio (run);
  else if ((run->history.kinds & NF_KIND_FULL) && nf_world_chance (run->world, 6) == 0)
    change_room (run);
  else if ((run->history.kinds & NF_KIND_CLOCK) && nf_world_chance (run->world, 6) == 0)
    set_clock (run);
  else
    nf_world_disturb (run->world, run->history.kinds & NF_DISTURB_ALL);
}

static void
make_room (gpointer data, guint i)
{
  Run *run = data;

  nf_sim_disk_fill (run->disks[i], FALSE);
  nf_sim_disk_fail (run->disks[i], 0, run->rand);
}

static void
begin_life (Run *run, guint life)
{
  run->world->help = run->history.kinds & (NF_KIND_FULL | NF_KIND_EIO) ? make_room : NULL;
  run->world->help_data = run;
  run->world->before_close = nf_history_forget_handles;
  run->world->before_close_data = run;
  run->rand = g_rand_new_with_seed (run->history.seed * 31 + life);
  run->chains = g_ptr_array_new ();
  run->in_turn = FALSE;
  run->buffer = g_malloc (NF_WORLD_BIG + 1);
  nf_world_begin (run->world, run->history.seed * 100 + life);
}

static void
live (Run *run, guint life)
{
  NfWorld *world = run->world;

  begin_life (run, life);
  nf_sim_at_points (world->sim, at_point, run);
  if (run->history.kinds & NF_KIND_KILL)
    run->left = 1 + nf_world_chance (world, run->history.steps * 6);
  if (run->history.kinds & NF_KIND_REVIVE)
    nf_sim_cut_short (world->sim);
  nf_sim_delays (world->sim, nf_world_chance (world, 60));
  nf_world_connect (world);
  for (guint step = 0; step < run->history.steps; step++)
    {
      if (run->history.kinds & NF_KIND_REVIVE)
        revive (run);
      nf_world_call_something (world, run->buffer);
      nf_history_begin_chain (run);
      if (nf_world_chance (world, 20) == 0)
        disturb (run);
      for (guint n = nf_world_chance (world, 30); n > 0; n--)
        if (!nf_sim_step (world->sim))
          break;
      nf_history_chains_go_on (run);
      nf_world_tend (world);
      check_epochs (run);
    }
  end_life (run);
}

static void
last_life (Run *run)
{
  for (guint i = 0; run->disks && i < NF_WORLD_SITES; i++)
    nf_sim_disk_fill (run->disks[i], FALSE);
  begin_life (run, run->history.lives);
  nf_world_settle (run->world, run->history.seed);
  nf_history_check_kept (run);
  nf_history_check_comparison (run);
  nf_sim_free (run->world->sim);
  _exit (0);
}

/* ---- one history ---- */

/* The child says nothing unless it fails, and then the end of what it has to say. */
static gboolean
in_a_child (Run *run, guint life)
{
  int status;
  pid_t pid = fork ();

  if (pid < 0)
    g_error ("can't fork: %s", g_strerror (errno));
  if (pid == 0)
    {
      (void)alarm (LIFE_MAX_S);
      int log
          = open (g_getenv ("NF_HISTORY_LOG") ?: "/dev/null", O_WRONLY | O_CREAT | O_APPEND, 0644);
      (void)dup2 (log, STDOUT_FILENO);
      if (g_getenv ("NF_HISTORY_LOG") || !g_getenv ("NF_HISTORY"))
        (void)dup2 (log, STDERR_FILENO);
      if (life == run->history.lives)
        last_life (run);
      live (run, life);
    }
  while (waitpid (pid, &status, 0) != pid)
    ;
  return WIFEXITED (status) && WEXITSTATUS (status) == 0;
}

static void
come_back (Run *run)
{
  for (guint i = 0; i < NF_WORLD_SITES; i++)
    if (run->disks && (run->ledger->victims & (1u << i)))
      {
        nf_sim_disk_come_back (run->disks[i]);
        run->world->boots[i]++;
      }
  run->ledger->victims = 0;
  run->world->under_way = 0;
  run->world->sim = NULL; /* the child's */
}

void
nf_history_add_counts (NfHistoryCounts *sum, const NfHistoryCounts *counts)
{
  sum->n_histories += counts->n_histories;
  sum->n_failures += counts->n_failures;
  sum->n_power += counts->n_power;
  sum->n_kills += counts->n_kills;
  sum->n_revived += counts->n_revived;
  sum->n_full += counts->n_full;
  sum->n_clock += counts->n_clock;
  sum->n_eio += counts->n_eio;
  sum->n_acked += counts->n_acked;
  sum->n_synced += counts->n_synced;
  sum->n_reads += counts->n_reads;
}

gboolean
nf_history_run (const NfHistory *history, NfSimDisk **disks, NfHistoryCounts *sum)
{
  char *dirs[NF_WORLD_SITES];
  Run run = { .history = *history, .disks = disks };
  gboolean fine = TRUE;

  if (!(history->kinds & NF_KINDS_DISK))
    disks = NULL;
  if (!disks)
    run.history.kinds &= ~NF_KINDS_DISK;
  nf_sim_skip_syncs (!disks);
  for (guint i = 0; disks && i < NF_WORLD_SITES; i++)
    dirs[i] = (char *)nf_sim_disk_dir (disks[i]);
  run.world = nf_world_alloc (disks ? dirs : NULL);
  run.ledger
      = mmap (NULL, sizeof *run.ledger, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  for (guint life = 0; fine && life <= history->lives; life++)
    {
      fine = in_a_child (&run, life);
      come_back (&run);
    }
  nf_history_add_counts (sum, &run.ledger->counts);
  munmap (run.ledger, sizeof *run.ledger);
  if (!fine && g_getenv ("NF_HISTORY"))
    return FALSE; /* to be looked at */
  nf_world_free (run.world);
  for (guint i = 0; disks && i < NF_WORLD_SITES; i++)
    nf_sim_disk_clean (disks[i]);
  return fine;
}
