# SPDX-License-Identifier: GPL-2.0-or-later
noinst_LIBRARIES += sync/libnfsync.a

sync_libnfsync_a_SOURCES =
