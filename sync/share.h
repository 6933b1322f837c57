// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <sys/statvfs.h>

#include "map/map.h"
#include "sync/host.h"

/* A share at this site: the one thing that the mount, the daemon and the simulator talk to. It has
 * one of three roles: primary (the calls are carried out here), replica (reads are served from the
 * broadcast directory, changes are forwarded), or none (everything is forwarded). */

typedef struct
{
  guint64 id;
  const char *name;
  const char *site;    /* ours */
  const char *primary; /* the primary's */
  NfMapRole role;
  const char *dir; /* local or broadcast directory; NULL for role none */
  gboolean personal;
  gboolean create;       /* the daemon was told that this directory is new: mark it */
  guint call_timeout_ms; /* a call that needs the primary fails with EHOSTUNREACH after this */
  gsize write_buffer;    /* bytes of forwarded writes that may be under way */
  guint64 journal_bytes;
  gint64 journal_age_ns;
  /* At the primary: may SITE change things, and whom does the caller count as there? Sets the
   * numbers that the call is carried out with. FALSE: not allowed. */
  gboolean (*may_write) (gpointer data, const char *site);
  void (*credentials) (gpointer data, const char *site, NfCallHead *head);
  /* At the others: sets head.user to the caller's name here (kept by the policy). May be NULL. */
  void (*name_caller) (gpointer data, NfCallHead *head);
  gpointer policy;
  const char *const *members; /* all other sites of the share, NULL-terminated */
} NfShareConf;

/* Opens the directory, recovers (redo), and is ready to serve what is here. Everything in CONF is
 * copied. */
NfShare *nf_share_open (const NfShareConf *conf, NfHost *host, GError **error);
/* Stops taking calls, answers the waiting ones (EHOSTUNREACH), writes a clean checkpoint, frees. */
void nf_share_close (NfShare *share);
/* It is to be closed and opened again: a primary has taken back what it lost. See NfHost.reopen. */
gboolean nf_share_wants_reopen (NfShare *share);
/* Until then it is no primary. */
gboolean nf_share_is_recovering (NfShare *share);
/* Waits (TIMEOUT_MS at most) until forwarded writes are answered. TRUE if nothing is left; else
 * RET_LEFT names what couldn't be written, a path a line. */
gboolean nf_share_drain (NfShare *share, guint timeout_ms, char **ret_left);

guint64 nf_share_id (NfShare *share);
const char *nf_share_name (NfShare *share);
NfMapRole nf_share_role (NfShare *share);
/* What HELLO says of it. */
void nf_share_hello (NfShare *share, NfHelloShare *ret_hello);

/* Links. Called from the links' threads; what they cause runs on strands. */
void nf_share_peer_up (NfShare *share, const char *site, const NfHelloShare *theirs);
void nf_share_peer_down (NfShare *share, const char *site);
/* Takes MSG. */
void nf_share_message (NfShare *share, const char *site, gboolean bulk, NfMsg *msg);
void nf_share_drained (NfShare *share, const char *site, gboolean bulk);
/* The kernel has been told all that NfHost.invalidate() was called for. Cheap if nobody waits for it. */
void nf_share_told (NfShare *share);

/* Calls (NF_MSG_CALL messages). CALL needs type, fields and in the head uid, gid, groups, umask,
 * pid; the rest of the head is filled in. It is only read during the call of this function.
 *
 * DONE is called exactly once: at once, in this thread, where nothing has to be waited for; else
 * later from another. STATUS is 0 or -errno; ANSWER (valid during DONE only) has the seq, value,
 * attr and data: LOOKUP, GETATTR, CREATE, MKDIR, MKNOD, SYMLINK, LINK, SETATTR: attr READ,
 * READLINK, GETXATTR, LISTXATTR: data;  READDIR: data (NfDirEntry…) WRITE, COPY: value (bytes),
 * attr (size, mtime after);  LSEEK: value STATFS: data (see nf_statfs_decode);  CREATE: value 1 if
 * it was created, 0 if it existed */
typedef void (*NfCallDone) (gpointer data, int status, const NfMsg *answer);
/* RET_ID (may be NULL): for nf_share_cancel(); 0 if it was answered at once. */
void nf_share_call (NfShare *share, const NfMsg *call, NfCallDone done, gpointer data,
                    guint64 *ret_id);
/* Has this site (at the primary: any) locks of FID, or asked for some? */
gboolean nf_share_has_locks (NfShare *share, NfFid fid);
/* The caller was interrupted: a call that still waits is answered with -EINTR soon. */
void nf_share_cancel (NfShare *share, guint64 id);

/* Open files. A handle keeps the object alive, at the primary too if it is open for writing,
 * whatever happens to its names. */
typedef struct NfFile NfFile;
/* FLAGS: open(2)'s access mode, O_DIRECT; permission was checked by the caller's kernel; O_TRUNC is
 * a SETATTR before. CREATED: the fid comes from a CREATE with NF_CREATE_HOLD just answered. */
typedef void (*NfOpenDone) (gpointer data, int status, NfFile *file);
void nf_share_open_file (NfShare *share, NfFid fid, int flags, gboolean created, NfOpenDone done,
                         gpointer data);
/* Writes that are still under way have been collected by nf_share_flush() or are given up on. */
void nf_file_close (NfFile *file);
NfFid nf_file_fid (NfFile *file);
/* A descriptor from which this range may be read right now, or -1: then the READ call has to be
 * used. Borrowed. */
int nf_file_read_fd (NfFile *file, guint64 offset, guint64 length);
/* The caller is going to have the kernel read FILE, which is open for reading, from the directory's own file, past us,
 * until nf_file_unpass() or nf_file_close(). Returns a borrowed descriptor of it, or -1 if that would show something
 * else than reading through us does: then nothing has changed. ALONE: nobody has FILE's fid open for writing as far as
 * the caller knows. While there are such files, a change of the content by this site is answered when it is in that
 * file. At a replica what was changed a moment ago isn't read so. Thread: any. */
int nf_file_pass (NfFile *file, gboolean alone);
void nf_file_unpass (NfFile *file);
/* Reads right here, seeing each applied op wholly or not at all. Bytes (0 at the end) or -errno; -EAGAIN if the READ call
 * has to be used. */
gssize nf_file_read (NfFile *file, void *buffer, gsize size, guint64 offset);
/* As above, for the handle's own object even when it has no name any more: use for READ, WRITE,
 * SETATTR, GETATTR, … through a handle. */
void nf_file_call (NfFile *file, const NfMsg *call, NfCallDone done, gpointer data,
                   guint64 *ret_id);
/* Answers when every write made through this site to the file so far has been carried out, with the
 * first error that any had since the last flush of this handle. SYNC: and is durable there (fsync;
 * DATASYNC: its data). Any object. */
void nf_share_flush (NfShare *share, NfFid fid, NfFile *file_or_null, gboolean sync,
                     gboolean datasync, NfCallDone done, gpointer data);

/* STATFS's answer. */
void nf_statfs_encode (const struct statvfs *vfs, NfBuf *buf);
gboolean nf_statfs_decode (NfSlice data, struct statvfs *ret_vfs);

/* For `nearfs status`. */
typedef struct
{
  NfMapRole role;
  NfPosition position; /* applied here */
  NfPosition
      known; /* the newest that we know of: ours at the primary, the last received at a replica */
  gint64 lag_ns; /* how long the oldest op not applied here has been waiting */
  guint64 lag_ops;
  guint64 lag_bytes; /* content still to be fetched */
  guint64 suspects;
  guint64 objects;
  guint64 filled; /* of `fill_total` objects; 0 of 0 when not filling */
  guint64 fill_total;
  guint64 pending_calls;
  guint64 pending_bytes;
  guint64 journal_bytes;
  gboolean connected; /* to the primary; TRUE at the primary */
  char state[32];     /* "in step", "filling", "catching up", "cut off", "no space", … */
  char trouble[256];  /* what is wrong and what to do, or empty */
} NfShareStatus;
void nf_share_status (NfShare *share, NfShareStatus *ret_status);
/* At the primary: where each member stands. FUNC is called for each. */
typedef void (*NfMemberFunc) (const char *site, NfPosition position, guint64 lag_ops,
                              gboolean connected, gpointer data);
void nf_share_members (NfShare *share, NfMemberFunc func, gpointer data);
/* DONE when all SITES (names separated by commas; "all": every member) have applied what this site
 * had seen done when asked (at a replica: asks the primary). -ETIMEDOUT after TIMEOUT_MS. */
void nf_share_wait (NfShare *share, const char *sites, guint timeout_ms, NfCallDone done,
                    gpointer data);
/* `nearfs log`: calls FUNC with each journal record's line after SEQ. */
typedef gboolean (*NfLogFunc) (const char *line, gpointer data);
int nf_share_log (NfShare *share, guint64 seq, NfLogFunc func, gpointer data);
/* A path within the share ("" is the root) to a fid, at this site. 0 or -errno. */
int nf_share_resolve (NfShare *share, const char *path, NfFid *ret_fid);
