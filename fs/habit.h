// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <glib.h>

/* What the reader of requests (fs/readers.h) expects of the next one, by what was. It knows no clock and no thread: it is
 * told what happened, and belongs to whoever is the reader.
 *
 * `credit` grows with each request that came soon after the one before and was quickly dealt with, and shrinks with each
 * that wasn't so. One that took long is fined: little if it is the only one, for then its worker was mostly kept from a
 * processor by somebody else, as any other would have been; more with each that follows. */
typedef struct
{
  int credit;
  guint fine;        /* for the next that takes long */
  guint n_quick;     /* requests since `fine` was last changed */
  guint price;       /* credit it takes to look without sleeping */
  guint n_cheap;     /* looks since `price` was last changed */
  guint32 caller;    /* who asked last, */
  guint n_same;      /* for so many times */
  guint n_forgetful; /* requests since the last FORGET, counted down */
  guint shy, n_shy;  /* how many answers are sent so, and how many are left of them */
  guint n_bold;      /* others since */
} NfHabit;

void nf_habit_init (NfHabit *habit);

/* The next request is there. CALLER: a thread's id, 0: nobody known. SOON: it came soon after the answer to the one before.
 * MORE: another waits behind it. */
void nf_habit_next (NfHabit *habit, guint32 caller, gboolean soon, gboolean more);
/* Instead: one that nobody waits for, and behind which the kernel gives out others. */
void nf_habit_forget (NfHabit *habit);
/* The request was dealt with by a worker who had stayed the reader. */
void nf_habit_done (NfHabit *habit, gboolean slow);
/* Another has become the reader meanwhile. ANSWERED: the request was; its worker wasn't given a processor afterwards. */
void nf_habit_taken_over (NfHabit *habit, gboolean answered);
/* Somebody else had the processor for long that the worker had offered to whom he answered. */
void nf_habit_kept_off (NfHabit *habit);
/* It looked for a request without sleeping. KEPT_OFF: as above. */
void nf_habit_looked (NfHabit *habit, gboolean kept_off);

/* The worker of what is there expects to be back at once. */
gboolean nf_habit_stays (const NfHabit *habit);
/* A single caller asks one thing after another. */
gboolean nf_habit_is_alone (const NfHabit *habit);
/* It is worth looking for the next request without sleeping. */
gboolean nf_habit_spins (const NfHabit *habit);
/* The answer to what is there is to be sent as by anybody: who offers his processor to whom he answers might not get it back.
 * To be asked once a request. */
gboolean nf_habit_is_shy (NfHabit *habit);
