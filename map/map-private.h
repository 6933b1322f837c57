// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <stdatomic.h>

#include "map/conf.h"
#include "map/map.h"

/* The map's inside, for the files that build and show it. */

struct _NfMap
{
  atomic_uint refs;
  char *filename;
  guint64 serial;
  guint8 digest[NF_MAP_DIGEST_SIZE];
  GPtrArray *sites;      /* NfMapSite, by name */
  GPtrArray *shares;     /* NfMapShare, by name */
  GHashTable *by_id;     /* guint64 in the share -> NfMapShare */
  GHashTable *by_mount;  /* mount -> NfMapShare */
  GPtrArray *warnings;   /* NULL-terminated when the map is done */
  GStringChunk *strings; /* every string above */
};

/* Keys and values of a share's options that several files name. */
extern const char *const nf_map_transport_names[];
extern const char *const nf_map_reads_names[];
extern const char *const nf_map_offline_names[];
extern const char *const nf_map_replica_names[];

/* An empty map with one reference. */
NfMap *nf_map_new (const char *filename);
const char *nf_map_intern (NfMap *map, const char *text);

/* Fills in the digest of a map that is otherwise done. */
void nf_map_make_digest (NfMap *map);

/* Whether the place list of share has site; its index, or -1. */
int nf_map_find_broadcast (const NfMapShare *share, const char *site);

/* Appends "A; B" to text. */
void nf_map_append_list (GString *text, const char *const *list);
