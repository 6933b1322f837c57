#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A directory that exists is adopted; two empty broadcast directories fill while they are already in
# use; a replica that was killed, and one that was stopped, catch up.
NF_RATE=${NF_RATE:-4000000}
# shellcheck source=tests/sites/stage.sh
. "$(dirname "$0")/stage.sh"
# shellcheck source=tests/sites/material.sh
. "$(dirname "$0")/material.sh"

limit "$(long 300 600)"
some_sites london nyc tokyo
share projects /projects london 'nyc tokyo'
source=$(backing london projects)
mkdir -p "$source"
make_odd_tree "$source/odd" "$(long 2000 20000)" || fail 'no tree'
mkdir "$source/late"
head -c "$(long 20000000 100000000)" /dev/urandom >"$source/large"
printf 'read me\n' >"$source/late/zz-last"
manifest "$source" >"$NF_TMP/before"
step "london has $(find "$source" | wc -l) names, adopted as they are"
sites_up
tokyo=$(at tokyo)

# Progress is shown, and goes forward.
watch ()
{
  local state filled
  state=$(field tokyo '{shares}[0]{state}') filled=$(field tokyo '{shares}[0]{filled}')
  if [ "$state" = filling ]; then
    seen_filling=1
    [ "${filled:-0}" -ge "$last" ] || fail "filled went from $last back to $filled"
    last=$filled
  fi
  [ "$state" = 'in step' ]
}

seen_filling=0 last=0
is_filling ()
{
  watch || [ "$seen_filling" -eq 1 ]
}
wait_for 30 is_filling || fail "tokyo doesn't begin to fill: $(site_nearfs tokyo status)"

# At once, whatever is there already.
start=$(now_ms)
expect 'a file not yet at tokyo' "$(bounded 20 cat "$tokyo/late/zz-last")" 'read me'
expect 'a piece of the large file' \
  "$(bounded 20 dd if="$tokyo/large" bs=4096 skip=4000 count=1 status=none | cksum)" \
  "$(dd if="$source/large" bs=4096 skip=4000 count=1 status=none | cksum)"
bounded 60 ls -lR "$tokyo/odd" >"$NF_TMP/list" || fail 'listing while it fills'
watch
step "read at tokyo within $(($(now_ms) - start)) ms; it says: $(field tokyo '{shares}[0]{state}'), $(field tokyo '{shares}[0]{filled}') of $(field tokyo '{shares}[0]{fill_total}') filled"
printf 'written while it fills\n' >"$tokyo/written" || fail 'writing while it fills'
expect_file "$source/written" 'written while it fills'

wait_for 90 watch || fail "tokyo doesn't fill: $(site_nearfs tokyo status)"
[ "$seen_filling" -eq 1 ] || fail 'status never said that tokyo is filling'
wait_in_step 90
rm "$tokyo/written"
wait_in_step
manifest "$source" >"$NF_TMP/after"
cmp "$NF_TMP/before" "$NF_TMP/after" || { diff "$NF_TMP/before" "$NF_TMP/after" | head >&2; fail 'adopting changed the tree'; }
trees_equal projects || fail 'the trees differ after the fill'
step 'nyc and tokyo are filled, and all trees equal'

change ()
{
  (
    cd "$source/../../mnt/projects" || exit
    mkdir "new-$1" && printf 'new\n' >"new-$1/file" && ln odd/plain "new-$1/hard"
    mv odd/many/00 "moved-$1" && rm -r odd/many/"$2" && chmod 0700 odd/sub
    printf 'changed\n' >>odd/bigger && truncate -s 100 large && mv odd/tool "tool-$1" && mv "tool-$1" odd/tool
    mkdir odd/many/00 && printf 'again\n' >odd/many/00/file
    # Twelve megabytes of content that has to be fetched.
    head -c 12000000 /dev/urandom >"content-$1"
  ) || fail 'changing at london'
}

site_kill tokyo
change killed 01
site_start tokyo
# Until it has caught up it goes on serving what it had.
has_text "$tokyo/late/zz-last" 'read me' || fail 'tokyo does not serve what it had'
expect_file "$tokyo/new-killed/file" new 60
wait_in_step 90
trees_equal projects || fail 'the trees differ after kill -9'
step 'tokyo was killed, away, and caught up'

site_stop tokyo
site_stop nyc
change stopped 02
site_start nyc
site_start tokyo
wait_in_step 90
trees_equal projects || fail 'the trees differ after a stop'
step 'nyc and tokyo were stopped, away, and caught up'

# Killed in the middle of catching up.
site_stop tokyo
change twice 03
site_start tokyo
site_kill tokyo
site_start tokyo
wait_in_step 90
check_all 90
