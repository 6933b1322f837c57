#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# nearfs fsck against rsync -n over the same link: equal trees of NF_FILES files (default 100000), compared in turn NF_RUNS
# times (default 5), by attributes and by content; and what crosses the link for it.
# shellcheck disable=SC2034 # lib.sh's
NF_NETNS=0
# shellcheck source=tests/sites/stage.sh
. "$(dirname "$0")/../sites/stage.sh"
# shellcheck source=tests/bench/peer.sh
. "$(dirname "$0")/peer.sh"

RUNS=${NF_RUNS:-5}
FILES=${NF_FILES:-100000}
DELAY=${NF_DELAY_MS:-10}

limit 1800
command -v rsync >/dev/null || { say 'SKIPPED: no rsync'; exit 77; }
results "$NF_BUILD/bench-fsck-results.txt"

# A tree of directories of 100 files, of 1 to 16 KiB.
make_tree ()
{
  perl -e '
    my ($root, $n) = @ARGV;
    my $block = join "", map { chr (33 + $_ * 7 % 90) } 1 .. 16384;
    for my $i (0 .. $n - 1) {
      my ($d, $e) = (int ($i / 10000), int ($i / 100));
      mkdir "$root/$d"; mkdir "$root/$d/$e";
      open my $f, ">", "$root/$d/$e/file-$i" or die; print $f $i, substr ($block, 0, 1024 + $i % 16 * 960); close $f
    }' "$1" "$2"
}

seconds ()
{
  local start=${EPOCHREALTIME/[.,]/}
  "$@" >"$NF_TMP/out" 2>&1 || { cat "$NF_TMP/out"; fail "$*"; }
  perl -e 'printf "%.3f\n", $ARGV[0] / 1e6' $((${EPOCHREALTIME/[.,]/} - start))
}

rsync_n ()
{
  rsync -aHX --delete --exclude /.nearfs "$@" \
    -e "ssh -p $PEER_PORT -i $NF_TMP/nyc/key -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes -o LogLevel=ERROR" \
    "127.0.0.1:$(backing london projects)/" "$(backing nyc projects)/"
  ! grep -q '^[<>c*]' "$NF_TMP/out"
}

rsync_n_moved ()
{
  rsync_n "$@" --stats | sed -n 's/^Total bytes received: //p' | tr -d ,.
}

# Bytes over nyc's link to london so far, both ways.
carried () { "$NF_LINK" --ctl "${NF_LINKS[nyc london]}" stats | perl -ne 'print $1 + $2 if /up=(\d+) down=(\d+)/'; }

# run_pair LABEL RSYNC-OPTION [FSCK-OPTION]
run_pair ()
{
  local label=$1 run x y
  shift
  : >"$NF_TMP/pairs"
  for ((run = 0; run < RUNS; run++)); do
    x=$(seconds rsync_n "$1" -i) && y=$(seconds site_nearfs nyc fsck -n ${2:+"$2"} /projects) || fail "$label"
    printf '%s %s\n' "$x" "$y" >>"$NF_TMP/pairs"
  done
  line "$label" s "$NF_TMP/pairs"
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

out "nearfs fsck, $(date -u '+%Y-%m-%d'), $(nproc) processors, $FILES files, round trip $((2 * DELAY)) ms, $RUNS runs of each in turn"
title 'Comparing equal trees' rsync nearfs
run_pair 'names and attributes (rsync -n)' -n
run_pair 'and content (rsync -nc, fsck --content)' -nc --content
before=$(carried)
site_nearfs nyc fsck -n /projects >/dev/null || fail 'fsck'
out "bytes over the link: rsync -n $(rsync_n_moved -n) (unpacked), nearfs fsck -n $(($(carried) - before))"
