// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "tests/history.h"

/* What the parts of a history know of each other: history.c has the lives, history-chains.c what is done in them and
 * checked at once, history-end.c what must be there in the end. */

#define NF_HISTORY_NAME_LEN 16

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
  GRand *rand;   /* for what isn't the simulator's */
  guint left;    /* steps to when some sites are killed */
  guint killed;  /* sites, since the life began; by bit, as the next */
  guint mourned; /* found dead by all that was under way at them */
  guint64 epochs[NF_WORLD_SITES];
  gboolean in_turn; /* somebody writes the two files that go together */
  GPtrArray *chains;
  guint8 *buffer;
} Run;

/* ---- history-chains.c ---- */
/* Some of it begins, if there isn't enough yet. */
void nf_history_begin_chain (Run *run);
/* What has files open at the site, as RUN's world asks for, is over. */
void nf_history_forget_handles (gpointer run, guint site);
/* Whatever was answered does what comes next. */
void nf_history_chains_go_on (Run *run);
/* The id that all of DATA is; 0: of more than one, or none. */
guint64 nf_history_id_of (const guint8 *data, gsize len);
void nf_history_kept_name (guint64 id, char *ret_name);

/* ---- history-end.c ---- */
/* Notes what can't be expected any more of KEPT when the power of VICTIMS has gone, and the sites CLEAN have ended in
 * order. Bits by site. */
void nf_history_lose (Run *run, Kept *kept, guint victims, guint clean);
void nf_history_check_kept (Run *run);
void nf_history_check_comparison (Run *run);
