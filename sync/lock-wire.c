// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/lock-wire.h"

void
nf_lock_encode (const NfLock *lock, NfBuf *buf)
{
  nf_buf_put_u64 (buf, lock->fid);
  nf_buf_put_u8 (buf, (guint8)lock->kind);
  nf_buf_put_u8 (buf, (guint8)lock->type);
  nf_buf_put_u64 (buf, lock->start);
  nf_buf_put_u64 (buf, lock->end);
  nf_buf_put_u64 (buf, lock->owner);
  nf_buf_put_u32 (buf, lock->pid);
  nf_buf_put_u64 (buf, lock->id);
}

gboolean
nf_lock_decode (NfReader *reader, NfLock *ret_lock)
{
  NfLock lock = { 0 };

  if (nf_reader_left (reader) == 0)
    return FALSE;
  lock.fid = nf_reader_u64 (reader);
  lock.kind = nf_reader_u8 (reader);
  lock.type = nf_reader_u8 (reader);
  lock.start = nf_reader_u64 (reader);
  lock.end = nf_reader_u64 (reader);
  lock.owner = nf_reader_u64 (reader);
  lock.pid = nf_reader_u32 (reader);
  lock.id = nf_reader_u64 (reader);
  if (reader->failed)
    return FALSE;
  if (lock.kind > NF_LOCK_ALL || lock.type > NF_LOCK_WRITE || lock.start > lock.end
      || lock.end > G_MAXINT64)
    {
      reader->failed = TRUE;
      return FALSE;
    }
  *ret_lock = lock;
  return TRUE;
}
