// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "tests/own-mounts.h"

#include <mntent.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <unistd.h>

/* All of them, before any is unmounted: the table changes below whoever reads on. */
static GPtrArray *
list_fuse (void)
{
  GPtrArray *dirs = g_ptr_array_new_with_free_func (g_free);
  FILE *table = setmntent ("/proc/self/mounts", "r");
  struct mntent *mounted;

  while (table && (mounted = getmntent (table)) != NULL)
    if (g_str_has_prefix (mounted->mnt_type, "fuse"))
      g_ptr_array_add (dirs, g_strdup (mounted->mnt_dir));
  if (table)
    (void)endmntent (table);
  return dirs;
}

gboolean
nf_own_mounts (void)
{
  if (geteuid () != 0 || unshare (CLONE_NEWNS) != 0
      || mount (NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
    return FALSE;
  g_autoptr (GPtrArray) dirs = list_fuse ();
  for (guint i = 0; i < dirs->len; i++)
    (void)umount2 (dirs->pdata[i], MNT_DETACH); /* it was unmounted meanwhile */
  return TRUE;
}
