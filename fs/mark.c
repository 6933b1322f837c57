// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/mark.h"

#include <errno.h>
#include <gio/gio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sync/tree.h"

static char *
state_file (const NfSiteConf *conf, const char *share)
{
  const char *given = g_getenv ("STATE_DIRECTORY");
  g_autofree char *dir = NULL;

  if (given && g_path_is_absolute (given))
    dir = g_strndup (given, strcspn (given, ":")); /* systemd may name several */
  else if (geteuid () == 0)
    dir = g_strdup ("/var/lib/nearfs/state");
  else
    dir = g_build_filename (conf->home, ".local/state/nearfs", NULL);
  return g_build_filename (dir, conf->name, share, NULL);
}

/* Whether DIR has been in use. */
static gboolean
is_remembered (const NfSiteConf *conf, const char *share, const char *dir)
{
  g_autofree char *path = state_file (conf, share);
  g_autofree char *known = NULL;

  /* A state file that can't be read is like none: it only guards against a mistake of people. */
  return g_file_get_contents (path, &known, NULL, NULL) && g_str_equal (g_strchomp (known), dir);
}

gboolean
nf_mark_remember (const NfSiteConf *conf, const char *share, const char *dir, GError **error)
{
  g_autofree char *path = state_file (conf, share);
  g_autofree char *parent = g_path_get_dirname (path);
  g_autofree char *text = g_strconcat (dir, "\n", NULL);

  if (is_remembered (conf, share, dir))
    return TRUE;
  if (g_mkdir_with_parents (parent, 0700) != 0)
    {
      g_set_error (error, G_IO_ERROR, g_io_error_from_errno (errno), "%s: %s", parent,
                   g_strerror (errno));
      return FALSE;
    }
  return g_file_set_contents_full (
      path, text, -1, G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE, 0600, error);
}

static gboolean
is_empty (const char *dir)
{
  g_autoptr (GDir) entries = g_dir_open (dir, 0, NULL);
  const char *name;

  while (entries && (name = g_dir_read_name (entries)))
    /* What mkfs makes, and what is left of a start that was broken off. */
    if (strcmp (name, "lost+found") != 0 && strcmp (name, NF_HIDDEN_DIR) != 0)
      return FALSE;
  return entries != NULL;
}

gboolean
nf_mark_may (const NfSiteConf *conf, const char *share, NfMapRole role, const char *dir,
             GError **error)
{
  if (is_remembered (conf, share, dir))
    {
      g_set_error (error, G_IO_ERROR, G_IO_ERROR_NOT_MOUNTED,
                   "%s has lost the mark of share %s: is its disk mounted? If the directory is to "
                   "be used as it is "
                   "now, run \"nearfs map adopt %s\"",
                   dir, share, share);
      return FALSE;
    }
  if (role == NF_ROLE_PRIMARY || is_empty (dir))
    return TRUE;
  g_set_error (error, G_IO_ERROR, G_IO_ERROR_NOT_EMPTY,
               "%s is to become a replica but isn't empty: empty it, or run \"nearfs map adopt "
               "%s\": then what differs "
               "from the primary is replaced, and kept in the quarantine",
               dir, share);
  return FALSE;
}

gboolean
nf_mark_find_dir (const NfSiteConf *conf, const char *share, NfMapRole role, const char *dir,
                  GError **error)
{
  struct stat st;

  int err = stat (dir, &st) != 0 ? errno : S_ISDIR (st.st_mode) ? 0 : ENOTDIR;

  if (err == 0)
    return TRUE;
  if (err != ENOENT)
    g_set_error (error, G_IO_ERROR, g_io_error_from_errno (err), "%s: %s", dir, g_strerror (err));
  else if (is_remembered (conf, share, dir))
    g_set_error (
        error, G_IO_ERROR, G_IO_ERROR_NOT_MOUNTED,
        "%s is gone: is its disk mounted? If it was removed on purpose, make it again and run "
        "\"nearfs map adopt %s\"",
        dir, share);
  else if (role == NF_ROLE_PRIMARY)
    g_set_error (error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND,
                 "%s, the local directory of share %s, doesn't exist: make it, if no disk is to be "
                 "mounted first",
                 dir, share);
  else if (g_mkdir_with_parents (dir, 0755) != 0)
    g_set_error (error, G_IO_ERROR, g_io_error_from_errno (errno), "can't make %s: %s", dir,
                 g_strerror (errno));
  else
    return TRUE;
  return FALSE;
}
