// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "tests/net-help.h"

#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define WAIT_S 20

const char nf_test_map[]
    = "[map]\nserial = 7\n"
      "[site a]\nssh = none\n"
      "[site b]\nssh = nobody@127.0.0.1\nport = 9\n"
      "[site c]\nssh = none\n"
      "[site lonely]\nssh = none\n"
      "[share s]\nmount = /s\nlocal = b:/srv/nf/s\nbroadcast = a:/srv/nf/a; c:/srv/nf/c\n";

static gboolean
on_up (gpointer data, const char *site, const NfMsg *hello, GError **error)
{
  NfTestHub *self = data;
  gboolean ok = TRUE;

  pthread_mutex_lock (&self->lock);
  if (self->refuse != NULL)
    {
      g_set_error_literal (error, NF_NET_ERROR, NF_NET_ERROR_REFUSED, self->refuse);
      ok = FALSE;
    }
  else
    {
      self->violations += self->is_up ? 1 : 0;
      self->is_up = TRUE;
      self->n_up++;
    }
  pthread_cond_broadcast (&self->changed);
  pthread_mutex_unlock (&self->lock);
  return ok;
}

static void
on_down (gpointer data, const char *site, const char *reason)
{
  NfTestHub *self = data;

  pthread_mutex_lock (&self->lock);
  self->violations += self->is_up ? 0 : 1;
  self->is_up = FALSE;
  self->n_down++;
  g_free (self->reason);
  self->reason = g_strdup (reason);
  pthread_cond_broadcast (&self->changed);
  pthread_mutex_unlock (&self->lock);
}

static void
on_message (gpointer data, const char *site, NfLinkKind kind, NfMsg *msg)
{
  NfTestHub *self = data;

  if (self->on_message != NULL)
    {
      self->on_message (self->on_message_data, site, kind, msg);
      msg = NULL;
    }
  pthread_mutex_lock (&self->lock);
  self->violations += self->is_up ? 0 : 1;
  if (msg != NULL)
    g_ptr_array_add (self->got[kind], msg);
  self->n_got++;
  pthread_cond_broadcast (&self->changed);
  pthread_mutex_unlock (&self->lock);
}

static void
on_drained (gpointer data, const char *site, NfLinkKind kind)
{
  NfTestHub *self = data;

  pthread_mutex_lock (&self->lock);
  self->violations += self->is_up ? 0 : 1;
  self->n_drained++;
  pthread_cond_broadcast (&self->changed);
  pthread_mutex_unlock (&self->lock);
}

static void
on_fill_hello (gpointer data, const char *site, NfMsg *hello)
{
  g_auto (NfBuf) buf = NF_BUF_INIT;
  NfHelloShare share = { nf_map_share_id ("s"), NF_ROLE_REPLICA, { 1, 2, 3 } };

  nf_hello_share_encode (&share, &buf);
  hello->owner = nf_buf_steal_bytes (&buf);
  hello->hello.shares
      = nf_slice (g_bytes_get_data (hello->owner, NULL), g_bytes_get_size (hello->owner));
}

NfTestHub *
nf_test_hub_new (const char *name, const char *map_text, const char *extra)
{
  static const NfHubEvents events = { on_fill_hello, on_up, on_down, on_message, on_drained };
  NfTestHub *self = g_new0 (NfTestHub, 1);
  g_autofree char *text = name == NULL ? g_strdup (extra)
                                       : g_strdup_printf ("[site]\nname = %s\nroots = /srv/nf\n%s",
                                                          name, extra == NULL ? "" : extra);
  g_autoptr (GError) error = NULL;
  pthread_condattr_t attr;

  signal (SIGPIPE, SIG_IGN);
  pthread_mutex_init (&self->lock, NULL);
  pthread_condattr_init (&attr);
  pthread_condattr_setclock (&attr, CLOCK_MONOTONIC);
  pthread_cond_init (&self->changed, &attr);
  for (int i = 0; i < NF_LINK_N_KINDS; i++)
    self->got[i] = g_ptr_array_new_with_free_func ((GDestroyNotify)nf_msg_free);
  self->map = nf_map_parse (map_text, strlen (map_text), "test-map", &error);
  if (self->map != NULL)
    self->conf = nf_site_conf_parse (text, strlen (text), "test-conf", &error);
  if (self->conf == NULL)
    g_error ("%s", error->message);
  self->hub = nf_hub_new (self->map, self->conf, &events, self);
  return self;
}

void
nf_test_hub_free (NfTestHub *self)
{
  nf_hub_stop (self->hub);
  for (int i = 0; i < NF_LINK_N_KINDS; i++)
    g_ptr_array_unref (self->got[i]);
  nf_hub_unref (self->hub);
  nf_map_unref (self->map);
  nf_site_conf_unref (self->conf);
  pthread_cond_destroy (&self->changed);
  pthread_mutex_destroy (&self->lock);
  g_free (self->reason);
  g_free (self->refuse);
  g_free (self);
}

void
nf_test_join_as (NfTestHub *dialler, const char *to, NfTestHub *accepter, const char *as,
                 NfLinkKind kind)
{
  int fds[2];

  if (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
    g_error ("socketpair");
  nf_hub_accept (accepter->hub, as, fds[1], fds[1], -1, -1);
  nf_hub_attach_fds (dialler->hub, to, kind, fds[0], fds[0]);
}

void
nf_test_join (NfTestHub *dialler, NfTestHub *accepter, NfLinkKind kind)
{
  nf_test_join_as (dialler, accepter->conf->name, accepter, dialler->conf->name, kind);
}

/* Waits until *COUNT, which is guarded by the lock, is at least WANTED. */
static gboolean
wait_count (NfTestHub *self, const guint *count, const guint64 *count64, guint64 wanted)
{
  struct timespec until;
  gboolean ok;

  clock_gettime (CLOCK_MONOTONIC, &until);
  until.tv_sec += WAIT_S;
  pthread_mutex_lock (&self->lock);
  while (!(ok = (count != NULL ? *count : *count64) >= wanted))
    if (pthread_cond_timedwait (&self->changed, &self->lock, &until) != 0)
      break;
  pthread_mutex_unlock (&self->lock);
  return ok;
}

gboolean
nf_test_wait_up (NfTestHub *self, guint n_up)
{
  return wait_count (self, &self->n_up, NULL, n_up);
}

gboolean
nf_test_wait_down (NfTestHub *self, guint n_down)
{
  return wait_count (self, &self->n_down, NULL, n_down);
}

gboolean
nf_test_wait_drained (NfTestHub *self, guint n_drained)
{
  return wait_count (self, &self->n_drained, NULL, n_drained);
}

gboolean
nf_test_wait_got (NfTestHub *self, guint64 n_got)
{
  return wait_count (self, NULL, &self->n_got, n_got);
}

char *
nf_test_reason (NfTestHub *self)
{
  char *reason;

  pthread_mutex_lock (&self->lock);
  reason = g_strdup (self->reason);
  pthread_mutex_unlock (&self->lock);
  return reason;
}

typedef struct
{
  const char *site;
  char *error;
  gboolean bulk;
} Look;

static void
look (const NfPeerInfo *info, gpointer data)
{
  Look *self = data;

  if (strcmp (info->site, self->site) != 0)
    return;
  self->error = g_strdup (info->last_error);
  self->bulk = info->bulk_up;
}

char *
nf_test_last_error (NfTestHub *self, const char *site)
{
  Look found = { site, NULL, FALSE };

  nf_hub_each (self->hub, look, &found);
  return found.error == NULL ? g_strdup ("") : found.error;
}

gboolean
nf_test_wait_error (NfTestHub *self, const char *site, const char *part)
{
  for (int i = 0; i < WAIT_S * 100; i++)
    {
      g_autofree char *error = nf_test_last_error (self, site);

      if (strstr (error, part) != NULL)
        return TRUE;
      g_usleep (10 * 1000);
    }
  return FALSE;
}

gboolean
nf_test_wait_bulk (NfTestHub *self, const char *site)
{
  for (int i = 0; i < WAIT_S * 100; i++)
    {
      Look found = { site, NULL, FALSE };

      nf_hub_each (self->hub, look, &found);
      g_free (found.error);
      if (found.bulk)
        return TRUE;
      g_usleep (10 * 1000);
    }
  return FALSE;
}

NfMsg *
nf_test_data (guint64 id, gsize len, gboolean random)
{
  NfMsg *msg = g_new0 (NfMsg, 1);
  guint8 *data = g_malloc0 (MAX (len, 1));
  guint32 state = (guint32)id * 2654435761u + 1;

  for (gsize i = 0; random && i < len; i++)
    {
      state = state * 1664525u + 1013904223u;
      data[i] = (guint8)(state >> 24);
    }
  msg->type = NF_MSG_FETCHED;
  msg->owner = g_bytes_new_take (data, len);
  msg->fetched.id = id;
  msg->fetched.length = len;
  msg->fetched.data = nf_slice (data, len);
  return msg;
}
