// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <glib.h>

#include "map/site.h"
#include "net/hub.h"
#include "net/transport.h"

/* What the far side is asked to run; sshd's forced command, if there is one, is run instead. */
#define NF_DIAL_COMMAND "nearfs relay"
/* From the look-up of the name to the running command. */
#define NF_DIAL_TIMEOUT_MS 15000

typedef struct
{
  const char *site;
  const char *ssh; /* [user@]host or an alias of ssh_config */
  guint16 port;    /* 0: ssh_config's */
  const NfSiteConf *conf;
  NfLinkKind kind;
  guint lanes;
  int cancel_fd; /* gives up when this is readable */
  /* The far side has taken our key, as soon as that is known; may be NULL. */
  void (*accepted) (gpointer data);
  gpointer data;
} NfDialTarget;

/* Connects, and starts the relay on each lane. Blocks, up to NF_DIAL_TIMEOUT_MS and what a name
 * look-up takes. The caller owns the transport, which belongs to this thread. */
NfTransport *nf_ssh_dial (const NfDialTarget *target, GError **error);    /* by libssh */
NfTransport *nf_sshcmd_dial (const NfDialTarget *target, GError **error); /* by the ssh program */

/* "ssh-keyscan …" and the like, for messages about host keys; HOST and PORT (0: 22) as
 * known_hosts has them. */
char *nf_dial_accept_command (const NfSiteConf *conf, const char *host, guint port);
char *nf_dial_forget_command (const NfSiteConf *conf, const char *host, guint port);
