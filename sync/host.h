// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "net/proto.h"

/* What sync/ needs of the world, given by whoever embeds it: the daemon (threads, SSH, a mount) or
 * the simulator (one thread, a seeded scheduler). sync/ makes no threads, opens no sockets and
 * reads no clock but through this. */

typedef struct NfShare NfShare;
typedef struct NfHost NfHost;

typedef void (*NfFunc) (gpointer data);

/* What the mount's kernel caches may hold that is no longer so. Sent after the op was applied;
 * never for what the local kernel did itself (its own calls need none). */
typedef enum
{
  NF_INVAL_NAME, /* (parent, name) is something else; the parent's listing, mtime and nlink changed
                    too */
  NF_INVAL_ATTR, /* attributes of fid */
  NF_INVAL_DATA, /* offset, length (0: to the end) of fid, and its attributes */
  NF_INVAL_SWITCH, /* fid has a new backing object: handles on the old one keep it, new lookups get
                      the new one */
  NF_INVAL_GONE,   /* fid has lost its last name */
  NF_INVAL_ALL,    /* anything in the share */
} NfInvalKind;

typedef struct
{
  NfInvalKind kind;
  NfFid fid;
  NfFid parent;
  NfSlice name;
  guint64 offset;
  guint64 length;
  guint64 end; /* of DATA, if not 0: the file has grown and ends here now, … */
  guint8 last; /* … with this byte */
} NfInval;

struct NfHost
{
  gpointer data;
  /* Runs FUNC (ARG) soon on some worker thread, never within this call. */
  void (*post) (gpointer data, NfFunc func, gpointer arg);
  /* The same after DELAY_MS. Can't be cancelled: FUNC finds out for itself whether it still
   * matters. */
  void (*post_after) (gpointer data, guint delay_ms, NfFunc func, gpointer arg);
  /* Files without a name are given up so much later (linger.h); 0: at once. */
  guint linger_ms;
  /* Queues MSG for SITE, encoding it at once. FALSE if there is no link. BULK: on the bulk
   * connection. */
  gboolean (*send) (gpointer data, const char *site, gboolean bulk, const NfMsg *msg);
  /* Bytes queued there and not yet taken by the connection; nf_share_drained() is called when it
   * falls low. */
  gsize (*queued) (gpointer data, const char *site, gboolean bulk);
  /* Asks for a redial now, since a call waits. */
  void (*redial) (gpointer data, const char *site);
  gint64 (*realtime_ns) (gpointer data);
  gint64 (*monotonic_ms) (gpointer data); /* CLOCK_BOOTTIME */
  guint32 (*random) (gpointer data);      /* nobody else's, and another in each life */
  void (*invalidate) (gpointer data, NfShare *share, const NfInval *inval);
  /* Is there something that the kernel hasn't been told yet? When there is nothing any more nf_share_told() is called.
   * NULL without a mount. */
  gboolean (*telling) (gpointer data, NfShare *share);
  /* SHARE wants to be closed and opened again (nf_share_wants_reopen()). Not from within this call. NULL: it is asked. */
  void (*reopen) (gpointer data, NfShare *share);
  /* A named step is reached: tests kill the process here. NULL outside of tests. */
  void (*point) (gpointer data, const char *name);
};

#define nf_host_point(host, name)           \
  do                                        \
    {                                       \
      if (G_UNLIKELY ((host)->point))       \
        (host)->point ((host)->data, name); \
    }                                       \
  while (0)
