// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <errno.h>
#include <string.h>

#include "fs/asks.h"
#include "map/path.h"
#include "sync/check.h"

/* "fsck": lines as they come (a "finding" each, now and then "progress"), and at the end the counts. */

#define TICK_US (300 * 1000)

/* What the share's threads leave for the request's thread. */
typedef struct
{
  gint refs;          /* atomic: the request's and the comparison's */
  GAsyncQueue *lines; /* of JsonNode; the last is the answer */
} Fsck;

static Fsck *
fsck_new (void)
{
  Fsck *fsck = g_new0 (Fsck, 1);

  fsck->refs = 2;
  fsck->lines = g_async_queue_new_full ((GDestroyNotify)json_node_unref);
  return fsck;
}

static void
fsck_unref (Fsck *fsck)
{
  if (!g_atomic_int_dec_and_test (&fsck->refs))
    return;
  g_async_queue_unref (fsck->lines);
  g_free (fsck);
}

static JsonNode *
as_line (const char *name, JsonObject *object)
{
  JsonNode *node = json_node_new (JSON_NODE_OBJECT);
  JsonObject *line = json_object_new ();

  json_object_set_object_member (line, name, object);
  json_node_take_object (node, line);
  return node;
}

static void
found (gpointer data, const NfFinding *finding)
{
  Fsck *fsck = data;
  JsonObject *object = json_object_new ();
  JsonArray *codes = json_array_new ();
  g_autofree char *path = g_utf8_make_valid (finding->path, -1);
  g_autofree char *detail = g_utf8_make_valid (finding->detail, -1);

  for (guint i = 0; i < NF_FIND_N; i++)
    if (finding->what & (1u << i))
      json_array_add_string_element (codes, nf_find_codes[i]);
  json_object_set_string_member (object, "path", path);
  json_object_set_array_member (object, "codes", codes);
  json_object_set_string_member (object, "detail", detail);
  json_object_set_boolean_member (object, "left", finding->left);
  g_async_queue_push (fsck->lines, as_line ("finding", object));
}

static JsonObject *
counts_object (const NfCheckCounts *counts)
{
  JsonObject *object = json_object_new ();

  json_object_set_int_member (object, "entries", (gint64)counts->entries);
  json_object_set_int_member (object, "total", (gint64)counts->total);
  json_object_set_int_member (object, "bytes", (gint64)counts->bytes);
  json_object_set_int_member (object, "found", (gint64)counts->found);
  json_object_set_int_member (object, "left", (gint64)counts->left);
  json_object_set_int_member (object, "busy", (gint64)counts->busy);
  return object;
}

static void
ended (gpointer data, int status, const NfCheckCounts *counts)
{
  Fsck *fsck = data;
  JsonObject *object = counts_object (counts);

  json_object_set_int_member (object, "status", status);
  g_async_queue_push (fsck->lines, as_line ("ended", object));
  fsck_unref (fsck);
}

/* ---- the path ---- */

/* PATH below DIR, or NULL. */
static const char *
below (const char *dir, const char *path)
{
  if (!dir || !nf_path_within (dir, path))
    return NULL;
  path += g_str_equal (dir, "/") ? 0 : strlen (dir);
  return *path == '/' ? path + 1 : path;
}

/* What of the share is meant; "" for all of it. */
static char *
path_in_share (NfDaemon *daemon, NfSlot *slot, NfAsk *ask)
{
  const char *path = nf_ask_text (ask, "path");
  const char *share = nf_ask_text (ask, "share");
  const char *in_mount = path && daemon->mountpoint ? below (daemon->mountpoint, path) : NULL;
  g_autofree char *in_namespace = in_mount ? g_strconcat ("/", in_mount, NULL) : g_strdup (path);
  const char *rest = NULL;

  if (!path || (share && g_str_equal (share, slot->name)))
    return g_strdup ("");
  pthread_rwlock_rdlock (&daemon->slots_lock);
  if (!in_mount)
    rest = below (slot->dir, path);
  if (!rest)
    rest = below (slot->entry->mount, in_namespace);
  pthread_rwlock_unlock (&daemon->slots_lock);
  return g_strdup (rest ? rest : "");
}

/* ---- the request ---- */

static void
fail (NfAsk *ask, const NfSlot *slot, const char *path, int err)
{
  switch (err)
    {
    case -EOPNOTSUPP:
      nf_ask_fail (ask,
                   "share %s has no directory here: it is compared at a site that has one (%s has "
                   "the primary)",
                   slot->name, slot->primary);
      break;
    case -EBUSY:
      nf_ask_fail (ask, "share %s is being compared already", slot->name);
      break;
    case -EHOSTUNREACH:
      nf_ask_fail (
          ask,
          "%s, which has the primary of share %s, can't be reached; \"nearfs status\" says why",
          slot->primary, slot->name);
      break;
    case -EAGAIN:
      nf_ask_fail (ask,
                   "share %s has content that doesn't come from %s; \"nearfs status\" says why",
                   slot->name, slot->primary);
      break;
    default:
      nf_ask_fail (ask, "share %s, /%s: %s", slot->name, path, g_strerror (-err));
      break;
    }
}

static void
send_progress (NfSlot *slot, NfAsk *ask)
{
  NfCheckCounts counts;

  if (nf_share_check_counts (slot->share, &counts))
    (void)nf_ask_send (ask, as_line ("progress", counts_object (&counts)));
}

/* Until the end, whose line is returned. */
static JsonNode *
pass_on (NfDaemon *daemon, NfSlot *slot, NfAsk *ask, Fsck *fsck)
{
  JsonNode *line;
  gboolean cancelled = FALSE;

  for (;;)
    {
      line = g_async_queue_timeout_pop (fsck->lines, TICK_US);
      if (line && json_object_has_member (json_node_get_object (line), "ended"))
        return line;
      if (line)
        (void)nf_ask_send (ask, line); /* who has gone is noticed below */
      else
        send_progress (slot, ask);
      if (!cancelled && (nf_ask_is_over (ask) || nf_slot_is_wanted (daemon, slot)))
        {
          cancelled = TRUE;
          nf_share_check_cancel (slot->share);
        }
    }
}

void
nf_asks_fsck (gpointer data, NfAsk *ask)
{
  NfDaemon *daemon = data;
  const NfCheckEvents events = { found, ended };
  const NfCheckOptions options = { .repair = nf_ask_flag (ask, "repair"),
                                   .content = nf_ask_flag (ask, "content"),
                                   .allow_delete = nf_ask_flag (ask, "allow-delete"),
                                   .rate = (guint64)MAX (nf_ask_number (ask, "rate", 0), 0) };
  NfSlot *slot = nf_asks_share (daemon, ask);

  if (!slot)
    return;
  g_autofree char *path = path_in_share (daemon, slot, ask);
  Fsck *fsck = fsck_new ();
  int err = nf_share_check (slot->share, path, &options, &events, fsck);
  if (err != 0)
    {
      fsck_unref (fsck);
      fail (ask, slot, path, err);
    }
  else
    {
      g_autoptr (JsonNode) last = pass_on (daemon, slot, ask, fsck);
      JsonObject *counts = json_object_get_object_member (json_node_get_object (last), "ended");
      json_object_set_string_member (counts, "share", slot->name);
      json_object_set_string_member (counts, "role", nf_map_role_to_string (slot->role));
      err = (int)json_object_get_int_member (counts, "status");
      if (err != 0)
        fail (ask, slot, path, err);
      else
        nf_ask_done_with (ask, json_object_dup_member (json_node_get_object (last), "ended"));
    }
  fsck_unref (fsck);
  nf_slot_put (daemon, slot);
}
