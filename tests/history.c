// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "tests/history.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sync/check.h"
#include "tests/sim-eio.h"

/* Nothing ever hangs. */
#define LIFE_MAX_S 300
#define DOC_LEN (20 * 1024)
#define KEEP_LEN_MAX 12000
#define OWN_LEN 600
#define NAME_LEN 16
#define CHAINS 6
/* A year, about. */
#define CLOCK_STEP_DAYS 400
#define DAY_NS (G_GINT64_CONSTANT (24) * 3600 * 1000000000)

typedef enum
{
  MUST_NOTHING,
  MUST_SOMEWHERE, /* in some tree or quarantine */
  MUST_ALL,       /* at each site */
} Must;

typedef struct
{
  guint64 id; /* its content is this, repeated */
  guint32 len;
  gboolean synced;
  Must must;
} Kept;

#define KEPT_MAX 4096

/* Shared by all lives. */
typedef struct
{
  Kept kept[KEPT_MAX];
  guint n_kept;
  guint64 next_id;
  guint victims; /* whose power went at the end of the life */
  NfHistoryCounts counts;
} Ledger;

typedef struct
{
  NfHistory history;
  NfWorld *world;
  NfSimDisk **disks; /* NULL: none */
  Ledger *ledger;
  GRand *rand; /* for what isn't the simulator's */
  guint left;  /* steps to the end of this life */
  guint64 epochs[NF_WORLD_SITES];
  gboolean in_turn; /* somebody writes the two files that go together */
  GPtrArray *chains;
  guint8 *buffer;
} Run;

/* ---- chains of calls ---- */

typedef struct Chain Chain;
struct Chain
{
  Run *run;
  guint site;
  guint step;
  gboolean waiting;
  gboolean over;
  int status;
  NfFid fid;
  guint64 id;
  guint32 len;
  gboolean sync;
  guint64 seen;  /* in the second of two files */
  guint cuts;    /* of links, when it wrote */
  guint opening; /* of its site, when it looked up */
  void (*go) (Chain *chain);
};

static void
chain_new (Run *run, void (*go) (Chain *chain))
{
  Chain *chain = g_new0 (Chain, 1);

  chain->run = run;
  chain->go = go;
  chain->site = nf_world_chance (run->world, NF_WORLD_SITES);
  chain->id = ++run->ledger->next_id;
  chain->sync = nf_world_chance (run->world, 2) == 0;
  chain->len = 8 * (1 + nf_world_chance (run->world, KEEP_LEN_MAX / 8));
  g_ptr_array_add (run->chains, chain);
}

static void
fill (guint8 *buffer, guint64 id, guint32 len)
{
  for (guint32 i = 0; i < len; i += sizeof id)
    memcpy (buffer + i, &id, sizeof id);
}

/* The id that all of it is; 0: of more than one, or none. */
static guint64
id_of (const guint8 *data, gsize len)
{
  guint64 id;

  if (len < sizeof id || len % sizeof id != 0)
    return 0;
  memcpy (&id, data, sizeof id);
  for (gsize i = 0; i < len; i += sizeof id)
    if (memcmp (data + i, &id, sizeof id) != 0)
      return 0;
  return id;
}

static void
answered (gpointer data, int status, const NfMsg *answer)
{
  Chain *chain = data;

  chain->waiting = FALSE;
  chain->status = status;
  if (status == 0 && answer && answer->type == NF_MSG_ANSWER && chain->fid == NF_FID_NONE)
    chain->fid = answer->answer.attr.fid;
}

static void
chain_call (Chain *chain, NfMsg *msg, NfCallDone done)
{
  NfShare *share = chain->run->world->sites[chain->site]->share;

  msg->head.share = 7;
  msg->head.uid = getuid ();
  msg->head.gid = getgid ();
  chain->waiting = TRUE;
  nf_share_call (share, msg, done, chain, NULL);
}

static void
chain_create (Chain *chain, const char *name)
{
  NfMsg msg = { .type = NF_MSG_CREATE };

  chain->fid = NF_FID_NONE;
  msg.create.parent = NF_FID_ROOT;
  msg.create.name = nf_slice_str (name);
  msg.create.mode = 0644;
  chain_call (chain, &msg, answered);
}

static void
chain_write (Chain *chain, guint32 len)
{
  NfMsg msg = { .type = NF_MSG_WRITE };
  g_autofree guint8 *data = g_malloc (len);

  fill (data, chain->id, len);
  msg.write.fid = chain->fid;
  msg.write.data = nf_slice (data, len);
  chain_call (chain, &msg, answered);
}

static void
chain_flush (Chain *chain, gboolean sync)
{
  chain->waiting = TRUE;
  nf_share_flush (chain->run->world->sites[chain->site]->share, chain->fid, NULL, sync, FALSE,
                  answered, chain);
}

static void
chain_read (Chain *chain, guint32 len, NfCallDone done)
{
  NfMsg msg = { .type = NF_MSG_READ };

  msg.read.fid = chain->fid;
  msg.read.size = len;
  chain_call (chain, &msg, done);
}

static void
has_size (gpointer data, int status, const NfMsg *answer)
{
  Chain *chain = data;

  answered (data, status, NULL);
  if (status == 0 && answer->answer.attr.size != chain->len)
    chain->status = -EIO;
}

/* Without a handle nobody is told that a write has failed. */
static void
chain_check_size (Chain *chain)
{
  NfMsg msg = { .type = NF_MSG_GETATTR };

  msg.getattr.fid = chain->fid;
  chain_call (chain, &msg, has_size);
}

static void
chain_look_up (Chain *chain, const char *name)
{
  NfMsg msg = { .type = NF_MSG_LOOKUP };

  chain->fid = NF_FID_NONE;
  msg.lookup.parent = NF_FID_ROOT;
  msg.lookup.name = nf_slice_str (name);
  chain_call (chain, &msg, answered);
}

/* ---- what is kept (G4, G6) ---- */

static void
kept_name (guint64 id, char *ret_name)
{
  g_snprintf (ret_name, NAME_LEN, "k%" G_GUINT64_FORMAT, id);
}

static void
keep (Chain *chain)
{
  Ledger *ledger = chain->run->ledger;
  char name[NAME_LEN];

  chain->over = chain->status != 0;
  if (chain->over)
    return;
  kept_name (chain->id, name);
  switch (chain->step++)
    {
    case 0:
      chain_create (chain, name);
      break;
    case 1:
      chain_write (chain, chain->len);
      break;
    case 2:
      chain_flush (chain, chain->sync);
      break;
    case 3:
      chain_check_size (chain);
      break;
    default:
      chain->over = TRUE;
      if (ledger->n_kept == KEPT_MAX)
        break;
      ledger->kept[ledger->n_kept++] = (Kept){ chain->id, chain->len, chain->sync, MUST_ALL };
      if (chain->sync)
        ledger->counts.n_synced++;
      else
        ledger->counts.n_acked++;
      break;
    }
}

/* ---- documents (G2) ---- */

static void
save (Chain *chain)
{
  NfMsg msg = { .type = NF_MSG_RENAME };
  char name[NAME_LEN];

  chain->over = chain->status != 0;
  if (chain->over)
    return;
  g_snprintf (name, sizeof name, "t%" G_GUINT64_FORMAT, chain->id);
  switch (chain->step++)
    {
    case 0:
      chain_create (chain, name);
      break;
    case 1:
      chain->len = DOC_LEN;
      chain_write (chain, DOC_LEN);
      break;
    case 2:
      /* As on any disk, a power cut can leave a name without what wasn't fsynced. */
      chain_flush (chain, chain->sync || (chain->run->history.kinds & NF_KIND_POWER));
      break;
    case 3:
      chain_check_size (chain);
      break;
    case 4:
      msg.rename.parent = msg.rename.newparent = NF_FID_ROOT;
      msg.rename.name = nf_slice_str (name);
      msg.rename.newname = nf_slice_str ("doc");
      chain_call (chain, &msg, answered);
      break;
    default:
      chain->over = TRUE;
      break;
    }
}

static void
document_read (gpointer data, int status, const NfMsg *answer)
{
  Chain *chain = data;

  answered (data, status, NULL);
  if (status != 0)
    return;
  NfSlice is = answer->answer.data;
  chain->run->ledger->counts.n_reads++;
  if (is.len != DOC_LEN || id_of (is.data, is.len) == 0)
    nf_world_fail ("G2: %s reads a document of %zu bytes that isn't one version",
                   nf_world_sites[chain->site], is.len);
}

static void
read_document (Chain *chain)
{
  guint opening = chain->run->world->openings[chain->site];

  /* What was looked up before a restart nobody has any more: the new life may show an older state. */
  chain->over
      = chain->status != 0 || chain->step == 2 || (chain->step > 0 && chain->opening != opening);
  if (chain->over)
    return;
  chain->opening = opening;
  if (chain->step++ == 0)
    chain_look_up (chain, "doc");
  else
    chain_read (chain, DOC_LEN + 1, document_read);
}

/* ---- read your writes (G3) ---- */

static void
own_read (gpointer data, int status, const NfMsg *answer)
{
  Chain *chain = data;

  answered (data, status, NULL);
  if (status != 0)
    return;
  NfSlice is = answer->answer.data;
  chain->run->ledger->counts.n_reads++;
  guint64 id = id_of (is.data, is.len);
  gboolean may_have_failed
      = (chain->run->history.kinds & (NF_KIND_FULL | NF_KIND_EIO))
        || chain->cuts != nf_sim_cuts (chain->run->world->sim)
        || !nf_sim_connected (chain->run->world->sim, "a", nf_world_sites[chain->site]);
  /* That there is no room, or no link, is found out only after the write has returned. */
  if (!(may_have_failed && chain->site != 0) && (is.len != OWN_LEN || id < chain->id))
    nf_world_fail ("G3: %s wrote %" G_GUINT64_FORMAT " and reads %" G_GUINT64_FORMAT " (%zu bytes)",
                   nf_world_sites[chain->site], chain->id, id, is.len);
}

static void
write_own (Chain *chain)
{
  char name[NAME_LEN];

  chain->over = chain->status != 0 || chain->step == 3;
  if (chain->over)
    return;
  g_snprintf (name, sizeof name, "own-%s", nf_world_sites[chain->site]);
  switch (chain->step++)
    {
    case 0:
      chain_create (chain, name);
      break;
    case 1:
      chain->id = ++chain->run->ledger->next_id; /* the greatest yet, whoever began first */
      chain->cuts = nf_sim_cuts (chain->run->world->sim);
      chain_write (chain, OWN_LEN);
      break;
    case 2:
      chain_read (chain, OWN_LEN + 1, own_read);
      break;
    default:
      break;
    }
}

/* ---- one after the other (G2) ---- */

/* At the primary, where a write that returns has been done. */
static void
write_in_turn (Chain *chain)
{
  Run *run = chain->run;

  if (chain->step == 0)
    {
      chain->over = run->in_turn || run->world->sites[0]->dead;
      chain->site = 0;
      run->in_turn = TRUE;
    }
  if (chain->over)
    return;
  if (chain->status != 0 || chain->step == 6)
    {
      chain->over = TRUE;
      run->in_turn = FALSE;
      return;
    }
  switch (chain->step++ % 3)
    {
    case 0:
      if (chain->step == 1)
        chain->id = ++run->ledger->next_id;
      chain_create (chain, chain->step == 1 ? "first" : "second");
      break;
    case 1:
      chain_write (chain, sizeof chain->id);
      break;
    default:
      /* A power cut may take the one and not the other, of what wasn't fsynced. */
      chain_flush (chain, run->history.kinds & NF_KIND_POWER);
      break;
    }
}

/* A site that catches up may have one file newer than another, and says so. */
static gboolean
is_in_step (const Chain *chain)
{
  NfShareStatus status;

  nf_share_status (chain->run->world->sites[chain->site]->share, &status);
  return chain->site == 0 || g_str_equal (status.state, "in step");
}

static void
in_turn_read (gpointer data, int status, const NfMsg *answer)
{
  Chain *chain = data;

  answered (data, status, NULL);
  chain->over = status != 0 || !is_in_step (chain);
  if (chain->over)
    return;
  NfSlice is = answer->answer.data;
  guint64 id = id_of (is.data, is.len);
  chain->run->ledger->counts.n_reads++;
  if (chain->step == 4 && id < chain->seen)
    nf_world_fail ("G2: %s reads %" G_GUINT64_FORMAT
                   " in the second file and then %" G_GUINT64_FORMAT " in the first",
                   nf_world_sites[chain->site], chain->seen, id);
  chain->seen = id;
}

static void
read_in_turn (Chain *chain)
{
  chain->over = chain->over || chain->status != 0 || chain->step == 4;
  if (chain->over)
    return;
  switch (chain->step++)
    {
    case 0:
      chain_look_up (chain, "second");
      break;
    case 2:
      chain_look_up (chain, "first");
      break;
    default:
      chain_read (chain, sizeof chain->id + 1, in_turn_read);
      break;
    }
}

/* ---- one life ---- */

static void
begin_chain (Run *run)
{
  static void (*const kinds[]) (Chain *)
      = { keep, keep, save, read_document, write_own, write_in_turn, read_in_turn };

  if (run->chains->len < CHAINS)
    chain_new (run, kinds[nf_world_chance (run->world, G_N_ELEMENTS (kinds))]);
}

static void
chains_go_on (Run *run)
{
  for (guint i = run->chains->len; i > 0; i--)
    {
      Chain *chain = run->chains->pdata[i - 1];
      if (run->world->sites[chain->site]->dead)
        {
          chain->over = TRUE; /* nobody is told; it may be answered yet, so it stays */
          run->in_turn = run->in_turn && chain->go != write_in_turn;
        }
      else if (!chain->waiting)
        chain->go (chain);
      if (chain->over)
        g_ptr_array_remove_index_fast (run->chains, i - 1); /* freed with the life */
    }
}

static void
check_epochs (Run *run)
{
  for (guint i = 0; i < NF_WORLD_SITES; i++)
    {
      NfShareStatus status;
      if (run->world->sites[i]->dead)
        continue;
      nf_share_status (run->world->sites[i]->share, &status);
      if (status.position.epoch != 0 && status.position.epoch < run->epochs[i])
        nf_world_fail ("G5: the epoch of %s falls from %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT,
                       nf_world_sites[i], run->epochs[i], status.position.epoch);
      run->epochs[i] = MAX (run->epochs[i], status.position.epoch);
    }
}

static gboolean
is_whole (const char *dir, const Kept *kept)
{
  char name[NAME_LEN];
  g_autofree char *data = NULL;
  gsize len;

  kept_name (kept->id, name);
  g_autofree char *path = g_build_filename (dir, name, NULL);
  return g_file_get_contents (path, &data, &len, NULL) && len == kept->len
         && id_of ((const guint8 *)data, len) == kept->id;
}

/* What can't be expected any more of KEPT when the power of VICTIMS has gone, and the sites CLEAN have ended in order. */
static void
lose (Run *run, Kept *kept, guint victims, guint clean)
{
  Must must = MUST_NOTHING;

  if (kept->synced || kept->must == MUST_NOTHING || victims == 0)
    return;
  if (!(victims & 1) && is_whole (run->world->dirs[0], kept))
    return;
  /* One that was killed at the same time may be the one that is taken from, and isn't sure of what it wrote last. */
  gboolean sure = (victims | clean) == (1u << NF_WORLD_SITES) - 1;
  for (guint i = 1; i < NF_WORLD_SITES; i++)
    if (sure && (clean & (1u << i)) && is_whole (run->world->dirs[i], kept))
      must = MUST_SOMEWHERE;
  kept->must = MIN (kept->must, must);
}

static void
end (Run *run, guint clean)
{
  Ledger *ledger = run->ledger;

  ledger->counts.n_eio += nf_sim_eio_count ();
  for (guint i = 0; i < ledger->n_kept; i++)
    lose (run, &ledger->kept[i], ledger->victims, clean);
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
        nf_sim_close (run->world->sites[i]);
        clean |= run->world->sites[i]->dead ? 0 : 1u << i;
      }
  end (run, clean);
}

/* Some sites die, right here; with them the power of some machines. */
static void
strike (Run *run, NfSimSite *site, const char *point)
{
  Ledger *ledger = run->ledger;
  guint killed = 1 + nf_world_chance (run->world, (1u << NF_WORLD_SITES) - 1);

  if ((run->history.kinds & NF_KIND_POWER) && nf_world_chance (run->world, 3) > 0)
    ledger->victims = killed & nf_world_chance (run->world, 1u << NF_WORLD_SITES);
  g_debug ("at %s of %s: sites %x are killed, %x lose power", point, site->name, killed,
           ledger->victims);
  for (guint i = 0; i < NF_WORLD_SITES; i++)
    {
      if (ledger->victims & (1u << i))
        nf_sim_disk_cut (run->disks[i]);
      if (killed & (1u << i))
        nf_sim_kill (run->world->sites[i]);
    }
  ledger->counts.n_kills += (guint)__builtin_popcount (killed & ~ledger->victims);
  ledger->counts.n_power += (guint)__builtin_popcount (ledger->victims);
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
  nf_sim_delays (world->sim, nf_world_chance (world, 60));
  nf_world_connect (world);
  for (guint step = 0; step < run->history.steps; step++)
    {
      nf_world_call_something (world, run->buffer);
      begin_chain (run);
      if (nf_world_chance (world, 20) == 0)
        disturb (run);
      for (guint n = nf_world_chance (world, 30); n > 0; n--)
        if (!nf_sim_step (world->sim))
          break;
      chains_go_on (run);
      nf_world_tend (world);
      check_epochs (run);
    }
  end_life (run);
}

/* ---- the end ---- */

static GHashTable *quarantined; /* of ids, whole; nftw() passes nothing on */

static int
note_quarantined (const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
  g_autofree char *data = NULL;
  gsize len;

  (void)st;
  (void)ftw;
  if (flag == FTW_F && g_file_get_contents (path, &data, &len, NULL))
    {
      guint64 id = id_of ((const guint8 *)data, len);
      g_hash_table_add (quarantined, g_memdup2 (&id, sizeof id));
    }
  return 0;
}

static void
read_quarantines (Run *run)
{
  quarantined = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
  for (guint i = 0; i < NF_WORLD_SITES; i++)
    {
      g_autofree char *dir = g_build_filename (run->world->dirs[i], ".nearfs", "quarantine", NULL);
      (void)nftw (dir, note_quarantined, 16, FTW_PHYS);
    }
}

static void
check_kept (Run *run)
{
  const Ledger *ledger = run->ledger;

  read_quarantines (run);
  for (guint i = 0; i < ledger->n_kept; i++)
    {
      const Kept *kept = &ledger->kept[i];
      guint n = 0;
      for (guint site = 0; site < NF_WORLD_SITES; site++)
        n += is_whole (run->world->dirs[site], kept);
      if (kept->must == MUST_ALL && n < NF_WORLD_SITES)
        nf_world_fail ("G4: k%" G_GUINT64_FORMAT " was %s, and is there at %u sites", kept->id,
                       kept->synced ? "fsynced" : "written", n);
      if (kept->must == MUST_SOMEWHERE && n == 0 && !g_hash_table_contains (quarantined, &kept->id))
        nf_world_fail ("G6: k%" G_GUINT64_FORMAT " was at a site, and is nowhere now", kept->id);
    }
  g_hash_table_unref (quarantined);
}

typedef struct
{
  gboolean ended;
  guint n;
} Comparison;

static void
found_something (gpointer data, const NfFinding *finding)
{
  ((Comparison *)data)->n++;
  (void)fprintf (stderr, "/%s: %s (%#x)\n", finding->path, finding->detail, finding->what);
}

static void
comparison_ended (gpointer data, int status, const NfCheckCounts *counts)
{
  (void)counts;
  ((Comparison *)data)->ended = TRUE;
  if (status != 0)
    nf_world_fail ("G9: a comparison fails: %s", g_strerror (-status));
}

static void
check_comparison (Run *run)
{
  const NfCheckOptions options = { .content = TRUE };
  const NfCheckEvents events = { found_something, comparison_ended };

  for (guint i = 1; i < NF_WORLD_SITES; i++)
    {
      Comparison comparison = { 0 };
      int err = nf_share_check (run->world->sites[i]->share, "", &options, &events, &comparison);
      for (guint n = 0; err == 0 && n < 100 && !comparison.ended; n++)
        nf_sim_run (run->world->sim, 1000);
      if (err != 0 || !comparison.ended || comparison.n > 0)
        nf_world_fail ("G9: a comparison at %s finds %u differences (%d)", nf_world_sites[i],
                       comparison.n, err);
    }
}

static void
last_life (Run *run)
{
  for (guint i = 0; run->disks && i < NF_WORLD_SITES; i++)
    nf_sim_disk_fill (run->disks[i], FALSE);
  begin_life (run, run->history.lives);
  nf_world_settle (run->world, run->history.seed);
  check_kept (run);
  check_comparison (run);
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
