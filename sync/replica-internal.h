// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sync/apply.h"
#include "sync/blocked.h"
#include "sync/check.h"
#include "sync/heal.h"
#include "sync/transfer.h"

/* What the parts of the replica know of each other:
 *
 *   replica.c        beginning and end, the position and who is told of it
 *   replica-link.c   subscription, and what each message is for
 *   replica-receive.c ops as they come, into the journal
 *   replica-ops.c    an op's way from the journal to the tree
 *   replica-narrow.c what is known newer than the ops
 *   replica-redo.c   opening: what the last life left undone
 *   replica-reboot.c the same, where the machine went down
 *   replica-gate.c   ops wait here until the kernel knows of those before them
 *   replica-reads.c  what may be served from the tree, and the marks
 *   transfer.c       content under way; switch.c puts it in place
 *   heal.c           suspects; reconcile.c compares a listing with what is here
 *   check.c          the same for people, changing nothing by itself (fsck)
 *
 * Locks: `work` is held by whoever does any of this (the strand of the primary's messages, or a timer); `lock` is
 * inner to it and guards the few things that readers look at, so that no read ever waits for an op to be applied. */

/* Ops taken in and not applied: past these the rest stays in the journal, from which it is read again later. */
#define NF_UNDONE_MAX 16384
#define NF_UNDONE_COST_MAX (64 * 1024 * 1024)
/* The primary hears of the position after so many ops or milliseconds. */
#define NF_PUBLISH_OPS 64
#define NF_PUBLISH_MS 20
/* How long an object without a name stays, at least. */
#define NF_BURY_MS 1000
/* So many are buried in one transaction: who changes the index meanwhile waits for it. */
#define NF_BURY_BATCH 32
/* How often the journal is looked at for what is too old. */
#define NF_TRIM_MS 10000
/* After a failure that somebody has to mend (no space, an I/O error at the primary). */
#define NF_RETRY_MS 5000
/* Deferred ops recorded with the position; after a crash whatever comes later is gone over again. */
#define NF_DEFERRED_MAX 4096

/* An op that is received and not applied. */
struct NfOp
{
  NfHolds holds;
  NfPosition position;
  NfPosition before; /* of the op before it */
  GBytes *owner;     /* of the memory that `record` and `data` point into */
  NfRecord record;
  NfSlice data;     /* content of a DATA op, if it is here */
  GBytes *own_data; /* keeps `data` instead, where it is this site's own write */
  gboolean own;     /* of this site */
  gboolean redone;  /* may have been applied, wholly or in part, before a crash */
  gboolean turn;    /* nothing that it depends on is before it */
  gboolean queued;  /* stands in `ready` or `stalled` to be run again */
  gboolean noted;   /* its content is in place, or somebody else's care: only its mtime is left */
  gint64 since_ms;
  NfTransfer *transfer; /* whose completion it waits for, or NULL */
  GList *link;          /* in `undone` */
};

/* As of which seq something of an object is known, where that is newer than the position: ops up to there are not to
 * be applied to it again. `times`: the last op that set a directory's mtime. */
typedef struct
{
  guint64 names;
  guint64 attr;
  guint64 data;
  guint64 placed;
  guint64 times;
  guint64 gone; /* the primary says that it has lost its last name by then: see narrow_names() */
} NfStamp;

struct NfReplica
{
  NfShare *share;
  gint refs;                       /* timers hold one each */
  pthread_mutex_t checkpoint_lock; /* outermost: the index isn't closed while it is held */
  pthread_mutex_t work;

  /* guarded by work */
  gboolean closed;
  gboolean subscribed; /* ops that come now follow what is received */
  gboolean fresh;      /* nothing here is known to be right: compare */
  gboolean
      parted; /* what is compared had ops that the primary doesn't have: nothing of it is thrown away (G6) */
  gboolean frozen; /* the primary reads from here; see source.h */
  gboolean no_space;
  int failed; /* the last -errno that what came couldn't be written for, said already; 0: none since */
  gboolean retry_due;
  gboolean bury_due;
  NfPosition received; /* the end of the journal */
  NfPosition loaded;   /* taken from there so far */
  GQueue incoming; /* of NfMsg: OPs that aren't in the journal yet, within a turn of the strand */
  GQueue arrived;  /* after `loaded`, at the gate; see replica-gate.c */
  gsize arrived_cost;
  GQueue undone;       /* of NfOp, in order */
  gsize undone_cost;   /* bytes */
  GHashTable *content; /* fid → GQueue of those of `undone` that change its content, in order */
  NfBlocked *blocked;  /* which of them waits for which */
  GQueue ready;        /* of NfOp: nothing is before them any more */
  GQueue stalled;      /* of NfOp: had no space */
  GHashTable *touched; /* fid → seq: the last op on it, while listings may come that are older */
  GHashTable *copied;  /* of fid: parted, and its content is in the quarantine */
  GHashTable *aborted; /* of seq, known to have had no effect */
  GHashTable *stamps;  /* fid → NfStamp */
  guint stamps_swept;  /* how many there were after the last sweep, … */
  guint64 swept_seq;   /* … when ops up to here were applied */
  guint stamps_gone;   /* how many say that it is gone */
  gboolean stamps_saved; /* some are recorded with the position */
  guint64 last_seq;    /* the primary's when this site subscribed: what comes up to it is no news */
  guint64 ahead_seq;   /* an answer has told of things here up to this op, … */
  guint64 ahead_epoch; /* … in this reign */
  guint64 redo_upto;   /* the last life had dealt with ops up to here, … */
  GHashTable *redo_undone; /* … but these */
  guint64 redo_end;        /* received in the last life */
  GArray *lost;            /* of NfFid: without a name, to be buried */
  GArray *dying;           /* the same, since the round before */
  gint64 buried_ms;        /* when the last round was */
  NfAtHand at_hand;        /* let go whenever the position is published */
  NfTransfers *transfers;
  NfHeal *heal;
  NfCheck *check;    /* the comparison under way, or NULL */
  guint unpublished; /* ops applied that the primary hasn't been told of */
  gboolean publish_due;
  gint64 published_ms;
  gboolean checkpoint_posted;
  guint checkpoint_ops; /* carried out since the last one that they were the reason for */
  gint64 trimmed_ms;
  NfPosition published;
  gboolean published_whole; /* and nothing was suspect */

  pthread_mutex_t lock;
  /* guarded by lock */
  NfPosition applied;      /* no op up to here is missing */
  NfPosition known;        /* as `received` */
  gint64 oldest_ms;        /* since when the first op not applied has been here; 0: none */
  guint64 missing_bytes;   /* content under way */
  guint64 taken_seq;       /* ops up to here are applied or in undone_seqs */
  GHashTable *undone_seqs; /* of seq */
  GHashTable *unsure;      /* of fid, whose size isn't the tree's: it is being healed */
  GHashTable *marks;       /* key → how many */
  GHashTable *marks_of;    /* seq → GArray of keys */
  GHashTable *mark_fids;   /* fid → how many: which of the marks are of objects */
  guint64 read_mark;       /* the least seq of those that stand for all ops up to it; 0: none */
  guint64 filled;
  guint64 fill_total;
  char state[32];
  char trouble[256];
  gint n_marks;    /* atomic, so that a share without any costs nothing */
  gint wants_told; /* atomic: the gate is closed, somebody has to say when it can be opened */
};

NfReplica *nf_replica_ref (NfReplica *replica);
void nf_replica_unref (NfReplica *replica);
/* FUNC (REPLICA) later on some worker; it has to call nf_replica_unref(). */
void nf_replica_after (NfReplica *replica, guint delay_ms, NfFunc func);
/* Tries again soon what failed for lack of space or the like. */
void nf_replica_retry_later (NfReplica *replica);
/* Is there space for content? */
gboolean nf_replica_has_room (NfReplica *replica);
gboolean nf_replica_is_no_space (int err);
/* With `work`: what came can't be written for ERR (-errno) now. It is said, and tried again. */
void nf_replica_failed (NfReplica *replica, int err);
void nf_replica_trouble (NfReplica *replica, const char *what); /* NULL: over */
gint64 nf_replica_now_ms (NfReplica *replica);
gboolean nf_replica_send (NfReplica *replica, gboolean bulk, const NfMsg *msg);
void nf_replica_tell_readers (NfReplica *replica);
/* Everything that can go on now goes on. At the end of whatever changed something. */
void nf_replica_settle (NfReplica *replica);
void nf_replica_set_parted (NfReplica *replica, gboolean parted);
/* Records the position (with the deferred ops) in the index. */
int nf_replica_save (NfReplica *replica);
/* Nothing here is known to be right: everything is to be compared. */
int nf_replica_suspect_all (NfReplica *replica);

/* replica-link.c */
void nf_replica_subscribe (NfReplica *replica);
void nf_replica_set_connected (NfReplica *replica, guint64 epoch);

/* replica-receive.c */
/* MSG, an OP, is taken. It lies until nf_replica_take_in(). */
void nf_replica_receive (NfReplica *replica, NfMsg *msg);
/* All that was received goes into the journal, and is to be applied. */
void nf_replica_take_in (NfReplica *replica);

/* replica-narrow.c */
/* Leaves out of RECORD, a copy of OP's, what is known newer. FALSE: nothing is left. */
gboolean nf_replica_narrow (NfReplica *replica, const NfOp *op, NfRecord *record, guint *flags);
void nf_replica_note_times (NfReplica *replica, const NfRecord *record);
void nf_replica_note_touched (NfReplica *replica, const NfRecord *record);

/* replica-ops.c */
/* The next op: RECORD and DATA point into OWNER. */
void nf_replica_take (NfReplica *replica, NfPosition position, GBytes *owner, NfSlice record,
                      NfSlice data);
void nf_replica_run (NfReplica *replica, NfOp *op);
/* OP waited for content that has been switched in, or will never come. */
void nf_replica_resume (NfReplica *replica, NfOp *op);
void nf_replica_op_free (NfOp *op);
void nf_replica_drop_undone (NfReplica *replica);
/* The deferred ops on the content of FID, of NfOp; NULL if there are none. */
const GQueue *nf_replica_content_ops (NfReplica *replica, NfFid fid);
const NfStamp *nf_replica_stamp (NfReplica *replica, NfFid fid); /* never NULL */
NfStamp *nf_replica_stamp_edit (NfReplica *replica, NfFid fid);
/* Nobody has FID any more, as of SEQ. */
void nf_replica_stamp_gone (NfReplica *replica, NfFid fid, guint64 seq);
void nf_replica_forget_stamps (NfReplica *replica);
/* Does it say nothing about ops after APPLIED? */
gboolean nf_stamp_is_past (const NfStamp *stamp, guint64 applied);
void nf_replica_sweep_stamps (NfReplica *replica);
/* Has an op after SEQ on FID (or on what wasn't here as FID yet) been dealt with? */
gboolean nf_replica_is_newer (NfReplica *replica, NfFid fid, guint64 seq);
void nf_replica_bury (NfReplica *replica);
void nf_replica_set_unsure (NfReplica *replica, NfFid fid, gboolean unsure);
/* Does OP change content: a range or the size? */
gboolean nf_op_is_content (const NfOp *op);
/* And are its bytes missing? */
gboolean nf_op_lacks_bytes (const NfOp *op);
/* Is it of this site, and does its kernel know of it from the call's answer? */
gboolean nf_op_is_told (NfReplica *replica, const NfOp *op);

/* replica-gate.c */
/* The kernel hasn't been told yet of what was applied: nothing may be applied now. */
gboolean nf_replica_gated (NfReplica *replica);
/* Runs what is ready, as far as the gate lets it. */
void nf_replica_run_ready (NfReplica *replica);
/* The op just received, for its turn. Copies. */
void nf_replica_arrive (NfReplica *replica, NfSlice record, NfSlice data);
/* Takes the next op if it lies here. FALSE: it doesn't, the journal has it if it is received. */
gboolean nf_replica_take_arrived (NfReplica *replica);
void nf_replica_gate_clear (NfReplica *replica);

/* replica-redo.c */
gboolean nf_replica_recover (NfReplica *replica, GError **error);
void nf_replica_load_more (NfReplica *replica);

/* replica-reboot.c, with `work` */
/* OPS more are carried out: what is here is brought to the disk in a while. */
void nf_replica_checkpoint_soon (NfReplica *replica, guint ops);
/* Did the last life end in order, or at least in this boot? Notes that another life has begun. */
gboolean nf_replica_is_whole (NfReplica *replica, int *ret_err);
/* After a power cut: binds what the journal's records after FROM name. 0 or -errno. */
int nf_replica_rebind (NfReplica *replica, guint64 from);
/* After a power cut, with the position restored: makes suspect what may differ for it. FALSE: that can't be told. */
gboolean nf_replica_goes_on (NfReplica *replica);
/* What had no name when the index was brought to the disk, and wasn't there to be swept away: nobody would ask for it. 0
 * or -errno. */
int nf_replica_forget_unnamed (NfReplica *replica);

/* replica-reads.c */
void nf_replica_marks_init (NfReplica *replica);
void nf_replica_marks_clear (NfReplica *replica);
/* Op SEQ is applied (ALL: and all before it). With `lock`. */
void nf_replica_unmark (NfReplica *replica, guint64 seq, gboolean all);

guint64 nf_replica_epoch (NfReplica *replica);
/* What is as of SEQ at the primary is about to be taken for granted here. 0 or -errno. */
int nf_replica_note_ahead (NfReplica *replica, guint64 seq);

/* With `work`: is only content suspect here, if anything? */
gboolean nf_replica_knows_names (NfReplica *replica);
/* With `work`: carries out all that is received; what content isn't here is noted as suspect. FALSE: not all, now. */
gboolean nf_replica_finish_all (NfReplica *replica);

/* Content suspicion that is confined to ranges ("dirty"), or to nothing less than the whole file. */
int nf_dirty_add (NfShare *share, NfFid fid, guint64 start, guint64 end);
int nf_dirty_whole (NfShare *share, NfFid fid);
int nf_dirty_clear (NfShare *share, NfFid fid);
/* FALSE if it is the whole file. FUNC for each range. */
gboolean nf_dirty_each (NfShare *share, NfFid fid, NfSegmentFunc func, gpointer data);
