// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <pthread.h>

#include "fs/readers.h"

/* Workers that read requests through NfReaders from a socket in the kernel's place, and callers who ask and wait for the
 * answer. A request that is *stuck* isn't answered before nf_crew_release(). */

#define NF_CREW_WORKERS 4
#define NF_CREW_CALLERS 8

typedef struct
{
  NfReaders *readers;
  int kernel, session; /* the two ends of the requests' socket */
  int answers[NF_CREW_CALLERS][2];
  pthread_t workers[NF_CREW_WORKERS];
  pthread_mutex_t lock; /* guards what follows */
  pthread_cond_t changed;
  gboolean released;
  guint n_stuck;
} NfCrew;

/* FALSE: no threads or sockets are to be had. */
gboolean nf_crew_start (NfCrew *crew);
/* The workers are cancelled, as libfuse does. FALSE: one couldn't be. */
gboolean nf_crew_stop (NfCrew *crew);
typedef enum
{
  NF_CREW_QUICK,
  NF_CREW_STUCK,
  NF_CREW_STUCK_RELEASE,
} NfCrewRequest;
/* Asks as CALLER. */
gboolean nf_crew_send (NfCrew *crew, guint caller, NfCrewRequest request);
/* Waits for the answer, TIMEOUT_MS at most. */
gboolean nf_crew_is_answered (NfCrew *crew, guint caller, int timeout_ms);
/* Waits until N requests are stuck: their workers have them. */
void nf_crew_wait_stuck (NfCrew *crew, guint n);
/* What was stuck is answered. */
void nf_crew_release (NfCrew *crew);
