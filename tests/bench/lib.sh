# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What the benchmarks have in common.  To be sourced by tests/bench/AREA.sh:
#
#   . "$(dirname "$0")/lib.sh"
#   area reads 'Reads at a replica'      # its name, and what it is
#   NAMES=(native nearfs)                # who is measured, in this order; nearfs last
#   PLACE=([native]=… [nearfs]=…)        # and where
#   title 'Warm'
#   measure 'random read of 4 KiB' 1/s 0.8 warm random large 20000
#
# "measure" runs WORK PLACE RUN ARGUMENT…, which prints a number, at each place in turn, NF_RUNS times
# (default 5).  What counts is nearfs against its peer within a run; of that the median and the range
# are printed, so that above 1 nearfs is the better one, in seconds as in MB/s.  Of several peers the
# one with the better median is taken; JUDGES names those that count.
#
# Results go to bench-results.txt of the build directory, and for programs to bench-results.tsv:
# area, label, unit, peer, nearfs, ratio: median, min, max, which peer, least ratio to reach, verdict.
#
# Environment: NF_RUNS, NF_RUNS_LONG (for what takes long, default 3), and each area's own.

NF_NETNS=0
NF_DELAY_MS=0
# shellcheck source=tests/sites/stage.sh
. "$(dirname "${BASH_SOURCE[0]}")/../sites/stage.sh"
# shellcheck source=tests/bench/peer.sh
. "$(dirname "${BASH_SOURCE[0]}")/peer.sh"

BENCH=$NF_BUILD/tests/bench/nf-bench
RUNS=${NF_RUNS:-5}
# shellcheck disable=SC2034 # for the areas
LONG_RUNS=${NF_RUNS_LONG:-3}
RESULTS=$NF_BUILD/bench-results.txt
TABLE=$NF_BUILD/bench-results.tsv
AREA=
NAMES=()
# Where the same is done twice, each time in directories of its own.
STAGE=
declare -A PLACE
JUDGES=

# area NAME TEXT
area ()
{
  AREA=$1
  BENCH_START=$SECONDS
  limit "${NF_LIMIT:-1800}"
  out
  out "== $1: $2"
}

out ()
{
  printf '%s\n' "$*" | tee -a "$RESULTS"
}

# title TEXT: the columns are those of NAMES.
title ()
{
  local name line
  out
  out "$1"
  [ "${#NAMES[@]}" -gt 0 ] || return 0
  line=$(printf '%-54s' '')
  for name in "${NAMES[@]}"; do line+=$(printf ' %10s' "${name#passthrough_}"); done
  out "$line  ratio: median (range)"
}

# measure LABEL UNIT LEAST WORK ARGUMENT…: LEAST is the ratio to reach; or one for each peer, "rsync=1 tar=0.9"; or "-".
measure ()
{
  local label=$1 unit=$2 least=$3 work=$4 run name value
  shift 4
  : >"$NF_TMP/measured"
  for ((run = 0; run < RUNS; run++)); do
    for name in "${NAMES[@]}"; do
      # In this shell, as work may stop and start sites.
      if "$work" "${PLACE[$name]}" "$run" "$@" >"$NF_TMP/value" 2>>"$NF_TMP/bench.log" && [ -s "$NF_TMP/value" ]; then
        value=$(tail -n 1 "$NF_TMP/value")
        printf '%s %s %s\n' "$run" "$name" "$value" >>"$NF_TMP/measured"
      elif [ "$name" = nearfs ]; then
        tail -n 3 "$NF_TMP/bench.log" >&2
        fail "$label: $*"
      fi
    done
  done
  report "$label" "$unit" "$least"
}

# report LABEL UNIT LEAST: of $NF_TMP/measured, lines of "run name value".
report ()
{
  out "$(perl "$(dirname "${BASH_SOURCE[0]}")/report.pl" "$AREA" "$1" "$2" "$3" "${NAMES[*]}" "$JUDGES" "$TABLE" <"$NF_TMP/measured")"
}

# figure LABEL UNIT MOST VALUE: one that has no peer; MOST is what it may be, or "-".
figure ()
{
  out "$(perl -e 'my ($area, $label, $unit, $most, $value, $table) = @ARGV;
    my $verdict = $most eq "-" ? "-" : $value <= $most ? "met" : "missed";
    open my $out, ">>", $table or die;
    print $out join ("\t", $area, $label, $unit, "-", $value, "-", "-", "-", "-", $most eq "-" ? "-" : "<= $most", $verdict), "\n";
    printf "%-54s %10s %s%s", $label, $value, $unit, $most eq "-" ? "" : "  (at most $most: $verdict)"' \
    "$AREA" "$1" "$2" "$3" "$4" "$TABLE")"
}

# spread FILE PERCENT DIVISOR: that percentile of the numbers in FILE, a line each.
spread ()
{
  sort -n "$1" | perl -e 'my ($percent, $divisor) = @ARGV; my @t = <STDIN>;
    my $at = int ($percent / 100 * @t); $at = $#t if $at > $#t; printf "%.2f\n", $t[$at] / $divisor' "$2" "${3:-1}"
}

# seconds COMMAND…: how long it takes; what it says goes to bench.log.
seconds ()
{
  local start=${EPOCHREALTIME/[.,]/}
  "$@" >>"$NF_TMP/bench.log" 2>&1 || return
  perl -e 'printf "%.4f\n", $ARGV[0] / 1e6' $((${EPOCHREALTIME/[.,]/} - start))
}

# per COUNT COMMAND…: how many of COUNT it does in a second.
per ()
{
  local count=$1 took
  shift
  took=$(seconds "$@") && perl -e 'printf "%.3f\n", $ARGV[0] / $ARGV[1]' "$count" "$took"
}

# Work on a place: PLACE RUN ARGUMENT….

warm () { "$BENCH" "$3" "$1/$4" "${@:5}"; }
in_new_dir () { mkdir -p "$1/run-$AREA$STAGE$2" && "$BENCH" "$3" "$1/run-$AREA$STAGE$2" "${@:4}"; }

# emptied DIR: but for what is hidden.  Not of many files, see out_of_the_way().
emptied ()
{
  rm -rf "${1:?}"/*
}

# out_of_the_way PATH…: removed at the end.  ext4 doesn't give out an inode again within minutes, and looks at all that were
# removed before each new one: after some ten thousand a file takes ten times as long to make, in all places.
out_of_the_way ()
{
  local path
  for path in "$@"; do
    [ ! -e "$path" ] || { mkdir -p "$NF_TMP/away" && mv "$path" "$NF_TMP/away/$((N_AWAY++))"; }
  done
}
N_AWAY=0

# The kernel's names and inodes go, all of this machine's; pages stay.
forget_names ()
{
  sync -f "$NF_TMP" && echo 2 >/proc/sys/vm/drop_caches
}

without_names () { forget_names && "$BENCH" "$3" "$1/$4" "${@:5}"; }

# Trees.

# new_files DIR COUNT BYTES: as nf-bench makes them.
new_files ()
{
  mkdir -p "$1" && "$BENCH" create "$1" "$2" "$3" >/dev/null || fail "can't make $1"
}

# make_tree DIR COUNT: directories of 100 files, of 1 to 16 KiB.
make_tree ()
{
  mkdir -p "$1"
  perl -e '
    my ($root, $n) = @ARGV;
    my $block = join "", map { chr (33 + $_ * 7 % 90) } 1 .. 16384;
    for my $i (0 .. $n - 1) {
      my ($d, $e) = (int ($i / 10000), int ($i / 100));
      mkdir "$root/$d"; mkdir "$root/$d/$e";
      open my $f, ">", "$root/$d/$e/file-$i" or die; print $f $i, substr ($block, 0, 1024 + $i % 16 * 960); close $f
    }' "$1" "$2"
}

# random_file PATH MIB: can't be compressed.
random_file ()
{
  head -c $(($2 * 1048576)) /dev/urandom >"$1"
}

# Stages.

# primary_stage [EXAMPLE…]: a primary, london, with two replicas that are away; native directories and the pass-through examples beside
# it, and those EXAMPLEs, which don't judge.
primary_stage ()
{
  local name
  some_sites london nyc tokyo
  share projects /projects london 'nyc tokyo'
  sites_up
  wait_in_step
  site_stop nyc
  site_stop tokyo
  mkdir "$NF_TMP/native"
  NAMES=(native)
  PLACE=([native]=$NF_TMP/native [nearfs]=$(at london))
  for name in passthrough_ll passthrough_hp "$@"; do
    mkdir "$NF_TMP/behind-$name"
    passthrough_up "$name" "$NF_TMP/behind-$name"
  done
  NAMES+=(nearfs)
  # shellcheck disable=SC2034 # measure's
  JUDGES='passthrough_ll passthrough_hp'
}

with_two_replicas ()
{
  site_start nyc
  site_start tokyo
  wait_in_step 300
}

with_no_replica ()
{
  site_stop nyc
  site_stop tokyo
}

# between_runs: replicas that still apply what the last row did would slow the next one.
settle ()
{
  [ -z "${NF_PID[tokyo]:-}" ] || wait_in_step 300
  sync -f "$NF_TMP"
}

# passthrough SITE: "on", "off", or "none" where this build knows nothing of it.
passthrough ()
{
  case $(field "$1" '{passthrough}{on}') in
    1 | true) echo on ;;
    '') echo none ;;
    *) echo off ;;
  esac
}

area_end ()
{
  wait_in_step 300
  no_complaints
  out "($((SECONDS - BENCH_START)) s)"
}

test_cleanup ()
{
  peers_down
}
