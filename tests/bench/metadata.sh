#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Warm names and attributes at a replica against its own directory.  NF_META_FILES: how many files (default 50000).
# shellcheck source=tests/bench/lib.sh
. "$(dirname "$0")/lib.sh"

area metadata "Warm names and attributes at a replica, ${NF_META_FILES:=50000} files, beside its own directory"

some_sites london tokyo
share projects /projects london tokyo
make_tree "$(backing london projects)/tree" "$NF_META_FILES"
new_files "$(backing london projects)/flat" 1000 100
new_files "$(backing london projects)/many" "$NF_META_FILES" 100
sites_up
wait_in_step 300
NAMES=(native nearfs)
PLACE=([native]=$(backing tokyo projects) [nearfs]=$(at tokyo))

# Twice: the kernel asks for attributes together with names once it has seen that they are wanted.
for place in "${PLACE[@]}"; do
  find "$place/tree" "$place/flat" "$place/many" -size +1 >/dev/null
  "$BENCH" find "$place" >/dev/null
done

title 'Warm'
measure "stat over $NF_META_FILES files, warm" 1/s 0.9 warm stat many 200000
measure 'negative lookup, warm' 1/s 0.9 warm miss many 100000
measure 'stat, warm, two directories deeper' 1/s - warm stat tree/0/3 100000
measure 'negative lookup, warm, two directories deeper' 1/s - warm miss tree/0/3 100000
measure 'ls of 1000 names, warm' 1/s 0.7 warm list flat 100
measure "find with stat over $NF_META_FILES files, warm" names/s 0.7 warm find tree
area_end
