#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Files that the kernel reads past the daemon, at the primary: that it does, that nothing else is different, and that
# everything is the same where it may not.
set -u
. "${NF_SRC:-.}/tests/mount/lib.sh"

nearfs=$(realpath "$build/nearfs")
pass=$(realpath "$build/tests/mount/nf-pass")

# start OPTION: the daemon, with share /docs, mounted on $mnt.
start ()
{
  home=$dir/$1
  mnt=$home/mnt
  mkdir -p "$mnt" "$home/docs" "$home/run"
  chmod 700 "$home/run"
  cat > "$home/map" <<END
[map]
serial = 1

[site here]
ssh = none

[share docs]
mount = /docs
local = here:$home/docs
END
  cat > "$home/site.conf" <<END
[site]
name = here
map = $home/map
roots = $home
runtime = $home/run
END
  STATE_DIRECTORY=$home/state "$nearfs" mount -f -o "$1" --config "$home/site.conf" "$mnt" > "$home/log" 2>&1 &
  pid=$!
  until_true 10 mounted "$mnt" || { cat "$home/log" >&2; exit 1; }
  cd "$mnt/docs" || exit 1
}

stop ()
{
  cd / || exit 1
  kill -TERM "$pid"
  wait "$pid" || fail "the daemon ended with $?"
  ! mounted "$mnt" || fail 'still mounted'
}

cleanup ()
{
  cd / || return
  [ -z "${pid:-}" ] || kill -CONT "$pid" 2> /dev/null
  [ -z "${pid:-}" ] || kill -KILL "$pid" 2> /dev/null
}

# count opens|inodes|reads
count ()
{
  "$nearfs" status --json --config "$home/site.conf" |
    perl -MJSON::PP -e 'local $/; print decode_json (<STDIN>)->{passthrough}{$ARGV[0]}, "\n"' "$1"
}

runs ()
{
  [ "$(readlink "/proc/$1/exe")" = "$2" ]
}

count_is ()
{
  [ "$(count "$1")" = "$2" ]
}

random ()
{
  head -c "$1" /dev/urandom > "$2"
}

is_resting ()
{
  [ $(($(date +%s) - $(stat -c %Z "$1"))) -ge 3 ]
}

# What was changed in the last two seconds isn't passed through.
rest ()
{
  [ "$mode" = nopassthrough ] || until_true 20 is_resting "$1" || fail "$1 doesn't come to rest"
}

# The same in both modes. Works in files of their own, since what was once open for both isn't passed through.
check_works ()
{
  for work in beside mapped; do
    random 100000 "$work"
    rest "$work"
    check "$mode: $work" timeout 60 "$pass" "$work" "$work"
    cmp "$work" "$home/docs/$work" || fail "$mode: $work is another file behind"
  done
  # What was stored in the mapping came by way of the journal.
  "$nearfs" log --config "$home/site.conf" /docs | grep -q ' data 0+4096 size 100000 (mapped)$' ||
    fail "$mode: a mapping was written past the journal"
  echo old > replaced
  rest replaced
  check "$mode: replaced" timeout 60 "$pass" replaced replaced
  random 300000 ways
  rest ways
  check "$mode: ways" timeout 60 "$pass" ways ways other
  cmp ways other || fail "$mode: copy_file_range"
  cp ways copy && cmp ways copy || fail "$mode: cp"
  random 10000 race
  rest race
  check "$mode: opens at a time" timeout 60 "$pass" race race 2
  cp /bin/true true
  check "$mode: a program" ./true
  if [ "$(id -u)" = 0 ]; then
    chmod 600 ways
    check "$mode: another's descriptor" timeout 60 "$pass" as-nobody ways
  fi
  # What runs can't be written.
  cp /bin/sleep sleep
  rest sleep
  ./sleep 20 &
  sleeper=$!
  until_true 5 runs $sleeper "$PWD/sleep" || fail "$mode: it doesn't run"
  if (exec 8>> ./sleep) 2> /dev/null; then fail "$mode: a running program could be written"; fi
  kill $sleeper
  wait $sleeper 2> /dev/null
}

# They are passed through, and only they.
check_passed ()
{
  random 1000000 file
  rest file
  opens=$(count opens) reads=$(count reads)
  cmp file "$home/docs/file" || fail 'it reads something else'
  is 'an open for reading' "$(count opens)" $((opens + 1))
  is 'reads past the daemon' "$(count reads)" "$reads"
  until_true 5 count_is inodes 0 || fail "a number was kept: $(count inodes)"
  check 'the daemon is stopped' timeout 60 "$pass" stopped file "$pid"

  # As long as somebody writes.
  exec 6>> file
  opens=$(count opens)
  cat file > /dev/null
  is 'beside a writer' "$(count opens)" "$opens"
  exec 6>&-
  until_true 5 eval 'cat file > /dev/null; [ "$(count opens)" -gt "$opens" ]' || fail 'not after the writer'
  exec 6<> file
  exec 6>&-
  rest file
  opens=$(count opens)
  cat file > /dev/null
  is 'what was open for both' "$(count opens)" "$opens"
}

# A descriptor an open file, as without; and none is left.
check_descriptors ()
{
  mkdir many
  for i in {0..1999}; do echo "$i" > "many/$i"; done
  rest many/1999
  before=$(find "/proc/$pid/fd" -mindepth 1 | wc -l)
  coproc MANY { timeout 60 "$pass" many many 2000; }
  many_pid=$MANY_PID
  read -r said <&"${MANY[0]}"
  is 'many open' "$said" open
  is 'many pass through' "$(count inodes)" 2000
  now=$(find "/proc/$pid/fd" -mindepth 1 | wc -l)
  [ "$now" -le $((before + 2010)) ] || fail "$now descriptors for 2000 files, $before before"
  echo >&"${MANY[1]}"
  wait "$many_pid" || fail 'many'
  until_true 10 count_is inodes 0 || fail "left: $(count inodes)"
  now=$(find "/proc/$pid/fd" -mindepth 1 | wc -l)
  [ "$now" -le $((before + 10)) ] || fail "$now descriptors are left, $before before"
}

need_fuse
begin
chmod 755 "$dir"
mode=nopassthrough
start nopassthrough
check_works
is 'switched off' "$(count on)" 0
is 'opens when switched off' "$(count opens)" 0
[ "$(count reads)" -gt 0 ] || fail 'no read is counted'
stop

mode=passthrough
start passthrough
if [ "$(count on)" = 1 ]; then
  check_passed
  check_descriptors
elif [ "$(id -u)" = 0 ]; then
  # A kernel that can't is no failure, but it must say so.
  [ "$(count why_not)" = "the kernel can't (Linux 6.9 can)" ] || fail "it isn't on: $(count why_not)"
else
  is 'not root' "$(count why_not)" 'needs root'
fi
check_works
stop
end
