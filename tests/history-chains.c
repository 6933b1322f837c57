// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "tests/history-private.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* Chains of calls: each does one after the other what a program would, and knows what it has to find. Several are under
 * way at a time. */

#define DOC_LEN (20 * 1024)
#define KEEP_LEN_MAX 12000
#define OWN_LEN 600
#define CHAINS 6

typedef struct Chain Chain;
struct Chain
{
  Run *run;
  guint site;
  guint step;
  gboolean waiting;
  gboolean over;
  int status;
  NfFid fid;
  NfFile *file; /* open for writing, if this history has handles */
  guint64 id;
  guint32 len;
  gboolean sync;
  guint64 seen;  /* in the second of two files */
  guint cuts;    /* of links, when it wrote */
  guint opening; /* of its site, when it looked up */
  void (*go) (Chain *chain);
};

static void
chain_new (Run *run, void (*go) (Chain *chain))
{
  Chain *chain = g_new0 (Chain, 1);

  chain->run = run;
  chain->go = go;
  chain->site = nf_world_chance (run->world, NF_WORLD_SITES);
  chain->id = ++run->ledger->next_id;
  chain->sync = nf_world_chance (run->world, 2) == 0;
  chain->len = 8 * (1 + nf_world_chance (run->world, KEEP_LEN_MAX / 8));
  g_ptr_array_add (run->chains, chain);
}

static void
fill (guint8 *buffer, guint64 id, guint32 len)
{
  for (guint32 i = 0; i < len; i += sizeof id)
    memcpy (buffer + i, &id, sizeof id);
}

guint64
nf_history_id_of (const guint8 *data, gsize len)
{
  guint64 id;

  if (len < sizeof id || len % sizeof id != 0)
    return 0;
  memcpy (&id, data, sizeof id);
  for (gsize i = 0; i < len; i += sizeof id)
    if (memcmp (data + i, &id, sizeof id) != 0)
      return 0;
  return id;
}

static void
answered (gpointer data, int status, const NfMsg *answer)
{
  Chain *chain = data;

  chain->waiting = FALSE;
  chain->status = status;
  if (status == 0 && answer && answer->type == NF_MSG_ANSWER && chain->fid == NF_FID_NONE)
    chain->fid = answer->answer.attr.fid;
}

static void
chain_call (Chain *chain, NfMsg *msg, NfCallDone done)
{
  NfShare *share = chain->run->world->sites[chain->site]->share;

  msg->head.share = 7;
  msg->head.uid = getuid ();
  msg->head.gid = getgid ();
  chain->waiting = TRUE;
  if (chain->file && msg->type != NF_MSG_RENAME)
    nf_file_call (chain->file, msg, done, chain, NULL);
  else
    nf_share_call (share, msg, done, chain, NULL);
}

/* Older seeds don't know of them. */
static gboolean
has_handles (const Chain *chain)
{
  return (chain->run->history.kinds & NF_KIND_REVIVE) != 0;
}

static void
chain_create (Chain *chain, const char *name)
{
  NfMsg msg = { .type = NF_MSG_CREATE };

  chain->fid = NF_FID_NONE;
  msg.create.parent = NF_FID_ROOT;
  msg.create.name = nf_slice_str (name);
  msg.create.mode = 0644;
  msg.create.flags = has_handles (chain) ? NF_CREATE_HOLD : 0;
  chain_call (chain, &msg, answered);
}

static void
opened (gpointer data, int status, NfFile *file)
{
  Chain *chain = data;

  chain->waiting = FALSE;
  chain->status = status;
  chain->file = file;
}

/* FALSE: it needs no handle, or has it. Whoever has none isn't told that a write has failed. */
static gboolean
chain_opens (Chain *chain)
{
  if (!has_handles (chain) || chain->file)
    return FALSE;
  chain->waiting = TRUE;
  nf_share_open_file (chain->run->world->sites[chain->site]->share, chain->fid, O_RDWR, TRUE,
                      opened, chain);
  return TRUE;
}

/* Of what the disk had no room for all, a part is written. */
static void
has_written (gpointer data, int status, const NfMsg *answer)
{
  Chain *chain = data;

  answered (data, status, NULL);
  if (status == 0 && answer->answer.value != chain->len)
    chain->status = -ENOSPC;
}

static void
chain_write (Chain *chain, guint32 len)
{
  NfMsg msg = { .type = NF_MSG_WRITE };
  g_autofree guint8 *data = g_malloc (len);

  chain->len = len;
  fill (data, chain->id, len);
  msg.write.fid = chain->fid;
  msg.write.data = nf_slice (data, len);
  chain_call (chain, &msg, has_handles (chain) ? has_written : answered);
}

static void
chain_flush (Chain *chain, gboolean sync)
{
  chain->waiting = TRUE;
  nf_share_flush (chain->run->world->sites[chain->site]->share, chain->fid, chain->file, sync,
                  FALSE, answered, chain);
}

static void
chain_read (Chain *chain, guint32 len, NfCallDone done)
{
  NfMsg msg = { .type = NF_MSG_READ };

  msg.read.fid = chain->fid;
  msg.read.size = len;
  chain_call (chain, &msg, done);
}

static void
has_size (gpointer data, int status, const NfMsg *answer)
{
  Chain *chain = data;

  answered (data, status, NULL);
  if (status != 0 || answer->answer.attr.size == chain->len)
    return;
  if (chain->file)
    nf_world_fail ("G4: %s is told that %u bytes of %" G_GUINT64_FORMAT
                   " are written, and has %" G_GUINT64_FORMAT,
                   nf_world_sites[chain->site], chain->len, chain->id, answer->answer.attr.size);
  chain->status = -EIO;
}

static void
chain_check_size (Chain *chain)
{
  NfMsg msg = { .type = NF_MSG_GETATTR };

  msg.getattr.fid = chain->fid;
  chain_call (chain, &msg, has_size);
}

static void
chain_look_up (Chain *chain, const char *name)
{
  NfMsg msg = { .type = NF_MSG_LOOKUP };

  chain->fid = NF_FID_NONE;
  msg.lookup.parent = NF_FID_ROOT;
  msg.lookup.name = nf_slice_str (name);
  chain_call (chain, &msg, answered);
}

/* ---- what is kept (G4, G6) ---- */

void
nf_history_kept_name (guint64 id, char *ret_name)
{
  g_snprintf (ret_name, NF_HISTORY_NAME_LEN, "k%" G_GUINT64_FORMAT, id);
}

static void
keep (Chain *chain)
{
  Ledger *ledger = chain->run->ledger;
  char name[NF_HISTORY_NAME_LEN];

  chain->over = chain->status != 0;
  if (chain->over)
    return;
  nf_history_kept_name (chain->id, name);
  switch (chain->step++)
    {
    case 0:
      chain_create (chain, name);
      break;
    case 1:
      if (chain_opens (chain))
        chain->step = 1;
      else
        chain_write (chain, chain->len);
      break;
    case 2:
      chain_flush (chain, chain->sync);
      break;
    case 3:
      chain_check_size (chain);
      break;
    default:
      chain->over = TRUE;
      if (ledger->n_kept == KEPT_MAX)
        break;
      ledger->kept[ledger->n_kept++] = (Kept){ chain->id, chain->len, chain->sync, MUST_ALL };
      if (chain->sync)
        ledger->counts.n_synced++;
      else
        ledger->counts.n_acked++;
      break;
    }
}

/* ---- documents (G2) ---- */

static void
save (Chain *chain)
{
  NfMsg msg = { .type = NF_MSG_RENAME };
  char name[NF_HISTORY_NAME_LEN];

  chain->over = chain->status != 0;
  if (chain->over)
    return;
  g_snprintf (name, sizeof name, "t%" G_GUINT64_FORMAT, chain->id);
  switch (chain->step++)
    {
    case 0:
      chain_create (chain, name);
      break;
    case 1:
      if (chain_opens (chain))
        chain->step = 1;
      else
        chain_write (chain, DOC_LEN);
      break;
    case 2:
      /* As on any disk, a power cut can leave a name without what wasn't fsynced. */
      chain_flush (chain, chain->sync || (chain->run->history.kinds & NF_KIND_POWER));
      break;
    case 3:
      chain_check_size (chain);
      break;
    case 4:
      msg.rename.parent = msg.rename.newparent = NF_FID_ROOT;
      msg.rename.name = nf_slice_str (name);
      msg.rename.newname = nf_slice_str ("doc");
      chain_call (chain, &msg, answered);
      break;
    default:
      chain->over = TRUE;
      break;
    }
}

static void
document_read (gpointer data, int status, const NfMsg *answer)
{
  Chain *chain = data;

  answered (data, status, NULL);
  if (status != 0)
    return;
  NfSlice is = answer->answer.data;
  chain->run->ledger->counts.n_reads++;
  if (is.len != DOC_LEN || nf_history_id_of (is.data, is.len) == 0)
    nf_world_fail ("G2: %s reads a document of %zu bytes that isn't one version",
                   nf_world_sites[chain->site], is.len);
}

static void
read_document (Chain *chain)
{
  guint opening = chain->run->world->openings[chain->site];

  /* What was looked up before a restart nobody has any more: the new life may show an older state. */
  chain->over
      = chain->status != 0 || chain->step == 2 || (chain->step > 0 && chain->opening != opening);
  if (chain->over)
    return;
  chain->opening = opening;
  if (chain->step++ == 0)
    chain_look_up (chain, "doc");
  else
    chain_read (chain, DOC_LEN + 1, document_read);
}

/* ---- read your writes (G3) ---- */

static void
own_read (gpointer data, int status, const NfMsg *answer)
{
  Chain *chain = data;

  answered (data, status, NULL);
  if (status != 0)
    return;
  NfSlice is = answer->answer.data;
  chain->run->ledger->counts.n_reads++;
  guint64 id = nf_history_id_of (is.data, is.len);
  gboolean may_have_failed
      = (chain->run->history.kinds & (NF_KIND_FULL | NF_KIND_EIO))
        || chain->cuts != nf_sim_cuts (chain->run->world->sim)
        || !nf_sim_connected (chain->run->world->sim, "a", nf_world_sites[chain->site]);
  /* That there is no room, or no link, is found out only after the write has returned. */
  if (!(may_have_failed && chain->site != 0) && (is.len != OWN_LEN || id < chain->id))
    nf_world_fail ("G3: %s wrote %" G_GUINT64_FORMAT " and reads %" G_GUINT64_FORMAT " (%zu bytes)",
                   nf_world_sites[chain->site], chain->id, id, is.len);
}

static void
write_own (Chain *chain)
{
  char name[NF_HISTORY_NAME_LEN];

  chain->over = chain->status != 0 || chain->step == 3;
  if (chain->over)
    return;
  g_snprintf (name, sizeof name, "own-%s", nf_world_sites[chain->site]);
  switch (chain->step++)
    {
    case 0:
      chain_create (chain, name);
      break;
    case 1:
      chain->id = ++chain->run->ledger->next_id; /* the greatest yet, whoever began first */
      chain->cuts = nf_sim_cuts (chain->run->world->sim);
      chain_write (chain, OWN_LEN);
      break;
    case 2:
      chain_read (chain, OWN_LEN + 1, own_read);
      break;
    default:
      break;
    }
}

/* ---- one after the other (G2) ---- */

/* At the primary, where a write that returns has been done. */
static void
write_in_turn (Chain *chain)
{
  Run *run = chain->run;

  if (chain->step == 0)
    {
      chain->over = run->in_turn || run->world->sites[0]->dead;
      chain->site = 0;
      run->in_turn = TRUE;
    }
  if (chain->over)
    return;
  if (chain->status != 0 || chain->step == 6)
    {
      chain->over = TRUE;
      run->in_turn = FALSE;
      return;
    }
  switch (chain->step++ % 3)
    {
    case 0:
      if (chain->step == 1)
        chain->id = ++run->ledger->next_id;
      chain_create (chain, chain->step == 1 ? "first" : "second");
      break;
    case 1:
      chain_write (chain, sizeof chain->id);
      break;
    default:
      /* A power cut may take the one and not the other, of what wasn't fsynced. */
      chain_flush (chain, run->history.kinds & NF_KIND_POWER);
      break;
    }
}

/* A site that catches up may have one file newer than another, and says so. */
static gboolean
is_in_step (const Chain *chain)
{
  NfShareStatus status;

  nf_share_status (chain->run->world->sites[chain->site]->share, &status);
  return chain->site == 0 || g_str_equal (status.state, "in step");
}

static void
in_turn_read (gpointer data, int status, const NfMsg *answer)
{
  Chain *chain = data;

  answered (data, status, NULL);
  chain->over = status != 0 || !is_in_step (chain);
  if (chain->over)
    return;
  NfSlice is = answer->answer.data;
  guint64 id = nf_history_id_of (is.data, is.len);
  chain->run->ledger->counts.n_reads++;
  if (chain->step == 4 && id < chain->seen)
    nf_world_fail ("G2: %s reads %" G_GUINT64_FORMAT
                   " in the second file and then %" G_GUINT64_FORMAT " in the first",
                   nf_world_sites[chain->site], chain->seen, id);
  chain->seen = id;
}

static void
read_in_turn (Chain *chain)
{
  chain->over = chain->over || chain->status != 0 || chain->step == 4;
  if (chain->over)
    return;
  switch (chain->step++)
    {
    case 0:
      chain_look_up (chain, "second");
      break;
    case 2:
      chain_look_up (chain, "first");
      break;
    default:
      chain_read (chain, sizeof chain->id + 1, in_turn_read);
      break;
    }
}

/* ---- all of them ---- */

void
nf_history_forget_handles (gpointer data, guint site)
{
  Run *run = data;

  for (guint i = 0; i < run->chains->len; i++)
    {
      Chain *chain = run->chains->pdata[i];
      if (chain->site != site || !chain->file)
        continue;
      NfFile *file = g_steal_pointer (&chain->file);
      chain->over = TRUE;
      if (!chain->waiting) /* else it is lost with the site: its call will be answered yet */
        nf_file_close (file);
    }
}

void
nf_history_begin_chain (Run *run)
{
  static void (*const kinds[]) (Chain *)
      = { keep, keep, save, read_document, write_own, write_in_turn, read_in_turn };

  if (run->chains->len < CHAINS)
    chain_new (run, kinds[nf_world_chance (run->world, G_N_ELEMENTS (kinds))]);
}

void
nf_history_chains_go_on (Run *run)
{
  for (guint i = run->chains->len; i > 0; i--)
    {
      Chain *chain = run->chains->pdata[i - 1];
      if (run->world->sites[chain->site]->dead)
        {
          chain->file = NULL;
          chain->over = TRUE; /* nobody is told; it may be answered yet, so it stays */
          run->in_turn = run->in_turn && chain->go != write_in_turn;
        }
      else if (!chain->waiting && !chain->over)
        chain->go (chain);
      if (!chain->over)
        continue;
      if (chain->file)
        nf_file_close (g_steal_pointer (&chain->file));
      g_ptr_array_remove_index_fast (run->chains, i - 1); /* freed with the life */
    }
}
