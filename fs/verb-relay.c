// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/command.h"
#include "net/relay.h"

/* nearfs relay: sshd's forced command for another site. What the peer asked to run (SSH_ORIGINAL_COMMAND) is of no
 * interest: the key alone says who it is. */
int
nf_verb_relay (int argc, char **argv)
{
  g_autofree char *config = NULL;
  g_autofree char *site = NULL;
  const GOptionEntry entries[]
      = { { "site", 0, 0, G_OPTION_ARG_STRING, &site, "the site whose key runs this", "NAME" },
          { "config", 'c', 0, G_OPTION_ARG_FILENAME, &config, "this site's configuration", "FILE" },
          { .long_name = NULL } };
  g_autoptr (NfSiteConf) conf = NULL;
  g_autoptr (GError) error = NULL;

  if (!nf_command_parse ("relay", entries, &argc, &argv))
    return NF_EXIT_USAGE;
  if (argc > 1)
    return nf_command_usage ("relay", "unexpected argument \"%s\"", argv[1]);
  if (site == NULL)
    return nf_command_usage ("relay", "--site is missing: the forced command in authorized_keys must name the site "
                                      "that the key belongs to");
  conf = nf_site_conf_load (config, &error);
  if (conf == NULL)
    return nf_command_fail ("relay", 1, "%s", error->message);
  return nf_relay_run (conf, site);
}
