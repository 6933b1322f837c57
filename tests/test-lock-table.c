// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>
#include <errno.h>

#include "sync/lock-table.h"

#define LAST G_MAXINT64

static NfLockTable *table;
static GArray *granted;

static void
setup (void)
{
  table = nf_lock_table_new ();
  granted = g_array_new (FALSE, FALSE, sizeof (NfLock));
}

static void
teardown (void)
{
  nf_lock_table_free (table);
  g_array_unref (granted);
}

static NfLock
lock_of (guint64 owner, NfLockType type, guint64 start, guint64 end)
{
  return (NfLock){ .fid = 5, .type = type, .start = start, .end = end, .owner = owner };
}

static int
try_lock (guint64 owner, NfLockType type, guint64 start, guint64 end)
{
  NfLock lock = lock_of (owner, type, start, end);

  return nf_lock_table_set (table, &lock, FALSE, granted);
}

static int
wait_lock (NfFid fid, guint64 owner, NfLockType type, guint64 id)
{
  NfLock lock = lock_of (owner, type, 0, LAST);

  lock.fid = fid;
  lock.id = id;
  return nf_lock_table_set (table, &lock, TRUE, granted);
}

static int
try_flock (guint64 owner, NfLockType type, gboolean wait)
{
  NfLock lock = lock_of (owner, type, 0, 0);

  lock.kind = NF_LOCK_FLOCK;
  lock.id = owner;
  return nf_lock_table_set (table, &lock, wait, granted);
}

static guint64
granted_id (guint i)
{
  return g_array_index (granted, NfLock, i).id;
}

TestSuite (locks, .init = setup, .fini = teardown);

Test (locks, readers_share_and_writers_exclude)
{
  cr_assert_eq (try_lock (1, NF_LOCK_READ, 0, 9), 0);
  cr_assert_eq (try_lock (2, NF_LOCK_READ, 5, 14), 0);
  cr_assert_eq (try_lock (2, NF_LOCK_WRITE, 5, 14), -EAGAIN);
  cr_assert_eq (try_lock (2, NF_LOCK_WRITE, 10, 14), 0);
  cr_assert_eq (try_lock (1, NF_LOCK_READ, 14, 14), -EAGAIN);
  cr_assert_eq (try_lock (1, NF_LOCK_NONE, 0, LAST), 0);
  cr_assert_eq (try_lock (2, NF_LOCK_WRITE, 0, LAST), 0);
}

Test (locks, a_range_is_split_by_an_unlock_within_it)
{
  NfLock holder;
  NfLock asked = lock_of (2, NF_LOCK_READ, 4, 5);

  cr_assert_eq (try_lock (1, NF_LOCK_WRITE, 0, 9), 0);
  cr_assert_eq (try_lock (1, NF_LOCK_NONE, 4, 5), 0);
  cr_assert_not (nf_lock_table_test (table, &asked, &holder));
  asked.end = 6;
  cr_assert (nf_lock_table_test (table, &asked, &holder));
  cr_assert_eq (holder.start, 6);
  cr_assert_eq (holder.end, 9);
  cr_assert_eq (nf_lock_table_count (table, NULL), 2);
  cr_assert_eq (try_lock (1, NF_LOCK_WRITE, 4, 5), 0);
  cr_assert_eq (nf_lock_table_count (table, NULL), 1, "neighbours are one");
}

Test (locks, who_waits_is_given_what_is_let_go)
{
  cr_assert_eq (wait_lock (5, 1, NF_LOCK_WRITE, 11), 0);
  cr_assert_eq (wait_lock (5, 2, NF_LOCK_READ, 12), -EINPROGRESS);
  cr_assert_eq (wait_lock (5, 3, NF_LOCK_WRITE, 13), -EINPROGRESS);
  cr_assert_eq (wait_lock (5, 4, NF_LOCK_READ, 14), -EINPROGRESS);
  cr_assert_eq (try_lock (1, NF_LOCK_NONE, 0, LAST), 0);
  cr_assert_eq (granted->len, 2);
  cr_assert_eq (granted_id (0), 12);
  cr_assert_eq (granted_id (1), 14);
  cr_assert_eq (try_lock (2, NF_LOCK_NONE, 0, LAST), 0);
  cr_assert_eq (granted->len, 2);
  cr_assert_eq (try_lock (4, NF_LOCK_NONE, 0, LAST), 0);
  cr_assert_eq (granted_id (2), 13);
}

Test (locks, a_downgrade_lets_readers_in)
{
  cr_assert_eq (wait_lock (5, 1, NF_LOCK_WRITE, 11), 0);
  cr_assert_eq (wait_lock (5, 2, NF_LOCK_READ, 12), -EINPROGRESS);
  cr_assert_eq (wait_lock (5, 1, NF_LOCK_READ, 13), 0);
  cr_assert_eq (granted_id (0), 12);
}

Test (locks, a_wait_that_would_never_end_is_refused)
{
  cr_assert_eq (wait_lock (5, 1, NF_LOCK_WRITE, 11), 0);
  cr_assert_eq (wait_lock (6, 2, NF_LOCK_WRITE, 12), 0);
  cr_assert_eq (wait_lock (7, 3, NF_LOCK_WRITE, 13), 0);
  cr_assert_eq (wait_lock (6, 1, NF_LOCK_WRITE, 14), -EINPROGRESS);
  cr_assert_eq (wait_lock (7, 2, NF_LOCK_WRITE, 15), -EINPROGRESS);
  cr_assert_eq (wait_lock (5, 3, NF_LOCK_READ, 16), -EDEADLK);
  /* Two readers that both want to write. */
  cr_assert_eq (wait_lock (8, 4, NF_LOCK_READ, 17), 0);
  cr_assert_eq (wait_lock (8, 5, NF_LOCK_READ, 18), 0);
  cr_assert_eq (wait_lock (8, 4, NF_LOCK_WRITE, 19), -EINPROGRESS);
  cr_assert_eq (wait_lock (8, 5, NF_LOCK_WRITE, 20), -EDEADLK);
}

Test (locks, the_same_numbers_at_two_sites_are_two_owners)
{
  NfLock lock = lock_of (1, NF_LOCK_WRITE, 0, LAST);

  lock.site = "b";
  cr_assert_eq (nf_lock_table_set (table, &lock, FALSE, granted), 0);
  lock.site = "c";
  cr_assert_eq (nf_lock_table_set (table, &lock, FALSE, granted), -EAGAIN);
  lock.id = 3;
  cr_assert_eq (nf_lock_table_set (table, &lock, TRUE, granted), -EINPROGRESS);
  nf_lock_table_clear_site (table, "b", FALSE);
  nf_lock_table_grant (table, granted);
  cr_assert_eq (granted_id (0), 3);
  cr_assert_eq (nf_lock_table_count (table, "c"), 1);
}

Test (locks, a_cancelled_request_gets_nothing)
{
  cr_assert_eq (wait_lock (5, 1, NF_LOCK_WRITE, 11), 0);
  cr_assert_eq (wait_lock (5, 2, NF_LOCK_WRITE, 12), -EINPROGRESS);
  cr_assert (nf_lock_table_cancel (table, NULL, 12));
  cr_assert_not (nf_lock_table_cancel (table, NULL, 12));
  cr_assert_eq (try_lock (1, NF_LOCK_NONE, 0, LAST), 0);
  cr_assert_eq (granted->len, 0);
  cr_assert_not (nf_lock_table_has (table, 5));
}

Test (locks, flocks_and_ranges_do_not_meet)
{
  cr_assert_eq (try_lock (1, NF_LOCK_WRITE, 0, LAST), 0);
  cr_assert_eq (try_flock (2, NF_LOCK_WRITE, FALSE), 0);
  cr_assert_eq (try_flock (3, NF_LOCK_READ, FALSE), -EAGAIN);
}

/* flock(2): a conversion lets go of the old lock first. */
Test (locks, a_flock_that_cannot_be_converted_is_gone)
{
  cr_assert_eq (try_flock (1, NF_LOCK_READ, FALSE), 0);
  cr_assert_eq (try_flock (2, NF_LOCK_READ, FALSE), 0);
  cr_assert_eq (try_flock (1, NF_LOCK_WRITE, FALSE), -EAGAIN);
  cr_assert_eq (try_flock (2, NF_LOCK_WRITE, FALSE), 0);
}

/* ---- against a model that knows each byte by itself ---- */

#define BYTES 24
#define OWNERS 4
#define STEPS 20000

typedef struct
{
  NfLockType of[OWNERS][BYTES];
} Model;

static gboolean
model_allows (const Model *model, const NfLock *lock)
{
  for (guint owner = 0; owner < OWNERS; owner++)
    for (guint64 i = lock->start; i <= lock->end && owner != lock->owner; i++)
      if (model->of[owner][i] == NF_LOCK_WRITE
          || (model->of[owner][i] == NF_LOCK_READ && lock->type == NF_LOCK_WRITE))
        return FALSE;
  return TRUE;
}

static void
compare (const Model *model, guint step)
{
  for (guint owner = 0; owner < OWNERS; owner++)
    for (guint i = 0; i < BYTES; i++)
      {
        NfLock holder;
        NfLock read = lock_of (OWNERS, NF_LOCK_READ, i, i);
        gboolean writer = FALSE;
        for (guint k = 0; k < OWNERS; k++)
          writer |= model->of[k][i] == NF_LOCK_WRITE;
        cr_assert_eq (nf_lock_table_test (table, &read, &holder), writer, "step %u, byte %u", step,
                      i);
      }
}

Test (locks, ranges_are_what_a_model_of_bytes_says)
{
  g_autoptr (GRand) rand = g_rand_new_with_seed (7);
  Model model;

  for (guint owner = 0; owner < OWNERS; owner++)
    for (guint i = 0; i < BYTES; i++)
      model.of[owner][i] = NF_LOCK_NONE;
  for (guint step = 0; step < STEPS; step++)
    {
      guint start = (guint)g_rand_int_range (rand, 0, BYTES);
      guint end = (guint)g_rand_int_range (rand, (gint32)start, BYTES);
      NfLock lock = lock_of ((guint64)g_rand_int_range (rand, 0, OWNERS),
                             (NfLockType)g_rand_int_range (rand, 0, 3), start, end);
      gboolean allowed = lock.type == NF_LOCK_NONE || model_allows (&model, &lock);
      cr_assert_eq (nf_lock_table_set (table, &lock, FALSE, granted), allowed ? 0 : -EAGAIN,
                    "step %u", step);
      for (guint i = start; i <= end && allowed; i++)
        model.of[lock.owner][i] = lock.type;
      if (step % 16 == 0)
        compare (&model, step);
    }
  for (guint64 owner = 0; owner < OWNERS; owner++)
    cr_assert_eq (try_lock (owner, NF_LOCK_NONE, 0, LAST), 0);
  cr_assert_eq (nf_lock_table_count (table, NULL), 0);
}
