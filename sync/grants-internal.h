// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sync/grants.h"
#include "sync/primary-internal.h"
#include "sync/told.h"

/* What grants.c (giving, and calls) and grants-sites.c (sites come and go) share. All but nf_grants_run_due() with the
 * lock. */

typedef struct
{
  const char *name; /* interned */
  guint64 session;  /* 0: none */
  gboolean up;      /* it has said its locks over the link that there is */
  gboolean recorded;
  guint serial;     /* of its links */
  GArray *incoming; /* of NfLock: LOCKS so far */
} NfGrantsSite;

/* A request that waits: a caller of this site's, or one that came while nothing was given yet. */
typedef struct
{
  guint64 id;
  const char *site; /* NULL: ours */
  NfLock lock;
  guint8 how;
  gboolean waits;  /* the site has been told that it waits */
  NfCallDone done; /* of ours */
  gpointer data;
} NfGrantsRequest;

/* What callers of this site's are told, without the lock. */
typedef struct
{
  NfCallDone done;
  gpointer data;
  int status;
  gboolean given; /* a lock */
  GBytes *holder; /* of a test */
} NfGrantsDue;

struct NfGrants
{
  NfPrimary *primary;
  NfTold *told;
  pthread_mutex_t lock; /* guards what follows */
  NfLockTable *table;
  GHashTable *sites;   /* name → NfGrantsSite, owning */
  GHashTable *waiting; /* id → NfGrantsRequest of ours that is in the table, owning */
  GQueue deferred;     /* of NfGrantsRequest: until all awaited have said what they had */
  GHashTable *alone;   /* fid, owned → name: files that a site has to itself */
  GQueue recalling;    /* of NfGrantsRequest: on such a file, of others */
  GHashTable *awaited; /* name: sites that are to say what they had; NULL: they have */
  guint64 next_id;
};

NfGrantsSite *nf_grants_site (NfGrants *grants, const char *name);
/* May SITE have LOCK at all? Ranges are locked for writing by who may write; flock() asks for no right, here as on a disk. */
gboolean nf_grants_may_have (NfGrants *grants, const char *site, const NfLock *lock);
void nf_grants_send (NfGrants *grants, const char *site, NfMsg *msg);
void nf_grants_answer (NfGrants *grants, const char *site, guint64 reqid, int status,
                       guint64 value);
/* Answers to callers of this site's are gathered with the lock and run, which frees them, without. */
GArray *nf_grants_due_new (void);
void nf_grants_run_due (NfGrants *grants, GArray *due);
/* Carries REQUEST, which is taken, out as soon as it can be. */
void nf_grants_begin (NfGrants *grants, NfGrantsRequest *request, GArray *due);
/* Some of the files that sites had to themselves are so no more. */
void nf_grants_begin_recalled (NfGrants *grants, GArray *due);
/* Of NfLock: those who waited, and are to be told that they have theirs now. */
GArray *nf_grants_granted_new (void);
void nf_grants_tell (NfGrants *grants, const GArray *granted, GArray *due);

/* That SITE (NULL: ours, which ends with us) has locks is recorded for the next life, 0 or -errno; and that it has none any
 * more. */
int nf_grants_note_held (NfGrants *grants, const char *site);
void nf_grants_note_gone (NfGrants *grants, NfGrantsSite *site);
guint nf_grants_count_alone (NfGrants *grants, const char *site);
/* The sites that had locks when the last life ended are to say them first. */
void nf_grants_await (NfGrants *grants);
