// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <glib.h>

/* Who keeps a mount busy, a line each ("1234 vim: /mnt/projects/a"), as far as /proc may be read
 * by us; "" if nobody is found. The caller frees it. */
char *nf_busy_list (const char *mountpoint);
