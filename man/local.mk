# SPDX-License-Identifier: GPL-2.0-or-later
dist_man_MANS += man/mount.nearfs.8 man/nearfs.1
dist_man_MANS += man/nearfs-map.5
dist_man_MANS += man/nearfs-protocol.7
dist_man_MANS += man/nearfs-journal.5
