// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <glib.h>

/* What nf-bench is made of. Each work returns how much was done, in the unit that the head of
 * nf-bench.c names; an error of the system ends the program. */

void nf_bench_stop (const char *what) G_GNUC_NORETURN;
int nf_bench_open (const char *path, int flags);

/* The I-th file that "create" makes in DIR. */
char *nf_bench_numbered (const char *dir, const char *kind, guint i);

double nf_bench_sequential (const char *path);
double nf_bench_random (const char *path, guint n);
double nf_bench_map (const char *path);
double nf_bench_open_files (const char *dir, guint n);

double nf_bench_stat (const char *dir, guint n);
double nf_bench_stat_new (const char *dir, guint n);
double nf_bench_miss (const char *dir, guint n);
double nf_bench_list (const char *dir, guint n);
double nf_bench_find (const char *path);

double nf_bench_create (const char *dir, guint n, guint size);
double nf_bench_rename (const char *dir, guint n);
double nf_bench_unlink (const char *dir, guint n);
double nf_bench_write (const char *path, guint size, guint block);
double nf_bench_overwrite (const char *path, guint n);
