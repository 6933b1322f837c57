// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sync/index.h"
#include "tests/own-mounts.h"
#include "tests/sim-disk.h"

/* An index that is written through its map, on a disk that is full, or refuses. It takes root to make one, as in CI. */

#define MANY 20000

static NfSimDisk *disk;
static NfIndex *index_;

/* A warning after the disk went down is expected. */
static GLogWriterOutput
discard_log (GLogLevelFlags level, const GLogField *fields, gsize n_fields, gpointer data)
{
  return G_LOG_WRITER_HANDLED;
}

static void
reopen (void)
{
  g_autoptr (GError) error = NULL;

  nf_index_close (index_);
  index_ = nf_index_open (nf_sim_disk_dir (disk), "index", &error);
  cr_assert_not_null (index_, "%s", error == NULL ? "" : error->message);
}

static void
start (void)
{
  g_log_set_writer_func (discard_log, NULL, NULL);
  (void)signal (SIGBUS, SIG_DFL); /* a sanitizer's own would be asked before */
  if (!nf_own_mounts ())
    {
      cr_assert_neq (geteuid (), 0);
      return;
    }
  disk = nf_sim_disk_new ();
  cr_assert_not_null (disk);
  reopen ();
}

static void
stop (void)
{
  if (!disk)
    return;
  nf_index_close (index_);
  nf_sim_disk_free (disk);
}

TestSuite (index_room, .init = start, .fini = stop, .timeout = 120);

static int
put (guint i)
{
  NfObject object = { .fid = i, .ident = { i, 1 }, .mode = S_IFREG };

  return nf_index_put (index_, &object);
}

/* Until it fails. Returns how many there are, from FIRST on. */
static guint
put_many (guint first, guint n, int *ret_rc)
{
  *ret_rc = 0;
  for (guint i = 0; i < n; i++)
    if ((*ret_rc = put (first + i)) != 0)
      return i;
  return n;
}

static void
check_all (guint first, guint n)
{
  NfObject object;

  for (guint i = first; i < first + n; i++)
    {
      cr_assert (nf_index_get (index_, i, &object), "%u", i);
      cr_assert_eq (object.ident.ino, i);
    }
}

static struct stat
stat_index (void)
{
  g_autofree char *path = g_build_filename (nf_sim_disk_dir (disk), "index", NULL);
  struct stat st = { 0 };

  cr_assert_eq (stat (path, &st), 0);
  return st;
}

Test (index_room, the_file_ends_where_its_pages_end_when_it_is_closed)
{
  if (!disk)
    return;
  cr_assert_geq (stat_index ().st_size, 1 << 30, "it is written through its map");
  cr_assert_eq (put (2), 0);
  nf_index_close (g_steal_pointer (&index_));
  cr_assert_lt (stat_index ().st_size, 1 << 20);
  cr_assert_leq (stat_index ().st_blocks * 512, 1 << 20);
  reopen ();
  check_all (2, 1);
}

Test (index_room, a_full_disk_refuses_and_leaves_what_was)
{
  if (!disk)
    return;
  int rc;

  nf_sim_disk_fill (disk, TRUE);
  guint n = put_many (2, 100 * MANY, &rc);
  cr_assert_eq (rc, -ENOSPC);
  check_all (2, n);
  nf_sim_disk_fill (disk, FALSE);
  cr_assert_eq (put_many (2 + n, MANY, &rc), MANY);
  reopen ();
  check_all (2, n + MANY);
}

/* In a process of its own, which doesn't close it. */
static void
put_and_die (guint i)
{
  pid_t pid = fork ();

  cr_assert_geq (pid, 0);
  if (pid == 0)
    {
      reopen ();
      _exit (put (i) == 0 ? 0 : 1);
    }
  int status = -1;
  cr_assert_eq (waitpid (pid, &status, 0), pid);
  cr_assert_eq (status, 0);
}

/* LMDB's lock file is written through a map, too. */
Test (index_room, what_has_no_room_to_be_opened_is_refused)
{
  if (!disk)
    return;
  g_autofree char *lock = g_build_filename (nf_sim_disk_dir (disk), "index-lock", NULL);
  g_autoptr (GError) error = NULL;

  nf_index_close (g_steal_pointer (&index_));
  put_and_die (2);
  cr_assert_eq (unlink (lock), 0);
  sync (); /* then its blocks are free */
  nf_sim_disk_fill (disk, TRUE);
  index_ = nf_index_open (nf_sim_disk_dir (disk), "index", &error);
  cr_assert_null (index_);
  cr_assert_not_null (strstr (error->message, g_strerror (ENOSPC)), "%s", error->message);
  nf_sim_disk_fill (disk, FALSE);
  reopen ();
  check_all (2, 1);
}

Test (index_room, a_long_transaction_takes_its_room_as_it_goes)
{
  if (!disk)
    return;
  int rc;

  cr_assert_eq (put (2), 0);
  nf_sim_disk_fill (disk, TRUE);
  cr_assert_eq (nf_index_begin (index_), 0);
  cr_assert_lt (put_many (3, 100 * MANY, &rc), 100 * MANY);
  cr_assert_eq (rc, -ENOSPC);
  cr_assert_eq (nf_index_commit (index_), -ECANCELED, "it isn't whole");
  cr_assert_eq (nf_index_count (index_), 1);
  nf_sim_disk_fill (disk, FALSE);
  cr_assert_eq (nf_index_begin (index_), 0);
  cr_assert_eq (put_many (3, MANY, &rc), MANY);
  cr_assert_eq (nf_index_commit (index_), 0);
  check_all (2, MANY + 1);
  cr_assert_lt (stat_index ().st_blocks * 512, 64 << 20, "not much more than it needs");
}

Test (index_room, long_values_take_room_too)
{
  if (!disk)
    return;
  g_autofree char *value = g_malloc0 (60000);
  guint n = 0;
  int rc = put (2);

  nf_sim_disk_fill (disk, TRUE);
  cr_assert_eq (nf_index_begin (index_), 0);
  for (; rc == 0 && n < 10000; n++)
    {
      g_autofree char *key = g_strdup_printf ("x:user.%u", n);
      rc = nf_index_set_extra (index_, 2, key, nf_slice (value, 60000));
    }
  cr_assert_eq (rc, -ENOSPC);
  nf_index_abort (index_);
  check_all (2, 1);
}

/* A page from AT on has no block any more, and gets none. */
static void
take_blocks_away (off_t at)
{
  g_autofree char *path = g_build_filename (nf_sim_disk_dir (disk), "index", NULL);
  int fd = open (path, O_RDWR | O_CLOEXEC);

  cr_assert_eq (fallocate (fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, 1 << 30), 0);
  cr_assert_eq (fsync (fd), 0); /* then the blocks are free */
  close (fd);
  nf_sim_disk_fill (disk, TRUE);
}

/* As when the kernel ends a filesystem after an error. AT: from this byte of the file on. */
static void
check_refused (off_t at)
{
  int rc;

  cr_assert_eq (put (2), 0);
  cr_assert_eq (nf_index_sync (index_), 0);
  take_blocks_away (at);
  guint n = put_many (3, MANY, &rc);
  cr_assert_eq (rc, -EIO);
  cr_assert_eq (nf_index_begin (index_), -EIO, "from now on");
  check_all (2, n + 1);
  nf_sim_disk_fill (disk, FALSE);
  reopen ();
  check_all (2, nf_index_is_restored (index_) ? 1 : n + 1);
  cr_assert_eq (put_many (3, MANY, &rc), MANY);
  reopen ();
  check_all (2, MANY + 1);
}

Test (index_room, a_disk_that_refuses_stores_doesnt_end_the_process)
{
  for (off_t pages = 64; disk && pages < 128; pages += 3)
    {
      check_refused (pages * 4096);
      nf_index_close (g_steal_pointer (&index_));
      nf_sim_disk_clean (disk);
      reopen ();
    }
}

/* What isn't guarded ends it, as ever. */
Test (index_room, a_map_that_isnt_guarded_ends_the_process, .signal = SIGBUS)
{
  g_autofree char *path = disk ? g_build_filename (nf_sim_disk_dir (disk), "other", NULL) : NULL;

  if (!disk)
    raise (SIGBUS);
  int fd = open (path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  char *map = mmap (NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  cr_assert_neq (map, MAP_FAILED);
  map[1] = 1; /* beyond its end */
}
