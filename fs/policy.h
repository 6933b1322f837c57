// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "fs/users.h"
#include "map/map.h"

/* Who may do what in one share, as the map says, and whom another site's callers count as here.
 * What NfShareConf's three hooks want. Thread: any. */

/* In head.gid of a message: the group that the user has by default, whatever its number where the message is read. No group has
 * it, see chown(2). */
#define NF_POLICY_OWN_GROUP ((guint32)-1)
/* "nobody" and "nogroup", the numbers that Linux has for what can't be mapped. */
#define NF_POLICY_NOBODY 65534

typedef struct _NfPolicy NfPolicy;

/* SHARE is of MAP, which is referenced; SITE is ours. USERS must outlive the policy. PERSONAL:
 * this daemon isn't root's, so everybody is its own user. The caller frees it. */
NfPolicy *nf_policy_new (NfMap *map, const NfMapShare *share, const char *site, NfUsers *users,
                         gboolean personal);
void nf_policy_free (NfPolicy *policy);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (NfPolicy, nf_policy_free)
/* From now on as another map says; SHARE is the same one there. */
void nf_policy_set_map (NfPolicy *policy, NfMap *map, const NfMapShare *share);

/* The first argument is an NfPolicy. SITE NULL: this site's own mount. */
gboolean nf_policy_may_write (gpointer policy, const char *site);
/* Sets the numbers that the call is carried out with:
 *
 *   our own mount         as they are: our kernel vouches for them
 *   a name known here     that user's, with the groups it has here. Where "*" is granted, so that any number may come, other
 *                         groups of the caller count, too, but root's only for root; else one that it works in must be
 *                         among those
 *   no name               a number known here: as by its name; else as it is, but never group 0
 *   not granted by users  nobody, with no groups. Root must be named there, "*" is all others */
void nf_policy_credentials (gpointer policy, const char *site, NfCallHead *head);
/* Sets head.user, which is never freed, to the caller's name here, empty if it has none; and head.gid to
 * NF_POLICY_OWN_GROUP where it is that user's. */
void nf_policy_name_caller (gpointer policy, NfCallHead *head);
