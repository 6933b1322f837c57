#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The mount alone, on shares that answer when they are told to.
set -u
. "${NF_SRC:-.}/tests/mount/lib.sh"

program=$build/tests/mount/nf-fake-mount

# start PATH=DIR…: mounts on $mnt.
start ()
{
  mkdir -p "$mnt"
  coproc FAKE { exec "$program" "$mnt" "$@" 2> "$dir/log"; }
  pid=$FAKE_PID
  exec {from}<&"${FAKE[0]}" {to}>&"${FAKE[1]}" # bash closes its own when the program ends
  eval "exec ${FAKE[0]}<&- ${FAKE[1]}>&-"
  read -r -t 10 -u "$from" word || { cat "$dir/log" >&2; exit 1; }
  is 'first word' "$word" mounted
}

# tell COMMAND…: sets $got.
tell ()
{
  echo "$*" >&"$to"
  read -r -t 20 -u "$from" got || fail "no answer to \"$*\""
}

# ended: the program has ended well.
ended ()
{
  read -r -t 20 -u "$from" word || fail "doesn't end"
  is 'last words' "$word" 'ended 0'
  wait "$pid"
  exec {from}<&-
  ! mounted "$mnt" || fail 'still mounted'
}

# stop: by the end of its input.
stop ()
{
  exec {to}>&-
  ended
}

held_is () { tell held "$2"; [ "$got" -ge "$1" ]; }

check_namespace ()
{
  start /s="$dir/s" /t/u/v="$dir/t"
  is 'root' "$(ls -a "$mnt" | xargs)" '. .. s t'
  is 'above a share' "$(ls -a "$mnt/t/u" | xargs)" '. .. v'
  echo x > "$mnt/s/x"
  check_fails 'make above the shares' 'not permitted' mkdir "$mnt/new"
  check_fails 'create above the shares' 'not permitted' touch "$mnt/t/new"
  check_fails 'remove a share' busy rmdir "$mnt/s"
  check_fails 'remove what leads to one' busy rmdir "$mnt/t/u"
  check_fails 'rename a share' busy mv -T "$mnt/s" "$mnt/other"
  check_fails 'rename what leads to one' busy mv -T "$mnt/t" "$mnt/s/t"
  check_fails 'replace a share' 'busy\|exist' mv -T "$mnt/s" "$mnt/t"
  check_fails 'the hidden directory' 'not permitted' mkdir "$mnt/s/.nearfs"
  mkdir "$dir/s/.nearfs"
  check_fails 'the hidden directory' 'No such file' stat "$mnt/s/.nearfs"
  check_fails 'a link into another share' 'cross-device' ln "$mnt/s/x" "$mnt/t/u/v/x"
  check 'a move into another share' mv "$mnt/s/x" "$mnt/t/u/v/x"
  is 'moved' "$(cat "$dir/t/x")" x
  check 'statfs above the shares' df "$mnt" "$mnt/t"
  is 'inode numbers' "$(($(stat -c %i "$mnt/t/u/v") >> 52))" 2
  check_fails 'a second mount there' 'mounted.*already' "$program" "$mnt" /s="$dir/s"
  stop
  check_fails 'no directory' "isn't a directory" "$program" "$dir/log" /s="$dir/s"
}

check_caches ()
{
  start /s="$dir/s"
  echo one > "$dir/s/f"
  is 'content' "$(cat "$mnt/s/f")" one
  is 'no such name' "$(stat -c %s "$mnt/s/g" 2>&1 | grep -c 'No such')" 1
  : "$(ls -l "$mnt/s" | wc -l)"

  echo changed > "$dir/s/f"
  is 'size is kept' "$(stat -c %s "$mnt/s/f")" 4
  tell inval data 0 f
  tell flush
  is 'size' "$(stat -c %s "$mnt/s/f")" 8
  is 'new content' "$(cat "$mnt/s/f")" changed

  chmod 600 "$dir/s/f"
  is 'mode is kept' "$(stat -c %a "$mnt/s/f")" 644
  tell inval attr 0 f
  tell flush
  is 'mode' "$(stat -c %a "$mnt/s/f")" 600

  echo two > "$dir/s/g"
  check_fails 'that there is none is kept' 'No such' stat "$mnt/s/g"
  tell inval name 0 1 g
  tell flush
  is 'new name' "$(cat "$mnt/s/g")" two
  is 'listing' "$(ls "$mnt/s" | grep -cx g)" 1

  mv "$dir/s/g" "$dir/s/f"
  tell inval name 0 1 g
  tell inval name 0 1 f
  tell flush
  is 'replaced' "$(cat "$mnt/s/f")" two
  is 'gone' "$(ls "$mnt/s" | grep -cx g)" 0

  : > "$dir/s/h"
  check_fails 'not seen yet' 'No such' stat "$mnt/s/g"
  rm "$dir/s/f"
  stat "$mnt/s/f" > /dev/null || fail 'a name is kept'
  tell inval all 0
  tell flush
  if stat "$mnt/s/f" > /dev/null 2>&1; then fail 'all: a name has gone'; fi
  is 'all: listing' "$(ls "$mnt/s" | xargs)" h
  stop
}

# A file that is replaced by another with the same identity, while it is open.
check_switch ()
{
  start /s="$dir/s"
  echo old > "$dir/s/w"
  exec 5< "$mnt/s/w"
  read -r line <&5
  is 'before' "$line" old
  ino=$(stat -c %i "$mnt/s/w")
  tell inval switch 0 w w
  tell inval name 0 1 w
  tell flush
  is 'after' "$(cat "$mnt/s/w")" old
  is 'the same number' "$(stat -c %i "$mnt/s/w")" "$ino"
  # Whoever comes by name gets the new one, be the old one open or not. (An object here stays the same, so that what
  # tells them apart is that the old one's page cache isn't used.)
  echo new > "$dir/s/w"
  is 'the old one is cached' "$(cat "$mnt/s/w")" old
  tell inval switch 0 w
  tell flush
  is 'the new one, open' "$(cat "$mnt/s/w")" new
  exec 5<&-
  echo newest > "$dir/s/w"
  tell inval switch 0 w
  tell flush
  is 'its attributes' "$(stat -c %s "$mnt/s/w")" 7
  is 'the new one' "$(cat "$mnt/s/w")" newest
  stop
}

check_interruption ()
{
  start /s="$dir/s"
  echo x > "$dir/s/i"
  tell mode held 0
  bash -c 'trap : ALRM; [ -e "$1" ]' - "$mnt/s/i" &
  local caller=$!
  until_true 5 held_is 1 0 || fail 'the call is not held'
  kill -ALRM $caller
  sleep 0.2
  held_is 1 0 || fail 'a timer ended a call'
  tell mode sync 0
  wait $caller || fail 'a timer spoilt a call'
  tell mode held 0
  stat "$mnt/s/j" > /dev/null 2>&1 &
  caller=$!
  until_true 5 held_is 1 0 || fail 'the call is not held'
  kill -KILL $caller
  wait $caller 2> /dev/null # returns if the call was let go
  tell held 0
  is 'cancelled' "$got" 0
  # Others go on while one is held.
  tell mode held 0
  stat "$mnt/s/k" > /dev/null 2>&1 &
  caller=$!
  until_true 5 held_is 1 0
  check 'the namespace' timeout 5 ls "$mnt"
  tell mode sync 0
  wait $caller
  stop
}

check_removal ()
{
  start /s="$dir/s" /t="$dir/t"
  echo x > "$dir/s/open"
  exec 6< "$mnt/s/open"
  exec 7>> "$mnt/s/open"
  tell files 0
  is 'open files' "$got" 2
  ls -l "$mnt/s" > /dev/null
  tell mode held 0
  stat "$mnt/s/unknown" > /dev/null 2>&1 &
  until_true 5 held_is 1 0 || fail 'the call is not held'
  tell hide 0
  is 'hide' "$got" 0
  tell files 0
  is 'open files after' "$got" 0
  wait $!
  tell mode sync 0
  tell flush
  is 'listing' "$(ls "$mnt" | xargs)" t
  check_fails 'the root' 'No such file' stat "$mnt/s"
  check_fails 'write' 'error\|Stale' bash -c 'echo y >&7'
  check_fails 'stat of what was open' 'error\|Stale\|No such' stat -L /proc/self/fd/6
  exec 6<&- 7>&-
  tell show 0
  tell flush
  is 'again' "$(cat "$mnt/s/open")" x
  stop
}

# Asked to end while it is used and a call is held.
check_stop ()
{
  start /s="$dir/s"
  echo x > "$dir/s/o"
  exec 6< "$mnt/s/o"
  tell mode held 0
  stat "$mnt/s/never" > /dev/null 2>&1 &
  until_true 5 held_is 1 0 || fail 'the call is not held'
  tell inval name 0 1 never
  stop
  wait $!
  exec 6<&-
  # And by somebody else's hand.
  start /s="$dir/s"
  fusermount3 -u "$mnt" || fail 'fusermount3 -u'
  ended
  exec {to}>&-
}

check_dead ()
{
  start /s="$dir/s"
  exec 6< "$mnt/s" # keeps the guard from taking it away
  kill -KILL "$pid"
  wait "$pid" 2> /dev/null
  exec {from}<&- {to}>&-
  check_fails 'a dead mount' 'fusermount3 -u -z' "$program" "$mnt" /s="$dir/s"
  exec 6<&-
  fusermount3 -u -z "$mnt"
}

begin
need_fuse
mnt=$dir/mnt
mkdir -p "$dir/s" "$dir/t" "$dir/native"
check 'the calls on a local disk' "$build/tests/mount/nf-calls" "$dir/native"
for mode in sync async; do
  start /s="$dir/s"
  tell mode $mode 0
  check "the calls, $mode" "$build/tests/mount/nf-calls" "$mnt/s"
  stop
done
check_namespace
rm -rf "$dir/s"/* "$dir/s/.nearfs"
check_caches
check_switch
check_interruption
check_removal
check_stop
check_dead
end
