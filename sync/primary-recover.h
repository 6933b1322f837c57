// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sync/primary-internal.h"

/* primary-redo.c: settles the records after FROM up to LAST, which may or may not have had their effect. REBOOT: the machine was
 * started anew, so that the disk may lack what was done last, but not what was up to op ON_DISK. 0 or -errno. */
int nf_primary_redo (NfPrimary *primary, guint64 from, guint64 last, gboolean reboot,
                     guint64 on_disk);
