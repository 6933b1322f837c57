// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <pthread.h>

#include "net/hub.h"

/* A hub that remembers what happens to it. Without Criterion, for unit tests, stress programs
 * and hub-peer alike. */

typedef struct
{
  NfHub *hub;
  NfMap *map;
  NfSiteConf *conf;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  GPtrArray *got[NF_LINK_N_KINDS]; /* of NfMsg; guarded by lock */
  guint64 n_got;                   /* of both kinds, kept or not; guarded by lock */
  guint n_up, n_down, n_drained;   /* guarded by lock */
  guint violations;                /* an event outside of up … down; guarded by lock */
  gboolean is_up;                  /* with one peer; guarded by lock */
  char *reason;                    /* of the last down; guarded by lock */
  char *refuse;                    /* what `up` says no with */
  /* Called instead of keeping the message, if set. */
  void (*on_message) (gpointer data, const char *site, NfLinkKind kind, NfMsg *msg);
  gpointer on_message_data;
} NfTestHub;

/* Sites a, b and c share one share; nobody but b can be dialled, so a and c dial b. */
extern const char nf_test_map[];

/* EXTRA: more lines of the site's configuration, or NULL; with NAME NULL all of it. */
NfTestHub *nf_test_hub_new (const char *name, const char *map_text, const char *extra);
/* Stops the hub first. */
void nf_test_hub_free (NfTestHub *hub);

/* Joins DIALLER with ACCEPTER by a socket pair. Doesn't wait. */
void nf_test_join (NfTestHub *dialler, NfTestHub *accepter, NfLinkKind kind);
/* The same with what the accepting side is told about the dialler's name. */
void nf_test_join_as (NfTestHub *dialler, const char *to, NfTestHub *accepter, const char *as,
                      NfLinkKind kind);

/* Each waits up to twenty seconds and returns whether it came true. */
gboolean nf_test_wait_up (NfTestHub *hub, guint n_up);
gboolean nf_test_wait_down (NfTestHub *hub, guint n_down);
gboolean nf_test_wait_drained (NfTestHub *self, guint n_drained);
gboolean nf_test_wait_got (NfTestHub *hub, guint64 n_got);
gboolean nf_test_wait_bulk (NfTestHub *hub, const char *site);

/* A copy of the last reason, or of the last error that the hub has of SITE. The caller frees it. */
char *nf_test_reason (NfTestHub *hub);
char *nf_test_last_error (NfTestHub *hub, const char *site);
/* Waits until the last error contains PART. */
gboolean nf_test_wait_error (NfTestHub *hub, const char *site, const char *part);

/* A FETCHED with LEN bytes of data and ID, which must be freed by nf_msg_free(). RANDOM: bytes
 * that don't compress. */
NfMsg *nf_test_data (guint64 id, gsize len, gboolean random);
