# SPDX-License-Identifier: GPL-2.0-or-later
noinst_LIBRARIES += sync/libnfsync.a

sync_libnfsync_a_SOURCES = \
	sync/forward-answer.c \
	sync/forward-call.c \
	sync/forward-internal.h \
	sync/forward-overlay.c \
	sync/forward.c \
	sync/host.h \
	sync/index-extra.c \
	sync/index-names.c \
	sync/index-object.c \
	sync/index-private.h \
	sync/index.c \
	sync/index.h \
	sync/journal-open.c \
	sync/journal-private.h \
	sync/journal-read.c \
	sync/journal-segment.c \
	sync/journal-segment.h \
	sync/journal-trim.c \
	sync/journal.c \
	sync/journal.h \
	sync/pending-calls.c \
	sync/pending-calls.h \
	sync/record.c \
	sync/record.h \
	sync/share-internal.h \
	sync/share.c \
	sync/share.h \
	sync/strand.c \
	sync/strand.h \
	sync/tree-attr.c \
	sync/tree-bury.c \
	sync/tree-dir.c \
	sync/tree-names.c \
	sync/tree-orphan.c \
	sync/tree-place.c \
	sync/tree-private.h \
	sync/tree-quarantine.c \
	sync/tree-read.c \
	sync/tree-readdir.c \
	sync/tree-stage.c \
	sync/tree-xattr.c \
	sync/tree.c \
	sync/tree.h
