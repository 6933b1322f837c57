// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/serve-internal.h"

#include <errno.h>
#include <unistd.h>
#include <xxhash.h>

/* FETCH and HASH: a file's content, piece by piece. */

/* One HASHED: the requester asks on from where it ends. */
#define HASH_SPAN (4 * 1024 * 1024)
#define HASH_BLOCK_MIN 4096
#define HASH_SIZE 16

/* ---- FETCH ---- */

typedef struct
{
  int fd;
  NfAttr attr;
  guint64 offset;
  guint64 length;
  gboolean hole;
  guint8 *buffer;
} Piece;

/* What comes next: data or a hole, up to the end of either. */
static int
measure (Piece *piece, guint64 end)
{
  off_t data = lseek (piece->fd, (off_t)piece->offset, SEEK_DATA);

  if (data < 0 && errno != ENXIO)
    data = (off_t)piece->offset; /* the filesystem doesn't know holes */
  piece->hole = data < 0 || (guint64)data > piece->offset;
  if (piece->hole)
    {
      piece->length = (data < 0 ? end : MIN ((guint64)data, end)) - piece->offset;
      return 0;
    }
  off_t hole = lseek (piece->fd, (off_t)piece->offset, SEEK_HOLE);
  guint64 data_end = hole < 0 ? end : MIN ((guint64)hole, end);
  piece->length = MIN (data_end - piece->offset, NF_SERVE_CHUNK);
  return 0;
}

static int
read_piece (Piece *piece)
{
  guint64 done = 0;

  while (done < piece->length)
    {
      ssize_t n = pread (piece->fd, piece->buffer + done, piece->length - done,
                         (off_t)(piece->offset + done));
      if (n < 0 && errno == EINTR)
        continue;
      if (n < 0)
        return -errno;
      if (n == 0)
        break; /* cut behind our back: what is there is what is there */
      done += (guint64)n;
    }
  piece->length = done;
  return 0;
}

/* Under the object's lock. */
static int
take_piece (NfServeJob *job, Piece *piece)
{
  int err = nf_tree_fstat (job->primary->share->tree, piece->fd, job->fid, &piece->attr);

  if (err != 0)
    return err;
  if (!S_ISREG (piece->attr.mode))
    return -EINVAL;
  guint64 end = MIN (job->end, piece->attr.size);
  piece->offset = job->offset;
  if (piece->offset >= end)
    return 0;
  err = measure (piece, end);
  if (err != 0 || piece->hole)
    return err;
  piece->buffer = g_malloc (piece->length);
  return read_piece (piece);
}

static int
take_locked (NfServeJob *job, Piece *piece, guint64 *ret_seq)
{
  NfPrimary *primary = job->primary;
  NfLockSet locks;

  nf_locks_take (&primary->locks, &job->fid, 1, &locks);
  *ret_seq = nf_primary_stamp (primary);
  piece->fd = nf_serve_open (job, job->fid);
  int err = piece->fd < 0 ? piece->fd : take_piece (job, piece);
  nf_locks_give (&primary->locks, &locks);
  if (piece->fd >= 0)
    close (piece->fd);
  return err;
}

gboolean
nf_serve_fetch (NfServeJob *job)
{
  Piece piece = { .fd = -1 };
  NfMsg msg = { .type = NF_MSG_FETCHED };
  int err = take_locked (job, &piece, &msg.fetched.seq);
  gboolean more = err == 0 && piece.length > 0
                  && piece.offset + piece.length < MIN (job->end, piece.attr.size);

  msg.fetched.share = job->primary->share->conf.id;
  msg.fetched.id = job->id;
  msg.fetched.fid = job->fid;
  msg.fetched.status = nf_status_from_errno (err);
  msg.fetched.offset = job->offset;
  msg.fetched.flags = (guint8)((more ? 0 : NF_FLAG_LAST) | (piece.hole ? NF_FLAG_HOLE : 0));
  if (err == 0)
    {
      msg.fetched.attr = piece.attr;
      msg.fetched.length = piece.length;
      if (!piece.hole)
        msg.fetched.data = nf_slice (piece.buffer, piece.length);
    }
  more = nf_serve_send (job, &msg) && more;
  g_free (piece.buffer);
  job->offset += piece.length;
  nf_host_point (job->primary->share->host, "fetch-chunk");
  return more;
}

/* ---- HASH ---- */

static int
hash_blocks (NfServeJob *job, int fd, guint64 end, GByteArray *hashes)
{
  Piece piece = { .fd = fd, .offset = job->offset };
  int err = 0;

  piece.buffer = g_malloc (job->block);
  while (err == 0 && piece.offset < end && piece.offset - job->offset < HASH_SPAN)
    {
      XXH128_canonical_t hash;
      guint64 wanted = MIN (job->block, end - piece.offset);
      piece.length = wanted;
      err = read_piece (&piece);
      if (err != 0 || piece.length < wanted)
        break;
      XXH128_canonicalFromHash (&hash, XXH3_128bits (piece.buffer, piece.length));
      g_byte_array_append (hashes, hash.digest, HASH_SIZE);
      piece.offset += piece.length;
    }
  g_free (piece.buffer);
  return err;
}

static int
hash_locked (NfServeJob *job, GByteArray *hashes, guint64 *ret_seq, guint64 *ret_size)
{
  NfPrimary *primary = job->primary;
  NfLockSet locks;
  struct stat st;

  nf_locks_take (&primary->locks, &job->fid, 1, &locks);
  *ret_seq = nf_primary_stamp (primary);
  int fd = nf_serve_open (job, job->fid);
  int err = fd < 0 ? fd : 0;
  if (err == 0 && fstat (fd, &st) != 0)
    err = -errno;
  if (err == 0 && !S_ISREG (st.st_mode))
    err = -EINVAL;
  if (err == 0)
    {
      *ret_size = (guint64)st.st_size;
      /* The last block asked for is hashed whole, as far as the file goes. */
      guint64 span = (job->end - job->offset + job->block - 1) / job->block * job->block;
      err = hash_blocks (job, fd, MIN (job->offset + span, *ret_size), hashes);
    }
  nf_locks_give (&primary->locks, &locks);
  if (fd >= 0)
    close (fd);
  return err;
}

gboolean
nf_serve_hash (NfServeJob *job)
{
  g_autoptr (GByteArray) hashes = g_byte_array_new ();
  NfMsg msg = { .type = NF_MSG_HASHED };
  guint64 size = 0;
  int err = -EINVAL;

  if (job->block >= HASH_BLOCK_MIN && job->block <= HASH_SPAN)
    err = hash_locked (job, hashes, &msg.hashed.seq, &size);
  msg.hashed.share = job->primary->share->conf.id;
  msg.hashed.id = job->id;
  msg.hashed.fid = job->fid;
  msg.hashed.status = nf_status_from_errno (err);
  msg.hashed.size = size;
  msg.hashed.offset = job->offset;
  msg.hashed.block = job->block;
  msg.hashed.hashes = nf_slice (hashes->data, err == 0 ? hashes->len : 0);
  (void)nf_serve_send (job, &msg);
  return FALSE;
}
