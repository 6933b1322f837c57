// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "net/proto.h"

/* A thread takes on a caller's credentials for the system calls that carry out his call, so that the kernel judges
 * them, and his quota and reserve count. It affects the calling thread only. */

/* Takes on uid, gid and groups of HEAD, and its umask if WITH_UMASK. FALSE if the kernel refuses (then nothing may be
 * done for this caller). PERSONAL: only the umask, all else is the daemon's own. */
gboolean nf_creds_assume (const NfCallHead *head, gboolean personal, gboolean with_umask);
/* For a call that is made as the daemon, but counts against the caller: takes away what would let it past quotas. */
void nf_creds_prepare (void);
/* Back to the daemon's own. errno is kept. */
void nf_creds_leave (void);
