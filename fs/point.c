// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/point.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

static char *point_name;
static int point_signal = SIGKILL;
static atomic_ulong point_left = 1;

static gboolean
take_field (const char *field)
{
  guint64 count;

  if (g_str_equal (field, "kill"))
    point_signal = SIGKILL;
  else if (g_str_equal (field, "stop"))
    point_signal = SIGSTOP;
  else if (g_ascii_string_to_unsigned (field, 10, 1, G_MAXULONG, &count, NULL))
    atomic_store (&point_left, (unsigned long)count);
  else
    return FALSE;
  return TRUE;
}

gboolean
nf_point_init (void)
{
  const char *value = g_getenv ("NEARFS_POINT");
  g_auto (GStrv) fields = value ? g_strsplit (value, ":", -1) : NULL;

  if (!value || !*value)
    return FALSE;
  for (char **field = fields + 1; *field; field++)
    if (!take_field (*field))
      g_error ("NEARFS_POINT=%s: expected NAME[:COUNT][:kill|stop]", value);
  point_name = g_strdup (fields[0]);
  return TRUE;
}

void
nf_point (const char *name)
{
  if (strcmp (name, point_name) == 0 && atomic_fetch_sub (&point_left, 1) == 1)
    (void)kill (getpid (), point_signal); /* can't fail: it's us */
}
