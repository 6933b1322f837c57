// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

/* What programs do with handles of which some pass through and some don't. Each work asserts what must be so with
 * pass-through and without.
 *
 *   nf-pass stopped FILE PID          reads FILE in all ways while process PID, which serves it, is stopped
 *   nf-pass beside FILE               writers of all sorts beside a reader
 *   nf-pass mapped FILE               a shared mapping beside a reader: what is stored is seen after msync()
 *   nf-pass replaced FILE             renamed over and removed beside a reader
 *   nf-pass ways FILE OTHER           lseek, fadvise, copying, locks, by another's descriptor
 *   nf-pass as-nobody FILE            by a descriptor that another user got
 *   nf-pass many DIR N                opens N files at a time, tells when it has, and waits for a line
 *   nf-pass race FILE SECONDS         opens of all sorts at a time, none of which may fail
 *   nf-pass own FILE N                at a replica: N writes, each seen by a reader at once
 *   nf-pass grows FILE BYTES          there are no zeros in it while it grows to BYTES
 *   nf-pass pending FILE              writes and reads, tells when it has, and waits for a line
 *   nf-pass held FILE                 waits for lines: "read", prints the content's hash; "size"
 */

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096
#define TAIL (1024 * 1024)
#define RACERS 6
/* A stopped process goes on by itself after this, and the work has failed. */
#define STOPPED_S 10

static void G_GNUC_NORETURN G_GNUC_PRINTF (2, 3) broken (int line, const char *format, ...)
{
  va_list args;
  int err = errno;

  va_start (args, format);
  fprintf (stderr, "nf-pass.c:%d: ", line);
  vfprintf (stderr, format, args);
  fprintf (stderr, " (errno: %s)\n", g_strerror (err));
  va_end (args);
  exit (1);
}

#define must(what)                            \
  do                                          \
    if (!(what))                              \
      broken (__LINE__, "not so: %s", #what); \
  while (0)

static int
open_or_stop (const char *path, int flags)
{
  int fd = open (path, flags | O_CLOEXEC, 0644);

  if (fd < 0)
    broken (__LINE__, "open %s, flags %#o", path, flags);
  return fd;
}

static gboolean
has (int fd, off_t offset, const char *text)
{
  char buffer[PAGE];
  gsize len = strlen (text);

  return pread (fd, buffer, len, offset) == (ssize_t)len && memcmp (buffer, text, len) == 0;
}

static gboolean
put (int fd, off_t offset, const char *text)
{
  return pwrite (fd, text, strlen (text), offset) == (ssize_t)strlen (text);
}

static off_t
size_of (int fd)
{
  struct stat st;

  must (fstat (fd, &st) == 0);
  return st.st_size;
}

/* ---- stopped ---- */

static void
read_stopped (int fd, off_t size, int out)
{
  g_autofree char *buffer = g_malloc ((gsize)size);
  off_t at = 0;
  int ends[2];

  must (pread (fd, buffer, (gsize)size, 0) == size);
  char *map = mmap (NULL, (gsize)size, PROT_READ, MAP_SHARED, fd, 0);
  must (map != MAP_FAILED && memcmp (map, buffer, (gsize)size) == 0);
  char *copy = mmap (NULL, (gsize)size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
  must (copy != MAP_FAILED && memcmp (copy, buffer, (gsize)size) == 0);
  copy[0] ^= 1;
  must (has (fd, 0, "") && map[0] != copy[0]);
  must (sendfile (out, fd, &at, PAGE) == PAGE);
  must (pipe2 (ends, O_CLOEXEC) == 0);
  at = 0;
  must (splice (fd, &at, ends[1], NULL, PAGE, 0) == PAGE);
}

static int
stopped (const char *path, pid_t pid)
{
  int fd = open_or_stop (path, O_RDONLY);
  off_t size = size_of (fd);
  int out = memfd_create ("out", MFD_CLOEXEC);
  pid_t child;

  must (size > PAGE && out >= 0);
  /* Whoever maps it first has asked for what mmap() wants to know. */
  child = fork ();
  must (child >= 0);
  if (child == 0)
    {
      sleep (STOPPED_S);
      (void)kill (pid, SIGCONT);
      _exit (0);
    }
  gint64 start = g_get_monotonic_time ();
  must (kill (pid, SIGSTOP) == 0);
  read_stopped (fd, size, out);
  gint64 took = g_get_monotonic_time () - start;
  must (kill (pid, SIGCONT) == 0);
  must (kill (child, SIGKILL) == 0 && waitpid (child, NULL, 0) == child);
  must (took < (STOPPED_S - 1) * G_USEC_PER_SEC);
  return 0;
}

/* ---- writers beside a reader ---- */

static void
write_beside (const char *path, int reader, int flags, const char *text)
{
  int writer = open_or_stop (path, flags);
  off_t size = size_of (reader);
  off_t at = flags & O_APPEND ? size : PAGE - 2; /* over two pages */

  must (put (writer, at, text));
  must (has (reader, at, text));
  must (size_of (reader) == MAX (size, at + (off_t)strlen (text)));
  int again = open_or_stop (path, O_RDONLY);
  must (has (again, at, text) && size_of (again) == size_of (reader));
  must (ftruncate (writer, 2 * PAGE + 1) == 0);
  must (size_of (reader) == 2 * PAGE + 1 && size_of (again) == 2 * PAGE + 1);
  must (fallocate (writer, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE) == 0);
  must (has (again, 0, "") && !has (reader, at, text) && !has (again, at, text));
  must (close (again) == 0 && close (writer) == 0);
}

static int
beside (const char *path)
{
  int reader = open_or_stop (path, O_RDONLY);
  ino_t ino;
  struct stat st;

  must (fstat (reader, &st) == 0);
  ino = st.st_ino;
  char *map = mmap (NULL, PAGE, PROT_READ, MAP_SHARED, reader, 0);
  must (map != MAP_FAILED);
  write_beside (path, reader, O_WRONLY, "only");
  write_beside (path, reader, O_WRONLY | O_APPEND, "appended");
  int writer = open_or_stop (path, O_WRONLY);
  write_beside (path, reader, O_RDWR, "both");
  write_beside (path, reader, O_RDWR | O_APPEND, "both");
  must (put (writer, 0, "seen in the mapping"));
  must (memcmp (map, "seen in the mapping", 19) == 0);
  must (fstat (reader, &st) == 0 && st.st_ino == ino && stat (path, &st) == 0 && st.st_ino == ino);
  must (truncate (path, 3) == 0 && size_of (reader) == 3 && has (reader, 0, "see"));
  int cut = open_or_stop (path, O_WRONLY | O_TRUNC);
  must (size_of (reader) == 0 && size_of (cut) == 0);
  must (fchmod (reader, 0640) == 0 && stat (path, &st) == 0 && (st.st_mode & 0777) == 0640);
  must (fstat (reader, &st) == 0 && (st.st_mode & 0777) == 0640);
  int unaligned = open_or_stop (path, O_RDONLY | O_DIRECT);
  must (put (cut, 0, "direct") && has (unaligned, 1, "irect") && has (reader, 0, "direct"));
  must (close (open_or_stop (path, O_RDONLY | O_CREAT)) == 0);
  must (close (open_or_stop (path, O_RDWR | O_CREAT)) == 0);
  must (open (path, O_RDONLY | O_CREAT | O_EXCL, 0644) < 0 && errno == EEXIST);
  must (put (cut, 0, "at the end") && has (reader, 0, "at the end"));
  return 0;
}

static int
mapped (const char *path)
{
  int reader = open_or_stop (path, O_RDONLY);
  int both = open_or_stop (path, O_RDWR);
  char *map = mmap (NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, both, 0);

  must (map != MAP_FAILED);
  memcpy (map, "stored", 6);
  must (msync (map, PAGE, MS_SYNC) == 0);
  must (has (reader, 0, "stored"));
  int again = open_or_stop (path, O_RDONLY);
  must (has (again, 0, "stored"));
  must (put (both, 0, "STORED") && memcmp (map, "STORED", 6) == 0 && has (reader, 0, "STORED"));
  return 0;
}

static int
replaced (const char *path)
{
  g_autofree char *new_path = g_strconcat (path, ".new", NULL);
  g_autofree char *by_number = NULL;
  int old = open_or_stop (path, O_RDONLY);
  int new = open_or_stop (new_path, O_WRONLY | O_CREAT | O_TRUNC);

  must (has (old, 0, "old") && put (new, 0, "new") && close (new) == 0);
  new = open_or_stop (new_path, O_RDONLY);
  must (rename (new_path, path) == 0);
  must (has (old, 0, "old") && has (new, 0, "new"));
  int found = open_or_stop (path, O_RDONLY);
  must (has (found, 0, "new"));
  must (unlink (path) == 0 && has (found, 0, "new") && has (new, 0, "new") && has (old, 0, "old"));
  by_number = g_strdup_printf ("/proc/self/fd/%d", found);
  must (has (open_or_stop (by_number, O_RDONLY), 0, "new"));
  return 0;
}

/* ---- other ways ---- */

static void
lock_both (int a, int b)
{
  struct flock lock = { .l_type = F_RDLCK, .l_whence = SEEK_SET };

  must (flock (a, LOCK_SH) == 0 && flock (b, LOCK_SH) == 0);
  must (flock (a, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK);
  must (flock (b, LOCK_UN) == 0 && flock (a, LOCK_EX | LOCK_NB) == 0 && flock (a, LOCK_UN) == 0);
  must (fcntl (a, F_OFD_SETLK, &lock) == 0 && fcntl (b, F_OFD_SETLK, &lock) == 0);
  lock.l_type = F_UNLCK;
  must (fcntl (a, F_OFD_SETLK, &lock) == 0 && fcntl (b, F_OFD_SETLK, &lock) == 0);
}

static int
ways (const char *path, const char *other)
{
  int fd = open_or_stop (path, O_RDONLY | O_NOATIME);
  int second = open_or_stop (path, O_RDONLY);
  int to = open_or_stop (other, O_RDWR | O_CREAT | O_TRUNC);
  off_t size = size_of (fd), from = 0, at = 0;
  char buffer[16];

  must (lseek (fd, 0, SEEK_END) == size && lseek (fd, 0, SEEK_DATA) == 0);
  must (lseek (fd, 0, SEEK_HOLE) > 0 && lseek (fd, size, SEEK_DATA) < 0 && errno == ENXIO);
  must (posix_fadvise (fd, 0, 0, POSIX_FADV_WILLNEED) == 0);
  must (posix_fadvise (fd, 0, 0, POSIX_FADV_DONTNEED) == 0);
  must (readahead (fd, 0, PAGE) == 0);
  must (copy_file_range (fd, &from, to, &at, (gsize)size, 0) == size && size_of (to) == size);
  must (pread (fd, buffer, 16, 0) == 16 && pread (to, buffer, 16, 0) == 16);
  must (write (fd, "x", 1) < 0 && errno == EBADF && ftruncate (fd, 0) < 0);
  must (fsync (fd) == 0);
  must (mmap (NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED
        && errno == EACCES);
  lock_both (fd, second);
  return 0;
}

/* What was decided when it was opened holds for who has the descriptor. */
static int
as_nobody (const char *path)
{
  int fd = open_or_stop (path, O_RDONLY);
  char byte;

  must (setgroups (0, NULL) == 0 && setgid (65534) == 0 && setuid (65534) == 0);
  must (pread (fd, &byte, 1, 0) == 1);
  must (open (path, O_RDONLY) < 0 && errno == EACCES);
  return 0;
}

static int
many (const char *dir, guint n)
{
  for (guint i = 0; i < n; i++)
    {
      g_autofree char *path = g_strdup_printf ("%s/%u", dir, i);
      char byte;
      must (pread (open_or_stop (path, O_RDONLY), &byte, 1, 0) == 1);
    }
  puts ("open");
  fflush (stdout);
  (void)getchar ();
  return 0;
}

/* ---- at a time ---- */

static void
open_until (const char *path, int flags, gint64 until)
{
  char buffer[PAGE];
  guint64 n = 0;

  while (g_get_monotonic_time () < until)
    {
      int fd = open_or_stop (path, flags);
      if ((flags & O_ACCMODE) != O_WRONLY)
        must (pread (fd, buffer, sizeof buffer, 0) > 0);
      if ((flags & O_ACCMODE) != O_RDONLY)
        must (put (fd, 0, "race"));
      must (close (fd) == 0);
      n++;
    }
  printf ("%" G_GUINT64_FORMAT " with flags %#o\n", n, flags);
}

static int
race (const char *path, guint seconds, gboolean both)
{
  /* For both the file's node is plain from the first time on. */
  const int flags[RACERS] = { O_RDONLY,
                              O_RDONLY,
                              O_WRONLY,
                              O_RDONLY | O_CREAT,
                              both ? O_RDWR : O_WRONLY | O_APPEND,
                              both ? O_RDWR | O_CREAT : O_RDONLY };
  gint64 until = g_get_monotonic_time () + (gint64)seconds * G_USEC_PER_SEC;
  int status;

  for (guint i = 0; i < RACERS; i++)
    if (fork () == 0)
      {
        open_until (path, flags[i], until);
        exit (0);
      }
  for (guint i = 0; i < RACERS; i++)
    must (wait (&status) > 0 && status == 0);
  return 0;
}

/* ---- at a replica ---- */

static int
own (const char *path, guint n)
{
  int reader = open_or_stop (path, O_RDONLY);
  int writer = open_or_stop (path, O_WRONLY);
  int both = open_or_stop (path, O_RDWR);
  int appender = open_or_stop (path, O_WRONLY | O_APPEND);

  for (guint i = 0; i < n; i++)
    {
      g_autofree char *text = g_strdup_printf ("%08u by one; ", i);
      g_autofree char *other = g_strdup_printf ("%08u by two; ", i);
      must (put (writer, PAGE - 5, text) && has (reader, PAGE - 5, text));
      must (put (both, PAGE - 5, other) && has (reader, PAGE - 5, other)
            && has (both, PAGE - 5, other));
      off_t size = size_of (reader);
      must (write (appender, text, strlen (text)) == (ssize_t)strlen (text));
      must (has (reader, size, text) && size_of (reader) == size + (off_t)strlen (text));
      must (ftruncate (writer, size) == 0 && size_of (reader) == size);
    }
  must (truncate (path, PAGE) == 0 && size_of (reader) == PAGE);
  must (fallocate (both, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE) == 0);
  must (has (reader, 0, "") && pread (reader, (char[1]){ 1 }, 1, PAGE) == 0);
  return 0;
}

static void
print_content (int fd)
{
  char buffer[PAGE];
  off_t at = 0;
  ssize_t n;
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA256);

  while ((n = pread (fd, buffer, sizeof buffer, at)) > 0)
    {
      g_checksum_update (sum, (guchar *)buffer, n);
      at += n;
    }
  must (n == 0);
  puts (g_checksum_get_string (sum));
}

static int
held (const char *path)
{
  int fd = open_or_stop (path, O_RDONLY);
  char line[64];

  puts ("open");
  fflush (stdout);
  while (fgets (line, sizeof line, stdin))
    {
      if (g_str_has_prefix (line, "read"))
        print_content (fd);
      else if (g_str_has_prefix (line, "size"))
        printf ("%lld\n", (long long)size_of (fd));
      fflush (stdout);
    }
  return 0;
}

/* Ends when FILE is that long. */
static int
grows (const char *path, off_t until)
{
  int fd = open_or_stop (path, O_RDONLY);
  g_autofree char *buffer = g_malloc (TAIL);
  off_t at = size_of (fd);

  puts ("open");
  fflush (stdout);
  while (at < until)
    {
      ssize_t n = pread (fd, buffer, TAIL, at);
      must (n >= 0 && !memchr (buffer, '\0', (gsize)n));
      at += n;
    }
  return 0;
}

static int
pending (const char *path)
{
  int writer = open_or_stop (path, O_RDWR);

  must (put (writer, 0, "not yet there"));
  int reader = open_or_stop (path, O_RDONLY);
  must (has (reader, 0, "not yet there"));
  puts ("written");
  fflush (stdout);
  (void)getchar ();
  must (close (writer) == 0);
  return 0;
}

static guint
number (const char *text)
{
  return (guint)g_ascii_strtoull (text, NULL, 10);
}

int
main (int argc, char **argv)
{
  const char *work = argc > 2 ? argv[1] : "";

  if (g_str_equal (work, "stopped") && argc == 4)
    return stopped (argv[2], (pid_t)number (argv[3]));
  if (g_str_equal (work, "beside"))
    return beside (argv[2]);
  if (g_str_equal (work, "mapped"))
    return mapped (argv[2]);
  if (g_str_equal (work, "replaced"))
    return replaced (argv[2]);
  if (g_str_equal (work, "ways") && argc == 4)
    return ways (argv[2], argv[3]);
  if (g_str_equal (work, "as-nobody"))
    return as_nobody (argv[2]);
  if (g_str_equal (work, "many") && argc == 4)
    return many (argv[2], number (argv[3]));
  if (g_str_equal (work, "race") && argc == 4)
    return race (argv[2], number (argv[3]), FALSE) + race (argv[2], number (argv[3]), TRUE);
  if (g_str_equal (work, "own") && argc == 4)
    return own (argv[2], number (argv[3]));
  if (g_str_equal (work, "grows") && argc == 4)
    return grows (argv[2], (off_t)number (argv[3]));
  if (g_str_equal (work, "pending"))
    return pending (argv[2]);
  if (g_str_equal (work, "held"))
    return held (argv[2]);
  fprintf (stderr, "usage: see the head of nf-pass.c\n");
  return 2;
}
