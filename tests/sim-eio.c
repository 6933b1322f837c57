// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "tests/sim-eio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>

static struct
{
  dev_t device;
  guint one_in;
  GRand *rand; /* the caller's */
} failing[NF_SIM_EIO_DISKS];
static guint n_failing;
static guint count;
static gboolean skipping;

void
nf_sim_eio (dev_t device, guint one_in, GRand *rand)
{
  guint i = 0;

  while (i < n_failing && failing[i].device != device)
    i++;
  g_assert (i < NF_SIM_EIO_DISKS);
  failing[i].device = device;
  failing[i].one_in = one_in;
  failing[i].rand = rand;
  n_failing = MAX (n_failing, i + 1);
}

guint
nf_sim_eio_count (void)
{
  return count;
}

void
nf_sim_skip_syncs (gboolean skip)
{
  skipping = skip;
}

/* Sets errno. */
static gboolean
fails_on (dev_t device)
{
  for (guint i = 0; i < n_failing; i++)
    if (failing[i].device == device && failing[i].one_in > 0
        && g_rand_int_range (failing[i].rand, 0, (gint32)failing[i].one_in) == 0)
      {
        count++;
        errno = EIO;
        return TRUE;
      }
  return FALSE;
}

static gboolean
fails (int fd)
{
  struct stat st;

  return n_failing > 0 && fd >= 0 && fstat (fd, &st) == 0 && fails_on (st.st_dev);
}

static gboolean
fails_at (const char *path)
{
  struct stat st;

  return n_failing > 0 && stat (path, &st) == 0 && fails_on (st.st_dev);
}

/* ---- what the linker puts in place of the calls (ld's --wrap) ---- */

#define WRAP(type, name, parameters, fd, arguments)   \
  type __real_##name parameters;                      \
  type __wrap_##name parameters;                      \
  type __wrap_##name parameters                       \
  {                                                   \
    return fails (fd) ? -1 : __real_##name arguments; \
  }

#define WRAP_SYNC(name)                       \
  int __real_##name (int fd);                 \
  int __wrap_##name (int fd);                 \
  int __wrap_##name (int fd)                  \
  {                                           \
    if (fails (fd))                           \
      return -1;                              \
    return skipping ? 0 : __real_##name (fd); \
  }

#define WRAP_PATH(name, parameters, arguments)             \
  int __real_##name parameters;                            \
  int __wrap_##name parameters;                            \
  int __wrap_##name parameters                             \
  {                                                        \
    return fails_at (path) ? -1 : __real_##name arguments; \
  }

// NOLINTBEGIN(bugprone-reserved-identifier): ld's names
WRAP (ssize_t, pwrite, (int fd, const void *data, size_t n, off_t at), fd, (fd, data, n, at))
WRAP (int, ftruncate, (int fd, off_t size), fd, (fd, size))
WRAP (int, fallocate, (int fd, int mode, off_t at, off_t n), fd, (fd, mode, at, n))
WRAP_SYNC (fsync)
WRAP_SYNC (fdatasync)
WRAP_SYNC (syncfs)
WRAP (int, mkdirat, (int dir, const char *name, mode_t mode), dir, (dir, name, mode))
WRAP (int, unlinkat, (int dir, const char *name, int flags), dir, (dir, name, flags))
WRAP (int, renameat, (int dir, const char *name, int to, const char *new), dir,
      (dir, name, to, new))
WRAP (int, renameat2, (int dir, const char *name, int to, const char *new, unsigned flags), dir,
      (dir, name, to, new, flags))
WRAP (int, linkat, (int dir, const char *name, int to, const char *new, int flags), to,
      (dir, name, to, new, flags))
WRAP (int, symlinkat, (const char *target, int dir, const char *name), dir, (target, dir, name))
WRAP (int, futimens, (int fd, const struct timespec *times), fd, (fd, times))
WRAP (int, utimensat, (int dir, const char *name, const struct timespec *times, int flags), dir,
      (dir, name, times, flags))
WRAP (int, fchmod, (int fd, mode_t mode), fd, (fd, mode))
WRAP (int, fchownat, (int dir, const char *name, uid_t uid, gid_t gid, int flags), dir,
      (dir, name, uid, gid, flags))
WRAP_PATH (chmod, (const char *path, mode_t mode), (path, mode))
WRAP_PATH (setxattr, (const char *path, const char *name, const void *value, size_t n, int flags),
           (path, name, value, n, flags))
WRAP_PATH (removexattr, (const char *path, const char *name), (path, name))

int __real_openat (int dir, const char *name, int flags, ...);
int __wrap_openat (int dir, const char *name, int flags, ...);

/* Only what makes something. */
int
__wrap_openat (int dir, const char *name, int flags, ...)
{
  mode_t mode = 0;

  if (flags & (O_CREAT | O_TMPFILE))
    {
      va_list list;
      va_start (list, flags);
      mode = va_arg (list, mode_t);
      va_end (list);
    }
  if ((flags & O_CREAT) && fails (dir))
    return -1;
  return __real_openat (dir, name, flags, mode);
}
// NOLINTEND(bugprone-reserved-identifier)
