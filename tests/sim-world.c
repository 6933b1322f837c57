// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "tests/sim-world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sync/boot.h"
#include "sync/share-internal.h"

#define DAY_MS (24 * 3600 * 1000)

static const char *const names[] = { "a", "b", "c", "d", "e", "f" };
const char *const nf_world_sites[] = { "a", "b", "c" };

typedef struct
{
  NfWorld *world;
  NfMsgType type;
} Made;

void
nf_world_fail (const char *format, ...)
{
  va_list args;

  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  (void)fprintf (stderr, "%s\n", text);
  abort ();
}

/* ---- the world ---- */

static gboolean
try_to_open (NfWorld *world, guint i, GError **error)
{
  static const char *const others[3][3]
      = { { "b", "c", NULL }, { "a", "c", NULL }, { "a", "b", NULL } };
  g_autofree char *boot = g_strdup_printf ("00000000-0000-0000-%04u-%012u", i, world->boots[i]);

  nf_boot_pretend (boot);
  world->openings[i]++;
  g_debug ("%s is opened", nf_world_sites[i]);
  return nf_sim_open (world->sites[i], i == 0 ? NF_ROLE_PRIMARY : NF_ROLE_REPLICA, world->dirs[i],
                      "a", others[i], error);
}

void
nf_world_open_site (NfWorld *world, guint i)
{
  g_autoptr (GError) error = NULL;

  if (world->sites[i]->dead)
    return;
  gboolean open = try_to_open (world, i, &error);

  if (world->sites[i]->dead) /* on the way */
    return;
  if (!open && world->help)
    {
      g_clear_error (&error);
      world->help (world->help_data, i);
      open = try_to_open (world, i, &error);
    }
  if (!open)
    nf_world_fail ("%s can't be opened: %s", nf_world_sites[i], error->message);
}

void
nf_world_close_site (NfWorld *world, guint i)
{
  if (world->before_close)
    world->before_close (world->before_close_data, i);
  nf_sim_close (world->sites[i]);
}

void
nf_world_begin (NfWorld *world, guint32 seed)
{
  world->sim = nf_sim_new (seed);
  nf_sim_run (world->sim, DAY_MS * ++world->lives);
  for (guint i = 0; i < NF_WORLD_SITES; i++)
    world->sites[i] = nf_sim_site (world->sim, nf_world_sites[i]);
  for (guint i = 0; i < NF_WORLD_SITES; i++)
    nf_world_open_site (world, i);
}

NfWorld *
nf_world_alloc (char *const *dirs)
{
  NfWorld *world
      = mmap (NULL, sizeof *world, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

  if (world == MAP_FAILED)
    nf_world_fail ("no memory");
  for (guint i = 0; i < NF_WORLD_SITES; i++)
    world->dirs[i] = dirs ? g_strdup (dirs[i]) : nf_sim_make_dir ();
  world->dirs_known[world->n_dirs++] = NF_FID_ROOT;
  return world;
}

NfWorld *
nf_world_new (guint32 seed)
{
  NfWorld *world = nf_world_alloc (NULL);

  nf_world_begin (world, seed);
  return world;
}

void
nf_world_free (NfWorld *world)
{
  if (world->sim)
    nf_sim_free (world->sim);
  for (guint i = 0; i < NF_WORLD_SITES; i++)
    nf_sim_remove_dir (world->dirs[i]);
  munmap (world, sizeof *world);
}

void
nf_world_connect (NfWorld *world)
{
  nf_sim_connect (world->sim, "a", "b");
  nf_sim_connect (world->sim, "a", "c");
}

void
nf_world_tend (NfWorld *world)
{
  if (world->sites[0]->dead || !nf_share_wants_reopen (world->sites[0]->share))
    return;
  nf_world_close_site (world, 0);
  if (!world->sites[0]->dead)
    nf_world_open_site (world, 0);
  nf_world_connect (world);
}

/* ---- calls by chance ---- */

guint32
nf_world_chance (NfWorld *world, guint32 below)
{
  return nf_sim_random (world->sim, below);
}

static NfSlice
any_name (NfWorld *world)
{
  return nf_slice_str (names[nf_world_chance (world, G_N_ELEMENTS (names))]);
}

static NfFid
any_dir (NfWorld *world)
{
  return world->dirs_known[nf_world_chance (world, world->n_dirs)];
}

static NfFid
any_file (NfWorld *world)
{
  return world->n_files > 0 ? world->files_known[nf_world_chance (world, world->n_files)]
                            : NF_FID_ROOT;
}

static void
know (NfWorld *world, NfFid fid, gboolean dir)
{
  NfFid *table = dir ? world->dirs_known : world->files_known;
  guint *n = dir ? &world->n_dirs : &world->n_files;

  if (*n < NF_WORLD_FIDS)
    table[(*n)++] = fid;
  else
    table[1 + nf_world_chance (world, NF_WORLD_FIDS - 1)] = fid;
}

static void
made (gpointer data, int status, const NfMsg *answer)
{
  Made *call = data;

  call->world->under_way--;
  if (status == 0 && (call->type == NF_MSG_CREATE || call->type == NF_MSG_MKDIR))
    know (call->world, answer->answer.attr.fid, call->type == NF_MSG_MKDIR);
  g_free (call);
}

static void
fill_write (NfWorld *world, NfMsg *msg, guint8 *buffer)
{
  gsize len = nf_world_chance (world, 4) == 0 ? 1 + nf_world_chance (world, NF_WORLD_BIG)
                                              : 1 + nf_world_chance (world, 5000);

  memset (buffer, 'a' + (int)nf_world_chance (world, 26), len);
  msg->type = NF_MSG_WRITE;
  msg->write.fid = any_file (world);
  msg->write.offset = nf_world_chance (world, 100000);
  msg->write.flags = nf_world_chance (world, 8) == 0 ? NF_WRITE_APPEND : 0;
  msg->write.data = nf_slice (buffer, len);
}

static void
fill_setattr (NfWorld *world, NfMsg *msg)
{
  msg->type = NF_MSG_SETATTR;
  msg->setattr.fid = any_file (world);
  switch (nf_world_chance (world, 3))
    {
    case 0:
      msg->setattr.mask = NF_SET_SIZE;
      msg->setattr.attr.size = nf_world_chance (world, 200000);
      break;
    case 1:
      msg->setattr.mask = NF_SET_MODE;
      msg->setattr.attr.mode = 0600 | nf_world_chance (world, 0200);
      break;
    default:
      msg->setattr.mask = NF_SET_MTIME;
      msg->setattr.attr.mtime
          = G_GINT64_CONSTANT (1500000000000000000) + (gint64)nf_world_chance (world, 1000000);
      break;
    }
}

static void
fill_rename (NfWorld *world, NfMsg *msg)
{
  msg->type = NF_MSG_RENAME;
  msg->rename.parent = any_dir (world);
  msg->rename.name = any_name (world);
  msg->rename.newparent = any_dir (world);
  msg->rename.newname = any_name (world);
  msg->rename.flags = nf_world_chance (world, 6) == 0 ? 2 : 0; /* RENAME_EXCHANGE */
}

static void
fill_call (NfWorld *world, NfMsg *msg, guint8 *buffer)
{
  switch (nf_world_chance (world, 14))
    {
    case 0:
    case 1:
    case 2:
      msg->type = NF_MSG_CREATE;
      msg->create.parent = any_dir (world);
      msg->create.name = any_name (world);
      msg->create.mode = 0644;
      break;
    case 3:
      msg->type = NF_MSG_MKDIR;
      msg->mkdir.parent = any_dir (world);
      msg->mkdir.name = any_name (world);
      msg->mkdir.mode = 0755;
      break;
    case 4:
      msg->type = NF_MSG_SYMLINK;
      msg->symlink.parent = any_dir (world);
      msg->symlink.name = any_name (world);
      msg->symlink.target = any_name (world);
      break;
    case 5:
      msg->type = NF_MSG_LINK;
      msg->link.fid = any_file (world);
      msg->link.parent = any_dir (world);
      msg->link.name = any_name (world);
      break;
    case 6:
      msg->type = NF_MSG_UNLINK;
      msg->unlink.parent = any_dir (world);
      msg->unlink.name = any_name (world);
      break;
    case 7:
      msg->type = NF_MSG_RMDIR;
      msg->rmdir.parent = any_dir (world);
      msg->rmdir.name = any_name (world);
      break;
    case 8:
    case 9:
      fill_rename (world, msg);
      break;
    case 10:
      fill_setattr (world, msg);
      break;
    default:
      fill_write (world, msg, buffer);
      break;
    }
}

void
nf_world_call_something (NfWorld *world, guint8 *buffer)
{
  NfSimSite *site = world->sites[nf_world_chance (world, 3)];
  NfMsg msg = { 0 };

  if (site->dead)
    return;
  fill_call (world, &msg, buffer);
  msg.head.share = 7;
  msg.head.uid = getuid ();
  msg.head.gid = getgid ();
  msg.head.umask = 022;
  Made *call = g_new (Made, 1);
  *call = (Made){ world, msg.type };
  world->under_way++;
  nf_share_call (site->share, &msg, made, call, NULL);
}

/* Somebody works in a replica's directory while no proxy runs there, and its index is lost. */
static void
vandalize (NfWorld *world, guint i)
{
  static const char *const lost[] = { "index", "index.boot", "index.safe", "journal" };

  if (world->sites[i]->dead)
    return;
  nf_world_close_site (world, i);
  if (world->sites[i]->dead)
    return;
  for (guint n = 0; n < G_N_ELEMENTS (lost); n++)
    {
      g_autofree char *path = g_build_filename (world->dirs[i], ".nearfs", lost[n], NULL);
      if (g_file_test (path, G_FILE_TEST_IS_DIR))
        nf_sim_remove_dir (g_steal_pointer (&path));
      else
        (void)unlink (path);
    }
  for (guint n = 0; n < G_N_ELEMENTS (names); n++)
    {
      g_autofree char *path = g_build_filename (world->dirs[i], names[n], NULL);
      switch (nf_world_chance (world, 6))
        {
        case 0:
          (void)unlink (path);
          break;
        case 1:
          (void)truncate (path, (off_t)nf_world_chance (world, 100000));
          break;
        case 2:
          (void)mkdir (path, 0700);
          break;
        case 3:
          (void)symlink ("nowhere", path);
          break;
        default:
          break;
        }
    }
  nf_world_open_site (world, i);
}

static void
restart (NfWorld *world, guint i)
{
  if (world->sites[i]->dead)
    return;
  nf_world_close_site (world, i);
  if (!world->sites[i]->dead)
    nf_world_open_site (world, i);
}

void
nf_world_disturb (NfWorld *world, guint kinds)
{
  guint replica = 1 + nf_world_chance (world, 2);
  guint dice = nf_world_chance (world, 10);

  switch (nf_world_chance (world, 5))
    {
    case 0:
      if (kinds & NF_DISTURB_CUT)
        nf_sim_cut (world->sim, "a", nf_world_sites[replica]);
      break;
    case 1:
      if (kinds & NF_DISTURB_RESTART)
        restart (world, replica);
      break;
    case 2:
      if ((kinds & NF_DISTURB_RESTART) && dice < 3)
        restart (world, 0);
      break;
    case 3:
      if ((kinds & NF_DISTURB_VANDAL) && dice < 3)
        vandalize (world, replica);
      break;
    default:
      nf_world_connect (world);
      break;
    }
}

/* ---- the end ---- */

/* To be looked at: NF_WORLD_KEEP=DIR. */
static void
keep_dirs (NfWorld *world)
{
  const char *keep = g_getenv ("NF_WORLD_KEEP");

  for (guint i = 0; keep && i < NF_WORLD_SITES; i++)
    {
      g_autofree char *to = g_build_filename (keep, nf_world_sites[i], NULL);
      g_autofree char *command
          = g_strdup_printf ("rm -rf '%s' && cp -a '%s' '%s'", to, world->dirs[i], to);
      (void)!system (command);
    }
}

static void
print_suspects (NfWorld *world, guint i)
{
  NfIndex *index = world->sites[i]->share->index;
  NfObject object = { 0 };

  while (nf_index_next_suspect (index, object.fid, &object))
    {
      g_autofree char *path = nf_index_path (index, object.fid);
      (void)fprintf (stderr, "%s: /%s (%" G_GUINT64_FORMAT ") is suspect: %#x, place %d\n",
                     nf_world_sites[i], path ? path : "?", object.fid, object.suspect,
                     object.place);
    }
}

void
nf_world_compare (NfWorld *world, guint32 seed)
{
  g_autofree char *expected = nf_sim_describe_dir (world->dirs[0]);

  for (guint i = 1; i < NF_WORLD_SITES; i++)
    {
      g_autofree char *is = nf_sim_describe_dir (world->dirs[i]);
      NfShareStatus status;
      nf_share_status (world->sites[i]->share, &status);
      if (status.suspects != 0)
        print_suspects (world, i);
      if (status.suspects != 0)
        nf_world_fail ("seed %u: %s still has suspects (%s: %s)", seed, nf_world_sites[i],
                       status.state, status.trouble);
      if (status.position.seq != status.known.seq)
        nf_world_fail ("seed %u: %s is at %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT, seed,
                       nf_world_sites[i], status.position.seq, status.known.seq);
      if (strcmp (is, expected) == 0)
        continue;
      keep_dirs (world);
      (void)fprintf (stderr, "expected:\n%s\nis:\n%s\n", expected, is);
      nf_world_fail ("seed %u: %s differs", seed, nf_world_sites[i]);
    }
}

void
nf_world_live (NfWorld *world, guint steps, gboolean disturbed)
{
  g_autofree guint8 *buffer = g_malloc (NF_WORLD_BIG + 1);

  nf_sim_delays (world->sim, nf_world_chance (world, 60));
  nf_world_connect (world);
  for (guint step = 0; step < steps; step++)
    {
      nf_world_call_something (world, buffer);
      if (disturbed && nf_world_chance (world, 25) == 0)
        nf_world_disturb (world, NF_DISTURB_ALL);
      for (guint n = nf_world_chance (world, 30); n > 0; n--)
        if (!nf_sim_step (world->sim))
          break;
      nf_world_tend (world);
    }
}

void
nf_world_settle (NfWorld *world, guint32 seed)
{
  for (guint i = 0; i < 120; i++)
    {
      nf_world_connect (world);
      nf_sim_run (world->sim, 1000);
      nf_world_tend (world);
    }
  if (world->under_way != 0)
    nf_world_fail ("seed %u: %u calls were never answered", seed, world->under_way);
  nf_world_compare (world, seed);
}
