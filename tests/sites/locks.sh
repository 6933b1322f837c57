#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# fcntl's, open file descriptions' and flock's locks hold across sites: who has one sees what the last one wrote; who waits is
# given it, interrupted, killed or refused for a deadlock; and none outlives its process, its daemon or, for longer than
# the lease, its link.
# shellcheck source=tests/sites/stage.sh
. "$(dirname "$0")/stage.sh"

limit "$(long 300 900)"
three_sites
printf '0\n' >"$(at london)/file"
printf '0\n' >"$(at london)/other"
printf '0\n' >"$(at london)/resting"
wait_in_step
LOCK=$NF_BUILD/tests/sites/nf-lock
declare -A PID IN OUT

# process NAME SITE: one that has both files open at SITE, as 0 and 1.
process ()
{
  local name=$1 site=$2 to from
  mkfifo "$NF_TMP/$name.in" "$NF_TMP/$name.out"
  "$LOCK" <"$NF_TMP/$name.in" >"$NF_TMP/$name.out" 2>>"$NF_TMP/locks.log" &
  PID[$name]=$!
  exec {to}>"$NF_TMP/$name.in" {from}<"$NF_TMP/$name.out"
  IN[$name]=$to OUT[$name]=$from
  ask "$name" open 0 "$(at "$site")/file" rw ok
  ask "$name" open 1 "$(at "$site")/other" rw ok
}

tell () { local name=$1; shift; printf '%s\n' "$*" >&"${IN[$name]}"; }

# answers NAME EXPECTED [SECONDS]
answers ()
{
  local line
  IFS= read -r -t "$(((${3:-30}) * NF_SLOW))" line <&"${OUT[$1]}" || fail "$1 doesn't answer (\"$2\" was expected)"
  [ "$line" = "$2" ] || fail "$1 answers \"$line\" instead of \"$2\""
}

# ask NAME WORD… EXPECTED
ask ()
{
  local name=$1 expected=${*: -1}
  tell "$name" "${@:2:$#-2}"
  answers "$name" "$expected"
}

# The process is gone, and so are its locks, soon.
ends ()
{
  local name=$1 pid=${PID[$1]}
  eval "exec ${IN[$name]}>&- ${OUT[$name]}<&-"
  kill -9 "$pid" 2>/dev/null
  wait "$pid" 2>/dev/null
  rm -f "$NF_TMP/$name.in" "$NF_TMP/$name.out"
}

# Nothing comes from NAME.
waits () { local line; ! IFS= read -r -t 0.3 line <&"${OUT[$1]}" || fail "$1 answers \"$line\" and doesn't wait"; }

free_soon () { tell "$1" range 0 w 0 0; local line; IFS= read -r -t 10 line <&"${OUT[$1]}" && [ "$line" = ok ]; }

process l london && process n nyc && process t tokyo

# Exclusion, each way; ranges; what is in the way.
for pair in 'l n' 'n l' 'n t' 't l'; do
  read -r a b <<<"$pair"
  ask "$a" range 0 w 0 10 ok
  ask "$b" range 0 w 5 1 EAGAIN
  ask "$b" range 0 r 5 1 EAGAIN
  ask "$b" range 0 w 10 5 ok
  ask "$b" get 0 r 0 0 'w 0 10'
  ask "$a" range 0 u 0 0 ok
  ask "$b" range 0 w 0 0 ok
  ask "$b" range 0 u 0 0 ok
  ask "$a" flock 0 s ok
  ask "$b" flock 0 s ok
  ask "$b" flock 0 x EAGAIN
  ask "$a" flock 0 u ok
  ask "$b" flock 0 x ok
  ask "$a" flock 0 s EAGAIN
  ask "$b" flock 0 u ok
  ask "$a" ofd 0 w 3 4 ok
  ask "$b" ofd 0 r 3 1 EAGAIN
  ask "$b" range 0 r 3 1 EAGAIN
  ask "$a" ofd 0 u 0 0 ok
done
ask n get 0 w 0 0 free
step 'what one site has locked no other gets'

# Who waits is given it, and sees what was written under it.
ask n range 0 w 0 0 ok
tell t range 0 w 0 0 wait
waits t
ask n write 0 by-nyc ok
ask n range 0 u 0 0 ok
answers t ok
ask t read 0 by-nyc
tell l range 0 r 0 0 wait
waits l
ask t write 0 by-tokyo ok
ask t range 0 u 0 0 ok
answers l ok
ask l read 0 by-tokyo
ask l range 0 u 0 0 ok
step 'who waits is given the lock, and sees what was written under it'

# Interrupted: nothing of it is left. Killed: at once.
ask l range 0 w 0 0 ok
for name in n t; do
  for signal in USR1 ALRM; do
    tell "$name" range 0 w 0 0 wait
    waits "$name"
    kill -"$signal" "${PID[$name]}"
    answers "$name" EINTR
  done
done
# A signal that its handler doesn't want to end it: it waits on, and can be killed nevertheless.
process doomed tokyo
for name in n doomed; do
  tell "$name" range 0 w 0 0 wait
  waits "$name"
  kill -WINCH "${PID[$name]}"
done
ends doomed
waits n
ask l range 0 u 0 0 ok
answers n ok
ask n range 0 u 0 0 ok
ask n range 0 w 0 0 ok
tell l flock 0 x wait
answers l ok
ask n range 0 u 0 0 ok
ask l flock 0 u ok
ask n flock 0 x ok
tell l flock 0 x wait
waits l
kill -USR1 "${PID[l]}"
answers l EINTR
ask n flock 0 u ok
ask l range 0 w 0 0 ok
process doomed tokyo
tell doomed range 0 w 0 0 wait
waits doomed
ends doomed
ask l range 0 u 0 0 ok
free_soon t || fail 'a killed waiter was given the lock'
ask t range 0 u 0 0 ok
step 'who waits can be interrupted, and killed'

# Deadlocks are refused, over three sites.
ask l range 0 w 0 1 ok
ask n range 0 w 1 1 ok
ask t range 1 w 0 1 ok
tell l range 0 w 1 1 wait
waits l
tell n range 1 w 0 1 wait
waits n
ask t range 0 w 0 1 wait EDEADLK
ask t range 1 u 0 0 ok
answers n ok
ask n range 0 u 0 0 ok
answers l ok
for name in l n t; do
  ask "$name" range 0 u 0 0 ok
  ask "$name" range 1 u 0 0 ok
done
step 'a wait that would never end is refused'

# Closing: any descriptor for a process' ranges, the last for those of a description.
ask n range 0 w 0 0 ok
ask n open 2 "$(at nyc)/file" ro ok
ask t range 0 r 0 1 EAGAIN
ask n close 2 ok
free_soon t || fail 'the ranges stay after a close'
ask t range 0 u 0 0 ok
ask n open 2 "$(at nyc)/file" rw ok
ask n ofd 2 w 0 0 ok
ask n open 3 "$(at nyc)/file" ro ok
ask n close 3 ok
ask t range 0 r 0 1 EAGAIN
ask n close 2 ok
gone () { tell t range 0 w 0 0; local line; IFS= read -r -t 10 line <&"${OUT[t]}" && [ "$line" = ok ]; }
wait_for 20 gone || fail "a description's lock stays after its last close"
ask t range 0 u 0 0 ok
for site in london nyc tokyo; do
  process doomed "$site"
  ask doomed range 0 w 0 0 ok
  ask doomed flock 1 x ok
  ends doomed
  for name in l n t; do
    wait_for 20 eval "tell $name range 0 w 0 0; IFS= read -r -t 10 line <&${OUT[$name]} && [ \"\$line\" = ok ]" ||
      fail "the ranges of a killed process at $site stay"
    ask "$name" range 0 u 0 0 ok
    wait_for 20 eval "tell $name flock 1 x; IFS= read -r -t 10 line <&${OUT[$name]} && [ \"\$line\" = ok ]" ||
      fail "the flock of a killed process at $site stays"
    ask "$name" flock 1 u ok
  done
done
step 'a lock goes with its process'

# Many add to one number.
for how in range ofd flock; do
  printf '0\n' >"$(at london)/number"
  wait_in_step
  each=$(long 15 100)
  for site in london nyc tokyo; do
    for i in 1 2; do job "$how-$site-$i" "$LOCK" count "$(at "$site")/number" "$each" "$how"; done
  done
  for site in london nyc tokyo; do
    for i in 1 2; do job_ok "$how-$site-$i" 120 || fail "$how at $site: $(tail -n 2 "$NF_TMP/jobs/$how-$site-$i" 2>/dev/null)"; done
  done
  expect "six processes at three sites, $how" "$(cat "$(at london)/number")" $((6 * each))
done
step 'six processes at three sites add to one number, and none of it is lost'

# SQLite, in each mode that can work across sites.
for mode in delete truncate persist; do
  rm -f "$(at london)/data-$mode.db"
  sqlite3 "$(at london)/data-$mode.db" "PRAGMA journal_mode=$mode; CREATE TABLE t (site TEXT, n INTEGER)" >/dev/null || fail "sqlite, $mode"
  wait_in_step
  rows=$(long 5 60)
  insert ()
  {
    local i
    for ((i = 0; i < rows; i++)); do
      sqlite3 -cmd '.timeout 60000' "$(at "$1")/data-$2.db" "INSERT INTO t VALUES ('$1', $i)" || return
    done
  }
  for site in london nyc tokyo; do job "sqlite-$site" insert "$site" "$mode"; done
  for site in london nyc tokyo; do job_ok "sqlite-$site" 200 || fail "sqlite at $site, $mode"; done
  for site in london nyc tokyo; do
    expect "$mode at $site" "$(sqlite3 -cmd '.timeout 60000' "$(at "$site")/data-$mode.db" 'SELECT count(*) FROM t; PRAGMA integrity_check' | tr '\n' ' ')" "$((3 * rows)) ok "
  done
done
step 'three sites write to one SQLite database, in three journal modes'

# What has been at rest is read past the daemon (fs/open-mode.c); its locks are the same.
for name in l:london n:nyc t:tokyo; do ask "${name%%:*}" open 4 "$(at "${name##*:}")/resting" ro ok; done
for pair in 'l n' 'n t' 't l'; do
  read -r a b <<<"$pair"
  ask "$a" flock 4 x ok
  ask "$b" flock 4 s EAGAIN
  ask "$a" flock 4 u ok
  ask "$b" flock 4 s ok
  ask "$a" flock 4 x EAGAIN
  ask "$b" flock 4 u ok
  ask "$a" range 4 r 0 1 ok
  ask "$b" open 5 "$(at "$(case $b in l) echo london ;; n) echo nyc ;; *) echo tokyo ;; esac)")/resting" rw ok
  ask "$b" range 5 w 0 1 EAGAIN
  ask "$a" range 4 u 0 0 ok
  ask "$b" close 5 ok
done
for name in l n t; do ask "$name" close 4 ok; done
step 'so it is with files that are read past the daemon'

# The write-ahead log needs memory that the processes share: it works at one site at a time, whichever, and elsewhere SQLite
# says so and nothing is harmed.
wal=data-wal.db
sqlite3 "$(at nyc)/$wal" 'PRAGMA journal_mode=wal; CREATE TABLE t (n INTEGER)' >/dev/null || fail 'sqlite, wal'
wait_in_step
for site in nyc london tokyo; do
  mkfifo "$NF_TMP/sql"
  sqlite3 "$(at "$site")/$wal" <"$NF_TMP/sql" >"$NF_TMP/sql.out" 2>&1 &
  reader=$!
  exec {sql}>"$NF_TMP/sql"
  printf 'INSERT INTO t VALUES (1);
SELECT "there are", count(*) FROM t;
' >&"$sql"
  there_are () { grep -q '^there are' "$NF_TMP/sql.out"; }
  wait_for 30 there_are || fail "wal at $site: $(cat "$NF_TMP/sql.out")"
  # A second process of that site shares it; one of another site can't.
  sqlite3 -cmd '.timeout 60000' "$(at "$site")/$wal" 'INSERT INTO t VALUES (2)' || fail "wal, a second process at $site"
  for other in london nyc tokyo; do
    [ "$other" != "$site" ] || continue
    said=$(sqlite3 "$(at "$other")/$wal" 'INSERT INTO t VALUES (3)' 2>&1) && fail "wal at $site and $other at a time"
    grep -q 'unable to open database file' <<<"$said" || fail "wal at $other: $said"
  done
  exec {sql}>&-
  wait "$reader" || fail "wal at $site: $(cat "$NF_TMP/sql.out")"
  rm "$NF_TMP/sql"
  wait_in_step
done
expect 'wal' "$(sqlite3 "$(at tokyo)/$wal" 'SELECT count(*) FROM t; PRAGMA integrity_check' | tr '\n' ' ')" '6 ok '
step "SQLite's write-ahead log works at one site at a time, and is refused elsewhere"

# The primary's daemon dies: what others had they still have.
ask n range 0 w 0 0 ok
ends l
site_kill london
site_start london
process l london
ask l range 0 w 0 0 EAGAIN
ask t range 0 r 0 0 EAGAIN
ask n write 0 through-it-all ok
ask n range 0 u 0 0 ok
free_soon l || fail 'not free after the unlock'
ask l read 0 through-it-all
ask l range 0 u 0 0 ok
step "another site's lock outlives the primary's daemon"

# A site's daemon dies: its locks with it, as soon as it is back.
ask n range 0 w 0 0 ok
ends n
site_kill nyc
site_start nyc
wait_for 40 gone || fail 'the lock of a dead daemon stays'
ask t range 0 u 0 0 ok
process n nyc
step "a dead daemon's locks are free when it is back"

# The link: for less than the lease nothing is lost; for longer all is, and the holder knows first.
ask n range 0 w 0 0 ok
before=$(grep -c 'nyc is connected' "$NF_TMP/london/daemon.log")
link_reset london nyc
ask t range 0 w 0 0 EAGAIN
comes_back () { [ "$(grep -c 'nyc is connected' "$NF_TMP/london/daemon.log")" -gt "$before" ]; }
wait_for 40 comes_back || fail 'nyc does not come back'
wait_in_step 60
ask t range 0 w 0 0 EAGAIN
ask n write 0 still-mine ok
link_cut london nyc
tell t range 0 w 0 0 wait
refused () { tell n read 0; local line; IFS= read -r -t 10 line <&"${OUT[n]}" && [ "$line" = EIO ]; }
wait_for 40 refused || fail 'the holder is not told that its lock is lost'
waits t
answers t ok 60
ask t write 0 mine-now ok
link_heal london nyc
wait_in_step 60
ask n write 0 too-late EIO
ask n range 0 w 0 0 EIO
ask n close 0 EIO
ask n open 0 "$(at nyc)/file" rw ok
ask n range 0 w 0 0 EAGAIN
ask t range 0 u 0 0 ok
free_soon n || fail 'nyc gets no lock after that'
ask n read 0 mine-now
ask n range 0 u 0 0 ok
step 'without a link a lock is kept for the lease; its holder knows first that it is lost'

# Switched off at one site, they are that site's kernel's.
ask n range 0 w 0 0 ok
ends t
site_stop tokyo
site_start tokyo -o locallocks
wait_in_step 60
process t tokyo
process t2 tokyo
ask t range 0 w 0 0 ok
ask t2 range 0 r 0 0 EAGAIN
ask t flock 1 x ok
ask t2 flock 1 s EAGAIN
step "with locallocks a site's locks are its own"

for name in l n t t2; do ends "$name"; done
check_all
