// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/share-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sync/claims.h"
#include "sync/primary-internal.h"
#include "sync/sole.h"
#include "sync/times.h"

/* What this site's own mount asks for: at a replica served from the tree where that can be, else by the primary. */

/* A file that hasn't been changed for this long is taken to be at rest, so that the kernel may read it past us. One
 * that is being changed, as a log is, is better read through us, who show each op wholly or not at all. */
#define NF_PASS_QUIET_MS 2000

/* ---- calls ---- */

static gboolean
is_reading (NfMsgType type)
{
  switch (type)
    {
    case NF_MSG_LOOKUP:
    case NF_MSG_GETATTR:
    case NF_MSG_READLINK:
    case NF_MSG_READDIR:
    case NF_MSG_READ:
    case NF_MSG_GETXATTR:
    case NF_MSG_LISTXATTR:
    case NF_MSG_STATFS:
    case NF_MSG_LSEEK:
      return TRUE;
    default:
      return FALSE;
    }
}

/* Reads what the replica has and lays over it what this site has under way. */
static int
read_with_overlay (NfShare *share, const NfMsg *call, int fd, NfMsg *ret_answer)
{
  NfFid fid = call->read.fid;
  gsize size = MIN (call->read.size, NF_DATA_MAX);
  g_autofree guint8 *buffer = g_malloc (size);
  int own_fd = fd >= 0 ? -1 : nf_tree_open_fid (share->tree, fid, O_RDONLY);
  gssize len;

  if (fd < 0 && own_fd < 0)
    return own_fd;
  do
    {
      guint64 before = nf_forward_taken_over (share->forward);
      memset (buffer, 0, size);
      len = pread (fd >= 0 ? fd : own_fd, buffer, size, (off_t)call->read.offset);
      len = len < 0 ? -errno
                    : nf_forward_overlay_read (share->forward, fid, before, call->read.offset,
                                               buffer, size, (gsize)len);
    }
  while (len == -EAGAIN);
  if (own_fd >= 0)
    close (own_fd);
  if (len < 0)
    return (int)len;
  ret_answer->type = NF_MSG_ANSWER;
  ret_answer->owner = g_bytes_new_take (g_steal_pointer (&buffer), (gsize)len);
  ret_answer->answer.data = nf_slice (g_bytes_get_data (ret_answer->owner, NULL), (gsize)len);
  return 0;
}

/* Serves a reading call from the tree, if it can be. FALSE: it has to be forwarded. */
static gboolean
serve_here (NfShare *share, const NfMsg *call, int fd, int *ret_status, NfMsg *ret_answer)
{
  if (!share->tree || !is_reading (call->type) || !nf_replica_serves (share->replica, call))
    return FALSE;
  guint64 before = nf_forward_taken_over (share->forward);
  if (call->type == NF_MSG_LSEEK && nf_forward_overlays (share->forward, call->lseek.fid))
    return FALSE;
  if (call->type == NF_MSG_READ && nf_forward_overlays (share->forward, call->read.fid))
    *ret_status = read_with_overlay (share, call, fd, ret_answer);
  else
    *ret_status = nf_reads_call (share, call, fd, NULL, ret_answer);
  if (*ret_status == -ESTALE)
    return FALSE; /* not here (any more); the primary knows */
  if (*ret_status == 0 && call->type == NF_MSG_LOOKUP)
    nf_forward_overlay_attr (share->forward, before, -1, &ret_answer->answer.attr);
  else if (*ret_status == 0 && call->type == NF_MSG_GETATTR)
    nf_forward_overlay_attr (share->forward, before, fd, &ret_answer->answer.attr);
  return TRUE;
}

/* The descriptor that FILE reads from, or -1. Who writes sees what he has written, so his can't be of an object that
 * another has taken the place of. */
static int
fd_of (const NfFile *file)
{
  gboolean writes = (file->flags & O_ACCMODE) != O_RDONLY;

  return writes && g_atomic_int_get (&file->old) ? -1 : file->fd;
}

/* Who has a file open keeps it when this site takes its last name; what he reads may not be here yet. */
static void
hold_what_loses_its_name (NfShare *share, const NfMsg *call)
{
  NfFid parent = NF_FID_NONE;
  NfSlice name = NF_SLICE_NONE;
  NfAttr attr;

  if (call->type == NF_MSG_UNLINK)
    parent = call->unlink.parent, name = call->unlink.name;
  else if (call->type == NF_MSG_RENAME && call->rename.flags == 0)
    parent = call->rename.newparent, name = call->rename.newname;
  if (share->tree && parent != NF_FID_NONE
      && nf_tree_lookup (share->tree, parent, name, &attr, NULL) == 0)
    nf_forward_hold_open (share->forward, attr.fid);
}

static void
call_replica (NfShare *share, NfFile *file, const NfMsg *call, NfCallDone done, gpointer data,
              guint64 *ret_id)
{
  g_auto (NfMsg) answer = { 0 };
  int status;

  if (serve_here (share, call, file ? fd_of (file) : -1, &status, &answer))
    {
      done (data, status, &answer);
      return;
    }
  hold_what_loses_its_name (share, call);
  nf_forward_call (share->forward, file, call, done, data, ret_id);
}

static void
call_lock (NfShare *share, NfFile *file, const NfMsg *call, NfCallDone done, gpointer data,
           guint64 *ret_id)
{
  if (share->primary)
    nf_grants_call (share->primary->grants, call, done, data, ret_id);
  else
    nf_claims_call (share->claims, file, call, done, data, ret_id);
}

void
nf_share_call (NfShare *share, const NfMsg *call, NfCallDone done, gpointer data, guint64 *ret_id)
{
  if (ret_id)
    *ret_id = 0;
  if (call->type == NF_MSG_LOCK)
    call_lock (share, NULL, call, done, data, ret_id);
  else if (share->primary)
    nf_primary_call (share->primary, NULL, NULL, call, done, data);
  else
    call_replica (share, NULL, call, done, data, ret_id);
}

void
nf_share_cancel (NfShare *share, guint64 id)
{
  if (share->forward && id != 0)
    nf_forward_cancel (share->forward, id);
  else if (share->primary && id != 0)
    nf_grants_interrupt (share->primary->grants, id);
}

gboolean
nf_share_has_locks (NfShare *share, NfFid fid)
{
  return share->primary ? nf_grants_has (share->primary->grants, fid)
                        : nf_claims_has (share->claims, fid);
}

/* ---- files ---- */

/* An open that has to ask the primary: it keeps the object for us, or says that it is gone. */
typedef struct
{
  NfFile *file;
  NfOpenDone done;
  gpointer data;
} Opening;

static void
open_held (gpointer data, int status, const NfMsg *answer)
{
  Opening *opening = data;
  NfFile *file = opening->file;

  (void)answer;
  if (status != 0)
    {
      nf_forward_release (file->share->forward, file);
      nf_opens_remove (file->share->opens, file);
      file = NULL;
    }
  opening->done (opening->data, status, file);
  g_free (opening);
}

/* What isn't here is read from the primary, even when it has lost its name there: so it has to be held. (An ESTALE
 * makes the kernel look the name up anew.) What is here now may be replaced by what the primary has. */
static void
open_there (NfFile *file, NfOpenDone done, gpointer data)
{
  Opening *opening = g_new0 (Opening, 1);
  NfMsg call = { .type = NF_MSG_HOLD };

  nf_opens_give_up_fd (file->share->opens, file);
  *opening = (Opening){ file, done, data };
  call.hold.fid = file->fid;
  /* Counted first, so that another handle's close doesn't drop it. */
  nf_forward_hold (file->share->forward, file, TRUE);
  nf_forward_call (file->share->forward, NULL, &call, open_held, opening, NULL);
}

void
nf_share_open_file (NfShare *share, NfFid fid, int flags, gboolean created, NfOpenDone done,
                    gpointer data)
{
  NfFile *file = NULL;
  int status = nf_opens_add (share->opens, fid, flags, &file);

  if (status == 0 && share->primary)
    {
      status = nf_sole_check (share, fid, NULL);
      if (status != 0)
        nf_primary_close_file (share->primary, g_steal_pointer (&file));
    }
  if (status != 0 || !share->forward)
    {
      done (data, status, file);
      return;
    }
  file->created = created;
  if (!created
      && (file->fd < 0 || !nf_replica_serves_content (share->replica, fid)
          || nf_sole_is (share, fid)))
    {
      open_there (file, done, data);
      return;
    }
  /* Replaced between the opening and now; what has replaced it is what may be served. */
  if (g_atomic_int_get (&file->old))
    nf_opens_give_up_fd (share->opens, file);
  if (created || (flags & O_ACCMODE) != O_RDONLY)
    nf_forward_hold (share->forward, file, created);
  done (data, 0, file);
}

void
nf_file_close (NfFile *file)
{
  NfShare *share = file->share;

  if (share->primary)
    {
      nf_primary_close_file (share->primary, file);
      return;
    }
  if (g_atomic_int_get (&file->locked))
    nf_claims_forget_file (share->claims, file);
  nf_forward_release (share->forward, file);
  nf_opens_remove (share->opens, file);
}

NfFid
nf_file_fid (NfFile *file)
{
  return file->fid;
}

int
nf_file_read_fd (NfFile *file, guint64 offset, guint64 length)
{
  NfShare *share = file->share;

  (void)offset;
  (void)length;
  int fd = fd_of (file);
  if (share->primary || fd < 0)
    return fd;
  if (nf_forward_overlays (share->forward, file->fid)
      || !nf_replica_serves_content (share->replica, file->fid))
    return -1;
  return fd;
}

gssize
nf_file_read (NfFile *file, void *buffer, gsize size, guint64 offset)
{
  int fd = nf_file_read_fd (file, offset, size);

  if (g_atomic_int_get (&file->lost))
    return -EIO;
  if (fd < 0)
    return -EAGAIN;
  pthread_rwlock_t *lock
      = file->share->replica ? nf_share_content_lock (file->share, file->fid) : NULL;
  if (lock)
    pthread_rwlock_rdlock (lock);
  ssize_t n = pread (fd, buffer, size, (off_t)offset);
  int err = errno;
  if (lock)
    pthread_rwlock_unlock (lock);
  return n < 0 ? -err : n;
}

/* Is the content at rest? (At a replica also: does it lie in a file that a transfer would replace rather than write
 * into?) */
static gboolean
is_at_rest (NfShare *share, int fd)
{
  gint64 now_ns = share->host->realtime_ns (share->host->data);
  struct stat st;

  if (fstat (fd, &st) != 0 || !S_ISREG (st.st_mode) || (!share->primary && st.st_nlink != 1))
    return FALSE;
  return now_ns - nf_time_ns (st.st_ctim) >= NF_PASS_QUIET_MS * G_GINT64_CONSTANT (1000000);
}

int
nf_file_pass (NfFile *file, gboolean alone)
{
  NfShare *share = file->share;

  if (file->fd < 0 || (alone && !is_at_rest (share, file->fd)))
    return -1;
  if (share->primary)
    return file->fd;
  /* Set first: who opens the file for writing and doesn't see it is seen below, and so is a write. And no op is under
   * way that didn't see it, when it is set. */
  pthread_rwlock_t *lock = nf_share_content_lock (share, file->fid);
  pthread_rwlock_rdlock (lock);
  nf_opens_set_passed (share->opens, file, TRUE);
  pthread_rwlock_unlock (lock);
  if (!(alone && nf_opens_writers (share->opens, file->fid)) && nf_file_read_fd (file, 0, 0) >= 0)
    return file->fd;
  nf_opens_set_passed (share->opens, file, FALSE);
  return -1;
}

void
nf_file_unpass (NfFile *file)
{
  nf_opens_set_passed (file->share->opens, file, FALSE);
}

/* Of a file that has no name here any more the handle still knows the attributes. */
static gboolean
stat_unnamed (NfFile *file, const NfMsg *call, NfMsg *ret_answer)
{
  NfShare *share = file->share;
  guint64 before = nf_forward_taken_over (share->forward);
  NfAttr attr;

  if (call->type != NF_MSG_GETATTR || file->fd < 0
      || nf_tree_stat (share->tree, file->fid, &attr) != -ESTALE)
    return FALSE;
  if (!nf_replica_serves_content (share->replica, file->fid)
      || nf_tree_fstat (share->tree, file->fd, file->fid, &ret_answer->answer.attr) != 0)
    return FALSE;
  ret_answer->type = NF_MSG_ANSWER;
  nf_forward_overlay_attr (share->forward, before, file->fd, &ret_answer->answer.attr);
  return TRUE;
}

void
nf_file_call (NfFile *file, const NfMsg *call, NfCallDone done, gpointer data, guint64 *ret_id)
{
  NfShare *share = file->share;
  g_auto (NfMsg) answer = { 0 };

  if (ret_id)
    *ret_id = 0;
  if (g_atomic_int_get (&file->lost)
      && !(call->type == NF_MSG_LOCK && call->lock.type == NF_LOCK_NONE))
    done (data, -EIO, &answer);
  else if (call->type == NF_MSG_LOCK)
    call_lock (share, file, call, done, data, ret_id);
  else if (share->primary)
    nf_primary_call (share->primary, NULL, file, call, done, data);
  else if (stat_unnamed (file, call, &answer))
    done (data, 0, &answer);
  else
    call_replica (share, file, call, done, data, ret_id);
}

void
nf_share_flush (NfShare *share, NfFid fid, NfFile *file_or_null, gboolean sync, gboolean datasync,
                NfCallDone done, gpointer data)
{
  const NfMsg none = { .type = NF_MSG_ANSWER };

  if (file_or_null && g_atomic_int_get (&file_or_null->lost))
    done (data, -EIO, &none);
  else if (share->primary)
    nf_primary_flush (share->primary, fid, sync, datasync, done, data);
  else
    nf_forward_flush (share->forward, fid, file_or_null, sync, datasync, done, data);
}
