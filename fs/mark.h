// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "map/map.h"
#include "map/site.h"

/* What this site remembers of its shares' directories, outside of them: that a directory has
 * been in use. A directory without a mark that had one is a disk that isn't mounted, not a new
 * directory.
 *
 * It lies in $STATE_DIRECTORY (as systemd sets it) or /var/lib/nearfs/state, of other users than
 * root in ~/.local/state/nearfs: a file for each site and share. */

/* Whether DIR, which exists and bears no mark, may be marked for SHARE. ROLE: of this site. On
 * FALSE the error says what to do. */
gboolean nf_mark_may (const NfSiteConf *conf, const char *share, NfMapRole role, const char *dir,
                      GError **error);
/* Sees to it that DIR exists: a replica's is made the first time. On FALSE the error says what
 * to do. */
gboolean nf_mark_find_dir (const NfSiteConf *conf, const char *share, NfMapRole role,
                           const char *dir, GError **error);
/* DIR is in use by SHARE and marked. */
gboolean nf_mark_remember (const NfSiteConf *conf, const char *share, const char *dir,
                           GError **error);
