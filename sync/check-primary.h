// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sync/check.h"
#include "sync/primary-internal.h"

/* fsck at the primary: the audit, as check.h has it. As nf_share_check() and friends. */
int nf_primary_check (NfPrimary *primary, const char *path, const NfCheckOptions *options,
                      const NfCheckEvents *events, gpointer data);
gboolean nf_primary_check_counts (NfPrimary *primary, NfCheckCounts *ret_counts);
void nf_primary_check_cancel (NfPrimary *primary);
