// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net/accept.h"
#include "net/relay.h"
#include "tests/net-help.h"

/* The daemon's socket. */

typedef struct
{
  char *runtime;
  NfTestHub *hub;
  NfAccept *accept;
  pthread_mutex_t lock;
  char *line; /* guarded by lock */
  int fd;     /* guarded by lock */
} Site;

static void
on_control (gpointer data, int fd, char *line)
{
  Site *site = data;

  pthread_mutex_lock (&site->lock);
  site->line = line;
  site->fd = fd;
  pthread_mutex_unlock (&site->lock);
}

static void
site_open (Site *site)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *dir = g_dir_make_tmp ("nf-accept-XXXXXX", NULL);

  *site = (Site){ .fd = -1 };
  pthread_mutex_init (&site->lock, NULL);
  site->runtime = g_build_filename (dir, "run", NULL);
  site->hub = nf_test_hub_new ("b", nf_test_map, NULL);
  site->accept = nf_accept_new (site->runtime, site->hub->hub, on_control, site, &error);
  cr_assert_not_null (site->accept, "%s", error == NULL ? "" : error->message);
}

static void
site_close (Site *site)
{
  g_autofree char *dir = g_path_get_dirname (site->runtime);

  nf_accept_free (site->accept);
  nf_test_hub_free (site->hub);
  (void)rmdir (site->runtime);
  (void)rmdir (dir);
  pthread_mutex_destroy (&site->lock);
  g_free (site->runtime);
  g_free (site->line);
}

/* Whether the other side hangs up within five seconds. */
static gboolean
hangs_up (int fd)
{
  struct timeval patience = { .tv_sec = 5 };
  char byte;

  setsockopt (fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  return read (fd, &byte, 1) == 0;
}

static int
connect_and_say (const Site *site, const char *text)
{
  int fd = nf_accept_connect (site->runtime, NULL);

  cr_assert_geq (fd, 0);
  cr_assert_eq (write (fd, text, strlen (text)), (ssize_t)strlen (text));
  return fd;
}

Test (accept, requests_go_to_the_control_callback, .timeout = 30)
{
  Site site;
  int fd;
  char answer[8] = "";

  site_open (&site);
  fd = connect_and_say (&site, "{\"verb\":\"status\"}\nmore");
  for (int i = 0; i < 500; i++)
    {
      pthread_mutex_lock (&site.lock);
      i = site.line != NULL ? 500 : i;
      pthread_mutex_unlock (&site.lock);
      g_usleep (10 * 1000);
    }
  cr_assert_str_eq (site.line, "{\"verb\":\"status\"}");
  /* What followed the line is still there, and the descriptor blocks. */
  cr_assert_eq (read (site.fd, answer, sizeof answer), 4);
  cr_assert_str_eq (answer, "more");
  cr_assert_not (fcntl (site.fd, F_GETFL) & O_NONBLOCK);
  close (site.fd);
  close (fd);
  site_close (&site);
}

Test (accept, anything_else_is_hung_up_on, .timeout = 60)
{
  static const char *const lines[] = { "hello\n", "\n", "relay a\n", NULL };
  Site site;

  site_open (&site);
  for (int i = 0; lines[i] != NULL; i++)
    {
      int fd = connect_and_say (&site, lines[i]);

      cr_assert (hangs_up (fd), "%s", lines[i]);
      close (fd);
    }
  cr_assert_null (site.line);
  site_close (&site);
}

Test (accept, who_says_nothing_is_hung_up_on, .timeout = 60)
{
  Site site;
  int fd;
  struct timeval patience = { .tv_sec = 20 };
  char byte;

  site_open (&site);
  fd = connect_and_say (&site, "{never ended");
  setsockopt (fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  cr_assert_eq (read (fd, &byte, 1), 0);
  close (fd);
  site_close (&site);
}

Test (accept, a_second_daemon_is_refused_and_a_dead_ones_socket_replaced, .timeout = 30)
{
  Site site;
  g_autoptr (GError) error = NULL;
  g_autofree char *path = NULL;
  int fd;

  site_open (&site);
  cr_assert_null (nf_accept_new (site.runtime, site.hub->hub, NULL, NULL, &error));
  cr_assert (strstr (error->message, "a nearfs daemon runs here already") != NULL);

  nf_accept_free (site.accept);
  path = g_build_filename (site.runtime, "relay.sock", NULL);
  cr_assert_not (g_file_test (path, G_FILE_TEST_EXISTS));
  g_clear_error (&error);
  cr_assert_eq (nf_accept_connect (site.runtime, &error), -1);
  cr_assert (strstr (error->message, "no nearfs daemon runs here") != NULL);
  cr_assert (g_file_set_contents (path, "", 0, NULL));
  g_clear_error (&error);
  site.accept = nf_accept_new (site.runtime, site.hub->hub, on_control, &site, &error);
  cr_assert_not_null (site.accept);
  fd = nf_accept_connect (site.runtime, NULL);
  cr_assert_geq (fd, 0);
  close (fd);
  site_close (&site);
}

Test (accept, a_directory_that_others_can_enter_is_refused, .timeout = 30)
{
  Site site;
  g_autoptr (GError) error = NULL;

  site_open (&site);
  nf_accept_free (site.accept);
  cr_assert_eq (chmod (site.runtime, 0755), 0);
  cr_assert_null (nf_accept_new (site.runtime, site.hub->hub, NULL, NULL, &error));
  cr_assert (strstr (error->message, "mode 0700") != NULL);
  cr_assert_eq (chmod (site.runtime, 0700), 0);
  site.accept = nf_accept_new (site.runtime, site.hub->hub, NULL, NULL, NULL);
  site_close (&site);
}

/* Runs the relay for site a in a child whose standard input and output are FD. */
static pid_t
start_relay (const Site *site, int fd, int err_fd)
{
  g_autofree char *text
      = g_strdup_printf ("[site]\nname = b\nroots = /srv/nf\nruntime = %s\n", site->runtime);
  NfSiteConf *conf = nf_site_conf_parse (text, strlen (text), "conf", NULL);
  pid_t pid;

  cr_assert_not_null (conf);
  pid = fork ();
  if (pid == 0)
    {
      dup2 (fd, STDIN_FILENO);
      dup2 (fd, STDOUT_FILENO);
      dup2 (err_fd, STDERR_FILENO);
      closefrom (STDERR_FILENO + 1);
      _exit (nf_relay_run (conf, "a"));
    }
  nf_site_conf_unref (conf);
  return pid;
}

Test (accept, a_relay_joins_two_sites_and_ends_with_the_link, .timeout = 60)
{
  Site site;
  NfTestHub *a = nf_test_hub_new ("a", nf_test_map, NULL);
  int fds[2];
  int status = -1;
  pid_t pid;

  site_open (&site);
  cr_assert_eq (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  pid = start_relay (&site, fds[1], STDERR_FILENO);
  close (fds[1]);
  nf_hub_attach_fds (a->hub, "b", NF_LINK_OPS, fds[0], fds[0]);
  cr_assert (nf_test_wait_up (a, 1) && nf_test_wait_up (site.hub, 1));
  nf_test_hub_free (a);
  cr_assert (nf_test_wait_down (site.hub, 1));
  cr_assert_eq (waitpid (pid, &status, 0), pid);
  cr_assert_eq (status, 0);
  site_close (&site);
}

Test (accept, a_relay_that_is_killed_ends_the_link, .timeout = 60)
{
  Site site;
  NfTestHub *a = nf_test_hub_new ("a", nf_test_map, NULL);
  int fds[2];
  pid_t pid;

  site_open (&site);
  cr_assert_eq (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  pid = start_relay (&site, fds[1], STDERR_FILENO);
  close (fds[1]);
  nf_hub_attach_fds (a->hub, "b", NF_LINK_OPS, fds[0], fds[0]);
  cr_assert (nf_test_wait_up (a, 1) && nf_test_wait_up (site.hub, 1));
  cr_assert_eq (kill (pid, SIGKILL), 0);
  cr_assert (nf_test_wait_down (site.hub, 1) && nf_test_wait_down (a, 1));
  cr_assert_eq (waitpid (pid, NULL, 0), pid);
  nf_test_hub_free (a);
  site_close (&site);
}

Test (accept, a_relay_without_a_daemon_says_so, .timeout = 30)
{
  Site site;
  int out[2];
  int err[2];
  int status = 0;
  char text[256] = "";
  pid_t pid;

  site_open (&site);
  nf_accept_free (site.accept);
  cr_assert (socketpair (AF_UNIX, SOCK_STREAM, 0, out) == 0 && pipe (err) == 0);
  pid = start_relay (&site, out[1], err[1]);
  cr_assert_eq (waitpid (pid, &status, 0), pid);
  cr_assert (WIFEXITED (status) && WEXITSTATUS (status) == 1);
  cr_assert_gt (read (err[0], text, sizeof text - 1), 0);
  cr_assert (g_str_has_prefix (text, "nearfs relay: no nearfs daemon runs here ("), "%s", text);
  site.accept = nf_accept_new (site.runtime, site.hub->hub, NULL, NULL, NULL);
  site_close (&site);
}
