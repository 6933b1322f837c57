// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/serve-internal.h"

#include <errno.h>

/* Answers FETCH, LIST and HASH (serve-fetch.c, serve-list.c): how an object stands, stamped with a seq.
 *
 * Each piece is read under the object's lock and stamped with the journal's last seq of that moment: all ops on this
 * object up to the stamp are in it, all later ones have a greater seq. Between the pieces the lock is free.
 *
 * Each site has its own list of requests and at most one worker. It rests while the site's bulk connection is full
 * and goes on when that has drained, so that a slow site costs one list. */

/* Bytes queued on a site's bulk connection. */
#define QUEUE_MAX (4 * 1024 * 1024)
/* Requests of one site; it asks for less at a time. */
#define JOBS_MAX 4096
/* Requests that are compared for the smallest rest. */
#define LOOK_MAX 64
/* Steps until other work gets its turn on the worker. */
#define STEPS_PER_TURN 8

typedef struct
{
  NfServe *serve;
  char *name;
  GQueue
      lists; /* of NfServeJob: one after the other, so that few names are in memory and the site can ask for more */
  GQueue reads; /* the same: FETCH and HASH, in turn */
  gboolean running;
  guint turn;
} Site;

struct NfServe
{
  NfPrimary *primary;
  pthread_mutex_t lock; /* guards what follows and the sites */
  GHashTable *sites;    /* name → Site, owning; never shrinks */
};

typedef struct
{
  NfLife *life;
  Site *site;
} Turn;

static void
job_free (gpointer data)
{
  NfServeJob *job = data;

  if (job->names)
    g_byte_array_unref (job->names);
  g_free (job);
}

static void
clear_jobs (Site *site)
{
  g_queue_clear_full (&site->lists, job_free);
  g_queue_clear_full (&site->reads, job_free);
}

static guint
n_jobs (const Site *site)
{
  return site->lists.length + site->reads.length;
}

static void
site_free (gpointer data)
{
  Site *site = data;

  clear_jobs (site);
  g_free (site->name);
  g_free (site);
}

NfServe *
nf_serve_new (NfPrimary *primary)
{
  NfServe *serve = g_new0 (NfServe, 1);

  serve->primary = primary;
  pthread_mutex_init (&serve->lock, NULL);
  serve->sites = g_hash_table_new_full (g_str_hash, g_str_equal, NULL, site_free);
  return serve;
}

void
nf_serve_free (NfServe *serve)
{
  g_hash_table_unref (serve->sites);
  pthread_mutex_destroy (&serve->lock);
  g_free (serve);
}

gboolean
nf_serve_send (NfServeJob *job, const NfMsg *msg)
{
  NfHost *host = job->primary->share->host;

  return host->send (host->data, job->site, TRUE, msg);
}

int
nf_serve_open (NfServeJob *job, NfFid fid)
{
  if (nf_primary_lacks_content (job->primary, fid))
    return -ESTALE;
  int fd = nf_opens_fd (job->primary->share->opens, fid, FALSE);

  if (fd >= 0)
    return fd;
  fd = nf_exec_open (job->primary->share, fid, O_RDONLY);
  /* That a replica fetches something is nobody's access to it. Only the owner and root may ask for that. */
  if (fd >= 0)
    (void)fcntl (fd, F_SETFL, O_NOATIME);
  return fd;
}

/* ---- turns ---- */

static gboolean
step (NfServeJob *job)
{
  switch (job->type)
    {
    case NF_MSG_FETCH:
      return nf_serve_fetch (job);
    case NF_MSG_HASH:
      return nf_serve_hash (job);
    default:
      return nf_serve_list (job);
    }
}

static guint64
rest_of (const NfServeJob *job)
{
  return job->type == NF_MSG_FETCH ? job->end - MIN (job->end, job->offset) : 0;
}

/* The one with the least left, so that small files don't wait for large ones. */
static NfServeJob *
take_shortest (GQueue *reads)
{
  GList *best = reads->head;
  guint n = 0;

  g_assert (best != NULL);
  for (GList *l = best; l && n < LOOK_MAX; l = l->next, n++)
    if (rest_of (l->data) < rest_of (best->data))
      best = l;
  NfServeJob *job = best->data;
  g_queue_delete_link (reads, best);
  return job;
}

/* Every second time what is read, the one that has waited longest, so that none waits for ever. With the lock. */
static NfServeJob *
next_job (Site *site)
{
  gboolean oldest = site->turn++ & 1;

  g_assert (n_jobs (site) > 0);
  if (site->lists.length > 0 && (!oldest || site->reads.length == 0))
    return g_queue_pop_head (&site->lists);
  return oldest ? g_queue_pop_head (&site->reads) : take_shortest (&site->reads);
}

/* The next request, or NULL: then the site has no worker any more. */
static NfServeJob *
take_job (Site *site)
{
  NfHost *host = site->serve->primary->share->host;
  NfServeJob *job = NULL;

  pthread_mutex_lock (&site->serve->lock);
  if (n_jobs (site) > 0 && host->queued (host->data, site->name, TRUE) < QUEUE_MAX)
    job = next_job (site);
  else
    site->running = FALSE;
  pthread_mutex_unlock (&site->serve->lock);
  return job;
}

static void
put_back (Site *site, NfServeJob *job)
{
  pthread_mutex_lock (&site->serve->lock);
  if (job->type == NF_MSG_LIST)
    g_queue_push_head (&site->lists, job);
  else
    g_queue_push_tail (&site->reads, job);
  pthread_mutex_unlock (&site->serve->lock);
}

/* FALSE: there is nothing to do, or no room for it. */
static gboolean
take_step (Site *site)
{
  NfServeJob *job = take_job (site);

  if (!job)
    return FALSE;
  if (step (job))
    put_back (site, job);
  else
    job_free (job);
  return TRUE;
}

static void
run_turn (gpointer data)
{
  Turn *turn = data;
  NfPrimary *primary = nf_life_enter (turn->life);
  gboolean more = primary != NULL;

  for (guint steps = 0; more && steps < STEPS_PER_TURN; steps++)
    more = take_step (turn->site);
  NfHost *host = primary ? primary->share->host : NULL;
  if (primary)
    nf_life_leave (turn->life);
  if (more)
    {
      host->post (host->data, run_turn, turn);
      return;
    }
  nf_life_unref (turn->life);
  g_free (turn);
}

/* With the lock. */
static void
start (Site *site)
{
  NfPrimary *primary = site->serve->primary;
  NfHost *host = primary->share->host;

  if (site->running || n_jobs (site) == 0)
    return;
  site->running = TRUE;
  Turn *turn = g_new (Turn, 1);
  *turn = (Turn){ nf_life_ref (primary->life), site };
  host->post (host->data, run_turn, turn);
}

static Site *
site_of (NfServe *serve, const char *name)
{
  Site *site = g_hash_table_lookup (serve->sites, name);

  if (!site)
    {
      site = g_new0 (Site, 1);
      site->serve = serve;
      site->name = g_strdup (name);
      g_hash_table_insert (serve->sites, site->name, site);
    }
  return site;
}

/* ---- requests ---- */

static NfServeJob *
job_new (NfServe *serve, Site *site, const NfMsg *request)
{
  NfServeJob *job = g_new0 (NfServeJob, 1);

  job->primary = serve->primary;
  job->site = site->name;
  job->type = request->type;
  switch (request->type)
    {
    case NF_MSG_FETCH:
      job->id = request->fetch.id;
      job->fid = request->fetch.fid;
      job->offset = MIN (request->fetch.offset, G_MAXINT64);
      job->end = job->offset + MIN (request->fetch.length, G_MAXINT64 - job->offset);
      break;
    case NF_MSG_HASH:
      job->id = request->hash.id;
      job->fid = request->hash.fid;
      job->block = request->hash.block;
      job->offset = MIN (request->hash.offset, G_MAXINT64 / 2);
      job->end = job->offset + MIN (request->hash.length, G_MAXINT64 / 2);
      break;
    default:
      job->id = request->list.id;
      job->fid = request->list.fid;
      job->flags = request->list.flags;
      job->wanted = request->list.digest;
      break;
    }
  return job;
}

/* More at once than any of ours asks for. */
static void
refuse (NfServeJob *job)
{
  NfMsg msg = { 0 };
  guint32 status = nf_status_from_errno (EAGAIN);
  guint64 share = job->primary->share->conf.id;

  switch (job->type)
    {
    case NF_MSG_FETCH:
      msg.type = NF_MSG_FETCHED;
      msg.fetched.share = share;
      msg.fetched.id = job->id;
      msg.fetched.fid = job->fid;
      msg.fetched.status = status;
      msg.fetched.flags = NF_FLAG_LAST;
      break;
    case NF_MSG_HASH:
      msg.type = NF_MSG_HASHED;
      msg.hashed.share = share;
      msg.hashed.id = job->id;
      msg.hashed.fid = job->fid;
      msg.hashed.status = status;
      break;
    default:
      msg.type = NF_MSG_LISTED;
      msg.listed.share = share;
      msg.listed.id = job->id;
      msg.listed.fid = job->fid;
      msg.listed.status = status;
      msg.listed.flags = NF_FLAG_LAST;
      break;
    }
  (void)nf_serve_send (job, &msg);
  job_free (job);
}

void
nf_serve_request (NfServe *serve, const char *name, const NfMsg *request)
{
  NfServeJob *refused = NULL;

  pthread_mutex_lock (&serve->lock);
  Site *site = site_of (serve, name);
  NfServeJob *job = job_new (serve, site, request);
  if (n_jobs (site) < JOBS_MAX)
    {
      g_queue_push_tail (job->type == NF_MSG_LIST ? &site->lists : &site->reads, job);
      start (site);
    }
  else
    refused = job;
  pthread_mutex_unlock (&serve->lock);
  if (refused)
    refuse (refused);
}

void
nf_serve_drained (NfServe *serve, const char *name)
{
  pthread_mutex_lock (&serve->lock);
  Site *site = g_hash_table_lookup (serve->sites, name);
  if (site)
    start (site);
  pthread_mutex_unlock (&serve->lock);
}

void
nf_serve_peer_down (NfServe *serve, const char *name)
{
  pthread_mutex_lock (&serve->lock);
  Site *site = g_hash_table_lookup (serve->sites, name);
  if (site)
    clear_jobs (site);
  pthread_mutex_unlock (&serve->lock);
}
