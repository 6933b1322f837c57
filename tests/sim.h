// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sync/share.h"

/* A world for shares without threads, sockets or clocks: sites in one process, links that are queues, and one seeded
 * source of chance that decides what happens next. The same seed gives the same run. */

typedef struct NfSim NfSim;

typedef struct
{
  NfSim *sim;
  char *name;
  NfHost host;
  NfShare *share;   /* NULL: a site played by the test */
  GPtrArray *inbox; /* then: of NfMsg, what it has been sent */
  GArray *invals;   /* of NfInval, without names */
  gboolean keep_invals;
  GHashTable *points;   /* name → how often it was reached */
  gint64 clock_step_ns; /* what its clock is wrong by */
  gboolean dead;        /* see nf_sim_kill() */
} NfSimSite;

/* Called at each named step at any of the sites. */
typedef void (*NfSimHook) (gpointer data, NfSimSite *site, const char *name);

NfSim *nf_sim_new (guint32 seed);
/* Locks are used in it. Without, sites don't say that they have none: the seeds of older histories don't know that message. */
void nf_sim_use_locks (NfSim *sim);
/* Closes what is open. */
void nf_sim_free (NfSim *sim);
/* The site of that name, made on first use. */
NfSimSite *nf_sim_site (NfSim *sim, const char *name);

/* Opens share 7 (in messages it has the name of the site) at SITE. MEMBERS: all other sites, NULL-terminated. */
gboolean nf_sim_open (NfSimSite *site, NfMapRole role, const char *dir, const char *primary,
                      const char *const *members, GError **error);
void nf_sim_close (NfSimSite *site);
/* As kill -9 would, also from within the site's own code: nothing more is heard of it, nor does it do anything; but at a named
 * step it still does what it was about to do, unless nf_sim_cut_short() and an event of its own is under way. */
void nf_sim_kill (NfSimSite *site);
void nf_sim_cut_short (NfSim *sim);
/* One that was killed can be opened again: what it was is forgotten, and its memory lost. */
void nf_sim_bury (NfSimSite *site);

/* Links; up to MAX_DELAY_MS for each message, in order within each of both connections. */
void nf_sim_connect (NfSim *sim, const char *a, const char *b);
void nf_sim_cut (NfSim *sim, const char *a, const char *b);
/* How often any link has been cut. */
guint nf_sim_cuts (NfSim *sim);
gboolean nf_sim_connected (NfSim *sim, const char *a, const char *b);
void nf_sim_delays (NfSim *sim, guint max_delay_ms);
/* As if SITE, which the test plays, had sent it. */
void nf_sim_send (NfSim *sim, const char *from, const char *to, gboolean bulk, const NfMsg *msg);

/* One event, the clock moved to it if none is due. FALSE: there is none at all. */
gboolean nf_sim_step (NfSim *sim);
/* Events until MS have passed. */
void nf_sim_run (NfSim *sim, guint ms);
/* Ends the process, as kill -9 would, when N named steps have been reached at any of the sites. */
void nf_sim_kill_after (NfSim *sim, guint n);
void nf_sim_at_points (NfSim *sim, NfSimHook hook, gpointer data);
guint32 nf_sim_random (NfSim *sim, guint32 below);
gint64 nf_sim_now_ms (NfSim *sim);

/* A call as the mount makes it, run until it is answered. Returns its status; RET_ANSWER (may be NULL) to be cleared. */
int nf_sim_call (NfSimSite *site, const NfMsg *call, NfMsg *ret_answer);

/* A call at share 7 by this process's user. */
NfMsg nf_sim_msg (NfMsgType type);
/* Opens FID as the mount does, and runs until that has succeeded. */
NfFile *nf_sim_open_file (NfSimSite *site, NfFid fid, int flags, gboolean created);

/* Two sites, not connected yet: "a" has the primary, "b" a replica. */
typedef struct
{
  NfSim *sim;
  char *dirs[2];
  NfSimSite *primary;
  NfSimSite *replica;
} NfSimPair;

void nf_sim_pair_begin (NfSimPair *pair);
/* Handles are closed by then. */
void nf_sim_pair_end (NfSimPair *pair);

/* A new directory for a test; removed by nf_sim_remove_dir(). */
char *nf_sim_make_dir (void);
void nf_sim_remove_dir (char *dir);
/* What the directories hold, the hidden one left out, line by line: name, type, mode, size, mtime, links, xattrs,
 * content. Equal texts, equal trees. */
char *nf_sim_describe_dir (const char *dir);
