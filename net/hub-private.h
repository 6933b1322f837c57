// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <pthread.h>

#include "net/hub.h"
#include "net/link.h"

/* Who is who inside the hub.
 *
 * A peer is a site of the map; it lives as long as the hub. A session is one link to it from the
 * moment when the stream stands: greeting, waiting for an older session to go, up. A peer has
 * one session of OPS that is up at most, and beside it one of BULK.
 *
 * Threads: one for each peer that we dial (it dials, then runs the ops session, then dials
 * again), one for the bulk session beside it, one for each accepted stream (it reads the first
 * words and then runs the session, or ends when the stream was one more lane of a session that
 * runs). All are counted, and joined by nf_hub_stop() at the latest.
 *
 * Lock order: hub->lock, peer->lock, the locks of links. No event is called with any of them
 * held. `up` and `down` are called by the thread of the ops session; it calls `down` after the
 * bulk session has delivered its last. */

/* Streams whose first words are awaited, of all sites: five of each that come at the same time. */
#define NF_HUB_LOBBY_MAX 256
/* Links of one peer that run at the same time: an old and a new one of each kind, and spare. */
#define NF_PEER_LINKS_MAX 16

typedef enum
{
  NF_SESSION_GREETING,
  NF_SESSION_WAITING,
  NF_SESSION_UP
} NfSessionState;

typedef struct _NfPeer NfPeer;

typedef struct
{
  NfPeer *peer;
  NfLink *link;
  NfLinkKind kind;
  gboolean dialling;
  gboolean redialled; /* we have dialled this ops session, and dial the bulk link for it */
  NfSessionState state;
  gboolean was_up;
  NfMsg *hello;        /* the peer's, until it is admitted */
  guint64 incarnation; /* the peer's */
  gint64 started_us;
  gint64 asked_us; /* when the older session was asked for a sign of life; 0: not yet */
} NfSession;

struct _NfPeer
{
  NfHub *hub;
  char *name;
  pthread_mutex_t lock;
  pthread_cond_t changed;

  /* All below guarded by lock. */
  gboolean in_map;
  gboolean we_dial;
  char *ssh;
  guint16 port;
  NfMapTransport transport;

  NfSession *current; /* the ops session that is up, or is being ended */
  gboolean usable;    /* `current` takes messages */
  NfLink *bulk;       /* set while the bulk session is up; its owner has a reference */
  gboolean bulk_out;  /* we have said SWITCH */
  gboolean bulk_in;   /* the peer has */
  GPtrArray *links;   /* of NfLink, all that run */
  gboolean dial_thread;
  gboolean dialling;
  guint64
      ops_id; /* the first half of the id of the ops link that we dial, or have dialled; 0: none */
  guint64 bulk_id; /* the same, of the last one that got a thread for its bulk link */
  guint greeting;  /* sessions not yet up */
  gboolean redial_now;
  gint64 redial_asked_us;
  gint64 redial_at_us;

  char *last_error;
  char *software;
  guint64 incarnation;
  guint64 map_serial;
  gboolean greeted;
  guint8 map_digest[NF_MAP_DIGEST_SIZE];
  gint64 since_us;
  guint64 rtt_last_us;
  guint64 rtt_min_us;
  guint64 bytes_in; /* of links that have ended */
  guint64 bytes_out;
};

struct _NfHub
{
  int refs;
  NfSiteConf *conf;
  NfHubEvents events;
  gpointer data;
  guint64 incarnation;
  int stop_flag; /* atomic; the same as `stopping` */
  int stop_fd;   /* becomes readable, for good, when the hub stops */

  pthread_mutex_t lock;
  pthread_cond_t idle;
  NfMap *map;        /* guarded by lock */
  GHashTable *peers; /* by name; guarded by lock. Peers are never removed */
  gboolean started;  /* guarded by lock */
  gboolean stopping; /* guarded by lock */
  GArray *ended;     /* of pthread_t, to be joined; guarded by lock */
  guint n_threads;   /* guarded by lock */
  guint n_lobby;     /* guarded by lock */
};

/* For ids: not a secret. */
guint64 nf_hub_random (void);
/* NULL if there is none of that name. */
NfPeer *nf_hub_peer (NfHub *hub, const char *site);
/* All peers, by name. The caller frees the array. */
GPtrArray *nf_hub_peers (NfHub *hub);
gboolean nf_hub_stopping (NfHub *hub);
/* Runs FUNC (DATA) in a thread that nf_hub_stop() waits for. FALSE if the hub stops or no thread
 * is to be had. */
gboolean nf_hub_run (NfHub *hub, void (*func) (gpointer data), gpointer data);

NfPeer *nf_peer_new (NfHub *hub, const char *name);
void nf_peer_free (NfPeer *peer);
/* Closes all links. */
void nf_peer_hang_up (NfPeer *peer, NfNetError code, const char *reason);
/* Keeps TEXT as the last error, and logs it if it isn't what was logged last. */
void nf_peer_failed (NfPeer *peer, const char *text);

/* A session of PEER's over TRANSPORT (taken), with its link, which is one of peer->links from
 * here on. REDIALLED: it is the ops session of a peer that we dial, so it gets a bulk link. NULL
 * with ERROR set if the peer has too many. With the peer's lock held. */
NfSession *nf_session_new (NfPeer *peer, const NfLinkOptions *options, NfTransport *transport,
                           guint n_open, gboolean redialled, GError **error);
/* Runs SESSION to its end and frees it. Returns whether it was up. */
gboolean nf_session_run (NfSession *session);
/* Of session.c: greets and admits. */
extern const NfLinkEvents nf_session_events;
/* The checks of a greeting that need no other session. */
gboolean nf_session_check_hello (NfPeer *peer, const NfMsg *msg, GError **error);
/* A greeting of ours, in full; cleared by the caller. */
void nf_session_fill_hello (NfPeer *peer, NfLinkKind kind, NfMsg *ret_msg);

/* Starts the thread that dials PEER, if it's us who do and it doesn't run. */
void nf_redial_start (NfPeer *peer);
/* Starts the thread that dials the bulk link for the ops link whose id begins with ID, unless it has one. */
void nf_redial_bulk (NfPeer *peer, guint64 id);

/* Logging: one line with the peer's name as a field. */
void nf_hub_log (GLogLevelFlags level, const char *site, const char *format, ...)
    G_GNUC_PRINTF (3, 4);
