// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "tests/posix/nf-posix.h"

/* What differs for good reasons isn't here: SEEK_DATA in what was allocated and not written yet depends on what has reached the
 * disk, and a file opened for reading only and then unlinked is out of reach of fchmod() and fsync() away from home.
 *
 * Calls by chance, on few names, so that they meet. P stands for a path, F for a descriptor, N for a small number, O for an
 * offset, M for a mode, L for a letter, and each other word for itself. */

static const char *const patterns[] = {
  "open F P O_RDWR|O_CREAT M",
  "open F P O_RDWR",
  "open F P O_RDWR|O_CREAT|O_EXCL M",
  "open F P O_WRONLY|O_CREAT|O_TRUNC M",
  "open F P O_RDONLY",
  "open F P O_WRONLY|O_APPEND|O_CREAT M",
  "open F P O_RDONLY|O_DIRECTORY",
  "open F P O_RDWR|O_NOFOLLOW",
  "close F",
  "write F N L",
  "write F N L O",
  "write F N L O",
  "read F N O",
  "cat P",
  "lseek F O SEEK_SET",
  "ftruncate F O",
  "truncate P O",
  "fallocate F 0 O N",
  "fallocate F FALLOC_FL_KEEP_SIZE O N",
  "fallocate F FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE O N",
  "fallocate F FALLOC_FL_ZERO_RANGE O N",
  "copyrange F O F O N",
  "mapread F 100",
  "mapwrite F 100 L MAP_SHARED",
  "mapwrite F 100 L MAP_PRIVATE",
  "mkdir P M",
  "mkdir P M",
  "rmdir P",
  "unlink P",
  "unlink P",
  "link P P",
  "link P P",
  "symlink P P",
  "readlink P",
  "rename P P",
  "rename P P",
  "rename P P",
  "rename P P RENAME_NOREPLACE",
  "rename P P RENAME_EXCHANGE",
  "chmod P M",
  "utimens P UTIME_OMIT 2000.6",
  "utimens P UTIME_OMIT 3000.7 AT_SYMLINK_NOFOLLOW",
  "utimens P UTIME_NOW UTIME_NOW",
  "stat P",
  "access P R_OK|X_OK",
  "readdir P",
  "readdir .",
  "setxattr P user.one L",
  "setxattr P user.two %300*L% XATTR_CREATE",
  "getxattr P user.one",
  "listxattr P",
  "removexattr P user.one",
};

static const char *const paths[] = {
  "a", "b", "c", "d", "d/a", "d/b", "d/e", "d/e/a", "e", "e/a", "e/b", "./d/../a", "a/b", "l",
};

static const char *const modes[] = { "0644", "0755", "0600", "0700", "02775", "04711", "01777" };

static void
append_word (GString *line, const char *word, GRand *rand)
{
  if (g_str_equal (word, "P"))
    g_string_append (line, paths[g_rand_int_range (rand, 0, G_N_ELEMENTS (paths))]);
  else if (g_str_equal (word, "F"))
    g_string_append_printf (line, "@%d", g_rand_int_range (rand, 0, 5));
  else if (g_str_equal (word, "N"))
    g_string_append_printf (
        line, "%d", g_rand_int_range (rand, 0, g_rand_int_range (rand, 0, 4) == 0 ? 200000 : 5000));
  else if (g_str_equal (word, "O"))
    g_string_append_printf (
        line, "%d", g_rand_int_range (rand, 0, g_rand_int_range (rand, 0, 4) == 0 ? 300000 : 9000));
  else if (g_str_equal (word, "M"))
    g_string_append (line, modes[g_rand_int_range (rand, 0, G_N_ELEMENTS (modes))]);
  else if (g_str_equal (word, "L"))
    g_string_append_c (line, (char)('a' + g_rand_int_range (rand, 0, 26)));
  else
    g_string_append (line, word);
}

char *
nf_posix_random_line (GRand *rand)
{
  const char *pattern = patterns[g_rand_int_range (rand, 0, G_N_ELEMENTS (patterns))];
  g_auto (GStrv) words = g_strsplit (pattern, " ", -1);
  GString *line = g_string_new (NULL);

  for (char **word = words; *word; word++)
    {
      if (word != words)
        g_string_append_c (line, ' ');
      append_word (line, *word, rand);
    }
  return g_string_free (line, FALSE);
}
