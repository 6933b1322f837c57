// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/primary-internal.h"

#include <errno.h>
#include <unistd.h>

#include "sync/sole.h"

/* Files without a name that somebody has open, here or at another site, lie among the orphans until the last one has
 * closed them. A site's holds outlive its link, and this process: it says them anew with each new link. */

/* How long holds that aren't said again, and orphans of the last process, are kept: longer than a link takes to come
 * up and a site to say what it has. */
#define GRACE_MS (120 * 1000)

typedef struct
{
  NfLife *life;
  char *site; /* NULL: all orphans */
} Grace;

void
nf_primary_released (NfPrimary *primary, NfFid fid)
{
  NfShare *share = primary->share;
  NfObject object;
  NfLockSet locks;

  /* Under the lock: an unlink under way either has made the orphan, or finds that nobody holds it. */
  nf_locks_take (&primary->locks, &fid, 1, &locks);
  if (nf_index_get (share->index, fid, &object) && object.place == NF_PLACE_ORPHANS
      && !nf_opens_held (share->opens, fid))
    (void)nf_tree_drop_orphan (share->tree, fid); /* if not: the next start does */
  nf_locks_give (&primary->locks, &locks);
}

/* A hold that says who has opened the file is judged now, which spares its writes the question. */
static void
judge_hold (NfPrimary *primary, const char *site, const NfMsg *call, const NfCallHead *head)
{
  NfFid fid = call->hold.fid;
  NfExec exec;

  if (head->user.len == 0)
    return;
  int fd = nf_tree_open_fid (primary->share->tree, fid, O_PATH);
  if (fd < 0)
    return;
  nf_exec_init (&exec, primary, site, NULL, call, head, NULL);
  (void)nf_exec_judge (&exec, fid, fd, W_OK); /* each write is asked if it comes to no */
  close (fd);
}

int
nf_primary_hold (NfPrimary *primary, const char *site, const NfMsg *call, const NfCallHead *head)
{
  NfFid fid = call->hold.fid;
  NfShare *share = primary->share;
  NfObject object;
  NfLockSet locks;
  int err = -ESTALE;

  nf_locks_take (&primary->locks, &fid, 1, &locks);
  if (nf_index_get (share->index, fid, &object))
    err = nf_opens_hold (share->opens, site, fid);
  if (err == 0)
    {
      err = nf_sole_check (share, fid, site);
      if (err != 0)
        nf_opens_drop (share->opens, site, fid);
    }
  nf_locks_give (&primary->locks, &locks);
  if (err == 0)
    judge_hold (primary, site, call, head);
  return err;
}

void
nf_primary_drop (NfPrimary *primary, const char *site, NfFid fid)
{
  nf_opens_drop (primary->share->opens, site, fid);
  nf_primary_released (primary, fid);
}

static void
collect_orphan (NfFid fid, gpointer data)
{
  g_array_append_val ((GArray *)data, fid);
}

static GArray *
all_orphans (NfPrimary *primary)
{
  GArray *fids = g_array_new (FALSE, FALSE, sizeof (NfFid));

  (void)nf_tree_each_orphan (primary->share->tree, collect_orphan,
                             fids); /* what isn't found stays a while */
  return fids;
}

static void
grace_is_over (gpointer data)
{
  Grace *grace = data;
  NfPrimary *primary = nf_life_enter (grace->life);

  if (primary)
    {
      g_autoptr (GArray) fids = grace->site
                                    ? nf_opens_drop_stale (primary->share->opens, grace->site)
                                    : all_orphans (primary);
      for (guint i = 0; i < fids->len; i++)
        nf_primary_released (primary, g_array_index (fids, NfFid, i));
      nf_life_leave (grace->life);
    }
  nf_life_unref (grace->life);
  g_free (grace->site);
  g_free (grace);
}

static void
after_grace (NfPrimary *primary, const char *site)
{
  NfHost *host = primary->share->host;
  Grace *grace = g_new (Grace, 1);

  *grace = (Grace){ nf_life_ref (primary->life), g_strdup (site) };
  host->post_after (host->data, GRACE_MS, grace_is_over, grace);
}

void
nf_primary_holds_again (NfPrimary *primary, const char *site)
{
  nf_opens_make_stale (primary->share->opens, site);
  after_grace (primary, site);
}

void
nf_primary_orphans_later (NfPrimary *primary)
{
  g_autoptr (GArray) fids = all_orphans (primary);

  if (fids->len > 0)
    after_grace (primary, NULL);
}
