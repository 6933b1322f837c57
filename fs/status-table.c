// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/status-table.h"

#include <stdio.h>
#include <string.h>

#define COLUMNS 80
#define US_PER_S 1e6
#define MINUTE_S 60
#define HOUR_S 3600
#define DAY_S 86400

static const char *
text_of (JsonObject *object, const char *name)
{
  JsonNode *node = json_object_get_member (object, name);

  return node && JSON_NODE_HOLDS_VALUE (node) && json_node_get_value_type (node) == G_TYPE_STRING
             ? json_node_get_string (node)
             : "";
}

static guint64
number_of (JsonObject *object, const char *name)
{
  return (guint64)json_object_get_int_member_with_default (object, name, 0);
}

static gboolean
flag_of (JsonObject *object, const char *name)
{
  return json_object_get_boolean_member_with_default (object, name, FALSE);
}

static double
real_of (JsonObject *object, const char *name)
{
  return json_object_get_double_member_with_default (object, name, 0);
}

static JsonArray *
array_of (JsonObject *object, const char *name)
{
  return json_object_get_array_member (object, name);
}

/* In step or not. */

static gboolean
is_within (JsonObject *standing, const NfMaxLag *lag)
{
  if (!flag_of (standing, "connected"))
    return FALSE;
  if (!lag->in_seconds)
    return number_of (standing, "lag_ops") <= lag->number;
  return real_of (standing, "lag_seconds") <= (double)lag->number;
}

static gboolean
share_in_step (JsonObject *share, const NfMaxLag *lag)
{
  JsonArray *members = array_of (share, "members");
  gboolean strict = lag->number == 0;

  if (*text_of (share, "trouble") || !is_within (share, lag) || number_of (share, "suspects") > 0
      || number_of (share, "filled") < number_of (share, "fill_total")
      || (strict && number_of (share, "lag_bytes") > 0))
    return FALSE;
  /* Of the others only the number of changes is known, not for how long they have waited. */
  for (guint i = 0; i < json_array_get_length (members); i++)
    if (!is_within (json_array_get_object_element (members, i), lag))
      return FALSE;
  return TRUE;
}

gboolean
nf_status_in_step (JsonObject *report, const NfMaxLag *lag)
{
  JsonArray *shares = array_of (report, "shares");

  for (guint i = 0; i < json_array_get_length (shares); i++)
    if (!share_in_step (json_array_get_object_element (shares, i), lag))
      return FALSE;
  return TRUE;
}

/* Printing. */

static char *
size_text (guint64 bytes)
{
  return bytes < 1024 ? g_strdup_printf ("%u B", (guint)bytes)
                      : g_format_size_full (bytes, G_FORMAT_SIZE_IEC_UNITS);
}

static char *
time_text (double seconds)
{
  if (seconds < MINUTE_S)
    return g_strdup_printf ("%.0f s", seconds);
  if (seconds < HOUR_S)
    return g_strdup_printf ("%.0f min", seconds / MINUTE_S);
  if (seconds < 2 * DAY_S)
    return g_strdup_printf ("%.0f h", seconds / HOUR_S);
  return g_strdup_printf ("%.0f days", seconds / DAY_S);
}

static void append (GString *line, const char *format, ...) G_GNUC_PRINTF (2, 3);

/* With a comma between. */
static void
append (GString *line, const char *format, ...)
{
  va_list args;

  if (line->len > 0)
    g_string_append (line, ", ");
  va_start (args, format);
  g_string_append_vprintf (line, format, args);
  va_end (args);
}

static char *
lag_text (JsonObject *share)
{
  GString *line = g_string_new (NULL);
  guint64 ops = number_of (share, "lag_ops");
  guint64 bytes = number_of (share, "lag_bytes");
  double seconds = real_of (share, "lag_seconds");

  if (ops > 0)
    append (line, "%" G_GUINT64_FORMAT " changes", ops);
  if (bytes > 0)
    {
      g_autofree char *text = size_text (bytes);
      append (line, "%s", text);
    }
  if (seconds >= 1)
    {
      g_autofree char *text = time_text (seconds);
      append (line, "%s", text);
    }
  return g_string_free (line, FALSE);
}

/* TEXT in lines that fit, each with an indent. */
static void
print_folded (const char *text)
{
  gsize column = 0;
  g_auto (GStrv) words = g_strsplit_set (text, " \n", -1);

  for (char **word = words; *word; word++)
    {
      gsize width = (gsize)g_utf8_strlen (*word, -1);
      if (column == 0 || column + 1 + width > COLUMNS)
        {
          printf ("%s    %s", column == 0 ? "" : "\n", *word);
          column = strlen ("    ") + width;
        }
      else
        {
          printf (" %s", *word);
          column += 1 + width;
        }
    }
  putchar ('\n');
}

static void
print_cell (const char *text, int width)
{
  int len = (int)g_utf8_strlen (text, -1);
  /* A longer one moves the rest of its line; a name that can't be told from another is worse. */
  printf ("%s%*s ", text, MAX (0, width - len), "");
}

static char *
sending_text (JsonObject *share)
{
  g_autofree char *bytes = size_text (number_of (share, "pending_bytes"));

  return g_strdup_printf ("%" G_GUINT64_FORMAT " calls with %s on their way to %s",
                          number_of (share, "pending_calls"), bytes, text_of (share, "primary"));
}

static void
print_details (JsonObject *share)
{
  GString *line = g_string_new (NULL);

  if (number_of (share, "filled") < number_of (share, "fill_total"))
    append (line, "%" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT " objects are here",
            number_of (share, "filled"), number_of (share, "fill_total"));
  if (number_of (share, "suspects") > 0)
    append (line, "%" G_GUINT64_FORMAT " to be compared", number_of (share, "suspects"));
  if (number_of (share, "pending_calls") > 0)
    {
      g_autofree char *text = sending_text (share);
      append (line, "%s", text);
    }
  if (line->len > 0)
    print_folded (line->str);
  if (*text_of (share, "trouble"))
    print_folded (text_of (share, "trouble"));
  g_string_free (line, TRUE);
}

static void
print_member (JsonObject *member)
{
  guint64 lag = number_of (member, "lag_ops");
  g_autofree char *name = g_strdup_printf ("  %s", text_of (member, "site"));

  print_cell (name, 16);
  print_cell ("", 8);
  print_cell (!flag_of (member, "connected") ? "away" : lag > 0 ? "behind" : "in step", 12);
  printf ("%" G_GUINT64_FORMAT ".%" G_GUINT64_FORMAT, number_of (member, "epoch"),
          number_of (member, "seq"));
  if (lag > 0)
    printf ("  %" G_GUINT64_FORMAT " changes", lag);
  putchar ('\n');
}

static void
print_share (JsonObject *share)
{
  JsonArray *members = array_of (share, "members");
  g_autofree char *lag = lag_text (share);
  g_autofree char *position
      = g_strdup_printf ("%" G_GUINT64_FORMAT ".%" G_GUINT64_FORMAT, number_of (share, "epoch"),
                         number_of (share, "seq"));

  print_cell (text_of (share, "name"), 16);
  print_cell (text_of (share, "role"), 8);
  print_cell (text_of (share, "state"), 12);
  print_cell (position, 14);
  puts (lag);
  print_details (share);
  for (guint i = 0; i < json_array_get_length (members); i++)
    print_member (json_array_get_object_element (members, i));
}

/* "for 3 min", since when it is up or down; "" if it was never up. */
static char *
duration_text (JsonObject *peer)
{
  double since = real_of (peer, "since");
  double now = (double)g_get_real_time () / US_PER_S;
  g_autofree char *text = since > 0 ? time_text (MAX (0, now - since)) : NULL;

  return text ? g_strdup_printf (" %s", text) : g_strdup ("");
}

static void
print_names (const char *title, JsonArray *names)
{
  GString *line = g_string_new (NULL);

  for (guint i = 0; i < json_array_get_length (names); i++)
    append (line, "%s", json_array_get_string_element (names, i));
  if (line->len > 0)
    {
      g_string_prepend (line, title);
      print_folded (line->str);
    }
  g_string_free (line, TRUE);
}

static void
print_peer_details (JsonObject *peer)
{
  gboolean up = g_str_equal (text_of (peer, "state"), "up");

  if (!up && *text_of (peer, "last_error"))
    print_folded (text_of (peer, "last_error"));
  if (up && flag_of (peer, "map_differs")) /* of one that is down it is yesterday's news */
    print_folded (
        "its server map isn't ours: compare them, then \"nearfs map load\" where it is old");
  print_names ("open here only: ", array_of (peer, "shares_only_here"));
  print_names ("open there only, by id: ", array_of (peer, "shares_only_there"));
}

static void
print_peer (JsonObject *peer)
{
  g_autofree char *duration = duration_text (peer);
  g_autofree char *state = g_strconcat (text_of (peer, "state"), duration, NULL);
  g_autofree char *queued
      = size_text (number_of (peer, "queued_ops_bytes") + number_of (peer, "queued_bulk_bytes"));
  g_autofree char *rtt = real_of (peer, "rtt_ms") > 0
                             ? g_strdup_printf ("%.1f ms", real_of (peer, "rtt_ms"))
                             : g_strdup ("");
  gboolean up = g_str_equal (text_of (peer, "state"), "up");
  g_autofree char *serial
      = number_of (peer, "map_serial") > 0
            ? g_strdup_printf ("%" G_GUINT64_FORMAT "%s", number_of (peer, "map_serial"),
                               up && flag_of (peer, "map_differs") ? " (differs)" : "")
            : g_strdup ("");

  print_cell (text_of (peer, "site"), 16);
  print_cell (state, 17);
  print_cell (rtt, 10);
  print_cell (queued, 10);
  puts (serial);
  print_peer_details (peer);
}

static void
print_head (JsonObject *report)
{
  JsonObject *map = json_object_get_object_member (report, "map");

  printf ("Site %s, map serial %" G_GUINT64_FORMAT ", %s%s\n", text_of (report, "site"),
          number_of (map, "serial"), *text_of (report, "mountpoint") ? "mounted at " : "no mount",
          text_of (report, "mountpoint"));
  if (*text_of (map, "trouble"))
    {
      puts ("The map file is wrong; the map that was loaded before is in use:");
      print_folded (text_of (map, "trouble"));
    }
}

void
nf_status_print (JsonObject *report)
{
  JsonArray *shares = array_of (report, "shares");
  JsonArray *peers = array_of (report, "peers");

  print_head (report);
  puts ("\nSHARE            ROLE     STATE        POSITION       BEHIND BY");
  for (guint i = 0; i < json_array_get_length (shares); i++)
    print_share (json_array_get_object_element (shares, i));
  if (json_array_get_length (peers) == 0)
    return;
  puts ("\nPEER             STATE             ROUND TRIP QUEUED     MAP");
  for (guint i = 0; i < json_array_get_length (peers); i++)
    print_peer (json_array_get_object_element (peers, i));
}
