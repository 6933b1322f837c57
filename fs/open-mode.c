// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/open-mode.h"

#include <errno.h>
#include <fcntl.h>

#include "fs/mount-private.h"

/* Which handles pass through.
 *
 * A handle for reading may have the kernel read the share directory's own file, at the disk's speed. There are two
 * things to see to: what the kernel allows, and that nobody sees anything else than he would without it.
 *
 * THE KERNEL'S RULES (fs/fuse/iomode.c). An inode is in one of two modes as long as handles of it are open: cached, or
 * passing through, always to the same file. An open of the other sort fails with EIO. Beside handles that pass through
 * there may be some that do so in name only (with DIRECT_IO): their reads and writes come to us. A handle of plain
 * DIRECT_IO may stay open while others pass through, but not be opened then. So a node counts its handles: `passing` of
 * them pass through, the others are `plain`, and a new one is of the sort that is there.
 *
 *   open for          no handle             passing ones          plain ones
 *   reading           passing, if it can    passing               cached
 *   writing           direct                passing, direct       direct
 *   both              cached                another node          cached
 *   CREATE, O_DIRECT  as above, not passing another node          as above
 *
 * (Direct instead of cached while there are two nodes: see below.)
 *
 * Counts change with the choice, before the reply, and again with RELEASE. The kernel takes a handle in later than we
 * count it and lets it go earlier; so what we count is at least what it has, and an open whose reply is on its way
 * isn't overtaken by one of the other sort. For the same reason the file's number is good for all replies that bear it:
 * it goes with the last handle that passes through.
 *
 * READING AND WRITING. A handle for both can't join those that pass through, though the kernel would let it with
 * DIRECT_IO: its shared mapping would be one of the directory's own file, and what is stored in it would get there with
 * no op, no journal and no other site knowing (it does: measured on 6.18). A read-only file behind doesn't help: then the
 * open fails. So the node is detached, as it is when its backing object is replaced, and the open fails with ESTALE:
 * the kernel looks the name up, and gets another node for the same fid, with the same inode number, whose handles are
 * plain. (So they must stay, since it looks only once: who comes in between to read may not pass through again. Hence
 * `read_write`, which the new node has from the beginning.) Who passes through keeps the old node. That costs a look-up,
 * once: what was opened for both is likely to be again, and its node doesn't pass through any more. As long as the old node has handles (`left_behind`),
 * the two are coherent so:
 *
 *   content     a write by the new node reaches the file behind, where the old one reads. The new node's handles are
 *               direct, so that they see what the old one's write (those for writing only)
 *   mappings    what is stored in a shared one of the new node (DIRECT_IO_ALLOW_MMAP) is seen by the old one when it is
 *               written back: after msync() or 30 s. This is in nearfs(1), CAVEATS. What the old one's write drops the
 *               new one's pages (tell_successor() in request.c), a moment later
 *   attributes  both nodes' are asked for each time
 *   locks       come to us, and go by fid
 *   names       others of the same file lead to the old node until they are looked up; opening one of them for both
 *               sends the kernel to look again. /proc/self/fd/N can't be looked up: it takes handles of the old
 *               node's sort, and says ESTALE to one for both
 *
 * THE PRIMARY. The directory's file is the truth, and is read by us in just the same way: without a lock. All the same it
 * has to be at rest, as at a replica: who opens a file for reading and at once for both expects one inode.
 *
 * A REPLICA. What we show is the directory with what this site has under way over it, or the primary's answer where the
 * directory isn't to be trusted; nf_file_pass() says whether it is the file alone. Afterwards:
 *
 *   our writes      would lie in the buffer, over the file, seen by all but those who pass through (G3). So they aren't
 *                   buffered then, and a change of content is answered when it is applied (sync/forward-park.c). Such an
 *                   answer must not hold up what the kernel is told; it doesn't, as the writer is direct and has no pages
 *                   locked
 *   others' ops     are seen at once. An op that reaches over a page may be seen in part for a moment, as a write is on a
 *                   local disk; through us a read sees it wholly or not at all, but what a program reads through the page
 *                   cache it may see in part, too, page by page. A file that grows doesn't get its length first, then
 *                   (sync/apply.c): that would show zeros. What is being changed, as a log is, isn't passed through in the
 *                   first place
 *   new content     comes as another file, so that an open never mixes two versions (G2): the old node keeps the old one
 *                   and the file it passes through to, the next look-up gets a new node. Files with several names, which
 *                   are written into, don't pass through
 *   suspicion       that comes up later, because histories parted, doesn't reach a handle that passes through already:
 *                   it reads what the replica had until that is mended. So does one whose share was taken out
 *
 * An op is told to the kernel as ever: its size and times are the inode's, not the file's behind, and so are pages that
 * were cached before or will be after.
 *
 * RIGHTS. The kernel opens the file behind with our own, and asks nobody; default_permissions has judged the caller by
 * then. It opens it with the caller's flags: a filesystem that has no O_DIRECT, or wants it aligned, would make that EIO
 * or EINVAL, where we take anything. ATIMES of the files behind move as the directory's own mount has them (relatime as a rule): we show them.
 *
 * A node's number at the kernel costs no descriptor of ours, and two ioctl()s an open of two to three µs together, beside 60
 * for the open itself. It isn't kept for the next one: that would hold the space of files that are deleted. */

gboolean
nf_open_mode_passes (const NfHandle *handle)
{
  return handle->mode == NF_OPEN_PASS || handle->mode == NF_OPEN_PASS_DIRECT;
}

/* With the volume's lock. */
static void
set_left_behind (NfNode *node, gboolean left_behind)
{
  NfVolume *volume = node->volume;

  if (node->left_behind == left_behind)
    return;
  node->left_behind = left_behind;
  if (left_behind)
    g_queue_push_tail (&volume->left_behind, node);
  else
    (void)g_queue_remove (&volume->left_behind, node);
  g_atomic_int_set (&volume->n_left_behind, (gint)volume->left_behind.length);
}

gboolean
nf_open_mode_is_split (NfVolume *volume, NfFid fid)
{
  gboolean split = FALSE;

  if (g_atomic_int_get (&volume->n_left_behind) == 0)
    return FALSE;
  pthread_mutex_lock (&volume->lock);
  for (GList *l = volume->left_behind.head; l && !split; l = l->next)
    split = ((NfNode *)l->data)->fid == fid;
  pthread_mutex_unlock (&volume->lock);
  return split;
}

int
nf_open_mode_leave (NfHandle *handle)
{
  NfNode *node = handle->node;
  int unneeded = 0;

  if (handle->mode == NF_OPEN_UNDECIDED)
    return 0;
  if (!nf_open_mode_passes (handle))
    node->plain--;
  else if (--node->passing == 0)
    {
      unneeded = node->passed_to;
      node->passed_to = 0;
      set_left_behind (node, FALSE);
    }
  handle->mode = NF_OPEN_UNDECIDED;
  return unneeded;
}

/* Handles that are open stand in the way: the next look-up is to make another node. */
static int
go_elsewhere (NfMount *mount, NfNode *node)
{
  guint64 id = nf_node_id (node);
  GArray *ids = g_array_new (FALSE, FALSE, sizeof id);

  pthread_mutex_lock (&node->volume->lock);
  set_left_behind (node, node->passing > 0);
  pthread_mutex_unlock (&node->volume->lock);
  nf_nodes_detach_to_plain (mount->nodes, node);
  g_array_append_val (ids, id);
  nf_invals_queue_ids (mount->invals, ids); /* whose attributes are asked for from now on */
  return -ESTALE;
}

static gboolean
has_passing (NfNode *node)
{
  pthread_mutex_lock (&node->volume->lock);
  gboolean has = node->passing > 0;
  pthread_mutex_unlock (&node->volume->lock);
  return has;
}

/* FALSE: there are no handles that pass through any more. */
static gboolean
count_beside (NfHandle *handle, NfOpenMode mode)
{
  NfNode *node = handle->node;

  pthread_mutex_lock (&node->volume->lock);
  gboolean joined = node->passing > 0;
  if (joined)
    {
      node->passing++;
      handle->mode = mode;
    }
  pthread_mutex_unlock (&node->volume->lock);
  return joined;
}

/* Beside others that pass through. RET_STATUS: 0 or -ESTALE. FALSE: there are none any more. */
static gboolean
join (NfMount *mount, NfHandle *handle, gboolean by_create, gboolean sure, int *ret_status)
{
  int accmode = handle->flags & O_ACCMODE;
  gboolean other = by_create || (handle->flags & O_DIRECT) != 0;

  *ret_status = 0;
  if (accmode == O_WRONLY && !other)
    return count_beside (handle, NF_OPEN_PASS_DIRECT);
  if (accmode != O_RDONLY || other || !sure || nf_file_pass (handle->file, FALSE) < 0)
    {
      *ret_status = go_elsewhere (mount, handle->node);
      return TRUE;
    }
  if (count_beside (handle, NF_OPEN_PASS))
    return TRUE;
  nf_file_unpass (handle->file);
  return FALSE;
}

/* May it be the first of a node that passes through? */
static gboolean
may_begin (NfMount *mount, NfHandle *handle)
{
  NfNode *node = handle->node;

  if ((handle->flags & (O_ACCMODE | O_DIRECT)) != O_RDONLY || !nf_pass_is_on (mount->pass)
      || g_atomic_int_get (&node->detached) || g_atomic_int_get (&node->read_write)
      || nf_open_mode_is_split (node->volume, node->fid))
    return FALSE;
  pthread_mutex_lock (&node->volume->lock);
  gboolean may = node->plain == 0;
  pthread_mutex_unlock (&node->volume->lock);
  return may;
}

/* The file's number at the kernel, or 0: it can't pass through. */
static gint32
begin_passing (NfMount *mount, NfHandle *handle)
{
  int fd = nf_file_pass (handle->file, TRUE);
  int id = fd >= 0 ? nf_pass_register (mount->pass, fd) : 0;

  if (fd >= 0 && id <= 0)
    nf_file_unpass (handle->file);
  return MAX (id, 0);
}

static NfOpenMode
plain_mode (NfHandle *handle)
{
  NfNode *node = handle->node;
  int accmode = handle->flags & O_ACCMODE;

  if (accmode == O_RDWR)
    g_atomic_int_set (&node->read_write, TRUE);
  /* Through the page cache the kernel sends a write that reaches over a page in two: a record
   * appended to a log would be seen by halves, here and at every site. Who can't read can't map
   * it either, and needs no cache. */
  return accmode == O_WRONLY || nf_open_mode_is_split (node->volume, node->fid) ? NF_OPEN_DIRECT
                                                                                : NF_OPEN_CACHED;
}

/* With no others, or beside plain ones. FALSE: others pass through by now. */
static gboolean
count_alone (NfHandle *handle, NfOpenMode plain, gint32 id)
{
  NfNode *node = handle->node;

  pthread_mutex_lock (&node->volume->lock);
  gboolean alone = node->passing == 0;
  if (alone && id > 0 && node->plain == 0)
    {
      node->passing = 1;
      node->passed_to = id;
      handle->mode = NF_OPEN_PASS;
    }
  else if (alone)
    {
      node->plain++;
      handle->mode = plain;
    }
  pthread_mutex_unlock (&node->volume->lock);
  return alone;
}

static gboolean
begin (NfMount *mount, NfHandle *handle, gboolean by_create, gboolean sure)
{
  gboolean try = !by_create && sure && may_begin (mount, handle);
  gint32 id = try ? begin_passing (mount, handle) : 0;
  gboolean done = count_alone (handle, plain_mode (handle), id);

  if (id > 0 && !(done && handle->mode == NF_OPEN_PASS))
    {
      nf_file_unpass (handle->file);
      nf_pass_unregister (mount->pass, id);
    }
  return done;
}

int
nf_open_mode_choose (NfMount *mount, NfHandle *handle, gboolean by_create, gboolean sure)
{
  int status = 0;

  /* Others come and go meanwhile. */
  while (has_passing (handle->node) ? !join (mount, handle, by_create, sure, &status)
                                    : !begin (mount, handle, by_create, sure))
    ;
  if (status == 0 && handle->mode == NF_OPEN_PASS)
    nf_pass_count_open (mount->pass);
  return status;
}
