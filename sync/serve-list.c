// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/serve-internal.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* LIST: an object's own state and, of a directory, its entries.
 *
 * Which names there are is read whole under the directory's lock, at the stamp. The entries' states are read after
 * it, frame by frame: one that is newer than the stamp is as good, since the ops that made it so come again and say
 * the same; and what was removed meanwhile is left out, as its op says, too.
 *
 * Where the site says what it has by a digest, that is compared first, and nothing is listed if it is the same. */

/* Frames end soon after this; the largest entry then still fits. */
#define FRAME_SIZE (256 * 1024)
/* Others have their turn in between. */
#define ENTRIES_A_STEP 2048
/* ---- one object ---- */

static gsize
content_max (const NfServeJob *job)
{
  if (job->wanted != 0)
    return NF_ENTRY_DIGESTED;
  return job->flags & NF_LIST_ALL_NEW ? NF_ENTRY_INLINE_NEW : NF_ENTRY_INLINE;
}

static gboolean
wants_content (const NfServeJob *job, const NfDirEntry *entry)
{
  return S_ISREG (entry->attr.mode) && entry->attr.size <= content_max (job)
         && !(job->flags & NF_LIST_NO_CONTENT) && !entry->unsure;
}

/* Completes ENTRY (with attr, under the object's lock) and encodes it, or adds it to the digest. */
static void
put_entry (NfServeJob *job, NfDirEntry *entry, NfBuf *buf)
{
  NfTree *tree = job->primary->share->tree;
  g_auto (NfEntryParts) parts;

  nf_entry_parts_init (&parts);
  nf_entry_fill (tree, entry, &parts);
  entry->unsure = nf_primary_is_unsure (job->primary, entry->attr.fid);
  int fd = wants_content (job, entry) ? nf_serve_open (job, entry->attr.fid) : -1;
  if (fd >= 0)
    {
      nf_entry_fill_content (tree, fd, content_max (job), entry, &parts);
      close (fd);
    }
  if (job->wanted != 0)
    nf_entry_digest (&job->digest, entry);
  else
    nf_dir_entry_encode (entry, buf);
}

/* The entry NAME, if it is still there. 0 or -errno. */
static int
put_named (NfServeJob *job, NfSlice name, NfBuf *buf)
{
  NfPrimary *primary = job->primary;
  NfShare *share = primary->share;
  NfDirEntry entry = { .name = name };
  NfLockSet locks;
  NfIdent ident;
  int err = nf_tree_lookup (share->tree, job->fid, name, &entry.attr, &ident);

  if (err == 0 && primary->source_seq != 0 && entry.attr.fid == NF_FID_NONE)
    err = -ENOENT; /* somebody's own, and not the share's */
  if (err == 0 && primary->source_seq == 0
      && (entry.attr.fid == NF_FID_NONE || (entry.attr.nlink > 1 && !S_ISDIR (entry.attr.mode))))
    err = nf_primary_adopt (share, job->fid, name, ident, &entry.attr);
  if (err != 0)
    return err;
  NfFid fid = entry.attr.fid;
  nf_locks_take (&primary->locks, &fid, 1, &locks);
  /* By fid now: if the name has gone to another object since, the op that did it says so. */
  err = nf_tree_stat (share->tree, fid, &entry.attr);
  if (err == 0)
    put_entry (job, &entry, buf);
  nf_locks_give (&primary->locks, &locks);
  return err;
}

/* ---- frames ---- */

static gboolean
send_listed (NfServeJob *job, int err, guint8 flags, NfSlice entries)
{
  NfMsg msg = { .type = NF_MSG_LISTED };

  msg.listed.share = job->primary->share->conf.id;
  msg.listed.id = job->id;
  msg.listed.fid = job->fid;
  msg.listed.seq = job->seq;
  msg.listed.status = nf_status_from_errno (err);
  msg.listed.flags = flags;
  msg.listed.entries = entries;
  return nf_serve_send (job, &msg) && !(flags & NF_FLAG_LAST);
}

static gboolean
take_name (NfSlice name, const NfAttr *attr, const NfIdent *ident, guint64 cookie, gpointer data)
{
  GByteArray *names = data;
  guint8 len = (guint8)name.len;

  (void)attr, (void)ident, (void)cookie;
  g_byte_array_append (names, &len, 1);
  g_byte_array_append (names, name.data, len);
  return TRUE;
}

/* The object itself and the names, at the stamp. */
static int
begin (NfServeJob *job, NfBuf *buf)
{
  NfPrimary *primary = job->primary;
  NfShare *share = primary->share;
  NfDirEntry self = { 0 };
  NfLockSet locks;

  nf_locks_take (&primary->locks, &job->fid, 1, &locks);
  job->seq = nf_primary_stamp (primary);
  job->names = g_byte_array_new ();
  job->listed = TRUE;
  int err = nf_tree_stat (share->tree, job->fid, &self.attr);
  if (err == 0 && S_ISDIR (self.attr.mode))
    err = nf_tree_readdir (share->tree, job->fid, 0, FALSE, take_name, job->names);
  if (err == 0)
    put_entry (job, &self, buf);
  nf_locks_give (&primary->locks, &locks);
  return err;
}

static NfSlice
next_name (NfServeJob *job)
{
  const guint8 *at = job->names->data + job->next_name;

  job->next_name += 1 + (gsize)at[0];
  return nf_slice (at + 1, at[0]);
}

/* Gone, or a foreign mount: not the share's. */
static gboolean
is_no_entry (int err)
{
  return err == -ENOENT || err == -ESTALE || err == -EXDEV;
}

/* The digest is through: it is what the site has, or all is listed after all. */
static gboolean
compare_digest (NfServeJob *job)
{
  gboolean same = nf_entry_digest_value (job->digest) == job->wanted;

  if (same)
    return send_listed (job, 0, NF_FLAG_LAST | NF_FLAG_SAME, NF_SLICE_NONE);
  job->wanted = 0;
  job->listed = FALSE;
  job->next_name = 0;
  g_clear_pointer (&job->names, g_byte_array_unref);
  return TRUE;
}

gboolean
nf_serve_list (NfServeJob *job)
{
  g_auto (NfBuf) buf = NF_BUF_INIT;
  int err = job->listed ? 0 : begin (job, &buf);
  guint n = 0;

  while (err == 0 && job->next_name < job->names->len && buf.len < FRAME_SIZE
         && n++ < ENTRIES_A_STEP)
    {
      err = put_named (job, next_name (job), &buf);
      if (is_no_entry (err))
        err = 0;
    }
  gboolean last = err != 0 || job->next_name >= job->names->len;
  if (err == 0 && job->wanted != 0)
    return last ? compare_digest (job) : TRUE;
  return send_listed (job, err, last ? NF_FLAG_LAST : 0,
                      err == 0 ? nf_buf_slice (&buf) : NF_SLICE_NONE);
}
