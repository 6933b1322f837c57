// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "net/proto.h"

/* The changes that other sites asked for, by request id, with their outcome, so that a call which is sent again
 * after a cut is carried out once. Kept until the site says that it has the answer. Thread: any. */

/* Of one site. More than a site can have under way; beyond it the oldest go. */
#define NF_ANSWERED_MAX 65536

typedef struct NfAnswered NfAnswered;

typedef struct
{
  int status; /* 0 or -errno */
  guint64 seq;
  guint64 value;
  NfAttr attr;
  gboolean rebuilt; /* from the journal: of attr only the fid is known */
  /* The process ended in between: it was appended, and perhaps not made, or not all of it. When the call comes again it is to
   * be carried out again, a write at OFFSET. */
  gboolean unsure;
  guint64 offset;
} NfAnswer;

typedef enum
{
  NF_ANSWERED_NEW,   /* carry it out, then nf_answered_end() */
  NF_ANSWERED_BUSY,  /* it is being carried out and will be answered then */
  NF_ANSWERED_KNOWN, /* it was carried out: answer this */
} NfAnsweredState;

NfAnswered *nf_answered_new (void);
void nf_answered_free (NfAnswered *answered);
/* SITE asks for REQID and has all answers up to ACKED. RET_ANSWER is set if it is known. */
NfAnsweredState nf_answered_begin (NfAnswered *answered, const char *site, guint64 reqid,
                                   guint64 acked, NfAnswer *ret_answer);
void nf_answered_end (NfAnswered *answered, const char *site, guint64 reqid,
                      const NfAnswer *answer);
