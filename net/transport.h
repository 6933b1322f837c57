// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <glib.h>
#include <poll.h>

/* A connection of one or more lanes (two-way byte streams) that a link's thread pumps. Two
 * kinds: pairs of descriptors (fds.h) and the channels of a libssh session (ssh.h). No call
 * blocks, but where said. Thread: all calls come from the link's thread. */

#define NF_LANES_MAX 8
/* Of the descriptors that a transport wants to be polled; per lane in, out, error text and
 * hang-up. */
#define NF_TRANSPORT_POLL_MAX (NF_LANES_MAX * 4)
/* What is kept of the text that the far side's command prints. */
#define NF_TRANSPORT_TEXT_MAX 1024

typedef struct _NfTransport NfTransport;

typedef struct
{
  /* Puts into FDS what to wait for and returns how many. WANT_WRITE has a bit for each lane with
   * output pending. *RET_NOW (set to FALSE by the caller) becomes TRUE if there is something to
   * read without waiting. */
  guint (*prepare) (NfTransport *transport, guint want_write, struct pollfd *fds,
                    gboolean *ret_now);
  /* After poll() on what prepare() gave. FALSE: the connection is gone. */
  gboolean (*dispatch) (NfTransport *transport, const struct pollfd *fds, guint n_fds,
                        GError **error);
  /* Bytes read; 0 at the end of the stream, -EAGAIN if there is nothing now, another -errno. */
  gssize (*read) (NfTransport *transport, guint lane, void *buffer, gsize size);
  /* Bytes taken, may be fewer; -EAGAIN if none now, another -errno. */
  gssize (*write) (NfTransport *transport, guint lane, const void *data, gsize len);
  /* So many bytes may be under way to us on each lane from now on, if it can be had. NULL: it isn't ours to say. */
  void (*widen) (NfTransport *transport, gsize window);
  /* Why LANE ended, as far as the far side's command (its error text, its exit status) tells;
   * NULL if it doesn't. May take half a second. The caller frees it. */
  char *(*explain) (NfTransport *transport, guint lane);
  /* DEAD: don't wait for a peer that doesn't listen. */
  void (*free) (NfTransport *transport, gboolean dead);
} NfTransportOps;

struct _NfTransport
{
  const NfTransportOps *ops;
};

/* TEXT as one line without control characters, at most NF_TRANSPORT_TEXT_MAX bytes; NULL if
 * nothing is left. */
char *nf_transport_one_line (const char *text, gsize len);
