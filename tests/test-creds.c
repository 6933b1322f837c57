// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <sys/fsuid.h>
#include <unistd.h>

#include "sync/creds.h"

#define SOMEBODY 1003

static gboolean
assume (guint32 id)
{
  NfCallHead head = { .uid = id, .gid = id };

  return nf_creds_assume (&head, FALSE, FALSE);
}

static void *
check_root (void *data)
{
  (void)data;
  cr_assert (assume (0));
  cr_expect_eq (setfsgid ((gid_t)-1), 0);
  cr_expect_eq (setfsuid ((uid_t)-1), 0);
  nf_creds_leave ();
  return NULL;
}

Test (creds, a_new_thread_has_not_the_group_of_its_makers_last_caller)
{
  pthread_t thread;

  if (geteuid () != 0)
    return; /* nobody's credentials can be taken on */
  cr_assert (assume (SOMEBODY));
  cr_expect_eq (setfsgid ((gid_t)-1), SOMEBODY);
  cr_expect_eq (setfsuid ((uid_t)-1), SOMEBODY);
  nf_creds_leave ();
  cr_assert_eq (pthread_create (&thread, NULL, check_root, NULL), 0);
  pthread_join (thread, NULL);
}
