# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
# For the scripts in this directory, to be sourced: the programs, a scratch directory, checks.

# shellcheck disable=SC2034 # for the scripts
build=${NF_BUILD:-.}
failures=0

fail ()
{
  echo "FAIL: $*" >&2
  failures=$((failures + 1))
}

# check WHAT COMMAND…: the command must succeed.
check ()
{
  local what=$1
  shift
  "$@" > "$dir/said" 2>&1 || { fail "$what"; sed 's/^/    /' "$dir/said" >&2; }
}

# check_fails WHAT WORDS COMMAND…: the command must fail and say WORDS.
check_fails ()
{
  local what=$1 words=$2
  shift 2
  if "$@" > "$dir/said" 2>&1; then
    fail "$what: succeeded"
  elif ! grep -q "$words" "$dir/said"; then
    fail "$what: said nothing of \"$words\""
    sed 's/^/    /' "$dir/said" >&2
  fi
}

# is WHAT GOT WANTED
is ()
{
  [ "$2" = "$3" ] || fail "$1: \"$2\" instead of \"$3\""
}

# until_true SECONDS COMMAND…: tries until it succeeds.
until_true ()
{
  local end=$((SECONDS + $1))
  shift
  until "$@" 2> /dev/null; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.02
  done
}

# A mount needs the device; that it is missing is an error, not a reason to skip.
need_fuse ()
{
  [ -e /dev/fuse ] || { echo 'There is no /dev/fuse.' >&2; exit 99; }
  # As it should be anyway; not put back, since another test may be using it by then.
  [ "$(id -u)" != 0 ] || chmod 0666 /dev/fuse
}

mounted ()
{
  grep -qF " $1 fuse.nearfs " /proc/self/mounts
}

begin ()
{
  export LC_ALL=C
  dir=$(mktemp -d "${TMPDIR:-/tmp}/nf-mount.XXXXXX") || exit 99
  chmod 755 "$dir"
  trap finish EXIT
}

finish ()
{
  local mount
  for mount in "$dir"/mnt*; do
    ! mounted "$mount" || fusermount3 -u -z "$mount"
  done
  if declare -F cleanup > /dev/null; then cleanup; fi
  chmod -R u+rwX "$dir" 2> /dev/null
  rm -rf "$dir"
}

end ()
{
  [ $failures = 0 ] && exit 0
  echo "$failures failures" >&2
  exit 1
}
