// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "sync/share-internal.h"

/* What a primary's calls cost, beside the system calls that the same work needs without it; µs each. One thread, nobody
 * subscribed. BENCH_UID=n calls as that user, BENCH_DIR says where. */

#define COUNT 20000

static NfShare *share;
static NfCallHead head;
static NfFid *fids;
static char *dir;

static void
host_post (gpointer data, NfFunc func, gpointer arg)
{
  (void)data;
  func (arg);
}

static void
host_post_after (gpointer data, guint delay_ms, NfFunc func, gpointer arg)
{
  (void)data, (void)delay_ms, (void)func, (void)arg;
}

static gboolean
host_send (gpointer data, const char *site, gboolean bulk, const NfMsg *msg)
{
  (void)data, (void)site, (void)bulk, (void)msg;
  return FALSE;
}

static gsize
host_queued (gpointer data, const char *site, gboolean bulk)
{
  (void)data, (void)site, (void)bulk;
  return 0;
}

static guint32
host_random (gpointer data)
{
  (void)data;
  return g_random_int ();
}

static gint64
host_realtime (gpointer data)
{
  struct timespec now;

  (void)data;
  clock_gettime (CLOCK_REALTIME, &now);
  return now.tv_sec * G_GINT64_CONSTANT (1000000000) + now.tv_nsec;
}

static void
host_invalidate (gpointer data, NfShare *which, const NfInval *inval)
{
  (void)data, (void)which, (void)inval;
}

static NfHost host = {
  .post = host_post,
  .post_after = host_post_after,
  .linger_ms = 1,
  .send = host_send,
  .queued = host_queued,
  .realtime_ns = host_realtime,
  .random = host_random,
  .monotonic_ms = host_realtime,
  .invalidate = host_invalidate,
};

static void
fail (const char *what)
{
  perror (what);
  exit (1);
}

static void
take_fid (gpointer data, int status, const NfMsg *answer)
{
  if (status != 0)
    {
      fprintf (stderr, "a call failed: %s\n", strerror (-status));
      exit (1);
    }
  if (data)
    *(NfFid *)data = answer->answer.attr.fid;
}

static void
call (NfMsg *msg, NfFid *ret_fid)
{
  msg->head = head;
  nf_share_call (share, msg, take_fid, ret_fid, NULL);
}

typedef void (*Work) (guint i, const char *name);

static NfFid file_dir;
static NfFile *file;
static int native_dir, native_file;
static guint8 block[4096];

static void
create (guint i, const char *name)
{
  NfMsg msg = { .type = NF_MSG_CREATE,
                .create = { file_dir, nf_slice_str (name), 0644, NF_CREATE_EXCL } };

  call (&msg, &fids[i]);
}

static void
native_create (guint i, const char *name)
{
  (void)i;
  close (openat (native_dir, name, O_CREAT | O_EXCL | O_RDWR, 0644));
}

static void
write_block (guint i, const char *name)
{
  NfMsg msg = { .type = NF_MSG_WRITE,
                .write = { fids[0], (guint64)(i % 256) * sizeof block, 0,
                           nf_slice (block, sizeof block) } };

  (void)name;
  msg.head = head;
  nf_file_call (file, &msg, take_fid, NULL, NULL);
}

static void
native_write (guint i, const char *name)
{
  struct timespec times[2] = { { 0, UTIME_OMIT }, { i, 0 } };

  (void)name;
  if (pwrite (native_file, block, sizeof block, (off_t)(i % 256) * (off_t)sizeof block) < 0)
    fail ("pwrite");
  (void)futimens (native_file, times);
}

static void
lookup (guint i, const char *name)
{
  NfMsg msg = { .type = NF_MSG_LOOKUP, .lookup = { file_dir, nf_slice_str (name) } };

  (void)i;
  call (&msg, NULL);
}

static void
native_lookup (guint i, const char *name)
{
  struct stat st;

  (void)i;
  (void)fstatat (native_dir, name, &st, AT_SYMLINK_NOFOLLOW);
}

static void
change_mode (guint i, const char *name)
{
  NfMsg msg = { .type = NF_MSG_SETATTR };

  (void)name;
  msg.setattr.fid = fids[i];
  msg.setattr.mask = NF_SET_MODE;
  msg.setattr.attr.mode = 0640;
  call (&msg, NULL);
}

static void
native_mode (guint i, const char *name)
{
  (void)i;
  (void)fchmodat (native_dir, name, 0640, 0);
}

static void
move (guint i, const char *name)
{
  g_autofree char *to = g_strdup_printf ("to-%u", i);
  NfMsg msg = { .type = NF_MSG_RENAME,
                .rename = { file_dir, nf_slice_str (name), file_dir, nf_slice_str (to), 0 } };

  call (&msg, NULL);
}

static void
native_move (guint i, const char *name)
{
  g_autofree char *to = g_strdup_printf ("to-%u", i);

  (void)renameat (native_dir, name, native_dir, to);
}

static void
take_away (guint i, const char *name)
{
  g_autofree char *to = g_strdup_printf ("to-%u", i);
  NfMsg msg = { .type = NF_MSG_UNLINK, .unlink = { file_dir, nf_slice_str (to) } };

  (void)name;
  call (&msg, NULL);
}

static void
native_take_away (guint i, const char *name)
{
  g_autofree char *to = g_strdup_printf ("to-%u", i);

  (void)name;
  (void)unlinkat (native_dir, to, 0);
}

/* What this process has used: other work on the machine doesn't count. */
static gint64
cpu_time (void)
{
  struct timespec used;

  clock_gettime (CLOCK_PROCESS_CPUTIME_ID, &used);
  return used.tv_sec * G_GINT64_CONSTANT (1000000000) + used.tv_nsec;
}

static double
measure (Work work)
{
  gint64 start = cpu_time ();

  for (guint i = 0; i < COUNT; i++)
    {
      char name[32];
      g_snprintf (name, sizeof name, "file-%u", i);
      work (i, name);
    }
  return (double)(cpu_time () - start) / 1000.0 / COUNT;
}

static void
compare (const char *what, Work work, Work native)
{
  double there = measure (native);
  double here = measure (work);

  printf ("%-12s %6.1f   native %6.1f\n", what, here, there);
}

static void
open_share (void)
{
  static const char *const members[] = { "b", NULL };
  g_autoptr (GError) error = NULL;
  NfShareConf conf = { .id = 7,
                       .name = "s",
                       .site = "a",
                       .primary = "a",
                       .role = NF_ROLE_PRIMARY,
                       .dir = dir,
                       .create = TRUE,
                       .journal_bytes = 256 * 1024 * 1024,
                       .journal_age_ns = G_MAXINT64 / 2,
                       .members = members };

  share = nf_share_open (&conf, &host, &error);
  if (!share)
    {
      fprintf (stderr, "%s\n", error->message);
      exit (1);
    }
}

static void
got_file (gpointer data, int status, NfFile *opened)
{
  (void)data;
  if (status != 0)
    exit (1);
  file = opened;
}

static void
prepare (void)
{
  const char *uid = g_getenv ("BENCH_UID");
  NfMsg mkdir_msg = { .type = NF_MSG_MKDIR, .mkdir = { NF_FID_ROOT, nf_slice_str ("d"), 0777 } };

  open_share ();
  fids = g_new0 (NfFid, COUNT);
  call (&mkdir_msg, &file_dir);
  g_autofree char *native = g_build_filename (dir, "native", NULL);
  if (mkdir (native, 0755) != 0 || (native_dir = open (native, O_RDONLY)) < 0)
    fail (native);
  native_file = openat (native_dir, "file", O_CREAT | O_RDWR, 0644);
  g_autofree char *path = g_build_filename (dir, "d", NULL);
  if (chmod (path, 0777) != 0)
    fail (path);
  if (uid)
    head.uid = head.gid = (guint32)atoi (uid);
}

int
main (void)
{
  dir = g_build_filename (g_getenv ("BENCH_DIR") ? g_getenv ("BENCH_DIR") : "/tmp",
                          "bench-primary-XXXXXX", NULL);
  if (!mkdtemp (dir))
    fail (dir);
  prepare ();
  compare ("create", create, native_create);
  nf_share_open_file (share, fids[0], O_RDWR, FALSE, got_file, NULL);
  compare ("write 4 KiB", write_block, native_write);
  compare ("lookup", lookup, native_lookup);
  compare ("chmod", change_mode, native_mode);
  compare ("rename", move, native_move);
  nf_file_close (file);
  compare ("unlink", take_away, native_take_away);
  nf_share_close (share);
  g_autofree char *command = g_strdup_printf ("rm -rf '%s'", dir);
  return system (command) == 0 ? 0 : 1;
}
