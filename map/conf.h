// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <glib.h>

/* A scanner for key files that remembers lines.
 *
 * The syntax is GKeyFile's, and a comment may also follow a group or a value, after a blank.
 * GKeyFile itself merges groups and keys of one name silently and forgets lines: two sites of one
 * name would become one, and no error could say where.  Here both are errors.
 */

typedef struct
{
  const char *key;
  const char *raw; /* with escapes, without blanks around it or a comment */
  guint line;
} NfConfKey;

typedef struct
{
  const char *kind; /* "share" of [share projects] */
  const char *name; /* "projects"; NULL for [map] */
  guint line;
  GArray *keys; /* of NfConfKey, in the file's order */
} NfConfGroup;

typedef struct
{
  char *filename;
  GPtrArray *groups; /* of NfConfGroup, in the file's order */
  GStringChunk *strings;
} NfConf;

/* The file's content, at most max bytes.  The caller frees it. */
char *nf_conf_read (const char *path, gsize max, gsize *ret_len, GError **error);

/* The caller frees the result.  Errors: NF_MAP_ERROR_READ if len is over max, else _SYNTAX, or
 * _CONFLICT for a second group or key of one name. */
NfConf *nf_conf_parse (const char *text, gsize len, gsize max, const char *filename,
                       GError **error);
void nf_conf_free (NfConf *conf);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (NfConf, nf_conf_free)

/* Sets "FILE:LINE: message" and returns FALSE.  code is an NfMapError; line 0: "FILE: message".
 * Long values are cut, so that a wrong file can't fill a log. */
gboolean nf_conf_fail (GError **error, int code, const NfConf *conf, guint line, const char *format,
                       ...) G_GNUC_PRINTF (5, 6);

/* "[share projects]", for messages.  The caller frees it. */
char *nf_conf_group_title (const NfConfGroup *group);

/* FALSE if the group has a key that isn't in known (NULL-terminated). */
gboolean nf_conf_check_keys (const NfConf *conf, const NfConfGroup *group, const char *const *known,
                             GError **error);

/* NULL if the group doesn't have the key. */
const NfConfKey *nf_conf_key (const NfConfGroup *group, const char *name);
/* The same, and an error with the line of the group and what is expected. */
const NfConfKey *nf_conf_need (const NfConf *conf, const NfConfGroup *group, const char *name,
                               const char *expected, GError **error);

/* Values.  Each fails with the key's line.  Strings are unescaped, not empty, and conf's. */
const char *nf_conf_string (const NfConf *conf, const NfConfKey *key, GError **error);
/* Separated by ';'; one at the end is allowed.  Never empty.  The caller frees the array; the
 * strings are conf's. */
GPtrArray *nf_conf_list (const NfConf *conf, const NfConfKey *key, GError **error);
gboolean nf_conf_uint (const NfConf *conf, const NfConfKey *key, guint64 min, guint64 max,
                       guint64 *ret_value, GError **error);
/* The index of the value in choices (NULL-terminated); -1 on error. */
int nf_conf_choice (const NfConf *conf, const NfConfKey *key, const char *const *choices,
                    GError **error);

/* The word of known (NULL-terminated) that word was most likely meant to be; NULL if none is near.
 */
const char *nf_conf_nearest (const char *word, const char *const *known);
