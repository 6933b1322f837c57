// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "fs/volume.h"

/* The inodes that the kernel knows. A node's number in the protocol is its address; it lives as
 * long as the kernel has lookups of it or somebody here a reference. A node is found by (volume,
 * fid) until it is detached: when the fid has got another backing object (NF_INVAL_SWITCH) the next
 * lookup makes a new node, so that the page caches of two versions never mix, and handles that are
 * open go on with the old one. */

typedef struct NfNode NfNode;
struct NfNode
{
  /* Of a directory above the shares `volume` is NULL and `fid` its number in the namespace. */
  NfVolume *volume;
  NfFid fid;
  guint64 generation; /* differs from that of any other node that had this address */
  guint64 lookups;    /* guarded by the table's lock */
  gint refs;          /* atomic; all lookups together are one */
  guint32 mode;       /* as last told to the kernel; atomic */
  guint64 backing; /* inode number of what was opened under it first; guarded by the table's lock */
  gsize parent;    /* number of the node in which it was last found, which may be gone; atomic */
  NfHandle *handles; /* open ones; guarded by the volume's lock, set atomically */
  gint detached;     /* atomic */
  /* What open-mode.c counts; guarded by the volume's lock. */
  guint passing;    /* handles that pass through … */
  gint32 passed_to; /* … to the file that the kernel knows by this number */
  guint plain;      /* all others */
  gboolean
      left_behind; /* another node has taken its place, and handles are open; guarded by the same */
  gint read_write; /* was once opened for both; atomic */
  /* Of a directory that was removed from here, for those who have it open; set once, atomically. */
  NfAttr *gone;
};

typedef struct NfNodes NfNodes;

NfNodes *nf_nodes_new (void);
/* Frees all nodes: the kernel must have forgotten us. */
void nf_nodes_free (NfNodes *nodes);

/* The node of (VOLUME, FID), found or made, with one lookup more. */
NfNode *nf_nodes_lookup (NfNodes *nodes, NfVolume *volume, NfFid fid);
/* The kernel drops N lookups. */
void nf_nodes_forget (NfNodes *nodes, NfNode *node, guint64 n);
/* A new reference, or NULL. */
NfNode *nf_nodes_find (NfNodes *nodes, const NfVolume *volume, NfFid fid);
/* The directory that NODE stands for was removed, and was like ATTR at the end. */
void nf_node_set_gone (NfNode *node, const NfAttr *attr);
NfNode *nf_node_ref (NfNode *node);
void nf_node_unref (NfNode *node);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (NfNode, nf_node_unref)

/* NODE isn't found by its fid any more. */
void nf_nodes_detach (NfNodes *nodes, NfNode *node);
/* The same, and nodes that take its place in the near future are as if they had been opened for both reading and
 * writing. */
void nf_nodes_detach_to_plain (NfNodes *nodes, NfNode *node);
/* All of VOLUME. */
void nf_nodes_detach_volume (NfNodes *nodes, const NfVolume *volume);
/* The numbers (guint64) of all nodes of VOLUME, to be unreffed. */
GArray *nf_nodes_ids (NfNodes *nodes, const NfVolume *volume);
/* FALSE if NODE stands for another backing object than BACKING; the first one that is told becomes
 * its own. */
gboolean nf_nodes_is_backing (NfNodes *nodes, NfNode *node, guint64 backing);
guint nf_nodes_count (NfNodes *nodes);

guint64 nf_node_id (const NfNode *node);
