#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Changes at a site away from the primary against sshfs and scp over the same link: a large file, and small ones.
# NF_BULK_MB: how large (default 256; the goal speaks of 1024).  NF_RTTS: of the large file (default "0 20 100").
# shellcheck source=tests/bench/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/bench/remote-work.sh
. "$(dirname "$0")/remote-work.sh"

area remote "Changes away from the primary, beside sshfs and scp over the same link; ${NF_BULK_MB:=256} MiB"

RUNS=$LONG_RUNS

tar_x ()
{
  mkdir "$1/tar-$RTT-$2" && per "$3" tar -C "$1/tar-$RTT-$2" -xf "$NF_TMP/small.tar"
}

# What a create, a write and a close take, in round trips.
round_trips ()
{
  perl -e 'my $rtt = shift; my @t;
    while (<STDIN>) { push @t, 1000 / $1 / $rtt if /^\d+ nearfs (\S+)/ }
    @t = sort { $a <=> $b } @t; printf "%.2f\n", $t[$#t / 2]' "$RTT" <"$NF_TMP/measured"
}

small ()
{
  local files=$1
  title "Small files away from the primary, round trip $RTT ms"
  measure "create, write 4 KiB, close, $RTT ms" files/s 2 one_by_one create "$files" 4096
  figure "create, write, close: round trips a file, $RTT ms" trips 2.2 "$(round_trips)"
  measure "rename, $RTT ms" files/s - one_by_one rename "$files"
  measure "unlink, $RTT ms" files/s - one_by_one unlink "$files"
  measure "create, write, close by $PROCESSES processes, $RTT ms" files/s 2 in_parallel "$files"
  measure "tar x of 100 files, $RTT ms" files/s - tar_x 100
  clear_away
}

remote_stage
random_file "$NF_TMP/bulk" "$NF_BULK_MB"
make_tree "$NF_TMP/small" 100
tar -C "$NF_TMP/small" -cf "$NF_TMP/small.tar" .

NAMES=("${BULK_NAMES[@]}")
for RTT in ${NF_RTTS:-0 20 100}; do
  all_links_delay $((RTT / 2))
  title "A large file away from the primary, round trip $RTT ms"
  measure "write $NF_BULK_MB MiB, $RTT ms" MB/s "$([ "$RTT" = 0 ] && echo 0.9 || echo 1.0)" bulk \
    "$(perl -e 'print $ARGV[0] * 1.048576' "$NF_BULK_MB")"
  clear_away
done

NAMES=("${SMALL_NAMES[@]}")
for RTT in 20 50; do
  all_links_delay $((RTT / 2))
  small $((1000 / RTT))
done
area_end
