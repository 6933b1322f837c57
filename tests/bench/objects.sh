#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Small files, one after another, against libfuse's pass-through examples in the same run: reading at a replica, everything
# at the primary, with no replica connected and with two.  Also how many requests each takes.
# shellcheck source=tests/bench/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/bench/requests.sh
. "$(dirname "$0")/requests.sh"

area objects 'Small files beside the pass-through examples'

FILES=2000
MANY=10000
# A directory more or less in 2000 files is no matter.
SAME=0.99

# Attributes and content of what is to be read warm are in the caches.
primed ()
{
  local name
  for name in "${NAMES[@]}"; do
    find "${PLACE[$name]}/small" "${PLACE[$name]}/many" -size +1000 && "$BENCH" open "${PLACE[$name]}/small" "$FILES" >/dev/null || fail "$name"
  done
}

reading ()
{
  local where=$1
  title "Reading at $where"
  primed
  measure "open, read 4 KiB, close, warm, at $where" 1/s 1.0 warm open small "$FILES"
  measure "stat, not cached, at $where" 1/s 1.0 without_names stat-new small "$FILES"
  measure "ls -l of $MANY, not cached, at $where" names/s 1.0 without_names find many
  measure "ls -l of $MANY, warm, at $where" names/s 1.0 warm find many
}

count_reading ()
{
  primed
  RUNS=1 measure "requests an open, read and close, at $where" requests "$SAME" requests "$FILES" warm open small "$FILES"
  RUNS=1 measure "requests a stat, not cached, at $where" requests "$SAME" requests "$FILES" without_names stat-new small "$FILES"
  RUNS=1 measure "requests a name of ls -l, at $where" requests "$SAME" requests "$MANY" without_names find many
}

# making TEXT LEAST
making ()
{
  local with=$1 least=$2
  title "Changing at the primary, $with"
  measure "create, write 4 KiB, close, $with" files/s "$least" in_new_dir create 1000 4096
  settle
  measure "rename, $with" files/s "$least" in_new_dir rename 1000
  settle
}

# removing TEXT LEAST: what was made. Last of all, see out_of_the_way().
removing ()
{
  local with=$1 least=$2
  title "Removing at the primary, $with"
  measure "unlink, $with" files/s "$least" in_new_dir unlink 1000
  settle
}

count_writing ()
{
  RUNS=1 measure 'requests a create, write and close' requests "$SAME" requests 1000 in_new_dir create 1000 4096
  RUNS=1 measure 'requests a rename' requests "$SAME" requests 1000 in_new_dir rename 1000
  RUNS=1 measure 'requests an unlink' requests "$SAME" requests 1000 in_new_dir unlink 1000
}

# Native has no requests.
counted ()
{
  # shellcheck disable=SC2034 # count_reading's
  local where=${2:-} all=("${NAMES[@]}")
  can_count_requests || { out "MISSING: requests aren't counted: no perf, or no fuse:fuse_request_send"; return; }
  NAMES=("${all[@]:1}")
  title 'Requests'
  "$1"
  NAMES=("${all[@]}")
}

primary_stage passthrough_ll+checks
for name in "${NAMES[@]}"; do
  new_files "${PLACE[$name]}/small" "$FILES" 4096
  new_files "${PLACE[$name]}/many" "$MANY" 100
done
reading 'the primary'
counted count_reading 'the primary'
STAGE=none
making 'no replica connected' 0.9
with_two_replicas
STAGE=two
making 'two replicas connected' 0.8
with_no_replica
STAGE=none
removing 'no replica connected' 0.9
counted count_writing
with_two_replicas
STAGE=two
removing 'two replicas connected' 0.8

# The same at a replica, beside pass-through of its own directory.
peers_down
here=$(backing tokyo projects)
NAMES=(native)
PLACE=([native]=$here [nearfs]=$(at tokyo))
passthrough_up passthrough_ll "$here"
passthrough_up passthrough_hp "$here"
NAMES+=(nearfs)
reading 'a replica'
counted count_reading 'a replica'
area_end
