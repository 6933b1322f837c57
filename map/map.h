// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <glib.h>

/* The server map: which site has the local directory of each share, and which have broadcast
 * directories.
 *
 * An NfMap never changes after nf_map_parse() returned it, so any thread may read it without a
 * lock; a new map is a new object.  Sites, shares and all strings below live as long as the map
 * they came from: who keeps one keeps a reference to the map.
 */

/* Limits.  Each bounds what a text file can make us allocate or compare. */

/* A map is read whole; 4096 shares of 200 bytes fit, and nobody edits more by hand. */
#define NF_MAP_SIZE_MAX (1024 * 1024)
/* Every site has connections and a queue at a primary; sites beyond this need cascading. */
#define NF_MAP_SITES_MAX 1024
/* Each share costs an open root directory and a journal at each of its sites. */
#define NF_MAP_SHARES_MAX 4096
/* A DNS label, so that a site's name can be its host's. */
#define NF_MAP_NAME_MAX 63
/* PATH_MAX less the final NUL: what open(2) accepts. */
#define NF_MAP_PATH_MAX 4095
/* NAME_MAX of every Linux filesystem. */
#define NF_MAP_COMPONENT_MAX 255
/* "USER@HOST" with the longest DNS name and a long user name. */
#define NF_MAP_SSH_MAX 320
/* Names in `users` are compared at each first access of a user. */
#define NF_MAP_USERS_MAX 1024
/* Patterns in `local-only` are compared at each create. */
#define NF_MAP_LOCAL_ONLY_MAX 256
/* max-stale in seconds: 30 days, the age to which a journal is kept by default. */
#define NF_MAP_STALE_MAX_S (30 * 24 * 3600)

#define NF_MAP_DIGEST_SIZE 16

#define NF_MAP_ERROR (nf_map_error_quark ())

typedef enum
{
  NF_MAP_ERROR_READ,        /* the file can't be read, or is too large */
  NF_MAP_ERROR_SYNTAX,      /* not a line of a key file */
  NF_MAP_ERROR_VALUE,       /* an unknown group or key, a wrong or missing value */
  NF_MAP_ERROR_CONFLICT,    /* each value is right, but they contradict each other */
  NF_MAP_ERROR_NOT_ALLOWED, /* the site's own configuration doesn't allow it */
  NF_MAP_ERROR_NO_SITE      /* the site isn't in the map */
} NfMapError;

GQuark nf_map_error_quark (void);

typedef enum
{
  NF_ROLE_STRANGER, /* not a site of this share: gets nothing */
  NF_ROLE_NONE,     /* a site of this share that keeps no replica */
  NF_ROLE_REPLICA,  /* has a broadcast directory */
  NF_ROLE_PRIMARY   /* has the local directory.  The epoch record says who is primary now */
} NfMapRole;

typedef enum
{
  NF_TRANSPORT_DEFAULT, /* the map says nothing: the site's own configuration decides */
  NF_TRANSPORT_LIBSSH,
  NF_TRANSPORT_SSH /* the ssh program */
} NfMapTransport;

typedef enum
{
  NF_READS_LOCAL,
  NF_READS_FRESH
} NfMapReads;

typedef enum
{
  NF_OFFLINE_ERROR,
  NF_OFFLINE_WAIT
} NfMapOffline;

typedef enum
{
  NF_REPLICA_FULL,
  NF_REPLICA_ON_DEMAND,
  NF_REPLICA_NONE
} NfMapReplica;

typedef struct
{
  const char *name;
  const char *ssh; /* "user@host" or an ssh_config alias; NULL: nobody can dial this site */
  guint16 port;    /* 0: as ssh_config says, else 22 */
  NfMapTransport transport; /* how to dial this site */
  guint line;
} NfMapSite;

/* A directory at a site, as the map has it: absolute, or "~/..." for the home of that site's user;
 * see nf_map_dir(). */
typedef struct
{
  const char *site;
  const char *dir;
} NfMapPlace;

typedef struct
{
  guint64 id; /* from the name, the same at every site, never 0 */
  const char *name;
  const char *mount; /* absolute and normalised; "/" is possible, then it is the only share */
  NfMapPlace local;
  const NfMapPlace *broadcast; /* by site name, in strcmp() order */
  guint n_broadcast;
  const char *const *writers;    /* NULL: all sites of the share.  Sorted, NULL-terminated */
  const char *const *users;      /* sorted, NULL-terminated, never empty; see nf_map_may_use() */
  const char *const *local_only; /* sorted, NULL-terminated, may be empty */
  NfMapReads reads;
  guint max_stale_s; /* 0: not limited */
  NfMapOffline offline;
  guint durable; /* further sites that have the data when fsync() returns */
  NfMapReplica replica;
  const char *via; /* NULL: from the primary */
  guint line;
} NfMapShare;

typedef struct _NfMap NfMap;

/* Reading.  On error NULL, and the message has file, line and what was expected; nothing of a wrong
 * map is kept.  The caller owns the map. */
NfMap *nf_map_load (const char *path, GError **error);
/* filename is for messages only.  text needs no final NUL. */
NfMap *nf_map_parse (const char *text, gsize len, const char *filename, GError **error);

NfMap *nf_map_ref (NfMap *map);
void nf_map_unref (NfMap *map);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (NfMap, nf_map_unref)

/* What is right but has no effect in this release, or is likely a mistake; one line each, with file
 * and line.  NULL-terminated, owned by the map, never NULL. */
const char *const *nf_map_warnings (const NfMap *map);

const char *nf_map_filename (const NfMap *map);
guint64 nf_map_serial (const NfMap *map);
/* NF_MAP_DIGEST_SIZE bytes over what the map means: comments, blanks and order don't count, the
 * serial does.  Owned by the map. */
const guint8 *nf_map_digest (const NfMap *map);

/* Sites and shares, in the strcmp() order of their names.  index < nf_map_n_...().  The lookups
 * return NULL for what isn't in the map. */
guint nf_map_n_sites (const NfMap *map);
const NfMapSite *nf_map_site_at (const NfMap *map, guint index);
const NfMapSite *nf_map_site (const NfMap *map, const char *name);
guint nf_map_n_shares (const NfMap *map);
const NfMapShare *nf_map_share_at (const NfMap *map, guint index);
const NfMapShare *nf_map_share (const NfMap *map, const char *name);
const NfMapShare *nf_map_share_by_id (const NfMap *map, guint64 id);

/* The id that a share of this name has; any name, whether in a map or not. */
guint64 nf_map_share_id (const char *name);

/* The share in which the absolute path of the namespace lies; NULL if it lies in none, or isn't
 * absolute.  *ret_rest (may be NULL) points into path, past the mount point and its slash: "" for
 * the share's root.  path must be normalised, with no "//", "." or "..". */
const NfMapShare *nf_map_share_of_path (const NfMap *map, const char *path, const char **ret_rest);

/* Roles and rights.  share must be of this map; any text may be asked about as a site. */
NfMapRole nf_map_role (const NfMap *map, const NfMapShare *share, const char *site);
const char *nf_map_role_to_string (NfMapRole role);
gboolean nf_map_may_write (const NfMap *map, const NfMapShare *share, const char *site);
/* Whether that user's calls are made in the user's name; others are squashed.  "*" in users is
 * everyone but root, who must be named. */
gboolean nf_map_may_use (const NfMapShare *share, const char *user);
/* The site's directory of the share, "~/" replaced by home.  NULL if it has none, or if home is
 * needed and NULL.  The caller frees it. */
char *nf_map_dir (const NfMap *map, const NfMapShare *share, const char *site, const char *home);

/* Who dials whom.  Whether a dials b: of two sites that can both be dialled the greater name dials,
 * else the one that can't be dialled does.  So of nf_map_dials (a, b) and (b, a) one is TRUE, or
 * none if neither can be dialled, if a is b, or one isn't in the map. */
gboolean nf_map_dials (const NfMap *map, const char *a, const char *b);
/* The sites that share something with site and can be connected with it, in name order.  The
 * caller frees the array with g_ptr_array_unref(); the NfMapSite in it are the map's. */
GPtrArray *nf_map_peers (const NfMap *map, const char *site);

typedef enum
{
  NF_MAP_SITE_ADDED,
  NF_MAP_SITE_REMOVED,
  NF_MAP_SITE_CHANGED,
  NF_MAP_SHARE_ADDED,
  NF_MAP_SHARE_REMOVED,
  NF_MAP_SHARE_CHANGED
} NfMapChangeKind;

/* What changed of a site or share that both maps have. */
typedef enum
{
  NF_MAP_WHAT_SSH = 1 << 0, /* site: ssh or port */
  NF_MAP_WHAT_TRANSPORT = 1 << 1,
  NF_MAP_WHAT_MOUNT = 1 << 2,
  NF_MAP_WHAT_PRIMARY = 1 << 3, /* another site, or another directory at it */
  NF_MAP_WHAT_BROADCAST = 1 << 4,
  NF_MAP_WHAT_WRITERS = 1 << 5,
  NF_MAP_WHAT_USERS = 1 << 6,
  NF_MAP_WHAT_OPTIONS = 1 << 7 /* reads, max-stale, offline, durable, replica, via, local-only */
} NfMapWhat;

typedef struct
{
  NfMapChangeKind kind;
  unsigned what; /* NfMapWhat, for the two CHANGED kinds; else 0 */
  char *name;    /* of the site or share */
  char *text;    /* one line for people, without newline */
} NfMapChange;

/* From before to after: sites first, then shares, each in name order.  Elements are NfMapChange,
 * freed with the array by g_ptr_array_unref(). */
GPtrArray *nf_map_diff (const NfMap *before, const NfMap *after);

/* The map for people (`nearfs map show`); with site not NULL, what that site is in each share.
 * The caller frees it. */
char *nf_map_to_text (const NfMap *map, const char *site);
