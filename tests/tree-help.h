// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sync/tree.h"

/* A tree in a new directory, for the tests of it. */

#define N(text) nf_slice_str (text)

extern char *tree_dir;
extern NfTree *tree;
extern NfIndex *tree_index;

void tree_set_up (void); /* with all privilege, or personal if we aren't root */
void tree_set_up_personal (void);
void tree_tear_down (void);
void tree_reopen (void);
/* In the real directory. Owned by the caller. */
char *tree_path (const char *path);
gboolean tree_has (const char *path);
/* How many entries a hidden directory has. */
guint tree_hidden_count (const char *name);

NfFid tree_mint (void);
NfAttr tree_attr (NfFid fid, guint32 mode);
/* A new object at (PARENT, NAME). */
NfFid tree_make (NfFid parent, const char *name, guint32 mode);
/* The fid at (PARENT, NAME), NF_FID_NONE if nothing is there. */
NfFid tree_at (NfFid parent, const char *name);
NfAttr tree_stat (NfFid fid);
NfObject tree_object (NfFid fid);
