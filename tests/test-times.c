// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>

#include "sync/times.h"

#define NOW (G_GINT64_CONSTANT (1800000000) * NF_TIME_SECOND)
#define US G_GINT64_CONSTANT (1000)

Test (times, what_one_change_set_is_shown_as_one_time)
{
  cr_assert_eq (nf_time_shown (NOW, NOW), NOW);
  cr_assert_eq (nf_time_shown (NOW, NOW + 10 * US), NOW);
}

Test (times, a_later_change_is_shown)
{
  cr_assert_eq (nf_time_shown (NOW, NOW + 50 * US), NOW + 50 * US);
  cr_assert_eq (nf_time_shown (0, NOW), NOW);
}

Test (times, an_mtime_in_the_future_does_not_move_ctime)
{
  cr_assert_eq (nf_time_shown (NOW + NF_TIME_SECOND, NOW), NOW);
  cr_assert_eq (nf_time_shown (NOW + US, NOW), NOW);
  cr_assert_eq (nf_time_shown (G_MAXINT64, NOW), NOW);
  cr_assert_eq (nf_time_shown (G_MININT64 + 1, NOW), NOW);
}
