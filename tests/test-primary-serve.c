// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "sync/entry.h"
#include "tests/primary-help.h"

/* How a primary answers FETCH, LIST and HASH: "b", which the test plays. */

#define ROOT NF_FID_ROOT
#define SHARE 7

static World *world;

static void
set_up (void)
{
  world = world_new ();
  world_open (world);
}

static void
tear_down (void)
{
  world_free (world);
}

TestSuite (serve, .init = set_up, .fini = tear_down, .timeout = 60);

static void
ask_fetch (guint64 id, NfFid fid, guint64 offset, guint64 length)
{
  NfMsg msg = { .type = NF_MSG_FETCH, .fetch = { SHARE, id, fid, offset, length } };

  nf_sim_send (world->sim, "b", "a", TRUE, &msg);
}

Test (serve, a_fetch_brings_data_and_holes_in_pieces)
{
  const gsize size = 1500 * 1024;
  g_autofree guint8 *data = g_malloc (size);
  g_autofree guint8 *got = g_malloc0 (size + 4096 * 1024);
  guint64 end = 0;
  gboolean hole = FALSE, last = FALSE;
  NfFid file;

  memset (data, 'x', size);
  cr_assert_eq (do_create (world, ROOT, "f", 0644, 0, &file), 0);
  cr_assert_eq (do_write (world, file, 0, 0, data, 1000 * 1024), 0);
  cr_assert_eq (do_write (world, file, 4096 * 1024, 0, data, 500 * 1024), 0);
  nf_sim_connect (world->sim, "a", "b");
  ask_fetch (9, file, 0, G_MAXINT64);
  while (!last)
    {
      g_autoptr (NfMsg) msg = expect (world, NF_MSG_FETCHED);
      cr_assert_eq (msg->fetched.status, 0);
      cr_assert_eq (msg->fetched.id, 9);
      cr_assert_eq (msg->fetched.offset, end);
      cr_assert_eq (msg->fetched.seq, last_seq (world));
      cr_assert_eq (msg->fetched.attr.size, 4596 * 1024);
      cr_assert_leq (msg->fetched.data.len, 512 * 1024);
      if (msg->fetched.data.len > 0)
        memcpy (got + end, msg->fetched.data.data, msg->fetched.data.len);
      hole = hole || (msg->fetched.flags & NF_FLAG_HOLE);
      end += msg->fetched.length;
      last = msg->fetched.flags & NF_FLAG_LAST;
    }
  cr_assert (hole);
  cr_assert_eq (end, 4596 * 1024);
  cr_assert_eq (memcmp (got, data, 1000 * 1024), 0);
  cr_assert_eq (memcmp (got + 4096 * 1024, data, 500 * 1024), 0);
  cr_assert_eq (got[1000 * 1024], 0);
}

Test (serve, fetches_beyond_the_end_or_of_nothing_are_answered)
{
  NfFid file;

  cr_assert_eq (do_create (world, ROOT, "f", 0644, 0, &file), 0);
  nf_sim_connect (world->sim, "a", "b");
  ask_fetch (1, file, 100, 100);
  g_autoptr (NfMsg) beyond = expect (world, NF_MSG_FETCHED);
  cr_assert_eq (beyond->fetched.status, 0);
  cr_assert_eq (beyond->fetched.length, 0);
  cr_assert_eq (beyond->fetched.flags, NF_FLAG_LAST);
  ask_fetch (2, 4711, 0, 100);
  g_autoptr (NfMsg) nothing = expect (world, NF_MSG_FETCHED);
  cr_assert_eq (nf_status_to_errno (nothing->fetched.status), ESTALE);
  cr_assert_eq (nothing->fetched.flags, NF_FLAG_LAST);
  ask_fetch (3, ROOT, 0, 100);
  g_autoptr (NfMsg) dir = expect (world, NF_MSG_FETCHED);
  cr_assert_neq (dir->fetched.status, 0);
}

Test (serve, a_listing_has_the_object_and_all_entries)
{
  NfMsg msg = { .type = NF_MSG_LIST, .list = { SHARE, 3, ROOT } };
  g_autoptr (GHashTable) seen = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  guint entries = 0, frames = 0;
  gboolean last = FALSE;
  NfFid file;

  for (guint i = 0; i < 3000; i++)
    {
      g_autofree char *name = g_strdup_printf ("file-%u", i);
      cr_assert_eq (do_create (world, ROOT, name, 0644, 0, &file), 0);
    }
  g_autofree char *behind = path_of (world, "unknown");
  cr_assert (g_file_set_contents (behind, "content", 7, NULL));
  cr_assert_eq (do_symlink (world, ROOT, "link", "target", NULL), 0);
  cr_assert_eq (do_setxattr (world, file, "user.x", "1", 1), 0);
  nf_sim_connect (world->sim, "a", "b");
  nf_sim_send (world->sim, "b", "a", TRUE, &msg);
  while (!last)
    {
      g_autoptr (NfMsg) listed = expect (world, NF_MSG_LISTED);
      NfReader reader = nf_reader (listed->listed.entries);
      NfDirEntry entry;
      cr_assert_eq (listed->listed.status, 0);
      frames++;
      while (nf_dir_entry_decode (&reader, &entry))
        {
          char *name = nf_slice_dup (entry.name);
          cr_assert_neq (entry.attr.fid, NF_FID_NONE);
          cr_assert_eq (entries == 0, name[0] == '\0');
          if (g_str_equal (name, "unknown"))
            cr_assert (entry.has_data && nf_slice_equal (entry.data, nf_slice_str ("content")));
          if (g_str_equal (name, "link"))
            cr_assert (nf_slice_equal (entry.target, nf_slice_str ("target")));
          if (g_str_equal (name, "file-2999"))
            cr_assert_gt (entry.xattrs.len, 0);
          cr_assert (g_hash_table_add (seen, name));
          entries++;
        }
      cr_assert_not (reader.failed);
      last = listed->listed.flags & NF_FLAG_LAST;
    }
  cr_assert_eq (entries, 3003);
  cr_assert_gt (frames, 1);
}

static NfFid
make_large_dir (const char *name)
{
  g_autofree guint8 *data = g_malloc0 (65536);
  NfFid dir, file;

  cr_assert_eq (do_mkdir (world, ROOT, name, 0755, &dir), 0);
  for (guint i = 0; i < 20; i++)
    {
      g_autofree char *file_name = g_strdup_printf ("%u", i);
      cr_assert_eq (do_create (world, dir, file_name, 0644, 0, &file), 0);
      cr_assert_eq (do_write (world, file, 0, 0, data, 65536), 0);
    }
  return dir;
}

/* So the first can be followed by another question before the second is through. A file isn't held up by either. */
Test (serve, listings_come_one_after_the_other)
{
  const NfFid dirs[] = { make_large_dir ("a"), make_large_dir ("b") };
  GPtrArray *inbox = world->b->inbox;
  g_autoptr (GString) order = g_string_new (NULL);
  NfFid file;

  cr_assert_eq (do_create (world, ROOT, "f", 0644, 0, &file), 0);
  nf_sim_connect (world->sim, "a", "b");
  for (guint i = 0; i < 2; i++)
    {
      NfMsg msg = { .type = NF_MSG_LIST, .list = { SHARE, 1 + i, dirs[i], NF_LIST_ALL_NEW } };
      nf_sim_send (world->sim, "b", "a", TRUE, &msg);
    }
  ask_fetch (3, file, 0, 100);
  while (nf_sim_step (world->sim))
    continue;
  for (guint i = 0; i < inbox->len; i++)
    {
      const NfMsg *msg = inbox->pdata[i];
      if (msg->type == NF_MSG_LISTED)
        g_string_append_c (order, (char)('0' + msg->listed.id));
      else if (msg->type == NF_MSG_FETCHED)
        g_string_append_c (order, 'f');
    }
  cr_assert (g_regex_match_simple ("^1f?1f?1f?1*2{3,}$", order->str, 0, 0), "%s", order->str);
  cr_assert (strchr (order->str, 'f') != NULL);
}

/* Asks with DIGEST. Returns that of what is listed, or 0 if it is the same. */
static guint64
list_with (guint64 id, guint8 flags, guint64 digest)
{
  NfMsg msg = { .type = NF_MSG_LIST, .list = { SHARE, id, ROOT, flags, digest } };
  guint64 sum = 0;
  NfDirEntry entry;

  nf_sim_send (world->sim, "b", "a", TRUE, &msg);
  g_autoptr (NfMsg) listed = expect (world, NF_MSG_LISTED);
  NfReader reader = nf_reader (listed->listed.entries);
  cr_assert_eq (listed->listed.status, 0);
  cr_assert (listed->listed.flags & NF_FLAG_LAST);
  while (nf_dir_entry_decode (&reader, &entry))
    {
      cr_assert_not (entry.has_data && (flags & NF_LIST_NO_CONTENT));
      nf_entry_digest (&sum, &entry);
    }
  cr_assert_eq (sum == 0, (listed->listed.flags & NF_FLAG_SAME) != 0);
  return sum == 0 ? 0 : nf_entry_digest_value (sum);
}

static gboolean
comes_with_content (guint64 id, guint8 flags, const char *name)
{
  NfMsg msg = { .type = NF_MSG_LIST, .list = { SHARE, id, ROOT, flags, 0 } };
  NfDirEntry entry;

  nf_sim_send (world->sim, "b", "a", TRUE, &msg);
  g_autoptr (NfMsg) listed = expect (world, NF_MSG_LISTED);
  NfReader reader = nf_reader (listed->listed.entries);
  while (nf_dir_entry_decode (&reader, &entry))
    if (nf_slice_equal (entry.name, nf_slice_str (name)))
      return entry.has_data == 1 && entry.data.len == entry.attr.size;
  cr_assert_fail ("%s isn't listed", name);
  return FALSE;
}

Test (serve, who_has_nothing_yet_gets_larger_files_with_the_listing)
{
  g_autofree guint8 *data = g_malloc0 (65537);
  NfFid file;

  cr_assert_eq (do_create (world, ROOT, "small", 0644, 0, &file), 0);
  cr_assert_eq (do_write (world, file, 0, 0, data, 8192), 0);
  cr_assert_eq (do_create (world, ROOT, "middle", 0644, 0, &file), 0);
  cr_assert_eq (do_write (world, file, 0, 0, data, 65536), 0);
  cr_assert_eq (do_create (world, ROOT, "large", 0644, 0, &file), 0);
  cr_assert_eq (do_write (world, file, 0, 0, data, 65537), 0);
  nf_sim_connect (world->sim, "a", "b");
  cr_assert (comes_with_content (1, 0, "small"));
  cr_assert_not (comes_with_content (2, 0, "middle"));
  cr_assert (comes_with_content (3, NF_LIST_ALL_NEW, "middle"));
  cr_assert_not (comes_with_content (4, NF_LIST_ALL_NEW, "large"));
  cr_assert_not (comes_with_content (5, NF_LIST_ALL_NEW | NF_LIST_NO_CONTENT, "middle"));
}

Test (serve, what_the_digest_says_already_is_not_listed)
{
  guint8 data[100] = { 1 };
  NfFid file;

  cr_assert_eq (do_create (world, ROOT, "f", 0644, 0, &file), 0);
  cr_assert_eq (do_write (world, file, 0, 0, data, sizeof data), 0);
  cr_assert_eq (do_symlink (world, ROOT, "link", "target", NULL), 0);
  cr_assert_eq (do_setxattr (world, file, "user.x", "1", 1), 0);
  nf_sim_connect (world->sim, "a", "b");
  guint64 with = list_with (1, 0, 0);
  guint64 without = list_with (2, NF_LIST_NO_CONTENT, 0);
  cr_assert_neq (with, without);
  cr_assert_eq (list_with (3, 0, with), 0);
  cr_assert_eq (list_with (4, NF_LIST_NO_CONTENT, without), 0);
  cr_assert_eq (list_with (5, 0, without), with);
  /* The same size and time, other bytes. */
  g_autofree char *behind = path_of (world, "f");
  struct stat st;
  cr_assert_eq (stat (behind, &st), 0);
  int fd = open (behind, O_WRONLY);
  cr_assert_eq (pwrite (fd, "x", 1, 50), 1);
  const struct timespec times[2] = { st.st_atim, st.st_mtim };
  cr_assert_eq (futimens (fd, times), 0);
  close (fd);
  cr_assert_eq (list_with (6, NF_LIST_NO_CONTENT, without), 0);
  cr_assert_neq (list_with (7, 0, with), 0);
  cr_assert_eq (do_setxattr (world, file, "user.x", "2", 1), 0);
  cr_assert_neq (list_with (8, NF_LIST_NO_CONTENT, without), 0);
}

Test (serve, hashes_are_those_of_the_blocks)
{
  NfMsg msg = { .type = NF_MSG_HASH };
  g_autofree guint8 *data = g_malloc (10000);
  XXH128_canonical_t expected;
  NfFid file;

  for (guint i = 0; i < 10000; i++)
    data[i] = (guint8)(i * 7);
  cr_assert_eq (do_create (world, ROOT, "f", 0644, 0, &file), 0);
  cr_assert_eq (do_write (world, file, 0, 0, data, 10000), 0);
  nf_sim_connect (world->sim, "a", "b");
  msg.hash.share = SHARE;
  msg.hash.fid = file;
  msg.hash.length = 1000000;
  msg.hash.block = 4096;
  nf_sim_send (world->sim, "b", "a", TRUE, &msg);
  g_autoptr (NfMsg) hashed = expect (world, NF_MSG_HASHED);
  cr_assert_eq (hashed->hashed.size, 10000);
  cr_assert_eq (hashed->hashed.hashes.len, 3 * 16);
  XXH128_canonicalFromHash (&expected, XXH3_128bits (data + 8192, 10000 - 8192));
  cr_assert_eq (memcmp (hashed->hashed.hashes.data + 32, expected.digest, 16), 0);
}
