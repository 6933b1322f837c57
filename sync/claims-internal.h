// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sync/claims.h"
#include "sync/lock-table.h"
#include "sync/share-internal.h"
#include "sync/told.h"

/* What claims.c (requests and their answers) and claims-link.c (links, and how they end) share. */

typedef enum
{
  NF_CLAIM_ASKED,    /* the call is under way */
  NF_CLAIM_WAITING,  /* at the primary */
  NF_CLAIM_ARRIVING, /* it is given; the replica has to reach `seq` */
} NfClaimState;

typedef struct
{
  NfClaims *claims;
  NfLock lock;      /* its id is that of the call, known with the answer; … */
  guint64 known_id; /* … asked once more it has another than that by which its caller knows it */
  NfFile *file;     /* NULL: closed meanwhile */
  guint8 how;
  NfClaimState state;
  guint64 seq;
  NfCallDone done;
  gpointer data;
} NfClaim;

typedef struct
{
  NfFile *file;
  guint64 session;
} NfClaimsThrough;

/* A file that is this site's to decide. */
typedef struct
{
  guint64 seq; /* that the replica must reach before anybody is told of a lock */
  gboolean returning;
} NfClaimsAlone;

struct NfClaims
{
  NfShare *share;
  NfTold *told;
  pthread_mutex_t lock;  /* guards what follows */
  NfLockTable *held;     /* of this site alone */
  GPtrArray *requests;   /* of NfClaim: under way */
  GHashTable *alone;     /* fid, owned → NfClaimsAlone, owning */
  GHashTable *cancelled; /* ids of calls whose callers want out */
  GArray *through;       /* of NfClaimsThrough: the files locks were taken through */
  guint64 session;
  gboolean up;
  guint serial;    /* of the times without a link */
  gint n_arriving; /* atomic */
  gint refs;       /* jobs under way */
  gboolean stopped;
};

/* Answers are gathered with the lock and run, which frees them, without. */
GArray *nf_claims_due_new (void);
void nf_claims_run_due (NfClaims *claims, GArray *due);
void nf_claims_unref (NfClaims *claims);
/* With the lock: nothing of this session's is ours any more. */
void nf_claims_lose_all (NfClaims *claims, GArray *due);
