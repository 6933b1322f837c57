#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# nearfs fsck against rsync -n over the same link: equal trees of NF_FILES files (default 100000), compared in turn NF_RUNS_LONG
# times (default 3), by attributes and by content; and what crosses the link for it.
# shellcheck source=tests/bench/lib.sh
. "$(dirname "$0")/lib.sh"

FILES=${NF_FILES:-100000}
DELAY=${NF_FSCK_DELAY_MS:-10}
RUNS=$LONG_RUNS

area fsck "nearfs fsck beside rsync -n, $FILES equal files, round trip $((2 * DELAY)) ms"
have rsync rsync rsync || exit 0

rsync_n ()
{
  rsync -aHX --delete --exclude /.nearfs "$@" \
    -e "ssh -F $NF_TMP/peer_ssh" "peer:$(backing london projects)/" "$(backing nyc projects)/" >"$NF_TMP/out" &&
    ! grep '^[<>c*]' "$NF_TMP/out" >&2
}

rsync_n_moved ()
{
  rsync_n "$@" --stats && sed -n 's/^Total bytes received: //p' "$NF_TMP/out" | tr -d ,.
}

# Bytes over nyc's link to london so far, both ways.
carried () { "$NF_LINK" --ctl "${NF_LINKS[nyc london]}" stats | perl -ne 'print $1 + $2 if /up=(\d+) down=(\d+)/'; }

# compare_trees NAME RUN RSYNC-OPTION [FSCK-OPTION]
compare_trees ()
{
  case $1 in
    rsync) seconds rsync_n "$3" -i ;;
    nearfs) seconds site_nearfs nyc fsck -n ${4:+"$4"} /projects ;;
  esac
}

some_sites london nyc
share projects /projects london nyc
mkdir -p "$(backing london projects)"
make_tree "$(backing london projects)" "$FILES"
sites_up
wait_in_step 600
peer_sshd_up
peer_link_delay "$DELAY"
link_delay london nyc "$DELAY"

NAMES=(rsync nearfs)
PLACE=([rsync]=rsync [nearfs]=nearfs)
title 'Comparing equal trees'
measure 'names and attributes (rsync -n)' s 1 compare_trees -n
measure 'and content (rsync -nc, fsck --content)' s 1 compare_trees -nc --content
before=$(carried)
site_nearfs nyc fsck -n /projects >/dev/null || fail 'fsck'
out "bytes over the link: rsync -n $(rsync_n_moved -n) (unpacked), nearfs fsck -n $(($(carried) - before))"
area_end
