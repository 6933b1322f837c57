// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <sys/stat.h>
#include <sys/statvfs.h>

#include "sync/index.h"

/* The backing directory of a share at this site, addressed by fid. Every system call on it is made
 * here, from the share's root and with openat2 (RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
 * RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV), so that neither path nor fid can leave the share (G7).
 * Paths longer than PATH_MAX are walked in steps.
 *
 * Directories' descriptors are kept in a bounded cache (NF_TREE_DIRS_MAX); objects are never kept
 * open here. Unless said otherwise functions return 0 (or a descriptor) or -errno, and may be
 * called from any thread. */

#define NF_HIDDEN_DIR ".nearfs"
#define NF_TREE_DIRS_MAX 512

typedef struct NfTree NfTree;

/* A name in a directory. */
typedef struct
{
  NfFid parent;
  NfSlice name;
} NfNameRef;

typedef struct
{
  gboolean personal; /* not root: owners, devices and the like are recorded in the index instead of
                        set */
  gboolean mark; /* a new share: mark the root; otherwise an unmarked or foreign root is refused */
  guint64 share;
} NfTreeOptions;

/* Opens DIR. Checks the root marker (share id in the xattr user.nearfs.share — trusted.nearfs.share
 * if root — of the root or, where xattrs can't be, a file in the hidden directory) and the
 * filesystem's identity recorded in the hidden directory's state: a disk that isn't there or is
 * another one gives an error that says so and what to do. Creates the hidden directory with index,
 * staging, orphans, quarantine, limbo. Locks it against a second daemon. */
NfTree *nf_tree_open (const char *dir, const NfTreeOptions *options, GError **error);
void nf_tree_close (NfTree *tree);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (NfTree, nf_tree_close)

NfIndex *nf_tree_index (NfTree *tree);
int nf_tree_root_fd (NfTree *tree);   /* borrowed */
int nf_tree_hidden_fd (NfTree *tree); /* borrowed */
gboolean nf_tree_personal (NfTree *tree);
/* The root is still there, marked, and on the same filesystem. */
int nf_tree_check (NfTree *tree);

/* An O_PATH descriptor of directory FID, from the cache; valid until nf_tree_dir_put(). */
typedef struct NfTreeDir NfTreeDir;
int nf_tree_dir (NfTree *tree, NfFid fid, NfTreeDir **ret_dir);
int nf_tree_dir_fd (NfTreeDir *dir);
void nf_tree_dir_put (NfTree *tree, NfTreeDir *dir);
/* Directory FID was removed or replaced: forget its descriptor. (One that moved may keep it: the descriptor is the
 * directory, whatever its path.) */
void nf_tree_forget (NfTree *tree, NfFid fid);
/* Whoever changes names with system calls of his own says so before the call and after the index has followed: a
 * reader that finds the two at odds meanwhile waits and looks again, instead of failing with -ESTALE. No function of
 * this header may be called in between by that thread but nf_tree_dir_fd(), nf_tree_dir_put(), nf_tree_changed(). */
void nf_tree_changing (NfTree *tree);
void nf_tree_changed (NfTree *tree);

/* By name. NFS-style: the object at (PARENT, NAME) with its attributes (recorded ones merged in).
 * RET_ATTR->fid is NF_FID_NONE if the index doesn't know the object (RET_IDENT, which may be NULL,
 * says which it is). The hidden directory is never found in the root. */
int nf_tree_lookup (NfTree *tree, NfFid parent, NfSlice name, NfAttr *ret_attr, NfIdent *ret_ident);
/* By fid, through its first name; -ESTALE if the fid isn't (or is no longer) here, or the name
 * holds another object. */
int nf_tree_stat (NfTree *tree, NfFid fid, NfAttr *ret_attr);
/* An open descriptor of FD's attributes. */
int nf_tree_fstat (NfTree *tree, int fd, NfFid fid, NfAttr *ret_attr);
/* Opens the object itself, O_CLOEXEC | O_NOFOLLOW added; verifies that it is FID (-ESTALE). O_PATH
 * works for all. */
int nf_tree_open_fid (NfTree *tree, NfFid fid, int flags);
/* Parent and name of FID, first name. The name is owned by the caller. */
int nf_tree_name_of (NfTree *tree, NfFid fid, NfFid *ret_parent, char **ret_name);

int nf_tree_readlink (NfTree *tree, NfFid fid, char *target,
                      gsize size); /* bytes, not terminated */
int nf_tree_getxattr (NfTree *tree, NfFid fid, const char *name, void *value, gsize size);
/* As listxattr(2), with our own and other hidden names left out and recorded ones added. */
int nf_tree_listxattr (NfTree *tree, NfFid fid, char *list, gsize size);
int nf_tree_setxattr (NfTree *tree, NfFid fid, const char *name, NfSlice value, int flags);
int nf_tree_removexattr (NfTree *tree, NfFid fid, const char *name);
/* Whether an xattr may be seen and set through the share at all (not trusted.nearfs.*,
 * user.nearfs.*, security.* other than capability; system.posix_acl_* may). */
gboolean nf_tree_xattr_shown (const char *name);

/* What is known of the share here belongs to another history (reign EPOCH or later): the next opening begins with an empty index
 * and journal. 0 or -errno. */
int nf_tree_start_anew (NfTree *tree, guint64 epoch);
/* Was this such an opening? EPOCH, or 0. Until nf_tree_anew_done(). */
guint64 nf_tree_is_anew (NfTree *tree);
int nf_tree_anew_done (NfTree *tree);

int nf_tree_statvfs (NfTree *tree, struct statvfs *ret_vfs);

/* A directory, read in one go as of now: FUNC gets each entry but ".", ".." and the hidden
 * directory. COOKIE is the position after it. With STAT, attr is complete; else fid (if known),
 * type and ino are. Ends when FUNC returns FALSE. FROM: a cookie, 0 for the beginning. */
typedef gboolean (*NfTreeEntryFunc) (NfSlice name, const NfAttr *attr, const NfIdent *ident,
                                     guint64 cookie, gpointer data);
int nf_tree_readdir (NfTree *tree, NfFid fid, guint64 from, gboolean stat, NfTreeEntryFunc func,
                     gpointer data);

/* Sets attributes as MASK (NF_SET_*) says, exactly as given (no permission rules: those are the
 * caller's); what the filesystem or this process can't set is recorded in the index. */
int nf_tree_set_attr (NfTree *tree, NfFid fid, int fd_or_minus_1, guint32 mask, const NfAttr *attr);

/* The special fids NF_FID_STAGING, NF_FID_LIMBO, NF_FID_ORPHANS name the hidden directories for nf_tree_dir(); the
 * objects there have no names (stat shows nlink 0) but are found by fid as all others are.
 * These functions must not run under a caller's credentials: the hidden directory is the daemon's alone. */

/* Makes an object with ATTR (type, mode, owner, times, rdev) and TARGET in the staging directory,
 * indexed as ATTR->fid but without a name. Then nf_tree_place() gives it its name in one step. */
int nf_tree_stage (NfTree *tree, const NfAttr *attr, NfSlice target);
/* Name (PARENT, NAME) is FID from now on, whatever it was and wherever FID was before (staging,
 * limbo, another name; directories move, files are renamed if MOVE_FROM names the old name, else
 * linked). An object that loses its last name by this goes to limbo. Index and names follow. */
int nf_tree_place (NfTree *tree, NfFid fid, NfFid parent, NfSlice name, const NfNameRef *move_from);
/* Both in one, at half the cost. RET_MADE (may be NULL): what it is on the disk, and for a file a descriptor for reading
 * and writing, the caller's to close; else -1. */
typedef struct
{
  NfIdent ident;
  int fd;
} NfTreeMade;
int nf_tree_create (NfTree *tree, const NfAttr *attr, NfSlice target, NfFid parent, NfSlice name,
                    NfTreeMade *ret_made);
/* Name (PARENT, NAME) is nothing from now on, which it may have been before. An object that loses its last name goes to limbo. */
int nf_tree_unplace (NfTree *tree, NfFid parent, NfSlice name);
/* Two names change places in one step. */
int nf_tree_exchange (NfTree *tree, NfFid parent_a, NfSlice name_a, NfFid parent_b, NfSlice name_b);
/* Removes FID from limbo or staging (a directory with all that is in it) and from the index. Nothing to do if it isn't
 * there, -EBUSY if it has a name. */
int nf_tree_bury (NfTree *tree, NfFid fid);
/* Moves (PARENT, NAME), of which the index may know nothing, into the quarantine; RET_WHERE its
 * path there. */
int nf_tree_quarantine (NfTree *tree, NfFid parent, NfSlice name, const char *why,
                        char **ret_where);
/* The same with a copy of a file, which stays. */
int nf_tree_quarantine_copy (NfTree *tree, NfFid parent, NfSlice name, const char *why,
                             char **ret_where);
/* An object is found at (PARENT, NAME) that the index doesn't know: it is FID from now on. */
int nf_tree_adopt (NfTree *tree, NfFid parent, NfSlice name, NfIdent ident, NfFid fid,
                   guint32 mode);

/* Buries all that is in limbo and staging. For the end of a redo. */
int nf_tree_sweep (NfTree *tree);

/* A file in staging that becomes the content of file FID later: opened for reading and writing, empty. */
int nf_tree_stage_file (NfTree *tree, NfFid fid, int *ret_fd);
/* The staged file becomes file FID, in one step for readers: it gets the mode, owner and xattrs of the present one and
 * takes over its name; the index knows the new inode. Times are the caller's to set before, on the staged file's
 * descriptor. -EMLINK if FID has several names: copy in place then. */
int nf_tree_switch_file (NfTree *tree, NfFid fid);
void nf_tree_drop_staged_file (NfTree *tree, NfFid fid);

/* Orphans: files that lost their last name while they were open somewhere. Moves (PARENT, NAME), the last name of FID,
 * there. KEEP_NAME: the name stays, as a second link, for the caller's rename over it, which must come next;
 * nf_tree_unorphan() puts things right if that fails. -EMLINK if FID has other names. */
int nf_tree_orphan (NfTree *tree, NfFid fid, NfFid parent, NfSlice name, gboolean keep_name);
int nf_tree_unorphan (NfTree *tree, NfFid fid, NfFid parent, NfSlice name);
/* Removes orphan FID and forgets it. */
int nf_tree_drop_orphan (NfTree *tree, NfFid fid);
typedef void (*NfTreeOrphanFunc) (NfFid fid, gpointer data);
int nf_tree_each_orphan (NfTree *tree, NfTreeOrphanFunc func, gpointer data);
