#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The link of a replica is cut: reads go on as before, changes fail within the stated time with
# EHOSTUNREACH, the other sites notice nothing, and after the heal nothing is half-done.
call_timeout_s=3
# shellcheck disable=SC2034 # lib.sh's
NF_CONF="call-timeout = $call_timeout_s"
# shellcheck source=tests/sites/stage.sh
. "$(dirname "$0")/stage.sh"

limit "$(long 300 600)"
three_sites
tokyo=$(at tokyo) london=$(at london)
files=$(long 500 3000)
# What a busy machine may add to the stated time.
late_ms=$((call_timeout_s * 1000 + 2500 * NF_SLOW))

mkdir "$london/tree"
make_tree ()
{
  local i
  for ((i = 0; i < files; i++)); do
    mkdir -p "$london/tree/$((i % 20))" && head -c $((i * 37 % 20000)) /dev/zero >"$london/tree/$((i % 20))/file-$i" || return
  done
}
make_tree || fail 'no tree'
printf 'as it was\n' >"$london/old"
mkdir "$london/full" "$london/hollow"
printf 'x' >"$london/full/file"
wait_in_step

# Names, attributes and content of all; microseconds, one run a line.
read_all ()
{
  local run start
  for ((run = 0; run < $1; run++)); do
    start=${EPOCHREALTIME/[.,]/}
    find "$tokyo/tree" -type f -printf '%s %m\n' >"$NF_TMP/listing" && find "$tokyo/tree" -type f -print0 | xargs -0 cat >"$NF_TMP/content" || return
    getfattr -d "$tokyo/old" >/dev/null && stat -f "$tokyo" >/dev/null || return
    printf '%s\n' $((${EPOCHREALTIME/[.,]/} - start))
    [ "$(wc -l <"$NF_TMP/listing")" -eq "$files" ] || return
  done
}

read_all 7 >"$NF_TMP/times-up" || fail 'reading with the link up'
stats "$NF_TMP/times-up"
step "all of $files files read at tokyo, link up: median $((STAT_MEDIAN / 1000)) ms, max $((STAT_MAX / 1000)) ms"
up=$STAT_MEDIAN

# A writer in the middle of a large file, on a link slow enough to be caught there.
link_rate london tokyo 4000000
job writer "$NF_WORK" try write "$tokyo/large" 60000000
arrives () { [ "$(stat -c %s "$london/large" 2>/dev/null || echo 0)" -gt 2000000 ]; }
wait_for 30 arrives || fail 'nothing of the large file arrives'
# And one that has it all in the buffer, as far as it can tell.
exec 7>"$tokyo/open-file"
printf 'before the cut\n' >&7
link_cut london tokyo
cut_ms=$(now_ms)
link_rate london tokyo 0
step 'the link between london and tokyo is cut'

# Each its own kind of call; the first ones have to find out that the link is dead.
refused ()
{
  tries "$@"
  say "  $(basename "$2"): $1: $TRY_ERROR by $TRY_CALL after $TRY_MS ms"
  expect "$1 without a link" "$TRY_ERROR" EHOSTUNREACH
  [ "$TRY_MS" -le "$late_ms" ] || fail "$1 took $TRY_MS ms, at most $late_ms are stated"
}
job reads read_all 7
refused mkdir "$tokyo/new-dir"
refused create "$tokyo/new-file" 1000
refused write "$tokyo/old" 100000
refused append "$tokyo/full/file" 10
refused rename "$london/../../../tokyo/mnt/projects/full" "$tokyo/hollow"
refused unlink "$tokyo/tree/0/file-0"
refused chmod "$tokyo/tree/1/file-1"
refused truncate "$tokyo/tree/2/file-2" 5
refused setxattr "$tokyo/tree/3/file-3" value
refused symlink "$tokyo/new-link" target
refused link "$tokyo/tree/4/file-4" "$tokyo/new-hard"
refused rmdir "$tokyo/tree/5" || true
job_ok writer 30
read -r result call _ <"$NF_TMP/job-writer"
expect 'the writer in the middle' "$result" EHOSTUNREACH
say "  writer: $result by $call; $(($(now_ms) - cut_ms)) ms after the cut"
if printf 'after the cut\n' >&7 2>/dev/null && exec 7>&-; then
  say '  open file: bash does not look at close()'
else
  exec 7>&-
fi
job_end reads 60 || fail "reads fail with the link cut: $(tail -n 3 "$NF_TMP/job-reads")"
read_all 7 >"$NF_TMP/times-down" || fail 'reading with the link cut'
stats "$NF_TMP/times-down"
step "the same with the link cut: median $((STAT_MEDIAN / 1000)) ms, max $((STAT_MAX / 1000)) ms"
# A third more is noise here; a wait for the network would be seconds.
[ "$STAT_MEDIAN" -le $((3 * up + 1000000 * NF_SLOW)) ] || fail 'reads wait for the link'
field tokyo '{shares}[0]{state}' | sed 's/^/  tokyo says: /'
site_nearfs tokyo status >/dev/null && fail 'status at tokyo says that all is in step'

# The others go on, and so does the primary.
printf 'of nyc\n' >"$(at nyc)/meanwhile" || fail 'nyc has to do with a cut that is not its own'
printf 'of london\n' >"$london/meanwhile-too"
expect_file "$(at nyc)/meanwhile-too" 'of london'
has_text "$tokyo/meanwhile" 'of nyc' && fail 'the cut lets something through'

link_heal london tokyo
heals () { tries mkdir "$tokyo/healed"; [ "$TRY_ERROR" = ok ]; }
wait_for 40 heals || fail 'tokyo does not write after the heal'
step "tokyo writes again $TRY_MS ms"
wait_in_step
expect_file "$tokyo/meanwhile" 'of nyc'

# Whole or not at all.
one_of ()
{
  local what=$1 is=$2 may
  shift 2
  for may; do [ "$is" != "$may" ] || { say "  $what: $may"; return; }; done
  fail "half-done: $what is '$is'"
}
for site in london nyc tokyo; do
  dir=$(at "$site")
  say "at $site:"
  one_of 'the rename' "$(cd "$dir" && find full hollow -type f 2>/dev/null)" full/file hollow/file
  one_of 'the truncated file' "$(stat -c %s "$dir/tree/2/file-2")" 5 74
  one_of 'the mode' "$(stat -c %a "$dir/tree/1/file-1")" 600 644
  one_of 'the link' "$(stat -c %h "$dir/tree/4/file-4")" 1 2
  "$NF_WORK" try check "$dir/large" 60000000 >"$NF_TMP/size" || fail 'the large file holds what was never written'
  say "  the large file: $(cat "$NF_TMP/size") bytes, as they were written"
done
check_all
