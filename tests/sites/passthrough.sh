#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Files that the kernel reads past the daemon, at a replica: what others change is seen, what this site changes is seen at
# once, new content comes whole, and what isn't to be read so isn't.
# shellcheck source=tests/sites/stage.sh
. "$(dirname "$0")/stage.sh"

limit 200
NF_PASS=$NF_BUILD/tests/mount/nf-pass
three_sites
london=$(at london) nyc=$(at nyc)

# count SITE opens|inodes|reads|on
count ()
{
  site_nearfs "$1" status --json |
    perl -MJSON::PP -e 'local $/; print decode_json (<STDIN>)->{passthrough}{$ARGV[0]}, "\n"' "$2"
}

if [ "$(count nyc on)" != 1 ]; then
  [ "$(id -u)" -ne 0 ] || [ "$(count nyc why_not)" = "the kernel can't (Linux 6.9 can)" ] || fail "$(count nyc why_not)"
  step "not here: $(count nyc why_not)"
  exit 77
fi

# passes FILE: is it passed through when it is opened?
passes ()
{
  local opens
  opens=$(count nyc opens)
  cat "$nyc/$1" >/dev/null
  [ "$(count nyc opens)" -gt "$opens" ]
}

# at_rest FILE: until it is.
at_rest ()
{
  local until=$((SECONDS + 20))
  until passes "$1"; do
    [ "$SECONDS" -lt "$until" ] || fail "$1 isn't passed through at nyc"
    sleep 0.1
  done
}

sum () { sha256sum <"$1" | cut -d' ' -f1; }

# hold FILE at nyc; ask read|size gives SAID.
hold ()
{
  coproc HELD { exec "$NF_PASS" held "$nyc/$1"; }
  held_pid=$HELD_PID
  read -r SAID <&"${HELD[0]}"
}
ask ()
{
  echo "$1" >&"${HELD[1]}"
  read -r -t 20 SAID <&"${HELD[0]}" || fail "no answer to $1"
}
let_go ()
{
  local fd=${HELD[1]}
  exec {fd}>&-
  wait "$held_pid" || fail 'the holder failed'
}

# becomes WORD WANTED: what is asked for gets to be that.
becomes ()
{
  local until=$((SECONDS + 20))
  ask "$1"
  until [ "$SAID" = "$2" ]; do
    [ "$SECONDS" -lt "$until" ] || fail "$1: $SAID instead of $2"
    sleep 0.02
    ask "$1"
  done
}

head -c 1000000 /dev/urandom >"$london/file"
wait_in_step
! passes file || fail 'what has just been changed is passed through'
at_rest file
reads=$(count nyc reads)
cmp "$nyc/file" "$london/file" || fail 'it reads something else'
[ "$(count nyc reads)" = "$reads" ] || fail 'the daemon was asked'
"$NF_PASS" stopped "$nyc/file" "${NF_PID[nyc]}" || fail 'the daemon is stopped'
step 'read past the daemon, and only at rest'

# What others change in place.
hold file
[ "$(count nyc inodes)" = 1 ] || fail 'the holder is not passed through'
printf changed | dd of="$london/file" bs=1 seek=4090 conv=notrunc status=none
printf 'at the end' >>"$london/file"
becomes read "$(sum "$london/file")"
becomes size "$(stat -c %s "$london/file")"
truncate -s 5000 "$london/file"
becomes size 5000
becomes read "$(sum "$london/file")"
# Replaced: who has it open keeps it.
old=$(sum "$london/file")
head -c 20000 /dev/urandom >"$london/new" && mv "$london/new" "$london/file"
wait_in_step
ask read
[ "$SAID" = "$old" ] || fail 'the handle of what was renamed over has changed'
cmp "$nyc/file" "$london/file" || fail 'not the new file'
let_go
step "others' changes are seen, and what is renamed over stays"

# New content, too much to come with the op, is switched in as another file.
head -c 3000000 /dev/urandom >"$london/large"
wait_in_step
at_rest large
hold large
old=$(sum "$london/large")
head -c 3000000 /dev/urandom >"$NF_TMP/content"
dd if="$NF_TMP/content" of="$london/large" bs=1M conv=notrunc status=none
wait_in_step
ask read
[ "$SAID" = "$old" ] || [ "$SAID" = "$(sum "$london/large")" ] || fail 'a handle mixes two versions'
cmp "$nyc/large" "$london/large" || fail 'not the new content'
let_go
step 'new content comes whole'

# Zeros never show where a log grows.
: >"$london/log"
for ((i = 0; i < 30; i++)); do printf '%0900d\n' 7 >>"$london/log"; done
wait_in_step
at_rest log
coproc HELD { exec timeout 60 "$NF_PASS" grows "$nyc/log" 16000000; }
held_pid=$HELD_PID
read -r SAID <&"${HELD[0]}"
[ "$(count nyc inodes)" = 1 ] || fail 'the log is not passed through'
tr '\0' x </dev/zero | dd of="$london/log" bs=40000 count=400 iflag=fullblock oflag=append conv=notrunc status=none
wait "$held_pid" || fail 'a log was seen as it never was'
step 'a log that grows'

# This site's own changes, beside others'.
head -c 9000 /dev/urandom >"$london/own"
wait_in_step
at_rest own
noise () { while [ ! -e "$NF_TMP/quiet" ]; do printf x | dd of="$london/own" bs=1 seek=9 conv=notrunc status=none; done; }
job noise noise
bounded 60 "$NF_PASS" own "$nyc/own" 30 || fail 'not all of it is seen at once'
: >"$NF_TMP/quiet"
job_ok noise 30
for name in beside mapped; do
  head -c 100000 /dev/urandom >"$london/$name"
  wait_in_step
  at_rest "$name"
  bounded 60 "$NF_PASS" "$name" "$nyc/$name" || fail "$name"
done
echo old >"$london/replaced"
wait_in_step
at_rest replaced
bounded 60 "$NF_PASS" replaced "$nyc/replaced" || fail 'replaced'
head -c 100000 /dev/urandom >"$london/race"
wait_in_step
at_rest race
bounded 60 "$NF_PASS" race "$nyc/race" 2 || fail 'opens at a time'
step 'own changes are seen when the call returns'

# What is written into in place, or has something over it, isn't passed through.
head -c 9000 /dev/urandom >"$london/two"
ln "$london/two" "$london/names"
head -c 9000 /dev/urandom >"$london/pending"
wait_in_step
at_rest pending
! passes two || fail 'a file with two names is passed through'
link_cut london nyc
coproc HELD { exec "$NF_PASS" pending "$nyc/pending"; }
held_pid=$HELD_PID
read -r SAID <&"${HELD[0]}" || fail 'what is written is not seen'
! passes pending || fail 'a file with a write under way is passed through'
link_heal london nyc
echo >&"${HELD[1]}"
wait "$held_pid" || fail 'the write failed'
wait_in_step
step 'what is not wholly in the file is not passed through'
check_all
