// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <glib.h>

/* Stores into a file's map that the disk refuses.
 *
 * Where a store through a map finds the disk gone (the filesystem was made read-only after an error, say), the kernel
 * raises SIGBUS, which would end the daemon, and with it all reading. For a guarded file the page is replaced by a private
 * copy with the same content instead, the store is made there, and the guard says from then on that the file is broken:
 * what was stored since is in this process only. Reads that the disk refuses still end it, as there is nothing to go on with.
 *
 * The handler stands for the process, and passes on what isn't a guarded file's. */

typedef struct NfMapGuard NfMapGuard;

/* Of the file that is open as FD. NULL with errno: EMFILE, there are too many of them. */
NfMapGuard *nf_map_guard_new (int fd);
void nf_map_guard_free (NfMapGuard *guard);
/* Thread: any; for the thread that stores, at once. */
gboolean nf_map_guard_is_broken (NfMapGuard *guard);
