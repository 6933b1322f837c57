# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Work at three sites while something happens to one of them, and what of it must be found afterwards. To be sourced
# after stage.sh.

# load_begin ROUND: random work in "tree", files of which each is printed when close() or fsync() has acknowledged it in
# "acked".
load_begin ()
{
  local round=$1 site
  for site in london nyc tokyo; do
    job "random-$site" "$NF_WORK" random "$(at "$site")/tree" $((${seed:?} + round)) 100000 "$site"
    job "acked-$site" "$NF_WORK" acked-write "$(at "$site")/acked" "$site-$round" 100000
    job "synced-$site" "$NF_WORK" acked-write "$(at "$site")/acked" "$site-synced-$round" 100000 sync
  done
}

# load_start ROUND FILES: returns when nyc has FILES of them.
load_start ()
{
  local files=$2
  load_begin "$1"
  load_runs () { [ "$(wc -l <"$NF_TMP/job-acked-nyc")" -ge "$files" ] && [ -s "$NF_TMP/job-synced-tokyo" ]; }
  wait_for 90 load_runs || fail 'the load does not start'
}

# Whoever got an error has ended.
load_stop ()
{
  local site
  for site in london nyc tokyo; do
    ! job_runs "random-$site" || job_kill "random-$site"
    job_kill "acked-$site"
    job_kill "synced-$site"
  done
}

# load_found acked|synced MUST: what of the last round is there; with MUST 1 all of it, at each site.
load_found ()
{
  local kind=$1 must=$2 site reader names=$NF_TMP/names
  for site in london nyc tokyo; do
    grep -h "^$site-" "$NF_TMP/job-$kind-$site" | grep -v : >"$names"
    for reader in london nyc tokyo; do
      [ "$must" = 1 ] || break
      "$NF_WORK" acked-read "$(at "$reader")/acked" "$names" >/dev/null ||
        fail "of what was $kind at $site, read at $reader"
    done
    say "  $kind at $site: $(wc -l <"$names") acknowledged, $(
      cd "$(backing london projects)/acked" && xargs -r ls 2>/dev/null <"$names" | wc -l) there"
  done
}
