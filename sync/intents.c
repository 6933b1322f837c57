// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/intents.h"
#include "sync/times.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

/* What a power cut leaves of a file that was written over is anybody's guess: new pages may be on the disk while neither
 * its times nor our journal's record of the write is. So neither says that its content may be another, and replicas would
 * differ for good. Before content that is on the disk is changed in its place for the first time since a checkpoint, its
 * fid is therefore brought to the disk. A file that was made since the checkpoint needs none of it: its ctime is newer, too;
 * nor does what is appended, which nobody sees without the new size.
 *
 * That it was made since must hold even if a clock was set: its fid is above all that there were then, and its birth not
 * before. (An old file that is adopted gets a new fid, and one made under a clock that ran ahead is born too late.)
 *
 * The file: a head of 4096 bytes, u32 generation from which on entries count, u32 check; then entries of 16 bytes, u64 fid,
 * u32 generation, u32 check, which are overwritten once nothing of them counts. All little-endian; the checks are the low
 * half of XXH64 of what stands before. A torn entry doesn't count, as its write hasn't begun then. */

#define NAME "intents"
#define HEAD_BYTES 4096
#define ENTRY_BYTES 16
/* There from the beginning, so that an entry is one block's write and fits on a full disk. */
#define PREPARED_BYTES (64 * 1024)

struct NfIntents
{
  int fd;
  NfIndex *index;       /* not ours */
  pthread_mutex_t lock; /* guards what follows */
  GHashTable *noted;    /* fid → generation, a pointer; owning its keys */
  guint32 generation;   /* of what is noted now */
  guint32 from;         /* generations that count */
  gsize n_entries;      /* in the file, counting or not */
  NfFid last;           /* that there was at the last checkpoint, or when this life began */
  gint64 since;         /* when that was, ns */
  gint64 next_since;    /* the same of the checkpoint that is under way */
  gboolean held;
};

static guint32
check_of (const guint8 *bytes, gsize len)
{
  return (guint32)XXH64 (bytes, len, 0);
}

static void
put_u32 (guint8 *to, guint32 value)
{
  value = GUINT32_TO_LE (value);
  memcpy (to, &value, sizeof value);
}

static guint32
get_u32 (const guint8 *from)
{
  guint32 value;

  memcpy (&value, from, sizeof value);
  return GUINT32_FROM_LE (value);
}

static int
write_and_sync (const NfIntents *intents, const guint8 *bytes, gsize len, gsize at)
{
  ssize_t n = pwrite (intents->fd, bytes, len, (off_t)at);

  if (n != (ssize_t)len)
    return n < 0 ? -errno : -ENOSPC;
  return fdatasync (intents->fd) == 0 ? 0 : -errno;
}

static int
write_head (const NfIntents *intents)
{
  guint8 head[8];

  put_u32 (head, intents->from);
  put_u32 (head + 4, check_of (head, 4));
  return write_and_sync (intents, head, sizeof head, 0);
}

/* ---- opening ---- */

static void
take_entry (NfIntents *intents, const guint8 *entry)
{
  guint64 fid;
  guint32 generation = get_u32 (entry + 8);

  memcpy (&fid, entry, sizeof fid);
  fid = GUINT64_FROM_LE (fid);
  if (get_u32 (entry + 12) != check_of (entry, 12) || fid == NF_FID_NONE)
    return;
  intents->generation = MAX (intents->generation, generation);
  if (generation >= intents->from)
    g_hash_table_insert (intents->noted, g_memdup2 (&fid, sizeof fid),
                         GUINT_TO_POINTER (generation));
}

static void
read_all (NfIntents *intents, gsize size)
{
  g_autofree guint8 *bytes = g_malloc0 (size);
  ssize_t n = pread (intents->fd, bytes, size, 0);

  if (n < HEAD_BYTES)
    return;
  if (get_u32 (bytes + 4) == check_of (bytes, 4))
    intents->from = get_u32 (bytes);
  intents->generation = intents->from;
  for (gsize at = HEAD_BYTES; at + ENTRY_BYTES <= (gsize)n; at += ENTRY_BYTES)
    take_entry (intents, bytes + at);
  intents->n_entries = ((gsize)n - HEAD_BYTES) / ENTRY_BYTES;
}

static int
prepare (NfIntents *intents)
{
  static const guint8 zeros[PREPARED_BYTES];
  int err = write_and_sync (intents, zeros, sizeof zeros, 0);

  intents->n_entries = 0;
  return err == 0 ? write_head (intents) : err;
}

/* What is made from now on is newer than the last checkpoint. */
static int
begin_life (NfIntents *intents)
{
  struct stat st;

  if (futimens (intents->fd, NULL) != 0 || fstat (intents->fd, &st) != 0)
    return -errno;
  intents->since = nf_time_ns (st.st_ctim);
  intents->last = MAX (nf_index_last_fid (intents->index), NF_FID_ROOT);
  return 0;
}

NfIntents *
nf_intents_open (int dir_fd, NfIndex *index)
{
  int fd = openat (dir_fd, NAME, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
  struct stat st;

  if (fd < 0)
    return NULL;
  NfIntents *intents = g_new0 (NfIntents, 1);
  intents->fd = fd;
  intents->index = index;
  pthread_mutex_init (&intents->lock, NULL);
  intents->noted = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
  intents->from = intents->generation = 1;
  int err = fstat (fd, &st) == 0 ? 0 : -errno;
  if (err == 0 && st.st_size > HEAD_BYTES)
    read_all (intents, (gsize)st.st_size);
  if (err == 0 && st.st_size < PREPARED_BYTES)
    err = prepare (intents);
  if (err == 0)
    err = begin_life (intents);
  if (err == 0 && g_hash_table_size (intents->noted) == 0)
    intents->n_entries = 0;
  intents->generation++; /* another life's data may be on the disk by now, or not */
  if (err == 0)
    return intents;
  nf_intents_free (intents);
  errno = -err;
  return NULL;
}

void
nf_intents_free (NfIntents *intents)
{
  (void)close (intents->fd); /* all is on the disk */
  g_hash_table_unref (intents->noted);
  pthread_mutex_destroy (&intents->lock);
  g_free (intents);
}

/* ---- noting ---- */

static int
append (NfIntents *intents, NfFid fid)
{
  guint8 entry[ENTRY_BYTES];
  guint64 stored = GUINT64_TO_LE (fid);

  memcpy (entry, &stored, sizeof stored);
  put_u32 (entry + 8, intents->generation);
  put_u32 (entry + 12, check_of (entry, 12));
  int err = write_and_sync (intents, entry, sizeof entry,
                            HEAD_BYTES + intents->n_entries * ENTRY_BYTES);
  if (err != 0)
    return err;
  intents->n_entries++;
  g_hash_table_insert (intents->noted, g_memdup2 (&fid, sizeof fid),
                       GUINT_TO_POINTER (intents->generation));
  return 0;
}

/* Made since the last checkpoint. */
static gboolean
is_new (NfIntents *intents, NfFid fid)
{
  NfObject object;

  pthread_mutex_lock (&intents->lock);
  NfFid last = intents->last;
  gint64 since = intents->since;
  pthread_mutex_unlock (&intents->lock);
  return fid > last && nf_index_get (intents->index, fid, &object) && object.ident.btime >= since;
}

int
nf_intents_note (NfIntents *intents, NfFid fid)
{
  int err = 0;

  if (is_new (intents, fid))
    return 0;
  pthread_mutex_lock (&intents->lock);
  if (GPOINTER_TO_UINT (g_hash_table_lookup (intents->noted, &fid)) != intents->generation)
    err = append (intents, fid);
  pthread_mutex_unlock (&intents->lock);
  return err;
}

gboolean
nf_intents_concern (const struct stat *st)
{
  return st->st_size > 0 && st->st_blocks > 0;
}

/* ---- checkpoints ---- */

void
nf_intents_begin (NfIntents *intents, gint64 time)
{
  pthread_mutex_lock (&intents->lock);
  intents->generation++;
  intents->next_since = time;
  pthread_mutex_unlock (&intents->lock);
}

void
nf_intents_hold (NfIntents *intents, gboolean held)
{
  pthread_mutex_lock (&intents->lock);
  intents->held = held;
  pthread_mutex_unlock (&intents->lock);
}

static gboolean
is_over (gpointer key, gpointer value, gpointer data)
{
  const NfIntents *intents = data;

  (void)key;
  return GPOINTER_TO_UINT (value) < intents->from;
}

static int
forget (NfIntents *intents)
{
  NfFid last = nf_index_last_fid (intents->index);
  guint32 before = intents->from;
  int err = 0;

  intents->from = intents->generation;
  if (g_hash_table_size (intents->noted) > 0)
    err = write_head (intents);
  if (err != 0)
    {
      intents->from = before;
      return err;
    }
  (void)g_hash_table_foreach_remove (intents->noted, is_over, intents);
  intents->last = last;
  intents->since = intents->next_since;
  if (g_hash_table_size (intents->noted) == 0)
    intents->n_entries = 0;
  return 0;
}

int
nf_intents_end (NfIntents *intents)
{
  pthread_mutex_lock (&intents->lock);
  int err = intents->held ? 0 : forget (intents);
  pthread_mutex_unlock (&intents->lock);
  return err;
}

/* ---- looking ---- */

gboolean
nf_intents_has (NfIntents *intents, NfFid fid)
{
  pthread_mutex_lock (&intents->lock);
  gboolean has = g_hash_table_contains (intents->noted, &fid);
  pthread_mutex_unlock (&intents->lock);
  return has;
}

GArray *
nf_intents_list (NfIntents *intents)
{
  GArray *fids = g_array_new (FALSE, FALSE, sizeof (NfFid));
  GHashTableIter iter;
  gpointer key;

  pthread_mutex_lock (&intents->lock);
  g_hash_table_iter_init (&iter, intents->noted);
  while (g_hash_table_iter_next (&iter, &key, NULL))
    g_array_append_val (fids, *(NfFid *)key);
  pthread_mutex_unlock (&intents->lock);
  return fids;
}
