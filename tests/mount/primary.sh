#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# One site that is primary of its shares, mounted: every call, and the programs people use. As root, and again as a
# normal user if there is one to be.
set -u
. "${NF_SRC:-.}/tests/mount/lib.sh"
# shellcheck source=tests/sites/as-user.sh
. "${NF_SRC:-.}/tests/sites/as-user.sh"

nearfs=$(realpath "$build/nearfs")
build=$(realpath "$build")
self=$(realpath "$0")

# start: the daemon, with shares /docs and /more, mounted on $mnt.
start ()
{
  mkdir -p "$home/mnt" "$home/docs" "$home/more" "$home/run"
  chmod 700 "$home/run"
  mnt=$home/mnt
  cat > "$home/map" <<END
[map]
serial = 1

[site here]
ssh = none

[share docs]
mount = /docs
local = here:$home/docs

[share more]
mount = /up/more
local = here:$home/more
END
  cat > "$home/site.conf" <<END
[site]
name = here
map = $home/map
roots = $home
runtime = $home/run
END
  env HOME="$home" STATE_DIRECTORY="$home/state" "$nearfs" mount -f ${NF_MOUNT_OPTIONS:+-o "$NF_MOUNT_OPTIONS"} \
    --config "$home/site.conf" "$mnt" > "$home/log" 2>&1 &
  pid=$!
  until_true 10 mounted "$mnt" || { cat "$home/log" >&2; exit 1; }
}

stop ()
{
  kill -TERM "$pid"
  wait "$pid" || fail "the daemon ended with $?"
  ! mounted "$mnt" || fail 'still mounted'
}

cleanup ()
{
  [ -z "${pid:-}" ] || kill -KILL "$pid" 2> /dev/null
}

# same WHAT A B: two trees are equal, owners and times included.
same ()
{
  diff -r --no-dereference "$2" "$3" > "$dir/said" 2>&1 || { fail "$1"; head "$dir/said" >&2; }
  local format='%P %y %m %U %G %s %T@ %l\n'
  is "$1: attributes" "$(find "$2" -mindepth 1 ! -type d -printf "$format" | sort | sha256sum)" \
    "$(find "$3" -mindepth 1 ! -type d -printf "$format" | sort | sha256sum)"
}

check_git ()
{
  export HOME=$home GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@example.com \
    GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@example.com
  check 'git init' git init -q repo
  (
    cd repo || exit
    for i in $(seq 50); do echo "file $i" > "f$i"; done
    git add . && git commit -qm one && git checkout -qb other
    for i in $(seq 25); do echo "changed" >> "f$i"; done
    git rm -q f50 && git commit -qam two && git checkout -q - && git gc -q
  ) > "$dir/said" 2>&1 || { fail 'git'; cat "$dir/said" >&2; }
  check 'git clone' git clone -q repo clone
  is 'git status' "$(git -C clone status --porcelain)" ''
  check 'git fsck' git -C clone fsck --strict
  check 'git merge' git -C clone merge -q origin/other
}

check_make ()
{
  mkdir make
  printf 'all: a b\na: a.c\n\tcp a.c a\nb: a\n\tcat a a > b\n' > make/Makefile
  echo source > make/a.c
  check 'make' make -s -C make
  is 'make again' "$(make -C make | grep -c 'Nothing to be done')" 1
  sleep 0.01
  touch make/a.c
  is 'make after a change' "$(make -C make | grep -c '^c')" 2
}

check_sqlite ()
{
  local mode
  for mode in delete wal; do
    rm -f db*
    check "sqlite3 $mode" sqlite3 db "pragma journal_mode=$mode; create table t (a, b);
      with recursive n (i) as (select 1 union all select i + 1 from n where i < 5000)
      insert into t select i, hex (randomblob (50)) from n; delete from t where a % 3 = 0; vacuum;"
    is "sqlite3 $mode: rows" "$(sqlite3 db 'select count (*) from t')" 3334
    is "sqlite3 $mode: check" "$(sqlite3 db 'pragma integrity_check')" ok
  done
}

check_tar ()
{
  mkdir tree
  for i in $(seq 300); do
    mkdir -p "tree/$((i % 10))"
    head -c $((i * 37)) /dev/urandom > "tree/$((i % 10))/$i"
  done
  ln -s 1/1 tree/link
  ln tree/1/1 tree/hard
  truncate -s 5M tree/sparse
  echo end >> tree/sparse
  check 'tar c' tar --format=posix --sparse -cf tree.tar tree
  mkdir out
  check 'tar x' tar -C out -xf tree.tar
  same 'tar' tree out/tree
  mkdir "$home/out"
  check 'tar x on a local disk' tar -C "$home/out" -xf tree.tar
  same 'tar, on a local disk' "$home/out/tree" out/tree
  same 'below the mount' "$home/docs/at/out" out
  check 'cp -a' cp -a out copy
  same 'cp -a' out copy
  is 'no more blocks than there are' "$(($(stat -c %b copy/tree/sparse) < 1000))" 1
  check 'rm -r' rm -r out copy tree
}

check_acl ()
{
  mkdir acl
  check 'setfacl' setfacl -m u:12345:r-x,d:u:12345:rwx,d:g::r-x,d:o::- acl
  is 'getfacl' "$(getfacl -cpn acl | grep -c 12345)" 2
  (umask 077 && touch acl/f && mkdir acl/d)
  is 'by the default ACL' "$(stat -c %a acl/f)" 660
  is 'by the default ACL' "$(getfacl -cpn acl/f | grep 12345)" "$(getfacl -cpn "$home/docs/at/acl/f" | grep 12345)"
  is 'handed down' "$(getfacl -cpn acl/d | grep -c default:user:12345)" 1
  check 'chmod' chmod g-w acl/f
  is 'the mask' "$(getfacl -cpn acl/f | grep mask)" 'mask::r--'
  check 'setfacl -b' setfacl -b acl/f
  is 'none' "$(getfacl -cpn acl/f | grep -c 12345)" 0
  if [ "$(id -u)" = 0 ]; then
    echo secret > acl/s
    chmod 600 acl/s
    setfacl -m u:nobody:r acl/s
    setfacl -m u:nobody:x . acl
    check 'it counts' setpriv --reuid nobody --regid nogroup --clear-groups cat acl/s
    setfacl -b acl/s
    check_fails 'it counts no more' denied \
      setpriv --reuid nobody --regid nogroup --clear-groups cat acl/s
  fi
}

check_vim ()
{
  command -v vim > /dev/null || return 0
  echo before > v
  chmod 640 v
  check 'vim' vim -u NONE -es -c 's/before/after/' -c 'wq' v
  is 'vim' "$(cat v)" after
  is 'vim: mode' "$(stat -c %a v)" 640
  is 'vim: rubbish' "$(ls -A | grep -c '^\.v\|~$')" 0
}

# Several at once in one directory.
check_parallel ()
{
  local i
  mkdir par
  for i in 1 2 3 4 5 6; do
    (
      for j in $(seq 60); do
        echo "$i $j" > "par/$i.tmp" && mv "par/$i.tmp" "par/$i.$j" && echo "$i $j" >> par/log
      done
    ) &
    pids+=($!)
  done
  wait "${pids[@]}"
  is 'files' "$(ls par | wc -l)" 361
  is 'lines appended' "$(sort -u par/log | wc -l)" 360
  is 'the same below' "$(ls "$home/docs/at/par" | wc -l)" 361
}

check_programs ()
{
  pids=()
  mkdir "$mnt/docs/at" && cd "$mnt/docs/at" || exit 1
  check_vim
  check_make
  check_tar
  check_acl
  check_git
  check_sqlite
  check_parallel
  cd /
}

# All as whoever calls, who may be a normal user: the shares are his then.
run ()
{
  home=$dir/$(id -u)
  mkdir -p "$home"
  start
  check 'the calls' "$build/tests/mount/nf-calls" "$mnt/docs"
  check_programs
  is 'left over' "$(ls -A "$mnt/docs")" at
  rm -rf "$mnt/docs/at"
  is 'nothing is left' "$(ls -A "$home/docs")" .nearfs
  check_fails 'a move into another share' 'cross-device' \
    perl -e 'mkdir "$ARGV[0]/docs/d"; rename "$ARGV[0]/docs/d", "$ARGV[0]/up/more/d" or die $!' "$mnt"
  stop
}

begin
need_fuse
if [ "$(id -u)" = 0 ]; then
  run
  # By fusermount3.
  run_as_user "$self" || fail 'as a normal user'
else
  run
fi
end
