#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# usage: run.sh SRCDIR FUZZER…: runs each for FUZZ_SECONDS, as many at a time as there are cores.
set -u

src=$1
shift
[ $# -gt 0 ] || { echo 'There is no fuzzer.' >&2; exit 1; }
export src
export seconds=${FUZZ_SECONDS:-60}

fuzz ()
{
  local program=$1 name=${1##*/} work
  # New inputs stay in the build folder; one that fails is worth a seed: see the printed path.
  work=fuzz-corpus/$name
  mkdir -p "$work"
  local seeds=()
  [ ! -d "$src/tests/fuzz/seeds/$name" ] || seeds=("$src/tests/fuzz/seeds/$name")
  if "./$program" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
    -artifact_prefix="$work-" "$work" "${seeds[@]}" >"$work.log" 2>&1; then
    echo "$name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$work.log") runs"
  else
    tail -n 40 "$work.log"
    echo "$name: failed"
    return 1
  fi
}
export -f fuzz

printf '%s\n' "$@" | xargs -P "$(nproc)" -I{} bash -c 'fuzz {}'
