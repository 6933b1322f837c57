// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>
#include <string.h>

#include "map/map.h"

/* Maps that must be refused, and with which line and words. */

/* Ten lines; a and b can be dialled, c and d can't. */
#define SITES                                                   \
  "[map]\nserial = 1\n[site a]\nssh = a\n[site b]\nssh = u@b\n" \
  "[site c]\nssh = none\n[site d]\nssh = none\n"
#define SITE SITES "[site x]\n"
/* Lines 11 to 13; further keys begin in line 14. */
#define SHARE SITES "[share s]\nmount = /s\nlocal = a:/srv/s\n"
/* The values are in lines 12 and 13. */
#define MOUNT(value) SITES "[share s]\nmount = " value "\n"
#define LOCAL(value) SITES "[share s]\nmount = /s\nlocal = " value "\n"

typedef struct
{
  const char *text;
  guint line; /* 0: the message has none */
  const char *fragment;
} Wrong;

static void
expect_error (const char *text, gsize len, guint line, const char *fragment)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (NfMap) map = nf_map_parse (text, len, "f", &error);
  g_autofree char *prefix = line > 0 ? g_strdup_printf ("f:%u: ", line) : g_strdup ("f: ");

  cr_expect (map == NULL, "accepted, expected '%s%s': %s", prefix, fragment, text);
  if (error == NULL)
    return;
  cr_expect (error->domain == NF_MAP_ERROR);
  cr_expect (g_str_has_prefix (error->message, prefix), "expected %s, got: %s", prefix,
             error->message);
  cr_expect (strstr (error->message, fragment) != NULL, "expected '%s', got: %s", fragment,
             error->message);
}

static void
expect_errors (const Wrong *wrong, gsize n)
{
  for (gsize i = 0; i < n; i++)
    expect_error (wrong[i].text, strlen (wrong[i].text), wrong[i].line, wrong[i].fragment);
}

Test (map_wrong, syntax_is_refused_with_its_line)
{
  static const Wrong wrong[] = {
    { "", 0, "no [map] group; expected one with serial" },
    { "serial = 1\n", 1, "expected a [GROUP] before the first key" },
    { "[map]\nserial = 1\nhello\n", 3, "expected 'KEY = VALUE' or '[GROUP]', not 'hello'" },
    { "[map]\n= 1\n", 2, "expected 'KEY = VALUE'" },
    { "# c\n\n[map\nserial = 1\n", 3, "expected a group like [share NAME]" },
    { "[map] x\n", 1, "expected a group like" },
    { "[]\n", 1, "expected a group like" },
    { "[[map]]\n", 1, "expected a group like" },
    { "[map]\nserial = 1\x01\n", 2, "control character 0x01" },
    { "[map]\nserial = \r1\n", 2, "control character 0x0d" },
    { "[map]\nserial = \xff\n", 2, "expected UTF-8" },
    { SHARE "writers = a\\nb\n", 14, "writers: expected \\s (blank), \\; or \\\\" },
    { SHARE "writers = a\\", 14, "writers: expected \\s" },
  };

  expect_errors (wrong, G_N_ELEMENTS (wrong));
  expect_error ("[map]\nserial = 1\n\0\n", 19, 3, "control character 0x00");
}

Test (map_wrong, unknown_groups_and_keys_are_refused_with_the_nearest)
{
  static const Wrong wrong[] = {
    { SITES "[shar x]\n", 11, "unknown group [shar x]; expected [map], [site NAME]" },
    { SITES "[map x]\n", 11, "unknown group [map x]" },
    { SITES "[site]\n", 11, "unknown group [site]" },
    { SITES "[share]\n", 11, "unknown group [share]" },
    { "[map]\nserail = 1\n", 2, "unknown key 'serail' in [map]; did you mean 'serial'?" },
    { SITE "ssh = none\nprot = 22\n", 13, "did you mean 'port'?" },
    { SHARE "writer = b\n", 14, "unknown key 'writer' in [share s]; did you mean 'writers'?" },
    { SHARE "maxstale = 3\n", 14, "did you mean 'max-stale'?" },
    { SHARE "colour = red\n", 14, "unknown key 'colour' in [share s]; expected one of: mount" },
    { SHARE "Mount[de_DE] = /x\n", 14, "unknown key 'Mount[de_DE]'" },
  };

  expect_errors (wrong, G_N_ELEMENTS (wrong));
}

Test (map_wrong, what_is_there_twice_is_refused_and_not_merged)
{
  static const Wrong wrong[] = {
    { SITES "[site a]\nssh = x\n", 11, "second group [site a]; the first is in line 3" },
    { SITES "[site   a ]\nssh = x\n", 11, "second group [site a]" },
    { SITES "[map]\n", 11, "second group [map]; the first is in line 1" },
    { SHARE "[share s]\n", 14, "second group [share s]; the first is in line 11" },
    { "[map]\nserial = 1\nserial = 2\n", 3, "second key 'serial' in this group; the first is in" },
  };

  expect_errors (wrong, G_N_ELEMENTS (wrong));
}

Test (map_wrong, heads_and_sites_are_refused)
{
  static const Wrong wrong[] = {
    { "[map]\n", 1, "[map] has no 'serial'; expected serial = NUMBER" },
    { "[map]\nserial = 0\n", 2, "serial = 0; expected a number from 1 to" },
    { "[map]\nserial = -1\n", 2, "serial = -1; expected a number" },
    { "[map]\nserial = 99999999999999999999\n", 2, "expected a number from 1 to" },
    { "[map]\nserial =\n", 2, "expected a number" },
    { SITE, 11, "[site x] has no 'ssh'; expected ssh = USER@HOST" },
    { SITE "ssh =\n", 12, "ssh is empty" },
    { SITE "ssh = -oProxyCommand=x\n", 12, "ssh: '-oProxyCommand=x'; expected USER@HOST" },
    { SITE "ssh = u@-x\n", 12, "ssh: 'u@-x'" },
    { SITE "ssh = u@\n", 12, "ssh: 'u@'" },
    { SITE "ssh = @h\n", 12, "ssh: '@h'" },
    { SITE "ssh = h;reboot\n", 12, "ssh: 'h;reboot'" },
    { SITE "ssh = two words\n", 12, "ssh: 'two words'" },
    { SITES "[site X]\nssh = x\n", 11, "site 'X'; expected a name of a-z, 0-9 and '-'" },
    { SITES "[site -x]\nssh = x\n", 11, "site '-x'" },
    { SITES "[site a b]\nssh = x\n", 11, "site 'a b'" },
    { SITES "[site ../x]\nssh = x\n", 11, "site '../x'" },
    { SITE "ssh = x\nport = 0\n", 13, "port = 0; expected a number from 1 to 65535" },
    { SITE "ssh = x\nport = 65536\n", 13, "port = 65536" },
    { SITE "ssh = x\ntransport = rsh\n", 13, "transport = rsh; expected libssh|ssh" },
    { SITE "ssh = x\ntransport = default\n", 13, "expected libssh|ssh" },
    { SITE "ssh = none\nport = 22\n", 13, "port for a site with ssh = none" },
  };

  expect_errors (wrong, G_N_ELEMENTS (wrong));
}

Test (map_wrong, names_and_mounts_of_shares_are_refused)
{
  static const Wrong wrong[] = {
    { SITES "[share s]\nlocal = a:/s\n", 11, "[share s] has no 'mount'; expected mount = /PATH" },
    { SITES "[share s]\nmount = /s\n", 11, "[share s] has no 'local'; expected local = SITE:" },
    { SITES "[share .s]\n", 11, "share '.s'; expected a name of letters" },
    { SITES "[share a/b]\n", 11, "share 'a/b'" },
    { MOUNT ("s"), 12, "mount: 's'; expected an absolute path" },
    { MOUNT ("/s/"), 12, "mount: '/s/'; expected a path without '//' or a '/' at its end" },
    { MOUNT ("//s"), 12, "expected a path without '//'" },
    { MOUNT ("/s/../t"), 12, "expected a path without '.' and '..'" },
    { MOUNT ("/./t"), 12, "expected a path without '.' and '..'" },
  };

  expect_errors (wrong, G_N_ELEMENTS (wrong));
}

Test (map_wrong, places_of_shares_are_refused)
{
  static const Wrong wrong[] = {
    { LOCAL ("/srv"), 13, "expected SITE:/DIRECTORY" },
    { LOCAL ("a:srv"), 13, "local: 'srv'; expected an absolute path" },
    { LOCAL ("a:/"), 13, "local: '/'; expected a directory below it" },
    { LOCAL ("a:~/"), 13, "local: '~/'; expected a directory below it" },
    { LOCAL ("a:~x/y"), 13, "expected an absolute path" },
    { LOCAL ("a:~/../y"), 13, "without '.' and '..'" },
    { LOCAL ("a:/x; b:/x"), 13, "expected exactly one SITE:/DIRECTORY" },
    { LOCAL ("q9z:/x"), 13, "local: unknown site 'q9z'; expected one that has a [site NAME]" },
    { "[map]\nserial = 1\n[site london]\nssh = x\n[share s]\nmount = /s\nlocal = lodnon:/x\n", 7,
      "unknown site 'lodnon'; did you mean 'london'?" },
    { SHARE "broadcast = q9z:/x\n", 14, "broadcast: unknown site 'q9z'" },
    { SHARE "broadcast = b:/x; b:/y\n", 14, "site 'b' is named twice" },
    { SHARE "broadcast = b:/x;; c:/y\n", 14, "broadcast has an empty item" },
    { SHARE "broadcast =\n", 14, "broadcast has an empty item" },
    { SHARE "broadcast = a:/x\n", 14, "site 'a' has the local directory of share 's'" },
    { SHARE "writers = b; q9z\n", 14, "writers: unknown site 'q9z'" },
    { SHARE "writers = b; b\n", 14, "writers: 'b' is named twice" },
  };

  expect_errors (wrong, G_N_ELEMENTS (wrong));
}

Test (map_wrong, options_of_shares_are_refused)
{
  static const Wrong wrong[] = {
    { SHARE "reads = slow\n", 14, "reads = slow; expected local|fresh" },
    { SHARE "offline = no\n", 14, "offline = no; expected error|wait" },
    { SHARE "replica = half\n", 14, "replica = half; expected full|on-demand|none" },
    { SHARE "max-stale = 2592001\n", 14, "expected a number from 0 to 2592000" },
    { SHARE "max-stale = 5s\n", 14, "max-stale = 5s; expected a number" },
    { SHARE "durable = 1\n", 14, "durable = 1; expected at most 0, the number of broadcast" },
    { SHARE "broadcast = b:/x\nreplica = none\n", 14, "broadcast in a share with replica = none" },
    { SHARE "via = q9z\n", 14, "via: unknown site 'q9z'" },
    { SHARE "via = b\n", 14, "via: 'b'; expected a site with a broadcast directory" },
    { SHARE "users = a b\n", 14, "users: 'a b'; expected a user's name" },
    { SHARE "users = u*\n", 14, "users: 'u*'" },
    { SHARE "users = u; u\n", 14, "users: 'u' is named twice" },
    { SHARE "local-only = a/b\n", 14, "local-only: 'a/b'; expected a file name" },
    { SHARE "local-only = ..\n", 14, "local-only: '..'" },
  };

  expect_errors (wrong, G_N_ELEMENTS (wrong));
}

Test (map_wrong, nested_shares_and_directories_are_refused_naming_both)
{
  static const Wrong wrong[] = {
    { SHARE "[share t]\nmount = /s/t\nlocal = a:/t\n", 15,
      "mount /s/t of share 't' lies in /s of share 's' (line 12)" },
    { SHARE "[share t]\nmount = /s\nlocal = a:/t\n", 15,
      "mount /s of share 't' is that of share 's' too (line 12)" },
    { SHARE "[share t]\nmount = /\nlocal = a:/t\n", 12,
      "mount /s of share 's' lies in / of share 't' (line 15)" },
    { SHARE "[share t]\nmount = /t\nlocal = a:/srv/s\n", 16,
      "directory /srv/s of share 't' at site 'a' is that of share 's' too (line 13)" },
    { SHARE "[share t]\nmount = /t\nlocal = b:/t\nbroadcast = a:/srv/s/t\n", 17,
      "directory /srv/s/t of share 't' at site 'a' lies in /srv/s of share 's' (line 13)" },
    { SHARE "[share t]\nmount = /t\nlocal = b:~/t\n[share v]\nmount = /v\nlocal = b:~/t/v\n", 19,
      "directory ~/t/v of share 'v' at site 'b' lies in ~/t of share 't' (line 16)" },
    /* '-' sorts before '/' in plain byte order, and would come between the two. */
    { SHARE "[share t]\nmount = /s-1\nlocal = a:/t\n[share v]\nmount = /s/v\nlocal = a:/v\n", 18,
      "mount /s/v of share 'v' lies in /s of share 's'" },
  };

  expect_errors (wrong, G_N_ELEMENTS (wrong));
}

Test (map_wrong, names_that_only_begin_alike_do_not_nest)
{
  const char *text = SHARE "[share t]\nmount = /s2\nlocal = a:/srv/s-2\n"
                           "[share u]\nmount = /u/s\nlocal = b:/srv/s\n";
  g_autoptr (NfMap) map = nf_map_parse (text, strlen (text), "f", NULL);

  cr_expect (map != NULL);
}

Test (map_wrong, sites_that_cannot_reach_the_primary_are_refused_by_name)
{
  static const Wrong wrong[] = {
    { LOCAL ("c:/s\nbroadcast = d:/s"), 11,
      "share 's': sites 'c' and 'd' can't reach each other, both have ssh = none" },
    { LOCAL ("c:/s\nwriters = c; d"), 11, "share 's': sites 'c' and 'd'" },
  };
  const char *text = SHARE "broadcast = c:/s; d:/s\n";
  g_autoptr (NfMap) map = nf_map_parse (text, strlen (text), "f", NULL);

  expect_errors (wrong, G_N_ELEMENTS (wrong));
  cr_expect (map != NULL, "two replicas need not reach each other");
}

Test (map_wrong, too_many_sites_or_shares_are_refused)
{
  g_autoptr (GString) sites = g_string_new ("[map]\nserial = 1\n");
  g_autoptr (GString) shares = g_string_new (SITES);

  for (guint i = 0; i <= NF_MAP_SITES_MAX; i++)
    g_string_append_printf (sites, "[site s%u]\nssh = none\n", i);
  for (guint i = 0; i <= NF_MAP_SHARES_MAX; i++)
    g_string_append_printf (shares, "[share s%u]\nmount = /%u\nlocal = a:/%u\n", i, i, i);
  expect_error (sites->str, sites->len, 3 + 2 * NF_MAP_SITES_MAX, "expected at most 1024 sites");
  expect_error (shares->str, shares->len, 11 + 3 * NF_MAP_SHARES_MAX, "expected at most 4096");
}

Test (map_wrong, long_texts_names_and_paths_are_refused)
{
  g_autofree char *large = g_strnfill (NF_MAP_SIZE_MAX + 1, '\n');
  g_autofree char *name = g_strnfill (NF_MAP_NAME_MAX + 1, 'x');
  g_autofree char *component = g_strnfill (NF_MAP_COMPONENT_MAX + 1, 'x');
  g_autofree char *site = g_strdup_printf (SITES "[site %s]\n", name);
  g_autofree char *share = g_strdup_printf (SITES "[share %s]\n", name);
  g_autofree char *mount = g_strdup_printf (SITES "[share s]\nmount = /%s\n", component);

  expect_error (large, strlen (large), 0, "larger than 1048576 bytes");
  expect_error (site, strlen (site), 11, "at most 63");
  expect_error (share, strlen (share), 11, "at most 63");
  expect_error (mount, strlen (mount), 12, "names of at most 255 bytes");
}

Test (map_wrong, a_long_value_does_not_make_a_long_message)
{
  g_autofree char *fill = g_strnfill (100000, 'x');
  g_autofree char *text = g_strdup_printf (SHARE "reads = %s\n", fill);
  g_autoptr (GError) error = NULL;

  cr_assert_null (nf_map_parse (text, strlen (text), "f", &error));
  cr_expect_lt (strlen (error->message), 1100);
  cr_expect (g_str_has_prefix (error->message, "f:14: reads = xxx"));
}
