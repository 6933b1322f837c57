// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <glib.h>

/* A little space put by on the share's filesystem, so that a full disk can be emptied: journal and index have to take
 * in a removal before anything becomes free. Thread: any. */

typedef struct NfReserve NfReserve;

/* In the directory DIR_FD, which stays the caller's. A disk that is full already gives none yet: that is no error. */
NfReserve *nf_reserve_new (int dir_fd);
/* What is put by stays on the disk, for the next time. */
void nf_reserve_free (NfReserve *reserve);
/* Gives the space back to the filesystem. FALSE if there was none. */
gboolean nf_reserve_spend (NfReserve *reserve);
/* Something was removed: it is worth a try to put the space by again. */
void nf_reserve_freed (NfReserve *reserve);
/* Is it there? Where it was spent it is put by again, if by now there is enough for that; tried now and then only,
 * by NOW_MS of a monotonic clock. */
gboolean nf_reserve_held (NfReserve *reserve, gint64 now_ms);
