// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "tests/posix/nf-posix.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

/* nf-posix run DIRECTORY <SCRIPT, nf-posix random DIRECTORY SEED STEPS: does the calls there, and prints the outcomes. */

typedef struct
{
  guint number;
  struct stat last;
} Known;

struct NfPosix
{
  int fds[NF_POSIX_FDS];
  GHashTable *known; /* identity → Known */
  guint n_known;
  gboolean
      sets_times; /* Only then are access times compared: who reads from a cache leaves no trace. */
};

#define FLAG(name) \
  {                \
#name, name    \
  }
static const struct
{
  const char *name;
  long value;
} flags[] = {
  FLAG (O_RDONLY),
  FLAG (O_WRONLY),
  FLAG (O_RDWR),
  FLAG (O_CREAT),
  FLAG (O_EXCL),
  FLAG (O_TRUNC),
  FLAG (O_APPEND),
  FLAG (O_NOFOLLOW),
  FLAG (O_DIRECTORY),
  FLAG (O_SYNC),
  FLAG (O_DSYNC),
  FLAG (O_DIRECT),
  FLAG (O_NOATIME),
  FLAG (O_PATH),
  FLAG (O_TMPFILE),
  FLAG (O_NONBLOCK),
  FLAG (S_IFREG),
  FLAG (S_IFIFO),
  FLAG (S_IFSOCK),
  FLAG (S_IFCHR),
  FLAG (S_IFBLK),
  FLAG (S_IFDIR),
  FLAG (S_ISVTX),
  FLAG (RENAME_NOREPLACE),
  FLAG (RENAME_EXCHANGE),
  FLAG (RENAME_WHITEOUT),
  FLAG (AT_SYMLINK_NOFOLLOW),
  FLAG (AT_SYMLINK_FOLLOW),
  FLAG (AT_EMPTY_PATH),
  FLAG (AT_EACCESS),
  FLAG (AT_REMOVEDIR),
  FLAG (SEEK_SET),
  FLAG (SEEK_CUR),
  FLAG (SEEK_END),
  FLAG (SEEK_DATA),
  FLAG (SEEK_HOLE),
  FLAG (FALLOC_FL_KEEP_SIZE),
  FLAG (FALLOC_FL_PUNCH_HOLE),
  FLAG (FALLOC_FL_ZERO_RANGE),
  FLAG (FALLOC_FL_COLLAPSE_RANGE),
  FLAG (FALLOC_FL_INSERT_RANGE),
  FLAG (R_OK),
  FLAG (W_OK),
  FLAG (X_OK),
  FLAG (F_OK),
  FLAG (XATTR_CREATE),
  FLAG (XATTR_REPLACE),
  FLAG (UTIME_NOW),
  FLAG (UTIME_OMIT),
  FLAG (LOCK_SH),
  FLAG (LOCK_EX),
  FLAG (LOCK_UN),
  FLAG (LOCK_NB),
  FLAG (F_RDLCK),
  FLAG (F_WRLCK),
  FLAG (F_UNLCK),
  FLAG (MAP_SHARED),
  FLAG (MAP_PRIVATE),
  FLAG (PROT_READ),
  FLAG (PROT_WRITE),
};

static void wrong (const char *format, ...) G_GNUC_PRINTF (1, 2) G_GNUC_NORETURN;

static void
wrong (const char *format, ...)
{
  va_list args;

  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  (void)fprintf (stderr, "%s\n", text);
  exit (2);
}

long
nf_posix_number (const char *word)
{
  char *end;
  long number = strtol (word, &end, 0);

  if (end == word || *end != '\0')
    wrong ("%s is no number", word);
  return number;
}

long
nf_posix_flags (const char *word)
{
  g_auto (GStrv) names = g_strsplit (word, "|", -1);
  long value = 0;

  for (char **name = names; *name; name++)
    {
      gsize i = 0;
      while (i < G_N_ELEMENTS (flags) && !g_str_equal (flags[i].name, *name))
        i++;
      value |= i < G_N_ELEMENTS (flags) ? flags[i].value : nf_posix_number (*name);
    }
  return value;
}

int
nf_posix_fd (NfPosix *posix, const char *word)
{
  if (word[0] != '@')
    wrong ("%s is no descriptor", word);
  return posix->fds[nf_posix_number (word + 1) % NF_POSIX_FDS];
}

void
nf_posix_set_fd (NfPosix *posix, const char *word, int fd)
{
  int *slot = &posix->fds[nf_posix_number (word + 1) % NF_POSIX_FDS];

  if (*slot >= 0)
    (void)close (*slot);
  *slot = fd;
}

/* ---- looking ---- */

static gboolean
is_later (const struct timespec *a, const struct timespec *b)
{
  return a->tv_sec != b->tv_sec ? a->tv_sec > b->tv_sec : a->tv_nsec > b->tv_nsec;
}

/* What somebody has set is compared; what the clock says isn't the same twice. */
#define SET_BEFORE 1600000000

static void
print_time (GString *out, char which, const struct timespec *is, const struct timespec *was)
{
  if (is->tv_sec < SET_BEFORE)
    g_string_append_printf (out, " %c=%ld.%ld", which, (long)is->tv_sec, (long)is->tv_nsec);
  else if (was && is_later (is, was))
    g_string_append_printf (out, " %c+", which);
  else if (was && is_later (was, is))
    g_string_append_printf (out, " %c-", which);
}

/* The number of an inode is used again, but not with the same time of birth, where the filesystem has that. */
static guint64
identity (int dir, const char *path, const struct stat *st)
{
  struct statx stx;

  if (statx (dir, path, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH, STATX_BTIME, &stx) != 0
      || !(stx.stx_mask & STATX_BTIME))
    return st->st_ino;
  return st->st_ino ^ ((guint64)stx.stx_btime.tv_sec << 32)
         ^ ((guint64)stx.stx_btime.tv_nsec << 20);
}

static void
print_stat (NfPosix *posix, GString *out, const char *what, guint64 id, const struct stat *st)
{
  Known *known = g_hash_table_lookup (posix->known, &id);
  gboolean was = known != NULL;

  if (!known)
    {
      known = g_new0 (Known, 1);
      known->number = ++posix->n_known;
      g_hash_table_insert (posix->known, g_memdup2 (&id, sizeof id), known);
    }
  g_string_append_printf (out, "\n    %s: #%u %o links %lu owner %u:%u", what, known->number,
                          st->st_mode, (gulong)st->st_nlink, st->st_uid, st->st_gid);
  if (!S_ISDIR (st->st_mode))
    g_string_append_printf (out, " size %lld", (long long)st->st_size);
  if (S_ISCHR (st->st_mode) || S_ISBLK (st->st_mode))
    g_string_append_printf (out, " device %u:%u", major (st->st_rdev), minor (st->st_rdev));
  if (posix->sets_times && st->st_atim.tv_sec < SET_BEFORE)
    print_time (out, 'a', &st->st_atim, NULL);
  print_time (out, 'm', &st->st_mtim, was ? &known->last.st_mtim : NULL);
  print_time (out, 'c', &st->st_ctim, was ? &known->last.st_ctim : NULL);
  known->last = *st;
}

static gboolean
is_path (const char *word)
{
  return word[0] == '/' || word[0] == '.' || g_ascii_islower (word[0]);
}

static void
look_at (NfPosix *posix, GString *out, char **words)
{
  struct stat st;

  for (char **word = words; *word; word++)
    {
      g_autofree char *shown = g_strndup (*word, 20);
      if ((*word)[0] == '@' && nf_posix_fd (posix, *word) >= 0
          && fstat (nf_posix_fd (posix, *word), &st) == 0)
        print_stat (posix, out, *word, identity (nf_posix_fd (posix, *word), "", &st), &st);
      else if (is_path (*word) && lstat (*word, &st) == 0)
        print_stat (posix, out, shown, identity (AT_FDCWD, *word, &st), &st);
    }
}

/* ---- a line ---- */

/* %N*TEXT% */
static char *
expand (const char *word)
{
  GString *out = g_string_new (NULL);

  while (*word)
    {
      char *end;
      const char *close;
      gulong n = word[0] == '%' ? strtoul (word + 1, &end, 10) : 0;
      if (word[0] != '%' || *end != '*' || !(close = strchr (end, '%')))
        {
          g_string_append_c (out, *word++);
          continue;
        }
      for (gulong i = 0; i < n; i++)
        g_string_append_len (out, end + 1, close - end - 1);
      word = close + 1;
    }
  return g_string_free (out, FALSE);
}

static char **
split (const char *line)
{
  g_auto (GStrv) words = g_strsplit (line, " ", -1);
  GPtrArray *result = g_ptr_array_new ();

  for (char **word = words; *word; word++)
    if (**word != '\0')
      g_ptr_array_add (result, g_str_equal (*word, "_") ? g_strdup ("") : expand (*word));
  g_ptr_array_add (result, NULL);
  return (char **)g_ptr_array_free (result, FALSE);
}

static const NfPosixCall *
find_call (const char *name)
{
  for (const NfPosixCall *call = nf_posix_name_calls; call->name; call++)
    if (g_str_equal (call->name, name))
      return call;
  for (const NfPosixCall *call = nf_posix_file_calls; call->name; call++)
    if (g_str_equal (call->name, name))
      return call;
  wrong ("%s is no call", name);
}

char *
nf_posix_do (NfPosix *posix, const char *line)
{
  g_auto (GStrv) words = split (line);
  g_autoptr (GString) note = g_string_new (NULL);
  GString *out;

  if (!words[0] || words[0][0] == '#')
    return NULL;
  const NfPosixCall *call = find_call (words[0]);
  if (g_strv_length (words) < call->n_args + 1)
    wrong ("%s: %u arguments are needed", line, call->n_args);
  long result = call->call (posix, words + 1, note);
  int err = errno;
  out = g_string_new (line);
  posix->sets_times = g_str_equal (call->name, "utimens") && g_ascii_isdigit (words[2][0]);
  if (result < 0)
    g_string_append_printf (out, "\n  → %s", strerrorname_np (err));
  else
    g_string_append_printf (out, "\n  → %ld%s", result, note->str);
  look_at (posix, out, words + 1);
  return g_string_free (out, FALSE);
}

NfPosix *
nf_posix_new (void)
{
  NfPosix *posix = g_new0 (NfPosix, 1);

  for (guint i = 0; i < NF_POSIX_FDS; i++)
    posix->fds[i] = -1;
  posix->known = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, g_free);
  return posix;
}

void
nf_posix_free (NfPosix *posix)
{
  for (guint i = 0; i < NF_POSIX_FDS; i++)
    if (posix->fds[i] >= 0)
      (void)close (posix->fds[i]);
  g_hash_table_unref (posix->known);
  g_free (posix);
}

static void
do_and_print (NfPosix *posix, const char *line)
{
  g_autofree char *outcome = nf_posix_do (posix, line);

  if (outcome)
    (void)puts (outcome);
}

int
main (int argc, char **argv)
{
  gboolean random = argc == 5 && g_str_equal (argv[1], "random");
  char line[8192];

  if (!random && !(argc == 3 && g_str_equal (argv[1], "run")))
    wrong ("nf-posix run DIRECTORY <SCRIPT, or nf-posix random DIRECTORY SEED STEPS");
  if (chdir (argv[2]) != 0)
    wrong ("%s: %s", argv[2], g_strerror (errno));
  NfPosix *posix = nf_posix_new ();
  if (random)
    {
      GRand *rand = g_rand_new_with_seed ((guint32)nf_posix_number (argv[3]));
      for (long n = nf_posix_number (argv[4]); n > 0; n--)
        {
          g_autofree char *chosen = nf_posix_random_line (rand);
          do_and_print (posix, chosen);
        }
      g_rand_free (rand);
    }
  else
    while (fgets (line, sizeof line, stdin))
      do_and_print (posix, g_strchomp (line));
  nf_posix_free (posix);
  return 0;
}
