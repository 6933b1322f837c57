// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "fs/handle.h"
#include "fs/mount-private.h"

/* One request of the kernel's on its way through a share. It is begun by an operation, makes one or
 * more calls, and ends with its reply: every nf_reply_…() of it but the first line's is its last
 * use. */

typedef struct NfRequest NfRequest;
/* Goes on when the share has answered; ANSWER is valid meanwhile. */
typedef void (*NfContinue) (NfRequest *request, int status, const NfMsg *answer);

struct NfRequest
{
  NfMount *mount;
  fuse_req_t req;
  NfNode *node;     /* what it is about: a reference */
  NfVolume *volume; /* its share: entered until the reply */
  NfFid fid;        /* in that share */
  NfHandle *handle; /* a reference, or NULL */
  guint64 mark;     /* of the invalidations, when it began */

  /* What operations keep from call to reply. */
  struct fuse_file_info fi;
  NfAttr attr;
  guint64 offset;
  gsize size;
  gboolean flag;

  /* request.c's own. */
  NfContinue next;
  gint refs;
  guint64 number;
  guint64 call_id; /* guarded by the requests' lock, as are: */
  guint step;
  gboolean changes; /* the call under way does */
  gboolean waiting; /* a call is under way */
  gboolean interrupted;
  gboolean restarts; /* see nf_request_restarts() */
};

NfRequests *nf_requests_new (void);
void nf_requests_free (NfRequests *requests);

/* Begins REQ about INO and fills CALL with TYPE and who calls. NULL after replying with an error:
 * SYNTHETIC (an errno) if INO isn't in a share, ESTALE if its share was taken out. */
NfRequest *nf_request_begin (fuse_req_t req, fuse_ino_t ino, NfMsgType type, int synthetic,
                             NfMsg *ret_call);
/* The same through the handle in FI, or if FI is NULL some handle of INO's if there is one. */
NfRequest *nf_request_begin_file (fuse_req_t req, fuse_ino_t ino, const struct fuse_file_info *fi,
                                  NfMsgType type, int synthetic, NfMsg *ret_call);
/* The caller's groups, which calls on open files come without. */
void nf_request_add_groups (fuse_req_t req, NfCallHead *head);
/* Fills CALL for another call of a request that goes on. */
void nf_request_next (NfRequest *request, NfMsgType type, NfMsg *ret_call);

/* The call to come may wait for ever, as it would on a local disk, and when it ends with EINTR the kernel makes it again
 * unless a handler of the signal says otherwise: so any signal lets the caller go. */
void nf_request_restarts (NfRequest *request);

/* Calls the share, or the handle's file if the request has a handle; then NEXT. */
void nf_request_call (NfRequest *request, const NfMsg *call, NfContinue next);
void nf_request_flush (NfRequest *request, gboolean sync, gboolean datasync, NfContinue next);

/* Is INO in a share? And if so in the same one as REQUEST; RET_FID is its fid there. */
gboolean nf_request_same_share (NfRequest *request, fuse_ino_t ino, NfFid *ret_fid);

/* Cancels all that wait for VOLUME, or if that is NULL all. */
void nf_requests_cancel (NfMount *mount, const NfVolume *volume);

/* reply.c: the ends of a request. STATUS is 0 or -errno. */
void nf_reply_status (NfRequest *request, int status);
void nf_reply_entry (NfRequest *request, int status, const NfMsg *answer);
void nf_reply_attr (NfRequest *request, int status, const NfMsg *answer);
void nf_reply_data (NfRequest *request, int status, NfSlice data);
/* "NEXT" for calls of which nothing but the status is told. */
void nf_reply_done (NfRequest *request, int status, const NfMsg *answer);
/* The request has been replied to. */
void nf_request_end (NfRequest *request);

/* How long the kernel may believe ATTR, which was read since REQUEST began. */
gdouble nf_reply_attr_timeout (NfRequest *request, const NfAttr *attr);
void nf_reply_stat (NfMount *mount, const NfVolume *volume, const NfAttr *attr,
                    struct stat *ret_st);
/* An entry for ATTR, with a lookup of its node (RET_NODE, owned by that lookup). */
void nf_reply_fill_entry (NfRequest *request, const NfAttr *attr,
                          struct fuse_entry_param *ret_entry, NfNode **ret_node);
/* The kernel didn't get that entry. */
void nf_reply_drop_entry (NfRequest *request, NfNode *node);
