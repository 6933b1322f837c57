// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sync/share-internal.h"

/* What opens.c offers to the primary alone; the rest stands in share-internal.h. */

/* Descriptors for reading and writing that are kept for callers without a handle of this site: other sites' writes.
 * Each costs one of the process's descriptors. */
#define NF_OPENS_KEPT_MAX 64

/* A descriptor that several threads may use at once; closed with its last reference. */
typedef struct
{
  int fd;
  gint refs;
} NfOpenFd;

/* Takes FD. */
NfOpenFd *nf_open_fd_new (int fd);
/* Takes FD, open for reading and writing on FID, to be kept as long as there is room. Returns a reference to it. */
NfOpenFd *nf_opens_keep (NfOpens *opens, NfFid fid, int fd);
/* A reference to what is kept for FID, or NULL. */
NfOpenFd *nf_opens_kept (NfOpens *opens, NfFid fid);
void nf_open_fd_unref (NfOpenFd *open_fd);
/* FID has gone for good, or its descriptor is no longer wanted. */
void nf_opens_forget (NfOpens *opens, NfFid fid);

/* Does SITE hold FID, and if so: was a change of it by this site judged allowed while it did? */
gboolean nf_opens_holds (NfOpens *opens, const char *site, NfFid fid, gboolean *ret_judged);
void nf_opens_set_judged (NfOpens *opens, const char *site, NfFid fid);
/* From now on SITE holds only what it says anew: what it hasn't said when nf_opens_drop_stale() is called is dropped.
 * Returns the fids (of NfFid). */
void nf_opens_make_stale (NfOpens *opens, const char *site);
GArray *nf_opens_drop_stale (NfOpens *opens, const char *site);
