#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# From a site that isn't the primary: git, tar and make, vim, sqlite3, rsync, an editor at one site and
# a reader at another.
# shellcheck source=tests/sites/stage.sh
. "$(dirname "$0")/stage.sh"
# shellcheck source=tests/sites/material.sh
. "$(dirname "$0")/material.sh"

for program in git make cc tar vim sqlite3 rsync setfacl setfattr; do
  command -v "$program" >/dev/null || fail "this test needs $program"
done

limit "$(long 400 1200)"
three_sites
nyc=$(at nyc) tokyo=$(at tokyo) london=$(at london)
export HOME=$NF_TMP GIT_CONFIG_NOSYSTEM=1 GIT_PAGER=cat
git config --global user.name Tester
git config --global user.email tester@example.org
git config --global --add safe.directory '*'
git config --global gc.auto 0

# git

make_repository "$NF_TMP/origin.git" "$(long 200 600)" || fail 'no repository'
step "git clone at nyc: $(git -C "$NF_TMP/origin.git" rev-list --count main) commits"
bounded 120 git clone -q --no-hardlinks "$NF_TMP/origin.git" "$nyc/repo" || fail 'git clone at nyc'
(
  cd "$nyc/repo" || exit 1
  printf 'a line of nyc\n' >>common.h
  mkdir docs && printf 'words\n' >docs/text
  git mv configure configure.sh && git add -A && git commit -q -m 'nyc: Change a few things'
) || fail 'git commit at nyc'
bounded 120 git -C "$nyc/repo" fsck --full --strict >/dev/null 2>"$NF_TMP/fsck" || fail "git fsck: $(cat "$NF_TMP/fsck")"
wait_in_step
for site in london tokyo nyc; do
  repo=$(at "$site")/repo
  status=$(bounded 120 git -C "$repo" status --porcelain) || fail "git status at $site"
  expect "git status at $site" "$status" ''
  expect "git log at $site" "$(git -C "$repo" log -1 --format=%s)" 'nyc: Change a few things'
  bounded 120 git -C "$repo" fsck --full >/dev/null 2>&1 || fail "git fsck at $site"
done
step 'git: clone, commit, fsck, status and log are right at all sites'

# tar and make

files=$(long 400 4000)
make_sources "$NF_TMP/source" "$files"
tar -C "$NF_TMP" -cf "$NF_TMP/source.tar" source
bounded "$(long 120 600)" tar -C "$nyc" -xf "$NF_TMP/source.tar" || fail 'tar x at nyc'
step "tar x at nyc: $files files"
bounded 180 make -s -C "$nyc/source" -j2 check || fail 'make at nyc'
bounded 120 make -q -C "$nyc/source" program || fail 'make at nyc: not up to date after make'
wait_in_step
diff -r --no-dereference -x '*.o' -x program "$NF_TMP/source" "$tokyo/source" >&2 || fail 'tokyo has other sources'
# The times are the same everywhere, so there is nothing to build at another site.
bounded 120 make -q -C "$tokyo/source" program || fail 'make at tokyo: not up to date'
step 'make at nyc: built and checked; up to date at tokyo as well'

# vim: saving a file twice, with a look at its time between; then somebody else's change, which must be noticed.

cat >"$NF_TMP/save.vim" <<'VIM'
set nocompatible nobackup writebackup noswapfile
let g:changes = 0
autocmd FileChangedShell * let g:changes += 1
redir! > $VIM_MESSAGES
edit $VIM_FILE
call setline(1, 'first save')
write
checktime
call system($VIM_WAIT)
checktime
call setline(1, 'second save')
write
checktime
call system($VIM_WAIT)
checktime
echo 'changes after own saves:' g:changes
call system($VIM_OTHER)
checktime
echo 'changes after another''s:' g:changes
redir END
qall!
VIM
printf 'as it was\n' >"$nyc/edited"
wait_in_step
in_step="$NEARFS wait --config $NF_TMP/nyc/site.conf --sites all --timeout 30 /projects"
VIM_FILE=$nyc/edited VIM_MESSAGES=$NF_TMP/vim.messages VIM_WAIT=$in_step \
  VIM_OTHER="sleep 1; echo somebody else >$london/edited; $NEARFS wait --config $NF_TMP/london/site.conf --timeout 30 /projects" \
  bounded 120 vim -es -u NONE -i NONE -S "$NF_TMP/save.vim" </dev/null >/dev/null 2>&1
sed 's/^/  vim: /' "$NF_TMP/vim.messages" | grep -a 'changes'
! grep -aE 'W1[126]|WARNING|E[0-9]+:' "$NF_TMP/vim.messages" || fail 'vim complains'
grep -aq 'changes after own saves: 0' "$NF_TMP/vim.messages" || fail 'vim sees its own save as a change'
grep -aq "changes after another's: 1" "$NF_TMP/vim.messages" || fail 'vim does not see the change of another site'
step 'vim: two saves at nyc without a complaint; a change from london is noticed'

# sqlite3, rollback journal

sql ()
{
  bounded 120 sqlite3 -batch -bail "$@"
}
{
  echo 'PRAGMA journal_mode=DELETE; CREATE TABLE account (id INTEGER PRIMARY KEY, cents INTEGER);'
  echo 'INSERT INTO account VALUES (1, 100000), (2, 0);'
  for i in $(seq 1 "$(long 10 60)"); do
    echo "BEGIN; UPDATE account SET cents = cents - $i WHERE id = 1; UPDATE account SET cents = cents + $i WHERE id = 2; COMMIT;"
  done
  echo "BEGIN; DELETE FROM account; ROLLBACK;"
} | sql "$nyc/bank.db" >/dev/null || fail 'sqlite3 at nyc'
wait_in_step
for site in london nyc tokyo; do
  expect "integrity_check at $site" "$(sql "$(at "$site")/bank.db" 'PRAGMA integrity_check')" ok
  expect "the sum at $site" "$(sql "$(at "$site")/bank.db" 'SELECT sum(cents) FROM account')" 100000
done
# Then from another site, which reads what the first one wrote.
sql "$tokyo/bank.db" 'UPDATE account SET cents = cents + 1 WHERE id = 2' || fail 'sqlite3 at tokyo'
bounded 120 "$NEARFS" wait --config "$NF_TMP/tokyo/site.conf" --sites all --timeout 30 /projects || fail 'wait at tokyo'
expect 'the sum at nyc after a change at tokyo' "$(sql "$nyc/bank.db" 'SELECT sum(cents) FROM account')" 100001
step 'sqlite3: transactions from nyc and tokyo are whole at all sites'

# rsync in at one site and out at another

make_odd_tree "$NF_TMP/odd" || fail 'no tree of oddities'
same ()
{
  local differences
  differences=$(bounded 120 rsync -nicaHAX --delete "$1/" "$2/") || fail "rsync -nic $1 $2"
  expect "what rsync would change in $2" "$differences" ''
}
bounded 120 rsync -aHAX "$NF_TMP/odd/" "$nyc/odd/" || fail 'rsync in at nyc'
same "$NF_TMP/odd" "$nyc/odd"
wait_in_step
same "$NF_TMP/odd" "$tokyo/odd"
bounded 120 rsync -aHAX "$tokyo/odd/" "$NF_TMP/back/" || fail 'rsync out at tokyo'
same "$NF_TMP/odd" "$NF_TMP/back"
step "rsync -aHAX: in at nyc, out at tokyo, nothing lost"

# An editor at one site and a reader at the other, to and fro

mkdir "$nyc/shared"
for i in $(seq 1 "$(long 5 50)"); do
  printf 'note %d of nyc\n' "$i" >"$nyc/shared/note"
  expect_file "$tokyo/shared/note" "note $i of nyc"
  printf 'answer %d of tokyo\n' "$i" >"$tokyo/shared/answer.tmp"
  mv "$tokyo/shared/answer.tmp" "$tokyo/shared/answer"
  expect_file "$nyc/shared/answer" "answer $i of tokyo"
done
step 'nyc and tokyo answered each other'
check_all
