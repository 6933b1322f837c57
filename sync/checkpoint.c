// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sync/intents.h"
#include "sync/times.h"

#define SENTINEL "sentinel"
#define NOTE "checkpoint"

/* 0 or -errno. */
static int
touch_sentinel (NfShare *share, gint64 *ret_ctime)
{
  int fd = openat (nf_tree_hidden_fd (share->tree), SENTINEL,
                   O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
  struct stat st;
  int err = 0;

  if (fd < 0)
    return -errno;
  if (futimens (fd, NULL) != 0 || fstat (fd, &st) != 0)
    err = -errno;
  else
    *ret_ctime = nf_time_ns (st.st_ctim);
  (void)close (fd);
  return err;
}

/* In a file of its own, since what a power cut leaves of the index may be a copy from before the checkpoint. */
static int
note_on_disk (NfShare *share, guint64 mark, gint64 time)
{
  g_autofree char *text
      = g_strdup_printf ("%" G_GUINT64_FORMAT " %" G_GINT64_FORMAT "\n", mark, time);
  int dir_fd = nf_tree_hidden_fd (share->tree);
  ssize_t len = (ssize_t)strlen (text);
  int fd
      = openat (dir_fd, NOTE ".tmp", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
  int err = 0;

  if (fd < 0)
    return -errno;
  errno = ENOSPC;
  if (write (fd, text, (gsize)len) != len || fsync (fd) != 0)
    err = -errno;
  (void)close (fd);
  if (err == 0 && (renameat (dir_fd, NOTE ".tmp", dir_fd, NOTE) != 0 || fsync (dir_fd) != 0))
    err = -errno;
  return err;
}

static int
set_meta_u64 (NfShare *share, const char *key, guint64 value)
{
  guint64 stored = GUINT64_TO_LE (value);

  return nf_index_set_meta (share->index, key, nf_slice (&stored, sizeof stored));
}

static guint64
get_meta_u64 (NfShare *share, const char *key, guint64 otherwise)
{
  g_autoptr (GBytes) bytes = nf_index_get_meta (share->index, key);
  guint64 value;

  if (!bytes || g_bytes_get_size (bytes) != sizeof value)
    return otherwise;
  memcpy (&value, g_bytes_get_data (bytes, NULL), sizeof value);
  return GUINT64_FROM_LE (value);
}

static int
note_in_index (NfShare *share, guint64 mark)
{
  int err = set_meta_u64 (share, "durable", mark);

  return err != 0 ? err : nf_index_sync (share->index);
}

static int
make (NfShare *share, guint64 mark)
{
  gint64 time = 0;

  int err = touch_sentinel (share, &time);
  nf_intents_begin (share->intents, time);
  if (err == 0)
    err = nf_journal_sync (share->journal);
  if (err == 0 && syncfs (nf_tree_hidden_fd (share->tree)) != 0)
    err = -errno;
  nf_host_point (share->host, "checkpoint-synced");
  if (err == 0)
    err = note_on_disk (share, mark, time);
  nf_host_point (share->host, "checkpoint-noted");
  if (err == 0)
    err = nf_intents_end (share->intents);
  return err != 0 ? err : note_in_index (share, mark);
}

int
nf_checkpoint_make (NfShare *share, guint64 mark)
{
  pthread_mutex_lock (&share->checkpoint_lock);
  int err = make (share, mark);
  pthread_mutex_unlock (&share->checkpoint_lock);
  return err;
}

/* ---- a replica's ---- */

static int
tree_to_disk (gpointer data)
{
  NfShare *share = data;
  int err = nf_journal_sync (share->journal);

  if (err == 0 && syncfs (nf_tree_hidden_fd (share->tree)) != 0)
    err = -errno;
  nf_host_point (share->host, "checkpoint-synced");
  return err;
}

static int
make_copy (NfShare *share)
{
  gint64 time = 0;

  int err = touch_sentinel (share, &time);
  nf_intents_begin (share->intents, time);
  if (err == 0)
    err = set_meta_u64 (share, "copy-time", (guint64)time);
  if (err == 0)
    err = nf_index_sync_after (share->index, tree_to_disk, share);
  nf_host_point (share->host, "checkpoint-noted");
  return err != 0 ? err : nf_intents_end (share->intents);
}

int
nf_checkpoint_make_copy (NfShare *share)
{
  pthread_mutex_lock (&share->checkpoint_lock);
  int err = make_copy (share);
  pthread_mutex_unlock (&share->checkpoint_lock);
  return err;
}

gint64
nf_checkpoint_copy_time (NfShare *share)
{
  return (gint64)get_meta_u64 (share, "copy-time", (guint64)G_MININT64);
}

/* ---- the last one ---- */

guint64
nf_checkpoint_index_mark (NfShare *share)
{
  return get_meta_u64 (share, "durable", 0);
}

NfCheckpoint
nf_checkpoint_last (NfShare *share)
{
  NfCheckpoint checkpoint = { 0, G_MININT64 };
  int fd = openat (nf_tree_hidden_fd (share->tree), NOTE, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
  char text[64] = "";
  char *end = NULL;

  if (fd < 0)
    return checkpoint;
  ssize_t len = read (fd, text, sizeof text - 1);
  (void)close (fd);
  text[MAX (len, 0)] = '\0';
  guint64 mark = g_ascii_strtoull (text, &end, 10);
  if (*end != ' ' || !strchr (end, '\n'))
    return checkpoint; /* as if there were none: more is looked at */
  checkpoint.mark = mark;
  checkpoint.time = g_ascii_strtoll (end, NULL, 10);
  return checkpoint;
}
