// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <glib.h>

/* What is wrong with path as an absolute and normalised one, as what was expected instead; NULL if
 * nothing is. */
const char *nf_path_fault (const char *path);

/* Whether inner is outer or lies below it.  Both normalised. */
gboolean nf_path_within (const char *outer, const char *inner);

/* Like strcmp(), but '/' sorts before everything else, so that a directory is followed by all that
 * lies below it. */
int nf_path_compare (const char *a, const char *b);

/* Absolute path with all symlinks resolved of what exists of it, the rest appended as it is.  NULL
 * with *ret_errno if an ancestor can't be resolved.  The caller frees it. */
char *nf_path_resolve (const char *path, int *ret_errno);
