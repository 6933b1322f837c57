// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/sample.h"

/* Enough to be sure of "half", and a few milliseconds. */
#define SAMPLE 128
/* Of fewer nothing can be said. */
#define SAMPLE_MIN 8
/* So many are gone through to take some of them, in a few milliseconds more; of more, those at some fids are taken. */
#define WALKED_MAX 16384

static gboolean
is_changed (NfShare *share, const NfObject *object, gint64 since)
{
  NfAttr attr;

  return nf_tree_stat (share->tree, object->fid, &attr) != 0 || attr.ctime > since;
}

gboolean
nf_sample_is_another (NfShare *share, gint64 since)
{
  guint64 count = nf_index_count (share->index);
  /* Fids are dense in places, and far apart in others. */
  NfFid step = count > WALKED_MAX ? nf_index_fid_limit (share->index) / SAMPLE : 0;
  guint64 each = count > WALKED_MAX ? 1 : MAX (count / SAMPLE, 1);
  NfObject object = { .fid = NF_FID_ROOT };
  NfFid after = NF_FID_ROOT;
  guint n = 0, changed = 0;

  for (guint64 i = 0; n < SAMPLE && nf_index_next (share->index, after, &object); i++)
    {
      after = MAX (object.fid, after + step);
      if (i % each != 0 || object.place != NF_PLACE_NAMED || object.ident.ino == 0)
        continue;
      n++;
      changed += is_changed (share, &object, since);
    }
  if (n < SAMPLE_MIN || changed * 2 < n)
    return FALSE;
  g_warning ("share %s: of %u objects in %s that were looked at %u aren't as they were left. Has a "
             "backup been put in their place?",
             share->conf.name, n, share->conf.dir, changed);
  return TRUE;
}
