// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "tests/primary-help.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define SHARE 7

static const char *const members[] = { "b", "c", NULL };

static gboolean
may_write (gpointer data, const char *site)
{
  (void)data;
  return !g_str_equal (site, "c");
}

static void
credentials (gpointer data, const char *site, NfCallHead *head)
{
  (void)data, (void)site;
  if (head->uid == 0)
    head->uid = head->gid = 65534;
}

World *
world_new (void)
{
  World *world = g_new0 (World, 1);

  world->sim = nf_sim_new (1);
  world->a = nf_sim_site (world->sim, "a");
  world->b = nf_sim_site (world->sim, "b");
  world->dir = nf_sim_make_dir ();
  world->reqid = 1000;
  world->umask = 022;
  world->conf = (NfShareConf){
    .id = SHARE,
    .name = "s",
    .site = "a",
    .primary = "a",
    .role = NF_ROLE_PRIMARY,
    .create = TRUE,
    .call_timeout_ms = 10000,
    .journal_bytes = 64 * 1024 * 1024,
    .journal_age_ns = G_MAXINT64 / 2,
    .may_write = may_write,
    .credentials = credentials,
    .members = members,
  };
  return world;
}

void
world_open (World *world)
{
  g_autoptr (GError) error = NULL;

  world->conf.dir = world->dir;
  world->a->share = nf_share_open (&world->conf, &world->a->host, &error);
  cr_assert (world->a->share != NULL, "%s", error ? error->message : "?");
}

void
world_close (World *world)
{
  nf_sim_close (world->a);
}

void
world_free (World *world)
{
  nf_msg_clear (&world->answer);
  nf_sim_free (world->sim);
  nf_sim_remove_dir (world->dir);
  g_free (world);
}

/* ---- calls ---- */

static int
call_remote (World *world, NfMsg *call)
{
  call->head.reqid = ++world->reqid;
  nf_sim_send (world->sim, world->site, "a", FALSE, call);
  for (;;)
    {
      g_autoptr (NfMsg) msg = expect (world, NF_MSG_ANSWER);
      if (msg->answer.reqid != call->head.reqid)
        continue;
      nf_msg_clear (&world->answer);
      world->answer = *msg;
      memset (msg, 0, sizeof *msg);
      return -nf_status_to_errno (world->answer.answer.status);
    }
}

int
do_call (World *world, NfMsg *call)
{
  call->head.share = SHARE;
  call->head.uid = world->uid;
  call->head.gid = world->gid;
  call->head.umask = world->umask;
  call->head.epoch = world->a->share ? world->a->share->epoch : 0;
  if (world->site)
    return call_remote (world, call);
  nf_msg_clear (&world->answer);
  memset (&world->answer, 0, sizeof world->answer);
  return nf_sim_call (world->a, call, &world->answer);
}

static int
give_fid (World *world, int status, NfFid *ret_fid)
{
  if (status == 0 && ret_fid)
    *ret_fid = world->answer.answer.attr.fid;
  return status;
}

int
do_lookup (World *world, NfFid parent, const char *name, NfFid *ret_fid)
{
  NfMsg call = { .type = NF_MSG_LOOKUP, .lookup = { parent, nf_slice_str (name) } };

  return give_fid (world, do_call (world, &call), ret_fid);
}

int
do_create (World *world, NfFid parent, const char *name, guint32 mode, guint32 flags,
           NfFid *ret_fid)
{
  NfMsg call = { .type = NF_MSG_CREATE, .create = { parent, nf_slice_str (name), mode, flags } };

  return give_fid (world, do_call (world, &call), ret_fid);
}

int
do_mkdir (World *world, NfFid parent, const char *name, guint32 mode, NfFid *ret_fid)
{
  NfMsg call = { .type = NF_MSG_MKDIR, .mkdir = { parent, nf_slice_str (name), mode } };

  return give_fid (world, do_call (world, &call), ret_fid);
}

int
do_symlink (World *world, NfFid parent, const char *name, const char *target, NfFid *ret_fid)
{
  NfMsg call = { .type = NF_MSG_SYMLINK,
                 .symlink = { parent, nf_slice_str (name), nf_slice_str (target) } };

  return give_fid (world, do_call (world, &call), ret_fid);
}

int
do_link (World *world, NfFid fid, NfFid parent, const char *name)
{
  NfMsg call = { .type = NF_MSG_LINK, .link = { fid, parent, nf_slice_str (name) } };

  return do_call (world, &call);
}

int
do_unlink (World *world, NfFid parent, const char *name)
{
  NfMsg call = { .type = NF_MSG_UNLINK, .unlink = { parent, nf_slice_str (name) } };

  return do_call (world, &call);
}

int
do_rmdir (World *world, NfFid parent, const char *name)
{
  NfMsg call = { .type = NF_MSG_RMDIR, .rmdir = { parent, nf_slice_str (name) } };

  return do_call (world, &call);
}

int
do_rename (World *world, NfFid parent, const char *name, NfFid newparent, const char *newname,
           guint32 flags)
{
  NfMsg call
      = { .type = NF_MSG_RENAME,
          .rename = { parent, nf_slice_str (name), newparent, nf_slice_str (newname), flags } };

  return do_call (world, &call);
}

int
do_write (World *world, NfFid fid, guint64 offset, guint32 flags, const void *data, gsize len)
{
  NfMsg call = { .type = NF_MSG_WRITE, .write = { fid, offset, flags, nf_slice (data, len) } };

  return do_call (world, &call);
}

int
do_read (World *world, NfFid fid, guint64 offset, guint32 size)
{
  NfMsg call = { .type = NF_MSG_READ, .read = { fid, offset, size } };

  return do_call (world, &call);
}

int
do_getattr (World *world, NfFid fid, NfAttr *ret_attr)
{
  NfMsg call = { .type = NF_MSG_GETATTR, .getattr = { fid } };
  int status = do_call (world, &call);

  if (status == 0)
    *ret_attr = world->answer.answer.attr;
  return status;
}

int
do_setattr (World *world, NfFid fid, guint32 mask, const NfAttr *attr)
{
  NfMsg call = { .type = NF_MSG_SETATTR, .setattr = { fid, mask, *attr } };

  return do_call (world, &call);
}

int
do_setxattr (World *world, NfFid fid, const char *name, const void *value, gsize len)
{
  NfMsg call = { .type = NF_MSG_SETXATTR,
                 .setxattr = { fid, nf_slice_str (name), 0, nf_slice (value, len) } };

  return do_call (world, &call);
}

static int
compare_strings (gconstpointer a, gconstpointer b)
{
  return strcmp (*(char *const *)a, *(char *const *)b);
}

char *
do_list (World *world, NfFid fid)
{
  NfMsg call = { .type = NF_MSG_READDIR, .readdir = { fid, 0, NF_LIST_MAX } };
  g_autoptr (GPtrArray) names = g_ptr_array_new_with_free_func (g_free);
  NfDirEntry entry;

  cr_assert_eq (do_call (world, &call), 0);
  NfReader reader = nf_reader (world->answer.answer.data);
  while (nf_dir_entry_decode (&reader, &entry))
    {
      g_autofree char *name = nf_slice_dup (entry.name);
      g_ptr_array_add (names, g_strdup_printf ("%s=%" G_GUINT64_FORMAT, name, entry.attr.fid));
    }
  cr_assert_not (reader.failed);
  g_ptr_array_sort (names, compare_strings);
  g_ptr_array_add (names, NULL);
  return g_strjoinv (" ", (char **)names->pdata);
}

/* ---- behind the proxy ---- */

char *
path_of (World *world, const char *path)
{
  return g_build_filename (world->dir, path, NULL);
}

void
write_behind (World *world, const char *path, const char *text)
{
  g_autofree char *full = path_of (world, path);

  cr_assert (g_file_set_contents (full, text, -1, NULL));
}

struct stat
stat_behind (World *world, const char *path)
{
  g_autofree char *full = path_of (world, path);
  struct stat st;

  cr_assert_eq (lstat (full, &st), 0, "%s: %s", path, g_strerror (errno));
  return st;
}

gint64
mtime_of (struct stat st)
{
  return st.st_mtim.tv_sec * G_GINT64_CONSTANT (1000000000) + st.st_mtim.tv_nsec;
}

guint64
last_seq (World *world)
{
  return nf_journal_last (world->a->share->journal).seq;
}

static gboolean
take_line (const char *line, gpointer data)
{
  const char *text = strchr (line, ' ');

  text = text ? strchr (text + 1, ' ') : NULL;
  g_string_append_printf (data, "%s\n", text ? text + 1 : line);
  return TRUE;
}

char *
log_after (World *world, guint64 seq)
{
  GString *text = g_string_new (NULL);

  cr_assert_eq (nf_share_log (world->a->share, seq, take_line, text), 0);
  return g_string_free (text, FALSE);
}

/* ---- another site ---- */

NfMsg *
expect (World *world, NfMsgType type)
{
  for (guint i = 0; i < 100000; i++)
    {
      for (guint j = 0; j < world->b->inbox->len; j++)
        if (((NfMsg *)world->b->inbox->pdata[j])->type == type)
          return g_ptr_array_steal_index (world->b->inbox, j);
      if (!nf_sim_step (world->sim))
        break;
    }
  cr_assert_fail ("no %s came", nf_msg_name (type));
  return NULL;
}

NfMsg *
subscribe (World *world, NfPosition position)
{
  NfMsg msg = { .type = NF_MSG_SUBSCRIBE, .subscribe = { SHARE, position, TRUE } };

  nf_sim_connect (world->sim, "a", "b");
  nf_sim_send (world->sim, "b", "a", FALSE, &msg);
  return expect (world, NF_MSG_SUBSCRIBED);
}
