// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <json-glib/json-glib.h>

#include "map/site.h"

/* The verbs' side of the daemon's socket; see control.h for what goes over it. */

#define NF_CLIENT_ERROR (nf_client_error_quark ())
GQuark nf_client_error_quark (void);

typedef enum
{
  NF_CLIENT_ERROR_NO_DAEMON, /* the message says how to start it */
  NF_CLIENT_ERROR_REFUSED,   /* the daemon's own words */
  NF_CLIENT_ERROR_LOST       /* it ended before it had answered */
} NfClientError;

/* The site's configuration: PATH, or where it lies by default. SITE (may be NULL): its name, if
 * the file has none. The caller owns a reference. */
NfSiteConf *nf_client_conf (const char *path, const char *site, GError **error);

/* A line that comes before the answer. */
typedef void (*NfClientLine) (JsonObject *line, gpointer data);

typedef struct
{
  JsonObject *request; /* taken */
  NfClientLine line;   /* may be NULL */
  gpointer data;
  gboolean until_end; /* return only when the daemon has ended after its answer */
} NfClientAsk;

/* Asks the daemon of CONF. RET_RESULT (may be NULL): what it answered, NULL if nothing; the
 * caller owns it. */
gboolean nf_client_ask (const NfSiteConf *conf, const NfClientAsk *ask, JsonNode **ret_result,
                        GError **error);

/* A request for VERB. */
JsonObject *nf_client_request (const char *verb);
/* FALSE: a daemon of the site runs, and hasn't ended within WAIT_MS. */
gboolean nf_client_is_alone (const NfSiteConf *conf, int wait_ms);
/* Names a share in REQUEST by TARGET: its name, or a path in it. */
void nf_client_set_target (JsonObject *request, const char *target);
/* "nearfs VERB: ERROR" on standard error. Returns NF_EXIT_NO_DAEMON or 1. */
int nf_client_report (const char *verb, const GError *error);
