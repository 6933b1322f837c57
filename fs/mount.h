// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "fs/pass.h"
#include "sync/share.h"

/* The mount: one FUSE session that shows the shares under their paths in the namespace, and
 * read-only directories above them. It has no data of its own: each request becomes a call to a
 * share and is answered from wherever the share has the answer. */

typedef struct NfMount NfMount;

/* The threads that take requests from the kernel, unless options say otherwise. None of them waits
 * for the network, but at the primary they do the disk's work. */
#define NF_MOUNT_THREADS 8

typedef struct
{
  const char *mountpoint;
  gboolean allow_other; /* needs root, or user_allow_other in fuse.conf */
  gboolean read_only;
  gboolean suid, dev;   /* FALSE: nosuid, nodev */
  char **options;       /* more for -o, one each; may be NULL */
  gboolean debug;       /* every request to standard error */
  gboolean no_pass;     /* all reads go through us */
  gboolean local_locks; /* locks are the local kernel's, and hold at this site only */
  guint threads;        /* 0: NF_MOUNT_THREADS */
} NfMountOptions;

/* Mounts, and starts threads (a daemon goes to the background before). Nothing is served until
 * nf_mount_run(): nobody may touch the mount point in between from a thread that has to get there.
 */
NfMount *nf_mount_new (const NfMountOptions *options, GError **error);
/* Shows SHARE at PATH ("/projects"). SHARE must stay open until nf_mount_remove_share() or
 * nf_mount_free(). -EEXIST if the path is taken, or lies above or below another share's; -EINVAL if
 * it is no path. Thread: any. */
int nf_mount_add_share (NfMount *mount, const char *path, NfShare *share);
/* Takes SHARE out. Calls under way are cancelled and waited for, open handles closed (those who
 * have them get EIO); nothing of the mount uses SHARE when this returns. Thread: any but those that
 * answer calls. */
void nf_mount_remove_share (NfMount *mount, NfShare *share);
/* NfHost.invalidate: only queues. Thread: any. */
void nf_mount_invalidate (NfMount *mount, NfShare *share, const NfInval *inval);
/* Waits until the kernel knows all that was queued before. Not from a thread that answers calls. */
void nf_mount_flush_invals (NfMount *mount);
/* NfHost.telling: is there something queued that the kernel doesn't know yet? When there is nothing
 * any more TOLD is called, from the mount's own thread; it must not wait. */
gboolean nf_mount_telling (NfMount *mount);
void nf_mount_on_told (NfMount *mount, void (*told) (gpointer data), gpointer data);
/* Are local files read past us, and if not, why? Thread: any. */
void nf_mount_pass_status (NfMount *mount, NfPassStatus *ret_status);
/* Serves until somebody unmounts, or nf_mount_stop(). All shares have been taken out when it
 * returns. 0 or -errno. */
int nf_mount_run (NfMount *mount);
/* Unmounts, and makes nf_mount_run() return, if need be while the mount is in use and calls are
 * blocked: these are cancelled. Thread: any but the mount's own; not from a signal handler. */
void nf_mount_stop (NfMount *mount);
/* After nf_mount_run() has returned, or when it was never called. Unmounts if need be and takes out
 * the shares. */
void nf_mount_free (NfMount *mount);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (NfMount, nf_mount_free)
