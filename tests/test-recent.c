// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>

#include "sync/recent.h"

static gboolean
is_kept (NfRecent *recent, guint64 seq)
{
  g_autoptr (GBytes) bytes = nf_recent_get (recent, seq);

  return bytes != NULL;
}

Test (recent, what_all_have_is_forgotten)
{
  NfRecent *recent = nf_recent_new ();

  for (guint64 seq = 1; seq <= 4; seq++)
    nf_recent_put (recent, seq, g_bytes_new ("data", 4));
  nf_recent_forget (recent, 2);
  cr_assert_not (is_kept (recent, 1));
  cr_assert_not (is_kept (recent, 2));
  cr_assert (is_kept (recent, 3));
  cr_assert (is_kept (recent, 4));
  nf_recent_free (recent);
}

Test (recent, the_oldest_goes_when_there_is_too_much)
{
  NfRecent *recent = nf_recent_new ();
  const guint n = NF_RECENT_MAX / NF_RECENT_ITEM_MAX;

  for (guint64 seq = 1; seq <= n; seq++)
    nf_recent_put (recent, seq,
                   g_bytes_new_take (g_malloc0 (NF_RECENT_ITEM_MAX), NF_RECENT_ITEM_MAX));
  cr_assert_not (is_kept (recent, 1));
  cr_assert (is_kept (recent, n));
  nf_recent_free (recent);
}
