// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/guard.h"
#include "fs/handle.h"
#include "fs/mount-private.h"
#include "fs/request.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

/* Interrupts the loop's sem_wait(), which libfuse offers no other way to end. Must have a handler
 * that does nothing. */
#define WAKE_SIGNAL (SIGRTMIN + 3)
/* The signal is lost if it comes just before the wait: it is sent again this often until the loop
 * has ended. */
#define WAKE_AGAIN_MS 20

/* ---- what libfuse has to say ---- */

/* The first line that libfuse logs while it mounts is why it couldn't. Guarded by `log_lock`:
 * mounting is done by one thread at a time. */
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static GString *log_kept;

static void log_fuse (enum fuse_log_level level, const char *format, va_list args)
    G_GNUC_PRINTF (2, 0);

static void
log_fuse (enum fuse_log_level level, const char *format, va_list args)
{
  g_autofree char *line = g_strdup_vprintf (format, args);

  g_strchomp (line);
  if (log_kept)
    {
      if (log_kept->len == 0)
        g_string_append (log_kept, line);
      return;
    }
  /* What is less than a warning it says only when it was told to debug. */
  g_log (NULL, level <= FUSE_LOG_WARNING ? G_LOG_LEVEL_WARNING : G_LOG_LEVEL_MESSAGE, "%s", line);
}

/* ---- mounting ---- */

static void
add_option (struct fuse_args *args, const char *option)
{
  g_autofree char *arg = g_strdup_printf ("-o%s", option);

  if (fuse_opt_add_arg (args, arg) != 0)
    g_error ("out of memory");
}

static void
fill_args (struct fuse_args *args, const NfMountOptions *options)
{
  (void)fuse_opt_add_arg (args, "nearfs");
  add_option (args, "fsname=nearfs,subtype=nearfs,default_permissions");
  if (options->allow_other)
    add_option (args, "allow_other");
  if (options->read_only)
    add_option (args, "ro");
  if (options->suid)
    add_option (args, "suid");
  if (options->dev)
    add_option (args, "dev");
  for (char **option = options->options; option && *option; option++)
    add_option (args, *option);
  if (options->debug)
    (void)fuse_opt_add_arg (args, "-d");
}

static void
fill_ops (struct fuse_lowlevel_ops *ops)
{
  memset (ops, 0, sizeof *ops);
  ops->init = nf_mount_init;
  nf_op_lookup_init (ops);
  nf_op_name_init (ops);
  nf_op_attr_init (ops);
  nf_op_xattr_init (ops);
  nf_op_open_init (ops);
  nf_op_file_init (ops);
  nf_op_dir_init (ops);
  nf_op_lock_init (ops);
}

/* FALSE: libfuse has logged why. */
static gboolean
start_session (NfMount *mount, const NfMountOptions *options)
{
  struct fuse_args args = FUSE_ARGS_INIT (0, NULL);
  struct fuse_lowlevel_ops ops;

  fill_args (&args, options);
  fill_ops (&ops);
  mount->session = fuse_session_new (&args, &ops, sizeof ops, mount);
  fuse_opt_free_args (&args);
  return mount->session && fuse_session_mount (mount->session, mount->mountpoint) == 0
         && nf_mount_hook_io (mount) == 0;
}

static gboolean
start_session_or_say (NfMount *mount, const NfMountOptions *options, GError **error)
{
  pthread_mutex_lock (&log_lock);
  fuse_set_log_func (log_fuse);
  log_kept = g_string_new (NULL);
  gboolean started = start_session (mount, options);
  g_autoptr (GString) said = g_steal_pointer (&log_kept);
  pthread_mutex_unlock (&log_lock);
  if (started)
    return TRUE;
  g_set_error (error, G_IO_ERROR, G_IO_ERROR_FAILED, "%s can't be mounted on: %s",
               mount->mountpoint, said->len > 0 ? said->str : "see the lines above");
  return FALSE;
}

NfMount *
nf_mount_new (const NfMountOptions *options, GError **error)
{
  char *path = realpath (options->mountpoint, NULL); /* as it stands in the mount table */
  g_autofree char *mountpoint
      = path ? g_strdup (path) : g_canonicalize_filename (options->mountpoint, NULL);
  g_autoptr (NfMount) mount = NULL;

  free (path);
  if (!nf_mount_check (mountpoint, error))
    return NULL;
  mount = g_new0 (NfMount, 1);
  mount->mountpoint = g_steal_pointer (&mountpoint);
  mount->threads = options->threads > 0 ? options->threads : NF_MOUNT_THREADS;
  mount->uid = geteuid ();
  mount->gid = getegid ();
  mount->personal = mount->uid != 0;
  mount->name_timeout = NF_NAME_TIMEOUT_OLD;
  pthread_mutex_init (&mount->lock, NULL);
  pthread_cond_init (&mount->changed, NULL);
  mount->volumes = g_ptr_array_new_with_free_func ((GDestroyNotify)nf_volume_unref);
  mount->ns = nf_namespace_new ();
  mount->nodes = nf_nodes_new ();
  mount->root = g_new0 (NfNode, 1);
  mount->root->refs = 1;
  mount->root->fid = NF_NAMESPACE_ROOT;
  mount->requests = nf_requests_new ();
  mount->invals = nf_invals_new (mount);
  mount->pass = nf_pass_new (!options->no_pass);
  mount->readers = nf_readers_new ();
  mount->local_locks = options->local_locks;
  if (!start_session_or_say (mount, options, error))
    return NULL;
  mount->guard = nf_guard_start (mount->mountpoint);
  if (mount->guard < 0)
    g_warning ("no process could be made that ends the mount if this one is killed: %s",
               g_strerror (-mount->guard));
  return g_steal_pointer (&mount);
}

/* ---- shares ---- */

NfNode *
nf_mount_node (NfMount *mount, fuse_ino_t ino)
{
  return ino == FUSE_ROOT_ID ? mount->root : GSIZE_TO_POINTER (ino);
}

guint64
nf_mount_node_id (NfMount *mount, NfVolume *volume, NfFid fid, NfNode **ret_node)
{
  NfNode *node = nf_nodes_find (mount->nodes, volume, fid);
  guint64 id = node ? nf_node_id (node) : 0;

  if (!node && fid == NF_FID_ROOT)
    {
      g_autoptr (NfVolume) at_root = nf_namespace_volume (mount->ns, NF_NAMESPACE_ROOT);
      id = at_root == volume ? FUSE_ROOT_ID : 0;
    }
  if (ret_node)
    *ret_node = node;
  else if (node)
    nf_node_unref (node);
  return id;
}

NfVolume *
nf_mount_volume (NfMount *mount, NfShare *share)
{
  NfVolume *volume = NULL;

  pthread_mutex_lock (&mount->lock);
  for (guint i = 0; i < mount->volumes->len && !volume; i++)
    if (((NfVolume *)mount->volumes->pdata[i])->share == share)
      volume = nf_volume_ref (mount->volumes->pdata[i]);
  pthread_mutex_unlock (&mount->lock);
  return volume;
}

/* With the lock. Numbers of shares that were taken out are used again only when there are no others
 * left. */
static guint32
free_number (NfMount *mount)
{
  gboolean taken;

  do
    {
      mount->last_number = mount->last_number % NF_VOLUME_NUMBER_MAX + 1;
      taken = FALSE;
      for (guint i = 0; i < mount->volumes->len; i++)
        taken = taken || ((NfVolume *)mount->volumes->pdata[i])->number == mount->last_number;
    }
  while (taken);
  return mount->last_number;
}

static void
tell_change (NfMount *mount, NfNamespaceChange *change)
{
  nf_invals_queue_dir (mount->invals, change->dir, change->name);
  g_free (change->name);
}

int
nf_mount_add_share (NfMount *mount, const char *path, NfShare *share)
{
  NfNamespaceChange change;
  int err = -ENOSPC;

  pthread_mutex_lock (&mount->lock);
  if (mount->volumes->len < NF_VOLUME_NUMBER_MAX)
    {
      NfVolume *volume = nf_volume_new (free_number (mount), share);
      g_ptr_array_add (mount->volumes, volume);
      err = nf_namespace_add (mount->ns, path, volume, &change);
      if (err != 0)
        g_ptr_array_remove (mount->volumes, volume);
    }
  pthread_mutex_unlock (&mount->lock);
  if (err == 0)
    tell_change (mount, &change);
  return err;
}

void
nf_mount_remove_share (NfMount *mount, NfShare *share)
{
  g_autoptr (NfVolume) volume = nf_mount_volume (mount, share);
  NfNamespaceChange change;

  if (!volume)
    return;
  nf_volume_remove (volume);
  pthread_mutex_lock (&mount->lock);
  gboolean there = g_ptr_array_remove (mount->volumes, volume)
                   && nf_namespace_remove (mount->ns, volume, &change);
  pthread_mutex_unlock (&mount->lock);
  if (!there)
    return; /* somebody else was quicker */
  nf_requests_cancel (mount, volume);
  nf_volume_wait (volume);
  nf_handles_close (volume);
  nf_nodes_detach_volume (mount->nodes, volume);
  tell_change (mount, &change);
  nf_invals_queue_ids (mount->invals, nf_nodes_ids (mount->nodes, volume));
}

void
nf_mount_invalidate (NfMount *mount, NfShare *share, const NfInval *inval)
{
  g_autoptr (NfVolume) volume = nf_mount_volume (mount, share);

  if (volume)
    nf_invals_queue (mount->invals, volume, inval);
}

void
nf_mount_flush_invals (NfMount *mount)
{
  nf_invals_flush (mount->invals);
}

gboolean
nf_mount_telling (NfMount *mount)
{
  return nf_invals_telling (mount->invals);
}

void
nf_mount_on_told (NfMount *mount, void (*told) (gpointer data), gpointer data)
{
  nf_invals_on_told (mount->invals, told, data);
}

/* ---- serving and stopping ---- */

static void
on_wake (int signal)
{
  (void)signal;
}

static void
remove_shares (NfMount *mount)
{
  for (;;)
    {
      pthread_mutex_lock (&mount->lock);
      NfVolume *volume = mount->volumes->len > 0 ? mount->volumes->pdata[0] : NULL;
      NfShare *share = volume ? volume->share : NULL;
      pthread_mutex_unlock (&mount->lock);
      if (!share)
        return;
      nf_mount_remove_share (mount, share);
    }
}

/* Nothing is served any more. The descriptor is closed last, when no answer is under way nor an
 * invalidation, which would be written to whatever file gets its number next; this lets go those
 * who still use the mount. */
static void
detach (NfMount *mount)
{
  g_atomic_int_set (&mount->stopping, TRUE);
  nf_invals_stop (mount->invals);
  remove_shares (mount);
  nf_guard_stop (mount->guard);
  mount->guard = 0;
  if (mount->session)
    fuse_session_unmount (mount->session);
}

int
nf_mount_run (NfMount *mount)
{
  struct fuse_loop_config *config = fuse_loop_cfg_create ();
  struct sigaction action = { .sa_handler = on_wake }; /* no SA_RESTART */
  sigset_t wake, before;

  if (!config || sigaction (WAKE_SIGNAL, &action, NULL) != 0)
    return -ENOMEM;
  fuse_loop_cfg_set_clone_fd (config, 0);
  fuse_loop_cfg_set_max_threads (config, mount->threads);
  fuse_loop_cfg_set_idle_threads (config, mount->threads);
  sigemptyset (&wake);
  sigaddset (&wake, WAKE_SIGNAL);
  (void)pthread_sigmask (SIG_UNBLOCK, &wake, &before);

  pthread_mutex_lock (&mount->lock);
  mount->loop_thread = pthread_self ();
  mount->running = TRUE;
  pthread_mutex_unlock (&mount->lock);
  int err = fuse_session_loop_mt (mount->session, config);
  pthread_mutex_lock (&mount->lock);
  mount->running = FALSE;
  pthread_cond_broadcast (&mount->changed);
  pthread_mutex_unlock (&mount->lock);

  (void)pthread_sigmask (SIG_SETMASK, &before, NULL);
  fuse_loop_cfg_destroy (config);
  detach (mount);
  return MIN (err, 0); /* else the signal that ended it */
}

/* While the loop still serves, since unmounting may make requests. TRUE: nobody was using it, and
 * the loop ends of itself. */
static gboolean
unmount_idle (NfMount *mount)
{
  const char *const argv[] = { "fusermount3", "-u", "-q", "--", mount->mountpoint, NULL };
  int status = -1;

  if (!mount->personal)
    return umount2 (mount->mountpoint, UMOUNT_NOFOLLOW) == 0;
  return g_spawn_sync (NULL, (char **)argv, NULL,
                       G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL
                           | G_SPAWN_STDERR_TO_DEV_NULL,
                       NULL, NULL, NULL, NULL, &status, NULL)
         && status == 0;
}

static void
wake_loop (NfMount *mount)
{
  pthread_mutex_lock (&mount->lock);
  while (mount->running)
    {
      struct timespec until;
      (void)pthread_kill (mount->loop_thread, WAKE_SIGNAL); /* alive: it resets `running` */
      (void)clock_gettime (CLOCK_REALTIME, &until);
      until.tv_nsec += WAKE_AGAIN_MS * 1000000;
      if (until.tv_nsec >= 1000000000)
        {
          until.tv_sec++;
          until.tv_nsec -= 1000000000;
        }
      (void)pthread_cond_timedwait (&mount->changed, &mount->lock, &until);
    }
  pthread_mutex_unlock (&mount->lock);
}

void
nf_mount_stop (NfMount *mount)
{
  if (!unmount_idle (mount))
    {
      /* In use. The kernel may hold up an invalidation until a request is answered: so first all
       * requests are, then the invalidations end, and only then nothing is answered any more. */
      g_atomic_int_set (&mount->stopping, TRUE);
      nf_requests_cancel (mount, NULL);
      nf_invals_stop (mount->invals);
    }
  g_atomic_int_set (&mount->stopping, TRUE);
  fuse_session_exit (mount->session);
  wake_loop (mount);
}

void
nf_mount_pass_status (NfMount *mount, NfPassStatus *ret_status)
{
  nf_pass_status (mount->pass, ret_status);
}

void
nf_mount_free (NfMount *mount)
{
  detach (mount);
  if (mount->pass)
    nf_pass_stop (mount->pass);
  if (mount->session)
    fuse_session_destroy (mount->session);
  nf_readers_free (mount->readers);
  nf_requests_free (mount->requests);
  nf_invals_free (mount->invals);
  nf_nodes_free (mount->nodes);
  nf_node_unref (mount->root);
  nf_pass_free (mount->pass);
  nf_namespace_free (mount->ns);
  g_ptr_array_unref (mount->volumes);
  pthread_cond_destroy (&mount->changed);
  pthread_mutex_destroy (&mount->lock);
  g_free (mount->mountpoint);
  g_free (mount);
}
