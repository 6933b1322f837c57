#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# own-mounts.sh [-k DIR] COMMAND…: COMMAND with mounts of its own; by root.  Those of other tests' sites aren't among them, since it would
# keep them mounted, and their daemons waiting: only DIR, if it is one.
set -u

if [ -z "${NF_OWN_MOUNTS:-}" ]; then
  NF_OWN_MOUNTS=1 exec unshare --mount --propagation private bash "$0" "$@"
fi
keep=
[ "$1" != -k ] || { keep=$2; shift 2; }
# The table is read first: it changes below whoever reads on.
mapfile -t mounted < <(sed -n 's/^[^ ]* \([^ ]*\) fuse\.nearfs .*/\1/p' /proc/self/mounts | grep -vxF "$keep")
[ "${#mounted[@]}" -eq 0 ] || umount -l "${mounted[@]}" 2>/dev/null
exec "$@"
