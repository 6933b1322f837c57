// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/background.h"
#include "fs/client.h"
#include "fs/command.h"
#include "fs/daemon.h"
#include "fs/log.h"
#include "fs/mount-options.h"

/* `nearfs mount`, `nearfs serve` and mount.nearfs: the daemon. */

typedef struct
{
  const char *verb;
  NfMountWish wish;
  char *mountpoint; /* absolute; NULL: serve */
  gboolean foreground;
  gboolean verbose;
  int ready_fd; /* -1: none */
} Start;

static void
start_init (Start *start, const char *verb)
{
  *start = (Start){ .verb = verb, .ready_fd = -1 };
  nf_mount_wish_init (&start->wish);
}

static void
start_clear (Start *start)
{
  nf_mount_wish_clear (&start->wish);
  g_free (start->mountpoint);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Start, start_clear)

static gboolean
read_configuration (const Start *start, NfSiteConf **ret_conf, NfMap **ret_map, GError **error)
{
  g_autoptr (NfSiteConf) conf = nf_client_conf (start->wish.config, start->wish.site, error);
  g_autoptr (NfMap) map = conf ? nf_map_load (conf->map, error) : NULL;

  if (!map || !nf_map_check_site (map, conf, error))
    return FALSE;
  *ret_conf = g_steal_pointer (&conf);
  *ret_map = g_steal_pointer (&map);
  return TRUE;
}

/* Scripts wait for this line; the background's parent has its own way. */
static void
announce (Start *start)
{
  if (start->ready_fd >= 0)
    {
      if (write (start->ready_fd, "ready\n", strlen ("ready\n")) < 0)
        nf_log (G_LOG_LEVEL_WARNING, NULL, "--ready-fd %d: %s", start->ready_fd,
                g_strerror (errno));
      close (start->ready_fd);
    }
  nf_log_echo (FALSE);
  nf_background_ready ();
}

static int
run (Start *start, NfSiteConf *conf, NfMap *map)
{
  NfMountOptions options = {
    .mountpoint = start->mountpoint,
    .allow_other = geteuid () == 0,
    .read_only = start->wish.read_only,
    .suid = start->wish.suid,
    .dev = start->wish.dev,
    .options = nf_mount_wish_fuse (&start->wish),
    .debug = start->wish.debug,
    .no_pass = start->wish.no_pass,
    .local_locks = start->wish.local_locks,
  };
  g_autoptr (GError) error = NULL;
  g_autoptr (NfDaemon) daemon
      = nf_daemon_new (conf, map, start->mountpoint ? &options : NULL, &error);

  if (!daemon)
    return nf_command_fail (start->verb, 1, "%s", error->message);
  announce (start);
  return nf_daemon_run (daemon);
}

static int
start_daemon (Start *start)
{
  g_autoptr (NfSiteConf) conf = NULL;
  g_autoptr (NfMap) map = NULL;
  g_autoptr (GError) error = NULL;
  int err = 0;

  if (!read_configuration (start, &conf, &map, &error))
    return nf_command_fail (start->verb, 1, "%s", error->message);
  if (start->ready_fd >= 0 && fcntl (start->ready_fd, F_SETFD, FD_CLOEXEC) != 0)
    return nf_command_usage (start->verb, "--ready-fd %d: %s", start->ready_fd, g_strerror (errno));
  if (!start->foreground)
    err = nf_background_start ();
  if (err != 0)
    return nf_command_fail (start->verb, 1, "can't go to the background: %s", g_strerror (-err));
  nf_daemon_prepare ();
  nf_log_init (start->verbose);
  if (start->wish.log_file && !nf_log_to_file (start->wish.log_file, &error))
    return nf_command_fail (start->verb, 1, "%s", error->message);
  if (!start->foreground)
    {
      nf_log_to_system ();
      nf_log_echo (TRUE);
    }
  return run (start, conf, map);
}

/* Absolute, as the daemon leaves the directory in which it was started. */
static gboolean
set_mountpoint (Start *start, const char *path, GError **error)
{
  char *real = realpath (path, NULL);

  /* A mount whose daemon has died can't be resolved; the mount itself says what to do about it. */
  if (!real && errno != ENOTCONN)
    {
      g_set_error (error, G_FILE_ERROR, g_file_error_from_errno (errno), "%s: %s", path,
                   g_strerror (errno));
      return FALSE;
    }
  start->mountpoint = real ? g_strdup (real) : g_canonicalize_filename (path, NULL);
  free (real);
  return TRUE;
}

static gboolean
take_options (Start *start, char **options, GError **error)
{
  for (char **text = options; text && *text; text++)
    if (!nf_mount_wish_parse (&start->wish, *text, FALSE, error))
      return FALSE;
  return TRUE;
}

int
nf_verb_mount (int argc, char **argv)
{
  g_auto (Start) start;
  g_auto (GStrv) options = NULL;
  g_autoptr (GError) error = NULL;

  start_init (&start, "mount");
  const GOptionEntry entries[] = {
    { "config", 'c', 0, G_OPTION_ARG_FILENAME, &start.wish.config, "The site's configuration",
      "FILE" },
    { "site", 0, 0, G_OPTION_ARG_STRING, &start.wish.site, "This site's name, if FILE has none",
      "NAME" },
    { "foreground", 'f', 0, G_OPTION_ARG_NONE, &start.foreground, "Stay in the foreground", NULL },
    { "options", 'o', 0, G_OPTION_ARG_STRING_ARRAY, &options,
      "Mount options: ro, suid, dev, noexec, …", "OPTIONS" },
    { "ready-fd", 0, 0, G_OPTION_ARG_INT, &start.ready_fd,
      "Write \"ready\" to N when the mount is up", "N" },
    { "log-file", 0, 0, G_OPTION_ARG_FILENAME, &start.wish.log_file, "Log to FILE", "FILE" },
    { "verbose", 'v', 0, G_OPTION_ARG_NONE, &start.verbose, "Log what goes on in detail", NULL },
    { .long_name = NULL },
  };

  if (!nf_command_parse ("mount", entries, &argc, &argv))
    return NF_EXIT_USAGE;
  if (argc != 2)
    return nf_command_usage ("mount", "expected one mount point");
  if (!take_options (&start, options, &error) || !set_mountpoint (&start, argv[1], &error))
    return nf_command_usage ("mount", "%s", error->message);
  return start_daemon (&start);
}

int
nf_verb_serve (int argc, char **argv)
{
  g_auto (Start) start;
  gboolean background = FALSE;

  start_init (&start, "serve");
  const GOptionEntry entries[] = {
    { "config", 'c', 0, G_OPTION_ARG_FILENAME, &start.wish.config, "The site's configuration",
      "FILE" },
    { "site", 0, 0, G_OPTION_ARG_STRING, &start.wish.site, "This site's name, if FILE has none",
      "NAME" },
    { "background", 'b', 0, G_OPTION_ARG_NONE, &background, "Go to the background", NULL },
    { "foreground", 'f', 0, G_OPTION_ARG_NONE, &start.foreground,
      "Stay in the foreground (as it does)", NULL },
    { "ready-fd", 0, 0, G_OPTION_ARG_INT, &start.ready_fd,
      "Write \"ready\" to N when the site is up", "N" },
    { "log-file", 0, 0, G_OPTION_ARG_FILENAME, &start.wish.log_file, "Log to FILE", "FILE" },
    { "verbose", 'v', 0, G_OPTION_ARG_NONE, &start.verbose, "Log what goes on in detail", NULL },
    { .long_name = NULL },
  };

  if (!nf_command_parse ("serve", entries, &argc, &argv))
    return NF_EXIT_USAGE;
  if (argc != 1)
    return nf_command_usage ("serve", "unexpected argument \"%s\"", argv[1]);
  start.foreground = !background;
  return start_daemon (&start);
}

/* mount(8)'s helper. */

static int
helper_usage (void)
{
  fputs ("usage: mount.nearfs SITE-CONF|none MOUNTPOINT [-sfnv] [-N NAMESPACE] [-o OPTIONS]\n",
         stderr);
  return 1; /* mount(8): incorrect invocation */
}

typedef struct
{
  gboolean sloppy;
  gboolean fake;
  const char *options;
} HelperFlags;

static gboolean
parse_helper_flags (int argc, char **argv, Start *start, HelperFlags *ret_flags)
{
  int c;

  while ((c = getopt (argc, argv, "sfnvN:o:t:")) != -1)
    switch (c)
      {
      case 's':
        ret_flags->sloppy = TRUE;
        break;
      case 'f':
        ret_flags->fake = TRUE;
        break;
      case 'v':
        start->verbose = TRUE;
        break;
      case 'o':
        ret_flags->options = optarg;
        break;
      case 'n': /* there is no /etc/mtab to leave alone */
      case 't':
        break;
      default: /* -N too: mount(8) has changed the namespace already, or can't */
        return FALSE;
      }
  return argc - optind == 2;
}

int
nf_verb_mount_helper (int argc, char **argv)
{
  g_auto (Start) start;
  HelperFlags flags = { 0 };
  g_autoptr (GError) error = NULL;

  start_init (&start, "mount");
  if (!parse_helper_flags (argc, argv, &start, &flags))
    return helper_usage ();
  if (!g_str_equal (argv[optind], "none") && !g_str_equal (argv[optind], "nearfs"))
    start.wish.config = g_strdup (argv[optind]);
  if ((flags.options && !nf_mount_wish_parse (&start.wish, flags.options, flags.sloppy, &error))
      || !set_mountpoint (&start, argv[optind + 1], &error))
    return nf_command_fail ("mount", 1, "%s", error->message);
  if (flags.fake)
    {
      g_autoptr (NfSiteConf) conf = NULL;
      g_autoptr (NfMap) map = NULL;
      if (!read_configuration (&start, &conf, &map, &error))
        return nf_command_fail ("mount", 1, "%s", error->message);
      return 0;
    }
  return start_daemon (&start) == 0 ? 0 : 32; /* mount(8): mount failure */
}
