// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <stdio.h>

#include "fs/client.h"
#include "fs/command.h"

static void
print_line (JsonObject *line, gpointer data)
{
  (void)data;
  puts (json_object_get_string_member_with_default (line, "line", ""));
  (void)fflush (stdout); /* who follows it through a pipe wants it now */
}

int
nf_verb_log (int argc, char **argv)
{
  g_autofree char *config = NULL;
  gint64 since = -1;
  gboolean follow = FALSE;
  const GOptionEntry entries[] = {
    { "config", 'c', 0, G_OPTION_ARG_FILENAME, &config, "The site's configuration", "FILE" },
    { "since", 0, 0, G_OPTION_ARG_INT64, &since, "Only what came after the change of number SEQ",
      "SEQ" },
    { "follow", 'f', 0, G_OPTION_ARG_NONE, &follow, "Go on with what comes", NULL },
    { .long_name = NULL },
  };
  g_autoptr (NfSiteConf) conf = NULL;
  g_autoptr (GError) error = NULL;
  NfClientAsk ask = { .line = print_line };

  if (!nf_command_parse ("log", entries, &argc, &argv))
    return NF_EXIT_USAGE;
  if (argc != 2)
    return nf_command_usage ("log", "expected one share, or a path in one");
  conf = nf_client_conf (config, NULL, &error);
  if (!conf)
    return nf_client_report ("log", error);
  ask.request = nf_client_request ("log");
  nf_client_set_target (ask.request, argv[1]);
  json_object_set_int_member (ask.request, "since", since);
  json_object_set_boolean_member (ask.request, "follow", follow);
  return nf_client_ask (conf, &ask, NULL, &error) ? 0 : nf_client_report ("log", error);
}
