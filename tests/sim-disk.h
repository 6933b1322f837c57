// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <glib.h>

/* A small disk in memory, which can lose its power: ext4 on a loop device. Needs root. What was not synced when the
 * power goes is lost, unless it was written back before, which nf_sim_disk_write_back() does with anything by chance, as a
 * kernel would. The process that has files open there must have ended before the disk comes back. */

typedef struct NfSimDisk NfSimDisk;

/* Mounted, after nf_own_mounts(); NULL: there can't be any. */
NfSimDisk *nf_sim_disk_new (void);
void nf_sim_disk_free (NfSimDisk *disk);
/* Where the share is to be. */
const char *nf_sim_disk_dir (NfSimDisk *disk);
/* Nothing is written any more. */
void nf_sim_disk_cut (NfSimDisk *disk);
/* The machine is started again. */
void nf_sim_disk_come_back (NfSimDisk *disk);
/* Some of what is not on the disk yet gets there. */
void nf_sim_disk_write_back (NfSimDisk *disk, GRand *rand);
/* No room any more, or room again. */
void nf_sim_disk_fill (NfSimDisk *disk, gboolean full);
/* What writes to it fails by chance, once in ONE_IN; 0: no more. */
void nf_sim_disk_fail (NfSimDisk *disk, guint one_in, GRand *rand);
/* Empty, and on the disk. */
void nf_sim_disk_clean (NfSimDisk *disk);
