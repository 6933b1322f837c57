// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <stdio.h>

#include "tests/readers-help.h"

/* Callers ask workers, now one alone, now all at a time, with some requests that hold their worker up; everybody is
 * answered, and the workers can be ended. */

#define ROUNDS 10
#define ASKED 1000
#define WAIT_MS 30000

static NfCrew crew;

typedef struct
{
  guint caller;
  gboolean failed;
  pthread_t thread;
} Caller;

static void *
ask_on (void *data)
{
  Caller *caller = data;

  for (guint i = 0; i < ASKED && !caller->failed; i++)
    caller->failed = !nf_crew_send (&crew, caller->caller, NF_CREW_QUICK)
                     || !nf_crew_is_answered (&crew, caller->caller, WAIT_MS);
  return NULL;
}

/* Callers FIRST to LAST - 1, at a time. */
static gboolean
ask_together (guint first, guint last)
{
  Caller callers[NF_CREW_CALLERS] = { 0 };
  gboolean failed = FALSE;

  for (guint i = first; i < last; i++)
    {
      callers[i].caller = i;
      if (pthread_create (&callers[i].thread, NULL, ask_on, &callers[i]) != 0)
        return FALSE;
    }
  for (guint i = first; i < last; i++)
    {
      pthread_join (callers[i].thread, NULL);
      failed = failed || callers[i].failed;
    }
  return !failed;
}

static gboolean
play (void)
{
  if (!ask_together (1, 2) || !nf_crew_send (&crew, 0, NF_CREW_STUCK) || !ask_together (1, 2)
      || !ask_together (1, NF_CREW_CALLERS))
    return FALSE;
  nf_crew_wait_stuck (&crew, 1);
  nf_crew_release (&crew);
  return nf_crew_is_answered (&crew, 0, WAIT_MS);
}

int
main (void)
{
  guint64 kept = 0, taken_over = 0;

  for (guint round = 0; round < ROUNDS; round++)
    {
      if (!nf_crew_start (&crew) || !play ())
        {
          fprintf (stderr, "round %u: somebody isn't answered\n", round);
          return 1;
        }
      nf_readers_count (crew.readers, &kept, &taken_over);
      if (!nf_crew_stop (&crew))
        {
          fprintf (stderr, "round %u: a worker can't be ended\n", round);
          return 1;
        }
    }
  printf ("%u rounds; in the last %" G_GUINT64_FORMAT " requests were kept, %" G_GUINT64_FORMAT
          " taken over\n",
          ROUNDS, kept, taken_over);
  return 0;
}
