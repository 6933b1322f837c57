// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/dial.h"
#include "net/spawn.h"
#include "net/ssh.h"

/* From a name to channels with a relay at their end. The session isn't blocking all the way:
 * each call is repeated until it's done, the time is over or the hub stops. Only the look-up of
 * the name blocks. */

/* GCM costs half of the default's CPU, and isn't rekeyed every gigabyte. */
#define CIPHERS                                                                                    \
  "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes128-ctr,aes256-" \
  "ctr"
/* What the kernel may hold unsent of ops, so that a ping doesn't wait behind a megabyte. */
#define OPS_NOTSENT_LOWAT (128 * 1024)

typedef struct
{
  const NfDialTarget *target;
  ssh_session session;
  gint64 until_us;
  const char *alias; /* as the map has it, without the user */
  char *host;        /* as known_hosts has it */
  guint port;
  NfFdLane proxy; /* what ProxyCommand or ProxyJump stand for, if there is one */
} Dial;

/* The session's last words. */
static const char *
ssh_words (Dial *dial)
{
  const char *words = ssh_get_error (dial->session);

  return words == NULL || *words == '\0' ? "no reason given" : words;
}

/* Waits until it's worth calling libssh again. FALSE if it's too late. */
static gboolean
wait_more (Dial *dial, const char *doing, GError **error)
{
  int fd = ssh_get_fd (dial->session);
  struct pollfd fds[2] = { { dial->target->cancel_fd, POLLIN, 0 }, { fd, POLLIN, 0 } };

  if (ssh_get_poll_flags (dial->session) & SSH_WRITE_PENDING)
    fds[1].events |= POLLOUT;
  /* A short time, as what libssh has read already makes no descriptor readable. */
  (void)poll (fds, fd < 0 ? 1 : 2, fd < 0 ? 10 : 50);
  if (fds[0].revents != 0)
    {
      g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_CLOSED, "shutting down");
      return FALSE;
    }
  if (g_get_monotonic_time () > dial->until_us)
    {
      g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_CONNECT, "%s: %s: no answer for %d s",
                   dial->target->ssh, doing, NF_DIAL_TIMEOUT_MS / 1000);
      return FALSE;
    }
  return TRUE;
}

/* FALSE if libssh refuses an option; its message names it. */
static gboolean
set_options (Dial *dial, GError **error)
{
  const NfDialTarget *target = dial->target;
  const NfSiteConf *conf = target->conf;
  const char *at = strrchr (target->ssh, '@');
  g_autofree char *user = at == NULL ? NULL : g_strndup (target->ssh, (gsize)(at - target->ssh));
  ssh_session session = dial->session;
  unsigned int port = target->port;
  long timeout_s = NF_DIAL_TIMEOUT_MS / 1000;
  bool process_config = false; /* done below, with our file */
  int on = 1, off = 0;
  gboolean ok;

  ok = ssh_options_set (session, SSH_OPTIONS_PROCESS_CONFIG, &process_config) == 0
       && ssh_options_set (session, SSH_OPTIONS_HOST, dial->alias) == 0
       && ssh_options_parse_config (session, conf->ssh_config) == 0
       /* After the file, which would override them. */
       && (user == NULL || ssh_options_set (session, SSH_OPTIONS_USER, user) == 0)
       && (port == 0 || ssh_options_set (session, SSH_OPTIONS_PORT, &port) == 0)
       && (conf->known_hosts == NULL
           || ssh_options_set (session, SSH_OPTIONS_KNOWNHOSTS, conf->known_hosts) == 0)
       && ssh_options_set (session, SSH_OPTIONS_TIMEOUT, &timeout_s) == 0
       && ssh_options_set (session, SSH_OPTIONS_NODELAY, &on) == 0
       && ssh_options_set (session, SSH_OPTIONS_STRICTHOSTKEYCHECK, &on) == 0
       && ssh_options_set (session, SSH_OPTIONS_PASSWORD_AUTH, &off) == 0
       && ssh_options_set (session, SSH_OPTIONS_KBDINT_AUTH, &off) == 0
       && ssh_options_set (session, SSH_OPTIONS_COMPRESSION, "no") == 0
       && ssh_options_set (session, SSH_OPTIONS_CIPHERS_C_S, CIPHERS) == 0
       && ssh_options_set (session, SSH_OPTIONS_CIPHERS_S_C, CIPHERS) == 0;
  if (!ok)
    g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_FAILED, "%s: ssh options: %s", target->ssh,
                 ssh_words (dial));
  return ok;
}

/* What the host is called in known_hosts, once the configuration is known. */
static void
learn_host (Dial *dial)
{
  char *host = NULL;
  unsigned int port = 22;

  if (ssh_options_get (dial->session, SSH_OPTIONS_HOST, &host) == SSH_OK && host != NULL)
    {
      dial->host = g_strdup (host);
      ssh_string_free_char (host);
    }
  else
    dial->host = g_strdup (dial->target->ssh);
  (void)ssh_options_get_port (dial->session, &port); /* else the default */
  dial->port = port;
}

/* COMMAND with the host and so on put in, as ssh_config(5) has it; NULL if it asks for something
 * else. */
static char *
expand_proxy (Dial *dial, const char *command)
{
  GString *text = g_string_new ("exec ");
  char *user = NULL;
  gboolean ok = TRUE;

  (void)ssh_options_get (dial->session, SSH_OPTIONS_USER, &user); /* else it stays NULL */
  for (const char *p = command; *p != '\0' && ok; p++)
    if (*p != '%')
      g_string_append_c (text, *p);
    else
      switch (*++p)
        {
        case '%':
          g_string_append_c (text, '%');
          break;
        case 'h':
          g_string_append (text, dial->host);
          break;
        case 'n':
          g_string_append (text, dial->alias);
          break;
        case 'p':
          g_string_append_printf (text, "%u", dial->port);
          break;
        case 'r':
          g_string_append (text, user == NULL ? "" : user);
          break;
        default:
          ok = FALSE;
        }
  ssh_string_free_char (user);
  if (ok)
    return g_string_free (text, FALSE);
  g_string_free (text, TRUE);
  return NULL;
}

/* Starts the proxy, if there is to be one. libssh would do it itself, but with our blocked
 * signals, so that it couldn't end it and waited for ever. */
static gboolean
start_proxy (Dial *dial, GError **error)
{
  char *command = NULL;
  g_autofree char *text = NULL;
  gboolean ok;

  if (ssh_options_get (dial->session, SSH_OPTIONS_PROXYCOMMAND, &command) != SSH_OK
      || command == NULL)
    return TRUE;
  text = expand_proxy (dial, command);
  if (text == NULL)
    g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_FAILED,
                 "%s: ProxyCommand \"%s\" has a %%-sequence other than %%%%, %%h, %%n, %%p, %%r",
                 dial->target->ssh, command);
  ssh_string_free_char (command);
  if (text == NULL)
    return FALSE;
  ok = nf_spawn ((const char *const[]){ "/bin/sh", "-c", text, NULL }, FALSE, &dial->proxy, error);
  return ok && ssh_options_set (dial->session, SSH_OPTIONS_FD, &dial->proxy.in) == SSH_OK;
}

static gboolean
connect_session (Dial *dial, GError **error)
{
  int rc;

  ssh_set_blocking (dial->session, 0);
  while ((rc = ssh_connect (dial->session)) == SSH_AGAIN)
    if (!wait_more (dial, "connecting", error))
      return FALSE;
  if (rc == SSH_OK)
    return TRUE;
  g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_CONNECT, "%s: %s", dial->target->ssh,
               ssh_words (dial));
  return FALSE;
}

/* libssh makes the socket blocking again after connecting, and would sit in send(). Not every
 * setting exists for every kind of socket (ProxyCommand's are none), so failures are of no
 * consequence. */
static void
tune_socket (Dial *dial)
{
  int fd = ssh_get_fd (dial->session);
  int flags = fcntl (fd, F_GETFL);
  int on = 1;
  int lowat = OPS_NOTSENT_LOWAT;
  unsigned int timeout_ms = dial->target->conf->heartbeat_ms * 2;

  if (flags >= 0)
    (void)fcntl (fd, F_SETFL, flags | O_NONBLOCK);
  (void)setsockopt (fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  (void)setsockopt (fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof timeout_ms);
  if (dial->target->kind == NF_LINK_OPS)
    (void)setsockopt (fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &lowat, sizeof lowat);
}

/* "ssh-ed25519 SHA256:…" of the key that the server has shown. */
static char *
key_text (Dial *dial)
{
  ssh_key key = NULL;
  unsigned char *hash = NULL;
  size_t len = 0;
  char *print = NULL;
  char *text;

  if (ssh_get_server_publickey (dial->session, &key) != SSH_OK)
    return g_strdup ("unknown");
  if (ssh_get_publickey_hash (key, SSH_PUBLICKEY_HASH_SHA256, &hash, &len) == 0)
    print = ssh_get_fingerprint_hash (SSH_PUBLICKEY_HASH_SHA256, hash, len);
  text = g_strdup_printf ("%s %s", ssh_key_type_to_char (ssh_key_type (key)),
                          print == NULL ? "?" : print);
  ssh_string_free_char (print);
  ssh_clean_pubkey_hash (&hash);
  ssh_key_free (key);
  return text;
}

static gboolean
check_host_key (Dial *dial, GError **error)
{
  const NfSiteConf *conf = dial->target->conf;
  enum ssh_known_hosts_e state = ssh_session_is_known_server (dial->session);
  g_autofree char *key = NULL;
  g_autofree char *accept = NULL;
  g_autofree char *forget = NULL;

  if (state == SSH_KNOWN_HOSTS_OK)
    return TRUE;
  key = key_text (dial);
  accept = nf_dial_accept_command (conf, dial->host, dial->port);
  forget = nf_dial_forget_command (conf, dial->host, dial->port);
  switch (state)
    {
    case SSH_KNOWN_HOSTS_CHANGED:
    case SSH_KNOWN_HOSTS_OTHER:
      g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_HOST_KEY,
                   "the host key of %s has changed: it's %s now, which may be an attack. If the "
                   "change is right, accept "
                   "it with: %s && %s",
                   dial->host, key, forget, accept);
      break;
    case SSH_KNOWN_HOSTS_UNKNOWN:
    case SSH_KNOWN_HOSTS_NOT_FOUND:
      g_set_error (
          error, NF_NET_ERROR, NF_NET_ERROR_HOST_KEY,
          "the host key of %s (%s) is unknown. If the fingerprint is right, accept it with: %s",
          dial->host, key, accept);
      break;
    case SSH_KNOWN_HOSTS_OK:
    case SSH_KNOWN_HOSTS_ERROR:
    default:
      g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_HOST_KEY,
                   "the host key of %s can't be checked: %s", dial->host, ssh_words (dial));
    }
  return FALSE;
}

/* Repeats an authentication step until it's decided: SSH_AUTH_ERROR also stands for "no time
 * left" with ERROR set. */
static int
settle (Dial *dial, int (*step) (ssh_session session, ssh_key key), ssh_key key, GError **error)
{
  int rc;

  while ((rc = step (dial->session, key)) == SSH_AUTH_AGAIN)
    if (!wait_more (dial, "authenticating", error))
      return SSH_AUTH_ERROR;
  return rc;
}

static int
step_none (ssh_session session, ssh_key key)
{
  return ssh_userauth_none (session, NULL);
}

static int
step_key (ssh_session session, ssh_key key)
{
  return ssh_userauth_publickey (session, NULL, key);
}

/* The agent's keys one by one, then ssh_config's and the default files. */
static int
step_auto (ssh_session session, ssh_key key)
{
  return ssh_userauth_publickey_auto (session, NULL, NULL);
}

/* One key file of the site's configuration, with its certificate if there is one beside it. */
static int
try_identity (Dial *dial, const char *path, GString *tried, GError **error)
{
  g_autofree char *cert_path = g_strconcat (path, "-cert.pub", NULL);
  ssh_key key = NULL;
  ssh_key cert = NULL;
  int rc;

  if (ssh_pki_import_privkey_file (path, NULL, NULL, NULL, &key) != SSH_OK)
    {
      g_string_append_printf (
          tried, "%s (%s); ", path,
          access (path, R_OK) == 0
              ? "not a private key, or one with a passphrase: add it to the agent"
              : g_strerror (errno));
      return SSH_AUTH_DENIED;
    }
  if (access (cert_path, R_OK) == 0 && ssh_pki_import_cert_file (cert_path, &cert) == SSH_OK)
    (void)ssh_pki_copy_cert_to_privkey (cert, key); /* else the bare key is tried */
  rc = settle (dial, step_key, key, error);
  ssh_key_free (key);
  ssh_key_free (cert);
  if (rc == SSH_AUTH_DENIED)
    g_string_append_printf (tried, "%s; ", path);
  return rc;
}

static gboolean
authenticate (Dial *dial, GError **error)
{
  const char *const *identities = dial->target->conf->identities;
  g_autoptr (GString) tried = g_string_new (NULL);
  g_autoptr (GError) local = NULL;
  int rc = settle (dial, step_none, NULL, &local);

  /* "Partial" counts as a way on: a second key may be wanted. */
  for (guint i = 0; (rc == SSH_AUTH_DENIED || rc == SSH_AUTH_PARTIAL) && identities[i] != NULL; i++)
    rc = try_identity (dial, identities[i], tried, &local);
  if (rc == SSH_AUTH_DENIED || rc == SSH_AUTH_PARTIAL)
    {
      rc = settle (dial, step_auto, NULL, &local);
      g_string_append (tried, "the agent's and the default keys");
    }
  if (rc == SSH_AUTH_SUCCESS)
    return TRUE;
  if (local != NULL)
    g_propagate_error (error, g_steal_pointer (&local));
  else
    g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_AUTH,
                 "%s accepts none of our keys (tried %s)%s%s", dial->target->ssh,
                 tried->len == 0 ? "none" : tried->str, rc == SSH_AUTH_ERROR ? ": " : "",
                 rc == SSH_AUTH_ERROR ? ssh_words (dial) : "");
  return FALSE;
}

/* A channel with the relay at its end, or on its way there. */
typedef struct
{
  ssh_channel channel;
  gboolean open;
  gboolean ready;
} Opening;

static int
open_step (Opening *opening)
{
  int rc = opening->open ? SSH_OK : ssh_channel_open_session (opening->channel);

  opening->open |= rc == SSH_OK;
  if (rc == SSH_OK)
    rc = ssh_channel_request_exec (opening->channel, NF_DIAL_COMMAND);
  opening->ready = rc == SSH_OK;
  return rc;
}

/* All at a time: one after the other each would take two round trips. */
static gboolean
open_channels (Dial *dial, Opening *openings, GError **error)
{
  guint n_ready;

  for (;;)
    {
      n_ready = 0;
      for (guint i = 0; i < dial->target->lanes; i++)
        {
          int rc = openings[i].ready ? SSH_OK : open_step (&openings[i]);

          if (rc != SSH_OK && rc != SSH_AGAIN)
            {
              g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_RELAY, "%s: starting %s: %s",
                           dial->target->ssh, NF_DIAL_COMMAND, ssh_words (dial));
              return FALSE;
            }
          n_ready += openings[i].ready ? 1 : 0;
        }
      if (n_ready == dial->target->lanes)
        return TRUE;
      if (!wait_more (dial, "starting " NF_DIAL_COMMAND, error))
        return FALSE;
    }
}

static NfTransport *
open_lanes (Dial *dial, GError **error)
{
  Opening openings[NF_LANES_MAX] = { 0 };
  ssh_channel channels[NF_LANES_MAX];
  guint n = dial->target->lanes;
  gboolean ok = TRUE;

  for (guint i = 0; i < n; i++)
    {
      openings[i].channel = channels[i] = ssh_channel_new (dial->session);
      ok = ok && channels[i] != NULL;
    }
  if (!ok)
    g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_FAILED, "libssh has no memory for a channel");
  if (ok && open_channels (dial, openings, error))
    return nf_ssh_new (dial->session, channels, n, &dial->proxy);
  for (guint i = 0; i < n; i++)
    if (channels[i] != NULL)
      ssh_channel_free (channels[i]);
  return NULL;
}

/* With the options set. */
static NfTransport *
dial_host (Dial *dial, GError **error)
{
  learn_host (dial);
  if (!start_proxy (dial, error) || !connect_session (dial, error))
    return NULL;
  tune_socket (dial);
  if (!check_host_key (dial, error) || !authenticate (dial, error))
    return NULL;
  tune_socket (dial);
  if (dial->target->accepted != NULL)
    dial->target->accepted (dial->target->data);
  return open_lanes (dial, error);
}

NfTransport *
nf_ssh_dial (const NfDialTarget *target, GError **error)
{
  Dial dial
      = { .target = target,
          .session = ssh_new (),
          .proxy = NF_FD_LANE_INIT,
          .until_us = g_get_monotonic_time () + NF_DIAL_TIMEOUT_MS * G_GINT64_CONSTANT (1000) };
  const char *at = strrchr (target->ssh, '@');
  NfTransport *transport = NULL;

  dial.alias = at == NULL ? target->ssh : at + 1;
  if (dial.session == NULL)
    {
      g_set_error (error, NF_NET_ERROR, NF_NET_ERROR_FAILED, "libssh has no memory for a session");
      return NULL;
    }
  (void)ssh_set_log_level (SSH_LOG_NOLOG); /* the thread's own; it would write to standard error */
  if (set_options (&dial, error))
    transport = dial_host (&dial, error);
  g_free (dial.host);
  if (transport == NULL)
    {
      ssh_silent_disconnect (dial.session);
      ssh_free (dial.session);
      nf_fd_lane_clear (&dial.proxy);
    }
  return transport;
}
