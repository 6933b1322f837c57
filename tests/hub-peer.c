// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "net/accept.h"
#include "net/relay.h"
#include "tests/net-help.h"

/* A site's hub as a program of its own, for the tests and measurements over a real sshd:
 *
 *   hub-peer relay CONF SITE         what sshd runs
 *   hub-peer serve CONF MAP          a daemon that is driven by lines on standard input:
 *     wait-up SITE | wait-bulk SITE | wait-down SITE    each prints "ok" or "late"
 *     wait-error SITE TEXT           the last error, once TEXT is part of it
 *     ping SITE COUNT                round trips of a small OPS message, in microseconds
 *     push SITE ops|bulk MIB KIB     sends so much in messages of so many KiB; prints MB/s
 *     pull SITE ops|bulk MIB KIB     lets the peer send
 *     hang-up SITE                   prints "ok"
 *     status                         a line for each peer
 *
 * It answers FETCH: length bytes of data in one FETCHED, or with `offset` set so many FETCHED
 * over BULK (offset odd: over OPS). A pushed FETCHED with an id of 0 is counted and dropped;
 * POSITION is echoed. */

#define WAIT_MS 30000

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static guint64 n_answers; /* guarded by lock */

/* A burst that a peer has asked for; sent by a thread of its own, politely. */
typedef struct
{
  NfHub *hub;
  char *site;
  NfLinkKind kind;
  guint64 count;
  gsize size;
} Burst;

static void
wait_for_room (NfHub *hub, const char *site, NfLinkKind kind)
{
  while (nf_hub_queued (hub, site, kind) > 2 * NF_LINK_LOW_WATER_BULK)
    g_usleep (500);
}

static void
send_burst (const Burst *burst)
{
  g_autoptr (NfMsg) msg = nf_test_data (0, burst->size, TRUE);
  g_autoptr (GBytes) payload = nf_msg_to_bytes (msg);

  for (guint64 i = 0; i < burst->count; i++)
    {
      wait_for_room (burst->hub, burst->site, burst->kind);
      if (!nf_hub_send_bytes (burst->hub, burst->site, burst->kind, payload))
        return;
    }
}

static void *
burst_thread (void *data)
{
  Burst *burst = data;

  send_burst (burst);
  g_free (burst->site);
  g_free (burst);
  return NULL;
}

static void
start_burst (NfHub *hub, const char *site, const NfMsg *fetch)
{
  Burst *burst = g_new (Burst, 1);
  pthread_t thread;

  *burst = (Burst){ hub, g_strdup (site), (fetch->fetch.offset & 1) ? NF_LINK_OPS : NF_LINK_BULK,
                    fetch->fetch.offset >> 1, fetch->fetch.length };
  if (pthread_create (&thread, NULL, burst_thread, burst) == 0)
    pthread_detach (thread);
}

static void
answer_fetch (NfHub *hub, const char *site, const NfMsg *fetch)
{
  g_autoptr (NfMsg) answer
      = nf_test_data (fetch->fetch.id, MIN (fetch->fetch.length, NF_DATA_MAX), TRUE);

  if (!nf_hub_send (hub, site, NF_LINK_OPS, answer))
    fprintf (stderr, "no answer to %s\n", site);
}

static void
on_message (gpointer data, const char *site, NfLinkKind kind, NfMsg *msg)
{
  NfTestHub *self = data;

  if (msg->type == NF_MSG_FETCH && msg->fetch.offset != 0)
    start_burst (self->hub, site, msg);
  else if (msg->type == NF_MSG_FETCH)
    answer_fetch (self->hub, site, msg);
  else if (msg->type == NF_MSG_FETCHED)
    {
      pthread_mutex_lock (&lock);
      n_answers++;
      pthread_cond_broadcast (&changed);
      pthread_mutex_unlock (&lock);
    }
  nf_msg_free (msg);
}

/* Waits for the N-th FETCHED. */
static gboolean
wait_answers (guint64 n)
{
  struct timespec until;
  gboolean ok = TRUE;

  clock_gettime (CLOCK_REALTIME, &until);
  until.tv_sec += 60;
  pthread_mutex_lock (&lock);
  while (n_answers < n && ok)
    ok = pthread_cond_timedwait (&changed, &lock, &until) == 0;
  pthread_mutex_unlock (&lock);
  return ok;
}

static guint64
answers (void)
{
  guint64 n;

  pthread_mutex_lock (&lock);
  n = n_answers;
  pthread_mutex_unlock (&lock);
  return n;
}

static gboolean
fetch (NfTestHub *self, const char *site, guint64 count, NfLinkKind kind, gsize size)
{
  NfMsg msg = { .type = NF_MSG_FETCH };

  msg.fetch.id = 1;
  msg.fetch.offset = count == 0 ? 0 : count << 1 | (kind == NF_LINK_OPS ? 1 : 0);
  msg.fetch.length = size;
  return nf_hub_send (self->hub, site, NF_LINK_OPS, &msg);
}

static void
do_ping (NfTestHub *self, const char *site, guint64 count)
{
  gint64 start = g_get_monotonic_time ();

  for (guint64 i = 0; i < count; i++)
    {
      guint64 n = answers ();

      if (!fetch (self, site, 0, NF_LINK_OPS, 0) || !wait_answers (n + 1))
        {
          printf ("failed\n");
          return;
        }
    }
  printf ("%.1f us\n", (double)(g_get_monotonic_time () - start) / (double)count);
}

static void
print_rate (guint64 bytes, gint64 start)
{
  printf ("%.1f MB/s\n", (double)bytes / (double)MAX (g_get_monotonic_time () - start, 1));
}

static void
do_push (NfTestHub *self, const char *site, NfLinkKind kind, guint64 mib, gsize kib)
{
  Burst burst = { self->hub, (char *)site, kind, mib * 1024 / kib, kib * 1024 };
  gint64 start = g_get_monotonic_time ();
  guint64 n = answers ();

  send_burst (&burst);
  while (nf_hub_queued (self->hub, site, kind) > 0)
    g_usleep (200);
  /* Answered when what came before it is done, but for what is on its way on bulk: small against
   * the whole. */
  if (fetch (self, site, 0, NF_LINK_OPS, 0) && wait_answers (n + 1))
    print_rate (burst.count * burst.size, start);
  else
    printf ("failed\n");
}

static void
do_pull (NfTestHub *self, const char *site, NfLinkKind kind, guint64 mib, gsize kib)
{
  guint64 count = mib * 1024 / kib;
  gint64 start = g_get_monotonic_time ();
  guint64 n = answers ();

  if (fetch (self, site, count, kind, kib * 1024) && wait_answers (n + count))
    print_rate (count * kib * 1024, start);
  else
    printf ("failed\n");
}

static void
print_peer (const NfPeerInfo *info, gpointer data)
{
  printf ("%s %s%s rtt=%" G_GUINT64_FORMAT "/%" G_GUINT64_FORMAT " in=%" G_GUINT64_FORMAT
          " out=%" G_GUINT64_FORMAT " error=%s\n",
          info->site, nf_peer_state_name (info->state), info->bulk_up ? "+bulk" : "",
          info->rtt_last_us, info->rtt_min_us, info->bytes_in, info->bytes_out, info->last_error);
}

static void
wait_state (NfTestHub *self, const char *site, const char *what)
{
  gboolean ok = FALSE;

  for (int i = 0; i < WAIT_MS / 10 && !ok; i++)
    {
      if (i > 0)
        g_usleep (10 * 1000);
      if (strcmp (what, "wait-up") == 0)
        ok = nf_hub_is_up (self->hub, site);
      else if (strcmp (what, "wait-down") == 0)
        ok = !nf_hub_is_up (self->hub, site);
      else
        ok = nf_test_wait_bulk (self, site);
    }
  printf (ok ? "ok\n" : "late\n");
}

static NfLinkKind
kind_of (const char *word)
{
  return g_strcmp0 (word, "ops") == 0 ? NF_LINK_OPS : NF_LINK_BULK;
}

static void
obey (NfTestHub *self, char **words)
{
  guint n = g_strv_length (words);

  if (n == 2 && g_str_has_prefix (words[0], "wait-"))
    wait_state (self, words[1], words[0]);
  else if (n >= 3 && strcmp (words[0], "wait-error") == 0)
    {
      g_autofree char *part = g_strjoinv (" ", words + 2);
      g_autofree char *error = NULL;
      gboolean found = nf_test_wait_error (self, words[1], part);

      error = nf_test_last_error (self, words[1]);
      printf ("%s%s\n", found ? "" : "late: ", error);
    }
  else if (n == 3 && strcmp (words[0], "ping") == 0)
    do_ping (self, words[1], strtoull (words[2], NULL, 10));
  else if (n == 5 && strcmp (words[0], "push") == 0)
    do_push (self, words[1], kind_of (words[2]), strtoull (words[3], NULL, 10),
             strtoull (words[4], NULL, 10));
  else if (n == 5 && strcmp (words[0], "pull") == 0)
    do_pull (self, words[1], kind_of (words[2]), strtoull (words[3], NULL, 10),
             strtoull (words[4], NULL, 10));
  else if (n == 2 && strcmp (words[0], "hang-up") == 0)
    {
      nf_hub_hang_up (self->hub, words[1], "the test wants it");
      printf ("ok\n");
    }
  else if (n == 1 && strcmp (words[0], "status") == 0)
    nf_hub_each (self->hub, print_peer, NULL);
  else
    printf ("what?\n");
}

static int
serve (const char *conf_path, const char *map_path)
{
  g_autofree char *conf_text = NULL;
  g_autofree char *map_text = NULL;
  g_autoptr (GError) error = NULL;
  g_autoptr (NfAccept) accept = NULL;
  NfTestHub *self;
  char line[1024];

  if (!g_file_get_contents (conf_path, &conf_text, NULL, &error)
      || !g_file_get_contents (map_path, &map_text, NULL, &error))
    g_error ("%s", error->message);
  self = nf_test_hub_new (NULL, map_text, conf_text);
  self->on_message = on_message;
  self->on_message_data = self;
  accept = nf_accept_new (self->conf->runtime, self->hub, NULL, NULL, &error);
  if (accept == NULL)
    g_error ("%s", error->message);
  nf_hub_start (self->hub);
  setvbuf (stdout, NULL, _IOLBF, 0);
  while (fgets (line, sizeof line, stdin) != NULL)
    {
      g_auto (GStrv) words = g_strsplit (g_strchomp (line), " ", -1);

      obey (self, words);
    }
  nf_accept_free (g_steal_pointer (&accept));
  nf_hub_stop (self->hub);
  if (self->violations > 0)
    fprintf (stderr, "%u events came when the peer was down\n", self->violations);
  nf_test_hub_free (self);
  return 0;
}

int
main (int argc, char **argv)
{
  setlocale (LC_ALL, "C.UTF-8");
  signal (SIGPIPE, SIG_IGN);
  if (argc == 4 && strcmp (argv[1], "serve") == 0)
    return serve (argv[2], argv[3]);
  if (argc == 4 && strcmp (argv[1], "relay") == 0)
    {
      g_autoptr (GError) error = NULL;
      g_autoptr (NfSiteConf) conf = nf_site_conf_load (argv[2], &error);

      if (conf != NULL)
        return nf_relay_run (conf, argv[3]);
      fprintf (stderr, "hub-peer relay: %s\n", error->message);
      return 1;
    }
  fprintf (stderr, "usage: hub-peer relay CONF SITE | serve CONF MAP\n");
  return 2;
}
