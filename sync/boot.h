// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <glib.h>

/* Which boot of the system this is: what was written without a sync under another one may be gone. */

#define NF_BOOT_ID_LEN 36

typedef struct
{
  char str[NF_BOOT_ID_LEN + 1]; /* empty: it can't be told, as if it were another one each time */
} NfBootId;

NfBootId nf_boot_id (void);
/* For tests: from now on this is another boot. */
void nf_boot_pretend (const char *id);
