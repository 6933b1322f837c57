// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/daemon-private.h"
#include "fs/point.h"

/* A thread is woken once for all that goes in this time. */
#define LINGER_MS 1

static NfLinkKind
kind_of (gboolean bulk)
{
  return bulk ? NF_LINK_BULK : NF_LINK_OPS;
}

static void
host_post (gpointer data, NfFunc func, gpointer arg)
{
  nf_pool_post (((NfDaemon *)data)->pool, func, arg);
}

static void
host_post_after (gpointer data, guint delay_ms, NfFunc func, gpointer arg)
{
  nf_pool_post_after (((NfDaemon *)data)->pool, delay_ms, func, arg);
}

static gboolean
host_send (gpointer data, const char *site, gboolean bulk, const NfMsg *msg)
{
  return nf_hub_send (((NfDaemon *)data)->hub, site, kind_of (bulk), msg);
}

static gsize
host_queued (gpointer data, const char *site, gboolean bulk)
{
  return nf_hub_queued (((NfDaemon *)data)->hub, site, kind_of (bulk));
}

static void
host_redial (gpointer data, const char *site)
{
  nf_hub_redial_now (((NfDaemon *)data)->hub, site);
}

static gint64
host_realtime_ns (gpointer data)
{
  (void)data;
  return nf_clock_realtime_ns ();
}

static guint32
host_random (gpointer data)
{
  (void)data;
  return g_random_int ();
}

static gint64
host_monotonic_ms (gpointer data)
{
  (void)data;
  return nf_clock_boottime_ms ();
}

/* While a share is being opened there is no mount yet, and at the end none any more. */
static void
host_invalidate (gpointer data, NfShare *share, const NfInval *inval)
{
  NfDaemon *daemon = data;

  pthread_rwlock_rdlock (&daemon->mount_lock);
  if (daemon->mount)
    nf_mount_invalidate (daemon->mount, share, inval);
  pthread_rwlock_unlock (&daemon->mount_lock);
}

static gboolean
host_telling (gpointer data, NfShare *share)
{
  NfDaemon *daemon = data;

  (void)share; /* one queue for all: telling takes microseconds */
  pthread_rwlock_rdlock (&daemon->mount_lock);
  gboolean telling = daemon->mount && nf_mount_telling (daemon->mount);
  pthread_rwlock_unlock (&daemon->mount_lock);
  return telling;
}

static void
host_reopen (gpointer data, NfShare *share)
{
  NfDaemon *daemon = data;

  (void)share; /* it is asked */
  pthread_mutex_lock (&daemon->wake_lock);
  daemon->retry = TRUE;
  pthread_cond_signal (&daemon->wake);
  pthread_mutex_unlock (&daemon->wake_lock);
}

static void
host_point (gpointer data, const char *name)
{
  (void)data;
  nf_point (name);
}

void
nf_daemon_init_host (NfDaemon *daemon)
{
  daemon->host = (NfHost){
    .data = daemon,
    .post = host_post,
    .post_after = host_post_after,
    .linger_ms = LINGER_MS,
    .send = host_send,
    .queued = host_queued,
    .redial = host_redial,
    .realtime_ns = host_realtime_ns,
    .monotonic_ms = host_monotonic_ms,
    .random = host_random,
    .invalidate = host_invalidate,
    .telling = host_telling,
    .reopen = host_reopen,
    .point = nf_point_init () ? host_point : NULL,
  };
}
