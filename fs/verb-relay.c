// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/client.h"
#include "fs/command.h"
#include "net/relay.h"

/* What sshd runs for another site. The name comes from the forced command, which is ours; what the peer asked for
 * (SSH_ORIGINAL_COMMAND) isn't looked at. Standard output is the peer's: nothing is printed there. */
int
nf_verb_relay (int argc, char **argv)
{
  g_autofree char *config = NULL;
  g_autofree char *site = NULL;
  const GOptionEntry entries[] = {
    { "config", 'c', 0, G_OPTION_ARG_FILENAME, &config, "The site's configuration", "FILE" },
    { "site", 0, 0, G_OPTION_ARG_STRING, &site, "The site whose key this is", "NAME" },
    { .long_name = NULL },
  };
  g_autoptr (NfSiteConf) conf = NULL;
  g_autoptr (GError) error = NULL;

  if (!nf_command_parse ("relay", entries, &argc, &argv))
    return NF_EXIT_USAGE;
  if (argc != 1 || !site)
    return nf_command_usage ("relay", "expected --site NAME");
  conf = nf_client_conf (config, NULL, &error);
  if (!conf)
    return nf_client_report ("relay", error);
  return nf_relay_run (conf, site);
}
