// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <string.h>

#include "map/conf.h"
#include "map/map.h"

/* Words longer than every key we know aren't compared. */
#define WORD_MAX 40

/* Edits from a to b: a character changed, put in, left out, or swapped with the next.  Both at most
 * WORD_MAX long. */
static guint
distance (const char *a, const char *b)
{
  guint a_len = (guint)strlen (a);
  guint b_len = (guint)strlen (b);
  guint edits[WORD_MAX + 1][WORD_MAX + 1]; /* from the first i of a to the first j of b */

  for (guint i = 0; i <= a_len; i++)
    for (guint j = 0; j <= b_len; j++)
      {
        if (i == 0 || j == 0)
          {
            edits[i][j] = i + j;
            continue;
          }
        edits[i][j] = MIN (edits[i - 1][j], edits[i][j - 1]) + 1;
        edits[i][j] = MIN (edits[i][j], edits[i - 1][j - 1] + (a[i - 1] != b[j - 1]));
        if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
          edits[i][j] = MIN (edits[i][j], edits[i - 2][j - 2] + 1);
      }
  return edits[a_len][b_len];
}

const char *
nf_conf_nearest (const char *word, const char *const *known)
{
  gsize len = strlen (word);
  guint best = (guint)(len < 5 ? 1 : len < 9 ? 2 : 3) + 1;
  const char *nearest = NULL;

  if (len > WORD_MAX)
    return NULL;
  for (; *known != NULL; known++)
    {
      guint edits = strlen (*known) <= WORD_MAX ? distance (word, *known) : best;

      if (edits < best)
        {
          best = edits;
          nearest = *known;
        }
    }
  return nearest;
}

static gboolean
fail_unknown (const NfConf *conf, const NfConfGroup *group, const NfConfKey *key,
              const char *const *known, GError **error)
{
  const char *nearest = nf_conf_nearest (key->key, known);
  g_autofree char *title = nf_conf_group_title (group);
  g_autofree char *all = NULL;

  if (nearest != NULL)
    return nf_conf_fail (error, NF_MAP_ERROR_VALUE, conf, key->line,
                         "unknown key '%s' in %s; did you mean '%s'?", key->key, title, nearest);
  all = g_strjoinv (", ", (char **)known);
  return nf_conf_fail (error, NF_MAP_ERROR_VALUE, conf, key->line,
                       "unknown key '%s' in %s; expected one of: %s", key->key, title, all);
}

gboolean
nf_conf_check_keys (const NfConf *conf, const NfConfGroup *group, const char *const *known,
                    GError **error)
{
  for (guint i = 0; i < group->keys->len; i++)
    {
      const NfConfKey *key = &g_array_index (group->keys, NfConfKey, i);

      if (!g_strv_contains (known, key->key))
        return fail_unknown (conf, group, key, known, error);
    }
  return TRUE;
}

const NfConfKey *
nf_conf_key (const NfConfGroup *group, const char *name)
{
  for (guint i = 0; i < group->keys->len; i++)
    {
      const NfConfKey *key = &g_array_index (group->keys, NfConfKey, i);

      if (strcmp (key->key, name) == 0)
        return key;
    }
  return NULL;
}

const NfConfKey *
nf_conf_need (const NfConf *conf, const NfConfGroup *group, const char *name, const char *expected,
              GError **error)
{
  const NfConfKey *key = nf_conf_key (group, name);

  if (key == NULL)
    {
      g_autofree char *title = nf_conf_group_title (group);

      nf_conf_fail (error, NF_MAP_ERROR_VALUE, conf, group->line,
                    "%s has no '%s'; expected %s = %s", title, name, name, expected);
    }
  return key;
}

/* Values. */

/* Of raw[0..len) without its escapes, trimmed before that: a "\s" at an end is meant. */
static const char *
unescape (const NfConf *conf, const NfConfKey *key, const char *raw, gsize len, GError **error)
{
  g_autoptr (GString) value = g_string_sized_new (len);

  while (len > 0 && g_ascii_isspace (raw[len - 1]))
    len--;
  while (len > 0 && g_ascii_isspace (*raw))
    raw++, len--;
  for (gsize i = 0; i < len; i++)
    {
      char c = raw[i];

      if (c == '\\')
        {
          c = i + 1 < len ? raw[++i] : '\0';
          if (c == '\0' || strchr ("s;\\", c) == NULL)
            {
              nf_conf_fail (error, NF_MAP_ERROR_SYNTAX, conf, key->line,
                            "%s: expected \\s (blank), \\; or \\\\ where there is a '\\'",
                            key->key);
              return NULL;
            }
          if (c == 's')
            c = ' ';
        }
      g_string_append_c (value, c);
    }
  return g_string_chunk_insert_const (conf->strings, value->str);
}

const char *
nf_conf_string (const NfConf *conf, const NfConfKey *key, GError **error)
{
  const char *value = unescape (conf, key, key->raw, strlen (key->raw), error);

  if (value != NULL && *value == '\0')
    {
      nf_conf_fail (error, NF_MAP_ERROR_VALUE, conf, key->line, "%s is empty; expected a value",
                    key->key);
      return NULL;
    }
  return value;
}

static gsize
item_length (const char *raw)
{
  gsize len = 0;

  while (raw[len] != '\0' && raw[len] != ';')
    len += raw[len] == '\\' && raw[len + 1] != '\0' ? 2 : 1;
  return len;
}

GPtrArray *
nf_conf_list (const NfConf *conf, const NfConfKey *key, GError **error)
{
  g_autoptr (GPtrArray) list = g_ptr_array_new ();
  const char *raw = key->raw;

  do
    {
      gsize len = item_length (raw);
      const char *item = unescape (conf, key, raw, len, error);

      if (item == NULL)
        return NULL;
      if (*item == '\0')
        {
          nf_conf_fail (error, NF_MAP_ERROR_VALUE, conf, key->line,
                        "%s has an empty item; expected a list like A; B", key->key);
          return NULL;
        }
      g_ptr_array_add (list, (gpointer)item);
      raw += len;
      if (*raw == ';')
        raw++;
      while (g_ascii_isspace (*raw))
        raw++;
    }
  while (*raw != '\0');
  return g_steal_pointer (&list);
}

gboolean
nf_conf_uint (const NfConf *conf, const NfConfKey *key, guint64 min, guint64 max,
              guint64 *ret_value, GError **error)
{
  guint64 value;

  /* Refuses signs, blanks and what doesn't fit, as strtoull() wouldn't. */
  if (!g_ascii_string_to_unsigned (key->raw, 10, min, max, &value, NULL))
    return nf_conf_fail (error, NF_MAP_ERROR_VALUE, conf, key->line,
                         "%s = %s; expected a number from %" G_GUINT64_FORMAT
                         " to %" G_GUINT64_FORMAT,
                         key->key, key->raw, min, max);
  *ret_value = value;
  return TRUE;
}

int
nf_conf_choice (const NfConf *conf, const NfConfKey *key, const char *const *choices,
                GError **error)
{
  g_autofree char *all = NULL;

  for (int i = 0; choices[i] != NULL; i++)
    if (strcmp (key->raw, choices[i]) == 0)
      return i;
  all = g_strjoinv ("|", (char **)choices);
  nf_conf_fail (error, NF_MAP_ERROR_VALUE, conf, key->line, "%s = %s; expected %s", key->key,
                key->raw, all);
  return -1;
}
