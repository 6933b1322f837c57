// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/request.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

/* A share may answer a call within the call, or from another thread before the call returns, or
 * much later; the kernel may interrupt in between. So a request has two references, one for who
 * makes the call and one for the answer, and is found by its number, never by an address that may
 * be freed: what libfuse calls on interruption gets the number. */

struct NfRequests
{
  pthread_mutex_t lock;
  GHashTable *under_way; /* number → NfRequest */
  guint64 last;
};

NfRequests *
nf_requests_new (void)
{
  NfRequests *requests = g_new0 (NfRequests, 1);

  pthread_mutex_init (&requests->lock, NULL);
  requests->under_way = g_hash_table_new (g_int64_hash, g_int64_equal);
  return requests;
}

void
nf_requests_free (NfRequests *requests)
{
  g_assert (g_hash_table_size (requests->under_way) == 0);
  g_hash_table_unref (requests->under_way);
  pthread_mutex_destroy (&requests->lock);
  g_free (requests);
}

static void
request_unref (NfRequest *request)
{
  if (!g_atomic_int_dec_and_test (&request->refs))
    return;
  /* Handle and node first: closing a file needs the share. */
  if (request->handle)
    nf_handle_unref (request->handle);
  nf_node_unref (request->node);
  nf_volume_leave (request->volume);
  nf_volume_unref (request->volume);
  g_free (request);
}

/* ---- interruption ---- */

typedef struct
{
  NfVolume *volume;
  guint64 id;
} Cancellation;

/* With the lock. Enters the volume, which can't be left by all while a request is in the table. */
static gboolean
to_cancel (NfRequest *request, Cancellation *ret_cancellation)
{
  if (!request->interrupted || !request->waiting || request->call_id == 0)
    return FALSE;
  *ret_cancellation = (Cancellation){ nf_volume_ref (request->volume), request->call_id };
  g_atomic_int_inc (&request->volume->calls);
  return TRUE;
}

/* Without the lock: the share may answer within this. */
static void
cancel (const Cancellation *cancellation)
{
  NfVolume *volume = cancellation->volume;

  nf_share_cancel (volume->share, cancellation->id);
  nf_volume_leave (volume);
  nf_volume_unref (volume);
}

static guint64
signal_set (const char *line, const char *field)
{
  return g_str_has_prefix (line, field) ? g_ascii_strtoull (line + strlen (field), NULL, 16) : 0;
}

/* Whether the caller is to be let go. The kernel tells of every signal, and a caller that goes on
 * afterwards would see an EINTR that no local disk gives; many programs expect none from a timer, a
 * resized terminal or a child's end. The kernel tells only once, so a caller who is killed after
 * such a signal waits for the call's deadline. */
static gboolean
wants_out (pid_t pid)
{
  static const int harmless[] = { SIGALRM, SIGCHLD, SIGCONT, SIGIO,  SIGPROF,   SIGSTOP,
                                  SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGVTALRM, SIGWINCH };
  char path[64];
  char line[256];
  guint64 pending = 0;
  guint64 quiet = 0;

  g_snprintf (path, sizeof path, "/proc/%d/status", pid);
  FILE *file = pid > 0 ? fopen (path, "re") : NULL;
  if (!file)
    return TRUE; /* of another PID namespace */
  while (fgets (line, sizeof line, file))
    {
      pending |= signal_set (line, "SigPnd:") | signal_set (line, "ShdPnd:");
      quiet |= signal_set (line, "SigBlk:");
    }
  (void)fclose (file); /* was only read */
  for (gsize i = 0; i < G_N_ELEMENTS (harmless); i++)
    quiet |= G_GUINT64_CONSTANT (1) << (harmless[i] - 1);
  return (pending & ~quiet) != 0;
}

static gboolean
restarts (NfMount *mount, guint64 number)
{
  pthread_mutex_lock (&mount->requests->lock);
  const NfRequest *request = g_hash_table_lookup (mount->requests->under_way, &number);
  gboolean is = request && request->restarts;
  pthread_mutex_unlock (&mount->requests->lock);
  return is;
}

static void
on_interrupt (fuse_req_t req, void *data)
{
  NfMount *mount = fuse_req_userdata (req);
  guint64 number = GPOINTER_TO_SIZE (data);
  Cancellation cancellation;

  if (!restarts (mount, number) && !wants_out (fuse_req_ctx (req)->pid))
    return;
  pthread_mutex_lock (&mount->requests->lock);
  NfRequest *request = g_hash_table_lookup (mount->requests->under_way, &number);
  if (request)
    request->interrupted = TRUE;
  gboolean cancels = request && to_cancel (request, &cancellation);
  pthread_mutex_unlock (&mount->requests->lock);
  if (cancels)
    cancel (&cancellation);
}

void
nf_requests_cancel (NfMount *mount, const NfVolume *volume)
{
  g_autoptr (GArray) due = g_array_new (FALSE, FALSE, sizeof (Cancellation));
  GHashTableIter iter;
  gpointer value;

  pthread_mutex_lock (&mount->requests->lock);
  g_hash_table_iter_init (&iter, mount->requests->under_way);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    {
      NfRequest *request = value;
      Cancellation cancellation;
      if (volume && request->volume != volume)
        continue;
      request->interrupted = TRUE;
      if (to_cancel (request, &cancellation))
        g_array_append_val (due, cancellation);
    }
  pthread_mutex_unlock (&mount->requests->lock);
  for (guint i = 0; i < due->len; i++)
    cancel (&g_array_index (due, Cancellation, i));
}

/* ---- beginning and end ---- */

/* The primary decides by groups, except of what was decided when the file was opened. */
static gboolean
needs_groups (NfMsgType type)
{
  return (nf_msg_flags ((int)type) & NF_MSG_CHANGES) && type != NF_MSG_WRITE
         && type != NF_MSG_FALLOCATE && type != NF_MSG_COPY;
}

void
nf_request_add_groups (fuse_req_t req, NfCallHead *head)
{
  if (head->uid == 0)
    return;
  /* Of a caller who has more than fit, the first count; without /proc none do. */
  G_STATIC_ASSERT (sizeof (gid_t) == sizeof head->groups[0]);
  int n = fuse_req_getgroups (req, NF_GROUPS_MAX, head->groups);
  head->n_groups = (guint32)CLAMP (n, 0, NF_GROUPS_MAX);
}

static void
fill_call (fuse_req_t req, NfMsgType type, NfMsg *ret_call)
{
  const struct fuse_ctx *ctx = fuse_req_ctx (req);
  NfCallHead *head = &ret_call->head;

  memset (ret_call, 0, sizeof *ret_call);
  ret_call->type = type;
  head->uid = ctx->uid;
  head->gid = ctx->gid;
  head->pid = (guint32)ctx->pid;
  head->umask = ctx->umask;
  if (needs_groups (type))
    nf_request_add_groups (req, head);
}

/* The share and fid that NODE is in, a new reference; NULL if it is a directory above the shares.
 */
static NfVolume *
node_volume (NfMount *mount, NfNode *node, NfFid *ret_fid)
{
  if (node->volume)
    {
      *ret_fid = node->fid;
      return nf_volume_ref (node->volume);
    }
  *ret_fid = NF_FID_ROOT;
  return nf_namespace_volume (mount->ns, node->fid);
}

NfRequest *
nf_request_begin (fuse_req_t req, fuse_ino_t ino, NfMsgType type, int synthetic, NfMsg *ret_call)
{
  NfMount *mount = fuse_req_userdata (req);
  NfNode *node = nf_mount_node (mount, ino);
  NfFid fid;
  g_autoptr (NfVolume) volume = node_volume (mount, node, &fid);
  int err = !volume                               ? synthetic
            : g_atomic_int_get (&mount->stopping) ? ENOTCONN
            : !nf_volume_enter (volume)           ? ESTALE
                                                  : 0;

  if (err != 0)
    {
      (void)fuse_reply_err (req, err); /* the kernel may have dropped the request */
      return NULL;
    }
  NfRequest *request = g_new0 (NfRequest, 1);
  request->mount = mount;
  request->req = req;
  request->node = nf_node_ref (node);
  request->volume = g_steal_pointer (&volume);
  request->fid = fid;
  request->refs = 1;
  request->mark = nf_invals_mark (mount->invals);
  fill_call (req, type, ret_call);
  pthread_mutex_lock (&mount->requests->lock);
  request->number = ++mount->requests->last;
  g_hash_table_insert (mount->requests->under_way, &request->number, request);
  pthread_mutex_unlock (&mount->requests->lock);
  fuse_req_interrupt_func (req, on_interrupt, GSIZE_TO_POINTER (request->number));
  return request;
}

NfRequest *
nf_request_begin_file (fuse_req_t req, fuse_ino_t ino, const struct fuse_file_info *fi,
                       NfMsgType type, int synthetic, NfMsg *ret_call)
{
  NfRequest *request = nf_request_begin (req, ino, type, synthetic, ret_call);

  if (!request)
    return NULL;
  if (fi && fi->fh != 0)
    request->handle = nf_handle_ref (GSIZE_TO_POINTER (fi->fh));
  else
    request->handle = nf_handle_of_node (request->node, FALSE);
  return request;
}

void
nf_request_next (NfRequest *request, NfMsgType type, NfMsg *ret_call)
{
  fill_call (request->req, type, ret_call);
}

void
nf_request_end (NfRequest *request)
{
  NfRequests *requests = request->mount->requests;

  pthread_mutex_lock (&requests->lock);
  g_hash_table_remove (requests->under_way, &request->number);
  pthread_mutex_unlock (&requests->lock);
  request_unref (request);
}

void
nf_request_restarts (NfRequest *request)
{
  NfRequests *requests = request->mount->requests;

  pthread_mutex_lock (&requests->lock);
  request->restarts = TRUE;
  pthread_mutex_unlock (&requests->lock);
  /* A signal that came before was judged otherwise. */
  fuse_req_interrupt_func (request->req, on_interrupt, GSIZE_TO_POINTER (request->number));
}

gboolean
nf_request_same_share (NfRequest *request, fuse_ino_t ino, NfFid *ret_fid)
{
  NfNode *node = nf_mount_node (request->mount, ino);
  g_autoptr (NfVolume) volume = node_volume (request->mount, node, ret_fid);

  return volume == request->volume;
}

/* ---- calls ---- */

/* What is done through a node that was detached the kernel doesn't know of the one that has taken its place. */
static void
tell_successor (NfRequest *request)
{
  NfInval inval = { .kind = NF_INVAL_DATA, .fid = request->fid };

  if (request->changes && g_atomic_int_get (&request->node->detached))
    nf_invals_queue (request->mount->invals, request->volume, &inval);
}

static void
call_done (gpointer data, int status, const NfMsg *answer)
{
  NfRequest *request = data;
  NfRequests *requests = request->mount->requests;

  pthread_mutex_lock (&requests->lock);
  request->waiting = FALSE;
  request->call_id = 0;
  pthread_mutex_unlock (&requests->lock);
  if (status == 0)
    tell_successor (request);
  request->next (request, status, answer);
}

/* A call is about to be made. The caller gets a reference and the call's number, for call_made().
 */
static guint
call_begins (NfRequest *request, NfContinue next)
{
  NfRequests *requests = request->mount->requests;

  g_atomic_int_inc (&request->refs);
  request->next = next;
  pthread_mutex_lock (&requests->lock);
  request->waiting = TRUE;
  guint step = ++request->step;
  pthread_mutex_unlock (&requests->lock);
  return step;
}

/* The share knows the call as ID now; it may have been answered long since, and another call be
 * under way. */
static void
call_made (NfRequest *request, guint step, guint64 id)
{
  NfRequests *requests = request->mount->requests;
  Cancellation cancellation;
  gboolean cancels = FALSE;

  if (id != 0)
    {
      pthread_mutex_lock (&requests->lock);
      if (request->waiting && request->step == step)
        {
          request->call_id = id;
          cancels = to_cancel (request, &cancellation);
        }
      pthread_mutex_unlock (&requests->lock);
    }
  if (cancels)
    cancel (&cancellation);
  request_unref (request);
}

void
nf_request_call (NfRequest *request, const NfMsg *call, NfContinue next)
{
  request->changes = nf_msg_flags (call->type) & NF_MSG_CHANGES;
  guint step = call_begins (request, next);
  guint64 id = 0;

  if (nf_volume_removed (request->volume))
    call_done (request, -ESTALE, NULL);
  else if (request->handle && request->handle->file)
    nf_file_call (request->handle->file, call, call_done, request, &id);
  else if (request->handle)
    call_done (request, -EIO, NULL);
  else
    nf_share_call (request->volume->share, call, call_done, request, &id);
  call_made (request, step, id);
}

void
nf_request_flush (NfRequest *request, gboolean sync, gboolean datasync, NfContinue next)
{
  guint step = call_begins (request, next);
  NfFile *file = request->handle ? request->handle->file : NULL;

  if (request->handle && !file)
    call_done (request, -EIO, NULL);
  else
    nf_share_flush (request->volume->share, request->fid, file, sync, datasync, call_done, request);
  call_made (request, step, 0);
}
