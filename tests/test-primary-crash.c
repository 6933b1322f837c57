// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/primary-help.h"

/* A primary that is killed at each of its steps in each of its changes. Afterwards index and tree must agree, and a site
 * that follows the journal from its beginning must come to the same names. */

#define ROOT NF_FID_ROOT

static guint hits_left;

static void
die_at_point (gpointer data, const char *name)
{
  (void)data;
  if (!g_str_has_prefix (name, "primary-") || g_str_equal (name, "primary-answered"))
    return;
  if (hits_left-- == 0)
    _exit (9);
}

/* A little of everything, on fids that don't depend on chance. */
static void
work (World *world)
{
  NfFid d, e, f, g;
  NfAttr attr = { .mode = 0600, .size = 100 };
  NfFile *file = NULL;

  (void)do_mkdir (world, ROOT, "d", 0755, &d);
  (void)do_mkdir (world, ROOT, "e", 0755, &e);
  (void)do_create (world, d, "f", 0644, 0, &f);
  (void)do_write (world, f, 0, 0, "content", 7);
  (void)do_create (world, d, "g", 0644, 0, &g);
  (void)do_setattr (world, f, NF_SET_SIZE, &attr);
  (void)do_setattr (world, f, NF_SET_MODE, &attr);
  (void)do_setxattr (world, f, "user.x", "1", 1);
  (void)do_link (world, f, e, "hard");
  (void)do_symlink (world, e, "soft", "hard", NULL);
  (void)do_rename (world, d, "f", e, "f", 0);
  if (nf_opens_add (world->a->share->opens, g, O_RDWR, &file) == 0)
    (void)do_unlink (world, d, "g");
  (void)do_rename (world, e, "hard", e, "soft", 0);
  (void)do_rename (world, ROOT, "d", e, "moved", 0);
  (void)do_create (world, d, "in", 0644, 0, NULL);
  (void)do_rename (world, e, "moved", ROOT, "e", RENAME_EXCHANGE); /* refused: it lies in it */
  (void)do_rename (world, e, "f", d, "in", RENAME_EXCHANGE);
  (void)do_unlink (world, d, "in");
  (void)do_rmdir (world, e, "moved");
  (void)do_unlink (world, d, "f");
  (void)do_rmdir (world, e, "moved");
}

/* ---- what the journal says ---- */

typedef struct
{
  GHashTable *names;   /* "parent/name" → fid as text */
  GHashTable *attrs;   /* fid → NfAttr, as far as the journal says */
  GHashTable *aborted; /* seq */
} Model;

static gboolean
note_aborted (NfPosition position, NfSlice bytes, gpointer data)
{
  NfRecord record;

  (void)position;
  cr_assert (nf_record_decode (bytes, &record));
  if (record.kind == NF_OP_ABORT)
    g_hash_table_add (((Model *)data)->aborted, g_memdup2 (&record.aborted, sizeof (guint64)));
  return TRUE;
}

static NfAttr *
attr_of (Model *model, NfFid fid)
{
  NfAttr *attr = g_hash_table_lookup (model->attrs, &fid);

  if (!attr)
    {
      attr = g_new0 (NfAttr, 1);
      attr->fid = fid;
      g_hash_table_insert (model->attrs, &attr->fid, attr);
    }
  return attr;
}

static void
follow_attr (Model *model, const NfRecord *record)
{
  NfAttr *attr = attr_of (model, record->fid);

  if (record->kind == NF_OP_NAMES)
    {
      for (guint i = 0; i < record->n_names; i++)
        attr_of (model, record->names[i].parent)->mtime = record->time;
      if (record->creates)
        {
          attr->mode = record->attr.mode;
          attr->size = record->attr.size;
          attr->mtime = record->attr.mtime;
        }
    }
  if (record->kind == NF_OP_DATA || (record->kind == NF_OP_ATTR && (record->mask & NF_SET_SIZE)))
    attr->size = record->attr.size;
  if (record->kind == NF_OP_DATA || (record->kind == NF_OP_ATTR && (record->mask & NF_SET_MTIME)))
    attr->mtime = record->attr.mtime;
  if (record->kind == NF_OP_ATTR && (record->mask & NF_SET_MODE))
    attr->mode = record->attr.mode;
}

static void
compare_attr (Model *model, const NfAttr *is, guint point)
{
  const NfAttr *said = attr_of (model, is->fid);

  cr_assert_eq (is->mode & 07777, said->mode & 07777, "killed at %u: mode of %" G_GUINT64_FORMAT,
                point, is->fid);
  cr_assert_eq (is->mtime, said->mtime, "killed at %u: mtime of %" G_GUINT64_FORMAT, point,
                is->fid);
  if (S_ISREG (is->mode))
    cr_assert_eq (is->size, said->size, "killed at %u: size of %" G_GUINT64_FORMAT, point, is->fid);
}

static gboolean
follow (NfPosition position, NfSlice bytes, gpointer data)
{
  Model *model = data;
  NfRecord record;

  cr_assert (nf_record_decode (bytes, &record));
  if (g_hash_table_contains (model->aborted, &position.seq) || record.fid == NF_FID_NONE)
    return TRUE;
  follow_attr (model, &record);
  if (record.kind != NF_OP_NAMES)
    return TRUE;
  for (guint i = 0; i < record.n_names; i++)
    {
      const NfNameIs *is = &record.names[i];
      g_autofree char *name = nf_slice_dup (is->name);
      char *key = g_strdup_printf ("%" G_GUINT64_FORMAT "/%s", is->parent, name);
      if (is->fid == NF_FID_NONE)
        {
          g_hash_table_remove (model->names, key);
          g_free (key);
        }
      else
        g_hash_table_insert (model->names, key, g_strdup_printf ("%" G_GUINT64_FORMAT, is->fid));
    }
  return TRUE;
}

/* The names of the journal that hang on the root, as do_list() gives them, directory by directory. */
static char *
list_model (Model *model, NfFid dir)
{
  g_autofree char *prefix = g_strdup_printf ("%" G_GUINT64_FORMAT "/", dir);
  g_autoptr (GList) keys = g_list_sort (g_hash_table_get_keys (model->names), (GCompareFunc)strcmp);
  GString *text = g_string_new (NULL);

  for (GList *l = keys; l; l = l->next)
    if (g_str_has_prefix (l->data, prefix))
      g_string_append_printf (text, "%s%s=%s", text->len > 0 ? " " : "",
                              (char *)l->data + strlen (prefix),
                              (char *)g_hash_table_lookup (model->names, l->data));
  return g_string_free (text, FALSE);
}

static void
compare_dir (World *world, Model *model, NfFid dir, guint point)
{
  g_autofree char *expected = list_model (model, dir);
  g_autofree char *is = do_list (world, dir);
  g_auto (GStrv) entries = g_strsplit (is, " ", -1);

  cr_assert_str_eq (is, expected,
                    "killed at %u, directory %" G_GUINT64_FORMAT ": \"%s\", journal \"%s\"", point,
                    dir, is, expected);
  for (char **entry = entries; *entry && **entry; entry++)
    {
      NfFid fid = g_ascii_strtoull (strchr (*entry, '=') + 1, NULL, 10);
      NfAttr attr;
      /* By fid: through the index's name. */
      cr_assert_eq (do_getattr (world, fid, &attr), 0, "killed at %u: %s", point, *entry);
      compare_attr (model, &attr, point);
      if (S_ISDIR (attr.mode))
        compare_dir (world, model, fid, point);
    }
}

static void
check (World *world, guint point)
{
  g_autoptr (GHashTable) names = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
  g_autoptr (GHashTable) aborted
      = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
  g_autoptr (GHashTable) attrs = g_hash_table_new_full (g_int64_hash, g_int64_equal, NULL, g_free);
  Model model = { names, attrs, aborted };
  NfJournal *journal = world->a->share->journal;

  cr_assert_eq (nf_journal_read (journal, 0, note_aborted, &model), 0);
  cr_assert_eq (nf_journal_read (journal, 0, follow, &model), 0);
  guint64 seq = last_seq (world);
  compare_dir (world, &model, ROOT, point);
  cr_assert_eq (last_seq (world), seq, "killed at %u: something was left to adopt", point);
  /* No object that is nowhere. */
  NfObject object = { 0 };
  while (nf_index_next (world->a->share->index, object.fid, &object))
    cr_assert (object.n_names > 0 || object.fid == ROOT || object.place == NF_PLACE_ORPHANS,
               "killed at %u: fid %" G_GUINT64_FORMAT " is in the index and nowhere else", point,
               object.fid);
}

/* TRUE if the child was killed at POINT, FALSE if it came to the end before. */
static gboolean
run_child (World *world, guint point)
{
  int status;
  pid_t pid = fork ();

  cr_assert_geq (pid, 0);
  if (pid == 0)
    {
      world_open (world);
      hits_left = point;
      world->a->host.point = die_at_point;
      work (world);
      _exit (0);
    }
  cr_assert_eq (waitpid (pid, &status, 0), pid);
  cr_assert (WIFEXITED (status), "killed at %u: signal %d", point, WTERMSIG (status));
  return WEXITSTATUS (status) == 9;
}

Test (crash, index_tree_and_journal_agree_after_a_kill_at_every_step, .timeout = 300)
{
  gboolean killed = TRUE;
  guint point;

  for (point = 0; killed; point++)
    {
      World *world = world_new ();
      killed = run_child (world, point);
      world_open (world);
      nf_sim_run (world->sim, 10);
      check (world, point);
      world_free (world);
    }
  cr_assert_gt (point, 40);
}

Test (crash, an_unclean_end_begins_a_new_reign_once, .timeout = 60)
{
  World *world = world_new ();
  guint64 epoch;

  (void)run_child (world, 20);
  world_open (world);
  epoch = world->a->share->epoch;
  cr_assert_eq (epoch, 2);
  world_close (world);
  world_open (world);
  cr_assert_eq (world->a->share->epoch, epoch);
  world_free (world);
}

/* The last write was appended and perhaps not made: it is said anew what the file holds. */
Test (crash, a_write_under_way_is_broadcast_as_it_stands, .timeout = 60)
{
  for (guint point = 0; point < 2; point++)
    {
      World *world = world_new ();
      pid_t pid = fork ();
      int status;
      if (pid == 0)
        {
          NfFid f;
          world_open (world);
          (void)do_create (world, ROOT, "f", 0644, 0, &f);
          (void)do_write (world, f, 0, 0, "0123456789", 10);
          hits_left = point;
          world->a->host.point = die_at_point;
          (void)do_write (world, f, 5, 0, "abcdefghij", 10);
          _exit (0);
        }
      cr_assert_eq (waitpid (pid, &status, 0), pid);
      world_open (world);
      g_autofree char *text = log_after (world, 0);
      if (point == 0) /* appended, not written: the file has its old end */
        cr_assert_not_null (strstr (text, "data 2 data 5+5 size 10"), "%s", text);
      world_free (world);
    }
}

typedef enum
{
  OVERWRITE,
  APPEND,
  TRUNCATE,
  N_CALLS,
} Call;

static int
call_of_site (World *world, NfFid fid, Call call)
{
  const NfAttr shorter = { .size = 3 };

  switch (call)
    {
    case OVERWRITE:
      return do_write (world, fid, 5, 0, "abcdefghij", 10);
    case APPEND:
      return do_write (world, fid, 0, NF_WRITE_APPEND, "abcdefghij", 10);
    default:
      return do_setattr (world, fid, NF_SET_SIZE, &shorter);
    }
}

/* Dies at POINT of a call by another site. */
static void
die_in_call (World *world, Call call, guint point)
{
  NfFid f;

  world_open (world);
  world->umask = 0;
  (void)do_create (world, ROOT, "f", 0666, 0, &f);
  (void)do_write (world, f, 0, 0, "0123456789", 10);
  nf_msg_free (subscribe (world, (NfPosition){ 0 }));
  world->site = "b";
  hits_left = point;
  world->a->host.point = die_at_point;
  (void)call_of_site (world, f, call);
  _exit (0);
}

/* A life of which nothing is known but that it began. */
static void
live_and_die (World *world)
{
  int status;
  pid_t pid = fork ();

  if (pid == 0)
    {
      world_open (world);
      _exit (0);
    }
  cr_assert_eq (waitpid (pid, &status, 0), pid);
}

/* A site's change was appended, and the process ended before it was made, or before it was answered. The site sends it again. */
Test (crash, a_change_that_was_only_appended_is_made_when_it_is_sent_again, .timeout = 60)
{
  static const char *const expected[] = { "01234abcdefghij", "0123456789abcdefghij", "012" };

  for (guint i = 0; i < 8 * N_CALLS; i++)
    {
      guint lives = i / N_CALLS / 4;
      guint point = i / N_CALLS % 4;
      Call call = i % N_CALLS;
      World *world = world_new ();
      pid_t pid = fork ();
      int status;
      if (pid == 0)
        die_in_call (world, call, point);
      cr_assert_eq (waitpid (pid, &status, 0), pid);
      /* It may take the site several lives of the primary to come again. */
      if (lives > 0)
        {
          live_and_die (world);
          world_open (world);
          world_close (world);
        }
      world_open (world);
      nf_msg_free (subscribe (world, (NfPosition){ 0 }));
      world->site = "b";
      int rc = call_of_site (world, 2, call);
      cr_assert_eq (rc, 0, "call %u killed at %u: %d", call, point, rc);
      cr_assert_eq (do_read (world, 2, 0, 100), 0);
      cr_assert (nf_slice_equal (world->answer.answer.data, nf_slice_str (expected[call])),
                 "call %u killed at %u: %.*s", call, point, (int)world->answer.answer.data.len,
                 (const char *)world->answer.answer.data.data);
      world_free (world);
    }
}
