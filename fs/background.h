// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

/* Going to the background such that who started the program learns whether it works. */

/* Forks; goes on in the child. The parent stays until nf_background_ready(), then exits with 0;
 * if the child ends before, with its status. Standard error is the child's until then. To be
 * called before any thread is made. 0 or -errno. */
int nf_background_start (void);
/* Lets the parent go, leaves the directory and the terminal. Nothing without
 * nf_background_start(). */
void nf_background_ready (void);
