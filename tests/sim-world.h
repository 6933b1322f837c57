// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "tests/sim.h"

/* A real primary ("a") and two real replicas ("b", "c") in one process, with everything left to chance: what is
 * called where, how long messages take, when links are cut and sites restarted. At the end all three directories must
 * be the same. What must hold and doesn't ends the process. */

#define NF_WORLD_SITES 3
#define NF_WORLD_FIDS 48
#define NF_WORLD_BIG (300 * 1024)

extern const char *const nf_world_sites[];

typedef struct
{
  NfSim *sim;
  NfSimSite *sites[NF_WORLD_SITES];
  char *dirs[NF_WORLD_SITES];
  guint boots[NF_WORLD_SITES]; /* how often each machine has gone down */
  guint openings
      [NF_WORLD_SITES]; /* how often each site was opened: whoever held something of a life before has lost it */
  NfFid dirs_known[NF_WORLD_FIDS];
  guint n_dirs;
  NfFid files_known[NF_WORLD_FIDS];
  guint n_files;
  guint under_way;
  guint lives;
  /* Site I can't be opened: what may help is done, and it is tried once more. NULL: nothing is done. */
  void (*help) (gpointer data, guint i);
  gpointer help_data;
  /* Site I is about to be closed in order: handles are let go. NULL: there are none. */
  void (*before_close) (gpointer data, guint i);
  gpointer before_close_data;
} NfWorld;

/* What may happen in nf_world_disturb(). */
typedef enum
{
  NF_DISTURB_CUT = 1 << 0,     /* links */
  NF_DISTURB_RESTART = 1 << 1, /* sites, cleanly */
  NF_DISTURB_VANDAL = 1 << 2,  /* somebody in a replica's directory */
  NF_DISTURB_ALL = 7,
} NfDisturb;

/* Says why, and ends the process. */
void nf_world_fail (const char *format, ...) G_GNUC_PRINTF (1, 2) G_GNUC_NORETURN;

/* In memory that children share, so that what one life learns the next one knows. On new directories if DIRS is NULL. */
NfWorld *nf_world_alloc (char *const *dirs);
/* Opens all sites on the world's directories. Each life begins a day after the one before. */
void nf_world_begin (NfWorld *world, guint32 seed);
/* Both. */
NfWorld *nf_world_new (guint32 seed);
/* With its directories. */
void nf_world_free (NfWorld *world);

void nf_world_open_site (NfWorld *world, guint i);
/* It may be killed on the way. */
void nf_world_close_site (NfWorld *world, guint i);
void nf_world_connect (NfWorld *world);
guint32 nf_world_chance (NfWorld *world, guint32 below);
/* BUFFER: of NF_WORLD_BIG bytes, for what is written. */
void nf_world_call_something (NfWorld *world, guint8 *buffer);
/* One of KINDS (NF_DISTURB_*), or the links are up again. */
void nf_world_disturb (NfWorld *world, guint kinds);
/* A primary that has taken back what it lost is opened again. */
void nf_world_tend (NfWorld *world);
void nf_world_live (NfWorld *world, guint steps, gboolean disturbed);
/* Until nothing is left to be done. */
void nf_world_settle (NfWorld *world, guint32 seed);
void nf_world_compare (NfWorld *world, guint32 seed);
