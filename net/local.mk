# SPDX-License-Identifier: GPL-2.0-or-later
noinst_LIBRARIES += net/libnfnet.a

net_libnfnet_a_SOURCES =
