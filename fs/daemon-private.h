// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <json-glib/json-glib.h>
#include <pthread.h>

#include "fs/control.h"
#include "fs/daemon.h"
#include "fs/policy.h"
#include "fs/pool.h"
#include "net/accept.h"
#include "net/hub.h"
#include "sync/share.h"

/* The daemon's inside.
 *
 *   daemon.c   start, the wait for signals, stop
 *   host.c     what sync/ asks of the world (NfHost)
 *   slots.c    the shares of this site: opening, refusing, trying again, closing
 *   peers.c    what comes from the other sites, to the shares that it is for
 *   reload.c   a new map
 *   report.c   what `nearfs status` shows
 *   asks.c     the verbs that ask the daemon
 *
 * Lock order: admin, slots_lock, mount_lock | peers_lock. `admin` is held by whoever opens,
 * closes or changes slots, for as long as that takes; events and requests only take the others,
 * briefly. No function of a share that may wait is called with slots_lock held: nf_slot_get()
 * keeps a share from being closed instead. */

/* How often a share that couldn't be opened is tried again. */
#define NF_DAEMON_RETRY_S 30
/* Kinds of messages that were refused are logged once each; past this many none is. */
#define NF_DAEMON_REFUSALS_MAX 256

/* A share of the map at this site, whether it could be opened or not. */
typedef struct
{
  /* Set while nobody else knows the slot, then constant. */
  char *name;
  guint64 id;
  NfMapRole role;
  char *primary;   /* the site */
  char *dir;       /* NULL for role none */
  char *signature; /* what can't be changed without opening it anew */
  NfPolicy *policy;

  /* Guarded by slots_lock; set under admin. */
  NfMap *map;
  const NfMapShare *entry; /* of map */
  NfShare *share;          /* NULL: see trouble */
  char *trouble;           /* why it couldn't be opened; NULL */
  gboolean mounted;

  gboolean reopening; /* its share is closed only to be opened again; guarded by slots_lock */
  gboolean
      leaving; /* its share is about to be closed: nobody new may use it; guarded by slots_lock */
  /* Guarded by pins_lock. */
  guint pins;
} NfSlot;

struct _NfDaemon
{
  NfSiteConf *conf;
  NfHost host;
  NfPool *pool;
  NfUsers *users;
  NfHub *hub;
  NfAccept *accept;
  NfControl *control;
  char *mountpoint; /* NULL: no mount */

  pthread_mutex_t admin;

  pthread_rwlock_t slots_lock;
  NfMap *map;        /* guarded by slots_lock */
  GPtrArray *slots;  /* of NfSlot, by name; guarded by slots_lock */
  char *map_trouble; /* why the last load was refused, NULL; guarded by slots_lock */

  pthread_mutex_t pins_lock;
  pthread_cond_t pins_changed;

  pthread_rwlock_t mount_lock;
  NfMount *mount; /* guarded by mount_lock */
  pthread_t mount_thread;
  gboolean mount_started; /* the main thread's */

  pthread_mutex_t peers_lock;
  GHashTable *peers;    /* site -> NfPeerNote; guarded by peers_lock */
  guint64 generation;   /* of the set of open shares; guarded by peers_lock */
  GHashTable *refusals; /* guarded by peers_lock */

  pthread_mutex_t wake_lock;
  pthread_cond_t wake;
  pthread_t signal_thread;
  /* Guarded by wake_lock. */
  gboolean stop;
  gboolean reload;
  gboolean retry;     /* a share is to be opened, or opened again, now */
  gboolean unmounted; /* the mount's thread has ended */
  gboolean drained;   /* what was left is written, or given up */
  GString *lost;      /* what couldn't be written, when drained */
};

/* host.c */
void nf_daemon_init_host (NfDaemon *daemon);

/* daemon.c */
void nf_daemon_stop (NfDaemon *daemon);
/* Waits until the mount's thread has ended, or is about to. FALSE: it hasn't within SECONDS. */
gboolean nf_daemon_wait_unmounted (NfDaemon *daemon, guint seconds);
/* Waits for the end of the drain, which follows the unmount. Returns what couldn't be written,
 * "" if nothing; the caller frees it. */
char *nf_daemon_wait_drained (NfDaemon *daemon);

/* slots.c. With admin. */
NfSlot *nf_slot_new (NfDaemon *daemon, NfMap *map, const NfMapShare *entry);
void nf_slot_free (NfSlot *slot);
/* Opens the share, shows it in the mount, and has the peers greeted anew. ADOPT: mark the
 * directory as it is. FALSE: see slot->trouble, which was logged if it is new. */
gboolean nf_slot_open (NfDaemon *daemon, NfSlot *slot, gboolean adopt);
/* Shows it in the mount, if there is one. */
void nf_slot_show (NfDaemon *daemon, NfSlot *slot);
/* Waits for what is being written, up to TIMEOUT_MS; appends to LOST (may be NULL) what wasn't. */
void nf_slot_drain (NfSlot *slot, guint timeout_ms, GString *lost);
/* Takes it out of the mount and closes it. It must no longer be in daemon->slots, or that must
 * be empty. */
void nf_slot_close (NfDaemon *daemon, NfSlot *slot);
void nf_slots_retry (NfDaemon *daemon);
/* Puts the share where the map has it now. */
void nf_slot_remount (NfDaemon *daemon, NfSlot *slot, NfMap *map, const NfMapShare *entry);
char *nf_slot_signature (NfDaemon *daemon, NfMap *map, const NfMapShare *entry);

/* slots.c. Thread: any; without slots_lock. */
/* The slot of that name with an open share, which stays open until nf_slot_put(). NULL: there is
 * none. */
NfSlot *nf_slot_get (NfDaemon *daemon, const char *name);
/* It takes back what it lost when the machine went down, and will be the primary soon. */
gboolean nf_slot_is_recovering (NfDaemon *daemon, const char *name);
void nf_slot_put (NfDaemon *daemon, NfSlot *slot);
/* Somebody wants to close it: whoever holds it should let go. */
gboolean nf_slot_is_wanted (NfDaemon *daemon, NfSlot *slot);

/* peers.c */
typedef struct
{
  gboolean up;
  GArray *theirs;     /* of NfHelloShare */
  guint64 generation; /* when our greeting was written */
} NfPeerNote;
extern const NfHubEvents nf_daemon_events;
void nf_peer_note_free (gpointer note);
/* The set of open shares has changed: the members of SHARE are greeted anew. With admin, without
 * slots_lock. */
void nf_peers_regreet (NfDaemon *daemon, NfMap *map, const NfMapShare *share, const char *why);
/* Whether SITE's greeting named the share; FALSE if it isn't up. */
gboolean nf_peer_has_share (NfDaemon *daemon, const char *site, guint64 id);
/* Appends the ids that SITE named and we don't have to IDS (of guint64). With slots_lock. */
void nf_peer_strange_shares (NfDaemon *daemon, const char *site, GArray *ids);

/* reload.c */
/* Loads the map from its file. FALSE: it stays as it was. RET_TEXT (may be NULL): what changed,
 * a line each, and what is wrong with it; the caller frees it. */
gboolean nf_daemon_load_map (NfDaemon *daemon, char **ret_text, GError **error);
gboolean nf_daemon_adopt (NfDaemon *daemon, const char *share, GError **error);

/* report.c. The caller owns the node. */
JsonNode *nf_daemon_report (NfDaemon *daemon);

/* asks.c */
extern const NfControlVerb nf_daemon_verbs[];
