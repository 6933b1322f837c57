// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <json-glib/json-glib.h>

/* The daemon's report (report.c) for people and for monitoring. */

/* What still counts as in step: so many changes behind, or seconds. */
typedef struct
{
  guint64 number;
  gboolean in_seconds;
} NfMaxLag;

/* Whether every share here is open, connected and within LAG and, where it is primary, all its
 * other sites are. */
gboolean nf_status_in_step (JsonObject *report, const NfMaxLag *lag);
/* On standard output, at most 80 columns but for what can't be cut. */
void nf_status_print (JsonObject *report);
