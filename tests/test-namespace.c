// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>
#include <errno.h>

#include "fs/namespace.h"

static NfNamespace *ns;
static NfVolume *volumes[4];
static NfNamespaceChange change;

static void
set_up (void)
{
  ns = nf_namespace_new ();
  for (guint i = 0; i < G_N_ELEMENTS (volumes); i++)
    volumes[i] = nf_volume_new (i + 1, NULL);
}

static void
tear_down (void)
{
  nf_namespace_free (ns);
  for (guint i = 0; i < G_N_ELEMENTS (volumes); i++)
    nf_volume_unref (volumes[i]);
}

TestSuite (namespace, .init = set_up, .fini = tear_down);

static int
add (const char *path, guint volume)
{
  int err = nf_namespace_add (ns, path, volumes[volume], &change);

  if (err == 0)
    g_free (change.name);
  return err;
}

static int
find (guint64 dir, const char *name, guint64 *ret_dir, const NfVolume **ret_volume)
{
  g_autoptr (NfVolume) volume = NULL;
  int err = nf_namespace_lookup (ns, dir, nf_slice_str (name), ret_dir, &volume);

  *ret_volume = volume;
  return err;
}

static gboolean
append_name (const char *name, guint64 dir, const NfVolume *volume, gpointer data)
{
  (void)dir;
  (void)volume;
  g_string_append_printf (data, "%s ", name);
  return TRUE;
}

static char *
list (guint64 dir)
{
  GString *names = g_string_new (NULL);

  cr_assert_eq (nf_namespace_list (ns, dir, 0, append_name, names), 0);
  return g_string_free (names, FALSE);
}

Test (namespace, a_share_is_found_by_its_path)
{
  guint64 a, b;
  const NfVolume *volume;

  cr_assert_eq (add ("/a/b", 0), 0);
  cr_assert_eq (add ("//c/", 1), 0);
  cr_assert_eq (find (NF_NAMESPACE_ROOT, "a", &a, &volume), 0);
  cr_assert_null (volume);
  cr_assert_eq (find (a, "b", &b, &volume), 0);
  cr_assert_eq (volume, volumes[0]);
  cr_assert_eq (find (NF_NAMESPACE_ROOT, "c", &b, &volume), 0);
  cr_assert_eq (volume, volumes[1]);
  cr_assert_eq (find (a, "c", &b, &volume), -ENOENT);
  cr_assert_eq (find (999, "c", &b, &volume), -ESTALE);
}

Test (namespace, shares_do_not_nest)
{
  cr_assert_eq (add ("/a/b", 0), 0);
  cr_assert_eq (add ("/a/b", 1), -EEXIST);
  cr_assert_eq (add ("/a", 1), -EEXIST);
  cr_assert_eq (add ("/a/b/c", 1), -EEXIST);
  cr_assert_eq (add ("/", 1), -EEXIST);
  cr_assert_eq (add ("/a/c", 1), 0);
}

Test (namespace, a_path_must_be_one)
{
  cr_assert_eq (add ("a", 0), -EINVAL);
  cr_assert_eq (add ("", 0), -EINVAL);
  cr_assert_eq (add ("/a/../b", 0), -EINVAL);
  cr_assert_eq (add ("//./a", 0), -EINVAL);
}

Test (namespace, the_root_can_be_a_share)
{
  cr_assert_eq (nf_namespace_add (ns, "/", volumes[0], &change), 0);
  cr_assert_null (change.name);
  g_autoptr (NfVolume) volume = nf_namespace_volume (ns, NF_NAMESPACE_ROOT);
  cr_assert_eq (volume, volumes[0]);
  cr_assert_eq (add ("/a", 1), -EEXIST);
  cr_assert (nf_namespace_remove (ns, volumes[0], &change));
  cr_assert_eq (change.dir, NF_NAMESPACE_ROOT);
  cr_assert_null (change.name);
  cr_assert_eq (add ("/a", 1), 0);
}

Test (namespace, what_leads_to_nothing_goes)
{
  guint64 a;
  const NfVolume *volume;

  cr_assert_eq (add ("/a/b/c", 0), 0);
  cr_assert_eq (add ("/a/d", 1), 0);
  cr_assert_eq (find (NF_NAMESPACE_ROOT, "a", &a, &volume), 0);
  cr_assert (nf_namespace_remove (ns, volumes[0], &change));
  cr_assert_eq (change.dir, a);
  cr_assert_str_eq (change.name, "b");
  g_free (change.name);
  cr_assert_not (nf_namespace_remove (ns, volumes[0], &change));
  g_autofree char *names = list (a);
  cr_assert_str_eq (names, "d ");
  cr_assert (nf_namespace_remove (ns, volumes[1], &change));
  cr_assert_eq (change.dir, NF_NAMESPACE_ROOT);
  cr_assert_str_eq (change.name, "a");
  g_free (change.name);
  NfNamespaceStat stat;
  cr_assert_eq (nf_namespace_stat (ns, a, &stat), -ESTALE);
}

Test (namespace, it_is_listed_in_order)
{
  cr_assert_eq (add ("/m", 0), 0);
  cr_assert_eq (add ("/z/y", 1), 0);
  cr_assert_eq (add ("/b", 2), 0);
  g_autofree char *names = list (NF_NAMESPACE_ROOT);
  cr_assert_str_eq (names, "b m z ");
}

Test (namespace, the_change_is_the_topmost_new_name)
{
  cr_assert_eq (nf_namespace_add (ns, "/a/b/c", volumes[0], &change), 0);
  cr_assert_eq (change.dir, NF_NAMESPACE_ROOT);
  cr_assert_str_eq (change.name, "a");
  g_free (change.name);
  cr_assert_eq (nf_namespace_add (ns, "/a/d", volumes[1], &change), 0);
  cr_assert_neq (change.dir, NF_NAMESPACE_ROOT);
  cr_assert_str_eq (change.name, "d");
  g_free (change.name);
}
