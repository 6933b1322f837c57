// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "tests/history-private.h"

#include <ftw.h>
#include <stdio.h>

#include "sync/check.h"

/* What was written and must be there (G4, G6), and that all sites are equal in the end (G9). */

static gboolean
is_whole (const char *dir, const Kept *kept)
{
  char name[NF_HISTORY_NAME_LEN];
  g_autofree char *data = NULL;
  gsize len;

  nf_history_kept_name (kept->id, name);
  g_autofree char *path = g_build_filename (dir, name, NULL);
  return g_file_get_contents (path, &data, &len, NULL) && len == kept->len
         && nf_history_id_of ((const guint8 *)data, len) == kept->id;
}

void
nf_history_lose (Run *run, Kept *kept, guint victims, guint clean)
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
      guint64 id = nf_history_id_of ((const guint8 *)data, len);
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

void
nf_history_check_kept (Run *run)
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

void
nf_history_check_comparison (Run *run)
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
