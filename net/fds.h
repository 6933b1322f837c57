// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <sys/types.h>

#include "net/transport.h"

/* A transport over pairs of descriptors: what a relay hands over, or what leads to an ssh
 * program. */

typedef struct
{
  int in;
  int out;   /* may be the same as `in` */
  int hold;  /* -1, or a socket whose hang-up ends the lane */
  int text;  /* -1, or where the far side's command prints its errors */
  pid_t pid; /* 0, or the child behind the descriptors: ended and reaped with the lane */
} NfFdLane;

#define NF_FD_LANE_INIT ((NfFdLane){ -1, -1, -1, -1, 0 })

/* Where LANE's descriptors are pipes, makes them hold SIZE bytes, as far as the system lets us.
 * On a busy machine a pipe of 64 KiB is emptied once a time slice, and that's the speed then. */
void nf_fd_lane_enlarge (const NfFdLane *lane, int size);
/* Closes what is open and ends the child. */
void nf_fd_lane_clear (NfFdLane *lane);

NfTransport *nf_fds_new (void);
/* Takes what FDS has, which is empty afterwards. LANE must be free. */
void nf_fds_add (NfTransport *transport, guint lane, NfFdLane *fds);
