#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Power cuts under load: of each site in turn, then of all at once. Each site's directory is a disk of its own (ext4 on
# a loop device) that from one instant on takes nothing more; its daemon is killed, the disk mounted again, and the
# machine said to have booted. What was fsynced is there, and what other sites had; all sites are equal, and fsck says
# so.
# shellcheck source=tests/sites/stage.sh
. "$(dirname "$0")/../sites/stage.sh"
# shellcheck source=tests/sites/load.sh
. "$(dirname "$0")/../sites/load.sh"

# shellcheck source=tests/faults/disk.sh
. "$(dirname "$0")/disk.sh"

BOOT_ID=/proc/sys/kernel/random/boot_id

# power_cut SITE…: at one instant, as far as one can tell.
power_cut ()
{
  local site
  for site in "$@"; do kill -STOP "${NF_PID[$site]}"; done
  for site in "$@"; do "$NF_WORK" power-cut "$(backing "$site" projects)" || fail "the power of $site"; done
  for site in "$@"; do site_kill "$site"; done
  for site in "$@"; do
    wait_for 10 umount "$(backing "$site" projects)" || fail "the disk of $site is in use"
    disk_mount "$site" || fail "the disk of $site can't be mounted again"
  done
  # Another boot.
  ! grep -qF " $BOOT_ID " /proc/self/mounts || umount "$BOOT_ID"
  cat /proc/sys/kernel/random/uuid >"$NF_TMP/boot"
  mount --bind "$NF_TMP/boot" "$BOOT_ID" || fail 'the boot'
}

limit "$(long 300 900)"
seed=${NF_SEED:-$((RANDOM * 32768 + RANDOM))}
say "NF_SEED=$seed"
some_sites london nyc tokyo
share projects /projects london 'nyc tokyo'
for site in "${SITES[@]}"; do disk_up "$site"; done
sites_up
wait_in_step 60
mkdir "$(at london)/tree" "$(at london)/acked"
wait_in_step

export NF_WORK_MAY_FAIL='EHOSTUNREACH ENOTCONN ECONNABORTED EIO ESTALE'
round=0

round ()
{
  local site must=1
  round=$((round + 1))
  load_start "$round" "$(long 30 100)"
  power_cut "$@"
  for site in "$@"; do site_start "$site"; done
  load_stop
  wait_in_step 90
  load_found synced 1
  # What wasn't synced may be lost with the primary's power, where no other site had it yet.
  case " $* " in *' london '*) must=0 ;; esac
  load_found acked "$must"
  trees_equal projects || fail "the trees differ after the power cut of $*"
  for site in nyc tokyo; do
    site_nearfs "$site" fsck -n --content /projects >"$NF_TMP/fsck" || { cat "$NF_TMP/fsck"; fail "fsck at $site"; }
  done
  step "the power of $* was cut: all equal"
}

# NF_VICTIMS: others, to look for something.
for victim in ${NF_VICTIMS:-$(long 'nyc london all' 'nyc london all tokyo london all london')}; do
  if [ "$victim" = all ]; then round london nyc tokyo; else round "$victim"; fi
done
check_all 90
