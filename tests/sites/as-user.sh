# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
# run_as_user SCRIPT: as a user without privileges, who is made for it; by root.  To be sourced before stage.sh, whose traps
# are for one test.
run_as_user ()
(
  : "${NF_BUILD:?}" "${NF_SRC:?}"
  user=nftest$BASHPID
  mode=$(stat -c %a /dev/fuse) || { echo 'FAILED: there is no /dev/fuse' >&2; exit 1; }
  home=$(mktemp -d "${TMPDIR:-/tmp}/nearfs-home-XXXXXX")
  trap 'chmod "$mode" /dev/fuse; userdel "$user" 2>/dev/null; rm -rf "$home"' EXIT
  trap 'exit 143' TERM INT HUP
  # A password that nothing matches: "*" isn't a locked account.
  useradd -M -d "$home" -s /bin/bash -p '*' "$user" || exit 1
  chown "$user" "$home"
  # In containers only root may open it.
  chmod 0666 /dev/fuse
  setpriv --reuid "$user" --regid "$user" --init-groups --reset-env \
    env TMPDIR="$home" NF_SRC="$NF_SRC" NF_BUILD="$NF_BUILD" NF_LONG="${NF_LONG:-0}" NF_KEEP=0 \
    NF_SLOW="${NF_SLOW:-1}" LSAN_OPTIONS="${LSAN_OPTIONS:-}" PATH="$PATH" bash "$1" &
  wait $!
)
