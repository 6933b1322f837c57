// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net/frame.h"
#include "tests/net-help.h"

/* Two hubs in one process, joined by socket pairs. */

static void
send_data (NfTestHub *from, const char *to, NfLinkKind kind, guint64 id, gsize len)
{
  g_autoptr (NfMsg) msg = nf_test_data (id, len, TRUE);

  cr_assert (nf_hub_send (from->hub, to, kind, msg));
}

static void
assert_in_order (NfTestHub *hub, NfLinkKind kind, guint64 first, guint n)
{
  pthread_mutex_lock (&hub->lock);
  cr_assert_eq (hub->got[kind]->len, n);
  for (guint i = 0; i < n; i++)
    {
      const NfMsg *msg = g_ptr_array_index (hub->got[kind], i);
      g_autoptr (NfMsg) sent = nf_test_data (first + i, msg->fetched.data.len, TRUE);

      cr_assert_eq (msg->fetched.id, first + i);
      cr_assert (nf_slice_equal (msg->fetched.data, sent->fetched.data));
    }
  pthread_mutex_unlock (&hub->lock);
}

static void
assert_error (NfTestHub *hub, const char *site, const char *part)
{
  g_autofree char *error = NULL;

  if (nf_test_wait_error (hub, site, part))
    return;
  error = nf_test_last_error (hub, site);
  cr_assert_fail ("expected \"%s\", but it's \"%s\"", part, error);
}

static void
free_pair (NfTestHub *a, NfTestHub *b)
{
  cr_expect_eq (a->violations, 0);
  cr_expect_eq (b->violations, 0);
  nf_test_hub_free (a);
  nf_test_hub_free (b);
}

Test (hub, delivers_in_order_both_ways, .timeout = 30)
{
  NfTestHub *a = nf_test_hub_new ("a", nf_test_map, NULL);
  NfTestHub *b = nf_test_hub_new ("b", nf_test_map, NULL);

  nf_test_join (a, b, NF_LINK_OPS);
  cr_assert (nf_test_wait_up (a, 1) && nf_test_wait_up (b, 1));
  for (guint i = 0; i < 2000; i++)
    {
      send_data (a, "b", NF_LINK_OPS, i, i % 700);
      send_data (b, "a", NF_LINK_OPS, 10000 + i, (i * 7) % 900);
    }
  cr_assert (nf_test_wait_got (a, 2000) && nf_test_wait_got (b, 2000));
  assert_in_order (b, NF_LINK_OPS, 0, 2000);
  assert_in_order (a, NF_LINK_OPS, 10000, 2000);
  free_pair (a, b);
}

Test (hub, carries_the_largest_message, .timeout = 30)
{
  NfTestHub *a = nf_test_hub_new ("a", nf_test_map, NULL);
  NfTestHub *b = nf_test_hub_new ("b", nf_test_map, NULL);

  nf_test_join (a, b, NF_LINK_OPS);
  cr_assert (nf_test_wait_up (a, 1));
  send_data (a, "b", NF_LINK_OPS, 1, NF_DATA_MAX);
  cr_assert (nf_test_wait_got (b, 1));
  assert_in_order (b, NF_LINK_OPS, 1, 1);
  free_pair (a, b);
}

Test (hub, send_fails_while_the_peer_is_down, .timeout = 30)
{
  NfTestHub *a = nf_test_hub_new ("a", nf_test_map, NULL);
  g_autoptr (NfMsg) msg = nf_test_data (1, 1, FALSE);

  cr_assert_not (nf_hub_send (a->hub, "b", NF_LINK_OPS, msg));
  cr_assert_not (nf_hub_send (a->hub, "nobody", NF_LINK_BULK, msg));
  cr_assert_eq (nf_hub_queued (a->hub, "b", NF_LINK_OPS), 0);
  nf_test_hub_free (a);
}

Test (hub, bulk_keeps_its_order_across_the_switch, .timeout = 60)
{
  NfTestHub *a = nf_test_hub_new ("a", nf_test_map, NULL);
  NfTestHub *b = nf_test_hub_new ("b", nf_test_map, NULL);
  guint64 id = 0;

  nf_test_join (a, b, NF_LINK_OPS);
  cr_assert (nf_test_wait_up (a, 1) && nf_test_wait_up (b, 1));
  /* Arrive as OPS, whatever they were meant as. */
  for (; id < 50; id++)
    send_data (b, "a", NF_LINK_BULK, id, 5000);
  nf_test_join (a, b, NF_LINK_BULK);
  for (; id < 300; id++)
    {
      send_data (b, "a", NF_LINK_BULK, id, 5000);
      g_usleep (200);
    }
  cr_assert (nf_test_wait_bulk (a, "b") && nf_test_wait_bulk (b, "a"));
  for (; id < 400; id++)
    send_data (b, "a", NF_LINK_BULK, id, 100000);
  cr_assert (nf_test_wait_got (a, 400));
  cr_assert (a->got[NF_LINK_BULK]->len >= 100);
  assert_in_order (a, NF_LINK_OPS, 0, a->got[NF_LINK_OPS]->len);
  assert_in_order (a, NF_LINK_BULK, a->got[NF_LINK_OPS]->len, 400 - a->got[NF_LINK_OPS]->len);
  free_pair (a, b);
}

Test (hub, a_receiver_that_does_not_process_bounds_the_sender, .timeout = 60)
{
  NfTestHub *a = nf_test_hub_new ("a", nf_test_map, NULL);
  NfTestHub *b = nf_test_hub_new ("b", nf_test_map, NULL);
  guint got;
  guint n_drained;

  nf_test_join (a, b, NF_LINK_OPS);
  cr_assert (nf_test_wait_up (a, 1));
  for (guint i = 0; i < 160; i++) /* 16 MB; b keeps what it gets */
    send_data (a, "b", NF_LINK_OPS, i, 100000);
  cr_assert (nf_test_wait_got (b, NF_LINK_CREDIT_OPS / (100000 + 1000)));
  g_usleep (300 * 1000);
  pthread_mutex_lock (&b->lock);
  got = b->got[NF_LINK_OPS]->len;
  pthread_mutex_unlock (&b->lock);
  cr_assert (got * 100000 <= NF_LINK_CREDIT_OPS);
  cr_assert (nf_hub_queued (a->hub, "b", NF_LINK_OPS) > 10 * 1000 * 1000);
  n_drained = a->n_drained; /* nothing changes it while its queue is full */
  cr_assert (nf_hub_is_up (a->hub, "b"), "heartbeats go on");

  /* Freeing gives the credit back, until all is through. */
  while (nf_hub_queued (a->hub, "b", NF_LINK_OPS) > 0)
    {
      pthread_mutex_lock (&b->lock);
      g_ptr_array_set_size (b->got[NF_LINK_OPS], 0);
      pthread_mutex_unlock (&b->lock);
      g_usleep (1000);
    }
  cr_assert (nf_test_wait_got (b, 160));
  /* For OPS, and for BULK, which goes the same way here. */
  cr_assert (nf_test_wait_drained (a, n_drained + 2));
  cr_assert_eq (a->n_drained, n_drained + 2);
  free_pair (a, b);
}

Test (hub, a_message_may_outlive_its_link, .timeout = 30)
{
  NfTestHub *a = nf_test_hub_new ("a", nf_test_map, NULL);
  NfTestHub *b = nf_test_hub_new ("b", nf_test_map, NULL);
  g_autoptr (NfMsg) kept = NULL;

  nf_test_join (a, b, NF_LINK_OPS);
  cr_assert (nf_test_wait_up (a, 1));
  send_data (a, "b", NF_LINK_OPS, 5, 1000);
  cr_assert (nf_test_wait_got (b, 1));
  kept = g_ptr_array_steal_index (b->got[NF_LINK_OPS], 0);
  free_pair (a, b);
  cr_assert_eq (kept->fetched.id, 5);
}

Test (hub, stopping_is_seen_at_once_at_the_other_side, .timeout = 30)
{
  NfTestHub *a = nf_test_hub_new ("a", nf_test_map, NULL);
  NfTestHub *b = nf_test_hub_new ("b", nf_test_map, NULL);
  g_autofree char *reason = NULL;

  nf_test_join (a, b, NF_LINK_OPS);
  cr_assert (nf_test_wait_up (a, 1) && nf_test_wait_up (b, 1));
  nf_test_hub_free (a);
  cr_assert (nf_test_wait_down (b, 1));
  /* Not that nothing was heard. */
  reason = nf_test_reason (b);
  cr_assert (strstr (reason, "shutting down") != NULL, "%s", reason);
  nf_test_hub_free (b);
}

/* A peer made by hand: the far end of the accepting side's stream. */
static int
raw_peer (NfTestHub *accepter, const char *as)
{
  int fds[2];

  cr_assert_eq (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  nf_hub_accept (accepter->hub, as, fds[1], fds[1], -1, -1);
  return fds[0];
}

static void
raw_write (int fd, const void *data, gsize len)
{
  cr_assert_eq (write (fd, data, len), (ssize_t)len);
}

static void
raw_frame (int fd, guint8 flags, guint64 number, const NfMsg *msg)
{
  g_auto (NfBuf) buf = NF_BUF_INIT;
  guint8 head[NF_FRAME_HEAD_LEN];

  nf_msg_encode (msg, &buf);
  nf_frame_head_encode (&(NfFrameHead){ (guint32)buf.len, flags, number }, head);
  raw_write (fd, head, sizeof head);
  raw_write (fd, buf.data, buf.len);
}

static void
raw_lane (int fd)
{
  NfMsg msg = { .type = NF_MSG_LANE, .lane = { 1, 2, NF_LINK_OPS, 0, 1 } };

  raw_write (fd, NF_MAGIC, NF_MAGIC_LEN);
  raw_frame (fd, NF_FRAME_CONTROL, 0, &msg);
}

static NfMsg
raw_hello (void)
{
  NfMsg msg = { .type = NF_MSG_HELLO };

  msg.hello.version = NF_PROTO_VERSION;
  msg.hello.site = nf_slice_str ("a");
  msg.hello.to = nf_slice_str ("b");
  msg.hello.incarnation = 42;
  return msg;
}

/* Reads until the end; whether TEXT came. */
static gboolean
raw_ends_with (int fd, const char *text)
{
  g_autoptr (GByteArray) all = g_byte_array_new ();
  guint8 buffer[4096];
  ssize_t n;

  while ((n = read (fd, buffer, sizeof buffer)) > 0)
    g_byte_array_append (all, buffer, (guint)n);
  close (fd);
  return all->len > 0 && memmem (all->data, all->len, text, strlen (text)) != NULL;
}

Test (hub, a_silent_peer_is_dead_after_a_heartbeat, .timeout = 30)
{
  NfTestHub *b = nf_test_hub_new ("b", nf_test_map, "heartbeat = 1\n");
  int fd = raw_peer (b, "a");
  NfMsg hello = raw_hello ();
  gint64 start;

  /* The upper bounds are those of the waits: how long a busy machine takes is nobody's mistake. */
  start = g_get_monotonic_time ();
  raw_lane (fd);
  raw_frame (fd, 0, 0, &hello);
  cr_assert (nf_test_wait_up (b, 1));
  cr_assert (nf_test_wait_down (b, 1));
  cr_assert (g_get_monotonic_time () - start > 900 * 1000);
  assert_error (b, "a", "nothing was heard for 1.");
  cr_assert (raw_ends_with (fd, "nothing was heard"));
  nf_test_hub_free (b);
}

/* In a process of its own, which is stopped and goes on: no assertions here. Exits with 0 if both hubs took it as it was. */
static void G_GNUC_NORETURN
stand_still (int ready_fd, int go_fd)
{
  alarm (20);
  NfTestHub *a = nf_test_hub_new ("a", nf_test_map, "heartbeat = 1\n");
  NfTestHub *b = nf_test_hub_new ("b", nf_test_map, "heartbeat = 1\n");
  char byte = 0;

  nf_test_join (a, b, NF_LINK_OPS);
  if (!nf_test_wait_up (a, 1) || !nf_test_wait_up (b, 1) || write (ready_fd, &byte, 1) != 1
      || read (go_fd, &byte, 1) != 1)
    _exit (2);
  _exit (a->n_down == 0 && b->n_down == 0 ? 0 : 1);
}

Test (hub, a_machine_that_stood_still_does_not_take_its_peers_for_dead, .timeout = 30)
{
  int ready[2], go[2], status = 0;
  char byte = 0;

  cr_assert (pipe (ready) == 0 && pipe (go) == 0);
  pid_t child = fork ();
  if (child == 0)
    stand_still (ready[1], go[0]);
  cr_assert_gt (child, 0);
  cr_assert_eq (read (ready[0], &byte, 1), 1);
  cr_assert_eq (kill (child, SIGSTOP), 0);
  g_usleep (2500 * 1000); /* of heartbeats of one second */
  cr_assert_eq (kill (child, SIGCONT), 0);
  g_usleep (500 * 1000); /* who is taken for dead is that at once */
  cr_assert_eq (write (go[1], &byte, 1), 1);
  cr_assert_eq (waitpid (child, &status, 0), child);
  cr_assert (WIFEXITED (status) && WEXITSTATUS (status) == 0, "status %#x", status);
}

Test (hub, garbage_before_the_greeting_is_named, .timeout = 30)
{
  NfTestHub *b = nf_test_hub_new ("b", nf_test_map, NULL);
  int fd = raw_peer (b, "a");

  raw_write (fd, "Welcome to Debian\r\n", 19);
  assert_error (b, "a", "something else than nearfs talks there: \"W");
  cr_assert (raw_ends_with (fd, "something else than nearfs"));
  nf_test_hub_free (b);
}

Test (hub, another_version_is_named, .timeout = 30)
{
  NfTestHub *b = nf_test_hub_new ("b", nf_test_map, NULL);
  int fd = raw_peer (b, "a");

  raw_write (fd, "NEARFS 3\n", 9);
  assert_error (b, "a", "peer speaks protocol 3, this is 1");
  cr_assert (raw_ends_with (fd, "peer speaks protocol 3, this is 1"));
  nf_test_hub_free (b);
}

Test (hub, another_version_in_the_greeting_is_refused, .timeout = 30)
{
  NfTestHub *b = nf_test_hub_new ("b", nf_test_map, NULL);
  int fd = raw_peer (b, "a");
  NfMsg hello = raw_hello ();

  hello.hello.version = 9;
  raw_lane (fd);
  raw_frame (fd, 0, 0, &hello);
  assert_error (b, "a", "a speaks protocol 9, b speaks 1");
  cr_assert (raw_ends_with (fd, "a speaks protocol 9, b speaks 1"));
  nf_test_hub_free (b);
}

Test (hub, garbage_after_the_greeting_closes_the_link, .timeout = 30)
{
  NfTestHub *b = nf_test_hub_new ("b", nf_test_map, NULL);
  int fd = raw_peer (b, "a");
  NfMsg hello = raw_hello ();

  raw_lane (fd);
  raw_frame (fd, 0, 0, &hello);
  cr_assert (nf_test_wait_up (b, 1));
  raw_write (fd, "\x10\0\0\0garbage garbage garbage garbage", 34);
  cr_assert (nf_test_wait_down (b, 1));
  assert_error (b, "a", "garbage where a frame should begin");
  cr_assert (raw_ends_with (fd, "garbage where a frame should begin"));
  nf_test_hub_free (b);
}

Test (hub, an_oversized_frame_closes_the_link, .timeout = 30)
{
  NfTestHub *b = nf_test_hub_new ("b", nf_test_map, NULL);
  int fd = raw_peer (b, "a");
  NfMsg hello = raw_hello ();
  guint8 head[NF_FRAME_HEAD_LEN];

  raw_lane (fd);
  raw_frame (fd, 0, 0, &hello);
  nf_frame_head_encode (&(NfFrameHead){ NF_FRAME_MAX + 1, 0, 1 }, head);
  raw_write (fd, head, sizeof head);
  assert_error (b, "a", "more than the 1114112 allowed");
  cr_assert (raw_ends_with (fd, "allowed"));
  nf_test_hub_free (b);
}

Test (hub, a_peer_that_ignores_its_credit_is_hung_up_on, .timeout = 30)
{
  NfTestHub *b = nf_test_hub_new ("b", nf_test_map, NULL);
  int fd = raw_peer (b, "a");
  NfMsg hello = raw_hello ();
  g_autoptr (NfMsg) data = nf_test_data (1, 500000, TRUE);

  raw_lane (fd);
  raw_frame (fd, 0, 0, &hello);
  for (guint i = 1; i <= 9; i++)
    raw_frame (fd, 0, i, data);
  assert_error (b, "a", "beyond its credit");
  close (fd);
  nf_test_hub_free (b);
}

Test (hub, a_frame_number_twice_is_refused, .timeout = 30)
{
  NfTestHub *b = nf_test_hub_new ("b", nf_test_map, NULL);
  int fd = raw_peer (b, "a");
  NfMsg hello = raw_hello ();

  raw_lane (fd);
  raw_frame (fd, 0, 0, &hello);
  raw_frame (fd, 0, 0, &hello);
  assert_error (b, "a", "a frame number comes twice");
  close (fd);
  nf_test_hub_free (b);
}

Test (hub, messages_before_the_greeting_are_refused, .timeout = 30)
{
  NfTestHub *b = nf_test_hub_new ("b", nf_test_map, NULL);
  int fd = raw_peer (b, "a");
  NfMsg msg = { .type = NF_MSG_CANCEL };

  raw_lane (fd);
  raw_frame (fd, 0, 0, &msg);
  assert_error (b, "a", "CANCEL instead of a greeting");
  close (fd);
  nf_test_hub_free (b);
}

Test (hub, a_bulk_link_without_its_ops_link_is_refused, .timeout = 30)
{
  NfTestHub *a = nf_test_hub_new ("a", nf_test_map, NULL);
  NfTestHub *b = nf_test_hub_new ("b", nf_test_map, NULL);

  nf_test_join (a, b, NF_LINK_BULK);
  assert_error (a, "b", "a bulk connection without the ops connection");
  assert_error (b, "a", "a bulk connection without the ops connection");
  free_pair (a, b);
}

Test (hub, a_broken_bulk_link_takes_the_peer_down, .timeout = 30)
{
  NfTestHub *a = nf_test_hub_new ("a", nf_test_map, NULL);
  NfTestHub *b = nf_test_hub_new ("b", nf_test_map, NULL);
  int fds[2];

  nf_test_join (a, b, NF_LINK_OPS);
  cr_assert (nf_test_wait_up (a, 1) && nf_test_wait_up (b, 1));
  cr_assert_eq (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  nf_hub_accept (b->hub, "a", dup (fds[1]), fds[1], -1, -1);
  nf_hub_attach_fds (a->hub, "b", NF_LINK_BULK, dup (fds[0]), fds[0]);
  cr_assert (nf_test_wait_bulk (a, "b") && nf_test_wait_bulk (b, "a"));
  shutdown (fds[0], SHUT_RDWR);
  cr_assert (nf_test_wait_down (a, 1) && nf_test_wait_down (b, 1));
  free_pair (a, b);
}

Test (hub, the_key_is_the_site, .timeout = 30)
{
  NfTestHub *a = nf_test_hub_new ("a", nf_test_map, NULL);
  NfTestHub *b = nf_test_hub_new ("b", nf_test_map, NULL);

  nf_test_join_as (a, "b", b, "c", NF_LINK_OPS);
  assert_error (b, "c", "the key of site c is used by a site that calls itself a");
  assert_error (a, "b", "the key of site c is used by a site that calls itself a");
  cr_assert_eq (a->n_up + b->n_up, 0);
  free_pair (a, b);
}

Test (hub, a_greeting_to_somebody_else_is_refused, .timeout = 30)
{
  NfTestHub *a = nf_test_hub_new ("a", nf_test_map, NULL);
  NfTestHub *b = nf_test_hub_new ("b", nf_test_map, NULL);

  nf_test_join_as (b, "c", a, "b", NF_LINK_OPS);
  assert_error (a, "b", "b wants to talk to site c, but this is a");
  assert_error (b, "c", "b wants to talk to site c, but this is a");
  free_pair (a, b);
}

Test (hub, sites_that_share_nothing_are_refused, .timeout = 30)
{
  NfTestHub *b = nf_test_hub_new ("b", nf_test_map, NULL);

  cr_assert (raw_ends_with (raw_peer (b, "lonely"), "site lonely shares nothing with b"));
  cr_assert (raw_ends_with (raw_peer (b, "stranger"), "site stranger isn't in the map of b"));
  cr_assert (raw_ends_with (raw_peer (b, "b"), "the key is that of site b itself"));
  nf_test_hub_free (b);
}

Test (hub, the_upper_layer_may_refuse, .timeout = 30)
{
  NfTestHub *a = nf_test_hub_new ("a", nf_test_map, NULL);
  NfTestHub *b = nf_test_hub_new ("b", nf_test_map, NULL);

  b->refuse = g_strdup ("not today");
  nf_test_join (a, b, NF_LINK_OPS);
  assert_error (a, "b", "not today");
  cr_assert_eq (a->n_up, 0);
  cr_assert_eq (b->n_down, 0);
  free_pair (a, b);
}

Test (hub, a_second_site_of_one_name_is_refused_while_the_first_lives, .timeout = 30)
{
  NfTestHub *first = nf_test_hub_new ("a", nf_test_map, NULL);
  NfTestHub *second = nf_test_hub_new ("a", nf_test_map, NULL);
  NfTestHub *b = nf_test_hub_new ("b", nf_test_map, NULL);

  nf_test_join (first, b, NF_LINK_OPS);
  cr_assert (nf_test_wait_up (b, 1) && nf_test_wait_up (first, 1));
  nf_test_join (second, b, NF_LINK_OPS);
  assert_error (second, "b", "site a is already connected from elsewhere (incarnation ");
  cr_assert_eq (second->n_up, 0);
  cr_assert (nf_hub_is_up (b->hub, "a") && b->n_up == 1);
  nf_test_hub_free (second);
  free_pair (first, b);
}

Test (hub, a_second_site_of_one_name_replaces_a_dead_one, .timeout = 30)
{
  NfTestHub *second = nf_test_hub_new ("a", nf_test_map, NULL);
  NfTestHub *b = nf_test_hub_new ("b", nf_test_map, "heartbeat = 1\n");
  int fd = raw_peer (b, "a");
  NfMsg hello = raw_hello ();

  raw_lane (fd);
  raw_frame (fd, 0, 0, &hello);
  cr_assert (nf_test_wait_up (b, 1));
  nf_test_join (second, b, NF_LINK_OPS);
  cr_assert (nf_test_wait_up (b, 2) && nf_test_wait_up (second, 1));
  cr_assert_eq (b->n_down, 1);
  close (fd);
  free_pair (second, b);
}

Test (hub, the_same_daemon_replaces_its_older_link, .timeout = 30)
{
  NfTestHub *a = nf_test_hub_new ("a", nf_test_map, NULL);
  NfTestHub *b = nf_test_hub_new ("b", nf_test_map, NULL);

  nf_test_join (a, b, NF_LINK_OPS);
  cr_assert (nf_test_wait_up (b, 1) && nf_test_wait_up (a, 1));
  nf_test_join (a, b, NF_LINK_OPS);
  cr_assert (nf_test_wait_up (b, 2) && nf_test_wait_up (a, 2));
  cr_assert_eq (b->n_down, 1);
  send_data (a, "b", NF_LINK_OPS, 1, 10);
  cr_assert (nf_test_wait_got (b, 1));
  free_pair (a, b);
}

Test (hub, a_site_that_leaves_the_map_goes_down, .timeout = 30)
{
  NfTestHub *a = nf_test_hub_new ("a", nf_test_map, NULL);
  NfTestHub *b = nf_test_hub_new ("b", nf_test_map, NULL);
  static const char without_a[]
      = "[map]\nserial = 8\n[site b]\nssh = nobody@127.0.0.1\nport = 9\n[site c]\nssh = none\n"
        "[share s]\nmount = /s\nlocal = b:/srv/nf/s\nbroadcast = c:/srv/nf/c\n";
  g_autoptr (NfMap) map = nf_map_parse (without_a, sizeof without_a - 1, "without-a", NULL);

  cr_assert_not_null (map);
  nf_test_join (a, b, NF_LINK_OPS);
  cr_assert (nf_test_wait_up (b, 1) && nf_test_wait_up (a, 1));
  nf_hub_set_map (b->hub, map);
  cr_assert (nf_test_wait_down (b, 1) && nf_test_wait_down (a, 1));
  assert_error (a, "b", "removed from the map");
  nf_test_join (a, b, NF_LINK_OPS);
  assert_error (a, "b", "site a isn't in the map of b");
  nf_hub_set_map (b->hub, b->map);
  nf_test_join (a, b, NF_LINK_OPS);
  cr_assert (nf_test_wait_up (b, 2));
  free_pair (a, b);
}

/* What was said of a and c, as numbers. */
typedef struct
{
  NfPeerInfo a;
  NfPeerInfo c;
  gboolean software;
} Listed;

static void
keep_info (const NfPeerInfo *info, gpointer data)
{
  Listed *listed = data;

  if (strcmp (info->site, "a") == 0)
    listed->a = *info;
  else
    listed->c = *info;
  listed->software |= g_str_has_prefix (info->software, "nearfs ");
}

Test (hub, peers_can_be_listed, .timeout = 30)
{
  NfTestHub *a = nf_test_hub_new ("a", nf_test_map, "heartbeat = 2\n");
  NfTestHub *b = nf_test_hub_new ("b", nf_test_map, "heartbeat = 2\n");
  Listed listed = { .software = FALSE };

  nf_test_join (a, b, NF_LINK_OPS);
  cr_assert (nf_test_wait_up (a, 1) && nf_test_wait_up (b, 1));
  /* The round trip is known with the first heartbeat. */
  for (int i = 0; i < 2000 && listed.a.rtt_min_us == 0; i++)
    {
      g_usleep (10 * 1000);
      nf_hub_each (b->hub, keep_info, &listed);
    }
  cr_expect_eq (listed.c.state, NF_PEER_DOWN);
  cr_expect_eq (listed.a.state, NF_PEER_UP);
  cr_expect (listed.a.rtt_min_us > 0 && listed.a.rtt_min_us < G_USEC_PER_SEC);
  cr_expect (listed.a.bytes_in > 100 && listed.a.bytes_out > 100);
  cr_expect (listed.a.map_serial == 7 && !listed.a.map_differs && !listed.a.we_dial);
  cr_expect (listed.software && listed.a.since_us > 0);
  free_pair (a, b);
}
