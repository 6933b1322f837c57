// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "map/conf.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "map/map.h"

/* A message is one line of a log; this is enough for two paths and what was expected. */
#define MESSAGE_MAX 1000

typedef struct
{
  NfConf *conf;
  NfConfGroup *group; /* the one being filled; NULL before the first */
  GHashTable *groups; /* title -> its NfConfGroup */
  GHashTable *keys;   /* of the group: name -> line */
} Scan;

static void
group_free (gpointer data)
{
  NfConfGroup *group = data;

  g_array_unref (group->keys);
  g_free (group);
}

void
nf_conf_free (NfConf *conf)
{
  g_free (conf->filename);
  g_ptr_array_unref (conf->groups);
  g_string_chunk_free (conf->strings);
  g_free (conf);
}

gboolean
nf_conf_fail (GError **error, int code, const NfConf *conf, guint line, const char *format, ...)
{
  va_list args;
  g_autofree char *message = NULL;
  gsize len;

  va_start (args, format);
  message = g_strdup_vprintf (format, args);
  va_end (args);

  len = strlen (message);
  if (len > MESSAGE_MAX)
    {
      len = MESSAGE_MAX;
      while (len > 0 && ((guchar)message[len] & 0xc0) == 0x80)
        len--;
      message[len] = '\0';
    }
  if (line > 0)
    g_set_error (error, NF_MAP_ERROR, code, "%s:%u: %s", conf->filename, line, message);
  else
    g_set_error (error, NF_MAP_ERROR, code, "%s: %s", conf->filename, message);
  return FALSE;
}

char *
nf_conf_group_title (const NfConfGroup *group)
{
  if (group->name != NULL)
    return g_strdup_printf ("[%s %s]", group->kind, group->name);
  return g_strdup_printf ("[%s]", group->kind);
}

/* Reading, by hand because g_file_get_contents() has no limit, and would wait on a FIFO. */

static gboolean
read_all (int fd, char *buffer, gsize size, gsize *ret_len)
{
  gsize len = 0;

  while (len < size)
    {
      ssize_t n = read (fd, buffer + len, size - len);

      if (n < 0 && errno == EINTR)
        continue;
      if (n < 0)
        return FALSE;
      if (n == 0)
        break;
      len += (gsize)n;
    }
  *ret_len = len;
  return TRUE;
}

char *
nf_conf_read (const char *path, gsize max, gsize *ret_len, GError **error)
{
  g_autofree char *buffer = NULL;
  gboolean ok;
  gsize len;
  int fd;
  int saved;

  fd = open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0)
    {
      g_set_error (error, NF_MAP_ERROR, NF_MAP_ERROR_READ, "%s: can't open: %s", path,
                   g_strerror (errno));
      return NULL;
    }
  /* One byte more than allowed, so that the parser sees that it is too long. */
  buffer = g_malloc (max + 1);
  ok = read_all (fd, buffer, max + 1, &len);
  saved = errno;
  (void)close (fd); /* opened for reading: nothing to lose */
  if (!ok)
    {
      g_set_error (error, NF_MAP_ERROR, NF_MAP_ERROR_READ, "%s: can't read: %s", path,
                   g_strerror (saved));
      return NULL;
    }
  *ret_len = len;
  return g_steal_pointer (&buffer);
}

/* Scanning. */

/* Cuts the comment, which begins at a '#' at the start or after a blank, and the blanks around. */
static void
strip_line (char *line)
{
  for (char *c = line; *c != '\0'; c++)
    if (*c == '#' && (c == line || g_ascii_isspace (c[-1])))
      {
        *c = '\0';
        break;
      }
  g_strstrip (line);
}

static gboolean
check_text (const NfConf *conf, guint number, const char *line, gsize len, GError **error)
{
  for (gsize i = 0; i < len; i++)
    {
      guchar c = (guchar)line[i];

      if ((c < 0x20 && c != '\t' && (c != '\r' || i + 1 < len)) || c == 0x7f)
        return nf_conf_fail (error, NF_MAP_ERROR_SYNTAX, conf, number,
                             "control character 0x%02x; expected text", c);
    }
  if (!g_utf8_validate_len (line, len, NULL))
    return nf_conf_fail (error, NF_MAP_ERROR_SYNTAX, conf, number, "expected UTF-8 text");
  return TRUE;
}

static gboolean
scan_group (Scan *scan, guint number, char *line, GError **error)
{
  NfConf *conf = scan->conf;
  NfConfGroup *group;
  NfConfGroup *first;
  char *end = strchr (line, ']');
  char *name;
  g_autofree char *title = NULL;

  if (end == NULL || end[1] != '\0')
    return nf_conf_fail (error, NF_MAP_ERROR_SYNTAX, conf, number,
                         "expected a group like [share NAME] and nothing after it, not '%s'", line);
  *end = '\0';
  line = g_strstrip (line + 1);
  if (*line == '\0' || strchr (line, '[') != NULL)
    return nf_conf_fail (error, NF_MAP_ERROR_SYNTAX, conf, number,
                         "expected a group like [share NAME], not '[%s]'", line);

  name = strpbrk (line, " \t");
  if (name != NULL)
    {
      *name = '\0';
      name = g_strchug (name + 1);
    }
  group = g_new0 (NfConfGroup, 1);
  group->kind = g_string_chunk_insert_const (conf->strings, line);
  group->name = name != NULL ? g_string_chunk_insert_const (conf->strings, name) : NULL;
  group->line = number;
  group->keys = g_array_new (FALSE, FALSE, sizeof (NfConfKey));
  g_ptr_array_add (conf->groups, group);

  title = nf_conf_group_title (group);
  first = g_hash_table_lookup (scan->groups, title);
  if (first != NULL)
    return nf_conf_fail (error, NF_MAP_ERROR_CONFLICT, conf, number,
                         "second group %s; the first is in line %u, expected one", title,
                         first->line);
  (void)g_hash_table_insert (scan->groups, g_steal_pointer (&title), group);
  g_hash_table_remove_all (scan->keys);
  scan->group = group;
  return TRUE;
}

static gboolean
scan_key (Scan *scan, guint number, char *line, GError **error)
{
  NfConf *conf = scan->conf;
  NfConfKey key = { .line = number };
  char *equals = strchr (line, '=');
  guint first;

  if (equals == NULL || equals == line)
    return nf_conf_fail (error, NF_MAP_ERROR_SYNTAX, conf, number,
                         "expected 'KEY = VALUE' or '[GROUP]', not '%s'", line);
  if (scan->group == NULL)
    return nf_conf_fail (error, NF_MAP_ERROR_SYNTAX, conf, number,
                         "expected a [GROUP] before the first key");
  *equals = '\0';
  key.key = g_string_chunk_insert_const (conf->strings, g_strchomp (line));
  key.raw = g_string_chunk_insert_const (conf->strings, g_strchug (equals + 1));

  first = GPOINTER_TO_UINT (g_hash_table_lookup (scan->keys, key.key));
  if (first != 0)
    return nf_conf_fail (error, NF_MAP_ERROR_CONFLICT, conf, number,
                         "second key '%s' in this group; the first is in line %u, expected one",
                         key.key, first);
  (void)g_hash_table_insert (scan->keys, (gpointer)key.key, GUINT_TO_POINTER (number));
  g_array_append_val (scan->group->keys, key);
  return TRUE;
}

static gboolean
scan_lines (Scan *scan, const char *text, gsize len, GError **error)
{
  const char *end = text + len;
  guint number = 0;

  while (text < end)
    {
      const char *newline = memchr (text, '\n', (gsize)(end - text));
      gsize n = (gsize)((newline != NULL ? newline : end) - text);
      g_autofree char *line = NULL;

      number++;
      if (!check_text (scan->conf, number, text, n, error))
        return FALSE;
      line = g_strndup (text, n);
      strip_line (line);
      if (*line == '[' && !scan_group (scan, number, line, error))
        return FALSE;
      if (*line != '[' && *line != '\0' && !scan_key (scan, number, line, error))
        return FALSE;
      text += n + (newline != NULL);
    }
  return TRUE;
}

NfConf *
nf_conf_parse (const char *text, gsize len, gsize max, const char *filename, GError **error)
{
  NfConf *conf;
  Scan scan = { 0 };
  gboolean ok;

  if (len > max)
    {
      g_set_error (error, NF_MAP_ERROR, NF_MAP_ERROR_READ, "%s: larger than %zu bytes", filename,
                   max);
      return NULL;
    }
  conf = g_new0 (NfConf, 1);
  conf->filename = g_strdup (filename);
  conf->groups = g_ptr_array_new_with_free_func (group_free);
  conf->strings = g_string_chunk_new (4096);

  scan.conf = conf;
  scan.groups = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  scan.keys = g_hash_table_new (g_str_hash, g_str_equal);
  ok = scan_lines (&scan, text, len, error);
  g_hash_table_unref (scan.groups);
  g_hash_table_unref (scan.keys);
  if (ok)
    return conf;
  nf_conf_free (conf);
  return NULL;
}
