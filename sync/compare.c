// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/replica-internal.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

/* Comparing content by hashes: only blocks that differ are fetched. */

#define HASH_SIZE 16

typedef struct
{
  int fd;
  guint8 *buffer; /* of a block */
  guint64 size;   /* the file's here */
} Local;

/* The length of the block at OFFSET of a file of SIZE. */
static guint64
block_length (guint64 offset, guint64 block, guint64 size)
{
  return offset >= size ? 0 : MIN (block, size - offset);
}

static int
read_block (Local *local, guint64 offset, gsize length)
{
  gsize done = 0;

  while (done < length)
    {
      ssize_t n = pread (local->fd, local->buffer + done, length - done, (off_t)(offset + done));
      if (n < 0 && errno == EINTR)
        continue;
      if (n <= 0)
        return n < 0 ? -errno : -EIO;
      done += (gsize)n;
    }
  return 0;
}

/* Is the block at OFFSET here what HASH says, of a file that has SIZE at the primary? */
static int
compare_block (Local *local, guint64 offset, guint64 block, guint64 size, const guint8 *hash,
               gboolean *ret_equal)
{
  guint64 length = block_length (offset, block, size);
  XXH128_canonical_t here;

  *ret_equal = FALSE;
  if (length != block_length (offset, block, local->size))
    return 0;
  int err = read_block (local, offset, length);
  if (err != 0)
    return err;
  XXH128_canonicalFromHash (&here, XXH3_128bits (local->buffer, length));
  *ret_equal = memcmp (here.digest, hash, HASH_SIZE) == 0;
  return 0;
}

static int
compare_blocks (NfTransfer *transfer, const NfMsg *hashed, Local *local)
{
  guint64 size = hashed->hashed.size;
  guint64 block = hashed->hashed.block;
  guint64 seq = hashed->hashed.seq;
  guint64 offset = hashed->hashed.offset;

  for (gsize i = 0; i + HASH_SIZE <= hashed->hashed.hashes.len && offset < size; i += HASH_SIZE)
    {
      guint64 end = offset + block_length (offset, block, size);
      gboolean equal;
      int err = compare_block (local, offset, block, size, hashed->hashed.hashes.data + i, &equal);
      if (err != 0)
        return err;
      nf_segments_want (&transfer->segments, offset, end, transfer->need);
      if (equal)
        nf_segments_got (&transfer->segments, offset, end, seq, NF_SEG_LOCAL);
      offset = end;
    }
  transfer->hash_next = offset;
  return 0;
}

/* Where the comparison ends, now that the file's size at the primary is known. */
static void
move_end (NfTransfer *transfer, guint64 size, gboolean nothing_came)
{
  if (nothing_came || transfer->hash_next >= size)
    transfer->hash_end = transfer->hash_next;
  if (transfer->hash_next >= transfer->hash_end && size > transfer->hash_next)
    {
      nf_segments_want (&transfer->segments, transfer->hash_next, size, transfer->need);
      transfer->whole_end = MAX (transfer->whole_end, size);
    }
}

int
nf_transfer_compare (NfReplica *replica, NfTransfer *transfer, const NfMsg *hashed)
{
  struct stat st;

  /* What doesn't answer the question asked is taken for no answer: the rest is fetched whole. */
  if (hashed->hashed.block != NF_HASH_BLOCK || hashed->hashed.offset != transfer->hash_next)
    {
      move_end (transfer, hashed->hashed.size, TRUE);
      return 0;
    }
  Local local = { .fd = nf_apply_open (replica->share, transfer->fid) };
  if (local.fd < 0)
    return local.fd;
  int err = fstat (local.fd, &st) == 0 ? 0 : -errno;
  local.size = (guint64)st.st_size;
  local.buffer = g_malloc (NF_HASH_BLOCK);
  if (err == 0)
    err = compare_blocks (transfer, hashed, &local);
  g_free (local.buffer);
  (void)close (local.fd);
  if (err != 0)
    return err;
  transfer->hash_size = hashed->hashed.size;
  transfer->hash_seq = MAX (transfer->hash_seq, hashed->hashed.seq);
  move_end (transfer, hashed->hashed.size, hashed->hashed.hashes.len < HASH_SIZE);
  return 0;
}
