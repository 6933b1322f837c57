// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>

#include "sync/answered.h"
#include "sync/order.h"

/* The primary's bookkeeping: which ops are done, and which calls were answered. */

Test (order, the_watermark_waits_for_the_slowest)
{
  NfOrder *order = nf_order_new (10);
  guint64 first[] = { 12, 14 }, second[] = { 11 }, third[] = { 13 };

  nf_order_done (order, first, 2);
  cr_assert_eq (nf_order_watermark (order), 10);
  cr_assert_eq (nf_order_peek (order, second, 1), 12);
  cr_assert_eq (nf_order_watermark (order), 10);
  nf_order_done (order, second, 1);
  cr_assert_eq (nf_order_watermark (order), 12);
  nf_order_done (order, third, 1);
  cr_assert_eq (nf_order_watermark (order), 14);
  nf_order_free (order);
}

/* Far more than can be under way, in the worst order, round the ring several times. */
Test (order, any_number_may_be_under_way)
{
  const guint64 span = 3000;
  NfOrder *order = nf_order_new (0);

  for (guint64 round = 0; round < 4; round++)
    {
      guint64 base = round * span;
      for (guint64 seq = base + span; seq > base + 1; seq--)
        nf_order_done (order, &seq, 1);
      cr_assert_eq (nf_order_watermark (order), base);
      guint64 last = base + 1;
      cr_assert_eq (nf_order_peek (order, &last, 1), base + span);
      nf_order_done (order, &last, 1);
      cr_assert_eq (nf_order_watermark (order), base + span);
    }
  nf_order_free (order);
}

Test (answered, a_call_is_new_then_busy_then_known_then_forgotten)
{
  NfAnswered *answered = nf_answered_new ();
  NfAnswer answer = { .status = -17, .seq = 5 }, got;

  cr_assert_eq (nf_answered_begin (answered, "b", 1, 0, &got), NF_ANSWERED_NEW);
  cr_assert_eq (nf_answered_begin (answered, "b", 1, 0, &got), NF_ANSWERED_BUSY);
  cr_assert_eq (nf_answered_begin (answered, "c", 1, 0, &got), NF_ANSWERED_NEW);
  nf_answered_end (answered, "b", 1, &answer);
  cr_assert_eq (nf_answered_begin (answered, "b", 1, 0, &got), NF_ANSWERED_KNOWN);
  cr_assert_eq (got.status, -17);
  cr_assert_eq (got.seq, 5);
  cr_assert_eq (nf_answered_begin (answered, "b", 2, 1, &got), NF_ANSWERED_NEW); /* has 1 */
  cr_assert_eq (nf_answered_begin (answered, "b", 1, 1, &got), NF_ANSWERED_NEW);
  nf_answered_free (answered);
}

Test (answered, a_site_that_never_acknowledges_is_bounded)
{
  NfAnswered *answered = nf_answered_new ();
  NfAnswer answer = { 0 }, got;

  for (guint64 id = 1; id <= NF_ANSWERED_MAX + 100; id++)
    {
      cr_assert_eq (nf_answered_begin (answered, "b", id, 0, &got), NF_ANSWERED_NEW);
      nf_answered_end (answered, "b", id, &answer);
    }
  cr_assert_eq (nf_answered_begin (answered, "b", 1, 0, &got), NF_ANSWERED_NEW);
  cr_assert_eq (nf_answered_begin (answered, "b", NF_ANSWERED_MAX, 0, &got), NF_ANSWERED_KNOWN);
  nf_answered_free (answered);
}
