// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fs/command.h"
#include "map/name.h"
#include "net/accept.h"

G_DEFINE_QUARK (nf - client - error - quark, nf_client_error)

NfSiteConf *
nf_client_conf (const char *path, const char *site, GError **error)
{
  NfSiteConf *conf = nf_site_conf_load (path, error);

  /* Nobody else knows it yet, so it may still be changed. */
  if (conf && !conf->name && site)
    conf->name = g_intern_string (site);
  return conf;
}

JsonObject *
nf_client_request (const char *verb)
{
  JsonObject *request = json_object_new ();

  json_object_set_string_member (request, "verb", verb);
  return request;
}

static void
set_text (JsonObject *request, const char *name, const char *text)
{
  if (g_utf8_validate (text, -1, NULL)) /* else it is no name of ours, and JSON can't say it */
    json_object_set_string_member (request, name, text);
}

void
nf_client_set_target (JsonObject *request, const char *target)
{
  char *real = realpath (target, NULL);
  g_autofree char *path = g_canonicalize_filename (real ? real : target, NULL);

  if (nf_name_is_share (target))
    set_text (request, "share", target);
  /* What isn't there may be a path of the namespace, which need not be mounted here. */
  set_text (request, "path", path);
  free (real);
}

/* A person who isn't root is told where else the daemon may be. */
static gboolean
no_daemon (const NfSiteConf *conf, const GError *why, GError **error)
{
  const char *also = geteuid () == 0 ? "" : "; if it is root's, ask as root";

  g_set_error (
      error, NF_CLIENT_ERROR, NF_CLIENT_ERROR_NO_DAEMON,
      "%s. \"nearfs mount MOUNTPOINT\" or \"nearfs serve\" starts it (configuration: %s)%s",
      why->message, conf->filename, also);
  return FALSE;
}

static gboolean
send_request (int fd, JsonObject *request)
{
  g_autoptr (JsonNode) node = json_node_new (JSON_NODE_OBJECT);
  g_autofree char *text = NULL;
  g_autofree char *line = NULL;
  gsize done = 0;

  json_node_take_object (node, request);
  text = json_to_string (node, FALSE);
  line = g_strconcat (text, "\n", NULL);
  while (done < strlen (line))
    {
      ssize_t n = send (fd, line + done, strlen (line) - done, MSG_NOSIGNAL);
      if (n < 0 && errno != EINTR)
        return FALSE;
      done += n > 0 ? (gsize)n : 0;
    }
  return TRUE;
}

/* Whether OBJECT is the answer; then *RET_OK says which. */
static gboolean
is_answer (JsonObject *object, gboolean *ret_ok)
{
  if (!json_object_has_member (object, "ok"))
    return FALSE;
  *ret_ok = json_object_get_boolean_member_with_default (object, "ok", FALSE);
  return TRUE;
}

static gboolean
take_answer (JsonObject *object, gboolean ok, JsonNode **ret_result, GError **error)
{
  if (ok && ret_result)
    *ret_result = json_object_dup_member (object, "result");
  if (!ok)
    g_set_error_literal (error, NF_CLIENT_ERROR, NF_CLIENT_ERROR_REFUSED,
                         json_object_get_string_member_with_default (object, "error", "refused"));
  return ok;
}

static gboolean
read_answer (FILE *stream, const NfClientAsk *ask, JsonNode **ret_result, GError **error)
{
  char *line = NULL;
  size_t size = 0;
  gboolean answered = FALSE;
  gboolean ok = FALSE;

  while (!answered && getline (&line, &size, stream) > 0)
    {
      g_autoptr (JsonNode) node = json_from_string (line, NULL);
      JsonObject *object
          = node && JSON_NODE_HOLDS_OBJECT (node) ? json_node_get_object (node) : NULL;
      answered = object && is_answer (object, &ok);
      if (answered)
        ok = take_answer (object, ok, ret_result, error);
      else if (object && ask->line)
        ask->line (object, ask->data);
    }
  while (answered && ask->until_end && getline (&line, &size, stream) > 0)
    ;
  free (line);
  if (!answered)
    g_set_error (error, NF_CLIENT_ERROR, NF_CLIENT_ERROR_LOST,
                 "the daemon ended before it had answered; its log says why");
  return ok;
}

/* A descriptor that becomes readable when the process behind FD has ended; -1 if it can't be had (it may be in
 * another PID namespace). */
static int
open_peer (int fd)
{
  struct ucred peer;
  socklen_t len = sizeof peer;

  if (getsockopt (fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0 || peer.pid <= 0)
    return -1;
  return (int)syscall (SYS_pidfd_open, peer.pid, 0);
}

/* TIMEOUT_MS -1: however long it takes. */
static gboolean
wait_for_end (int pidfd, int timeout_ms)
{
  struct pollfd ended = { .fd = pidfd, .events = POLLIN };
  int n;

  while ((n = poll (&ended, 1, timeout_ms)) < 0 && errno == EINTR)
    ;
  return n > 0;
}

gboolean
nf_client_is_alone (const NfSiteConf *conf, int wait_ms)
{
  int fd = nf_accept_connect (conf->runtime, NULL);

  if (fd < 0)
    return TRUE;
  int pidfd = open_peer (fd);
  (void)close (fd); /* nothing was said */
  gboolean alone = pidfd >= 0 && wait_for_end (pidfd, wait_ms);
  if (pidfd >= 0)
    (void)close (pidfd); /* was only waited for */
  return alone;
}

gboolean
nf_client_ask (const NfSiteConf *conf, const NfClientAsk *ask, JsonNode **ret_result,
               GError **error)
{
  g_autoptr (GError) why = NULL;
  int fd = nf_accept_connect (conf->runtime, &why);
  FILE *stream;
  gboolean ok;
  int pidfd;

  if (ret_result)
    *ret_result = NULL;
  if (fd < 0)
    {
      json_object_unref (ask->request);
      return no_daemon (conf, why, error);
    }
  pidfd = ask->until_end ? open_peer (fd) : -1;
  (void)send_request (fd, ask->request); /* a failure shows as a missing answer */
  stream = fdopen (fd, "r");
  ok = read_answer (stream, ask, ret_result, error);
  (void)fclose (stream);
  if (pidfd >= 0)
    {
      if (ok)
        (void)wait_for_end (pidfd, -1);
      close (pidfd);
    }
  return ok;
}

int
nf_client_report (const char *verb, const GError *error)
{
  gboolean none = g_error_matches (error, NF_CLIENT_ERROR, NF_CLIENT_ERROR_NO_DAEMON);

  return nf_command_fail (verb, none ? NF_EXIT_NO_DAEMON : 1, "%s", error->message);
}
