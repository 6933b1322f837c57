#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# As on the disk below: the calls of *.calls, and calls by chance, have the same results, errors and attributes on the disk and
# at the mounts of the primary, of a replica and of a site without one. As a normal user, too, who has a proxy of his own.
if [ "$(id -u)" -eq 0 ]; then
  # shellcheck source=tests/sites/as-user.sh
  . "$(dirname "$0")/../sites/as-user.sh"
  run_as_user "$0" || exit
fi

# shellcheck source=tests/sites/stage.sh
. "$(dirname "$0")/../sites/stage.sh"

POSIX=$NF_BUILD/tests/posix/nf-posix
CALLS=$NF_SRC/tests/posix
: "${NF_POSIX_SEED:=$(long 1 "$(date +%s)")}"

limit "$(long 240 7500)"
dial_only ws
some_sites london nyc ws
share projects /projects london nyc 'writers = nyc; ws'
sites_up
wait_in_step

# same_run NAME SITE ARGUMENT…: nf-posix … in a new directory on the disk and at SITE; script on standard input.
same_run ()
{
  local name=$1 site=$2 verb=$3
  shift 3
  mkdir -p "$NF_TMP/native/$name" "$(at "$site")/$name"
  bounded 120 "$POSIX" "$verb" "$NF_TMP/native/$name" "$@" <"${SCRIPT:-/dev/null}" >"$NF_TMP/$name.disk" || return
  bounded 240 "$POSIX" "$verb" "$(at "$site")/$name" "$@" <"${SCRIPT:-/dev/null}" >"$NF_TMP/$name.mount" || return
  # A replica has ctimes of its own: what this site has changed may change them once more when it is carried out there.
  [ "$site" != nyc ] || sed -i 's/ c[+-]$//' "$NF_TMP/$name.disk" "$NF_TMP/$name.mount"
  diff -U 6 "$NF_TMP/$name.disk" "$NF_TMP/$name.mount" >"$NF_TMP/$name.diff"
}

differences=0
for script in names data attrs users locks; do
  [ "$script" != users ] || [ "$(id -u)" -eq 0 ] || continue
  for site in london nyc ws; do
    SCRIPT=$CALLS/$script.calls
    if same_run "$script-$site" "$site" run; then
      step "$script at $site: $(grep -c '→' "$NF_TMP/$script-$site.disk") calls, all as on the disk"
    else
      differences=$((differences + 1))
      say "$script at $site differs:" >&2
      head -n "${NF_POSIX_LINES:-60}" "$NF_TMP/$script-$site.diff" >&2
    fi
  done
done
unset SCRIPT
[ "$differences" -eq 0 ] || fail "$differences of the scripts differ"

if [ "$(id -u)" -ne 0 ]; then
  # Special bits are recorded beside the files of a personal replica: the mounts are what is equal.
  wait_in_step
  mount_equal nyc projects
  mount_equal ws projects
  no_complaints
  exit
fi

# Calls by chance, a process at each site at a time, each in its own directory: over links that take their time, where a
# call's answer is long there before its op, and over such as take none, where both come while the call is looked at.
seed=$NF_POSIX_SEED

# rounds SECONDS WHERE
rounds ()
{
  local until_s=$((SECONDS + $1)) n=0 site
  while [ "$SECONDS" -lt "$until_s" ]; do
    for site in london nyc ws; do
      job "random-$site" same_run "random-$site-$seed" "$site" random "$seed" "$(long 1500 5000)"
    done
    for site in london nyc ws; do
      job_end "random-$site" 300 || {
        head -n 60 "$NF_TMP/random-$site-$seed.diff" >&2
        fail "seed $seed at $site differs $2: NF_POSIX_SEED=$seed"
      }
      rm -rf "${NF_TMP:?}/native/random-$site-$seed" "$(at "$site")/random-$site-$seed"
    done
    seed=$((seed + 1)) n=$((n + 1))
  done
  step "$n rounds of calls by chance at three sites at a time $2, all as on the disk"
}

rounds "$(long 30 3500)" 'over links of 20 ms'
for control in "${NF_LINKS[@]}"; do
  "$NF_LINK" --ctl "$control" delay 0 >/dev/null || fail 'the links keep their delay'
done
rounds "$(long 30 3500)" 'over links of 0 ms'
check_all
