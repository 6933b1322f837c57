// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "net/proto.h"

#include <string.h>

#include "net/hub.h"

/* The codec, made from the table by one encoder and one decoder per kind of field.
 *
 * A payload is: u16 type, the head if the type is a call, the fields in the table's order.
 * Slices are u32 length and bytes. A decoder checks what can be wrong in a field by itself
 * (bounds, names); what a value means is checked by whoever acts on it. */

/* A type's number and flags. */
typedef struct
{
  const char *name;
  NfMsgType type;
  int flags;
} MsgInfo;

static const MsgInfo messages[] = {
#define X(number, NAME, member, flags) { #NAME, NF_MSG_##NAME, flags },
  NF_MESSAGES (X)
#undef X
};

static const MsgInfo *
find_info (int type)
{
  for (gsize i = 0; i < G_N_ELEMENTS (messages); i++)
    if ((int)messages[i].type == type)
      return &messages[i];
  return NULL;
}

const char *
nf_msg_name (NfMsgType type)
{
  const MsgInfo *info = find_info ((int)type);

  return info == NULL ? "?" : info->name;
}

int
nf_msg_flags (int type)
{
  const MsgInfo *info = find_info (type);

  return info == NULL ? -1 : info->flags;
}

NfMsgType
nf_msg_type_at (guint index)
{
  return index < G_N_ELEMENTS (messages) ? messages[index].type : NF_MSG_NONE;
}

void
nf_attr_encode (const NfAttr *attr, NfBuf *buf)
{
  nf_buf_put_u64 (buf, attr->fid);
  nf_buf_put_u32 (buf, attr->mode);
  nf_buf_put_u32 (buf, attr->nlink);
  nf_buf_put_u32 (buf, attr->uid);
  nf_buf_put_u32 (buf, attr->gid);
  nf_buf_put_u64 (buf, attr->rdev);
  nf_buf_put_u64 (buf, attr->size);
  nf_buf_put_u64 (buf, attr->blocks);
  nf_buf_put_u64 (buf, (guint64)attr->atime);
  nf_buf_put_u64 (buf, (guint64)attr->mtime);
  nf_buf_put_u64 (buf, (guint64)attr->ctime);
}

void
nf_attr_decode (NfReader *reader, NfAttr *ret_attr)
{
  ret_attr->fid = nf_reader_u64 (reader);
  ret_attr->mode = nf_reader_u32 (reader);
  ret_attr->nlink = nf_reader_u32 (reader);
  ret_attr->uid = nf_reader_u32 (reader);
  ret_attr->gid = nf_reader_u32 (reader);
  ret_attr->rdev = nf_reader_u64 (reader);
  ret_attr->size = nf_reader_u64 (reader);
  ret_attr->blocks = nf_reader_u64 (reader);
  ret_attr->atime = (gint64)nf_reader_u64 (reader);
  ret_attr->mtime = (gint64)nf_reader_u64 (reader);
  ret_attr->ctime = (gint64)nf_reader_u64 (reader);
}

/* Field kinds, outwards. What is too long is our own mistake, but for a text, which is cut: it's
 * for people. */

#define put_u8 nf_buf_put_u8
#define put_u16 nf_buf_put_u16
#define put_u32 nf_buf_put_u32
#define put_u64 nf_buf_put_u64

G_GNUC_UNUSED static inline void
put_i64 (NfBuf *buf, gint64 value)
{
  nf_buf_put_u64 (buf, (guint64)value);
}

static void
put_bounded (NfBuf *buf, NfSlice slice, gsize max)
{
  g_assert (slice.len <= max);
  nf_buf_put_slice (buf, slice);
}

static inline void
put_name (NfBuf *buf, NfSlice name)
{
  put_bounded (buf, name, NF_NAME_LEN_MAX);
}

#define put_xname put_name

static inline void
put_path (NfBuf *buf, NfSlice path)
{
  put_bounded (buf, path, NF_PATH_LEN_MAX);
}

static inline void
put_text (NfBuf *buf, NfSlice text)
{
  nf_buf_put_slice (buf, nf_slice (text.data, MIN (text.len, NF_TEXT_MAX)));
}

static inline void
put_data (NfBuf *buf, NfSlice data)
{
  put_bounded (buf, data, NF_DATA_MAX);
}

static inline void
put_attr (NfBuf *buf, NfAttr attr)
{
  nf_attr_encode (&attr, buf);
}

static inline void
put_pos (NfBuf *buf, NfPosition position)
{
  nf_buf_put_u64 (buf, position.epoch);
  nf_buf_put_u64 (buf, position.seq);
  nf_buf_put_u64 (buf, position.chain);
}

/* Field kinds, inwards. */

#define get_u8 nf_reader_u8
#define get_u16 nf_reader_u16
#define get_u32 nf_reader_u32
#define get_u64 nf_reader_u64

G_GNUC_UNUSED static inline gint64
get_i64 (NfReader *reader)
{
  return (gint64)nf_reader_u64 (reader);
}

static gboolean
has_byte (NfSlice slice, int byte)
{
  return slice.len > 0 && memchr (slice.data, byte, slice.len) != NULL;
}

/* Of MAX bytes at most, without NUL. */
static NfSlice
get_string (NfReader *reader, gsize max)
{
  NfSlice slice = nf_reader_slice (reader, max);

  if (has_byte (slice, '\0'))
    reader->failed = TRUE;
  return slice;
}

static NfSlice
get_xname (NfReader *reader)
{
  NfSlice name = get_string (reader, NF_NAME_LEN_MAX);

  if (name.len == 0)
    reader->failed = TRUE;
  return name;
}

static gboolean
is_name (NfSlice name)
{
  return !has_byte (name, '/') && !nf_slice_equal (name, nf_slice ((const guint8 *)".", 1))
         && !nf_slice_equal (name, nf_slice ((const guint8 *)"..", 2));
}

static NfSlice
get_name (NfReader *reader)
{
  NfSlice name = get_xname (reader);

  if (!is_name (name))
    reader->failed = TRUE;
  return name;
}

static inline NfSlice
get_path (NfReader *reader)
{
  return get_string (reader, NF_PATH_LEN_MAX);
}

static inline NfSlice
get_text (NfReader *reader)
{
  return get_string (reader, NF_TEXT_MAX);
}

static inline NfSlice
get_data (NfReader *reader)
{
  return nf_reader_slice (reader, NF_DATA_MAX);
}

static inline NfAttr
get_attr (NfReader *reader)
{
  NfAttr attr;

  nf_attr_decode (reader, &attr);
  return attr;
}

static inline NfPosition
get_pos (NfReader *reader)
{
  NfPosition position;

  position.epoch = nf_reader_u64 (reader);
  position.seq = nf_reader_u64 (reader);
  position.chain = nf_reader_u64 (reader);
  return position;
}

static void
put_head (NfBuf *buf, const NfCallHead *head)
{
  g_assert (head->n_groups <= NF_GROUPS_MAX);
  nf_buf_put_u64 (buf, head->share);
  nf_buf_put_u64 (buf, head->epoch);
  nf_buf_put_u64 (buf, head->reqid);
  nf_buf_put_u64 (buf, head->acked);
  nf_buf_put_u64 (buf, head->session);
  nf_buf_put_u32 (buf, head->uid);
  nf_buf_put_u32 (buf, head->gid);
  nf_buf_put_u32 (buf, head->umask);
  nf_buf_put_u32 (buf, head->pid);
  nf_buf_put_u64 (buf, (guint64)head->clock);
  put_text (buf, head->user);
  nf_buf_put_u32 (buf, head->n_groups);
  for (guint i = 0; i < head->n_groups; i++)
    nf_buf_put_u32 (buf, head->groups[i]);
}

static void
get_head (NfReader *reader, NfCallHead *head)
{
  guint32 n_groups;

  head->share = nf_reader_u64 (reader);
  head->epoch = nf_reader_u64 (reader);
  head->reqid = nf_reader_u64 (reader);
  head->acked = nf_reader_u64 (reader);
  head->session = nf_reader_u64 (reader);
  head->uid = nf_reader_u32 (reader);
  head->gid = nf_reader_u32 (reader);
  head->umask = nf_reader_u32 (reader);
  head->pid = nf_reader_u32 (reader);
  head->clock = (gint64)nf_reader_u64 (reader);
  head->user = get_text (reader);
  n_groups = nf_reader_u32 (reader);
  if (n_groups > NF_GROUPS_MAX)
    {
      reader->failed = TRUE;
      return;
    }
  head->n_groups = n_groups;
  for (guint i = 0; i < n_groups; i++)
    head->groups[i] = nf_reader_u32 (reader);
}

/* One case a message. */
void
nf_msg_encode (const NfMsg *msg, NfBuf *buf) /* NOLINT(readability-function-size) */
{
  int flags = nf_msg_flags ((int)msg->type);

  g_assert (flags >= 0);
  nf_buf_put_u16 (buf, (guint16)msg->type);
  if (flags & NF_MSG_CALL)
    put_head (buf, &msg->head);
  switch (msg->type)
    {
#define F(kind, field) put_##kind (buf, fields->field);
#define X(number, NAME, member, flags)                       \
  case NF_MSG_##NAME:                                        \
    {                                                        \
      const __typeof__ (msg->member) *fields = &msg->member; \
      NF_FIELDS_##NAME (F)                                   \
    }                                                        \
    break;
      NF_MESSAGES (X)
#undef X
#undef F
    case NF_MSG_NONE:
    default:
      g_assert_not_reached ();
    }
}

GBytes *
nf_msg_to_bytes (const NfMsg *msg)
{
  g_auto (NfBuf) buf = NF_BUF_INIT;

  nf_msg_encode (msg, &buf);
  return nf_buf_steal_bytes (&buf);
}

/* One case a message. */
static void
get_fields (NfReader *reader, NfMsg *msg) /* NOLINT(readability-function-size) */
{
  switch (msg->type)
    {
#define F(kind, field) fields->field = get_##kind (reader);
#define X(number, NAME, member, flags)                 \
  case NF_MSG_##NAME:                                  \
    {                                                  \
      __typeof__ (msg->member) *fields = &msg->member; \
      NF_FIELDS_##NAME (F)                             \
    }                                                  \
    break;
      NF_MESSAGES (X)
#undef X
#undef F
    case NF_MSG_NONE:
    default:
      reader->failed = TRUE;
    }
}

gboolean
nf_msg_decode (GBytes *payload, NfMsg *ret_msg, GError **error)
{
  gsize len;
  const guint8 *data = g_bytes_get_data (payload, &len);
  NfReader reader = nf_reader (nf_slice (data, len));
  guint16 type = nf_reader_u16 (&reader);
  int flags = nf_msg_flags (type);
  NfMsg msg = { .type = (NfMsgType)type };

  if (reader.failed || flags < 0)
    {
      g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_PROTOCOL,
                   "message of unknown type %u (%zu bytes)", type, len);
      return FALSE;
    }
  if (flags & NF_MSG_CALL)
    get_head (&reader, &msg.head);
  get_fields (&reader, &msg);
  if (!nf_reader_done (&reader))
    {
      g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_PROTOCOL,
                   "malformed %s message of %zu bytes: %s", nf_msg_name (msg.type), len,
                   reader.failed ? "too short, or a field out of bounds" : "bytes left over");
      return FALSE;
    }
  msg.owner = g_bytes_ref (payload);
  *ret_msg = msg;
  return TRUE;
}

/* SLICE's place in the copy whose cursor is *AT. */
static NfSlice
move_slice (NfSlice slice, guint8 **at)
{
  NfSlice moved = nf_slice (*at, slice.len);

  if (slice.len == 0)
    return NF_SLICE_NONE;
  memcpy (*at, slice.data, slice.len);
  *at += slice.len;
  return moved;
}

/* Moves all slices of MSG into a copy at *AT; with AT NULL only adds up their length. */
/* One case a message. */
static gsize
move_slices (NfMsg *msg, guint8 **at) /* NOLINT(readability-function-size) */
{
  gsize total = msg->head.user.len;

  if (at != NULL)
    msg->head.user = move_slice (msg->head.user, at);
  switch (msg->type)
    {
#define IS_SLICE(field) __builtin_types_compatible_p (__typeof__ (field), NfSlice)
#define F(kind, field)                                      \
  if (IS_SLICE (fields->field))                             \
    {                                                       \
      NfSlice *slice = (NfSlice *)(gpointer)&fields->field; \
      total += slice->len;                                  \
      if (at != NULL)                                       \
        *slice = move_slice (*slice, at);                   \
    }
#define X(number, NAME, member, flags)                 \
  case NF_MSG_##NAME:                                  \
    {                                                  \
      __typeof__ (msg->member) *fields = &msg->member; \
      NF_FIELDS_##NAME (F)                             \
    }                                                  \
    break;
      NF_MESSAGES (X)
#undef X
#undef F
#undef IS_SLICE
    case NF_MSG_NONE:
    default:
      break;
    }
  return total;
}

NfMsg *
nf_msg_dup (const NfMsg *msg)
{
  NfMsg *copy = g_new (NfMsg, 1);
  guint8 *memory;
  guint8 *at;
  gsize len;

  *copy = *msg;
  len = move_slices (copy, NULL);
  at = memory = g_malloc (MAX (len, 1));
  (void)move_slices (copy, &at); /* the length is known */
  copy->owner = g_bytes_new_take (memory, len);
  return copy;
}

void
nf_msg_clear (NfMsg *msg)
{
  g_bytes_unref (msg->owner);
  memset (msg, 0, sizeof *msg);
}

void
nf_msg_free (NfMsg *msg)
{
  if (msg == NULL)
    return;
  nf_msg_clear (msg);
  g_free (msg);
}

void
nf_hello_share_encode (const NfHelloShare *share, NfBuf *buf)
{
  nf_buf_put_u64 (buf, share->share);
  nf_buf_put_u8 (buf, share->role);
  put_pos (buf, share->position);
}

gboolean
nf_hello_share_decode (NfReader *reader, NfHelloShare *ret_share)
{
  NfHelloShare share;

  if (nf_reader_left (reader) == 0)
    return FALSE;
  share.share = nf_reader_u64 (reader);
  share.role = nf_reader_u8 (reader);
  share.position = get_pos (reader);
  if (reader->failed)
    return FALSE;
  *ret_share = share;
  return TRUE;
}

/* What an entry says of its content. */
enum
{
  ENTRY_PLAIN = 0,
  ENTRY_HAS_DATA = 1,
  ENTRY_UNSURE = 2,
};

static guint8
entry_kind (const NfDirEntry *entry)
{
  if (entry->unsure)
    return ENTRY_UNSURE;
  return entry->has_data ? ENTRY_HAS_DATA : ENTRY_PLAIN;
}

void
nf_dir_entry_encode (const NfDirEntry *entry, NfBuf *buf)
{
  put_name (buf, entry->name);
  nf_attr_encode (&entry->attr, buf);
  nf_buf_put_u64 (buf, entry->cookie);
  put_path (buf, entry->target);
  put_data (buf, entry->xattrs);
  nf_buf_put_u8 (buf, entry_kind (entry));
  put_data (buf, entry_kind (entry) == ENTRY_HAS_DATA ? entry->data : NF_SLICE_NONE);
}

gboolean
nf_dir_entry_decode (NfReader *reader, NfDirEntry *ret_entry)
{
  NfDirEntry entry = { 0 };
  guint8 kind;

  if (nf_reader_left (reader) == 0)
    return FALSE;
  entry.name = get_string (reader, NF_NAME_LEN_MAX);
  if (!is_name (entry.name))
    reader->failed = TRUE;
  nf_attr_decode (reader, &entry.attr);
  entry.cookie = nf_reader_u64 (reader);
  entry.target = get_path (reader);
  entry.xattrs = get_data (reader);
  kind = nf_reader_u8 (reader);
  entry.data = get_data (reader);
  entry.has_data = kind == ENTRY_HAS_DATA;
  entry.unsure = kind == ENTRY_UNSURE;
  if (kind > ENTRY_UNSURE || (kind != ENTRY_HAS_DATA && entry.data.len > 0))
    reader->failed = TRUE;
  if (reader->failed)
    return FALSE;
  *ret_entry = entry;
  return TRUE;
}
