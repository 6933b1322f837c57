// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/mount.h"
#include "tests/mount/fake-share.h"

/* nf-fake-mount MOUNTPOINT PATH=DIR…: mounts fake shares, prints "mounted", and does what lines on
 * its standard input say, each answered by a line. At their end, or the mount's, it stops. */

#define SHARES_MAX 8

static NfMount *mount;
static struct
{
  char *path;
  NfShare *share;
  gboolean shown;
} shares[SHARES_MAX];
static guint n_shares;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static gboolean ended; /* guarded by lock */

static int
show (guint i)
{
  int err = nf_mount_add_share (mount, shares[i].path, shares[i].share);

  shares[i].shown = err == 0;
  return err;
}

/* inval KIND SHARE FILE-OR-DIRECTORY [NAME]: as the share would, of what was changed behind the
 * mount. */
static int
invalidate (char **words, guint n)
{
  static const char *const kinds[] = { "name", "attr", "data", "switch", "gone", "all" };
  NfInval inval = { 0 };
  guint share = n > 2 ? (guint)atoi (words[2]) : 0;

  for (guint i = 0; i < G_N_ELEMENTS (kinds); i++)
    if (g_str_equal (words[1], kinds[i]))
      inval.kind = (NfInvalKind)i;
  const char *path = n > 3 ? words[3] : "";
  NfFid fid = g_ascii_isdigit (path[0]) ? g_ascii_strtoull (path, NULL, 10)
                                        : fake_share_fid (shares[share].share, path);
  if (inval.kind == NF_INVAL_NAME)
    inval.parent = fid;
  else
    inval.fid = fid;
  if (n > 4)
    inval.name = nf_slice_str (words[4]);
  nf_mount_invalidate (mount, shares[share].share, &inval);
  return 0;
}

static int
set_mode (const char *word, guint share)
{
  FakeMode mode = g_str_equal (word, "held")    ? FAKE_HELD
                  : g_str_equal (word, "async") ? FAKE_ASYNC
                                                : FAKE_SYNC;

  fake_share_set (shares[share].share, mode);
  return 0;
}

static int
obey (char **words, guint n)
{
  guint share = n > 1 ? (guint)atoi (words[n - 1]) : 0;

  if (g_str_equal (words[0], "mode"))
    return set_mode (words[1], n > 2 ? share : 0);
  if (g_str_equal (words[0], "inval"))
    return invalidate (words, n);
  if (g_str_equal (words[0], "flush"))
    return nf_mount_flush_invals (mount), 0;
  if (g_str_equal (words[0], "held"))
    return (int)fake_share_held (shares[share].share);
  if (g_str_equal (words[0], "files"))
    return (int)fake_share_files (shares[share].share);
  if (g_str_equal (words[0], "fid"))
    return (int)fake_share_fid (shares[0].share, n > 1 ? words[1] : "");
  if (g_str_equal (words[0], "show"))
    return show (share);
  if (!g_str_equal (words[0], "hide"))
    return -ENOSYS;
  nf_mount_remove_share (mount, shares[share].share);
  return 0;
}

static void *
read_commands (void *data)
{
  char line[8192];

  (void)data;
  while (fgets (line, sizeof line, stdin))
    {
      g_auto (GStrv) words = g_strsplit (g_strchomp (line), " ", -1);
      if (!words[0])
        continue;
      printf ("%d\n", obey (words, g_strv_length (words)));
      fflush (stdout);
    }
  pthread_mutex_lock (&lock);
  if (!ended)
    nf_mount_stop (mount);
  pthread_mutex_unlock (&lock);
  return NULL;
}

int
main (int argc, char **argv)
{
  g_autoptr (GError) error = NULL;
  NfMountOptions options = { .mountpoint = argv[1], .allow_other = geteuid () == 0 };
  pthread_t thread;

  if (argc < 3 || argc - 2 > SHARES_MAX)
    return 2;
  options.no_pass = TRUE; /* the scripts ask what the kernel has cached */
  options.debug = g_getenv ("NF_FUSE_DEBUG") != NULL;
  mount = nf_mount_new (&options, &error);
  if (!mount)
    {
      fprintf (stderr, "%s\n", error->message);
      return 1;
    }
  for (int i = 2; i < argc; i++)
    {
      char *dir = strchr (argv[i], '=');
      shares[n_shares].path = g_strndup (argv[i], (gsize)(dir - argv[i]));
      shares[n_shares].share = fake_share_new (dir + 1);
      int err = show (n_shares++);
      if (err != 0)
        fprintf (stderr, "%s: %s\n", argv[i], g_strerror (-err));
    }
  umask (0); /* the callers' counts, which are in the calls */
  printf ("mounted\n");
  fflush (stdout);
  if (pthread_create (&thread, NULL, read_commands, NULL) != 0 || pthread_detach (thread) != 0)
    return 1;
  int err = nf_mount_run (mount);
  pthread_mutex_lock (&lock);
  ended = TRUE;
  pthread_mutex_unlock (&lock);
  nf_mount_free (mount);
  for (guint i = 0; i < n_shares; i++)
    {
      fake_share_free (shares[i].share);
      g_free (shares[i].path);
    }
  printf ("ended %d\n", err);
  fflush (stdout);
  _exit (err != 0); /* the other thread may still be reading */
}
