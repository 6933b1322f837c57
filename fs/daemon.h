// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "fs/mount.h"
#include "map/map.h"
#include "map/site.h"

/* The daemon of a site: the shares that the map gives it, the links to the other sites, the
 * socket for relays and verbs and, for `nearfs mount`, the mount. */

typedef struct _NfDaemon NfDaemon;

/* Blocks the signals that nf_daemon_run() waits for, ignores SIGPIPE, raises the limit of open
 * files, clears the umask. To be called before any thread is made. */
void nf_daemon_prepare (void);

/* Opens everything and begins to work; with MOUNT (NULL: none) returns when the mount answers.
 * CONF and MAP are referenced. A share that can't be opened is no error: it is reported, and
 * tried again. On error everything is closed again. The caller frees the daemon. */
NfDaemon *nf_daemon_new (NfSiteConf *conf, NfMap *map, const NfMountOptions *mount, GError **error);
/* Until SIGTERM, SIGINT or the unmount: then unmounts, waits for what is being written and ends
 * the links. SIGHUP loads the map. Returns the program's exit status. */
int nf_daemon_run (NfDaemon *daemon);
void nf_daemon_free (NfDaemon *daemon);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (NfDaemon, nf_daemon_free)
