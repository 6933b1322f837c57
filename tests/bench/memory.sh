#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What the daemons keep in memory: of a share with many files, for each inode that the kernel knows, and after a while of churn.
# NF_MEMORY_FILES (default 100000; the goal speaks of a million), NF_LOOKED_UP (default half of them), NF_CHURN_S (default 30).
# shellcheck source=tests/bench/lib.sh
. "$(dirname "$0")/lib.sh"

: "${NF_MEMORY_FILES:=100000}" "${NF_CHURN_S:=30}"
: "${NF_LOOKED_UP:=$((NF_MEMORY_FILES / 2))}"
area memory "Memory of the daemons: a share with $NF_MEMORY_FILES files, $NF_LOOKED_UP of them looked up"

# anonymous SITE: KiB that are the daemon's own; what it maps of its index is the page cache's.
anonymous ()
{
  awk '/^Anonymous:/ { print $2 }' "/proc/${NF_PID[$1]}/smaps_rollup"
}

resident ()
{
  awk '/^Rss:/ { print $2 }' "/proc/${NF_PID[$1]}/smaps_rollup"
}

# look_up DIR COUNT: directories of 10000 files each, and the rest of the last.
look_up ()
{
  find "$1" -type f -printf '%s\n' 2>/dev/null | head -n "$2" | wc -l
}

churn ()
{
  local end=$((SECONDS + $1)) i=0 dir
  while [ "$SECONDS" -lt "$end" ]; do
    dir=$(at london)/churn-$i
    { mkdir "$dir" && "$BENCH" create "$dir" 200 1000 && "$BENCH" open "$dir" 200 && "$BENCH" rename "$dir" 200; } >/dev/null || return
    # Names go under its hands.
    find "$(at tokyo)" -maxdepth 2 -name 'old.*' -size +0 >/dev/null 2>&1
    "$BENCH" unlink "$dir" 200 >/dev/null && rmdir "$dir" || return
    i=$((i + 1))
  done
  wait_in_step
}

some_sites london tokyo
share projects /projects london tokyo
make_tree "$(backing london projects)/tree" "$NF_MEMORY_FILES"
sites_up
wait_in_step 1500

for site in london tokyo; do
  find "$(at "$site")/tree/0/3" -size +1 >/dev/null
  title "$site, $([ "$site" = london ] && echo the primary || echo a replica)"
  figure "$site: resident, with the index's pages" KiB - "$(resident "$site")"
  before=$(anonymous "$site")
  figure "$site: anonymous, nothing looked up" KiB - "$before"
  count=$(look_up "$(at "$site")/tree" "$NF_LOOKED_UP")
  after=$(anonymous "$site")
  figure "$site: anonymous, $count looked up" KiB - "$after"
  figure "$site: a cached inode" bytes 200 $(((after - before) * 1024 / count))
done

title 'Churn'
churn $((NF_CHURN_S / 3)) || fail churn
declare -A GROWN
for site in london tokyo; do GROWN[$site]=$(anonymous "$site"); done
churn $((NF_CHURN_S * 2 / 3)) || fail churn
for site in london tokyo; do
  figure "$site: growth in $((NF_CHURN_S * 2 / 3)) s of churn" KiB 512 $(($(anonymous "$site") - GROWN[$site]))
done
area_end
