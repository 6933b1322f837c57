// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>

#include "sync/blocked.h"

#define KEYS 5
#define OPS 400

typedef struct
{
  NfHolds holds;
  guint64 keys[KEYS];
  gboolean writes[KEYS];
  gboolean free;
  gboolean gone;
} Op;

static void
add (Op *op, guint64 key, gboolean write)
{
  op->holds.owner = op;
  nf_holds_add (&op->holds, key, write);
}

Test (blocked, readers_go_together_and_writers_alone)
{
  NfBlocked *blocked = nf_blocked_new ();
  Op a = { 0 }, b = { 0 }, c = { 0 }, d = { 0 };
  GQueue ready = G_QUEUE_INIT;

  add (&a, 1, FALSE);
  add (&b, 1, FALSE);
  add (&c, 1, TRUE);
  add (&d, 1, FALSE);
  cr_assert (nf_blocked_enter (blocked, &a.holds));
  cr_assert (nf_blocked_enter (blocked, &b.holds));
  cr_assert_not (nf_blocked_enter (blocked, &c.holds));
  cr_assert_not (nf_blocked_enter (blocked, &d.holds), "a reader overtook a writer");
  nf_blocked_leave (blocked, &a.holds, &ready);
  cr_assert_eq (ready.length, 0);
  nf_blocked_leave (blocked, &b.holds, &ready);
  cr_assert_eq (g_queue_pop_head (&ready), &c);
  nf_blocked_leave (blocked, &c.holds, &ready);
  cr_assert_eq (g_queue_pop_head (&ready), &d);
  nf_blocked_leave (blocked, &d.holds, &ready);
  cr_assert (nf_blocked_empty (blocked));
  nf_blocked_free (blocked);
}

Test (blocked, a_key_held_twice_by_one_op_does_not_block_it)
{
  NfBlocked *blocked = nf_blocked_new ();
  Op a = { 0 };

  add (&a, 1, FALSE);
  add (&a, 1, TRUE);
  cr_assert_eq (a.holds.n, 1);
  cr_assert (nf_blocked_enter (blocked, &a.holds));
  nf_blocked_leave (blocked, &a.holds, NULL);
  nf_blocked_free (blocked);
}

Test (blocked, names_of_different_directories_are_different_keys)
{
  cr_assert_neq (nf_key_name (1, nf_slice_str ("a")), nf_key_name (2, nf_slice_str ("a")));
  cr_assert_neq (nf_key_name (1, nf_slice_str ("a")), nf_key_name (1, nf_slice_str ("b")));
  cr_assert_neq (nf_key_name (1, NF_SLICE_NONE), nf_key_fid (1));
}

/* Must A, which came first, be over before B may go? */
static gboolean
conflict (const Op *a, const Op *b)
{
  for (guint i = 0; i < a->holds.n; i++)
    for (guint j = 0; j < b->holds.n; j++)
      if (a->keys[i] == b->keys[j] && (a->writes[i] || b->writes[j]))
        return TRUE;
  return FALSE;
}

static gboolean
should_be_free (const Op *ops, guint n)
{
  for (guint i = 0; i < n; i++)
    if (!ops[i].gone && conflict (&ops[i], &ops[n]))
      return FALSE;
  return TRUE;
}

static void
note_ready (GQueue *ready)
{
  Op *op;

  while ((op = g_queue_pop_head (ready)))
    {
      cr_assert_not (op->free, "told twice");
      op->free = TRUE;
    }
}

static void
make_op (GRand *rand, Op *op)
{
  guint n = 1 + (guint)g_rand_int_range (rand, 0, 3);

  for (guint i = 0; i < n; i++)
    add (op, (guint64)g_rand_int_range (rand, 0, KEYS), g_rand_boolean (rand));
  for (guint i = 0; i < op->holds.n; i++)
    {
      op->keys[i] = op->holds.holds[i].key;
      op->writes[i] = op->holds.holds[i].write;
    }
}

/* An op is free exactly when no earlier op that conflicts with it is left. (A reader behind a waiting writer waits
 * with it: the writer conflicts with both.) */
Test (blocked, any_order_of_leaving_frees_what_it_should)
{
  g_autoptr (GRand) rand = g_rand_new_with_seed (1);
  NfBlocked *blocked = nf_blocked_new ();
  g_autofree Op *ops = g_new0 (Op, OPS);
  GQueue ready = G_QUEUE_INIT;

  for (guint n = 0; n < OPS; n++)
    {
      make_op (rand, &ops[n]);
      ops[n].free = nf_blocked_enter (blocked, &ops[n].holds);
      guint pick = (guint)g_rand_int_range (rand, (gint)(n > 20 ? n - 20 : 0), (gint)n + 1);
      if (!ops[pick].gone && ops[pick].free)
        {
          guint held = ops[pick].holds.n;
          nf_blocked_leave (blocked, &ops[pick].holds, &ready);
          ops[pick].holds.n = held; /* for conflict() */
          ops[pick].gone = TRUE;
          note_ready (&ready);
        }
      for (guint i = 0; i <= n; i++)
        if (!ops[i].gone)
          cr_assert_eq (ops[i].free, should_be_free (ops, i), "op %u", i);
    }
  for (guint i = 0; i < OPS; i++)
    if (!ops[i].gone)
      nf_blocked_leave (blocked, &ops[i].holds, NULL);
  cr_assert (nf_blocked_empty (blocked));
  nf_blocked_free (blocked);
}
