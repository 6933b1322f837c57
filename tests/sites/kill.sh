#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# kill -9 of each proxy in turn, under load, and start again: what was acknowledged is there, and all
# sites are equal.
# shellcheck source=tests/sites/stage.sh
. "$(dirname "$0")/stage.sh"
# shellcheck source=tests/sites/load.sh
. "$(dirname "$0")/load.sh"

limit "$(long 300 600)"
seed=${NF_SEED:-$((RANDOM * 32768 + RANDOM))}
say "NF_SEED=$seed"
three_sites
mkdir "$(at london)/tree" "$(at london)/acked"
wait_in_step

# What programs meet when their mount goes; the directory under it has nothing of the share.
export NF_WORK_MAY_FAIL='EHOSTUNREACH ENOTCONN ECONNABORTED EIO'
round=0
kill_one ()
{
  local victim=$1
  round=$((round + 1))
  load_start "$round" "$(long 15 60)"
  site_kill "$victim"
  site_start "$victim"
  # The others were only cut off for a moment.
  load_stop
  wait_in_step 90
  load_found acked 1
  load_found synced 1
  trees_equal projects || fail "the trees differ after the kill of $victim"
  step "$victim was killed: all equal"
}

for victim in $(long 'nyc london tokyo' 'nyc london tokyo london nyc london'); do
  kill_one "$victim"
done
check_all 90
