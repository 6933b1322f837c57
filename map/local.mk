# SPDX-License-Identifier: GPL-2.0-or-later
noinst_LIBRARIES += map/libnfmap.a

map_libnfmap_a_SOURCES = \
	map/check.c \
	map/check.h \
	map/conf-value.c \
	map/conf.c \
	map/conf.h \
	map/diff.c \
	map/map-private.h \
	map/map.c \
	map/map.h \
	map/name.c \
	map/name.h \
	map/parse-options.c \
	map/parse-share.c \
	map/parse.c \
	map/parse.h \
	map/path.c \
	map/path.h \
	map/roots.c \
	map/show.c \
	map/site.c \
	map/site.h
map_libnfmap_a_CFLAGS = $(AM_CFLAGS) $(GLIB_CFLAGS)
