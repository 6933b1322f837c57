// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <fuse_lowlevel.h>
#include <glib.h>

/* Pass-through, as far as it is the kernel's: whether there is any, the backing files that it knows, and the replies that
 * libfuse 3.14 can't give. open-mode.h says which handles get it. */

typedef struct NfPass NfPass;
struct fuse_init_out;

/* WANTED: the administrator doesn't forbid it. */
NfPass *nf_pass_new (gboolean wanted);
void nf_pass_free (NfPass *pass);

/* OFFERED is what the kernel can, all 64 bits; OUT the reply to INIT, which is completed. */
void nf_pass_negotiate (NfPass *pass, guint64 offered, struct fuse_init_out *out);
/* The reply has gone out by FD, the session's: tries whether it works. */
void nf_pass_start (NfPass *pass, int fd);
/* FD is about to be closed. */
void nf_pass_stop (NfPass *pass);
gboolean nf_pass_is_on (NfPass *pass);

/* FD's file becomes one that inodes may pass through to. Its number, from 1, or -errno; FD may be closed afterwards. Waits
 * for no request. Thread: any. */
int nf_pass_register (NfPass *pass, int fd);
void nf_pass_unregister (NfPass *pass, int id);
/* Answers an OPEN: the handle passes through to the file registered as ID. As fuse_reply_open(). */
int nf_pass_reply_open (fuse_req_t req, const struct fuse_file_info *fi, int id);

/* For `nearfs status`, and tests. */
typedef struct
{
  gboolean on;
  const char *why_not; /* static; NULL if it is on */
  guint64 opens;       /* handles for reading that passed through, ever */
  guint64 inodes;      /* that do now */
  guint64 reads;       /* READ requests that came to us all the same */
} NfPassStatus;
void nf_pass_status (NfPass *pass, NfPassStatus *ret_status);
void nf_pass_count_open (NfPass *pass);
void nf_pass_count_read (NfPass *pass);
