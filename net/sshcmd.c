// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/dial.h"
#include "net/fds.h"

/* `transport = ssh`: the system's ssh program, for what libssh can't do (security keys, connection sharing, options
 * that it ignores). A process for each lane; what it prints on standard error is kept for messages. */

/* known_hosts' form of a host. */
static char *
host_pattern (const char *host, guint port)
{
  return port == 0 || port == 22 ? g_strdup (host) : g_strdup_printf ("[%s]:%u", host, port);
}

static char *
known_hosts_path (const NfSiteConf *conf)
{
  return conf->known_hosts != NULL
             ? g_strdup (conf->known_hosts)
             : g_build_filename (g_get_home_dir (), ".ssh", "known_hosts", NULL);
}

char *
nf_dial_accept_command (const NfSiteConf *conf, const char *host, guint port)
{
  g_autofree char *path = known_hosts_path (conf);
  g_autofree char *quoted_path = g_shell_quote (path);
  g_autofree char *quoted_host = g_shell_quote (host);

  return g_strdup_printf ("ssh-keyscan -p %u %s >>%s", port == 0 ? 22 : port, quoted_host,
                          quoted_path);
}

char *
nf_dial_forget_command (const NfSiteConf *conf, const char *host, guint port)
{
  g_autofree char *path = known_hosts_path (conf);
  g_autofree char *quoted_path = g_shell_quote (path);
  g_autofree char *pattern = host_pattern (host, port);
  g_autofree char *quoted = g_shell_quote (pattern);

  return g_strdup_printf ("ssh-keygen -R %s -f %s", quoted, quoted_path);
}

static void
add_option (GPtrArray *args, const char *format, ...)
{
  va_list list;

  g_ptr_array_add (args, g_strdup ("-o"));
  va_start (list, format);
  g_ptr_array_add (args, g_strdup_vprintf (format, list));
  va_end (list);
}

static GPtrArray *
ssh_args (const NfDialTarget *target)
{
  const NfSiteConf *conf = target->conf;
  GPtrArray *args = g_ptr_array_new_with_free_func (g_free);

  g_ptr_array_add (args, g_strdup ("ssh"));
  g_ptr_array_add (args, g_strdup ("-T"));
  add_option (args, "BatchMode=yes");
  add_option (args, "StrictHostKeyChecking=yes");
  add_option (args, "ClearAllForwardings=yes");
  add_option (args, "ConnectTimeout=%d", NF_DIAL_TIMEOUT_MS / 1000);
  if (conf->known_hosts != NULL)
    add_option (args, "UserKnownHostsFile=%s", conf->known_hosts);
  if (conf->ssh_config != NULL)
    {
      g_ptr_array_add (args, g_strdup ("-F"));
      g_ptr_array_add (args, g_strdup (conf->ssh_config));
    }
  for (guint i = 0; conf->identities[i] != NULL; i++)
    {
      g_ptr_array_add (args, g_strdup ("-i"));
      g_ptr_array_add (args, g_strdup (conf->identities[i]));
    }
  if (target->port != 0)
    {
      g_ptr_array_add (args, g_strdup ("-p"));
      g_ptr_array_add (args, g_strdup_printf ("%u", target->port));
    }
  g_ptr_array_add (args, g_strdup ("--"));
  g_ptr_array_add (args, g_strdup (target->ssh));
  g_ptr_array_add (args, g_strdup (NF_DIAL_COMMAND));
  g_ptr_array_add (args, NULL);
  return args;
}

/* 0 or an errno. The child has its own session, so that ^C at a terminal is ours alone to act on. */
static int
spawn (char *const *args, int stream_fd, int text_fd, pid_t *ret_pid)
{
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attr;
  sigset_t none, defaults;
  int err;

  sigemptyset (&none);
  sigemptyset (&defaults);
  sigaddset (&defaults, SIGPIPE);
  posix_spawn_file_actions_init (&actions);
  posix_spawn_file_actions_adddup2 (&actions, stream_fd, STDIN_FILENO);
  posix_spawn_file_actions_adddup2 (&actions, stream_fd, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2 (&actions, text_fd, STDERR_FILENO);
  posix_spawnattr_init (&attr);
  posix_spawnattr_setsigmask (&attr, &none);
  posix_spawnattr_setsigdefault (&attr, &defaults);
  posix_spawnattr_setflags (&attr,
                            POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
  err = posix_spawnp (ret_pid, args[0], &actions, &attr, args, environ);
  posix_spawnattr_destroy (&attr);
  posix_spawn_file_actions_destroy (&actions);
  return err;
}

static gboolean
spawn_lane (char *const *args, NfFdLane *ret_lane, GError **error)
{
  int stream[2] = { -1, -1 };
  int text[2] = { -1, -1 };
  pid_t pid = 0;
  int err = 0;

  if (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, stream) < 0
      || pipe2 (text, O_CLOEXEC) < 0)
    err = errno;
  else
    err = spawn (args, stream[1], text[1], &pid);
  if (stream[1] >= 0)
    close (stream[1]);
  if (text[1] >= 0)
    close (text[1]);
  if (err != 0)
    {
      if (stream[0] >= 0)
        close (stream[0]);
      if (text[0] >= 0)
        close (text[0]);
      g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_FAILED, "starting %s: %s", args[0],
                   g_strerror (err));
      return FALSE;
    }
  *ret_lane
      = (NfFdLane){ .in = stream[0], .out = stream[0], .hold = -1, .text = text[0], .pid = pid };
  return TRUE;
}

NfTransport *
nf_sshcmd_dial (const NfDialTarget *target, GError **error)
{
  g_autoptr (GPtrArray) args = ssh_args (target);
  NfTransport *transport = nf_fds_new ();

  for (guint i = 0; i < target->lanes; i++)
    {
      NfFdLane lane;

      if (!spawn_lane ((char *const *)args->pdata, &lane, error))
        {
          transport->ops->free (transport, TRUE);
          return NULL;
        }
      nf_fds_add (transport, i, &lane);
    }
  return transport;
}
