// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "net/buf.h"
#include "net/proto.h"

/* A journal record: one op. Ops are assignments (DESIGN 3): a record says what *is* from here on,
 * of things that have an identity, so that replaying it over a newer state and then going on to the
 * end leads to the same tree. The same bytes lie in the journal of each site and cross the wire in
 * OP.
 *
 * No record bears file data: DATA names a range, whose bytes travel beside the record or are
 * fetched. */

#define NF_RECORD_MAX (NF_XATTR_MAX + 16 * 1024)

typedef enum
{
  NF_OP_NAMES = 1, /* names[0..n_names): name (parent, name) is fid, or nothing; creates the object
                      if `creates` */
  NF_OP_ATTR = 2,  /* attributes `mask` (NF_SET_*) of fid are those in attr */
  NF_OP_XATTR = 3, /* xattr `xname` of fid is `value`, or nothing if `removes` */
  NF_OP_DATA = 4,  /* range of fid has new content; size and mtime of the file afterwards in attr */
  NF_OP_ABORT = 5, /* op `aborted` failed at the primary after it was appended: it had no effect */
  NF_OP_EPOCH = 6, /* a reign begins */
} NfOpKind;

/* What the range of NF_OP_DATA is. */
typedef enum
{
  NF_RANGE_DATA = 0,  /* bytes, beside the record or to be fetched */
  NF_RANGE_HOLE = 1,  /* reads as zeros, no space */
  NF_RANGE_ZERO = 2,  /* reads as zeros, with space */
  NF_RANGE_ALLOC = 3, /* content as before, space reserved */
} NfRangeKind;

typedef struct
{
  NfFid parent;
  NfSlice name;
  NfFid fid;    /* NF_FID_NONE: the name is gone */
  guint32 mode; /* type bits of fid, so that a replica that doesn't have it can put a placeholder
                   there */
} NfNameIs;

typedef struct
{
  guint64 epoch;
  guint64 seq;
  gint64 time; /* the primary's, ns; also the mtime of the parents in NAMES */
  NfOpKind kind;
  NfSlice
      site; /* who asked for it, and under which request id; empty and 0 for the primary's own */
  guint64 reqid;
  NfSlice
      path; /* of the first name, or of fid, as it was; for reading and for speed, never believed */

  guint n_names;
  NfNameIs names[2];
  gboolean creates; /* names[0] is a new object with `attr` and, for a symlink, `target` */
  NfSlice target;

  NfFid fid; /* ATTR, XATTR, DATA; for NAMES: the object created or named first (so each record has
                one) */
  guint32 mask;
  NfAttr attr;

  NfSlice xname;
  NfSlice value;
  gboolean removes;

  guint64 offset;
  guint64 length;
  NfRangeKind range;

  guint64 aborted;
} NfRecord;

void nf_record_encode (const NfRecord *record, NfBuf *buf);
/* FALSE if BYTES isn't a record: any bound, kind, name or length wrong, or bytes left over. Slices
 * of RET_RECORD point into BYTES. */
gboolean nf_record_decode (NfSlice bytes, NfRecord *ret_record);
/* The chain after a record with these BYTES that follows one with chain PREVIOUS. */
guint64 nf_record_chain (guint64 previous, NfSlice bytes);
/* One readable line for `nearfs log` and for DEBUG. Owned by the caller. */
char *nf_record_describe (const NfRecord *record);
