// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/map-guard.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* One for each share that is open. */
#define GUARDS_MAX 1024
/* A line of /proc/self/maps is as long as a path may be, and the rest of it isn't looked at. */
#define CHUNK 1024

struct NfMapGuard
{
  dev_t dev;
  ino_t ino;
  gboolean used;   /* atomic: the above doesn't change meanwhile */
  gboolean broken; /* atomic */
};

static NfMapGuard guards[GUARDS_MAX];
static pthread_mutex_t lock
    = PTHREAD_MUTEX_INITIALIZER; /* guards `used` against others who set it */
static struct sigaction before;

/* ---- in the handler: only what a handler may call ---- */

typedef struct
{
  guint64 start, end, major, minor, ino;
} Mapping;

/* The fields of one line, as in proc_pid_maps(5): start-end flags offset major:minor inode. */
typedef struct
{
  Mapping mapping;
  guint field;
  gboolean ended; /* what follows to the end of the line is the path */
} Line;

static void
next_field (Line *line)
{
  line->field++;
  line->ended = line->field > 6;
}

static void
take_char (Line *line, char c)
{
  guint64 *const numbers[] = { &line->mapping.start, &line->mapping.end,   NULL, NULL,
                               &line->mapping.major, &line->mapping.minor, NULL };
  gboolean separates = c == ' ' || (c == '-' && line->field == 0) || (c == ':' && line->field == 4);

  if (line->ended)
    return;
  if (separates)
    next_field (line);
  else if (line->field == 6 && g_ascii_isdigit (c))
    line->mapping.ino = line->mapping.ino * 10 + (guint64)(c - '0');
  else if (numbers[line->field] && g_ascii_isxdigit (c))
    *numbers[line->field] = *numbers[line->field] * 16 + (guint64)g_ascii_xdigit_value (c);
}

/* What is mapped at ADDRESS. */
static gboolean
find_mapping (guint64 address, Mapping *ret_mapping)
{
  Line line = { 0 };
  char chunk[CHUNK];
  ssize_t len = 0;
  gboolean found = FALSE;
  int fd = open ("/proc/self/maps", O_RDONLY | O_CLOEXEC);

  while (fd >= 0 && !found && (len = read (fd, chunk, sizeof chunk)) > 0)
    for (ssize_t i = 0; i < len && !found; i++)
      if (chunk[i] != '\n')
        take_char (&line, chunk[i]);
      else
        {
          found = line.mapping.start <= address && address < line.mapping.end;
          if (found)
            *ret_mapping = line.mapping;
          line = (Line){ 0 };
        }
  if (fd >= 0)
    (void)close (fd); /* was only read */
  return found;
}

static NfMapGuard *
find_guard (const Mapping *mapping)
{
  for (guint i = 0; i < GUARDS_MAX; i++)
    if (__atomic_load_n (&guards[i].used, __ATOMIC_ACQUIRE) && guards[i].ino == mapping->ino
        && major (guards[i].dev) == mapping->major && minor (guards[i].dev) == mapping->minor)
      return &guards[i];
  return NULL;
}

/* The file itself may refuse to be read, too, though its pages are there. */
static gboolean
read_memory (void *to, gsize size, guint64 from)
{
  int fd = open ("/proc/self/mem", O_RDONLY | O_CLOEXEC);
  gboolean read = fd >= 0 && pread (fd, to, size, (off_t)from) == (ssize_t)size;

  if (fd >= 0)
    (void)close (fd); /* was only read */
  return read;
}

/* Puts a private copy in the page's place, at once. */
static gboolean
replace_page (guint64 page, gsize size)
{
  void *copy = mmap (NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

  if (copy == MAP_FAILED)
    return FALSE;
  if (read_memory (copy, size, page)
      && mremap (copy, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)(gsize)page)
             != MAP_FAILED)
    return TRUE;
  (void)munmap (copy, size);
  return FALSE;
}

static gboolean
save_store (void *address)
{
  gsize size = (gsize)sysconf (_SC_PAGESIZE);
  guint64 page = (guint64)(gsize)address & ~(guint64)(size - 1);
  Mapping mapping;
  NfMapGuard *guard;

  if (!find_mapping (page, &mapping) || !(guard = find_guard (&mapping)))
    return FALSE;
  __atomic_store_n (&guard->broken, TRUE, __ATOMIC_SEQ_CST);
  return replace_page (page, size);
}

static void
on_sigbus (int signo, siginfo_t *info, void *context)
{
  int err = errno;
  gboolean saved = info->si_code == BUS_ADRERR && save_store (info->si_addr);

  errno = err;
  if (saved)
    return;
  if (before.sa_flags & SA_SIGINFO)
    before.sa_sigaction (signo, info, context);
  else
    (void)sigaction (SIGBUS, &before, NULL); /* and it is raised again */
}

/* ---- */

static void
install (void)
{
  struct sigaction action = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_RESTART };

  (void)sigemptyset (&action.sa_mask);
  (void)sigaction (SIGBUS, &action, &before);
}

NfMapGuard *
nf_map_guard_new (int fd)
{
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  NfMapGuard *guard = NULL;
  struct stat st;

  if (fstat (fd, &st) != 0)
    return NULL;
  (void)pthread_once (&once, install);
  pthread_mutex_lock (&lock);
  for (guint i = 0; i < GUARDS_MAX && !guard; i++)
    if (!guards[i].used)
      guard = &guards[i];
  if (guard)
    {
      guard->dev = st.st_dev;
      guard->ino = st.st_ino;
      guard->broken = FALSE;
      __atomic_store_n (&guard->used, TRUE, __ATOMIC_RELEASE);
    }
  pthread_mutex_unlock (&lock);
  if (!guard)
    errno = EMFILE;
  return guard;
}

void
nf_map_guard_free (NfMapGuard *guard)
{
  if (!guard)
    return;
  pthread_mutex_lock (&lock);
  __atomic_store_n (&guard->used, FALSE, __ATOMIC_RELEASE);
  pthread_mutex_unlock (&lock);
}

gboolean
nf_map_guard_is_broken (NfMapGuard *guard)
{
  return guard && __atomic_load_n (&guard->broken, __ATOMIC_SEQ_CST);
}
