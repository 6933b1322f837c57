// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>

#include "net/rtt.h"

static void
note (NfRtt *rtt, guint n, guint64 us)
{
  for (guint i = 0; i < n; i++)
    nf_rtt_note (rtt, us);
}

Test (rtt, an_answer_that_waited_in_a_queue_does_not_count)
{
  NfRtt rtt = { 0 };

  note (&rtt, 1, 200);
  note (&rtt, 1, 50000);
  cr_assert_eq (rtt.recent_us, 200);
  cr_assert_eq (rtt.last_us, 50000);
}

Test (rtt, a_path_that_has_become_longer_is_seen_after_some_answers)
{
  NfRtt rtt = { 0 };

  note (&rtt, 3, 200);
  note (&rtt, 12, 20000);
  cr_assert_eq (rtt.recent_us, 20000);
  cr_assert_eq (rtt.min_us, 200);
}

Test (rtt, a_path_that_has_become_shorter_is_seen_at_once)
{
  NfRtt rtt = { 0 };

  note (&rtt, 6, 20000);
  note (&rtt, 1, 300);
  cr_assert_eq (rtt.recent_us, 300);
}
