// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "map/conf.h"
#include "map/map.h"

/* What must hold between the parts of a map that are each right by themselves. */

/* A path and where the map says so: a mount point, or a directory of a site. */
typedef struct
{
  const char *site; /* NULL for mount points */
  const char *path;
  const char *share;
  guint line;
} NfPlaced;

/* Whether no path of one site (or no mount point) is or lies in another.  Sorts placed. */
gboolean nf_check_nesting (const NfConf *conf, GArray *placed, GError **error);

/* Whether each site of the share can reach the primary or be reached by it. */
gboolean nf_check_reach (const NfConf *conf, const NfMap *map, const NfMapShare *share,
                         GError **error);
