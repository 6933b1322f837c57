// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "net/dial.h"
#include "net/spawn.h"

/* `transport = ssh`: the system's ssh program, for what libssh can't do (security keys,
 * connection sharing, options that it ignores). A process for each lane; what it prints on
 * standard error is kept for messages. */

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

static void add_option (GPtrArray *args, const char *format, ...) G_GNUC_PRINTF (2, 3);

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

NfTransport *
nf_sshcmd_dial (const NfDialTarget *target, GError **error)
{
  g_autoptr (GPtrArray) args = ssh_args (target);
  NfTransport *transport = nf_fds_new ();

  for (guint i = 0; i < target->lanes; i++)
    {
      NfFdLane lane;

      if (!nf_spawn ((const char *const *)args->pdata, TRUE, &lane, error))
        {
          transport->ops->free (transport, TRUE);
          return NULL;
        }
      nf_fds_add (transport, i, &lane);
    }
  return transport;
}
