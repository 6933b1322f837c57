# SPDX-License-Identifier: GPL-2.0-or-later
noinst_LIBRARIES += fs/libnffs.a
bin_PROGRAMS += nearfs

fs_libnffs_a_SOURCES =

nearfs_SOURCES = fs/main.c
nearfs_LDADD = $(FS_LIBS)
