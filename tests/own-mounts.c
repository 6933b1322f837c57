// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "tests/own-mounts.h"

#include <mntent.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <unistd.h>

gboolean
nf_own_mounts (void)
{
  struct mntent *mounted;

  if (geteuid () != 0 || unshare (CLONE_NEWNS) != 0
      || mount (NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
    return FALSE;
  FILE *table = setmntent ("/proc/self/mounts", "r");
  while (table && (mounted = getmntent (table)) != NULL)
    if (g_str_has_prefix (mounted->mnt_type, "fuse"))
      (void)umount2 (mounted->mnt_dir, MNT_DETACH); /* it was unmounted meanwhile */
  if (table)
    (void)endmntent (table);
  return TRUE;
}
