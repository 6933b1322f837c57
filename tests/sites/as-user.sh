# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
# run_as_user SCRIPT: as a user without privileges, who is made for it; by root.  To be sourced before stage.sh, whose traps
# are for one test.

# What the user runs is shown to him where he can reach it: the clone may lie in root's home.
# shellcheck disable=SC2016 # expanded by the shell that is started
show_and_run='mount --bind "$1" "$2" && mount --bind "$3" "$4" && shift 4 && exec "$@"'

run_as_user ()
(
  : "${NF_BUILD:?}" "${NF_SRC:?}"
  user=nftest$BASHPID
  mode=$(stat -c %a /dev/fuse) || { echo 'FAILED: there is no /dev/fuse' >&2; exit 1; }
  home=$(mktemp -d "${TMPDIR:-/tmp}/nearfs-home-XXXXXX")
  # Were anything still mounted there, it must not be removed.
  trap 'chmod "$mode" /dev/fuse; userdel "$user" 2>/dev/null; rmdir "$home/src" "$home/build" && rm -rf "$home"' EXIT
  trap 'exit 143' TERM INT HUP
  # A password that nothing matches: "*" isn't a locked account.
  useradd -M -d "$home" -s /bin/bash -p '*' "$user" || exit 1
  mkdir "$home/src" "$home/build"
  chown "$user" "$home"
  # In containers only root may open it.
  chmod 0666 /dev/fuse
  script=$home/src/$(realpath --relative-to="$NF_SRC" "$1")
  bash "$NF_SRC/tests/sites/own-mounts.sh" bash -c "$show_and_run" bash "$NF_SRC" "$home/src" "$NF_BUILD" "$home/build" \
    setpriv --reuid "$user" --regid "$user" --init-groups --reset-env \
    env TMPDIR="$home" NF_SRC="$home/src" NF_BUILD="$home/build" NF_LONG="${NF_LONG:-0}" NF_KEEP=0 \
    NF_SLOW="${NF_SLOW:-1}" LSAN_OPTIONS="${LSAN_OPTIONS:-}" PATH="$PATH" bash "$script" &
  wait $!
)
