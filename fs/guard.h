// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <sys/types.h>

/* If the daemon is killed while one of its threads tells the kernel of a change, that thread may be waiting for a lock
 * that a caller holds who waits for the daemon. Then none of them can go on: the caller is answered when the connection
 * ends, which is when its descriptor is closed, which is when all threads have ended. So a child process waits for the
 * daemon's death, and ends the connection: the callers get ECONNABORTED or ENOTCONN, as they should.
 *
 * It ends it through the fusectl filesystem, or, where that isn't mounted and if we are root, by a forced umount. */

/* Call it when MOUNTPOINT has just been mounted, in the thread that will live as long as the daemon does. Returns the
 * child, or -errno: without it all works, but for that death. */
pid_t nf_guard_start (const char *mountpoint);
/* Before the mount goes. Does nothing if GUARD isn't positive. */
void nf_guard_stop (pid_t guard);
