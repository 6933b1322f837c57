#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# usage: demo.sh [--once]
# Three sites on this machine, joined by real SSH over links of 20 ms RTT.
set -u

NF_DELAY_MS=${NF_DELAY_MS:-10}
# shellcheck source=tests/sites/lib.sh
. "$(dirname "$0")/lib.sh"

once=0
case ${1-} in
  '') ;;
  --once) once=1 ;;
  *)
    say "usage: ./bootstrap demo [--once]" >&2
    exit 2
    ;;
esac

# ms_since EPOCHREALTIME
ms_since ()
{
  local now=$EPOCHREALTIME
  printf '%s' $(((${now/[.,]/} - ${1/[.,]/}) / 1000))
}

has_content ()
{
  [ "$(cat "$1" 2>/dev/null)" = "$2" ]
}

sites london nyc tokyo
share projects /projects london 'nyc tokyo'
say "Starting london, nyc and tokyo: three sshd, $((2 * NF_DELAY_MS)) ms round trip between any two …"
sites_up
site_nearfs london wait --sites all --timeout $((30 * NF_SLOW)) /projects >/dev/null ||
  fail "the sites don't find each other"

say
say "london has the primary copy of /projects.  nyc writes a file:"
text="written at nyc, $(date '+%H:%M:%S')"
name=projects/hello.txt
start=$EPOCHREALTIME
printf '%s\n' "$text" >"$(mnt nyc)/$name" || fail "nyc can't write"
say "  nyc     create, write and close took $(ms_since "$start") ms (each a question to london)"
start_arrival=$EPOCHREALTIME
for site in london tokyo; do
  wait_for 10 has_content "$(mnt "$site")/$name" "$text" ||
    fail "the file did not arrive at $site"
  say "  $(printf %-7s "$site") has it $(ms_since "$start_arrival") ms after nyc's close"
done
has_content "$(backing tokyo projects)/hello.txt" "$text" ||
  fail "the file isn't in tokyo's own directory"

say
say "tokyo reads it from its own disk; london is not asked:"
link_cut london tokyo
start=$EPOCHREALTIME
has_content "$(mnt tokyo)/$name" "$text" || fail "tokyo can't read with the link down"
say "  tokyo   read in $(ms_since "$start") ms, with the link to london cut"
link_heal london tokyo

say
say "nearfs status at tokyo:"
site_nearfs tokyo status | sed 's/^/  /'

[ "$once" -eq 0 ] || exit 0

say
say "Try it, in another terminal:"
for site in "${SITES[@]}"; do
  say "  $(printf %-7s "$site") $(mnt "$site")/projects"
done
say "Ctrl-C ends it and removes all."
while sleep 1; do
  for site in "${SITES[@]}"; do
    kill -0 "${NF_PID[$site]}" 2>/dev/null || fail "the daemon of $site has ended"
  done
done
