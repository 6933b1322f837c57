#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# "nearfs fsck" at a replica that somebody has been at: everything is found, also while people work, and
# nothing else; repair makes the trees equal and keeps what was there; the quarantine gives it back.
# shellcheck source=tests/sites/stage.sh
. "$(dirname "$0")/stage.sh"
# shellcheck source=tests/sites/material.sh
. "$(dirname "$0")/material.sh"

limit "$(long 300 600)"
three_sites
make_odd_tree "$(at london)/odd" "$(long 1000 20000)" || fail 'no tree'
head -c 3000000 /dev/urandom >"$(at london)/large"
wait_in_step 120
here=$(backing tokyo projects)

# fsck STATUS ARG…: at $fsck_at; its output is in $out.
fsck_at=tokyo
fsck ()
{
  local wanted=$1 rc
  shift
  out=$(bounded 120 "$NEARFS" fsck --config "$NF_TMP/$fsck_at/site.conf" "$@" 2>&1)
  rc=$?
  [ "$rc" -eq "$wanted" ] || fail "fsck $*: status $rc instead of $wanted: $out"
}

# names PATH CODE…: that it was found, with these codes.
names ()
{
  grep -qF "/$1: $2: " <<<"$out" || fail "fsck doesn't say \"/$1: $2\" but: $out"
}

start=$(now_ms)
fsck 0 -n projects
grep -q 'entries compared: clean' <<<"$out" || fail "not clean: $out"
fsck 0 -n --content projects
grep -q 'MB of content: clean' <<<"$out" || fail "not clean: $out"
step "an equal replica is clean, in $(($(now_ms) - start)) ms with and without content: $out"

damage ()
{
  rm "$here/odd/tool"
  printf 'mine\n' >"$here/odd/stranger"
  mkdir "$here/odd/a-directory" && printf 'mine\n' >"$here/odd/a-directory/file"
  chmod 0777 "$here/odd/bigger"
  printf 'longer\n' >>"$here/odd/plain"
  ln -sfn elsewhere "$here/odd/soft"
  setfattr -n user.color -v red "$here/odd/sub"
  rm -r "$here/odd/many/07"
  mv "$here/odd/many/08" "$here/odd/many/moved"
  # As a disk does it: no time tells.
  cp -p --attributes-only "$here/large" "$NF_TMP/times"
  printf '!' | dd of="$here/large" bs=1 seek=1500000 conv=notrunc status=none
  touch -r "$NF_TMP/times" "$here/large"
}
damage
fsck 4 -n --content projects
names odd/tool missing
names odd/stranger surplus
names odd/a-directory surplus
names odd/bigger mode,xattr
names odd/plain size,mtime
names odd/soft identity
names odd/sub xattr
names odd/many/07 missing
names odd/many/moved surplus
names large content
grep -q 'differ$' <<<"$out" || fail "no summary: $out"
[ -e "$here/odd/stranger" ] && [ ! -e "$here/odd/tool" ] || fail 'fsck -n has changed something'
fsck 4 -n --json "$(at tokyo)/odd/many"
grep -q '"path" : "odd/many/07"' <<<"$out" || fail "no JSON: $out"
grep -q '"path" : "large"' <<<"$out" && fail "not only what was asked for: $out"
step 'all that was done to the replica is named, and nothing changed'

# While people work, at the primary and away.
for site in london nyc; do
  job "work-$site" "$NF_WORK" random "$(at "$site")/odd" 7 "$(long 600 6000)" "$site"
done
# What is under way is no change behind the proxy.
fsck_at=london
for ((i = 0; i < 5; i++)); do fsck 0 -n projects; done
fsck_at=tokyo
fsck 1 -y --content projects
grep -q ' 1[67] differed, all repaired$' <<<"$out" || fail "more or less than was done (of \"odd\" the mtime moves on by itself): $out"
job_ok work-nyc 120
job_ok work-london 120
wait_in_step 120
fsck 0 -n --content projects
check_all 90
step 'repaired while two sites worked; clean, and all trees equal'

list=$(site_nearfs tokyo quarantine list projects) || fail "quarantine list: $list"
id=$(awk '$3 == "/odd/stranger:" { print $2 }' <<<"$list" | head -n 1)
[ -n "$id" ] || fail "the stranger isn't listed: $list"
out=$(site_nearfs tokyo quarantine show projects "$id") || fail "quarantine show: $out"
grep -q 'why  not what the primary has' <<<"$out" || fail "quarantine show: $out"
site_nearfs tokyo quarantine restore projects "$id" "$NF_TMP/back" || fail 'quarantine restore'
expect 'what was in quarantine' "$(cat "$NF_TMP/back")" mine
site_nearfs tokyo quarantine restore projects "$id" "$NF_TMP/back" 2>/dev/null && fail 'restored over something'
site_nearfs tokyo quarantine drop projects "$id" || fail 'quarantine drop'
site_nearfs tokyo quarantine show projects "$id" 2>/dev/null && fail 'dropped, and still there'
site_nearfs tokyo quarantine drop --all projects || fail 'quarantine drop --all'
site_nearfs tokyo quarantine list | grep -q 'Nothing is in quarantine' || fail 'not all was dropped'
step "quarantine: $(wc -l <<<"$list") things listed, shown, restored, dropped"

# A site that is down.
site_stop tokyo
printf 'mine\n' >"$here/odd/stranger"
fsck 1 -y projects
names odd/stranger surplus
[ ! -e "$here/odd/stranger" ] || fail 'the stranger is there still'
"$NEARFS" status --config "$NF_TMP/tokyo/site.conf" >/dev/null 2>&1 && fail 'the daemon that fsck started runs on'
site_start tokyo
wait_in_step 60
step 'a site that was down is repaired by a daemon of its own for that time'

# Behind the primary's proxy.
there=$(backing london projects)
mkdir "$there/behind"
printf 'made behind\n' >"$there/behind/file"
mv "$there/odd/many" "$there/many-moved"
rm "$there/large"
fsck_at=london
fsck 4 -n projects
names behind foreign
names many-moved moved
names large removed
[ -e "$(at tokyo)/large" ] || fail 'fsck -n has removed something'
fsck 1 -y projects
grep -q 'are taken over$' <<<"$out" || fail "no summary: $out"
wait_in_step 60
expect 'at tokyo' "$(cat "$(at tokyo)/behind/file")" 'made behind'
[ ! -e "$(at nyc)/large" ] && [ -e "$(at nyc)/many-moved/08" ] || fail 'nyc has not followed'
fsck 0 -n projects
# Two seconds' worth of entries take no less.
entries=$(find "$there" -mindepth 1 -not -path '*/.nearfs*' | wc -l)
began=${EPOCHREALTIME/[.,]/}
fsck 0 -n --rate="$(perl -e 'printf "%.4f", $ARGV[0] / 2000' "$entries")" projects
took=$((${EPOCHREALTIME/[.,]/} - began))
[ "$took" -ge 1800000 ] || fail "at a rate of $entries in two seconds they took $took us"
fsck_at=tokyo
fsck 0 -n --content projects
check_all 90
step "what was done behind the primary's proxy is at all sites"

# The same while it is down.
site_stop london
printf 'made while down\n' >"$there/behind/second"
rm "$there/behind/file"
fsck_at=london
fsck 4 -n projects
names behind/second foreign
names behind/file removed
fsck 1 -y projects
"$NEARFS" status --config "$NF_TMP/london/site.conf" >/dev/null 2>&1 && fail 'the daemon that fsck started runs on'
site_start london
wait_in_step 60
expect 'at nyc' "$(cat "$(at nyc)/behind/second")" 'made while down'
[ ! -e "$(at nyc)/behind/file" ] || fail 'nyc has not followed'
fsck 0 -n projects
fsck_at=tokyo
check_all 90
step "and what was done while it was down"

# The wrong things.
fsck 16 --nonsense
fsck 16 -n -y projects
fsck 8 -n /nowhere
fsck 8 -n "$(at tokyo)/not-there"
link_cut london tokyo
bounded 60 "$NEARFS" fsck --config "$NF_TMP/tokyo/site.conf" -n projects >/dev/null 2>&1 && fail 'compared without a link'
link_heal london tokyo
wait_in_step 60
step 'what is asked wrongly is refused'
