// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <pthread.h>

#include "sync/journal.h"
#include "sync/reserve.h"
#include "sync/share.h"
#include "sync/strand.h"
#include "sync/tree.h"

/* What the parts of a share know of each other. Who owns what:
 *
 *   share.c      opens and closes; share-messages.c and share-calls.c send each message and call to the part it is for
 *   opens.c      open handles by fid: descriptors, holds of other sites, orphans
 *   reads.c      carries out the reading calls on the tree (primary and replica alike)
 *   primary.c    checks and carries out changes (with exec-*.c), answers other sites
 *   broadcast.c  cursors of the subscribers through the journal
 *   serve.c      answers FETCH, LIST, HASH
 *   replica.c    receives ops, defers what depends on content under way, keeps the position
 *   apply.c      carries out one record on the tree
 *   transfer.c   content under way (fetch.c, compare.c), put in place as one state (switch.c)
 *   heal.c       takes suspects one after the other: filling, catching up, repair (reconcile.c)
 *   forward.c    calls under way to the primary: ids, sending again, deadlines; the write buffer,
 * which readers of this site see (overlay); pending-calls.c keeps their order
 */

typedef struct NfOpens NfOpens;
typedef struct NfPrimary NfPrimary;
typedef struct NfReplica NfReplica;
typedef struct NfForward NfForward;
typedef struct NfRestore NfRestore;
typedef struct NfClaims NfClaims;
typedef struct NfIntents NfIntents;

/* Enough that files rarely meet. */
#define NF_CONTENT_LOCKS 64

struct NfShare
{
  NfHost *host;
  NfShareConf conf;   /* own copies */
  NfTree *tree;       /* NULL for role none */
  NfIndex *index;     /* the tree's */
  NfJournal *journal; /* NULL for role none */
  NfReserve *reserve; /* likewise */
  NfIntents *intents; /* likewise */
  NfOpens *opens;
  NfPrimary *primary; /* one of these two */
  NfReplica *replica; /* role replica and, with no tree, none */
  NfForward *forward; /* with `replica` */
  NfClaims *claims;   /* likewise */
  NfRestore *
      restore; /* with `replica`: this is the primary, which takes back what it lost; see restore.h */

  /* At a replica: an op on a file's content is applied (write) while nobody here reads it (read). By fid. Innermost. */
  pthread_rwlock_t content[NF_CONTENT_LOCKS];

  gint
      goes_back; /* atomic: this primary is in an earlier state than its members, and does nothing more; see restore.h */

  pthread_mutex_t checkpoint_lock; /* one checkpoint at a time; outermost */

  pthread_mutex_t lock; /* guards what follows */
  guint64 epoch;        /* the primary's reign that we know of */
  gboolean connected;   /* to the primary */
  gboolean closing;
  NfPrimary *source;   /* at a replica, while its primary takes back what it lost; see source.h */
  GHashTable *strands; /* for messages; see share.c. NULL when closing */
};

/* ---- share.c ---- */
/* A share that is being restored: SITE is its primary from now on. */
void nf_share_follow (NfShare *share, const char *site);

/* ---- opens.c: what is open, by fid. Thread: any; one lock inside, innermost. ---- */
NfOpens *nf_opens_new (NfShare *share);
void nf_opens_free (NfOpens *opens);
/* A handle: opens (or shares) descriptors of FID on the tree. At the primary FLAGS' access mode; at
 * a replica always for reading, -1 if the content isn't here. */
int nf_opens_add (NfOpens *opens, NfFid fid, int flags, NfFile **ret_file);
void nf_opens_remove (NfOpens *opens, NfFile *file);
/* FILE, which nobody else uses yet, reads what there is at the time instead: its descriptor is, or may come to be, of an
 * object that another takes the place of. */
void nf_opens_give_up_fd (NfOpens *opens, NfFile *file);
/* A descriptor of FID that allows WRITE (or reading), if any handle or hold has one; duplicated,
 * the caller closes it. -1 if none. */
int nf_opens_fd (NfOpens *opens, NfFid fid, gboolean write);
/* Open here or held by a site: its last name must go to the orphans instead of away. */
gboolean nf_opens_held (NfOpens *opens, NfFid fid);
/* FUNC for each of this site's handles of FID, with the lock of OPENS: it may not call anything here. */
void nf_opens_each (NfOpens *opens, NfFid fid, void (*func) (NfFile *file, gpointer data),
                    gpointer data);
/* Handles for writing at this site. */
gboolean nf_opens_writers (NfOpens *opens, NfFid fid);
/* The kernel reads FILE past us from now on, or doesn't any more. */
void nf_opens_set_passed (NfOpens *opens, NfFile *file, gboolean passed);
/* Does it so read any handle of FID? Cheap if there are none at all. */
gboolean nf_opens_passed (NfOpens *opens, NfFid fid);
/* Another site holds FID (primary only); counted. */
int nf_opens_hold (NfOpens *opens, const char *site, NfFid fid);
void nf_opens_drop (NfOpens *opens, const char *site, NfFid fid);
/* Has any site but SITE (NULL: this one) FID open, as far as is known here? (primary only) */
gboolean nf_opens_elsewhere (NfOpens *opens, NfFid fid, const char *site);
/* The site is gone for good (its lease ended). */
void nf_opens_drop_site (NfOpens *opens, const char *site);
/* FID has a new backing object: later handles open that; those that exist keep theirs. */
void nf_opens_switched (NfOpens *opens, NfFid fid);

/* ---- reads.c: the calls that change nothing, on the tree. Fills ANSWER (owner set if it has
 * data). 0 or -errno. At the primary what the index doesn't know yet is adopted first (ADOPT).
 * Thread: any. ---- */
typedef int (*NfAdoptFunc) (NfShare *share, NfFid parent, NfSlice name, NfIdent ident,
                            NfAttr *attr);
int nf_reads_call (NfShare *share, const NfMsg *call, int fd_or_minus_1, NfAdoptFunc adopt,
                   NfMsg *ret_answer);

/* ---- primary.c ---- */
NfPrimary *nf_primary_new (NfShare *share,
                           GError **error); /* recovers: redo or abort of what was under way */
void nf_primary_free (NfPrimary *primary);
/* Its next reign is later than EPOCH. 0 or -errno. */
int nf_primary_raise_epoch (NfPrimary *primary, guint64 epoch);
/* The same, of a share that is still to be opened. */
int nf_primary_set_epoch (NfShare *share, guint64 epoch);
/* The journal of a share that is to be opened is no more: a new one begins after RET_START. 0 or -errno. */
int nf_primary_forget_journal (NfShare *share, NfPosition *ret_start);
/* Has no other site followed it since this directory came into use? */
gboolean nf_primary_is_unshared (NfPrimary *primary);
/* Another site follows. */
void nf_primary_followed (NfPrimary *primary);
/* SITE NULL: this site's own mount. FILE may be NULL. */
void nf_primary_call (NfPrimary *primary, const char *site, NfFile *file, const NfMsg *call,
                      NfCallDone done, gpointer data);
/* A message from SITE (calls and the rest), in order, on its strand. */
void nf_primary_message (NfPrimary *primary, const char *site, gboolean bulk, const NfMsg *msg);
void nf_primary_peer_up (NfPrimary *primary, const char *site);
void nf_primary_peer_down (NfPrimary *primary, const char *site);
void nf_primary_drained (NfPrimary *primary, const char *site, gboolean bulk);
void nf_primary_flush (NfPrimary *primary, NfFid fid, gboolean sync, gboolean datasync,
                       NfCallDone done, gpointer data);
void nf_primary_members (NfPrimary *primary, NfMemberFunc func, gpointer data);
void nf_primary_wait (NfPrimary *primary, guint64 seq, const char *sites, guint timeout_ms,
                      NfCallDone done, gpointer data);
/* The kernel here has been told. */
void nf_primary_told (NfPrimary *primary);
void nf_primary_close_file (NfPrimary *primary, NfFile *file); /* orphans go with the last handle */

/* ---- replica.c (role none: tree and journal NULL, ops only invalidate) ---- */
NfReplica *nf_replica_new (NfShare *share, GError **error); /* recovers: redo from the position */
/* Records the position and does nothing more, while what it stands on still is. */
void nf_replica_stop (NfReplica *replica);
void nf_replica_free (NfReplica *replica);
/* A message from the primary, in order, on the one strand that both connections share. ANSWER goes
 * to forward. MSG is taken. MORE: another OP comes right after this one, until when it may lie. */
void nf_replica_message (NfReplica *replica, NfMsg *msg, gboolean more);
void nf_replica_peer_up (NfReplica *replica);
void nf_replica_peer_down (NfReplica *replica);
/* Can CALL (a reading one) be served from the tree right now? FALSE: not filled, suspect, or
 * marked. Thread: any. */
gboolean nf_replica_serves (NfReplica *replica, const NfMsg *call);
gboolean nf_replica_serves_content (NfReplica *replica, NfFid fid);
/* The answer to a call of ours says that op SEQ changed these fids and names. If it is applied
 * here: TRUE. Else they are marked as not to be read from the tree until it is, and FALSE is
 * returned. */
gboolean nf_replica_mark (NfReplica *replica, guint64 seq, const NfFid *fids, guint n_fids,
                          const NfNameRef *names, guint n_names);
/* CALL, a reading one, was answered by the primary, as of op ANSWER's seq. Where that is newer than what is here, the
 * same things aren't read from the tree either until it has come so far. */
void nf_replica_mark_read (NfReplica *replica, const NfMsg *call, int status, const NfMsg *answer);
NfPosition nf_replica_position (NfReplica *replica);
/* Is op SEQ applied, as far as it ever will be? */
gboolean nf_replica_has_applied (NfReplica *replica, guint64 seq);
/* The last op received; nothing if names or attributes here aren't known to be right. Takes the replica's `work`. */
NfPosition nf_replica_position_to_trust (NfReplica *replica);
/* Is somebody waiting for the kernel to be told? Then nf_replica_told() is due, on the strand. Thread: any. */
gboolean nf_replica_wants_told (NfReplica *replica);
void nf_replica_told (NfReplica *replica);
void nf_replica_status (NfReplica *replica, NfShareStatus *ret_status);

/* ---- forward.c ---- */
NfForward *nf_forward_new (NfShare *share);
void nf_forward_free (NfForward *forward);
/* Sends CALL to the primary; DONE later. Writes go through the buffer and may be DONE at once. */
void nf_forward_call (NfForward *forward, NfFile *file, const NfMsg *call, NfCallDone done,
                      gpointer data, guint64 *ret_id);
void nf_forward_cancel (NfForward *forward, guint64 id);
/* On the strand of the primary's messages, after the ops that came before it. */
void nf_forward_answer (NfForward *forward, const NfMsg *answer);
void nf_forward_peer_up (NfForward *forward); /* subscribed: send what waits, again what was sent */
void nf_forward_peer_down (NfForward *forward); /* starts the waiting calls' end */
void nf_forward_flush (NfForward *forward, NfFid fid, NfFile *file, gboolean sync,
                       gboolean datasync, NfCallDone done, gpointer data);
gboolean nf_forward_drain (NfForward *forward, guint timeout_ms, char **ret_left);
/* The primary's history isn't ours any more: what it answered before may not be so, and is no longer laid over the replica,
 * which is compared with it. */
void nf_forward_parted (NfForward *forward);
/* Has the caller of this site's call REQID been told of its outcome, or will he be? Else what the op changes is news
 * to this site's kernel as it is to others'. */
gboolean nf_forward_told (NfForward *forward, guint64 reqid);
/* The bytes of our own write REQID, for the op that comes back; NULL if they are no longer here. */
GBytes *nf_forward_written (NfForward *forward, guint64 reqid);
/* Our own op REQID is applied to the replica: its bytes need no longer be laid over it. */
void nf_forward_applied (NfForward *forward, guint64 reqid);
/* The replica has applied ops, or will never: answers that wait for that go out. Cheap if there are none. */
void nf_forward_unpark (NfForward *forward);
/* Is anything of FID's content laid over the replica? And if so, its attributes and content. */
gboolean nf_forward_overlays (NfForward *forward, NfFid fid);
/* To be asked for before the tree is read: what it takes over in between lies neither in what was read nor over it. */
guint64 nf_forward_taken_over (NfForward *forward);
/* ATTR is of the tree, or of FD if that isn't -1, later than BEFORE was asked for; it is read again if need be. */
void nf_forward_overlay_attr (NfForward *forward, guint64 before, int fd, NfAttr *attr);
/* Lays what is under way over the LENGTH bytes at OFFSET that were read (of which GOT were there;
 * the rest of BUFFER is zeroed by the caller). Returns how many bytes there are now; -EAGAIN: something was taken over
 * since BEFORE, and they have to be read again. */
gssize nf_forward_overlay_read (NfForward *forward, NfFid fid, guint64 before, guint64 offset,
                                guint8 *buffer, gsize length, gsize got);
void nf_forward_pending (NfForward *forward, guint64 *ret_calls, guint64 *ret_bytes);
/* The primary is to keep FILE's object as long as FILE is open: tells it unless it is TOLD already (by CREATE). */
void nf_forward_hold (NfForward *forward, NfFile *file, gboolean told);
/* The same for all of FID's handles, before a call that may take its last name. */
void nf_forward_hold_open (NfForward *forward, NfFid fid);
/* FILE is being closed. */
void nf_forward_release (NfForward *forward, NfFile *file);
/* FILE's site-side errors (a write that failed after write() returned). 0 or -errno; cleared by
 * asking. */
int nf_forward_file_error (NfForward *forward, NfFile *file);

struct NfFile
{
  NfShare *share;
  NfFid fid;
  int flags;
  int fd;           /* own descriptor for reading (and writing, at the primary), or -1 */
  gint old;         /* atomic: that is of the object which the fid had before */
  int error;        /* first failed write since the last flush; guarded by the forward's lock */
  gboolean held;    /* HOLD was sent to the primary; guarded by the forward's lock */
  gboolean closing; /* it won't be any more; guarded by the forward's lock */
  gboolean created; /* by a CREATE of this site just before */
  gint locked;      /* atomic: a lock was taken through it away from home; see claims.h */
  gint lost;        /* atomic: and taken away without its doing: it is of no use any more */
  gboolean passed;  /* the kernel reads it past us; guarded by the opens' lock */
};

pthread_rwlock_t *nf_share_content_lock (NfShare *share, NfFid fid);
