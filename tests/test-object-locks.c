// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>

#include "sync/locks.h"

/* What was seen before the locks were taken is known to be so still only if nobody can have changed it. */

static NfLocks locks;

static void
start (void)
{
  nf_locks_init (&locks);
}

static void
stop (void)
{
  cr_assert_eq (nf_locks_look (&locks) & 0xFFFF, 0, "nobody holds any");
  nf_locks_clear (&locks);
}

TestSuite (object_locks, .init = start, .fini = stop, .timeout = 60);

static NfLockSet
take (NfFid fid)
{
  NfFid fids[2] = { fid, NF_FID_NONE };
  NfLockSet set;

  nf_locks_take (&locks, fids, 2, &set);
  return set;
}

Test (object_locks, what_was_seen_is_so_while_nobody_else_has_any)
{
  guint64 looked = nf_locks_look (&locks);
  NfLockSet mine = take (2);

  cr_assert (nf_locks_saw (&locks, looked));
  nf_locks_give (&locks, &mine);
}

Test (object_locks, somebody_held_one_when_it_was_looked)
{
  NfLockSet other = take (2);
  guint64 looked = nf_locks_look (&locks);

  nf_locks_give (&locks, &other);
  NfLockSet mine = take (2);
  cr_assert (!nf_locks_saw (&locks, looked));
  nf_locks_give (&locks, &mine);
}

Test (object_locks, somebody_had_one_between)
{
  guint64 looked = nf_locks_look (&locks);
  NfLockSet other = take (2);

  nf_locks_give (&locks, &other);
  NfLockSet mine = take (2);
  cr_assert (!nf_locks_saw (&locks, looked));
  nf_locks_give (&locks, &mine);
}

/* He may have had the same one in his turn before the caller did. */
Test (object_locks, somebody_takes_one_meanwhile)
{
  guint64 looked = nf_locks_look (&locks);
  NfLockSet mine = take (2);
  NfLockSet other = take (3);

  cr_assert (!nf_locks_saw (&locks, looked));
  nf_locks_give (&locks, &other);
  cr_assert (!nf_locks_saw (&locks, looked));
  nf_locks_give (&locks, &mine);
}

Test (object_locks, none_at_all_are_none)
{
  guint64 looked = nf_locks_look (&locks);
  NfLockSet none = take (NF_FID_NONE);

  nf_locks_give (&locks, &none);
  nf_locks_give (&locks, &none);
  cr_assert_eq (nf_locks_look (&locks), looked);
}
