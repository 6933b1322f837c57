// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SENTINEL "sentinel"
#define NS_PER_S G_GINT64_CONSTANT (1000000000)

static guint64
get_number (NfShare *share, const char *key, guint64 otherwise)
{
  g_autoptr (GBytes) bytes = nf_index_get_meta (share->index, key);
  guint64 value;

  if (!bytes || g_bytes_get_size (bytes) != sizeof value)
    return otherwise;
  memcpy (&value, g_bytes_get_data (bytes, NULL), sizeof value);
  return GUINT64_FROM_LE (value);
}

static int
set_number (NfShare *share, const char *key, guint64 value)
{
  guint64 stored = GUINT64_TO_LE (value);

  return nf_index_set_meta (share->index, key, nf_slice (&stored, sizeof stored));
}

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
    *ret_ctime = st.st_ctim.tv_sec * NS_PER_S + st.st_ctim.tv_nsec;
  (void)close (fd);
  return err;
}

static int
note (NfShare *share, guint64 mark, gint64 time)
{
  int err = nf_index_begin (share->index);

  if (err != 0)
    return err;
  err = set_number (share, "durable", mark);
  if (err == 0)
    err = set_number (share, "sentinel", (guint64)time);
  int committed = nf_index_commit (share->index);
  return err != 0 ? err : committed;
}

int
nf_checkpoint_make (NfShare *share, guint64 mark)
{
  gint64 time = 0;
  int err = touch_sentinel (share, &time);

  if (err == 0)
    err = nf_journal_sync (share->journal);
  if (err == 0 && syncfs (nf_tree_hidden_fd (share->tree)) != 0)
    err = -errno;
  if (err == 0)
    err = note (share, mark, time);
  return err != 0 ? err : nf_index_sync (share->index);
}

guint64
nf_checkpoint_mark (NfShare *share)
{
  return get_number (share, "durable", 0);
}

gint64
nf_checkpoint_time (NfShare *share)
{
  return (gint64)get_number (share, "sentinel", (guint64)G_MININT64);
}
