// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <json-glib/json-glib.h>

/* The daemon's side of "nearfs status" and its kin. Over the unix socket a client sends one
 * line, a JSON object with "verb" and the verb's arguments, and gets lines back, each a JSON
 * object too; the last has "ok", true or false, and with false an "error" for people. */

/* Clients at one time: each has a thread. */
#define NF_CONTROL_CLIENTS_MAX 64
/* A client that doesn't read for so long is dropped. */
#define NF_CONTROL_SEND_TIMEOUT_S 30

typedef struct _NfControl NfControl;
typedef struct _NfAsk NfAsk; /* one request under way; belongs to its thread */

typedef struct
{
  const char *verb;
  void (*run) (gpointer data, NfAsk *ask); /* in a thread of its own; has to answer */
} NfControlVerb;

/* VERBS ends with NULL and stays the caller's. */
NfControl *nf_control_new (const NfControlVerb *verbs, gpointer data);
/* A connection with its first line, both taken. An NfAcceptControl. Thread: any; doesn't block. */
void nf_control_take (gpointer control, int fd, char *line);
/* Takes no more requests; those under way find nf_ask_is_over() and come to their end, which is
 * waited for. */
void nf_control_stop (NfControl *control);
/* After nf_control_stop(). */
void nf_control_free (NfControl *control);

/* What was asked. Texts are the request's, NULL if there is none of that name. */
const char *nf_ask_text (NfAsk *ask, const char *name);
gint64 nf_ask_number (NfAsk *ask, const char *name, gint64 fallback);
gboolean nf_ask_flag (NfAsk *ask, const char *name);
/* The daemon stops or the client has gone. */
gboolean nf_ask_is_over (NfAsk *ask);

/* Answers. All but nf_ask_send() and nf_ask_line() are the last. */
gboolean nf_ask_send (NfAsk *ask, JsonNode *line); /* takes LINE. FALSE: the client has gone */
gboolean nf_ask_line (NfAsk *ask, const char *name, const char *text);
void nf_ask_done (NfAsk *ask);
void nf_ask_done_with (NfAsk *ask, JsonNode *result); /* takes RESULT; sent as "result" */
void nf_ask_fail (NfAsk *ask, const char *format, ...) G_GNUC_PRINTF (2, 3);
/* After the answer: nobody closes the connection but the end of this process, which the client so
 * sees. */
void nf_ask_keep_open (NfAsk *ask);
