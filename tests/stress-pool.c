// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "fs/pool.h"

/* Several threads post to a pool, at once and later, what posts again; a few block. Then it is
 * freed while all of that is under way, and nothing may be missing. */

#define ROUNDS 20
#define POSTERS 4
#define POSTS 500

static NfPool *pool;
static atomic_uint posted;
static atomic_uint run;

static void
leaf (gpointer arg)
{
  (void)arg;
  atomic_fetch_add (&run, 1);
}

static void
branch (gpointer arg)
{
  const struct timespec blocked = { .tv_nsec = 2 * 1000 * 1000 };
  guint number = GPOINTER_TO_UINT (arg);

  if (number % 50 == 0)
    nanosleep (&blocked, NULL);
  atomic_fetch_add (&posted, 1);
  if (number % 3 == 0)
    nf_pool_post_after (pool, number % 40, leaf, NULL);
  else
    nf_pool_post (pool, leaf, NULL);
  atomic_fetch_add (&run, 1);
}

static void *
poster (void *arg)
{
  (void)arg;
  for (guint i = 0; i < POSTS; i++)
    {
      atomic_fetch_add (&posted, 1);
      if (i % 2 == 0)
        nf_pool_post (pool, branch, GUINT_TO_POINTER (i));
      else
        nf_pool_post_after (pool, i % 30, branch, GUINT_TO_POINTER (i));
    }
  return NULL;
}

int
main (void)
{
  for (guint round = 0; round < ROUNDS; round++)
    {
      pthread_t threads[POSTERS];
      pool = nf_pool_new ();
      for (guint i = 0; i < POSTERS; i++)
        if (pthread_create (&threads[i], NULL, poster, NULL) != 0)
          return 1;
      for (guint i = 0; i < POSTERS; i++)
        pthread_join (threads[i], NULL);
      nf_pool_free (pool);
      if (atomic_load (&posted) != atomic_load (&run))
        {
          fprintf (stderr, "posted %u, run %u\n", atomic_load (&posted), atomic_load (&run));
          return 1;
        }
    }
  printf ("%u tasks\n", atomic_load (&run));
  return 0;
}
