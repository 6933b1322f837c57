#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A workstation with no replica, which only dials out, is served from the primary; a share may have no
# replica anywhere.  Caches are told of every change.
# shellcheck source=tests/sites/stage.sh
. "$(dirname "$0")/stage.sh"
# shellcheck source=tests/sites/material.sh
. "$(dirname "$0")/material.sh"

limit "$(long 300 600)"
dial_only ws
some_sites london nyc tokyo ws
share projects /projects london 'nyc tokyo' 'writers = nyc; tokyo; ws'
share scratch /scratch london '' 'replica = none' 'writers = nyc; ws'
sites_up
wait_in_step
ws=$(at ws) nyc=$(at nyc)

make_odd_tree "$NF_TMP/odd" 0 || fail 'no tree'
bounded 120 cp -a "$NF_TMP/odd" "$nyc/odd" || fail 'cp -a at nyc'
wait_in_step
bounded 120 diff -r --no-dereference "$NF_TMP/odd/sub" "$ws/odd/sub" || fail 'ws reads something else'
mount_equal ws projects
step 'ws shows what nyc copied, with no replica'

# Work at ws itself.
make_sources "$NF_TMP/source" 60
bounded 120 cp -a "$NF_TMP/source" "$ws/source" || fail 'cp -a at ws'
bounded 120 make -s -C "$ws/source" check || fail 'make at ws'
printf 'a\n' >"$ws/list" && printf 'b\n' >>"$ws/list" && mv "$ws/list" "$ws/list-moved" || fail 'writing at ws'
exec 5<"$ws/list-moved"
rm "$ws/list-moved"
expect 'a file read after its removal' "$(cat <&5)" $'a\nb'
exec 5<&-
wait_in_step
mount_equal ws projects
step 'copied and built at ws'

# A change elsewhere is seen within a round trip; what a person would notice is the bound.
for from in london nyc; do
  for kind in latency rewrite; do
    bounded 100 "$NF_WORK" "$kind" "$(at "$from")" "$ws" "$(long 20 100)" >"$NF_TMP/times" || fail "$kind from $from to ws"
    stats "$NF_TMP/times" 1000
    step "$kind, $from to ws: median $STAT_MEDIAN ms, max $STAT_MAX ms (round trip $((2 * NF_DELAY_MS)) ms)"
    [ "$STAT_MEDIAN" -le $((500 * NF_SLOW)) ] || fail "ws doesn't see it in time"
  done
done

# Attributes, names and listings that ws has cached.
mkdir "$nyc/cached" && printf '1' >"$nyc/cached/one" && chmod 0644 "$nyc/cached/one"
wait_in_step
expect 'mode' "$(stat -c %a "$ws/cached/one")" 644
expect 'names' "$(ls "$ws/cached")" one
[ ! -e "$ws/cached/two" ] || fail 'two is there too early'
chmod 0600 "$nyc/cached/one" && printf '2' >"$nyc/cached/two" && mv "$nyc/cached/one" "$nyc/cached/three"
now_lists () { [ "$(ls "$ws/cached")" = $'three\ntwo' ] && [ "$(stat -c %a "$ws/cached/three")" = 600 ] && [ ! -e "$ws/cached/one" ]; }
wait_for 10 now_lists || fail "ws still shows $(ls -l "$ws/cached")"
step 'modes, names and listings follow'

# The share that is nowhere but at home.
printf 'of ws\n' >"$ws/../scratch/file" || fail 'writing to scratch'
expect_file "$nyc/../scratch/file" 'of ws'
expect_file "$(at london)/../scratch/file" 'of ws'
printf 'of nyc\n' >"$nyc/../scratch/file"
expect_file "$ws/../scratch/file" 'of nyc'
[ ! -e "$(backing nyc scratch)" ] || fail 'nyc has a directory for scratch'
! ls "$(mnt tokyo)/scratch/file" 2>/dev/null || fail 'tokyo is no site of scratch'
mount_equal ws scratch
mount_equal nyc scratch

# Without the link nothing is served, but nothing hangs.
link_cut london ws
start=$(now_ms)
tries create "$ws/unreachable"
expect 'create at ws without the link' "$TRY_ERROR" EHOSTUNREACH
tries read "$ws/odd/deep/../bigger"
step "with the link cut: create $TRY_ERROR, read $TRY_ERROR, $(($(now_ms) - start)) ms"
link_heal london ws
heals () { tries create "$ws/reachable"; [ "$TRY_ERROR" = ok ]; }
wait_for 40 heals || fail 'ws does not come back'
wait_in_step
mount_equal ws projects
check_all
