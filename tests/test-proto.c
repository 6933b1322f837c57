// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "net/frame.h"
#include "net/hub.h"
#include "net/pack.h"

/* A value of each kind of field; SEED makes them differ. */

#define FILL_u8(seed) (guint8) (seed)
#define FILL_u16(seed) (guint16) ((seed)*257)
#define FILL_u32(seed) ((seed)*0x01010101u)
#define FILL_u64(seed) ((seed)*G_GUINT64_CONSTANT (0x0101010101010101))
#define FILL_i64(seed) (-(gint64)(seed))
#define FILL_name(seed) nf_slice_str ("name")
#define FILL_xname(seed) nf_slice_str ("user.xname")
#define FILL_path(seed) nf_slice_str ("../some/path")
#define FILL_text(seed) nf_slice_str ("a text")
#define FILL_data(seed) nf_slice ("da\0ta", 5)
#define FILL_attr(seed)                        \
  (NfAttr)                                     \
  {                                            \
    seed, 0100644, 2, 3, 4, 5, 6, 7, -8, 9, 10 \
  }
#define FILL_pos(seed) \
  (NfPosition)         \
  {                    \
    seed, 2, 3         \
  }

#define SAME_u8(a, b) ((a) == (b))
#define SAME_u16 SAME_u8
#define SAME_u32 SAME_u8
#define SAME_u64 SAME_u8
#define SAME_i64 SAME_u8
#define SAME_name(a, b) nf_slice_equal (a, b)
#define SAME_xname SAME_name
#define SAME_path SAME_name
#define SAME_text SAME_name
#define SAME_data SAME_name
#define SAME_attr(a, b) (memcmp (&(a), &(b), sizeof (NfAttr)) == 0)
#define SAME_pos(a, b) (memcmp (&(a), &(b), sizeof (NfPosition)) == 0)

/* One case a message. */
static NfMsg
filled (NfMsgType type) /* NOLINT(readability-function-size) */
{
  NfMsg msg = { .type = type };
  guint32 seed = 3;

  if (nf_msg_flags ((int)type) & NF_MSG_CALL)
    {
      msg.head
          = (NfCallHead){ 1, 2, 3, 4, 9, 5, 6, 7, 8, -9, nf_slice_str ("alice"), 2, { 100, 200 } };
    }
  switch (type)
    {
#define F(kind, name) msg_fields->name = FILL_##kind (seed++);
#define X(number, NAME, member, flags)                   \
  case NF_MSG_##NAME:                                    \
    {                                                    \
      __typeof__ (msg.member) *msg_fields = &msg.member; \
      NF_FIELDS_##NAME (F)                               \
    }                                                    \
    break;
      NF_MESSAGES (X)
#undef X
#undef F
    case NF_MSG_NONE:
      break;
    }
  return msg;
}

/* One case a message. */
static void
assert_same (const NfMsg *a, const NfMsg *b) /* NOLINT(readability-function-size) */
{
  cr_assert_eq (a->type, b->type);
  cr_assert_eq (a->head.n_groups, b->head.n_groups);
  cr_assert_eq (memcmp (a->head.groups, b->head.groups, sizeof a->head.groups), 0);
  cr_assert (nf_slice_equal (a->head.user, b->head.user));
  cr_assert (a->head.share == b->head.share && a->head.epoch == b->head.epoch
             && a->head.reqid == b->head.reqid && a->head.acked == b->head.acked
             && a->head.uid == b->head.uid && a->head.gid == b->head.gid
             && a->head.umask == b->head.umask && a->head.pid == b->head.pid
             && a->head.clock == b->head.clock);
  switch (a->type)
    {
#define F(kind, name) cr_assert (SAME_##kind (a_fields->name, b_fields->name), "%s", #name);
#define X(number, NAME, member, flags)                     \
  case NF_MSG_##NAME:                                      \
    {                                                      \
      const __typeof__ (a->member) *a_fields = &a->member; \
      const __typeof__ (b->member) *b_fields = &b->member; \
      NF_FIELDS_##NAME (F)                                 \
    }                                                      \
    break;
      NF_MESSAGES (X)
#undef X
#undef F
    case NF_MSG_NONE:
      break;
    }
}

static gboolean
decodes (const void *data, gsize len, NfMsg *ret_msg)
{
  g_autoptr (GBytes) payload = g_bytes_new (data, len);
  g_autoptr (GError) error = NULL;
  gboolean ok = nf_msg_decode (payload, ret_msg, &error);

  cr_assert (ok == (error == NULL));
  cr_assert (ok || g_error_matches (error, NF_NET_ERROR, NF_NET_ERROR_PROTOCOL));
  return ok;
}

Test (proto, every_message_comes_back_as_it_was)
{
  NfMsgType type;

  for (guint i = 0; (type = nf_msg_type_at (i)) != NF_MSG_NONE; i++)
    {
      NfMsg msg = filled (type);
      g_autoptr (GBytes) bytes = nf_msg_to_bytes (&msg);
      g_auto (NfMsg) back = { 0 };
      g_autoptr (NfMsg) copy = NULL;

      cr_assert (decodes (g_bytes_get_data (bytes, NULL), g_bytes_get_size (bytes), &back), "%s",
                 nf_msg_name (type));
      assert_same (&msg, &back);
      copy = nf_msg_dup (&back);
      nf_msg_clear (&back);
      assert_same (&msg, copy);
    }
}

Test (proto, every_truncation_and_every_extra_byte_is_refused)
{
  NfMsgType type;

  for (guint i = 0; (type = nf_msg_type_at (i)) != NF_MSG_NONE; i++)
    {
      NfMsg msg = filled (type);
      g_auto (NfBuf) buf = NF_BUF_INIT;
      g_auto (NfMsg) back = { 0 };

      nf_msg_encode (&msg, &buf);
      for (gsize len = 0; len < buf.len; len++)
        cr_assert_not (decodes (buf.data, len, &back), "%s cut at %zu", nf_msg_name (type), len);
      nf_buf_put_u8 (&buf, 0);
      cr_assert_not (decodes (buf.data, buf.len, &back), "%s with a byte more", nf_msg_name (type));
    }
}

Test (proto, unknown_types_are_refused)
{
  g_auto (NfMsg) back = { 0 };

  for (guint type = 0; type < 70000; type += type < 300 ? 1 : 997)
    {
      guint8 bytes[2] = { (guint8)type, (guint8)(type >> 8) };

      if (nf_msg_flags ((guint16)type) < 0)
        cr_assert_not (decodes (bytes, 2, &back));
    }
  cr_assert_eq (nf_msg_flags (0), -1);
  cr_assert_eq (nf_msg_flags (-1), -1);
  cr_assert_str_eq (nf_msg_name (NF_MSG_NONE), "?");
  cr_assert_str_eq (nf_msg_name (NF_MSG_RENAME), "RENAME");
  cr_assert_eq (nf_msg_flags (NF_MSG_WRITE), NF_MSG_TO_PRIMARY | NF_MSG_CALL | NF_MSG_CHANGES);
}

/* An UNLINK whose name is of these bytes, put together by hand as the encoder doesn't make bad
 * ones. */
static gboolean
unlink_decodes (const void *name, gsize len)
{
  NfMsg msg = filled (NF_MSG_UNLINK);
  g_auto (NfBuf) buf = NF_BUF_INIT;
  g_auto (NfMsg) back = { 0 };

  nf_msg_encode (&msg, &buf);
  buf.len -= 4 + strlen ("name");
  nf_buf_put_slice (&buf, nf_slice (name, len));
  return decodes (buf.data, buf.len, &back);
}

Test (proto, names_that_could_lead_elsewhere_are_refused)
{
  char name[257];

  memset (name, 'x', sizeof name);
  cr_assert (unlink_decodes ("x", 1));
  cr_assert (unlink_decodes ("...", 3));
  cr_assert (unlink_decodes ("\xff\xfe\n", 3), "any byte but these");
  cr_assert (unlink_decodes (name, 255));
  cr_assert_not (unlink_decodes (name, 256));
  cr_assert_not (unlink_decodes ("", 0));
  cr_assert_not (unlink_decodes (".", 1));
  cr_assert_not (unlink_decodes ("..", 2));
  cr_assert_not (unlink_decodes ("a/b", 3));
  cr_assert_not (unlink_decodes ("a\0b", 3));
}

Test (proto, too_many_groups_are_refused)
{
  NfMsg msg = filled (NF_MSG_GETATTR);
  g_auto (NfBuf) buf = NF_BUF_INIT;
  g_auto (NfMsg) back = { 0 };
  gsize at = 2 + 5 * 8 + 4 * 4 + 8 + 4 + strlen ("alice");

  nf_msg_encode (&msg, &buf);
  cr_assert_eq (buf.data[at], 2);
  nf_buf_set_u32 (&buf, at, NF_GROUPS_MAX + 1);
  for (guint i = 0; i < NF_GROUPS_MAX; i++)
    nf_buf_put_u32 (&buf, i);
  cr_assert_not (decodes (buf.data, buf.len, &back));
  nf_buf_set_u32 (&buf, at, G_MAXUINT32);
  cr_assert_not (decodes (buf.data, buf.len, &back));
}

Test (proto, long_texts_are_cut)
{
  NfMsg msg = { .type = NF_MSG_GOODBYE };
  g_autofree char *text = g_strnfill (5000, 'x');
  g_autoptr (GBytes) bytes = NULL;
  g_auto (NfMsg) back = { 0 };

  msg.goodbye.reason = nf_slice_str (text);
  bytes = nf_msg_to_bytes (&msg);
  cr_assert (nf_msg_decode (bytes, &back, NULL));
  cr_assert_eq (back.goodbye.reason.len, NF_TEXT_MAX);
}

Test (proto, the_largest_call_fits_a_frame)
{
  NfMsg msg = filled (NF_MSG_WRITE);
  static const guint8 data[NF_DATA_MAX];
  g_auto (NfBuf) buf = NF_BUF_INIT;

  msg.head.n_groups = NF_GROUPS_MAX;
  msg.write.data = nf_slice (data, NF_DATA_MAX);
  nf_msg_encode (&msg, &buf);
  cr_assert_leq (buf.len, NF_FRAME_MAX);
}

Test (proto, directory_entries_come_back)
{
  g_auto (NfBuf) buf = NF_BUF_INIT;
  NfDirEntry self = { .attr = { .fid = 1 }, .cookie = 1 };
  NfDirEntry file = { .name = nf_slice_str ("f"),
                      .attr = { .fid = 2 },
                      .xattrs = nf_slice_str ("xx"),
                      .has_data = TRUE };
  NfDirEntry symlink
      = { .name = nf_slice_str ("l"), .attr = { .fid = 3 }, .target = nf_slice_str ("/x") };
  NfDirEntry unsure = { .name = nf_slice_str ("u"), .attr = { .fid = 4 }, .unsure = TRUE };
  NfDirEntry got;
  NfReader reader;

  file.data = nf_slice_str ("content");
  nf_dir_entry_encode (&self, &buf);
  nf_dir_entry_encode (&file, &buf);
  nf_dir_entry_encode (&symlink, &buf);
  nf_dir_entry_encode (&unsure, &buf);
  reader = nf_reader (nf_buf_slice (&buf));
  cr_assert (nf_dir_entry_decode (&reader, &got));
  cr_assert (got.name.len == 0 && got.attr.fid == 1 && got.cookie == 1 && !got.has_data);
  cr_assert (nf_dir_entry_decode (&reader, &got));
  cr_assert (nf_slice_equal (got.name, file.name) && got.has_data
             && nf_slice_equal (got.data, file.data));
  cr_assert (nf_slice_equal (got.xattrs, file.xattrs));
  cr_assert (nf_dir_entry_decode (&reader, &got));
  cr_assert (nf_slice_equal (got.target, symlink.target) && !got.unsure);
  cr_assert (nf_dir_entry_decode (&reader, &got));
  cr_assert (nf_slice_equal (got.name, unsure.name) && got.unsure && !got.has_data);
  cr_assert_not (nf_dir_entry_decode (&reader, &got));
  cr_assert_not (reader.failed);

  for (gsize len = 1; len < buf.len; len++)
    {
      reader = nf_reader (nf_slice (buf.data, len));
      while (nf_dir_entry_decode (&reader, &got))
        ;
      cr_assert (reader.failed || nf_reader_done (&reader));
    }
}

Test (proto, a_directory_entry_cannot_be_called_dot_dot)
{
  static const char *const names[] = { ".", "..", "a/b", NULL };

  for (int i = 0; names[i] != NULL; i++)
    {
      g_auto (NfBuf) buf = NF_BUF_INIT;
      NfDirEntry entry = { .name = nf_slice_str (names[i]) };
      NfReader reader;

      nf_dir_entry_encode (&entry, &buf);
      reader = nf_reader (nf_buf_slice (&buf));
      cr_assert_not (nf_dir_entry_decode (&reader, &entry));
      cr_assert (reader.failed);
    }
}

Test (proto, shares_of_a_greeting_come_back)
{
  g_auto (NfBuf) buf = NF_BUF_INIT;
  NfHelloShare share = { 5, 2, { 7, 8, 9 } };
  NfHelloShare got;
  NfReader reader;

  nf_hello_share_encode (&share, &buf);
  reader = nf_reader (nf_buf_slice (&buf));
  cr_assert (nf_hello_share_decode (&reader, &got));
  cr_assert (got.share == 5 && got.role == 2 && got.position.chain == 9);
  cr_assert_not (nf_hello_share_decode (&reader, &got));
  reader = nf_reader (nf_slice (buf.data, buf.len - 1));
  cr_assert_not (nf_hello_share_decode (&reader, &got));
  cr_assert (reader.failed);
}

Test (proto, statuses_map_to_errno_and_back)
{
  static const int errors[]
      = { EPERM,      ENOENT, EIO,    EACCES,       EEXIST,    ENOTDIR, EISDIR,
          EINVAL,     ENOSPC, EROFS,  ENAMETOOLONG, ENOTEMPTY, ELOOP,   ENODATA,
          EOPNOTSUPP, EDQUOT, ESTALE, EHOSTUNREACH, ETIMEDOUT, EAGAIN };

  for (gsize i = 0; i < G_N_ELEMENTS (errors); i++)
    {
      cr_assert_eq (nf_status_to_errno (nf_status_from_errno (errors[i])), errors[i]);
      cr_assert_eq (nf_status_from_errno (-errors[i]), nf_status_from_errno (errors[i]));
    }
  cr_assert_eq (nf_status_from_errno (0), 0);
  cr_assert_eq (nf_status_to_errno (0), 0);
  cr_assert_eq (nf_status_to_errno (nf_status_from_errno (ENOTSOCK)), EIO);
  cr_assert_eq (nf_status_to_errno (G_MAXUINT32), EIO);
}

/* Feeds BYTES in pieces of STEP; the number of frames, or -1 if the stream is bad. */
static int
count_frames (NfSlice bytes, gsize step)
{
  NfFrameReader reader;
  int n = 0;

  nf_frame_reader_init (&reader, FALSE);
  for (gsize at = 0; at < bytes.len && n >= 0; at += step)
    {
      NfSlice piece = nf_slice (bytes.data + at, MIN (step, bytes.len - at));
      NfFrameHead head;
      NfPayload *payload;
      NfFrameResult result;

      while ((result = nf_frame_reader_feed (&reader, &piece, &head, &payload, NULL))
             == NF_FRAME_READY)
        {
          cr_assert_eq (payload->len, head.len);
          nf_payload_free (payload);
          n++;
        }
      n = result == NF_FRAME_BAD ? -1 : n;
    }
  nf_frame_reader_clear (&reader);
  return n;
}

Test (frame, frames_are_found_however_the_stream_is_cut)
{
  g_auto (NfBuf) buf = NF_BUF_INIT;
  guint8 head[NF_FRAME_HEAD_LEN];

  nf_buf_put_raw (&buf, NF_MAGIC, NF_MAGIC_LEN);
  for (guint i = 2; i < 40; i++)
    {
      nf_frame_head_encode (&(NfFrameHead){ i, 0, i }, head);
      nf_buf_put_raw (&buf, head, sizeof head);
      for (guint k = 0; k < i; k++)
        nf_buf_put_u8 (&buf, (guint8)k);
    }
  for (gsize step = 1; step < 100; step++)
    cr_assert_eq (count_frames (nf_buf_slice (&buf), step), 38);
  buf.data[0] = 'X';
  for (gsize step = 1; step < 100; step++)
    cr_assert_eq (count_frames (nf_buf_slice (&buf), step), -1);
}

Test (pack, what_compresses_comes_back_and_what_does_not_is_left)
{
  g_autoptr (NfPack) pack = nf_pack_new ();
  g_autofree guint8 *text = g_malloc (100000);
  NfSlice packed;
  NfPayload *payload;
  NfPayload *opened;
  guint32 state = 1;

  for (guint i = 0; i < 100000; i++)
    text[i] = (guint8)("the quick brown fox "[i % 20]);
  packed = nf_pack_squeeze (pack, nf_slice (text, 100000));
  cr_assert (packed.len > 0 && packed.len < 10000);
  payload = nf_payload_new (packed.len);
  memcpy (payload->data, packed.data, packed.len);
  opened = nf_pack_open (pack, payload, NULL);
  cr_assert_not_null (opened);
  cr_assert_eq (opened->len, 100000);
  cr_assert_eq (memcmp (opened->data, text, 100000), 0);
  nf_payload_free (opened);

  /* A damaged one is refused. */
  payload->len--;
  cr_assert_null (nf_pack_open (pack, payload, NULL));
  memset (payload->data, 0xff, payload->len);
  cr_assert_null (nf_pack_open (pack, payload, NULL));
  nf_payload_free (payload);

  for (guint i = 0; i < 100000; i++)
    text[i] = (guint8)((state = state * 1664525u + 1013904223u) >> 24);
  for (guint i = 0; i < 200; i++)
    cr_assert_eq (nf_pack_squeeze (pack, nf_slice (text, 100000)).len, 0);
  cr_assert_eq (nf_pack_squeeze (pack, nf_slice (text, 100)).len, 0);
}

/* An item of the list of messages is ".It NUMBER Li NAME" and a line of its fields. */
Test (proto, the_manual_page_describes_every_message_and_field)
{
  const char *src = g_getenv ("NF_SRC");
  g_autofree char *path
      = g_build_filename (src == NULL ? "." : src, "man", "nearfs-protocol.7", NULL);
  g_autofree char *page = NULL;
  g_autoptr (GError) error = NULL;

  cr_assert (g_file_get_contents (path, &page, NULL, &error), "%s",
             error == NULL ? "" : error->message);
#define F(kind, name)                                                                          \
  g_string_append_printf (item, "%s%s %s", item->str[item->len - 1] == ' ' ? "" : ", ", #kind, \
                          #name);
#define X(number, NAME, member, flags)                                                      \
  {                                                                                         \
    g_autoptr (GString) item = g_string_new (".It " #number " Li " #NAME "\n.Dl ");         \
    NF_FIELDS_##NAME (F) g_string_append_c (item, '\n');                                    \
    cr_expect (strstr (page, item->str) != NULL, "nearfs-protocol(7) lacks %s", item->str); \
  }
  NF_MESSAGES (X)
#undef X
#undef F
}
