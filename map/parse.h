// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "map/conf.h"
#include "map/map-private.h"

/* What the files that build an NfMap from the text share. */

typedef struct
{
  NfConf *conf;
  NfMap *map;     /* being filled; its sites are complete and sorted when shares are parsed */
  GArray *mounts; /* NfPlaced */
  GArray *dirs;   /* NfPlaced */
} NfParse;

/* One [share NAME] with all that can be checked within it. */
gboolean nf_parse_share (NfParse *parse, const NfConfGroup *group, GError **error);
/* Its keys that don't say where it is.  broadcast must be done. */
gboolean nf_parse_options (NfParse *parse, const NfConfGroup *group, NfMapShare *share,
                           GError **error);

/* The map's own string for a site that key names; NULL with an error if the map has none. */
const char *nf_parse_site_of (const NfParse *parse, const NfConfKey *key, const char *name,
                              GError **error);
/* "KEY: 'value'; expected ...".  Returns FALSE. */
gboolean nf_parse_fail (const NfParse *parse, const NfConfKey *key, const char *value,
                        const char *expected, GError **error);
/* The key's list in the map: sorted, each once, at most max, NULL-terminated; NULL on error. */
const char **nf_parse_names (NfParse *parse, const NfConfKey *key, guint max, GError **error);
