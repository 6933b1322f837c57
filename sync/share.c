// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/share-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <gio/gio.h>

#include "sync/restore.h"
#include "sync/source.h"

/* The outside of a share: opening and closing, and each call and message to the part that it is
 * for. */

/* A journal's segment: small enough that trimming follows the limits closely, large enough that a
 * segment's head costs nothing. */
#define SEGMENT_BYTES (16 * 1024 * 1024)
#define JOURNAL "journal"

/* The primary's strands: one for each site and connection, so that one site's requests keep their
 * order and don't wait for another's. */
typedef struct
{
  NfShare *share;
  char *site;
  gboolean bulk;
  NfMsg *msg;
} Delivery;

static NfShareConf
conf_copy (const NfShareConf *conf)
{
  NfShareConf copy = *conf;

  copy.name = g_strdup (conf->name);
  copy.site = g_strdup (conf->site);
  copy.primary = g_strdup (conf->primary);
  copy.dir = g_strdup (conf->dir);
  copy.members = (const char *const *)g_strdupv ((char **)conf->members);
  return copy;
}

static void
conf_clear (NfShareConf *conf)
{
  g_free ((char *)conf->name);
  g_free ((char *)conf->site);
  g_free ((char *)conf->primary);
  g_free ((char *)conf->dir);
  g_strfreev ((char **)conf->members);
}

/* Where a primary's journal goes on that has nothing any more: after all ops that this site knows of. For the others it is
 * another history, so they compare; and what was under way when it ended is found by going through the tree. */
static int
begin_after_damage (NfShare *share, NfPosition *ret_start)
{
  int err = nf_journal_set_aside (nf_tree_hidden_fd (share->tree), JOURNAL);

  *ret_start = (NfPosition){ 0 };
  if (err == 0 && share->conf.role == NF_ROLE_PRIMARY)
    err = nf_primary_forget_journal (share, ret_start);
  return err;
}

/* DAMAGE: why the journal is no use; may be NULL. */
static gboolean
open_store (NfShare *share, const GError *damage, GError **error)
{
  const NfShareConf *conf = &share->conf;
  NfTreeOptions options = { .personal = conf->personal, .mark = conf->create, .share = conf->id };
  NfJournalLimits limits = {
    .max_bytes = conf->journal_bytes,
    .max_age_ns = conf->journal_age_ns,
    .segment_bytes = MIN (SEGMENT_BYTES, MAX (conf->journal_bytes / 8, 1024 * 1024)),
  };

  NfPosition start = { 0 };

  share->tree = nf_tree_open (conf->dir, &options, error);
  if (!share->tree)
    return FALSE;
  share->index = nf_tree_index (share->tree);
  share->reserve = nf_reserve_new (nf_tree_hidden_fd (share->tree));
  if (nf_tree_is_anew (share->tree) != 0)
    (void)nf_journal_remove_dir (nf_tree_hidden_fd (share->tree), JOURNAL);
  int err = damage ? begin_after_damage (share, &start) : 0;
  if (err != 0)
    {
      g_set_error (error, G_FILE_ERROR, g_file_error_from_errno (-err),
                   "%s; and it can't be set aside: %s", damage->message, g_strerror (-err));
      return FALSE;
    }
  share->journal
      = nf_journal_open (nf_tree_hidden_fd (share->tree), JOURNAL, &limits, start, error);
  return share->journal != NULL;
}

static gboolean
start_role (NfShare *share, GError **error)
{
  int err = share->conf.role == NF_ROLE_PRIMARY ? nf_restore_begin_anew (share) : 0;

  if (err != 0)
    {
      g_set_error (error, G_FILE_ERROR, g_file_error_from_errno (-err), "begin anew in %s: %s",
                   share->conf.dir, g_strerror (-err));
      return FALSE;
    }
  if (share->conf.role == NF_ROLE_PRIMARY && nf_restore_is_due (share))
    share->restore = nf_restore_new (share);
  if (share->conf.role == NF_ROLE_PRIMARY)
    {
      share->connected = TRUE;
      share->primary = nf_primary_new (share, error);
      return share->primary != NULL;
    }
  share->forward = nf_forward_new (share);
  share->replica = nf_replica_new (share, error);
  if (share->replica && share->restore)
    nf_restore_start (share->restore);
  return share->replica != NULL;
}

/* An op that waits to be applied goes before readers that come later: they may never end. */
static void
init_content_locks (NfShare *share)
{
  pthread_rwlockattr_t attr;

  pthread_rwlockattr_init (&attr);
  (void)pthread_rwlockattr_setkind_np (&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
  for (guint i = 0; i < NF_CONTENT_LOCKS; i++)
    pthread_rwlock_init (&share->content[i], &attr);
  pthread_rwlockattr_destroy (&attr);
}

pthread_rwlock_t *
nf_share_content_lock (NfShare *share, NfFid fid)
{
  return &share->content[fid % NF_CONTENT_LOCKS];
}

static void
strand_free (gpointer data)
{
  nf_strand_free (data);
}

static NfShare *
open_once (const NfShareConf *conf, NfHost *host, const GError *damage, GError **error)
{
  NfShare *share = g_new0 (NfShare, 1);

  share->host = host;
  share->conf = conf_copy (conf);
  pthread_mutex_init (&share->lock, NULL);
  pthread_mutex_init (&share->checkpoint_lock, NULL);
  init_content_locks (share);
  share->strands = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, strand_free);
  share->opens = nf_opens_new (share);
  if ((conf->dir && !open_store (share, damage, error)) || !start_role (share, error))
    {
      nf_share_close (share);
      return NULL;
    }
  return share;
}

NfShare *
nf_share_open (const NfShareConf *conf, NfHost *host, GError **error)
{
  g_autoptr (GError) problem = NULL;
  NfShare *share = open_once (conf, host, NULL, &problem);

  if (share)
    return share;
  if (!g_error_matches (problem, G_IO_ERROR, G_IO_ERROR_INVALID_DATA))
    {
      g_propagate_error (error, g_steal_pointer (&problem));
      return NULL;
    }
  /* The data is what counts, and that isn't in the journal. */
  g_warning ("share %s: %s. That journal is set aside (%s/.nearfs/" JOURNAL
             ".damaged), and what the sites have is compared. Is the disk in order?",
             conf->name, problem->message, conf->dir);
  return open_once (conf, host, problem, error);
}

static void
drop_strands (NfShare *share)
{
  pthread_mutex_lock (&share->lock);
  share->closing = TRUE; /* from here on nothing is posted */
  g_autoptr (GHashTable) strands = g_steal_pointer (&share->strands);
  pthread_mutex_unlock (&share->lock);
  g_hash_table_remove_all (strands); /* waits for what runs */
}

void
nf_share_close (NfShare *share)
{
  drop_strands (share);
  if (share->restore)
    nf_restore_free (share->restore);
  nf_source_end (share);
  if (share->replica)
    nf_replica_stop (share->replica);
  if (share->forward)
    nf_forward_free (share->forward);
  if (share->replica)
    nf_replica_free (share->replica);
  if (share->primary)
    nf_primary_free (share->primary);
  nf_opens_free (share->opens);
  if (share->journal)
    nf_journal_close (share->journal);
  nf_reserve_free (share->reserve);
  if (share->tree)
    nf_tree_close (share->tree);
  conf_clear (&share->conf);
  for (guint i = 0; i < NF_CONTENT_LOCKS; i++)
    pthread_rwlock_destroy (&share->content[i]);
  pthread_mutex_destroy (&share->checkpoint_lock);
  pthread_mutex_destroy (&share->lock);
  g_free (share);
}

gboolean
nf_share_wants_reopen (NfShare *share)
{
  return g_atomic_int_get (&share->goes_back)
         || (share->restore && nf_restore_is_over (share->restore));
}

gboolean
nf_share_is_recovering (NfShare *share)
{
  return share->restore != NULL;
}

gboolean
nf_share_drain (NfShare *share, guint timeout_ms, char **ret_left)
{
  return !share->forward || nf_forward_drain (share->forward, timeout_ms, ret_left);
}

guint64
nf_share_id (NfShare *share)
{
  return share->conf.id;
}

const char *
nf_share_name (NfShare *share)
{
  return share->conf.name;
}

NfMapRole
nf_share_role (NfShare *share)
{
  return share->conf.role;
}

void
nf_share_hello (NfShare *share, NfHelloShare *ret_hello)
{
  ret_hello->share = share->conf.id;
  ret_hello->role = (guint8)share->conf.role;
  ret_hello->position = share->primary ? nf_journal_last (share->journal)
                                       : nf_replica_position_to_trust (share->replica);
}

/* ---- messages ---- */

static void
delivery_free (Delivery *delivery)
{
  g_free (delivery->site);
  if (delivery->msg)
    nf_msg_free (delivery->msg);
  g_free (delivery);
}

static void
deliver (gpointer arg)
{
  Delivery *delivery = arg;
  NfShare *share = delivery->share;

  if (share->primary)
    nf_primary_message (share->primary, delivery->site, delivery->bulk, delivery->msg);
  else if (delivery->msg->type == NF_MSG_ANSWER)
    nf_forward_answer (share->forward, delivery->msg);
  else if (share->restore || !nf_source_message (share, delivery->msg))
    nf_replica_message (share->replica, delivery->bulk, g_steal_pointer (&delivery->msg));
  delivery_free (delivery);
}

static void
deliver_up (gpointer arg)
{
  Delivery *delivery = arg;

  if (delivery->share->primary)
    nf_primary_peer_up (delivery->share->primary, delivery->site);
  else
    nf_replica_peer_up (delivery->share->replica);
  delivery_free (delivery);
}

static void
deliver_down (gpointer arg)
{
  Delivery *delivery = arg;
  NfShare *share = delivery->share;

  if (share->primary)
    nf_primary_peer_down (share->primary, delivery->site);
  else
    {
      pthread_mutex_lock (&share->lock);
      share->connected = FALSE;
      pthread_mutex_unlock (&share->lock);
      nf_source_end (share);
      nf_replica_peer_down (share->replica);
      nf_forward_peer_down (share->forward);
    }
  delivery_free (delivery);
}

/* The strand for SITE's messages: at the primary one for each connection, elsewhere one for all
 * (the primary's ops and what is fetched for them belong together). With the lock. */
static NfStrand *
strand_for (NfShare *share, const char *site, gboolean bulk)
{
  g_autofree char *key = share->primary ? g_strdup_printf ("%s%s", bulk ? "bulk " : "ops ", site)
                                        : g_strdup ("primary");
  NfStrand *strand = g_hash_table_lookup (share->strands, key);

  if (!strand)
    {
      strand = nf_strand_new (share->host);
      g_hash_table_insert (share->strands, g_steal_pointer (&key), strand);
    }
  return strand;
}

static void
post_delivery (NfShare *share, const char *site, gboolean bulk, NfMsg *msg, NfFunc func)
{
  Delivery *delivery = g_new0 (Delivery, 1);

  *delivery = (Delivery){ share, g_strdup (site), bulk, msg };
  pthread_mutex_lock (&share->lock);
  gboolean closing = share->closing;
  if (!closing)
    nf_strand_post (strand_for (share, site, bulk), func, delivery);
  pthread_mutex_unlock (&share->lock);
  if (closing)
    delivery_free (delivery);
}

/* Only the primary matters to the others, and the members to it. */
static gboolean
concerns (NfShare *share, const char *site)
{
  return share->primary || g_str_equal (site, share->conf.primary);
}

void
nf_share_follow (NfShare *share, const char *site)
{
  const char *primary = g_strdup (site);

  __atomic_store_n (&share->conf.primary, primary, __ATOMIC_RELEASE);
  post_delivery (share, site, FALSE, NULL, deliver_up);
}

void
nf_share_peer_up (NfShare *share, const char *site, const NfHelloShare *theirs)
{
  /* Else the position comes again in SUBSCRIBE, when it counts. */
  if (share->restore)
    nf_restore_peer_up (share->restore, site, theirs);
  if (nf_restore_is_behind (share, theirs))
    nf_restore_demand (share, site, theirs);
  if (concerns (share, site))
    post_delivery (share, site, FALSE, NULL, deliver_up);
}

void
nf_share_peer_down (NfShare *share, const char *site)
{
  if (share->restore)
    nf_restore_peer_down (share->restore, site);
  if (concerns (share, site))
    post_delivery (share, site, FALSE, NULL, deliver_down);
}

void
nf_share_message (NfShare *share, const char *site, gboolean bulk, NfMsg *msg)
{
  if (concerns (share, site) && !g_atomic_int_get (&share->goes_back))
    post_delivery (share, site, bulk, msg, deliver);
  else
    nf_msg_free (msg);
}

static void
deliver_told (gpointer arg)
{
  Delivery *delivery = arg;

  nf_replica_told (delivery->share->replica);
  delivery_free (delivery);
}

void
nf_share_told (NfShare *share)
{
  if (share->replica && nf_replica_wants_told (share->replica))
    post_delivery (share, share->conf.primary, FALSE, NULL, deliver_told);
}

void
nf_share_drained (NfShare *share, const char *site, gboolean bulk)
{
  if (share->primary)
    nf_primary_drained (share->primary, site, bulk);
  else if (g_str_equal (site, share->conf.primary))
    nf_source_drained (share, bulk);
}

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

static void
call_replica (NfShare *share, NfFile *file, const NfMsg *call, NfCallDone done, gpointer data,
              guint64 *ret_id)
{
  g_auto (NfMsg) answer = { 0 };
  int status;

  if (serve_here (share, call, file ? file->fd : -1, &status, &answer))
    done (data, status, &answer);
  else
    nf_forward_call (share->forward, file, call, done, data, ret_id);
}

void
nf_share_call (NfShare *share, const NfMsg *call, NfCallDone done, gpointer data, guint64 *ret_id)
{
  if (ret_id)
    *ret_id = 0;
  if (share->primary)
    nf_primary_call (share->primary, NULL, NULL, call, done, data);
  else
    call_replica (share, NULL, call, done, data, ret_id);
}

void
nf_share_cancel (NfShare *share, guint64 id)
{
  if (share->forward && id != 0)
    nf_forward_cancel (share->forward, id);
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
 * makes the kernel look the name up anew.) */
static void
open_there (NfFile *file, NfOpenDone done, gpointer data)
{
  Opening *opening = g_new0 (Opening, 1);
  NfMsg call = { .type = NF_MSG_HOLD };

  *opening = (Opening){ file, done, data };
  call.hold.fid = file->fid;
  file->held = TRUE; /* counted first, so that another handle's close doesn't drop it */
  nf_forward_hold (file->share->forward, file->fid, TRUE);
  nf_forward_call (file->share->forward, NULL, &call, open_held, opening, NULL);
}

void
nf_share_open_file (NfShare *share, NfFid fid, int flags, gboolean created, NfOpenDone done,
                    gpointer data)
{
  NfFile *file = NULL;
  int status = nf_opens_add (share->opens, fid, flags, &file);

  if (status != 0 || !share->forward)
    {
      done (data, status, file);
      return;
    }
  file->created = created;
  if (!created && (file->fd < 0 || !nf_replica_serves_content (share->replica, fid)))
    {
      open_there (file, done, data);
      return;
    }
  if (created || (flags & O_ACCMODE) != O_RDONLY)
    {
      file->held = TRUE;
      nf_forward_hold (share->forward, fid, created);
    }
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
  if (share->primary || file->fd < 0)
    return file->fd;
  if (nf_forward_overlays (share->forward, file->fid)
      || !nf_replica_serves_content (share->replica, file->fid))
    return -1;
  return file->fd;
}

gssize
nf_file_read (NfFile *file, void *buffer, gsize size, guint64 offset)
{
  int fd = nf_file_read_fd (file, offset, size);

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
  if (share->primary)
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
  if (share->primary)
    nf_primary_flush (share->primary, fid, sync, datasync, done, data);
  else
    nf_forward_flush (share->forward, fid, file_or_null, sync, datasync, done, data);
}

/* ---- seeing what goes on ---- */

void
nf_share_status (NfShare *share, NfShareStatus *ret_status)
{
  memset (ret_status, 0, sizeof *ret_status);
  ret_status->role = share->conf.role;
  pthread_mutex_lock (&share->lock);
  ret_status->connected = share->connected;
  pthread_mutex_unlock (&share->lock);
  if (share->journal)
    ret_status->journal_bytes = nf_journal_bytes (share->journal);
  if (share->index)
    {
      ret_status->objects = nf_index_count (share->index);
      ret_status->suspects = nf_index_suspects (share->index);
    }
  if (share->primary)
    {
      ret_status->position = ret_status->known = nf_journal_last (share->journal);
      g_strlcpy (ret_status->state, "in step", sizeof ret_status->state);
      return;
    }
  nf_forward_pending (share->forward, &ret_status->pending_calls, &ret_status->pending_bytes);
  nf_replica_status (share->replica, ret_status);
  if (!share->restore)
    return;
  g_strlcpy (ret_status->state, "recovering", sizeof ret_status->state);
  nf_restore_describe (share->restore, ret_status->trouble, sizeof ret_status->trouble);
}

void
nf_share_members (NfShare *share, NfMemberFunc func, gpointer data)
{
  if (share->primary)
    nf_primary_members (share->primary, func, data);
}

/* A WAIT at a replica is a call that is cancelled when its time is over. */
typedef struct
{
  NfShare *share;
  guint64 id;
  NfCallDone done;
  gpointer arg;
  gint refs;
  gboolean over;
  pthread_mutex_t lock;
} Wait;

static void
wait_unref (Wait *wait)
{
  if (!g_atomic_int_dec_and_test (&wait->refs))
    return;
  pthread_mutex_destroy (&wait->lock);
  g_free (wait);
}

static void
wait_done (gpointer data, int status, const NfMsg *answer)
{
  Wait *wait = data;

  pthread_mutex_lock (&wait->lock);
  wait->over = TRUE;
  pthread_mutex_unlock (&wait->lock);
  wait->done (wait->arg, status == -EINTR ? -ETIMEDOUT : status, answer);
  wait_unref (wait);
}

static void
wait_timeout (gpointer data)
{
  Wait *wait = data;

  pthread_mutex_lock (&wait->lock);
  gboolean over = wait->over;
  pthread_mutex_unlock (&wait->lock);
  if (!over)
    nf_share_cancel (wait->share, wait->id);
  wait_unref (wait);
}

void
nf_share_wait (NfShare *share, const char *sites, guint timeout_ms, NfCallDone done, gpointer data)
{
  if (share->primary)
    {
      nf_primary_wait (share->primary, nf_journal_last (share->journal).seq, sites, timeout_ms,
                       done, data);
      return;
    }
  Wait *wait = g_new0 (Wait, 1);
  *wait = (Wait){ .share = share, .done = done, .arg = data, .refs = 2 };
  pthread_mutex_init (&wait->lock, NULL);
  NfMsg call = { .type = NF_MSG_WAIT };
  call.wait.sites = nf_slice_str (sites);
  nf_forward_call (share->forward, NULL, &call, wait_done, wait, &wait->id);
  share->host->post_after (share->host->data, timeout_ms, wait_timeout, wait);
}

typedef struct
{
  NfLogFunc func;
  gpointer data;
} LogContext;

static gboolean
log_record (NfPosition position, NfSlice bytes, gpointer data)
{
  LogContext *context = data;
  NfRecord record;

  (void)position;
  if (!nf_record_decode (bytes, &record))
    return context->func ("(a record that can't be read)", context->data);
  g_autofree char *line = nf_record_describe (&record);
  return context->func (line, context->data);
}

int
nf_share_log (NfShare *share, guint64 seq, NfLogFunc func, gpointer data)
{
  LogContext context = { func, data };

  if (!share->journal)
    return -EOPNOTSUPP;
  return nf_journal_read (share->journal, seq, log_record, &context);
}

int
nf_share_resolve (NfShare *share, const char *path, NfFid *ret_fid)
{
  g_auto (GStrv) parts = g_strsplit (path, "/", -1);
  NfFid fid = NF_FID_ROOT;

  if (!share->tree)
    return -EOPNOTSUPP;
  for (char **part = parts; *part; part++)
    {
      NfAttr attr;
      if (**part == '\0')
        continue;
      int err = nf_tree_lookup (share->tree, fid, nf_slice_str (*part), &attr, NULL);
      if (err != 0)
        return err;
      if (attr.fid == NF_FID_NONE)
        return -ENOENT;
      fid = attr.fid;
    }
  *ret_fid = fid;
  return 0;
}

void
nf_statfs_encode (const struct statvfs *vfs, NfBuf *buf)
{
  nf_buf_put_u64 (buf, vfs->f_bsize);
  nf_buf_put_u64 (buf, vfs->f_frsize);
  nf_buf_put_u64 (buf, vfs->f_blocks);
  nf_buf_put_u64 (buf, vfs->f_bfree);
  nf_buf_put_u64 (buf, vfs->f_bavail);
  nf_buf_put_u64 (buf, vfs->f_files);
  nf_buf_put_u64 (buf, vfs->f_ffree);
  nf_buf_put_u64 (buf, vfs->f_favail);
  nf_buf_put_u64 (buf, vfs->f_namemax);
}

gboolean
nf_statfs_decode (NfSlice data, struct statvfs *ret_vfs)
{
  NfReader reader = nf_reader (data);
  struct statvfs vfs = { 0 };

  vfs.f_bsize = nf_reader_u64 (&reader);
  vfs.f_frsize = nf_reader_u64 (&reader);
  vfs.f_blocks = nf_reader_u64 (&reader);
  vfs.f_bfree = nf_reader_u64 (&reader);
  vfs.f_bavail = nf_reader_u64 (&reader);
  vfs.f_files = nf_reader_u64 (&reader);
  vfs.f_ffree = nf_reader_u64 (&reader);
  vfs.f_favail = nf_reader_u64 (&reader);
  vfs.f_namemax = nf_reader_u64 (&reader);
  if (!nf_reader_done (&reader))
    return FALSE;
  *ret_vfs = vfs;
  return TRUE;
}
