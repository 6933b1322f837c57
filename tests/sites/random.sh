#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Two writers and three observers, cuts and resets of the links; then equality.  NF_SEED replays the
# writers' work.
# shellcheck source=tests/sites/stage.sh
. "$(dirname "$0")/stage.sh"

limit "$(long 300 1500)"
seed=${NF_SEED:-$((RANDOM * 32768 + RANDOM))}
say "NF_SEED=$seed"
seconds=$(long 20 180)
three_sites
mkdir "$(at london)/tree"
wait_in_step

# A call of a writer's site may meet a cut, and so may a reading of what was just written there; it must
# say so and nothing else.
export NF_WORK_MAY_FAIL=EHOSTUNREACH
for site in london nyc tokyo; do
  job "observe-$site" "$NF_WORK" observe "$(at "$site")/tree" $((seconds * NF_SLOW))
done
job work-nyc "$NF_WORK" random "$(at nyc)/tree" "$seed" "$(long 400 6000)" nyc
job work-london "$NF_WORK" random "$(at london)/tree" $((seed + 1)) "$(long 3000 60000)" london
RANDOM=$((seed % 32768))
peers=(nyc tokyo)
while job_runs work-nyc || job_runs work-london; do
  peer=${peers[RANDOM % 2]}
  case $((RANDOM % 3)) in
    0) link_reset london "$peer" ;;
    *)
      link_cut london "$peer"
      sleep "0.$((RANDOM % 10))"
      link_heal london "$peer"
      ;;
  esac
  sleep 2
done
job_ok work-nyc "$(long 60 300)"
job_ok work-london "$(long 60 300)"
for site in london nyc tokyo; do
  job_ok "observe-$site" $((seconds + 60))
done
step "seed $seed: two writers, three observers"
check_all 90
