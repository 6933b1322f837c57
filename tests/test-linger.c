// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sync/linger.h"
#include "tests/sim.h"

#define KEPT_MAX 64
#define SMALL 4096

/* A host that does what it is asked for when the test says so. */
static NfFunc due;
static gpointer due_arg;
static guint n_due;

static void
later (gpointer data, guint delay_ms, NfFunc func, gpointer arg)
{
  (void)data;
  cr_assert_eq (delay_ms, 5);
  cr_assert_null (due);
  due = func;
  due_arg = arg;
  n_due++;
}

static void
run_due (void)
{
  NfFunc func = due;

  cr_assert_not_null (func);
  due = NULL;
  func (due_arg);
}

static NfHost host;
static NfLinger *linger;
static char *dir;
static int dir_fd;

static void
setup (void)
{
  host = (NfHost){ .post_after = later, .linger_ms = 5 };
  due = NULL;
  n_due = 0;
  dir = nf_sim_make_dir ();
  dir_fd = open (dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  linger = nf_linger_new (&host);
}

static void
teardown (void)
{
  if (linger)
    nf_linger_free (linger);
  if (due)
    run_due ();
  close (dir_fd);
  nf_sim_remove_dir (dir);
}

TestSuite (linger, .init = setup, .fini = teardown);

static NfAttr
make (const char *name)
{
  int fd = openat (dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

  cr_assert_geq (fd, 0);
  close (fd);
  return (NfAttr){ .mode = S_IFREG | 0644, .nlink = 1, .size = SMALL };
}

/* Removes NAME with what keeps it. */
static int
removed (const char *name)
{
  NfAttr attr = make (name);
  int fd = nf_linger_keep (linger, &attr, dir_fd, name);

  cr_assert_geq (fd, 0);
  cr_assert_eq (unlinkat (dir_fd, name, 0), 0);
  nf_linger_leave (linger, fd);
  return fd;
}

static gboolean
is_open (int fd)
{
  return fcntl (fd, F_GETFD) >= 0;
}

Test (linger, what_has_lost_its_name_is_there_until_the_host_has_time)
{
  struct stat st;
  int fd = removed ("a");

  cr_assert_eq (fstat (fd, &st), 0);
  cr_assert_eq (st.st_nlink, 0);
  run_due ();
  cr_assert_not (is_open (fd));
  cr_assert_null (due);
}

Test (linger, the_host_is_asked_once_for_all_that_go_together)
{
  int a = removed ("a"), b = removed ("b");

  cr_assert_eq (n_due, 1);
  run_due ();
  cr_assert (!is_open (a) && !is_open (b));
  (void)removed ("c");
  cr_assert_eq (n_due, 2);
}

Test (linger, whoever_lacks_the_space_frees_it)
{
  int fd = removed ("a");

  cr_assert (nf_linger_end (linger));
  cr_assert_not (is_open (fd));
  cr_assert_not (nf_linger_end (linger));
  run_due ();
  cr_assert_null (due);
}

Test (linger, of_many_the_last_are_freed_at_once)
{
  int last = -1;

  for (guint i = 0; i <= KEPT_MAX; i++)
    {
      cr_assert (i == 0 || is_open (last));
      last = removed ("a");
    }
  cr_assert_not (is_open (last));
}

Test (linger, all_is_freed_at_the_end)
{
  int fd = removed ("a");

  nf_linger_free (g_steal_pointer (&linger));
  cr_assert_not (is_open (fd));
  run_due ();
  cr_assert_null (due);
}

Test (linger, what_has_another_name_or_is_large_or_no_file_is_not_kept)
{
  NfAttr attr = make ("a");

  attr.nlink = 2;
  cr_assert_eq (nf_linger_keep (linger, &attr, dir_fd, "a"), -1);
  attr.nlink = 1;
  attr.size = (guint64)1 << 30;
  cr_assert_eq (nf_linger_keep (linger, &attr, dir_fd, "a"), -1);
  attr.size = 0;
  attr.mode = S_IFDIR | 0755;
  cr_assert_eq (nf_linger_keep (linger, &attr, dir_fd, "a"), -1);
  nf_linger_leave (linger, -1);
  cr_assert_null (due);
}

Test (linger, a_host_that_does_not_want_it_has_nothing_kept)
{
  NfAttr attr = make ("a");

  host.linger_ms = 0;
  cr_assert_eq (nf_linger_keep (linger, &attr, dir_fd, "a"), -1);
}
