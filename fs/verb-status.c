// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <stdio.h>

#include "fs/client.h"
#include "fs/command.h"
#include "fs/status-table.h"

/* "100" (changes) or "30s". */
static gboolean
parse_max_lag (const char *text, NfMaxLag *ret_lag)
{
  char *end;
  guint64 number = g_ascii_strtoull (text, &end, 10);

  if (!g_ascii_isdigit (*text) || (*end && !g_str_equal (end, "s")))
    return FALSE;
  ret_lag->in_seconds = *end == 's';
  ret_lag->number = number;
  return TRUE;
}

static void
print_json (JsonNode *report)
{
  g_autofree char *text = json_to_string (report, TRUE);

  puts (text);
}

int
nf_verb_status (int argc, char **argv)
{
  g_autofree char *config = NULL;
  g_autofree char *max_lag = NULL;
  gboolean json = FALSE;
  NfMaxLag lag = { 0 };
  const GOptionEntry entries[] = {
    { "config", 'c', 0, G_OPTION_ARG_FILENAME, &config, "The site's configuration", "FILE" },
    { "json", 0, 0, G_OPTION_ARG_NONE, &json, "Print JSON", NULL },
    { "max-lag", 0, 0, G_OPTION_ARG_STRING, &max_lag,
      "Changes, or seconds, that still count as in step", "N|Ns" },
    { .long_name = NULL },
  };
  g_autoptr (NfSiteConf) conf = NULL;
  g_autoptr (GError) error = NULL;
  g_autoptr (JsonNode) report = NULL;
  NfClientAsk ask = { 0 };

  if (!nf_command_parse ("status", entries, &argc, &argv))
    return NF_EXIT_USAGE;
  if (argc != 1)
    return nf_command_usage ("status", "unexpected argument \"%s\"", argv[1]);
  if (max_lag && !parse_max_lag (max_lag, &lag))
    return nf_command_usage (
        "status", "--max-lag %s: expected a number of changes, or of seconds as in 30s", max_lag);
  conf = nf_client_conf (config, NULL, &error);
  if (!conf)
    return nf_client_report ("status", error);
  ask.request = nf_client_request ("status");
  if (!nf_client_ask (conf, &ask, &report, &error))
    return nf_client_report ("status", error);
  if (!report || !JSON_NODE_HOLDS_OBJECT (report))
    return nf_command_fail ("status", 1, "the daemon's answer can't be read");
  if (json)
    print_json (report);
  else
    nf_status_print (json_node_get_object (report));
  return nf_status_in_step (json_node_get_object (report), &lag) ? 0 : 1;
}
