// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "net/pack.h"

#include <zstd.h>

#include "net/hub.h"

#define LEVEL 1
/* Smaller ones save less than they cost. */
#define WORTH_MIN 512
/* After a vain attempt 1, 2, 4 … frames go unpacked, up to this many: a film costs 2 % of its
 * compression, and the text after it is noticed soon. */
#define SKIP_MAX 64

struct _NfPack
{
  ZSTD_CCtx *squeezer;
  ZSTD_DCtx *opener;
  guint8 *out;
  gsize out_size;
  guint skip; /* frames to go unpacked from here */
  guint vain; /* the next `skip` */
};

NfPack *
nf_pack_new (void)
{
  return g_new0 (NfPack, 1);
}

void
nf_pack_free (NfPack *pack)
{
  (void)ZSTD_freeCCtx (pack->squeezer);
  (void)ZSTD_freeDCtx (pack->opener);
  g_free (pack->out);
  g_free (pack);
}

NfSlice
nf_pack_squeeze (NfPack *pack, NfSlice data)
{
  gsize bound = ZSTD_compressBound (data.len);
  gsize len;

  if (data.len < WORTH_MIN)
    return NF_SLICE_NONE;
  if (pack->skip > 0)
    {
      pack->skip--;
      return NF_SLICE_NONE;
    }
  if (pack->squeezer == NULL)
    pack->squeezer = ZSTD_createCCtx ();
  if (bound > pack->out_size)
    {
      pack->out = g_realloc (pack->out, bound);
      pack->out_size = bound;
    }
  len = ZSTD_compressCCtx (pack->squeezer, pack->out, pack->out_size, data.data, data.len, LEVEL);
  if (ZSTD_isError (len) || len > data.len - data.len / 8)
    {
      pack->vain = CLAMP (pack->vain * 2, 1, SKIP_MAX);
      pack->skip = pack->vain;
      return NF_SLICE_NONE;
    }
  pack->vain = 0;
  return nf_slice (pack->out, len);
}

gsize
nf_pack_size (const NfPayload *payload, GError **error)
{
  unsigned long long size = ZSTD_getFrameContentSize (payload->data, payload->len);

  /* CONTENTSIZE_UNKNOWN and _ERROR are above any limit. The credit counts the size uncompressed,
   * so the compressed one must be below it. */
  if (size < 2 || size > NF_FRAME_MAX || size <= payload->len)
    {
      g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_PROTOCOL, "compressed frame of a wrong size");
      return 0;
    }
  return (gsize)size;
}

NfPayload *
nf_pack_open (NfPack *pack, const NfPayload *payload, GError **error)
{
  gsize size = nf_pack_size (payload, error);
  NfPayload *opened;

  if (size == 0)
    return NULL;
  if (pack->opener == NULL)
    pack->opener = ZSTD_createDCtx ();
  opened = nf_payload_new (size);
  if (ZSTD_decompressDCtx (pack->opener, opened->data, size, payload->data, payload->len) != size)
    {
      nf_payload_free (opened);
      g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_PROTOCOL,
                   "compressed frame that doesn't decompress");
      return NULL;
    }
  return opened;
}
