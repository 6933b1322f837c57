#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Public stressors at the primary's mount and at a replica's: stress-ng's filesystem class, fio with verification, dbench. What
# fails there must fail on the disk, too.
# shellcheck source=tests/sites/stage.sh
. "$(dirname "$0")/../sites/stage.sh"

for program in stress-ng fio dbench; do
  command -v "$program" >/dev/null || fail "this test needs $program: apt-get install stress-ng fio dbench"
done

limit "$(long 1500 3600)"
some_sites london nyc
share projects /projects london nyc
sites_up
wait_in_step
mkdir "$NF_TMP/disk"

# failures DIRECTORY FILE: writes to FILE what stressors complain of there; how it ended is in STRESS_STATUS.
failures ()
{
  STRESS_STATUS=0
  bounded 900 stress-ng --class filesystem --sequential 2 --timeout "$(long 1 5)" --verify --oomable \
    --temp-path "$1" >"$NF_TMP/stress.log" 2>&1 || STRESS_STATUS=$?
  sed -nE 's/.*(fail|error): *\[[0-9]+\] ([a-z-]+): (.*)/\2: \3/p' "$NF_TMP/stress.log" | sed -E 's/[0-9]+/N/g' | sort -u >"$2"
}

failures "$NF_TMP/disk" "$NF_TMP/disk.failures"
status=$STRESS_STATUS
for site in london nyc; do
  mkdir "$(at "$site")/stress-$site"
  failures "$(at "$site")/stress-$site" "$NF_TMP/$site.failures"
  only=$(comm -13 "$NF_TMP/disk.failures" "$NF_TMP/$site.failures")
  [ -z "$only" ] || fail "stress-ng complains at $site, not on the disk: $only"
  [ "$STRESS_STATUS" -eq "$status" ] || fail "stress-ng ends with $STRESS_STATUS at $site, with $status on the disk: $(tail -n 3 "$NF_TMP/stress.log")"
  step "stress-ng at $site ends as on the disk, with $status"
done

for site in london nyc; do
  mkdir "$(at "$site")/fio-$site"
  bounded 300 fio --directory="$(at "$site")/fio-$site" --name=verify --rw=randrw --bs=512-64k --size=16m --numjobs=4 \
    --verify=crc32c --verify_fatal=1 --do_verify=1 --verify_state_save=0 --fsync=64 --output="$NF_TMP/fio.log" ||
    fail "fio at $site: $(grep -m 3 -i 'verify\|error' "$NF_TMP/fio.log")"
  bounded 300 dbench -D "$(at "$site")" -t "$(long 10 60)" 4 >"$NF_TMP/dbench.log" 2>&1 ||
    fail "dbench at $site: $(tail -n 3 "$NF_TMP/dbench.log")"
  step "fio verifies, and dbench works at $site: $(tail -n 1 "$NF_TMP/dbench.log")"
done
check_all
