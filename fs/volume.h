// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sync/share.h"

/* A share in the mount, for as long as the kernel knows inodes of it, which may be longer than the
 * share is there. Whoever uses `share` must have entered the volume, and leaves it afterwards; a
 * removed volume can't be entered. */

typedef struct NfHandle NfHandle;

typedef struct
{
  gint refs;
  guint32 number; /* what its inode numbers begin with, from 1 */
  NfShare *share; /* only between enter and leave */

  gint calls;           /* entered; atomic */
  gint removed;         /* atomic */
  gint locks;           /* atomic: locks were asked for in it */
  pthread_mutex_t lock; /* innermost but for the node table's */
  pthread_cond_t left;  /* calls has become 0 */
  GQueue handles;       /* of NfHandle, one reference each; guarded by lock */
  GQueue left_behind;   /* of NfNode, see open-mode.c; guarded by lock */
  gint n_left_behind;   /* written with lock, atomic */
} NfVolume;

/* Inode numbers as shown: the volume's number in the top 12 bits, the fid below. */
#define NF_VOLUME_NUMBER_MAX 4095
#define NF_VOLUME_FID_BITS 52

NfVolume *nf_volume_new (guint32 number, NfShare *share);
NfVolume *nf_volume_ref (NfVolume *volume);
void nf_volume_unref (NfVolume *volume);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (NfVolume, nf_volume_unref)

/* FALSE if the volume was removed. */
gboolean nf_volume_enter (NfVolume *volume);
void nf_volume_leave (NfVolume *volume);
gboolean nf_volume_removed (NfVolume *volume);
/* From now on nobody enters. */
void nf_volume_remove (NfVolume *volume);
/* Waits until nobody is inside. */
void nf_volume_wait (NfVolume *volume);

guint64 nf_volume_ino (const NfVolume *volume, NfFid fid);
