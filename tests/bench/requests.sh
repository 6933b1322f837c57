# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
# How many requests the kernel sends to a filesystem for a piece of work, by the kernel's own tracepoint.  To be sourced after lib.sh.

can_count_requests ()
{
  perf stat -a -e fuse:fuse_request_send true >/dev/null 2>&1
}

# requests PLACE RUN OBJECTS WORK ARGUMENT…: of WORK PLACE RUN ARGUMENT…, for each of so many objects.
requests ()
{
  local place=$1 run=$2 objects=$3 work=$4 connection perf
  shift 4
  # A mount's device number is that of its connection.
  connection=$(stat -c %d "$place") || return
  perf stat -a -x, -o "$NF_TMP/requests" -e fuse:fuse_request_send --filter "connection == $connection" sleep 3600 &
  perf=$!
  # It counts as soon as it has started what it is to run, and until that ends.
  wait_for 5 counting "$perf" || return
  "$work" "$place" "$run" "$@" >/dev/null
  kill "$(counting "$perf")" && wait "$perf"
  perl -ne 'print $1 / '"$objects"', "\n" if /^(\d+),.*fuse_request_send/' "$NF_TMP/requests"
}

counting ()
{
  pgrep -P "$1" -x sleep
}
