// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sync/share.h"

/* Comparing a replica with its primary while work goes on, and having repaired what differs: "nearfs fsck". */

/* What is wrong with a name, as bits. */
typedef enum
{
  NF_FIND_MISSING = 1 << 0,  /* the primary has it, and it isn't here */
  NF_FIND_SURPLUS = 1 << 1,  /* the primary doesn't have it */
  NF_FIND_IDENTITY = 1 << 2, /* another object than the primary's */
  NF_FIND_TYPE = 1 << 3,
  NF_FIND_TARGET = 1 << 4, /* of a symlink */
  NF_FIND_SIZE = 1 << 5,
  NF_FIND_CONTENT = 1 << 6,
  NF_FIND_MTIME = 1 << 7,
  NF_FIND_MODE = 1 << 8,
  NF_FIND_OWNER = 1 << 9,
  NF_FIND_XATTR = 1 << 10,
  /* At the primary, whose directory is right; what is found is taken over. */
  NF_FIND_FOREIGN = 1 << 11, /* somebody made it behind the proxy */
  NF_FIND_MOVED = 1 << 12,   /* somebody moved or linked it */
  NF_FIND_REMOVED = 1 << 13, /* somebody removed it */
} NfFind;

#define NF_FIND_N 14
/* The codes that people and programs see, by bit. */
extern const char *const nf_find_codes[NF_FIND_N];

typedef struct NfCheck NfCheck;

typedef struct
{
  guint32 what;     /* of NF_FIND_* */
  const char *path; /* in the share, without leading slash; "" is its root */
  const char *detail;
  gboolean left; /* it was to be repaired, and differs still */
} NfFinding;

typedef struct
{
  guint64 entries; /* compared */
  guint64 total;   /* how many there are, roughly */
  guint64 bytes;   /* of content, compared by hash */
  guint64 found;
  guint64 left; /* of those found: not repaired */
  guint64 busy; /* changed each time they were looked at */
} NfCheckCounts;

#define NF_CHECK_ENTRY_COST 1000

typedef struct
{
  gboolean repair;
  gboolean content;      /* too, by hash; else of files only size and time */
  gboolean allow_delete; /* at the primary: even if much is gone */
  guint64
      rate; /* bytes of content a second at most, an entry counted as NF_CHECK_ENTRY_COST; 0: as fast as it goes */
} NfCheckOptions;

typedef struct
{
  /* Both from a thread that must not be held up. ENDED is the last; STATUS as of nf_share_check(), and -ECANCELED. */
  void (*found) (gpointer data, const NfFinding *finding);
  void (*ended) (gpointer data, int status, const NfCheckCounts *counts);
} NfCheckEvents;

/* Begins to compare what is at PATH (as in NfFinding) and below: a replica with its primary, the primary's directory with
 * its index. 0, and EVENTS come; or -EOPNOTSUPP: neither is here, -EBUSY: one is under way, -EHOSTUNREACH: no link, -ENOENT: no such path here. */
int nf_share_check (NfShare *share, const char *path, const NfCheckOptions *options,
                    const NfCheckEvents *events, gpointer data);
/* How far it has come; FALSE if none is under way. */
gboolean nf_share_check_counts (NfShare *share, NfCheckCounts *ret_counts);
void nf_share_check_cancel (NfShare *share);
