// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "fs/client.h"
#include "fs/command.h"
#include "map/conf.h"
#include "map/map.h"

/* `nearfs map check|show|load|adopt`. Checking and showing need no daemon. */

typedef struct
{
  NfSiteConf *conf;
  gboolean settings;
  int argc; /* what comes after the word */
  char **argv;
} MapVerb;

static NfMap *
load (const MapVerb *verb, GError **error)
{
  const char *file = verb->argc > 0 ? verb->argv[0] : verb->conf->map;
  g_autoptr (NfMap) map = nf_map_load (file, error);

  /* On a machine that isn't a site, a map can still be checked for itself. */
  if (!map || (verb->conf->name && !nf_map_check_site (map, verb->conf, error)))
    return NULL;
  return g_steal_pointer (&map);
}

static int
map_check (const MapVerb *verb)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (NfMap) map = load (verb, &error);

  if (!map)
    return nf_client_report ("map", error);
  for (const char *const *warning = nf_map_warnings (map); *warning; warning++)
    printf ("warning: %s\n", *warning);
  printf ("%s: serial %" G_GUINT64_FORMAT ", %u sites, %u shares: right", nf_map_filename (map),
          nf_map_serial (map), nf_map_n_sites (map), nf_map_n_shares (map));
  if (verb->conf->name)
    printf (" for site %s\n", verb->conf->name);
  else
    printf ("; %s doesn't name this site, so its directories weren't checked\n",
            verb->conf->filename);
  return 0;
}

static void
print_list (const char *title, const char *const *list)
{
  g_autofree char *text = g_strjoinv ("; ", (char **)list);

  printf ("%-13s %s\n", title, *text ? text : "(ssh's)");
}

static void
print_settings (const NfSiteConf *conf)
{
  printf ("%-13s %s\n", "configuration", conf->filename);
  printf ("%-13s %s\n", "name", conf->name ? conf->name : "(not set)");
  printf ("%-13s %s\n", "map", conf->map);
  printf ("%-13s %s\n", "runtime", conf->runtime);
  print_list ("roots", conf->roots);
  print_list ("identity", conf->identities);
  printf ("%-13s %s\n", "known-hosts", conf->known_hosts ? conf->known_hosts : "(ssh's)");
  printf ("%-13s %s\n", "ssh-config", conf->ssh_config ? conf->ssh_config : "(ssh's)");
  printf ("%-13s %s\n", "transport", conf->transport == NF_TRANSPORT_SSH ? "ssh" : "libssh");
  printf ("%-13s %u s\n", "call-timeout", conf->call_timeout_ms / 1000);
  printf ("%-13s %u s\n", "heartbeat", conf->heartbeat_ms / 1000);
  printf ("%-13s %zu MiB\n", "write-buffer", conf->write_buffer_bytes >> 20);
  printf ("%-13s %" G_GUINT64_FORMAT " MiB\n", "journal-size", conf->journal_size_bytes >> 20);
  printf ("%-13s %" G_GUINT64_FORMAT " days\n\n", "journal-age", conf->journal_age_s / 86400);
}

static int
map_show (const MapVerb *verb)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (NfMap) map = NULL;
  g_autofree char *text = NULL;

  if (verb->settings)
    print_settings (verb->conf);
  map = load (verb, &error);
  if (!map)
    return nf_client_report ("map", error);
  text = nf_map_to_text (map, verb->conf->name);
  fputs (text, stdout);
  return 0;
}

static void
print_text (JsonObject *line, gpointer data)
{
  (void)data;
  fputs (json_object_get_string_member_with_default (line, "text", ""), stdout);
}

static int
map_load (const MapVerb *verb)
{
  NfClientAsk ask = { .line = print_text };
  g_autoptr (GError) error = NULL;

  if (verb->argc > 0)
    return nf_command_usage ("map",
                             "load takes no file: the daemon loads %s, as its configuration says",
                             verb->conf->map);
  ask.request = nf_client_request ("map-load");
  return nf_client_ask (verb->conf, &ask, NULL, &error) ? 0 : nf_client_report ("map", error);
}

static int
map_adopt (const MapVerb *verb)
{
  NfClientAsk ask = { 0 };
  g_autoptr (GError) error = NULL;

  if (verb->argc != 1)
    return nf_command_usage ("map", "adopt: expected one share");
  ask.request = nf_client_request ("map-adopt");
  json_object_set_string_member (ask.request, "share", verb->argv[0]);
  return nf_client_ask (verb->conf, &ask, NULL, &error) ? 0 : nf_client_report ("map", error);
}

static const struct
{
  const char *word;
  int (*run) (const MapVerb *verb);
} words[] = {
  { "check", map_check },
  { "show", map_show },
  { "load", map_load },
  { "adopt", map_adopt },
};

static int
unknown_word (const char *word)
{
  const char *names[G_N_ELEMENTS (words) + 1] = { NULL };
  const char *nearest;

  for (gsize i = 0; i < G_N_ELEMENTS (words); i++)
    names[i] = words[i].word;
  nearest = nf_conf_nearest (word, names);
  return nf_command_usage ("map", "unknown \"%s\"; %s%s%s", word,
                           nearest ? "did you mean \"" : "expected check, show, load or adopt",
                           nearest ? nearest : "", nearest ? "\"?" : "");
}

int
nf_verb_map (int argc, char **argv)
{
  g_autofree char *config = NULL;
  g_autofree char *site = NULL;
  MapVerb verb = { 0 };
  const GOptionEntry entries[] = {
    { "config", 'c', 0, G_OPTION_ARG_FILENAME, &config, "The site's configuration", "FILE" },
    { "site", 0, 0, G_OPTION_ARG_STRING, &site, "This site's name, if FILE has none", "NAME" },
    { "settings", 0, 0, G_OPTION_ARG_NONE, &verb.settings, "show: the site's settings too", NULL },
    { .long_name = NULL },
  };
  g_autoptr (NfSiteConf) conf = NULL;
  g_autoptr (GError) error = NULL;

  if (!nf_command_parse ("map", entries, &argc, &argv))
    return NF_EXIT_USAGE;
  if (argc < 2 || argc > 3)
    return nf_command_usage ("map", "expected check, show, load or adopt");
  conf = nf_client_conf (config, site, &error);
  if (!conf)
    return nf_client_report ("map", error);
  verb.conf = conf;
  verb.argc = argc - 2;
  verb.argv = argv + 2;
  for (gsize i = 0; i < G_N_ELEMENTS (words); i++)
    if (strcmp (argv[1], words[i].word) == 0)
      return words[i].run (&verb);
  return unknown_word (argv[1]);
}
