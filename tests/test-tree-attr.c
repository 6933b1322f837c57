// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "tests/tree-help.h"

/* Attributes: set where they can be, else recorded; what the share shows is the same. */

TestSuite (tree_attr, .init = tree_set_up, .fini = tree_tear_down);
TestSuite (tree_personal, .init = tree_set_up_personal, .fini = tree_tear_down);

static NfFid
file (void)
{
  return tree_make (NF_FID_ROOT, "f", S_IFREG | 0644);
}

static void
disk_stat (const char *name, struct stat *st)
{
  g_autofree char *path = tree_path (name);

  cr_assert_eq (lstat (path, st), 0);
}

/* Everything that can be set, through the fid and through a descriptor. */
static void
check_setting (NfFid fid, int fd)
{
  NfAttr attr = {
    .mode = 02710,
    .uid = getuid () + 12,
    .gid = getgid () + 34,
    .size = 5000,
    .atime = G_GINT64_CONSTANT (-1000000001),
    .mtime = G_GINT64_CONSTANT (1234567890987654321),
  };
  NfAttr now;

  cr_assert_eq (nf_tree_set_attr (tree, fid, fd,
                                  NF_SET_MODE | NF_SET_UID | NF_SET_GID | NF_SET_SIZE | NF_SET_ATIME
                                      | NF_SET_MTIME,
                                  &attr),
                0);
  now = tree_stat (fid);
  cr_assert_eq (now.mode, S_IFREG | 02710, "%o", now.mode);
  cr_assert_eq (now.uid, attr.uid);
  cr_assert_eq (now.gid, attr.gid);
  cr_assert_eq (now.size, 5000);
  cr_assert_eq (now.atime, attr.atime);
  cr_assert_eq (now.mtime, attr.mtime);
  cr_assert_eq (nf_tree_lookup (tree, NF_FID_ROOT, N ("f"), &now, NULL), 0);
  cr_assert_eq (now.uid, attr.uid);
  cr_assert_eq (now.mode, S_IFREG | 02710);
  attr.mtime++;
  cr_assert_eq (nf_tree_set_attr (tree, fid, fd, NF_SET_MTIME, &attr), 0);
  now = tree_stat (fid);
  cr_assert_eq (now.mtime, attr.mtime);
  cr_assert_eq (now.atime, attr.atime, "left alone");
  attr = (NfAttr){ .uid = getuid (), .gid = getgid (), .mode = 0644 };
  cr_assert_eq (
      nf_tree_set_attr (tree, fid, fd, NF_SET_UID | NF_SET_GID | NF_SET_MODE | NF_SET_SIZE, &attr),
      0);
  now = tree_stat (fid);
  cr_assert_eq (now.uid, getuid ());
  cr_assert_eq (now.mode, S_IFREG | 0644);
  cr_assert_eq (now.size, 0);
  cr_assert_not (tree_object (fid).extra, "nothing is left on record");
}

/* tmpfs and XFS hold times that nanoseconds in 64 bits don't. */
Test (tree_attr, times_beyond_our_own_reach_are_the_last_that_there_are)
{
  const struct timespec times[2] = { { .tv_sec = G_GINT64_CONSTANT (-20000000000) },
                                     { .tv_sec = G_GINT64_CONSTANT (13000000000) } };
  NfFid fid = file ();
  g_autofree char *path = tree_path ("f");
  struct stat st;

  cr_assert_eq (utimensat (AT_FDCWD, path, times, 0), 0);
  disk_stat ("f", &st);
  NfAttr now = tree_stat (fid);
  if (st.st_mtim.tv_sec > G_GINT64_CONSTANT (10000000000))
    cr_assert_eq (now.mtime, G_MAXINT64);
  if (st.st_atim.tv_sec < G_GINT64_CONSTANT (-10000000000))
    cr_assert_eq (now.atime, G_MININT64 + 1);
  cr_assert_eq (nf_tree_set_attr (tree, fid, -1, NF_SET_ATIME | NF_SET_MTIME, &now), 0);
  cr_assert_eq (tree_stat (fid).mtime, now.mtime);
  cr_assert_eq (tree_stat (fid).atime, now.atime);
}

static void
check_setting_both_ways (void)
{
  NfFid fid = file ();
  int fd;

  check_setting (fid, -1);
  fd = nf_tree_open_fid (tree, fid, O_RDWR);
  check_setting (fid, fd);
  close (fd);
  fd = nf_tree_open_fid (tree, fid, O_RDONLY);
  check_setting (fid, fd);
  close (fd);
}

Test (tree_attr, what_is_set_is_shown)
{
  check_setting_both_ways ();
}

Test (tree_personal, what_is_set_is_shown)
{
  check_setting_both_ways ();
}

Test (tree_personal, disk_keeps_our_access_and_nothing_that_acts_as_us)
{
  NfFid fid = file ();
  NfFid dir = tree_make (NF_FID_ROOT, "d", S_IFDIR | 0111);
  NfAttr attr = { .mode = 06000, .uid = 4711 };
  struct stat st;

  cr_assert_eq (nf_tree_set_attr (tree, fid, -1, NF_SET_MODE | NF_SET_UID, &attr), 0);
  cr_assert_eq (tree_stat (fid).mode, S_IFREG | 06000);
  disk_stat ("f", &st);
  cr_assert_eq (st.st_mode, S_IFREG | 0600);
  cr_assert_eq (st.st_uid, geteuid ());
  cr_assert_eq (tree_stat (dir).mode, S_IFDIR | 0111);
  disk_stat ("d", &st);
  cr_assert_eq (st.st_mode, S_IFDIR | 0711);
}

Test (tree_personal, owner_and_device_of_a_new_object_are_recorded)
{
  NfAttr attr = tree_attr (tree_mint (), S_IFBLK | 0660);
  struct stat st;
  NfAttr now;

  attr.uid = 1;
  attr.gid = 6;
  attr.rdev = makedev (8, 3);
  cr_assert_eq (nf_tree_create (tree, &attr, NF_SLICE_NONE, NF_FID_ROOT, N ("sda3"), NULL), 0);
  disk_stat ("sda3", &st);
  cr_assert (S_ISREG (st.st_mode));
  tree_reopen ();
  now = tree_stat (attr.fid);
  cr_assert_eq (now.mode, S_IFBLK | 0660);
  cr_assert_eq (now.rdev, attr.rdev);
  cr_assert_eq (now.uid, 1);
  cr_assert_eq (now.gid, 6);
  cr_assert_eq (nf_tree_open_fid (tree, attr.fid, O_RDONLY), -ENXIO);
}

Test (tree_personal, record_stays_with_an_object_that_is_renamed)
{
  NfFid fid = file ();
  NfAttr attr = { .uid = 77 };

  cr_assert_eq (nf_tree_set_attr (tree, fid, -1, NF_SET_UID, &attr), 0);
  cr_assert_eq (
      nf_tree_place (tree, fid, NF_FID_ROOT, N ("g"), &(NfNameRef){ NF_FID_ROOT, N ("f") }), 0);
  cr_assert_eq (tree_stat (fid).uid, 77);
}

Test (tree_attr, symlink_has_owner_and_times_of_its_own)
{
  NfFid fid = tree_make (NF_FID_ROOT, "l", S_IFLNK | 0777);
  NfAttr attr = { .uid = getuid (), .gid = getgid (), .mode = 0600, .mtime = 42 };

  cr_assert_eq (
      nf_tree_set_attr (tree, fid, -1, NF_SET_UID | NF_SET_GID | NF_SET_MODE | NF_SET_MTIME, &attr),
      0);
  cr_assert_eq (tree_stat (fid).mtime, 42);
  cr_assert_eq (tree_stat (fid).mode, S_IFLNK | 0777);
}

Test (tree_attr, directory_is_set_through_its_cached_descriptor)
{
  NfFid dir = tree_make (NF_FID_ROOT, "d", S_IFDIR | 0755);
  NfAttr attr = { .mode = 01777, .mtime = 1 };

  tree_make (dir, "x", S_IFREG | 0644);
  cr_assert_eq (nf_tree_set_attr (tree, dir, -1, NF_SET_MODE | NF_SET_MTIME, &attr), 0);
  cr_assert_eq (tree_stat (dir).mode, S_IFDIR | 01777);
  cr_assert_eq (tree_stat (dir).mtime, 1);
  cr_assert_eq (nf_tree_set_attr (tree, NF_FID_ROOT, -1, NF_SET_MTIME, &attr), 0);
  cr_assert_eq (tree_stat (NF_FID_ROOT).mtime, 1);
}

Test (tree_attr, new_object_ignores_umask)
{
  umask (077);
  cr_assert_eq (tree_stat (tree_make (NF_FID_ROOT, "a", S_IFREG | 04777)).mode, S_IFREG | 04777);
  cr_assert_eq (tree_stat (tree_make (NF_FID_ROOT, "b", S_IFDIR | 03777)).mode, S_IFDIR | 03777);
}

static gboolean
listed (NfFid fid, const char *name)
{
  char list[1024];
  int len = nf_tree_listxattr (tree, fid, list, sizeof list);

  cr_assert_geq (len, 0);
  cr_assert_eq (nf_tree_listxattr (tree, fid, NULL, 0), len);
  for (int pos = 0; pos < len; pos += (int)strlen (list + pos) + 1)
    if (strcmp (list + pos, name) == 0)
      return TRUE;
  return FALSE;
}

static void
check_xattr (NfFid fid, const char *name)
{
  g_autofree char *big = g_strnfill (60000, 'v');
  char value[16];

  cr_assert_eq (nf_tree_getxattr (tree, fid, name, NULL, 0), -ENODATA);
  cr_assert_eq (nf_tree_setxattr (tree, fid, name, N ("x"), XATTR_REPLACE), -ENODATA);
  cr_assert_eq (nf_tree_setxattr (tree, fid, name, N ("one"), XATTR_CREATE), 0);
  cr_assert_eq (nf_tree_setxattr (tree, fid, name, N ("x"), XATTR_CREATE), -EEXIST);
  cr_assert (listed (fid, name));
  cr_assert_eq (nf_tree_getxattr (tree, fid, name, value, sizeof value), 3);
  cr_assert_eq (memcmp (value, "one", 3), 0);
  cr_assert_eq (nf_tree_getxattr (tree, fid, name, value, 2), -ERANGE);
  cr_assert_eq (nf_tree_getxattr (tree, fid, name, NULL, 0), 3);
  cr_assert_eq (nf_tree_setxattr (tree, fid, name, NF_SLICE_NONE, 0), 0);
  cr_assert_eq (nf_tree_getxattr (tree, fid, name, value, sizeof value), 0, "empty is a value");
  cr_assert_eq (nf_tree_removexattr (tree, fid, name), 0);
  cr_assert_eq (nf_tree_removexattr (tree, fid, name), -ENODATA);
  cr_assert_not (listed (fid, name));
  cr_assert_eq (nf_tree_setxattr (tree, fid, name, N (big), 0), 0, "more than ext4 takes");
  cr_assert_eq (nf_tree_getxattr (tree, fid, name, NULL, 0), 60000);
  cr_assert_eq (nf_tree_removexattr (tree, fid, name), 0);
}

Test (tree_attr, xattrs_come_and_go)
{
  check_xattr (file (), "user.note");
}

Test (tree_personal, xattrs_come_and_go)
{
  check_xattr (file (), "user.note");
}

Test (tree_attr, xattr_that_the_disk_refuses_is_recorded)
{
  check_xattr (tree_make (NF_FID_ROOT, "l", S_IFLNK | 0777), "user.on-a-symlink");
}

Test (tree_personal, acls_are_recorded)
{
  /* user::rw-, user:4711:r--, group::r--, mask::r--, other::--- */
  static const guint8 acl[] = { 2, 0,    0,    0,   1,   0,   6,  0, 255, 255, 255, 255, 2,   0,  4,
                                0, 0x67, 0x12, 0,   0,   4,   0,  4, 0,   255, 255, 255, 255, 16, 0,
                                4, 0,    255,  255, 255, 255, 32, 0, 0,   0,   255, 255, 255, 255 };
  NfFid fid = file ();
  g_autofree char *path = tree_path ("f");
  guint8 value[64];

  cr_assert_eq (
      nf_tree_setxattr (tree, fid, "system.posix_acl_access", nf_slice (acl, sizeof acl), 0), 0);
  cr_assert_eq (nf_tree_getxattr (tree, fid, "system.posix_acl_access", value, sizeof value),
                (int)sizeof acl);
  cr_assert (listed (fid, "system.posix_acl_access"));
  cr_assert_eq (getxattr (path, "system.posix_acl_access", value, sizeof value), -1);
}

Test (tree_attr, our_own_and_the_systems_xattrs_are_not_shown)
{
  static const char *const hidden[]
      = { "user.nearfs.share", "trusted.nearfs.share", "security.selinux", "system.data" };
  NfFid fid = file ();
  char value[32];

  for (gsize i = 0; i < G_N_ELEMENTS (hidden); i++)
    {
      cr_assert_not (nf_tree_xattr_shown (hidden[i]));
      cr_assert_eq (nf_tree_setxattr (tree, fid, hidden[i], N ("x"), 0), -EOPNOTSUPP);
      cr_assert_eq (nf_tree_getxattr (tree, fid, hidden[i], value, sizeof value), -ENODATA);
    }
  cr_assert (nf_tree_xattr_shown ("security.capability"));
  cr_assert_eq (nf_tree_listxattr (tree, NF_FID_ROOT, NULL, 0), 0, "the mark is hidden");
}
