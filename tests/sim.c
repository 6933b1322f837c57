// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "tests/sim.h"

#include <setjmp.h>
#include <string.h>
#include <unistd.h>

#include "sync/creds.h"
#include "sync/index-private.h"
#include "sync/share-internal.h"
#include "sync/tree-private.h"

/* Frames taken by a connection's buffers before it says that it is full. */
#define QUEUED_LOW (64 * 1024)

typedef struct
{
  gint64 due_ms;
  guint64 order;
  NfFunc func;
  gpointer arg;
  NfSimSite *site;
} Task;

typedef struct
{
  gint64 due_ms;
  GBytes *bytes;
} Frame;

typedef struct
{
  char *from, *to;
  gboolean bulk;
  gboolean up;
  GQueue frames; /* of Frame */
  gsize queued;
} Lane;

struct NfSim
{
  GRand *rand;
  gboolean locks;
  guint32 seed;
  guint32
      randoms; /* how often a share asked for chance: it gets none of ours, so that seeds keep their histories */
  gint64 now_ms;
  gint64 ticks; /* makes every reading of the clock another one */
  guint max_delay_ms;
  guint cuts;       /* how often any link was cut */
  guint kill_after; /* named steps; 0: never */
  gboolean cut_short;
  jmp_buf landing;      /* of a site that is killed in the event under way */
  NfSimSite *under_way; /* whose event may be left by it; NULL: nobody's */
  NfSimHook hook;
  gpointer hook_data;
  GPtrArray *sites;
  GPtrArray *lanes;
  GPtrArray *tasks;
};

guint32
nf_sim_random (NfSim *sim, guint32 below)
{
  return below < 2 ? 0 : (guint32)g_rand_int_range (sim->rand, 0, (gint32)below);
}

gint64
nf_sim_now_ms (NfSim *sim)
{
  return sim->now_ms;
}

/* ---- sites ---- */

static void
add_task (NfSimSite *site, guint delay_ms, NfFunc func, gpointer arg)
{
  Task *task = g_new0 (Task, 1);

  *task = (Task){ site->sim->now_ms + delay_ms, (guint64)site->sim->ticks++, func, arg, site };
  g_ptr_array_add (site->sim->tasks, task);
}

static void
host_post (gpointer data, NfFunc func, gpointer arg)
{
  add_task (data, 0, func, arg);
}

static void
host_post_after (gpointer data, guint delay_ms, NfFunc func, gpointer arg)
{
  add_task (data, delay_ms, func, arg);
}

static Lane *
find_lane (NfSim *sim, const char *from, const char *to, gboolean bulk)
{
  for (guint i = 0; i < sim->lanes->len; i++)
    {
      Lane *lane = sim->lanes->pdata[i];
      if (lane->bulk == bulk && g_str_equal (lane->from, from) && g_str_equal (lane->to, to))
        return lane;
    }
  Lane *lane = g_new0 (Lane, 1);
  lane->from = g_strdup (from);
  lane->to = g_strdup (to);
  lane->bulk = bulk;
  g_ptr_array_add (sim->lanes, lane);
  return lane;
}

static gboolean
put_frame (NfSim *sim, const char *from, const char *to, gboolean bulk, const NfMsg *msg)
{
  Lane *lane = find_lane (sim, from, to, bulk);
  const Frame *last = g_queue_peek_tail (&lane->frames);

  if (!lane->up)
    return FALSE;
  Frame *frame = g_new0 (Frame, 1);
  frame->due_ms = sim->now_ms + nf_sim_random (sim, sim->max_delay_ms + 1);
  if (last)
    frame->due_ms = MAX (frame->due_ms, last->due_ms);
  frame->bytes = nf_msg_to_bytes (msg);
  lane->queued += g_bytes_get_size (frame->bytes);
  g_queue_push_tail (&lane->frames, frame);
  return TRUE;
}

static gboolean
host_send (gpointer data, const char *to, gboolean bulk, const NfMsg *msg)
{
  NfSimSite *site = data;

  if (site->dead)
    return FALSE;
  if (msg->type == NF_MSG_LOCKS && !site->sim->locks)
    return TRUE;
  return put_frame (site->sim, site->name, to, bulk, msg);
}

static gsize
host_queued (gpointer data, const char *to, gboolean bulk)
{
  NfSimSite *site = data;

  return find_lane (site->sim, site->name, to, bulk)->queued;
}

static void
host_redial (gpointer data, const char *to)
{
  (void)data;
  (void)to;
}

static guint32
host_random (gpointer data)
{
  NfSim *sim = ((NfSimSite *)data)->sim;

  return (sim->seed + ++sim->randoms * 0x9E3779B9u) * 0x85EBCA6Bu;
}

static gint64
host_realtime_ns (gpointer data)
{
  NfSimSite *site = data;
  NfSim *sim = site->sim;

  return G_GINT64_CONSTANT (1700000000000000000) + site->clock_step_ns + sim->now_ms * 1000000
         + sim->ticks++;
}

static gint64
host_monotonic_ms (gpointer data)
{
  return ((NfSimSite *)data)->sim->now_ms;
}

static void
host_invalidate (gpointer data, NfShare *share, const NfInval *inval)
{
  NfSimSite *site = data;

  (void)share;
  if (site->keep_invals)
    {
      NfInval copy = *inval;
      copy.name = NF_SLICE_NONE;
      g_array_append_val (site->invals, copy);
    }
}

void
nf_sim_kill_after (NfSim *sim, guint n)
{
  sim->kill_after = n;
}

void
nf_sim_at_points (NfSim *sim, NfSimHook hook, gpointer data)
{
  sim->hook = hook;
  sim->hook_data = data;
}

void
nf_sim_cut_short (NfSim *sim)
{
  sim->cut_short = TRUE;
}

static void
host_point (gpointer data, const char *name)
{
  NfSimSite *site = data;

  if (site->sim->hook && !site->dead)
    site->sim->hook (site->sim->hook_data, site, name);
  if (site->dead && site->sim->under_way == site)
    longjmp (site->sim->landing, 1);
  if (site->sim->kill_after > 0 && --site->sim->kill_after == 0)
    _exit (0);
  guint n = GPOINTER_TO_UINT (g_hash_table_lookup (site->points, name));

  g_hash_table_insert (site->points, g_strdup (name), GUINT_TO_POINTER (n + 1));
}

NfSimSite *
nf_sim_site (NfSim *sim, const char *name)
{
  for (guint i = 0; i < sim->sites->len; i++)
    if (g_str_equal (((NfSimSite *)sim->sites->pdata[i])->name, name))
      return sim->sites->pdata[i];
  NfSimSite *site = g_new0 (NfSimSite, 1);
  site->sim = sim;
  site->name = g_strdup (name);
  site->inbox = g_ptr_array_new_with_free_func ((GDestroyNotify)nf_msg_free);
  site->invals = g_array_new (FALSE, FALSE, sizeof (NfInval));
  site->points = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  site->host = (NfHost){ .data = site,
                         .post = host_post,
                         .post_after = host_post_after,
                         .send = host_send,
                         .queued = host_queued,
                         .redial = host_redial,
                         .realtime_ns = host_realtime_ns,
                         .monotonic_ms = host_monotonic_ms,
                         .random = host_random,
                         .invalidate = host_invalidate,
                         .point = host_point };
  g_ptr_array_add (sim->sites, site);
  return site;
}

static gboolean
may_write (gpointer data, const char *site)
{
  (void)data;
  (void)site;
  return TRUE;
}

static void
credentials (gpointer data, const char *site, NfCallHead *head)
{
  (void)data;
  (void)site;
  (void)head;
}

gboolean
nf_sim_open (NfSimSite *site, NfMapRole role, const char *dir, const char *primary,
             const char *const *members, GError **error)
{
  NfShareConf conf = { .id = 7,
                       .name = site->name,
                       .site = site->name,
                       .primary = primary,
                       .role = role,
                       .dir = dir,
                       .create = TRUE,
                       .call_timeout_ms = 10000,
                       .write_buffer = 16 * 1024 * 1024,
                       .journal_bytes = 64 * 1024 * 1024,
                       .journal_age_ns = G_MAXINT64 / 2,
                       .may_write = may_write,
                       .credentials = credentials,
                       .members = members };

  site->share = nf_share_open (&conf, &site->host, error);
  return site->share != NULL;
}

/* ---- events ---- */

static void
run_task (NfSim *sim, guint index)
{
  Task *task = g_ptr_array_steal_index_fast (sim->tasks, index);

  if (!task->site->dead)
    task->func (task->arg);
  g_free (task);
}

static void
frame_free (gpointer data)
{
  Frame *frame = data;

  g_bytes_unref (frame->bytes);
  g_free (frame);
}

static void
deliver (NfSim *sim, Lane *lane)
{
  Frame *frame = g_queue_pop_head (&lane->frames);
  NfSimSite *to = nf_sim_site (sim, lane->to);
  NfSimSite *from = nf_sim_site (sim, lane->from);
  NfMsg *msg = g_new0 (NfMsg, 1);
  g_autoptr (GError) error = NULL;
  gsize before = lane->queued;

  lane->queued -= g_bytes_get_size (frame->bytes);
  if (!nf_msg_decode (frame->bytes, msg, &error))
    g_error ("%s to %s: %s", lane->from, lane->to, error->message);
  frame_free (frame);
  if (to->share)
    nf_share_message (to->share, lane->from, lane->bulk, msg);
  else
    g_ptr_array_add (to->inbox, msg);
  if (from->share && before >= QUEUED_LOW && lane->queued < QUEUED_LOW)
    nf_share_drained (from->share, lane->to, lane->bulk);
}

/* The time of the next event; G_MAXINT64 if there is none. */
static gint64
next_due (NfSim *sim)
{
  gint64 due = G_MAXINT64;

  for (guint i = 0; i < sim->tasks->len; i++)
    due = MIN (due, ((Task *)sim->tasks->pdata[i])->due_ms);
  for (guint i = 0; i < sim->lanes->len; i++)
    {
      const Frame *frame = g_queue_peek_head (&((Lane *)sim->lanes->pdata[i])->frames);
      if (frame)
        due = MIN (due, frame->due_ms);
    }
  return due;
}

/* The task, or what is first on its way on the lane. */
static void
run_event (NfSim *sim, guint index, gboolean is_task)
{
  Lane *lane = is_task ? NULL : sim->lanes->pdata[index];
  NfSimSite *site
      = is_task ? ((Task *)sim->tasks->pdata[index])->site : nf_sim_site (sim, lane->to);

  if (!sim->cut_short || setjmp (sim->landing) == 0)
    {
      sim->under_way = sim->cut_short ? site : NULL;
      if (is_task)
        run_task (sim, index);
      else
        deliver (sim, lane);
    }
  else
    nf_creds_leave (); /* the thread's, which a process that died would have taken along */
  sim->under_way = NULL;
}

gboolean
nf_sim_step (NfSim *sim)
{
  gint64 due = next_due (sim);
  g_autoptr (GArray) choices = g_array_new (FALSE, FALSE, sizeof (guint));

  if (due == G_MAXINT64)
    return FALSE;
  sim->now_ms = MAX (sim->now_ms, due);
  for (guint i = 0; i < sim->tasks->len; i++)
    if (((Task *)sim->tasks->pdata[i])->due_ms <= sim->now_ms)
      g_array_append_val (choices, i);
  guint n_tasks = choices->len;
  for (guint i = 0; i < sim->lanes->len; i++)
    {
      const Frame *frame = g_queue_peek_head (&((Lane *)sim->lanes->pdata[i])->frames);
      if (frame && frame->due_ms <= sim->now_ms)
        g_array_append_val (choices, i);
    }
  guint pick = nf_sim_random (sim, choices->len);
  guint index = g_array_index (choices, guint, pick);
  run_event (sim, index, pick < n_tasks);
  return TRUE;
}

void
nf_sim_run (NfSim *sim, guint ms)
{
  gint64 until = sim->now_ms + ms;

  while (next_due (sim) <= until)
    (void)nf_sim_step (sim);
  sim->now_ms = until;
}

/* What SITE has posted to be done now: its strands must be idle before it can be closed. */
static void
run_posted (NfSimSite *site)
{
  NfSim *sim = site->sim;
  gboolean found;

  do
    {
      found = FALSE;
      for (guint i = 0; i < sim->tasks->len && !found; i++)
        {
          Task *task = sim->tasks->pdata[i];
          if (task->site == site && task->due_ms <= sim->now_ms)
            {
              found = TRUE;
              run_task (sim, i);
            }
        }
    }
  while (found);
}

void
nf_sim_close (NfSimSite *site)
{
  if (!site->share)
    return;
  for (guint i = 0; i < site->sim->sites->len; i++)
    nf_sim_cut (site->sim, site->name, ((NfSimSite *)site->sim->sites->pdata[i])->name);
  run_posted (site);
  if (site->dead)
    return; /* it has been killed on the way */
  nf_share_close (g_steal_pointer (&site->share));
}

void
nf_sim_kill (NfSimSite *site)
{
  site->dead = TRUE;
  for (guint i = 0; i < site->sim->sites->len; i++)
    nf_sim_cut (site->sim, site->name, ((NfSimSite *)site->sim->sites->pdata[i])->name);
}

/* What the dead process has in memory stays as it was, for ever: it may hold any lock. */
void
nf_sim_bury (NfSimSite *site)
{
  GPtrArray *tasks = site->sim->tasks;

  for (guint i = tasks->len; i > 0; i--)
    if (((Task *)tasks->pdata[i - 1])->site == site)
      g_free (g_ptr_array_steal_index_fast (tasks, i - 1));
  if (site->share)
    {
      /* What the kernel would have let go of, and LMDB's mutex, which is told to be free by a new process only. */
      NfIndex *index = site->share->index;
      g_autofree char *lock = g_strconcat (index->path, "-lock", NULL);
      (void)unlink (lock);
      nf_map_guard_free (index->guard);
      close (site->share->tree->lock_fd);
    }
  site->share = NULL;
  site->dead = FALSE;
}

/* ---- links ---- */

static void
set_lane (NfSim *sim, const char *from, const char *to, gboolean up)
{
  for (int bulk = 0; bulk < 2; bulk++)
    {
      Lane *lane = find_lane (sim, from, to, bulk);
      lane->up = up;
      lane->queued = 0;
      g_queue_clear_full (&lane->frames, frame_free);
    }
}

gboolean
nf_sim_connected (NfSim *sim, const char *a, const char *b)
{
  return find_lane (sim, a, b, FALSE)->up;
}

void
nf_sim_connect (NfSim *sim, const char *a, const char *b)
{
  const char *ends[2] = { a, b };

  if (nf_sim_connected (sim, a, b) || nf_sim_site (sim, a)->dead || nf_sim_site (sim, b)->dead)
    return;
  set_lane (sim, a, b, TRUE);
  set_lane (sim, b, a, TRUE);
  for (int i = 0; i < 2; i++)
    {
      NfHelloShare hello = { .share = 7 };
      NfSimSite *site = nf_sim_site (sim, ends[i]);
      NfSimSite *other = nf_sim_site (sim, ends[1 - i]);
      if (other->share)
        nf_share_hello (other->share, &hello);
      if (site->share)
        nf_share_peer_up (site->share, other->name, &hello);
    }
}

guint
nf_sim_cuts (NfSim *sim)
{
  return sim->cuts;
}

void
nf_sim_cut (NfSim *sim, const char *a, const char *b)
{
  const char *ends[2] = { a, b };

  if (!nf_sim_connected (sim, a, b))
    return;
  sim->cuts++;
  set_lane (sim, a, b, FALSE);
  set_lane (sim, b, a, FALSE);
  for (int i = 0; i < 2; i++)
    {
      NfSimSite *site = nf_sim_site (sim, ends[i]);
      if (site->share && !site->dead)
        nf_share_peer_down (site->share, ends[1 - i]);
    }
}

void
nf_sim_delays (NfSim *sim, guint max_delay_ms)
{
  sim->max_delay_ms = max_delay_ms;
}

void
nf_sim_send (NfSim *sim, const char *from, const char *to, gboolean bulk, const NfMsg *msg)
{
  (void)put_frame (sim, from, to, bulk, msg); /* lost if the link is cut, as it would be */
}

/* ---- calls ---- */

typedef struct
{
  gboolean done;
  int status;
  NfMsg *answer;
} Call;

static void
call_done (gpointer data, int status, const NfMsg *answer)
{
  Call *call = data;

  call->done = TRUE;
  call->status = status;
  call->answer = answer && answer->type == NF_MSG_ANSWER ? nf_msg_dup (answer) : NULL;
}

int
nf_sim_call (NfSimSite *site, const NfMsg *msg, NfMsg *ret_answer)
{
  Call call = { 0 };

  nf_share_call (site->share, msg, call_done, &call, NULL);
  while (!call.done && nf_sim_step (site->sim))
    ;
  if (!call.done)
    g_error ("a call at %s is never answered", site->name);
  if (ret_answer)
    memset (ret_answer, 0, sizeof *ret_answer);
  if (ret_answer && call.answer)
    {
      *ret_answer = *call.answer;
      g_free (call.answer);
    }
  else if (call.answer)
    nf_msg_free (call.answer);
  return call.status;
}

/* ---- the world ---- */

void
nf_sim_use_locks (NfSim *sim)
{
  sim->locks = TRUE;
}

NfSim *
nf_sim_new (guint32 seed)
{
  NfSim *sim = g_new0 (NfSim, 1);

  sim->rand = g_rand_new_with_seed (seed);
  sim->seed = seed;
  sim->now_ms = 1000;
  sim->sites = g_ptr_array_new ();
  sim->lanes = g_ptr_array_new ();
  sim->tasks = g_ptr_array_new ();
  return sim;
}

static void
site_free (NfSimSite *site)
{
  g_ptr_array_unref (site->inbox);
  g_array_unref (site->invals);
  g_hash_table_unref (site->points);
  g_free (site->name);
  g_free (site);
}

void
nf_sim_free (NfSim *sim)
{
  for (guint i = 0; i < sim->sites->len; i++)
    nf_sim_close (sim->sites->pdata[i]);
  while (sim->tasks->len > 0) /* timers that hold something find out that it is over */
    run_task (sim, 0);
  for (guint i = 0; i < sim->lanes->len; i++)
    {
      Lane *lane = sim->lanes->pdata[i];
      g_queue_clear_full (&lane->frames, frame_free);
      g_free (lane->from);
      g_free (lane->to);
      g_free (lane);
    }
  for (guint i = 0; i < sim->sites->len; i++)
    site_free (sim->sites->pdata[i]);
  g_ptr_array_unref (sim->sites);
  g_ptr_array_unref (sim->lanes);
  g_ptr_array_unref (sim->tasks);
  g_rand_free (sim->rand);
  g_free (sim);
}

NfMsg
nf_sim_msg (NfMsgType type)
{
  NfMsg msg = { .type = type };

  msg.head.share = 7;
  msg.head.uid = getuid ();
  msg.head.gid = getgid ();
  return msg;
}

static void
file_opened (gpointer data, int status, NfFile *file)
{
  if (status != 0)
    g_error ("a file can't be opened: %s", g_strerror (-status));
  *(NfFile **)data = file;
}

NfFile *
nf_sim_open_file (NfSimSite *site, NfFid fid, int flags, gboolean created)
{
  NfFile *file = NULL;

  nf_share_open_file (site->share, fid, flags, created, file_opened, &file);
  while (!file && nf_sim_step (site->sim))
    ;
  if (!file)
    g_error ("an open at %s is never answered", site->name);
  return file;
}

void
nf_sim_pair_begin (NfSimPair *pair)
{
  static const char *const others[2][2] = { { "b", NULL }, { "a", NULL } };

  pair->sim = nf_sim_new (1);
  for (guint i = 0; i < 2; i++)
    pair->dirs[i] = nf_sim_make_dir ();
  pair->primary = nf_sim_site (pair->sim, "a");
  pair->replica = nf_sim_site (pair->sim, "b");
  if (!nf_sim_open (pair->primary, NF_ROLE_PRIMARY, pair->dirs[0], "a", others[0], NULL)
      || !nf_sim_open (pair->replica, NF_ROLE_REPLICA, pair->dirs[1], "a", others[1], NULL))
    g_error ("a new site can't be opened");
}

void
nf_sim_pair_end (NfSimPair *pair)
{
  nf_sim_free (pair->sim);
  for (guint i = 0; i < 2; i++)
    nf_sim_remove_dir (pair->dirs[i]);
}
