#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Real proxies end, as by kill -9, at each step that has a name in the code, under load: of the primary and of a replica.
# They start again; what was acknowledged is there, all sites are equal, and fsck says so.
# shellcheck source=tests/sites/stage.sh
. "$(dirname "$0")/../sites/stage.sh"
# shellcheck source=tests/sites/load.sh
. "$(dirname "$0")/../sites/load.sh"

limit "$(long 300 5400)"
seed=${NF_SEED:-$((RANDOM * 32768 + RANDOM))}
say "NF_SEED=$seed"
three_sites
mkdir "$(at london)/tree" "$(at london)/acked"
wait_in_step

export NF_WORK_MAY_FAIL='EHOSTUNREACH ENOTCONN ECONNABORTED EIO'
round=0 killed=0

# Some are only reached when a share is closed.
dies ()
{
  local pid=${NF_PID[$1]}
  wait_for 20 has_ended "$pid" && return
  kill -TERM "$pid" 2>/dev/null
  wait_for 20 has_ended "$pid" || fail "$1 doesn't come to $point"
}

# die_at SITE POINT COUNT
die_at ()
{
  local site=$1 point=$2 count=$3 rc=0
  round=$((round + 1))
  site_stop "$site"
  NEARFS_POINT=$point:$count site_start "$site"
  wait_in_step 90
  load_begin "$round"
  dies "$site"
  wait "${NF_PID[$site]}" || rc=$?
  [ "$rc" -eq 137 ] || fail "$site ended with status $rc instead of at $point"
  site_kill "$site"
  site_start "$site"
  load_stop
  wait_in_step 90
  load_found acked 1
  load_found synced 1
  trees_equal projects || fail "the trees differ after the end of $site at $point"
  site_nearfs nyc fsck -n --content /projects >"$NF_TMP/fsck" || { cat "$NF_TMP/fsck"; fail "fsck after $point"; }
  killed=$((killed + 1))
  step "$site ended at $point, the ${count}th time: all equal"
}

# die_at_all TURN POINT…
die_at_all ()
{
  local turn=$1 point n
  shift
  for point in "$@"; do
    case $point in
      checkpoint-*) n=1 ;;
      fetch-chunk | replica-s*) n=$((5 * turn)) ;;
      primary-answered | replica-position) n=$((20 * turn)) ;;
      *) n=$((200 * turn + RANDOM % 200)) ;;
    esac
    case $point in
      replica-*) die_at nyc "$point" "$n" ;;
      *) die_at london "$point" "$n" ;;
    esac
  done
}

if [ "$(long few all)" = few ]; then
  die_at_all 1 primary-executed checkpoint-noted replica-applied
else
  for turn in 1 2 3; do
    die_at_all "$turn" primary-appended primary-executed primary-indexed primary-answered broadcast-sent fetch-chunk \
      checkpoint-synced checkpoint-noted replica-journaled replica-applied replica-position replica-staged replica-switch
  done
fi
check_all 90
say "ended at named points: $killed times, all sites equal and fsck clean after each"
