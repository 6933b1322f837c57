// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/pass.h"

#include <errno.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* What <linux/fuse.h> has since Linux 6.9; older headers are built with, too. */
#define PASS_FOPEN (1u << 7)
#define PASS_INIT_EXT (1u << 30)
#define PASS_INIT (G_GUINT64_CONSTANT (1) << 37)
#define PASS_DIRECT_MMAP (G_GUINT64_CONSTANT (1) << 36) /* since 6.6 */
#define PASS_STACK_DEPTH_AT 36                          /* in struct fuse_init_out */

struct backing_map
{
  gint32 fd;
  guint32 flags;
  guint64 padding;
};
#define BACKING_OPEN _IOW (229, 1, struct backing_map)
#define BACKING_CLOSE _IOW (229, 2, guint32)

/* The files behind lie on a filesystem that lies on no other: so an overlay may still be put on top of the mount, which
 * the kernel's limit of two wouldn't allow otherwise. */
#define STACK_DEPTH 1

struct NfPass
{
  gboolean asked; /* in the reply to INIT */
  gint fd;        /* the session's, or -1: there is no pass-through. Atomic, as are: */
  const char *why_not;
  gsize opens;
  gint inodes;
  gsize reads;
};

NfPass *
nf_pass_new (gboolean wanted)
{
  NfPass *pass = g_new0 (NfPass, 1);

  pass->fd = -1;
  pass->why_not = wanted ? "nothing is served yet" : "switched off";
  pass->asked = wanted;
  return pass;
}

void
nf_pass_free (NfPass *pass)
{
  g_free (pass);
}

static void
set_why_not (NfPass *pass, const char *why_not)
{
  g_atomic_pointer_set (&pass->why_not, why_not);
}

void
nf_pass_negotiate (NfPass *pass, guint64 offered, struct fuse_init_out *out)
{
  guint32 depth = STACK_DEPTH;
  guint64 more = offered & PASS_DIRECT_MMAP;

  if (pass->asked && !(offered & PASS_INIT))
    {
      pass->asked = FALSE;
      set_why_not (pass, "the kernel can't (Linux 6.9 can)");
    }
  /* Whoever mounts without the right gets no lower limit for overlays in exchange for nothing. */
  if (pass->asked && geteuid () != 0)
    {
      pass->asked = FALSE;
      set_why_not (pass, "needs root");
    }
  if (pass->asked)
    {
      more |= PASS_INIT;
      memcpy ((char *)out + PASS_STACK_DEPTH_AT, &depth, sizeof depth);
    }
  else if (pass->why_not)
    g_debug ("files aren't passed through: %s", pass->why_not);
  if (more == 0)
    return;
  out->flags |= PASS_INIT_EXT;
  out->flags2 |= (guint32)(more >> 32);
}

/* Whether it is allowed (CAP_SYS_ADMIN in the first namespace of users) is found out by doing it. */
void
nf_pass_start (NfPass *pass, int fd)
{
  int probe = pass->asked ? memfd_create ("nearfs", MFD_CLOEXEC) : -1;

  if (probe < 0)
    return;
  g_atomic_int_set (&pass->fd, fd);
  int id = nf_pass_register (pass, probe);
  (void)close (probe);
  if (id > 0)
    {
      nf_pass_unregister (pass, id);
      set_why_not (pass, NULL);
      return;
    }
  g_atomic_int_set (&pass->fd, -1);
  set_why_not (pass, id == -EPERM ? "needs CAP_SYS_ADMIN" : "the kernel refuses it");
  g_debug ("files aren't passed through: %s", g_strerror (-id));
}

void
nf_pass_stop (NfPass *pass)
{
  g_atomic_int_set (&pass->fd, -1);
}

gboolean
nf_pass_is_on (NfPass *pass)
{
  return g_atomic_int_get (&pass->fd) >= 0;
}

int
nf_pass_register (NfPass *pass, int fd)
{
  struct backing_map map = { .fd = fd };
  int session = g_atomic_int_get (&pass->fd);
  int id = session >= 0 ? ioctl (session, BACKING_OPEN, &map) : -1;

  if (session < 0)
    return -ENOTCONN;
  if (id <= 0)
    return id < 0 ? -errno : -EIO;
  g_atomic_int_inc (&pass->inodes);
  return id;
}

void
nf_pass_unregister (NfPass *pass, int id)
{
  guint32 number = (guint32)id;
  int session = g_atomic_int_get (&pass->fd);

  (void)g_atomic_int_add (&pass->inodes, -1);
  if (session >= 0) /* else all go with it */
    (void)ioctl (session, BACKING_CLOSE, &number);
}

int
nf_pass_reply_open (fuse_req_t req, const struct fuse_file_info *fi, int id)
{
  struct fuse_open_out out = { .fh = fi->fh, .open_flags = PASS_FOPEN };
  gint32 backing_id = id;

  if (fi->direct_io)
    out.open_flags |= FOPEN_DIRECT_IO;
  /* Called "padding" in older headers. */
  memcpy ((char *)&out + sizeof out - sizeof backing_id, &backing_id, sizeof backing_id);
  return fuse_reply_buf (req, (const char *)&out, sizeof out);
}

void
nf_pass_count_open (NfPass *pass)
{
  g_atomic_pointer_add (&pass->opens, 1);
}

void
nf_pass_count_read (NfPass *pass)
{
  g_atomic_pointer_add (&pass->reads, 1);
}

void
nf_pass_status (NfPass *pass, NfPassStatus *ret_status)
{
  *ret_status = (NfPassStatus){
    .on = nf_pass_is_on (pass),
    .why_not = g_atomic_pointer_get (&pass->why_not),
    .opens = (gsize)g_atomic_pointer_get (&pass->opens),
    .inodes = (guint64)g_atomic_int_get (&pass->inodes),
    .reads = (gsize)g_atomic_pointer_get (&pass->reads),
  };
}
