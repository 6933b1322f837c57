// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "tests/posix/nf-posix.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Calls on descriptors. */

#define CHUNK (1024 * 1024)

/* open FD PATH FLAGS [MODE] */
static long
call_open (NfPosix *posix, char **args, GString *note)
{
  int fd = open (args[1], (int)nf_posix_flags (args[2]) | O_CLOEXEC,
                 args[3] ? (mode_t)nf_posix_number (args[3]) : 0644);

  (void)note;
  if (fd < 0)
    return -1;
  nf_posix_set_fd (posix, args[0], fd);
  return 0;
}

static long
call_close (NfPosix *posix, char **args, GString *note)
{
  int fd = nf_posix_fd (posix, args[0]);

  (void)note;
  if (fd < 0)
    {
      errno = EBADF;
      return -1;
    }
  nf_posix_set_fd (posix, args[0], -1);
  return 0;
}

/* write FD LENGTH LETTER [OFFSET] */
static long
call_write (NfPosix *posix, char **args, GString *note)
{
  gsize len = (gsize)nf_posix_number (args[1]);
  g_autofree char *data = aligned_alloc (4096, (len / 4096 + 1) * 4096);

  (void)note;
  memset (data, args[2][0], len);
  return args[3] ? pwrite (nf_posix_fd (posix, args[0]), data, len, nf_posix_number (args[3]))
                 : write (nf_posix_fd (posix, args[0]), data, len);
}

/* Runs of one letter. */
static void
describe (const char *data, gsize len, GString *note)
{
  for (gsize i = 0; i < len;)
    {
      gsize run = 1;
      while (i + run < len && data[i + run] == data[i])
        run++;
      g_string_append_printf (note, " %zu*%c", run, data[i] == '\0' ? '0' : data[i]);
      i += run;
    }
}

/* read FD LENGTH [OFFSET] */
static long
call_read (NfPosix *posix, char **args, GString *note)
{
  gsize len = (gsize)nf_posix_number (args[1]);
  g_autofree char *data = aligned_alloc (4096, (len / 4096 + 1) * 4096);
  ssize_t n = args[2] ? pread (nf_posix_fd (posix, args[0]), data, len, nf_posix_number (args[2]))
                      : read (nf_posix_fd (posix, args[0]), data, len);

  if (n > 0)
    describe (data, (gsize)n, note);
  return n;
}

/* cat PATH: all of it. */
static long
call_cat (NfPosix *posix, char **args, GString *note)
{
  int fd = open (args[0], O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  g_autofree char *data = g_malloc (CHUNK);
  long sum = 0;
  ssize_t n = -1;

  (void)posix;
  if (fd < 0)
    return -1;
  while ((n = read (fd, data, CHUNK)) > 0)
    {
      describe (data, (gsize)n, note);
      sum += n;
    }
  int err = errno;
  (void)close (fd);
  errno = err;
  return n < 0 ? -1 : sum;
}

/* Of a directory places are each filesystem's own. */
static long
call_lseek (NfPosix *posix, char **args, GString *note)
{
  int fd = nf_posix_fd (posix, args[0]);
  long offset = nf_posix_number (args[1]);
  int whence = (int)nf_posix_flags (args[2]);
  struct stat st;

  (void)note;
  if (fstat (fd, &st) == 0 && S_ISDIR (st.st_mode))
    return 0;
  return lseek (fd, offset, whence);
}

static long
call_ftruncate (NfPosix *posix, char **args, GString *note)
{
  (void)note;
  return ftruncate (nf_posix_fd (posix, args[0]), nf_posix_number (args[1]));
}

static long
call_fchmod (NfPosix *posix, char **args, GString *note)
{
  (void)note;
  return fchmod (nf_posix_fd (posix, args[0]), (mode_t)nf_posix_number (args[1]));
}

static long
call_fchown (NfPosix *posix, char **args, GString *note)
{
  (void)note;
  return fchown (nf_posix_fd (posix, args[0]), (uid_t)nf_posix_number (args[1]),
                 (gid_t)nf_posix_number (args[2]));
}

static long
call_fsync (NfPosix *posix, char **args, GString *note)
{
  (void)note;
  return args[1] ? fdatasync (nf_posix_fd (posix, args[0])) : fsync (nf_posix_fd (posix, args[0]));
}

/* fallocate FD MODE OFFSET LENGTH */
static long
call_fallocate (NfPosix *posix, char **args, GString *note)
{
  (void)note;
  return fallocate (nf_posix_fd (posix, args[0]), (int)nf_posix_flags (args[1]),
                    nf_posix_number (args[2]), nf_posix_number (args[3]));
}

/* copyrange FROM OFFSET TO OFFSET LENGTH */
static long
call_copyrange (NfPosix *posix, char **args, GString *note)
{
  off_t from = nf_posix_number (args[1]);
  off_t to = nf_posix_number (args[3]);

  (void)note;
  return copy_file_range (nf_posix_fd (posix, args[0]), &from, nf_posix_fd (posix, args[2]), &to,
                          (gsize)nf_posix_number (args[4]), 0);
}

/* ---- mappings ---- */

static sigjmp_buf out_of_mapping;

static void
on_bus_error (int signal)
{
  (void)signal;
  siglongjmp (out_of_mapping, 1);
}

/* mapread FD LENGTH: SIGBUS is EFAULT here. */
static long
call_mapread (NfPosix *posix, char **args, GString *note)
{
  gsize len = (gsize)nf_posix_number (args[1]);
  g_autofree char *copy = g_malloc (len);
  char *map = mmap (NULL, len, PROT_READ, MAP_SHARED, nf_posix_fd (posix, args[0]), 0);
  volatile gboolean fine = FALSE;

  if (map == MAP_FAILED)
    return -1;
  (void)signal (SIGBUS, on_bus_error);
  if (sigsetjmp (out_of_mapping, 1) == 0)
    {
      memcpy (copy, map, len);
      fine = TRUE;
    }
  (void)signal (SIGBUS, SIG_DFL);
  (void)munmap (map, len);
  if (fine)
    describe (copy, len, note);
  errno = EFAULT;
  return fine ? (long)len : -1;
}

/* mapwrite FD LENGTH LETTER MAP_SHARED|MAP_PRIVATE */
static long
call_mapwrite (NfPosix *posix, char **args, GString *note)
{
  gsize len = (gsize)nf_posix_number (args[1]);
  char *map = mmap (NULL, len, PROT_READ | PROT_WRITE, (int)nf_posix_flags (args[3]),
                    nf_posix_fd (posix, args[0]), 0);
  volatile gboolean fine = FALSE;

  (void)note;
  if (map == MAP_FAILED)
    return -1;
  (void)signal (SIGBUS, on_bus_error);
  if (sigsetjmp (out_of_mapping, 1) == 0)
    {
      memset (map, args[2][0], len);
      fine = msync (map, len, MS_SYNC) == 0;
    }
  else
    errno = EFAULT;
  (void)signal (SIGBUS, SIG_DFL);
  (void)munmap (map, len);
  return fine ? (long)len : -1;
}

/* ---- programs ---- */

/* exec PATH: as a program; its status. */
static long
call_exec (NfPosix *posix, char **args, GString *note)
{
  int status;
  pid_t pid = fork ();

  (void)posix;
  (void)note;
  if (pid == 0)
    {
      (void)execl (args[0], args[0], NULL);
      _exit (100 + errno % 100);
    }
  if (pid < 0 || waitpid (pid, &status, 0) != pid)
    return -1;
  errno = WEXITSTATUS (status) - 100;
  return WEXITSTATUS (status) > 100 ? -1 : WEXITSTATUS (status);
}

/* program PATH: a small one is copied there. */
static long
call_program (NfPosix *posix, char **args, GString *note)
{
  g_autofree char *data = NULL;
  gsize len;

  (void)posix;
  (void)note;
  if (!g_file_get_contents ("/bin/true", &data, &len, NULL))
    return -1;
  int fd = open (args[0], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
  gboolean fine = fd >= 0 && write (fd, data, len) == (ssize_t)len;
  return fd >= 0 && close (fd) == 0 && fine ? 0 : -1;
}

/* ---- locks ---- */

static long
call_flock (NfPosix *posix, char **args, GString *note)
{
  (void)note;
  return flock (nf_posix_fd (posix, args[0]), (int)nf_posix_flags (args[1]) | LOCK_NB);
}

/* lock FD TYPE START LENGTH [ofd] */
static long
call_lock (NfPosix *posix, char **args, GString *note)
{
  struct flock lock = { .l_type = (short)nf_posix_flags (args[1]),
                        .l_start = nf_posix_number (args[2]),
                        .l_len = nf_posix_number (args[3]) };

  (void)note;
  return fcntl (nf_posix_fd (posix, args[0]), args[4] ? F_OFD_SETLK : F_SETLK, &lock);
}

/* otherlock FD TYPE START LENGTH: another process tries for it. */
static long
call_otherlock (NfPosix *posix, char **args, GString *note)
{
  struct flock lock = { .l_type = (short)nf_posix_flags (args[1]),
                        .l_start = nf_posix_number (args[2]),
                        .l_len = nf_posix_number (args[3]) };
  int status;
  pid_t pid = fork ();

  (void)note;
  if (pid == 0)
    _exit (fcntl (nf_posix_fd (posix, args[0]), F_SETLK, &lock) == 0 ? 0 : errno);
  if (pid < 0 || waitpid (pid, &status, 0) != pid)
    return -1;
  errno = WEXITSTATUS (status);
  return errno == 0 ? 0 : -1;
}

/* What a thread locks with: which of a process' threads does it is of no interest to anybody. */
typedef struct
{
  int fd;
  struct flock lock;
  int err;
} ThreadLock;

static void *
lock_by_thread (void *data)
{
  ThreadLock *thread = data;

  thread->err = fcntl (thread->fd, F_SETLK, &thread->lock) == 0 ? 0 : errno;
  return NULL;
}

/* threadlock FD TYPE START LENGTH: as lock, by another thread of this process. */
static long
call_threadlock (NfPosix *posix, char **args, GString *note)
{
  ThreadLock call = { .fd = nf_posix_fd (posix, args[0]),
                      .lock = { .l_type = (short)nf_posix_flags (args[1]),
                                .l_start = nf_posix_number (args[2]),
                                .l_len = nf_posix_number (args[3]) } };
  pthread_t thread;

  (void)note;
  if (pthread_create (&thread, NULL, lock_by_thread, &call) != 0)
    return -1;
  pthread_join (thread, NULL);
  errno = call.err;
  return call.err == 0 ? 0 : -1;
}

/* holder FD TYPE START LENGTH: another process asks who keeps it from that. */
static long
call_holder (NfPosix *posix, char **args, GString *note)
{
  const pid_t self = getpid ();
  int status, out[2];
  struct flock lock = { .l_type = (short)nf_posix_flags (args[1]),
                        .l_start = nf_posix_number (args[2]),
                        .l_len = nf_posix_number (args[3]) };

  if (pipe (out) != 0)
    return -1;
  pid_t pid = fork ();
  if (pid == 0)
    {
      int err = fcntl (nf_posix_fd (posix, args[0]), F_GETLK, &lock) == 0 ? 0 : errno;
      _exit (write (out[1], &lock, sizeof lock) == sizeof lock ? err : EIO);
    }
  gboolean told = pid > 0 && waitpid (pid, &status, 0) == pid
                  && read (out[0], &lock, sizeof lock) == sizeof lock;
  (void)close (out[0]);
  (void)close (out[1]);
  if (!told)
    return -1;
  errno = WEXITSTATUS (status);
  if (errno == 0)
    g_string_append_printf (note, " type %d, %lld and %lld, %s", lock.l_type,
                            (long long)lock.l_start, (long long)lock.l_len,
                            lock.l_pid == self ? "this process" : "another");
  return errno == 0 ? 0 : -1;
}

const NfPosixCall nf_posix_file_calls[] = {
  { "open", 3, call_open },
  { "close", 1, call_close },
  { "write", 3, call_write },
  { "read", 2, call_read },
  { "cat", 1, call_cat },
  { "lseek", 3, call_lseek },
  { "ftruncate", 2, call_ftruncate },
  { "fchmod", 2, call_fchmod },
  { "fchown", 3, call_fchown },
  { "fsync", 1, call_fsync },
  { "fallocate", 4, call_fallocate },
  { "copyrange", 5, call_copyrange },
  { "mapread", 2, call_mapread },
  { "mapwrite", 4, call_mapwrite },
  { "exec", 1, call_exec },
  { "program", 1, call_program },
  { "flock", 2, call_flock },
  { "lock", 4, call_lock },
  { "otherlock", 4, call_otherlock },
  { "threadlock", 4, call_threadlock },
  { "holder", 4, call_holder },
  { NULL },
};
