// SPDX-License-Identifier: GPL-2.0-or-later
/* nf-link: a link between two sites, on one machine and without privileges.
 *
 * A TCP proxy that holds back what passes, as a line of the given delay and rate would.  The model:
 *
 *   reader -> wire (one per direction, shared by all connections) -> flight (per connection) -> writer
 *
 * A chunk that is read takes its turn on the wire, LEN / RATE long, and lands DELAY later.  Each chunk
 * carries the exact time of its landing, so rounding doesn't add up.  The wire is booked at most
 * WIRE_AHEAD_NS ahead, and connections take turns in booking it: they share the rate as through a
 * router with fair queues.  A full wire or flight stops the reading, so that the sender's TCP feels
 * the back-pressure.
 *
 * "cut" stops everything where it is and keeps the connections, so both ends see silence, not an
 * error; after "heal" all goes on, as TCP's retransmissions would make it.  Nothing is ever lost.
 *
 * One thread.  Sockets are edge-triggered: can_read and can_write say what epoll has told and the
 * socket not yet taken back with EAGAIN.  After each wake-up all connections are gone through; a link
 * has few.
 */
#include "config.h"

#include <errno.h>
#include <glib.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S G_GUINT64_CONSTANT (1000000000)
#define NS_PER_MS G_GUINT64_CONSTANT (1000000)

/* A router's queue: long enough that a late wake-up doesn't leave the wire idle. */
#define WIRE_AHEAD_NS (10 * NS_PER_MS)
/* The largest chunk.  Smaller on slow links: a chunk lands as a whole. */
#define CHUNK_MAX 65536
#define CHUNK_MIN 512
/* What may be in flight for one connection beyond rate x delay. */
#define FLIGHT_EXTRA (4 * 1024 * 1024)
/* The same with no rate given. */
#define FLIGHT_UNLIMITED (64 * 1024 * 1024)
/* What waits in the kernel in front of the wire: as little as keeps it busy. */
#define SOCKET_BUFFER (256 * 1024)

typedef struct
{
  guint64 due_ns;
  gsize len; /* 0: end of stream */
  gsize done;
  guint8 data[];
} Chunk;

typedef struct
{
  int fd;
  gboolean can_read;
  gboolean can_write;
} End;

/* One direction of a connection. */
typedef struct
{
  GQueue flight; /* of Chunk, by due_ns */
  gsize in_flight_bytes;
  gboolean read_eof;
  gboolean wrote_eof;
} Lane;

typedef struct
{
  End ends[2];   /* 0: who dialled us; 1: whom we dial, fd -1 until connect_ns */
  Lane lanes[2]; /* lanes[i] leads from ends[i] to the other */
  guint64 connect_ns;
  gboolean connecting;
} Connection;

typedef struct
{
  int epoll_fd;
  int listen_fd;
  int control_fd;
  int timer_fd;
  struct sockaddr_storage to;
  socklen_t to_len;

  guint64 delay_ns;
  guint64 rate; /* bytes a second; 0: not limited */
  gboolean is_cut;
  guint64 wire_free_ns[2];
  guint64 passed_bytes[2];
  GPtrArray *connections;
  guint turn; /* whose turn on the wire it is */
} Link;

static volatile sig_atomic_t stopped;

static void
on_signal (int number)
{
  stopped = 1;
}

G_GNUC_NORETURN static void
fail (const char *what)
{
  (void)fprintf (stderr, "nf-link: %s: %s\n", what, strerror (errno));
  exit (EXIT_FAILURE);
}

static guint64
now_ns (void)
{
  struct timespec ts;

  (void)clock_gettime (CLOCK_MONOTONIC, &ts);
  return (guint64)ts.tv_sec * NS_PER_S + (guint64)ts.tv_nsec;
}

static void
watch (Link *link, int fd, void *ptr, uint32_t events)
{
  struct epoll_event event = { .events = events, .data.ptr = ptr };

  if (epoll_ctl (link->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
    fail ("epoll_ctl");
}

/* Connections. */

/* abortive: both ends see ECONNRESET. */
static void
connection_free (Connection *connection, gboolean abortive)
{
  for (guint i = 0; i < 2; i++)
    {
      struct linger linger = { .l_onoff = 1, .l_linger = 0 };

      if (connection->ends[i].fd >= 0)
        {
          if (abortive)
            (void)setsockopt (connection->ends[i].fd, SOL_SOCKET, SO_LINGER, &linger,
                              sizeof linger);
          (void)close (connection->ends[i].fd);
        }
      g_queue_clear_full (&connection->lanes[i].flight, g_free);
    }
  g_free (connection);
}

static void
drop_connection (Link *link, Connection *connection, gboolean abortive)
{
  (void)g_ptr_array_remove (link->connections, connection);
  connection_free (connection, abortive);
}

static void
prepare_socket (int fd)
{
  int one = 1;
  int size = SOCKET_BUFFER;

  (void)setsockopt (fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  (void)setsockopt (fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
}

static void
accept_connections (Link *link)
{
  int fd;

  while ((fd = accept4 (link->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
    {
      Connection *connection = g_new0 (Connection, 1);

      prepare_socket (fd);
      connection->ends[0].fd = fd;
      connection->ends[1].fd = -1;
      /* The handshake that the dialling side thinks it already had. */
      connection->connect_ns = now_ns () + 2 * link->delay_ns;
      g_ptr_array_add (link->connections, connection);
      watch (link, fd, &connection->ends[0], EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    }
}

/* FALSE if the far end can't be reached. */
static gboolean
dial (Link *link, Connection *connection)
{
  int fd = socket (link->to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

  if (fd < 0)
    return FALSE;
  connection->ends[1].fd = fd;
  connection->connecting = TRUE;
  prepare_socket (fd);
  if (connect (fd, (struct sockaddr *)&link->to, link->to_len) < 0 && errno != EINPROGRESS)
    return FALSE;
  watch (link, fd, &connection->ends[1], EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
  return TRUE;
}

/* Moving bytes. */

static gsize
chunk_size (const Link *link)
{
  if (link->rate == 0)
    return CHUNK_MAX;
  return CLAMP (link->rate * (WIRE_AHEAD_NS / 4) / NS_PER_S, CHUNK_MIN, CHUNK_MAX);
}

static gsize
flight_limit (const Link *link)
{
  if (link->rate == 0)
    return FLIGHT_UNLIMITED;
  return (gsize)((double)link->rate * (double)link->delay_ns / (double)NS_PER_S) + FLIGHT_EXTRA;
}

/* When a chunk that is read now lands. */
static guint64
book_wire (Link *link, guint direction, gsize len)
{
  guint64 *free_ns = &link->wire_free_ns[direction];

  *free_ns = MAX (*free_ns, now_ns ());
  if (link->rate > 0)
    *free_ns += (guint64)((double)len * (double)NS_PER_S / (double)link->rate);
  link->passed_bytes[direction] += len;
  return *free_ns + link->delay_ns;
}

static gboolean
wants_to_read (const Link *link, const Connection *connection, guint direction)
{
  const Lane *lane = &connection->lanes[direction];

  return connection->ends[direction].fd >= 0 && connection->ends[direction].can_read
         && !lane->read_eof && lane->in_flight_bytes < flight_limit (link);
}

/* Reads one chunk.  FALSE on a broken connection. */
static gboolean
read_chunk (Link *link, Connection *connection, guint direction)
{
  static guint8 buffer[CHUNK_MAX];
  End *end = &connection->ends[direction];
  Lane *lane = &connection->lanes[direction];
  ssize_t n = read (end->fd, buffer, chunk_size (link));
  Chunk *last = g_queue_peek_tail (&lane->flight);
  Chunk *chunk;

  if (n < 0)
    {
      end->can_read = FALSE;
      return errno == EAGAIN || errno == EINTR;
    }
  chunk = g_malloc (sizeof *chunk + (gsize)n);
  chunk->len = (gsize)n;
  chunk->done = 0;
  chunk->due_ns = book_wire (link, direction, chunk->len);
  /* A delay that was lowered meanwhile lets nothing overtake. */
  if (last != NULL && chunk->due_ns < last->due_ns)
    chunk->due_ns = last->due_ns;
  memcpy (chunk->data, buffer, chunk->len);
  g_queue_push_tail (&lane->flight, chunk);
  lane->in_flight_bytes += chunk->len;
  lane->read_eof = n == 0;
  return TRUE;
}

/* Writes what has landed.  FALSE on a broken connection. */
static gboolean
land_chunks (Connection *connection, guint direction, guint64 now)
{
  End *end = &connection->ends[1 - direction];
  Lane *lane = &connection->lanes[direction];
  Chunk *chunk;

  while (end->fd >= 0 && end->can_write && (chunk = g_queue_peek_head (&lane->flight)) != NULL
         && chunk->due_ns <= now)
    {
      if (chunk->len == 0)
        {
          (void)shutdown (end->fd, SHUT_WR);
          lane->wrote_eof = TRUE;
        }
      else
        {
          ssize_t n
              = send (end->fd, chunk->data + chunk->done, chunk->len - chunk->done, MSG_NOSIGNAL);

          if (n < 0)
            {
              end->can_write = FALSE;
              return errno == EAGAIN || errno == EINTR;
            }
          chunk->done += (gsize)n;
          lane->in_flight_bytes -= (gsize)n;
          if (chunk->done < chunk->len)
            continue;
        }
      g_free (g_queue_pop_head (&lane->flight));
    }
  return TRUE;
}

static gboolean
dial_when_due (Link *link, Connection *connection, guint64 now)
{
  End *far = &connection->ends[1];
  int error = 0;
  socklen_t len = sizeof error;

  if (far->fd < 0)
    return connection->connect_ns > now || dial (link, connection);
  if (connection->connecting && far->can_write)
    {
      (void)getsockopt (far->fd, SOL_SOCKET, SO_ERROR, &error, &len);
      connection->connecting = FALSE;
    }
  return error == 0;
}

/* Gives each connection in turn the wire for one chunk, until it is booked or nobody wants it. */
static void
fill_wire (Link *link, guint direction)
{
  guint idle = 0;

  while (link->connections->len > 0 && idle < link->connections->len
         && link->wire_free_ns[direction] < now_ns () + WIRE_AHEAD_NS)
    {
      Connection *connection
          = g_ptr_array_index (link->connections, link->turn++ % link->connections->len);

      if (!wants_to_read (link, connection, direction))
        idle++;
      else
        {
          idle = 0;
          if (!read_chunk (link, connection, direction))
            drop_connection (link, connection, TRUE);
        }
    }
}

static void
move_bytes (Link *link)
{
  guint64 now = now_ns ();

  fill_wire (link, 0);
  fill_wire (link, 1);
  /* Backwards, as a connection that ends is removed. */
  for (guint i = link->connections->len; i-- > 0;)
    {
      Connection *connection = g_ptr_array_index (link->connections, i);

      if (!dial_when_due (link, connection, now) || !land_chunks (connection, 0, now)
          || !land_chunks (connection, 1, now))
        drop_connection (link, connection, TRUE);
      else if (connection->lanes[0].wrote_eof && connection->lanes[1].wrote_eof)
        drop_connection (link, connection, FALSE);
    }
}

/* When there is something to do that no socket will tell; 0: never. */
static guint64
next_wakeup_ns (Link *link)
{
  guint64 next = G_MAXUINT64;

  for (guint i = 0; i < link->connections->len; i++)
    {
      Connection *connection = g_ptr_array_index (link->connections, i);

      if (connection->ends[1].fd < 0)
        next = MIN (next, connection->connect_ns);
      for (guint direction = 0; direction < 2; direction++)
        {
          Chunk *chunk = g_queue_peek_head (&connection->lanes[direction].flight);
          End *to = &connection->ends[1 - direction];

          if (chunk != NULL && to->fd >= 0 && to->can_write)
            next = MIN (next, chunk->due_ns);
          if (wants_to_read (link, connection, direction))
            next = MIN (next, link->wire_free_ns[direction]
                                  - MIN (WIRE_AHEAD_NS / 2, link->wire_free_ns[direction]));
        }
    }
  return next == G_MAXUINT64 ? 0 : MAX (next, 1);
}

static void
arm_timer (Link *link)
{
  guint64 next = link->is_cut ? 0 : next_wakeup_ns (link);
  struct itimerspec spec = { 0 };

  spec.it_value.tv_sec = (time_t)(next / NS_PER_S);
  spec.it_value.tv_nsec = (long)(next % NS_PER_S);
  if (timerfd_settime (link->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL) < 0)
    fail ("timerfd_settime");
}

/* Commands. */

static void
reset_all (Link *link)
{
  while (link->connections->len > 0)
    drop_connection (link, g_ptr_array_index (link->connections, 0), TRUE);
}

/* The answer; the caller frees it. */
static char *
obey (Link *link, const char *line)
{
  guint64 number = 0;
  double ms = 0;
  char rest;

  if (sscanf (line, "delay %lf%c", &ms, &rest) == 1 && ms >= 0 && ms < 1e6)
    link->delay_ns = (guint64)(ms * NS_PER_MS);
  else if (sscanf (line, "rate %" G_GUINT64_FORMAT "%c", &number, &rest) == 1)
    {
      link->rate = number;
      /* What the old rate had booked doesn't hold up the new one. */
      link->wire_free_ns[0] = link->wire_free_ns[1] = now_ns ();
    }
  else if (strcmp (line, "cut") == 0)
    link->is_cut = TRUE;
  else if (strcmp (line, "heal") == 0)
    link->is_cut = FALSE;
  else if (strcmp (line, "reset") == 0)
    reset_all (link);
  else if (strcmp (line, "stats") == 0)
    return g_strdup_printf ("ok connections=%u up=%" G_GUINT64_FORMAT " down=%" G_GUINT64_FORMAT
                            " delay_ms=%g rate=%" G_GUINT64_FORMAT " cut=%d\n",
                            link->connections->len, link->passed_bytes[0], link->passed_bytes[1],
                            (double)link->delay_ns / NS_PER_MS, link->rate, link->is_cut);
  else
    return g_strdup_printf ("error: unknown command \"%s\"\n", line);
  return g_strdup ("ok\n");
}

/* One command a connection.  The client is our own test script, which doesn't dawdle. */
static void
accept_command (Link *link)
{
  struct timeval patience = { .tv_sec = 1 };
  int fd = accept4 (link->control_fd, NULL, NULL, SOCK_CLOEXEC);
  char line[256];
  ssize_t n;

  if (fd < 0)
    return;
  (void)setsockopt (fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  n = recv (fd, line, sizeof line - 1, 0);
  if (n > 0)
    {
      g_autofree char *answer = NULL;

      line[n] = '\0';
      line[strcspn (line, "\n")] = '\0';
      answer = obey (link, line);
      (void)send (fd, answer, strlen (answer), MSG_NOSIGNAL);
    }
  (void)close (fd);
}

static void
fill_unix_address (struct sockaddr_un *address, const char *path)
{
  *address = (struct sockaddr_un){ .sun_family = AF_UNIX };
  if (g_strlcpy (address->sun_path, path, sizeof address->sun_path) >= sizeof address->sun_path)
    {
      errno = ENAMETOOLONG;
      fail (path);
    }
}

static int
send_command (const char *path, const char *command)
{
  struct sockaddr_un address;
  int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  g_autofree char *line = g_strconcat (command, "\n", NULL);
  char answer[512];
  ssize_t n;

  fill_unix_address (&address, path);
  if (fd < 0 || connect (fd, (struct sockaddr *)&address, sizeof address) < 0)
    fail (path);
  if (send (fd, line, strlen (line), MSG_NOSIGNAL) < 0
      || (n = recv (fd, answer, sizeof answer - 1, MSG_WAITALL)) < 0)
    fail (path);
  answer[n] = '\0';
  (void)fputs (answer, stdout);
  (void)close (fd);
  return g_str_has_prefix (answer, "ok") ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* Starting and the loop. */

static void
resolve (const char *host_port, struct sockaddr_storage *ret_address, socklen_t *ret_len)
{
  struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST };
  struct addrinfo *found = NULL;
  const char *colon = strrchr (host_port, ':');
  g_autofree char *host = colon ? g_strndup (host_port, (gsize)(colon - host_port)) : NULL;

  if (colon == NULL || getaddrinfo (host, colon + 1, &hints, &found) != 0)
    {
      (void)fprintf (stderr, "nf-link: \"%s\" is not ADDRESS:PORT\n", host_port);
      exit (2);
    }
  memcpy (ret_address, found->ai_addr, found->ai_addrlen);
  *ret_len = found->ai_addrlen;
  freeaddrinfo (found);
}

/* Says on stdout where it listens, as port 0 lets the kernel choose; the caller waits for the line. */
static int
listen_tcp (const char *host_port)
{
  struct sockaddr_storage address;
  socklen_t len;
  int one = 1;
  int fd;
  char host[NI_MAXHOST];
  char port[NI_MAXSERV];

  resolve (host_port, &address, &len);
  fd = socket (address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0 || setsockopt (fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0
      || bind (fd, (struct sockaddr *)&address, len) < 0 || listen (fd, 128) < 0)
    fail (host_port);
  len = sizeof address;
  if (getsockname (fd, (struct sockaddr *)&address, &len) < 0
      || getnameinfo ((struct sockaddr *)&address, len, host, sizeof host, port, sizeof port,
                      NI_NUMERICHOST | NI_NUMERICSERV)
             != 0)
    fail ("getsockname");
  (void)printf ("listening %s:%s\n", host, port);
  (void)fflush (stdout);
  return fd;
}

static int
listen_control (const char *path)
{
  struct sockaddr_un address;
  int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

  fill_unix_address (&address, path);
  (void)unlink (path);
  if (fd < 0 || bind (fd, (struct sockaddr *)&address, sizeof address) < 0 || listen (fd, 16) < 0)
    fail (path);
  return fd;
}

static void
note_event (Link *link, const struct epoll_event *event)
{
  guint64 expirations;
  End *end = event->data.ptr;

  if (event->data.ptr == &link->listen_fd)
    accept_connections (link);
  else if (event->data.ptr == &link->control_fd)
    accept_command (link);
  else if (event->data.ptr == &link->timer_fd)
    (void)!read (link->timer_fd, &expirations, sizeof expirations); /* only clears it */
  else
    {
      end->can_read |= (event->events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
      end->can_write |= (event->events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0;
    }
}

static void
run (Link *link)
{
  struct epoll_event events[64];

  link->epoll_fd = epoll_create1 (EPOLL_CLOEXEC);
  link->timer_fd = timerfd_create (CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  if (link->epoll_fd < 0 || link->timer_fd < 0)
    fail ("epoll_create1");
  watch (link, link->listen_fd, &link->listen_fd, EPOLLIN);
  watch (link, link->timer_fd, &link->timer_fd, EPOLLIN);
  if (link->control_fd >= 0)
    watch (link, link->control_fd, &link->control_fd, EPOLLIN);
  while (!stopped)
    {
      int n = epoll_wait (link->epoll_fd, events, G_N_ELEMENTS (events), -1);
      gboolean command = FALSE;

      if (n < 0 && errno != EINTR)
        fail ("epoll_wait");
      /* A command may free connections that the other events point to: it goes last. */
      for (int i = 0; i < n; i++)
        if (events[i].data.ptr == &link->control_fd)
          command = TRUE;
        else
          note_event (link, &events[i]);
      if (command)
        accept_command (link);
      if (!link->is_cut)
        move_bytes (link);
      arm_timer (link);
    }
}

int
main (int argc, char **argv)
{
  g_autofree char *listen_on = NULL;
  g_autofree char *to = NULL;
  g_autofree char *control = NULL;
  g_autofree char *ctl = NULL;
  double delay_ms = 0;
  gint64 rate = 0;
  const GOptionEntry entries[] = {
    { "listen", 0, 0, G_OPTION_ARG_STRING, &listen_on, "Where to listen; port 0: any",
      "ADDR:PORT" },
    { "to", 0, 0, G_OPTION_ARG_STRING, &to, "Where the link leads", "ADDR:PORT" },
    { "delay", 0, 0, G_OPTION_ARG_DOUBLE, &delay_ms, "One way, so half of the RTT", "MS" },
    { "rate", 0, 0, G_OPTION_ARG_INT64, &rate, "Bytes a second each way; 0: no limit", "N" },
    { "control", 0, 0, G_OPTION_ARG_FILENAME, &control, "Unix socket for commands", "SOCKET" },
    { "ctl", 0, 0, G_OPTION_ARG_FILENAME, &ctl, "Send COMMAND to a running nf-link", "SOCKET" },
    { 0 },
  };
  g_autoptr (GOptionContext) context = g_option_context_new ("[COMMAND…]");
  g_autoptr (GError) error = NULL;
  Link link = { .control_fd = -1 };

  g_option_context_add_main_entries (context, entries, NULL);
  g_option_context_set_summary (
      context, "Commands: delay MS, rate N, cut, heal, reset (all connections), stats");
  if (!g_option_context_parse (context, &argc, &argv, &error) || (!ctl && (!listen_on || !to))
      || delay_ms < 0 || delay_ms >= 1e6 || rate < 0)
    {
      (void)fprintf (stderr, "nf-link: %s; see --help\n", error ? error->message : "usage");
      return 2;
    }
  if (ctl)
    {
      g_autofree char *command = g_strjoinv (" ", argv + 1);

      return send_command (ctl, command);
    }

  (void)signal (SIGTERM, on_signal);
  (void)signal (SIGINT, on_signal);
  link.delay_ns = (guint64)(delay_ms * NS_PER_MS);
  link.rate = (guint64)rate;
  link.connections = g_ptr_array_new ();
  resolve (to, &link.to, &link.to_len);
  /* The control socket first: who has read the line on stdout can use it. */
  if (control)
    link.control_fd = listen_control (control);
  link.listen_fd = listen_tcp (listen_on);
  run (&link);
  reset_all (&link);
  g_ptr_array_unref (link.connections);
  if (control)
    (void)unlink (control);
  return EXIT_SUCCESS;
}
