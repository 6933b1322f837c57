// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sync/share.h"

/* The locks that this site has of a primary elsewhere. See claims.c. Thread: any. */

typedef struct NfClaims NfClaims;

NfClaims *nf_claims_new (NfShare *share);
/* Answers all but what the forwarder has to answer. */
void nf_claims_stop (NfClaims *claims);
/* After the forwarder. */
void nf_claims_free (NfClaims *claims);

/* LOCK through FILE. RET_ID (may be NULL): for nf_claims_interrupt(). */
void nf_claims_call (NfClaims *claims, NfFile *file, const NfMsg *call, NfCallDone done,
                     gpointer data, guint64 *ret_id);
/* Of a call that the forwarder has sent. */
void nf_claims_interrupt (NfClaims *claims, guint64 id);
/* Are there locks of FID, held or asked for? */
gboolean nf_claims_has (NfClaims *claims, NfFid fid);
/* FILE is closed. */
void nf_claims_forget_file (NfClaims *claims, NfFile *file);
/* The session whose locks what is sent through FILE is under; 0: none. */
guint64 nf_claims_session (NfClaims *claims, const NfFile *file);

/* GRANTED and LOST. */
void nf_claims_message (NfClaims *claims, const NfMsg *msg);
/* Before anything else is sent over a new link. */
void nf_claims_peer_up (NfClaims *claims);
void nf_claims_peer_down (NfClaims *claims);
/* The replica has come further. Cheap if nobody waits for that; what is due is answered from another thread. */
void nf_claims_check (NfClaims *claims);
/* The kernel here has been told. */
void nf_claims_told (NfClaims *claims);
