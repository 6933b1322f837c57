// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "fs/mount-options.h"

#include <string.h>

#include "map/conf.h"

typedef enum
{
  FLAG,   /* sets a member to TRUE */
  UNFLAG, /* sets it to FALSE */
  TEXT,   /* takes a value */
  FUSE,   /* goes to FUSE as it is */
  IGNORED /* is for mount(8) or systemd, or is so anyway */
} Kind;

typedef struct
{
  const char *name;
  Kind kind;
  gsize member;
} Option;

#define AT(member) G_STRUCT_OFFSET (NfMountWish, member)

static const Option options[] = {
  { "ro", FLAG, AT (read_only) },
  { "rw", UNFLAG, AT (read_only) },
  { "suid", FLAG, AT (suid) },
  { "allow_suid", FLAG, AT (suid) }, /* mount(8) takes "suid" for the default, and drops it */
  { "nosuid", UNFLAG, AT (suid) },
  { "dev", FLAG, AT (dev) },
  { "allow_dev", FLAG, AT (dev) },
  { "nodev", UNFLAG, AT (dev) },
  { "debug", FLAG, AT (debug) },
  { "passthrough", UNFLAG, AT (no_pass) },
  { "nopassthrough", FLAG, AT (no_pass) },
  { "sharedlocks", UNFLAG, AT (local_locks) },
  { "locallocks", FLAG, AT (local_locks) },
  { "config", TEXT, AT (config) },
  { "site", TEXT, AT (site) },
  { "log-file", TEXT, AT (log_file) },
  { "exec", FUSE, 0 },
  { "noexec", FUSE, 0 },
  { "sync", FUSE, 0 },
  { "dirsync", FUSE, 0 },
  { "noatime", FUSE, 0 },
  { "nodiratime", FUSE, 0 },
  { "async", IGNORED, 0 },
  { "atime", IGNORED, 0 },
  { "relatime", IGNORED, 0 },
  { "defaults", IGNORED, 0 },
  { "allow_other", IGNORED, 0 },
  { "auto", IGNORED, 0 },
  { "noauto", IGNORED, 0 },
  { "nofail", IGNORED, 0 },
  { "_netdev", IGNORED, 0 },
  { "user", IGNORED, 0 },
  { "nouser", IGNORED, 0 },
  { "users", IGNORED, 0 },
  { NULL, IGNORED, 0 },
};

void
nf_mount_wish_init (NfMountWish *wish)
{
  *wish = (NfMountWish){ .fuse = g_ptr_array_new_with_free_func (g_free) };
}

void
nf_mount_wish_clear (NfMountWish *wish)
{
  g_free (wish->config);
  g_free (wish->site);
  g_free (wish->log_file);
  g_ptr_array_unref (wish->fuse);
}

static gboolean
unknown (const char *name, GError **error)
{
  g_autoptr (GPtrArray) names = g_ptr_array_new ();
  const char *nearest;

  for (const Option *option = options; option->name; option++)
    g_ptr_array_add (names, (gpointer)option->name);
  g_ptr_array_add (names, NULL);
  nearest = nf_conf_nearest (name, (const char *const *)names->pdata);
  g_set_error (error, G_OPTION_ERROR, G_OPTION_ERROR_UNKNOWN_OPTION,
               "unknown mount option \"%s\"%s%s%s; nearfs(1) lists them", name,
               nearest ? ", did you mean \"" : "", nearest ? nearest : "", nearest ? "\"" : "");
  return FALSE;
}

/* TEXT is the whole, NAME what is before "=", VALUE what is after it, or NULL. */
static gboolean
take (NfMountWish *wish, const char *text, const char *name, const char *value, gboolean sloppy,
      GError **error)
{
  const Option *option = options;

  /* Comments of other programs. */
  if (g_str_has_prefix (name, "x-") || g_str_has_prefix (name, "X-")
      || g_str_equal (name, "comment"))
    return TRUE;
  while (option->name && !g_str_equal (option->name, name))
    option++;
  if (!option->name)
    return sloppy || unknown (name, error);
  if ((option->kind == TEXT) != (value != NULL))
    {
      g_set_error (error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "mount option \"%s\" %s", name,
                   option->kind == TEXT ? "needs a value" : "takes no value");
      return FALSE;
    }
  if (option->kind == FLAG || option->kind == UNFLAG)
    G_STRUCT_MEMBER (gboolean, wish, option->member) = option->kind == FLAG;
  else if (option->kind == TEXT)
    {
      g_free (G_STRUCT_MEMBER (char *, wish, option->member));
      G_STRUCT_MEMBER (char *, wish, option->member) = g_strdup (value);
    }
  else if (option->kind == FUSE)
    g_ptr_array_add (wish->fuse, g_strdup (text));
  return TRUE;
}

gboolean
nf_mount_wish_parse (NfMountWish *wish, const char *text, gboolean sloppy, GError **error)
{
  g_auto (GStrv) words = g_strsplit (text, ",", -1);

  for (char **word = words; *word; word++)
    {
      const char *equals = strchr (*word, '=');
      g_autofree char *name
          = equals ? g_strndup (*word, (gsize)(equals - *word)) : g_strdup (*word);
      if (*name && !take (wish, *word, name, equals ? equals + 1 : NULL, sloppy, error))
        return FALSE;
    }
  return TRUE;
}

char **
nf_mount_wish_fuse (NfMountWish *wish)
{
  if (wish->fuse->len == 0 || g_ptr_array_index (wish->fuse, wish->fuse->len - 1))
    g_ptr_array_add (wish->fuse, NULL);
  return (char **)wish->fuse->pdata;
}
