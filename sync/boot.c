// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include "sync/boot.h"

#include <fcntl.h>
#include <unistd.h>

/* random(4) */
#define BOOT_ID_FILE "/proc/sys/kernel/random/boot_id"

static NfBootId pretended;

NfBootId
nf_boot_id (void)
{
  NfBootId id = pretended;
  int fd = id.str[0] == '\0' ? open (BOOT_ID_FILE, O_RDONLY | O_CLOEXEC) : -1;

  if (fd < 0)
    return id;
  ssize_t len = read (fd, id.str, NF_BOOT_ID_LEN);
  id.str[MAX (len, 0)] = '\0';
  (void)close (fd);
  return id;
}

void
nf_boot_pretend (const char *id)
{
  g_strlcpy (pretended.str, id, sizeof pretended.str);
}
