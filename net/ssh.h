// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <libssh/libssh.h>

#include "net/fds.h"
#include "net/transport.h"

/* A transport over the channels of a libssh session that is connected, authenticated and not
 * blocking. Takes the session, the channels, which run their commands, and PROXY, the descriptor
 * and child through which the session goes, if it does. */
NfTransport *nf_ssh_new (ssh_session session, const ssh_channel *channels, guint n_channels,
                         NfFdLane *proxy);
