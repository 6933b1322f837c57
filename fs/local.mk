# SPDX-License-Identifier: GPL-2.0-or-later
noinst_LIBRARIES += fs/libnffs.a
bin_PROGRAMS += nearfs

fs_libnffs_a_SOURCES = \
	fs/ask-fsck.c \
	fs/ask-log.c \
	fs/ask-wait.c \
	fs/asks.c \
	fs/asks.h \
	fs/background.c \
	fs/background.h \
	fs/busy.c \
	fs/busy.h \
	fs/client.c \
	fs/client.h \
	fs/command.c \
	fs/command.h \
	fs/control.c \
	fs/control.h \
	fs/daemon-private.h \
	fs/daemon.c \
	fs/daemon.h \
	fs/guard.c \
	fs/guard.h \
	fs/handle.c \
	fs/handle.h \
	fs/host.c \
	fs/init.c \
	fs/inode.c \
	fs/inode.h \
	fs/inval-private.h \
	fs/inval-tell.c \
	fs/inval.c \
	fs/inval.h \
	fs/log.c \
	fs/log.h \
	fs/mark.c \
	fs/mark.h \
	fs/mount-check.c \
	fs/mount-options.c \
	fs/mount-options.h \
	fs/mount-private.h \
	fs/mount.c \
	fs/mount.h \
	fs/namespace.c \
	fs/namespace.h \
	fs/near.c \
	fs/near.h \
	fs/op-attr.c \
	fs/op-dir.c \
	fs/op-file.c \
	fs/op-lock.c \
	fs/op-lookup.c \
	fs/op-name.c \
	fs/op-namespace.c \
	fs/op-open.c \
	fs/op-xattr.c \
	fs/open-mode.c \
	fs/open-mode.h \
	fs/own-daemon.c \
	fs/own-daemon.h \
	fs/pass.c \
	fs/pass.h \
	fs/peers.c \
	fs/point.c \
	fs/point.h \
	fs/policy.c \
	fs/policy.h \
	fs/pool.c \
	fs/pool.h \
	fs/readers.c \
	fs/readers.h \
	fs/reload.c \
	fs/reply.c \
	fs/report.c \
	fs/request.c \
	fs/request.h \
	fs/slots.c \
	fs/status-table.c \
	fs/status-table.h \
	fs/users.c \
	fs/users.h \
	fs/verb-fsck.c \
	fs/verb-log.c \
	fs/verb-map.c \
	fs/verb-mount.c \
	fs/verb-quarantine.c \
	fs/verb-relay.c \
	fs/verb-status.c \
	fs/verb-umount.c \
	fs/verb-version.c \
	fs/verb-wait.c \
	fs/volume.c \
	fs/volume.h

nearfs_SOURCES = fs/main.c
nearfs_LDADD = $(FS_LIBS)
