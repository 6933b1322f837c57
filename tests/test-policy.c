// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

#include "fs/policy.h"

/* Who a call from another site is carried out as. The primary is london; its users stand below. */

static const NfUser known[] = {
  { .name = "root", .uid = 0, .gid = 0, .n_groups = 1, .groups = { 0 } },
  { .name = "toor", .uid = 0, .gid = 0, .n_groups = 1, .groups = { 0 } },
  { .name = "anna", .uid = 1001, .gid = 2001, .n_groups = 2, .groups = { 2001, 27 } },
  { .name = "bert", .uid = 1002, .gid = 2002, .n_groups = 1, .groups = { 2002 } },
};

static guint asked;

static gboolean
by_name (const char *name, NfUser *ret_user)
{
  asked++;
  for (gsize i = 0; i < G_N_ELEMENTS (known); i++)
    if (strcmp (known[i].name, name) == 0)
      {
        *ret_user = known[i];
        return TRUE;
      }
  return FALSE;
}

static gboolean
by_uid (uid_t uid, NfUser *ret_user)
{
  asked++;
  for (gsize i = 0; i < G_N_ELEMENTS (known); i++)
    if (known[i].uid == uid)
      {
        *ret_user = known[i];
        return TRUE;
      }
  return FALSE;
}

static const NfUsersSource source = { by_name, by_uid };

typedef struct
{
  NfMap *map;
  NfUsers *users;
  NfPolicy *policy;
} Fixture;

static NfMap *
parse_map (const char *keys)
{
  g_autofree char *text = g_strdup_printf (
      "[map]\nserial = 1\n"
      "[site london]\nssh = london\n[site nyc]\nssh = nyc\n[site ws7]\nssh = none\n"
      "[share projects]\nmount = /projects\nlocal = london:/srv/p\n"
      "broadcast = nyc:/srv/p; ws7:/srv/p\n%s",
      keys);
  g_autoptr (GError) error = NULL;
  NfMap *map = nf_map_parse (text, strlen (text), "server.map", &error);

  cr_assert (map, "%s", error ? error->message : "");
  return map;
}

static Fixture
fixture (const char *keys, gboolean personal)
{
  Fixture f;

  f.map = parse_map (keys);
  f.users = nf_users_new (&source);
  f.policy = nf_policy_new (f.map, nf_map_share (f.map, "projects"), "london", f.users, personal);
  return f;
}

static void
fixture_clear (Fixture *f)
{
  nf_policy_free (f->policy);
  nf_users_free (f->users);
  nf_map_unref (f->map);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Fixture, fixture_clear)

/* What NAME (or, if that is empty, UID) of nyc counts as; its own groups are 0 and 4000. */
static NfCallHead
call_from_nyc (Fixture *f, const char *name, guint32 uid, guint32 gid)
{
  NfCallHead head = { .uid = uid, .gid = gid, .n_groups = 2, .groups = { 0, 4000 } };

  head.user = nf_slice_str (name);
  nf_policy_credentials (f->policy, "nyc", &head);
  return head;
}

static void
expect_nobody (NfCallHead head)
{
  cr_expect_eq (head.uid, 65534);
  cr_expect_eq (head.gid, 65534);
  cr_expect_eq (head.n_groups, 0);
}

static void
expect_groups (NfCallHead head, guint n, guint32 a, guint32 b, guint32 c)
{
  const guint32 groups[] = { a, b, c };

  cr_expect_eq (head.n_groups, n);
  for (guint i = 0; i < n; i++)
    cr_expect_eq (head.groups[i], groups[i]);
}

Test (policy, a_known_name_is_that_user_with_its_groups_here)
{
  g_auto (Fixture) f = fixture ("users = anna\n", FALSE);
  NfCallHead head = call_from_nyc (&f, "anna", 555, NF_POLICY_OWN_GROUP);

  cr_expect_eq (head.uid, 1001);
  cr_expect_eq (head.gid, 2001);
  expect_groups (head, 2, 2001, 27, 0);
}

Test (policy, where_all_are_granted_the_groups_of_the_caller_count_too)
{
  g_auto (Fixture) f = fixture ("users = *\n", FALSE);
  NfCallHead own = call_from_nyc (&f, "anna", 555, NF_POLICY_OWN_GROUP);
  NfCallHead other = call_from_nyc (&f, "anna", 555, 666);

  cr_expect_eq (own.gid, 2001);
  expect_groups (own, 3, 2001, 27, 4000);
  cr_expect_eq (other.uid, 1001);
  cr_expect_eq (other.gid, 666);
  expect_groups (other, 3, 2001, 27, 4000);
  cr_expect_eq (call_from_nyc (&f, "anna", 555, 0).gid, 2001, "root's group");
}

Test (policy, who_is_in_a_list_works_in_groups_that_it_has_here)
{
  g_auto (Fixture) f = fixture ("users = anna\n", FALSE);
  NfCallHead head = call_from_nyc (&f, "anna", 555, 27);

  cr_expect_eq (head.gid, 27);
  expect_groups (head, 2, 2001, 27, 0);
  cr_expect_eq (call_from_nyc (&f, "anna", 555, 4000).gid, 2001);
  cr_expect_eq (call_from_nyc (&f, "anna", 555, 0).gid, 2001);
}

Test (policy, root_works_in_any_group)
{
  g_auto (Fixture) f = fixture ("users = anna; root\n", FALSE);

  cr_expect_eq (call_from_nyc (&f, "root", 0, NF_POLICY_OWN_GROUP).gid, 0);
  cr_expect_eq (call_from_nyc (&f, "root", 0, 666).gid, 666);
}

Test (policy, an_unknown_name_is_nobody_whatever_its_number)
{
  g_auto (Fixture) f = fixture ("", FALSE);

  expect_nobody (call_from_nyc (&f, "carla", 1001, 2001));
}

Test (policy, root_is_nobody_unless_it_is_named)
{
  g_auto (Fixture) squashed = fixture ("users = *\n", FALSE);
  g_auto (Fixture) granted = fixture ("users = *; root\n", FALSE);

  expect_nobody (call_from_nyc (&squashed, "root", 0, 0));
  expect_nobody (call_from_nyc (&squashed, "", 0, 0));
  expect_nobody (call_from_nyc (&squashed, "toor", 4711, 4711));
  cr_expect_eq (call_from_nyc (&granted, "root", 0, 0).uid, 0);
  cr_expect_eq (call_from_nyc (&granted, "toor", 4711, 4711).uid, 0);
}

Test (policy, who_is_not_in_a_list_of_users_is_nobody)
{
  g_auto (Fixture) f = fixture ("users = anna\n", FALSE);

  cr_expect_eq (call_from_nyc (&f, "anna", 5, 5).uid, 1001);
  expect_nobody (call_from_nyc (&f, "bert", 5, 5));
  expect_nobody (call_from_nyc (&f, "", 1002, 2002));
  expect_nobody (call_from_nyc (&f, "", 7777, 7777));
}

Test (policy, a_number_known_here_counts_as_its_user_here)
{
  g_auto (Fixture) f = fixture ("users = anna\n", FALSE);
  NfCallHead head = call_from_nyc (&f, "", 1001, 0);

  cr_expect_eq (head.uid, 1001);
  cr_expect_eq (head.gid, 2001);
  cr_expect_eq (head.groups[0], 2001);
}

Test (policy, an_unknown_number_stays_but_loses_the_group_of_root)
{
  g_auto (Fixture) f = fixture ("", FALSE);
  NfCallHead head = call_from_nyc (&f, "", 7777, 0);

  cr_expect_eq (head.uid, 7777);
  cr_expect_eq (head.gid, 65534);
  cr_expect_eq (head.n_groups, 1);
  cr_expect_eq (head.groups[0], 4000);
}

Test (policy, our_own_mount_is_believed)
{
  g_auto (Fixture) f = fixture ("users = anna\n", FALSE);
  NfCallHead head = { .uid = 0, .gid = 0, .n_groups = 1, .groups = { 0 } };

  nf_policy_credentials (f.policy, NULL, &head);
  cr_expect_eq (head.uid, 0);
  nf_policy_credentials (f.policy, "london", &head);
  cr_expect_eq (head.uid, 0);
  cr_expect_eq (head.n_groups, 1);
}

Test (policy, a_personal_proxy_does_everything_as_itself)
{
  g_auto (Fixture) f = fixture ("users = *; root\n", TRUE);

  cr_expect_eq (call_from_nyc (&f, "root", 0, 0).uid, geteuid ());
  cr_expect_eq (call_from_nyc (&f, "carla", 9, 9).uid, geteuid ());
  cr_expect_eq (call_from_nyc (&f, "anna", 9, 9).n_groups, 0);
}

Test (policy, a_name_that_is_no_name_is_nobody)
{
  g_auto (Fixture) f = fixture ("", FALSE);
  NfCallHead head = { .uid = 1001, .user = nf_slice ("anna\0x", 6) };
  g_autofree char *longer = g_strnfill (1000, 'a');

  nf_policy_credentials (f.policy, "nyc", &head);
  expect_nobody (head);
  expect_nobody (call_from_nyc (&f, longer, 1001, 2001));
}

Test (policy, writers_are_those_of_the_map)
{
  g_auto (Fixture) all = fixture ("", FALSE);
  g_auto (Fixture) some = fixture ("writers = nyc\n", FALSE);

  cr_expect (nf_policy_may_write (all.policy, "nyc"));
  cr_expect (nf_policy_may_write (all.policy, "ws7"));
  cr_expect_not (nf_policy_may_write (all.policy, "tokyo"));
  cr_expect (nf_policy_may_write (some.policy, "nyc"));
  cr_expect_not (nf_policy_may_write (some.policy, "ws7"));
}

Test (policy, a_new_map_counts_at_once)
{
  g_auto (Fixture) f = fixture ("", FALSE);
  g_autoptr (NfMap) map = parse_map ("writers = ws7\nusers = bert\n");

  nf_policy_set_map (f.policy, map, nf_map_share (map, "projects"));
  cr_expect_not (nf_policy_may_write (f.policy, "nyc"));
  expect_nobody (call_from_nyc (&f, "anna", 1001, 2001));
}

Test (policy, callers_are_named_as_they_are_called_here)
{
  g_auto (Fixture) f = fixture ("", FALSE);
  NfCallHead head = { .uid = 1002, .gid = 2002 };

  nf_policy_name_caller (f.policy, &head);
  cr_expect (nf_slice_equal (head.user, nf_slice_str ("bert")));
  cr_expect_eq (head.gid, NF_POLICY_OWN_GROUP);
  head.gid = 27;
  nf_policy_name_caller (f.policy, &head);
  cr_expect_eq (head.gid, 27);
  head.uid = 7777;
  nf_policy_name_caller (f.policy, &head);
  cr_expect_eq (head.user.len, 0);
  cr_expect_eq (head.gid, 27);
}

Test (policy, the_directory_of_users_is_asked_once)
{
  g_auto (Fixture) f = fixture ("", FALSE);

  asked = 0;
  for (guint i = 0; i < 100; i++)
    {
      call_from_nyc (&f, "anna", 0, 0);
      call_from_nyc (&f, "carla", 0, 0);
    }
  cr_expect_eq (asked, 2);
}

Test (users, the_system_knows_root)
{
  g_autoptr (NfUsers) users = nf_users_new (NULL);
  NfUser user;

  cr_assert (nf_users_by_name (users, nf_slice_str ("root"), &user));
  cr_expect_eq (user.uid, 0);
  cr_expect_geq (user.n_groups, 1);
  cr_assert (nf_users_by_uid (users, 0, &user));
  cr_expect_str_eq (user.name, "root");
  cr_expect_not (nf_users_by_name (users, nf_slice_str ("no such user here"), &user));
}
