// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>
#include <string.h>

#include "map/map.h"

/* Ten lines; a and b can be dialled, c and d can't. */
#define SITES                                                   \
  "[map]\nserial = 1\n[site a]\nssh = a\n[site b]\nssh = u@b\n" \
  "[site c]\nssh = none\n[site d]\nssh = none\n"
/* Lines 11 to 13; further keys begin in line 14. */
#define SHARE SITES "[share s]\nmount = /s\nlocal = a:/srv/s\n"

#define HEX_SIZE (2 * NF_MAP_DIGEST_SIZE + 1)

static NfMap *
parse (const char *text)
{
  g_autoptr (GError) error = NULL;
  NfMap *map = nf_map_parse (text, strlen (text), "f", &error);

  cr_assert (map != NULL, "%s", error != NULL ? error->message : "no error");
  return map;
}

static const char *
digest (const char *text, char ret_hex[HEX_SIZE])
{
  g_autoptr (NfMap) map = parse (text);

  for (int i = 0; i < NF_MAP_DIGEST_SIZE; i++)
    g_snprintf (ret_hex + 2 * i, 3, "%02x", nf_map_digest (map)[i]);
  return ret_hex;
}

/* The design's own example. */
static const char *const example
    = "    [map]\n"
      "    serial = 7\n"
      "\n"
      "    [site london]\n"
      "    ssh = nearfs@london.example.com        # ssh_config aliases work\n"
      "\n"
      "    [site nyc]\n"
      "    ssh = nearfs@nyc.example.com\n"
      "\n"
      "    [site ws7]                             # a workstation that only dials out\n"
      "    ssh = none\n"
      "\n"
      "    [share projects]\n"
      "    mount     = /projects                  # where in the namespace\n"
      "    local     = london:/srv/projects       # the primary copy\n"
      "    broadcast = nyc:/var/lib/nearfs/projects; ws7:~/nearfs/projects\n"
      "    writers   = nyc; ws7                   # default: all sites of the share\n";

Test (map, example_is_read_as_it_stands)
{
  g_autoptr (NfMap) map = parse (example);
  const NfMapShare *share = nf_map_share (map, "projects");
  g_autofree char *dir = NULL;

  cr_assert (share != NULL);
  dir = nf_map_dir (map, share, "ws7", "/home/u");
  cr_expect_eq (nf_map_serial (map), 7);
  cr_expect_eq (nf_map_n_sites (map), 3);
  cr_expect_eq (nf_map_n_shares (map), 1);
  cr_expect_str_eq (nf_map_site (map, "london")->ssh, "nearfs@london.example.com");
  cr_expect_null (nf_map_site (map, "ws7")->ssh);
  cr_expect_null (nf_map_site (map, "ws"));
  cr_expect_str_eq (share->mount, "/projects");
  cr_expect_str_eq (share->local.site, "london");
  cr_expect_str_eq (share->local.dir, "/srv/projects");
  cr_expect_eq (share->n_broadcast, 2);
  cr_expect_str_eq (dir, "/home/u/nearfs/projects");
  cr_expect_null (nf_map_warnings (map)[0]);
}

Test (map, sites_and_shares_come_in_name_order_wherever_they_stand)
{
  g_autoptr (NfMap) map = parse ("[share z]\nmount=/z\nlocal=b:/z\n[site b]\nssh=b\n"
                                 "[share A]\nmount=/a\nlocal=a:/z\n[site a]\nssh=a\n"
                                 "[map]\nserial=1");

  cr_expect_str_eq (nf_map_site_at (map, 0)->name, "a");
  cr_expect_str_eq (nf_map_site_at (map, 1)->name, "b");
  cr_expect_str_eq (nf_map_share_at (map, 0)->name, "A");
  cr_expect_str_eq (nf_map_share_at (map, 1)->name, "z");
}

Test (map, escapes_give_blanks_semicolons_and_hashes)
{
  g_autoptr (NfMap) map = parse (SHARE "broadcast = b:/x\\;y\\sz\\\\;  c:/w\\s#1 2;  # end\n");
  const NfMapShare *share = nf_map_share (map, "s");

  cr_assert_eq (share->n_broadcast, 2);
  cr_expect_str_eq (share->broadcast[0].dir, "/x;y z\\");
  cr_expect_str_eq (share->broadcast[1].dir, "/w #1 2");
}

Test (map, lines_may_end_in_crlf_and_the_last_in_nothing)
{
  g_autoptr (NfMap) map = parse ("[map]\r\nserial = 3\r\n[site a]\r\nssh = a");

  cr_expect_eq (nf_map_serial (map), 3);
  cr_expect_str_eq (nf_map_site (map, "a")->ssh, "a");
}

Test (map, options_are_read_and_those_without_effect_are_warned_about)
{
  g_autoptr (NfMap) map = parse (SHARE "broadcast = b:/x; c:/x\nreads = fresh\nmax-stale = 60\n"
                                       "offline = wait\ndurable = 2\nreplica = on-demand\nvia = b\n"
                                       "local-only = node_modules; build\nusers = root; *\n");
  const NfMapShare *share = nf_map_share (map, "s");
  const char *const *warnings = nf_map_warnings (map);

  cr_expect_eq (share->reads, NF_READS_FRESH);
  cr_expect_eq (share->max_stale_s, 60);
  cr_expect_eq (share->offline, NF_OFFLINE_WAIT);
  cr_expect_eq (share->durable, 2);
  cr_expect_eq (share->replica, NF_REPLICA_ON_DEMAND);
  cr_expect_str_eq (share->via, "b");
  cr_expect_str_eq (share->local_only[0], "build");
  cr_expect_str_eq (share->local_only[1], "node_modules");
  cr_expect_eq (g_strv_length ((char **)warnings), 7);
  cr_expect_str_eq (warnings[0], "f:15: reads = fresh in [share s] has no effect in this release");
}

Test (map, defaults_written_out_bring_no_warning_and_no_other_digest)
{
  const char *text = SHARE "reads = local\nmax-stale = 0\noffline = error\ndurable = 0\n"
                           "replica = full\nusers = *\n";
  g_autoptr (NfMap) map = parse (text);
  char plain[HEX_SIZE];
  char full[HEX_SIZE];

  cr_expect_null (nf_map_warnings (map)[0]);
  cr_expect_str_eq (digest (SHARE, plain), digest (text, full));
}

Test (map, roles_and_rights_are_as_the_map_says)
{
  g_autoptr (NfMap) map = parse (SHARE "broadcast = b:/x; c:/x\nwriters = b; d\n");
  const NfMapShare *share = nf_map_share (map, "s");
  g_autofree char *dir_b = nf_map_dir (map, share, "b", NULL);
  g_autofree char *dir_d = nf_map_dir (map, share, "d", "/home/d");

  cr_expect_eq (nf_map_role (map, share, "a"), NF_ROLE_PRIMARY);
  cr_expect_eq (nf_map_role (map, share, "b"), NF_ROLE_REPLICA);
  cr_expect_eq (nf_map_role (map, share, "c"), NF_ROLE_REPLICA);
  cr_expect_eq (nf_map_role (map, share, "d"), NF_ROLE_NONE);
  cr_expect_eq (nf_map_role (map, share, "e"), NF_ROLE_STRANGER);
  cr_expect (nf_map_may_write (map, share, "a"), "the primary's site may, though not named");
  cr_expect (nf_map_may_write (map, share, "b"));
  cr_expect_not (nf_map_may_write (map, share, "c"));
  cr_expect (nf_map_may_write (map, share, "d"));
  cr_expect_not (nf_map_may_write (map, share, "e"));
  cr_expect_str_eq (dir_b, "/x");
  cr_expect_null (dir_d);
}

Test (map, without_writers_all_sites_of_the_share_may_write_and_no_other)
{
  g_autoptr (NfMap) map = parse (SHARE "broadcast = c:/x\n");
  const NfMapShare *share = nf_map_share (map, "s");

  cr_expect (nf_map_may_write (map, share, "a"));
  cr_expect (nf_map_may_write (map, share, "c"));
  cr_expect_not (nf_map_may_write (map, share, "b"));
}

Test (map, with_replica_none_writers_are_members_without_a_directory)
{
  g_autoptr (NfMap) map = parse (SHARE "replica = none\nwriters = b\n");
  const NfMapShare *share = nf_map_share (map, "s");

  cr_expect_eq (share->replica, NF_REPLICA_NONE);
  cr_expect_eq (nf_map_role (map, share, "b"), NF_ROLE_NONE);
  cr_expect_null (nf_map_warnings (map)[0]);
}

Test (map, home_is_needed_only_for_directories_in_it)
{
  g_autoptr (NfMap) map = parse (SHARE "broadcast = b:~/x\n");
  const NfMapShare *share = nf_map_share (map, "s");
  g_autofree char *local = nf_map_dir (map, share, "a", NULL);

  cr_expect_str_eq (local, "/srv/s");
  cr_expect_null (nf_map_dir (map, share, "b", NULL));
}

Test (map, root_must_be_named_and_star_is_everyone_else)
{
  static const struct
  {
    const char *users;
    gboolean root;
    gboolean ann;
    gboolean bob;
  } rows[] = {
    { "", FALSE, TRUE, TRUE },
    { "users = *\n", FALSE, TRUE, TRUE },
    { "users = ann\n", FALSE, TRUE, FALSE },
    { "users = *; root\n", TRUE, TRUE, TRUE },
    { "users = root\n", TRUE, FALSE, FALSE },
  };

  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++)
    {
      g_autofree char *text = g_strconcat (SHARE, rows[i].users, NULL);
      g_autoptr (NfMap) map = parse (text);
      const NfMapShare *share = nf_map_share (map, "s");

      cr_expect_eq (nf_map_may_use (share, "root"), rows[i].root, "%s", rows[i].users);
      cr_expect_eq (nf_map_may_use (share, "ann"), rows[i].ann, "%s", rows[i].users);
      cr_expect_eq (nf_map_may_use (share, "bob"), rows[i].bob, "%s", rows[i].users);
      cr_expect_not (nf_map_may_use (share, "*"));
    }
}

Test (map, a_path_is_found_in_its_share_and_only_at_whole_names)
{
  g_autoptr (NfMap) map = parse (SHARE "[share t]\nmount = /deep/er/t\nlocal = a:/t\n");
  static const struct
  {
    const char *path;
    const char *share; /* NULL: none */
    const char *rest;
  } rows[] = {
    { "/s", "s", "" },     { "/s/x/y", "s", "x/y" },   { "/deep/er/t/z", "t", "z" },
    { "/sx", NULL, NULL }, { "/deep/er", NULL, NULL }, { "/", NULL, NULL },
    { "s/x", NULL, NULL }, { "", NULL, NULL },         { "/x/s", NULL, NULL },
  };

  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++)
    {
      const char *rest = NULL;
      const NfMapShare *share = nf_map_share_of_path (map, rows[i].path, &rest);

      cr_expect (g_strcmp0 (share != NULL ? share->name : NULL, rows[i].share) == 0, "%s",
                 rows[i].path);
      cr_expect (g_strcmp0 (rest, rows[i].rest) == 0, "%s: rest %s", rows[i].path, rest);
    }
}

Test (map, a_share_on_the_root_has_every_path)
{
  g_autoptr (NfMap) map = parse (SITES "[share s]\nmount = /\nlocal = a:/s\n");
  const char *rest;

  cr_assert (nf_map_share_of_path (map, "/x/y", &rest) != NULL);
  cr_expect_str_eq (rest, "x/y");
  cr_assert (nf_map_share_of_path (map, "/", &rest) != NULL);
  cr_expect_str_eq (rest, "");
}

Test (map, share_ids_come_from_the_name_and_never_change)
{
  g_autoptr (NfMap) map = parse (SHARE);
  const NfMapShare *share = nf_map_share (map, "s");

  /* FNV-1a's published vectors: these ids are on disks. */
  cr_expect_eq (nf_map_share_id ("a"), G_GUINT64_CONSTANT (0xaf63dc4c8601ec8c));
  cr_expect_eq (nf_map_share_id ("foobar"), G_GUINT64_CONSTANT (0x85944171f73967e8));
  cr_expect_eq (share->id, nf_map_share_id ("s"));
  cr_expect_eq (nf_map_share_by_id (map, share->id), share);
  cr_expect_null (nf_map_share_by_id (map, 12345));
}

Test (map, of_two_sites_exactly_one_dials)
{
  g_autoptr (NfMap) map = parse (SITES);

  cr_expect (nf_map_dials (map, "b", "a"), "both can: the greater name");
  cr_expect_not (nf_map_dials (map, "a", "b"));
  cr_expect (nf_map_dials (map, "c", "a"), "only a can be dialled");
  cr_expect_not (nf_map_dials (map, "a", "c"));
  cr_expect_not (nf_map_dials (map, "c", "d"), "neither can be dialled");
  cr_expect_not (nf_map_dials (map, "d", "c"));
  cr_expect_not (nf_map_dials (map, "a", "a"));
  cr_expect_not (nf_map_dials (map, "a", "nobody"));
  cr_expect_not (nf_map_dials (map, "nobody", "a"));
}

Test (map, peers_are_those_who_share_something_and_can_be_reached)
{
  g_autoptr (NfMap) map = parse (SHARE "broadcast = c:/x; d:/x\n"
                                       "[share t]\nmount = /t\nlocal = b:/t\n");
  g_autoptr (GPtrArray) of_a = nf_map_peers (map, "a");
  g_autoptr (GPtrArray) of_b = nf_map_peers (map, "b");
  g_autoptr (GPtrArray) of_c = nf_map_peers (map, "c");

  cr_assert_eq (of_a->len, 2);
  cr_expect_eq (g_ptr_array_index (of_a, 0), nf_map_site (map, "c"));
  cr_expect_eq (g_ptr_array_index (of_a, 1), nf_map_site (map, "d"));
  cr_expect_eq (of_b->len, 0);
  cr_assert_eq (of_c->len, 1, "d can't be reached from c");
  cr_expect_eq (g_ptr_array_index (of_c, 0), nf_map_site (map, "a"));
}

Test (map, digest_is_of_the_meaning_and_not_of_the_text)
{
  const char *same = "# the same\n[share   s]\n\nlocal = a:/s;\nmount  =  /s # here\n"
                     "[site b]\nssh=b\n[site a]\nssh=a\n[map]\nserial=01\n";
  const char *text = "[map]\nserial = 1\n[site a]\nssh=a\n[site b]\nssh=b\n"
                     "[share s]\nmount=/s\nlocal=a:/s\n";
  char first[HEX_SIZE];
  char second[HEX_SIZE];

  cr_expect_str_eq (digest (text, first), digest (same, second));
}

Test (map, digest_changes_with_every_field)
{
  static const char *const texts[] = {
    SHARE "broadcast = b:/x\n",
    SHARE,
    SHARE "broadcast = b:/y\n",
    SHARE "broadcast = c:/x\n",
    SHARE "broadcast = b:/x; c:/x\n",
    SHARE "broadcast = b:/x\nwriters = b\n",
    SHARE "broadcast = b:/x\nwriters = a; b\n",
    SHARE "broadcast = b:/x\nusers = ann\n",
    SHARE "broadcast = b:/x\nlocal-only = ann\n",
    SHARE "broadcast = b:/x\nreads = fresh\n",
    SHARE "broadcast = b:/x\nmax-stale = 1\n",
    SHARE "broadcast = b:/x\noffline = wait\n",
    SHARE "broadcast = b:/x\ndurable = 1\n",
    SHARE "broadcast = b:/x\nreplica = on-demand\n",
    SHARE "broadcast = b:/x\nvia = b\n",
    SITES "[share t]\nmount = /s\nlocal = a:/srv/s\nbroadcast = b:/x\n",
    SITES "[share s]\nmount = /t\nlocal = a:/srv/s\nbroadcast = b:/x\n",
    SITES "[share s]\nmount = /s\nlocal = a:/srv/t\nbroadcast = b:/x\n",
    SITES "[site e]\nssh = none\n",
    SITES "[site e]\nssh = e\n",
    SITES "[site e]\nssh = e\nport = 22\n",
    SITES "[site e]\nssh = e\ntransport = ssh\n",
    "[map]\nserial = 1\n",
    "[map]\nserial = 2\n",
  };
  g_autoptr (GHashTable) seen = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  char hex[HEX_SIZE];

  for (gsize i = 0; i < G_N_ELEMENTS (texts); i++)
    cr_expect (g_hash_table_add (seen, g_strdup (digest (texts[i], hex))), "%s", texts[i]);
}

static const NfMapChange *
change_at (GPtrArray *changes, guint index)
{
  cr_assert_lt (index, changes->len);
  return g_ptr_array_index (changes, index);
}

Test (map, diff_names_each_change_once_and_in_order)
{
  g_autoptr (NfMap) before = parse (SHARE "[share gone]\nmount = /g\nlocal = a:/g\n");
  g_autoptr (NfMap) after = parse ("[map]\nserial = 2\n[site a]\nssh = a2\n[site b]\nssh = u@b\n"
                                   "[site c]\nssh = none\n[site e]\nssh = none\n"
                                   "[share new]\nmount = /n\nlocal = a:/n\n"
                                   "[share s]\nmount = /s\nlocal = b:/s\nbroadcast = a:/srv/s\n");
  g_autoptr (GPtrArray) changes = nf_map_diff (before, after);

  cr_assert_eq (changes->len, 6);
  cr_expect_str_eq (change_at (changes, 0)->text, "site a changed: ssh; ssh was a, is a2");
  cr_expect_eq (change_at (changes, 0)->what, NF_MAP_WHAT_SSH);
  cr_expect_str_eq (change_at (changes, 1)->text, "site d removed");
  cr_expect_str_eq (change_at (changes, 2)->text, "site e added");
  cr_expect_str_eq (change_at (changes, 3)->text, "share gone removed: /g");
  cr_expect_eq (change_at (changes, 3)->kind, NF_MAP_SHARE_REMOVED);
  cr_expect_str_eq (change_at (changes, 4)->text, "share new added: /n");
  cr_expect_eq (change_at (changes, 5)->kind, NF_MAP_SHARE_CHANGED);
  cr_expect_eq (change_at (changes, 5)->what, NF_MAP_WHAT_PRIMARY | NF_MAP_WHAT_BROADCAST);
  cr_expect_str_eq (change_at (changes, 5)->text,
                    "share s changed: local directory, broadcast directories; "
                    "local was a:/srv/s, is b:/s");
}

Test (map, diff_finds_each_kind_of_change_by_itself)
{
  static const struct
  {
    const char *text;
    unsigned what;
  } rows[] = {
    { SHARE, 0 },
    { SHARE "writers = a\n", NF_MAP_WHAT_WRITERS },
    { SHARE "users = ann\n", NF_MAP_WHAT_USERS },
    { SHARE "broadcast = b:/x\n", NF_MAP_WHAT_BROADCAST },
    { SHARE "local-only = x\n", NF_MAP_WHAT_OPTIONS },
    { SHARE "reads = fresh\n", NF_MAP_WHAT_OPTIONS },
    { SITES "[share s]\nmount = /t\nlocal = a:/srv/s\n", NF_MAP_WHAT_MOUNT },
  };
  g_autoptr (NfMap) before = parse (SHARE);

  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++)
    {
      g_autoptr (NfMap) after = parse (rows[i].text);
      g_autoptr (GPtrArray) changes = nf_map_diff (before, after);

      cr_assert_eq (changes->len, rows[i].what != 0, "%s", rows[i].text);
      if (changes->len > 0)
        cr_expect_eq (change_at (changes, 0)->what, rows[i].what, "%s", rows[i].text);
    }
}

Test (map, text_says_what_each_site_is)
{
  g_autoptr (NfMap) map = parse (example);
  g_autofree char *text = nf_map_to_text (map, "ws7");

  cr_expect (strstr (text, "serial 7, digest ") != NULL);
  cr_expect (strstr (text, "site ws7: dials out only\n") != NULL);
  cr_expect (strstr (text, "  primary    london:/srv/projects\n") != NULL);
  cr_expect (strstr (text, "  replica    nyc:/var/lib/nearfs/projects\n") != NULL);
  cr_expect (strstr (text, "this site is ws7\n") != NULL);
  cr_expect (strstr (text, "  dials london\n") != NULL);
}

Test (map, a_map_outlives_its_first_owner)
{
  NfMap *map = parse (SHARE);
  NfMap *second = nf_map_ref (map);

  nf_map_unref (map);
  cr_expect_str_eq (nf_map_share (second, "s")->mount, "/s");
  nf_map_unref (second);
}

Test (map, a_file_that_cannot_be_read_is_named)
{
  g_autoptr (GError) missing = NULL;
  g_autoptr (GError) directory = NULL;

  cr_expect_null (nf_map_load ("/nonexistent/x.map", &missing));
  cr_expect (g_error_matches (missing, NF_MAP_ERROR, NF_MAP_ERROR_READ));
  cr_expect (strstr (missing->message, "/nonexistent/x.map: can't open: ") != NULL);
  cr_expect_null (nf_map_load ("/", &directory));
  cr_expect (g_error_matches (directory, NF_MAP_ERROR, NF_MAP_ERROR_READ));
}
