// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sync/record.h"

/* The journal of a share at one site: append-only segments of checksummed, chained records, as
 * nearfs-journal(5) describes. Thread: all functions may be called from any thread. */

typedef struct NfJournal NfJournal;

typedef struct
{
  guint64 max_bytes; /* older segments go when there is more and everybody has them, or past twice
                        this */
  gint64 max_age_ns;
  guint64 segment_bytes;
} NfJournalLimits;

/* Opens or creates the journal in directory NAME under DIRFD. A torn tail is cut at the last valid
 * record (and WARNING says how much); damage elsewhere is an error (G_IO_ERROR_INVALID_DATA) that says which segment and
 * offset. If the journal is empty it begins after START. */
NfJournal *nf_journal_open (int dirfd, const char *name, const NfJournalLimits *limits,
                            NfPosition start, GError **error);
void nf_journal_close (NfJournal *journal);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (NfJournal, nf_journal_close)

/* Gives RECORD the next seq and EPOCH as set, and appends it. After return it survives the death of
 * this process. RET_SEQ and RET_BYTES (the encoded record; may be NULL) are set on success. 0 or
 * -errno (-ENOSPC …), then nothing was appended. */
int nf_journal_append (NfJournal *journal, NfRecord *record, NfPosition *ret_position,
                       GBytes **ret_bytes);
/* Appends BYTES as they came from the primary; its seq must follow the last (-EINVAL otherwise). */
int nf_journal_append_bytes (NfJournal *journal, NfSlice bytes, NfPosition *ret_position);
/* The same for N (1 to NF_JOURNAL_SEVERAL_MAX) that follow each other, all or none of them, at the price of one.
 * RET_POSITIONS: N. */
#define NF_JOURNAL_SEVERAL_MAX 64
int nf_journal_append_several (NfJournal *journal, const NfSlice *records, guint n,
                               NfPosition *ret_positions);
/* Makes all that was appended durable. Group commit: concurrent callers share one fdatasync. */
int nf_journal_sync (NfJournal *journal);
/* The disk may begin with it: for who has something else to bring there first, so that both go by one of its commits. */
void nf_journal_sync_begin (NfJournal *journal);
/* Of a journal that isn't open: gives it the name NAME.damaged, instead of one that has it. 0 or -errno. */
int nf_journal_set_aside (int parent_fd, const char *name);
/* Removes all of a journal that isn't open. 0 or -errno. */
int nf_journal_remove_dir (int parent_fd, const char *name);

/* The last record's position, and the position before the oldest that is still there. */
NfPosition nf_journal_last (NfJournal *journal);
NfPosition nf_journal_first (NfJournal *journal);
/* The position (with its chain) at SEQ. FALSE if the journal doesn't reach there. */
gboolean nf_journal_position_at (NfJournal *journal, guint64 seq, NfPosition *ret_position);
/* The records after SEQ, in order, until FUNC returns FALSE or the end. 0, -ENOENT if SEQ is
 * trimmed away, -EBADMSG if a record is damaged. BYTES are valid during the call only. */
typedef gboolean (*NfJournalFunc) (NfPosition position, NfSlice bytes, gpointer data);
int nf_journal_read (NfJournal *journal, guint64 seq, NfJournalFunc func, gpointer data);
/* As nf_journal_read() with a cursor, for one record: cheap when called in sequence. NULL at the
 * end. */
GBytes *nf_journal_get (NfJournal *journal, guint64 seq, NfPosition *ret_position);

/* Forgets everything and begins anew after START, in one step (a replica that has to compare). */
int nf_journal_restart (NfJournal *journal, NfPosition start);
/* Cuts everything after SEQ (a parted history). */
int nf_journal_cut (NfJournal *journal, guint64 seq);
/* Drops whole segments that are past the limits (ages are told by the records' times); those with records after KEEP are spared until
 * twice the limit. */
void nf_journal_trim (NfJournal *journal, guint64 keep);
guint64 nf_journal_bytes (NfJournal *journal);
