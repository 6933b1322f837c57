// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <glib.h>

/* What the parts of nf-work share. */

/* Prints what rule was broken, and ends the program with 1. */
void nf_work_broken (const char *format, ...) G_GNUC_NORETURN G_GNUC_PRINTF (1, 2);
/* The whole file through one open; NULL if there is none. The caller frees it. */
char *nf_work_read (const char *path, gsize *ret_len);
/* As errno(1) names it; numbers that have no name as a number. The caller frees it. */
char *nf_work_errno (int err);

/* Whether the script expects it: NF_WORK_MAY_FAIL has the names of errors that it causes. */
gboolean nf_work_may_fail (const char *name);

/* nf-try.c: single calls, with their errors and how long they took. */
int nf_work_try (int argc, char **argv);
/* nf-observe.c: watching what others do. */
int nf_work_observe (const char *dir, guint seconds);
int nf_work_maildir_read (const char *dir, guint n, guint seconds);
/* nf-acked.c: what was acknowledged must stay. */
int nf_work_acked_write (const char *dir, const char *id, guint n, gboolean sync);
int nf_work_acked_read (const char *dir, const char *list);
/* nf-power.c */
int nf_work_power_cut (const char *dir);
