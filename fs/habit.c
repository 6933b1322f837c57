// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/habit.h"

/* Few requests are enough to see that they come one after another; after one that was taken over, it takes longer. */
#define CREDIT_ENOUGH 4
#define CREDIT_SPENT (-16)
/* A fine is twice the last one, and half of it after so many quick requests. With a processor that is shared with busy
 * daemons one in fifty takes long; at CREDIT_SPENT for each, a third of all requests was handed over for it. */
#define FINE_MIN 1
#define FINE_MAX (CREDIT_ENOUGH - CREDIT_SPENT)
#define FINE_DROPS_AFTER 16
/* What looking without sleeping costs in credit: twice as much after each time that somebody else had the processor
 * meanwhile, and less again while that doesn't happen. */
#define PRICE_MIN CREDIT_ENOUGH
#define PRICE_MAX 4096
#define PRICE_DROPS_AFTER 32
/* So many requests in a row are by one caller before one is near him: of two at a time each has a few, too. */
#define SAME_ENOUGH 8
/* The kernel gives out so many FORGETs before requests, and then requests, with FORGETs behind them that nobody waits
 * for (fuse_dev_do_read()). */
#define FORGETS_LINGER 32
/* So many answers are sent as by anybody: twice as many each time, and half as many once as many others went well. */
#define SHY_MIN 32
#define SHY_MAX 4096

/* VALUE is doubled, or halved after AFTER times that it wasn't, which N counts. */
static void
adjust (guint *value, guint *n, gboolean up, guint least, guint most, guint after)
{
  if (up)
    *value = MIN (*value * 2, most);
  else if (++*n >= after)
    *value = MAX (*value / 2, least);
  else
    return;
  *n = 0;
}

void
nf_habit_init (NfHabit *habit)
{
  *habit = (NfHabit){ .fine = FINE_MIN, .price = PRICE_MIN, .shy = SHY_MIN };
}

void
nf_habit_forget (NfHabit *habit)
{
  habit->n_forgetful = FORGETS_LINGER;
}

void
nf_habit_next (NfHabit *habit, guint32 caller, gboolean soon, gboolean more)
{
  if (caller != 0 && caller != habit->caller)
    {
      habit->caller = caller;
      habit->n_same = 0;
    }
  habit->n_same++;
  if (habit->n_forgetful > 0)
    {
      habit->n_forgetful--;
      more = FALSE;
    }
  if (soon && !more)
    habit->credit = MIN (habit->credit + 1, (int)habit->price + CREDIT_ENOUGH);
  else if (habit->credit > 0)
    habit->credit = MAX (habit->credit - (more ? 2 : CREDIT_ENOUGH), 0);
}

void
nf_habit_done (NfHabit *habit, gboolean slow)
{
  if (slow)
    habit->credit = MIN (habit->credit, CREDIT_ENOUGH) - (int)habit->fine;
  adjust (&habit->fine, &habit->n_quick, slow, FINE_MIN, FINE_MAX, FINE_DROPS_AFTER);
}

void
nf_habit_kept_off (NfHabit *habit)
{
  if (habit->n_shy == 0)
    adjust (&habit->shy, &habit->n_bold, TRUE, SHY_MIN, SHY_MAX, habit->shy);
  habit->n_shy = habit->shy;
}

void
nf_habit_taken_over (NfHabit *habit, gboolean answered)
{
  if (answered)
    nf_habit_kept_off (habit);
  else
    habit->credit = CREDIT_SPENT;
}

void
nf_habit_looked (NfHabit *habit, gboolean kept_off)
{
  adjust (&habit->price, &habit->n_cheap, kept_off, PRICE_MIN, PRICE_MAX, PRICE_DROPS_AFTER);
}

gboolean
nf_habit_stays (const NfHabit *habit)
{
  return habit->credit >= CREDIT_ENOUGH;
}

gboolean
nf_habit_is_alone (const NfHabit *habit)
{
  return habit->n_same >= SAME_ENOUGH;
}

gboolean
nf_habit_spins (const NfHabit *habit)
{
  return habit->credit >= (int)habit->price;
}

gboolean
nf_habit_is_shy (NfHabit *habit)
{
  if (habit->n_shy > 0)
    {
      habit->n_shy--;
      return TRUE;
    }
  adjust (&habit->shy, &habit->n_bold, FALSE, SHY_MIN, SHY_MAX, habit->shy);
  return FALSE;
}
