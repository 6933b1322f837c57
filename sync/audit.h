// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sync/primary-internal.h"

/* The primary's tree against its index: what was done behind the proxy, or is otherwise than the index has it after a
 * power cut. What is found is taken as it is, and said to the other sites by ops: the primary's directory is right. */

typedef enum
{
  NF_AUDIT_FOREIGN, /* the index doesn't know it */
  NF_AUDIT_NAME,    /* a name of an object that the index knows under others */
  NF_AUDIT_LOST,    /* the index knows it, and it isn't there */
  NF_AUDIT_NEWER,   /* changed since `newer_than` */
} NfAuditKind;

typedef struct
{
  const char *path; /* in the share: of this and what is below it; NULL or "" for all */
  gboolean report_only;
  gint64
      newer_than; /* ctime in ns from which on content and attributes are said anew; G_MAXINT64: none */
  guint64 rate;          /* entries looked at a second, at most; 0: as fast as it goes */
  guint64 max_lost;      /* with more names lost than this, none of them is taken for removed */
  const gint *cancelled; /* atomic, or NULL */
  void (*found) (gpointer data, NfAuditKind kind, const char *path); /* or NULL */
  gpointer data;
} NfAuditOptions;

typedef struct
{
  guint64 entries; /* looked at */
  guint64 foreign;
  guint64 names;
  guint64 lost;
  guint64 lost_left; /* of these, not taken for removed */
  guint64 newer;
} NfAuditCounts;

/* Says to the other sites how FID stands, whatever they have of it. 0 (also if there is no such object) or -errno. */
int nf_primary_say_anew (NfPrimary *primary, NfFid fid);
/* For `max_lost`, where nobody has confirmed that they are to go. */
guint64 nf_audit_lost_max (NfPrimary *primary);
/* Looks through the whole share; takes as long as that takes, in this thread. Others may work on it meanwhile. COUNTS
 * grow as it goes on. 0, -ECANCELED or another -errno. */
int nf_primary_audit (NfPrimary *primary, const NfAuditOptions *options, NfAuditCounts *counts);
