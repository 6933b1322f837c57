// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/record.h"
#include "sync/times.h"

#include <string.h>
#include <sys/stat.h>

#include <xxhash.h>

/* A record's bytes (nearfs-journal(5)):
 *
 *   u8 kind, u8 flags, u8 number of names, u8 range kind, u64 epoch, u64 seq, i64 time, u64 fid, u64 reqid,
 *   slice site, slice path, and then by kind
 *
 *   NAMES  per name: u64 parent, u64 fid, u32 type, slice name; with CREATES also attr, slice target
 *   ATTR   u32 mask, attr
 *   XATTR  slice name, slice value
 *   DATA   u64 offset, u64 length, attr
 *   ABORT  u64 aborted
 *   EPOCH  nothing */

enum
{
  FLAG_CREATES = 1,
  FLAG_REMOVES = 2,
};

#define SITE_LEN_MAX 255
#define MASK_ALL                                                                     \
  (NF_SET_MODE | NF_SET_UID | NF_SET_GID | NF_SET_SIZE | NF_SET_ATIME | NF_SET_MTIME \
   | NF_SET_ATIME_NOW | NF_SET_MTIME_NOW | NF_SET_CTIME_ONLY | NF_SET_KILL_PRIV)

/* The end of a path that is too long: it is for reading only, and its end says most. */
static NfSlice
fit_path (NfSlice path)
{
  if (path.len <= NF_PATH_LEN_MAX)
    return path;
  return nf_slice (path.data + path.len - NF_PATH_LEN_MAX, NF_PATH_LEN_MAX);
}

static void
encode_names (const NfRecord *record, NfBuf *buf)
{
  for (guint i = 0; i < record->n_names; i++)
    {
      const NfNameIs *is = &record->names[i];

      nf_buf_put_u64 (buf, is->parent);
      nf_buf_put_u64 (buf, is->fid);
      nf_buf_put_u32 (buf, is->fid == NF_FID_NONE ? 0 : is->mode & S_IFMT);
      nf_buf_put_slice (buf, is->name);
    }
  if (record->creates)
    {
      nf_attr_encode (&record->attr, buf);
      nf_buf_put_slice (buf, record->target);
    }
}

void
nf_record_encode (const NfRecord *record, NfBuf *buf)
{
  nf_buf_put_u8 (buf, (guint8)record->kind);
  nf_buf_put_u8 (buf, (record->creates ? FLAG_CREATES : 0) | (record->removes ? FLAG_REMOVES : 0));
  nf_buf_put_u8 (buf, record->kind == NF_OP_NAMES ? (guint8)record->n_names : 0);
  nf_buf_put_u8 (buf, record->kind == NF_OP_DATA ? (guint8)record->range : 0);
  nf_buf_put_u64 (buf, record->epoch);
  nf_buf_put_u64 (buf, record->seq);
  nf_buf_put_u64 (buf, (guint64)record->time);
  nf_buf_put_u64 (buf, record->fid);
  nf_buf_put_u64 (buf, record->reqid);
  nf_buf_put_slice (buf, record->site);
  nf_buf_put_slice (buf, fit_path (record->path));
  switch (record->kind)
    {
    case NF_OP_NAMES:
      g_assert (record->n_names <= G_N_ELEMENTS (record->names));
      encode_names (record, buf);
      break;
    case NF_OP_ATTR:
      nf_buf_put_u32 (buf, record->mask);
      nf_attr_encode (&record->attr, buf);
      break;
    case NF_OP_XATTR:
      nf_buf_put_slice (buf, record->xname);
      nf_buf_put_slice (buf, record->value);
      break;
    case NF_OP_DATA:
      nf_buf_put_u64 (buf, record->offset);
      nf_buf_put_u64 (buf, record->length);
      nf_attr_encode (&record->attr, buf);
      break;
    case NF_OP_ABORT:
      nf_buf_put_u64 (buf, record->aborted);
      break;
    case NF_OP_EPOCH:
      break;
    }
}

static gboolean
name_valid (NfSlice name)
{
  if (name.len == 0 || name.len > NF_NAME_LEN_MAX)
    return FALSE;
  if (memchr (name.data, '/', name.len) != NULL || memchr (name.data, '\0', name.len) != NULL)
    return FALSE;
  return !(name.data[0] == '.' && (name.len == 1 || (name.len == 2 && name.data[1] == '.')));
}

static gboolean
type_valid (guint32 mode)
{
  return S_ISREG (mode) || S_ISDIR (mode) || S_ISLNK (mode) || S_ISCHR (mode) || S_ISBLK (mode)
         || S_ISFIFO (mode) || S_ISSOCK (mode);
}

static gboolean
decode_name (NfReader *reader, NfNameIs *ret_is)
{
  ret_is->parent = nf_reader_u64 (reader);
  ret_is->fid = nf_reader_u64 (reader);
  ret_is->mode = nf_reader_u32 (reader);
  ret_is->name = nf_reader_slice (reader, NF_NAME_LEN_MAX);
  if (reader->failed || ret_is->parent == NF_FID_NONE || !name_valid (ret_is->name))
    return FALSE;
  if (ret_is->fid == NF_FID_NONE)
    return ret_is->mode == 0;
  return (ret_is->mode & ~(guint32)S_IFMT) == 0 && type_valid (ret_is->mode);
}

static gboolean
decode_creation (NfReader *reader, NfRecord *record)
{
  const NfNameIs *is = &record->names[0];

  nf_attr_decode (reader, &record->attr);
  record->target = nf_reader_slice (reader, NF_PATH_LEN_MAX);
  if (reader->failed || is->fid == NF_FID_NONE || record->fid != is->fid)
    return FALSE;
  if ((record->attr.mode & S_IFMT) != is->mode || record->attr.size > G_MAXINT64)
    return FALSE;
  if (!S_ISLNK (is->mode))
    return record->target.len == 0;
  return record->target.len > 0 && memchr (record->target.data, '\0', record->target.len) == NULL;
}

static gboolean
decode_names (NfReader *reader, guint n_names, NfRecord *record)
{
  if (n_names < 1 || n_names > G_N_ELEMENTS (record->names))
    return FALSE;
  record->n_names = n_names;
  for (guint i = 0; i < n_names; i++)
    if (!decode_name (reader, &record->names[i]))
      return FALSE;
  return !record->creates || decode_creation (reader, record);
}

static gboolean
decode_attr (NfReader *reader, NfRecord *record)
{
  record->mask = nf_reader_u32 (reader);
  nf_attr_decode (reader, &record->attr);
  return record->fid != NF_FID_NONE && (record->mask & ~(guint32)MASK_ALL) == 0
         && record->attr.size <= G_MAXINT64;
}

static gboolean
decode_xattr (NfReader *reader, NfRecord *record)
{
  record->xname = nf_reader_slice (reader, NF_NAME_LEN_MAX);
  record->value = nf_reader_slice (reader, NF_XATTR_MAX);
  return record->fid != NF_FID_NONE && record->xname.len > 0
         && memchr (record->xname.data, '\0', record->xname.len) == NULL
         && (!record->removes || record->value.len == 0);
}

static gboolean
decode_data (NfReader *reader, guint range, NfRecord *record)
{
  record->offset = nf_reader_u64 (reader);
  record->length = nf_reader_u64 (reader);
  record->range = (NfRangeKind)range;
  nf_attr_decode (reader, &record->attr);
  return record->fid != NF_FID_NONE && range <= NF_RANGE_ALLOC && record->offset <= G_MAXINT64
         && record->length <= G_MAXINT64 - record->offset && record->attr.size <= G_MAXINT64;
}

static gboolean
decode_body (NfReader *reader, guint n_names, guint range, NfRecord *record)
{
  if ((n_names != 0 && record->kind != NF_OP_NAMES) || (range != 0 && record->kind != NF_OP_DATA)
      || (record->creates && record->kind != NF_OP_NAMES)
      || (record->removes && record->kind != NF_OP_XATTR))
    return FALSE;
  switch (record->kind)
    {
    case NF_OP_NAMES:
      return decode_names (reader, n_names, record);
    case NF_OP_ATTR:
      return decode_attr (reader, record);
    case NF_OP_XATTR:
      return decode_xattr (reader, record);
    case NF_OP_DATA:
      return decode_data (reader, range, record);
    case NF_OP_ABORT:
      record->aborted = nf_reader_u64 (reader);
      return record->aborted > 0 && record->aborted < record->seq;
    case NF_OP_EPOCH:
      return TRUE;
    }
  return FALSE;
}

gboolean
nf_record_decode (NfSlice bytes, NfRecord *ret_record)
{
  NfReader reader = nf_reader (bytes);
  NfRecord record = { 0 };
  guint flags, n_names, range;

  if (bytes.len > NF_RECORD_MAX)
    return FALSE;
  record.kind = (NfOpKind)nf_reader_u8 (&reader);
  flags = nf_reader_u8 (&reader);
  n_names = nf_reader_u8 (&reader);
  range = nf_reader_u8 (&reader);
  record.creates = (flags & FLAG_CREATES) != 0;
  record.removes = (flags & FLAG_REMOVES) != 0;
  record.epoch = nf_reader_u64 (&reader);
  record.seq = nf_reader_u64 (&reader);
  record.time = (gint64)nf_reader_u64 (&reader);
  record.fid = nf_reader_u64 (&reader);
  record.reqid = nf_reader_u64 (&reader);
  record.site = nf_reader_slice (&reader, SITE_LEN_MAX);
  record.path = nf_reader_slice (&reader, NF_PATH_LEN_MAX);
  if (reader.failed || record.seq == 0 || (flags & ~(guint)(FLAG_CREATES | FLAG_REMOVES)) != 0)
    return FALSE;
  if (!decode_body (&reader, n_names, range, &record) || !nf_reader_done (&reader))
    return FALSE;
  *ret_record = record;
  return TRUE;
}

guint64
nf_record_chain (guint64 previous, NfSlice bytes)
{
  return XXH3_64bits_withSeed (bytes.data, bytes.len, previous);
}

/* Names may hold anything: what isn't printable is escaped, so that a line stays a line. */
static char *
readable (NfSlice slice)
{
  g_autofree char *text = nf_slice_dup (slice);
  char above_ascii[129];

  for (guint i = 0; i < 128; i++)
    above_ascii[i] = (char)(128 + i);
  above_ascii[128] = '\0';
  return g_strescape (text, g_utf8_validate (text, -1, NULL) ? above_ascii : NULL);
}

static void
describe_names (const NfRecord *record, GString *line)
{
  for (guint i = 0; i < record->n_names; i++)
    {
      const NfNameIs *is = &record->names[i];
      g_autofree char *name = readable (is->name);

      g_string_append_printf (line, "%s %" G_GUINT64_FORMAT "/%s", i > 0 ? "," : "", is->parent,
                              name);
      if (is->fid == NF_FID_NONE)
        g_string_append (line, " is gone");
      else
        g_string_append_printf (line, " is %" G_GUINT64_FORMAT, is->fid);
    }
  if (record->creates)
    g_string_append_printf (line, " new mode %06o owner %u:%u size %" G_GUINT64_FORMAT,
                            record->attr.mode, record->attr.uid, record->attr.gid,
                            record->attr.size);
  if (record->target.len > 0)
    {
      g_autofree char *target = readable (record->target);

      g_string_append_printf (line, " -> %s", target);
    }
}

static void
append_time (GString *line, const char *what, gint64 time_ns)
{
  const struct timespec spec = nf_time_spec (time_ns);
  gint64 seconds = spec.tv_sec, rest = spec.tv_nsec;
  g_autoptr (GDateTime) date = NULL;
  g_autofree char *text = NULL;

  date = g_date_time_new_from_unix_utc (seconds);
  text = date == NULL ? g_strdup_printf ("@%" G_GINT64_FORMAT, seconds)
                      : g_date_time_format (date, "%Y-%m-%dT%H:%M:%S");
  g_string_append_printf (line, "%s%s.%06" G_GINT64_FORMAT "Z", what, text, rest / 1000);
}

static void
describe_attr (const NfRecord *record, GString *line)
{
  g_string_append_printf (line, " %" G_GUINT64_FORMAT, record->fid);
  if (record->mask & NF_SET_MODE)
    g_string_append_printf (line, " mode %04o", record->attr.mode & 07777);
  if (record->mask & NF_SET_UID)
    g_string_append_printf (line, " uid %u", record->attr.uid);
  if (record->mask & NF_SET_GID)
    g_string_append_printf (line, " gid %u", record->attr.gid);
  if (record->mask & NF_SET_SIZE)
    g_string_append_printf (line, " size %" G_GUINT64_FORMAT, record->attr.size);
  if (record->mask & NF_SET_ATIME)
    append_time (line, " atime ", record->attr.atime);
  if (record->mask & NF_SET_MTIME)
    append_time (line, " mtime ", record->attr.mtime);
  if (record->mask & NF_SET_CTIME_ONLY)
    g_string_append (line, " ctime");
}

static void
describe_body (const NfRecord *record, GString *line)
{
  static const char *const ranges[] = { "data", "hole", "zero", "alloc" };

  switch (record->kind)
    {
    case NF_OP_NAMES:
      describe_names (record, line);
      break;
    case NF_OP_ATTR:
      describe_attr (record, line);
      break;
    case NF_OP_XATTR:
      {
        g_autofree char *name = readable (record->xname);

        g_string_append_printf (line, " %" G_GUINT64_FORMAT " %s", record->fid, name);
        if (record->removes)
          g_string_append (line, " is gone");
        else
          g_string_append_printf (line, " is %" G_GSIZE_FORMAT " bytes", record->value.len);
        break;
      }
    case NF_OP_DATA:
      g_string_append_printf (line,
                              " %" G_GUINT64_FORMAT " %s %" G_GUINT64_FORMAT "+%" G_GUINT64_FORMAT
                              " size %" G_GUINT64_FORMAT,
                              record->fid, ranges[record->range], record->offset, record->length,
                              record->attr.size);
      break;
    case NF_OP_ABORT:
      g_string_append_printf (line, " of %" G_GUINT64_FORMAT, record->aborted);
      break;
    case NF_OP_EPOCH:
      break;
    }
}

char *
nf_record_describe (const NfRecord *record)
{
  static const char *const kinds[] = { "?", "names", "attr", "xattr", "data", "abort", "epoch" };
  GString *line = g_string_new (NULL);
  guint kind = (guint)record->kind;

  g_string_append_printf (line, "%" G_GUINT64_FORMAT ".%" G_GUINT64_FORMAT, record->epoch,
                          record->seq);
  append_time (line, " ", record->time);
  g_string_append_printf (line, " %s", kinds[kind < G_N_ELEMENTS (kinds) ? kind : 0]);
  describe_body (record, line);
  if (record->path.len > 0)
    {
      g_autofree char *path = readable (record->path);

      g_string_append_printf (line, " (%s)", path);
    }
  if (record->site.len > 0)
    {
      g_autofree char *site = readable (record->site);

      g_string_append_printf (line, " by %s #%" G_GUINT64_FORMAT, site, record->reqid);
    }
  return g_string_free (line, FALSE);
}
