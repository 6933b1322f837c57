// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <glib.h>

#include "map/map.h"
#include "map/site.h"
#include "net/proto.h"

/* All peers of this site, as the map names them: who can dial, dials (and redials); the others
 * are waited for.
 *
 * A peer is up or down as a whole. While it is up, messages of one kind arrive in the order in
 * which they were sent, none is lost and none comes twice; of OPS and BULK against each other
 * nothing is promised. What was sent and hasn't arrived when the peer goes down is lost: `down`
 * tells, and who needs an answer asks again.
 *
 * Thread: every function may be called from any thread, from the events too, but nf_hub_stop()
 * and nf_hub_unref() not from an event. */

typedef struct _NfHub NfHub;

typedef enum
{
  NF_LINK_OPS,
  NF_LINK_BULK,
  NF_LINK_N_KINDS
} NfLinkKind;

/* What a receiver lets be under way and unprocessed towards it, per kind; frames count with
 * NF_FRAME_COST_EXTRA more than their payload, so that small messages are bounded in memory as
 * well. */
#define NF_LINK_CREDIT_OPS (4 * 1024 * 1024)
#define NF_LINK_CREDIT_BULK (16 * 1024 * 1024)
/* `drained` is called when what is queued falls below this. */
#define NF_LINK_LOW_WATER_OPS (128 * 1024)
#define NF_LINK_LOW_WATER_BULK (2 * 1024 * 1024)
/* A polite sender stops above twice the low water. One that doesn't loses the link here: it's
 * our own bug, and memory is bounded (G8). */
#define NF_LINK_QUEUE_MAX (256 * 1024 * 1024)

#define NF_NET_ERROR (nf_net_error_quark ())
GQuark nf_net_error_quark (void);

typedef enum
{
  NF_NET_ERROR_PROTOCOL, /* bytes that no nearfs of this version sends */
  NF_NET_ERROR_VERSION,  /* the peer speaks another version */
  NF_NET_ERROR_NOISE,    /* something else talks on the stream: a login shell's greeting */
  NF_NET_ERROR_REFUSED,  /* one of the two sides doesn't want the other; the message says why */
  NF_NET_ERROR_HOST_KEY, /* unknown or changed; the message has the command that accepts it */
  NF_NET_ERROR_AUTH,     /* no key of ours is accepted there */
  NF_NET_ERROR_CONNECT,  /* name, address or route */
  NF_NET_ERROR_RELAY,    /* nearfs relay, or the daemon behind it, doesn't work there */
  NF_NET_ERROR_DEAD,     /* nothing was heard for a heartbeat */
  NF_NET_ERROR_CLOSED,   /* hung up */
  NF_NET_ERROR_FAILED    /* a system call of ours */
} NfNetError;

/* Called from link threads: one thread per link, so `message` of OPS and of BULK may run at the
 * same time. For one peer `up` and `down` alternate, and every `message` and `drained` lies
 * between them. None may block (a link whose thread is held for a heartbeat looks dead to its
 * peer) and each may call any function here but stop and unref. `drained` may come from the
 * thread of the link only, with no lock held. */
typedef struct
{
  /* Before a greeting is sent: set hello->hello.shares, and hello->owner to what keeps its
   * memory. Everything else is filled in already. May be NULL. */
  void (*fill_hello) (gpointer data, const char *site, NfMsg *hello);
  /* The ops link stands and both sides have checked who they are. Messages sent from here on
   * arrive after the greeting. FALSE with ERROR set refuses the peer, which is told the reason;
   * `down` isn't called then. */
  gboolean (*up) (gpointer data, const char *site, const NfMsg *hello, GError **error);
  void (*down) (gpointer data, const char *site, const char *reason);
  /* MSG is the callee's, to be freed by nf_msg_free(). The peer's credit comes back when MSG and
   * everything that refers to msg->owner is gone: who keeps something for long keeps a copy
   * (nf_msg_dup()), else the peer can't send. Nothing but the message's form was checked: rights
   * are the callee's to check, by nf_msg_flags(). */
  void (*message) (gpointer data, const char *site, NfLinkKind kind, NfMsg *msg);
  /* What is queued has fallen below the low water. May be NULL. */
  void (*drained) (gpointer data, const char *site, NfLinkKind kind);
} NfHubEvents;

/* The hub of the site conf->name, which must be in MAP. EVENTS is copied. Nothing happens before
 * nf_hub_start(). The caller owns a reference, to be given back by nf_hub_unref() after
 * nf_hub_stop(). */
NfHub *nf_hub_new (NfMap *map, NfSiteConf *conf, const NfHubEvents *events, gpointer data);
NfHub *nf_hub_ref (NfHub *hub);
void nf_hub_unref (NfHub *hub);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (NfHub, nf_hub_unref)

/* Begins to dial. Doesn't wait for anybody. */
void nf_hub_start (NfHub *hub);
/* Says goodbye to everybody, gives `down` for each peer that is up, and returns when no thread
 * of the hub is left; no event comes after that. Name look-ups under way can delay it. */
void nf_hub_stop (NfHub *hub);
/* Peers that are no longer in the map (or share nothing with us) go down, new ones are dialled,
 * those whose address changed are redialled; everybody else stays connected. */
void nf_hub_set_map (NfHub *hub, NfMap *map);
NfMap *nf_hub_map (NfHub *hub); /* The caller owns a reference. */

/* Queues MSG, which stays the caller's and isn't referred to afterwards. FALSE if SITE isn't up.
 * BULK goes over the ops link as long as there is no bulk link. Never blocks. */
gboolean nf_hub_send (NfHub *hub, const char *site, NfLinkKind kind, const NfMsg *msg);
/* The same for a payload from nf_msg_to_bytes(), so that a broadcast is encoded once. PAYLOAD is
 * referenced. */
gboolean nf_hub_send_bytes (NfHub *hub, const char *site, NfLinkKind kind, GBytes *payload);
/* Bytes queued and not yet written for SITE; 0 if it isn't up. */
gsize nf_hub_queued (NfHub *hub, const char *site, NfLinkKind kind);
gboolean nf_hub_is_up (NfHub *hub, const char *site);
/* Ends the connection with SITE, telling it why; we redial if it's us who dial. */
void nf_hub_hang_up (NfHub *hub, const char *site, const char *reason);
/* Dials at once instead of after the rest of the backoff; nothing if SITE is up or isn't ours to
 * dial. To be used when a call wants a peer that is down. At most once a second has an effect.
 * SITE NULL: all. */
void nf_hub_redial_now (NfHub *hub, const char *site);

typedef enum
{
  NF_PEER_DOWN, /* waiting for it to dial, or for the next attempt */
  NF_PEER_DIALLING,
  NF_PEER_GREETING, /* connected, not yet admitted */
  NF_PEER_UP
} NfPeerState;

const char *nf_peer_state_name (NfPeerState state);

typedef struct
{
  const char *site;
  NfPeerState state;
  gboolean we_dial;
  gboolean bulk_up;
  guint64 rtt_last_us; /* 0: not measured */
  guint64 rtt_min_us;
  gsize queued[NF_LINK_N_KINDS];
  guint64 bytes_in; /* on the wire, both kinds, since the hub was made */
  guint64 bytes_out;
  gint64 since_us;     /* g_get_real_time() of the last change between up and down; 0: never up */
  gint64 redial_at_us; /* g_get_monotonic_time() of the next attempt; 0: none planned */
  const char *last_error; /* "" if there was none */
  const char *software;   /* of its last greeting, "" before one */
  guint64 incarnation;
  guint64 map_serial;   /* of its last greeting */
  gboolean map_differs; /* its digest isn't ours */
} NfPeerInfo;

typedef void (*NfPeerFunc) (const NfPeerInfo *info, gpointer data);
/* Calls FUNC for each peer, in the order of names, with a snapshot that is valid during the
 * call. */
void nf_hub_each (NfHub *hub, NfPeerFunc func, gpointer data);

/* A stream from SITE that its relay has handed over (or a test). Takes the descriptors: IN and
 * OUT (may be the same number), ERR (-1: none; gets a refusal's text) and HOLD (-1: none; its
 * hang-up is the stream's). */
void nf_hub_accept (NfHub *hub, const char *site, int in_fd, int out_fd, int err_fd, int hold_fd);
/* For tests: makes this side the dialling one of a link of one lane over a pair of descriptors,
 * which it takes. There is no redial. Works whatever the map says about who dials. */
void nf_hub_attach_fds (NfHub *hub, const char *site, NfLinkKind kind, int in_fd, int out_fd);
