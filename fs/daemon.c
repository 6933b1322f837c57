// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fs/client.h"
#include "fs/daemon-private.h"
#include "fs/log.h"

/* Start, wait, stop.
 *
 * The main thread sleeps in nf_daemon_run() until a signal, a verb or the mount's end wakes it.
 * Signals are taken by a thread of their own, so that a second SIGTERM ends the process even
 * while the main thread waits for a disk. */

/* Of the time in which a stop must be done, what the drain may take beyond a call's own
 * deadline. */
#define DRAIN_SPARE_MS 1000
/* So long one that was unmounted may take to end, on a busy disk, too; with a link down, and writes to bring over it, it
 * takes longer. What is over within the first isn't spoken of. */
#define ENDING_SOON_MS 1000
#define ENDING_MS 10000

/* Ends the signal thread; nobody else sends it, and then it does no harm either. */
#define SIGNAL_END SIGUSR1

static sigset_t
our_signals (void)
{
  sigset_t set;

  sigemptyset (&set);
  sigaddset (&set, SIGTERM);
  sigaddset (&set, SIGINT);
  sigaddset (&set, SIGHUP);
  sigaddset (&set, SIGNAL_END);
  return set;
}

void
nf_daemon_prepare (void)
{
  sigset_t set = our_signals ();
  struct rlimit files;

  signal (SIGHUP, SIG_DFL); /* nohup's "ignore" would keep it from being waited for */
  signal (SIGPIPE, SIG_IGN);
  pthread_sigmask (SIG_BLOCK, &set, NULL);
  umask (0); /* the callers' umasks come with their calls */
  if (getrlimit (RLIMIT_NOFILE, &files) == 0)
    {
      files.rlim_cur = files.rlim_max;
      (void)setrlimit (RLIMIT_NOFILE, &files); /* fewer will do for a while */
    }
}

/* Signals. */

static void
wake (NfDaemon *daemon, gboolean *flag)
{
  pthread_mutex_lock (&daemon->wake_lock);
  *flag = TRUE;
  pthread_cond_broadcast (&daemon->wake);
  pthread_mutex_unlock (&daemon->wake_lock);
}

void
nf_daemon_stop (NfDaemon *daemon)
{
  wake (daemon, &daemon->stop);
}

/* The dead mount would answer ENOTCONN until somebody takes it away. */
static void
end_at_once (NfDaemon *daemon)
{
  nf_log (G_LOG_LEVEL_WARNING, NULL, "second signal: ending at once, without waiting for writes");
  if (daemon->mountpoint && geteuid () == 0)
    (void)umount2 (daemon->mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW);
  _exit (1);
}

static void *
watch_signals (void *data)
{
  NfDaemon *daemon = data;
  sigset_t set = our_signals ();
  gboolean stopping = FALSE;
  int signal_number;

  while (sigwait (&set, &signal_number) == 0 && signal_number != SIGNAL_END)
    if (signal_number == SIGHUP)
      wake (daemon, &daemon->reload);
    else if (stopping)
      end_at_once (daemon);
    else
      {
        nf_log (G_LOG_LEVEL_INFO, NULL, "%s: stopping", g_strsignal (signal_number));
        stopping = TRUE;
        nf_daemon_stop (daemon);
      }
  return NULL;
}

/* The mount. */

static void *
run_mount (void *data)
{
  NfDaemon *daemon = data;
  int err = nf_mount_run (daemon->mount); /* set before this thread and until it is joined */

  if (err != 0)
    nf_log (G_LOG_LEVEL_WARNING, NULL, "the mount has ended: %s", g_strerror (-err));
  wake (daemon, &daemon->unmounted);
  return NULL;
}

/* The root is answered by the mount itself, so this can't hang on anything but a mount that
 * doesn't work. */
static gboolean
try_mount (NfDaemon *daemon, GError **error)
{
  struct stat st;

  if (stat (daemon->mountpoint, &st) == 0)
    return TRUE;
  g_set_error (error, G_FILE_ERROR, g_file_error_from_errno (errno),
               "%s is mounted but doesn't work: %s", daemon->mountpoint, g_strerror (errno));
  return FALSE;
}

/* The kernel knows all that it was to be told. Slots change rarely: who holds the lock to change them looks at the
 * shares afterwards anyway. */
static void
kernel_told (gpointer data)
{
  NfDaemon *daemon = data;

  pthread_rwlock_rdlock (&daemon->slots_lock);
  for (guint i = 0; i < daemon->slots->len; i++)
    {
      NfSlot *slot = daemon->slots->pdata[i];
      if (slot->share)
        nf_share_told (slot->share);
    }
  pthread_rwlock_unlock (&daemon->slots_lock);
}

static gboolean
start_mount (NfDaemon *daemon, const NfMountOptions *options, GError **error)
{
  NfMount *mount;

  daemon->mountpoint = realpath (options->mountpoint, NULL);
  mount = nf_mount_new (options, error);
  if (!mount)
    return FALSE;
  if (!daemon->mountpoint)
    daemon->mountpoint = g_strdup (options->mountpoint);
  nf_mount_on_told (mount, kernel_told, daemon);
  pthread_rwlock_wrlock (&daemon->mount_lock);
  daemon->mount = mount;
  pthread_rwlock_unlock (&daemon->mount_lock);
  for (guint i = 0; i < daemon->slots->len; i++)
    nf_slot_show (daemon, daemon->slots->pdata[i]);
  if (pthread_create (&daemon->mount_thread, NULL, run_mount, daemon) != 0)
    {
      g_set_error (error, G_FILE_ERROR, G_FILE_ERROR_AGAIN, "no thread can be made");
      return FALSE;
    }
  daemon->mount_started = TRUE;
  return try_mount (daemon, error);
}

static void
stop_mount (NfDaemon *daemon)
{
  NfMount *mount;

  if (!daemon->mount)
    return;
  if (daemon->mount_started)
    {
      nf_mount_stop (daemon->mount);
      pthread_join (daemon->mount_thread, NULL);
      daemon->mount_started = FALSE;
    }
  /* What it still has open is closed now, while the links are there to say so. Nobody may tell
   * it of changes any more. */
  pthread_rwlock_wrlock (&daemon->mount_lock);
  mount = g_steal_pointer (&daemon->mount);
  pthread_rwlock_unlock (&daemon->mount_lock);
  nf_mount_free (mount);
  for (guint i = 0; i < daemon->slots->len; i++)
    ((NfSlot *)daemon->slots->pdata[i])->mounted = FALSE;
}

/* Start. */

static void
init_locks (NfDaemon *daemon)
{
  pthread_condattr_t attributes;

  pthread_mutex_init (&daemon->admin, NULL);
  pthread_rwlock_init (&daemon->slots_lock, NULL);
  pthread_mutex_init (&daemon->pins_lock, NULL);
  pthread_cond_init (&daemon->pins_changed, NULL);
  pthread_rwlock_init (&daemon->mount_lock, NULL);
  pthread_mutex_init (&daemon->peers_lock, NULL);
  pthread_mutex_init (&daemon->wake_lock, NULL);
  pthread_condattr_init (&attributes);
  pthread_condattr_setclock (&attributes, CLOCK_MONOTONIC);
  pthread_cond_init (&daemon->wake, &attributes);
  pthread_condattr_destroy (&attributes);
}

static NfDaemon *
daemon_new (NfSiteConf *conf, NfMap *map)
{
  NfDaemon *daemon = g_new0 (NfDaemon, 1);

  init_locks (daemon);
  daemon->conf = nf_site_conf_ref (conf);
  daemon->map = nf_map_ref (map);
  daemon->slots = g_ptr_array_new ();
  daemon->peers = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, nf_peer_note_free);
  daemon->refusals = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  daemon->lost = g_string_new (NULL);
  nf_daemon_init_host (daemon);
  daemon->pool = nf_pool_new ();
  daemon->users = nf_users_new (NULL);
  daemon->control = nf_control_new (nf_daemon_verbs, daemon);
  daemon->hub = nf_hub_new (map, conf, &nf_daemon_events, daemon);
  return daemon;
}

/* Before any directory is touched, so that the message is this one and not that the directories
 * are locked. umount(8) doesn't wait for the daemon whose mount it took away. */
static gboolean
check_alone (const NfSiteConf *conf, GError **error)
{
  if (nf_client_is_alone (conf, ENDING_SOON_MS))
    return TRUE;
  nf_log (G_LOG_LEVEL_WARNING, NULL, "a daemon of this site runs, at %s: waiting %d s for its end",
          conf->runtime, ENDING_MS / 1000);
  if (nf_client_is_alone (conf, ENDING_MS))
    return TRUE;
  g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_REFUSED,
               "a daemon of this site runs already, at %s; \"nearfs status\" asks it",
               conf->runtime);
  return FALSE;
}

static void
open_slots (NfDaemon *daemon)
{
  pthread_mutex_lock (&daemon->admin);
  for (guint i = 0; i < nf_map_n_shares (daemon->map); i++)
    {
      const NfMapShare *entry = nf_map_share_at (daemon->map, i);
      if (nf_map_role (daemon->map, entry, daemon->conf->name) != NF_ROLE_STRANGER)
        g_ptr_array_add (daemon->slots, nf_slot_new (daemon, daemon->map, entry));
    }
  for (guint i = 0; i < daemon->slots->len; i++)
    (void)nf_slot_open (daemon, daemon->slots->pdata[i], FALSE); /* says what is wrong for itself */
  pthread_mutex_unlock (&daemon->admin);
}

NfDaemon *
nf_daemon_new (NfSiteConf *conf, NfMap *map, const NfMountOptions *mount, GError **error)
{
  NfDaemon *daemon;

  if (!check_alone (conf, error))
    return NULL;
  daemon = daemon_new (conf, map);
  for (const char *const *warning = nf_map_warnings (map); *warning; warning++)
    nf_log (G_LOG_LEVEL_WARNING, NULL, "map: %s", *warning);
  if (pthread_create (&daemon->signal_thread, NULL, watch_signals, daemon) != 0)
    g_error ("no thread can be made");
  open_slots (daemon);
  if (mount && !start_mount (daemon, mount, error))
    {
      nf_daemon_free (daemon);
      return NULL;
    }
  nf_hub_start (daemon->hub);
  daemon->accept
      = nf_accept_new (conf->runtime, daemon->hub, nf_control_take, daemon->control, error);
  if (!daemon->accept)
    {
      nf_daemon_free (daemon);
      return NULL;
    }
  nf_log (G_LOG_LEVEL_INFO, NULL, "site %s is up: nearfs %s, %u shares%s%s", conf->name,
          PACKAGE_VERSION, daemon->slots->len, daemon->mountpoint ? ", mounted at " : "",
          daemon->mountpoint ? daemon->mountpoint : "");
  return daemon;
}

/* Run. */

/* Returns FALSE when it is time to stop. *RET_RELOAD: the map is to be loaded; otherwise it is
 * time to try again what couldn't be opened. */
static gboolean
wait_for_work (NfDaemon *daemon, gboolean *ret_reload)
{
  struct timespec until;
  int err = 0;

  clock_gettime (CLOCK_MONOTONIC, &until);
  until.tv_sec += NF_DAEMON_RETRY_S;
  pthread_mutex_lock (&daemon->wake_lock);
  while (!daemon->stop && !daemon->unmounted && !daemon->reload && !daemon->retry && err == 0)
    err = pthread_cond_timedwait (&daemon->wake, &daemon->wake_lock, &until);
  *ret_reload = daemon->reload;
  daemon->reload = daemon->retry = FALSE;
  gboolean stop = daemon->stop || daemon->unmounted;
  pthread_mutex_unlock (&daemon->wake_lock);
  return !stop;
}

static void
work (NfDaemon *daemon, gboolean reload)
{
  if (reload)
    {
      nf_log_reopen ();
      (void)nf_daemon_load_map (daemon, NULL, NULL); /* has logged it */
      return;
    }
  pthread_mutex_lock (&daemon->admin);
  nf_slots_retry (daemon);
  pthread_mutex_unlock (&daemon->admin);
}

static void
drain_all (NfDaemon *daemon)
{
  gint64 deadline = nf_clock_boottime_ms () + daemon->conf->call_timeout_ms + DRAIN_SPARE_MS;
  g_autoptr (GString) lost = g_string_new (NULL);

  for (guint i = 0; i < daemon->slots->len; i++)
    {
      gint64 left = deadline - nf_clock_boottime_ms ();
      nf_slot_drain (daemon->slots->pdata[i], (guint)MAX (left, 0), lost);
    }
  pthread_mutex_lock (&daemon->wake_lock);
  g_string_assign (daemon->lost, lost->str);
  pthread_mutex_unlock (&daemon->wake_lock);
}

gboolean
nf_daemon_wait_unmounted (NfDaemon *daemon, guint seconds)
{
  struct timespec until;
  int err = 0;

  clock_gettime (CLOCK_MONOTONIC, &until);
  until.tv_sec += seconds;
  pthread_mutex_lock (&daemon->wake_lock);
  while (!daemon->stop && !daemon->unmounted && err == 0)
    err = pthread_cond_timedwait (&daemon->wake, &daemon->wake_lock, &until);
  gboolean over = daemon->stop || daemon->unmounted;
  pthread_mutex_unlock (&daemon->wake_lock);
  return over;
}

char *
nf_daemon_wait_drained (NfDaemon *daemon)
{
  pthread_mutex_lock (&daemon->wake_lock);
  while (!daemon->drained)
    pthread_cond_wait (&daemon->wake, &daemon->wake_lock);
  char *lost = g_strdup (daemon->lost->str);
  pthread_mutex_unlock (&daemon->wake_lock);
  return lost;
}

int
nf_daemon_run (NfDaemon *daemon)
{
  gboolean reload;

  while (wait_for_work (daemon, &reload))
    work (daemon, reload);
  pthread_mutex_lock (&daemon->admin);
  stop_mount (daemon);
  drain_all (daemon);
  pthread_mutex_unlock (&daemon->admin);
  wake (daemon, &daemon->drained);
  return 0;
}

/* Stop. */

static void
close_slots (NfDaemon *daemon)
{
  g_autoptr (GPtrArray) slots = NULL;

  pthread_mutex_lock (&daemon->admin);
  pthread_rwlock_wrlock (&daemon->slots_lock);
  slots = daemon->slots;
  daemon->slots = g_ptr_array_new ();
  pthread_rwlock_unlock (&daemon->slots_lock);
  for (guint i = 0; i < slots->len; i++)
    {
      nf_slot_close (daemon, slots->pdata[i]);
      nf_slot_free (slots->pdata[i]);
    }
  pthread_mutex_unlock (&daemon->admin);
}

static void
destroy (NfDaemon *daemon)
{
  g_ptr_array_unref (daemon->slots);
  g_hash_table_unref (daemon->peers);
  g_hash_table_unref (daemon->refusals);
  g_string_free (daemon->lost, TRUE);
  nf_users_free (daemon->users);
  nf_map_unref (daemon->map);
  nf_site_conf_unref (daemon->conf);
  g_free (daemon->map_trouble);
  free (daemon->mountpoint);
  pthread_mutex_destroy (&daemon->admin);
  pthread_rwlock_destroy (&daemon->slots_lock);
  pthread_mutex_destroy (&daemon->pins_lock);
  pthread_cond_destroy (&daemon->pins_changed);
  pthread_rwlock_destroy (&daemon->mount_lock);
  pthread_mutex_destroy (&daemon->peers_lock);
  pthread_mutex_destroy (&daemon->wake_lock);
  pthread_cond_destroy (&daemon->wake);
  g_free (daemon);
}

/* From the outside inwards: who could ask, who could send, what is asked, what runs it. */
void
nf_daemon_free (NfDaemon *daemon)
{
  stop_mount (daemon);
  wake (daemon, &daemon->drained); /* if the start failed, there was nothing to drain */
  if (daemon->accept)
    nf_accept_stop (daemon->accept);
  nf_control_stop (daemon->control);
  nf_hub_stop (daemon->hub);
  close_slots (daemon);
  nf_pool_free (daemon->pool);
  nf_hub_unref (daemon->hub);
  pthread_kill (daemon->signal_thread, SIGNAL_END);
  pthread_join (daemon->signal_thread, NULL);
  nf_log (G_LOG_LEVEL_INFO, NULL, "site %s has stopped", daemon->conf->name);
  nf_control_free (daemon->control);
  /* The last: until then another daemon sees that this one's directories may be locked. */
  if (daemon->accept)
    nf_accept_free (daemon->accept);
  destroy (daemon);
}
