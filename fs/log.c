// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

/* Of NfLogAbout, and those that every message has. */
#define FIELDS_MAX 12
#define NUMBER_LEN 24

typedef enum
{
  TO_FD, /* standard error or a file */
  TO_JOURNAL,
  TO_SYSLOG
} Target;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Target target = TO_FD; /* guarded by lock, as all below */
static int fd = STDERR_FILENO;
static char *file;
static gboolean debug;
static gboolean echo; /* warnings to standard error too */

static const char *
level_name (GLogLevelFlags level)
{
  switch (level & G_LOG_LEVEL_MASK)
    {
    case G_LOG_LEVEL_ERROR:
    case G_LOG_LEVEL_CRITICAL:
      return "error";
    case G_LOG_LEVEL_WARNING:
      return "warning";
    case G_LOG_LEVEL_DEBUG:
      return "debug";
    default:
      return "info";
    }
}

static const char *
priority (GLogLevelFlags level)
{
  switch (level & G_LOG_LEVEL_MASK)
    {
    case G_LOG_LEVEL_ERROR:
    case G_LOG_LEVEL_CRITICAL:
      return "3";
    case G_LOG_LEVEL_WARNING:
      return "4";
    case G_LOG_LEVEL_MESSAGE:
      return "5";
    case G_LOG_LEVEL_DEBUG:
      return "7";
    default:
      return "6";
    }
}

/* A peer's text or a file's name must not look like another line, nor reach a terminal as it is. */
static void
append_safely (GString *line, const char *text, gsize len)
{
  for (gsize i = 0; i < len; i++)
    {
      guchar c = (guchar)text[i];
      if (c < ' ' || c == 0x7f)
        g_string_append_printf (line, "\\x%02x", c);
      else
        g_string_append_c (line, (char)c);
    }
}

static void
write_line (int to, GLogLevelFlags level, const char *message, gsize len)
{
  g_autoptr (GDateTime) now = g_date_time_new_now_local ();
  g_autofree char *time = g_date_time_format (now, "%Y-%m-%dT%H:%M:%S.%f");
  GString *line = g_string_new (time);

  g_string_truncate (line, line->len - 3); /* milliseconds */
  g_string_append_printf (line, " %s: ", level_name (level));
  append_safely (line, message, len);
  g_string_append_c (line, '\n');
  if (write (to, line->str, line->len) < 0)
    {
      /* There is nobody left to be told. */
    }
  g_string_free (line, TRUE);
}

static void
write_syslog (GLogLevelFlags level, const char *message, gsize len)
{
  GString *line = g_string_new (NULL);

  append_safely (line, message, len);
  syslog (priority (level)[0] - '0', "%s", line->str);
  g_string_free (line, TRUE);
}

static GLogWriterOutput
writer (GLogLevelFlags level, const GLogField *fields, gsize n_fields, gpointer data)
{
  const char *message = "(no message)";
  gsize len = strlen (message);

  (void)data;
  for (gsize i = 0; i < n_fields; i++)
    if (strcmp (fields[i].key, "MESSAGE") == 0)
      {
        message = fields[i].value;
        len = fields[i].length < 0 ? strlen (message) : (gsize)fields[i].length;
      }
  pthread_mutex_lock (&lock);
  if ((level & G_LOG_LEVEL_DEBUG) != 0 && !debug)
    ;
  else if (target == TO_JOURNAL
           && g_log_writer_journald (level, fields, n_fields, NULL) == G_LOG_WRITER_HANDLED)
    ;
  else if (target == TO_FD)
    write_line (fd, level, message, len);
  else
    write_syslog (level, message, len);
  /* Smaller numbers are worse. */
  if (echo && (level & G_LOG_LEVEL_MASK) <= G_LOG_LEVEL_WARNING)
    write_line (STDERR_FILENO, level, message, len);
  pthread_mutex_unlock (&lock);
  return G_LOG_WRITER_HANDLED;
}

void
nf_log_init (gboolean verbose)
{
  pthread_mutex_lock (&lock);
  debug = verbose || g_strcmp0 (g_getenv ("NEARFS_LOG"), "debug") == 0;
  if (g_log_writer_is_journald (STDERR_FILENO))
    target = TO_JOURNAL;
  pthread_mutex_unlock (&lock);
  g_log_set_writer_func (writer, NULL, NULL);
}

static int
open_file (const char *path)
{
  return open (path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
}

gboolean
nf_log_to_file (const char *path, GError **error)
{
  int new_fd = open_file (path);

  if (new_fd < 0)
    {
      g_set_error (error, G_FILE_ERROR, g_file_error_from_errno (errno), "%s: %s", path,
                   g_strerror (errno));
      return FALSE;
    }
  pthread_mutex_lock (&lock);
  fd = new_fd;
  file = g_canonicalize_filename (path, NULL);
  target = TO_FD;
  pthread_mutex_unlock (&lock);
  return TRUE;
}

void
nf_log_reopen (void)
{
  pthread_mutex_lock (&lock);
  int new_fd = file ? open_file (file) : -1;
  if (new_fd >= 0)
    {
      close (fd);
      fd = new_fd;
    }
  pthread_mutex_unlock (&lock);
}

void
nf_log_to_system (void)
{
  pthread_mutex_lock (&lock);
  if (!file)
    {
      target = access ("/run/systemd/journal/socket", F_OK) == 0 ? TO_JOURNAL : TO_SYSLOG;
      openlog ("nearfs", LOG_PID, LOG_DAEMON);
    }
  pthread_mutex_unlock (&lock);
}

void
nf_log_echo (gboolean on)
{
  pthread_mutex_lock (&lock);
  echo = on;
  pthread_mutex_unlock (&lock);
}

typedef struct
{
  GLogField fields[FIELDS_MAX];
  gsize n;
  char numbers[FIELDS_MAX][NUMBER_LEN];
} Fields;

static void
add_text (Fields *fields, const char *key, const char *text)
{
  if (text)
    fields->fields[fields->n++] = (GLogField){ key, text, -1 };
}

static void
add_number (Fields *fields, const char *key, guint64 number)
{
  if (number == 0)
    return;
  g_snprintf (fields->numbers[fields->n], NUMBER_LEN, "%" G_GUINT64_FORMAT, number);
  add_text (fields, key, fields->numbers[fields->n]);
}

void
nf_log (GLogLevelFlags level, const NfLogAbout *about, const char *format, ...)
{
  g_autofree char *message = NULL;
  Fields fields = { .n = 0 };
  va_list args;

  va_start (args, format);
  message = g_strdup_vprintf (format, args);
  va_end (args);
  add_text (&fields, "MESSAGE", message);
  add_text (&fields, "PRIORITY", priority (level));
  add_text (&fields, "SYSLOG_IDENTIFIER", "nearfs");
  add_text (&fields, "GLIB_DOMAIN", "nearfs");
  if (about)
    {
      add_text (&fields, "NEARFS_SHARE", about->share);
      add_text (&fields, "NEARFS_PEER", about->peer);
      add_number (&fields, "NEARFS_FID", about->fid);
      add_number (&fields, "NEARFS_SEQ", about->seq);
      add_number (&fields, "ERRNO", (guint64)ABS (about->err));
    }
  g_log_structured_array (level, fields.fields, fields.n);
}
