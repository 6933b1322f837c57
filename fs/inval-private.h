// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "fs/inval.h"

/* What lies in the queues of inval.c, for inval-tell.c to tell. */

typedef enum
{
  NF_INVAL_ITEM_SHARE, /* of a share */
  NF_INVAL_ITEM_DIR,   /* of the namespace: fid is the directory's number */
  NF_INVAL_ITEM_IDS,
} NfInvalItemKind;

typedef struct
{
  NfInvalItemKind kind;
  NfVolume *volume;
  NfInval inval; /* its name owned */
  guint64 id;    /* of a detached node, or 0 */
  gboolean open; /* that node has handles */
  GArray *ids;
  guint stands_for; /* how many queued items */
} NfInvalItem;

/* Holding no lock. May block until a request is answered. */
void nf_inval_tell (NfMount *mount, const NfInvalItem *item);
