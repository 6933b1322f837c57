// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/told.h"

#include <errno.h>

#include "sync/share-internal.h"

typedef struct
{
  int status;
  NfCallDone done;
  gpointer data;
} Answer;

struct NfTold
{
  NfShare *share; /* only to ask for */
  NfHost *host;
  gint refs; /* jobs under way */
  pthread_mutex_t lock;
  GQueue answers; /* guarded by lock */
  gint n_answers; /* atomic: their number */
};

NfTold *
nf_told_new (NfShare *share)
{
  NfTold *told = g_new0 (NfTold, 1);

  told->share = share;
  told->host = share->host;
  told->refs = 1;
  pthread_mutex_init (&told->lock, NULL);
  return told;
}

static void
told_unref (NfTold *told)
{
  if (!g_atomic_int_dec_and_test (&told->refs))
    return;
  pthread_mutex_destroy (&told->lock);
  g_free (told);
}

static void
answer (Answer *item, int status)
{
  NfMsg msg = { .type = NF_MSG_ANSWER };

  item->done (item->data, status, &msg);
  g_free (item);
}

static void
answer_all (NfTold *told, int status)
{
  GQueue answers;
  Answer *item;

  pthread_mutex_lock (&told->lock);
  answers = told->answers;
  g_queue_init (&told->answers);
  g_atomic_int_set (&told->n_answers, 0);
  pthread_mutex_unlock (&told->lock);
  while ((item = g_queue_pop_head (&answers)))
    answer (item, status != 0 ? status : item->status);
}

void
nf_told_free (NfTold *told)
{
  answer_all (told, -EHOSTUNREACH);
  told_unref (told);
}

static gboolean
is_telling (NfTold *told)
{
  return told->host->telling && told->host->telling (told->host->data, told->share);
}

void
nf_told_answer (NfTold *told, int status, NfCallDone done, gpointer data)
{
  Answer *item = g_new (Answer, 1);

  *item = (Answer){ status, done, data };
  if (!is_telling (told))
    {
      answer (item, status);
      return;
    }
  pthread_mutex_lock (&told->lock);
  g_queue_push_tail (&told->answers, item);
  g_atomic_int_inc (&told->n_answers);
  pthread_mutex_unlock (&told->lock);
  /* It is in the queue before it is asked again, so that the end of the telling isn't missed. */
  if (!is_telling (told))
    nf_told_run (told);
}

static void
run (gpointer data)
{
  NfTold *told = data;

  answer_all (told, 0);
  told_unref (told);
}

void
nf_told_run (NfTold *told)
{
  if (g_atomic_int_get (&told->n_answers) == 0)
    return;
  g_atomic_int_inc (&told->refs);
  told->host->post (told->host->data, run, told);
}
