// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <locale.h>
#include <string.h>

#include "fs/command.h"

const NfCommand nf_commands[] = {
  { "mount", nf_verb_mount, "[OPTION…] MOUNTPOINT",
    "mount the namespace and talk to the other sites" },
  { "serve", nf_verb_serve, "[OPTION…]", "talk to the other sites, with no mount" },
  { "umount", nf_verb_umount, "[OPTION…] [MOUNTPOINT]",
    "wait for what is being written, and unmount" },
  { "status", nf_verb_status, "[OPTION…]", "where each share and each other site stands" },
  { "wait", nf_verb_wait, "[OPTION…] PATH|SHARE", "wait until other sites have what is here" },
  { "log", nf_verb_log, "[OPTION…] PATH|SHARE", "what has changed in a share" },
  { "fsck", nf_verb_fsck, "[OPTION…] [PATH|SHARE…]",
    "compare a replica with the primary, and repair it" },
  { "quarantine", nf_verb_quarantine, "list|show|restore|drop …", "what was replaced, and kept" },
  { "map", nf_verb_map, "check|show|load|adopt …", "check, show or load the server map" },
  { "relay", nf_verb_relay, "--site NAME", "what sshd runs for another site" },
  { "version", nf_verb_version, "", "print the version" },
  { "help", nf_verb_help, "[VERB]", "explain a verb" },
  { NULL, NULL, NULL, NULL },
};

/* The name by which we were called says what to do, for mount(8) and fsck(8). */
static int
run_as (const char *name, int argc, char **argv)
{
  if (strcmp (name, "mount.nearfs") == 0)
    return nf_verb_mount_helper (argc, argv);
  if (strcmp (name, "fsck.nearfs") == 0)
    return nf_verb_fsck (argc, argv);
  return -1;
}

int
main (int argc, char **argv)
{
  g_autofree char *name = g_path_get_basename (argc > 0 ? argv[0] : "nearfs");
  const NfCommand *command;
  int status;

  (void)setlocale (LC_ALL, ""); /* for error texts; without a locale they are English */
  g_set_prgname ("nearfs");
  status = run_as (name, argc, argv);
  if (status >= 0)
    return status;
  if (argc < 2)
    return nf_verb_help (0, NULL), NF_EXIT_USAGE;
  command = nf_command_find (argv[1]);
  if (!command)
    return nf_command_unknown (argv[1]);
  return command->run (argc - 1, argv + 1);
}
