// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/creds.h"

#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Linux keeps credentials by thread; the C library's setgroups() would change all threads, so the system call is
 * made directly. Only the filesystem uid is set back after each call: with that the thread has the capabilities to go
 * anywhere in the tree again, whatever its groups are. Those stay for the next call, as each change costs the kernel
 * about two microseconds; what the daemon makes for itself gets its owner explicitly or is nobody else's business. */

#ifdef SYS_setgroups32
#define SYS_SETGROUPS SYS_setgroups32
#else
#define SYS_SETGROUPS SYS_setgroups
#endif

/* The daemon's own umask while no call is carried out: modes are given explicitly. */
#define OWN_UMASK 022

typedef struct
{
  gboolean started;
  gboolean own_fs; /* the umask is this thread's alone */
  gboolean is_root;
  uid_t fsuid;
  gid_t fsgid;
  gboolean groups_known;
  guint n_groups;
  gid_t groups[NF_GROUPS_MAX];
  mode_t umask;
  gboolean umask_set;
} State;

static __thread State state;

/* CAP_SYS_RESOURCE isn't among the capabilities that go with fsuid, but would let every caller past his quota and
 * into root's reserve (for which fsuid 0 is enough). */
static void
drop_sys_resource (void)
{
  struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
  struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

  if (syscall (SYS_capget, &header, data) != 0)
    return;
  data[CAP_TO_INDEX (CAP_SYS_RESOURCE)].effective &= ~(guint32)CAP_TO_MASK (CAP_SYS_RESOURCE);
  (void)syscall (SYS_capset, &header, data); /* a looser quota is all that is lost */
}

static void
start (void)
{
  state.started = TRUE;
  state.is_root = geteuid () == 0;
  state.own_fs = unshare (CLONE_FS) == 0;
  /* Not the process's: a thread begins with those of the one that has made it, between two calls. */
  state.fsgid = (gid_t)setfsgid ((gid_t)-1);
  state.fsuid = (uid_t)setfsuid ((uid_t)-1);
  if (state.own_fs)
    umask (OWN_UMASK);
  if (state.is_root)
    drop_sys_resource ();
}

static gboolean
take_groups (const NfCallHead *head)
{
  guint n = MIN (head->n_groups, NF_GROUPS_MAX);

  G_STATIC_ASSERT (sizeof (gid_t) == sizeof head->groups[0]);
  if (state.groups_known && state.n_groups == n
      && memcmp (state.groups, head->groups, n * sizeof (gid_t)) == 0)
    return TRUE;
  if (syscall (SYS_SETGROUPS, n, head->groups) != 0)
    return FALSE;
  memcpy (state.groups, head->groups, n * sizeof (gid_t));
  state.n_groups = n;
  state.groups_known = TRUE;
  return TRUE;
}

static gboolean
take_gid (gid_t gid)
{
  if (state.fsgid == gid)
    return TRUE;
  (void)setfsgid (gid); /* says nothing about success; the next call does */
  if ((gid_t)setfsgid ((gid_t)-1) != gid)
    return FALSE;
  state.fsgid = gid;
  return TRUE;
}

static gboolean
take_uid (uid_t uid)
{
  if (state.fsuid == uid)
    return TRUE;
  (void)setfsuid (uid);
  if ((uid_t)setfsuid ((uid_t)-1) != uid)
    return FALSE;
  state.fsuid = uid;
  return TRUE;
}

void
nf_creds_prepare (void)
{
  if (G_UNLIKELY (!state.started))
    start ();
}

gboolean
nf_creds_assume (const NfCallHead *head, gboolean personal, gboolean with_umask)
{
  nf_creds_prepare ();
  if (with_umask && state.own_fs)
    {
      umask ((mode_t)head->umask & 0777);
      state.umask_set = TRUE;
    }
  if (personal || !state.is_root)
    return TRUE;
  if ((head->uid != 0 && !take_groups (head)) || !take_gid (head->gid) || !take_uid (head->uid))
    {
      nf_creds_leave ();
      return FALSE;
    }
  return TRUE;
}

void
nf_creds_leave (void)
{
  int saved = errno;

  if (state.umask_set)
    umask (OWN_UMASK);
  state.umask_set = FALSE;
  if (state.is_root)
    {
      /* Without the way back this thread would do the daemon's own work with a caller's rights. */
      if (!take_uid (0))
        g_error ("Can't take back the daemon's own credentials");
    }
  errno = saved;
}
