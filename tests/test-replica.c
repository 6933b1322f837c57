// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sync/record.h"
#include "tests/sim.h"

/* A replica whose primary is played by the test: hand-made ops, listings and chunks. */

typedef struct
{
  NfSim *sim;
  NfSimSite *site;    /* the replica, "b" */
  NfSimSite *primary; /* the test, "a" */
  char *dir;
  NfPosition last; /* of what the test has sent */
  GPtrArray *ops;  /* of NfMsg: all that was sent, the first is seq 101 */
} World;

static const char *const members[] = { "a", NULL };

static void
open_replica (World *world)
{
  g_autoptr (GError) error = NULL;

  cr_assert (nf_sim_open (world->site, NF_ROLE_REPLICA, world->dir, "a", members, &error), "%s",
             error ? error->message : "?");
}

static World *
world_new (void)
{
  World *world = g_new0 (World, 1);

  world->sim = nf_sim_new (1);
  world->site = nf_sim_site (world->sim, "b");
  world->primary = nf_sim_site (world->sim, "a");
  world->dir = nf_sim_make_dir ();
  world->last = (NfPosition){ 1, 100, 77 };
  world->ops = g_ptr_array_new_with_free_func ((GDestroyNotify)nf_msg_free);
  open_replica (world);
  return world;
}

static void
world_free (World *world)
{
  nf_sim_free (world->sim);
  nf_sim_remove_dir (world->dir);
  g_ptr_array_unref (world->ops);
  g_free (world);
}

static void
run (World *world)
{
  nf_sim_run (world->sim, 50);
}

/* Takes the first message of TYPE out of what the primary has been sent; NULL if there is none. */
static NfMsg *
take (World *world, NfMsgType type)
{
  GPtrArray *inbox = world->primary->inbox;

  for (guint i = 0; i < inbox->len; i++)
    if (((NfMsg *)inbox->pdata[i])->type == type)
      return g_ptr_array_steal_index (inbox, i);
  return NULL;
}

static void
send_subscribed (World *world, guint8 verdict, NfPosition position)
{
  NfMsg msg = { .type = NF_MSG_SUBSCRIBED };

  msg.subscribed.share = 7;
  msg.subscribed.position = position;
  msg.subscribed.verdict = verdict;
  nf_sim_send (world->sim, "a", "b", FALSE, &msg);
  run (world);
}

static NfAttr
make_attr (NfFid fid, guint32 mode, guint64 size)
{
  return (NfAttr){ .fid = fid,
                   .mode = mode,
                   .nlink = 1,
                   .uid = getuid (),
                   .gid = getgid (),
                   .size = size,
                   .mtime = G_GINT64_CONSTANT (1600000000000000000) + (gint64)fid };
}

/* Answers a LIST: the object and what is in it. */
static void
answer_list (World *world, NfAttr self, const NfDirEntry *entries, guint n_entries)
{
  g_autoptr (NfMsg) list = take (world, NF_MSG_LIST);
  g_auto (NfBuf) buf = NF_BUF_INIT;
  NfDirEntry entry = { .attr = self };
  NfMsg msg = { .type = NF_MSG_LISTED };

  cr_assert (list != NULL, "no LIST was sent");
  cr_assert_eq (list->list.fid, self.fid);
  nf_dir_entry_encode (&entry, &buf);
  for (guint i = 0; i < n_entries; i++)
    nf_dir_entry_encode (&entries[i], &buf);
  msg.listed.share = 7;
  msg.listed.id = list->list.id;
  msg.listed.fid = self.fid;
  msg.listed.seq = world->last.seq;
  msg.listed.flags = NF_FLAG_LAST;
  msg.listed.entries = nf_buf_slice (&buf);
  nf_sim_send (world->sim, "a", "b", TRUE, &msg);
  run (world);
}

/* Subscribes a new replica, and fills it with an empty root. */
static void
begin_empty (World *world)
{
  nf_sim_connect (world->sim, "a", "b");
  run (world);
  g_autoptr (NfMsg) subscribe = take (world, NF_MSG_SUBSCRIBE);
  cr_assert (subscribe != NULL);
  send_subscribed (world, NF_VERDICT_COMPARE, world->last);
  answer_list (world, make_attr (NF_FID_ROOT, S_IFDIR | 0755, 0), NULL, 0);
}

/* It is on its way. */
static void
begin_op (World *world, NfRecord *record, NfSlice data)
{
  g_auto (NfBuf) buf = NF_BUF_INIT;
  NfMsg msg = { .type = NF_MSG_OP };

  record->epoch = world->last.epoch;
  record->seq = ++world->last.seq;
  if (record->time == 0)
    record->time = G_GINT64_CONSTANT (1600000000000000000) + (gint64)record->seq;
  nf_record_encode (record, &buf);
  world->last.chain = nf_record_chain (world->last.chain, nf_buf_slice (&buf));
  msg.op.share = 7;
  msg.op.record = nf_buf_slice (&buf);
  msg.op.data = data;
  g_ptr_array_add (world->ops, nf_msg_dup (&msg));
  nf_sim_send (world->sim, "a", "b", FALSE, &msg);
}

static void
send_op (World *world, NfRecord *record, NfSlice data)
{
  begin_op (world, record, data);
  run (world);
}

static void
send_create (World *world, NfFid fid, NfFid parent, const char *name, guint32 mode, guint64 size)
{
  NfRecord record = { .kind = NF_OP_NAMES,
                      .n_names = 1,
                      .names = { { parent, nf_slice_str (name), fid, mode & S_IFMT } },
                      .creates = TRUE,
                      .fid = fid,
                      .attr = make_attr (fid, mode, size) };
  send_op (world, &record, NF_SLICE_NONE);
}

static void
send_rename (World *world, NfFid fid, NfFid parent, const char *old, const char *name)
{
  NfRecord record = { .kind = NF_OP_NAMES,
                      .n_names = 2,
                      .names = { { parent, nf_slice_str (old), NF_FID_NONE, 0 },
                                 { parent, nf_slice_str (name), fid, S_IFREG } },
                      .fid = fid };
  send_op (world, &record, NF_SLICE_NONE);
}

static void
send_unlink (World *world, NfFid fid, NfFid parent, const char *name)
{
  NfRecord record = { .kind = NF_OP_NAMES,
                      .n_names = 1,
                      .names = { { parent, nf_slice_str (name), NF_FID_NONE, 0 } },
                      .fid = fid };
  send_op (world, &record, NF_SLICE_NONE);
}

/* INLINE_DATA NULL: the bytes have to be fetched. */
static void
send_data (World *world, NfFid fid, guint64 offset, guint64 length, guint64 size,
           const char *inline_data)
{
  NfRecord record = { .kind = NF_OP_DATA,
                      .fid = fid,
                      .attr = make_attr (fid, S_IFREG | 0644, size),
                      .offset = offset,
                      .length = length };
  record.attr.mtime += (gint64)world->last.seq;
  send_op (world, &record, nf_slice_str (inline_data));
}

/* Answers a FETCH from CONTENT, the whole file as it is at the primary as of SEQ. */
static void
answer_fetch (World *world, NfFid fid, const char *content, guint64 seq)
{
  g_autoptr (NfMsg) fetch = take (world, NF_MSG_FETCH);
  NfMsg msg = { .type = NF_MSG_FETCHED };
  guint64 size = strlen (content);

  cr_assert (fetch != NULL, "no FETCH was sent");
  cr_assert_eq (fetch->fetch.fid, fid);
  guint64 offset = MIN (fetch->fetch.offset, size);
  msg.fetched.share = 7;
  msg.fetched.id = fetch->fetch.id;
  msg.fetched.fid = fid;
  msg.fetched.seq = seq;
  msg.fetched.offset = offset;
  msg.fetched.flags = NF_FLAG_LAST;
  msg.fetched.attr = make_attr (fid, S_IFREG | 0644, size);
  msg.fetched.data = nf_slice (content + offset, MIN (fetch->fetch.length, size - offset));
  nf_sim_send (world->sim, "a", "b", TRUE, &msg);
  run (world);
}

static char *
read_file (World *world, const char *name)
{
  g_autofree char *path = g_build_filename (world->dir, name, NULL);
  char *content = NULL;

  return g_file_get_contents (path, &content, NULL, NULL) ? content : g_strdup ("(none)");
}

static void
expect_file (World *world, const char *name, const char *content)
{
  g_autofree char *is = read_file (world, name);

  cr_assert_str_eq (is, content);
}

static gboolean
exists (World *world, const char *name)
{
  g_autofree char *path = g_build_filename (world->dir, name, NULL);

  return g_file_test (path, G_FILE_TEST_EXISTS);
}

/* The position that the replica last told. */
static guint64
told (World *world)
{
  g_autoptr (NfMsg) msg = NULL;
  guint64 seq = 0;

  while ((msg = take (world, NF_MSG_POSITION)))
    {
      seq = msg->position.position.seq;
      cr_assert (msg->position.position.seq != world->last.seq
                 || msg->position.position.chain == world->last.chain);
      g_clear_pointer (&msg, nf_msg_free);
    }
  return seq;
}

Test (replica, a_new_one_asks_for_a_comparison)
{
  World *world = world_new ();

  nf_sim_connect (world->sim, "a", "b");
  run (world);
  g_autoptr (NfMsg) subscribe = take (world, NF_MSG_SUBSCRIBE);
  cr_assert (subscribe != NULL);
  cr_assert_eq (subscribe->subscribe.position.seq, G_MAXUINT64);
  cr_assert_eq (subscribe->subscribe.want_data, 1);
  world_free (world);
}

Test (replica, filling_takes_over_names_attributes_and_small_content)
{
  World *world = world_new ();
  NfDirEntry entries[3] = {
    { .name = nf_slice_str ("f"),
      .attr = make_attr (10, S_IFREG | 0640, 5),
      .has_data = TRUE,
      .data = nf_slice_str ("hello") },
    { .name = nf_slice_str ("l"),
      .attr = make_attr (11, S_IFLNK | 0777, 1),
      .target = nf_slice_str ("f") },
    { .name = nf_slice_str ("d"), .attr = make_attr (12, S_IFDIR | 0711, 0) },
  };

  nf_sim_connect (world->sim, "a", "b");
  run (world);
  send_subscribed (world, NF_VERDICT_COMPARE, world->last);
  answer_list (world, make_attr (NF_FID_ROOT, S_IFDIR | 0755, 0), entries, 3);
  expect_file (world, "f", "hello");
  answer_list (world, make_attr (12, S_IFDIR | 0711, 0), NULL, 0);
  NfShareStatus status;
  nf_share_status (world->site->share, &status);
  cr_assert_eq (status.suspects, 0);
  cr_assert_str_eq (status.state, "in step");
  g_autofree char *path = g_build_filename (world->dir, "f", NULL);
  struct stat st;
  cr_assert_eq (stat (path, &st), 0);
  cr_assert_eq (st.st_mode, S_IFREG | 0640);
  cr_assert_eq (st.st_mtim.tv_nsec, 10);
  world_free (world);
}

Test (replica, ops_are_applied_and_the_position_is_told)
{
  World *world = world_new ();

  begin_empty (world);
  send_create (world, 10, NF_FID_ROOT, "f", S_IFREG | 0644, 0);
  send_data (world, 10, 0, 3, 3, "abc");
  expect_file (world, "f", "abc");
  send_rename (world, 10, NF_FID_ROOT, "f", "g");
  cr_assert_not (exists (world, "f"));
  expect_file (world, "g", "abc");
  cr_assert_eq (told (world), world->last.seq);
  send_unlink (world, 10, NF_FID_ROOT, "g");
  cr_assert_not (exists (world, "g"));
  cr_assert_eq (told (world), world->last.seq);
  world_free (world);
}

/* A run of ops, with a reign that begins and an op that failed among them, as they come when there is much to do. */
Test (replica, ops_that_come_together_are_as_if_they_came_one_by_one)
{
  World *world = world_new ();
  char text[] = "....................";

  begin_empty (world);
  send_create (world, 10, NF_FID_ROOT, "f", S_IFREG | 0644, 0);
  for (guint i = 0; i < 20; i++)
    {
      char byte[] = { (char)('a' + i), '\0' };
      NfRecord epoch = { .kind = NF_OP_EPOCH };
      NfRecord failed = { .kind = NF_OP_NAMES,
                          .n_names = 1,
                          .names = { { NF_FID_ROOT, nf_slice_str ("f"), NF_FID_NONE, 0 } },
                          .fid = 10 };
      NfRecord record = { .kind = NF_OP_DATA,
                          .fid = 10,
                          .attr = make_attr (10, S_IFREG | 0644, i + 1),
                          .offset = i,
                          .length = 1 };
      if (i == 7)
        {
          world->last.epoch++;
          begin_op (world, &epoch, NF_SLICE_NONE);
        }
      if (i == 13)
        begin_op (world, &failed, nf_slice_str ("A"));
      begin_op (world, &record, nf_slice (byte, 1));
      text[i] = byte[0];
    }
  run (world);
  expect_file (world, "f", text);
  cr_assert_eq (told (world), world->last.seq);
  world_free (world);
}

/* Has this process file NAME of the replica open? */
static gboolean
is_open (World *world, const char *name)
{
  g_autofree char *path = g_build_filename (world->dir, name, NULL);
  g_autoptr (GDir) fds = g_dir_open ("/proc/self/fd", 0, NULL);
  gboolean found = FALSE;
  const char *fd;

  while (!found && (fd = g_dir_read_name (fds)))
    {
      g_autofree char *link = g_build_filename ("/proc/self/fd", fd, NULL);
      g_autofree char *to = g_file_read_link (link, NULL);
      found = g_strcmp0 (to, path) == 0;
    }
  return found;
}

/* Else it would keep the space of what is removed. */
Test (replica, at_rest_it_keeps_no_file_open)
{
  World *world = world_new ();

  begin_empty (world);
  send_create (world, 10, NF_FID_ROOT, "f", S_IFREG | 0644, 0);
  cr_assert_not (is_open (world, "f"));
  send_data (world, 10, 0, 3, 3, "abc");
  send_data (world, 10, 3, 3, 6, "def");
  expect_file (world, "f", "abcdef");
  cr_assert_not (is_open (world, "f"));
  world_free (world);
}

static gint64
ctime_of (World *world, const char *name)
{
  g_autofree char *path = g_build_filename (world->dir, name, NULL);
  struct stat st;

  cr_assert_eq (stat (path, &st), 0);
  return st.st_ctim.tv_sec * G_GINT64_CONSTANT (1000000000) + st.st_ctim.tv_nsec;
}

Test (replica, a_chown_that_changes_nobody_touches_the_ctime)
{
  World *world = world_new ();
  NfRecord record = { .kind = NF_OP_ATTR, .fid = 10, .mask = NF_SET_CTIME_ONLY };

  begin_empty (world);
  send_create (world, 10, NF_FID_ROOT, "f", S_IFREG | 0644, 0);
  gint64 before = ctime_of (world, "f");
  for (guint i = 0; i < 1000 && ctime_of (world, "f") == before; i++) /* it goes by ticks */
    {
      g_usleep (1000);
      send_op (world, &record, NF_SLICE_NONE);
    }
  cr_assert_gt (ctime_of (world, "f"), before);
  world_free (world);
}

Test (replica, data_comes_before_names)
{
  World *world = world_new ();

  begin_empty (world);
  send_create (world, 10, NF_FID_ROOT, "doc", S_IFREG | 0644, 0);
  send_data (world, 10, 0, 3, 3, "old");
  guint64 before = world->last.seq;
  send_create (world, 11, NF_FID_ROOT, "tmp", S_IFREG | 0644, 0);
  send_data (world, 11, 0, 3, 3, NULL);
  send_rename (world, 11, NF_FID_ROOT, "tmp", "doc");
  send_create (world, 12, NF_FID_ROOT, "other", S_IFREG | 0644, 0);
  expect_file (world, "doc", "old");
  cr_assert (exists (world, "other"), "an op elsewhere waits for content");
  cr_assert_eq (told (world), before + 1);
  answer_fetch (world, 11, "new", world->last.seq);
  expect_file (world, "doc", "new");
  cr_assert_not (exists (world, "tmp"));
  cr_assert_eq (told (world), world->last.seq);
  world_free (world);
}

Test (replica, a_chunk_read_before_a_later_change_is_asked_for_again)
{
  World *world = world_new ();

  begin_empty (world);
  send_create (world, 10, NF_FID_ROOT, "f", S_IFREG | 0644, 0);
  send_data (world, 10, 0, 4, 4, NULL);
  guint64 first = world->last.seq;
  send_data (world, 10, 0, 4, 4, NULL);
  answer_fetch (world, 10, "1111", first);
  expect_file (world, "f", "");
  answer_fetch (world, 10, "2222", world->last.seq);
  expect_file (world, "f", "2222");
  cr_assert_eq (told (world), world->last.seq);
  world_free (world);
}

Test (replica, content_ahead_of_the_ops_waits_for_them)
{
  World *world = world_new ();

  begin_empty (world);
  send_create (world, 10, NF_FID_ROOT, "f", S_IFREG | 0644, 0);
  send_data (world, 10, 0, 4, 4, NULL);
  answer_fetch (world, 10, "22", world->last.seq + 1);
  expect_file (world, "f", "");
  send_data (world, 10, 0, 2, 2, "22");
  expect_file (world, "f", "22");
  cr_assert_eq (told (world), world->last.seq);
  world_free (world);
}

Test (replica, inline_data_over_fetched_data_keeps_its_order)
{
  World *world = world_new ();

  begin_empty (world);
  send_create (world, 10, NF_FID_ROOT, "f", S_IFREG | 0644, 0);
  send_data (world, 10, 0, 8, 8, NULL);
  guint64 first = world->last.seq;
  send_data (world, 10, 2, 2, 8, "xy");
  answer_fetch (world, 10, "AAAAAAAA", first);
  expect_file (world, "f", "AAxyAAAA");
  world_free (world);
}

Test (replica, an_op_that_failed_at_the_primary_is_not_applied)
{
  World *world = world_new ();
  NfRecord record = { .kind = NF_OP_NAMES,
                      .n_names = 1,
                      .names = { { NF_FID_ROOT, nf_slice_str ("f"), 10, S_IFREG } },
                      .creates = TRUE,
                      .fid = 10,
                      .attr = make_attr (10, S_IFREG | 0644, 0) };
  NfRecord abort_record = { .kind = NF_OP_ABORT };

  begin_empty (world);
  send_op (world, &record, nf_slice_str ("A"));
  abort_record.aborted = world->last.seq;
  send_op (world, &abort_record, NF_SLICE_NONE);
  cr_assert_not (exists (world, "f"));
  cr_assert_eq (told (world), world->last.seq);
  world_free (world);
}

Test (replica, it_goes_on_after_a_restart)
{
  World *world = world_new ();

  begin_empty (world);
  send_create (world, 10, NF_FID_ROOT, "f", S_IFREG | 0644, 0);
  send_data (world, 10, 0, 3, 3, NULL);
  guint64 seq = world->last.seq;
  nf_sim_close (world->site);
  g_ptr_array_set_size (world->primary->inbox, 0);
  open_replica (world);
  nf_sim_connect (world->sim, "a", "b");
  run (world);
  g_autoptr (NfMsg) subscribe = take (world, NF_MSG_SUBSCRIBE);
  cr_assert (subscribe != NULL);
  cr_assert_eq (subscribe->subscribe.position.seq, seq);
  cr_assert_eq (subscribe->subscribe.position.chain, world->last.chain);
  send_subscribed (world, NF_VERDICT_CONTINUE, world->last);
  answer_fetch (world, 10, "abc", seq);
  expect_file (world, "f", "abc");
  cr_assert_eq (told (world), seq);
  world_free (world);
}

Test (replica, what_the_listing_does_not_name_goes_and_strangers_to_quarantine)
{
  World *world = world_new ();

  begin_empty (world);
  send_create (world, 10, NF_FID_ROOT, "f", S_IFREG | 0644, 0);
  send_create (world, 11, NF_FID_ROOT, "g", S_IFREG | 0644, 0);
  g_autofree char *stranger = g_build_filename (world->dir, "stranger", NULL);
  cr_assert (g_file_set_contents (stranger, "x", 1, NULL));
  nf_sim_cut (world->sim, "a", "b");
  nf_sim_connect (world->sim, "a", "b");
  run (world);
  world->last.seq += 1000;
  send_subscribed (world, NF_VERDICT_COMPARE, world->last);
  NfDirEntry entry = { .name = nf_slice_str ("g"), .attr = make_attr (11, S_IFREG | 0600, 0) };
  answer_list (world, make_attr (NF_FID_ROOT, S_IFDIR | 0755, 0), &entry, 1);
  cr_assert_not (exists (world, "f"));
  cr_assert (exists (world, "g"));
  cr_assert_not (exists (world, "stranger"));
  g_autofree char *quarantine = g_build_filename (world->dir, ".nearfs", "quarantine", NULL);
  g_autoptr (GDir) kept = g_dir_open (quarantine, 0, NULL);
  cr_assert (kept && g_dir_read_name (kept) != NULL, "the stranger was thrown away");
  world_free (world);
}

Test (replica, a_gap_makes_it_subscribe_anew)
{
  World *world = world_new ();

  begin_empty (world);
  world->last.seq++;
  send_create (world, 10, NF_FID_ROOT, "f", S_IFREG | 0644, 0);
  cr_assert_not (exists (world, "f"));
  g_autoptr (NfMsg) first = take (world, NF_MSG_SUBSCRIBE);
  g_autoptr (NfMsg) again = take (world, NF_MSG_SUBSCRIBE);
  cr_assert (again != NULL || first != NULL);
  world_free (world);
}

Test (replica, suspects_are_not_served)
{
  World *world = world_new ();
  NfMsg lookup = { .type = NF_MSG_LOOKUP };
  NfMsg answer;

  begin_empty (world);
  send_create (world, 10, NF_FID_ROOT, "f", S_IFREG | 0644, 6);
  lookup.head.share = 7;
  lookup.lookup.parent = NF_FID_ROOT;
  lookup.lookup.name = nf_slice_str ("f");
  cr_assert_eq (nf_sim_call (world->site, &lookup, &answer), 0);
  cr_assert_eq (answer.answer.attr.size, 6);
  nf_msg_clear (&answer);
  NfShareStatus status;
  nf_share_status (world->site->share, &status);
  cr_assert_eq (status.suspects, 1);
  answer_fetch (world, 10, "filled", world->last.seq);
  expect_file (world, "f", "filled");
  nf_share_status (world->site->share, &status);
  cr_assert_eq (status.suspects, 0);
  world_free (world);
}

Test (replica, what_only_it_had_is_kept_when_the_primary_is_behind_it)
{
  World *world = world_new ();
  NfPosition before = world->last;

  begin_empty (world);
  send_create (world, 10, NF_FID_ROOT, "f", S_IFREG | 0644, 0);
  send_data (world, 10, 0, 4, 4, "mine");
  nf_sim_cut (world->sim, "a", "b");
  nf_sim_connect (world->sim, "a", "b");
  run (world);
  world->last = before;
  world->last.epoch++;
  send_subscribed (world, NF_VERDICT_COMPARE, world->last);
  answer_list (world, make_attr (NF_FID_ROOT, S_IFDIR | 0755, 0), NULL, 0);
  cr_assert_not (exists (world, "f"));
  g_autofree char *quarantine = g_build_filename (world->dir, ".nearfs", "quarantine", NULL);
  g_autoptr (GDir) kept = g_dir_open (quarantine, 0, NULL);
  cr_assert (kept && g_dir_read_name (kept) != NULL, "what only the replica had was thrown away");
  NfShareStatus status;
  nf_share_status (world->site->share, &status);
  cr_assert_eq (status.suspects, 0);
  world_free (world);
}

/* Answers a subscription, if there is one, as a primary does that has all the ops in its journal. */
static void
resume (World *world)
{
  g_autoptr (NfMsg) subscribe = take (world, NF_MSG_SUBSCRIBE);

  if (!subscribe)
    return;
  NfPosition position = subscribe->subscribe.position;
  cr_assert_geq (position.seq, 100);
  send_subscribed (world, NF_VERDICT_CONTINUE, position);
  for (guint i = (guint)(position.seq - 100); i < world->ops->len; i++)
    nf_sim_send (world->sim, "a", "b", FALSE, world->ops->pdata[i]);
}

/* A filesystem of that size of its own for the replica; it goes with the process's mount namespace, if not before. */
static void
mount_small (World *world, const char *options)
{
  if (geteuid () != 0)
    cr_skip_test ("needs root, to mount a small filesystem");
  nf_sim_close (world->site);
  cr_assert_eq (mount ("small", world->dir, "tmpfs", 0, options), 0, "%s", g_strerror (errno));
  open_replica (world);
}

Test (replica, without_space_it_waits_and_drops_nothing)
{
  World *world = world_new ();
  g_autofree char *data = g_strnfill (60000, 'x');
  NfShareStatus status;

  mount_small (world, "size=2m");
  begin_empty (world);
  send_create (world, 10, NF_FID_ROOT, "f", S_IFREG | 0644, 0);
  for (guint i = 0; i < 50; i++)
    send_data (world, 10, i * 60000, 60000, (i + 1) * 60000, data);
  nf_share_status (world->site->share, &status);
  cr_assert_str_eq (status.state, "no space");
  cr_assert_lt (status.position.seq, world->last.seq);
  cr_assert_eq (mount (NULL, world->dir, NULL, MS_REMOUNT, "size=32m"), 0, "%s",
                g_strerror (errno));
  for (guint i = 0; i < 200; i++)
    {
      resume (world);
      run (world);
    }
  nf_share_status (world->site->share, &status);
  cr_assert_str_neq (status.state, "no space");
  cr_assert_eq (status.position.seq, world->last.seq,
                "at %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT, status.position.seq,
                world->last.seq);
  g_autofree char *content = read_file (world, "f");
  cr_assert_eq (strlen (content), 50 * 60000);
  nf_sim_close (world->site);
  cr_assert_eq (umount2 (world->dir, MNT_DETACH), 0);
  world_free (world);
}
