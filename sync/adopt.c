// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/primary-internal.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "sync/listing.h"

/* Objects that are in the primary's directory and not in its index: all of an existing directory that was taken into
 * the share, and what somebody made behind the proxy. Each gets a fid and an op that creates it, so that the other
 * sites get it as they get everything else; a file's content is fetched by them.
 *
 * It happens when something is found by name, and for whole trees step by step on the host's workers. That a walk is
 * not over stands in the index ("adopting"), and the next start begins it again. */

/* Directories that one step of a walk looks through. */
#define DIRS_PER_STEP 16

struct NfAdopter
{
  NfPrimary *primary;
  pthread_mutex_t lock; /* guards what follows */
  GQueue dirs;          /* of Dir, the next one first */
  gboolean running;
};

typedef struct
{
  NfFid fid;
  gboolean whole;
} Dir;

/* ---- one object ---- */

static int
read_target (NfExec *exec, NfFid parent, NfSlice name, char *ret_target, NfSlice *ret_slice)
{
  NfTreeDir *dir;
  char str[NF_NAME_LEN_MAX + 1];
  int err = nf_exec_name (parent, name, str);

  if (err == 0)
    err = nf_tree_dir (exec->share->tree, parent, &dir);
  if (err != 0)
    return err;
  ssize_t len = readlinkat (nf_tree_dir_fd (dir), str, ret_target, NF_PATH_LEN_MAX);
  err = len < 0 ? -errno : 0;
  nf_tree_dir_put (exec->share->tree, dir);
  if (err == 0)
    *ret_slice = nf_slice (ret_target, (gsize)len);
  return err;
}

static int
append_object (NfExec *exec, NfFid parent, NfSlice name, const NfAttr *attr)
{
  char target[NF_PATH_LEN_MAX];
  NfRecord record = {
    .kind = NF_OP_NAMES,
    .n_names = 1,
    .names = { { parent, name, attr->fid, attr->mode & S_IFMT } },
    .creates = TRUE,
    .fid = attr->fid,
    .attr = *attr,
  };
  int err = 0;

  if (S_ISLNK (attr->mode))
    err = read_target (exec, parent, name, target, &record.target);
  if (err != 0)
    return err;
  record.path = nf_exec_path_in (exec, parent, name);
  return nf_exec_append (exec, &record, FALSE);
}

static void
append_xattr (NfExec *exec, NfFid fid, const char *name)
{
  g_autofree char *value = g_malloc (NF_XATTR_MAX);
  int len = nf_tree_getxattr (exec->share->tree, fid, name, value, NF_XATTR_MAX);
  NfRecord record = { .kind = NF_OP_XATTR, .fid = fid, .xname = nf_slice_str (name) };

  if (len < 0 || !nf_tree_xattr_shown (name))
    return;
  record.value = nf_slice (value, (gsize)len);
  /* Without it the others have the file, and fsck finds what is missing. */
  (void)nf_exec_append (exec, &record, FALSE);
  nf_exec_flush (exec);
}

static void
append_xattrs (NfExec *exec, NfFid fid)
{
  char small[1024];
  int len = nf_tree_listxattr (exec->share->tree, fid, small, sizeof small);

  if (len == 0 || (len < 0 && len != -ERANGE))
    return;
  g_autofree char *large = len < 0 ? g_malloc (65536) : NULL;
  if (large)
    len = nf_tree_listxattr (exec->share->tree, fid, large, 65536);
  const char *list = large ? large : small;
  for (int at = 0; at < len; at += (int)strlen (list + at) + 1)
    append_xattr (exec, fid, list + at);
}

static int
index_object (NfExec *exec, NfFid parent, NfSlice name, NfIdent ident, const NfAttr *attr)
{
  int err = nf_exec_index_begin (exec);

  if (err != 0)
    return err;
  err = nf_tree_adopt (exec->share->tree, parent, name, ident, attr->fid, attr->mode);
  if (err == 0)
    return nf_exec_index_commit (exec);
  nf_index_abort (exec->share->index);
  return err;
}

static int
adopt_object (NfExec *exec, NfFid parent, NfSlice name, NfIdent ident, NfAttr *attr)
{
  NfFid fid;
  int err = nf_index_mint (exec->share->index, &fid);

  if (err != 0)
    return err;
  attr->fid = fid;
  err = append_object (exec, parent, name, attr);
  if (err != 0)
    return err;
  err = index_object (exec, parent, name, ident, attr);
  if (err != 0)
    {
      nf_exec_abort (exec, exec->seq);
      return err;
    }
  nf_exec_flush (exec);
  append_xattrs (exec, fid);
  if (S_ISDIR (attr->mode))
    nf_adopter_scan (exec->primary->adopter, fid, FALSE);
  return 0;
}

/* A further name of an object that is known. */
static int
adopt_name (NfExec *exec, NfFid parent, NfSlice name, const NfAttr *attr)
{
  NfRecord record = {
    .kind = NF_OP_NAMES,
    .n_names = 1,
    .names = { { parent, name, attr->fid, attr->mode & S_IFMT } },
    .fid = attr->fid,
  };

  record.path = nf_exec_path_in (exec, parent, name);
  int err = nf_exec_append (exec, &record, FALSE);
  if (err == 0)
    err = nf_exec_index_begin (exec);
  if (err != 0)
    return err;
  err = nf_index_add_name (exec->share->index, attr->fid, parent, name);
  if (err == 0)
    return nf_exec_index_commit (exec);
  nf_index_abort (exec->share->index);
  return err;
}

/* A name's record bears the time at which its parent was changed, which here is in the past. */
static int
take_parents_time (NfExec *exec, NfFid parent)
{
  NfAttr attr;
  int err = nf_tree_stat (exec->share->tree, parent, &attr);

  if (err == 0)
    exec->time = attr.mtime;
  return err;
}

static int
adopt_locked (NfExec *exec, NfFid parent, NfSlice name, NfAttr *attr)
{
  NfIdent ident;
  NfFid expected = attr->fid;
  int err = nf_tree_lookup (exec->share->tree, parent, name, attr, &ident);

  if (err == 0)
    err = take_parents_time (exec, parent);
  if (err != 0)
    return err;
  if (attr->fid == NF_FID_NONE)
    return adopt_object (exec, parent, name, ident, attr);
  if (attr->fid != expected || S_ISDIR (attr->mode)
      || nf_index_has_name (exec->share->index, attr->fid, parent, name))
    return 0; /* somebody else was faster; another object's names are seen to when it is found next */
  return adopt_name (exec, parent, name, attr);
}

/* The usual case: all names are known. */
static gboolean
names_complete (NfShare *share, NfFid parent, NfSlice name, const NfAttr *attr)
{
  NfObject object;

  return nf_index_get (share->index, attr->fid, &object)
         && (object.n_names == attr->nlink
             || nf_index_has_name (share->index, attr->fid, parent, name));
}

int
nf_primary_adopt (NfShare *share, NfFid parent, NfSlice name, NfIdent ident, NfAttr *attr)
{
  static const NfCallHead nobody;
  NfFid fids[2] = { parent, attr->fid };
  NfExec exec;

  (void)ident; /* looked up again under the lock */
  if (attr->fid != NF_FID_NONE && names_complete (share, parent, name, attr))
    return 0;
  nf_exec_init (&exec, share->primary, NULL, NULL, NULL, &nobody, NULL);
  nf_exec_lock (&exec, fids, 2);
  int err = adopt_locked (&exec, parent, name, attr);
  nf_exec_end (&exec);
  nf_broadcast_pump (share->primary->broadcast, NULL); /* what was flushed on the way */
  return err;
}

/* ---- whole trees ---- */

static void
scan_dir (NfAdopter *adopter, const Dir *dir)
{
  NfShare *share = adopter->primary->share;
  g_auto (NfListing) listing = { 0 };
  int err = nf_listing_read (share->tree, dir->fid, &listing);

  for (guint i = 0; i < listing.entries->len && err == 0; i++)
    {
      NfListed *entry = nf_listing_at (&listing, i);
      gboolean is_dir = S_ISDIR (entry->attr.mode);
      if (entry->attr.fid == NF_FID_NONE || (entry->attr.nlink > 1 && !is_dir))
        err = nf_primary_adopt (share, dir->fid, nf_listing_name (&listing, entry), entry->ident,
                                &entry->attr);
      else if (is_dir && dir->whole)
        nf_adopter_scan (adopter, entry->attr.fid, TRUE);
      if (err == -ENOENT || err == -ESTALE || err == -EXDEV)
        err = 0; /* gone meanwhile, or not the share's */
    }
  if (err != 0 && err != -ESTALE)
    g_log_structured (
        G_LOG_DOMAIN, G_LOG_LEVEL_WARNING, "NF_SHARE", share->conf.name, "MESSAGE",
        "Share %s: a directory couldn't be taken in whole: %s. It is done when it is next listed",
        share->conf.name, g_strerror (-err));
}

static gboolean
pop_dir (NfAdopter *adopter, Dir *ret_dir)
{
  pthread_mutex_lock (&adopter->lock);
  Dir *dir = g_queue_pop_head (&adopter->dirs);
  adopter->running = dir != NULL;
  pthread_mutex_unlock (&adopter->lock);
  if (!dir)
    return FALSE;
  *ret_dir = *dir;
  g_free (dir);
  return TRUE;
}

static void
step (gpointer data)
{
  NfLife *life = data;
  NfPrimary *primary = nf_life_enter (life);
  gboolean more = TRUE;
  Dir dir;

  if (!primary)
    {
      nf_life_unref (life);
      return;
    }
  NfHost *host = primary->share->host;
  for (guint i = 0; i < DIRS_PER_STEP && more; i++)
    {
      more = pop_dir (primary->adopter, &dir);
      if (more)
        scan_dir (primary->adopter, &dir);
    }
  if (!more)
    (void)nf_primary_set_meta (primary, "adopting", 0); /* if not: it is walked once more */
  nf_life_leave (life);
  if (more)
    host->post (host->data, step, life);
  else
    nf_life_unref (life);
}

void
nf_adopter_scan (NfAdopter *adopter, NfFid fid, gboolean whole)
{
  NfPrimary *primary = adopter->primary;
  NfHost *host = primary->share->host;
  Dir *dir = g_new (Dir, 1);

  *dir = (Dir){ fid, whole };
  pthread_mutex_lock (&adopter->lock);
  gboolean start = !adopter->running;
  adopter->running = TRUE;
  g_queue_push_head (&adopter->dirs, dir); /* depth first: the queue stays short */
  pthread_mutex_unlock (&adopter->lock);
  if (!start)
    return;
  (void)nf_primary_set_meta (primary, "adopting", 1);
  host->post (host->data, step, nf_life_ref (primary->life));
}

NfAdopter *
nf_adopter_new (NfPrimary *primary)
{
  NfAdopter *adopter = g_new0 (NfAdopter, 1);

  adopter->primary = primary;
  pthread_mutex_init (&adopter->lock, NULL);
  return adopter;
}

void
nf_adopter_free (NfAdopter *adopter)
{
  g_queue_clear_full (&adopter->dirs, g_free);
  pthread_mutex_destroy (&adopter->lock);
  g_free (adopter);
}
