// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/mount-private.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

/* What is agreed with the kernel when the mount begins.
 *
 * libfuse 3.14 knows PARALLEL_DIROPS but forgets to say it in its reply, and doesn't know
 * HANDLE_KILLPRIV_V2, without which the kernel asks for security.capability before each write. So
 * its reply is completed on its way: the session's descriptor is read and written through two
 * functions that look for INIT. Pass-through (pass.c) is asked for in the same way. Who may read is
 * readers.c's to say. */

/* The protocol that has FUSE_NOTIFY_INC_EPOCH (Linux 6.16), and its number. */
#define EPOCH_MINOR 44
#define NOTIFY_INC_EPOCH 8

/* Requests that the kernel sends on its own account (read-ahead, write-back) and doesn't wait for:
 * its default is 12. */
#define MAX_BACKGROUND 64
#define READ_AHEAD_KB "1024"

static void
want (struct fuse_conn_info *conn, unsigned flags)
{
  conn->want |= flags & conn->capable;
}

void
nf_mount_init (void *userdata, struct fuse_conn_info *conn)
{
  NfMount *mount = userdata;

  want (conn, FUSE_CAP_ASYNC_READ | FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_POSIX_ACL
                  | FUSE_CAP_DONT_MASK | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_READDIRPLUS
                  | FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_ASYNC_DIO | FUSE_CAP_CACHE_SYMLINKS
                  | FUSE_CAP_EXPLICIT_INVAL_DATA);
  /* With AUTO_INVAL_DATA each change of mtime would drop a file's pages. Without splice a request is
   * one read(2) into a worker's buffer. HANDLE_KILLPRIV is replaced below. */
  conn->want
      &= ~(unsigned)(FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_SPLICE_READ
                     | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE | FUSE_CAP_HANDLE_KILLPRIV);
  if (mount->local_locks)
    conn->want &= ~(unsigned)(FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS);
  else
    want (conn, FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS);
  conn->max_background = MAX_BACKGROUND;
  conn->congestion_threshold = MAX_BACKGROUND * 3 / 4;
  mount->name_timeout = conn->proto_minor >= EPOCH_MINOR ? NF_CACHE_TIMEOUT : NF_NAME_TIMEOUT_OLD;
}

/* INIT can't ask for more than 128 KiB. Allowed to root only; without it large cold reads take
 * longer. Neither may the mount point be looked at here, which would be a request to ourselves. */
static void
set_read_ahead (NfMount *mount)
{
  char line[4096];
  FILE *info = fopen ("/proc/self/mountinfo", "re");

  while (info && fgets (line, sizeof line, info))
    {
      unsigned major, minor;
      g_auto (GStrv) fields = g_strsplit (line, " ", 6);
      if (g_strv_length (fields) < 6 || sscanf (fields[2], "%u:%u", &major, &minor) != 2)
        continue;
      g_autofree char *where = g_strcompress (fields[4]);
      if (!g_str_equal (where, mount->mountpoint) || !strstr (fields[5], " fuse.nearfs "))
        continue;
      g_autofree char *path = g_strdup_printf ("/sys/class/bdi/%u:%u/read_ahead_kb", major, minor);
      int fd = open (path, O_WRONLY | O_CLOEXEC);
      if (fd < 0)
        break;
      if (write (fd, READ_AHEAD_KB, strlen (READ_AHEAD_KB)) < 0)
        g_debug ("%s: %s", path, g_strerror (errno));
      (void)close (fd);
      break;
    }
  if (info)
    (void)fclose (info); /* was only read */
}

static ssize_t
read_request (int fd, void *buf, size_t size, void *userdata)
{
  NfMount *mount = userdata;
  ssize_t n = nf_readers_read (mount->readers, fd, buf, size);
  const struct fuse_in_header *header = buf;
  const struct fuse_init_in *init = (const void *)((const char *)buf + sizeof *header);

  if (G_LIKELY (g_atomic_int_get (&mount->initialized)) || n < 0)
    return n;
  if ((gsize)n >= sizeof *header + G_STRUCT_OFFSET (struct fuse_init_in, flags) + 4
      && header->opcode == FUSE_INIT)
    {
      mount->init_unique = header->unique;
      mount->init_offered = init->flags;
      if ((init->flags & FUSE_INIT_EXT)
          && (gsize)n >= sizeof *header + G_STRUCT_OFFSET (struct fuse_init_in, flags2) + 4)
        mount->init_offered |= (guint64)init->flags2 << 32;
    }
  return n;
}

static ssize_t
write_init_reply (NfMount *mount, int fd, const struct iovec *iov, int count)
{
  struct fuse_init_out out;
  struct iovec changed[2] = { iov[0], { &out, sizeof out } };
  const guint32 more = FUSE_PARALLEL_DIROPS | FUSE_HANDLE_KILLPRIV_V2;

  if (count != 2 || iov[1].iov_len != sizeof out)
    return writev (fd, iov, count);
  memcpy (&out, iov[1].iov_base, sizeof out);
  out.flags |= more & (guint32)mount->init_offered;
  nf_pass_negotiate (mount->pass, mount->init_offered, &out);
  ssize_t n = writev (fd, changed, 2);
  g_atomic_int_set (&mount->initialized, TRUE);
  if (n >= 0)
    {
      set_read_ahead (mount);
      nf_pass_start (mount->pass, fd);
    }
  return n;
}

static ssize_t
write_reply (int fd, struct iovec *iov, int count, void *userdata)
{
  NfMount *mount = userdata;
  const struct fuse_out_header *header = iov[0].iov_base;

  if (G_UNLIKELY (!g_atomic_int_get (&mount->initialized)) && mount->init_unique != 0
      && header->unique == mount->init_unique)
    return write_init_reply (mount, fd, iov, count);
  return nf_readers_reply (mount->readers, fd, iov, count);
}

int
nf_mount_hook_io (NfMount *mount)
{
  static const struct fuse_custom_io io = { .writev = write_reply, .read = read_request };

  return fuse_session_custom_io (mount->session, &io, fuse_session_fd (mount->session));
}

int
nf_mount_notify_epoch (NfMount *mount)
{
  struct fuse_out_header header = { .len = sizeof header, .error = NOTIFY_INC_EPOCH };

  if (!g_atomic_int_get (&mount->initialized))
    return -ENOTCONN;
  return write (fuse_session_fd (mount->session), &header, sizeof header) < 0 ? -errno : 0;
}
