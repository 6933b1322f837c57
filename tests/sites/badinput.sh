#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What people, peers and disks get wrong: each has a clear error at the right side, nothing is lost and
# nothing hangs.
# shellcheck disable=SC2034 # lib.sh's
NF_CONF='call-timeout = 3'
# shellcheck source=tests/sites/stage.sh
. "$(dirname "$0")/stage.sh"
# shellcheck source=tests/sites/badinput-disk.sh
. "$(dirname "$0")/badinput-disk.sh"
# shellcheck source=tests/sites/badinput-peer.sh
. "$(dirname "$0")/badinput-peer.sh"

signs ()
{
  printf '%s\n' "$1" 2>/dev/null >"$(at nyc)/sign"
}

# works TEXT: a change from nyc arrives at tokyo.  A site that was cut off may need a moment to know
# that it isn't any more.
works ()
{
  wait_for 20 signs "$1" 2>/dev/null || fail "after $1: nyc can't write"
  expect_file "$(at tokyo)/sign" "$1" 20
}

# refuses PATTERN COMMAND…: it fails, in time, and says so.
refuses ()
{
  local pattern=$1 text
  shift
  text=$(bounded 20 "$@" 2>&1) && fail "accepted: $*"
  grep -qE -- "$pattern" <<<"$text" || fail "expected '$pattern' of $*: $text"
  say "  $(head -n 1 <<<"$text" | sed "s|$NF_TMP/||g")"
}

# --- the map ---

broken_maps ()
{
  local good=$NF_TMP/server.map bad=$NF_TMP/bad.map
  check () { refuses "$1" "$NEARFS" map --config "$NF_TMP/london/site.conf" check "$bad"; }
  sed 's/^mount/muont/' "$good" >"$bad" && check 'bad.map:[0-9]+: .*did you mean'
  sed 's/^serial = 1/serial = often/' "$good" >"$bad" && check 'bad.map:2: '
  { cat "$good" && printf '\n[site nyc]\nssh = nyc\n'; } >"$bad" && check 'bad.map:[0-9]+: .*nyc'
  sed 's/london:/paris:/' "$good" >"$bad" && check 'bad.map:[0-9]+: .*paris'
  sed "s|london:.*|london:/etc|" "$good" >"$bad" && check 'roots'
  { cat "$good" && printf '\n[share inner]\nmount = /projects/in\nlocal = london:%s/london/srv/inner\n' "$NF_TMP"; } >"$bad" &&
    check 'bad.map:[0-9]+: .*'
  head -c 3000 /dev/urandom >"$bad" && check 'bad.map'
  printf '[map\n' >"$bad" && check 'bad.map:1: '
  rm "$bad" && check 'bad.map'
  # A running proxy refuses it whole, and goes on with the old.
  cp "$good" "$NF_TMP/good.map"
  sed -e 's/^serial = 1/serial = 2/' -e 's/^mount.*/mount = relative/' "$NF_TMP/good.map" >"$good"
  refuses 'server.map:[0-9]+: ' "$NEARFS" map --config "$NF_TMP/london/site.conf" load
  kill -HUP "${NF_PID[nyc]}"
  wait_for 10 log_has nyc 'server.map:[0-9]+' || fail 'SIGHUP with a wrong map: nyc says nothing'
  cp "$NF_TMP/good.map" "$good"
  works 'a wrong map'
}

# --- names and paths ---

names ()
{
  local nyc tokyo long i
  nyc=$(at nyc) tokyo=$(at tokyo)
  long=$(printf '%0255d' 0)
  printf 'x' >"$nyc/$long" || fail 'a name of 255 bytes'
  printf 'x' >"$nyc/"$'\xff\xfe\x01' || fail 'a name that is not UTF-8'
  ln -s $'\xff' "$nyc/"$'\xe0' || fail 'a target that is not UTF-8'
  tries create "$nyc/${long}1"
  expect 'a name of 256 bytes' "$TRY_ERROR" ENAMETOOLONG
  tries create "$nyc/.nearfs"
  say "  a file called .nearfs in the root: $TRY_ERROR"
  [ "$TRY_ERROR" != ok ] || fail 'the hidden directory can be overwritten'
  # As deep as a path can be, and deeper: only by relative steps.
  deep='
    my ($root, $levels, $what) = @ARGV; my $name = "d" x 200;
    chdir $root or die "$root: $!";
    for (1 .. $levels) { mkdir $name if $what eq "make"; chdir $name or die "level $_: $!" }
    if ($what eq "make") { open my $f, ">", "bottom" or die "bottom: $!"; print $f "deep\n" or die; close $f or die "close: $!" }
    open my $f, "<", "bottom" or die "bottom: $!"; print scalar <$f>'
  mkdir "$nyc/near" "$nyc/beyond"
  expect 'the bottom of a path near PATH_MAX' "$(perl -e "$deep" "$nyc/near" 17 make)" deep
  expect 'the bottom beyond PATH_MAX' "$(perl -e "$deep" "$nyc/beyond" 25 make)" deep
  wait_in_step
  for i in near:17 beyond:25; do
    expect "the bottom of $i at tokyo" "$(perl -e "$deep" "$tokyo/${i%:*}" "${i#*:}" read)" deep
  done
  # What compares the trees takes whole paths, and none can be longer.
  rm -r "$nyc/beyond" || fail 'removing beyond PATH_MAX'
  wait_in_step
  trees_equal projects || fail 'the trees differ'
}

test_cleanup ()
{
  local disk
  for disk in "${DISKS[@]}"; do
    umount -l "$disk" 2>/dev/null
  done
}

limit "$(long 300 600)"
some_sites london nyc tokyo
share projects /projects london 'nyc tokyo'
disks_up
sites_up
wait_in_step
step 'broken maps' && broken_maps
step 'names and paths' && names
step 'garbage on the relay' && garbage
step 'another version of the protocol' && other_version
step 'a key that is not accepted' && wrong_key
step 'an unknown host key' && unknown_host_key
step 'a site that is not in the map' && unknown_site
step 'two sites with one name' && same_name
step 'a disk that is not there' && disk_away
step 'the directory of another share' && other_share
if [ "${#DISKS[@]}" -gt 0 ]; then
  step 'a full disk at the primary' && full_primary
  step 'a full disk at a replica' && full_replica
  step 'a read-only directory at the primary' && read_only_primary
else
  step 'full and read-only disks need root'
fi
works 'all of it'
check_all
