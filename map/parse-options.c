// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <string.h>

#include "map/name.h"
#include "map/parse.h"

/* [share NAME]: how it behaves. */

static const char **
only_name (NfParse *parse, const char *name)
{
  const char **names = g_new0 (const char *, 2);

  names[0] = name != NULL ? nf_map_intern (parse->map, name) : NULL;
  return names;
}

static gboolean
parse_users (NfParse *parse, const NfConfGroup *group, NfMapShare *share, GError **error)
{
  const NfConfKey *key = nf_conf_key (group, "users");

  share->users
      = key != NULL ? nf_parse_names (parse, key, NF_MAP_USERS_MAX, error) : only_name (parse, "*");
  for (guint i = 0; share->users != NULL && share->users[i] != NULL; i++)
    if (!nf_name_is_user (share->users[i]))
      return nf_parse_fail (parse, key, share->users[i], "a user's name, or * for all but root",
                            error);
  return share->users != NULL;
}

static gboolean
parse_local_only (NfParse *parse, const NfConfGroup *group, NfMapShare *share, GError **error)
{
  const NfConfKey *key = nf_conf_key (group, "local-only");

  share->local_only = key != NULL ? nf_parse_names (parse, key, NF_MAP_LOCAL_ONLY_MAX, error)
                                  : only_name (parse, NULL);
  for (guint i = 0; share->local_only != NULL && share->local_only[i] != NULL; i++)
    if (!nf_name_is_file (share->local_only[i]))
      return nf_parse_fail (parse, key, share->local_only[i], "a file name without '/'", error);
  return share->local_only != NULL;
}

static gboolean
parse_choice (NfParse *parse, const NfConfGroup *group, const char *name,
              const char *const *choices, int *ret_choice, GError **error)
{
  const NfConfKey *key = nf_conf_key (group, name);
  int choice = key != NULL ? nf_conf_choice (parse->conf, key, choices, error) : 0;

  if (choice >= 0)
    *ret_choice = choice;
  return choice >= 0;
}

static gboolean
parse_number (NfParse *parse, const NfConfGroup *group, const char *name, guint max,
              guint *ret_value, GError **error)
{
  const NfConfKey *key = nf_conf_key (group, name);
  guint64 value = 0;

  if (key != NULL && !nf_conf_uint (parse->conf, key, 0, max, &value, error))
    return FALSE;
  *ret_value = (guint)value;
  return TRUE;
}

static gboolean
parse_replica (NfParse *parse, const NfConfGroup *group, NfMapShare *share, GError **error)
{
  const NfConfKey *broadcast = nf_conf_key (group, "broadcast");
  int choice;

  if (!parse_choice (parse, group, "replica", nf_map_replica_names, &choice, error))
    return FALSE;
  share->replica = (NfMapReplica)choice;
  if (share->replica == NF_REPLICA_NONE && broadcast != NULL)
    return nf_conf_fail (error, NF_MAP_ERROR_CONFLICT, parse->conf, broadcast->line,
                         "broadcast in a share with replica = none; expected no broadcast, and "
                         "its sites in writers");
  return TRUE;
}

static gboolean
parse_durable (NfParse *parse, const NfConfGroup *group, NfMapShare *share, GError **error)
{
  if (!parse_number (parse, group, "durable", NF_MAP_SITES_MAX, &share->durable, error))
    return FALSE;
  if (share->durable > share->n_broadcast)
    return nf_conf_fail (error, NF_MAP_ERROR_CONFLICT, parse->conf,
                         nf_conf_key (group, "durable")->line,
                         "durable = %u; expected at most %u, the number of broadcast sites",
                         share->durable, share->n_broadcast);
  return TRUE;
}

static gboolean
parse_via (NfParse *parse, const NfConfGroup *group, NfMapShare *share, GError **error)
{
  const NfConfKey *key = nf_conf_key (group, "via");
  const char *value;

  if (key == NULL)
    return TRUE;
  value = nf_conf_string (parse->conf, key, error);
  if (value == NULL)
    return FALSE;
  share->via = nf_parse_site_of (parse, key, value, error);
  if (share->via == NULL)
    return FALSE;
  if (nf_map_find_broadcast (share, share->via) < 0)
    return nf_parse_fail (parse, key, value, "a site with a broadcast directory of this share",
                          error);
  return TRUE;
}

static void G_GNUC_PRINTF (3, 4) warn (NfParse *parse, guint line, const char *format, ...)
{
  g_autofree char *text = NULL;
  va_list args;

  va_start (args, format);
  text = g_strdup_vprintf (format, args);
  va_end (args);
  g_ptr_array_add (parse->map->warnings,
                   g_strdup_printf ("%s:%u: %s", parse->conf->filename, line, text));
}

/* A key that is set to other than its default, and doesn't do anything yet.  To be taken out here
 * by who makes it work. */
static void
warn_no_effect (NfParse *parse, const NfConfGroup *group, const NfMapShare *share)
{
  const struct
  {
    const char *key;
    gboolean set;
  } reserved[] = {
    { "reads", share->reads != NF_READS_LOCAL },           { "max-stale", share->max_stale_s != 0 },
    { "offline", share->offline != NF_OFFLINE_ERROR },     { "durable", share->durable != 0 },
    { "replica", share->replica == NF_REPLICA_ON_DEMAND }, { "via", share->via != NULL },
    { "local-only", share->local_only[0] != NULL },
  };

  for (gsize i = 0; i < G_N_ELEMENTS (reserved); i++)
    {
      const NfConfKey *key = nf_conf_key (group, reserved[i].key);

      if (key != NULL && reserved[i].set)
        warn (parse, key->line, "%s = %s in [share %s] has no effect in this release", key->key,
              key->raw, share->name);
    }
}

gboolean
nf_parse_options (NfParse *parse, const NfConfGroup *group, NfMapShare *share, GError **error)
{
  int reads;
  int offline;

  if (!parse_users (parse, group, share, error) || !parse_local_only (parse, group, share, error)
      || !parse_choice (parse, group, "reads", nf_map_reads_names, &reads, error)
      || !parse_choice (parse, group, "offline", nf_map_offline_names, &offline, error)
      || !parse_number (parse, group, "max-stale", NF_MAP_STALE_MAX_S, &share->max_stale_s, error))
    return FALSE;
  share->reads = (NfMapReads)reads;
  share->offline = (NfMapOffline)offline;
  if (!parse_replica (parse, group, share, error) || !parse_durable (parse, group, share, error)
      || !parse_via (parse, group, share, error))
    return FALSE;
  warn_no_effect (parse, group, share);
  return TRUE;
}
