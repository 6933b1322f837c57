#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# kill -9 of each proxy in turn, under load, and start again: what was acknowledged is there, and all
# sites are equal.
# shellcheck source=tests/sites/stage.sh
. "$(dirname "$0")/stage.sh"

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
  local victim=$1 site
  round=$((round + 1))
  for site in london nyc tokyo; do
    job "random-$site" "$NF_WORK" random "$(at "$site")/tree" $((seed + round)) "$(long 1500 6000)" "$site"
    job "acked-$site" "$NF_WORK" acked-write "$(at "$site")/acked" "$site-$round" 100000
    job "synced-$site" "$NF_WORK" acked-write "$(at "$site")/acked" "$site-synced-$round" 100000 sync
  done
  under_way () { [ "$(wc -l <"$NF_TMP/job-acked-nyc")" -ge "$(long 15 60)" ] && [ -s "$NF_TMP/job-synced-tokyo" ]; }
  wait_for 90 under_way || fail 'the load does not start'
  site_kill "$victim"
  site_start "$victim"
  # The others were only cut off for a moment; whoever got an error has ended.
  for site in london nyc tokyo; do
    job_runs "random-$site" && job_kill "random-$site"
    job_kill "acked-$site"
    job_kill "synced-$site"
  done
  wait_in_step 90
  for site in london nyc tokyo; do
    grep -h "^$site-" "$NF_TMP/job-acked-$site" "$NF_TMP/job-synced-$site" | grep -v : >"$NF_TMP/acked-$site-$round"
    for reader in london nyc tokyo; do
      "$NF_WORK" acked-read "$(at "$reader")/acked" "$NF_TMP/acked-$site-$round" >"$NF_TMP/found" ||
        fail "after the kill of $victim: of $site, read at $reader"
    done
    say "  written at $site: $(cat "$NF_TMP/found")"
  done
  trees_equal projects || fail "the trees differ after the kill of $victim"
  step "$victim was killed: all equal"
}

for victim in $(long 'nyc london tokyo' 'nyc london tokyo london nyc london'); do
  kill_one "$victim"
done
check_all 90
