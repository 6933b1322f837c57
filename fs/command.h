// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <glib.h>

/* The program's verbs. Each is in its own file (verb-NAME.c); the table is in main.c. */

/* What the caller did wrong: an unknown verb, option or argument. */
#define NF_EXIT_USAGE 2
#define NF_EXIT_FSCK_USAGE 16
/* The daemon doesn't answer. */
#define NF_EXIT_NO_DAEMON 2

/* ARGV[0] is the verb. Returns the exit status. */
typedef int (*NfVerb) (int argc, char **argv);

int nf_verb_help (int argc, char **argv);
int nf_verb_fsck (int argc, char **argv);
int nf_verb_quarantine (int argc, char **argv);
int nf_verb_log (int argc, char **argv);
int nf_verb_map (int argc, char **argv);
int nf_verb_mount (int argc, char **argv);
int nf_verb_relay (int argc, char **argv);
int nf_verb_serve (int argc, char **argv);
int nf_verb_status (int argc, char **argv);
int nf_verb_umount (int argc, char **argv);
int nf_verb_version (int argc, char **argv);
int nf_verb_wait (int argc, char **argv);

/* What mount(8) runs: mount.nearfs SITE-CONF-OR-none MOUNTPOINT [-sfnv] [-o OPTIONS]. */
int nf_verb_mount_helper (int argc, char **argv);

typedef struct
{
  const char *name;
  NfVerb run;
  const char *arguments; /* "[OPTION…] PATH", for the usage */
  const char *summary;   /* one line */
} NfCommand;

/* The table, ended by a name of NULL. */
extern const NfCommand nf_commands[];
const NfCommand *nf_command_find (const char *name);
/* Prints what NAME was probably meant to be, and returns NF_EXIT_USAGE. */
int nf_command_unknown (const char *name);

/* Takes the options of a verb (and --help, which ends the program) out of ARGV. FALSE: an error
 * was printed, with the option that was probably meant; exit with NF_EXIT_USAGE. */
gboolean nf_command_parse (const char *verb, const GOptionEntry *entries, int *argc, char ***argv);
/* Prints "nearfs VERB: MESSAGE" and the usage's line, and returns NF_EXIT_USAGE. */
int nf_command_usage (const char *verb, const char *format, ...) G_GNUC_PRINTF (2, 3);
/* Prints "nearfs VERB: MESSAGE" and returns STATUS. */
int nf_command_fail (const char *verb, int status, const char *format, ...) G_GNUC_PRINTF (3, 4);
