// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <glib.h>

#include "net/proto.h"

/* Frames: how messages lie in a stream of bytes.
 *
 * Each direction of a stream begins with the line NF_MAGIC, so that a login shell's chatter or
 * another version is told from a peer. Frames follow, each a head of 16 bytes and a payload:
 *
 *   u32 length of the payload as it stands here
 *   u8  flags, then three bytes of zero
 *   u64 number: counts a link's frames from 0 over all its lanes; 0 in control frames, which have
 *       no place in the order and are acted on as they come */

#define NF_MAGIC_WORD "NEARFS "
#define NF_MAGIC NF_MAGIC_WORD G_STRINGIFY (NF_PROTO_VERSION) "\n"
#define NF_MAGIC_LEN (sizeof NF_MAGIC - 1)

#define NF_FRAME_HEAD_LEN 16
/* What a frame counts against the credit beside its payload: about what it costs in memory. */
#define NF_FRAME_COST_EXTRA 64

enum
{
  NF_FRAME_ZSTD = 1,
  NF_FRAME_CONTROL = 2,
  NF_FRAME_FLAGS = NF_FRAME_ZSTD | NF_FRAME_CONTROL
};

typedef struct
{
  guint32 len;
  guint8 flags;
  guint64 number;
} NfFrameHead;

void nf_frame_head_encode (const NfFrameHead *head, guint8 *ret_bytes);
/* FALSE with ERROR set if a length, flag or reserved byte can't be. */
gboolean nf_frame_head_decode (const guint8 *bytes, NfFrameHead *ret_head, GError **error);

/* A payload's memory, with room for what nf_credit_wrap() must remember about it. */
typedef struct
{
  gpointer credit; /* of credit.c */
  gsize cost;
  gsize len;
  guint8 data[];
} NfPayload;

NfPayload *nf_payload_new (gsize len);
void nf_payload_free (NfPayload *payload);

/* Cuts a stream into frames. No I/O: bytes are fed in as they come. */
typedef struct
{
  enum
  {
    NF_FRAME_IN_MAGIC,
    NF_FRAME_IN_HEAD,
    NF_FRAME_IN_PAYLOAD
  } state;
  gsize got; /* of the magic, the head or the payload */
  guint8 head_bytes[NF_FRAME_HEAD_LEN];
  NfFrameHead head;
  NfPayload *payload;
} NfFrameReader;

typedef enum
{
  NF_FRAME_MORE,  /* all bytes are used up */
  NF_FRAME_READY, /* head and payload are returned; call again with the rest */
  NF_FRAME_BAD    /* the stream is of no more use */
} NfFrameResult;

/* SKIP_MAGIC: somebody has read it already. */
void nf_frame_reader_init (NfFrameReader *reader, gboolean skip_magic);
void nf_frame_reader_clear (NfFrameReader *reader);
/* Whether the magic has been read. */
gboolean nf_frame_reader_greeted (const NfFrameReader *reader);
/* Takes bytes from the start of *BYTES. The payload is the caller's. */
NfFrameResult nf_frame_reader_feed (NfFrameReader *reader, NfSlice *bytes, NfFrameHead *ret_head,
                                    NfPayload **ret_payload, GError **error);

/* What to say of a stream that doesn't begin with NF_MAGIC but with BYTES: sets
 * NF_NET_ERROR_VERSION or _NOISE. */
void nf_frame_magic_error (NfSlice bytes, GError **error);
