#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Much that has to get to a replica, against rsync -a and tar | ssh over the same link: a new replica that fills, and what is
# written at the primary while it watches.  NF_FILL_MB: of the one large file (default 128; the goal speaks of 1024);
# NF_FILL_FILES: how many small ones (default 10000; the goal: 20000); NF_FILL_RTTS (default "0 20 100").
# shellcheck source=tests/bench/lib.sh
. "$(dirname "$0")/lib.sh"

area fill "Broadcast and initial fill beside rsync -a and tar | ssh; ${NF_FILL_MB:=128} MiB, and ${NF_FILL_FILES:=10000} files"

FILL_RUNS=${NF_RUNS_LONG:-2}
GOAL='rsync=1 tar=0.9'

# no_more SHARE PATH…
no_more ()
{
  if [ "$1" = small ]; then out_of_the_way "${@:2}"; else rm -rf "${@:2}"; fi
}

# fill NAME RUN SHARE SITE: what is at the primary gets to a site that has nothing.
fill ()
{
  local source there=$NF_TMP/sftp/$3
  source=$(backing london "$3")
  no_more "$3" "$there"
  mkdir -p "$there"
  case $1 in
    nearfs)
      [ -z "${NF_PID[$4]:-}" ] || site_stop "$4" >&2
      no_more "$3" "$(backing "$4" "$3")" "${NF_TMP:?}/$4/state"
      mkdir "$(backing "$4" "$3")"
      seconds filled "$3" "$4"
      ;;
    *) seconds "peer_$1" "$source" "$there" ;;
  esac
}

filled ()
{
  site_start "$2" && site_nearfs "$2" wait --timeout 300 "${NF_SHARES[$1]}"
}

# broadcast NAME RUN WHAT: written at the primary's side, until it is at both; for the peers a local copy, then the transfer.
broadcast ()
{
  local here=$NF_TMP/native/$3-$RTT-$2-$1 there=$NF_TMP/sftp/$3-$RTT-$2-$1
  case $1 in
    nearfs) seconds written "$3" "$(at london live)/$3-$RTT-$2" ;;
    *) mkdir -p "$there" && seconds copied "$1" "$3" "$here" "$there" ;;
  esac
}

# put WHAT DIR
put ()
{
  mkdir -p "$2" && case $1 in
    large) cp "$NF_TMP/bulk" "$2" ;;
    small) tar -C "$2" -xf "$NF_TMP/small.tar" ;;
  esac
}

written () { put "$1" "$2" && site_nearfs london wait --sites all --timeout 300 /live; }
copied () { put "$2" "$3" && "peer_$1" "$3" "$4"; }

# The large ones.
clear_away ()
{
  rm -rf "$NF_TMP"/native/large* "$NF_TMP"/sftp/large* "$(at london live)"/large*
  wait_in_step 300
}

# A site for each share: one that is new in one of them would be new in all.
some_sites london nyc rome oslo
share live /live london nyc
share large /large london rome
share small /small london oslo
mkdir -p "$(backing london large)" "$(backing london small)" "$NF_TMP/native" "$NF_TMP/sftp"
random_file "$NF_TMP/bulk" "$NF_FILL_MB"
cp "$NF_TMP/bulk" "$(backing london large)"
make_tree "$(backing london small)" "$NF_FILL_FILES"
tar -C "$(backing london small)" -cf "$NF_TMP/small.tar" .
sites_up
wait_in_step 300
peer_sshd_up
NAMES=()
PLACE=([rsync]=rsync [tar]=tar [nearfs]=nearfs)
! have rsync rsync rsync || NAMES+=(rsync)
NAMES+=(tar nearfs)

for RTT in ${NF_FILL_RTTS:-0 20 100}; do
  all_links_delay $((RTT / 2))
  title "Round trip $RTT ms"
  RUNS=$FILL_RUNS measure "initial fill, $NF_FILL_MB MiB, $RTT ms" s "$GOAL" fill large rome
  RUNS=$FILL_RUNS measure "initial fill, $NF_FILL_FILES files, $RTT ms" s "$GOAL" fill small oslo
  RUNS=$FILL_RUNS measure "broadcast, $NF_FILL_MB MiB, $RTT ms" s "$GOAL" broadcast large
  clear_away
  RUNS=$FILL_RUNS measure "broadcast, $NF_FILL_FILES files, $RTT ms" s "$GOAL" broadcast small
  wait_in_step 300
done
area_end
