// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sync/lock-table.h"
#include "sync/share.h"

/* The primary's side of locks: what it has given to which site. See grants.c. Thread: any. */

typedef struct NfGrants NfGrants;
typedef struct NfPrimary NfPrimary;

/* The locks of a site without a link are kept so long, by CLOCK_BOOTTIME; the site itself gives them up NF_LEASE_MARGIN_MS
 * sooner, and what it wrote under them is refused afterwards. */
#define NF_LEASE_MS 30000
#define NF_LEASE_MARGIN_MS 15000

NfGrants *nf_grants_new (NfPrimary *primary);
/* Answers what waits (EHOSTUNREACH). */
void nf_grants_free (NfGrants *grants);

/* LOCK from this site's own mount. RET_ID (may be NULL): for nf_grants_interrupt(), 0 if it doesn't wait. */
void nf_grants_call (NfGrants *grants, const NfMsg *call, NfCallDone done, gpointer data,
                     guint64 *ret_id);
void nf_grants_interrupt (NfGrants *grants, guint64 id);
/* The kernel here has been told. */
void nf_grants_told (NfGrants *grants);
/* Has anybody a lock on FID? */
gboolean nf_grants_has (NfGrants *grants, NfFid fid);

/* LOCK, CANCEL and LOCKS from SITE. */
void nf_grants_take (NfGrants *grants, const char *site, const NfMsg *call);
/* RETURN from SITE. */
void nf_grants_returned (NfGrants *grants, const char *site, const NfMsg *call);
void nf_grants_cancel (NfGrants *grants, const char *site, guint64 reqid);
void nf_grants_restore (NfGrants *grants, const char *site, const NfMsg *msg);
void nf_grants_peer_down (NfGrants *grants, const char *site);
/* May SITE change anything under locks of SESSION still? */
gboolean nf_grants_is_current (NfGrants *grants, const char *site, guint64 session);
