// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/users.h"

#include <errno.h>
#include <grp.h>
#include <pthread.h>
#include <pwd.h>
#include <string.h>

/* Names are at most 32 bytes with shadow-utils; directory services allow more. */
#define NAME_MAX_LEN 255
/* getpwnam_r's buffer: a line of passwd(5). */
#define PASSWD_SIZE_MAX (1024 * 1024)

typedef struct
{
  NfUser user;
  gboolean known;
  gint64 until_us; /* g_get_monotonic_time () */
} Entry;

struct _NfUsers
{
  NfUsersSource source;
  pthread_mutex_t lock;
  GHashTable *by_name; /* char * -> Entry; guarded by lock */
  GHashTable *by_uid;  /* number -> Entry; guarded by lock */
};

/* The system's. */

static void
take_passwd (const struct passwd *passwd, NfUser *ret_user)
{
  gid_t groups[NF_GROUPS_MAX];
  int n = NF_GROUPS_MAX;

  *ret_user = (NfUser){ .name = g_intern_string (passwd->pw_name),
                        .uid = passwd->pw_uid,
                        .gid = passwd->pw_gid };
  /* Of more groups than a message holds the first ones count. */
  if (getgrouplist (passwd->pw_name, passwd->pw_gid, groups, &n) < 0)
    n = NF_GROUPS_MAX;
  for (int i = 0; i < n; i++)
    ret_user->groups[i] = groups[i];
  ret_user->n_groups = (guint)n;
}

/* getpwnam_r() (NAME not NULL) or getpwuid_r(), with a buffer of SIZE bytes. 0, ENOENT if there is no
 * such user, or another errno. */
static int
ask_with (char *buffer, gsize size, const char *name, uid_t uid, NfUser *ret_user)
{
  struct passwd passwd;
  struct passwd *found = NULL;
  int err = name ? getpwnam_r (name, &passwd, buffer, size, &found)
                 : getpwuid_r (uid, &passwd, buffer, size, &found);

  if (found)
    take_passwd (found, ret_user);
  return found ? 0 : err != 0 ? err : ENOENT;
}

static gboolean
ask_system (const char *name, uid_t uid, NfUser *ret_user)
{
  int err = ERANGE;

  for (gsize size = 1024; err == ERANGE && size <= PASSWD_SIZE_MAX; size *= 2)
    {
      char *buffer = g_malloc (size);
      err = ask_with (buffer, size, name, uid, ret_user);
      g_free (buffer);
    }
  return err == 0;
}

static gboolean
system_by_name (const char *name, NfUser *ret_user)
{
  return ask_system (name, 0, ret_user);
}

static gboolean
system_by_uid (uid_t uid, NfUser *ret_user)
{
  return ask_system (NULL, uid, ret_user);
}

/* The cache. */

NfUsers *
nf_users_new (const NfUsersSource *source)
{
  NfUsers *users = g_new0 (NfUsers, 1);

  users->source = source ? *source : (NfUsersSource){ system_by_name, system_by_uid };
  pthread_mutex_init (&users->lock, NULL);
  users->by_name = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
  users->by_uid = g_hash_table_new_full (g_direct_hash, g_direct_equal, NULL, g_free);
  return users;
}

void
nf_users_free (NfUsers *users)
{
  g_hash_table_unref (users->by_name);
  g_hash_table_unref (users->by_uid);
  pthread_mutex_destroy (&users->lock);
  g_free (users);
}

/* With the lock. */
static gboolean
find (GHashTable *table, gconstpointer key, Entry *ret_entry)
{
  const Entry *entry = g_hash_table_lookup (table, key);

  if (!entry || entry->until_us < g_get_monotonic_time ())
    return FALSE;
  *ret_entry = *entry;
  return TRUE;
}

/* With the lock. Takes KEY. */
static void
keep (GHashTable *table, gpointer key, const Entry *entry)
{
  if (g_hash_table_size (table) >= NF_USERS_MAX)
    g_hash_table_remove_all (table);
  g_hash_table_insert (table, key, g_memdup2 (entry, sizeof *entry));
}

static Entry
fresh (void)
{
  return (Entry){ .user.name = "",
                  .until_us = g_get_monotonic_time () + NF_USERS_AGE_S * G_USEC_PER_SEC };
}

gboolean
nf_users_by_name (NfUsers *users, NfSlice name, NfUser *ret_user)
{
  char text[NAME_MAX_LEN + 1];
  gboolean found;
  Entry entry;

  if (name.len == 0 || name.len > NAME_MAX_LEN || memchr (name.data, '\0', name.len))
    return FALSE;
  memcpy (text, name.data, name.len);
  text[name.len] = '\0';
  pthread_mutex_lock (&users->lock);
  found = find (users->by_name, text, &entry);
  pthread_mutex_unlock (&users->lock);
  if (!found)
    {
      entry = fresh ();
      entry.known = users->source.by_name (text, &entry.user);
      pthread_mutex_lock (&users->lock);
      keep (users->by_name, g_strdup (text), &entry);
      pthread_mutex_unlock (&users->lock);
    }
  if (entry.known)
    *ret_user = entry.user;
  return entry.known;
}

gboolean
nf_users_by_uid (NfUsers *users, uid_t uid, NfUser *ret_user)
{
  gpointer key = GUINT_TO_POINTER (uid);
  gboolean found;
  Entry entry;

  pthread_mutex_lock (&users->lock);
  found = find (users->by_uid, key, &entry);
  pthread_mutex_unlock (&users->lock);
  if (!found)
    {
      entry = fresh ();
      entry.known = users->source.by_uid (uid, &entry.user);
      pthread_mutex_lock (&users->lock);
      keep (users->by_uid, key, &entry);
      pthread_mutex_unlock (&users->lock);
    }
  if (entry.known)
    *ret_user = entry.user;
  return entry.known;
}
