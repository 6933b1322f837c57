// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/mount-private.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* What libfuse wouldn't say, or not so that it helps: why there can be no mount here. */

static gboolean
check_device (GError **error)
{
  int fd = open ("/dev/fuse", O_RDWR | O_CLOEXEC);

  if (fd >= 0)
    {
      (void)close (fd);
      return TRUE;
    }
  int err = errno;
  if (err == ENOENT || err == ENODEV || err == ENXIO)
    g_set_error (error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND,
                 "/dev/fuse isn't there: this kernel or container has no FUSE (try \"modprobe "
                 "fuse\", or give the container the device)");
  else
    g_set_error (error, G_IO_ERROR, G_IO_ERROR_PERMISSION_DENIED,
                 "/dev/fuse can't be opened: %s (it should have mode 0666; in a container the "
                 "device must be allowed)",
                 g_strerror (err));
  return FALSE;
}

static gboolean
is_dead (int err)
{
  return err == ENOTCONN || err == ECONNABORTED;
}

static void
set_dead_error (const char *path, GError **error)
{
  g_set_error (error, G_IO_ERROR, G_IO_ERROR_BUSY,
               "%s is a mount whose server has gone; take it away with \"fusermount3 -u -z %s\"",
               path, path);
}

static gboolean
check_directory (const char *path, GError **error)
{
  struct stat st;

  if (stat (path, &st) != 0)
    {
      int err = errno;
      if (is_dead (err))
        set_dead_error (path, error);
      else
        g_set_error (error, G_IO_ERROR, g_io_error_from_errno (err), "%s: %s", path,
                     g_strerror (err));
      return FALSE;
    }
  if (S_ISDIR (st.st_mode))
    return TRUE;
  g_set_error (error, G_IO_ERROR, G_IO_ERROR_NOT_DIRECTORY, "%s isn't a directory", path);
  return FALSE;
}

static gboolean
is_mounted (const char *path)
{
  g_autofree char *info = NULL;

  if (!g_file_get_contents ("/proc/self/mountinfo", &info, NULL, NULL))
    return FALSE; /* then the kernel will have to say */
  g_auto (GStrv) lines = g_strsplit (info, "\n", -1);
  for (char **line = lines; *line; line++)
    {
      g_auto (GStrv) fields = g_strsplit (*line, " ", 6);
      if (g_strv_length (fields) < 6 || !strstr (fields[5], " fuse.nearfs "))
        continue;
      g_autofree char *where = g_strcompress (fields[4]);
      if (g_str_equal (where, path))
        return TRUE;
    }
  return FALSE;
}

static gboolean
check_free (const char *path, GError **error)
{
  struct statvfs vfs;

  if (!is_mounted (path))
    return TRUE;
  /* The attributes of a dead mount's root may still be in the kernel's cache; this is not. */
  if (statvfs (path, &vfs) != 0 && is_dead (errno))
    set_dead_error (path, error);
  else
    g_set_error (error, G_IO_ERROR, G_IO_ERROR_BUSY, "nearfs is mounted on %s already", path);
  return FALSE;
}

gboolean
nf_mount_check (const char *path, GError **error)
{
  return check_directory (path, error) && check_free (path, error) && check_device (error);
}
