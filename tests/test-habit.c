// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>

#include "fs/habit.h"

#define ME 7
#define YOU 8
#define MANY 1000

static NfHabit habit;

static void
start (void)
{
  nf_habit_init (&habit);
}

TestSuite (habit, .init = start);

/* N requests by ME, one soon after the other. Returns how many of their workers stayed. */
static guint
ask (guint n)
{
  guint stayed = 0;

  for (guint i = 0; i < n; i++)
    {
      nf_habit_next (&habit, ME, TRUE, FALSE);
      if (!nf_habit_stays (&habit))
        continue;
      stayed++;
      nf_habit_done (&habit, FALSE);
    }
  return stayed;
}

static void
ask_slowly (void)
{
  nf_habit_next (&habit, ME, TRUE, FALSE);
  cr_assert (nf_habit_stays (&habit));
  nf_habit_done (&habit, TRUE);
}

/* How many answers are sent as by anybody until one isn't. */
static guint
shy (void)
{
  guint n = 0;

  while (nf_habit_is_shy (&habit))
    n++;
  return n;
}

Test (habit, who_asks_on_and_on_is_stayed_for)
{
  cr_assert_not (nf_habit_stays (&habit));
  cr_assert_gt (ask (MANY), MANY - 10);
}

Test (habit, a_slow_one_in_a_while_costs_little)
{
  guint stayed = 0;

  ask (MANY);
  for (guint i = 0; i < 20; i++)
    {
      ask_slowly ();
      stayed += ask (49);
    }
  cr_assert_gt (stayed, 20 * 47);
}

Test (habit, one_slow_one_after_the_other_costs_much)
{
  ask (MANY);
  for (guint i = 0; i < 6; i++)
    {
      while (!nf_habit_stays (&habit))
        nf_habit_next (&habit, ME, TRUE, FALSE);
      ask_slowly ();
    }
  cr_assert_eq (ask (15), 0);
  cr_assert_gt (ask (MANY), MANY - 10);
}

Test (habit, what_is_late_or_not_alone_costs_credit)
{
  ask (MANY);
  for (guint i = 0; i < MANY; i++)
    nf_habit_next (&habit, ME, FALSE, FALSE);
  cr_assert_not (nf_habit_stays (&habit));
  ask (MANY);
  for (guint i = 0; i < MANY; i++)
    nf_habit_next (&habit, ME, TRUE, TRUE);
  cr_assert_not (nf_habit_stays (&habit));
}

Test (habit, what_waits_behind_a_forget_is_one_perhaps)
{
  ask (MANY);
  for (guint i = 0; i < MANY; i++)
    {
      if (i % 16 == 0)
        nf_habit_forget (&habit);
      nf_habit_next (&habit, ME, TRUE, TRUE);
      cr_assert (nf_habit_stays (&habit));
    }
}

Test (habit, two_callers_are_not_one)
{
  ask (MANY);
  cr_assert (nf_habit_is_alone (&habit));
  for (guint i = 0; i < MANY; i++)
    {
      nf_habit_next (&habit, i % 2 ? ME : YOU, TRUE, FALSE);
      cr_assert_not (nf_habit_is_alone (&habit));
    }
  for (guint i = 0; i < MANY; i++)
    nf_habit_next (&habit, i % 2 ? ME : 0, TRUE, FALSE);
  cr_assert (nf_habit_is_alone (&habit), "nobody known is nobody else");
}

Test (habit, who_was_taken_over_stays_no_more_for_a_while)
{
  ask (MANY);
  nf_habit_taken_over (&habit, FALSE);
  cr_assert_eq (ask (10), 0);
  cr_assert_gt (ask (MANY), MANY - 20);
}

Test (habit, who_is_kept_off_again_is_shy_for_longer)
{
  cr_assert_eq (shy (), 0);
  nf_habit_kept_off (&habit);
  guint first = shy ();
  cr_assert_gt (first, 0);
  nf_habit_taken_over (&habit, TRUE);
  cr_assert_eq (shy (), 2 * first);
  for (guint i = 0; i < 20; i++)
    {
      nf_habit_kept_off (&habit);
      cr_assert_lt (shy (), 5000, "not for ever");
    }
  for (guint i = 0; i < 100 * MANY; i++)
    cr_assert_not (nf_habit_is_shy (&habit));
  nf_habit_kept_off (&habit);
  cr_assert_eq (shy (), first);
}

Test (habit, looking_without_sleep_costs_more_when_somebody_else_computes)
{
  ask (MANY);
  cr_assert (nf_habit_spins (&habit));
  for (guint i = 0; i < 8; i++)
    nf_habit_looked (&habit, TRUE);
  cr_assert_not (nf_habit_spins (&habit));
  for (guint i = 0; i < MANY; i++)
    nf_habit_looked (&habit, FALSE);
  cr_assert (nf_habit_spins (&habit));
}
