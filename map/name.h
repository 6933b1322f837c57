// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <glib.h>

/* Which texts are names, as the map's manual page has it. */

gboolean nf_name_is_site (const char *name);
gboolean nf_name_is_share (const char *name);
/* "user@host" or an alias, safe as an argument of ssh. */
gboolean nf_name_is_ssh (const char *ssh);
/* A user's name, or "*". */
gboolean nf_name_is_user (const char *user);
/* One component of a path. */
gboolean nf_name_is_file (const char *name);
