// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/primary-internal.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "sync/creds.h"

/* What all changes have in common.
 *
 * A change takes the locks of its objects, sees that it can be done, appends its record, makes its system calls with
 * the caller's credentials, brings the index up to date, and is done. At each point the process may be killed:
 *
 *   before the record    nothing has happened
 *   before the calls     recovery finds no effect and appends ABORT
 *   before the index     recovery finds the effect and repairs the index
 *   after the index      the index has the watermark, so that recovery needn't look
 *
 * The caller has no answer then, and asks again with the same request id: what is in the journal isn't done twice. */

/* Changes of data alone don't touch the index; so many of them may lie above the watermark that it has. Recovery
 * sends their ranges again. */
#define UNSAVED_MAX 256
/* How far a site's clock may be from ours to count. */
#define CLOCK_NEAR_NS G_GINT64_CONSTANT (1000000000)

void
nf_exec_init (NfExec *exec, NfPrimary *primary, const char *site, NfFile *file, const NfMsg *call,
              const NfCallHead *head, NfMsg *answer)
{
  memset (exec, 0, offsetof (NfExec, path));
  exec->primary = primary;
  exec->share = primary->share;
  exec->site = site;
  exec->file = file;
  exec->call = call;
  exec->head = head;
  exec->answer = answer;
}

void
nf_exec_lock (NfExec *exec, const NfFid *fids, guint n_fids)
{
  NfHost *host = exec->share->host;

  g_assert (exec->locks.n == 0);
  nf_locks_take (&exec->primary->locks, fids, n_fids, &exec->locks);
  exec->time = host->realtime_ns (host->data);
}

void
nf_exec_unlock (NfExec *exec)
{
  nf_locks_give (&exec->primary->locks, &exec->locks);
}

/* ---- the journal ---- */

static int
append_abort (NfPrimary *primary, gint64 time, guint64 seq, guint64 *ret_seq)
{
  NfRecord record = { .kind = NF_OP_ABORT, .epoch = primary->epoch, .time = time, .aborted = seq };
  NfPosition position;
  int err = nf_journal_append (primary->share->journal, &record, &position, NULL);

  if (err == 0)
    *ret_seq = position.seq;
  return err;
}

/* Aborts that the journal had no room for. Until they are written, their ops hold the watermark. */
static int
append_late_aborts (NfPrimary *primary, gint64 time)
{
  int err = 0;

  pthread_mutex_lock (&primary->aborts_lock);
  while (primary->aborts->len > 0 && err == 0)
    {
      guint64 seqs[2] = { g_array_index (primary->aborts, guint64, primary->aborts->len - 1) };
      err = append_abort (primary, time, seqs[0], &seqs[1]);
      if (err != 0)
        break;
      g_array_set_size (primary->aborts, primary->aborts->len - 1);
      nf_order_done (primary->order, seqs, 2);
    }
  g_atomic_int_set (&primary->n_aborts, (gint)primary->aborts->len);
  pthread_mutex_unlock (&primary->aborts_lock);
  return err;
}

int
nf_exec_append (NfExec *exec, NfRecord *record, gboolean asked)
{
  NfPrimary *primary = exec->primary;
  NfPosition position;
  int err = 0;

  g_assert (exec->n_seqs < NF_EXEC_SEQS_MAX);
  if (G_UNLIKELY (g_atomic_int_get (&primary->broken)))
    return -EIO;
  if (G_UNLIKELY (g_atomic_int_get (&primary->n_aborts) > 0))
    err = append_late_aborts (primary, exec->time);
  if (err != 0)
    return err;
  record->epoch = primary->epoch;
  record->time = exec->time;
  if (asked && exec->site)
    {
      record->site = nf_slice_str (exec->site);
      record->reqid = exec->head->reqid;
    }
  err = nf_journal_append (exec->share->journal, record, &position, NULL);
  if (err != 0)
    return err;
  exec->seq = exec->seqs[exec->n_seqs++] = position.seq;
  nf_host_point (exec->share->host, "primary-appended");
  return 0;
}

/* SEQ isn't done with this change. */
static void
forget_seq (NfExec *exec, guint64 seq)
{
  for (guint i = 0; i < exec->n_seqs; i++)
    if (exec->seqs[i] == seq)
      exec->seqs[i] = exec->seqs[--exec->n_seqs];
}

void
nf_exec_abort (NfExec *exec)
{
  NfPrimary *primary = exec->primary;
  guint64 seq;

  g_assert (exec->n_seqs > 0 && exec->n_seqs < NF_EXEC_SEQS_MAX);
  nf_broadcast_aborted (primary->broadcast, exec->seq);
  if (append_abort (primary, exec->time, exec->seq, &seq) == 0)
    {
      exec->seqs[exec->n_seqs++] = seq;
      exec->seq = 0;
      return;
    }
  pthread_mutex_lock (&primary->aborts_lock);
  g_array_append_val (primary->aborts, exec->seq);
  g_atomic_int_set (&primary->n_aborts, (gint)primary->aborts->len);
  pthread_mutex_unlock (&primary->aborts_lock);
  forget_seq (exec, exec->seq);
  exec->seq = 0;
}

/* ---- the index ---- */

int
nf_exec_index_begin (NfExec *exec)
{
  return nf_index_begin (exec->share->index);
}

int
nf_exec_index_commit (NfExec *exec)
{
  NfPrimary *primary = exec->primary;
  guint64 mark = nf_order_peek (primary->order, exec->seqs, exec->n_seqs);
  int err;

  nf_host_point (exec->share->host, "primary-executed");
  (void)nf_primary_set_meta (primary, "done", mark); /* an old one only means more to look at */
  err = nf_index_commit (exec->share->index);
  if (err != 0)
    return err;
  __atomic_store_n (&primary->saved, mark, __ATOMIC_RELAXED);
  nf_primary_checkpoint_soon (primary);
  nf_host_point (exec->share->host, "primary-indexed");
  return 0;
}

void
nf_exec_broken (NfExec *exec, const char *what, int err)
{
  g_atomic_int_set (&exec->primary->broken, TRUE);
  exec->n_seqs = 0; /* never done: the next start looks at them */
  g_log_structured (
      G_LOG_DOMAIN, G_LOG_LEVEL_CRITICAL, "NF_SHARE", exec->share->conf.name, "MESSAGE",
      "Share %s: the index couldn't follow a %s (%s). No more changes are taken; make room, then "
      "restart nearfs",
      exec->share->conf.name, what, g_strerror (-err));
}

/* ---- the end ---- */

/* With nothing but data written for long, the watermark is brought to the index by itself. */
static void
save_watermark (NfPrimary *primary)
{
  guint64 mark = nf_order_watermark (primary->order);
  NfIndex *index = primary->share->index;

  if (mark < __atomic_load_n (&primary->saved, __ATOMIC_RELAXED) + UNSAVED_MAX)
    return;
  __atomic_store_n (&primary->saved, mark, __ATOMIC_RELAXED);
  if (nf_index_begin (index) != 0)
    return;
  (void)nf_primary_set_meta (primary, "done", mark);
  (void)nf_index_commit (index);
  nf_primary_checkpoint_soon (primary);
}

void
nf_exec_flush (NfExec *exec)
{
  if (exec->n_seqs > 0)
    nf_order_done (exec->primary->order, exec->seqs, exec->n_seqs);
  exec->n_seqs = 0;
}

void
nf_exec_end (NfExec *exec)
{
  NfPrimary *primary = exec->primary;
  NfHost *host = exec->share->host;
  gboolean appended = exec->n_seqs > 0;

  g_assert (!exec->changing);
  nf_exec_flush (exec);
  nf_exec_unlock (exec);
  if (!appended)
    return;
  save_watermark (primary);
  nf_broadcast_pump (primary->broadcast, NULL);
  for (guint i = 0; exec->site && i < exec->n_invals; i++)
    host->invalidate (host->data, exec->share, &exec->invals[i]);
}

void
nf_exec_inval (NfExec *exec, const NfInval *inval)
{
  g_assert (exec->n_invals < NF_EXEC_INVALS_MAX);
  exec->invals[exec->n_invals++] = *inval;
}

void
nf_exec_inval_name (NfExec *exec, NfFid parent, NfSlice name, NfFid fid)
{
  nf_exec_inval (exec,
                 &(NfInval){ .kind = NF_INVAL_NAME, .fid = fid, .parent = parent, .name = name });
}

void
nf_exec_changing (NfExec *exec)
{
  nf_tree_changing (exec->share->tree);
  exec->changing = TRUE;
}

void
nf_exec_changed (NfExec *exec)
{
  nf_tree_changed (exec->share->tree);
  exec->changing = FALSE;
}

gboolean
nf_exec_assume (NfExec *exec, gboolean with_umask)
{
  return nf_creds_assume (exec->head, exec->share->conf.personal, with_umask);
}

/* ---- names ---- */

int
nf_exec_name (NfFid parent, NfSlice name, char *ret_name)
{
  if (name.len > NF_NAME_LEN_MAX)
    return -ENAMETOOLONG;
  if (name.len == 0 || memchr (name.data, '/', name.len) || memchr (name.data, '\0', name.len))
    return -EINVAL;
  memcpy (ret_name, name.data, name.len);
  ret_name[name.len] = '\0';
  if (ret_name[0] != '.')
    return 0;
  if (g_str_equal (ret_name, ".") || g_str_equal (ret_name, ".."))
    return -EINVAL;
  return parent == NF_FID_ROOT && g_str_equal (ret_name, NF_HIDDEN_DIR) ? -EPERM : 0;
}

int
nf_exec_find (NfExec *exec, NfFid parent, NfSlice name, NfAttr *ret_attr)
{
  NfIdent ident;
  int err = nf_tree_lookup (exec->share->tree, parent, name, ret_attr, &ident);

  if (err == 0
      && (ret_attr->fid == NF_FID_NONE || (ret_attr->nlink > 1 && !S_ISDIR (ret_attr->mode))))
    err = nf_primary_adopt (exec->share, parent, name, ident, ret_attr);
  return err;
}

gboolean
nf_exec_still (NfExec *exec, NfFid parent, NfSlice name, NfFid fid, NfAttr *ret_attr)
{
  int err = nf_tree_lookup (exec->share->tree, parent, name, ret_attr, NULL);

  if (fid == NF_FID_NONE)
    return err == -ENOENT;
  return err == 0 && ret_attr->fid == fid;
}

static gboolean
not_empty (NfSlice name, const NfAttr *attr, const NfIdent *ident, guint64 cookie, gpointer data)
{
  (void)name, (void)attr, (void)ident, (void)cookie;
  *(gboolean *)data = TRUE;
  return FALSE;
}

int
nf_exec_empty (NfExec *exec, NfFid dir)
{
  gboolean found = FALSE;
  int err = nf_tree_readdir (exec->share->tree, dir, 0, FALSE, not_empty, &found);

  return err == 0 && found ? -ENOTEMPTY : err;
}

/* ---- paths, for readers of the journal ---- */

/* Of the last object or directory that this thread asked for. What the kernel does comes in runs, so one is enough. */
typedef struct
{
  const NfPrimary *primary;
  guint64 epoch; /* another primary may lie at the same address later */
  guint64 names_changed;
  NfFid fid;
  gsize len;
  char path[NF_EXEC_PATH_MAX];
} PathCache;

static __thread PathCache path_cache;

static void
fill_path_cache (NfPrimary *primary, NfFid fid, guint64 names_changed)
{
  PathCache *cache = &path_cache;
  g_autofree char *path = nf_index_path (primary->share->index, fid);
  gsize len = path ? strlen (path) : 0;
  gsize skip = len > sizeof cache->path ? len - sizeof cache->path : 0;

  cache->primary = primary;
  cache->epoch = primary->epoch;
  cache->names_changed = names_changed;
  cache->fid = fid;
  cache->len = len - skip;
  if (path)
    memcpy (cache->path, path + skip, cache->len);
}

static NfSlice
cached_path (NfPrimary *primary, NfFid fid)
{
  PathCache *cache = &path_cache;
  guint64 names_changed = __atomic_load_n (&primary->names_changed, __ATOMIC_RELAXED);

  if (cache->primary != primary || cache->epoch != primary->epoch || cache->fid != fid
      || cache->names_changed != names_changed)
    fill_path_cache (primary, fid, names_changed);
  return nf_slice (cache->path, cache->len);
}

NfSlice
nf_exec_path_of (NfExec *exec, NfFid fid)
{
  return cached_path (exec->primary, fid);
}

NfSlice
nf_exec_path_in (NfExec *exec, NfFid parent, NfSlice name)
{
  NfSlice dir = parent == NF_FID_ROOT ? NF_SLICE_NONE : cached_path (exec->primary, parent);
  gsize len = 0;

  if (dir.len > 0)
    {
      memcpy (exec->path, dir.data, dir.len);
      len = dir.len;
      exec->path[len++] = '/';
    }
  memcpy (exec->path + len, name.data, name.len);
  return nf_slice (exec->path, len + name.len);
}

/* ---- attributes ---- */

struct timespec
nf_exec_timespec (gint64 ns)
{
  const gint64 second = G_GINT64_CONSTANT (1000000000);
  gint64 seconds = ns / second;
  gint64 rest = ns % second;

  if (rest < 0)
    {
      seconds--;
      rest += second;
    }
  return (struct timespec){ .tv_sec = seconds, .tv_nsec = rest };
}

NfProcPath
nf_exec_proc_path (int fd)
{
  NfProcPath path;

  g_snprintf (path.str, sizeof path.str, "/proc/self/fd/%d", fd);
  return path;
}

int
nf_exec_set_times (int fd, gint64 atime, gint64 mtime)
{
  struct timespec times[2] = { { 0, UTIME_OMIT }, { 0, UTIME_OMIT } };

  if (atime != G_MININT64)
    times[0] = nf_exec_timespec (atime);
  if (mtime != G_MININT64)
    times[1] = nf_exec_timespec (mtime);
  return utimensat (fd, "", times, AT_EMPTY_PATH) == 0 ? 0 : -errno;
}

gint64
nf_exec_mtime (const NfExec *exec, gint64 present)
{
  gint64 theirs = exec->head->clock;

  if (exec->site && theirs >= present && theirs > exec->time - CLOCK_NEAR_NS
      && theirs < exec->time + CLOCK_NEAR_NS)
    return theirs;
  return exec->time;
}

static gint64
to_ns (struct timespec time)
{
  return time.tv_sec * G_GINT64_CONSTANT (1000000000) + time.tv_nsec;
}

void
nf_exec_attr (const struct stat *st, NfFid fid, NfAttr *ret_attr)
{
  *ret_attr = (NfAttr){
    .fid = fid,
    .mode = st->st_mode,
    .nlink = (guint32)st->st_nlink,
    .uid = st->st_uid,
    .gid = st->st_gid,
    .rdev = st->st_rdev,
    .size = (guint64)st->st_size,
    .blocks = (guint64)st->st_blocks,
    .atime = to_ns (st->st_atim),
    .mtime = to_ns (st->st_mtim),
    .ctime = to_ns (st->st_ctim),
  };
}

guint32
nf_exec_differs (const NfAttr *said, const NfAttr *after, guint32 mask)
{
  guint32 differs = 0;

  if (((said->mode ^ after->mode) & 07777) != 0)
    differs |= NF_SET_MODE;
  if (said->uid != after->uid)
    differs |= NF_SET_UID;
  if (said->gid != after->gid)
    differs |= NF_SET_GID;
  if ((mask & NF_SET_SIZE) && said->size != after->size)
    differs |= NF_SET_SIZE;
  if ((mask & NF_SET_MTIME) && said->mtime != after->mtime)
    differs |= NF_SET_MTIME;
  if ((mask & NF_SET_ATIME) && said->atime != after->atime)
    differs |= NF_SET_ATIME;
  return differs;
}

int
nf_exec_correct (NfExec *exec, NfFid fid, guint32 mask, const NfAttr *after)
{
  NfRecord record = { .kind = NF_OP_ATTR, .fid = fid, .mask = mask, .attr = *after };

  return nf_exec_append (exec, &record, FALSE);
}

int
nf_exec_correct_xattr (NfExec *exec, NfFid fid, const char *path, const char *name)
{
  g_autofree char *value = g_malloc (NF_XATTR_MAX);
  ssize_t len = lgetxattr (path, name, value, NF_XATTR_MAX);
  NfRecord record = { .kind = NF_OP_XATTR, .fid = fid, .xname = nf_slice_str (name) };

  if (len < 0)
    return errno == ENODATA || errno == EOPNOTSUPP ? 0 : -errno;
  record.value = nf_slice (value, (gsize)len);
  return nf_exec_append (exec, &record, FALSE);
}

/* ---- who may write ---- */

int
nf_exec_open (NfShare *share, NfFid fid, int flags)
{
  int fd = nf_tree_open_fid (share->tree, fid, flags);
  struct stat st;

  if (fd != -EACCES || !share->conf.personal)
    return fd;
  int path_fd = nf_tree_open_fid (share->tree, fid, O_PATH);
  if (path_fd < 0)
    return path_fd;
  NfProcPath path = nf_exec_proc_path (path_fd);
  if (fstat (path_fd, &st) == 0 && S_ISREG (st.st_mode)
      && chmod (path.str, (st.st_mode & 07777) | S_IRUSR | S_IWUSR) == 0)
    {
      fd = nf_tree_open_fid (share->tree, fid, flags);
      (void)chmod (path.str,
                   st.st_mode & 07777); /* as the owner this can't fail after it could be changed */
    }
  close (path_fd);
  return fd;
}

int
nf_exec_rw (NfExec *exec, NfFid fid, NfExecRw *ret_rw)
{
  NfOpens *opens = exec->share->opens;
  NfFile *file = exec->file;
  NfExecRw rw = { -1, NULL };

  if (file && file->fid == fid && file->fd >= 0 && (file->flags & O_ACCMODE) != O_RDONLY)
    rw.fd = file->fd;
  else if ((rw.open_fd = nf_opens_kept (opens, fid)))
    rw.fd = rw.open_fd->fd;
  else
    {
      int fd = nf_opens_fd (opens, fid, TRUE);
      if (fd < 0)
        fd = nf_exec_open (exec->share, fid, O_RDWR);
      if (fd < 0)
        return fd;
      rw.open_fd = nf_opens_keep (opens, fid, fd);
      rw.fd = fd;
    }
  *ret_rw = rw;
  return 0;
}

void
nf_exec_rw_clear (NfExecRw *rw)
{
  nf_open_fd_unref (rw->open_fd);
  rw->open_fd = NULL;
}

int
nf_exec_judge (NfExec *exec, NfFid fid, int fd, int access_mask)
{
  gboolean judged = FALSE;
  gboolean holds = FALSE;

  if (exec->share->conf.personal)
    return 0;
  if (exec->site)
    holds = nf_opens_holds (exec->share->opens, exec->site, fid, &judged);
  if (judged)
    return 0;
  if (!nf_exec_assume (exec, FALSE))
    return -EPERM;
  int err
      = syscall (SYS_faccessat2, fd, "", access_mask, AT_EMPTY_PATH | AT_EACCESS) == 0 ? 0 : -errno;
  struct stat st;
  nf_creds_leave ();
  /* The owner could give himself the right, and often has opened the file before he took it away. */
  if (err == -EACCES && fstat (fd, &st) == 0 && st.st_uid == exec->head->uid)
    err = 0;
  if (err == 0 && holds && (access_mask & W_OK))
    nf_opens_set_judged (exec->share->opens, exec->site, fid);
  return err;
}
