// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/sole.h"

#include <errno.h>
#include <string.h>

/* Memory that processes of one machine share through a mapped file can't be shared with another machine: each has its own
 * pages, and nobody tells us of a store into one. For most programs that is a matter of msync(2); but SQLite's write-ahead log
 * has its index in such a file, and two sites that each believe theirs would destroy the database. So its file, which
 * SQLite always calls DATABASE-shm (walindex format, sqlite.org/walformat.html), is open at one site at a time; a second
 * one gets EBUSY, and SQLite says that it can't open the database file. The other journal modes need no such file.
 *
 * The name is looked at when a file is opened: another name for it would be of no use to SQLite. */

#define SUFFIX "-shm"

gboolean
nf_sole_is (NfShare *share, NfFid fid)
{
  char name[NF_NAME_LEN_MAX + 1];
  NfFid parent;

  return share->index && nf_index_first_name (share->index, fid, &parent, name)
         && g_str_has_suffix (name, SUFFIX);
}

int
nf_sole_check (NfShare *share, NfFid fid, const char *site)
{
  return nf_opens_elsewhere (share->opens, fid, site) && nf_sole_is (share, fid) ? -EBUSY : 0;
}
