// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <stdio.h>

#include "fs/command.h"
#include "net/proto.h"

int
nf_verb_version (int argc, char **argv)
{
  const GOptionEntry entries[] = { { .long_name = NULL } };

  if (!nf_command_parse ("version", entries, &argc, &argv))
    return NF_EXIT_USAGE;
  if (argc > 1)
    return nf_command_usage ("version", "unexpected argument \"%s\"", argv[1]);
  printf ("nearfs %s (protocol %d)\n", PACKAGE_VERSION, NF_PROTO_VERSION);
  return 0;
}
