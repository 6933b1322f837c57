// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <glib.h>

/* This process, which must be root's, has mounts of its own from now on, and doesn't keep mounted what others unmount: a daemon
 * goes on as long as its mount is there for anybody. FALSE: it can't be. */
gboolean nf_own_mounts (void);
