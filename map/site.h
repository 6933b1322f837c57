// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <glib.h>

#include "map/map.h"

/* The site's own configuration: what its administrator says and the map can't. */

/* Limits and defaults. */
/* A person writes this file; a page of keys is 2 kB. */
#define NF_SITE_CONF_SIZE_MAX (64 * 1024)
/* Longer than any wait for a call that a person takes for anything but a hang. */
#define NF_SITE_CALL_TIMEOUT_MAX_S 3600
#define NF_SITE_CALL_TIMEOUT_DEFAULT_S 10
/* A dead peer must be found before call-timeout ends; a minute is the longest useful. */
#define NF_SITE_HEARTBEAT_MAX_S 60
#define NF_SITE_HEARTBEAT_DEFAULT_S 5
/* The buffer is memory: 1 MiB is the largest single FUSE write, 64 GiB more than we'd pin. */
#define NF_SITE_WRITE_BUFFER_MIN_MIB 1
#define NF_SITE_WRITE_BUFFER_MAX_MIB (64 * 1024)
#define NF_SITE_WRITE_BUFFER_DEFAULT_MIB 64
/* Below 1 MiB segments would be cut at every few ops; 1 TiB is beyond any use of a journal. */
#define NF_SITE_JOURNAL_SIZE_MIN_MIB 1
#define NF_SITE_JOURNAL_SIZE_MAX_MIB (1024 * 1024)
#define NF_SITE_JOURNAL_SIZE_DEFAULT_MIB 256
#define NF_SITE_JOURNAL_AGE_MAX_DAYS 3650
#define NF_SITE_JOURNAL_AGE_DEFAULT_DAYS 30

/* Immutable and counted, so any thread may read it.  All paths are absolute; "~/" is resolved. */
typedef struct
{
  const char *filename;          /* for messages; where it was read, or would be */
  const char *name;              /* NULL if the file doesn't say: the command line must */
  const char *map;               /* path of the server map */
  const char *home;              /* the user's home, for nf_map_dir() */
  const char *runtime;           /* the 0700 directory with the daemon's socket */
  const char *const *roots;      /* NULL-terminated, never empty */
  const char *const *identities; /* private keys; NULL-terminated; empty: ssh's defaults */
  const char *known_hosts;       /* NULL: ssh's default */
  const char *ssh_config;        /* NULL: ssh's default */
  NfMapTransport transport;      /* never NF_TRANSPORT_DEFAULT */
  guint call_timeout_ms;
  guint heartbeat_ms;
  gsize write_buffer_bytes;
  guint64 journal_size_bytes;
  guint64 journal_age_s;
} NfSiteConf;

/* Where this user's configuration lies: /etc/nearfs/site.conf for root, else
 * ~/.config/nearfs/site.conf.  The caller frees it. */
char *nf_site_conf_default_path (void);

/* path NULL: the default path, and a file missing there is no error but all defaults.  On error
 * NULL, with file, line and what was expected.  The caller owns a reference. */
NfSiteConf *nf_site_conf_load (const char *path, GError **error);
/* filename is for messages only. */
NfSiteConf *nf_site_conf_parse (const char *text, gsize len, const char *filename, GError **error);

NfSiteConf *nf_site_conf_ref (NfSiteConf *conf);
void nf_site_conf_unref (NfSiteConf *conf);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (NfSiteConf, nf_site_conf_unref)

/* How to dial peer: the map's word for that site wins.  Never NF_TRANSPORT_DEFAULT. */
NfMapTransport nf_site_conf_transport (const NfSiteConf *conf, const NfMapSite *peer);

/* Whether dir (absolute; it need not exist) lies below one of the roots, both as written and after
 * all symlinks of what exists of it are followed.  A root itself isn't below itself.  On FALSE the
 * error names the key and file to change. */
gboolean nf_site_conf_allows (const NfSiteConf *conf, const char *dir, GError **error);

/* Whether the map can be used at this site: conf->name is in it, its directories lie below the
 * allowed roots, and none is in another once "~/" and symlinks are resolved. */
gboolean nf_map_check_site (const NfMap *map, const NfSiteConf *conf, GError **error);
