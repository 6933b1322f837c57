#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Everything as a user without privileges, mounted through fusermount3.  As root a user is made for it.
set -u

if [ "$(id -u)" -eq 0 ]; then
  # shellcheck source=tests/sites/as-user.sh
  . "$(dirname "$0")/as-user.sh"
  run_as_user "$0"
  exit
fi

# shellcheck source=tests/sites/stage.sh
. "$(dirname "$0")/stage.sh"
# shellcheck source=tests/sites/material.sh
. "$(dirname "$0")/material.sh"

limit "$(long 300 600)"
say "as $(id -un)"
three_sites
nyc=$(at nyc) tokyo=$(at tokyo)
grep -q " $(mnt nyc) fuse.nearfs .*user_id=$(id -u)," /proc/self/mounts || fail "$(grep "$(mnt nyc)" /proc/self/mounts)"

printf 'hello\n' >"$nyc/hello"
expect_file "$tokyo/hello" hello
make_odd_tree "$NF_TMP/odd" 50 || fail 'no tree'
bounded 60 rsync -aHAX "$NF_TMP/odd/" "$nyc/odd/" || fail 'rsync in at nyc'
wait_in_step
expect 'what rsync would change' "$(rsync -nicaHAX --delete "$NF_TMP/odd/" "$tokyo/odd/")" ''
# In personal mode ACLs and special bits are recorded beside the replica's files, not in them: what can
# be compared below are the mounts.
rm -r "$nyc/odd"
tries create "$nyc/secret" 5
chmod 0000 "$nyc/secret"
tries read "$nyc/secret"
expect 'reading without the right to' "$TRY_ERROR" EACCES
chmod 0600 "$nyc/secret"
job work-nyc "$NF_WORK" random "$nyc" 5 "$(long 200 1000)" nyc
job work-london "$NF_WORK" random "$(at london)" 6 1000 london
job_ok work-nyc 60
job_ok work-london 60
link_cut london tokyo
bounded 10 find "$tokyo" -type f -exec cat {} + >/dev/null || fail 'reading with the link cut'
link_heal london tokyo
site_stop nyc
printf 'while nyc is away\n' >"$tokyo/away" || fail 'writing at tokyo after the heal'
site_start nyc
expect_file "$nyc/away" 'while nyc is away'
check_all
