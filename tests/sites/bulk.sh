#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Large files travel from two sites while small ones go on travelling.
# shellcheck source=tests/sites/stage.sh
. "$(dirname "$0")/stage.sh"

limit "$(long 300 600)"
three_sites
mib=$(long 150 1024)
# Ten times what a person should see; a busy machine can cost that much, a stalled queue costs more.
bound_ms=$((5000 * NF_SLOW))
mkdir "$(at london)/small"
wait_in_step
head -c "$((mib * 1048576))" /dev/urandom >"$NF_TMP/large"

# small NAME FROM TO FILE: until FILE is there.
small ()
{
  until [ -e "$NF_TMP/done" ]; do
    "$NF_WORK" latency "$(at "$2")/small" "$(at "$3")/small" 5 >>"$NF_TMP/times-$1" || return
  done
}

"$NF_WORK" latency "$(at london)/small" "$(at nyc)/small" 10 >"$NF_TMP/times-quiet" || fail 'no small file arrives'
stats "$NF_TMP/times-quiet" 1000
step "close → visible, london to nyc, nothing else going on: median $STAT_MEDIAN ms, max $STAT_MAX ms"

copy ()
{
  local from=$1 start
  start=$(now_ms)
  cp "$NF_TMP/large" "$(at "$from")/large-$from" || return
  say "cp at $from: $(($(now_ms) - start)) ms"
  site_nearfs "$from" wait --sites all --timeout "$(long 100 300)" /projects || return
  say "at all sites: $(($(now_ms) - start)) ms"
}
job london-nyc small london-nyc london nyc
job nyc-tokyo small nyc-tokyo nyc tokyo
job copy-london copy london
job copy-nyc copy nyc
job_ok copy-london "$(long 110 320)"
job_ok copy-nyc "$(long 110 320)"
: >"$NF_TMP/done"
job_ok london-nyc 60
job_ok nyc-tokyo 60
step "$mib MiB from london and from nyc are at all sites"
for way in london-nyc nyc-tokyo; do
  stats "$NF_TMP/times-$way" 1000
  step "close → visible meanwhile, $way: median $STAT_MEDIAN ms, max $STAT_MAX ms of $STAT_COUNT (aim: 500)"
  [ "$STAT_MEDIAN" -le "$bound_ms" ] || fail "small files wait for large ones"
done
for site in london nyc tokyo; do
  for from in london nyc; do
    cmp "$NF_TMP/large" "$(at "$site")/large-$from" || fail "large-$from is different at $site"
  done
done

# Several times what a link may have under way, in writes so small that each is a message of its own.
head -c 16000 /dev/urandom >"$NF_TMP/little"
mkdir "$(at nyc)/little"
seq 500 | bounded 120 xargs -P 16 -I{} cp "$NF_TMP/little" "$(at nyc)/little/{}" || fail 'many small files from nyc'
step '8 MB in five hundred files from nyc'
check_all
