#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The mount under load while it is told of changes, its share answers in turns at once and late, and comes and goes.
# Best with -fsanitize=thread or address. NF_SECONDS says how long.
set -u
. "${NF_SRC:-.}/tests/mount/lib.sh"

seconds=${NF_SECONDS:-20}

worker ()
{
  local i=0 d=$mnt/s/w$1
  while [ ! -e "$dir/enough" ]; do
    i=$((i + 1))
    mkdir -p "$d" && echo "$i" > "$d/f" && mv "$d/f" "$d/g$((i % 20))" && ls -l "$d" "$mnt/s"
    cat "$d"/g* && rm -f "$d/g$((i % 7))" && ln -f "$d/g$((i % 5))" "$mnt/s/shared"
    echo "$1" >> "$mnt/s/log" && stat "$mnt/s/shared" "$mnt/s/none$i"
    [ $((i % 10)) != 0 ] || rm -rf "$d"
  done > /dev/null 2>&1
}

begin
need_fuse
mnt=$dir/mnt
mkdir -p "$mnt" "$dir/s"
coproc FAKE { exec "$build/tests/mount/nf-fake-mount" "$mnt" /s="$dir/s" 2> "$dir/log"; }
pid=$FAKE_PID
exec {from}<&"${FAKE[0]}" {to}>&"${FAKE[1]}"
eval "exec ${FAKE[0]}<&- ${FAKE[1]}>&-"
read -r -t 20 -u "$from" word || { cat "$dir/log" >&2; exit 1; }
tell ()
{
  echo "$*" >&"$to"
  read -r -t 60 -u "$from" got || { fail "no answer to \"$*\""; cat "$dir/log" >&2; end; }
}
workers=()
for n in 1 2 3 4; do
  worker $n &
  workers+=($!)
done
until [ $SECONDS -ge "$seconds" ]; do
  for fid in 1 2 3 4 5 6 7; do
    tell inval data 0 $fid
    tell inval attr 0 $fid
    tell inval name 0 1 w$fid
    tell inval switch 0 $fid
  done
  case $((RANDOM % 8)) in
    0) tell mode async 0 ;;
    1) tell mode sync 0 ;;
    2) tell mode held 0; sleep 0.05; tell mode async 0 ;;
    3) tell inval all 0 ;;
    4) tell hide 0; tell show 0 ;;
    5) tell flush ;;
  esac
done
touch "$dir/enough"
tell mode sync 0
wait "${workers[@]}"
tell held 0
is 'held' "$got" 0
check 'the calls afterwards' "$build/tests/mount/nf-calls" "$mnt/s" names content unlinked
exec {to}>&-
read -r -t 30 -u "$from" word || fail "doesn't end"
wait "$pid" || fail "ended with $?"
is 'last words' "${word:-}" 'ended 0'
if [ -s "$dir/log" ]; then fail 'it has something to say'; cat "$dir/log" >&2; fi
end
