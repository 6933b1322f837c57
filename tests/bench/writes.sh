#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Data written at the primary against libfuse's pass-through examples in the same run, with no replica connected and with two.
# NF_WRITE_MB: how large (default 256).
# shellcheck source=tests/bench/lib.sh
. "$(dirname "$0")/lib.sh"

area writes "Data written at the primary, ${NF_WRITE_MB:=256} MiB, beside the pass-through examples"

write_file () { rm -f "$1/written" && "$BENCH" write "$1/written" "$3" "$4"; }

writes ()
{
  local with=$1 least=$2
  title "Data written at the primary, $with"
  measure "write, blocks of 1 MiB, $with" MB/s "$least" write_file $((NF_WRITE_MB * 1048576)) 1048576
  settle
  measure "overwrite, 4 KiB here and there, $with" MB/s "$least" warm overwrite written 5000
  settle
  measure "write, blocks of 4 KiB, $with" MB/s "$least" write_file 16777216 4096
  settle
}

primary_stage
writes 'no replica connected' 0.9
with_two_replicas
writes 'two replicas connected' 0.8
area_end
