// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <fuse_lowlevel.h>

#include "fs/inode.h"
#include "fs/inval.h"
#include "fs/mount.h"
#include "fs/namespace.h"
#include "fs/readers.h"
#include "sync/tree.h"

/* What the mount's files know of each other.
 *
 *   mount.c      mounting, the loop, stopping; shares come and go
 *   guard.c      a process that ends the connection if we are killed
 *   mount-check.c  why there can be no mount
 *   init.c       what is agreed with the kernel
 *   readers.c    which worker reads the next request
 *   request.c    a request on its way: call, interruption, reply
 *   reply.c      attributes, and how long the kernel may believe them
 *   op-*.c       the operations
 *   namespace.c, op-namespace.c   the directories above the shares
 *   inode.c, handle.c, volume.c    what the kernel knows of a share
 *   open-mode.c, pass.c   which handles are read past us, and how the kernel is told
 *   inval.c, inval-tell.c   telling the kernel what is no longer so
 *
 * Threads: the session's workers run the operations. A share answers at once, in the worker, or
 * later from a thread of its own; either replies. No worker waits for another request. The
 * invalidations have threads of their own, which the kernel may block until some request is
 * answered; they hold no lock then.
 *
 * Locks: the mount's, the requests', a volume's, the nodes', the namespace's, a queue's of the
 * invalidations. None is held while a share or the kernel is called; of them only a volume's and
 * the nodes' are taken together, in this order. */

/* Kernel caches are told exactly what changes, so that they may keep things as long as they like.
 */
#define NF_CACHE_TIMEOUT 86400.0
/* Kernels that can't be told "anything may have changed" (before 6.16) look names up again this
 * soon. */
#define NF_NAME_TIMEOUT_OLD 10.0

typedef struct NfRequests NfRequests;

struct NfMount
{
  struct fuse_session *session;
  char *mountpoint;
  guint threads;
  gboolean personal; /* not root: all is shown as our own user's */
  gboolean local_locks;
  pid_t guard; /* see guard.h */
  uid_t uid;
  gid_t gid;

  NfNamespace *ns;
  NfNodes *nodes;
  NfNode *root; /* what the kernel calls 1; in no table */
  NfRequests *requests;
  NfInvals *invals;
  NfPass *pass;
  NfReaders *readers;

  gdouble name_timeout; /* set by INIT */
  guint64 init_unique;  /* see init.c */
  guint64 init_offered;
  gint initialized; /* atomic */
  gint stopping;    /* atomic: new requests are refused */
  gint finished;    /* atomic: no request is served any more */

  pthread_mutex_t lock; /* guards what follows */
  pthread_cond_t changed;
  GPtrArray *volumes; /* of NfVolume, those that are in the namespace */
  guint32 last_number;
  gboolean running;
  pthread_t loop_thread;
};

/* init.c */
void nf_mount_init (void *userdata, struct fuse_conn_info *conn);
/* The session's descriptor is read and written through us. 0 or -errno. */
int nf_mount_hook_io (NfMount *mount);
/* "Any name may have changed": 0, or -errno where the kernel doesn't know this. */
int nf_mount_notify_epoch (NfMount *mount);

/* mount-check.c */
/* Can there be a mount on PATH, which is absolute and real? */
gboolean nf_mount_check (const char *path, GError **error);

/* mount.c */
/* The volume of SHARE, a new reference, or NULL. */
NfVolume *nf_mount_volume (NfMount *mount, NfShare *share);
NfNode *nf_mount_node (NfMount *mount, fuse_ino_t ino);
/* What the kernel calls (VOLUME, FID); 0 if it doesn't know it. RET_NODE (may be NULL): a new
 * reference; NULL for the root. */
guint64 nf_mount_node_id (NfMount *mount, NfVolume *volume, NfFid fid, NfNode **ret_node);

/* op-*.c: the operations, by file. */
void nf_op_lookup_init (struct fuse_lowlevel_ops *ops);
void nf_op_name_init (struct fuse_lowlevel_ops *ops);
void nf_op_attr_init (struct fuse_lowlevel_ops *ops);
void nf_op_xattr_init (struct fuse_lowlevel_ops *ops);
void nf_op_open_init (struct fuse_lowlevel_ops *ops);
void nf_op_file_init (struct fuse_lowlevel_ops *ops);
void nf_op_dir_init (struct fuse_lowlevel_ops *ops);
void nf_op_lock_init (struct fuse_lowlevel_ops *ops);

/* op-namespace.c: the same for the directories above the shares. FALSE: NODE isn't one of them (or
 * a share is in its place), and nothing was done. */
gboolean nf_namespace_op_lookup (NfMount *mount, fuse_req_t req, NfNode *node, const char *name);
gboolean nf_namespace_op_getattr (NfMount *mount, fuse_req_t req, NfNode *node);
gboolean nf_namespace_op_readdir (NfMount *mount, fuse_req_t req, NfNode *node, gsize size,
                                  off_t offset, gboolean plus);
gboolean nf_namespace_op_statfs (NfMount *mount, fuse_req_t req, NfNode *node);
gboolean nf_namespace_is_dir (NfMount *mount, NfNode *node);
/* NODE is one of them and has NAME, which so can't be removed or replaced. */
gboolean nf_namespace_has (NfMount *mount, NfNode *node, const char *name);
