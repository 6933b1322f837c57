// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "net/proto.h"

#include <errno.h>

/* errno's numbers differ between architectures, so the wire has its own. Numbers are never
 * reused. */
/* clang-format off */
#define STATUSES(X) \
  X (1, EPERM) X (2, ENOENT) X (3, EINTR) X (4, EIO) X (5, ENXIO) X (6, E2BIG) X (7, EBADF) \
  X (8, EAGAIN) X (9, ENOMEM) X (10, EACCES) X (11, EBUSY) X (12, EEXIST) X (13, EXDEV) \
  X (14, ENODEV) X (15, ENOTDIR) X (16, EISDIR) X (17, EINVAL) X (18, ENFILE) X (19, EMFILE) \
  X (20, ETXTBSY) X (21, EFBIG) X (22, ENOSPC) X (23, EROFS) X (24, EMLINK) X (25, ERANGE) \
  X (26, EDEADLK) X (27, ENAMETOOLONG) X (28, ENOLCK) X (29, ENOSYS) X (30, ENOTEMPTY) \
  X (31, ELOOP) X (32, ENODATA) X (33, EOVERFLOW) X (34, EOPNOTSUPP) X (35, EDQUOT) \
  X (36, ESTALE) X (37, EHOSTUNREACH) X (38, ETIMEDOUT) X (39, ECANCELED) X (40, EPROTO) \
  X (41, EILSEQ) X (42, ESPIPE) X (43, ENOTTY) X (44, EFAULT) X (45, EUSERS) \
  X (46, EKEYEXPIRED) X (47, EOWNERDEAD) X (48, ECONNRESET) X (49, EREMOTEIO) \
  X (50, EBADMSG) X (51, EUCLEAN) X (52, EPIPE)
/* clang-format on */

guint32
nf_status_from_errno (int err)
{
  static const struct
  {
    guint32 status;
    int err;
  } table[] = {
#define X(number, NAME) { number, NAME },
    STATUSES (X)
#undef X
  };

  if (err == 0)
    return 0;
  if (err < 0)
    err = -err;
  for (gsize i = 0; i < G_N_ELEMENTS (table); i++)
    if (table[i].err == err)
      return table[i].status;
  return nf_status_from_errno (EIO);
}

int
nf_status_to_errno (guint32 status)
{
  switch (status)
    {
    case 0:
      return 0;
#define X(number, NAME) \
  case number:          \
    return NAME;
      STATUSES (X)
#undef X
    default:
      return EIO;
    }
}
