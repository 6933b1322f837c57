# SPDX-License-Identifier: GPL-2.0-or-later
noinst_LIBRARIES += net/libnfnet.a

net_libnfnet_a_SOURCES = \
	net/accept.c \
	net/accept.h \
	net/buf.c \
	net/buf.h \
	net/credit.c \
	net/credit.h \
	net/dial.h \
	net/fds.c \
	net/fds.h \
	net/frame.c \
	net/frame.h \
	net/hub-private.h \
	net/hub.c \
	net/hub.h \
	net/lane.c \
	net/lane.h \
	net/link-in.c \
	net/link-out.c \
	net/link-private.h \
	net/link.c \
	net/link.h \
	net/lobby.c \
	net/pack.c \
	net/pack.h \
	net/peer.c \
	net/proto.c \
	net/proto.h \
	net/redial.c \
	net/rtt.c \
	net/rtt.h \
	net/relay.c \
	net/relay.h \
	net/send.c \
	net/session.c \
	net/spawn.c \
	net/spawn.h \
	net/ssh-dial.c \
	net/ssh.c \
	net/ssh.h \
	net/sshcmd.c \
	net/status.c \
	net/transport.h
