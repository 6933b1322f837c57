#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A disk fails while its site runs: each access is an I/O error from then on (ext4's shutdown, without anything being killed).
# A replica's: the others work on, and it says what is wrong. The primary's: who writes gets an error, and what was fsynced is
# there when the disk is back. Then all are equal, and fsck says so.
# shellcheck source=tests/sites/stage.sh
. "$(dirname "$0")/../sites/stage.sh"
# shellcheck source=tests/faults/disk.sh
. "$(dirname "$0")/disk.sh"

# disk_fail SITE
disk_fail ()
{
  "$NF_WORK" power-cut "$(backing "$1" projects)" || fail "the disk of $1 doesn't fail"
}

# disk_back SITE: as a person would: the proxy ends, the disk is mounted again, the proxy starts.
disk_back ()
{
  site_kill "$1"
  wait_for 10 umount "$(backing "$1" projects)" || fail "the disk of $1 is in use"
  disk_mount "$1" || fail "the disk of $1 can't be mounted again"
  site_start "$1"
}

says_trouble ()
{
  site_nearfs "$1" status >"$NF_TMP/status" 2>&1
  grep -qi 'input/output error' "$NF_TMP/status"
}

all_equal ()
{
  wait_in_step 90
  trees_equal projects || fail "the trees differ after $1"
  for site in nyc tokyo; do
    site_nearfs "$site" fsck -n --content /projects >"$NF_TMP/fsck" || { cat "$NF_TMP/fsck"; fail "fsck at $site"; }
  done
  step "$1: all equal"
}

limit 200
some_sites london nyc tokyo
share projects /projects london 'nyc tokyo'
for site in "${SITES[@]}"; do disk_up "$site"; done
sites_up
wait_in_step 60
mkdir "$(at london)/kept"
for i in 1 2 3 4 5; do echo "kept $i" >"$(at london)/kept/$i"; done
sync "$(at london)/kept"/*
wait_in_step

disk_fail nyc
for i in 6 7 8 9; do echo "kept $i" >"$(at tokyo)/kept/$i" || fail "tokyo can't write while nyc's disk is bad"; done
for i in 6 7 8 9; do [ "$(cat "$(at london)/kept/$i")" = "kept $i" ] || fail "london doesn't see what tokyo wrote"; done
wait_for 30 says_trouble nyc || { cat "$NF_TMP/status"; fail 'nyc does not say what is wrong'; }
say "  $(grep -i 'input/output' "$NF_TMP/status" | sed 's/^ *//')"
disk_back nyc
all_equal "the disk of a replica failed"

sync "$(at london)/kept"/*
disk_fail london
! echo lost >"$(at tokyo)/kept/lost" 2>/dev/null || fail 'a write was taken while the disk of the primary was bad'
! echo lost >"$(at london)/kept/lost" 2>/dev/null || fail 'a write was taken at the primary'
[ "$(cat "$(at nyc)/kept/3")" = 'kept 3' ] || fail 'nyc does not read while the disk of the primary is bad'
disk_back london
all_equal "the disk of the primary failed"
for i in 1 2 3 4 5 6 7 8 9; do [ "$(cat "$(at tokyo)/kept/$i")" = "kept $i" ] || fail "kept/$i is lost"; done
step 'what was fsynced is there'
