// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>

#include "fs/inode.h"

static NfNodes *nodes;
static NfVolume *volume;
static NfVolume *other;

static void
set_up (void)
{
  nodes = nf_nodes_new ();
  volume = nf_volume_new (1, NULL);
  other = nf_volume_new (2, NULL);
}

static void
tear_down (void)
{
  nf_nodes_free (nodes);
  nf_volume_unref (volume);
  nf_volume_unref (other);
}

TestSuite (inode, .init = set_up, .fini = tear_down);

Test (inode, a_fid_is_one_node_until_it_is_forgotten)
{
  NfNode *node = nf_nodes_lookup (nodes, volume, 7);

  cr_assert_eq (nf_nodes_lookup (nodes, volume, 7), node);
  cr_assert_neq (nf_nodes_lookup (nodes, other, 7), node);
  nf_nodes_forget (nodes, node, 1);
  g_autoptr (NfNode) found = nf_nodes_find (nodes, volume, 7);
  cr_assert_eq (found, node);
  nf_nodes_forget (nodes, node, 1);
  cr_assert_null (nf_nodes_find (nodes, volume, 7));
  cr_assert_eq (nf_nodes_count (nodes), 1);
}

Test (inode, a_reference_outlives_the_kernels_lookups)
{
  NfNode *node = nf_node_ref (nf_nodes_lookup (nodes, volume, 7));

  nf_nodes_forget (nodes, node, 1);
  cr_assert_eq (node->fid, 7);
  nf_nodes_detach (nodes, node);
  nf_node_unref (node);
  cr_assert_eq (nf_nodes_count (nodes), 0);
}

Test (inode, a_detached_node_is_replaced_by_the_next_lookup)
{
  NfNode *old = nf_nodes_lookup (nodes, volume, 7);
  guint64 generation = old->generation;

  nf_nodes_detach (nodes, old);
  cr_assert_null (nf_nodes_find (nodes, volume, 7));
  NfNode *new = nf_nodes_lookup (nodes, volume, 7);
  cr_assert_neq (new, old);
  cr_assert_neq (new->generation, generation);
  /* The old one goes without taking the new one out. */
  nf_nodes_forget (nodes, old, 1);
  g_autoptr (NfNode) found = nf_nodes_find (nodes, volume, 7);
  cr_assert_eq (found, new);
}

/* One look-up makes it, and it may be forgotten before the next one, whose node is opened. */
Test (inode, what_takes_the_place_of_one_that_passed_is_plain_though_it_is_forgotten)
{
  NfNode *old = nf_nodes_lookup (nodes, volume, 7);

  cr_assert_not (old->read_write);
  nf_nodes_detach_to_plain (nodes, old);
  nf_nodes_detach_to_plain (nodes, old);
  for (guint i = 0; i < 2; i++)
    {
      NfNode *next = nf_nodes_lookup (nodes, volume, 7);
      cr_assert_neq (next, old);
      cr_assert (next->read_write);
      nf_nodes_forget (nodes, next, 1);
    }
  cr_assert_not (nf_nodes_lookup (nodes, other, 7)->read_write);
  /* Not for ever. */
  for (guint i = 0; i < 2000; i++)
    nf_nodes_detach_to_plain (nodes, nf_nodes_lookup (nodes, other, 100 + i));
  cr_assert_not (nf_nodes_lookup (nodes, volume, 7)->read_write);
}

Test (inode, an_address_used_again_has_another_generation)
{
  guint64 last = 0;

  for (int i = 0; i < 100; i++)
    {
      NfNode *node = nf_nodes_lookup (nodes, volume, 7);
      cr_assert_gt (node->generation, last);
      last = node->generation;
      nf_nodes_forget (nodes, node, 1);
    }
}

Test (inode, a_volume_is_detached_alone)
{
  (void)nf_nodes_lookup (nodes, volume, 1);
  (void)nf_nodes_lookup (nodes, volume, 2);
  (void)nf_nodes_lookup (nodes, other, 1);
  nf_nodes_detach_volume (nodes, volume);
  cr_assert_null (nf_nodes_find (nodes, volume, 1));
  g_autoptr (NfNode) found = nf_nodes_find (nodes, other, 1);
  cr_assert_not_null (found);
  g_autoptr (GArray) ids = nf_nodes_ids (nodes, volume); /* the kernel still knows them */
  cr_assert_eq (ids->len, 2);
}

Test (inode, the_first_backing_object_is_the_nodes_own)
{
  NfNode *node = nf_nodes_lookup (nodes, volume, 7);

  cr_assert (nf_nodes_is_backing (nodes, node, 1000));
  cr_assert (nf_nodes_is_backing (nodes, node, 1000));
  cr_assert_not (nf_nodes_is_backing (nodes, node, 1001));
}

Test (volume, a_removed_one_cannot_be_entered)
{
  NfVolume *removed = nf_volume_new (1, NULL);

  cr_assert (nf_volume_enter (removed));
  nf_volume_leave (removed);
  nf_volume_remove (removed);
  cr_assert_not (nf_volume_enter (removed));
  nf_volume_wait (removed);
  nf_volume_unref (removed);
}

Test (volume, inode_numbers_of_two_differ)
{
  NfVolume *a = nf_volume_new (1, NULL);
  NfVolume *b = nf_volume_new (NF_VOLUME_NUMBER_MAX, NULL);

  cr_assert_eq (nf_volume_ino (a, 5), (G_GUINT64_CONSTANT (1) << 52) + 5);
  cr_assert_eq (nf_volume_ino (b, 5), (G_GUINT64_CONSTANT (4095) << 52) + 5);
  nf_volume_unref (a);
  nf_volume_unref (b);
}
