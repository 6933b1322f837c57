// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/policy.h"

#include <pthread.h>
#include <unistd.h>

struct _NfPolicy
{
  char *site;
  NfUsers *users;
  gboolean personal;
  pthread_mutex_t lock;
  NfMap *map;              /* guarded by lock */
  const NfMapShare *share; /* of map; guarded by lock */
};

NfPolicy *
nf_policy_new (NfMap *map, const NfMapShare *share, const char *site, NfUsers *users,
               gboolean personal)
{
  NfPolicy *policy = g_new0 (NfPolicy, 1);

  policy->site = g_strdup (site);
  policy->users = users;
  policy->personal = personal;
  pthread_mutex_init (&policy->lock, NULL);
  policy->map = nf_map_ref (map);
  policy->share = share;
  return policy;
}

void
nf_policy_free (NfPolicy *policy)
{
  nf_map_unref (policy->map);
  pthread_mutex_destroy (&policy->lock);
  g_free (policy->site);
  g_free (policy);
}

void
nf_policy_set_map (NfPolicy *policy, NfMap *map, const NfMapShare *share)
{
  pthread_mutex_lock (&policy->lock);
  NfMap *before = policy->map;
  policy->map = nf_map_ref (map);
  policy->share = share;
  pthread_mutex_unlock (&policy->lock);
  nf_map_unref (before);
}

gboolean
nf_policy_may_write (gpointer data, const char *site)
{
  NfPolicy *policy = data;

  pthread_mutex_lock (&policy->lock);
  gboolean may = nf_map_may_write (policy->map, policy->share, site ? site : policy->site);
  pthread_mutex_unlock (&policy->lock);
  return may;
}

static gboolean
is_granted (NfPolicy *policy, const char *user)
{
  pthread_mutex_lock (&policy->lock);
  gboolean granted = nf_map_may_use (policy->share, user);
  pthread_mutex_unlock (&policy->lock);
  return granted;
}

static void
set_user (NfCallHead *head, const NfUser *user)
{
  head->uid = user->uid;
  head->gid = user->gid;
  head->n_groups = user->n_groups;
  for (guint i = 0; i < user->n_groups; i++)
    head->groups[i] = user->groups[i];
}

static gboolean
has_group (const NfCallHead *head, guint32 group)
{
  for (guint i = 0; i < head->n_groups; i++)
    if (head->groups[i] == group)
      return TRUE;
  return FALSE;
}

static void
add_group (NfCallHead *head, guint32 group)
{
  if (!has_group (head, group) && head->n_groups < NF_GROUPS_MAX)
    head->groups[head->n_groups++] = group;
}

/* A caller may work in another group than its user's own (newgrp(1), sg(1), setegid(2)), and have others than it has here. A
 * site of which any user without a name is accepted is believed that: it could send one in those groups. */
static void
be_user (NfPolicy *policy, NfCallHead *head, const NfUser *user)
{
  const NfCallHead caller = *head;
  gboolean root = user->uid == 0;
  gboolean believed = root || is_granted (policy, "");

  set_user (head, user);
  add_group (head, user->gid);
  for (guint i = 0; believed && i < caller.n_groups; i++)
    if (root || caller.groups[i] != 0)
      add_group (head, caller.groups[i]);
  if (caller.gid != NF_POLICY_OWN_GROUP
      && ((believed && (root || caller.gid != 0)) || has_group (head, caller.gid)))
    head->gid = caller.gid;
}

static void
squash (NfCallHead *head)
{
  head->uid = NF_POLICY_NOBODY;
  head->gid = NF_POLICY_NOBODY;
  head->n_groups = 0;
}

/* A number without a name, here and there, keeps its groups; root's group would open more than any
 * user should, and "*" doesn't say root. */
static void
drop_root_group (NfCallHead *head)
{
  guint kept = 0;

  for (guint i = 0; i < head->n_groups; i++)
    if (head->groups[i] != 0)
      head->groups[kept++] = head->groups[i];
  head->n_groups = kept;
  if (head->gid == 0)
    head->gid = NF_POLICY_NOBODY;
}

/* By its number too root must be named: a second name for 0 doesn't get around that. */
static gboolean
may_be (NfPolicy *policy, const NfUser *user)
{
  return is_granted (policy, user->name) && (user->uid != 0 || is_granted (policy, "root"));
}

void
nf_policy_credentials (gpointer data, const char *site, NfCallHead *head)
{
  NfPolicy *policy = data;
  NfUser user;

  if (policy->personal)
    set_user (head, &(NfUser){ .uid = geteuid (), .gid = getegid () });
  else if (!site || g_str_equal (site, policy->site))
    return;
  else if (head->user.len > 0 ? nf_users_by_name (policy->users, head->user, &user)
                              : nf_users_by_uid (policy->users, head->uid, &user))
    {
      if (may_be (policy, &user))
        be_user (policy, head, &user);
      else
        squash (head);
    }
  else if (head->user.len == 0 && head->uid != 0 && is_granted (policy, ""))
    drop_root_group (head);
  else
    squash (head);
}

void
nf_policy_name_caller (gpointer data, NfCallHead *head)
{
  NfPolicy *policy = data;
  NfUser user;

  gboolean known = nf_users_by_uid (policy->users, head->uid, &user);
  head->user = known ? nf_slice_str (user.name) : NF_SLICE_NONE;
  if (known && head->gid == user.gid)
    head->gid = NF_POLICY_OWN_GROUP;
}
