// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "tests/sim-disk.h"
#include "tests/sim-world.h"

/* Histories: three sites live several lives, in each of which some are killed at some named step, by which some of the machines
 * may lose power, while the others live on and the killed may come back. All the while:
 *
 *   G2  a document that is saved by rename is one version, at each site, whenever it is read; and of two files that are
 *       written one after the other, a site that is in step doesn't show the second ahead of the first
 *   G3  what a site has written it reads
 *   G4  what was fsynced is there for ever; what was closed, unless the primary's power went
 *   G5  the epoch that a site goes by never falls
 *   G6  what the primary lost with its power and a site that lives on had is there, if only in a quarantine
 *   G9  at the end all three are equal, and a comparison finds nothing
 *
 * What writes to a disk may also fail with EIO for a while, without the disk having changed.
 *
 * As root, with loop devices, the sites have disks of their own; else there are no power cuts and no full disks. */

typedef struct
{
  guint32 seed;
  guint lives;
  guint steps;
  guint kinds;
} NfHistory;

/* Beside NF_DISTURB_*. */
#define NF_KIND_KILL (1u << 8)
#define NF_KIND_POWER (1u << 9)
#define NF_KIND_FULL (1u << 10)
#define NF_KIND_CLOCK (1u << 11)
#define NF_KIND_EIO (1u << 12)
/* Who is killed doesn't do any more what it was about to do, and comes back while the others live on. */
#define NF_KIND_REVIVE (1u << 13)
#define NF_KINDS_DISK (NF_KIND_POWER | NF_KIND_FULL | NF_KIND_EIO)
#define NF_KINDS_ALL                                                                          \
  (NF_DISTURB_ALL | NF_KIND_KILL | NF_KIND_POWER | NF_KIND_FULL | NF_KIND_CLOCK | NF_KIND_EIO \
   | NF_KIND_REVIVE)

/* How often what has happened. */
typedef struct
{
  guint n_histories, n_failures;
  guint n_power, n_kills, n_revived, n_full, n_clock, n_eio, n_acked, n_synced, n_reads;
} NfHistoryCounts;

void nf_history_add_counts (NfHistoryCounts *sum, const NfHistoryCounts *counts);
/* FALSE: it fails, and has said how if NF_HISTORY is set. DISKS: one a site, or NULL; SUM: what has happened is added to it. */
gboolean nf_history_run (const NfHistory *history, NfSimDisk **disks, NfHistoryCounts *sum);
