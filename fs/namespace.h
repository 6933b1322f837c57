// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "fs/volume.h"
#include "net/buf.h"

/* The directories above the shares. They are made from the shares' paths, bear nothing else, and
 * can't be changed through the mount. Each has a number, never reused: the root is 1. Thread: any.
 */

typedef struct NfNamespace NfNamespace;

#define NF_NAMESPACE_ROOT G_GUINT64_CONSTANT (1)

NfNamespace *nf_namespace_new (void);
void nf_namespace_free (NfNamespace *ns);

/* A name in one of the directories that has become something else. */
typedef struct
{
  guint64 dir;
  char *name; /* to be freed; NULL: none, it is the root itself that changed */
} NfNamespaceChange;

/* -EINVAL: not an absolute path of proper names. -EEXIST: taken, or above or below a share. */
int nf_namespace_add (NfNamespace *ns, const char *path, NfVolume *volume,
                      NfNamespaceChange *ret_change);
/* FALSE if VOLUME isn't there. Directories that lead to nothing any more go with it. */
gboolean nf_namespace_remove (NfNamespace *ns, NfVolume *volume, NfNamespaceChange *ret_change);

/* The share at directory DIR, a new reference; NULL if there is none. */
NfVolume *nf_namespace_volume (NfNamespace *ns, guint64 dir);
/* What NAME in DIR is: a share's root (RET_VOLUME, a new reference) or a directory (RET_VOLUME
 * NULL). -ENOENT. */
int nf_namespace_lookup (NfNamespace *ns, guint64 dir, NfSlice name, guint64 *ret_dir,
                         NfVolume **ret_volume);
/* -ESTALE if DIR has gone. */
typedef struct
{
  guint64 parent; /* its own for the root */
  guint n_children;
  gint64 changed_ns;
} NfNamespaceStat;
int nf_namespace_stat (NfNamespace *ns, guint64 dir, NfNamespaceStat *ret_stat);
/* FUNC for each entry in order of names, from the one numbered FROM (0 is the first) on, until it
 * returns FALSE. */
typedef gboolean (*NfNamespaceFunc) (const char *name, guint64 dir, const NfVolume *volume,
                                     gpointer data);
int nf_namespace_list (NfNamespace *ns, guint64 dir, guint64 from, NfNamespaceFunc func,
                       gpointer data);
