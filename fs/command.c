// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/command.h"

#include <stdio.h>
#include <string.h>

#include "map/conf.h"

const NfCommand *
nf_command_find (const char *name)
{
  /* Habits of other programs. */
  if (strcmp (name, "--help") == 0 || strcmp (name, "-h") == 0)
    name = "help";
  else if (strcmp (name, "--version") == 0 || strcmp (name, "-V") == 0)
    name = "version";
  for (const NfCommand *command = nf_commands; command->name; command++)
    if (strcmp (command->name, name) == 0)
      return command;
  return NULL;
}

int
nf_command_unknown (const char *name)
{
  g_autoptr (GPtrArray) names = g_ptr_array_new ();
  const char *nearest;

  for (const NfCommand *command = nf_commands; command->name; command++)
    g_ptr_array_add (names, (gpointer)command->name);
  g_ptr_array_add (names, NULL);
  nearest = nf_conf_nearest (name, (const char *const *)names->pdata);
  if (nearest)
    fprintf (stderr, "nearfs: there is no verb \"%s\"; did you mean \"%s\"?\n", name, nearest);
  else
    fprintf (stderr, "nearfs: there is no verb \"%s\"; see \"nearfs help\"\n", name);
  return NF_EXIT_USAGE;
}

static int fail_with (const char *verb, int status, const char *format, va_list args)
    G_GNUC_PRINTF (3, 0);

static int
fail_with (const char *verb, int status, const char *format, va_list args)
{
  g_autofree char *message = g_strdup_vprintf (format, args);

  fprintf (stderr, "nearfs %s: %s\n", verb, message);
  return status;
}

int
nf_command_fail (const char *verb, int status, const char *format, ...)
{
  va_list args;

  va_start (args, format);
  status = fail_with (verb, status, format, args);
  va_end (args);
  return status;
}

int
nf_command_usage (const char *verb, const char *format, ...)
{
  const NfCommand *command = nf_command_find (verb);
  va_list args;

  va_start (args, format);
  (void)fail_with (verb, NF_EXIT_USAGE, format, args);
  va_end (args);
  if (command)
    fprintf (stderr, "usage: nearfs %s %s\n", verb, command->arguments);
  return NF_EXIT_USAGE;
}

/* GOption writes this itself where it explains a verb. */
static const char *
without_options (const char *arguments)
{
  const char *first = "[OPTION…]";

  return g_str_has_prefix (arguments, first) ? arguments + strlen (first) : arguments;
}

/* The option of ARGV that ENTRIES don't have, without dashes and value. */
static char *
find_unknown (const GOptionEntry *entries, char **argv)
{
  for (char **arg = argv + 1; *arg && strcmp (*arg, "--") != 0; arg++)
    {
      g_autofree char *name = NULL;
      const GOptionEntry *entry = entries;

      if (!g_str_has_prefix (*arg, "--"))
        continue;
      name = g_strndup (*arg + 2, strcspn (*arg + 2, "="));
      while (entry->long_name && strcmp (entry->long_name, name) != 0)
        entry++;
      if (!entry->long_name && strcmp (name, "help") != 0)
        return g_steal_pointer (&name);
    }
  return NULL;
}

static void
suggest_option (const GOptionEntry *entries, char **argv)
{
  g_autoptr (GPtrArray) names = g_ptr_array_new ();
  g_autofree char *unknown = find_unknown (entries, argv);
  const char *nearest;

  if (!unknown)
    return;
  for (const GOptionEntry *entry = entries; entry->long_name; entry++)
    g_ptr_array_add (names, (gpointer)entry->long_name);
  g_ptr_array_add (names, NULL);
  nearest = nf_conf_nearest (unknown, (const char *const *)names->pdata);
  if (nearest)
    fprintf (stderr, "Did you mean --%s?\n", nearest);
}

gboolean
nf_command_parse (const char *verb, const GOptionEntry *entries, int *argc, char ***argv)
{
  const NfCommand *command = nf_command_find (verb);
  g_autofree char *usage
      = g_strdup_printf ("%s — %s", without_options (command->arguments), command->summary);
  g_autofree char *program = g_strdup_printf ("nearfs %s", verb);
  g_autoptr (GOptionContext) context = g_option_context_new (usage);
  g_autoptr (GError) error = NULL;
  g_auto (GStrv) before = g_strdupv (*argv);

  g_option_context_add_main_entries (context, entries, NULL);
  g_option_context_set_description (context, "See nearfs(1).\n");
  /* GOption's usage begins with the program's name, and only asks for it here. */
  g_set_prgname (program);
  gboolean parsed = g_option_context_parse (context, argc, argv, &error);
  g_set_prgname ("nearfs");
  if (parsed)
    return TRUE;
  (void)nf_command_usage (verb, "%s", error->message);
  if (g_error_matches (error, G_OPTION_ERROR, G_OPTION_ERROR_UNKNOWN_OPTION))
    suggest_option (entries, before);
  return FALSE;
}

static void
list_verbs (void)
{
  puts ("usage: nearfs VERB [OPTION…] …\n");
  for (const NfCommand *command = nf_commands; command->name; command++)
    printf ("  %-8s %s\n", command->name, command->summary);
  puts ("\n\"nearfs help VERB\" explains a verb; the manual is nearfs(1).");
}

int
nf_verb_help (int argc, char **argv)
{
  const NfCommand *command;
  char help[] = "--help";

  if (argc < 2)
    return list_verbs (), 0;
  command = nf_command_find (argv[1]);
  if (!command)
    return nf_command_unknown (argv[1]);
  if (command->run == nf_verb_help)
    return list_verbs (), 0;
  return command->run (2, (char *[]){ argv[1], help, NULL });
}
