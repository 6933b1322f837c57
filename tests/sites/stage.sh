# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the tests with several sites have in common, on lib.sh.  To be sourced:
#
#   . "$(dirname "$0")/stage.sh"
#   limit 150                  # seconds after which the test is ended by force
#   three_sites                # london (primary), nyc, tokyo with /projects, mounted and in step
#   job name COMMAND…          # in the background; job_ok name SECONDS collects it
#   check_all                  # all in step, trees equal, no complaint of a library in a log
#
# NF_LONG=1 asks for the long figures.  As root each site has a network namespace of its own where
# the machine allows that.

if [ -z "${NF_NETNS:-}" ]; then
  # shellcheck disable=SC2034 # lib.sh's
  NF_NETNS=0
  if [ "$(id -u)" -eq 0 ] && ip netns add "nf-probe-$$" 2>/dev/null; then
    ip netns del "nf-probe-$$"
    NF_NETNS=1
  fi
fi
# shellcheck source=tests/sites/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

NF_WORK=$NF_BUILD/tests/sites/nf-work
: "${NF_LONG:=0}"
declare -A JOB_PID
NF_WATCHDOG=

# long SHORT LONG: the figure to use.
long ()
{
  if [ "$NF_LONG" = 1 ]; then printf '%s\n' "$2"; else printf '%s\n' "$1"; fi
}

step ()
{
  local us=$((${EPOCHREALTIME/[.,]/} - NF_START))
  printf '[%3d.%d s] %s\n' $((us / 1000000)) $((us / 100000 % 10)) "$*"
}
NF_START=${EPOCHREALTIME/[.,]/}

now_ms ()
{
  printf '%s\n' $((${EPOCHREALTIME/[.,]/} / 1000))
}

# The share's directory in the mount of a site.
at ()
{
  printf '%s\n' "$NF_TMP/$1/mnt/${2:-projects}"
}

# bounded SECONDS COMMAND…: a person would call it a hang after that.
bounded ()
{
  local seconds=$1 rc=0
  shift
  timeout -k 5 $((seconds * NF_SLOW)) "$@" || rc=$?
  [ "$rc" -ne 124 ] && [ "$rc" -ne 137 ] || say "not done after $seconds s: $*" >&2
  return "$rc"
}

# What hangs in a mount can't even be killed, but for the abort of its connection.
abort_mounts ()
{
  local device path
  [ -n "$NF_TMP" ] || return
  while read -r _ _ device _ path _; do
    case $path in
      "$NF_TMP"/*) echo 1 >"/sys/fs/fuse/connections/${device#*:}/abort" ;;
    esac
  done </proc/self/mountinfo
}

# What each process of the mounts' users waits in, for the log of a test that hangs.
show_waiting ()
{
  local pid
  for pid in /proc/[0-9]*; do
    case $(cut -d' ' -f3 "$pid/stat" 2>/dev/null) in
      D) say "$(tr '\0' ' ' <"$pid/cmdline") waits in $(cat "$pid/wchan" 2>/dev/null)" ;;
    esac
  done
}

# limit SECONDS: ends the test by force after that.  TERM reaches the shell when its command ends.
limit ()
{
  local main=$$ seconds=$(($1 * NF_SLOW))
  set -m
  (
    trap - EXIT
    sleep "$seconds"
    say "FAILED: not done after $seconds s" >&2
    show_waiting >&2
    # Its children first, so that the shell goes on; then what can't be killed.
    kill -TERM "$main"
    pkill -TERM -P "$main" -x 'nf-work|timeout|sleep|nearfs' 2>/dev/null
    sleep 10
    NF_TMP=$(cat "$NF_PLACE") && abort_mounts 2>/dev/null
  ) &
  NF_WATCHDOG=$!
  set +m
}

# Where the watchdog finds NF_TMP, which isn't known yet when it starts.
NF_PLACE=$(mktemp "${TMPDIR:-/tmp}/nearfs-place-XXXXXX")
trap 'rm -f "$NF_PLACE"' EXIT

# lib.sh calls it first of all at the end.
before_cleanup ()
{
  local name
  if [ -n "$NF_WATCHDOG" ]; then
    kill -KILL -- "-$NF_WATCHDOG" 2>/dev/null
    wait "$NF_WATCHDOG" 2>/dev/null
  fi
  for name in "${!JOB_PID[@]}"; do
    [ "$1" -eq 0 ] || [ ! -s "$NF_TMP/job-$name" ] || {
      say "---- $name" >&2
      tail -n 5 "$NF_TMP/job-$name" >&2
    }
    kill -KILL -- "-${JOB_PID[$name]}" 2>/dev/null
  done
  rm -f "$NF_PLACE"
  # What the test itself has made outside of NF_TMP.
  ! declare -F test_cleanup >/dev/null || test_cleanup
}

# Starting.

# some_sites SITE…: as sites.
some_sites ()
{
  sites "$@"
  printf '%s\n' "$NF_TMP" >"$NF_PLACE"
  say "sites ${SITES[*]}: $((2 * NF_DELAY_MS)) ms round trip, $([ "$NF_NETNS" = 1 ] &&
    echo 'a network namespace each' || echo 'on loopback')"
}

# three_sites ['key = value'…]: the keys are the share's.
three_sites ()
{
  some_sites london nyc tokyo
  share projects /projects london 'nyc tokyo' "$@"
  sites_up
  wait_in_step 60
  step 'three sites are up and in step'
}

# Jobs.

# job NAME COMMAND…: a program or a function, in a process group of its own.
job ()
{
  local name=$1
  shift
  set -m
  (
    trap - EXIT INT TERM HUP
    "$@"
  ) >"$NF_TMP/job-$name" 2>&1 </dev/null &
  JOB_PID[$name]=$!
  set +m
}

job_runs ()
{
  kill -0 "${JOB_PID[$1]}" 2>/dev/null
}

job_over ()
{
  ! job_runs "$1"
}

# job_end NAME SECONDS: waits for it; its status is returned and its output left in job-NAME.
job_end ()
{
  local name=$1 rc=0
  wait_for "$2" job_over "$name" || fail "$name isn't done after $2 s"
  wait "${JOB_PID[$name]}" || rc=$?
  unset "JOB_PID[$name]"
  return "$rc"
}

# job_ok NAME SECONDS: the same, and it must succeed; its output is shown.
job_ok ()
{
  local rc=0
  job_end "$1" "$2" || rc=$?
  sed "s/^/  $1: /" "$NF_TMP/job-$1" | tail -n "${3:-5}"
  [ "$rc" -eq 0 ] || fail "$1 ended with status $rc"
}

job_kill ()
{
  kill -TERM -- "-${JOB_PID[$1]}" 2>/dev/null
  wait "${JOB_PID[$1]}" 2>/dev/null
  unset "JOB_PID[$1]"
}

# Judging.

# log_has SITE PATTERN
log_has ()
{
  grep -qE -- "$2" "$NF_TMP/$1/daemon.log"
}

# status_says SITE PATTERN: wherever its lines are folded.
status_says ()
{
  site_nearfs "$1" status 2>&1 | tr -s '[:space:]' ' ' | grep -qE -- "$2"
}

has_text ()
{
  [ "$(cat "$1" 2>/dev/null)" = "$2" ]
}

# expect_file PATH TEXT [SECONDS]
expect_file ()
{
  wait_for "${3:-10}" has_text "$1" "$2" || fail "$1 holds '$(head -c 100 "$1")' instead of '$2'"
}

# field SITE EXPRESSION: of "nearfs status --json", in Perl's terms: shares 0 state → '{shares}[0]{state}'.
field ()
{
  site_nearfs "$1" status --json 2>/dev/null |
    perl -MJSON::PP -e 'local $/; my $s = decode_json (<STDIN>);
      my $value = eval "\$s->'"$2"'"; print defined $value ? "$value\n" : "\n"'
}

# shellcheck disable=SC2034 # for the callers
# stats FILE DIVISOR: "median M, max N" of numbers, one a line; in STAT_MEDIAN and STAT_MAX too.
stats ()
{
  local sorted
  mapfile -t sorted < <(sort -n "$1")
  [ "${#sorted[@]}" -gt 0 ] || fail "nothing was measured in $1"
  STAT_COUNT=${#sorted[@]}
  STAT_MEDIAN=$((sorted[${#sorted[@]} / 2] / ${2:-1}))
  STAT_MAX=$((sorted[${#sorted[@]} - 1] / ${2:-1}))
}

# GLib's and our own complaints about mistakes in the program.
no_complaints ()
{
  local log
  for log in "$NF_TMP"/*/daemon.log; do
    if grep -E 'CRITICAL|[Aa]ssertion' "$log" >&2; then
      fail "a mistake was reported in ${log#"$NF_TMP"/}"
    fi
  done
}

# check_all [SECONDS]: the end of each test.
check_all ()
{
  local name
  wait_in_step "${1:-60}"
  for name in "${!NF_SHARES[@]}"; do
    trees_equal "$name" || fail "the trees of $name differ"
  done
  no_complaints
  step "all in step, trees equal: $(find "$(backing "${NF_PRIMARY[$name]}" "$name")" \
    -path '*/.nearfs' -prune -o -print | wc -l) names"
}

# mount_equal SITE SHARE: a site without a directory of its own sees the same.
mount_equal ()
{
  manifest "$(backing "${NF_PRIMARY[$2]}" "$2")" >"$NF_TMP/manifest-a"
  manifest "$(mnt "$1")${NF_SHARES[$2]}" >"$NF_TMP/manifest-b"
  cmp -s "$NF_TMP/manifest-a" "$NF_TMP/manifest-b" || {
    diff "$NF_TMP/manifest-a" "$NF_TMP/manifest-b" | head -n 20 >&2
    fail "the tree of $2 differs in the mount of $1"
  }
}

# shellcheck disable=SC2034 # for the callers
# tries CALL PATH…: nf-work try, its result in TRY_ERROR, TRY_CALL and TRY_MS.
tries ()
{
  local line
  line=$(bounded 60 "$NF_WORK" try "$@") || fail "try $*: hangs or breaks"
  read -r TRY_ERROR TRY_CALL TRY_MS <<<"$line"
}
