// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>

#include "tests/readers-help.h"

/* Long enough for any machine; what is waited for comes within microseconds. */
#define WAIT_MS 20000
#define ROUNDS_MAX 20000

static NfCrew crew;

static void
start (void)
{
  cr_assert (nf_crew_start (&crew));
}

static void
stop (void)
{
  cr_assert (nf_crew_stop (&crew), "all can be cancelled, whatever they wait for");
}

TestSuite (readers, .init = start, .fini = stop, .timeout = 120);

static void
ask (guint caller)
{
  cr_assert (nf_crew_send (&crew, caller, NF_CREW_QUICK));
  cr_assert (nf_crew_is_answered (&crew, caller, WAIT_MS));
}

/* One thing after another, until their worker stays the reader: how soon depends on the machine. */
static void
ask_until_kept (void)
{
  guint64 before, kept, taken_over;

  nf_readers_count (crew.readers, &before, &taken_over);
  for (guint i = 0; i < ROUNDS_MAX; i++)
    {
      ask (0);
      nf_readers_count (crew.readers, &kept, &taken_over);
      if (kept > before)
        return;
    }
  cr_assert_fail ("no worker stays at it");
}

Test (readers, the_worker_of_a_caller_who_asks_on_and_on_stays_the_reader)
{
  ask_until_kept ();
}

Test (readers, a_request_behind_one_that_is_stuck_is_answered)
{
  guint64 kept, taken_over = 0;

  /* Whether the stuck one was to be taken over is the reader's to say: some round it is. */
  for (guint i = 0; i < 200 && taken_over == 0; i++)
    {
      ask_until_kept ();
      cr_assert (nf_crew_send (&crew, 1, NF_CREW_STUCK));
      nf_crew_wait_stuck (&crew, 1);
      ask (2);
      cr_assert_not (nf_crew_is_answered (&crew, 1, 0));
      nf_crew_release (&crew);
      cr_assert (nf_crew_is_answered (&crew, 1, WAIT_MS));
      nf_readers_count (crew.readers, &kept, &taken_over);
    }
  cr_assert_gt (taken_over, 0);
}

/* After some ten milliseconds with nothing to see the watch goes, and may just be about to. */
Test (readers, a_request_is_stuck_when_the_watch_is_about_to_go)
{
  for (guint i = 0; i < 60; i++)
    {
      ask_until_kept ();
      g_usleep (9000 + i * 50);
      cr_assert (nf_crew_send (&crew, 1, NF_CREW_STUCK));
      nf_crew_wait_stuck (&crew, 1);
      ask (2);
      nf_crew_release (&crew);
      cr_assert (nf_crew_is_answered (&crew, 1, WAIT_MS));
    }
}

/* Whoever closed the file asks for its lock next. */
Test (readers, nothing_overtakes_a_release)
{
  for (guint i = 0; i < 20; i++)
    {
      if (i % 2 == 0)
        ask_until_kept ();
      cr_assert (nf_crew_send (&crew, 1, NF_CREW_STUCK_RELEASE));
      nf_crew_wait_stuck (&crew, 1);
      cr_assert (nf_crew_send (&crew, 2, NF_CREW_QUICK));
      cr_assert_not (nf_crew_is_answered (&crew, 2, 10));
      nf_crew_release (&crew);
      cr_assert (nf_crew_is_answered (&crew, 1, WAIT_MS));
      cr_assert (nf_crew_is_answered (&crew, 2, WAIT_MS));
    }
}

Test (readers, a_release_that_is_stuck_for_long_holds_nobody_up)
{
  cr_assert (nf_crew_send (&crew, 1, NF_CREW_STUCK_RELEASE));
  nf_crew_wait_stuck (&crew, 1);
  ask (2);
  nf_crew_release (&crew);
  cr_assert (nf_crew_is_answered (&crew, 1, WAIT_MS));
}

Test (readers, all_but_one_may_be_stuck)
{
  for (guint i = 1; i < NF_CREW_WORKERS; i++)
    {
      ask_until_kept ();
      cr_assert (nf_crew_send (&crew, i, NF_CREW_STUCK));
    }
  for (guint i = 0; i < 100; i++)
    ask (0);
  nf_crew_wait_stuck (&crew, NF_CREW_WORKERS - 1);
  nf_crew_release (&crew);
  for (guint i = 1; i < NF_CREW_WORKERS; i++)
    cr_assert (nf_crew_is_answered (&crew, i, WAIT_MS));
}

Test (readers, with_all_stuck_the_next_is_answered_when_they_are_released)
{
  for (guint i = 0; i < NF_CREW_WORKERS; i++)
    cr_assert (nf_crew_send (&crew, i, NF_CREW_STUCK));
  for (guint i = 0; i < NF_CREW_WORKERS; i++)
    cr_assert_not (nf_crew_is_answered (&crew, i, 0));
  cr_assert (nf_crew_send (&crew, NF_CREW_WORKERS, NF_CREW_QUICK));
  nf_crew_wait_stuck (&crew, NF_CREW_WORKERS);
  cr_assert_not (nf_crew_is_answered (&crew, NF_CREW_WORKERS, 0));
  nf_crew_release (&crew);
  for (guint i = 0; i <= NF_CREW_WORKERS; i++)
    cr_assert (nf_crew_is_answered (&crew, i, WAIT_MS));
}
