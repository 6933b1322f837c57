// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "sync/share-internal.h"

/* A primary under many threads: callers of its own mount and the messages of a site at once. The ops that the site is
 * sent must be without gap and chained, and what they make of the names must be what the directory holds. For
 * ThreadSanitizer; a plain program, since Criterion doesn't run under it. */

#define SHARE 7
#define CALLERS 4
#define WORKERS 3
#define CALLS 1500
#define DIRS 4
#define NAMES 6
#define FIDS 64

#define check(condition)                                                   \
  do                                                                       \
    {                                                                      \
      if (!(condition))                                                    \
        {                                                                  \
          fprintf (stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
          abort ();                                                        \
        }                                                                  \
    }                                                                      \
  while (0)

/* ---- a host with threads ---- */

#define SOON_MS 10

typedef struct
{
  NfFunc func;
  gpointer arg;
} Task;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards what follows */
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static GQueue tasks = G_QUEUE_INIT;
static GQueue timers = G_QUEUE_INIT; /* run at the end; what is due within SOON_MS, at once */
static gboolean stopping;
static guint busy;

/* What the site has been sent; guarded by site_lock. */
static pthread_mutex_t site_lock = PTHREAD_MUTEX_INITIALIZER;
static guint64 next_seq;
static guint64 chain;
static GHashTable *names; /* "parent/name" → fid as text */

static NfShare *share;
static guint64 epoch;
static NfFid dirs[DIRS];

static void
put (GQueue *queue, NfFunc func, gpointer arg)
{
  Task *task = g_new (Task, 1);

  *task = (Task){ func, arg };
  pthread_mutex_lock (&lock);
  g_queue_push_tail (queue, task);
  pthread_cond_signal (&wake);
  pthread_mutex_unlock (&lock);
}

static void
host_post (gpointer data, NfFunc func, gpointer arg)
{
  (void)data;
  put (&tasks, func, arg);
}

static void
host_post_after (gpointer data, guint delay_ms, NfFunc func, gpointer arg)
{
  (void)data;
  put (delay_ms <= SOON_MS ? &tasks : &timers, func, arg);
}

static void
run_all (GQueue *queue)
{
  Task *task;

  while ((task = g_queue_pop_head (queue)))
    {
      task->func (task->arg);
      g_free (task);
    }
}

static void *
worker (void *arg)
{
  (void)arg;
  pthread_mutex_lock (&lock);
  for (;;)
    {
      Task *task = g_queue_pop_head (&tasks);
      if (!task && stopping)
        break;
      if (!task)
        {
          pthread_cond_wait (&wake, &lock);
          continue;
        }
      busy++;
      pthread_mutex_unlock (&lock);
      task->func (task->arg);
      g_free (task);
      pthread_mutex_lock (&lock);
      busy--;
      pthread_cond_broadcast (&wake);
    }
  pthread_mutex_unlock (&lock);
  return NULL;
}

static void
take_names (const NfRecord *record)
{
  for (guint i = 0; i < record->n_names; i++)
    {
      const NfNameIs *is = &record->names[i];
      g_autofree char *name = nf_slice_dup (is->name);
      char *key = g_strdup_printf ("%" G_GUINT64_FORMAT "/%s", is->parent, name);
      if (is->fid != NF_FID_NONE)
        g_hash_table_insert (names, key, g_strdup_printf ("%" G_GUINT64_FORMAT, is->fid));
      else
        {
          g_hash_table_remove (names, key);
          g_free (key);
        }
    }
}

static void
take_op (const NfMsg *msg)
{
  NfRecord record;

  check (nf_record_decode (msg->op.record, &record));
  check (record.seq == next_seq);
  next_seq++;
  chain = nf_record_chain (chain, msg->op.record);
  gboolean aborted = msg->op.data.len == 1 && msg->op.data.data[0] == 'A';
  if (record.kind == NF_OP_NAMES && !aborted)
    take_names (&record);
}

static gboolean
host_send (gpointer data, const char *site, gboolean bulk, const NfMsg *msg)
{
  (void)data, (void)site, (void)bulk;
  pthread_mutex_lock (&site_lock);
  if (msg->type == NF_MSG_SUBSCRIBED)
    {
      next_seq = msg->subscribed.position.seq + 1;
      chain = msg->subscribed.position.chain;
    }
  else if (msg->type == NF_MSG_OP)
    take_op (msg);
  pthread_mutex_unlock (&site_lock);
  return TRUE;
}

static gsize
host_queued (gpointer data, const char *site, gboolean bulk)
{
  (void)data, (void)site, (void)bulk;
  return 0;
}

static void
host_redial (gpointer data, const char *site)
{
  (void)data, (void)site;
}

static guint32
host_random (gpointer data)
{
  (void)data;
  return g_random_int ();
}

static gint64
host_realtime (gpointer data)
{
  struct timespec now;

  (void)data;
  clock_gettime (CLOCK_REALTIME, &now);
  return now.tv_sec * G_GINT64_CONSTANT (1000000000) + now.tv_nsec;
}

static gint64
host_monotonic (gpointer data)
{
  return host_realtime (data) / 1000000;
}

static void
host_invalidate (gpointer data, NfShare *which, const NfInval *inval)
{
  (void)data, (void)which, (void)inval;
}

static NfHost host = {
  .post = host_post,
  .post_after = host_post_after,
  .linger_ms = 1,
  .send = host_send,
  .queued = host_queued,
  .redial = host_redial,
  .realtime_ns = host_realtime,
  .random = host_random,
  .monotonic_ms = host_monotonic,
  .invalidate = host_invalidate,
};

/* ---- callers ---- */

typedef struct
{
  unsigned seed;
  NfFid fids[FIDS];
  guint n_fids;
  gboolean remote;
  guint64 reqid;
} Caller;

static guint
chance (Caller *caller, guint below)
{
  return (guint)rand_r (&caller->seed) % below;
}

static NfFid
any_fid (Caller *caller)
{
  return caller->n_fids > 0 ? caller->fids[chance (caller, caller->n_fids)] : dirs[0];
}

static void
answered (gpointer data, int status, const NfMsg *answer)
{
  Caller *caller = data;

  if (status == 0 && S_ISREG (answer->answer.attr.mode))
    caller->fids[caller->n_fids < FIDS ? caller->n_fids++ : chance (caller, FIDS)]
        = answer->answer.attr.fid;
}

static void
fill (Caller *caller, NfMsg *msg, char name[2][8], guint8 *data)
{
  NfFid dir = dirs[chance (caller, DIRS)];
  NfSlice slices[2];

  for (guint i = 0; i < 2; i++)
    {
      g_snprintf (name[i], 8, "n%u", chance (caller, NAMES));
      slices[i] = nf_slice_str (name[i]);
    }
  switch (chance (caller, 9))
    {
    case 0:
    case 1:
      msg->type = NF_MSG_CREATE;
      msg->create.parent = dir;
      msg->create.name = slices[0];
      msg->create.mode = 0644;
      break;
    case 2:
      msg->type = NF_MSG_UNLINK;
      msg->unlink.parent = dir;
      msg->unlink.name = slices[0];
      break;
    case 3:
      msg->type = NF_MSG_RENAME;
      msg->rename.parent = dir;
      msg->rename.name = slices[0];
      msg->rename.newparent = dirs[chance (caller, DIRS)];
      msg->rename.newname = slices[1];
      msg->rename.flags = chance (caller, 4) == 0 ? RENAME_EXCHANGE : 0;
      break;
    case 4:
      msg->type = NF_MSG_LINK;
      msg->link.fid = any_fid (caller);
      msg->link.parent = dir;
      msg->link.name = slices[0];
      break;
    case 5:
      msg->type = NF_MSG_LOOKUP;
      msg->lookup.parent = dir;
      msg->lookup.name = slices[0];
      break;
    case 6:
      msg->type = NF_MSG_SETATTR;
      msg->setattr.fid = any_fid (caller);
      msg->setattr.mask = NF_SET_SIZE;
      msg->setattr.attr.size = chance (caller, 10000);
      break;
    default:
      msg->type = NF_MSG_WRITE;
      msg->write.fid = any_fid (caller);
      msg->write.offset = chance (caller, 10000);
      msg->write.data = nf_slice (data, 1 + chance (caller, 4000));
      break;
    }
}

static void
ask_to_serve (Caller *caller)
{
  NfMsg *msg = g_new0 (NfMsg, 1);

  if (chance (caller, 2) == 0)
    {
      msg->type = NF_MSG_LIST;
      msg->list.share = SHARE;
      msg->list.fid = dirs[chance (caller, DIRS)];
    }
  else
    {
      msg->type = NF_MSG_FETCH;
      msg->fetch.share = SHARE;
      msg->fetch.fid = any_fid (caller);
      msg->fetch.length = 100000;
    }
  nf_share_message (share, "b", TRUE, msg);
}

static void *
call_much (void *arg)
{
  Caller *caller = arg;
  guint8 data[4096] = { 1 };

  for (guint i = 0; i < CALLS; i++)
    {
      NfMsg msg = { 0 };
      char name[2][8];
      fill (caller, &msg, name, data);
      msg.head.share = SHARE;
      msg.head.epoch = epoch;
      if (!caller->remote)
        {
          nf_share_call (share, &msg, answered, caller, NULL);
          continue;
        }
      msg.head.reqid = ++caller->reqid;
      msg.head.acked = caller->reqid > 10 ? caller->reqid - 10 : 0;
      nf_share_message (share, "b", FALSE, nf_msg_dup (&msg));
      ask_to_serve (caller);
    }
  return NULL;
}

/* ---- the run ---- */

static void
note_fid (gpointer data, int status, const NfMsg *answer)
{
  check (status == 0);
  *(NfFid *)data = answer->answer.attr.fid;
}

static void
open_share (const char *dir)
{
  static const char *const members[] = { "b", NULL };
  g_autoptr (GError) error = NULL;
  NfShareConf conf = { .id = SHARE,
                       .name = "s",
                       .site = "a",
                       .primary = "a",
                       .role = NF_ROLE_PRIMARY,
                       .dir = dir,
                       .create = TRUE,
                       .journal_bytes = 256 * 1024 * 1024,
                       .journal_age_ns = G_MAXINT64 / 2,
                       .members = members };

  share = nf_share_open (&conf, &host, &error);
  if (!share)
    fprintf (stderr, "%s\n", error->message);
  check (share != NULL);
  epoch = share->epoch;
  for (guint i = 0; i < DIRS; i++)
    {
      g_autofree char *name = g_strdup_printf ("d%u", i);
      NfMsg msg = { .type = NF_MSG_MKDIR, .mkdir = { NF_FID_ROOT, nf_slice_str (name), 0755 } };
      nf_share_call (share, &msg, note_fid, &dirs[i], NULL);
    }
}

static void
subscribe (void)
{
  NfMsg *msg = g_new0 (NfMsg, 1);
  NfHelloShare hello = { .share = SHARE };

  nf_share_peer_up (share, "b", &hello);
  msg->type = NF_MSG_SUBSCRIBE;
  msg->subscribe.share = SHARE;
  msg->subscribe.want_data = TRUE;
  nf_share_message (share, "b", FALSE, msg);
}

static void
settle (void)
{
  pthread_mutex_lock (&lock);
  while (tasks.length > 0 || busy > 0)
    pthread_cond_wait (&wake, &lock);
  pthread_mutex_unlock (&lock);
}

static guint n_listed;

static void
compare_list (gpointer data, int status, const NfMsg *answer)
{
  NfFid dir = *(NfFid *)data;
  NfReader reader = nf_reader (answer->answer.data);
  NfDirEntry entry;

  check (status == 0);
  while (nf_dir_entry_decode (&reader, &entry))
    {
      g_autofree char *name = nf_slice_dup (entry.name);
      g_autofree char *key = g_strdup_printf ("%" G_GUINT64_FORMAT "/%s", dir, name);
      g_autofree char *fid = g_strdup_printf ("%" G_GUINT64_FORMAT, entry.attr.fid);
      check (g_strcmp0 (g_hash_table_lookup (names, key), fid) == 0);
      n_listed++;
    }
}

static void
compare_all (void)
{
  pthread_mutex_lock (&site_lock);
  check (next_seq == nf_journal_last (share->journal).seq + 1);
  check (chain == nf_journal_last (share->journal).chain);
  guint n_names = g_hash_table_size (names);
  pthread_mutex_unlock (&site_lock);
  for (guint i = 0; i < DIRS; i++)
    {
      NfMsg msg = { .type = NF_MSG_READDIR, .readdir = { dirs[i], 0, NF_LIST_MAX } };
      nf_share_call (share, &msg, compare_list, &dirs[i], NULL);
    }
  check (n_listed == n_names);
}

int
main (void)
{
  char dir[] = "/tmp/stress-primary-XXXXXX";
  pthread_t workers[WORKERS], callers[CALLERS];
  Caller state[CALLERS];

  check (mkdtemp (dir) != NULL);
  names = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
  for (guint i = 0; i < WORKERS; i++)
    check (pthread_create (&workers[i], NULL, worker, NULL) == 0);
  open_share (dir);
  subscribe ();
  settle ();
  for (guint i = 0; i < CALLERS; i++)
    {
      state[i] = (Caller){ .seed = i + 1, .remote = i == CALLERS - 1, .reqid = 100 };
      check (pthread_create (&callers[i], NULL, call_much, &state[i]) == 0);
    }
  for (guint i = 0; i < CALLERS; i++)
    pthread_join (callers[i], NULL);
  settle ();
  compare_all ();
  printf ("%" G_GUINT64_FORMAT " ops, %u names\n", next_seq - 1, n_listed);
  nf_share_close (share);
  pthread_mutex_lock (&lock);
  stopping = TRUE;
  pthread_cond_broadcast (&wake);
  pthread_mutex_unlock (&lock);
  for (guint i = 0; i < WORKERS; i++)
    pthread_join (workers[i], NULL);
  run_all (&timers);
  g_hash_table_unref (names);
  g_autofree char *command = g_strdup_printf ("rm -rf '%s'", dir);
  return system (command) == 0 ? 0 : 1;
}
