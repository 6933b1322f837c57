// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "net/frame.h"

/* Compression of single frames by zstd at its fastest level. What doesn't compress is noticed by
 * trying, and then tried more and more seldom. Thread: one thread at a time. */

typedef struct _NfPack NfPack;

NfPack *nf_pack_new (void);
void nf_pack_free (NfPack *pack);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (NfPack, nf_pack_free)

/* DATA compressed, valid until the next call; an empty slice if it isn't worth it. */
NfSlice nf_pack_squeeze (NfPack *pack, NfSlice data);

/* The size that PAYLOAD will have uncompressed; 0 with ERROR set if it can't be, or is above
 * NF_FRAME_MAX. */
gsize nf_pack_size (const NfPayload *payload, GError **error);
/* PAYLOAD uncompressed, or NULL. The caller owns it. */
NfPayload *nf_pack_open (NfPack *pack, const NfPayload *payload, GError **error);
