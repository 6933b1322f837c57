#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A writer at the primary replaces a file and appends to a log; readers at the replicas never see a
# state that didn't exist: alone, beside a large copy, and while links are cut and reset.
# shellcheck source=tests/sites/stage.sh
. "$(dirname "$0")/stage.sh"

limit "$(long 400 900)"
three_sites
changes=$(long 2000 10000)

# in_order NAME: one run in a directory of its own.
in_order ()
{
  local name=$1 site
  mkdir "$(at london)/$name"
  wait_in_step
  for site in nyc tokyo; do
    job "read-$site" "$NF_WORK" order-read "$(at "$site")/$name" "$changes" $(($(long 150 300) * NF_SLOW)) together
  done
  job write "$NF_WORK" order-write "$(at london)/$name" "$changes"
}

in_order_ok ()
{
  job_ok write "$(long 150 300)"
  job_ok read-nyc "$(long 150 300)"
  job_ok read-tokyo "$(long 150 300)"
  step "$1: in order"
}

in_order alone
in_order_ok "$changes changes"

copies ()
{
  local i
  for i in 1 2 3; do
    cp "$NF_TMP/large" "$(at london)/large.$i" && cp "$NF_TMP/large" "$(at nyc)/large-nyc.$i" || return
  done
}
head -c "$(long 30000000 300000000)" /dev/urandom >"$NF_TMP/large"
in_order beside-bulk
job copies copies
in_order_ok "$changes changes beside large copies"
job_ok copies 200

# Cuts shorter and longer than the heartbeat's silence, and connections that are reset.
cuts ()
{
  local site pause
  for pause in 0.2 1 0.5 $(long '' '7 0.3 2 0.1 6 1 0.2'); do
    for site in nyc tokyo; do
      link_cut london "$site"
      sleep "$pause"
      link_heal london "$site"
      link_reset london "$site"
      sleep 0.3
    done
  done
}
in_order cut
job cuts cuts
job_ok cuts 200
in_order_ok "$changes changes across cuts and resets"
check_all
