// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sync/journal.h"
#include "sync/tree.h"

/* Journal and tree under many threads, for ThreadSanitizer: writers append, sync and trim, readers follow; names change
 * while others look them up by name and by fid. */

#define THREADS 4
#define APPENDS 3000
#define CHANGES 400

static char *dir;
static NfTree *tree;
static NfJournal *journal;
static int stop;

static void
remove_all (void)
{
  const char *argv[] = { "rm", "-r", dir, NULL };

  (void)g_spawn_sync (NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL,
                      NULL);
}

static void
check (int rc, const char *what)
{
  if (rc >= 0)
    return;
  (void)fprintf (stderr, "%s: %s\n", what, g_strerror (-rc));
  exit (EXIT_FAILURE);
}

static void *
append (void *data)
{
  for (guint i = 0; i < APPENDS; i++)
    {
      NfRecord record = { .epoch = 1, .kind = NF_OP_DATA, .fid = 3, .time = i };

      check (nf_journal_append (journal, &record, NULL, NULL), "append");
      if (i % 200 == 0)
        check (nf_journal_sync (journal), "sync");
      if (i % 500 == 0)
        nf_journal_trim (journal, 0);
    }
  return NULL;
}

static void *
follow (void *data)
{
  guint64 seq = 0;

  while (seq < THREADS * APPENDS)
    {
      NfPosition position;
      g_autoptr (GBytes) bytes = nf_journal_get (journal, seq, &position);

      if (bytes != NULL)
        seq = position.seq;
      else if (nf_journal_first (journal).seq > seq)
        seq = nf_journal_first (journal).seq;
      else
        sched_yield ();
    }
  return NULL;
}

static void *
change_names (void *data)
{
  guint number = GPOINTER_TO_UINT (data);
  g_autofree char *mine = g_strdup_printf ("mine-%u", number);

  for (guint i = 0; i < CHANGES; i++)
    {
      NfNameRef from = { NF_FID_ROOT, nf_slice_str (mine) };
      NfAttr attr = { .mode = S_IFREG | 0644, .uid = getuid (), .gid = getgid () };

      check (nf_index_mint (nf_tree_index (tree), &attr.fid), "mint");
      check (nf_tree_create (tree, &attr, NF_SLICE_NONE, NF_FID_ROOT, from.name, NULL), "create");
      check (nf_tree_place (tree, attr.fid, NF_FID_ROOT, from.name, NULL), "place");
      check (nf_tree_set_attr (tree, attr.fid, -1, NF_SET_MTIME, &attr), "set");
      check (nf_tree_unplace (tree, NF_FID_ROOT, from.name), "unplace");
      check (nf_tree_bury (tree, attr.fid), "bury");
    }
  return NULL;
}

static void *
move_directory (void *data)
{
  NfFid fid = *(NfFid *)data;

  while (!g_atomic_int_get (&stop))
    {
      check (nf_tree_place (tree, fid, NF_FID_ROOT, nf_slice_str ("there"), NULL), "move");
      check (nf_tree_place (tree, fid, NF_FID_ROOT, nf_slice_str ("here"), NULL), "move back");
    }
  return NULL;
}

static gboolean
ignore_entry (NfSlice name, const NfAttr *attr, const NfIdent *ident, guint64 cookie, gpointer data)
{
  return TRUE;
}

static void *
look (void *data)
{
  NfFid fid = *(NfFid *)data;

  while (!g_atomic_int_get (&stop))
    {
      NfAttr attr;

      nf_tree_forget (tree, fid);
      check (nf_tree_stat (tree, fid, &attr), "stat");
      check (nf_tree_lookup (tree, fid, nf_slice_str ("f"), &attr, NULL), "lookup");
      check (nf_tree_stat (tree, attr.fid, &attr), "stat of the file");
      check (nf_tree_readdir (tree, NF_FID_ROOT, 0, TRUE, ignore_entry, NULL), "readdir");
    }
  return NULL;
}

static void
run (void *(*work) (void *), void *(*watch) (void *), void *(*other) (void *), gpointer data)
{
  pthread_t threads[THREADS + 2];

  g_atomic_int_set (&stop, 0);
  check (-pthread_create (&threads[THREADS], NULL, watch, data), "thread");
  check (-pthread_create (&threads[THREADS + 1], NULL, other, data), "thread");
  for (guint i = 0; i < THREADS; i++)
    check (-pthread_create (&threads[i], NULL, work, GUINT_TO_POINTER (i)), "thread");
  for (guint i = 0; i < THREADS; i++)
    pthread_join (threads[i], NULL);
  g_atomic_int_set (&stop, 1);
  pthread_join (threads[THREADS], NULL);
  pthread_join (threads[THREADS + 1], NULL);
}

static NfFid
make (NfFid parent, const char *name, guint32 mode)
{
  NfAttr attr = { .mode = mode, .uid = getuid (), .gid = getgid () };

  check (nf_index_mint (nf_tree_index (tree), &attr.fid), "mint");
  check (nf_tree_create (tree, &attr, NF_SLICE_NONE, parent, nf_slice_str (name), NULL), "create");
  return attr.fid;
}

int
main (void)
{
  NfJournalLimits limits = { 256 * 1024, G_MAXINT64, 32 * 1024 };
  NfTreeOptions options = { .personal = geteuid () != 0, .mark = TRUE, .share = 1 };
  NfFid fid;

  dir = g_dir_make_tmp ("nf-stress-XXXXXX", NULL);
  g_assert_nonnull (dir);
  (void)atexit (remove_all);
  tree = nf_tree_open (dir, &options, NULL);
  g_assert_nonnull (tree);
  journal = nf_journal_open (nf_tree_hidden_fd (tree), "journal", &limits, (NfPosition){ 1, 0, 0 },
                             NULL);
  g_assert_nonnull (journal);
  run (append, follow, follow, NULL);
  fid = make (NF_FID_ROOT, "here", S_IFDIR | 0755);
  (void)make (fid, "f", S_IFREG | 0644);
  run (change_names, move_directory, look, &fid);
  nf_journal_close (journal);
  nf_tree_close (tree);
  return EXIT_SUCCESS;
}
