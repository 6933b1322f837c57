// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <glib.h>

#include "net/buf.h"

/* The protocol, as one table. Structs, codecs, names and permission flags are made from it;
 * nearfs-protocol(7) is checked against it and the fuzzers are seeded from it.
 *
 * What the mount asks of a share is a message of this table too (the NF_MSG_CALL ones): the same
 * struct is filled by a FUSE handler, carried out at the primary, or sent there. */

#define NF_PROTO_VERSION 1
/* A frame's payload; above the largest call: 1 MiB of data (the largest FUSE request) and its
 * head. */
#define NF_FRAME_MAX (1024 * 1024 + 64 * 1024)
#define NF_DATA_MAX (1024 * 1024)
#define NF_NAME_LEN_MAX 255
#define NF_PATH_LEN_MAX 4095
#define NF_XATTR_MAX 65536
#define NF_LIST_MAX (NF_DATA_MAX)
#define NF_TEXT_MAX 1024
#define NF_GROUPS_MAX 64

typedef guint64 NfFid;
#define NF_FID_NONE G_GUINT64_CONSTANT (0)
#define NF_FID_ROOT G_GUINT64_CONSTANT (1)

/* Where an object stands, as stat(2) tells it; times in nanoseconds since 1970. `mode` has the
 * type bits. */
typedef struct
{
  NfFid fid;
  guint32 mode;
  guint32 nlink;
  guint32 uid;
  guint32 gid;
  guint64 rdev;
  guint64 size;
  guint64 blocks; /* of 512 bytes */
  gint64 atime;
  gint64 mtime;
  gint64 ctime;
} NfAttr;

/* A point in a share's order of ops. */
typedef struct
{
  guint64 epoch;
  guint64 seq;
  guint64 chain;
} NfPosition;

/* Who may send a message, and what it is. */
enum
{
  NF_MSG_ANY = 0,          /* any peer */
  NF_MSG_TO_PRIMARY = 1,   /* only a member of the share, to its primary */
  NF_MSG_FROM_PRIMARY = 2, /* only the share's primary */
  NF_MSG_CALL = 4,         /* bears an NfCallHead, is answered by ANSWER */
  NF_MSG_CHANGES = 8,      /* changes the share: needs the right to write */
  NF_MSG_INTERNAL = 16,    /* handled by the link layer itself */
};

/* Fields: F (kind, name). Kinds: u8 u16 u32 u64 i64, name (1..255 bytes, no '/', no NUL, not "."
 * nor ".."), path (0..4095 bytes), xname (1..255 bytes, no NUL), text (0..1024 bytes), data
 * (0..NF_DATA_MAX bytes), attr (NfAttr), pos (NfPosition). */

/* A table is read by its columns. */
/* clang-format off */
#define NF_FIELDS_LANE(F) F (u64, link_hi) F (u64, link_lo) F (u8, kind) F (u8, lane) F (u8, lanes)
#define NF_FIELDS_HELLO(F) F (u32, version) F (u64, features) F (text, site) F (text, to) F (u64, incarnation) \
  F (u64, map_serial) F (data, map_digest) F (data, shares) F (text, software)
#define NF_FIELDS_PING(F) F (u64, stamp)
#define NF_FIELDS_PONG(F) F (u64, stamp)
#define NF_FIELDS_CREDIT(F) F (u64, bytes)
#define NF_FIELDS_GOODBYE(F) F (text, reason)
#define NF_FIELDS_SWITCH(F) F (u8, unused)

#define NF_FIELDS_SUBSCRIBE(F) F (u64, share) F (pos, position) F (u8, want_data)
#define NF_FIELDS_SUBSCRIBED(F) F (u64, share) F (pos, position) F (u8, verdict) F (text, reason) F (u64, last)
#define NF_FIELDS_OP(F) F (u64, share) F (data, record) F (data, data)
#define NF_FIELDS_POSITION(F) F (u64, share) F (pos, position) F (u64, durable) F (u64, suspects) F (u8, state)
#define NF_FIELDS_FETCH(F) F (u64, share) F (u64, id) F (u64, fid) F (u64, offset) F (u64, length)
#define NF_FIELDS_FETCHED(F) F (u64, share) F (u64, id) F (u64, fid) F (u64, seq) F (u32, status) F (u64, offset) \
  F (u64, length) F (u8, flags) F (attr, attr) F (data, data)
#define NF_FIELDS_LIST(F) F (u64, share) F (u64, id) F (u64, fid) F (u8, flags) F (u64, digest)
#define NF_FIELDS_LISTED(F) F (u64, share) F (u64, id) F (u64, fid) F (u64, seq) F (u32, status) F (u8, flags) \
  F (data, entries)
#define NF_FIELDS_HASH(F) F (u64, share) F (u64, id) F (u64, fid) F (u64, offset) F (u64, length) F (u32, block)
#define NF_FIELDS_HASHED(F) F (u64, share) F (u64, id) F (u64, fid) F (u64, seq) F (u32, status) F (u64, size) \
  F (u64, offset) F (u32, block) F (data, hashes)

#define NF_FIELDS_ANSWER(F) F (u64, share) F (u64, reqid) F (u32, status) F (u64, seq) F (u64, value) F (attr, attr) \
  F (data, data)
#define NF_FIELDS_CANCEL(F) F (u64, share) F (u64, reqid)
#define NF_FIELDS_GRANTED(F) F (u64, share) F (u64, reqid) F (u32, status) F (u64, seq)
#define NF_FIELDS_LOCKS(F) F (u64, share) F (u64, session) F (u8, flags) F (data, locks)
#define NF_FIELDS_LOST(F) F (u64, share) F (u64, session)
#define NF_FIELDS_RECALL(F) F (u64, share) F (u64, fid)

#define NF_FIELDS_LOOKUP(F) F (u64, parent) F (name, name)
#define NF_FIELDS_GETATTR(F) F (u64, fid)
#define NF_FIELDS_READLINK(F) F (u64, fid)
#define NF_FIELDS_READDIR(F) F (u64, fid) F (u64, cookie) F (u32, max)
#define NF_FIELDS_READ(F) F (u64, fid) F (u64, offset) F (u32, size)
#define NF_FIELDS_GETXATTR(F) F (u64, fid) F (xname, name)
#define NF_FIELDS_LISTXATTR(F) F (u64, fid)
#define NF_FIELDS_STATFS(F) F (u64, fid)
#define NF_FIELDS_LSEEK(F) F (u64, fid) F (u64, offset) F (u32, whence)
#define NF_FIELDS_WAIT(F) F (u64, seq) F (text, sites)
#define NF_FIELDS_PEERS(F) F (u8, unused)
#define NF_FIELDS_CREATE(F) F (u64, parent) F (name, name) F (u32, mode) F (u32, flags)
#define NF_FIELDS_MKDIR(F) F (u64, parent) F (name, name) F (u32, mode)
#define NF_FIELDS_MKNOD(F) F (u64, parent) F (name, name) F (u32, mode) F (u64, rdev)
#define NF_FIELDS_SYMLINK(F) F (u64, parent) F (name, name) F (path, target)
#define NF_FIELDS_LINK(F) F (u64, fid) F (u64, parent) F (name, name)
#define NF_FIELDS_UNLINK(F) F (u64, parent) F (name, name)
#define NF_FIELDS_RMDIR(F) F (u64, parent) F (name, name)
#define NF_FIELDS_RENAME(F) F (u64, parent) F (name, name) F (u64, newparent) F (name, newname) F (u32, flags)
#define NF_FIELDS_SETATTR(F) F (u64, fid) F (u32, mask) F (attr, attr)
#define NF_FIELDS_WRITE(F) F (u64, fid) F (u64, offset) F (u32, flags) F (data, data)
#define NF_FIELDS_FALLOCATE(F) F (u64, fid) F (u32, mode) F (u64, offset) F (u64, length)
#define NF_FIELDS_COPY(F) F (u64, from) F (u64, from_offset) F (u64, fid) F (u64, offset) F (u64, length)
#define NF_FIELDS_SETXATTR(F) F (u64, fid) F (xname, name) F (u32, flags) F (data, value)
#define NF_FIELDS_REMOVEXATTR(F) F (u64, fid) F (xname, name)
#define NF_FIELDS_FSYNC(F) F (u64, fid) F (u8, datasync) F (u64, since_epoch) F (u64, since_seq)
#define NF_FIELDS_LOCK(F) F (u64, fid) F (u64, owner) F (u8, kind) F (u8, type) F (u8, how) F (u64, start) F (u64, end)
#define NF_FIELDS_RETURN(F) F (u64, fid) F (data, locks)
#define NF_FIELDS_HOLD(F) F (u64, fid)
#define NF_FIELDS_DROP(F) F (u64, fid)

/* X (number on the wire, NAME, member of NfMsg, flags). Numbers are never reused. */
#define NF_MESSAGES(X)                                                                                                 \
  X (1, LANE, lane, NF_MSG_INTERNAL)                   /* first on each stream: which link and lane this is */          \
  X (2, HELLO, hello, NF_MSG_ANY)                      /* greeting, first on each link, both ways */                    \
  X (3, PING, ping, NF_MSG_INTERNAL)                                                                                   \
  X (4, PONG, pong, NF_MSG_INTERNAL)                                                                                   \
  X (5, CREDIT, credit, NF_MSG_INTERNAL)               /* the receiver has taken in this many bytes more */             \
  X (6, GOODBYE, goodbye, NF_MSG_INTERNAL)             /* why the sender hangs up */                                    \
  X (7, SWITCH, switched, NF_MSG_INTERNAL)             /* on ops: my bulk messages come on the bulk link from here */   \
  X (16, SUBSCRIBE, subscribe, NF_MSG_TO_PRIMARY)      /* send me what comes after this position */                    \
  X (17, SUBSCRIBED, subscribed, NF_MSG_FROM_PRIMARY)  /* where the ops begin, and whether to compare first */          \
  X (18, OP, op, NF_MSG_FROM_PRIMARY)                  /* one journal record, small data with it */                    \
  X (19, POSITION, position, NF_MSG_TO_PRIMARY)        /* what I have applied */                                       \
  X (20, FETCH, fetch, NF_MSG_TO_PRIMARY)              /* a range of a file as it stands */                            \
  X (21, FETCHED, fetched, NF_MSG_FROM_PRIMARY)                                                                        \
  X (22, LIST, list, NF_MSG_TO_PRIMARY)                /* an object's state and, of a directory, its entries */         \
  X (23, LISTED, listed, NF_MSG_FROM_PRIMARY)                                                                          \
  X (24, HASH, hash, NF_MSG_TO_PRIMARY)                /* hashes of a file's blocks */                                 \
  X (25, HASHED, hashed, NF_MSG_FROM_PRIMARY)                                                                          \
  X (32, ANSWER, answer, NF_MSG_FROM_PRIMARY)                                                                          \
  X (33, CANCEL, cancel, NF_MSG_TO_PRIMARY)                                                                            \
  X (34, GRANTED, granted, NF_MSG_FROM_PRIMARY)        /* what became of a lock that waited */                         \
  X (35, LOCKS, locks, NF_MSG_TO_PRIMARY)              /* all locks that this site has, with each new link */          \
  X (36, LOST, lost, NF_MSG_FROM_PRIMARY)              /* it has them no more */                                       \
  X (37, RECALL, recall, NF_MSG_FROM_PRIMARY)          /* another site wants a lock on a file that is yours alone */      \
  X (48, LOOKUP, lookup, NF_MSG_TO_PRIMARY | NF_MSG_CALL)                                                              \
  X (49, GETATTR, getattr, NF_MSG_TO_PRIMARY | NF_MSG_CALL)                                                            \
  X (50, READLINK, readlink, NF_MSG_TO_PRIMARY | NF_MSG_CALL)                                                          \
  X (51, READDIR, readdir, NF_MSG_TO_PRIMARY | NF_MSG_CALL)                                                            \
  X (52, READ, read, NF_MSG_TO_PRIMARY | NF_MSG_CALL)                                                                  \
  X (53, GETXATTR, getxattr, NF_MSG_TO_PRIMARY | NF_MSG_CALL)                                                          \
  X (54, LISTXATTR, listxattr, NF_MSG_TO_PRIMARY | NF_MSG_CALL)                                                        \
  X (55, STATFS, statfs, NF_MSG_TO_PRIMARY | NF_MSG_CALL)                                                              \
  X (56, LSEEK, lseek, NF_MSG_TO_PRIMARY | NF_MSG_CALL)                                                                \
  X (57, WAIT, wait, NF_MSG_TO_PRIMARY | NF_MSG_CALL)  /* answered when these sites have applied seq */                \
  X (58, PEERS, peers, NF_MSG_TO_PRIMARY | NF_MSG_CALL) /* where each site stands */                                   \
  X (64, CREATE, create, NF_MSG_TO_PRIMARY | NF_MSG_CALL | NF_MSG_CHANGES)                                             \
  X (65, MKDIR, mkdir, NF_MSG_TO_PRIMARY | NF_MSG_CALL | NF_MSG_CHANGES)                                               \
  X (66, MKNOD, mknod, NF_MSG_TO_PRIMARY | NF_MSG_CALL | NF_MSG_CHANGES)                                               \
  X (67, SYMLINK, symlink, NF_MSG_TO_PRIMARY | NF_MSG_CALL | NF_MSG_CHANGES)                                           \
  X (68, LINK, link, NF_MSG_TO_PRIMARY | NF_MSG_CALL | NF_MSG_CHANGES)                                                 \
  X (69, UNLINK, unlink, NF_MSG_TO_PRIMARY | NF_MSG_CALL | NF_MSG_CHANGES)                                             \
  X (70, RMDIR, rmdir, NF_MSG_TO_PRIMARY | NF_MSG_CALL | NF_MSG_CHANGES)                                               \
  X (71, RENAME, rename, NF_MSG_TO_PRIMARY | NF_MSG_CALL | NF_MSG_CHANGES)                                             \
  X (72, SETATTR, setattr, NF_MSG_TO_PRIMARY | NF_MSG_CALL | NF_MSG_CHANGES)                                           \
  X (73, WRITE, write, NF_MSG_TO_PRIMARY | NF_MSG_CALL | NF_MSG_CHANGES)                                               \
  X (74, FALLOCATE, fallocate, NF_MSG_TO_PRIMARY | NF_MSG_CALL | NF_MSG_CHANGES)                                       \
  X (75, COPY, copy, NF_MSG_TO_PRIMARY | NF_MSG_CALL | NF_MSG_CHANGES)                                                 \
  X (76, SETXATTR, setxattr, NF_MSG_TO_PRIMARY | NF_MSG_CALL | NF_MSG_CHANGES)                                         \
  X (77, REMOVEXATTR, removexattr, NF_MSG_TO_PRIMARY | NF_MSG_CALL | NF_MSG_CHANGES)                                   \
  X (78, FSYNC, fsync, NF_MSG_TO_PRIMARY | NF_MSG_CALL)                                                                \
  X (79, HOLD, hold, NF_MSG_TO_PRIMARY | NF_MSG_CALL)  /* a handle for writing is open here: keep it if unlinked */    \
  X (80, DROP, drop, NF_MSG_TO_PRIMARY | NF_MSG_CALL)                                                                  \
  X (81, LOCK, lock, NF_MSG_TO_PRIMARY | NF_MSG_CALL)  /* gives, tests or takes back a lock of one owner's */ \
  X (82, RETURN, returned, NF_MSG_TO_PRIMARY | NF_MSG_CALL) /* the locks of a file that was this site's alone */
/* clang-format on */

/* FETCHED and LISTED flags. */
enum
{
  NF_FLAG_LAST = 1, /* nothing follows of this answer */
  NF_FLAG_HOLE = 2, /* the range is a hole: `length` bytes, no data */
  NF_FLAG_SAME = 4, /* LISTED: as the digest says; no entries */
};

/* LIST flags. */
enum
{
  NF_LIST_NO_CONTENT = 1, /* small files come without theirs, and it isn't in the digest */
  NF_LIST_ALL_NEW = 2,    /* nothing of it is here: not so small ones come with theirs, too */
};

/* LOCK's `how`, and what its answer's `value` says. */
enum
{
  NF_LOCK_TRY = 0,
  NF_LOCK_WAIT = 1,
  NF_LOCK_TEST = 2, /* `data` is what excludes it: one entry as in LOCKS; none if nothing does */
};
enum
{
  NF_LOCK_GIVEN = 0,
  NF_LOCK_WAITS = 1,     /* GRANTED follows */
  NF_LOCK_GIVEN_ALL = 2, /* and all later ones on this file are yours to give, until RECALL */
  NF_LOCK_YOURS = 3,     /* it is yours to decide */
};

/* LOCKS flags. */
enum
{
  NF_LOCKS_LAST = 1,
};

/* SUBSCRIBED verdicts. */
enum
{
  NF_VERDICT_CONTINUE = 0, /* the ops after your position follow */
  /* Your position isn't in my journal: ops after `position` follow, the rest must be compared. */
  NF_VERDICT_COMPARE = 1,
  NF_VERDICT_REFUSED = 2, /* not now: `reason` */
  /* As COMPARE; but the primary has lost something since your position: what it doesn't know, or has otherwise, may be
     what only you have. */
  NF_VERDICT_COMPARE_AND_KEEP = 3,
};

/* SETATTR mask. */
enum
{
  NF_SET_MODE = 1,
  NF_SET_UID = 2,
  NF_SET_GID = 4,
  NF_SET_SIZE = 8,
  NF_SET_ATIME = 16,
  NF_SET_MTIME = 32,
  NF_SET_ATIME_NOW = 64,
  NF_SET_MTIME_NOW = 128,
  NF_SET_CTIME_ONLY = 256, /* touches ctime, nothing else (chown (-1, -1)) */
  NF_SET_KILL_PRIV = 512,  /* clear setuid, setgid and capabilities, as the call does locally */
};

/* WRITE flags. */
enum
{
  NF_WRITE_APPEND = 1,
  NF_WRITE_KILL_PRIV = 2,
  NF_WRITE_OF_MAPPING = 4, /* the kernel writes back what lies in a mapping; never sent */
};

/* CREATE flags beside the open(2) ones that are carried as O_EXCL = 1, O_TRUNC = 2. */
enum
{
  NF_CREATE_EXCL = 1,
  NF_CREATE_TRUNC = 2,
  NF_CREATE_HOLD = 4, /* the caller keeps it open for writing: as HOLD */
};

/* Who calls, and which call it is. `groups` are numbers (u32 each on the wire). */
typedef struct
{
  guint64 share;
  guint64 epoch;
  /* Counts up at the origin, per share and incarnation of its state; 0: not remembered. */
  guint64 reqid;
  guint64 acked;   /* all ids up to here have been answered to the caller: forget them */
  guint64 session; /* the caller's site has a lock on the file, of this session (LOCKS); 0: none */
  guint32 uid;
  guint32 gid;
  guint32 umask;
  guint32 pid;
  gint64 clock; /* the origin's time, ns */
  NfSlice user; /* the caller's name at its site, may be empty */
  guint32 n_groups;
  guint32 groups[NF_GROUPS_MAX];
} NfCallHead;

typedef enum
{
  NF_MSG_NONE = 0,
#define X(number, NAME, member, flags) NF_MSG_##NAME = number,
  NF_MESSAGES (X)
#undef X
} NfMsgType;

#define NF_CTYPE_u8 guint8
#define NF_CTYPE_u16 guint16
#define NF_CTYPE_u32 guint32
#define NF_CTYPE_u64 guint64
#define NF_CTYPE_i64 gint64
#define NF_CTYPE_name NfSlice
#define NF_CTYPE_path NfSlice
#define NF_CTYPE_xname NfSlice
#define NF_CTYPE_text NfSlice
#define NF_CTYPE_data NfSlice
#define NF_CTYPE_attr NfAttr
#define NF_CTYPE_pos NfPosition

/* One message. Slices point into `owner` if that is set, else into memory that the sender of the
 * struct keeps. */
typedef struct
{
  NfMsgType type;
  NfCallHead head; /* of NF_MSG_CALL messages */
  union
  {
#define F(kind, name) NF_CTYPE_##kind name;
#define X(number, NAME, member, flags) \
  struct                               \
  {                                    \
    NF_FIELDS_##NAME (F)               \
  } member;
    NF_MESSAGES (X)
#undef X
#undef F
  };
  GBytes *owner;
} NfMsg;

const char *nf_msg_name (NfMsgType type);
/* The NF_MSG_* flags of TYPE; -1 if there is no such message. */
int nf_msg_flags (int type);
/* The types in the table's order; NF_MSG_NONE past its end. */
NfMsgType nf_msg_type_at (guint index);

/* Appends the payload (type, then head if it is a call, then fields) to BUF. */
void nf_msg_encode (const NfMsg *msg, NfBuf *buf);
/* Encodes into a frame's payload to be sent. Owned by the caller. */
GBytes *nf_msg_to_bytes (const NfMsg *msg);
/* Decodes PAYLOAD, which MSG keeps a reference to. FALSE with ERROR set if any bound, name or
 * length is wrong or bytes are left over. The caller clears MSG. */
gboolean nf_msg_decode (GBytes *payload, NfMsg *ret_msg, GError **error);
/* A deep copy: head, fields and all slices, owning its memory. To be freed by nf_msg_free(). */
NfMsg *nf_msg_dup (const NfMsg *msg);
void nf_msg_clear (NfMsg *msg);
void nf_msg_free (NfMsg *msg);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (NfMsg, nf_msg_clear)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (NfMsg, nf_msg_free)

void nf_attr_encode (const NfAttr *attr, NfBuf *buf);
void nf_attr_decode (NfReader *reader, NfAttr *ret_attr);

/* HELLO's `shares`: one of these per share that both sites are members of. */
typedef struct
{
  guint64 share;
  guint8 role; /* NfMapRole of the sender */
  NfPosition position;
} NfHelloShare;
void nf_hello_share_encode (const NfHelloShare *share, NfBuf *buf);
gboolean nf_hello_share_decode (NfReader *reader, NfHelloShare *ret_share);

/* The entries of LISTED and of READDIR's answer, one after the other. LISTED's first is the
 * object itself, with an empty name; READDIR's bear no xattrs, target nor content. */
typedef struct
{
  NfSlice name;
  NfAttr attr;
  guint64 cookie;
  NfSlice target;    /* of a symlink */
  NfSlice xattrs;    /* name (slice), value (slice), … */
  gboolean has_data; /* the whole content of a small file follows */
  gboolean unsure; /* the sender doesn't know content and attributes itself; then without content */
  NfSlice data;
} NfDirEntry;
void nf_dir_entry_encode (const NfDirEntry *entry, NfBuf *buf);
/* FALSE at the end or on bad bytes (then the reader has failed). */
gboolean nf_dir_entry_decode (NfReader *reader, NfDirEntry *ret_entry);

/* The status on the wire is this protocol's own number, mapped from and to errno by a table.
 * Unknown ones become EIO. 0 is success. */
guint32 nf_status_from_errno (int err);
int nf_status_to_errno (guint32 status);
