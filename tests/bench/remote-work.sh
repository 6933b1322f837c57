# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A site away from the primary, nyc, with sshfs and scp beside it over a link like its own, and work for these.  To be
# sourced after lib.sh.

PROCESSES=8

remote_stage ()
{
  some_sites london nyc
  share projects /projects london nyc
  sites_up
  wait_in_step
  peer_sshd_up
  mkdir "$NF_TMP/sftp"
  # shellcheck disable=SC2034 # measure's
  PLACE=([scp]=scp [sshfs]=$NF_TMP/sshfs [nearfs]=$(at nyc))
  BULK_NAMES=() SMALL_NAMES=()
  ! have scp scp openssh-client || BULK_NAMES+=(scp)
  if sshfs_up; then BULK_NAMES+=(sshfs) SMALL_NAMES+=(sshfs); fi
  BULK_NAMES+=(nearfs) SMALL_NAMES+=(nearfs)
}

# Work: PLACE RUN….  Names bear RTT, the round trip that is set.

# bulk PLACE RUN MB: the same file for all; done when close() has returned, or scp has.
bulk ()
{
  case $1 in
    scp) per "$3" peer_scp "$NF_TMP/bulk" "$NF_TMP/sftp/bulk-$2" ;;
    *) per "$3" cp "$NF_TMP/bulk" "$1/bulk-$2" ;;
  esac
}

one_by_one () { mkdir -p "$1/small-$RTT-$2" && "$BENCH" "$3" "$1/small-$RTT-$2" "${@:4}"; }

# in_parallel PLACE RUN FILES: by several processes, each in a directory of its own.
in_parallel ()
{
  local i dir=$1/parallel-$RTT-$2
  mkdir "$dir" && for ((i = 0; i < PROCESSES; i++)); do mkdir "$dir/$i" || return; done
  per $((PROCESSES * $3)) all_at_once "$dir" "$3"
}

all_at_once ()
{
  local i pids=() rc=0
  for ((i = 0; i < PROCESSES; i++)); do
    "$BENCH" create "$1/$i" "$2" 4096 &
    pids+=($!)
  done
  for i in "${pids[@]}"; do wait "$i" || rc=1; done
  return $rc
}

clear_away ()
{
  emptied "$(at nyc)" && emptied "$NF_TMP/sftp"
  wait_in_step 120
}
