// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "map/site.h"

static NfSiteConf *
parse (const char *text)
{
  g_autoptr (GError) error = NULL;
  NfSiteConf *conf = nf_site_conf_parse (text, strlen (text), "site.conf", &error);

  cr_assert (conf != NULL, "%s", error != NULL ? error->message : "no error");
  return conf;
}

/* A directory with the roots "in" and "in2" and with "out", which is none. */
typedef struct
{
  char *top;
  NfSiteConf *conf;
} Tree;

static char *
at (const Tree *tree, const char *rest)
{
  return g_build_filename (tree->top, rest, NULL);
}

static void
make_dir (const Tree *tree, const char *rest)
{
  g_autofree char *path = at (tree, rest);

  cr_assert_eq (g_mkdir_with_parents (path, 0700), 0);
}

static void
make_link (const Tree *tree, const char *target, const char *rest)
{
  g_autofree char *path = at (tree, rest);
  g_autofree char *to = at (tree, target);

  cr_assert_eq (symlink (to, path), 0);
}

static Tree
make_tree (void)
{
  Tree tree = { g_dir_make_tmp ("nf-map-XXXXXX", NULL), NULL };
  g_autofree char *text
      = g_strdup_printf ("[site]\nname = a\nroots = %s/in; %s/in2\n", tree.top, tree.top);

  make_dir (&tree, "in/real");
  make_dir (&tree, "in2");
  make_dir (&tree, "out/real");
  tree.conf = parse (text);
  return tree;
}

static void
remove_tree (Tree *tree)
{
  const char *argv[] = { "rm", "-rf", "--", tree->top, NULL };

  cr_expect (g_spawn_sync (NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL,
                           NULL, NULL));
  nf_site_conf_unref (tree->conf);
  g_free (tree->top);
}

/* fragment NULL: allowed. */
static void
expect_allows (const Tree *tree, const char *rest, const char *fragment)
{
  g_autofree char *dir = at (tree, rest);
  g_autoptr (GError) error = NULL;
  gboolean ok = nf_site_conf_allows (tree->conf, dir, &error);

  cr_expect_eq (ok, fragment == NULL, "%s: %s", rest, error != NULL ? error->message : "allowed");
  if (error != NULL && fragment != NULL)
    cr_expect (strstr (error->message, fragment) != NULL, "%s: %s", rest, error->message);
}

Test (site_conf, every_key_is_read_with_its_unit)
{
  g_autoptr (NfSiteConf) conf
      = parse ("[site]\nname = nyc\nmap = /m/server.map\nroots = /r1; /r2\nruntime = /run/x\n"
               "identity = /k1; /k2\nknown-hosts = /kh\nssh-config = /sc\ntransport = ssh\n"
               "call-timeout = 20\nheartbeat = 7\nwrite-buffer = 2\njournal-size = 3\n"
               "journal-age = 4\n");

  cr_expect_str_eq (conf->filename, "site.conf");
  cr_expect_str_eq (conf->name, "nyc");
  cr_expect_str_eq (conf->map, "/m/server.map");
  cr_expect_str_eq (conf->roots[1], "/r2");
  cr_expect_null (conf->roots[2]);
  cr_expect_str_eq (conf->runtime, "/run/x");
  cr_expect_str_eq (conf->identities[0], "/k1");
  cr_expect_str_eq (conf->identities[1], "/k2");
  cr_expect_str_eq (conf->known_hosts, "/kh");
  cr_expect_str_eq (conf->ssh_config, "/sc");
  cr_expect_eq (conf->transport, NF_TRANSPORT_SSH);
  cr_expect_eq (conf->call_timeout_ms, 20000);
  cr_expect_eq (conf->heartbeat_ms, 7000);
  cr_expect_eq (conf->write_buffer_bytes, 2 * 1024 * 1024);
  cr_expect_eq (conf->journal_size_bytes, 3 * 1024 * 1024);
  cr_expect_eq (conf->journal_age_s, 4 * 24 * 3600);
}

Test (site_conf, an_empty_file_is_all_defaults)
{
  g_autoptr (NfSiteConf) conf = parse ("");

  cr_expect_null (conf->name);
  cr_expect_eq (conf->transport, NF_TRANSPORT_LIBSSH);
  cr_expect_eq (conf->call_timeout_ms, 10000);
  cr_expect_eq (conf->heartbeat_ms, 5000);
  cr_expect_eq (conf->write_buffer_bytes, 64 * 1024 * 1024);
  cr_expect_eq (conf->journal_size_bytes, 256 * 1024 * 1024);
  cr_expect_eq (conf->journal_age_s, 30 * 24 * 3600);
  cr_expect_not_null (conf->roots[0]);
  cr_expect_null (conf->identities[0]);
  cr_expect_null (conf->known_hosts);
  cr_expect (g_str_has_prefix (conf->map, "/"));
  cr_expect (g_str_has_prefix (conf->runtime, "/"));
}

Test (site_conf, tilde_is_the_users_home_and_a_wrong_home_is_not_believed)
{
  g_autoptr (NfSiteConf) conf = NULL;
  g_autoptr (NfSiteConf) other = NULL;

  g_setenv ("HOME", "/home/ann", TRUE);
  conf = parse ("[site]\nroots = ~/data\n");
  cr_expect_str_eq (conf->home, "/home/ann");
  cr_expect_str_eq (conf->roots[0], "/home/ann/data");
  g_setenv ("HOME", "relative/../x", TRUE);
  other = parse ("[site]\nroots = ~/data\n");
  cr_expect (g_str_has_prefix (other->home, "/"), "%s", other->home);
}

Test (site_conf, the_default_heartbeat_follows_a_short_timeout)
{
  g_autoptr (NfSiteConf) conf = parse ("[site]\ncall-timeout = 2\n");

  cr_expect_eq (conf->heartbeat_ms, 2000);
}

Test (site_conf, wrong_files_are_refused_with_line_and_what_was_expected)
{
  static const struct
  {
    const char *text;
    guint line;
    const char *fragment;
  } wrong[] = {
    { "name = x\n", 1, "expected a [GROUP] before the first key" },
    { "[sites]\n", 1, "unknown group [sites]; expected [site]" },
    { "[site nyc]\n", 1, "unknown group [site nyc]; expected [site]" },
    { "[site]\n[site]\n", 2, "second group [site]" },
    { "[site]\nroot = /x\n", 2, "unknown key 'root' in [site]; did you mean 'roots'?" },
    { "[site]\nname = NYC\n", 2, "name: 'NYC'; expected a site's name" },
    { "[site]\nmap = server.map\n", 2, "map: 'server.map'; expected an absolute path" },
    { "[site]\nroots = /x; y\n", 2, "roots: 'y'; expected an absolute path" },
    { "[site]\nroots =\n", 2, "roots has an empty item" },
    { "[site]\nruntime = /x/\n", 2, "runtime: '/x/'; expected a path without" },
    { "[site]\ntransport = tcp\n", 2, "transport = tcp; expected libssh|ssh" },
    { "[site]\ncall-timeout = 0\n", 2, "expected a number from 1 to 3600" },
    { "[site]\nheartbeat = 61\n", 2, "expected a number from 1 to 60" },
    { "[site]\nheartbeat = 11\n", 2, "heartbeat = 11; expected at most call-timeout, which is 10" },
    { "[site]\nwrite-buffer = 0\n", 2, "expected a number from 1 to 65536" },
    { "[site]\njournal-size = 64M\n", 2, "journal-size = 64M; expected a number" },
    { "[site]\njournal-age = 3651\n", 2, "expected a number from 1 to 3650" },
  };

  for (gsize i = 0; i < G_N_ELEMENTS (wrong); i++)
    {
      g_autoptr (GError) error = NULL;
      g_autofree char *prefix = g_strdup_printf ("c:%u: ", wrong[i].line);

      cr_expect_null (nf_site_conf_parse (wrong[i].text, strlen (wrong[i].text), "c", &error));
      cr_assert (error != NULL, "accepted: %s", wrong[i].text);
      cr_expect (g_str_has_prefix (error->message, prefix), "%s", error->message);
      cr_expect (strstr (error->message, wrong[i].fragment) != NULL, "%s", error->message);
    }
}

Test (site_conf, a_named_file_that_is_missing_is_an_error)
{
  g_autoptr (GError) error = NULL;

  cr_expect_null (nf_site_conf_load ("/nonexistent/site.conf", &error));
  cr_expect (g_error_matches (error, NF_MAP_ERROR, NF_MAP_ERROR_READ));
}

Test (site_conf, the_maps_transport_wins)
{
  g_autoptr (NfSiteConf) conf = parse ("[site]\ntransport = ssh\n");
  NfMapSite silent = { .name = "a", .transport = NF_TRANSPORT_DEFAULT };
  NfMapSite says = { .name = "b", .transport = NF_TRANSPORT_LIBSSH };

  cr_expect_eq (nf_site_conf_transport (conf, &silent), NF_TRANSPORT_SSH);
  cr_expect_eq (nf_site_conf_transport (conf, &says), NF_TRANSPORT_LIBSSH);
}

Test (site_conf, only_what_lies_below_a_root_is_allowed)
{
  Tree tree = make_tree ();

  expect_allows (&tree, "in/real", NULL);
  expect_allows (&tree, "in/not/yet/there", NULL);
  expect_allows (&tree, "in2/x", NULL);
  expect_allows (&tree, "in", "isn't below an allowed root");
  expect_allows (&tree, "in3/x", "isn't below an allowed root");
  expect_allows (&tree, "out/real", "to 'roots' in [site] of site.conf");
  expect_allows (&tree, "in/../out/real", "expected a path without '.' and '..'");
  remove_tree (&tree);
}

Test (site_conf, no_symlink_leads_out_of_a_root)
{
  Tree tree = make_tree ();

  make_link (&tree, "out/real", "in/escape");
  make_link (&tree, "in2", "in/inside");
  make_link (&tree, "nowhere", "in/dangling");
  make_link (&tree, "in/loop", "in/loop");
  expect_allows (&tree, "in/escape", "is really ");
  expect_allows (&tree, "in/escape/not/yet", "out/real/not/yet, which isn't below");
  expect_allows (&tree, "in/inside/x", NULL);
  expect_allows (&tree, "in/inside", "which isn't below");
  expect_allows (&tree, "in/dangling/x", "can't be resolved");
  expect_allows (&tree, "in/loop/x", "can't be resolved");
  remove_tree (&tree);
}

Test (site_conf, a_root_may_itself_be_a_symlink)
{
  Tree tree = make_tree ();
  g_autofree char *text = g_strdup_printf ("[site]\nroots = %s/alias\n", tree.top);

  make_link (&tree, "out", "alias");
  nf_site_conf_unref (tree.conf);
  tree.conf = parse (text);
  expect_allows (&tree, "alias/real", NULL);
  expect_allows (&tree, "out/real", "isn't below an allowed root");
  remove_tree (&tree);
}

/* A map with two shares at site a, in these directories. */
static gboolean
check_site (const Tree *tree, const char *first, const char *second, GError **error)
{
  g_autofree char *text = g_strdup_printf ("[map]\nserial = 1\n[site a]\nssh = a\n"
                                           "[share s]\nmount = /s\nlocal = a:%s/%s\n"
                                           "[share t]\nmount = /t\nlocal = a:%s/%s\n",
                                           tree->top, first, tree->top, second);
  g_autoptr (NfMap) map = nf_map_parse (text, strlen (text), "m", error);

  cr_assert (map != NULL);
  return nf_map_check_site (map, tree->conf, error);
}

Test (site_conf, a_map_with_a_directory_outside_is_refused_naming_the_share)
{
  Tree tree = make_tree ();
  g_autoptr (GError) error = NULL;

  cr_expect (check_site (&tree, "in/s", "in/t", NULL));
  cr_expect_not (check_site (&tree, "in/s", "out/t", &error));
  cr_expect (g_str_has_prefix (error->message, "m:8: share 't': directory "), "%s", error->message);
  remove_tree (&tree);
}

Test (site_conf, directories_that_nest_through_a_symlink_are_refused)
{
  Tree tree = make_tree ();
  g_autoptr (GError) error = NULL;

  make_link (&tree, "in/real", "in/other");
  cr_expect_not (check_site (&tree, "in/real", "in/other/t", &error));
  cr_expect (strstr (error->message, "m:8: ") != NULL, "%s", error->message);
  cr_expect (strstr (error->message, "lies in ") != NULL, "%s", error->message);
  remove_tree (&tree);
}

Test (site_conf, a_map_without_this_site_is_refused)
{
  const char *text = "[map]\nserial = 1\n[site b]\nssh = b\n";
  g_autoptr (NfMap) map = nf_map_parse (text, strlen (text), "m", NULL);
  g_autoptr (NfSiteConf) unnamed = parse ("");
  g_autoptr (NfSiteConf) other = parse ("[site]\nname = a\n");
  g_autoptr (GError) error = NULL;

  cr_expect_not (nf_map_check_site (map, unnamed, NULL));
  cr_expect_not (nf_map_check_site (map, other, &error));
  cr_expect (g_error_matches (error, NF_MAP_ERROR, NF_MAP_ERROR_NO_SITE));
  cr_expect_str_eq (error->message,
                    "site.conf: name = a; expected the name of a site of the map m");
}
