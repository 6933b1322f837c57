// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/share-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <gio/gio.h>

#include "sync/claims.h"
#include "sync/intents.h"
#include "sync/restore.h"
#include "sync/source.h"

/* The outside of a share: opening, closing, and what can be seen of it. Messages and calls go by share-messages.c and
 * share-calls.c to the part that they are for. */

/* A journal's segment: small enough that trimming follows the limits closely, large enough that a
 * segment's head costs nothing. */
#define SEGMENT_BYTES (16 * 1024 * 1024)
#define JOURNAL "journal"

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
  share->intents = nf_intents_open (nf_tree_hidden_fd (share->tree), share->index);
  if (!share->intents)
    {
      g_set_error (error, G_FILE_ERROR, g_file_error_from_errno (errno),
                   "%s/.nearfs/intents can't be opened: %s", conf->dir, g_strerror (errno));
      return FALSE;
    }
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
  share->claims = nf_claims_new (share);
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
  if (share->claims)
    nf_claims_stop (share->claims);
  if (share->forward)
    nf_forward_free (share->forward);
  if (share->claims)
    nf_claims_free (share->claims);
  if (share->replica)
    nf_replica_free (share->replica);
  if (share->primary)
    nf_primary_free (share->primary);
  nf_opens_free (share->opens);
  if (share->journal)
    nf_journal_close (share->journal);
  if (share->intents)
    nf_intents_free (share->intents);
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
