// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sync/share.h"

/* A share for tests of the mount alone: sync/share.h's functions as far as the mount calls them, on
 * a directory, with no journal and no peers. It can answer late, from other threads, or not until
 * told. */

typedef enum
{
  FAKE_SYNC,  /* answers within the call */
  FAKE_ASYNC, /* from another thread */
  FAKE_HELD,  /* not until fake_share_set() says otherwise, or the call is cancelled */
} FakeMode;

NfShare *fake_share_new (const char *dir);
/* Everything must have been closed and answered. */
void fake_share_free (NfShare *share);
void fake_share_set (NfShare *share, FakeMode mode);
/* Calls held. */
guint fake_share_held (NfShare *share);
guint fake_share_files (NfShare *share);
/* The fid of PATH below the directory ("" is the root), 0 if it isn't there. */
NfFid fake_share_fid (NfShare *share, const char *path);
