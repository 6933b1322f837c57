// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <pthread.h>

#include "sync/journal-segment.h"
#include "sync/journal.h"

/* What journal.c, journal-open.c and journal-read.c share.
 *
 * Locks: `cursors_lock` before `lock`. Neither is held during a read of the disk by nf_journal_read(), nor during
 * fdatasync; `lock` is held during the write of a record, as that gives the order. */

/* Recent records are kept in memory: broadcasting asks for what was just appended. */
#define NF_JOURNAL_RING 8192
#define NF_JOURNAL_RING_BYTES (4 * 1024 * 1024)
/* Readers that go on where they were: a few peers that catch up. */
#define NF_JOURNAL_CURSORS 8

typedef struct
{
  NfPosition position;
  GBytes *bytes;
} NfJournalRecent;

typedef struct
{
  NfSegmentCursor at;
  guint64 used; /* when, counted in uses; 0: free */
} NfJournalCursor;

struct NfJournal
{
  int parent_fd;
  char *name;
  NfJournalLimits limits;

  pthread_mutex_t lock; /* guards all that follows, up to cursors_lock */
  int dir_fd;
  GPtrArray *segments; /* of NfJournalSegment, in order; never empty */
  NfPosition last;
  gint64 last_time; /* of the last record */
  guint64 bytes;
  guint64 generation;                      /* of the history: restarts and cuts */
  NfJournalRecent recent[NF_JOURNAL_RING]; /* by seq modulo the size */
  guint64 recent_first;                    /* the oldest there; last.seq + 1 if none */
  gsize recent_bytes;
  guint64 synced; /* durable up to here */
  gboolean dir_dirty;
  gboolean syncing;
  int sync_error; /* once the disk has failed, no later success proves anything */
  pthread_cond_t sync_cond;

  pthread_mutex_t cursors_lock;
  NfJournalCursor cursors[NF_JOURNAL_CURSORS]; /* guarded by cursors_lock */
  guint64 cursor_uses;                         /* guarded by cursors_lock */
};

/* With the lock. */
static inline NfJournalSegment *
nf_journal_last_segment (NfJournal *journal)
{
  return g_ptr_array_index (journal->segments, journal->segments->len - 1);
}

/* journal.c; with the lock. The check is for after each change. */
void nf_journal_check (NfJournal *journal);
void nf_journal_clear_recent (NfJournal *journal);

/* journal-open.c */
int nf_journal_open_dir (NfJournal *journal);
gboolean nf_journal_load (NfJournal *journal, NfPosition start, GError **error);

/* journal-read.c */
/* The segment that holds what follows SEQ, with the lock. NULL if that is trimmed away or not there yet. */
NfJournalSegment *nf_journal_segment_at (NfJournal *journal, guint64 seq);
/* The next record, going on to the next segment. 1, 0 at the end, or a failure. */
int nf_journal_step (NfJournal *journal, NfSegmentCursor *cursor, NfSlice *ret_record);
/* With both locks: what lies after a cut is no longer so. */
void nf_journal_forget_cursors (NfJournal *journal);
