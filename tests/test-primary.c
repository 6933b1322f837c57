// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/primary-help.h"

/* What a primary does with the calls of its own mount. */

#define ROOT NF_FID_ROOT

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

TestSuite (primary, .init = set_up, .fini = tear_down, .timeout = 60);

static gboolean
exists (const char *path)
{
  g_autofree char *full = path_of (world, path);

  return access (full, F_OK) == 0;
}

#define assert_log(from, expected)                     \
  do                                                   \
    {                                                  \
      g_autofree char *text = log_after (world, from); \
      cr_assert_str_eq (text, expected);               \
    }                                                  \
  while (0)

/* ---- names ---- */

Test (primary, created_objects_are_found_and_keep_their_fids)
{
  NfFid dir, file, link, found;

  cr_assert_eq (do_mkdir (world, ROOT, "d", 0755, &dir), 0);
  cr_assert_eq (do_create (world, dir, "f", 0644, 0, &file), 0);
  cr_assert_eq (world->answer.answer.value, 1);
  cr_assert_eq (do_symlink (world, dir, "l", "f", &link), 0);
  cr_assert_eq (do_lookup (world, dir, "f", &found), 0);
  cr_assert_eq (found, file);
  world_close (world);
  world_open (world);
  g_autofree char *list = do_list (world, dir);
  g_autofree char *expected
      = g_strdup_printf ("f=%" G_GUINT64_FORMAT " l=%" G_GUINT64_FORMAT, file, link);
  cr_assert_str_eq (list, expected);
}

Test (primary, times_of_object_and_parent_are_those_of_the_record)
{
  NfFid file;

  cr_assert_eq (do_create (world, ROOT, "f", 0644, 0, &file), 0);
  NfAttr attr = world->answer.answer.attr;
  cr_assert_eq (mtime_of (stat_behind (world, "f")), attr.mtime);
  cr_assert_eq (mtime_of (stat_behind (world, ".")), attr.mtime);
  cr_assert_geq (attr.mtime,
                 G_GINT64_CONSTANT (1700000000000000000)); /* the host's clock, not the kernel's */
  cr_assert_leq (attr.mtime, G_GINT64_CONSTANT (1700000100000000000));
  gint64 ctime = attr.ctime;
  cr_assert_eq (do_getattr (world, file, &attr), 0);
  cr_assert_eq (attr.ctime, ctime); /* nothing touches it after the answer */
}

Test (primary, calls_that_fail_for_what_is_there_leave_no_record)
{
  NfFid dir;

  cr_assert_eq (do_mkdir (world, ROOT, "d", 0755, &dir), 0);
  cr_assert_eq (do_create (world, dir, "f", 0644, 0, NULL), 0);
  guint64 seq = last_seq (world);
  cr_assert_eq (do_mkdir (world, ROOT, "d", 0755, NULL), -EEXIST);
  cr_assert_eq (do_create (world, dir, "f", 0644, NF_CREATE_EXCL, NULL), -EEXIST);
  cr_assert_eq (do_unlink (world, dir, "g"), -ENOENT);
  cr_assert_eq (do_unlink (world, ROOT, "d"), -EISDIR);
  cr_assert_eq (do_rmdir (world, dir, "f"), -ENOTDIR);
  cr_assert_eq (do_rmdir (world, ROOT, "d"), -ENOTEMPTY);
  cr_assert_eq (do_rename (world, dir, "g", dir, "h", 0), -ENOENT);
  cr_assert_eq (do_rename (world, dir, "f", ROOT, "d", 0), -EISDIR);
  cr_assert_eq (do_rename (world, ROOT, "d", dir, "e", 0), -EINVAL);
  cr_assert_eq (do_rename (world, dir, "f", ROOT, "d", RENAME_NOREPLACE), -EEXIST);
  cr_assert_eq (do_rename (world, dir, "f", ROOT, "x", RENAME_WHITEOUT), -EINVAL);
  cr_assert_eq (do_link (world, dir, ROOT, "x"), -EPERM);
  cr_assert_eq (do_create (world, 4711, "f", 0644, 0, NULL), -ESTALE);
  cr_assert_eq (last_seq (world), seq);
}

Test (primary, the_hidden_directory_cant_be_reached)
{
  cr_assert_eq (do_lookup (world, ROOT, ".nearfs", NULL), -ENOENT);
  cr_assert_eq (do_mkdir (world, ROOT, ".nearfs", 0755, NULL), -EPERM);
  cr_assert_eq (do_rmdir (world, ROOT, ".nearfs"), -EPERM);
  cr_assert_eq (do_create (world, ROOT, "f", 0644, 0, NULL), 0);
  cr_assert_eq (do_rename (world, ROOT, "f", ROOT, ".nearfs", 0), -EPERM);
  cr_assert_eq (do_rename (world, ROOT, "f", ROOT, ".nearfs", RENAME_EXCHANGE), -EPERM);
  g_autofree char *list = do_list (world, ROOT);
  cr_assert_eq (strstr (list, "nearfs"), NULL);
}

Test (primary, a_rename_over_is_one_op)
{
  NfFid one, two, found;

  cr_assert_eq (do_create (world, ROOT, "one", 0644, 0, &one), 0);
  cr_assert_eq (do_create (world, ROOT, "two", 0644, 0, &two), 0);
  guint64 seq = last_seq (world);
  cr_assert_eq (do_rename (world, ROOT, "one", ROOT, "two", 0), 0);
  cr_assert_eq (last_seq (world), seq + 1);
  g_autofree char *expected
      = g_strdup_printf ("names 1/one is gone, 1/two is %" G_GUINT64_FORMAT " (one)\n", one);
  assert_log (seq, expected);
  cr_assert_eq (do_lookup (world, ROOT, "one", NULL), -ENOENT);
  cr_assert_eq (do_lookup (world, ROOT, "two", &found), 0);
  cr_assert_eq (found, one);
  NfAttr attr;
  cr_assert_eq (do_getattr (world, two, &attr), -ESTALE);
}

Test (primary, an_exchange_swaps_names_across_directories)
{
  NfFid d, e, x, found;

  cr_assert_eq (do_mkdir (world, ROOT, "d", 0755, &d), 0);
  cr_assert_eq (do_mkdir (world, ROOT, "e", 0755, &e), 0);
  cr_assert_eq (do_create (world, d, "x", 0644, 0, &x), 0);
  cr_assert_eq (do_rename (world, d, "x", ROOT, "e", RENAME_EXCHANGE), 0);
  cr_assert_eq (do_lookup (world, ROOT, "e", &found), 0);
  cr_assert_eq (found, x);
  cr_assert_eq (do_lookup (world, d, "x", &found), 0);
  cr_assert_eq (found, e);
  cr_assert_eq (do_create (world, e, "below", 0644, 0, NULL), 0);
  cr_assert (exists ("d/x/below"));
}

Test (primary, renaming_to_another_link_of_the_same_file_does_nothing)
{
  NfFid file, found;

  cr_assert_eq (do_create (world, ROOT, "a", 0644, 0, &file), 0);
  cr_assert_eq (do_link (world, file, ROOT, "b"), 0);
  cr_assert_eq (world->answer.answer.attr.nlink, 2);
  guint64 seq = last_seq (world);
  cr_assert_eq (do_rename (world, ROOT, "a", ROOT, "b", 0), 0);
  cr_assert_eq (last_seq (world), seq);
  cr_assert_eq (do_unlink (world, ROOT, "a"), 0);
  cr_assert_eq (do_lookup (world, ROOT, "b", &found), 0);
  cr_assert_eq (found, file);
  cr_assert_eq (world->answer.answer.attr.nlink, 1);
}

static NfFile *
open_file (NfFid fid, int flags)
{
  NfFile *file = NULL;

  cr_assert_eq (nf_opens_add (world->a->share->opens, fid, flags, &file), 0);
  return file;
}

Test (primary, an_open_file_lives_on_without_a_name)
{
  NfFid one, two, three;
  NfAttr attr;

  cr_assert_eq (do_create (world, ROOT, "one", 0644, 0, &one), 0);
  cr_assert_eq (do_create (world, ROOT, "two", 0644, 0, &two), 0);
  cr_assert_eq (do_create (world, ROOT, "three", 0644, 0, &three), 0);
  NfFile *file_one = open_file (one, O_RDWR);
  NfFile *file_two = open_file (two, O_RDWR);
  cr_assert_eq (do_unlink (world, ROOT, "one"), 0);
  cr_assert_eq (do_rename (world, ROOT, "three", ROOT, "two", 0), 0);
  cr_assert_eq (do_write (world, one, 0, 0, "1", 1), 0);
  cr_assert_eq (do_write (world, two, 0, 0, "22", 2), 0);
  cr_assert_eq (do_getattr (world, two, &attr), 0);
  cr_assert_eq (attr.size, 2);
  cr_assert_eq (attr.nlink, 0);
  cr_assert_eq (do_link (world, one, ROOT, "again"), -ENOENT);
  nf_file_close (file_one);
  nf_file_close (file_two);
  cr_assert_eq (do_getattr (world, one, &attr), -ESTALE);
  cr_assert_eq (do_getattr (world, two, &attr), -ESTALE);
}

Test (primary, create_of_what_is_there_opens_it)
{
  NfFid file, found;

  cr_assert_eq (do_create (world, ROOT, "f", 0644, 0, &file), 0);
  cr_assert_eq (do_write (world, file, 0, 0, "text", 4), 0);
  cr_assert_eq (do_create (world, ROOT, "f", 0600, 0, &found), 0);
  cr_assert_eq (found, file);
  cr_assert_eq (world->answer.answer.value, 0);
  cr_assert_eq (world->answer.answer.attr.size, 4);
  cr_assert_eq (do_create (world, ROOT, "f", 0600, NF_CREATE_TRUNC, &found), 0);
  cr_assert_eq (stat_behind (world, "f").st_size, 0);
}

/* ---- whose and how ---- */

Test (primary, new_objects_are_the_callers)
{
  NfFid dir;

  cr_assert_eq (do_mkdir (world, ROOT, "d", 0777, &dir), 0);
  NfAttr open = { .mode = 0777 };
  cr_assert_eq (do_setattr (world, dir, NF_SET_MODE, &open), 0);
  world->uid = world->gid = 1234;
  world->umask = 027;
  guint64 seq = last_seq (world);
  cr_assert_eq (do_create (world, dir, "f", 0666, 0, NULL), 0);
  cr_assert_eq (last_seq (world), seq + 1); /* foretold: no correction */
  struct stat st = stat_behind (world, "d/f");
  cr_assert_eq (st.st_uid, 1234);
  cr_assert_eq (st.st_gid, 1234);
  cr_assert_eq (st.st_mode & 07777, 0640);
  cr_assert_eq (geteuid (), 0);
  NfAttr attr = { .mode = 0777 };
  cr_assert_eq (do_setattr (world, dir, NF_SET_MODE, &attr), -EPERM);
}

Test (primary, what_the_kernel_refuses_is_aborted)
{
  NfFid file;

  cr_assert_eq (do_create (world, ROOT, "f", 0644, 0, &file), 0);
  guint64 seq = last_seq (world);
  world->uid = world->gid = 1234;
  cr_assert_eq (do_create (world, ROOT, "g", 0644, 0, NULL), -EACCES);
  cr_assert_eq (do_unlink (world, ROOT, "f"), -EACCES);
  cr_assert_eq (do_rename (world, ROOT, "f", ROOT, "h", 0), -EACCES);
  g_autofree char *text = log_after (world, seq);
  cr_assert_eq (last_seq (world), seq + 6, "%s", text);
  cr_assert_not_null (strstr (text, "abort of"));
  world->uid = world->gid = 0;
  cr_assert_eq (do_create (world, ROOT, "g", 0644, 0, NULL), 0); /* the thread is root again */
}

Test (primary, a_set_group_id_directory_hands_its_group_down)
{
  NfFid dir;
  NfAttr attr = { .mode = 02777, .gid = 77 };

  cr_assert_eq (do_mkdir (world, ROOT, "d", 0755, &dir), 0);
  cr_assert_eq (do_setattr (world, dir, NF_SET_GID, &attr), 0);
  cr_assert_eq (do_setattr (world, dir, NF_SET_MODE, &attr), 0);
  guint64 seq = last_seq (world);
  cr_assert_eq (do_mkdir (world, dir, "e", 0755, NULL), 0);
  cr_assert_eq (do_create (world, dir, "f", 0644, 0, NULL), 0);
  cr_assert_eq (last_seq (world), seq + 2);
  cr_assert_eq (stat_behind (world, "d/e").st_gid, 77);
  cr_assert_eq (stat_behind (world, "d/e").st_mode & 07777, 02755);
  cr_assert_eq (stat_behind (world, "d/f").st_gid, 77);
}

/* An ACL as the kernel stores it: version 2, then tag, permissions, id. */
typedef struct
{
  guint16 tag, perm;
  guint32 id;
} AclEntry;

static gsize
make_acl (guint8 *buffer)
{
  const AclEntry entries[] = {
    { 0x01, 7, G_MAXUINT32 }, /* owner */
    { 0x02, 6, 1234 },        /* user 1234 */
    { 0x04, 5, G_MAXUINT32 }, /* group */
    { 0x10, 7, G_MAXUINT32 }, /* mask */
    { 0x20, 0, G_MAXUINT32 }, /* others */
  };
  guint32 version = 2;

  memcpy (buffer, &version, sizeof version);
  memcpy (buffer + sizeof version, entries, sizeof entries);
  return sizeof version + sizeof entries;
}

Test (primary, a_default_acl_reaches_the_record)
{
  NfFid dir, file;
  guint8 acl[64];
  gsize len = make_acl (acl);

  cr_assert_eq (do_mkdir (world, ROOT, "d", 0755, &dir), 0);
  cr_assert_eq (do_setxattr (world, dir, "system.posix_acl_default", acl, len), 0);
  guint64 seq = last_seq (world);
  world->umask = 077;
  cr_assert_eq (do_create (world, dir, "f", 0666, 0, &file), 0);
  cr_assert_eq (world->answer.answer.attr.mode & 0777, 0660); /* the ACL's mask, not the umask */
  g_autofree char *text = log_after (world, seq);
  cr_assert_not_null (strstr (text, "mode 0660"), "%s", text);
  cr_assert_not_null (strstr (text, "system.posix_acl_access is"), "%s", text);
  cr_assert_eq (do_mkdir (world, dir, "e", 0777, NULL), 0);
  g_autofree char *more = log_after (world, seq);
  cr_assert_not_null (strstr (more, "system.posix_acl_default is"), "%s", more);
}

Test (primary, an_acl_changes_the_mode_and_says_so)
{
  NfFid file;
  guint8 acl[64];
  gsize len = make_acl (acl);

  cr_assert_eq (do_create (world, ROOT, "f", 0600, 0, &file), 0);
  guint64 seq = last_seq (world);
  cr_assert_eq (do_setxattr (world, file, "system.posix_acl_access", acl, len), 0);
  g_autofree char *text = log_after (world, seq);
  cr_assert_not_null (strstr (text, "mode 0770"), "%s", text);
}

/* ---- what is there already ---- */

static void
make_tree_behind (void)
{
  g_autofree char *dir = path_of (world, "old/deep");
  g_autofree char *file = path_of (world, "old/deep/file");
  g_autofree char *second = path_of (world, "second");
  g_autofree char *symlink_path = path_of (world, "old/link");

  cr_assert_eq (g_mkdir_with_parents (dir, 0755), 0);
  write_behind (world, "old/deep/file", "content");
  cr_assert_eq (link (file, second), 0);
  cr_assert_eq (symlink ("deep", symlink_path), 0);
  cr_assert_eq (setxattr (file, "user.kept", "1", 1, 0), 0);
}

Test (primary_of_old, an_existing_directory_is_taken_in_whole, .fini = tear_down, .timeout = 60)
{
  NfFid old, deep, file, second;

  world = world_new ();
  make_tree_behind ();
  world_open (world);
  nf_sim_run (world->sim, 10); /* the walk */
  g_autofree char *text = log_after (world, 0);
  cr_assert_not_null (strstr (text, "(old/deep/file)"), "%s", text);
  cr_assert_not_null (strstr (text, "user.kept"), "%s", text);
  guint64 seq = last_seq (world);
  cr_assert_eq (do_lookup (world, ROOT, "old", &old), 0);
  cr_assert_eq (do_lookup (world, old, "deep", &deep), 0);
  cr_assert_eq (do_lookup (world, deep, "file", &file), 0);
  cr_assert_eq (do_lookup (world, ROOT, "second", &second), 0);
  cr_assert_eq (file, second);
  cr_assert_eq (last_seq (world), seq); /* nothing left to adopt */
  cr_assert_eq (do_unlink (world, deep, "file"), 0);
  cr_assert_eq (do_read (world, second, 0, 100), 0);
  cr_assert (nf_slice_equal (world->answer.answer.data, nf_slice_str ("content")));
}

Test (primary, what_appears_behind_the_proxy_is_adopted_when_found)
{
  NfFid file, found;

  write_behind (world, "new", "text");
  cr_assert_eq (do_lookup (world, ROOT, "new", &file), 0);
  cr_assert_neq (file, NF_FID_NONE);
  g_autofree char *first = path_of (world, "new");
  g_autofree char *other = path_of (world, "linked");
  cr_assert_eq (link (first, other), 0);
  guint64 seq = last_seq (world);
  cr_assert_eq (do_lookup (world, ROOT, "linked", &found), 0);
  cr_assert_eq (found, file);
  cr_assert_eq (last_seq (world), seq + 1);
  write_behind (world, "over", "text");
  cr_assert_eq (do_rename (world, ROOT, "new", ROOT, "over", 0), 0);
  write_behind (world, "gone", "text");
  cr_assert_eq (do_unlink (world, ROOT, "gone"), 0);
}

/* ---- opening again ---- */

Test (primary, a_clean_end_keeps_the_reign)
{
  guint64 epoch = world->a->share->epoch;

  cr_assert_eq (do_create (world, ROOT, "f", 0644, 0, NULL), 0);
  guint64 seq = last_seq (world);
  world_close (world);
  world_open (world);
  cr_assert_eq (world->a->share->epoch, epoch);
  cr_assert_eq (last_seq (world), seq);
}
