#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# git, tar and sqlite against libfuse's pass-through examples in the same run: at the primary with no replica connected and with
# two, and what only reads at a replica.
# shellcheck source=tests/bench/lib.sh
. "$(dirname "$0")/lib.sh"

area programs 'git, tar and sqlite beside the pass-through examples'

FILES=2000
# An index is compared by size and mtime alone: inode numbers and ctimes of a mount and of the directory behind it differ, and
# whoever has another one's index would read all the content.
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null GIT_OPTIONAL_LOCKS=0
export GIT_CONFIG_COUNT=2 GIT_CONFIG_KEY_0=core.checkStat GIT_CONFIG_VALUE_0=minimal \
  GIT_CONFIG_KEY_1=core.trustctime GIT_CONFIG_VALUE_1=false

git_status () { seconds git -C "$1/repo" status --porcelain; }
git_status_cold () { forget_names && git_status "$@"; }
# The examples hold a descriptor for each file that the kernel knows: without forgetting they run out of them.
git_clone_into () { forget_names && seconds git clone -q "file://$NF_TMP/repo.git" "$1/clone-$2$3"; }
git_clone_from () { seconds git clone -q "file://$1/repo" "$NF_TMP/clone" && out_of_the_way "$NF_TMP/clone"; }
tar_x () { forget_names && mkdir "$1/tar-$2$3" && seconds tar -C "$1/tar-$2$3" -xf "$NF_TMP/tree.tar"; }
# Through a pipe, as tar reads nothing for /dev/null.
tar_c () { seconds bash -c "tar -C '$1/repo' -cf - . | cat >/dev/null"; }

# sqlite PLACE RUN JOURNAL SYNCHRONOUS COUNT: rows inserted in a second, each in a transaction of its own.
sqlite ()
{
  local db=$1/db-$2-$3.sqlite count=$5
  {
    printf 'PRAGMA journal_mode=%s; PRAGMA synchronous=%s; CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT);\n' "$3" "$4"
    for ((i = 0; i < count; i++)); do printf "INSERT INTO t (b) VALUES ('row %d of the benchmark, of some length');\n" "$i"; done
  } >"$NF_TMP/sql"
  per "$count" sqlite3 -bail "$db" ".read $NF_TMP/sql"
  local rc=$?
  rm -f "$db" "$db-wal" "$db-shm" "$db-journal"
  return $rc
}

# sqlite_read PLACE RUN COUNT: rows looked up, each in a transaction of its own.
sqlite_read ()
{
  for ((i = 1; i <= $3; i++)); do printf 'SELECT b FROM t WHERE a = %d;\n' $((i * 7 % 1000 + 1)); done >"$NF_TMP/sql"
  per "$3" sqlite3 -readonly -bail "$1/data.sqlite" ".read $NF_TMP/sql"
}

make_repository ()
{
  make_tree "$NF_TMP/source" "$FILES" &&
    git -C "$NF_TMP/source" init -q && git -C "$NF_TMP/source" add . &&
    git -C "$NF_TMP/source" -c user.name=bench -c user.email=bench@localhost commit -q -m 'All files' &&
    git clone -q --bare "$NF_TMP/source" "$NF_TMP/repo.git" && rm -rf "$NF_TMP/source/.git" &&
    tar -C "$NF_TMP/source" -cf "$NF_TMP/tree.tar" .
}

# material PLACE
material ()
{
  git clone -q "file://$NF_TMP/repo.git" "$1/repo" && settle &&
    sqlite3 "$1/data.sqlite" "CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT);
      WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) INSERT INTO t SELECT i, hex (randomblob (50)) FROM n;"
}

reading ()
{
  title "Reading at $1"
  measure "git status, warm, at $1" s "$2" git_status
  measure "git status, nothing cached, at $1" s "$2" git_status_cold
  measure "git clone from $1" s "$2" git_clone_from
  measure "tar c of $FILES files, at $1" s "$2" tar_c
  measure "sqlite, 500 reads, at $1" 1/s "$2" sqlite_read 500
}

writing ()
{
  local with=$1 least=$2 key=$3
  title "Writing at the primary, $with"
  RUNS=$LONG_RUNS measure "git clone of $FILES files, $with" s "$least" git_clone_into "$key"
  settle
  RUNS=$LONG_RUNS measure "tar x of $FILES files, $with" s "$least" tar_x "$key"
  settle
  RUNS=$LONG_RUNS measure "sqlite DELETE, FULL: 100 inserts, $with" 1/s "$least" sqlite DELETE FULL 100
  settle
  RUNS=$LONG_RUNS measure "sqlite WAL, NORMAL: 1000 inserts, $with" 1/s "$least" sqlite WAL NORMAL 1000
  settle
  RUNS=$LONG_RUNS measure "sqlite MEMORY, OFF: 1000 inserts, $with" 1/s "$least" sqlite MEMORY OFF 1000
  settle
}

for program in git sqlite3; do
  command -v "$program" >/dev/null || { out "MISSING: $program, so nothing of this is measured"; exit 0; }
done
primary_stage
make_repository || fail 'no repository'
for name in "${NAMES[@]}"; do material "${PLACE[$name]}" || fail "material for $name"; done
# The index was written when its files were new: git looks once at their content, in a later second.
sleep 1.1
for name in "${NAMES[@]}"; do
  touch "${PLACE[$name]}/repo/.git/index" && GIT_OPTIONAL_LOCKS=1 git -C "${PLACE[$name]}/repo" status >/dev/null || fail 'git status'
done
reading 'the primary' 1.0
writing 'no replica connected' 0.9 none
with_two_replicas
writing 'two replicas connected' 0.8 two
peers_down
here=$(backing tokyo projects)
NAMES=(native)
PLACE=([native]=$here [nearfs]=$(at tokyo))
passthrough_up passthrough_ll "$here"
passthrough_up passthrough_hp "$here"
NAMES+=(nearfs)
reading 'a replica' 1.0
area_end
