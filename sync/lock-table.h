// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <glib.h>

#include "net/proto.h"

/* Who has which lock on which file, and who waits: fcntl(2)'s ranges and flock(2)'s, as on Linux, of owners at many sites. No
 * I/O, no clock, no lock of its own: whoever owns a table guards it. */

typedef struct NfLockTable NfLockTable;

/* Of one owner's, and of all, waiting or not: what a table may cost. More is ENOLCK. */
#define NF_LOCKS_SITE_MAX 65536

/* The kinds don't meet: a flock never blocks a range, nor the other way round. Numbers of the wire. */
typedef enum
{
  NF_LOCK_RANGE = 0,
  NF_LOCK_FLOCK = 1,
  NF_LOCK_ALL
  = 2, /* in LOCKS only: the file is the site's alone; of type WRITE: and on its way back */
} NfLockKind;

/* Numbers of the wire. */
typedef enum
{
  NF_LOCK_READ = 0,
  NF_LOCK_WRITE = 1,
  NF_LOCK_NONE = 2, /* asked for: unlock */
} NfLockType;

typedef struct
{
  NfFid fid;
  NfLockKind kind;
  NfLockType type;
  guint64 start;
  guint64 end;      /* the last byte; G_MAXINT64: whatever the file's size. FLOCK: all of it */
  const char *site; /* interned; NULL: this one */
  guint64 owner;    /* unique at its site */
  guint32 pid;
  guint64 id; /* of the request at its site, while it waits */
} NfLock;

NfLockTable *nf_lock_table_new (void);
void nf_lock_table_free (NfLockTable *table);

/* Gives the lock, or takes it away: 0. With WAIT what can't be given waits: -EINPROGRESS; without it is -EAGAIN. -EDEADLK
 * if the wait would never end, -ENOLCK past the limit. GRANTED (of NfLock) gets those for whom that made way. A failing
 * request for a range leaves what its owner has as it was; one for a flock of the other type has let go of the old. */
int nf_lock_table_set (NfLockTable *table, const NfLock *lock, gboolean wait, GArray *granted);
/* What keeps LOCK from being given; FALSE: nothing does. */
gboolean nf_lock_table_test (NfLockTable *table, const NfLock *lock, NfLock *ret_holder);
/* The request ID of SITE's doesn't wait any more. FALSE: it didn't. */
gboolean nf_lock_table_cancel (NfLockTable *table, const char *site, guint64 id);
/* Nothing of SITE's is held or waits (WAITING_ONLY: waits) any more. Who waits for it isn't given it yet: */
void nf_lock_table_clear_site (NfLockTable *table, const char *site, gboolean waiting_only);
/* Gives those who wait what nothing excludes any more. */
void nf_lock_table_grant (NfLockTable *table, GArray *granted);
/* Takes what SITE says it has into the table, past the waiting. FALSE, and nothing is done: others have what excludes it. */
gboolean nf_lock_table_restore (NfLockTable *table, const NfLock *lock);

/* All that is held, in no order; and those who wait. */
typedef void (*NfLockFunc) (const NfLock *lock, gpointer data);
void nf_lock_table_each_held (NfLockTable *table, NfLockFunc func, gpointer data);
void nf_lock_table_each_waiting (NfLockTable *table, NfLockFunc func, gpointer data);
/* Held and waiting, of SITE's. */
guint nf_lock_table_count (NfLockTable *table, const char *site);
/* Has nobody but SITE a lock on FID, and does nobody wait? */
gboolean nf_lock_table_is_sole (NfLockTable *table, NfFid fid, const char *site);
/* Takes all of FID out. */
void nf_lock_table_clear_file (NfLockTable *table, NfFid fid);
/* What is held of FID. */
void nf_lock_table_each_of (NfLockTable *table, NfFid fid, NfLockFunc func, gpointer data);
/* Is anything of FID held? */
gboolean nf_lock_table_has (NfLockTable *table, NfFid fid);
