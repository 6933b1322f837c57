// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fs/client.h"
#include "fs/command.h"
#include "fs/own-daemon.h"

/* The exit status is a sum of these, as fsck(8) has them. */
#define REPAIRED 1
#define LEFT 4
#define FAILED 8
#define CANCELLED 32

#define CLEAR_LINE "\r\033[K"
#define BAR_WIDTH 24

/* MB a second; more is no limit. */
#define RATE_MAX 1e6

typedef struct
{
  gboolean json;
  gboolean quiet; /* no findings: they were shown already */
  const char *target;
  gint64 begun_us;
  JsonArray *findings; /* with json */
} Show;

/* ---- what a person sees ---- */

static void
clear_progress (void)
{
  if (isatty (STDERR_FILENO))
    fputs (CLEAR_LINE, stderr);
}

static gint64
number (JsonObject *object, const char *name)
{
  return json_object_get_int_member_with_default (object, name, 0);
}

static void
show_progress (const Show *show, JsonObject *counts)
{
  gint64 done = number (counts, "entries");
  gint64 total = MAX (number (counts, "total"), MAX (done, 1));
  double seconds = (double)(g_get_monotonic_time () - show->begun_us) / 1e6;
  double rate = seconds > 0 ? (double)done / seconds : 0;
  int filled = (int)(done * BAR_WIDTH / total);

  if (!isatty (STDERR_FILENO))
    return;
  fprintf (stderr, CLEAR_LINE "comparing [%.*s%*s] %" G_GINT64_FORMAT " of about %" G_GINT64_FORMAT,
           filled, "########################", BAR_WIDTH - filled, "", done, total);
  if (number (counts, "bytes") > 0)
    fprintf (stderr, ", %.1f MB", (double)number (counts, "bytes") / 1e6);
  fprintf (stderr, ", %.0f/s", rate);
  if (rate > 0 && done < total)
    fprintf (stderr, ", %.0f s left", (double)(total - done) / rate);
  if (number (counts, "found") > 0)
    fprintf (stderr, ", %" G_GINT64_FORMAT " found", number (counts, "found"));
}

static void
print_codes (JsonArray *codes)
{
  for (guint i = 0; i < json_array_get_length (codes); i++)
    printf ("%s%s", i > 0 ? "," : "", json_array_get_string_element (codes, i));
}

static void
show_finding (Show *show, JsonObject *finding)
{
  gboolean left = json_object_get_boolean_member_with_default (finding, "left", FALSE);

  if (show->json)
    json_array_add_object_element (show->findings, json_object_ref (finding));
  if (show->json || (show->quiet && !left))
    return;
  clear_progress ();
  printf ("%s/%s: ", left ? "not repaired: " : "",
          json_object_get_string_member_with_default (finding, "path", "?"));
  print_codes (json_object_get_array_member (finding, "codes"));
  printf (": %s\n", json_object_get_string_member_with_default (finding, "detail", ""));
  (void)fflush (stdout);
}

static void
take_line (JsonObject *line, gpointer data)
{
  if (json_object_has_member (line, "finding"))
    show_finding (data, json_object_get_object_member (line, "finding"));
  else if (json_object_has_member (line, "progress"))
    show_progress (data, json_object_get_object_member (line, "progress"));
}

/* The primary's directory is right, whatever is found in it. */
static void
show_primary_summary (JsonObject *counts, gboolean repair)
{
  gint64 found = number (counts, "found");
  gint64 left = number (counts, "left");

  printf ("%s: %" G_GINT64_FORMAT " entries looked at",
          json_object_get_string_member_with_default (counts, "share", "?"),
          number (counts, "entries"));
  if (found == 0)
    printf (": clean\n");
  else if (!repair)
    printf (": %" G_GINT64_FORMAT " changes were made behind the proxy\n", found);
  else
    printf (": %" G_GINT64_FORMAT " changes were made behind the proxy, %" G_GINT64_FORMAT
            " are taken over\n",
            found, found - left);
  if (repair && left > 0)
    printf (
        "%" G_GINT64_FORMAT " entries are gone, which is more than somebody is likely to have "
        "removed. If they are to go at\nall sites, say --allow-delete; else bring them back from "
        "another site's directory or a backup.\n",
        left);
}

static void
show_summary (JsonObject *counts, gboolean repair)
{
  gint64 found = number (counts, "found");
  gint64 busy = number (counts, "busy");

  printf ("%s: %" G_GINT64_FORMAT " entries compared",
          json_object_get_string_member_with_default (counts, "share", "?"),
          number (counts, "entries"));
  if (number (counts, "bytes") > 0)
    printf (", %.1f MB of content", (double)number (counts, "bytes") / 1e6);
  if (found == 0)
    printf (": clean\n");
  else if (!repair)
    printf (": %" G_GINT64_FORMAT " differ\n", found);
  else if (number (counts, "left") == 0)
    printf (": %" G_GINT64_FORMAT " differed, all repaired\n", found);
  else
    printf (": %" G_GINT64_FORMAT " differed, %" G_GINT64_FORMAT " differ still\n", found,
            number (counts, "left"));
  if (busy > 0)
    printf ("%" G_GINT64_FORMAT " changed each time they were looked at, and aren't compared\n",
            busy);
}

static void
print_json (JsonObject *counts, JsonArray *findings)
{
  g_autoptr (JsonNode) node = json_node_new (JSON_NODE_OBJECT);
  g_autofree char *text = NULL;

  json_object_set_array_member (counts, "findings", json_array_ref (findings));
  json_node_set_object (node, counts);
  text = json_to_string (node, TRUE);
  puts (text);
}

/* ---- asking ---- */

/* A daemon that is here for our sake, or -1. */
static volatile sig_atomic_t own_daemon = -1;

/* Ctrl-C: the daemon sees that we have gone, and ends the comparison; what is being repaired comes to its end. */
static void
cancelled (int signal_number)
{
  (void)signal_number;
  if (own_daemon > 0)
    (void)kill (own_daemon, SIGTERM);
  _exit (CANCELLED);
}

typedef struct
{
  const NfSiteConf *conf;
  gboolean content;
  gboolean json;
  gboolean allow_delete;
  gint64 rate;  /* bytes a second; 0: as fast as it goes */
  gboolean ask; /* the person, before anything is repaired */
} Options;

typedef struct
{
  gint64 found;
  gboolean primary; /* it is the primary's directory */
} Outcome;

/* TARGET: a share or a path. Returns an exit status. */
static int
compare (const Options *options, const char *target, gboolean repair, gboolean quiet,
         Outcome *ret_outcome)
{
  Show show = { options->json, quiet, target, g_get_monotonic_time (), NULL };
  g_autoptr (JsonArray) findings = json_array_new ();
  g_autoptr (JsonNode) result = NULL;
  g_autoptr (GError) error = NULL;
  NfClientAsk ask = { .request = nf_client_request ("fsck"), .line = take_line, .data = &show };

  show.findings = findings;
  nf_client_set_target (ask.request, target);
  json_object_set_boolean_member (ask.request, "repair", repair);
  json_object_set_boolean_member (ask.request, "content", options->content);
  json_object_set_boolean_member (ask.request, "allow-delete", options->allow_delete);
  json_object_set_int_member (ask.request, "rate", options->rate);
  gboolean done = nf_client_ask (options->conf, &ask, &result, &error);
  clear_progress ();
  if (!done)
    {
      (void)nf_client_report ("fsck", error);
      return FAILED;
    }
  JsonObject *counts = json_node_get_object (result);
  ret_outcome->found = number (counts, "found");
  ret_outcome->primary
      = g_str_equal (json_object_get_string_member_with_default (counts, "role", ""), "primary");
  if (options->json)
    print_json (counts, findings);
  else if (ret_outcome->primary)
    show_primary_summary (counts, repair);
  else
    show_summary (counts, repair);
  if (number (counts, "left") > 0 || number (counts, "busy") > 0)
    return LEFT;
  return ret_outcome->found > 0 ? REPAIRED : 0;
}

static gboolean
person_agrees (gint64 found, gboolean primary)
{
  const char *them = found == 1 ? "it" : "them";
  char line[16];

  if (primary)
    printf ("Take %s over, so that all sites get %s? [y/N] ", them, them);
  else
    printf ("Repair %s? What is replaced is kept in the quarantine. [y/N] ", them);
  (void)fflush (stdout);
  return fgets (line, sizeof line, stdin) && (*line == 'y' || *line == 'Y');
}

static int
compare_and_ask (const Options *options, const char *target, gboolean repair)
{
  Outcome outcome = { 0 };
  int status = compare (options, target, repair, FALSE, &outcome);

  if (options->ask && outcome.found > 0 && person_agrees (outcome.found, outcome.primary))
    status = compare (options, target, TRUE, TRUE, &outcome);
  return status;
}

/* Has it a directory at this site? */
static gboolean
is_here (JsonObject *share)
{
  const char *role = json_object_get_string_member_with_default (share, "role", "");

  return g_str_equal (role, "replica") || g_str_equal (role, "primary");
}

/* What the daemon says of itself; where none runs, one is started. NULL, and it is said why. */
static JsonNode *
ask_daemon (const NfSiteConf *conf, const char *config)
{
  NfClientAsk ask = { .request = nf_client_request ("status") };
  g_autoptr (GError) error = NULL;
  JsonNode *report = NULL;

  if (nf_client_ask (conf, &ask, &report, &error))
    return report;
  if (g_error_matches (error, NF_CLIENT_ERROR, NF_CLIENT_ERROR_NO_DAEMON) && own_daemon < 0)
    {
      g_clear_error (&error);
      fputs ("No daemon runs here: one is started for this, without a mount.\n", stderr);
      own_daemon = nf_own_daemon_start (conf, config, &error);
      if (own_daemon > 0)
        return ask_daemon (conf, config);
    }
  (void)nf_client_report ("fsck", error);
  return NULL;
}

/* All shares that have a directory here. */
static int
compare_all (const Options *options, JsonNode *report, gboolean repair)
{
  int status = 0;
  guint n = 0;

  JsonArray *shares = json_object_get_array_member (json_node_get_object (report), "shares");
  for (guint i = 0; shares && i < json_array_get_length (shares); i++)
    {
      JsonObject *share = json_array_get_object_element (shares, i);
      if (!is_here (share))
        continue;
      status |= compare_and_ask (options, json_object_get_string_member (share, "name"), repair);
      n++;
    }
  if (n == 0)
    return nf_command_fail ("fsck", FAILED, "no share has a directory here");
  return status;
}

/* TARGETS: shares or paths, none for all. */
static int
compare_targets (const Options *options, const char *config, char **targets, gboolean repair)
{
  g_autoptr (JsonNode) report = ask_daemon (options->conf, config);
  int status = 0;

  if (!report)
    return FAILED;
  if (!*targets)
    status = compare_all (options, report, repair);
  for (char **target = targets; *target; target++)
    status |= compare_and_ask (options, *target, repair);
  if (own_daemon > 0)
    nf_own_daemon_stop (own_daemon);
  own_daemon = -1;
  return status;
}

int
nf_verb_fsck (int argc, char **argv)
{
  g_autofree char *config = NULL;
  gboolean none = FALSE, preen = FALSE, yes = FALSE, json = FALSE, content = FALSE,
           allow_delete = FALSE;
  double rate = 0;
  const GOptionEntry entries[] = {
    { "config", 'c', 0, G_OPTION_ARG_FILENAME, &config, "The site's configuration", "FILE" },
    { "no", 'n', 0, G_OPTION_ARG_NONE, &none, "Only look", NULL },
    { "preen", 'p', 0, G_OPTION_ARG_NONE, &preen, "Repair without asking", NULL },
    { "yes", 'y', 0, G_OPTION_ARG_NONE, &yes, "The same", NULL },
    { "content", 0, 0, G_OPTION_ARG_NONE, &content, "Compare every byte, by hash", NULL },
    { "allow-delete", 0, 0, G_OPTION_ARG_NONE, &allow_delete,
      "At the primary: what is gone was removed, however much it is", NULL },
    { "rate", 0, 0, G_OPTION_ARG_DOUBLE, &rate,
      "At most so many MB of content, or thousands of entries, a second", "N" },
    { "json", 0, 0, G_OPTION_ARG_NONE, &json, "Print JSON", NULL },
    { .long_name = NULL },
  };
  g_autoptr (NfSiteConf) conf = NULL;
  g_autoptr (GError) error = NULL;

  if (!nf_command_parse ("fsck", entries, &argc, &argv))
    return NF_EXIT_FSCK_USAGE;
  if (none && (preen || yes))
    return (void)nf_command_usage ("fsck", "-n doesn't go with -p or -y"), NF_EXIT_FSCK_USAGE;
  if (rate < 0 || rate > RATE_MAX)
    return (void)nf_command_usage ("fsck", "--rate is a number of MB a second, and not negative"),
           NF_EXIT_FSCK_USAGE;
  conf = nf_client_conf (config, NULL, &error);
  if (!conf)
    return (void)nf_client_report ("fsck", error), FAILED;
  gboolean repair = preen || yes;
  const Options options = { conf,
                            content,
                            json,
                            allow_delete,
                            (gint64)(rate * 1e6),
                            !none && !repair && !json && isatty (STDIN_FILENO) };
  (void)signal (SIGINT, cancelled);
  return compare_targets (&options, config, argv + 1, repair);
}
