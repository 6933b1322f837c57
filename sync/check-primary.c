// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/check-primary.h"

#include <errno.h>
#include <string.h>

#include "sync/audit.h"

typedef struct
{
  NfLife *life;
  NfPrimary *primary;
  char *path;
  NfCheckOptions options;
  NfCheckEvents events;
  gpointer data;
  NfAuditCounts counts; /* grow while it runs; read without a lock, for progress only */
} Check;

static void
found (gpointer data, NfAuditKind kind, const char *path)
{
  static const struct
  {
    NfFind what;
    const char *detail;
  } kinds[] = {
    [NF_AUDIT_FOREIGN] = { NF_FIND_FOREIGN, "made behind the proxy" },
    [NF_AUDIT_NAME] = { NF_FIND_MOVED, "moved or linked behind the proxy" },
    [NF_AUDIT_LOST] = { NF_FIND_REMOVED, "removed behind the proxy" },
    [NF_AUDIT_NEWER] = { NF_FIND_CONTENT, "changed" },
  };
  const Check *check = data;
  const NfFinding finding = { kinds[kind].what, path, kinds[kind].detail, FALSE };

  check->events.found (check->data, &finding);
}

static void
translate (const Check *check, NfCheckCounts *ret_counts)
{
  const NfAuditCounts *counts = &check->counts;

  memset (ret_counts, 0, sizeof *ret_counts);
  ret_counts->entries = counts->entries;
  ret_counts->total = nf_index_count (check->primary->share->index);
  ret_counts->found = counts->foreign + counts->names + counts->lost;
  ret_counts->left = check->options.repair ? counts->lost_left : ret_counts->found;
}

static void
run (gpointer data)
{
  Check *check = data;
  NfPrimary *primary = nf_life_enter (check->life);
  NfCheckCounts counts = { 0 };
  int err = -ECANCELED;

  if (primary)
    {
      const NfAuditOptions options
          = { .path = check->path,
              .report_only = !check->options.repair,
              .newer_than = G_MAXINT64,
              .rate = (check->options.rate + NF_CHECK_ENTRY_COST - 1) / NF_CHECK_ENTRY_COST,
              .max_lost = check->options.allow_delete ? G_MAXUINT64 : nf_audit_lost_max (primary),
              .cancelled = &primary->check_cancelled,
              .found = found,
              .data = check };
      err = nf_primary_audit (primary, &options, &check->counts);
      translate (check, &counts);
      pthread_mutex_lock (&primary->check_lock);
      primary->check = NULL;
      pthread_mutex_unlock (&primary->check_lock);
      nf_life_leave (check->life);
    }
  check->events.ended (check->data, err, &counts);
  nf_life_unref (check->life);
  g_free (check->path);
  g_free (check);
}

int
nf_primary_check (NfPrimary *primary, const char *path, const NfCheckOptions *options,
                  const NfCheckEvents *events, gpointer data)
{
  NfHost *host = primary->share->host;
  Check *check = g_new0 (Check, 1);

  *check = (Check){ .primary = primary, .options = *options, .events = *events, .data = data };
  pthread_mutex_lock (&primary->check_lock);
  gboolean busy = primary->check != NULL;
  if (!busy)
    primary->check = check;
  g_atomic_int_set (&primary->check_cancelled, FALSE);
  pthread_mutex_unlock (&primary->check_lock);
  if (busy)
    {
      g_free (check);
      return -EBUSY;
    }
  check->life = nf_life_ref (primary->life);
  check->path = g_strdup (path);
  host->post (host->data, run, check);
  return 0;
}

gboolean
nf_primary_check_counts (NfPrimary *primary, NfCheckCounts *ret_counts)
{
  pthread_mutex_lock (&primary->check_lock);
  gboolean any = primary->check != NULL;
  if (any)
    translate (primary->check, ret_counts);
  pthread_mutex_unlock (&primary->check_lock);
  return any;
}

void
nf_primary_check_cancel (NfPrimary *primary)
{
  g_atomic_int_set (&primary->check_cancelled, TRUE);
}
