// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/primary-internal.h"

#include <errno.h>
#include <string.h>

/* WAIT: answered when these sites have applied an op, or when the time is over. */

/* Waiting calls are answered one by one with every position that comes in: more than this many is no use. */
#define WAITS_MAX 4096

typedef struct
{
  guint64 id; /* ours, for the timer */
  guint64 seq;
  char **sites; /* not there yet; NULL-terminated */
  char *owner;
  guint64 owner_id;
  NfCallDone done;
  gpointer data;
} Wait;

struct NfWaits
{
  NfPrimary *primary;
  pthread_mutex_t lock; /* guards what follows */
  GQueue waits;         /* of Wait */
  guint64 next_id;
};

typedef struct
{
  NfLife *life;
  guint64 id;
} Timer;

NfWaits *
nf_waits_new (NfPrimary *primary)
{
  NfWaits *waits = g_new0 (NfWaits, 1);

  waits->primary = primary;
  waits->next_id = 1;
  pthread_mutex_init (&waits->lock, NULL);
  return waits;
}

/* Without the lock. */
static void
answer (Wait *wait, int status)
{
  NfMsg msg = { .type = NF_MSG_ANSWER };

  msg.answer.seq = wait->seq;
  wait->done (wait->data, status, &msg);
  g_strfreev (wait->sites);
  g_free (wait->owner);
  g_free (wait);
}

typedef gboolean (*WaitFunc) (NfWaits *waits, const Wait *wait, gconstpointer data);

/* Answers all that FUNC picks. */
static void
answer_picked (NfWaits *waits, WaitFunc func, gconstpointer data, int status)
{
  GQueue picked = G_QUEUE_INIT;
  Wait *wait;

  pthread_mutex_lock (&waits->lock);
  for (GList *l = waits->waits.head, *next; l; l = next)
    {
      next = l->next;
      if (!func (waits, l->data, data))
        continue;
      g_queue_unlink (&waits->waits, l);
      g_queue_push_tail_link (&picked, l);
    }
  pthread_mutex_unlock (&waits->lock);
  while ((wait = g_queue_pop_head (&picked)))
    answer (wait, status);
}

static gboolean
has_applied (NfWaits *waits, const char *site, guint64 seq)
{
  NfSubscriberState state;

  nf_broadcast_state (waits->primary->broadcast, site, &state);
  return state.position.seq >= seq && state.whole;
}

static gboolean
is_over (NfWaits *waits, const Wait *wait, gconstpointer data)
{
  (void)data;
  for (char **site = wait->sites; *site; site++)
    if (!has_applied (waits, *site, wait->seq))
      return FALSE;
  return TRUE;
}

static gboolean
is_any (NfWaits *waits, const Wait *wait, gconstpointer data)
{
  (void)waits, (void)wait, (void)data;
  return TRUE;
}

static gboolean
has_id (NfWaits *waits, const Wait *wait, gconstpointer data)
{
  (void)waits;
  return wait->id == *(const guint64 *)data;
}

static gboolean
has_owner (NfWaits *waits, const Wait *wait, gconstpointer data)
{
  const Wait *like = data;

  (void)waits;
  return g_strcmp0 (wait->owner, like->owner) == 0 && wait->owner_id == like->owner_id;
}

void
nf_waits_free (NfWaits *waits)
{
  answer_picked (waits, is_any, NULL, -EHOSTUNREACH);
  pthread_mutex_destroy (&waits->lock);
  g_free (waits);
}

void
nf_waits_check (NfWaits *waits)
{
  answer_picked (waits, is_over, NULL, 0);
}

void
nf_waits_cancel (NfWaits *waits, const char *owner, guint64 id)
{
  Wait like = { .owner = (char *)owner, .owner_id = id };

  answer_picked (waits, has_owner, &like, -EINTR);
}

static gboolean
is_owned (NfWaits *waits, const Wait *wait, gconstpointer data)
{
  (void)waits;
  return g_strcmp0 (wait->owner, data) == 0;
}

void
nf_waits_drop (NfWaits *waits, const char *owner)
{
  answer_picked (waits, is_owned, owner, -EHOSTUNREACH);
}

static void
time_is_over (gpointer data)
{
  Timer *timer = data;
  NfPrimary *primary = nf_life_enter (timer->life);

  if (primary)
    {
      answer_picked (primary->waits, has_id, &timer->id, -ETIMEDOUT);
      nf_life_leave (timer->life);
    }
  nf_life_unref (timer->life);
  g_free (timer);
}

static gboolean
is_member (const NfShareConf *conf, const char *site)
{
  return conf->members && g_strv_contains (conf->members, site);
}

/* The sites that are named, without ourselves. NULL if one isn't of this share. */
static char **
parse_sites (NfShare *share, NfSlice sites)
{
  g_autofree char *text = nf_slice_dup (sites);
  g_autoptr (GPtrArray) list = g_ptr_array_new_with_free_func (g_free);

  if (text[0] == '\0' || g_str_equal (text, "all"))
    return share->conf.members ? g_strdupv ((char **)share->conf.members) : g_new0 (char *, 1);
  g_auto (GStrv) parts = g_strsplit (text, ",", -1);
  for (char **part = parts; *part; part++)
    {
      const char *site = g_strstrip (*part);
      if (site[0] == '\0' || g_str_equal (site, share->conf.site))
        continue;
      if (!is_member (&share->conf, site))
        return NULL;
      g_ptr_array_add (list, g_strdup (site));
    }
  g_ptr_array_add (list, NULL);
  return (char **)g_ptr_array_free (g_steal_pointer (&list), FALSE);
}

/* The id, or 0 if there is no room. WAIT may be answered and gone as soon as it stands in the queue. */
static guint64
enqueue (NfWaits *waits, Wait *wait)
{
  guint64 id = 0;

  pthread_mutex_lock (&waits->lock);
  if (waits->waits.length < WAITS_MAX)
    {
      id = wait->id = waits->next_id++;
      g_queue_push_tail (&waits->waits, wait);
    }
  pthread_mutex_unlock (&waits->lock);
  return id;
}

static void
start_timer (NfWaits *waits, guint64 id, guint timeout_ms)
{
  NfHost *host = waits->primary->share->host;
  Timer *timer = g_new (Timer, 1);

  *timer = (Timer){ nf_life_ref (waits->primary->life), id };
  host->post_after (host->data, timeout_ms, time_is_over, timer);
}

void
nf_waits_add (NfWaits *waits, guint64 seq, NfSlice sites, guint timeout_ms, const char *owner,
              guint64 id, NfCallDone done, gpointer data)
{
  Wait *wait = g_new0 (Wait, 1);

  *wait
      = (Wait){ .seq = seq, .owner = g_strdup (owner), .owner_id = id, .done = done, .data = data };
  wait->sites = parse_sites (waits->primary->share, sites);
  if (!wait->sites)
    {
      answer (wait, -EINVAL);
      return;
    }
  guint64 queued = enqueue (waits, wait);
  if (queued == 0)
    {
      answer (wait, -EAGAIN);
      return;
    }
  if (timeout_ms > 0)
    start_timer (waits, queued, timeout_ms);
  nf_waits_check (waits);
}
