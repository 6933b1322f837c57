// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <glib.h>

#include "map/site.h"

/* What `nearfs relay` does: hands this process's standard input, output and error, which sshd
 * has connected with the peer SITE, to the daemon of CONF, closes its own copies and stays until
 * the daemon hangs up. 0, or an exit status after an error text on standard error (which the
 * peer's log shows). */
int nf_relay_run (const NfSiteConf *conf, const char *site);
