#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# From close() at one site to the file being readable at another: on an idle link, and while a bulk copy fills a slow one.
# NF_RATE_MB: of the slow link, MB/s (default 12).
# shellcheck source=tests/bench/lib.sh
. "$(dirname "$0")/lib.sh"

area arrival 'From close() at one site to readable at another'

COUNT=100

# arrival LABEL FROM TO MEDIAN P99: what these may be, in ms.
arrival ()
{
  "$NF_WORK" latency "$(at "$2")" "$(at "$3")" "$COUNT" >"$NF_TMP/times" || fail 'it does not arrive'
  figure "$1, median" ms "$4" "$(spread "$NF_TMP/times" 50 1000)"
  figure "$1, p99" ms "$5" "$(spread "$NF_TMP/times" 99 1000)"
}

# set_links DELAY: between all.
set_links ()
{
  link_delay london nyc "$1" && link_delay london tokyo "$1" && link_delay nyc tokyo "$1"
}

# copy_on DIR SITE: copies of the file, each when SITE has the one before, until it is told to stop.  Not faster: a primary's
# disk would be ahead of the link by minutes.
copy_on ()
{
  local i
  for ((i = 0; ; i++)); do
    [ ! -e "$NF_TMP/enough" ] || return 0
    cp "$NF_TMP/bulk" "$1/bulk-$((i % 2))" && site_nearfs "$2" wait --timeout 120 /projects >/dev/null || return
  done
}

# carried SITE: what its link with london has carried, both ways.
carried ()
{
  local pair
  for pair in "london $1" "$1 london"; do
    "$NF_LINK" --ctl "${NF_LINKS[$pair]}" stats
  done | perl -ne '$sum += $1 + $2 if /up=(\d+) down=(\d+)/; END { print $sum }'
}

has_carried () { [ $(($(carried "$1") - before)) -gt "$2" ]; }

# while_copying LABEL WRITER REPLICA FULL FROM TO LIMIT: WRITER's bulk has to get to REPLICA; FULL's link with london is full of it.
while_copying ()
{
  local start used
  rm -f "$NF_TMP/enough"
  before=$(carried "$4")
  job copy copy_on "$(at "$2")" "$3"
  # Its queues are full when it has carried for a second.
  wait_for 60 has_carried "$4" "$rate" || fail 'the copy does not begin'
  before=$(carried "$4") start=$(now_ms)
  arrival "$1" "$5" "$6" - "$7"
  used=$(($(carried "$4") - before))
  figure "$1: load of the link of $((rate / 1000000)) MB/s" MB/s - "$(perl -e 'printf "%.1f", $ARGV[0] / 1e3 / $ARGV[1]' "$used" $(($(now_ms) - start)))"
  touch "$NF_TMP/enough"
  job_end copy 120 || fail 'the copy failed'
  wait_in_step 300
}

some_sites london nyc tokyo
share projects /projects london 'nyc tokyo'
sites_up
wait_in_step
random_file "$NF_TMP/bulk" 64

title 'Idle links'
for rtt in 0 20 50; do
  half=$((rtt / 2))
  set_links "$half"
  arrival "primary to replica, $rtt ms" london nyc $((half + 2)) $((half + 10))
  # close() at nyc returns half a round trip after london has sent it on.
  arrival "replica to replica, $rtt ms" nyc tokyo $((half + 2)) $((half + 10))
done

rate=$((${NF_RATE_MB:-12} * 1000000)) rtt=20
set_links $((rtt / 2))
for pair in 'london nyc' 'london tokyo' 'nyc tokyo'; do
  # shellcheck disable=SC2086 # two words
  link_rate $pair "$rate"
done
title "While a bulk copy fills the link of $((rate / 1000000)) MB/s, $rtt ms"
most=$((rtt / 2 + 100))
while_copying 'primary to replica, broadcast fills the link' london nyc nyc london nyc "$most"
while_copying 'replica to replica, broadcast fills the link' london tokyo tokyo nyc tokyo "$most"
while_copying 'replica to primary, its own upload fills the link' nyc tokyo nyc nyc london "$most"
while_copying 'primary to replica, that one uploads' nyc tokyo nyc london nyc "$most"
area_end
