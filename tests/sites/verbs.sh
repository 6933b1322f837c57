#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The daemon and the verbs, at two sites: status, wait, log, map load and adopt, umount, signals, and a
# share whose disk isn't there.
set -u

# shellcheck source=tests/sites/lib.sh
. "$(dirname "$0")/lib.sh"

# status SITE: its exit status; what it printed is in $out.
status ()
{
  out=$(site_nearfs "$1" status 2>&1)
  rc=$?
}

is_in_step ()
{
  status "$1"
  [ "$rc" -eq 0 ]
}

not_in_step ()
{
  ! is_in_step "$1"
}

log_has ()
{
  grep -q -- "$2" "$NF_TMP/$1/daemon.log"
}

exists ()
{
  [ -e "$1" ]
}

# says TEXT PATTERN: wherever the text's lines were folded.
says ()
{
  tr -s '[:space:]' ' ' <<<"$1" | grep -q -- "$2"
}

# status_says SITE PATTERN
status_says ()
{
  status "$1"
  says "$out" "$2"
}

# expect_text TEXT PATTERN
expect_text ()
{
  says "$1" "$2" || fail "expected \"$2\" in: $1"
}

sites london nyc
share projects /projects london nyc

say "no daemon"
write_map
write_site_conf london
out=$(site_nearfs london status 2>&1)
expect "status without a daemon" $? 2
expect_text "$out" 'nearfs serve'

sites_up
echo one >"$(mnt nyc)/projects/one" || fail "nyc can't write"

say "wait, status, log"
site_nearfs nyc wait --timeout $((20 * NF_SLOW)) "$(mnt nyc)/projects/one" || fail "wait by path"
site_nearfs london wait --sites nyc --timeout $((20 * NF_SLOW)) projects || fail "wait by share"
wait_for 10 is_in_step london || fail "london: $out"
wait_for 10 is_in_step nyc || fail "nyc: $out"
site_nearfs nyc log projects | grep -q '(one).*by nyc' || fail "the log doesn't name the file"
site_nearfs london log projects | grep -q '(one).*by nyc' || fail "the log doesn't name the file"
out=$(site_nearfs london wait --sites paris projects 2>&1) && fail "waited for a stranger"
expect_text "$out" "paris isn't a site of share projects"
out=$(site_nearfs london wait /etc 2>&1) && fail "waited for /etc"
expect_text "$out" '"nearfs status" lists the shares'
site_nearfs nyc status --json | grep -q '"role" : "replica"' || fail "status --json"

say "who isn't in step is named"
link_cut london nyc
wait_for 20 not_in_step nyc || fail "nyc takes itself to be in step"
wait_for 20 not_in_step london || fail "london takes nyc to be in step"
echo two >"$(mnt london)/projects/two"
out=$(site_nearfs london wait --timeout 1 projects 2>&1) && fail "waited for a site that is away"
expect_text "$out" "nyc isn't connected"
link_heal london nyc
wait_in_step
wait_for 10 is_in_step nyc || fail "nyc isn't in step again: $out"

say "a second daemon"
out=$(site_nearfs london serve 2>&1) && fail "two daemons of one site"
expect_text "$out" 'runs already'

say "a new map"
mkdir "$NF_TMP/london/srv/more"
share more /more london nyc
write_map 2
out=$(site_nearfs london map load) || fail "map load at london"
expect_text "$out" 'more'
wait_for 20 status_says london 'its server map isn.t ours' || fail "no difference of maps: $out"
kill -HUP "${NF_PID[nyc]}"
wait_for 20 exists "$(mnt nyc)/more" || fail "nyc hasn't the new share"
echo three >"$(mnt nyc)/more/three" || fail "nyc can't write to the new share"
cat "$(mnt nyc)/projects/one" >/dev/null || fail "the other share is gone"
wait_in_step
expect "the new share's file" "$(cat "$(mnt london)/more/three")" three

say "a wrong map"
sed -i 's/^serial.*/serial = seven/' "$NF_TMP/server.map"
out=$(site_nearfs london map load 2>&1) && fail "a wrong map was taken"
expect_text "$out" "server.map:2: serial = seven; expected"
expect "the share after that" "$(cat "$(mnt london)/more/three")" three
status_says london 'serial = seven' || fail "status doesn't name the wrong map"
write_map 3
site_nearfs london map load >/dev/null || fail "map load"
site_nearfs nyc map load >/dev/null || fail "map load"
wait_for 20 is_in_step london || fail "not in step after the map: $out"
status_says london differs && fail "the maps are the same: $out"

say "a disk that isn't there"
site_stop nyc
mv "$NF_TMP/nyc/srv/more" "$NF_TMP/nyc/srv/more.away"
mkdir "$NF_TMP/nyc/srv/more"
site_start nyc
status nyc
expect "status with a refused share" "$rc" 1
expect_text "$out" 'has lost the mark of share more'
expect "the other share" "$(cat "$(mnt nyc)/projects/one")" one
exists "$(mnt nyc)/more/three" && fail "the refused share is shown"
wait_for 20 status_says london 'open here only: more' || fail "london: $out"
rmdir "$NF_TMP/nyc/srv/more"
mv "$NF_TMP/nyc/srv/more.away" "$NF_TMP/nyc/srv/more"
kill -HUP "${NF_PID[nyc]}"
wait_for 20 exists "$(mnt nyc)/more/three" || fail "the share isn't tried again"

say "a directory that isn't empty"
site_stop nyc
rm -rf "$NF_TMP/nyc/srv/more" "$NF_TMP/nyc/state/nyc/more"
mkdir "$NF_TMP/nyc/srv/more"
echo stray >"$NF_TMP/nyc/srv/more/stray"
site_start nyc
status nyc
expect_text "$out" "isn't empty"
site_nearfs nyc map adopt more || fail "map adopt"
wait_for 20 exists "$(mnt nyc)/more/three" || fail "the adopted directory isn't filled"
wait_in_step
wait_for 20 is_in_step nyc || fail "nyc isn't in step: $out"
trees_equal more || fail "the trees differ"
find "$NF_TMP/nyc/srv/more/.nearfs/quarantine" -name stray | grep -q . || fail "what was there is lost"

# Only root can call as somebody else; "daemon" is user 1 everywhere.
if [ "$(id -u)" -eq 0 ]; then
  say "whose calls they are"
  mkdir -m 1777 "$(mnt london)/projects/open"
  NF_KEYS[projects]='users = *'
  write_map 4
  site_nearfs london map load >/dev/null || fail "map load"
  site_nearfs nyc map load >/dev/null || fail "map load"
  wait_for 20 is_in_step nyc || fail "not in step after the map: $out"
  setpriv --reuid daemon --regid daemon --init-groups touch "$(mnt nyc)/projects/open/daemons" ||
    fail "daemon can't write"
  touch "$(mnt nyc)/projects/open/roots" || fail "squashed root can't write where all may"
  touch "$(mnt nyc)/projects/roots" 2>/dev/null && fail "squashed root wrote to root's directory"
  wait_in_step
  for site in london nyc; do
    expect "the owner at $site" \
      "$(cd "$(mnt "$site")/projects/open" && stat -c %U daemons roots | xargs)" 'daemon nobody'
  done
  NF_KEYS[projects]=$'users = *; root\nwriters = london'
  write_map 5
  site_nearfs london map load >/dev/null || fail "map load"
  site_nearfs nyc map load >/dev/null || fail "map load"
  wait_for 20 is_in_step nyc || fail "not in step after the map: $out"
  touch "$(mnt nyc)/projects/roots" 2>/dev/null && fail "nyc isn't a writer and wrote"
  NF_KEYS[projects]='users = *; root'
  write_map 6
  site_nearfs london map load >/dev/null || fail "map load"
  site_nearfs nyc map load >/dev/null || fail "map load"
  wait_for 20 is_in_step nyc || fail "not in step after the map: $out"
fi

say "umount"
exec 7>"$(mnt nyc)/projects/busy"
out=$(site_nearfs nyc umount "$(mnt nyc)" 2>&1) && fail "unmounted what is in use"
expect_text "$out" "is in use"
expect_text "$out" "$$ "
echo text >&7
exec 7>&-
site_nearfs nyc umount "$(mnt nyc)" || fail "umount"
kill -0 "${NF_PID[nyc]}" 2>/dev/null && [ "$(ps -o stat= -p "${NF_PID[nyc]}")" != Z ] &&
  fail "the daemon is there after umount"
wait "${NF_PID[nyc]}" || fail "the daemon ended with $?"
unset "NF_PID[nyc]"
expect "what was written last" "$(cat "$(mnt london)/projects/busy")" text

if [ "$(id -u)" -eq 0 ]; then
  say "another mount namespace"
  site_start nyc
  wait_in_step
  # It has the mount as soon as it says so, and keeps it until it is told.
  coproc other { exec bash "$NF_SRC/tests/sites/own-mounts.sh" -k "$(mnt nyc)" sh -c 'echo has; read -r _'; }
  read -r _ <&"${other[0]}" || fail "no mount namespace"
  for again in '' ' (asked again)'; do
    out=$(site_nearfs nyc umount "$(mnt nyc)" 2>&1) && fail "unmounted what another namespace has$again"
    expect_text "$out" "there is another mount of it"
  done
  site_nearfs nyc umount --lazy "$(mnt nyc)" || fail "umount --lazy"
  wait "${NF_PID[nyc]}" || fail "the daemon ended with $?"
  unset "NF_PID[nyc]"
  echo >&"${other[1]}"
fi

say "in the background"
command=(env "HOME=$NF_TMP/nyc/home" "STATE_DIRECTORY=$NF_TMP/nyc/state" "$NEARFS" mount --config "$NF_TMP/nyc/site.conf"
  --log-file "$NF_TMP/nyc/daemon.log" "$(mnt nyc)")
"${command[@]}" || fail "mount in the background"
expect "a file, at once" "$(cat "$(mnt nyc)/projects/one")" one
NF_PID[nyc]=$(site_nearfs nyc status --json | sed -n 's/.*"pid" : \([0-9]*\).*/\1/p')
"${command[@]}" 2>"$NF_TMP/second" && fail "mounted twice"
expect_text "$(cat "$NF_TMP/second")" 'runs already'
umount "$(mnt nyc)" 2>/dev/null || fusermount3 -u "$(mnt nyc)" || fail "umount(8)"
wait_for 20 has_ended "${NF_PID[nyc]}" || fail "the daemon goes on after umount(8)"
unset "NF_PID[nyc]"

say "mounted again as soon as it was unmounted"
for i in 1 2 3; do
  "${command[@]}" || fail "mount $i"
  for ((j = 0; j < 50; j++)); do echo "$i" >"$(mnt nyc)/projects/again.$j" || fail "write $i"; done
  umount "$(mnt nyc)" 2>/dev/null || fusermount3 -u "$(mnt nyc)" || fail "umount(8) $i"
done
ended () { ! site_nearfs nyc status >/dev/null 2>&1; }
wait_for 20 ended || fail "the daemon goes on after umount(8)"

say "a signal while the link is down"
site_start nyc
wait_for 20 is_in_step nyc || fail "not in step: $out"
link_cut london nyc
echo late >"$(mnt nyc)/projects/one" 2>/dev/null &
writer=$!
sleep 0.2
start=$SECONDS
kill -TERM "${NF_PID[nyc]}"
wait_for 20 has_ended "${NF_PID[nyc]}" || fail "a stop with the link down hangs"
wait "$writer"
wait "${NF_PID[nyc]}" || fail "the daemon ended with $?"
unset "NF_PID[nyc]"
say "  stopped after $((SECONDS - start)) s"
link_heal london nyc

say "all stop in good order"
site_start nyc
wait_for 20 is_in_step nyc || fail "not in step: $out"
site_stop nyc
site_stop london
log_has london 'has stopped' || fail "london doesn't say that it stopped"
