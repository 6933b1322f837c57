// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <glib.h>
#include <sys/types.h>

/* Disks that fail now and then: the calls that write to a filesystem return EIO by chance, and have done nothing. The program has
 * to be linked with --wrap for each of them (local.mk). */

#define NF_SIM_EIO_DISKS 8

/* From now on about one call in ONE_IN on DEVICE fails, by RAND; 0: none. */
void nf_sim_eio (dev_t device, guint one_in, GRand *rand);
/* How many have failed since the process began. */
guint nf_sim_eio_count (void);
/* From now on fsync() and its like do nothing: for disks that never lose power. */
void nf_sim_skip_syncs (gboolean skip);
