// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "net/hub-private.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* A call may ask for a redial with each file it looks at. */
#define REDIAL_EVERY_US G_USEC_PER_SEC

G_DEFINE_QUARK (nf - net - error - quark, nf_net_error)

void
nf_hub_log (GLogLevelFlags level, const char *site, const char *format, ...)
{
  g_autofree char *text = NULL;
  va_list args;

  va_start (args, format);
  text = g_strdup_vprintf (format, args);
  va_end (args);
  g_log_structured ("nearfs", level, "NEARFS_PEER", site, "MESSAGE", "%s", text);
}

guint64
nf_hub_random (void)
{
  return (guint64)g_random_int () << 32 | g_random_int ();
}

const char *
nf_peer_state_name (NfPeerState state)
{
  static const char *const names[] = { "down", "dialling", "greeting", "up" };

  return names[state];
}

/* Threads. One that has ended is joined by the next that starts, or by nf_hub_stop(): a detached
 * one could still be freeing what libraries keep for each thread when the program ends. */

typedef struct
{
  NfHub *hub;
  void (*func) (gpointer data);
  gpointer data;
} Task;

static void *
task_thread (void *arg)
{
  Task task = *(Task *)arg;
  pthread_t self = pthread_self ();

  g_free (arg);
  task.func (task.data);
  pthread_mutex_lock (&task.hub->lock);
  task.hub->n_threads--;
  g_array_append_val (task.hub->ended, self);
  pthread_cond_broadcast (&task.hub->idle);
  pthread_mutex_unlock (&task.hub->lock);
  return NULL;
}

/* Those that have ended, for join_all(); with the hub's lock held. */
static GArray *
take_ended (NfHub *hub)
{
  GArray *ended = hub->ended;

  hub->ended = g_array_new (FALSE, FALSE, sizeof (pthread_t));
  return ended;
}

/* Without a lock. ENDED is freed. */
static void
join_all (GArray *ended)
{
  for (guint i = 0; i < ended->len; i++)
    pthread_join (g_array_index (ended, pthread_t, i), NULL);
  g_array_unref (ended);
}

/* Signals are for the program's own threads. 0 or an errno. */
static int
create_thread (void *arg)
{
  pthread_t thread;
  sigset_t all, old;
  int err;

  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &old);
  err = pthread_create (&thread, NULL, task_thread, arg);
  pthread_sigmask (SIG_SETMASK, &old, NULL);
  return err;
}

gboolean
nf_hub_run (NfHub *hub, void (*func) (gpointer data), gpointer data)
{
  GArray *ended;
  Task *task;
  int err = ECANCELED;

  pthread_mutex_lock (&hub->lock);
  ended = take_ended (hub);
  if (!hub->stopping)
    {
      task = g_new (Task, 1);
      *task = (Task){ hub, func, data };
      err = create_thread (task);
      if (err == 0)
        hub->n_threads++;
      else
        g_free (task);
    }
  pthread_mutex_unlock (&hub->lock);
  join_all (ended);
  return err == 0;
}

gboolean
nf_hub_stopping (NfHub *hub)
{
  /* Not `stopping`: this is asked with peers' locks held, and the hub's comes before them. */
  return g_atomic_int_get (&hub->stop_flag) != 0;
}

/* Peers. */

NfPeer *
nf_hub_peer (NfHub *hub, const char *site)
{
  NfPeer *peer;

  pthread_mutex_lock (&hub->lock);
  peer = g_hash_table_lookup (hub->peers, site);
  pthread_mutex_unlock (&hub->lock);
  return peer;
}

static int
compare_peers (gconstpointer a, gconstpointer b)
{
  return strcmp ((*(NfPeer *const *)a)->name, (*(NfPeer *const *)b)->name);
}

GPtrArray *
nf_hub_peers (NfHub *hub)
{
  GPtrArray *peers = g_ptr_array_new ();
  GHashTableIter iter;
  gpointer peer;

  pthread_mutex_lock (&hub->lock);
  g_hash_table_iter_init (&iter, hub->peers);
  while (g_hash_table_iter_next (&iter, NULL, &peer))
    g_ptr_array_add (peers, peer);
  pthread_mutex_unlock (&hub->lock);
  g_ptr_array_sort (peers, compare_peers);
  return peers;
}

static NfPeer *
ensure_peer (NfHub *hub, const char *name)
{
  NfPeer *peer;

  pthread_mutex_lock (&hub->lock);
  peer = g_hash_table_lookup (hub->peers, name);
  if (peer == NULL)
    {
      peer = nf_peer_new (hub, name);
      g_hash_table_insert (hub->peers, peer->name, peer);
    }
  pthread_mutex_unlock (&hub->lock);
  return peer;
}

/* What the map says of PEER. TRUE if a link that stands can't be kept. */
static gboolean
update_peer (NfPeer *peer, NfMap *map, const NfMapSite *site)
{
  NfSiteConf *conf = peer->hub->conf;
  gboolean we_dial = nf_map_dials (map, conf->name, site->name);
  NfMapTransport transport = nf_site_conf_transport (conf, site);
  gboolean changed;

  pthread_mutex_lock (&peer->lock);
  changed = peer->in_map
            && (peer->we_dial != we_dial
                || (we_dial
                    && (g_strcmp0 (peer->ssh, site->ssh) != 0 || peer->port != site->port
                        || peer->transport != transport)));
  g_free (peer->ssh);
  peer->ssh = g_strdup (site->ssh);
  peer->port = site->port;
  peer->transport = transport;
  peer->we_dial = we_dial;
  peer->in_map = TRUE;
  peer->redial_now |= changed;
  pthread_mutex_unlock (&peer->lock);
  return changed;
}

static void
apply_map (NfHub *hub, NfMap *map)
{
  g_autoptr (GPtrArray) sites = nf_map_peers (map, hub->conf->name);
  g_autoptr (GPtrArray) peers = NULL;
  g_autoptr (GHashTable) wanted = g_hash_table_new (g_str_hash, g_str_equal);
  gboolean started;

  pthread_mutex_lock (&hub->lock);
  started = hub->started && !hub->stopping;
  pthread_mutex_unlock (&hub->lock);
  for (guint i = 0; i < sites->len; i++)
    {
      const NfMapSite *site = g_ptr_array_index (sites, i);
      NfPeer *peer = ensure_peer (hub, site->name);

      g_hash_table_add (wanted, (gpointer)site->name);
      if (update_peer (peer, map, site))
        nf_peer_hang_up (peer, NF_NET_ERROR_CLOSED, "the map has changed");
      if (started)
        nf_redial_start (peer);
    }
  peers = nf_hub_peers (hub);
  for (guint i = 0; i < peers->len; i++)
    {
      NfPeer *peer = g_ptr_array_index (peers, i);

      if (g_hash_table_contains (wanted, peer->name))
        continue;
      pthread_mutex_lock (&peer->lock);
      peer->in_map = FALSE;
      pthread_mutex_unlock (&peer->lock);
      nf_peer_hang_up (peer, NF_NET_ERROR_REFUSED, "the site was removed from the map");
    }
}

/* The hub. */

NfHub *
nf_hub_new (NfMap *map, NfSiteConf *conf, const NfHubEvents *events, gpointer data)
{
  NfHub *hub = g_new0 (NfHub, 1);

  hub->refs = 1;
  hub->conf = nf_site_conf_ref (conf);
  hub->map = nf_map_ref (map);
  hub->events = *events;
  hub->data = data;
  hub->incarnation = nf_hub_random ();
  hub->stop_fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (hub->stop_fd < 0)
    g_error ("eventfd: %s", g_strerror (errno));
  hub->peers = g_hash_table_new (g_str_hash, g_str_equal);
  hub->ended = g_array_new (FALSE, FALSE, sizeof (pthread_t));
  pthread_mutex_init (&hub->lock, NULL);
  pthread_cond_init (&hub->idle, NULL);
  apply_map (hub, map);
  return hub;
}

NfHub *
nf_hub_ref (NfHub *hub)
{
  g_atomic_int_inc (&hub->refs);
  return hub;
}

void
nf_hub_unref (NfHub *hub)
{
  GHashTableIter iter;
  gpointer peer;

  if (!g_atomic_int_dec_and_test (&hub->refs))
    return;
  g_assert (hub->n_threads == 0 && hub->ended->len == 0);
  g_array_unref (hub->ended);
  g_hash_table_iter_init (&iter, hub->peers);
  while (g_hash_table_iter_next (&iter, NULL, &peer))
    nf_peer_free (peer);
  g_hash_table_unref (hub->peers);
  close (hub->stop_fd);
  pthread_cond_destroy (&hub->idle);
  pthread_mutex_destroy (&hub->lock);
  nf_map_unref (hub->map);
  nf_site_conf_unref (hub->conf);
  g_free (hub);
}

void
nf_hub_start (NfHub *hub)
{
  g_autoptr (GPtrArray) peers = nf_hub_peers (hub);

  pthread_mutex_lock (&hub->lock);
  hub->started = TRUE;
  pthread_mutex_unlock (&hub->lock);
  for (guint i = 0; i < peers->len; i++)
    nf_redial_start (g_ptr_array_index (peers, i));
}

void
nf_hub_stop (NfHub *hub)
{
  g_autoptr (GPtrArray) peers = nf_hub_peers (hub);
  GArray *ended;
  guint64 one = 1;

  pthread_mutex_lock (&hub->lock);
  hub->stopping = TRUE;
  g_atomic_int_set (&hub->stop_flag, 1);
  pthread_mutex_unlock (&hub->lock);
  (void)!write (hub->stop_fd, &one, sizeof one); /* an eventfd of ours, at zero */
  for (guint i = 0; i < peers->len; i++)
    nf_peer_hang_up (g_ptr_array_index (peers, i), NF_NET_ERROR_CLOSED, "shutting down");

  pthread_mutex_lock (&hub->lock);
  while (hub->n_threads > 0)
    pthread_cond_wait (&hub->idle, &hub->lock);
  ended = take_ended (hub);
  pthread_mutex_unlock (&hub->lock);
  join_all (ended);
}

NfMap *
nf_hub_map (NfHub *hub)
{
  NfMap *map;

  pthread_mutex_lock (&hub->lock);
  map = nf_map_ref (hub->map);
  pthread_mutex_unlock (&hub->lock);
  return map;
}

void
nf_hub_set_map (NfHub *hub, NfMap *map)
{
  NfMap *old;

  pthread_mutex_lock (&hub->lock);
  old = hub->map;
  hub->map = nf_map_ref (map);
  pthread_mutex_unlock (&hub->lock);
  nf_map_unref (old);
  apply_map (hub, map);
}

void
nf_hub_hang_up (NfHub *hub, const char *site, const char *reason)
{
  NfPeer *peer = nf_hub_peer (hub, site);

  if (peer != NULL)
    nf_peer_hang_up (peer, NF_NET_ERROR_REFUSED, reason);
}

static void
redial_peer (NfPeer *peer)
{
  gint64 now = g_get_monotonic_time ();

  pthread_mutex_lock (&peer->lock);
  if (peer->redial_at_us != 0
      && (peer->redial_asked_us == 0 || now - peer->redial_asked_us > REDIAL_EVERY_US))
    {
      peer->redial_asked_us = now;
      peer->redial_now = TRUE;
      pthread_cond_broadcast (&peer->changed);
    }
  pthread_mutex_unlock (&peer->lock);
}

void
nf_hub_redial_now (NfHub *hub, const char *site)
{
  g_autoptr (GPtrArray) peers = NULL;
  NfPeer *peer = site == NULL ? NULL : nf_hub_peer (hub, site);

  if (peer != NULL)
    redial_peer (peer);
  if (site != NULL)
    return;
  peers = nf_hub_peers (hub);
  for (guint i = 0; i < peers->len; i++)
    redial_peer (g_ptr_array_index (peers, i));
}
