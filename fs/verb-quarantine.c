// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/client.h"
#include "fs/command.h"
#include "map/map.h"

/* `nearfs quarantine list|show|restore|drop`. It needs no daemon: what lies in the quarantine changes no more, and how
 * it lies there is said in sync/tree-quarantine.c. */

#define NOTE_SUFFIX ".txt"

typedef struct
{
  NfSiteConf *conf;
  NfMap *map;
  gboolean all;
  int argc; /* what comes after the word */
  char **argv;
} Verb;

typedef struct
{
  char *id;   /* its directory's name */
  char *dir;  /* where that lies */
  char *name; /* what lies in it */
  char *was;  /* its path in the share */
  char *why;
} Thing;

static void
thing_free (gpointer data)
{
  Thing *thing = data;

  g_free (thing->id);
  g_free (thing->dir);
  g_free (thing->name);
  g_free (thing->was);
  g_free (thing->why);
  g_free (thing);
}

/* ---- what there is ---- */

static char *
quarantine_of (const Verb *verb, const NfMapShare *share)
{
  g_autofree char *dir = nf_map_dir (verb->map, share, verb->conf->name, verb->conf->home);

  return dir ? g_build_filename (dir, ".nearfs", "quarantine", NULL) : NULL;
}

static void
read_note (Thing *thing, const char *quarantine)
{
  g_autofree char *file = g_strconcat (quarantine, "/", thing->id, NOTE_SUFFIX, NULL);
  g_autofree char *text = NULL;

  if (!g_file_get_contents (file, &text, NULL, NULL))
    return;
  g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
  for (char **line = lines; *line; line++)
    if (g_str_has_prefix (*line, "Was: ") && !thing->was)
      thing->was = g_strdup (*line + strlen ("Was: "));
    else if (g_str_has_prefix (*line, "Why: ") && !thing->why)
      thing->why = g_strdup (*line + strlen ("Why: "));
}

/* NULL: nothing lies there (any more). */
static Thing *
thing_new (const char *quarantine, const char *id)
{
  g_autofree char *path = g_build_filename (quarantine, id, NULL);
  g_autoptr (GDir) dir = g_dir_open (path, 0, NULL);
  const char *name = dir ? g_dir_read_name (dir) : NULL;

  if (!name)
    return NULL;
  Thing *thing = g_new0 (Thing, 1);
  thing->id = g_strdup (id);
  thing->dir = g_steal_pointer (&path);
  thing->name = g_strdup (name);
  read_note (thing, quarantine);
  return thing;
}

static gint
by_id (gconstpointer a, gconstpointer b)
{
  return strcmp ((*(Thing *const *)a)->id, (*(Thing *const *)b)->id);
}

static GPtrArray *
all_things (const char *quarantine)
{
  GPtrArray *things = g_ptr_array_new_with_free_func (thing_free);
  g_autoptr (GDir) dir = g_dir_open (quarantine, 0, NULL);
  const char *id;

  while (dir && (id = g_dir_read_name (dir)))
    {
      Thing *thing = g_str_has_suffix (id, NOTE_SUFFIX) ? NULL : thing_new (quarantine, id);
      if (thing)
        g_ptr_array_add (things, thing);
    }
  g_ptr_array_sort (things, by_id);
  return things;
}

static char *
shown (const char *text)
{
  return g_utf8_make_valid (text ? text : "?", -1);
}

/* ---- the words ---- */

static int fail (const char *format, ...) G_GNUC_PRINTF (1, 2);

static int
fail (const char *format, ...)
{
  g_autofree char *text = NULL;
  va_list args;

  va_start (args, format);
  text = g_strdup_vprintf (format, args);
  va_end (args);
  return nf_command_fail ("quarantine", 1, "%s", text);
}

/* The share that the first argument names; NULL, and it is said why. */
static const NfMapShare *
named_share (const Verb *verb)
{
  const NfMapShare *share = verb->argc > 0 ? nf_map_share (verb->map, verb->argv[0]) : NULL;

  if (verb->argc > 0 && !share)
    (void)fail ("%s is no share; \"nearfs map show\" lists them", verb->argv[0]);
  return share;
}

static guint
list_share (const Verb *verb, const NfMapShare *share)
{
  g_autofree char *quarantine = quarantine_of (verb, share);
  g_autoptr (GPtrArray) things = quarantine ? all_things (quarantine) : NULL;

  for (guint i = 0; things && i < things->len; i++)
    {
      const Thing *thing = things->pdata[i];
      g_autofree char *was = shown (thing->was ? thing->was : thing->name);
      g_autofree char *why = shown (thing->why);
      printf ("%-12s %-20s /%s: %s\n", share->name, thing->id, was, why);
    }
  return things ? things->len : 0;
}

static int
list (const Verb *verb)
{
  const NfMapShare *only = named_share (verb);
  guint n = 0;

  if (verb->argc > 0 && !only)
    return 1;
  for (guint i = 0; i < nf_map_n_shares (verb->map); i++)
    {
      const NfMapShare *share = nf_map_share_at (verb->map, i);
      if (!only || share == only)
        n += list_share (verb, share);
    }
  if (n == 0)
    puts ("Nothing is in quarantine here.");
  return 0;
}

/* What the first two arguments name; NULL, and it is said why. */
static Thing *
named_thing (const Verb *verb)
{
  const NfMapShare *share = named_share (verb);
  g_autofree char *quarantine = share ? quarantine_of (verb, share) : NULL;
  Thing *thing = NULL;

  if (!share)
    return NULL;
  if (!quarantine)
    (void)fail ("share %s has no directory at this site", share->name);
  else if (!strchr (verb->argv[1], '/') && verb->argv[1][0] != '.')
    thing = thing_new (quarantine, verb->argv[1]);
  if (quarantine && !thing)
    (void)fail ("share %s has nothing in quarantine by the name of %s; \"nearfs quarantine list "
                "%s\" lists what there is",
                share->name, verb->argv[1], share->name);
  return thing;
}

/* 0, or what it failed with. */
static int
run_program (const char *const *argv)
{
  g_autoptr (GError) error = NULL;
  int status = 0;

  if (!g_spawn_sync (NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_CHILD_INHERITS_STDIN,
                     NULL, NULL, NULL, NULL, &status, &error)
      || !g_spawn_check_wait_status (status, &error))
    return fail ("%s: %s", argv[0], error->message);
  return 0;
}

static int
show (const Verb *verb)
{
  Thing *thing = named_thing (verb);

  if (!thing)
    return 1;
  g_autofree char *was = shown (thing->was);
  g_autofree char *why = shown (thing->why);
  printf ("was  /%s\nwhy  %s\nis   %s/%s\n", was, why, thing->dir, thing->name);
  (void)fflush (stdout);
  const char *const argv[] = { "ls", "-lR", "--", thing->dir, NULL };
  int status = run_program (argv);
  thing_free (thing);
  return status;
}

/* A copy: it stays in quarantine until somebody drops it. */
static int
restore (const Verb *verb)
{
  Thing *thing = named_thing (verb);
  const char *to = verb->argc > 2 ? verb->argv[2] : ".";
  struct stat st;
  int status;

  if (!thing)
    return 1;
  gboolean into = stat (to, &st) == 0 && S_ISDIR (st.st_mode);
  g_autofree char *from = g_build_filename (thing->dir, thing->name, NULL);
  g_autofree char *path = into ? g_build_filename (to, thing->name, NULL) : g_strdup (to);
  if (lstat (path, &st) == 0)
    status = fail ("%s is there already; name another place", path);
  else
    {
      const char *const argv[] = { "cp", "-a", "-T", "--", from, path, NULL };
      status = run_program (argv);
    }
  if (status == 0)
    printf ("%s\n", path);
  thing_free (thing);
  return status;
}

static int
drop_thing (const Thing *thing)
{
  g_autofree char *note = g_strconcat (thing->dir, NOTE_SUFFIX, NULL);
  const char *const argv[] = { "rm", "-rf", "--one-file-system", "--", thing->dir, note, NULL };

  return run_program (argv);
}

static int
drop_all (const Verb *verb)
{
  const NfMapShare *share = named_share (verb);
  g_autofree char *quarantine = share ? quarantine_of (verb, share) : NULL;
  g_autoptr (GPtrArray) things = quarantine ? all_things (quarantine) : NULL;
  int status = share ? 0 : 1;

  for (guint i = 0; things && status == 0 && i < things->len; i++)
    status = drop_thing (things->pdata[i]);
  return status;
}

static int
drop (const Verb *verb)
{
  if (verb->all)
    return drop_all (verb);
  Thing *thing = named_thing (verb);
  int status = thing ? drop_thing (thing) : 1;

  g_clear_pointer (&thing, thing_free);
  return status;
}

static const struct
{
  const char *word;
  int (*run) (const Verb *verb);
  int least, most; /* arguments */
} words[] = {
  { "list", list, 0, 1 },
  { "show", show, 2, 2 },
  { "restore", restore, 2, 3 },
  { "drop", drop, 1, 2 },
};

int
nf_verb_quarantine (int argc, char **argv)
{
  g_autofree char *config = NULL;
  gboolean all = FALSE;
  const GOptionEntry entries[] = {
    { "config", 'c', 0, G_OPTION_ARG_FILENAME, &config, "The site's configuration", "FILE" },
    { "all", 0, 0, G_OPTION_ARG_NONE, &all, "With drop: all that the share has", NULL },
    { .long_name = NULL },
  };
  g_autoptr (NfSiteConf) conf = NULL;
  g_autoptr (NfMap) map = NULL;
  g_autoptr (GError) error = NULL;

  if (!nf_command_parse ("quarantine", entries, &argc, &argv))
    return NF_EXIT_USAGE;
  for (gsize i = 0; argc > 1 && i < G_N_ELEMENTS (words); i++)
    {
      if (!g_str_equal (argv[1], words[i].word))
        continue;
      int least = all && words[i].run == drop ? 1 : words[i].run == drop ? 2 : words[i].least;
      if (argc - 2 < least || argc - 2 > (all ? 1 : words[i].most))
        return nf_command_usage ("quarantine", "%s: wrong number of arguments", argv[1]);
      conf = nf_client_conf (config, NULL, &error);
      map = conf ? nf_map_load (conf->map, &error) : NULL;
      if (map && !conf->name)
        return fail ("%s doesn't say which site this is", conf->filename);
      if (!map)
        return nf_client_report ("quarantine", error);
      const Verb verb = { conf, map, all, argc - 2, argv + 2 };
      return words[i].run (&verb);
    }
  return nf_command_usage ("quarantine", "expected list, show, restore or drop");
}
