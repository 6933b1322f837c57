// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <glib.h>

/* The bytes of the latest small writes, by seq, so that they can travel with their op. What has gone from here is
 * fetched by the replicas. Thread: any. */

/* All together: a minute of small writes; a replica that is behind by more fetches. */
#define NF_RECENT_MAX (64 * 1024 * 1024)
/* One write; above it fetching is cheaper than holding up the ops behind it. */
#define NF_RECENT_ITEM_MAX (64 * 1024)

typedef struct NfRecent NfRecent;

NfRecent *nf_recent_new (void);
void nf_recent_free (NfRecent *recent);
/* Takes BYTES. */
void nf_recent_put (NfRecent *recent, guint64 seq, GBytes *bytes);
/* All have the ops up to SEQ. */
void nf_recent_forget (NfRecent *recent, guint64 seq);
/* A reference, or NULL. */
GBytes *nf_recent_get (NfRecent *recent, guint64 seq);
