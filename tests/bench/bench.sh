#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The first benchmark: a replica's reads and the primary's changes against the same work in a native
# directory, forwarded changes against sshfs over the same link, and how long a change takes to arrive.
# Each pair is measured in turn, NF_RUNS times (default 5); what counts is the ratio within a pair, of
# which the median and the range are printed.  Also in bench-results.txt of the build directory.
# shellcheck disable=SC2034 # lib.sh's
NF_NETNS=0
# shellcheck source=tests/sites/stage.sh
. "$(dirname "$0")/../sites/stage.sh"
# shellcheck source=tests/bench/peer.sh
. "$(dirname "$0")/peer.sh"

BENCH=$NF_BUILD/tests/bench/nf-bench
RUNS=${NF_RUNS:-5}
# shellcheck disable=SC2034 # lib.sh's
NF_DELAY_MS=0

limit 900
results "$NF_BUILD/bench-results.txt"

# compare LABEL UNIT WORK A B ARGUMENT…: WORK is a function or nf-bench's word; A and B the places.
compare ()
{
  local label=$1 unit=$2 work=$3 a=$4 b=$5 run x y
  shift 5
  : >"$NF_TMP/pairs"
  for ((run = 0; run < RUNS; run++)); do
    x=$("$work" "$a" "$run" "$@") && y=$("$work" "$b" "$run" "$@") || fail "$label"
    printf '%s %s\n' "$x" "$y" >>"$NF_TMP/pairs"
  done
  line "$label" "$unit" "$NF_TMP/pairs"
}

test_cleanup ()
{
  ! grep -q " $NF_TMP/sshfs " /proc/self/mounts || fusermount3 -u -z "$NF_TMP/sshfs"
}

# What compare calls: PLACE RUN ARGUMENT….

warm () { "$BENCH" "$3" "$1/$4" ${5:+"$5"}; }

# Out of the cache of the mount and out of that of the directory behind it.
cold ()
{
  "$BENCH" cold "$1/$4" >/dev/null && "$BENCH" cold "$backing/$4" >/dev/null && "$BENCH" "$3" "$1/$4" ${5:+"$5"}
}

in_new_dir () { mkdir -p "$1/run-$2" && "$BENCH" "$3" "$1/run-$2" "${@:4}"; }
write_file () { "$BENCH" write "$1/written" "$3" "$4"; }

unpack ()
{
  local start=${EPOCHREALTIME/[.,]/}
  mkdir "$1/unpacked-$2" && tar -C "$1/unpacked-$2" -xf "$NF_TMP/small.tar" || return
  perl -e 'printf "%.3f\n", $ARGV[0] * 1e6 / $ARGV[1]' "$3" $((${EPOCHREALTIME/[.,]/} - start))
}

some_sites london nyc tokyo
share projects /projects london 'nyc tokyo'
sites_up
wait_in_step
london=$(at london) nyc=$(at nyc) tokyo=$(at tokyo)
native=$NF_TMP/native
mkdir -p "$native" "$london/tree" "$london/bench"

out "nearfs benchmark, $(date -u '+%Y-%m-%d'), $(nproc) processors, Linux $(uname -r), $RUNS runs of each pair in turn"
head -c 134217728 /dev/urandom >"$london/large"
for ((i = 0; i < 2000; i++)); do
  mkdir -p "$london/tree/$((i / 200))" && head -c $((i % 16 * 512 + 1)) /dev/zero >"$london/tree/$((i / 200))/file-$i"
done
wait_in_step

backing=$(backing tokyo projects)
title 'Reads at a replica, against its own directory' native nearfs
cat "$tokyo/large" "$backing/large" >/dev/null
find "$tokyo/tree" -type f -exec cat {} + >/dev/null
compare 'sequential read, 1 MiB blocks, warm' MB/s warm "$backing" "$tokyo" sequential large
compare 'sequential read, 1 MiB blocks, cold' MB/s cold "$backing" "$tokyo" sequential large
compare 'random read, 4 KiB, warm' 1/s warm "$backing" "$tokyo" random large 20000
compare 'random read, 4 KiB, cold' 1/s cold "$backing" "$tokyo" random large 1000
compare 'read through a mapping, warm' MB/s warm "$backing" "$tokyo" mapped large
compare 'stat, warm' 1/s warm "$backing" "$tokyo" stat tree/3 50000
compare 'ls of 200 names, warm' 1/s warm "$backing" "$tokyo" list tree/3 200
compare 'find with stat of 2000 names, warm' names/s warm "$backing" "$tokyo" find tree
compare 'open, read and close of small files, warm' 1/s warm "$backing" "$tokyo" open tree/3 2000

title 'Changes at the primary, against a native directory' native nearfs
compare 'create, write 4 KiB, close' files/s in_new_dir "$native" "$london/bench" create 300 4096
compare 'rename' 1/s in_new_dir "$native" "$london/bench" rename 300
compare 'unlink' 1/s in_new_dir "$native" "$london/bench" unlink 300
compare 'write 64 MiB, 1 MiB blocks' MB/s write_file "$native" "$london/bench" 67108864 1048576
compare 'write 8 MiB, 4 KiB blocks' MB/s write_file "$native" "$london/bench" 8388608 4096
wait_in_step

# sshfs over a link like the one from nyc to london, to a directory on the same disk.
sshfs_up ()
{
  mkdir -p "$NF_TMP/sftp" "$NF_TMP/sshfs"
  peer_sshd_up
  sshfs -p "$PEER_PORT" -o IdentityFile="$NF_TMP/nyc/key",IdentitiesOnly=yes,StrictHostKeyChecking=no,UserKnownHostsFile=/dev/null,BatchMode=yes,LogLevel=ERROR \
    "127.0.0.1:$NF_TMP/sftp" "$NF_TMP/sshfs" || fail 'sshfs does not start'
}

forwarded ()
{
  local delay=$1 files=$2 megabytes=$3 rtt=$((2 * $1)) i
  local there=$NF_TMP/sshfs/rtt$rtt here=$nyc/rtt$rtt
  link_delay london nyc "$delay" && link_delay london tokyo "$delay"
  peer_link_delay "$delay"
  mkdir "$there" "$here"
  title "Changes at another site, round trip $rtt ms, against sshfs over such a link" sshfs nearfs
  compare "create, write 4 KiB, close" files/s in_new_dir "$there" "$here" create "$files" 4096
  compare "rename" 1/s in_new_dir "$there" "$here" rename "$files"
  compare "unlink" 1/s in_new_dir "$there" "$here" unlink "$files"
  rm -rf "$NF_TMP/small" && mkdir "$NF_TMP/small"
  for ((i = 0; i < files; i++)); do head -c 3000 /dev/zero >"$NF_TMP/small/$i"; done
  tar -C "$NF_TMP" -cf "$NF_TMP/small.tar" small
  compare "tar x of $files files" files/s unpack "$there" "$here" "$files"
  compare "write $megabytes MB, 1 MiB blocks" MB/s write_file "$there" "$here" $((megabytes * 1000000)) 1048576
  site_nearfs nyc wait --timeout 60 /projects >/dev/null || fail 'not in step'
  compare "read $megabytes MB just written" MB/s warm "$there" "$here" sequential written
}

arrival ()
{
  local from=$1 to=$2 way=$3
  "$NF_WORK" latency "$(at "$from")" "$(at "$to")" 30 | sort -n >"$NF_TMP/times" || fail 'it does not arrive'
  out "$(perl -e 'my @t = <STDIN>; my ($label, $way) = @ARGV;
    printf "%-44s %9.1f ms (%.1f to %.1f); the way itself %s ms", $label, $t[$#t / 2] / 1e3, $t[0] / 1e3, $t[-1] / 1e3, $way' \
    "$from to $to, round trip $((2 * NF_NOW)) ms" "$way" <"$NF_TMP/times")"
}

if command -v sshfs >/dev/null; then
  sshfs_up
  forwarded 0 100 32
  forwarded 10 30 32
  forwarded 25 12 16
  fusermount3 -u -z "$NF_TMP/sshfs"
else
  out 'sshfs is not installed: nothing to compare forwarded changes with'
fi

out
out 'From close() to visible at another site: median (range)'
for NF_NOW in 0 10 25; do
  link_delay london nyc "$NF_NOW" && link_delay london tokyo "$NF_NOW"
  arrival london nyc "$NF_NOW"
  # close() at nyc returns when london has answered, half a round trip after london has sent it to tokyo.
  arrival nyc tokyo "0 to $NF_NOW"
done
wait_in_step
trees_equal projects || fail 'the trees differ'
say "also in $RESULTS"
