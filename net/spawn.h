// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "net/fds.h"

/* Starts ARGS (NULL-terminated) with one socket as standard input and output, and its standard
 * error to be read from ret_lane->text if WANT_TEXT, else nowhere. The child has its own
 * session, so that ^C at a terminal is ours alone to act on, and no signal is blocked or ignored
 * in it. The caller owns the lane, and with it the child. */
gboolean nf_spawn (const char *const *args, gboolean want_text, NfFdLane *ret_lane, GError **error);
