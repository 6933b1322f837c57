// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

/* nf-calls DIRECTORY [NAME…]: does in an empty directory what programs do to a filesystem, and says
 * what isn't as a local disk has it. It is run on a local disk too, or it might be the test that is
 * wrong. */

static guint failures;
static const char *current;

#define CHECK(condition)                                                           \
  do                                                                               \
    {                                                                              \
      if (!(condition))                                                            \
        {                                                                          \
          printf ("%s: line %d: not so: %s (%s)\n", current, __LINE__, #condition, \
                  g_strerror (errno));                                             \
          failures++;                                                              \
        }                                                                          \
    }                                                                              \
  while (0)

#define CHECK_FAILS(call, error)                                                       \
  do                                                                                   \
    {                                                                                  \
      errno = 0;                                                                       \
      gboolean failed_ = (call) < 0;                                                   \
      if (!failed_ || errno != (error))                                                \
        {                                                                              \
          printf ("%s: line %d: %s gave %s instead of %s\n", current, __LINE__, #call, \
                  failed_ ? g_strerror (errno) : "success", g_strerror (error));       \
          failures++;                                                                  \
        }                                                                              \
    }                                                                                  \
  while (0)

static void
put (const char *path, const char *text)
{
  int fd = open (path, O_CREAT | O_TRUNC | O_WRONLY, 0644);

  CHECK (fd >= 0);
  CHECK (write (fd, text, strlen (text)) == (ssize_t)strlen (text));
  CHECK (close (fd) == 0);
}

static gboolean
has (const char *path, const char *text)
{
  char buffer[4096];
  int fd = open (path, O_RDONLY);
  ssize_t n = fd < 0 ? -1 : read (fd, buffer, sizeof buffer);

  if (fd >= 0)
    close (fd);
  return n == (ssize_t)strlen (text) && memcmp (buffer, text, (size_t)n) == 0;
}

static gint64
size_of (const char *path)
{
  struct stat st;

  return stat (path, &st) == 0 ? st.st_size : -1;
}

static guint
links_of (const char *path)
{
  struct stat st;

  return lstat (path, &st) == 0 ? (guint)st.st_nlink : 0;
}

static mode_t
mode_of (const char *path)
{
  struct stat st;

  return lstat (path, &st) == 0 ? st.st_mode : 0;
}

static void
names (void)
{
  char name[300];

  CHECK (mkdir ("d", 0755) == 0);
  CHECK_FAILS (mkdir ("d", 0755), EEXIST);
  CHECK (mode_of ("d") == (S_IFDIR | 0755));
  put ("d/f", "one");
  CHECK_FAILS (rmdir ("d"), ENOTEMPTY);
  CHECK_FAILS (unlink ("d/none"), ENOENT);
  CHECK_FAILS (open ("d/f", O_CREAT | O_EXCL | O_WRONLY, 0644), EEXIST);
  CHECK_FAILS (open ("d/f/g", O_RDONLY), ENOTDIR);
  CHECK_FAILS (open ("d", O_WRONLY), EISDIR);
  CHECK (rename ("d/f", "d/g") == 0);
  CHECK_FAILS (open ("d/f", O_RDONLY), ENOENT);
  CHECK (has ("d/g", "one"));
  put ("d/h", "two");
  CHECK (rename ("d/g", "d/h") == 0);
  CHECK (has ("d/h", "one"));
  put ("d/i", "three");
  CHECK (renameat2 (AT_FDCWD, "d/h", AT_FDCWD, "d/i", RENAME_EXCHANGE) == 0);
  CHECK (has ("d/h", "three") && has ("d/i", "one"));
  CHECK_FAILS (renameat2 (AT_FDCWD, "d/h", AT_FDCWD, "d/i", RENAME_NOREPLACE), EEXIST);
  CHECK (mkdir ("d/e", 0700) == 0 && links_of ("d") == 3);
  CHECK_FAILS (rename ("d/h", "d/e"), EISDIR);
  CHECK_FAILS (rename ("d", "d/e/d"), EINVAL);
  CHECK (unlink ("d/h") == 0 && unlink ("d/i") == 0 && rmdir ("d/e") == 0);
  CHECK (links_of ("d") == 2);
  CHECK (rmdir ("d") == 0);
  memset (name, 'n', sizeof name);
  name[255] = '\0';
  put (name, "long");
  CHECK (has (name, "long") && unlink (name) == 0);
  name[255] = 'n';
  name[256] = '\0';
  CHECK_FAILS (open (name, O_CREAT | O_WRONLY, 0644), ENAMETOOLONG);
  CHECK_FAILS (access (name, F_OK), ENAMETOOLONG);
  put ("\xff\xfe caf\xe9\n", "odd");
  CHECK (has ("\xff\xfe caf\xe9\n", "odd") && unlink ("\xff\xfe caf\xe9\n") == 0);
}

static void
links (void)
{
  char target[5000];

  put ("a", "data");
  CHECK (link ("a", "b") == 0);
  CHECK (links_of ("a") == 2 && links_of ("b") == 2);
  put ("b", "changed");
  CHECK (has ("a", "changed"));
  CHECK_FAILS (link ("a", "b"), EEXIST);
  CHECK (rename ("a", "b") == 0 && links_of ("a") == 2); /* the same file: nothing is done */
  CHECK (unlink ("a") == 0 && links_of ("b") == 1);
  CHECK (unlink ("b") == 0);
  CHECK (symlink ("nowhere/at all", "s") == 0);
  CHECK (readlink ("s", target, sizeof target) == 14 && memcmp (target, "nowhere/at all", 14) == 0);
  CHECK (S_ISLNK (mode_of ("s")));
  CHECK_FAILS (open ("s", O_RDONLY), ENOENT);
  CHECK (unlink ("s") == 0);
  memset (target, 't', sizeof target);
  target[4095] = '\0';
  CHECK (symlink (target, "s") == 0 || errno == ENAMETOOLONG); /* as the disk below has it */
  unlink ("s");
  CHECK (mkfifo ("p", 0600) == 0 && S_ISFIFO (mode_of ("p")) && unlink ("p") == 0);
  CHECK (mknod ("m", S_IFREG | 0640, 0) == 0 && mode_of ("m") == (S_IFREG | 0640));
  CHECK (unlink ("m") == 0);
}

static void
content (void)
{
  char buffer[8192];
  int fd = open ("f", O_CREAT | O_RDWR, 0644);

  memset (buffer, 'x', sizeof buffer);
  CHECK (pwrite (fd, buffer, 5000, 100000) == 5000);
  CHECK (size_of ("f") == 105000);
  CHECK (pread (fd, buffer, 10, 50000) == 10 && buffer[0] == 0);
  CHECK (pread (fd, buffer, 10, 104995) == 5 && buffer[4] == 'x');
  CHECK (pread (fd, buffer, 10, 105000) == 0);
  CHECK (ftruncate (fd, 100) == 0 && size_of ("f") == 100);
  CHECK (ftruncate (fd, 3000) == 0 && size_of ("f") == 3000);
  CHECK (pread (fd, buffer, 10, 2000) == 10 && buffer[0] == 0);
  CHECK (truncate ("f", 10) == 0 && size_of ("f") == 10);
  CHECK (close (fd) == 0);
  put ("f", "short");
  CHECK (has ("f", "short"));
  fd = open ("f", O_WRONLY | O_APPEND);
  CHECK (write (fd, "+", 1) == 1 && write (fd, "+", 1) == 1);
  CHECK (close (fd) == 0 && has ("f", "short++"));
  fd = open ("f", O_RDWR | O_SYNC);
  CHECK (pwrite (fd, "S", 1, 0) == 1 && fsync (fd) == 0 && fdatasync (fd) == 0);
  CHECK (close (fd) == 0 && has ("f", "Short++"));
  fd = open (".", O_RDONLY | O_DIRECTORY);
  CHECK (fsync (fd) == 0 && close (fd) == 0);
  CHECK (unlink ("f") == 0);
}

static void
mapping (void)
{
  int fd = open ("m", O_CREAT | O_RDWR, 0644);

  CHECK (ftruncate (fd, 100000) == 0);
  char *map = mmap (NULL, 100000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  CHECK (map != MAP_FAILED);
  memcpy (map + 70000, "mapped", 6);
  CHECK (msync (map, 100000, MS_SYNC) == 0);
  char buffer[6];
  CHECK (pread (fd, buffer, 6, 70000) == 6 && memcmp (buffer, "mapped", 6) == 0);
  CHECK (pwrite (fd, "MAPPED", 6, 70000) == 6 && memcmp (map + 70000, "MAPPED", 6) == 0);
  CHECK (munmap (map, 100000) == 0 && close (fd) == 0);
  CHECK (unlink ("m") == 0);
}

static void
ranges (void)
{
  char buffer[16];
  int fd = open ("r", O_CREAT | O_RDWR, 0644);
  int other = open ("q", O_CREAT | O_RDWR, 0644);

  CHECK (fallocate (fd, 0, 0, 1 << 20) == 0 && size_of ("r") == 1 << 20);
  CHECK (fallocate (fd, FALLOC_FL_KEEP_SIZE, 0, 2 << 20) == 0 && size_of ("r") == 1 << 20);
  CHECK (pwrite (fd, "punched", 7, 65536) == 7);
  CHECK (fallocate (fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, 65536, 4096) == 0);
  CHECK (pread (fd, buffer, 7, 65536) == 7 && buffer[0] == 0);
  CHECK (ftruncate (fd, 0) == 0 && pwrite (fd, "data", 4, 1 << 20) == 4);
  CHECK (lseek (fd, 0, SEEK_DATA) == 1 << 20);
  CHECK (lseek (fd, 0, SEEK_HOLE) == 0);
  CHECK_FAILS (lseek (fd, 2 << 20, SEEK_DATA), ENXIO);
  loff_t from = 1 << 20, to = 3;
  CHECK (copy_file_range (fd, &from, other, &to, 4, 0) == 4 && size_of ("q") == 7);
  CHECK (pread (other, buffer, 4, 3) == 4 && memcmp (buffer, "data", 4) == 0);
  CHECK (close (fd) == 0 && close (other) == 0 && unlink ("r") == 0 && unlink ("q") == 0);
}

static void
unlinked (void)
{
  struct stat st;
  char buffer[8];
  int fd = open ("u", O_CREAT | O_RDWR, 0644);
  int reader = open ("u", O_RDONLY);

  CHECK (write (fd, "still", 5) == 5);
  CHECK (unlink ("u") == 0);
  CHECK_FAILS (access ("u", F_OK), ENOENT);
  CHECK (fstat (fd, &st) == 0 && st.st_nlink == 0 && st.st_size == 5);
  CHECK (pread (reader, buffer, 5, 0) == 5 && memcmp (buffer, "still", 5) == 0);
  CHECK (pwrite (fd, " here", 5, 5) == 5 && fstat (reader, &st) == 0 && st.st_size == 10);
  CHECK (ftruncate (fd, 3) == 0 && fchmod (fd, 0600) == 0 && fsync (fd) == 0);
  CHECK (fstat (fd, &st) == 0 && st.st_size == 3 && (st.st_mode & 07777) == 0600);
  put ("u", "another");
  CHECK (fstat (fd, &st) == 0 && st.st_size == 3 && has ("u", "another"));
  CHECK (close (fd) == 0 && close (reader) == 0);
  fd = open ("v", O_CREAT | O_RDWR, 0644);
  CHECK (write (fd, "old", 3) == 3 && rename ("u", "v") == 0);
  CHECK (pread (fd, buffer, 3, 0) == 3 && memcmp (buffer, "old", 3) == 0 && has ("v", "another"));
  CHECK (close (fd) == 0 && unlink ("v") == 0);
  CHECK (mkdir ("w", 0755) == 0);
  fd = open ("w", O_RDONLY | O_DIRECTORY);
  CHECK (rmdir ("w") == 0);
  CHECK_FAILS (openat (fd, "x", O_CREAT | O_WRONLY, 0644), ENOENT);
  CHECK (close (fd) == 0);
}

static void
attributes (void)
{
  struct stat st;
  struct timespec times[2] = { { 1000000000, 123456789 }, { 1500000000, 987654321 } };
  struct statvfs vfs;

  put ("a", "");
  CHECK (chmod ("a", 04711) == 0 && mode_of ("a") == (S_IFREG | 04711));
  CHECK (utimensat (AT_FDCWD, "a", times, 0) == 0 && stat ("a", &st) == 0);
  CHECK (st.st_mtim.tv_sec == 1500000000 && st.st_mtim.tv_nsec == 987654321);
  CHECK (st.st_atim.tv_sec == 1000000000 && st.st_atim.tv_nsec == 123456789);
  times[0].tv_nsec = UTIME_OMIT;
  times[1].tv_nsec = UTIME_NOW;
  CHECK (utimensat (AT_FDCWD, "a", times, 0) == 0 && stat ("a", &st) == 0);
  CHECK (st.st_atim.tv_sec == 1000000000 && llabs (st.st_mtim.tv_sec - time (NULL)) < 3);
  if (geteuid () == 0)
    {
      CHECK (chown ("a", 1234, 5678) == 0 && stat ("a", &st) == 0);
      CHECK (st.st_uid == 1234 && st.st_gid == 5678 && (st.st_mode & 07777) == 0711);
      CHECK (symlink ("a", "s") == 0 && lchown ("s", 1, 2) == 0 && lstat ("s", &st) == 0);
      CHECK (st.st_uid == 1 && unlink ("s") == 0);
    }
  mode_t mask = umask (027);
  CHECK (mkdir ("d", 0777) == 0 && mode_of ("d") == (S_IFDIR | 0750));
  int fd = open ("d/f", O_CREAT | O_WRONLY, 0666);
  CHECK (mode_of ("d/f") == (S_IFREG | 0640) && close (fd) == 0);
  fd = open ("d/r", O_CREAT | O_WRONLY, 0444); /* no right to write, but the handle has it */
  CHECK (write (fd, "ro", 2) == 2 && close (fd) == 0 && has ("d/r", "ro"));
  umask (mask);
  CHECK (unlink ("d/f") == 0 && unlink ("d/r") == 0 && rmdir ("d") == 0 && unlink ("a") == 0);
  CHECK (statvfs (".", &vfs) == 0 && vfs.f_blocks > 0 && vfs.f_namemax == 255);
}

static void
xattrs (void)
{
  char buffer[70000];

  put ("x", "");
  CHECK_FAILS (getxattr ("x", "user.none", buffer, sizeof buffer), ENODATA);
  CHECK (setxattr ("x", "user.one", "value", 5, XATTR_CREATE) == 0);
  CHECK_FAILS (setxattr ("x", "user.one", "value", 5, XATTR_CREATE), EEXIST);
  CHECK_FAILS (setxattr ("x", "user.two", "value", 5, XATTR_REPLACE), ENODATA);
  CHECK (setxattr ("x", "user.empty", "", 0, 0) == 0);
  CHECK (getxattr ("x", "user.empty", buffer, sizeof buffer) == 0);
  CHECK (getxattr ("x", "user.empty", NULL, 0) == 0);
  CHECK (getxattr ("x", "user.one", NULL, 0) == 5);
  CHECK_FAILS (getxattr ("x", "user.one", buffer, 3), ERANGE);
  CHECK (getxattr ("x", "user.one", buffer, sizeof buffer) == 5
         && memcmp (buffer, "value", 5) == 0);
  CHECK (listxattr ("x", NULL, 0) == 20);
  CHECK_FAILS (listxattr ("x", buffer, 4), ERANGE);
  CHECK (listxattr ("x", buffer, sizeof buffer) == 20);
  CHECK (removexattr ("x", "user.one") == 0);
  CHECK_FAILS (removexattr ("x", "user.one"), ENODATA);
  int fd = open ("x", O_RDWR);
  CHECK (unlink ("x") == 0 && fsetxattr (fd, "user.late", "y", 1, 0) == 0);
  CHECK (fgetxattr (fd, "user.late", buffer, sizeof buffer) == 1 && close (fd) == 0);
}

static guint
count_entries (DIR *dir)
{
  guint n = 0;

  while (readdir (dir))
    n++;
  return n;
}

static void
listing (void)
{
  g_autoptr (GHashTable) seen = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  struct dirent *entry;
  char name[64];

  CHECK (mkdir ("l", 0755) == 0);
  for (int i = 0; i < 3000; i++)
    {
      g_snprintf (name, sizeof name, "l/a-rather-long-file-name-number-%d", i);
      CHECK (mknod (name, S_IFREG | 0644, 0) == 0);
    }
  DIR *dir = opendir ("l");
  CHECK (count_entries (dir) == 3002);
  rewinddir (dir);
  CHECK (unlink ("l/a-rather-long-file-name-number-77") == 0);
  rewinddir (dir);
  CHECK (count_entries (dir) == 3001); /* what was cached isn't shown again */
  put ("l/new", "");
  rewinddir (dir);
  CHECK (count_entries (dir) == 3002);
  rewinddir (dir);
  /* Under change: what stays is seen once, whatever goes meanwhile. */
  for (int i = 0; (entry = readdir (dir)); i++)
    {
      CHECK (g_hash_table_add (seen, g_strdup (entry->d_name)));
      g_snprintf (name, sizeof name, "l/a-rather-long-file-name-number-%d", 1000 + i);
      if (i < 1000)
        unlink (name);
    }
  for (int i = 0; i < 3000; i++)
    {
      g_snprintf (name, sizeof name, "a-rather-long-file-name-number-%d", i);
      CHECK (g_hash_table_contains (seen, name) || i == 77 || (i >= 1000 && i < 2000));
    }
  rewinddir (dir);
  long middle;
  for (int i = 0; i < 500 && readdir (dir); i++)
    ;
  middle = telldir (dir);
  entry = readdir (dir);
  CHECK (entry);
  g_strlcpy (name, entry->d_name, sizeof name);
  seekdir (dir, middle);
  entry = readdir (dir);
  CHECK (entry && strcmp (entry->d_name, name) == 0);
  rewinddir (dir);
  while ((entry = readdir (dir)))
    if (entry->d_name[0] != '.')
      unlinkat (dirfd (dir), entry->d_name, 0);
  rewinddir (dir);
  CHECK (count_entries (dir) == 2 && closedir (dir) == 0);
  CHECK (rmdir ("l") == 0);
}

static void
depth (void)
{
  g_autofree char *cwd = g_get_current_dir ();

  for (int i = 0; i < 300; i++)
    CHECK (mkdir ("a-directory-of-which-there-are-many", 0755) == 0
           && chdir ("a-directory-of-which-there-are-many") == 0);
  put ("f", "deep");
  CHECK (has ("f", "deep") && unlink ("f") == 0);
  for (int i = 0; i < 300; i++)
    CHECK (chdir ("..") == 0 && rmdir ("a-directory-of-which-there-are-many") == 0);
  CHECK (chdir (cwd) == 0);
}

static void
permissions (void)
{
  if (geteuid () != 0)
    return;
  CHECK (mkdir ("p", 0755) == 0);
  put ("p/secret", "s");
  CHECK (chmod ("p/secret", 0600) == 0);
  CHECK (mkdir ("p/own", 0700) == 0 && chown ("p/own", 1000, 1000) == 0);
  put ("p/own/suid", "s");
  CHECK (chmod ("p/own/suid", 06777) == 0);
  CHECK (seteuid (0) == 0 && setegid (1000) == 0 && seteuid (1000) == 0);
  CHECK_FAILS (open ("p/secret", O_RDONLY), EACCES);
  CHECK_FAILS (open ("p/new", O_CREAT | O_WRONLY, 0644), EACCES);
  CHECK_FAILS (unlink ("p/secret"), EACCES);
  CHECK_FAILS (chmod ("p/secret", 0666), EPERM);
  put ("p/own/mine", "m");
  struct stat st;
  CHECK (stat ("p/own/mine", &st) == 0 && st.st_uid == 1000 && st.st_gid == 1000);
  CHECK_FAILS (chown ("p/own/mine", 0, 0), EPERM);
  /* Writing takes the special bits of somebody else's program. */
  int fd = open ("p/own/suid", O_WRONLY);
  CHECK (write (fd, "x", 1) == 1 && close (fd) == 0);
  CHECK ((mode_of ("p/own/suid") & 07777) == 0777);
  CHECK (seteuid (0) == 0 && setegid (0) == 0);
  CHECK (unlink ("p/own/mine") == 0 && unlink ("p/own/suid") == 0 && rmdir ("p/own") == 0);
  CHECK (unlink ("p/secret") == 0 && rmdir ("p") == 0);
}

static const struct
{
  const char *name;
  void (*run) (void);
} all[] = {
  { "names", names },
  { "links", links },
  { "content", content },
  { "mapping", mapping },
  { "ranges", ranges },
  { "unlinked", unlinked },
  { "attributes", attributes },
  { "xattrs", xattrs },
  { "listing", listing },
  { "depth", depth },
  { "permissions", permissions },
};

static gboolean
wanted (const char *name, int argc, char **argv)
{
  for (int i = 2; i < argc; i++)
    if (strcmp (argv[i], name) == 0)
      return TRUE;
  return argc == 2;
}

int
main (int argc, char **argv)
{
  if (argc < 2 || chdir (argv[1]) != 0)
    return 2;
  umask (022);
  for (guint i = 0; i < G_N_ELEMENTS (all); i++)
    {
      current = all[i].name;
      if (wanted (current, argc, argv))
        all[i].run ();
    }
  printf ("%u failures\n", failures);
  return failures != 0;
}
