// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "tests/sim-disk.h"
#include "tests/sim-eio.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE (96 * 1024 * 1024)
/* The same names in the same order in each run, and nothing in the background. */
#define MKFS                                                                         \
  "mkfs.ext4 -q -m 0 -J size=4 -E nodiscard,lazy_itable_init=0,lazy_journal_init=0," \
  "hash_seed=00000000-0000-4000-8000-000000000001 /dev/loop%d 2>/dev/null"
/* As in fs/ext4/ext4.h: EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH. */
#define SHUTDOWN _IOR ('X', 125, guint32)
#define NO_LOG_FLUSH 2

struct NfSimDisk
{
  int loop;
  char *device;
  char *mountpoint;
  char *dir;
};

/* Gone with the last descriptor, however this process ends. */
static int
attach (int backing, int *ret_number)
{
  int control = open ("/dev/loop-control", O_RDWR | O_CLOEXEC);
  int loop = -1;

  for (guint i = 0; control >= 0 && loop < 0 && i < 50; i++)
    {
      struct loop_config config = { .fd = (guint32)backing };
      config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
      *ret_number = ioctl (control, LOOP_CTL_GET_FREE);
      if (*ret_number < 0)
        break;
      g_autofree char *device = g_strdup_printf ("/dev/loop%d", *ret_number);
      loop = open (device, O_RDWR | O_CLOEXEC);
      if (loop >= 0 && ioctl (loop, LOOP_CONFIGURE, &config) != 0) /* somebody was faster */
        {
          close (loop);
          loop = -1;
        }
    }
  if (control >= 0)
    close (control);
  return loop;
}

static gboolean
mount_it (NfSimDisk *disk)
{
  return mount (disk->device, disk->mountpoint, "ext4", MS_NOATIME, "noinit_itable") == 0;
}

NfSimDisk *
nf_sim_disk_new (void)
{
  int backing = memfd_create ("disk", MFD_CLOEXEC);
  int number = -1;
  int loop = backing >= 0 && ftruncate (backing, SIZE) == 0 ? attach (backing, &number) : -1;

  if (backing >= 0)
    close (backing);
  if (loop < 0)
    return NULL;
  NfSimDisk *disk = g_new0 (NfSimDisk, 1);
  g_autofree char *mkfs = g_strdup_printf (MKFS, number);
  disk->loop = loop;
  disk->device = g_strdup_printf ("/dev/loop%d", number);
  disk->mountpoint = g_build_filename (g_get_tmp_dir (), "nearfs-disk-XXXXXX", NULL);
  if (!g_mkdtemp (disk->mountpoint) || system (mkfs) != 0 || !mount_it (disk))
    {
      nf_sim_disk_free (disk);
      return NULL;
    }
  disk->dir = g_build_filename (disk->mountpoint, "share", NULL);
  nf_sim_disk_clean (disk);
  return disk;
}

void
nf_sim_disk_free (NfSimDisk *disk)
{
  (void)umount2 (disk->mountpoint, MNT_DETACH);
  (void)rmdir (disk->mountpoint);
  close (disk->loop);
  g_free (disk->device);
  g_free (disk->mountpoint);
  g_free (disk->dir);
  g_free (disk);
}

const char *
nf_sim_disk_dir (NfSimDisk *disk)
{
  return disk->dir;
}

void
nf_sim_disk_cut (NfSimDisk *disk)
{
  guint32 flags = NO_LOG_FLUSH;
  int fd = open (disk->mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

  if (fd < 0 || ioctl (fd, SHUTDOWN, &flags) != 0)
    g_error ("can't cut the power of %s: %s", disk->mountpoint, g_strerror (errno));
  close (fd);
}

void
nf_sim_disk_come_back (NfSimDisk *disk)
{
  if (umount2 (disk->mountpoint, 0) != 0)
    g_error ("can't unmount %s: %s", disk->mountpoint, g_strerror (errno));
  if (!mount_it (disk))
    g_error ("can't mount %s again: %s", disk->mountpoint, g_strerror (errno));
}

/* ---- what gets to the disk by itself ---- */

static GPtrArray *found; /* nftw() passes nothing on */

static int
note (const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
  (void)st;
  (void)ftw;
  if (flag == FTW_F)
    g_ptr_array_add (found, g_strdup (path));
  return 0;
}

static void
write_back_one (const char *path, GRand *rand)
{
  int fd = open (path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  struct stat st;

  if (fd < 0)
    return;
  if (g_rand_int_range (rand, 0, 3) == 0)
    (void)fdatasync (fd);
  else if (fstat (fd, &st) == 0 && MIN (st.st_size, st.st_blocks * 512) > 0)
    {
      /* Of a sparse file, what it has at its beginning. */
      gint32 size = (gint32)MIN (MIN (st.st_size, st.st_blocks * 512), G_MAXINT32 / 2);
      gint32 offset = g_rand_int_range (rand, 0, size);
      (void)sync_file_range (fd, offset, g_rand_int_range (rand, 1, size + 1),
                             SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE
                                 | SYNC_FILE_RANGE_WAIT_AFTER);
    }
  close (fd);
}

void
nf_sim_disk_write_back (NfSimDisk *disk, GRand *rand)
{
  if (g_rand_int_range (rand, 0, 20) == 0)
    {
      int fd = open (disk->mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
      (void)syncfs (fd);
      close (fd);
      return;
    }
  found = g_ptr_array_new_with_free_func (g_free);
  (void)nftw (disk->dir, note, 16, FTW_PHYS);
  if (found->len > 0)
    write_back_one (found->pdata[g_rand_int_range (rand, 0, (gint32)found->len)], rand);
  g_clear_pointer (&found, g_ptr_array_unref);
}

/* ---- room ---- */

void
nf_sim_disk_fill (NfSimDisk *disk, gboolean full)
{
  g_autofree char *path = g_build_filename (disk->mountpoint, "filler", NULL);

  if (!full)
    {
      (void)unlink (path);
      return;
    }
  int fd = open (path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0)
    return;
  for (off_t step = SIZE; step >= 4096; step /= 2)
    while (fallocate (fd, FALLOC_FL_KEEP_SIZE, lseek (fd, 0, SEEK_END), step) == 0)
      (void)ftruncate (fd, lseek (fd, 0, SEEK_END) + step);
  close (fd);
}

void
nf_sim_disk_fail (NfSimDisk *disk, guint one_in, GRand *rand)
{
  struct stat st;

  if (stat (disk->mountpoint, &st) == 0)
    nf_sim_eio (st.st_dev, one_in, rand);
}

static int
remove_one (const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
  (void)st;
  (void)flag;
  return ftw->level == 0 ? 0 : remove (path);
}

void
nf_sim_disk_clean (NfSimDisk *disk)
{
  (void)nftw (disk->mountpoint, remove_one, 16, FTW_DEPTH | FTW_PHYS);
  if (mkdir (disk->dir, 0755) != 0)
    g_error ("can't make %s: %s", disk->dir, g_strerror (errno));
  int fd = open (disk->mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  (void)syncfs (fd);
  close (fd);
}
