# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A disk for each site: ext4 on a loop device. To be sourced after stage.sh, by scripts that need root for it.

# Mounts (and what the machine calls its boot) are the test's alone.
if [ -z "${NF_OWN_MOUNTS:-}" ]; then
  [ "$(id -u)" -eq 0 ] || { say 'SKIPPED: disks need root'; exit 77; }
  exec bash "$NF_SRC/tests/sites/own-mounts.sh" bash "$0" "$@"
fi

DISKS=()

disk_mount ()
{
  mount -o loop "$NF_TMP/$1.disk" "$(backing "$1" projects)"
}

disk_up ()
{
  local dir
  dir=$(backing "$1" projects)
  mkdir -p "$dir"
  truncate -s 4G "$NF_TMP/$1.disk"
  mkfs.ext4 -q -m 0 "$NF_TMP/$1.disk" 2>/dev/null && disk_mount "$1" 2>/dev/null || {
    say 'SKIPPED: no loop devices'
    exit 77
  }
  DISKS+=("$dir")
  rmdir "$dir/lost+found"
}

test_cleanup ()
{
  local dir
  for dir in "${DISKS[@]}"; do
    umount -l "$dir" 2>/dev/null
  done
}
