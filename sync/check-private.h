// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sync/check.h"
#include "sync/replica-internal.h"

/* What check.c (the course of a comparison) and check-compare.c (one directory, one file) know of each other. */

typedef enum
{
  NF_CHECK_HEALING_FIRST, /* what is suspect already isn't worth comparing */
  NF_CHECK_COMPARING,
  NF_CHECK_HEALING,
  NF_CHECK_VERIFYING,
  NF_CHECK_OVER,
} NfCheckPhase;

typedef struct
{
  guint64 id;
  NfFid fid;
  GBytes *only;       /* the one name that is asked for, or NULL */
  GHashTable *doubts; /* key of a name → hash of its entry, where it differed */
  GHashTable *told;   /* of key: what was reported already */
  gboolean below;     /* it was compared itself where it was found */
  guint tries;
  GPtrArray *frames; /* of GBytes: the listing */
  GArray *
      below_it; /* of NfFid: the directories in it, and how many entries it has; as of its digest */
  guint n_entries;
  guint64 n_bytes; /* of content */
  gboolean same;   /* as the digest said */
  guint64 seq;
  int status;
  gboolean complete;
} NfCheckDir;

typedef struct
{
  guint64 id;
  NfFid fid;
  NfFid parent;
  GBytes *name;
  guint64 offset;
  guint64 size; /* at the primary */
  guint64 seq;
  int status;
  guint tries;
  GBytes *hashes; /* NULL: not here yet */
} NfCheckFile;

/* What is to be done when all is compared: to repair one thing may mend others, and they would not be reported. */
typedef struct
{
  NfFid dir;
  NfFid fid;
  GBytes *name;
  guint32 what;
  guint64 seq; /* as of which it is wrong */
} NfCheckRepair;

typedef enum
{
  NF_CHECK_DONE,
  NF_CHECK_AGAIN, /* an op was faster */
  NF_CHECK_MORE,  /* of the file */
} NfCheckNext;

struct NfCheck
{
  NfReplica *replica;
  NfCheckOptions options;
  NfCheckEvents events;
  gpointer data;
  NfCheckPhase phase;
  guint64 next_id;
  GQueue dirs;         /* of NfCheckDir, to be listed */
  GQueue files;        /* of NfCheckFile, to be hashed */
  GHashTable *listing; /* id → NfCheckDir, under way */
  GHashTable *hashing; /* id → NfCheckFile */
  GHashTable *touched; /* fid → seq of the last op on it since this began */
  GBytes *only;        /* the one name that was asked for, or NULL */
  GHashTable
      *queued;    /* of fid: directories that are, or were, in `dirs` by nf_check_queue_below() */
  GQueue repairs; /* of NfCheckRepair */
  GHashTable *again; /* of fid: directories with findings */
  gint64 begun_ms;
  guint64 suspects; /* how many there were, */
  gint64 moved_ms;  /* since then */
  NfCheckCounts counts;
};

/* check.c */
/* As nf_share_check(). */
int nf_check_start (NfReplica *replica, const char *path, const NfCheckOptions *options,
                    const NfCheckEvents *events, gpointer data);
/* What can go on goes on. CHECK may be NULL, here and below; it may be gone afterwards. */
void nf_check_pump (NfCheck *check);
void nf_check_end (NfCheck *check);
/* An op that is taken in. */
void nf_check_note (NfCheck *check, const NfRecord *record);
/* FALSE: MSG isn't for a comparison. */
gboolean nf_check_listed (NfCheck *check, const NfMsg *msg);
gboolean nf_check_hashed (NfCheck *check, const NfMsg *msg);
/* The content of ENTRY, in directory PARENT, is to be compared, too. */
void nf_check_queue_file (NfCheck *check, NfFid parent, const NfDirEntry *entry);
/* Directory FID was found in another, and is to be compared as well. */
void nf_check_queue_below (NfCheck *check, NfFid fid);
/* Has an op after SEQ on FID come since the comparison began? */
gboolean nf_check_is_touched (NfCheck *check, NfFid fid, guint64 seq);

/* check-digest.c */
/* What DIR is here; 0: it can't be said. */
guint64 nf_check_digest (NfCheck *check, NfCheckDir *dir);
/* It is the same at the primary: goes on with what is in it. */
void nf_check_same_dir (NfCheck *check, NfCheckDir *dir);

/* check-compare.c */
/* The listing that DIR has against the tree. TRUE: something has to be looked at again. */
gboolean nf_check_compare_dir (NfCheck *check, NfCheckDir *dir);
NfCheckNext nf_check_compare_file (NfCheck *check, NfCheckFile *file);
void nf_check_repair (NfCheck *check, const NfCheckRepair *repair);
