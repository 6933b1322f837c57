#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# "make bench": all areas, or those that NF_BENCH names ("reads arrival"), one after another.  lib.sh says how it is measured
# and where the results go.  "calls" is the programs that are given as arguments.
#
#   NF_BULK_MB=1024 NF_FILL_MB=1024 NF_FILL_FILES=20000 NF_MEMORY_FILES=1000000 NF_LOOKED_UP=100000 NF_CHURN_S=3600 make bench
#
# measures the goals' own sizes, which takes hours; without it takes about 25 minutes.
set -u

: "${NF_SRC:=$(cd "$(dirname "$0")/../.." && pwd)}"
: "${NF_BUILD:=$NF_SRC/build}"
export NF_SRC NF_BUILD
AREAS=(reads metadata objects programs writes remote fill arrival memory idle fsck plot calls)
RESULTS=$NF_BUILD/bench-results.txt
TABLE=$NF_BUILD/bench-results.tsv
read -r -a chosen <<<"${NF_BENCH:-${AREAS[*]}}"

for area in "${chosen[@]}"; do
  [[ " ${AREAS[*]} " == *" $area "* ]] || { echo "There is no area '$area': ${AREAS[*]}" >&2; exit 2; }
done
: >"$TABLE"
printf 'nearfs benchmark, %s, %s processors, Linux %s, %s\n' "$(date -u '+%Y-%m-%d')" "$(nproc)" "$(uname -r)" \
  "$(df --output=fstype "${TMPDIR:-/tmp}" | tail -n 1)" | tee "$RESULTS"

# What the areas leave is removed in the end: removing slows down what comes next, see lib.sh's out_of_the_way().
SCRATCH=$(mktemp -d "${TMPDIR:-/tmp}/nearfs-bench-XXXXXX")
trap 'rm -rf --one-file-system "$SCRATCH"' EXIT
export TMPDIR=$SCRATCH NF_KEEP=1

rc=0
for area in "${chosen[@]}"; do
  if [ "$area" = calls ]; then
    for program in "$@"; do "$program" || rc=1; done 2>&1 | tee -a "$RESULTS"
  else
    bash "$NF_SRC/tests/bench/$area.sh" || { printf 'FAILED: %s\n' "$area" | tee -a "$RESULTS"; rc=1; }
  fi
done

{
  echo
  echo "Goals: $(grep -c $'\tmet$' "$TABLE") met, $(grep -c $'\tmissed$' "$TABLE") missed"
  awk -F'\t' '$11 == "missed" { printf "  missed: %s: %s: %s, to reach %s%s\n", $1, $2, $6 == "-" ? $5 : $6, $10, $9 == "-" ? "" : " of " $9 }' "$TABLE"
  echo
  printf 'area\tlabel\tunit\tpeer\tnearfs\tratio\tmin\tmax\tpeer is\tto reach\tverdict\n'
  cat "$TABLE"
} >>"$RESULTS"
sed -n '/^Goals:/,/^$/p' "$RESULTS"
echo "in $RESULTS"
exit "$rc"
