// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sync/entry.h"
#include "sync/primary-internal.h"

/* One request being answered, a step at a time. */
typedef struct
{
  NfPrimary *primary;
  const char *site;
  NfMsgType type;
  guint64 id;
  NfFid fid;
  guint64 offset; /* FETCH, HASH: where the next step begins */
  guint64 end;
  guint32 block; /* HASH */

  /* LIST, after the first step: the names as they were under the directory's lock, and how far they are sent. */
  guint8 flags;   /* NF_LIST_* */
  guint64 wanted; /* the site's digest, until it has been compared; 0: none */
  guint64 digest;
  gboolean listed;
  guint64 seq;
  GByteArray *names; /* u8 length, bytes, … */
  gsize next_name;
} NfServeJob;

/* What one step does at a time. */
#define NF_SERVE_CHUNK (512 * 1024)

/* Sends MSG on the bulk connection of JOB's site. FALSE: there is none. */
gboolean nf_serve_send (NfServeJob *job, const NfMsg *msg);
/* One step: FALSE if it was the last one. */
gboolean nf_serve_fetch (NfServeJob *job);
gboolean nf_serve_hash (NfServeJob *job);
gboolean nf_serve_list (NfServeJob *job);
/* A descriptor for reading of FID as it is now, to be closed. */
int nf_serve_open (NfServeJob *job, NfFid fid);
