// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/control.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

struct _NfControl
{
  const NfControlVerb *verbs;
  gpointer data;
  pthread_mutex_t lock;
  pthread_cond_t idle;
  GPtrArray *asks; /* of NfAsk, under way; guarded by lock */
  atomic_bool stopping;
};

struct _NfAsk
{
  NfControl *control;
  int fd;
  char *line;
  JsonNode *request; /* an object */
  gboolean gone;
};

NfControl *
nf_control_new (const NfControlVerb *verbs, gpointer data)
{
  NfControl *control = g_new0 (NfControl, 1);

  control->verbs = verbs;
  control->data = data;
  pthread_mutex_init (&control->lock, NULL);
  pthread_cond_init (&control->idle, NULL);
  control->asks = g_ptr_array_new ();
  return control;
}

void
nf_control_stop (NfControl *control)
{
  atomic_store (&control->stopping, TRUE);
  pthread_mutex_lock (&control->lock);
  /* Only the reading side: who hasn't been answered yet shall still be told why. */
  for (guint i = 0; i < control->asks->len; i++)
    (void)shutdown (((NfAsk *)control->asks->pdata[i])->fd, SHUT_RD);
  while (control->asks->len > 0)
    pthread_cond_wait (&control->idle, &control->lock);
  pthread_mutex_unlock (&control->lock);
}

void
nf_control_free (NfControl *control)
{
  g_ptr_array_unref (control->asks);
  pthread_mutex_destroy (&control->lock);
  pthread_cond_destroy (&control->idle);
  g_free (control);
}

/* Sending. */

static gboolean
send_all (NfAsk *ask, const char *data, gsize len)
{
  while (len > 0 && !ask->gone)
    {
      ssize_t n = send (ask->fd, data, len, MSG_NOSIGNAL);
      if (n < 0 && errno == EINTR)
        continue;
      if (n < 0)
        ask->gone = TRUE;
      else
        {
          data += n;
          len -= (gsize)n;
        }
    }
  return !ask->gone;
}

gboolean
nf_ask_send (NfAsk *ask, JsonNode *line)
{
  g_autofree char *text = json_to_string (line, FALSE);
  g_autofree char *whole = g_strconcat (text, "\n", NULL);

  json_node_unref (line);
  return send_all (ask, whole, strlen (whole));
}

/* JSON is UTF-8 and file names are bytes. */
static void
set_text (JsonObject *object, const char *name, const char *text)
{
  g_autofree char *valid = g_utf8_make_valid (text, -1);

  json_object_set_string_member (object, name, valid);
}

static JsonNode *
take_object (JsonObject *object)
{
  JsonNode *node = json_node_new (JSON_NODE_OBJECT);

  json_node_take_object (node, object);
  return node;
}

gboolean
nf_ask_line (NfAsk *ask, const char *name, const char *text)
{
  JsonObject *object = json_object_new ();

  set_text (object, name, text);
  return nf_ask_send (ask, take_object (object));
}

void
nf_ask_done_with (NfAsk *ask, JsonNode *result)
{
  JsonObject *object = json_object_new ();

  json_object_set_boolean_member (object, "ok", TRUE);
  if (result)
    json_object_set_member (object, "result", result);
  (void)nf_ask_send (ask, take_object (object)); /* a client that has gone wants no answer */
}

void
nf_ask_done (NfAsk *ask)
{
  nf_ask_done_with (ask, NULL);
}

void
nf_ask_fail (NfAsk *ask, const char *format, ...)
{
  JsonObject *object = json_object_new ();
  g_autofree char *text = NULL;
  va_list args;

  va_start (args, format);
  text = g_strdup_vprintf (format, args);
  va_end (args);
  json_object_set_boolean_member (object, "ok", FALSE);
  set_text (object, "error", text);
  (void)nf_ask_send (ask, take_object (object));
}

void
nf_ask_keep_open (NfAsk *ask)
{
  pthread_mutex_lock (&ask->control->lock);
  ask->fd = -1;
  pthread_mutex_unlock (&ask->control->lock);
}

/* Asking. */

static JsonNode *
member (NfAsk *ask, const char *name)
{
  JsonNode *node = json_object_get_member (json_node_get_object (ask->request), name);

  return node && JSON_NODE_HOLDS_VALUE (node) ? node : NULL;
}

const char *
nf_ask_text (NfAsk *ask, const char *name)
{
  JsonNode *node = member (ask, name);

  return node && json_node_get_value_type (node) == G_TYPE_STRING ? json_node_get_string (node)
                                                                  : NULL;
}

gint64
nf_ask_number (NfAsk *ask, const char *name, gint64 fallback)
{
  JsonNode *node = member (ask, name);

  return node && json_node_get_value_type (node) == G_TYPE_INT64 ? json_node_get_int (node)
                                                                 : fallback;
}

gboolean
nf_ask_flag (NfAsk *ask, const char *name)
{
  JsonNode *node = member (ask, name);

  return node && json_node_get_value_type (node) == G_TYPE_BOOLEAN && json_node_get_boolean (node);
}

gboolean
nf_ask_is_over (NfAsk *ask)
{
  char byte;

  if (atomic_load (&ask->control->stopping) || ask->gone)
    return TRUE;
  /* A client says nothing after its line: what can be read is its end. */
  return recv (ask->fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 0;
}

static void
ask_free (NfAsk *ask)
{
  NfControl *control = ask->control;

  if (ask->request)
    json_node_unref (ask->request);
  g_free (ask->line);
  pthread_mutex_lock (&control->lock);
  if (ask->fd >= 0)
    close (ask->fd);
  g_ptr_array_remove_fast (control->asks, ask);
  pthread_cond_signal (&control->idle);
  pthread_mutex_unlock (&control->lock);
  g_free (ask);
}

static void
answer (NfAsk *ask)
{
  const NfControlVerb *verb = ask->control->verbs;
  const char *name = nf_ask_text (ask, "verb");

  while (verb->verb && g_strcmp0 (verb->verb, name) != 0)
    verb++;
  if (verb->verb)
    verb->run (ask->control->data, ask);
  else
    nf_ask_fail (ask,
                 "this daemon (nearfs %s) doesn't know \"%s\"; was nearfs updated while it ran?",
                 PACKAGE_VERSION, name ? name : "");
}

static void *
run_ask (void *data)
{
  NfAsk *ask = data;
  struct timeval timeout = { .tv_sec = NF_CONTROL_SEND_TIMEOUT_S };
  g_autoptr (GError) error = NULL;

  (void)setsockopt (ask->fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
  ask->request = json_from_string (ask->line, &error);
  if (ask->request && JSON_NODE_HOLDS_OBJECT (ask->request))
    answer (ask);
  else
    nf_ask_fail (ask, "not a request: %s", error ? error->message : "expected an object");
  ask_free (ask);
  return NULL;
}

static gboolean
start_thread (NfAsk *ask)
{
  pthread_attr_t attributes;
  pthread_t thread;

  pthread_attr_init (&attributes);
  pthread_attr_setdetachstate (&attributes, PTHREAD_CREATE_DETACHED);
  int err = pthread_create (&thread, &attributes, run_ask, ask);
  pthread_attr_destroy (&attributes);
  return err == 0;
}

void
nf_control_take (gpointer data, int fd, char *line)
{
  NfControl *control = data;
  NfAsk *ask = g_new0 (NfAsk, 1);

  *ask = (NfAsk){ .control = control, .fd = fd, .line = line };
  pthread_mutex_lock (&control->lock);
  gboolean refused
      = atomic_load (&control->stopping) || control->asks->len >= NF_CONTROL_CLIENTS_MAX;
  g_ptr_array_add (control->asks, ask);
  pthread_mutex_unlock (&control->lock);
  if (refused)
    nf_ask_fail (ask, "the daemon is %s",
                 control->stopping ? "stopping" : "asked too much at once");
  if (refused || !start_thread (ask))
    ask_free (ask);
}
