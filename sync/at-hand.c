// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/at-hand.h"

#include <unistd.h>

int
nf_at_hand_find (const NfAtHand *hand, const NfObject *object)
{
  for (guint i = 0; i < NF_AT_HAND_MAX; i++)
    if (hand->files[i].fid == object->fid && hand->files[i].ident.ino == object->ident.ino
        && hand->files[i].ident.btime == object->ident.btime)
      return hand->files[i].fd;
  return -1;
}

static void
let_go (NfAtHand *hand, guint i)
{
  if (hand->files[i].fid == NF_FID_NONE)
    return;
  (void)close (
      hand->files[i]
          .fd); /* what was written through it is none of its business: fsync is another's */
  hand->files[i].fid = NF_FID_NONE;
}

void
nf_at_hand_take (NfAtHand *hand, NfFid fid, NfIdent ident, int fd)
{
  guint i = hand->n_taken++ % NF_AT_HAND_MAX;

  let_go (hand, i);
  hand->files[i].fid = fid;
  hand->files[i].ident = ident;
  hand->files[i].fd = fd;
}

void
nf_at_hand_let_go (NfAtHand *hand)
{
  for (guint i = 0; i < NF_AT_HAND_MAX; i++)
    let_go (hand, i);
}
