// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sync/share-internal.h"
#include "tests/sim.h"

/* A primary "a" with a directory of its own, and sites "b" and "c" that the test plays. */
typedef struct
{
  NfSim *sim;
  NfSimSite *a;
  NfSimSite *b;
  char *dir;
  guint64 reqid;
  guint32 uid, gid, umask; /* of the next calls */
  const char *site;        /* whose calls they are; NULL: a's own mount */
  NfMsg answer;            /* of the last call */
  NfShareConf conf;
} World;

World *world_new (void);
void world_free (World *world);
void world_open (World *world);
void world_close (World *world);

/* A call by world->site; its status, the answer in world->answer. */
int do_call (World *world, NfMsg *call);
int do_lookup (World *world, NfFid parent, const char *name, NfFid *ret_fid);
int do_create (World *world, NfFid parent, const char *name, guint32 mode, guint32 flags,
               NfFid *ret_fid);
int do_mkdir (World *world, NfFid parent, const char *name, guint32 mode, NfFid *ret_fid);
int do_symlink (World *world, NfFid parent, const char *name, const char *target, NfFid *ret_fid);
int do_link (World *world, NfFid fid, NfFid parent, const char *name);
int do_unlink (World *world, NfFid parent, const char *name);
int do_rmdir (World *world, NfFid parent, const char *name);
int do_rename (World *world, NfFid parent, const char *name, NfFid newparent, const char *newname,
               guint32 flags);
int do_write (World *world, NfFid fid, guint64 offset, guint32 flags, const void *data, gsize len);
int do_read (World *world, NfFid fid, guint64 offset, guint32 size); /* into answer.data */
int do_getattr (World *world, NfFid fid, NfAttr *ret_attr);
int do_setattr (World *world, NfFid fid, guint32 mask, const NfAttr *attr);
int do_setxattr (World *world, NfFid fid, const char *name, const void *value, gsize len);
/* Names and fids of a directory: "name=fid name=fid …", sorted. */
char *do_list (World *world, NfFid fid);

/* A path in the directory behind the proxy. */
char *path_of (World *world, const char *path);
void write_behind (World *world, const char *path, const char *text);
struct stat stat_behind (World *world, const char *path);
gint64 mtime_of (struct stat st);
guint64 last_seq (World *world);
/* `nearfs log` after SEQ: the lines, without time and epoch. */
char *log_after (World *world, guint64 seq);

/* Lets B subscribe from POSITION; takes SUBSCRIBED out of its inbox. */
NfMsg *subscribe (World *world, NfPosition position);
/* Takes the next message of TYPE out of B's inbox, running the world until it comes. */
NfMsg *expect (World *world, NfMsgType type);
