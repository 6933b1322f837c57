// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "fs/handle.h"
#include "fs/pass.h"

/* How a handle's reads and writes go; see open-mode.c. */

typedef struct NfMount NfMount;

/* Chooses for HANDLE, which has just been made, and counts it with its node's; nf_handle_drop() and the like count it out.
 * BY_CREATE: the reply is CREATE's, which can't bear a pass-through handle. SURE: the handle's file is known to be the
 * node's.
 *
 * 0 or -ESTALE: the kernel is to look the name up again, and gets another node where need be. Thread: any, entered. */
int nf_open_mode_choose (NfMount *mount, NfHandle *handle, gboolean by_create, gboolean sure);
/* With the volume's lock, HANDLE leaves its node. Returns the backing file's number that isn't needed any more, or 0. */
int nf_open_mode_leave (NfHandle *handle);
/* Is FID's former node still open? What the kernel caches of FID it then has to ask for. Thread: any. */
gboolean nf_open_mode_is_split (NfVolume *volume, NfFid fid);
/* Who passes through bypasses us, whatever the node has become. */
gboolean nf_open_mode_passes (const NfHandle *handle);
