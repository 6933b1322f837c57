// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/at-hand.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static const NfIdent some_ident = { .ino = 7, .btime = 1000 };

static int
some_fd (void)
{
  int fd = open ("/dev/null", O_RDWR | O_CLOEXEC);

  cr_assert_geq (fd, 0);
  return fd;
}

static gboolean
is_open (int fd)
{
  return fcntl (fd, F_GETFD) >= 0 || errno != EBADF;
}

Test (at_hand, a_file_is_found_by_its_fid_and_identity)
{
  g_auto (NfAtHand) hand = { 0 };
  NfObject object = { .fid = 5, .ident = some_ident };
  int fd = some_fd ();

  cr_assert_eq (nf_at_hand_find (&hand, &object), -1);
  nf_at_hand_take (&hand, 5, some_ident, fd);
  cr_assert_eq (nf_at_hand_find (&hand, &object), fd);
}

Test (at_hand, what_the_fid_was_before_is_another_file)
{
  g_auto (NfAtHand) hand = { 0 };
  NfObject switched_in = { .fid = 5, .ident = { .ino = 8, .btime = 1000 } };
  NfObject made_anew = { .fid = 5, .ident = { .ino = 7, .btime = 1001 } };

  nf_at_hand_take (&hand, 5, some_ident, some_fd ());
  cr_assert_eq (nf_at_hand_find (&hand, &switched_in), -1);
  cr_assert_eq (nf_at_hand_find (&hand, &made_anew), -1);
}

Test (at_hand, the_oldest_is_closed_for_one_too_many)
{
  g_auto (NfAtHand) hand = { 0 };
  int fds[NF_AT_HAND_MAX + 1];

  for (guint i = 0; i <= NF_AT_HAND_MAX; i++)
    {
      fds[i] = some_fd ();
      nf_at_hand_take (&hand, i + 2, some_ident, fds[i]);
    }
  cr_assert_not (is_open (fds[0]));
  for (guint i = 1; i <= NF_AT_HAND_MAX; i++)
    {
      NfObject object = { .fid = i + 2, .ident = some_ident };
      cr_assert_eq (nf_at_hand_find (&hand, &object), fds[i]);
    }
}

Test (at_hand, nothing_stays_open_when_all_is_let_go)
{
  NfAtHand hand = { 0 };
  NfObject object = { .fid = 5, .ident = some_ident };
  int fd = some_fd ();

  nf_at_hand_take (&hand, 5, some_ident, fd);
  nf_at_hand_let_go (&hand);
  cr_assert_not (is_open (fd));
  cr_assert_eq (nf_at_hand_find (&hand, &object), -1);
  nf_at_hand_let_go (&hand);
}
