// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sync/host.h"

/* When a file's last name goes, the filesystem frees its blocks: on ext4 70 of the 100 µs that unlink(2) takes, once they
 * have been written. A descriptor without rights keeps the file until somebody has time for that, and the caller
 * needn't wait. Nobody sees a difference: who lacks the space ends it first (nf_linger_end()), and who dies has no
 * descriptors any more.
 *
 * Thread: any. */

typedef struct NfLinger NfLinger;

/* HOST is borrowed. */
NfLinger *nf_linger_new (NfHost *host);
/* All is freed when it returns. */
void nf_linger_free (NfLinger *linger);

/* Keeps what is NAME in the directory DIR_FD, and is about to lose that, if this was its last name by ATTR. Returns a
 * descriptor for nf_linger_leave(), or -1: not worth while. */
int nf_linger_keep (NfLinger *linger, const NfAttr *attr, int dir_fd, const char *name);
/* Closes FD (-1: nothing) soon, on a thread of the host's. */
void nf_linger_leave (NfLinger *linger, int fd);
/* Frees now what there is. FALSE if there was nothing, nor did anybody else just do that. */
gboolean nf_linger_end (NfLinger *linger);
