// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <json-glib/json-glib.h>

#include "map/site.h"

/* A daemon without a mount for as long as one verb takes, where none runs: "nearfs fsck" on a site that is down. */

/* Starts it, and waits until its replicas have found their primaries, or for as long as that may take. Returns its
 * process, which nf_own_daemon_stop() ends; -1 and ERROR: it doesn't start, and has said why on standard error. */
int nf_own_daemon_start (const NfSiteConf *conf, const char *config, GError **error);
/* Waits for its end. */
void nf_own_daemon_stop (int pid);
