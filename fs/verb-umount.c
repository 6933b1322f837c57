// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <stdio.h>
#include <stdlib.h>

#include "fs/busy.h"
#include "fs/client.h"
#include "fs/command.h"

static void
name_users (JsonObject *line, gpointer data)
{
  const char *mountpoint = json_object_get_string_member_with_default (line, "busy", NULL);
  g_autofree char *list = mountpoint ? nf_busy_list (mountpoint) : NULL;

  (void)data;
  if (list && *list)
    fprintf (stderr, "%s", list);
  else if (list)
    fputs ("The processes that use it aren't yours to see; ask as root.\n", stderr);
}

static int
report (const GError *error, const char *mountpoint)
{
  int status = nf_client_report ("umount", error);

  if (status == NF_EXIT_NO_DAEMON && mountpoint)
    fprintf (stderr,
             "If the daemon has died, \"fusermount3 -u -z %s\" takes the dead mount away.\n",
             mountpoint);
  return status;
}

int
nf_verb_umount (int argc, char **argv)
{
  g_autofree char *config = NULL;
  gboolean lazy = FALSE;
  const GOptionEntry entries[] = {
    { "config", 'c', 0, G_OPTION_ARG_FILENAME, &config, "The site's configuration", "FILE" },
    { "lazy", 'l', 0, G_OPTION_ARG_NONE, &lazy,
      "Also if it is in use: its users get errors from then on", NULL },
    { .long_name = NULL },
  };
  g_autoptr (NfSiteConf) conf = NULL;
  g_autoptr (GError) error = NULL;
  g_autofree char *mountpoint = NULL;
  NfClientAsk ask = { .line = name_users, .until_end = TRUE };

  if (!nf_command_parse ("umount", entries, &argc, &argv))
    return NF_EXIT_USAGE;
  if (argc > 2)
    return nf_command_usage ("umount", "expected one mount point");
  conf = nf_client_conf (config, NULL, &error);
  if (!conf)
    return nf_client_report ("umount", error);
  ask.request = nf_client_request ("umount");
  if (argc == 2)
    {
      char *real = realpath (argv[1], NULL);
      mountpoint = g_canonicalize_filename (real ? real : argv[1], NULL);
      free (real);
      json_object_set_string_member (ask.request, "mountpoint", mountpoint);
    }
  json_object_set_boolean_member (ask.request, "lazy", lazy);
  return nf_client_ask (conf, &ask, NULL, &error) ? 0 : report (error, mountpoint);
}
