// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "nf-work.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* A power cut, as the kernel's own tests have it: the filesystem writes nothing more, not even its log, so that what
 * was not synced is lost (or not, as it happened) when it is mounted again. EXT4_IOC_SHUTDOWN and
 * EXT4_GOING_FLAGS_NOLOGFLUSH of fs/ext4/ext4.h; XFS has the same. */
#define SHUTDOWN _IOR ('X', 125, guint32)
#define NO_LOG_FLUSH 2

int
nf_work_power_cut (const char *dir)
{
  guint32 flags = NO_LOG_FLUSH;
  int fd = open (dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

  if (fd < 0 || ioctl (fd, SHUTDOWN, &flags) != 0)
    nf_work_broken ("can't cut the power of %s: %s", dir, g_strerror (errno));
  (void)close (fd);
  return 0;
}
