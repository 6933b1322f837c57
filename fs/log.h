// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <glib.h>

/* Where messages go. The program logs to standard error, with time and level; if that is the
 * journal's own stream, or once it has gone to the background, to journald, or to syslog where
 * there is none. */

/* Takes over GLib's logging. VERBOSE: debug messages too (also by NEARFS_LOG=debug in the
 * environment). */
void nf_log_init (gboolean verbose);
/* From now on to PATH, which is appended to. */
gboolean nf_log_to_file (const char *path, GError **error);
/* Opens that file anew, for logrotate(8). Nothing if there is none. */
void nf_log_reopen (void);
/* From now on to journald or syslog. Nothing if a file is logged to. */
void nf_log_to_system (void);
/* Whether warnings go to standard error beside: while somebody waits for the daemon's start. */
void nf_log_echo (gboolean on);

/* What a message is about, for the journal's fields; what isn't known is 0 or NULL. */
typedef struct
{
  const char *share;
  const char *peer;
  guint64 fid;
  guint64 seq;
  int err; /* an errno, positive or negative */
} NfLogAbout;

/* LEVEL: G_LOG_LEVEL_DEBUG one line an op; INFO changes of state; WARNING what goes wrong, with
 * what goes on working. ABOUT may be NULL. Thread: any. */
void nf_log (GLogLevelFlags level, const NfLogAbout *about, const char *format, ...)
    G_GNUC_PRINTF (3, 4);
