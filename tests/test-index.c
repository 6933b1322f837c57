// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <glib/gstdio.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sync/index.h"

static char *dir;
static char *file;
static NfIndex *index_;

static void
reopen (void)
{
  g_autoptr (GError) error = NULL;

  nf_index_close (index_);
  index_ = nf_index_open (dir, "index", &error);
  cr_assert_not_null (index_, "%s", error == NULL ? "" : error->message);
}

/* The warning after a power cut is expected. */
static GLogWriterOutput
discard_log (GLogLevelFlags level, const GLogField *fields, gsize n_fields, gpointer data)
{
  return G_LOG_WRITER_HANDLED;
}

static void
set_up (void)
{
  g_log_set_writer_func (discard_log, NULL, NULL);
  dir = g_dir_make_tmp ("nf-index-XXXXXX", NULL);
  file = g_build_filename (dir, "index", NULL);
  reopen ();
}

static void
tear_down (void)
{
  static const char *const files[]
      = { "index", "index-lock", "index.boot", "index.safe", "other.boot", "other-lock" };

  nf_index_close (index_);
  for (gsize i = 0; i < G_N_ELEMENTS (files); i++)
    {
      g_autofree char *path = g_build_filename (dir, files[i], NULL);

      g_unlink (path);
    }
  cr_assert_eq (g_rmdir (dir), 0, "nothing else is left");
  g_free (file);
  g_free (dir);
}

TestSuite (index, .init = set_up, .fini = tear_down);

static void
put (NfFid fid, guint64 ino, guint32 suspect)
{
  NfObject object = { .fid = fid, .ident = { ino, 1 }, .mode = S_IFREG, .suspect = suspect };

  cr_assert_eq (nf_index_put (index_, &object), 0);
}

static NfObject
get (NfFid fid)
{
  NfObject object;

  cr_assert (nf_index_get (index_, fid, &object), "%lu", (unsigned long)fid);
  return object;
}

Test (index, object_is_found_by_fid_and_by_identity)
{
  NfObject object;

  put (5, 100, 0);
  cr_assert_eq (get (5).ident.ino, 100);
  cr_assert_eq (get (5).mode, S_IFREG);
  cr_assert_eq (nf_index_by_ident (index_, (NfIdent){ 100, 1 }), 5);
  cr_assert_eq (nf_index_by_ident (index_, (NfIdent){ 100, 2 }), NF_FID_NONE, "inode used again");
  cr_assert_eq (nf_index_by_ident (index_, (NfIdent){ 101, 1 }), NF_FID_NONE);
  cr_assert (nf_index_find (index_, (NfIdent){ 100, 1 }, &object));
  cr_assert_eq (object.fid, 5);
  cr_assert_not (nf_index_get (index_, 6, &object));
  cr_assert_eq (nf_index_count (index_), 1);
}

Test (index, new_identity_replaces_the_old_one)
{
  put (5, 100, 0);
  put (5, 200, 0);
  cr_assert_eq (nf_index_by_ident (index_, (NfIdent){ 100, 1 }), NF_FID_NONE);
  cr_assert_eq (nf_index_by_ident (index_, (NfIdent){ 200, 1 }), 5);
}

Test (index, object_whose_inode_another_has_is_no_longer_here)
{
  put (5, 100, 0);
  put (6, 100, 0);
  cr_assert_eq (nf_index_by_ident (index_, (NfIdent){ 100, 1 }), 6);
  cr_assert_eq (get (5).ident.ino, 0);
  cr_assert_eq (nf_index_remove (index_, 5), 0);
  cr_assert_eq (nf_index_by_ident (index_, (NfIdent){ 100, 1 }), 6, "it wasn't 5's to remove");
}

static gboolean
count_name (NfFid parent, NfSlice name, gpointer data)
{
  ++*(guint *)data;
  return TRUE;
}

Test (index, names_are_counted)
{
  char longest[NF_NAME_LEN_MAX] = { 0 };
  NfSlice long_name = nf_slice (longest, sizeof longest);
  guint32 left = 99;
  guint n = 0;

  memset (longest, 0xfe, sizeof longest);
  put (5, 100, 0);
  cr_assert_eq (nf_index_add_name (index_, 5, 1, nf_slice_str ("a")), 0);
  cr_assert_eq (nf_index_add_name (index_, 5, 1, nf_slice_str ("a")), 0, "twice is once");
  cr_assert_eq (nf_index_add_name (index_, 5, 2, nf_slice_str ("a")), 0);
  cr_assert_eq (nf_index_add_name (index_, 5, 2, long_name), 0);
  cr_assert_eq (get (5).n_names, 3);
  nf_index_names (index_, 5, count_name, &n);
  cr_assert_eq (n, 3);
  cr_assert (nf_index_has_name (index_, 5, 2, long_name));
  cr_assert_eq (nf_index_drop_name (index_, 5, 2, long_name, &left), 0);
  cr_assert_eq (left, 2);
  cr_assert_eq (nf_index_drop_name (index_, 5, 2, long_name, &left), -ENOENT);
  cr_assert_not (nf_index_has_name (index_, 5, 2, long_name));
  put (5, 101, 0);
  cr_assert_eq (get (5).n_names, 2, "put leaves names alone");
  cr_assert_eq (nf_index_add_name (index_, 77, 1, nf_slice_str ("x")), -ENOENT);
  cr_assert_eq (nf_index_remove (index_, 5), 0);
  n = 0;
  nf_index_names (index_, 5, count_name, &n);
  cr_assert_eq (n, 0);
}

static void
check_names (NfFid fid, const char *first, guint n)
{
  char name[NF_NAME_LEN_MAX + 1];
  NfFid parent;

  cr_assert (nf_index_first_name (index_, fid, &parent, name));
  cr_assert_str_eq (name, first);
  cr_assert_eq (get (fid).n_names, n);
}

Test (index, a_name_moves)
{
  NfSlice a = nf_slice_str ("a"), b = nf_slice_str ("b"), c = nf_slice_str ("c");

  put (5, 5, 0);
  cr_assert_eq (nf_index_add_name (index_, 5, 1, a), 0);
  cr_assert_eq (nf_index_move_name (index_, 5, 1, a, 1, b), 0);
  check_names (5, "b", 1);
  cr_assert_eq (nf_index_move_name (index_, 5, 1, a, 1, c), 0, "not known there");
  check_names (5, "b", 2);
  cr_assert_eq (nf_index_move_name (index_, 5, 1, c, 1, b), 0, "known there already");
  check_names (5, "b", 1);
  cr_assert_eq (nf_index_move_name (index_, 5, 1, b, 1, b), 0);
  check_names (5, "b", 1);
  cr_assert_eq (nf_index_move_name (index_, 5, 1, b, 1, nf_slice_str ("")), -EINVAL);
  cr_assert_eq (nf_index_move_name (index_, 77, 1, a, 1, b), -ENOENT);
}

Test (index, path_is_put_together_from_the_root)
{
  g_autofree char *root = NULL;
  g_autofree char *path = NULL;
  g_autofree char *loose = NULL;

  put (1, 1, 0);
  put (2, 2, 0);
  put (3, 3, 0);
  put (4, 4, 0);
  nf_index_add_name (index_, 2, 1, nf_slice_str ("dir"));
  nf_index_add_name (index_, 3, 2, nf_slice_str ("\xff"));
  nf_index_add_name (index_, 4, 99, nf_slice_str ("x"));
  root = nf_index_path (index_, 1);
  path = nf_index_path (index_, 3);
  loose = nf_index_path (index_, 4);
  cr_assert_str_eq (root, "");
  cr_assert_str_eq (path, "dir/\xff");
  cr_assert_null (loose);
}

Test (index, ring_of_parents_has_no_path)
{
  put (2, 2, 0);
  put (3, 3, 0);
  nf_index_add_name (index_, 2, 3, nf_slice_str ("a"));
  nf_index_add_name (index_, 3, 2, nf_slice_str ("b"));
  cr_assert_null (nf_index_path (index_, 2));
}

Test (index, suspects_come_in_order)
{
  NfObject object;

  put (9, 9, NF_SUSPECT_DATA);
  put (5, 5, 0);
  put (7, 7, NF_SUSPECT_ATTR);
  cr_assert_eq (nf_index_suspects (index_), 2);
  cr_assert (nf_index_next_suspect (index_, 0, &object));
  cr_assert_eq (object.fid, 7);
  cr_assert (nf_index_next_suspect (index_, 7, &object));
  cr_assert_eq (object.fid, 9);
  cr_assert_not (nf_index_next_suspect (index_, 9, &object));
  cr_assert_eq (nf_index_set_suspect (index_, 5, NF_SUSPECT_NAMES, 0), 0);
  cr_assert_eq (nf_index_set_suspect (index_, 7, 0, NF_SUSPECT_ATTR), 0);
  cr_assert_eq (nf_index_suspects (index_), 2);
  cr_assert (nf_index_next_suspect (index_, 0, &object));
  cr_assert_eq (object.fid, 5);
  cr_assert_eq (nf_index_remove (index_, 5), 0);
  cr_assert_eq (nf_index_remove (index_, 9), 0);
  cr_assert_eq (nf_index_suspects (index_), 0);
  put (300, 300, NF_SUSPECT_DATA);
  reopen ();
  cr_assert_eq (nf_index_suspects (index_), 1);
  cr_assert (nf_index_next (index_, 7, &object));
  cr_assert_eq (object.fid, 300);
}

Test (index, extras_belong_to_their_object)
{
  g_autofree char *big = g_malloc0 (NF_XATTR_MAX);
  g_autoptr (GBytes) value = NULL;
  g_auto (GStrv) keys = NULL;

  put (5, 5, 0);
  put (6, 6, 0);
  cr_assert_not (get (5).extra);
  cr_assert_eq (nf_index_set_extra (index_, 5, "x:user.a", nf_slice (big, NF_XATTR_MAX)), 0);
  cr_assert_eq (nf_index_set_extra (index_, 5, "x:user.b", nf_slice ("", 0)), 0);
  cr_assert_eq (nf_index_set_extra (index_, 5, "attr", nf_slice_str ("v")), 0);
  cr_assert_eq (nf_index_set_extra (index_, 6, "x:user.c", nf_slice_str ("w")), 0);
  cr_assert_eq (nf_index_set_extra (index_, 7, "attr", nf_slice_str ("w")), -ENOENT);
  cr_assert (get (5).extra);
  keys = nf_index_list_extra (index_, 5, "x:");
  cr_assert_eq (g_strv_length (keys), 2);
  cr_assert_str_eq (keys[0], "x:user.a");
  value = nf_index_get_extra (index_, 5, "x:user.a");
  cr_assert_eq (g_bytes_get_size (value), NF_XATTR_MAX);
  put (5, 55, 0);
  cr_assert (get (5).extra, "put leaves it alone");
  nf_index_set_extra (index_, 5, "x:user.a", NF_SLICE_NONE);
  nf_index_set_extra (index_, 5, "x:user.b", NF_SLICE_NONE);
  cr_assert (get (5).extra);
  nf_index_set_extra (index_, 5, "attr", NF_SLICE_NONE);
  cr_assert_not (get (5).extra);
  cr_assert_eq (nf_index_set_extra (index_, 5, "attr", NF_SLICE_NONE), 0, "twice is once");
  cr_assert_eq (nf_index_remove (index_, 6), 0);
  put (6, 6, 0);
  cr_assert_null (nf_index_get_extra (index_, 6, "x:user.c"));
}

Test (index, transaction_holds_as_a_whole_or_not)
{
  cr_assert_eq (nf_index_begin (index_), 0);
  cr_assert (nf_index_held (index_));
  put (5, 5, NF_SUSPECT_DATA);
  cr_assert_eq (nf_index_set_meta (index_, "position", nf_slice_str ("1")), 0);
  cr_assert_eq (get (5).ident.ino, 5, "seen from within");
  nf_index_abort (index_);
  cr_assert_not (nf_index_held (index_));
  cr_assert_eq (nf_index_count (index_), 0);
  cr_assert_eq (nf_index_suspects (index_), 0);
  cr_assert_null (nf_index_get_meta (index_, "position"));
  cr_assert_eq (nf_index_begin (index_), 0);
  put (5, 5, 0);
  put (6, 6, 0);
  cr_assert_eq (nf_index_drop_name (index_, 5, 1, nf_slice_str ("none"), NULL), -ENOENT);
  cr_assert_eq (nf_index_commit (index_), 0, "a harmless failure doesn't spoil it");
  cr_assert_eq (nf_index_count (index_), 2);
}

Test (index, abort_within_spoils_the_outer_transaction)
{
  cr_assert_eq (nf_index_begin (index_), 0);
  put (5, 5, 0);
  cr_assert_eq (nf_index_begin (index_), 0);
  nf_index_abort (index_);
  cr_assert_eq (nf_index_commit (index_), -ECANCELED);
  cr_assert_eq (nf_index_count (index_), 0);
}

Test (index, fids_are_never_given_twice)
{
  NfFid last = NF_FID_ROOT, fid;

  for (guint i = 0; i < 3000; i++)
    {
      cr_assert_eq (nf_index_mint (index_, &fid), 0);
      cr_assert_gt (fid, last);
      last = fid;
    }
  reopen ();
  cr_assert_eq (nf_index_mint (index_, &fid), 0);
  cr_assert_gt (fid, last);
  cr_assert_eq (nf_index_note_fid (index_, 1000000), 0);
  cr_assert_eq (nf_index_note_fid (index_, 5), 0);
  cr_assert_eq (nf_index_mint (index_, &fid), 0);
  cr_assert_eq (fid, 1000001);
  reopen ();
  cr_assert_eq (nf_index_mint (index_, &fid), 0);
  cr_assert_gt (fid, 1000001);
  cr_assert_eq (nf_index_note_fid (index_, NF_FID_LIMBO), -EINVAL);
  cr_assert_eq (nf_index_note_fid (index_, NF_FID_NONE), -EINVAL);
}

Test (index, fids_of_an_aborted_transaction_are_not_given_again)
{
  NfFid first, second;

  cr_assert_eq (nf_index_begin (index_), 0);
  cr_assert_eq (nf_index_mint (index_, &first), 0);
  nf_index_abort (index_);
  cr_assert_eq (nf_index_mint (index_, &second), 0);
  cr_assert_gt (second, first);
  reopen ();
  cr_assert_eq (nf_index_mint (index_, &first), 0);
  cr_assert_gt (first, second);
}

Test (index, survives_the_death_of_the_process)
{
  pid_t child;
  int status;

  nf_index_close (index_);
  index_ = NULL;
  child = fork ();
  if (child == 0)
    {
      reopen ();
      put (5, 5, 0);
      nf_index_set_meta (index_, "position", nf_slice_str ("here"));
      nf_index_begin (index_);
      put (6, 6, 0);
      kill (getpid (), SIGKILL);
    }
  cr_assert_eq (waitpid (child, &status, 0), child);
  cr_assert (WIFSIGNALED (status));
  reopen ();
  cr_assert_eq (nf_index_count (index_), 1, "as of the last commit");
  cr_assert_eq (get (5).ident.ino, 5);
}

/* As if the machine had gone down: the file is any mixture of pages, and the boot is another. */
static void
cut_power (void)
{
  g_autofree char *boot = g_strconcat (file, ".boot", NULL);
  g_autofree char *junk = g_strnfill (100000, 'x');

  nf_index_close (g_steal_pointer (&index_));
  cr_assert (g_file_set_contents (file, junk, 100000, NULL));
  cr_assert (g_file_set_contents (boot, "00000000-0000-0000-0000-000000000000", 36, NULL));
}

Test (index, power_cut_goes_back_to_a_sync)
{
  NfFid before, after;

  put (5, 5, NF_SUSPECT_DATA);
  nf_index_set_meta (index_, "position", nf_slice_str ("here"));
  cr_assert_eq (nf_index_mint (index_, &before), 0);
  cr_assert_eq (nf_index_sync (index_), 0);
  put (6, 6, 0);
  for (guint i = 0; i < 5000; i++)
    cr_assert_eq (nf_index_mint (index_, &before), 0);
  cut_power ();
  reopen ();
  cr_assert_eq (nf_index_count (index_), 1);
  cr_assert_eq (get (5).ident.ino, 5);
  cr_assert_eq (nf_index_suspects (index_), 1);
  cr_assert_eq (nf_index_mint (index_, &after), 0);
  cr_assert_gt (after, before, "not even what was given since");
  /* Once more, at once. */
  cut_power ();
  reopen ();
  cr_assert_eq (nf_index_count (index_), 1);
  cr_assert_eq (nf_index_mint (index_, &before), 0);
  cr_assert_gt (before, after);
}

Test (index, power_cut_after_a_clean_end_loses_nothing)
{
  g_autofree char *safe = g_strconcat (file, ".safe", NULL);

  put (5, 5, 0);
  cr_assert_eq (nf_index_sync (index_), 0);
  put (6, 6, 0);
  reopen ();
  cr_assert_eq (nf_index_count (index_), 2);
  nf_index_close (g_steal_pointer (&index_));
  cr_assert_eq (g_unlink (safe), 0, "the copy isn't needed");
  reopen ();
  cr_assert_eq (nf_index_count (index_), 2);
}

Test (index, power_cut_before_the_first_sync_leaves_it_new)
{
  put (5, 5, 0);
  cut_power ();
  reopen ();
  cr_assert_eq (nf_index_count (index_), 0);
}

Test (index, foreign_file_is_refused)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *other = g_build_filename (dir, "other", NULL);
  g_autofree char *junk = g_strnfill (100000, 'x');

  cr_assert (g_file_set_contents (other, junk, 100000, NULL));
  cr_assert_null (nf_index_open (dir, "other", &error));
  cr_assert_not_null (strstr (error->message, "isn't an index"), "%s", error->message);
  g_unlink (other);
}

Test (index, no_space_is_an_error_and_leaves_the_last_commit)
{
  struct rlimit limit = { 400 * 1024, 400 * 1024 };
  guint64 n;
  int rc = 0;

  signal (SIGXFSZ, SIG_IGN);
  cr_assert_eq (setrlimit (RLIMIT_FSIZE, &limit), 0);
  reopen (); /* so that it isn't written through its map */
  for (guint i = 2; rc == 0 && i < 100000; i++)
    {
      NfObject object = { .fid = i, .ident = { i, 1 }, .mode = S_IFREG };

      rc = nf_index_put (index_, &object);
    }
  cr_assert_lt (rc, 0);
  n = nf_index_count (index_);
  cr_assert_gt (n, 100);
  for (guint i = 2; i < n + 2; i++)
    cr_assert_eq (get (i).ident.ino, i);
  reopen ();
  cr_assert_eq (nf_index_count (index_), n);
}

static void *
mint_and_put (void *data)
{
  for (guint i = 0; i < 500; i++)
    {
      NfFid fid;

      cr_assert_eq (nf_index_begin (index_), 0);
      cr_assert_eq (nf_index_mint (index_, &fid), 0);
      put (fid, fid, 0);
      cr_assert_eq (nf_index_commit (index_), 0);
      cr_assert_eq (get (fid).ident.ino, fid);
    }
  return NULL;
}

Test (index, threads_do_not_meet)
{
  pthread_t threads[4];

  for (guint i = 0; i < 4; i++)
    cr_assert_eq (pthread_create (&threads[i], NULL, mint_and_put, NULL), 0);
  for (guint i = 0; i < 4; i++)
    pthread_join (threads[i], NULL);
  cr_assert_eq (nf_index_count (index_), 2000);
}

static void *
read_both (void *data)
{
  NfObject object;

  cr_assert (nf_index_get (index_, 5, &object));
  cr_assert_not (nf_index_get (index_, 6, &object), "not committed");
  return NULL;
}

Test (index, reader_waits_for_no_transaction, .timeout = 20)
{
  pthread_t thread;

  put (5, 5, 0);
  cr_assert_eq (nf_index_begin (index_), 0);
  put (6, 6, 0);
  cr_assert_eq (pthread_create (&thread, NULL, read_both, NULL), 0);
  pthread_join (thread, NULL);
  cr_assert_eq (get (6).ident.ino, 6, "the writer sees it");
  cr_assert_eq (nf_index_commit (index_), 0);
  cr_assert_eq (get (6).ident.ino, 6);
}
