// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <fcntl.h>

#include "sync/answered.h"
#include "sync/broadcast.h"
#include "sync/life.h"
#include "sync/grants.h"
#include "sync/linger.h"
#include "sync/locks.h"
#include "sync/opens.h"
#include "sync/order.h"

/* What the parts of the primary know of each other:
 *
 *   primary.c      opens and closes, takes calls of this site
 *   primary-message.c  takes messages of other sites
 *   primary-holds.c    orphans: files that are kept because they are open
 *   primary-recover.c  what was under way when the last process died
 *   primary-wait.c     WAIT: when these sites have applied that op
 *   exec.c         what all changes have in common: locks, record, abort, index, done
 *   exec-help.c    what several of them need
 *   exec-make.c exec-names.c exec-rename.c exec-data.c exec-range.c exec-attr.c exec-xattr.c   the changes
 *   adopt.c        objects that are in the tree and not in the index
 */

typedef struct NfAdopter NfAdopter;
typedef struct NfServe NfServe;
typedef struct NfWaits NfWaits;

/* An op whose abort record couldn't be written yet; with FID, a range is to be said before as it stands. Or, with
 * MASK, attributes of FID, which the op at HELD has set: the next life redoes it if this one says nothing any more. */
typedef struct
{
  guint64 aborted;
  guint64 held;
  NfFid fid;
  guint64 offset;
  guint64 end;
  guint32 mask;
} NfLate;

struct NfPrimary
{
  NfShare *share;
  guint64 epoch;
  guint64 lossy_epoch; /* this reign began with a power cut; what earlier ones did after op */
  guint64 lossy_seq;   /* this may be lost */
  NfLife *life;
  NfLocks locks;
  pthread_mutex_t rename_lock; /* directories that change their parent; before object locks */
  NfOrder *order;
  NfAnswered *answered;
  NfBroadcast *broadcast;
  NfServe *serve;
  NfWaits *waits;
  NfGrants *grants; /* NULL of a source */
  NfAdopter *adopter;
  NfLinger *linger;
  guint64 source_seq; /* not 0: this is a replica's, and everything as of this op; see source.h */
  gint broken;        /* atomic: index and tree differ after a failed commit: no more changes */
  guint64 names_changed; /* atomic: how often a name went elsewhere; for remembered paths */
  guint64 saved;         /* atomic: the watermark in the index */
  guint64 durable;       /* atomic: the watermark up to which a power cut takes nothing */
  gint checkpointing;    /* atomic: a checkpoint is under way */
  gint unshared;         /* atomic: see nf_primary_is_unshared() */
  gint checkpoint_due;   /* atomic: its timer runs */
  gint tell_due;         /* atomic: somebody tells the sites, or a timer runs for it */
  gint64
      round_due_ms; /* atomic: when the next round would be, had all been as far apart as in a stream */
  gint64 room;      /* atomic: bytes that may be written before the free space is looked at again */
  guint64 trimmed; /* atomic: the op at which the journal was last trimmed */

  pthread_mutex_t check_lock;
  gpointer check;       /* an fsck that runs, see check-primary.c; guarded by check_lock */
  gint check_cancelled; /* atomic */

  pthread_mutex_t late_lock;
  GArray *late;      /* of NfLate; guarded by late_lock */
  gboolean late_due; /* it is tried again soon; guarded by late_lock */
  gint n_late;       /* atomic: its length */
};

/* Records appended by one change: its own, an abort, the corrections. */
#define NF_EXEC_SEQS_MAX 8
#define NF_EXEC_INVALS_MAX 4
/* Paths in records are for readers; the end of longer ones says most. */
#define NF_EXEC_PATH_MAX 1024

/* One change being carried out. */
typedef struct
{
  NfPrimary *primary;
  NfShare *share;
  const char *site; /* NULL: this site's own mount */
  NfFile *file;     /* through which it came, or NULL */
  const NfMsg *call;
  const NfCallHead *head; /* with the numbers that the caller has here */
  NfMsg *answer;

  NfLockSet locks;
  gint64 time; /* of its records; taken under the locks */
  guint64 seq; /* the last record's; 0: none */
  guint64 seqs[NF_EXEC_SEQS_MAX];
  guint n_seqs;
  NfInval invals[NF_EXEC_INVALS_MAX];
  guint n_invals;
  gboolean changing; /* between nf_tree_changing() and nf_tree_changed() */
  char path[NF_EXEC_PATH_MAX + NF_NAME_LEN_MAX + 2];
} NfExec;

/* ---- exec.c ---- */
void nf_exec_init (NfExec *exec, NfPrimary *primary, const char *site, NfFile *file,
                   const NfMsg *call, const NfCallHead *head, NfMsg *answer);
void nf_exec_lock (NfExec *exec, const NfFid *fids, guint n_fids);
/* Lets go of the locks without anything having been appended. */
void nf_exec_unlock (NfExec *exec);
/* Appends RECORD, completed with epoch, time and (ASKED) who asked for it. 0 or -errno. */
int nf_exec_append (NfExec *exec, NfRecord *record, gboolean asked);
/* Record SEQ of this change had no effect. */
void nf_exec_abort (NfExec *exec, guint64 seq);
/* It hadn't the effect that it says, but changed some of a file's range, which can't be said now. */
void nf_exec_abort_in_part (NfExec *exec, guint64 seq, NfFid fid, guint64 offset, guint64 end);
/* The change is over: what it appended is done. Unlocks, tells the other sites and this site's kernel. */
void nf_exec_end (NfExec *exec);
/* The same, but keeps the locks: for changes of many records. */
void nf_exec_flush (NfExec *exec);

/* The index changes between these two are committed together with the watermark. 0 or -errno. */
int nf_exec_index_begin (NfExec *exec);
int nf_exec_index_commit (NfExec *exec);
/* Index and tree have parted for good: refuses all further changes and says so. */
void nf_exec_broken (NfExec *exec, const char *what, int err);

void nf_exec_changing (NfExec *exec);
void nf_exec_changed (NfExec *exec);
/* Answers what a directory was like that is gone: who has it open may go on looking at it, and nobody else remembers. */
void nf_exec_tell_gone (NfExec *exec, const NfAttr *attr);
/* Answers who has lost a name by the call: its site is to see one link less from now on, though its replica may not be so far. */
void nf_exec_tell_lost_name (NfExec *exec, NfFid fid);
/* With the caller's credentials; FALSE: nothing may be done for him. Back by nf_creds_leave(). */
gboolean nf_exec_assume (NfExec *exec, gboolean with_umask);

void nf_exec_inval (NfExec *exec, const NfInval *inval);
void nf_exec_inval_name (NfExec *exec, NfFid parent, NfSlice name, NfFid fid);

/* ---- exec-help.c ---- */
/* For the record; valid until the next one. */
NfSlice nf_exec_path_of (NfExec *exec, NfFid fid);
NfSlice nf_exec_path_in (NfExec *exec, NfFid parent, NfSlice name);
/* A zero-terminated copy of NAME; -EINVAL etc. if it may not be one, -EPERM for the hidden directory's. */
int nf_exec_name (NfFid parent, NfSlice name, char *ret_name);
/* The object at (PARENT, NAME), adopted if the index doesn't know it. Without locks. 0 or -errno. */
int nf_exec_find (NfExec *exec, NfFid parent, NfSlice name, NfAttr *ret_attr);
/* Under the locks: is FID (NF_FID_NONE: nothing) still there? */
gboolean nf_exec_still (NfExec *exec, NfFid parent, NfSlice name, NfFid fid, NfAttr *ret_attr);
/* 0, -ENOTEMPTY or another -errno. */
int nf_exec_empty (NfExec *exec, NfFid dir);

/* late.c. Appends what is late, as far as that can be done: 0 or the -errno that it ended with. Takes late_lock. */
int nf_late_append (NfPrimary *primary, gint64 time);
void nf_late_add (NfPrimary *primary, const NfLate *late);
/* Appends that SEQ had no effect. */
int nf_late_append_abort (NfPrimary *primary, gint64 time, guint64 seq, guint64 *ret_seq);

/* Sets times of what FD is (O_PATH is enough) as root; G_MININT64 leaves one as it is. */
int nf_exec_set_times (int fd, gint64 atime, gint64 mtime);
/* Sets the mtime of FID, open as FD, that the record gives it; where that can't be done, or with SAY in any case, appends
 * an op with what it is: exec->seq is that op's afterwards. Before the index is committed, or a kill in between leaves
 * what no redo looks at. */
void nf_exec_put_mtime (NfExec *exec, int fd, NfFid fid, gint64 mtime);
void nf_exec_say_mtime (NfExec *exec, int fd, NfFid fid);
/* Attributes in MASK are said before the next change. */
void nf_exec_say_late (NfExec *exec, NfFid fid, guint32 mask);
/* The mtime that a write gets: the origin's clock where that is near ours and doesn't run backwards. */
gint64 nf_exec_mtime (const NfExec *exec, gint64 present);
void nf_exec_attr (const struct stat *st, NfFid fid, NfAttr *ret_attr);
/* "/proc/self/fd/N", by which an O_PATH descriptor can be used in a system call that takes a path. */
typedef struct
{
  char str[32];
} NfProcPath;
NfProcPath nf_exec_proc_path (int fd);

/* What came out differs from what the record says: appends ATTR with what AFTER has of MASK; if the journal has no room
 * for it, before the next change. */
void nf_exec_correct (NfExec *exec, NfFid fid, guint32 mask, const NfAttr *after);
/* Which of mode, uid, gid (and, if in MASK, size and mtime) differ. */
guint32 nf_exec_differs (const NfAttr *said, const NfAttr *after, guint32 mask);
/* Appends XATTR with the present value of NAME on PATH, if it has it. */
int nf_exec_correct_xattr (NfExec *exec, NfFid fid, const char *path, const char *name);

/* ---- the changes: 0 or -errno, with the answer filled. They take and give the locks. ---- */
int nf_exec_make (NfExec *exec); /* CREATE MKDIR MKNOD SYMLINK */
int nf_exec_link (NfExec *exec);
int nf_exec_remove (NfExec *exec); /* UNLINK RMDIR */
int nf_exec_rename (NfExec *exec);
int nf_exec_setattr (NfExec *exec);
int nf_exec_set_size (NfExec *exec, NfFid fid, guint64 size); /* of an existing file, for O_TRUNC */
int nf_exec_write (NfExec *exec);
int nf_exec_fallocate (NfExec *exec);
int nf_exec_copy (NfExec *exec);
int nf_exec_setxattr (NfExec *exec);
int nf_exec_removexattr (NfExec *exec);

/* A descriptor for reading and writing of FID. */
typedef struct
{
  int fd;
  NfOpenFd *open_fd;
} NfExecRw;
int nf_exec_rw (NfExec *exec, NfFid fid, NfExecRw *ret_rw);
/* Opens FID as the daemon, under its lock. In personal mode its own mode may stand against it: then that is changed for
 * the moment. */
int nf_exec_open (NfShare *share, NfFid fid, int flags);
void nf_exec_rw_clear (NfExecRw *rw);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (NfExecRw, nf_exec_rw_clear)
/* May the caller do this (R_OK, W_OK) to what FD is? The kernel at his site was asked at open; here it is his
 * credentials, or that this was found for a hold of his site before. 0 or -EACCES. */
int nf_exec_judge (NfExec *exec, NfFid fid, int fd, int access_mask);

/* ---- primary.c ---- */
/* What a replica needs to be read by others: no calls, no changes. The parts of it are as of POSITION. */
NfPrimary *nf_primary_new_source (NfShare *share, NfPosition position);
void nf_primary_free_source (NfPrimary *source);
/* With an object's lock: all ops on it up to this one are in what is read of it, none that is later. */
guint64 nf_primary_stamp (NfPrimary *primary);
/* A source that hasn't got the content of FID itself. */
gboolean nf_primary_lacks_content (NfPrimary *primary, NfFid fid);
/* The same, or what it has of its attributes is in doubt. */
gboolean nf_primary_is_unsure (NfPrimary *primary, NfFid fid);
/* Carries CALL out, one that is answered at once. 0 or -errno, ANSWER filled. */
int nf_primary_execute (NfPrimary *primary, const char *site, NfFile *file, const NfMsg *call,
                        const NfCallHead *head, NfMsg *answer);
/* FSYNC: what FID has, and the journal, are on the disk. */
int nf_primary_sync (NfPrimary *primary, NfFid fid, gboolean datasync);
/* PEERS's answer: for each member its name (slice), epoch, seq, chain, ops behind (u64), connected (u8). */
void nf_primary_encode_members (NfPrimary *primary, NfBuf *buf);

/* ---- primary-holds.c ---- */
/* The last handle or hold of FID may just have gone. */
void nf_primary_released (NfPrimary *primary, NfFid fid);
int nf_primary_hold (NfPrimary *primary, const char *site, const NfMsg *call,
                     const NfCallHead *head);
void nf_primary_drop (NfPrimary *primary, const char *site, NfFid fid);
/* SITE has a new link: it says anew what it holds, and what it doesn't say within a time it holds no more. */
void nf_primary_holds_again (NfPrimary *primary, const char *site);
/* The orphans that the last process left stay for as long. */
void nf_primary_orphans_later (NfPrimary *primary);

/* ---- adopt.c ---- */
NfAdopter *nf_adopter_new (NfPrimary *primary);
void nf_adopter_free (NfAdopter *adopter);
/* Looks through directory FID and all below it, some at a time. WHOLE: through known directories, too. */
void nf_adopter_scan (NfAdopter *adopter, NfFid fid, gboolean whole);
/* As NfAdoptFunc. */
int nf_primary_adopt (NfShare *share, NfFid parent, NfSlice name, NfIdent ident, NfAttr *attr);

/* ---- primary-recover.c ---- */
/* Sets epoch, order and broadcast; what was under way is settled. */
gboolean nf_primary_recover (NfPrimary *primary, GError **error);
/* For the end: the next start needn't look at anything. */
void nf_primary_close_clean (NfPrimary *primary);
/* Something was changed: all up to the watermark is brought to the disk, on a worker, at once if much has come together
 * since the last time, else after a while. */
void nf_primary_checkpoint_soon (NfPrimary *primary);
guint64 nf_primary_get_meta (NfPrimary *primary, const char *key, guint64 otherwise);
int nf_primary_set_meta (NfPrimary *primary, const char *key, guint64 value);

/* ---- primary-tell.c ---- */
/* There is something new for the other sites. SITE (may be NULL), whose call it was, gets it before this returns. */
void nf_primary_tell (NfPrimary *primary, const char *site);

/* ---- primary-wait.c ---- */
NfWaits *nf_waits_new (NfPrimary *primary);
/* Answers all that wait (-EHOSTUNREACH). */
void nf_waits_free (NfWaits *waits);
/* DONE when SITES have applied SEQ. OWNER (a site, or NULL) and ID are for nf_waits_cancel(). */
void nf_waits_add (NfWaits *waits, guint64 seq, NfSlice sites, guint timeout_ms, const char *owner,
                   guint64 id, NfCallDone done, gpointer data);
void nf_waits_cancel (NfWaits *waits, const char *owner, guint64 id);
/* OWNER's link is down: it asks again when it is back. */
void nf_waits_drop (NfWaits *waits, const char *owner);
/* A site's position has changed. */
void nf_waits_check (NfWaits *waits);

/* ---- serve.c ---- */
NfServe *nf_serve_new (NfPrimary *primary);
void nf_serve_free (NfServe *serve);
/* FETCH, LIST and HASH of SITE: answered on its bulk connection, as that takes it. */
void nf_serve_request (NfServe *serve, const char *site, const NfMsg *request);
void nf_serve_drained (NfServe *serve, const char *site);
void nf_serve_peer_down (NfServe *serve, const char *site);
