// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <glib.h>

#include "net/hub.h"

/* The daemon's unix socket RUNTIME/relay.sock. A connection's first line says what it is:
 *
 *   relay NAME\n    with three descriptors (SCM_RIGHTS): the streams of a peer, which go to the hub;
 *   {…\n            a request of the local user's (nearfs status …), which goes to the control callback.
 *
 * The directory must be ours with mode 0700, and only processes of our own uid or root's are
 * listened to. */

typedef struct _NfAccept NfAccept;

/* FD and LINE (without newline, zero-terminated, at most NF_ACCEPT_LINE_MAX bytes) are the
 * callee's; LINE is freed by g_free(). FD is blocking. Thread: the accept thread; the callee
 * must not block in it. */
typedef void (*NfAcceptControl) (gpointer data, int fd, char *line);

#define NF_ACCEPT_LINE_MAX 65536

/* Opens the socket and starts the thread. An older daemon's left-over socket is replaced; a
 * running daemon's isn't (error). CONTROL may be NULL. The caller frees it with
 * nf_accept_free(), and stops it before the hub. */
NfAccept *nf_accept_new (const char *runtime, NfHub *hub, NfAcceptControl control, gpointer data,
                         GError **error);
/* Ends the thread: whoever connects from then on waits for nf_accept_free(). */
void nf_accept_stop (NfAccept *accept);
/* The same, and closes and removes the socket. */
void nf_accept_free (NfAccept *accept);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (NfAccept, nf_accept_free)

/* Connects to the daemon of RUNTIME: a descriptor, close-on-exec and blocking, or -1 with an
 * error that says whether no daemon runs. The caller owns it. */
int nf_accept_connect (const char *runtime, GError **error);
