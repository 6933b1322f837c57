// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <sys/stat.h>

#include "sync/index.h"

/* Which files have been written over since the last durable checkpoint. See intents.c. Thread: any; one lock inside, under
 * which a few bytes are brought to the disk. */

typedef struct NfIntents NfIntents;

/* In the directory DIR_FD, which stays the caller's, as INDEX does. What cannot be read counts as nothing noted. NULL with
 * errno set if there can be none. */
NfIntents *nf_intents_open (int dir_fd, NfIndex *index);
void nf_intents_free (NfIntents *intents);

/* Content of FID that is on the disk is going to be changed in its place: that is on the disk when this returns. Cheap if it
 * was noted since the last checkpoint, or the file is newer than that. 0 or -errno. */
int nf_intents_note (NfIntents *intents, NfFid fid);

/* Has the file that ST is of anything on the disk that could change without its times? Where it is all hole, blocks come,
 * and they are on the disk together with its times or not at all. */
gboolean nf_intents_concern (const struct stat *st);

/* A checkpoint begins: what is written from now on, TIME by the filesystem's clock (ns), isn't its. */
void nf_intents_begin (NfIntents *intents, gint64 time);
/* It is on the disk: what was noted before it began is of no interest any more. 0 or -errno, and more is kept. */
int nf_intents_end (NfIntents *intents);
/* While HELD nothing is forgotten: after a power cut it is still to be looked at. */
void nf_intents_hold (NfIntents *intents, gboolean held);

/* Was FID noted since the last checkpoint, by this life or the ones before? */
gboolean nf_intents_has (NfIntents *intents, NfFid fid);
/* All of those (NfFid), to be freed. */
GArray *nf_intents_list (NfIntents *intents);
