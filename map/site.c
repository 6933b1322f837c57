// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "map/site.h"

#include <pwd.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "map/conf.h"
#include "map/map-private.h"
#include "map/name.h"
#include "map/path.h"

#define MIB (1024 * 1024)
#define DAY_S (24 * 3600)

static const char *const site_keys[]
    = { "name",        "map",       "roots",        "runtime",   "identity",     "known-hosts",
        "ssh-config",  "transport", "call-timeout", "heartbeat", "write-buffer", "journal-size",
        "journal-age", NULL };

typedef struct
{
  NfSiteConf conf; /* first: what callers hold */
  atomic_uint refs;
  GStringChunk *strings;
} Full;

/* The group [site] while it is parsed; group is NULL if the file doesn't have it. */
typedef struct
{
  Full *full;
  const NfConf *file;
  const NfConfGroup *group;
} Parse;

NfSiteConf *
nf_site_conf_ref (NfSiteConf *conf)
{
  Full *full = (Full *)conf;

  (void)atomic_fetch_add_explicit (&full->refs, 1, memory_order_relaxed);
  return conf;
}

void
nf_site_conf_unref (NfSiteConf *conf)
{
  Full *full = (Full *)conf;

  if (atomic_fetch_sub_explicit (&full->refs, 1, memory_order_acq_rel) != 1)
    return;
  g_free ((gpointer)conf->roots);
  g_free ((gpointer)conf->identities);
  g_string_chunk_free (full->strings);
  g_free (full);
}

/* Defaults.  Environment variables are believed only if they are what they should be. */

static const char *
home_dir (void)
{
  const char *home = g_getenv ("HOME");
  const struct passwd *user;

  if (home != NULL && nf_path_fault (home) == NULL)
    return home;
  user = getpwuid (geteuid ());
  if (user != NULL && user->pw_dir != NULL && nf_path_fault (user->pw_dir) == NULL)
    return user->pw_dir;
  return "/nonexistent";
}

/* Where root's and a person's files are: "/etc" or "~/.config". */
static char *
default_file (const char *name)
{
  if (geteuid () == 0)
    return g_build_filename ("/etc/nearfs", name, NULL);
  return g_build_filename (home_dir (), ".config/nearfs", name, NULL);
}

char *
nf_site_conf_default_path (void)
{
  return default_file ("site.conf");
}

static char *
default_runtime (void)
{
  const char *runtime = g_getenv ("XDG_RUNTIME_DIR");
  g_autofree char *run_user = g_strdup_printf ("/run/user/%u", (unsigned)geteuid ());
  struct stat st;

  if (geteuid () == 0)
    return g_strdup ("/run/nearfs");
  if (runtime != NULL && nf_path_fault (runtime) == NULL)
    return g_build_filename (runtime, "nearfs", NULL);
  if (stat (run_user, &st) == 0 && S_ISDIR (st.st_mode) && st.st_uid == geteuid ())
    return g_build_filename (run_user, "nearfs", NULL);
  return g_build_filename (home_dir (), ".cache/nearfs/run", NULL);
}

static const char *const *
default_roots (const NfSiteConf *conf)
{
  const char **roots = g_new0 (const char *, 3);

  if (geteuid () == 0)
    {
      roots[0] = "/srv";
      roots[1] = "/var/lib/nearfs";
    }
  else
    roots[0] = conf->home;
  return roots;
}

/* Keys. */

static const NfConfKey *
find_key (const Parse *parse, const char *name)
{
  return parse->group != NULL ? nf_conf_key (parse->group, name) : NULL;
}

static const char *
resolve (const Parse *parse, const NfConfKey *key, const char *value, GError **error)
{
  g_autofree char *path = NULL;
  const char *expected;

  if (g_str_has_prefix (value, "~/"))
    path = g_build_filename (parse->full->conf.home, value + strlen ("~/"), NULL);
  expected = nf_path_fault (path != NULL ? path : value);
  if (expected == NULL)
    return g_string_chunk_insert_const (parse->full->strings, path != NULL ? path : value);
  nf_conf_fail (error, NF_MAP_ERROR_VALUE, parse->file, key->line, "%s: '%s'; expected %s",
                key->key, value, expected);
  return NULL;
}

/* Leaves *ret_path alone if the key isn't there. */
static gboolean
parse_path (const Parse *parse, const char *name, const char **ret_path, GError **error)
{
  const NfConfKey *key = find_key (parse, name);
  const char *value;
  const char *path;

  if (key == NULL)
    return TRUE;
  value = nf_conf_string (parse->file, key, error);
  path = value != NULL ? resolve (parse, key, value, error) : NULL;
  if (path != NULL)
    *ret_path = path;
  return path != NULL;
}

/* Sets *ret_paths to NULL if the key isn't there. */
static gboolean
parse_paths (const Parse *parse, const char *name, const char *const **ret_paths, GError **error)
{
  const NfConfKey *key = find_key (parse, name);
  g_autoptr (GPtrArray) list = NULL;

  if (key == NULL)
    return TRUE;
  list = nf_conf_list (parse->file, key, error);
  if (list == NULL)
    return FALSE;
  for (guint i = 0; i < list->len; i++)
    {
      const char *path = resolve (parse, key, g_ptr_array_index (list, i), error);

      if (path == NULL)
        return FALSE;
      g_ptr_array_index (list, i) = (gpointer)path;
    }
  g_ptr_array_add (list, NULL);
  *ret_paths = (const char *const *)g_ptr_array_free (g_steal_pointer (&list), FALSE);
  return TRUE;
}

static gboolean
parse_number (const Parse *parse, const char *name, guint64 min, guint64 max, guint64 fallback,
              guint64 *ret_value, GError **error)
{
  const NfConfKey *key = find_key (parse, name);

  *ret_value = fallback;
  return key == NULL || nf_conf_uint (parse->file, key, min, max, ret_value, error);
}

static gboolean
parse_name (const Parse *parse, GError **error)
{
  const NfConfKey *key = find_key (parse, "name");
  const char *name;

  if (key == NULL)
    return TRUE;
  name = nf_conf_string (parse->file, key, error);
  if (name == NULL)
    return FALSE;
  if (!nf_name_is_site (name))
    return nf_conf_fail (error, NF_MAP_ERROR_VALUE, parse->file, key->line,
                         "name: '%s'; expected a site's name as in the map", name);
  parse->full->conf.name = g_string_chunk_insert_const (parse->full->strings, name);
  return TRUE;
}

static gboolean
parse_places (const Parse *parse, GError **error)
{
  NfSiteConf *conf = &parse->full->conf;

  if (!parse_path (parse, "map", &conf->map, error)
      || !parse_path (parse, "runtime", &conf->runtime, error)
      || !parse_path (parse, "known-hosts", &conf->known_hosts, error)
      || !parse_path (parse, "ssh-config", &conf->ssh_config, error)
      || !parse_paths (parse, "roots", &conf->roots, error)
      || !parse_paths (parse, "identity", &conf->identities, error))
    return FALSE;
  if (conf->roots == NULL)
    conf->roots = default_roots (conf);
  if (conf->identities == NULL)
    conf->identities = (const char *const *)g_new0 (const char *, 1);
  return TRUE;
}

static gboolean
parse_transport (const Parse *parse, GError **error)
{
  const NfConfKey *key = find_key (parse, "transport");
  int choice = 0;

  if (key != NULL)
    choice = nf_conf_choice (parse->file, key, nf_map_transport_names + 1, error);
  parse->full->conf.transport = (NfMapTransport)(choice + 1);
  return choice >= 0;
}

/* A dead peer must be found before the calls that wait for it end, so heartbeat's default follows a
 * short call-timeout. */
static gboolean
parse_times (const Parse *parse, GError **error)
{
  NfSiteConf *conf = &parse->full->conf;
  guint64 timeout_s;
  guint64 heartbeat_s;
  guint64 age_days;

  if (!parse_number (parse, "call-timeout", 1, NF_SITE_CALL_TIMEOUT_MAX_S,
                     NF_SITE_CALL_TIMEOUT_DEFAULT_S, &timeout_s, error)
      || !parse_number (parse, "heartbeat", 1, NF_SITE_HEARTBEAT_MAX_S,
                        MIN (NF_SITE_HEARTBEAT_DEFAULT_S, timeout_s), &heartbeat_s, error)
      || !parse_number (parse, "journal-age", 1, NF_SITE_JOURNAL_AGE_MAX_DAYS,
                        NF_SITE_JOURNAL_AGE_DEFAULT_DAYS, &age_days, error))
    return FALSE;
  if (heartbeat_s > timeout_s)
    return nf_conf_fail (error, NF_MAP_ERROR_CONFLICT, parse->file,
                         find_key (parse, "heartbeat")->line,
                         "heartbeat = %u; expected at most call-timeout, which is %u",
                         (guint)heartbeat_s, (guint)timeout_s);
  conf->call_timeout_ms = (guint)timeout_s * 1000;
  conf->heartbeat_ms = (guint)heartbeat_s * 1000;
  conf->journal_age_s = age_days * DAY_S;
  return TRUE;
}

static gboolean
parse_sizes (const Parse *parse, GError **error)
{
  NfSiteConf *conf = &parse->full->conf;
  guint64 buffer_mib;
  guint64 journal_mib;

  if (!parse_number (parse, "write-buffer", NF_SITE_WRITE_BUFFER_MIN_MIB,
                     NF_SITE_WRITE_BUFFER_MAX_MIB, NF_SITE_WRITE_BUFFER_DEFAULT_MIB, &buffer_mib,
                     error)
      || !parse_number (parse, "journal-size", NF_SITE_JOURNAL_SIZE_MIN_MIB,
                        NF_SITE_JOURNAL_SIZE_MAX_MIB, NF_SITE_JOURNAL_SIZE_DEFAULT_MIB,
                        &journal_mib, error))
    return FALSE;
  conf->write_buffer_bytes = (gsize)buffer_mib * MIB;
  conf->journal_size_bytes = journal_mib * MIB;
  return TRUE;
}

/* The whole. */

static gboolean
find_group (Parse *parse, GError **error)
{
  for (guint i = 0; i < parse->file->groups->len; i++)
    {
      const NfConfGroup *group = g_ptr_array_index (parse->file->groups, i);

      if (strcmp (group->kind, "site") != 0 || group->name != NULL)
        {
          g_autofree char *title = nf_conf_group_title (group);

          return nf_conf_fail (error, NF_MAP_ERROR_VALUE, parse->file, group->line,
                               "unknown group %s; expected [site]", title);
        }
      parse->group = group;
    }
  return parse->group == NULL || nf_conf_check_keys (parse->file, parse->group, site_keys, error);
}

static Full *
full_new (const char *filename)
{
  Full *full = g_new0 (Full, 1);
  g_autofree char *map = default_file ("server.map");
  g_autofree char *runtime = default_runtime ();

  atomic_init (&full->refs, 1);
  full->strings = g_string_chunk_new (1024);
  full->conf.filename = g_string_chunk_insert_const (full->strings, filename);
  full->conf.home = g_string_chunk_insert_const (full->strings, home_dir ());
  full->conf.map = g_string_chunk_insert_const (full->strings, map);
  full->conf.runtime = g_string_chunk_insert_const (full->strings, runtime);
  return full;
}

NfSiteConf *
nf_site_conf_parse (const char *text, gsize len, const char *filename, GError **error)
{
  g_autoptr (NfConf) file = nf_conf_parse (text, len, NF_SITE_CONF_SIZE_MAX, filename, error);
  g_autoptr (NfSiteConf) conf = NULL;
  Parse parse = { .file = file };

  if (file == NULL)
    return NULL;
  parse.full = full_new (filename);
  conf = &parse.full->conf;
  if (!find_group (&parse, error) || !parse_name (&parse, error) || !parse_places (&parse, error)
      || !parse_transport (&parse, error) || !parse_times (&parse, error)
      || !parse_sizes (&parse, error))
    return NULL;
  return g_steal_pointer (&conf);
}

NfSiteConf *
nf_site_conf_load (const char *path, GError **error)
{
  g_autofree char *standard = nf_site_conf_default_path ();
  g_autofree char *text = NULL;
  gsize len;

  if (path == NULL && access (standard, F_OK) != 0)
    return nf_site_conf_parse ("", 0, standard, error);
  if (path == NULL)
    path = standard;
  text = nf_conf_read (path, NF_SITE_CONF_SIZE_MAX, &len, error);
  return text != NULL ? nf_site_conf_parse (text, len, path, error) : NULL;
}

NfMapTransport
nf_site_conf_transport (const NfSiteConf *conf, const NfMapSite *peer)
{
  return peer->transport != NF_TRANSPORT_DEFAULT ? peer->transport : conf->transport;
}
