// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "nf-work.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

/* Work for the tests with several sites: programs that do something whose result is known, or watch for what must
 * never be seen. Each prints one line of what it did; errors end it with 1 and a line that says which rule was
 * broken. Nothing here knows nearfs: it is plain file work on a directory.
 *
 *   nf-work order-write DIR N         replaces DIR/current and appends to DIR/log, N times, in a known order
 *   nf-work order-read DIR N SECONDS together|each
 *                                     watches them until N is there; `together`: also that neither is ahead of the other
 *   nf-work random DIR SEED OPS ID    seeded changes below DIR; failing calls are counted, not fatal
 *   nf-work maildir DIR ID N          N deliveries: tmp, fsync, link to new, unlink
 *   nf-work maildir-read DIR N SECONDS  reads them as they come, until N are there
 *   nf-work latency FROM TO N         N times: close() a file in FROM → it can be read in TO; prints microseconds
 *   nf-work rewrite FROM TO N         the same, of new content in a file that was read before
 *   nf-work observe DIR SECONDS       walks and reads a tree that others change: no strange errors
 *   nf-work try CALL PATH [ARGUMENT]  one call: prints "ok - MS" or "ENAME CALL MS"
 *   nf-work acked-write DIR ID N [sync] prints each file's name once it is acknowledged, until an error
 *   nf-work acked-read DIR LIST       all of these are there
 */

#define broken nf_work_broken

void
nf_work_broken (const char *format, ...)
{
  va_list args;

  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  fprintf (stderr, "nf-work: %s\n", text);
  exit (1);
}

char *
nf_work_errno (int err)
{
  const char *name = strerrorname_np (err);

  return name ? g_strdup (name) : g_strdup_printf ("errno %d", err);
}

gboolean
nf_work_may_fail (const char *name)
{
  const char *allowed = g_getenv ("NF_WORK_MAY_FAIL");
  g_auto (GStrv) names = g_strsplit (allowed ? allowed : "", " ", -1);

  return g_strv_contains ((const char *const *)names, name);
}

static gint64
now_us (void)
{
  return g_get_monotonic_time ();
}

static char *
path_in (const char *dir, const char *name)
{
  return g_build_filename (dir, name, NULL);
}

/* ---- order ---- */

/* A content that says which version it is in each line, so that a mix of two is seen. */
static char *
version_text (guint n)
{
  GString *text = g_string_new (NULL);
  guint lines = 1 + n % 37;

  g_string_append_printf (text, "version %u of %u lines\n", n, lines);
  for (guint i = 0; i < lines; i++)
    g_string_append_printf (text, "%u\n", n);
  return g_string_free (text, FALSE);
}

static void
write_whole (const char *path, int flags, const char *data, gsize len)
{
  int fd = open (path, flags | O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

  if (fd < 0)
    broken ("%s: %s", path, g_strerror (errno));
  if (write (fd, data, len) != (ssize_t)len || close (fd) != 0)
    broken ("%s: %s", path, g_strerror (errno));
}

static int
order_write (const char *dir, guint n)
{
  g_autofree char *log = path_in (dir, "log");
  g_autofree char *tmp = path_in (dir, "current.tmp");
  g_autofree char *current = path_in (dir, "current");

  for (guint i = 1; i <= n; i++)
    {
      g_autofree char *line = g_strdup_printf ("%u\n", i);
      g_autofree char *text = version_text (i);
      write_whole (log, O_APPEND, line, strlen (line));
      write_whole (tmp, O_TRUNC, text, strlen (text));
      if (rename (tmp, current) != 0)
        broken ("rename to %s: %s", current, g_strerror (errno));
    }
  printf ("wrote %u versions\n", n);
  return 0;
}

char *
nf_work_read (const char *path, gsize *ret_len)
{
  int fd = open (path, O_RDONLY | O_CLOEXEC);
  GString *text = g_string_new (NULL);
  char buffer[65536];
  ssize_t got;

  if (fd < 0 && errno == ENOENT)
    {
      g_string_free (text, TRUE);
      return NULL;
    }
  if (fd < 0)
    broken ("%s: %s", path, g_strerror (errno));
  while ((got = read (fd, buffer, sizeof buffer)) > 0)
    g_string_append_len (text, buffer, got);
  if (got < 0)
    broken ("reading %s: %s", path, g_strerror (errno));
  close (fd);
  *ret_len = text->len;
  return g_string_free (text, FALSE);
}

static guint
read_version (const char *path)
{
  gsize len;
  guint n;
  g_autofree char *text = nf_work_read (path, &len);

  if (!text)
    return 0;
  if (sscanf (text, "version %u", &n) != 1)
    broken ("%s holds %zu bytes that were never written: '%.40s'", path, len, text);
  g_autofree char *expected = version_text (n);
  if (!g_str_equal (text, expected))
    broken ("%s is not whole: version %u, %zu bytes instead of %zu", path, n, len,
            strlen (expected));
  return n;
}

static gsize
size_now (const char *path)
{
  struct stat st;

  return stat (path, &st) == 0 ? (gsize)st.st_size : 0;
}

static guint
read_log (const char *path)
{
  gsize len;
  g_autofree char *text = nf_work_read (path, &len);
  const char *at = text;
  guint n = 0;

  while (at && *at)
    {
      char *end;
      gulong value = strtoul (at, &end, 10);
      if (*end != '\n' || value != n + 1)
        broken ("%s has '%.20s' after line %u, at %zu of %zu bytes (next %d; now of %zu)", path, at,
                n, (gsize)(at - text), len, (int)(end - text) < (int)len ? end[0] : -1,
                size_now (path));
      n++;
      at = end + 1;
    }
  return n;
}

static int
order_read (const char *dir, guint n, guint seconds, gboolean together)
{
  g_autofree char *log = path_in (dir, "log");
  g_autofree char *current = path_in (dir, "current");
  gint64 until = now_us () + (gint64)seconds * G_USEC_PER_SEC;
  guint last_version = 0, last_line = 0, states = 0;

  while (last_version < n || last_line < n)
    {
      guint version = read_version (current);
      guint line = read_log (log);
      guint again = read_version (current);
      if (version < last_version || line < last_line)
        broken ("time ran backwards: version %u after %u, line %u after %u", version, last_version,
                line, last_line);
      if (together && line < version)
        {
          guint soon = read_log (log);
          g_usleep (100000);
          broken ("version %u is there, but the log, written before it, ends at %u (%u then, %u "
                  "0.1 s later)",
                  version, line, soon, read_log (log));
        }
      if (together && again + 1 < line)
        {
          g_usleep (100000);
          broken ("line %u of the log is there, but version %u, written before it, isn't (%u; %u "
                  "0.1 s later)",
                  line, line - 1, again, read_version (current));
        }
      states += version != last_version || line != last_line;
      last_version = again;
      last_line = line;
      if (now_us () > until)
        broken ("only version %u and line %u of %u after %u s", last_version, last_line, n,
                seconds);
    }
  printf ("saw %u states up to %u\n", states, n);
  return 0;
}

/* ---- random ---- */

typedef struct
{
  GRand *rand;
  const char *dir;
  const char *id;
  guint done;
  guint failed[256]; /* by errno */
} Random;

/* A name from a small set, so that operations meet; half of them in the writer's own directory. */
static char *
pick (Random *random, gboolean for_dir)
{
  static const char *const names[]
      = { "a", "b", "c", "long name with spaces", "\xff\xfe not utf-8", "e", "f", "g" };
  const char *top = g_rand_boolean (random->rand) ? random->id : "common";
  guint depth = g_rand_int_range (random->rand, 0, 3);
  GString *path = g_string_new (random->dir);

  g_string_append_printf (path, "/%s", top);
  for (guint i = 0; i < depth; i++)
    g_string_append_printf (path, "/d%d", g_rand_int_range (random->rand, 0, 3));
  if (for_dir)
    g_string_append_printf (path, "/d%d", g_rand_int_range (random->rand, 0, 3));
  else
    g_string_append_printf (path, "/%s",
                            names[g_rand_int_range (random->rand, 0, G_N_ELEMENTS (names))]);
  return g_string_free (path, FALSE);
}

static void
fill (Random *random, guint8 *data, gsize len)
{
  guint32 x = g_rand_int (random->rand);

  for (gsize i = 0; i < len; i++)
    data[i] = (guint8)((x += 2654435761u) >> 24);
}

static int
do_write (Random *random, const char *path)
{
  static const guint sizes[] = { 1, 100, 4096, 5000, 70000, 300000, 1500000 };
  static guint8 data[1500000];
  guint len = sizes[g_rand_int_range (random->rand, 0, G_N_ELEMENTS (sizes))];
  guint mode = g_rand_int_range (random->rand, 0, 4);
  int fd = open (
      path, O_WRONLY | O_CREAT | O_CLOEXEC | (mode == 0 ? O_TRUNC : 0) | (mode == 1 ? O_APPEND : 0),
      0644);

  if (fd < 0)
    return -1;
  fill (random, data, len);
  off_t offset = mode == 2 ? (off_t)g_rand_int_range (random->rand, 0, 200000) : 0;
  int err = pwrite (fd, data, len, offset) == (ssize_t)len ? 0 : errno;
  if (g_rand_int_range (random->rand, 0, 8) == 0 && fsync (fd) != 0)
    err = errno;
  if (close (fd) != 0)
    err = errno;
  errno = err;
  return err == 0 ? 0 : -1;
}

static int
do_attr (Random *random, const char *path)
{
  struct timespec times[2]
      = { { .tv_nsec = UTIME_OMIT },
          { .tv_sec = 1600000000 + g_rand_int_range (random->rand, 0, 1000) } };
  char value[64];

  switch (g_rand_int_range (random->rand, 0, 5))
    {
    case 0:
      return chmod (path, 0600 + (mode_t)g_rand_int_range (random->rand, 0, 64));
    case 1:
      return utimensat (AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW);
    case 2:
      snprintf (value, sizeof value, "%u", g_rand_int (random->rand));
      return setxattr (path, "user.test", value, strlen (value), 0);
    case 3:
      return removexattr (path, "user.test");
    default:
      return truncate (path, g_rand_int_range (random->rand, 0, 100000));
    }
}

static int
do_name (Random *random, const char *path)
{
  g_autofree char *other = pick (random, FALSE);

  switch (g_rand_int_range (random->rand, 0, 6))
    {
    case 0:
      return unlink (path);
    case 1:
      return link (path, other);
    case 2:
      /* Relative: an absolute one would lead other sites into this one's mount. */
      return symlink (strrchr (other, '/') + 1, path);
    case 3:
      return renameat2 (AT_FDCWD, path, AT_FDCWD, other, RENAME_NOREPLACE);
    case 4:
      return renameat2 (AT_FDCWD, path, AT_FDCWD, other, RENAME_EXCHANGE);
    default:
      return rename (path, other);
    }
}

static int
do_dir (Random *random)
{
  g_autofree char *path = pick (random, TRUE);
  g_autofree char *other = pick (random, TRUE);

  switch (g_rand_int_range (random->rand, 0, 6))
    {
    case 0:
      return rmdir (path);
    case 1:
      return rename (path, other);
    default:
      return mkdir (path, 0755);
    }
}

/* What two writers in one tree may do to each other, and a link that is down to both. All else is no answer that a
 * filesystem gives to these calls. */
static gboolean
is_expected (guint err)
{
  static const guint expected[]
      = { ENOENT, EEXIST, ENOTEMPTY, ENOTDIR, EISDIR, ELOOP, EINVAL, ENODATA, ESTALE };

  for (guint i = 0; i < G_N_ELEMENTS (expected); i++)
    if (err == expected[i])
      return TRUE;
  return FALSE;
}

static int
random_report (const Random *random, guint seed)
{
  gboolean strange = FALSE;

  printf ("seed %u: %u operations", seed, random->done);
  for (guint err = 0; err < G_N_ELEMENTS (random->failed); err++)
    if (random->failed[err] > 0)
      {
        g_autofree char *name = nf_work_errno ((int)err);
        printf (", %u %s", random->failed[err], name);
        if (!is_expected (err) && !nf_work_may_fail (name))
          strange = TRUE;
      }
  printf ("\n");
  if (strange)
    broken ("seed %u: an error that no disk would give", seed);
  return 0;
}

static int
random_work (const char *dir, guint seed, guint ops, const char *id)
{
  Random random = { .rand = g_rand_new_with_seed (seed), .dir = dir, .id = id };
  g_autofree char *own = path_in (dir, id);
  g_autofree char *common = path_in (dir, "common");

  (void)mkdir (own, 0755);
  (void)mkdir (common, 0755);
  for (guint i = 0; i < ops; i++)
    {
      g_autofree char *path = pick (&random, FALSE);
      guint what = g_rand_int_range (random.rand, 0, 10);
      int err = what < 4   ? do_write (&random, path)
                : what < 6 ? do_attr (&random, path)
                : what < 8 ? do_name (&random, path)
                           : do_dir (&random);
      random.done++;
      if (err != 0)
        random.failed[MIN ((guint)errno, G_N_ELEMENTS (random.failed) - 1)]++;
    }
  g_rand_free (random.rand);
  return random_report (&random, seed);
}

/* ---- maildir ---- */

static int
maildir (const char *dir, const char *id, guint n)
{
  for (guint i = 0; i < n; i++)
    {
      g_autofree char *tmp = g_strdup_printf ("%s/tmp/%s.%u", dir, id, i);
      g_autofree char *new = g_strdup_printf ("%s/new/%s.%u", dir, id, i);
      g_autofree char *text = g_strdup_printf ("From: %s\nSubject: %u\n\nbody\n", id, i);
      int fd = open (tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
      if (fd < 0 || write (fd, text, strlen (text)) != (ssize_t)strlen (text) || fsync (fd) != 0
          || close (fd) != 0)
        broken ("%s: %s", tmp, g_strerror (errno));
      if (link (tmp, new) != 0 || unlink (tmp) != 0)
        broken ("%s: %s", new, g_strerror (errno));
    }
  printf ("delivered %u\n", n);
  return 0;
}

/* ---- latency ---- */

/* Until the file holds TEXT at the other site. */
static gint64
wait_for_content (const char *path, const char *text)
{
  gint64 start = now_us ();

  for (;;)
    {
      char buffer[64];
      int fd = open (path, O_RDONLY | O_CLOEXEC);
      ssize_t got = fd >= 0 ? read (fd, buffer, sizeof buffer) : -1;
      if (fd >= 0)
        close (fd);
      if (got == (ssize_t)strlen (text) && memcmp (buffer, text, (gsize)got) == 0)
        return now_us () - start;
      if (now_us () - start > 60 * G_USEC_PER_SEC)
        broken ("%s has not arrived after 60 s", path);
      g_usleep (100);
    }
}

static int
latency (const char *from, const char *to, guint n, gboolean rewrite)
{
  for (guint i = 0; i < n; i++)
    {
      g_autofree char *name = g_strdup_printf ("latency.%d.%u", getpid (), rewrite ? 0 : i);
      g_autofree char *here = path_in (from, name);
      g_autofree char *there = path_in (to, name);
      g_autofree char *text = g_strdup_printf ("content %u\n", i);
      write_whole (here, rewrite ? O_TRUNC : O_EXCL, text, strlen (text));
      printf ("%" G_GINT64_FORMAT "\n", wait_for_content (there, text));
      if (!rewrite || i == n - 1)
        (void)unlink (here);
    }
  return 0;
}

static guint
number (const char *text)
{
  guint64 value;

  if (!g_ascii_string_to_unsigned (text, 10, 0, G_MAXUINT32, &value, NULL))
    broken ("'%s' is not a number", text);
  return (guint)value;
}

int
main (int argc, char **argv)
{
  const char *verb = argc > 1 ? argv[1] : "";

  if (g_str_equal (verb, "order-write") && argc == 4)
    return order_write (argv[2], number (argv[3]));
  if (g_str_equal (verb, "order-read") && argc == 6)
    return order_read (argv[2], number (argv[3]), number (argv[4]),
                       g_str_equal (argv[5], "together"));
  if (g_str_equal (verb, "random") && argc == 6)
    return random_work (argv[2], number (argv[3]), number (argv[4]), argv[5]);
  if (g_str_equal (verb, "maildir") && argc == 5)
    return maildir (argv[2], argv[3], number (argv[4]));
  if (g_str_equal (verb, "maildir-read") && argc == 5)
    return nf_work_maildir_read (argv[2], number (argv[3]), number (argv[4]));
  if (g_str_equal (verb, "latency") && argc == 5)
    return latency (argv[2], argv[3], number (argv[4]), FALSE);
  if (g_str_equal (verb, "rewrite") && argc == 5)
    return latency (argv[2], argv[3], number (argv[4]), TRUE);
  if (g_str_equal (verb, "observe") && argc == 4)
    return nf_work_observe (argv[2], number (argv[3]));
  if (g_str_equal (verb, "try"))
    return nf_work_try (argc - 2, argv + 2);
  if (g_str_equal (verb, "acked-write") && argc >= 5)
    return nf_work_acked_write (argv[2], argv[3], number (argv[4]), argc > 5);
  if (g_str_equal (verb, "acked-read") && argc == 4)
    return nf_work_acked_read (argv[2], argv[3]);
  if (g_str_equal (verb, "power-cut") && argc == 3)
    return nf_work_power_cut (argv[2]);
  fprintf (stderr, "usage: see the head of nf-work.c\n");
  return 2;
}
