// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/net-help.h"

/* Two hubs in one process under everything at once, for ThreadSanitizer: senders in several
 * threads on both sides, links that are replaced, cut and hung up on, maps that change, somebody
 * who lists peers; then an orderly stop. What is checked: each sender's messages arrive in order
 * within one life of the peer, and events come between up and down. */

#define SENDERS 3
#define ROUNDS 60
#define ID_SHIFT 40

typedef struct
{
  NfTestHub *from;
  const char *to;
  guint64 number;
} Sender;

static int stop; /* atomic */

/* Of one receiving side; OPS and BULK come in two threads. */
typedef struct
{
  pthread_mutex_t lock;
  guint64 last[NF_LINK_N_KINDS][SENDERS]; /* guarded by lock */
  guint64 n_got;                          /* guarded by lock */
  guint wrong;                            /* guarded by lock */
} Receiver;

static void
receive (gpointer data, const char *site, NfLinkKind kind, NfMsg *msg)
{
  Receiver *self = data;
  guint64 sender = msg->fetched.id >> ID_SHIFT;
  NfLinkKind meant = msg->fetched.fid == 0 ? NF_LINK_OPS : NF_LINK_BULK;
  guint64 *last = &self->last[meant][sender];

  pthread_mutex_lock (&self->lock);
  self->wrong += msg->fetched.id <= *last ? 1 : 0;
  *last = msg->fetched.id;
  self->n_got++;
  pthread_mutex_unlock (&self->lock);
  nf_msg_free (msg);
}

static void *
sender_thread (void *data)
{
  Sender *self = data;
  g_autoptr (NfMsg) msg = nf_test_data (0, 3000, TRUE);
  guint64 count = 0;

  while (!g_atomic_int_get (&stop))
    for (int kind = 0; kind < NF_LINK_N_KINDS; kind++)
      {
        msg->fetched.id = self->number << ID_SHIFT | ++count;
        msg->fetched.fid = (guint64)kind;
        if (nf_hub_queued (self->from->hub, self->to, (NfLinkKind)kind) > NF_LINK_LOW_WATER_OPS
            || !nf_hub_send (self->from->hub, self->to, (NfLinkKind)kind, msg))
          g_usleep (1000);
      }
  return NULL;
}

static void
nothing (const NfPeerInfo *info, gpointer data)
{
}

static void *
lister_thread (void *data)
{
  NfTestHub *hub = data;

  while (!g_atomic_int_get (&stop))
    {
      nf_hub_each (hub->hub, nothing, NULL);
      nf_hub_redial_now (hub->hub, NULL);
      nf_hub_set_map (hub->hub, hub->map);
      g_usleep (3000);
    }
  return NULL;
}

/* Joins A and B and then ends that in one of several ways. */
static void
round_of (NfTestHub *a, NfTestHub *b, int number)
{
  guint ups = (guint)number + 1;

  nf_test_join (a, b, NF_LINK_OPS);
  if (!nf_test_wait_up (a, ups) || !nf_test_wait_up (b, ups))
    {
      g_autofree char *at_a = nf_test_last_error (a, "b");
      g_autofree char *at_b = nf_test_last_error (b, "a");

      g_error ("round %d: not up (%u, %u); \"%s\", \"%s\"", number, a->n_up, b->n_up, at_a, at_b);
    }
  nf_test_join (a, b, NF_LINK_BULK);
  g_usleep (number % 5 == 0 ? 0 : 15000);
  if (number % 3 == 1)
    nf_hub_hang_up (b->hub, "a", "the test wants it");
  else if (number % 3 == 2)
    nf_hub_hang_up (a->hub, "b", "the test wants it");
  /* Else the next link replaces this one. */
}

/* GLib's own would call localtime() in several threads. */
static GLogWriterOutput
no_log (GLogLevelFlags level, const GLogField *fields, gsize n_fields, gpointer data)
{
  for (gsize i = 0; i < n_fields && (level & G_LOG_LEVEL_ERROR); i++)
    if (g_strcmp0 (fields[i].key, "MESSAGE") == 0)
      fprintf (stderr, "%s\n", (const char *)fields[i].value);
  return G_LOG_WRITER_HANDLED;
}

/* GLib's own allocator would look like races: what one thread frees another gets without the
 * sanitizer's seeing it. */
static void
without_slices (char **argv)
{
  if (g_getenv ("G_SLICE") != NULL)
    return;
  setenv ("G_SLICE", "always-malloc", 1);
  execv ("/proc/self/exe", argv);
}

int
main (int argc, char **argv)
{
  NfTestHub *a = nf_test_hub_new ("a", nf_test_map, NULL);
  NfTestHub *b = nf_test_hub_new ("b", nf_test_map, NULL);
  Receiver at_a = { .lock = PTHREAD_MUTEX_INITIALIZER };
  Receiver at_b = { .lock = PTHREAD_MUTEX_INITIALIZER };
  Sender senders[2 * SENDERS];
  pthread_t threads[2 * SENDERS + 2];
  guint wrong;

  without_slices (argv);
  g_log_set_writer_func (no_log, NULL, NULL);
  a->on_message = b->on_message = receive;
  a->on_message_data = &at_a;
  b->on_message_data = &at_b;
  for (guint i = 0; i < 2 * SENDERS; i++)
    {
      senders[i] = (Sender){ i < SENDERS ? a : b, i < SENDERS ? "b" : "a", i % SENDERS };
      pthread_create (&threads[i], NULL, sender_thread, &senders[i]);
    }
  pthread_create (&threads[2 * SENDERS], NULL, lister_thread, a);
  pthread_create (&threads[2 * SENDERS + 1], NULL, lister_thread, b);
  for (int i = 0; i < ROUNDS; i++)
    round_of (a, b, i);
  g_usleep (100 * 1000);
  g_atomic_int_set (&stop, 1);
  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    pthread_join (threads[i], NULL);
  wrong = a->violations + b->violations;
  nf_test_hub_free (a);
  nf_test_hub_free (b);
  printf ("%" G_GUINT64_FORMAT " and %" G_GUINT64_FORMAT
          " messages, %u out of order, %u events out of place\n",
          at_a.n_got, at_b.n_got, at_a.wrong + at_b.wrong, wrong);
  return at_a.wrong + at_b.wrong + wrong == 0 && at_a.n_got > 0 && at_b.n_got > 0 ? 0 : 1;
}
