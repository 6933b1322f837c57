#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What daemons do that have nothing to do: one with 50 shares and 10 peers, and these peers.
# NF_IDLE_SHARES, NF_IDLE_PEERS, NF_IDLE_S: for how long it is watched (default 60).
# shellcheck source=tests/bench/lib.sh
. "$(dirname "$0")/lib.sh"

area idle "CPU of idle daemons, ${NF_IDLE_SHARES:=50} shares and ${NF_IDLE_PEERS:=10} peers"

: "${NF_IDLE_S:=60}"
# Seconds of the processor: a five hundredth of the time.
LITTLE=$(perl -e 'print $ARGV[0] / 500' "$NF_IDLE_S")

# ticks SITE: of the processor, used so far.
ticks ()
{
  perl -ne 's/^.*\) //; my @f = split; print $f[11] + $f[12], "\n"' "/proc/${NF_PID[$1]}/stat"
}

# waits SITE: how often each of its threads has waited for something so far, "thread count" a line.
waits ()
{
  awk '/^Pid:/ { pid = $2 } /^voluntary_ctxt_switches/ { print pid, $2 }' "/proc/${NF_PID[$1]}/task"/*/status
}

# wakeups SITE: since $NF_TMP/waits-SITE was written, a second.  What workers did that have ended since is not in it.
wakeups ()
{
  waits "$1" | join <(sort "$NF_TMP/waits-$1") <(sort) |
    awk '{ sum += $3 - $2 } END { printf "%.1f\n", sum / '"$NF_IDLE_S"' }'
}

peers=()
for ((i = 1; i <= NF_IDLE_PEERS; i++)); do
  peers+=("site$i")
  serve_only "site$i"
done
some_sites london "${peers[@]}"
for ((i = 1; i <= NF_IDLE_SHARES; i++)); do
  share "share$i" "/share$i" london "${peers[*]}"
done
sites_up
wait_in_step 120
for ((i = 1; i <= NF_IDLE_SHARES; i++)); do
  echo "$i" >"$NF_TMP/london/mnt/share$i/file"
done
wait_in_step 120

# What was just done is put to disk, and the first heartbeats have passed.
sleep 15
declare -A CPU WOKEN
for site in "${SITES[@]}"; do
  CPU[$site]=$(ticks "$site")
  waits "$site" >"$NF_TMP/waits-$site"
done
sleep "$NF_IDLE_S"
: >"$NF_TMP/peers-cpu"
: >"$NF_TMP/peers-woken"
hz=$(getconf CLK_TCK)
for site in "${SITES[@]}"; do
  CPU[$site]=$(($(ticks "$site") - CPU[$site])) WOKEN[$site]=$(wakeups "$site")
  [ "$site" = london ] || { echo "${CPU[$site]}" >>"$NF_TMP/peers-cpu" && echo "${WOKEN[$site]}" >>"$NF_TMP/peers-woken"; }
done
title "In $NF_IDLE_S s"
figure "processor, the site with $NF_IDLE_PEERS peers" s "$LITTLE" "$(perl -e 'printf "%.2f", $ARGV[0] / $ARGV[1]' "${CPU[london]}" "$hz")"
figure 'processor, a peer (median)' s "$LITTLE" "$(spread "$NF_TMP/peers-cpu" 50 "$hz")"
figure "wake-ups a second, the site with $NF_IDLE_PEERS peers" 1/s - "${WOKEN[london]}"
figure 'wake-ups a second, a peer (median)' 1/s - "$(spread "$NF_TMP/peers-woken" 50)"
area_end
