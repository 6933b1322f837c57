// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/own-daemon.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fs/client.h"

/* The primaries may be far away, and a login shell slow. */
#define CONNECT_S 30
#define LOOK_MS 200

static gboolean
spawn (const char *config, GError **error)
{
  const char *argv[] = { "/proc/self/exe", "serve", "-b", config ? "-c" : NULL, config, NULL };
  int status = 0;

  if (!g_spawn_sync (NULL, (char **)argv, NULL, G_SPAWN_CHILD_INHERITS_STDIN, NULL, NULL, NULL,
                     NULL, &status, error))
    return FALSE;
  if (g_spawn_check_wait_status (status, NULL))
    return TRUE;
  g_set_error_literal (error, NF_CLIENT_ERROR, NF_CLIENT_ERROR_LOST, "no daemon could be started");
  return FALSE;
}

static gboolean
is_found (JsonObject *share)
{
  const char *role = json_object_get_string_member_with_default (share, "role", "");
  const char *state = json_object_get_string_member_with_default (share, "state", "");

  return !g_str_equal (role, "replica") || !g_str_equal (state, "cut off");
}

/* What the daemon says of itself. RET_PID: its process. Whether all replicas have found their primaries. */
static gboolean
look (const NfSiteConf *conf, int *ret_pid)
{
  g_autoptr (JsonNode) report = NULL;
  NfClientAsk ask = { .request = nf_client_request ("status") };
  gboolean found = TRUE;

  if (!nf_client_ask (conf, &ask, &report, NULL))
    return FALSE;
  JsonObject *object = json_node_get_object (report);
  JsonArray *shares = json_object_get_array_member (object, "shares");
  *ret_pid = (int)json_object_get_int_member_with_default (object, "pid", -1);
  for (guint i = 0; shares && i < json_array_get_length (shares); i++)
    found &= is_found (json_array_get_object_element (shares, i));
  return found;
}

int
nf_own_daemon_start (const NfSiteConf *conf, const char *config, GError **error)
{
  int pid = -1;

  if (!spawn (config, error))
    return -1;
  /* The daemon tells nobody of such things; a person waits here. */
  for (int i = 0; i < CONNECT_S * 1000 / LOOK_MS && !look (conf, &pid); i++)
    g_usleep (LOOK_MS * 1000);
  if (pid < 0)
    g_set_error_literal (error, NF_CLIENT_ERROR, NF_CLIENT_ERROR_LOST,
                         "the daemon that was started doesn't answer; its log says why");
  return pid;
}

void
nf_own_daemon_stop (int pid)
{
  struct pollfd ended = { .fd = (int)syscall (SYS_pidfd_open, pid, 0), .events = POLLIN };

  if (ended.fd < 0)
    return; /* it has ended */
  if (kill (pid, SIGTERM) == 0)
    while (poll (&ended, 1, -1) < 0 && errno == EINTR)
      ;
  close (ended.fd);
}
