// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <sys/types.h>

#include "net/proto.h"

/* This machine's users, by name and by number, remembered for a while: a directory service may
 * take long to answer, and each call from another site asks. Thread: any. */

/* An answer is believed for a minute, as nscd(8) does. */
#define NF_USERS_AGE_S 60
/* More users than work at one time on one site; when there are more, all are forgotten. */
#define NF_USERS_MAX 4096

typedef struct
{
  const char *name; /* interned, never freed; "" if the number has none */
  uid_t uid;
  gid_t gid;
  guint n_groups;
  guint32 groups[NF_GROUPS_MAX];
} NfUser;

/* Where users come from, for tests. Each sets the name's numbers (or the number's name) and all
 * groups; FALSE if there is no such user. */
typedef struct
{
  gboolean (*by_name) (const char *name, NfUser *ret_user);
  gboolean (*by_uid) (uid_t uid, NfUser *ret_user);
} NfUsersSource;

typedef struct _NfUsers NfUsers;

/* SOURCE NULL: getpwnam_r and friends. The caller frees it. */
NfUsers *nf_users_new (const NfUsersSource *source);
void nf_users_free (NfUsers *users);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (NfUsers, nf_users_free)

/* FALSE if there is no such user here. NAME may be any bytes. */
gboolean nf_users_by_name (NfUsers *users, NfSlice name, NfUser *ret_user);
gboolean nf_users_by_uid (NfUsers *users, uid_t uid, NfUser *ret_user);
