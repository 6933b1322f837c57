// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "tests/posix/nf-posix.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

/* Calls that take names. */

#define UNUSED \
  (void)posix; \
  (void)note

static long
call_mkdir (NfPosix *posix, char **args, GString *note)
{
  UNUSED;
  return mkdir (args[0], (mode_t)nf_posix_number (args[1]));
}

static long
call_rmdir (NfPosix *posix, char **args, GString *note)
{
  UNUSED;
  return rmdir (args[0]);
}

static long
call_unlink (NfPosix *posix, char **args, GString *note)
{
  UNUSED;
  return unlink (args[0]);
}

static long
call_link (NfPosix *posix, char **args, GString *note)
{
  UNUSED;
  return linkat (AT_FDCWD, args[0], AT_FDCWD, args[1], args[2] ? (int)nf_posix_flags (args[2]) : 0);
}

/* linkfd FD NAME: of an O_TMPFILE, or any open file. */
static long
call_linkfd (NfPosix *posix, char **args, GString *note)
{
  g_autofree char *path = g_strdup_printf ("/proc/self/fd/%d", nf_posix_fd (posix, args[0]));

  (void)note;
  return linkat (AT_FDCWD, path, AT_FDCWD, args[1], AT_SYMLINK_FOLLOW);
}

static long
call_symlink (NfPosix *posix, char **args, GString *note)
{
  UNUSED;
  return symlink (args[0], args[1]);
}

static long
call_readlink (NfPosix *posix, char **args, GString *note)
{
  char target[8192];
  ssize_t len = readlink (args[0], target, sizeof target);

  (void)posix;
  if (len > 0)
    g_string_append_printf (note, " %.*s", (int)MIN (len, 40), target);
  return len;
}

static long
call_rename (NfPosix *posix, char **args, GString *note)
{
  UNUSED;
  return args[2]
             ? renameat2 (AT_FDCWD, args[0], AT_FDCWD, args[1], (unsigned)nf_posix_flags (args[2]))
             : rename (args[0], args[1]);
}

static long
call_chmod (NfPosix *posix, char **args, GString *note)
{
  UNUSED;
  return chmod (args[0], (mode_t)nf_posix_number (args[1]));
}

static long
call_chown (NfPosix *posix, char **args, GString *note)
{
  UNUSED;
  return fchownat (AT_FDCWD, args[0], (uid_t)nf_posix_number (args[1]),
                   (gid_t)nf_posix_number (args[2]), args[3] ? (int)nf_posix_flags (args[3]) : 0);
}

static long
call_truncate (NfPosix *posix, char **args, GString *note)
{
  UNUSED;
  return truncate (args[0], nf_posix_number (args[1]));
}

static void
parse_time (const char *word, struct timespec *ret_time)
{
  long flag = g_ascii_isdigit (word[0]) || word[0] == '-' ? 0 : nf_posix_flags (word);
  const char *dot = strchr (word, '.');
  g_autofree char *seconds = dot ? g_strndup (word, (gsize)(dot - word)) : g_strdup (word);

  if (flag != 0)
    *ret_time = (struct timespec){ 0, flag };
  else
    *ret_time = (struct timespec){ nf_posix_number (seconds), dot ? nf_posix_number (dot + 1) : 0 };
}

/* utimens PATH|FD ATIME MTIME [FLAGS]: SECONDS.NANOSECONDS, UTIME_NOW or UTIME_OMIT. */
static long
call_utimens (NfPosix *posix, char **args, GString *note)
{
  struct timespec times[2];

  (void)note;
  parse_time (args[1], &times[0]);
  parse_time (args[2], &times[1]);
  if (args[0][0] == '@')
    return futimens (nf_posix_fd (posix, args[0]), times);
  return utimensat (AT_FDCWD, args[0], times, args[3] ? (int)nf_posix_flags (args[3]) : 0);
}

static long
call_mknod (NfPosix *posix, char **args, GString *note)
{
  dev_t device
      = args[2] ? makedev ((unsigned)nf_posix_number (args[2]), (unsigned)nf_posix_number (args[3]))
                : 0;

  UNUSED;
  return mknod (args[0], (mode_t)nf_posix_flags (args[1]), device);
}

static long
call_access (NfPosix *posix, char **args, GString *note)
{
  UNUSED;
  return faccessat (AT_FDCWD, args[0], (int)nf_posix_flags (args[1]), AT_EACCESS);
}

/* stat follows; what has no name (or an empty one) is only looked at here. */
static long
call_stat (NfPosix *posix, char **args, GString *note)
{
  struct stat st;
  int result = stat (args[0], &st);

  (void)posix;
  if (result == 0)
    g_string_append_printf (note, " %o links %lu owner %u:%u", st.st_mode, (gulong)st.st_nlink,
                            st.st_uid, st.st_gid);
  if (result == 0 && !S_ISDIR (st.st_mode))
    g_string_append_printf (note, " size %lld", (long long)st.st_size);
  return result;
}

static long
call_lstat (NfPosix *posix, char **args, GString *note)
{
  struct stat st;

  UNUSED;
  return lstat (args[0], &st);
}

static long
call_statfs (NfPosix *posix, char **args, GString *note)
{
  struct statvfs vfs;
  int result = statvfs (args[0], &vfs);

  (void)posix;
  if (result == 0)
    g_string_append_printf (note, " block %lu names %lu%s%s", vfs.f_bsize, vfs.f_namemax,
                            vfs.f_bfree >= vfs.f_bavail ? "" : " odd",
                            vfs.f_files >= vfs.f_ffree ? "" : " odd");
  return result;
}

static int
compare_names (gconstpointer a, gconstpointer b)
{
  return strcmp (*(const char *const *)a, *(const char *const *)b);
}

/* All names with their types. */
static long
call_readdir (NfPosix *posix, char **args, GString *note)
{
  DIR *dir = opendir (args[0]);
  g_autoptr (GPtrArray) names = g_ptr_array_new_with_free_func (g_free);
  struct dirent *entry;

  (void)posix;
  if (!dir)
    return -1;
  while ((entry = readdir (dir)))
    g_ptr_array_add (names, g_strdup_printf ("%.30s/%d", entry->d_name, entry->d_type));
  (void)closedir (dir);
  g_ptr_array_sort (names, compare_names);
  for (guint i = 0; i < names->len; i++)
    g_string_append_printf (note, " %s", (char *)names->pdata[i]);
  return names->len;
}

/* seekdir DIR: what telldir() says of each place leads back there. */
static long
call_seekdir (NfPosix *posix, char **args, GString *note)
{
  DIR *dir = opendir (args[0]);
  g_autoptr (GArray) places = g_array_new (FALSE, FALSE, sizeof (long));
  g_autoptr (GPtrArray) names = g_ptr_array_new_with_free_func (g_free);
  struct dirent *entry;
  long same = 0;

  UNUSED;
  if (!dir)
    return -1;
  for (;;)
    {
      long place = telldir (dir);
      if (!(entry = readdir (dir)))
        break;
      g_array_append_val (places, place);
      g_ptr_array_add (names, g_strdup (entry->d_name));
    }
  for (guint i = names->len; i-- > 0;)
    {
      seekdir (dir, g_array_index (places, long, i));
      entry = readdir (dir);
      same += entry && g_str_equal (entry->d_name, names->pdata[i]);
    }
  (void)closedir (dir);
  return same;
}

static long
call_setxattr (NfPosix *posix, char **args, GString *note)
{
  UNUSED;
  return lsetxattr (args[0], args[1], args[2], strlen (args[2]),
                    args[3] ? (int)nf_posix_flags (args[3]) : 0);
}

static long
call_getxattr (NfPosix *posix, char **args, GString *note)
{
  g_autofree char *value = g_malloc (65537);
  ssize_t len
      = lgetxattr (args[0], args[1], value, args[2] ? (gsize)nf_posix_number (args[2]) : 65536);

  (void)posix;
  if (len > 0 && !(args[2] && nf_posix_number (args[2]) == 0))
    g_string_append_printf (note, " %.*s", (int)MIN (len, 40), value);
  return len;
}

static long
call_listxattr (NfPosix *posix, char **args, GString *note)
{
  g_autofree char *list = g_malloc (65536);
  ssize_t len = llistxattr (args[0], list, args[1] ? (gsize)nf_posix_number (args[1]) : 65536);
  g_autoptr (GPtrArray) names = g_ptr_array_new ();

  (void)posix;
  if (len < 0 || (args[1] && nf_posix_number (args[1]) == 0))
    return len;
  for (ssize_t pos = 0; pos < len; pos += (ssize_t)strlen (list + pos) + 1)
    g_ptr_array_add (names, list + pos);
  g_ptr_array_sort (names, compare_names);
  for (guint i = 0; i < names->len; i++)
    g_string_append_printf (note, " %.30s", (char *)names->pdata[i]);
  return len;
}

static long
call_removexattr (NfPosix *posix, char **args, GString *note)
{
  UNUSED;
  return lremovexattr (args[0], args[1]);
}

static long
call_umask (NfPosix *posix, char **args, GString *note)
{
  UNUSED;
  (void)umask ((mode_t)nf_posix_number (args[0]));
  return 0;
}

/* as UID GID [GROUP…]: the caller from now on. */
static long
call_as (NfPosix *posix, char **args, GString *note)
{
  gid_t groups[16];
  gsize n = 0;

  UNUSED;
  if (seteuid (0) != 0)
    return -1;
  for (char **group = args + 2; *group && n < G_N_ELEMENTS (groups); group++)
    groups[n++] = (gid_t)nf_posix_number (*group);
  if (setgroups (n, groups) != 0 || setegid ((gid_t)nf_posix_number (args[1])) != 0)
    return -1;
  return seteuid ((uid_t)nf_posix_number (args[0]));
}

static long
call_chdir (NfPosix *posix, char **args, GString *note)
{
  UNUSED;
  return chdir (args[0]);
}

const NfPosixCall nf_posix_name_calls[] = {
  { "mkdir", 2, call_mkdir },
  { "rmdir", 1, call_rmdir },
  { "unlink", 1, call_unlink },
  { "link", 2, call_link },
  { "linkfd", 2, call_linkfd },
  { "symlink", 2, call_symlink },
  { "readlink", 1, call_readlink },
  { "rename", 2, call_rename },
  { "chmod", 2, call_chmod },
  { "chown", 3, call_chown },
  { "truncate", 2, call_truncate },
  { "utimens", 3, call_utimens },
  { "mknod", 2, call_mknod },
  { "access", 2, call_access },
  { "stat", 1, call_stat },
  { "lstat", 1, call_lstat },
  { "statfs", 1, call_statfs },
  { "readdir", 1, call_readdir },
  { "seekdir", 1, call_seekdir },
  { "setxattr", 3, call_setxattr },
  { "getxattr", 2, call_getxattr },
  { "listxattr", 1, call_listxattr },
  { "removexattr", 2, call_removexattr },
  { "umask", 1, call_umask },
  { "as", 2, call_as },
  { "chdir", 1, call_chdir },
  { NULL },
};
