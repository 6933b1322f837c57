// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <glib.h>

/* Whether something that posted jobs and timers refer to is still there: they can't be called back, so each holds a
 * reference to an NfLife and asks it first. */

typedef struct NfLife NfLife;

NfLife *nf_life_new (gpointer object);
NfLife *nf_life_ref (NfLife *life);
void nf_life_unref (NfLife *life);
/* The object, which stays until nf_life_leave(); NULL if it has ended. */
gpointer nf_life_enter (NfLife *life);
void nf_life_leave (NfLife *life);
/* Waits for those that have entered; nobody enters from then on. */
void nf_life_end (NfLife *life);
