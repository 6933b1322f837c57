// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/inval-private.h"
#include "fs/mount-private.h"

#include <errno.h>
#include <string.h>

/* What the kernel doesn't know (-ENOENT) it needn't be told. */
static int
tell_inode (NfMount *mount, guint64 id, gint64 offset, gint64 length)
{
  return fuse_lowlevel_notify_inval_inode (mount->session, id, offset, length);
}

static int
tell_entry (NfMount *mount, guint64 parent, const char *name)
{
  return fuse_lowlevel_notify_inval_entry (mount->session, parent, name, strlen (name));
}

/* An inode that isn't there, though its node is, has been forgotten just now, or is on its way: the
 * reply that tells of it was sent, but the caller hasn't taken it in. He holds the lock of the
 * directory in which he found it until then; invalidating a name there waits for that lock, whether
 * there is such a name or not. */
static void
tell_node (NfMount *mount, NfVolume *volume, NfFid fid, gint64 offset, gint64 length)
{
  g_autoptr (NfNode) node = NULL;
  guint64 id = nf_mount_node_id (mount, volume, fid, &node);

  if (id == 0 || tell_inode (mount, id, offset, length) != -ENOENT || !node)
    return;
  gsize parent = (gsize)g_atomic_pointer_get (&node->parent);
  if (parent == 0)
    return;
  (void)tell_entry (mount, parent, NF_HIDDEN_DIR);
  (void)tell_inode (mount, id, offset, length);
}

/* A file has grown, and so has what was told above. But attributes that the kernel asks for are dropped by it if it is
 * told of a change before it has taken them in; then a read goes by the old size, and shows less than there was before
 * it began. When changes come one after another that happens again and again, and a log would seem to end long before
 * what was written after it (G2). A byte that is stored sets the size for sure: the last one. */
static void
tell_end (NfMount *mount, NfVolume *volume, const NfInval *inval)
{
  guint64 id = nf_mount_node_id (mount, volume, inval->fid, NULL);
  guint8 last = inval->last;
  struct fuse_bufvec buffer = FUSE_BUFVEC_INIT (1);

  if (id == 0)
    return;
  buffer.buf[0].mem = &last;
  (void)fuse_lowlevel_notify_store (mount->session, id, (off_t)inval->end - 1, &buffer, 0);
}

static void
tell_name (NfMount *mount, NfVolume *volume, NfFid parent, const char *name)
{
  guint64 id = nf_mount_node_id (mount, volume, parent, NULL);

  if (id == 0)
    return;
  /* First the entry: it waits for listings under way, which would be cached after the second
   * otherwise. */
  (void)tell_entry (mount, id, name);
  (void)tell_inode (mount, id, 0, 0);
}

static void
tell_ids (NfMount *mount, const GArray *ids)
{
  for (guint i = 0; i < ids->len; i++)
    (void)tell_inode (mount, g_array_index (ids, guint64, i), 0, 0);
}

static void
tell_all (NfMount *mount, NfVolume *volume)
{
  g_autoptr (GArray) ids = nf_nodes_ids (mount->nodes, volume);
  guint64 root = nf_mount_node_id (mount, volume, NF_FID_ROOT, NULL);

  (void)nf_mount_notify_epoch (mount); /* older kernels: see NF_NAME_TIMEOUT_OLD */
  if (root != 0)
    (void)tell_inode (mount, root, 0, 0);
  tell_ids (mount, ids);
}

/* The old node's names lead to it until they are looked up again. Who comes by one of them is sent
 * back to look (ESTALE) where he needs the new one, unless the old one is open: its attributes are
 * asked for in the same way by name and by handle. */
static void
tell_switch (NfMount *mount, const NfInvalItem *item)
{
  if (item->inval.name.data)
    tell_name (mount, item->volume, item->inval.parent, (const char *)item->inval.name.data);
  else if (item->open)
    (void)nf_mount_notify_epoch (mount); /* older kernels: see NF_NAME_TIMEOUT_OLD */
  if (item->id != 0)
    (void)tell_inode (mount, item->id, -1, 0);
}

static void
tell_share (NfMount *mount, const NfInvalItem *item)
{
  const NfInval *inval = &item->inval;
  const char *name = (const char *)inval->name.data;

  switch (inval->kind)
    {
    case NF_INVAL_NAME:
      tell_name (mount, item->volume, inval->parent, name);
      if (inval->fid != NF_FID_NONE)
        tell_node (mount, item->volume, inval->fid, -1, 0);
      break;
    case NF_INVAL_ATTR:
    case NF_INVAL_GONE:
      tell_node (mount, item->volume, inval->fid, -1, 0);
      break;
    case NF_INVAL_DATA:
      tell_node (mount, item->volume, inval->fid, (gint64)inval->offset, (gint64)inval->length);
      if (inval->end > 0)
        tell_end (mount, item->volume, inval);
      break;
    case NF_INVAL_SWITCH:
      tell_switch (mount, item);
      break;
    case NF_INVAL_ALL:
      tell_all (mount, item->volume);
      break;
    }
}

/* The kernel's number of the namespace's directory DIR, or 0. */
static guint64
dir_id (NfMount *mount, guint64 dir)
{
  if (dir == NF_NAMESPACE_ROOT)
    return FUSE_ROOT_ID;
  g_autoptr (NfNode) node = nf_nodes_find (mount->nodes, NULL, dir);
  return node ? nf_node_id (node) : 0;
}

void
nf_inval_tell (NfMount *mount, const NfInvalItem *item)
{
  guint64 id;

  switch (item->kind)
    {
    case NF_INVAL_ITEM_SHARE:
      tell_share (mount, item);
      break;
    case NF_INVAL_ITEM_DIR:
      id = dir_id (mount, item->inval.fid);
      if (id != 0 && item->inval.name.data)
        (void)tell_entry (mount, id, (const char *)item->inval.name.data);
      if (id != 0)
        (void)tell_inode (mount, id, 0, 0);
      break;
    case NF_INVAL_ITEM_IDS:
      tell_ids (mount, item->ids);
      break;
    }
}
