#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A replica's reads of a large file against those of its own directory: from the mount's cache, with only the backing file
# cached, and from the disk.  With pass-through where the build, the kernel and the user's right allow it, and without.
# NF_READ_MB: how large (default 256).
# shellcheck source=tests/bench/lib.sh
. "$(dirname "$0")/lib.sh"

area reads "Reads of one file at a replica, ${NF_READ_MB:=256} MiB, beside its own directory"

# Out of the cache of the mount, and in that of the directory behind it.
behind_only ()
{
  [ "$1" = "$behind" ] || "$BENCH" cold "$1/$4" >/dev/null || return
  cat "$behind/$4" >/dev/null && "$BENCH" "$3" "$1/$4" "${@:5}"
}

# Out of both.
cold ()
{
  "$BENCH" cold "$there/$4" >/dev/null && "$BENCH" cold "$behind/$4" >/dev/null && "$BENCH" "$3" "$1/$4" "${@:5}"
}

# A file that has just come isn't read past the daemon yet.
passed ()
{
  local before
  before=$(field tokyo '{passthrough}{opens}')
  head -c 1 "$there/large" >/dev/null && [ "$(field tokyo '{passthrough}{opens}')" -gt "$before" ]
}

# reads MODE SEQUENTIAL RANDOM COLD: the ratios to reach.
reads ()
{
  local mode=$1 sequential=$2 random=$3 cold=$4
  title "Reads, $mode"
  cat "$there/large" "$behind/large" >/dev/null
  measure "sequential read, warm, $mode" MB/s "$sequential" warm sequential large
  measure "random read of 4 KiB, warm, $mode" 1/s "$random" warm random large 50000
  measure "mmap, warm, $mode" MB/s "$sequential" warm map large
  measure "sequential read, backing file cached, $mode" MB/s "$sequential" behind_only sequential large
  measure "random read of 4 KiB, backing file cached, $mode" 1/s "$random" behind_only random large 5000
  measure "sequential read, cold, $mode" MB/s "$cold" cold sequential large
  measure "random read of 4 KiB, cold, $mode" 1/s - cold random large 1000
}

some_sites london tokyo
share projects /projects london tokyo
mkdir -p "$(backing london projects)"
random_file "$(backing london projects)/large" "$NF_READ_MB"
sites_up
wait_in_step 120
there=$(at tokyo) behind=$(backing tokyo projects)
NAMES=(native nearfs)
PLACE=([native]=$behind [nearfs]=$there)

case $(passthrough tokyo) in
  on)
    wait_for 20 passed || fail 'the file is never read past the daemon'
    reads pass-through 0.95 0.95 0.95
    site_stop tokyo
    site_start tokyo -o nopassthrough
    wait_in_step
    ;;
  off) out "no pass-through here: $(field tokyo '{passthrough}{why_not}')" ;;
  none) out 'this build has no pass-through' ;;
esac
reads cached 0.45 0.8 0.6
area_end
