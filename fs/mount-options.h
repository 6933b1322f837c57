// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <glib.h>

/* What `-o` says, as in fstab(5) and for `nearfs mount`. */

typedef struct
{
  gboolean read_only;
  gboolean suid;
  gboolean dev;
  gboolean debug;
  gboolean no_pass;
  gboolean local_locks;
  char *config;    /* site.conf; NULL: not said */
  char *site;      /* NULL: not said */
  char *log_file;  /* NULL: not said */
  GPtrArray *fuse; /* for FUSE as they are; NULL-terminated by nf_mount_wish_fuse() */
} NfMountWish;

void nf_mount_wish_init (NfMountWish *wish);
void nf_mount_wish_clear (NfMountWish *wish);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (NfMountWish, nf_mount_wish_clear)

/* Adds TEXT, options separated by commas; a later one wins. SLOPPY: unknown ones are ignored
 * instead of being errors, which name the option that was probably meant. */
gboolean nf_mount_wish_parse (NfMountWish *wish, const char *text, gboolean sloppy, GError **error);
/* The options for FUSE. Borrowed. */
char **nf_mount_wish_fuse (NfMountWish *wish);
