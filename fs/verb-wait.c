// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <stdio.h>
#include <unistd.h>

#include "fs/client.h"
#include "fs/command.h"

#define CLEAR_LINE "\r\033[K"

/* One line that is written over, for people. */
static void
show_progress (JsonObject *line, gpointer data)
{
  const char *behind = json_object_get_string_member_with_default (line, "behind", "");

  (void)data;
  if (isatty (STDERR_FILENO))
    fprintf (stderr, CLEAR_LINE "waiting%s%s", *behind ? ": " : "", behind);
}

int
nf_verb_wait (int argc, char **argv)
{
  g_autofree char *config = NULL;
  g_autofree char *sites = NULL;
  double timeout_s = -1;
  const GOptionEntry entries[] = {
    { "config", 'c', 0, G_OPTION_ARG_FILENAME, &config, "The site's configuration", "FILE" },
    { "sites", 0, 0, G_OPTION_ARG_STRING, &sites, "For these (default: all)", "all|A,B" },
    { "timeout", 0, 0, G_OPTION_ARG_DOUBLE, &timeout_s, "Give up after S seconds", "S" },
    { .long_name = NULL },
  };
  g_autoptr (NfSiteConf) conf = NULL;
  g_autoptr (GError) error = NULL;
  NfClientAsk ask = { .line = show_progress };

  if (!nf_command_parse ("wait", entries, &argc, &argv))
    return NF_EXIT_USAGE;
  if (argc != 2)
    return nf_command_usage ("wait", "expected one share, or a path in one");
  conf = nf_client_conf (config, NULL, &error);
  if (!conf)
    return nf_client_report ("wait", error);
  ask.request = nf_client_request ("wait");
  nf_client_set_target (ask.request, argv[1]);
  json_object_set_string_member (ask.request, "sites", sites ? sites : "all");
  if (timeout_s >= 0)
    json_object_set_int_member (ask.request, "timeout_ms", (gint64)(timeout_s * 1000));
  gboolean done = nf_client_ask (conf, &ask, NULL, &error);
  if (isatty (STDERR_FILENO))
    fputs (CLEAR_LINE, stderr);
  return done ? 0 : nf_client_report ("wait", error);
}
