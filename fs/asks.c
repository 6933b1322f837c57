// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <errno.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/daemon-private.h"
#include "fs/asks.h"
#include "map/path.h"

/* So long somebody waits for a share that recovers, looking so often. */
#define RECOVERY_MS (60 * 1000)
#define RECOVERY_LOOK_MS 200
/* So long the kernel may take to tell that the mount is gone, on a busy machine, too. */
#define UNMOUNT_S 5

/* The share that a request names: by its name, or by a path in the mount, in its directory here,
 * or in the namespace. */

/* With slots_lock. */
static const char *
share_of_dir (NfDaemon *daemon, const char *path)
{
  for (guint i = 0; i < daemon->slots->len; i++)
    {
      const NfSlot *slot = daemon->slots->pdata[i];
      if (slot->dir && nf_path_within (slot->dir, path))
        return slot->name;
    }
  return NULL;
}

/* With slots_lock. */
static const char *
share_of_path (NfDaemon *daemon, const char *path)
{
  const NfMapShare *entry = NULL;
  const char *name;

  if (nf_path_fault (path))
    return NULL;
  if (daemon->mountpoint && nf_path_within (daemon->mountpoint, path))
    {
      const char *rest = path + strlen (daemon->mountpoint);
      entry = nf_map_share_of_path (daemon->map, *rest == '/' ? rest : "/", NULL);
      return entry ? entry->name : NULL;
    }
  name = share_of_dir (daemon, path);
  entry = name ? NULL : nf_map_share_of_path (daemon->map, path, NULL);
  return entry ? entry->name : name;
}

/* A share that will be right in a moment is worth waiting for. */
static void
wait_for_recovery (NfDaemon *daemon, NfAsk *ask, const char *name)
{
  gint64 left_ms = MIN (nf_ask_number (ask, "timeout_ms", RECOVERY_MS), RECOVERY_MS);

  while (left_ms > 0 && !nf_ask_is_over (ask) && nf_slot_is_recovering (daemon, name))
    {
      g_usleep (RECOVERY_LOOK_MS * 1000);
      left_ms -= RECOVERY_LOOK_MS;
    }
}

/* NULL, and the request is answered, if there is no such share. Else it is to be given back. */
NfSlot *
nf_asks_share (NfDaemon *daemon, NfAsk *ask)
{
  const char *given = nf_ask_text (ask, "share");
  const char *path = nf_ask_text (ask, "path");
  g_autofree char *name = NULL;
  NfSlot *slot;

  pthread_rwlock_rdlock (&daemon->slots_lock);
  if (given && nf_map_share (daemon->map, given))
    name = g_strdup (given);
  else if (path)
    name = g_strdup (share_of_path (daemon, path));
  pthread_rwlock_unlock (&daemon->slots_lock);
  if (name)
    wait_for_recovery (daemon, ask, name);
  slot = name ? nf_slot_get (daemon, name) : NULL;
  if (!name)
    nf_ask_fail (ask, "%s is neither a share nor a path in one; \"nearfs status\" lists the shares",
                 given  ? given
                 : path ? path
                        : "(nothing)");
  else if (!slot)
    nf_ask_fail (ask, "share %s isn't open here; \"nearfs status\" says why", name);
  return slot;
}

static void
status (gpointer data, NfAsk *ask)
{
  nf_ask_done_with (ask, nf_daemon_report (data));
}

static void
map_load (gpointer data, NfAsk *ask)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *text = NULL;

  if (!nf_daemon_load_map (data, &text, &error))
    {
      nf_ask_fail (ask, "%s\nThe map that was loaded before stays in use.", error->message);
      return;
    }
  (void)nf_ask_line (ask, "text", text); /* a client that has gone is noticed by the answer */
  nf_ask_done (ask);
}

static void
map_adopt (gpointer data, NfAsk *ask)
{
  const char *share = nf_ask_text (ask, "share");
  g_autoptr (GError) error = NULL;

  if (nf_daemon_adopt (data, share ? share : "", &error))
    nf_ask_done (ask);
  else
    nf_ask_fail (ask, "%s", error->message);
}

/* Unmounting. */

/* 0 or -errno. Other users than root need the help of fusermount3, which doesn't say which error
 * it was. */
static int
unmount (const char *mountpoint)
{
  const char *argv[] = { "fusermount3", "-u", "--", mountpoint, NULL };
  g_autoptr (GError) error = NULL;
  int wait_status;

  if (geteuid () == 0)
    return umount2 (mountpoint, UMOUNT_NOFOLLOW) == 0 ? 0 : -errno;
  if (!g_spawn_sync (NULL, (char **)argv, NULL,
                     G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL | G_SPAWN_STDERR_TO_DEV_NULL,
                     NULL, NULL, NULL, NULL, &wait_status, &error))
    return -ENOENT;
  return WIFEXITED (wait_status) && WEXITSTATUS (wait_status) == 0 ? 0 : -EBUSY;
}

static gboolean
is_our_mount (NfDaemon *daemon, NfAsk *ask)
{
  const char *given = nf_ask_text (ask, "mountpoint");

  if (!daemon->mountpoint)
    nf_ask_fail (ask, "the daemon of site %s has no mount (nearfs serve)", daemon->conf->name);
  else if (given && !g_str_equal (given, daemon->mountpoint))
    nf_ask_fail (ask, "the daemon of site %s has mounted %s, not %s", daemon->conf->name,
                 daemon->mountpoint, given);
  else
    return TRUE;
  return FALSE;
}

static void
answer_busy (NfDaemon *daemon, NfAsk *ask)
{
  (void)nf_ask_line (ask, "busy", daemon->mountpoint); /* the client finds out by whom */
  nf_ask_fail (ask, "%s is in use", daemon->mountpoint);
}

/* The filesystem ends with the last of its mounts, and only then the kernel tells. */
static void
answer_elsewhere (NfDaemon *daemon, NfAsk *ask)
{
  nf_ask_fail (ask,
               "%s is unmounted, but there is another mount of it, in the mount namespace of a "
               "container, say. The daemon goes on as long as that is there. Processes that see "
               "it are named by\n"
               "  grep -ls ' %s fuse' /proc/[0-9]*/mounts\n"
               "\"nearfs umount --lazy\" ends the daemon in any case; they get errors then.",
               daemon->mountpoint, daemon->mountpoint);
}

static void
umount_verb (gpointer data, NfAsk *ask)
{
  NfDaemon *daemon = data;
  g_autofree char *lost = NULL;
  int err = 0;

  if (!is_our_mount (daemon, ask))
    return;
  if (nf_ask_flag (ask, "lazy"))
    nf_daemon_stop (daemon);
  else
    err = unmount (daemon->mountpoint);
  if (err == -EINVAL) /* it isn't mounted here any more, see below */
    err = 0;
  if (err == -EBUSY)
    answer_busy (daemon, ask);
  else if (err != 0)
    nf_ask_fail (ask, "can't unmount %s: %s", daemon->mountpoint, g_strerror (-err));
  if (err != 0)
    return;
  if (!nf_daemon_wait_unmounted (daemon, UNMOUNT_S))
    {
      answer_elsewhere (daemon, ask);
      return;
    }
  lost = nf_daemon_wait_drained (daemon);
  if (*lost)
    nf_ask_fail (ask, "unmounted, but not all could be written:\n%s", lost);
  else
    nf_ask_done (ask);
  nf_ask_keep_open (ask);
}

const NfControlVerb nf_daemon_verbs[] = {
  { "status", status },      { "wait", nf_asks_wait }, { "log", nf_asks_log },
  { "fsck", nf_asks_fsck },  { "map-load", map_load }, { "map-adopt", map_adopt },
  { "umount", umount_verb }, { NULL, NULL },
};
