// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <glib.h>

/* Fail-points, for tests only: NEARFS_POINT=NAME[:COUNT][:kill|stop] in the environment ends
 * this process with SIGKILL (or stops it with SIGSTOP) when it reaches the point NAME for the
 * COUNT-th time. */

/* FALSE if the environment names no point: then nf_point() needn't be called at all. A value
 * that can't be read ends the process: a test that silently tests nothing is worse. */
gboolean nf_point_init (void);
/* Point NAME is reached. Thread: any. */
void nf_point (const char *name);
